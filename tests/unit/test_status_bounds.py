"""How far a marketplace is complete: nothing beyond a gap counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from store import progress
from store.progress import Interval

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def complete_until(*covered: tuple[float, float]) -> datetime | None:
    return progress.complete_until([Interval(at(lower), at(upper)) for lower, upper in covered], NOON)


def test_all_that_follows_on_from_the_start_counts() -> None:
    assert complete_until((-0.2, 4), (3.8, 9)) == at(9)


def test_what_lies_beyond_a_gap_does_not_count() -> None:
    assert complete_until((0, 4), (6, 9)) == at(4)


def test_nothing_counts_while_the_beginning_is_missing() -> None:
    assert complete_until((6, 9)) is None
    assert complete_until() is None


def test_the_overlap_before_the_start_alone_reaches_up_to_the_start() -> None:
    assert complete_until((-0.2, 0)) == at(0)
