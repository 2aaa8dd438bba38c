"""When an order that could not be read is refetched. Pure.

Amazon corrects its copies sooner or later: the order is refetched after an hour, then at doubling intervals.
If that has not helped for five days, a person must decide.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST_REFETCH = timedelta(hours=1)
REFETCHES = 7
"""After 1, 2, 4, 8, 16, 32 and 64 hours of waiting."""


def next_refetch(now: datetime, refetches: int) -> datetime | None:
    """Return when to refetch an order that was refetched ``refetches`` times; None: leave it to a person."""
    return now + FIRST_REFETCH * 2**refetches if refetches < REFETCHES else None
