"""Estimates of what a backfill will cost: requests, and time. Pure, like ``poller.backfill.history``.

They follow from the orders stored already, the stored budget as it is now, and live polling at its slower
pace, which comes first. Where a range has been read its orders are counted, not estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from connectors.base import PAGE_SIZE, REPORT_SPAN
from poller.backfill import history
from store.progress import Interval, gaps
from store.token_bucket import Bucket

HISTORY = timedelta(days=730)
LONG_HISTORY_SINCE = datetime(2016, 1, 1, tzinfo=UTC)
LONG_HISTORY = frozenset({"JP", "AU", "SG"})
"""Marketplaces whose orders Amazon shows since 2016 instead of for two years (Amazon's Orders API model)."""

REPORT_TAKES = timedelta(minutes=5)
"""Making a report takes minutes, sometimes over an hour."""

SHORTEST_SAMPLE = timedelta(hours=6)
"""Less than this says nothing about the orders of a day."""

ENOUGH_SAMPLE = 1 / 3
"""A range is a guess if what it is judged by is shorter than this share of it."""


def earliest(code: str, now: datetime) -> datetime:
    """Return the first day of which Amazon still shows every order."""
    if code in LONG_HISTORY:
        return LONG_HISTORY_SINCE
    first = now - HISTORY
    return first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


Certainty = Literal["exact", "estimate", "guess", "unknown"]
"""How sure a number of orders is: *exact* is counted, a *guess* judged by a short or distant range."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The orders of a range. ``counted``: stored ones of what has been read.

    ``judged``: how many the rest may hold, by the density of what was read nearest to it; None if too little
    was. ``sample``: how long that is.
    """

    counted: int = 0
    judged: int | None = 0
    certainty: Certainty = "exact"
    sample: timedelta = timedelta()

    @property
    def total(self) -> int | None:
        return None if self.judged is None else self.counted + self.judged


def expected_orders(
    read: Sequence[Interval], interval: Interval, count: Callable[[Interval], int]
) -> Expected:
    """Return the orders of an interval. ``read``: what has been read, sorted and joined; ``count``: in it."""
    counted = sum(map(count, _clipped(read, interval)))
    certainty: Certainty = "exact"
    judged, longest = 0.0, timedelta()
    for gap in gaps(read, interval.lower, interval.upper):
        width = gap.upper - gap.lower
        beside = _beside(read, gap)
        samples = beside or list(read[-1:] if read and read[-1].upper <= gap.lower else read[:1])
        span = sum((i.upper - i.lower for i in samples), timedelta())
        if span < SHORTEST_SAMPLE:
            return Expected(counted, None, "unknown")
        judged += sum(map(count, samples)) * (width / span)
        longest = max(longest, span)
        if not beside or span < width * ENOUGH_SAMPLE:
            certainty = "guess"
        elif certainty == "exact":
            certainty = "estimate"
    return Expected(counted, round(judged), certainty, longest)


def _clipped(read: Sequence[Interval], interval: Interval) -> list[Interval]:
    clipped = [Interval(max(i.lower, interval.lower), min(i.upper, interval.upper)) for i in read]
    return [i for i in clipped if i.lower < i.upper]


def _beside(read: Sequence[Interval], gap: Interval) -> list[Interval]:
    """Return what was read on either side of a gap, no further away than the gap is wide."""
    width = max(gap.upper - gap.lower, SHORTEST_SAMPLE)
    sides = (Interval(gap.lower - width, gap.lower), Interval(gap.upper, gap.upper + width))
    return [i for side in sides for i in _clipped(read, side)]


@dataclass(frozen=True, slots=True)
class Budgets:
    """The two buckets as they are now, and what comes first.

    ``poll_seconds``: between live polls, once the budget is used up; ``alone``: without a backfill.
    ``sweeps``: searches a second for second looks and settled days.
    """

    search: Bucket
    get: Bucket
    poll_seconds: float
    alone: float = 0.0
    sweeps: float = 0.0

    @property
    def search_rate(self) -> float:
        """Return the searches a second that live polling and sweeps leave."""
        return max(0.0, self.search.rate - 1 / self.poll_seconds - self.sweeps)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one way of fetching. ``time`` is None if live polling leaves it nothing."""

    windows: int
    searches: int
    gets: int
    reports: int
    time: timedelta | None

    @property
    def requests(self) -> int:
        return self.searches + self.gets + self.reports


NOTHING = Cost(0, 0, 0, 0, timedelta())


def by_search(
    orders: int,
    span: timedelta,
    budgets: Budgets,
    first: timedelta,
    widest: timedelta = history.WINDOW_SPAN,
) -> Cost:
    """Return the cost of searching alone; ``first``: width of its next window."""
    windows = searches = 0
    remaining, width = span, first
    while remaining > timedelta():
        width = min(width, remaining)
        held = orders * (width / span)
        windows += 1
        searches += max(1, math.ceil(held / PAGE_SIZE))
        remaining -= width
        width = min(widest, history.next_span(width, held, budgets.search.rate))
    return Cost(windows, searches, 0, 0, _time(searches, budgets))


def by_report(
    orders: int, span: timedelta, budgets: Budgets, first: timedelta, takes: timedelta = REPORT_TAKES
) -> Cost:
    """Return the cost of searching from the newest and fetching by id from the oldest until they meet.

    ``takes`` is how long reports are still being made. A report without an order is not believed: its part is
    searched.
    """
    parts = max(1, math.ceil(span / REPORT_SPAN))
    if orders < parts:
        # Searching goes part by part.
        search = by_search(orders, span, budgets, first, REPORT_SPAN)
        return replace(
            search, reports=3 * parts, time=None if search.time is None else max(search.time, takes)
        )
    at_once = max(0.0, budgets.search.tokens - 1) * PAGE_SIZE
    at_once += max(0.0, budgets.get.tokens - history.GET_LEAVES)
    rate = budgets.search_rate * PAGE_SIZE + budgets.get.rate
    seconds = max(0.0, (orders - at_once) / rate)
    gets = round(min(orders, max(0.0, budgets.get.tokens - history.GET_LEAVES) + budgets.get.rate * seconds))
    searches = math.ceil(max(0, orders - gets) / PAGE_SIZE)
    windows = max(1, math.ceil(searches / history.WINDOW_PAGES))
    by_both = timedelta(seconds=seconds)
    return Cost(windows, max(searches, windows), gets, 3 * parts, max(by_both, takes))


def _time(searches: int, budgets: Budgets) -> timedelta | None:
    """Return how long these searches take; one token stays for live polling."""
    missing = searches - max(0.0, budgets.search.tokens - 1)
    if missing <= 0:
        return timedelta()
    return timedelta(seconds=missing / budgets.search_rate) if budgets.search_rate > 0 else None


def is_faster(report: Cost, search: Cost) -> bool:
    """Return True if reports and ids beside searching are faster than searching alone."""
    return report.time is not None and (search.time is None or report.time < search.time)
