"""History from both ends: pages of ``searchOrders`` from the newest, single orders by id from the oldest.

Pure, like ``poller.sync.windows``. One page every 178.6 s is 2,000 orders an hour; ``getOrder`` has a bucket
of its own for another 1,800. The ids that it needs come from the report of all orders by order date:

* The range is cut into parts of at most thirty days, a report each: a longer report comes back empty, without
  an error. Orders younger than a day are only searched for: a report is made once, and lacks what Amazon
  itself learns late.
* Searching comes down from the newest order. Because the ids below are known, a window is cut to fill its
  last page, and near the end it leaves to getOrder what getOrder can fetch meanwhile.
* Ids are fetched from the oldest. Where the two meet, the part is finished.
* A backfill *by report* waits for the reports, even if searching is through. *auto* requests them once
  searching has to wait for its budget, and never waits for them.
* A report is a claim. If it lists no order, was given up by Amazon or cannot be read, its part is searched
  from end to end.
* A part counts as seen by ids once each id of its report was fetched, or is stored in the report's version.
  An id that Amazon does not know leaves the part a visible gap. Ids that a search of the same range did not
  show are fetched too, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.base import PAGE_SIZE, REPORT_SPAN
from store.progress import Backfill, Interval, ReportPart, Window
from store.token_bucket import Bucket

SETTLED_AFTER = timedelta(days=1)
"""Orders younger than this may still appear late: they are searched for, not fetched from a report."""

WINDOW_WALK = timedelta(hours=6)
"""Reading a window should take about this long at the density measured and Amazon's rate."""

WINDOW_SPAN = timedelta(days=365)
"""Widest window. Each window wastes half a page, its last one, so few wide ones are best."""

ORDERS_THAT_MEASURE = 20
"""From as many orders on a density is believed; after fewer the next window is at most four times as wide."""

WINDOW_PAGES = 20
"""Most pages of a window that is cut by ids."""

WINDOW_PAGES_WITHOUT_IDS = 3
"""Pages of a window opened before the ids are known, or as many as there are tokens: getOrder cannot share
it any more."""

SPARE_PLACES = 2
"""Places left free on a window's last page: orders at its bounds belong to its neighbours, too."""

GET_LEAVES = 15.0
"""Tokens left in getOrder's bucket for ``orders fetch`` and for orders that should have changed by now."""

REPORTS_LEAVE = 3.0
"""Tokens left in the buckets of reports for ``verify``."""

GETS_AT_ONCE = 10
"""Orders that a run should fetch by id at least: a run for each order would cost more than the fetch."""

FETCH_ATTEMPTS = 3
"""How often an order of a report is requested, and a report, before it is given up."""


# --- parts ------------------------------------------------------------------------------------------


def parts_of(backfill: Backfill, amazon_now: datetime) -> tuple[ReportPart, ...]:
    """Cut a backfill into parts of equal width, a report each; return them oldest first."""
    upper = min(backfill.upper, (amazon_now - SETTLED_AFTER).replace(microsecond=0))
    whole = upper - backfill.lower
    if whole <= timedelta(0):
        return ()
    count = -(-whole // REPORT_SPAN)
    bounds = [(backfill.lower + whole * i / count).replace(microsecond=0) for i in range(count)]
    pairs = zip(bounds, [*bounds[1:], upper], strict=True)
    return tuple(ReportPart(backfill.backfill_id, lower, until) for lower, until in pairs)


def is_awaited(backfill: Backfill, part: ReportPart) -> bool:
    """Return True if a part's report is still needed: by the chosen way, or because searching is above it."""
    if part.state not in ("wanted", "asked"):
        return False
    return backfill.way == "report" or part.lower < backfill.position


def failed(part: ReportPart, why: str, now: datetime) -> ReportPart:
    """Put a part's report off after a failure; after the third failure, search the part instead."""
    if part.troubles + 1 >= FETCH_ATTEMPTS:
        return searched(part, why)
    pause = timedelta(minutes=5 * 3**part.troubles)
    return replace(part, troubles=part.troubles + 1, look_at=now + pause, last_error=why)


def searched(part: ReportPart, why: str) -> ReportPart:
    """Give up a part's report: the part is searched from end to end."""
    return replace(part, state="searched", look_at=None, last_error=why)


SHOWN_AT_MOST = 0.99
"""No backfill shows 100 % before it is done."""


def share_done(
    backfill: Backfill,
    parts: Sequence[ReportPart],
    unread: Sequence[Interval],
    oldest: Callable[[ReportPart, datetime], datetime | None],
) -> float:
    """Return how much of a backfill's range it has done itself, from 0 to 1.

    What was read before does not count: it is read again. ``unread`` are windows that are entered and not yet
    read. ``oldest`` returns the oldest id still to fetch of a part below some time.
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

    ``oldest`` is the oldest id still to fetch in the part below the position, without those that failed and
    are retried later. ``cut`` is where the window must end to fill its pages; None if the rest of the part
    fits.
    """

    parts: tuple[ReportPart, ...]
    oldest: datetime | None = None
    cut: datetime | None = None


def part_below(position: datetime, parts: Sequence[ReportPart]) -> ReportPart | None:
    """Return the part that searching enters next."""
    return next((p for p in parts if p.lower < position <= p.upper), None)


def search_down_to(backfill: Backfill, ground: Ground, position: datetime) -> datetime | None:
    """Return how far down the next window may reach; None if ids have done the rest."""
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
    """Return True if ``search_down_to`` is the window's bound, and not only the lowest one allowed."""
    part = part_below(position, ground.parts)
    return part is not None and part.has_ids


def after_window(
    backfill: Backfill, window: Window, bucket: Bucket, now: datetime, *, is_unread: bool
) -> Backfill:
    """Return the backfill after one of its windows was read: measured, and done if nothing is left.

    ``is_unread``: other windows, or ids of reports, are still to be read.
    """
    most_pages = math.inf if backfill.way == "search" else pages_before_report(bucket)
    span = next_span(window.upper - window.lower, window.orders, bucket.rate, most_pages)
    backfill = replace(backfill, span_seconds=span.total_seconds(), windows_done=backfill.windows_done + 1)
    if backfill.position <= backfill.lower and not is_unread and backfill.state != "cancelled":
        return replace(backfill, state="done", finished_at=now)
    return backfill


def next_span(width: timedelta, orders: float, rate: float, most_pages: float = math.inf) -> timedelta:
    """Return how wide the next window should be after one of this width and number of orders.

    ``rate``: pages a second.
    """
    target = min(rate * WINDOW_WALK.total_seconds(), most_pages) * PAGE_SIZE
    widest = WINDOW_SPAN if orders >= ORDERS_THAT_MEASURE else min(width * 4, WINDOW_SPAN)
    if orders == 0:
        return max(widest, timedelta(hours=1))
    fitting = min(widest.total_seconds(), width.total_seconds() * target / orders)
    return max(timedelta(hours=1), timedelta(seconds=fitting))


def pages_before_report(bucket: Bucket) -> float:
    """Return the pages that a window should hold while ids are not known yet.

    The number of its orders is a guess, so its last page is not planned to be full: every second window would
    need one more page for a few orders.
    """
    pages = max(WINDOW_PAGES_WITHOUT_IDS, int(bucket.tokens))
    return pages - math.sqrt(pages / PAGE_SIZE)


def pages_to_take(left: int, search_rate: float, get_rate: float) -> int:
    """Return the pages of the next window if ``left`` orders are neither searched nor fetched yet.

    It is half of searching's fair share, so that the next window can correct the estimate, and at least one,
    because a token is there.
    """
    if left <= PAGE_SIZE - SPARE_PLACES:
        return 1
    by_search = max(0.0, search_rate) * PAGE_SIZE
    share = left * by_search / (by_search + get_rate) if by_search > 0 else 0.0
    return max(1, min(WINDOW_PAGES, int(share / 2 / PAGE_SIZE)))


def places(pages: int) -> int:
    """Return how many orders fit on ``pages`` for certain."""
    return pages * PAGE_SIZE - SPARE_PLACES


# --- fetching from the oldest -----------------------------------------------------------------------


def reserve(leaves: float, burst: float) -> float:
    """Return the tokens left in a bucket for others: at most half of it, if Amazon's plan is small."""
    return min(leaves, burst / 2)


def gets_now(bucket: Bucket) -> int:
    """Return how many orders may be fetched by id now."""
    return max(0, int(bucket.tokens - reserve(GET_LEAVES, bucket.burst) + 1e-6))


def gets_at(bucket: Bucket, left: int) -> datetime:
    """Return when to come back: once ``GETS_AT_ONCE`` orders, or all that are left, can be fetched."""
    kept = reserve(GET_LEAVES, bucket.burst)
    return bucket.has_at(kept + max(1.0, min(GETS_AT_ONCE, left, bucket.burst - kept)))


def next_attempt(attempts: int, now: datetime) -> datetime:
    """Return when to retry an order that could not be fetched: later each time."""
    return now + timedelta(minutes=10 * 6 ** max(0, min(attempts - 1, 2)))


def settled(
    backfill: Backfill, parts: Sequence[ReportPart], has_left: Callable[[ReportPart], bool]
) -> tuple[datetime, tuple[tuple[ReportPart, Interval], ...]]:
    """Go down past parts that ids have finished. Return the new position, and each part with what it covers.

    ``has_left`` returns True if ids of a part below the position are still to fetch.
    """
    position = backfill.position
    passed: list[tuple[ReportPart, Interval]] = []
    while True:
        part = part_below(position, parts)
        if part is None or not part.has_ids or has_left(part):
            return position, tuple(passed)
        passed.append((part, Interval(part.lower, position)))
        position = part.lower
