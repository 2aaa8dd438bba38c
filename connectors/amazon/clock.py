"""What time it is at Amazon, learned from the ``Date`` headers of its answers.

Upper bounds are judged by Amazon's clock, so ours does not count. A ``Date`` header is cut to whole
seconds and is older than its arrival: ``Date - local time at receipt`` therefore never exceeds the
true offset, and the largest of the recent offsets is the nearest to it. Only a step of the local
clock can make an old offset too large; then ``forget`` leaves the newest one.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

from connectors.base import Clock

_REMEMBERED = 20


class AmazonTime:
    """The estimate of one account. Safe to share between threads."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._offsets: deque[timedelta] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def hear(self, date: datetime | None) -> None:
        """Learn from an answer that has just arrived; ``date`` is its ``Date`` header, if it had one."""
        if date is None:
            return
        offset = date - self._now()
        with self._lock:
            self._offsets.append(offset)

    def estimate(self) -> datetime | None:
        """Amazon's present time, never later than the truth; None while nothing has been heard."""
        with self._lock:
            if not self._offsets:
                return None
            offset = max(self._offsets)
        return self._now() + offset

    def forget(self) -> None:
        """Keep only the newest answer's offset."""
        with self._lock:
            while len(self._offsets) > 1:
                self._offsets.popleft()
