"""Moments as people and programs read them. Standard library only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def iso(time: datetime) -> str:
    """``2026-01-31T12:00:00Z``, rounded up to a second: coming back then is not too early."""
    utc = time.astimezone(UTC)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")
