"""When Amazon is asked again for an order that could not be understood. Pure.

Amazon mends its copies, sooner or later: it is asked after an hour, and then ever more seldom. When that
has not helped for five days, a person is asked instead.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST_REFETCH = timedelta(hours=1)
REFETCHES = 7
"""After 1, 2, 4, 8, 16, 32 and 64 hours of waiting."""


def next_refetch(now: datetime, refetches: int) -> datetime | None:
    """When Amazon is asked again for an order that was asked for so often; None: it is left to a person."""
    return now + FIRST_REFETCH * 2**refetches if refetches < REFETCHES else None
