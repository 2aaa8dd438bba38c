"""The status of a service as plain values, and their JSON.

``gather`` reads them. Field names are the keys of ``order-sync status --json`` and never change. Times are
aware UTC, durations are seconds.

A range of updated-time is *covered* in a marketplace if every order that Amazon showed for it is stored;
what is not covered between the start of live polling and its position is a *gap*. History is counted by
created-time, from the marketplace's start date to the start of live polling.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from typing import Any, Literal

from connectors.base import Operation
from poller.matching.buyer_visibility import Day, Drop
from poller.text import time_text
from store.progress import Interval, Way, WindowKind
from store.quarantine import Counts
from store.queries import Totals
from store.runs import Run
from store.verification_records import By, VerificationState


@dataclass(frozen=True, slots=True)
class Gap:
    """A range that is not covered.

    ``state``: *reading* (a window over it is open), *proving* (it was read, but an order may have been
    skipped), *set_aside* (it failed too often, for ``reason``, and is retried at ``retry_at``), *waiting*.
    """

    lower: datetime
    upper: datetime
    state: Literal["reading", "proving", "set_aside", "waiting"]
    retry_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class VerificationStatus:
    """A comparison of Amazon's list of orders with the database, and what it found.

    ``missing`` and ``older`` count its findings; ``still_missing`` counts those that are left after fetching,
    of which ``went_to_quarantine`` could not be read. ``not_compared``: it failed before its whole range was
    compared, and no later verification has done so.
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
    """The newest that has ended, else the one that is running."""
    unsettled_verifications: tuple[VerificationStatus, ...]
    """Those that failed or found orders missing, and that no later one has settled; newest first.

    ``still_missing`` leaves out what a later one has compared again."""
    verification_waits: str | None
    """Why the weekly verification has not ended, if it is days late."""


@dataclass(frozen=True, slots=True)
class WindowsStatus:
    """Unfinished windows of one kind: live, sweep (a second read) or backfill (history)."""

    kind: WindowKind
    windows: int
    set_aside: int
    oldest: datetime
    pages: int
    orders: int


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """History that is being fetched, newest first: windows exist from ``upper`` down to ``position``."""

    id: int
    marketplace: str
    state: str
    lower: datetime
    upper: datetime
    position: datetime
    done: float
    """Share of the range that has been read, 0 to 1; 1 only if it is done."""
    orders: int
    requests: int
    by: Way
    eta: datetime | None
    """When the budget will have paid for it; None if that cannot be estimated."""
    waits: str | None
    """What it waits for, in words; None if it does not wait."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The stored request budget of one of Amazon's operations."""

    operation: Operation
    tokens: float
    burst: float
    rate: float
    """Requests per second."""
    next_request_at: datetime


@dataclass(frozen=True, slots=True)
class RefusalStatus:
    """Login with Amazon refuses these credentials; no request is made until they change."""

    kind: str
    reason: str
    since: datetime
    remedy: str


@dataclass(frozen=True, slots=True)
class PaceStatus:
    """How often live looks are taken, the changes a day at the present rate, and what the plan carries."""

    look_every_seconds: float
    changes_per_day: int
    carried_per_day: int


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source; ``covered_until`` and ``behind_seconds`` are those of its worst marketplace."""

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
    pace: PaceStatus | None
    """None until it has run."""
    refusal: RefusalStatus | None
    marketplaces: tuple[MarketplaceStatus, ...]
    windows: tuple[WindowsStatus, ...]
    backfills: tuple[BackfillStatus, ...]
    budgets: tuple[BudgetStatus, ...]
    identity: tuple[Day, ...]
    """How many orders showed their buyer, by day, newest first."""
    identity_drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class RetentionStatus:
    """Erasing buyer data. ``due``: orders past their term, the oldest of which ended at ``oldest_term``."""

    days: int | None
    hash_months: int | None
    due: int
    oldest_term: datetime | None


Urgency = Literal["note", "alert", "unready"]
"""``alert``: people are notified; ``unready``: and the service is not ready."""

Why = Literal[
    "alone",
    "authorisation",
    "behind",
    "buyers",
    "clock",
    "configuration",
    "database",
    "duplicates",
    "enrolment",
    "events",
    "expiry",
    "file",
    "gap",
    "held",
    "keys",
    "process",
    "quarantine",
    "receiver",
    "retention",
    "seller",
    "sources",
    "start",
    "success",
    "verification",
]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is not well. ``subject``: a source, ``account:UK`` for a marketplace, or another name.

    ``why`` and ``subject`` stay the same as long as it lasts; the sentence may change.
    """

    why: Why
    subject: str
    sentence: str
    urgency: Urgency = "note"


@dataclass(frozen=True, slots=True)
class Status:
    """The whole status. ``health``: what is not well, the most urgent first."""

    at: datetime
    attention: tuple[str, ...]
    """Sentences about what a person should act on: what is not well, but for reads that have just begun."""
    health: tuple[Item, ...]
    sources: tuple[SourceStatus, ...]
    not_polled: tuple[str, ...]
    """Marketplaces that are configured but not enabled, as ``account:UK``."""
    totals: Totals
    quarantine: Counts
    retention: RetentionStatus


def as_object(value: Any) -> Any:
    """Return a status, or a part of it, as JSON values: times in ISO 8601 (UTC), field names as keys."""
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
