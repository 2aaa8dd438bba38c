"""Amazon's current time, learned from the ``Date`` headers of its answers.

Amazon judges upper bounds by its own clock, so ours does not count. A ``Date`` header is cut to whole
seconds and is older than its arrival: ``Date - local time at receipt`` therefore never exceeds the
true offset, and the largest recent offset is the nearest to it. Only a step of the local clock can make
an old offset too large; ``forget`` then keeps the newest one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import datetime, timedelta

from connectors.base import Clock

_MAX_OFFSETS = 20


class AmazonTime:
    """The estimate for one account. Thread-safe."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._offsets: deque[timedelta] = deque(maxlen=_MAX_OFFSETS)
        self._learned_at = 0.0
        self._lock = threading.Lock()

    def learn(self, date: datetime | None) -> None:
        """Learn from the ``Date`` header of an answer that has just arrived, if it has one."""
        if date is None:
            return
        offset = date - self._now()
        with self._lock:
            self._offsets.append(offset)
            self._learned_at = time.monotonic()

    def estimate(self) -> datetime | None:
        """Return Amazon's current time, never later than the truth; None before the first answer."""
        with self._lock:
            if not self._offsets:
                return None
            offset = max(self._offsets)
        return self._now() + offset

    def newest_answer(self) -> tuple[float, timedelta] | None:
        """Return when the newest answer came, in monotonic seconds, and what to add to the local time."""
        with self._lock:
            return (self._learned_at, self._offsets[-1]) if self._offsets else None

    def forget(self) -> None:
        """Keep only the newest answer's offset."""
        with self._lock:
            while len(self._offsets) > 1:
                self._offsets.popleft()
