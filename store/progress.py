"""Plain values of the ledger: windows, sources, marketplaces, backfills. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

WindowKind = Literal["live", "sweep", "backfill"]
Axis = Literal["updated", "created"]
WindowState = Literal["open", "set_aside", "done", "cancelled"]
Look = Literal["first", "second", "created"]
BackfillState = Literal["planned", "running", "paused", "done", "cancelled", "failed"]
Way = Literal["search", "report", "auto"]
PartState = Literal["wanted", "asked", "ready", "searched", "done"]

CLAIM = timedelta(minutes=2)
"""How long a claim on a window holds unless it is renewed."""

LONGEST_CLAIM = CLAIM + timedelta(minutes=5)
"""A claim that ends later than this was made by a clock that was wrong and has been corrected."""


def is_ahead(time: datetime | None, now: datetime, longest: timedelta) -> bool:
    """Return True if a time is to be waited for; one further ahead was noted by a clock that was wrong."""
    return time is not None and now < time <= now + longest


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a sentence to read, and the facts that advice is chosen by.

    ``kind``: that of the connector's error, or a word of the sync's own; None in rows of older versions.
    ``status`` and ``code``: Amazon's, each None if it gave none.
    """

    message: str
    kind: str | None = None
    status: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Window:
    """An interval that is being read, frozen with everything that a page token depends on.

    ``state``: *open* (unread or partly read), *set_aside* (failed too often; a visible gap, retried
    at ``retry_at``), *done*, *cancelled* (replaced by others). ``walk_started_at`` and
    ``walk_ended_at`` are Amazon's time of the first and last page. ``fulfilled_by`` and ``statuses`` narrow
    it down to some of its orders; empty: all. ``repeats``: the walk over the same second that it confirms.
    """

    source: str
    account: str
    kind: WindowKind
    axis: Axis
    marketplace_ids: tuple[str, ...]
    included_data: tuple[str, ...]
    lower: datetime
    upper: datetime
    window_id: int = 0
    state: WindowState = "open"
    page_token: str | None = field(default=None, repr=False)
    walk_started_at: datetime | None = None
    walk_ended_at: datetime | None = None
    pages: int = 0
    orders: int = 0
    attempts: int = 0
    retry_at: datetime | None = None
    last_error: Failure | None = None
    owner: str | None = None
    claimed_until: datetime | None = None
    version: int = 0
    backfill_id: int | None = None
    fulfilled_by: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    repeats: int | None = None


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """What a source did last.

    ``turns``: by waiting kind, requests made for others since its last turn. ``changes_per_second``: the
    rate that live looks showed.
    """

    source: str
    account: str
    polled_at: datetime | None = None
    changes_per_second: float = 0.0
    enrolment_at: datetime | None = None
    refreshed_at: datetime | None = None
    turns: Mapping[str, int] = field(default_factory=dict)
    failures: int = 0
    failing_since: datetime | None = None
    last_error: Failure | None = None
    retry_at: datetime | None = None
    succeeded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MarketplaceProgress:
    """How far a marketplace has been read.

    ``position``: where the next live window begins (less the overlap). ``second_position``: where
    the next second look begins. ``settled_position``: the created time at which the next settled day
    begins. ``alone_since``: since when it is read alone, after failing in a group.
    """

    account: str
    marketplace_id: str
    source: str
    live_from: datetime
    position: datetime
    second_position: datetime
    settled_position: datetime
    history_from: datetime | None = None
    enrolled: bool | None = None
    absent_since: datetime | None = None
    alone_since: datetime | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """History by created time, newest first. ``span_seconds``: measured width of the next window.

    ``way``: *search* alone, *report* (also fetch ids of reports, oldest first), *auto* (use reports once
    searching has to wait). ``owner`` holds the claim on the ids.
    """

    backfill_id: int
    account: str
    marketplace_id: str
    reason: Literal["start_date", "manual"]
    lower: datetime
    upper: datetime
    position: datetime
    state: BackfillState
    orders: int = 0
    requests: int = 0
    span_seconds: float | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    way: Way = "search"
    windows_done: int = 0
    owner: str | None = None
    claimed_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReportPart:
    """A part of a backfill, and the report about it.

    ``state``: *wanted*, *asked* (Amazon is making it), *ready* (its ids are stored), *searched* (there was no
    reliable report), *done*. ``lost``: orders of the report that Amazon did not know.
    """

    backfill_id: int
    lower: datetime
    upper: datetime
    state: PartState = "wanted"
    report_id: str | None = None
    asked_at: datetime | None = None
    look_at: datetime | None = None
    looks: int = 0
    troubles: int = 0
    orders: int = 0
    lost: int = 0
    last_error: str | None = None

    @property
    def has_ids(self) -> bool:
        return self.state in ("ready", "done")


@dataclass(frozen=True, slots=True)
class HistoryId:
    """An order of a report that must still be fetched, unless this version or a newer one is stored."""

    created_at: datetime
    order_id: str
    last_updated_at: datetime
    attempts: int = 0
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A range of time, both ends included."""

    lower: datetime
    upper: datetime


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the intervals sorted, with those that touch or overlap joined."""
    result: list[Interval] = []
    for interval in sorted(intervals):
        if result and interval.lower <= result[-1].upper:
            if interval.upper > result[-1].upper:
                result[-1] = Interval(result[-1].lower, interval.upper)
        else:
            result.append(interval)
    return result


def complete_until(covered: Iterable[Interval], start: datetime) -> datetime | None:
    """Return the end of the coverage without a gap from ``start`` on; None if it does not cover ``start``."""
    reaching = [interval for interval in joined(covered) if interval.lower <= start]
    return reaching[-1].upper if reaching else None


def gaps(covered: Iterable[Interval], lower: datetime, upper: datetime) -> list[Interval]:
    """Return the parts of ``lower … upper`` that the sorted, joined intervals leave out."""
    missing: list[Interval] = []
    reached = lower
    for interval in covered:
        if interval.upper < lower or interval.lower > upper:
            continue
        if interval.lower > reached:
            missing.append(Interval(reached, interval.lower))
        reached = max(reached, interval.upper)
    if reached < upper:
        missing.append(Interval(reached, upper))
    return missing
