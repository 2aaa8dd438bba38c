"""How the service stands: what a person opens first, as plain values.

``gather`` reads it from the database and the configuration, in one transaction, without asking Amazon
and without changing anything; ``as_object`` makes the JSON of it. The names of the fields are the keys
of ``order-sync status --json``, and stay. Times are aware UTC, spans are seconds.

A marketplace is *covered* where every order that Amazon showed for that stretch of updated-time has been
stored; what is missing between the start of live reading and where it has got to is a *gap*. History is
counted by created-time, from the marketplace's start date to the start of live reading.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from typing import Any, Literal

from connectors.base import Operation
from poller.matching.buyer_visibility import Day, Drop
from poller.text import time_text
from store.findings import By, VerificationState
from store.progress import Interval, Way, WindowKind
from store.quarantine import Counts
from store.queries import Totals
from store.runs import Run


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that is not covered. ``state``: what is being done about it.

    ``reading``: a window over it is open; ``proving``: it was read, and it is being made sure that nothing
    was skipped; ``set_aside``: it failed too often and is tried again at ``retry_at``, for ``reason``;
    ``waiting``: its turn has not come.
    """

    lower: datetime
    upper: datetime
    state: Literal["reading", "proving", "set_aside", "waiting"]
    retry_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class VerificationStatus:
    """A proof of completeness: what Amazon's own list of orders was compared with.

    ``missing`` and ``older`` were found so; ``still_missing`` of both after fetching what could be fetched,
    ``went_to_quarantine`` of those could not be understood when they came. ``not_compared``: it failed before
    all of its stretch was compared, and no later one has done that.
    """

    id: int
    lower: datetime
    upper: datetime
    by: By
    state: VerificationState
    listed: int
    missing: int
    older: int
    unknown: int
    still_missing: int
    went_to_quarantine: int
    not_compared: bool
    started_at: datetime | None
    finished_at: datetime | None
    message: str | None


@dataclass(frozen=True, slots=True)
class MarketplaceStatus:
    """One marketplace that is polled. ``covered_until`` is None before its first page."""

    marketplace: str
    marketplace_id: str
    covered_until: datetime | None
    behind_seconds: float | None
    covered: tuple[Interval, ...]
    gaps: tuple[Gap, ...]
    live_from: datetime | None
    history_from: datetime | None
    history_covered: tuple[Interval, ...]
    history_gaps: tuple[Interval, ...]
    enrolled: bool | None
    alone_since: datetime | None
    trouble: str | None
    verification: VerificationStatus | None
    """The newest proof that has come to its end; the one that is going on when there is none yet."""
    unsettled_verifications: tuple[VerificationStatus, ...]
    """Proofs that found something missing or failed, and that no later one has made good; newest first.

    ``still_missing`` counts what no later one has judged anew."""
    verification_waits: str | None
    """Why the weekly verification does not come to its end, though it has been due for days."""


@dataclass(frozen=True, slots=True)
class WindowsStatus:
    """Unfinished windows of one kind: live, sweep (a second look) or backfill (history)."""

    kind: WindowKind
    windows: int
    set_aside: int
    oldest: datetime
    pages: int
    orders: int


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """History being fetched, newest first. Windows have been entered from ``upper`` down to ``position``."""

    id: int
    marketplace: str
    state: str
    lower: datetime
    upper: datetime
    position: datetime
    done: float
    """Share of the stretch that is behind it, 0 to 1; 1 only when it is done."""
    orders: int
    requests: int
    by: Way
    eta: datetime | None
    """When it will be ready, going by the budget; None when nobody can tell."""
    waits: str | None
    """What is being waited for, in words; None when it goes on."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The stored request budget of one operation of Amazon's."""

    operation: Operation
    tokens: float
    burst: float
    rate: float
    """Requests a second."""
    next_request_at: datetime


@dataclass(frozen=True, slots=True)
class RefusalStatus:
    """Login with Amazon refuses these credentials; nothing is asked until they change."""

    kind: str
    reason: str
    since: datetime
    remedy: str


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source. ``covered_until`` and ``behind_seconds`` are those of its worst marketplace."""

    source: str
    account: str
    covered_until: datetime | None
    behind_seconds: float | None
    succeeded_at: datetime | None
    failing_since: datetime | None
    failures: int
    last_error: str | None
    last_error_kind: str | None
    """Chooses the remedy; None if an older version stored the error."""
    last_error_status: int | None
    last_error_code: str | None
    last_run: Run | None
    next_at: datetime
    next_why: str
    refusal: RefusalStatus | None
    marketplaces: tuple[MarketplaceStatus, ...]
    windows: tuple[WindowsStatus, ...]
    backfills: tuple[BackfillStatus, ...]
    budgets: tuple[BudgetStatus, ...]
    identity: tuple[Day, ...]
    """How many orders showed their buyer, on each of the last days, newest first."""
    identity_drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class RetentionStatus:
    """Erasing buyer data. ``due``: orders past their term by now, of which the oldest is ``oldest_term``."""

    days: int | None
    hash_months: int | None
    due: int
    oldest_term: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything. ``attention``: sentences about what a person should look at, the worst first."""

    at: datetime
    attention: tuple[str, ...]
    sources: tuple[SourceStatus, ...]
    not_polled: tuple[str, ...]
    """Marketplaces that are configured and not enabled, as ``account:UK``."""
    totals: Totals
    quarantine: Counts
    retention: RetentionStatus


def as_object(value: Any) -> Any:
    """JSON of a status or a part of it: times as ISO 8601 in UTC, field names as keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_object(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, tuple | list):
        return [as_object(item) for item in value]
    if isinstance(value, dict):
        return {key: as_object(item) for key, item in value.items()}
    return value
