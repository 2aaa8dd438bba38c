"""Coverage as plain intervals: what is joined and what is missing are each other's complement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from store.progress import Interval, Window, gaps, joined

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def between(lower: int, upper: int) -> Interval:
    return Interval(at(lower), at(upper))


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    lower = draw(st.integers(0, 60))
    return between(lower, lower + draw(st.integers(0, 20)))


def holds(stretches: list[Interval], moment: datetime) -> bool:
    return any(i.lower <= moment <= i.upper for i in stretches)


HALF = timedelta(seconds=30)
MOMENTS = [at(m) + half for m in range(-2, 84) for half in (timedelta(0), HALF)]


def test_stretches_that_touch_become_one() -> None:
    assert joined([between(5, 9), between(0, 5)]) == [between(0, 9)]


def test_a_range_inside_another_adds_nothing() -> None:
    assert joined([between(0, 9), between(2, 3)]) == [between(0, 9)]


def test_stretches_apart_stay_apart_and_are_sorted() -> None:
    assert joined([between(7, 9), between(0, 5)]) == [between(0, 5), between(7, 9)]


def test_without_coverage_all_is_a_gap() -> None:
    assert gaps([], at(0), at(9)) == [between(0, 9)]


def test_full_coverage_leaves_no_gap() -> None:
    assert gaps([between(-1, 10)], at(0), at(9)) == []


def test_gaps_lie_before_between_and_after_what_is_covered() -> None:
    covered = [between(2, 3), between(5, 6)]
    assert gaps(covered, at(0), at(9)) == [between(0, 2), between(3, 5), between(6, 9)]


def test_coverage_outside_of_what_is_asked_does_not_count() -> None:
    assert gaps([between(-9, -5), between(20, 30)], at(0), at(9)) == [between(0, 9)]


def test_an_empty_range_has_no_gap() -> None:
    assert gaps([], at(3), at(3)) == []


def test_a_page_token_is_not_shown() -> None:
    window = Window("acme:EU", "acme", "live", "updated", ("m",), (), NOON, NOON, page_token="secret-token")
    assert "secret-token" not in repr(window)


@given(st.lists(intervals(), max_size=12))
def test_joining_keeps_every_time_and_adds_none(some: list[Interval]) -> None:
    whole = joined(some)
    assert [holds(whole, m) for m in MOMENTS] == [holds(some, m) for m in MOMENTS]


@given(st.lists(intervals(), max_size=12))
def test_joined_ranges_are_sorted_apart_and_stay_as_they_are(some: list[Interval]) -> None:
    whole = joined(some)
    assert all(a.upper < b.lower for a, b in pairwise(whole))
    assert joined(whole) == whole


@given(st.lists(intervals(), max_size=12), st.integers(-2, 80), st.integers(0, 80))
def test_what_is_covered_and_what_is_missing_make_up_the_whole(
    some: list[Interval], start: int, width: int
) -> None:
    lower, upper = at(start), at(start + width)
    covered = joined(some)
    missing = gaps(covered, lower, upper)
    inside = [m for m in MOMENTS if lower < m < upper]
    for moment in inside:
        assert holds(covered, moment) or holds(missing, moment)
    for gap in missing:
        assert lower <= gap.lower < gap.upper <= upper
        assert not any(i.lower < gap.upper and i.upper > gap.lower for i in covered if i.lower < i.upper)
    if lower < upper:
        ours = [i for i in covered if i.upper >= lower and i.lower <= upper]
        assert gaps(joined(ours + missing), lower, upper) == []
