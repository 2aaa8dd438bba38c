"""History from both ends: pages of ``searchOrders`` from the newest, single orders by id from the oldest.

Pure, like ``poller.sync.windows``. One page each 178.6 s is 2,000 orders an hour; ``getOrder`` has a bucket
of its own for another 1,800. It needs to be told ids, and the report of all orders by order date tells
them:

* The stretch is cut into parts of at most thirty days, a report each; a longer one would be empty, and nobody
  would say so. What is younger than a day is left to searching: a report is made once, and does not show
  what Amazon itself learns late.
* Searching comes down from the newest order. Because the ids below are known, a window is cut to fill its
  pages to the last place, and near the end it takes no more than getOrder needs time for the rest.
* Ids are fetched from the oldest. Where one of the two meets what the other has done, the part is finished.
* Who wants history *by report* wants what the report lists: it is waited for, even when searching is
  through. *auto* asks for reports once searching has to wait for its budget, and never waits for them.
* A report is a claim. One without a single order, one that Amazon gave up, and one that cannot be read are
  not believed: that part is searched from end to end.
* A part counts as seen by ids only once each id that its report lists was fetched, or is stored in the
  report's version. One id that Amazon does not know after all leaves the part a visible gap. What the
  report lists and a search of the same time has not shown is fetched too, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.base import PAGE_SIZE, REPORT_SPAN
from store.bucket import Bucket
from store.progress import Backfill, Interval, ReportPart

SETTLED_AFTER = timedelta(days=1)
"""Orders younger than this may still be shown late: they are searched for, not looked up in a report."""

WINDOW_WALK = timedelta(hours=6)
"""Reading a window should take about this long at the density measured and Amazon's rate."""

WINDOW_SPAN = timedelta(days=30)
"""Widest window."""

PAGES_AT_ONCE = 20
PAGES_BEFORE_REPORT = 3
"""A window that is opened before the ids are known holds no more pages than this, or than can be read at
once: it is searching's from then on."""

SPARE_PLACES = 2
"""Places of a window's last page that are left free: its bounds belong to it and to its neighbours."""

GET_LEAVES = 15.0
"""Left in getOrder's bucket for a person's ``orders fetch``, and for orders that ought to have changed."""

REPORTS_LEAVE = 3.0
"""What is left in the buckets of reports, for ``verify``."""

GETS_AT_ONCE = 10
"""Orders fetched by id in a run: coming back for every single one would cost more than fetching it."""

ATTEMPTS = 3
"""An order of a report that Amazon does not know at the third time is given up."""


# --- parts ------------------------------------------------------------------------------------------


def parts_of(backfill: Backfill, amazon_now: datetime) -> tuple[ReportPart, ...]:
    """The parts of a backfill that reports are asked for, oldest first, as even as they can be."""
    upper = min(backfill.upper, (amazon_now - SETTLED_AFTER).replace(microsecond=0))
    whole = upper - backfill.lower
    if whole <= timedelta(0):
        return ()
    many = -(-whole // REPORT_SPAN)
    bounds = [(backfill.lower + whole * i / many).replace(microsecond=0) for i in range(many)]
    pairs = zip(bounds, [*bounds[1:], upper], strict=True)
    return tuple(ReportPart(backfill.backfill_id, lower, until) for lower, until in pairs)


def is_awaited(backfill: Backfill, part: ReportPart) -> bool:
    """Whether a report is still wanted: expressly, or because searching has not been through its part."""
    if part.state not in ("wanted", "asked"):
        return False
    return backfill.way == "report" or part.lower < backfill.position


def troubled(part: ReportPart, why: str, now: datetime) -> ReportPart:
    """Something went wrong that may go right later: try again, the third time do without the report."""
    if part.troubles + 1 >= ATTEMPTS:
        return searched(part, why)
    pause = timedelta(minutes=5 * 3**part.troubles)
    return replace(part, troubles=part.troubles + 1, look_at=now + pause, last_error=why)


def searched(part: ReportPart, why: str) -> ReportPart:
    """The report is not to be had, or not to be believed: this part is searched from end to end."""
    return replace(part, state="searched", look_at=None, last_error=why)


SHOWN_AT_MOST = 0.99
"""Nothing is said to be all done before it is."""


def share_done(
    backfill: Backfill,
    parts: Sequence[ReportPart],
    unread: Sequence[Interval],
    oldest: Callable[[ReportPart, datetime], datetime | None],
) -> float:
    """How much of a backfill's stretch is behind it, from 0 to 1, judged by nothing but its own work.

    What others have read before does not count: it is read again. ``unread``: windows that have been entered
    and not read to their end. ``oldest``: of a part below some time, the oldest id that is still to be
    fetched.
    """
    if backfill.state == "done":
        return 1.0
    whole = backfill.upper - backfill.lower
    behind = backfill.upper - backfill.position
    behind -= sum(
        (max(timedelta(), min(w.upper, backfill.upper) - max(w.lower, backfill.position)) for w in unread),
        timedelta(),
    )
    for part in parts:
        if part.has_ids and part.lower < backfill.position:
            until = min(part.upper, backfill.position)
            behind += (oldest(part, until) or until) - part.lower
    return min(SHOWN_AT_MOST, max(0.0, behind / whole)) if whole else 0.0


# --- searching from the newest ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ground:
    """What is known of a backfill by its reports when its next window is planned.

    ``oldest``: of the part below the position, the oldest id that is still to be fetched, but for those that
    could not be had and are asked for again later. ``cut``: where the window has to end to fill its pages;
    None when all that is left of the part fits.
    """

    parts: tuple[ReportPart, ...]
    oldest: datetime | None = None
    cut: datetime | None = None


def part_below(position: datetime, parts: Sequence[ReportPart]) -> ReportPart | None:
    """The part that searching comes into next."""
    return next((p for p in parts if p.lower < position <= p.upper), None)


def search_down_to(backfill: Backfill, ground: Ground, position: datetime) -> datetime | None:
    """How far down the next window may reach; None when ids have done all there is."""
    part = part_below(position, ground.parts)
    if part is None:
        below = [p.upper for p in ground.parts if p.upper < position]
        return max([*below, backfill.lower])
    if not part.has_ids:
        return part.lower
    if ground.oldest is None:
        return None
    return max(part.lower, ground.cut or ground.oldest)


def is_sized(ground: Ground, position: datetime) -> bool:
    """Whether the bound of ``search_down_to`` is the window's, and not only the lowest that it may have."""
    part = part_below(position, ground.parts)
    return part is not None and part.has_ids


def pages_before_report(bucket: Bucket) -> float:
    """Pages that a window should hold while ids are not known yet.

    How many orders it will hold is a guess, so the last page is not planned to be full: every second window
    would need one more for a handful.
    """
    pages = max(PAGES_BEFORE_REPORT, int(bucket.tokens))
    return pages - math.sqrt(pages / PAGE_SIZE)


def pages_to_take(left: int, search_rate: float, get_rate: float) -> int:
    """Pages of the next window when ``left`` orders are not promised to anybody yet.

    Half of searching's fair share, so that the next window can correct what turned out otherwise; never
    less than one, because a token is there to be used.
    """
    if left <= PAGE_SIZE - SPARE_PLACES:
        return 1
    by_search = max(0.0, search_rate) * PAGE_SIZE
    share = left * by_search / (by_search + get_rate) if by_search > 0 else 0.0
    return max(1, min(PAGES_AT_ONCE, int(share / 2 / PAGE_SIZE)))


def places(pages: int) -> int:
    """Orders that fit into so many pages for certain."""
    return pages * PAGE_SIZE - SPARE_PLACES


# --- fetching from the oldest -----------------------------------------------------------------------


def reserve(leaves: float, burst: float) -> float:
    """What is left in a bucket for others: not more than half of it, should Amazon's plan be a small one."""
    return min(leaves, burst / 2)


def gets_now(bucket: Bucket) -> int:
    """How many orders may be fetched by id now."""
    return max(0, int(bucket.tokens - reserve(GET_LEAVES, bucket.burst) + 1e-6))


def gets_at(bucket: Bucket, left: int) -> datetime:
    """When to come back for more of them: once a handful, or all that are left, can be fetched."""
    kept = reserve(GET_LEAVES, bucket.burst)
    return bucket.has_at(kept + max(1.0, min(GETS_AT_ONCE, left, bucket.burst - kept)))


def next_attempt(attempts: int, now: datetime) -> datetime:
    """When to ask once more for an order that could not be had: later each time."""
    return now + timedelta(minutes=10 * 6 ** max(0, min(attempts - 1, 2)))


def settled(
    backfill: Backfill, parts: Sequence[ReportPart], has_left: Callable[[ReportPart], bool]
) -> tuple[datetime, tuple[tuple[ReportPart, Interval], ...]]:
    """Go down past parts that ids have finished: the new position, and those parts with what they prove seen.

    ``has_left`` says of a part whether ids below the position are still to be fetched in it.
    """
    position = backfill.position
    passed: list[tuple[ReportPart, Interval]] = []
    while True:
        part = part_below(position, parts)
        if part is None or not part.has_ids or has_left(part):
            return position, tuple(passed)
        passed.append((part, Interval(part.lower, position)))
        position = part.lower
