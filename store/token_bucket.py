"""Amazon's token bucket as a pure value, without a database or a clock.

A bucket never runs backwards and never holds more than its burst, whatever the clock does. Source: SP-API
documentation, "Usage plans and rate limits".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

_EPSILON = 1e-9

CLOCK_WAS_SET = timedelta(minutes=5)
"""A time this far ahead is no difference between two clocks: the clock was wrong and has been corrected."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """``tokens`` as of ``counted_at``; refills at ``rate`` a second up to ``burst``."""

    rate: float
    burst: float
    tokens: float
    counted_at: datetime

    def at(self, now: datetime) -> Bucket:
        """Return the bucket refilled up to ``now``; a clock that went back adds nothing."""
        passed = (now - self.counted_at).total_seconds()
        if self.counted_at - now > CLOCK_WAS_SET:
            return replace(self, counted_at=now)
        if passed <= 0:
            return self
        return replace(self, tokens=min(self.burst, self.tokens + passed * self.rate), counted_at=now)

    def has_at(self, tokens: float) -> datetime:
        """Return when the bucket will hold ``tokens`` (its ``counted_at`` if it does already)."""
        missing = tokens - self.tokens
        if missing <= _EPSILON:
            return self.counted_at
        # Rounded up to a microsecond: a caller that returns at exactly this time must find the token.
        return self.counted_at + timedelta(seconds=missing / self.rate, microseconds=1)


def spend(bucket: Bucket, now: datetime, reserve: float = 0.0) -> tuple[Bucket, datetime | None]:
    """Take one token if ``reserve`` is left. Return the bucket, and when to retry if it has too few."""
    bucket = bucket.at(now)
    ready = bucket.has_at(1.0 + reserve)
    if ready > bucket.counted_at:
        return bucket, ready
    return replace(bucket, tokens=max(0.0, bucket.tokens - 1.0)), None
