"""Decisions about history by reports and ids, and estimates of what a backfill costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import REPORT_SPAN
from poller.backfill import estimates, history
from poller.backfill.estimates import Budgets
from poller.backfill.history import Ground
from poller.ingest import reports
from store.progress import Backfill, Interval, ReportPart
from store.token_bucket import Bucket

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def backfill(days: float = 90, upper: datetime = NOON, **changed: Any) -> Backfill:
    values: dict[str, Any] = {
        "backfill_id": 1,
        "account": "acme",
        "marketplace_id": "A",
        "reason": "manual",
        "lower": NOON - days * DAY,
        "upper": upper,
        "position": upper,
        "state": "running",
        "way": "auto",
    }
    return Backfill(**{**values, **changed})


def part(lower: float, upper: float, state: Any = "ready", **more: Any) -> ReportPart:
    """A part between two numbers of days ago."""
    return ReportPart(1, NOON - lower * DAY, NOON - upper * DAY, state, **more)


def bucket(rate: float, burst: float, tokens: float) -> Bucket:
    return Bucket(rate, burst, tokens, NOON)


# --- parts ------------------------------------------------------------------------------------------


@given(st.floats(0.5, 900), st.floats(0, 5))
def test_parts_meet_and_none_is_longer_than_a_report_may_be(days: float, ago: float) -> None:
    whole = backfill(days + ago, upper=(NOON - ago * DAY).replace(microsecond=0))
    whole = replace(whole, lower=whole.lower.replace(microsecond=0))
    found = history.parts_of(whole, NOON)
    latest = min(whole.upper, NOON - DAY)
    if whole.lower >= latest:
        assert found == ()
        return
    assert (found[0].lower, found[-1].upper) == (whole.lower, latest)
    assert all(a.upper == b.lower for a, b in pairwise(found))
    assert all(timedelta(0) < p.upper - p.lower <= REPORT_SPAN for p in found)


def test_what_is_younger_than_a_day_is_in_no_part() -> None:
    assert history.parts_of(backfill(1), NOON) == ()
    (only,) = history.parts_of(backfill(10), NOON)
    assert only.upper == NOON - DAY


def test_trouble_with_a_report_is_tried_again_twice_and_then_the_part_is_searched() -> None:
    asked = part(30, 0, "asked")
    once = history.failed(asked, "503", NOON)
    assert (once.state, once.look_at) == ("asked", NOON + timedelta(minutes=5))
    twice = history.failed(once, "503", NOON)
    assert (twice.state, twice.look_at) == ("asked", NOON + timedelta(minutes=15))
    last = history.failed(twice, "503 again", NOON)
    assert (last.state, last.last_error, last.look_at) == ("searched", "503 again", None)


def test_looks_at_a_report_become_rarer_and_end() -> None:
    pauses = [reports.next_check(n, NOON) - NOON for n in range(14)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(minutes=5)
    assert not reports.is_overdue(NOON - 5 * HOUR, NOON)
    assert reports.is_overdue(NOON - 6 * HOUR, NOON)


def test_auto_does_without_a_report_of_what_was_searched_and_report_does_not() -> None:
    passed = part(60, 30, "asked")
    searched_down = backfill(position=NOON - 70 * DAY)
    assert not history.is_awaited(searched_down, passed)
    assert history.is_awaited(replace(searched_down, way="report"), passed)
    assert history.is_awaited(backfill(), passed)
    assert not history.is_awaited(backfill(way="report"), replace(passed, state="ready"))


# --- how much is behind it --------------------------------------------------------------------------


def no_ids(_part: ReportPart, _below: datetime) -> None:
    """No id is left to be fetched."""


def test_of_a_backfill_that_has_not_begun_nothing_is_behind_it() -> None:
    assert history.share_done(backfill(), (), (), no_ids) == 0
    assert history.share_done(backfill(way="report"), (part(90, 1, "asked"),), (), no_ids) == 0


def test_a_window_counts_once_it_has_been_read_to_its_end() -> None:
    halfway = backfill(position=NOON - 45 * DAY)
    assert history.share_done(halfway, (), (), no_ids) == pytest.approx(0.5)
    unread = [Interval(NOON - 45 * DAY, NOON - 36 * DAY)]
    assert history.share_done(halfway, (), unread, no_ids) == pytest.approx(0.4)


def test_of_a_part_with_ids_counts_what_lies_below_the_oldest_that_is_left() -> None:
    halfway = backfill(position=NOON - 45 * DAY)
    parts = (part(90, 60), part(60, 30), part(30, 1))

    def oldest(one: ReportPart, below: datetime) -> datetime | None:
        assert below == min(one.upper, halfway.position)
        return {90: NOON - 81 * DAY, 60: None}[(NOON - one.lower) // DAY]

    assert history.share_done(halfway, parts, (), oldest) == pytest.approx((45 + 9 + 15) / 90)


def test_all_of_it_is_done_when_it_is_done_and_not_before() -> None:
    through = backfill(position=NOON - 90 * DAY)
    assert history.share_done(through, (part(90, 1, "asked"),), (), no_ids) == history.SHOWN_AT_MOST
    assert history.share_done(replace(through, state="done"), (), (), no_ids) == 1
    assert f"{history.SHOWN_AT_MOST:.0%}" == "99%"


# --- searching from the newest ----------------------------------------------------------------------


def test_above_the_parts_searching_may_go_down_to_them() -> None:
    ground = Ground((part(90, 1),))
    assert history.search_down_to(backfill(), ground, NOON) == NOON - DAY
    assert not history.is_sized(ground, NOON)


def test_in_a_part_with_ids_a_window_ends_where_its_pages_are_full() -> None:
    position = NOON - DAY
    ground = Ground((part(90, 1),), oldest=NOON - 80 * DAY, cut=NOON - 5 * DAY)
    assert history.search_down_to(backfill(), ground, position) == NOON - 5 * DAY
    assert history.is_sized(ground, position)
    all_fits = replace(ground, cut=None)
    assert history.search_down_to(backfill(), all_fits, position) == NOON - 80 * DAY


def test_where_ids_have_done_all_there_is_nothing_to_search() -> None:
    assert history.search_down_to(backfill(), Ground((part(90, 1),)), NOON - DAY) is None


@pytest.mark.parametrize("state", ["wanted", "asked", "searched"])
def test_without_ids_a_part_is_searched_to_its_end(state: str) -> None:
    ground = Ground((part(90, 60), part(60, 30, state)), oldest=None)
    assert history.search_down_to(backfill(), ground, NOON - 40 * DAY) == NOON - 60 * DAY
    assert not history.is_sized(ground, NOON - 40 * DAY)


@given(st.integers(0, 200_000), st.floats(0, 50), st.floats(0.001, 50))
def test_a_window_takes_a_page_at_least_and_never_more_than_half_its_share(
    left: int, search_rate: float, get_rate: float
) -> None:
    pages = history.pages_to_take(left, search_rate, get_rate)
    assert 1 <= pages <= history.WINDOW_PAGES
    if pages > 1:
        share = left * search_rate * 100 / (search_rate * 100 + get_rate)
        assert pages * 100 <= share / 2 + 1e-6


def test_before_ids_are_known_a_window_is_as_large_as_can_be_read_at_once() -> None:
    assert 12 < history.pages_before_report(bucket(0.0056, 20, 13.2)) < 13
    assert 2 < history.pages_before_report(bucket(0.0056, 20, 0)) < 3


# --- fetching from the oldest -----------------------------------------------------------------------


def test_orders_by_id_leave_a_reserve_and_come_in_handfuls() -> None:
    full = bucket(0.5, 30, 30)
    assert history.gets_now(full) == 15
    assert history.gets_now(bucket(0.5, 30, 15.9)) == 0
    spent = bucket(0.5, 30, 15)
    assert history.gets_at(spent, 1_000) - NOON == timedelta(seconds=20, microseconds=1)
    assert history.gets_at(spent, 2) - NOON == timedelta(seconds=4, microseconds=1)


def test_a_small_plan_is_never_waited_for_in_vain() -> None:
    small = bucket(0.1, 4, 4)
    assert history.gets_now(small) == 2
    assert history.gets_at(replace(small, tokens=0.0), 50) - NOON <= timedelta(seconds=41)


def test_each_further_attempt_comes_later() -> None:
    waits = [history.next_attempt(n, NOON) - NOON for n in (1, 2, 3, 9)]
    assert waits == [timedelta(minutes=10), HOUR, 6 * HOUR, 6 * HOUR]


def test_parts_that_ids_have_finished_are_passed_and_claimed() -> None:
    parts = (part(90, 60), part(60, 30, "done"), part(30, 1))
    position, passed = history.settled(backfill(position=NOON - 20 * DAY), parts, lambda _: False)
    assert position == NOON - 90 * DAY
    assert [seen for _, seen in passed] == [
        Interval(NOON - 30 * DAY, NOON - 20 * DAY),
        Interval(NOON - 60 * DAY, NOON - 30 * DAY),
        Interval(NOON - 90 * DAY, NOON - 60 * DAY),
    ]


@pytest.mark.parametrize("state", ["wanted", "asked", "searched"])
def test_a_part_without_ids_is_never_passed(state: str) -> None:
    parts = (part(90, 60), part(60, 30, state))
    position, passed = history.settled(backfill(position=NOON - 40 * DAY), parts, lambda _: False)
    assert (position, passed) == (NOON - 40 * DAY, ())


def test_a_part_with_ids_left_is_not_passed() -> None:
    parts = (part(90, 60), part(60, 30))
    position, passed = history.settled(
        backfill(position=NOON - 40 * DAY), parts, lambda p: p.lower == NOON - 90 * DAY
    )
    assert position == NOON - 60 * DAY
    assert len(passed) == 1


# --- what it costs ----------------------------------------------------------------------------------

AMAZONS = Budgets(bucket(0.0056, 20, 20), bucket(0.5, 30, 30), 900)


def test_the_time_of_a_hundred_thousand_orders_is_that_of_the_buckets() -> None:
    search = estimates.by_search(100_000, 180 * DAY, AMAZONS, DAY)
    report = estimates.by_report(100_000, 180 * DAY, AMAZONS, DAY)
    assert search.time is not None
    assert report.time is not None
    assert (search.windows, search.searches) == (10, 1_001), "the last page of a window is seldom full"
    assert search.time / HOUR == pytest.approx(982 / (0.0056 - 1 / 900) / 3600)
    assert report.time / HOUR == pytest.approx((100_000 - 1_915) / (0.56 - 1 / 9 + 0.5) / 3600)
    assert report.searches * 100 + report.gets == pytest.approx(100_000, abs=100)
    assert estimates.is_faster(report, search)


def test_what_the_burst_pays_for_comes_at_once_and_is_faster_by_search() -> None:
    search = estimates.by_search(1_500, 30 * DAY, AMAZONS, DAY)
    assert search.time == timedelta()
    assert not estimates.is_faster(estimates.by_report(1_500, 30 * DAY, AMAZONS, DAY), search)


def test_once_the_reports_are_there_nothing_waits_for_them() -> None:
    assert estimates.by_report(10, DAY, AMAZONS, DAY).time == estimates.REPORT_TAKES
    assert estimates.by_report(10, DAY, AMAZONS, DAY, timedelta()).time == timedelta()


def test_where_live_polling_needs_all_searches_only_ids_bring_history() -> None:
    slow = replace(AMAZONS, search=bucket(0.001, 20, 1))
    search = estimates.by_search(5_000, 30 * DAY, slow, DAY)
    assert search.time is None
    assert estimates.is_faster(estimates.by_report(5_000, 30 * DAY, slow, DAY), search)


def test_windows_of_an_empty_range_grow_fourfold() -> None:
    search = estimates.by_search(0, 180 * DAY, AMAZONS, DAY)
    assert (search.windows, search.searches) == (5, 5), "1, 4, 16 and 64 days, and the rest"
    assert estimates.by_search(0, 180 * DAY, AMAZONS, 30 * DAY).searches == 3
    assert estimates.by_search(0, 720 * DAY, AMAZONS, 180 * DAY).searches == 3, "180 days, a year, the rest"


def test_a_window_is_as_wide_as_the_density_of_the_last_one_says_if_that_held_enough_orders() -> None:
    rate = AMAZONS.search.rate
    a_walk = timedelta(seconds=DAY.total_seconds() * rate * history.WINDOW_WALK.total_seconds() * 100 / 200)
    assert history.next_span(DAY, 200, rate) == a_walk > 4 * DAY
    assert history.next_span(DAY, 20, rate) == history.WINDOW_SPAN
    assert history.next_span(DAY, 19, rate) == 4 * DAY, "so few orders say little"


def test_reports_without_an_order_are_searched() -> None:
    report = estimates.by_report(0, 180 * DAY, replace(AMAZONS, search=bucket(0.0056, 20, 1)), DAY)
    assert (report.searches, report.gets, report.reports) == (9, 0, 18)
    assert report.time == timedelta(seconds=9 / (0.0056 - 1 / 900))


def test_second_looks_and_settled_days_take_their_searches_first() -> None:
    busy = replace(AMAZONS, sweeps=0.001)
    assert busy.search_rate == pytest.approx(0.0056 - 1 / 900 - 0.001)


def expected(interval: Interval, known: dict[Interval, float]) -> estimates.Expected:
    """Return what is expected where these ranges were read, by the orders of a day."""

    def count(part: Interval) -> int:
        (density,) = [d for i, d in known.items() if i.lower <= part.lower and part.upper <= i.upper]
        return round(density * ((part.upper - part.lower) / DAY))

    return estimates.expected_orders(sorted(known), interval, count)


def ago(first: float, last: float) -> Interval:
    return Interval(NOON - first * DAY, NOON - last * DAY)


def test_where_all_has_been_read_orders_are_counted() -> None:
    known = {ago(60, 30): 0.0, ago(29, 0): 7.0}
    assert expected(ago(29, 0), known) == estimates.Expected(203)
    assert expected(ago(60, 31), known) == estimates.Expected(0)


def test_the_rest_is_judged_by_what_was_read_nearest_to_it() -> None:
    christmas = {ago(200, 190): 90.0, ago(40, 0): 10.0}
    assert expected(ago(60, 20), christmas) == estimates.Expected(200, 200, "estimate", 20 * DAY)
    assert expected(ago(190, 170), christmas) == estimates.Expected(0, 1800, "estimate", 10 * DAY)
    two_gaps = expected(ago(195, 0), {ago(200, 190): 90.0, ago(180, 150): 50.0, ago(40, 0): 10.0})
    assert two_gaps.counted == 5 * 90 + 30 * 50 + 40 * 10
    assert two_gaps.judged == 10 * 70 + 110 * 35


def test_little_that_was_read_makes_it_a_guess_and_less_says_nothing() -> None:
    assert expected(ago(61, 1), {ago(1, 0): 10.0}) == estimates.Expected(0, 600, "guess", DAY)
    assert expected(ago(600, 500), {ago(90, 0): 10.0}).certainty == "guess", "far away"
    assert expected(ago(61, 1), {ago(0.2, 0): 10.0}) == estimates.Expected(0, None, "unknown")
    assert expected(ago(61, 1), {}).total is None


@pytest.mark.parametrize("code", ["JP", "AU", "SG"])
def test_some_marketplaces_show_more_than_two_years(code: str) -> None:
    assert estimates.earliest(code, NOON) == datetime(2016, 1, 1, tzinfo=UTC)
    uk = estimates.earliest("UK", NOON)
    assert NOON - timedelta(days=730) < uk < NOON - timedelta(days=728)
