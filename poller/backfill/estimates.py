"""Estimates of what a backfill will cost: requests, and time. Pure, like ``poller.backfill.history``.

They follow from the orders stored already, the stored budget as it is now, and live polling at its slower
pace, which comes first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from connectors.base import PAGE_SIZE, REPORT_SPAN
from poller.backfill import history
from store.progress import Interval
from store.token_bucket import Bucket

HISTORY = timedelta(days=730)
LONG_HISTORY_SINCE = datetime(2016, 1, 1, tzinfo=UTC)
LONG_HISTORY = frozenset({"JP", "AU", "SG"})
"""Marketplaces whose orders Amazon shows since 2016 instead of for two years (Amazon's Orders API model)."""

REPORT_TAKES = timedelta(minutes=5)
"""Making a report takes minutes, sometimes over an hour."""

SHORTEST_SAMPLE = timedelta(hours=6)
"""Less than this says nothing about the orders of a day."""


def earliest(code: str, now: datetime) -> datetime:
    """Return the first day of which Amazon still shows every order."""
    if code in LONG_HISTORY:
        return LONG_HISTORY_SINCE
    first = now - HISTORY
    return first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def expected_orders(known: Mapping[Interval, int], interval: Interval) -> int | None:
    """Return how many orders an interval may hold, judged by known ones; None if too little is known."""
    span = sum((i.upper - i.lower for i in known), timedelta())
    if span < SHORTEST_SAMPLE:
        return None
    return round(sum(known.values()) * ((interval.upper - interval.lower) / span))


@dataclass(frozen=True, slots=True)
class Budgets:
    """The two buckets as they are now, and the seconds between live polls, which come first."""

    search: Bucket
    get: Bucket
    poll_seconds: float

    @property
    def search_rate(self) -> float:
        """Return the searches a second that live polling leaves."""
        return max(0.0, self.search.rate - 1 / self.poll_seconds)


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


def by_search(orders: int, span: timedelta, budgets: Budgets) -> Cost:
    """Return the cost of searching alone."""
    fit = max(1.0, budgets.search.rate * history.WINDOW_WALK.total_seconds()) * PAGE_SIZE
    windows = max(1, math.ceil(orders / fit), math.ceil(span / history.WINDOW_SPAN))
    searches = max(windows, math.ceil(orders / PAGE_SIZE))
    return Cost(windows, searches, 0, 0, _time(searches, budgets))


def by_report(orders: int, span: timedelta, budgets: Budgets, takes: timedelta = REPORT_TAKES) -> Cost:
    """Return the cost of searching from the newest and fetching by id from the oldest until they meet.

    ``takes`` is how long reports are still being made.
    """
    parts = max(1, math.ceil(span / REPORT_SPAN))
    at_once = max(0.0, budgets.search.tokens - 1) * PAGE_SIZE
    at_once += max(0.0, budgets.get.tokens - history.GET_LEAVES)
    rate = budgets.search_rate * PAGE_SIZE + budgets.get.rate
    seconds = max(0.0, (orders - at_once) / rate)
    gets = round(min(orders, max(0.0, budgets.get.tokens - history.GET_LEAVES) + budgets.get.rate * seconds))
    searches = math.ceil(max(0, orders - gets) / PAGE_SIZE)
    windows = max(1, math.ceil(searches / history.WINDOW_PAGES))
    time = timedelta(seconds=seconds)
    return Cost(windows, max(searches, windows), gets, 3 * parts, max(time, takes))


def _time(searches: int, budgets: Budgets) -> timedelta | None:
    """Return how long these searches take; one token stays for live polling."""
    missing = searches - max(0.0, budgets.search.tokens - 1)
    if missing <= 0:
        return timedelta()
    return timedelta(seconds=missing / budgets.search_rate) if budgets.search_rate > 0 else None


def is_faster(report: Cost, search: Cost) -> bool:
    """Return True if reports and ids beside searching are faster than searching alone."""
    return report.time is not None and (search.time is None or report.time < search.time)
