"""What follows from a page or a failure: splits, coverage, gaps, back-off, marketplaces that fail alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.matching.statuses import STATUSES
from poller.sync import results, windows
from poller.sync.decide import LONGEST_OVERLAP, ROOM
from poller.sync.effects import (
    CloseBackfillWindow,
    CountPage,
    Cover,
    Effect,
    OpenWindow,
    SaveMarketplace,
    SaveSource,
    SaveWindow,
)
from poller.sync.results import PageRead, after_page
from poller.sync.windows import ATTEMPTS, LISTED_FOR, NEAR_THE_END
from store.progress import Failure, Interval, Window, joined
from tests.unit.sync_values import (
    DAY,
    HOUR,
    MINUTE,
    NO_ANSWER,
    NOON,
    SECOND,
    effects_of,
    marketplace,
    moved,
    source_after,
    view_of,
    window,
)

A, B = marketplace("A"), marketplace("B")
VIEW = view_of([A, B], now=NOON + MINUTE, amazon_now=NOON + MINUTE)


def read(**changed: Any) -> PageRead:
    values: dict[str, Any] = {
        "next_token": None,
        "orders": 10,
        "new": 10,
        "echoed_before": None,
        "asked_at": NOON + MINUTE,
        "amazon_now": NOON + MINUTE + SECOND,
    }
    return PageRead(**{**values, **changed})


def saved(effects: tuple[Effect, ...]) -> Window:
    (only,) = effects_of(effects, SaveWindow)
    return only.window


def opened(effects: tuple[Effect, ...]) -> list[Window]:
    return [e.window for e in effects_of(effects, OpenWindow)]


def covered(effects: tuple[Effect, ...]) -> list[tuple[str, datetime, datetime]]:
    return [(e.look, e.seen.lower, e.seen.upper) for e in effects_of(effects, Cover)]


# --- a page on updated time -------------------------------------------------------------------------


def test_a_page_without_a_token_proves_its_interval_seen() -> None:
    held = window(marketplace_ids=("A", "B"), owner="me", claimed_until=NOON + HOUR, retry_at=NOON)
    effects = after_page(VIEW, held, read())
    done = saved(effects)
    assert (done.state, done.owner, done.claimed_until, done.retry_at) == ("done", None, None, None)
    assert (done.pages, done.orders) == (1, 10)
    assert effects_of(effects, Cover) == [Cover(("A", "B"), "first", Interval(NOON - HOUR, NOON))]
    assert opened(effects) == []


def test_a_second_look_covers_both_looks() -> None:
    effects = after_page(VIEW, window(kind="sweep"), read())
    assert covered(effects) == [("first", NOON - HOUR, NOON), ("second", NOON - HOUR, NOON)]


@pytest.mark.parametrize("overfull", [{"next_token": "t", "orders": 60}, {"orders": 100}])
@pytest.mark.parametrize("kind", ["live", "sweep"])
def test_an_overfull_page_covers_nothing_and_its_interval_is_read_again_in_halves(
    kind: str, overfull: dict[str, Any]
) -> None:
    effects = after_page(VIEW, window(kind=kind, attempts=2, last_error=NO_ANSWER), read(**overfull))
    assert (saved(effects).state, saved(effects).page_token) == ("cancelled", None)
    assert [(w.lower, w.upper) for w in opened(effects)] == [
        (NOON - HOUR, NOON - HOUR / 2),
        (NOON - HOUR / 2, NOON),
    ]
    assert {(w.kind, w.state, w.attempts, w.last_error, w.window_id) for w in opened(effects)} == {
        (kind, "open", 0, None, 0)
    }
    assert covered(effects) == []
    assert moved(effects) == {}


def test_an_overfull_interval_is_split_where_half_of_the_orders_lie() -> None:
    times = tuple(NOON - MINUTE + n * SECOND / 10 for n in range(100))
    halves = opened(after_page(VIEW, window(), read(next_token="t", orders=100, times=times)))
    assert [w.upper for w in halves] == [NOON - MINUTE + 5 * SECOND, NOON]
    burst = (NOON - HOUR,) * 100
    halves = opened(after_page(VIEW, window(), read(next_token="t", orders=100, times=burst)))
    assert [w.upper for w in halves] == [NOON - HOUR + SECOND, NOON]
    at_the_end = (NOON,) * 100
    halves = opened(after_page(VIEW, window(), read(next_token="t", orders=100, times=at_the_end)))
    assert [w.upper for w in halves] == [NOON - HOUR / 2, NOON]


A_PAGE_AN_HOUR = replace(VIEW.source, changes_per_second=80 / 3600)


def test_a_look_that_was_to_fit_is_shortened_and_the_next_one_begins_where_it_ends() -> None:
    times = tuple(NOON - MINUTE + n * SECOND / 10 for n in range(100))
    page = read(next_token="t", orders=100, times=times)
    effects = after_page(replace(VIEW, source=A_PAGE_AN_HOUR), window(attempts=2, last_error=NO_ANSWER), page)
    assert saved(effects).state == "cancelled"
    (look,) = opened(effects)
    assert (look.lower, look.upper) == (NOON - HOUR, NOON - MINUTE + 7 * SECOND)
    assert (look.state, look.attempts, look.last_error, look.page_token) == ("open", 0, None, None)
    assert moved(effects)["A"].position == look.upper
    assert covered(effects) == []


@pytest.mark.parametrize(
    ("changed", "unlike"),
    [
        ({"changes_per_second": 40 / 3600}, {}),
        ({"changes_per_second": 160 / 3600}, {}),
        ({}, {"kind": "sweep"}),
        ({}, {"upper": NOON - SECOND}),
        ({}, {"marketplace_ids": ("A", "C")}),
    ],
    ids=["a burst", "a long way to catch up", "no live look", "not the last look", "of somebody not polled"],
)
def test_any_other_overfull_look_is_read_in_halves(changed: dict[str, Any], unlike: dict[str, Any]) -> None:
    view = replace(VIEW, source=replace(A_PAGE_AN_HOUR, **changed))
    effects = after_page(view, window(**unlike), read(next_token="t", orders=100))
    assert len(opened(effects)) == 2
    assert moved(effects) == {}


def test_within_one_second_tokens_are_followed_to_the_end_twice() -> None:
    second = window(lower=NOON - SECOND)
    effects = after_page(VIEW, second, read(next_token="t", orders=100))
    half_way = saved(effects)
    assert (half_way.state, half_way.page_token, half_way.walk_started_at) == ("open", "t", NOON + MINUTE)
    assert covered(effects) == []
    assert opened(effects) == []
    first = after_page(VIEW, half_way, read(orders=30))
    assert (saved(first).state, covered(first)) == ("cancelled", [])
    (again,) = opened(first)
    assert (again.repeats, again.page_token, again.pages, again.orders) == (half_way.window_id, None, 0, 0)
    assert (again.state, again.attempts, again.retry_at) == ("open", 0, None)
    again = replace(again, window_id=7, pages=1, orders=100)
    confirmed = after_page(VIEW, again, read(orders=30))
    assert (saved(confirmed).state, saved(confirmed).pages, saved(confirmed).orders) == ("done", 2, 130)
    assert covered(confirmed) == [("first", NOON - SECOND, NOON)]


def test_a_second_from_which_orders_left_while_it_was_walked_is_walked_until_it_keeps_still() -> None:
    again = window(lower=NOON - SECOND, window_id=7, repeats=1, pages=1, orders=100)
    restless = after_page(VIEW, again, read(orders=30, departed=1))
    assert (saved(restless).state, covered(restless)) == ("cancelled", [])
    (once_more,) = opened(restless)
    assert (once_more.repeats, once_more.attempts) == (7, 1)
    (gap,) = opened(after_page(VIEW, replace(again, attempts=4), read(orders=30, departed=1)))
    assert (gap.state, gap.attempts, str(gap.last_error)) == (
        "set_aside",
        5,
        "orders of one second changed while they were read",
    )


def test_what_fits_into_one_page_in_the_end_needs_no_second_walk() -> None:
    second = window(lower=NOON - SECOND)
    assert covered(after_page(VIEW, second, read(orders=99))) == [("first", NOON - SECOND, NOON)]
    after_empty_pages = window(pages=2, orders=0)
    assert covered(after_page(VIEW, after_empty_pages, read(orders=99))) == [("first", NOON - HOUR, NOON)]


def test_a_second_that_fails_after_its_first_page_comes_to_an_end() -> None:
    second = window(lower=NOON - SECOND, attempts=3)
    assert saved(after_page(VIEW, second, read(next_token="t", orders=100))).attempts == 3
    assert saved(after_page(VIEW, window(axis="created", attempts=3), read(next_token="t"))).attempts == 0


def test_a_part_of_a_seconds_orders_covers_it_only_when_no_other_part_is_unread() -> None:
    part = window(lower=NOON - SECOND, fulfilled_by=("AMAZON",))
    other = replace(part, window_id=2, fulfilled_by=("MERCHANT",))
    assert covered(after_page(replace(VIEW, windows=(part, other)), part, read())) == []
    assert covered(after_page(replace(VIEW, windows=(part,)), part, read())) == [
        ("first", NOON - SECOND, NOON)
    ]
    elsewhere = replace(other, marketplace_ids=("B",))
    assert covered(after_page(replace(VIEW, windows=(part, elsewhere)), part, read())) != []
    later = replace(other, lower=NOON, upper=NOON + SECOND)
    assert covered(after_page(replace(VIEW, windows=(part, later)), part, read())) != []


def test_an_empty_page_that_has_a_token_is_followed_three_times() -> None:
    walked = window()
    for pages in range(1, 4):
        effects = after_page(VIEW, walked, read(next_token=f"t{pages}", orders=0, new=0))
        walked = saved(effects)
        assert (walked.state, walked.pages, opened(effects)) == ("open", pages, [])
    stuck = after_page(VIEW, walked, read(next_token="t4", orders=0, new=0))
    assert saved(stuck).state == "cancelled"
    assert "empty" in str(opened(stuck)[0].last_error)
    last = after_page(VIEW, walked, read(orders=7))
    assert covered(last) == [("first", NOON - HOUR, NOON)]


def test_a_walk_with_empty_pages_between_full_ones_is_stuck_after_three() -> None:
    walked = window(kind="sweep", axis="created", pages=5, orders=200, page_token="t0")
    assert "empty" in str(
        opened(after_page(VIEW, walked, read(next_token="t", orders=0, new=0)))[0].last_error
    )
    fine = replace(walked, orders=300)
    assert opened(after_page(VIEW, fine, read(next_token="t", orders=0, new=0))) == []


def test_coverage_ends_at_the_bound_that_amazon_echoed_and_the_rest_is_read_by_the_next_look() -> None:
    effects = after_page(VIEW, window(), read(echoed_before=NOON - MINUTE))
    assert covered(effects) == [("first", NOON - HOUR, NOON - MINUTE)]
    assert moved(effects)["A"].position == NOON - MINUTE
    assert opened(effects) == []
    same = after_page(VIEW, window(), read(echoed_before=NOON + MINUTE))
    assert covered(same) == [("first", NOON - HOUR, NOON)]
    assert moved(same) == {}


def test_a_live_look_is_never_pulled_back_below_where_it_began() -> None:
    late = NOON - HOUR + LONGEST_OVERLAP
    assert moved(after_page(VIEW, window(), read(echoed_before=late)))["A"].position == late
    effects = after_page(VIEW, window(), read(echoed_before=late - SECOND))
    assert moved(effects) == {}
    (rest,) = opened(effects)
    assert (rest.lower, rest.upper, rest.attempts) == (late - SECOND, NOON, 1)
    assert rest.retry_at == VIEW.now + windows.backoff(1)


def test_marketplaces_that_went_on_get_a_window_of_their_own_for_what_a_smaller_bound_left() -> None:
    view = view_of([A, marketplace("B", NOON + MINUTE)], now=NOON + MINUTE)
    effects = after_page(view, window(marketplace_ids=("A", "B")), read(echoed_before=NOON - MINUTE))
    assert set(moved(effects)) == {"A"}
    (rest,) = opened(effects)
    assert (rest.marketplace_ids, rest.lower, rest.upper) == (("B",), NOON - MINUTE, NOON)


# --- a page on created time -------------------------------------------------------------------------


def test_lists_by_created_time_are_walked_by_their_tokens() -> None:
    walk = window(kind="sweep", axis="created")
    first = after_page(VIEW, walk, read(next_token="t", orders=100))
    assert (saved(first).state, saved(first).page_token) == ("open", "t")
    assert covered(first) == []
    last = after_page(VIEW, saved(first), read(orders=99))
    assert covered(last) == [("created", NOON - HOUR, NOON)]


def test_a_full_last_page_may_lack_its_token_and_is_read_again_in_halves() -> None:
    walk = window(kind="sweep", axis="created", pages=1, orders=100)
    effects = after_page(VIEW, walk, read(orders=100))
    assert (saved(effects).state, covered(effects)) == ("cancelled", [])
    assert [w.upper for w in opened(effects)] == [NOON - HOUR / 2, NOON]
    second = after_page(VIEW, window(lower=NOON - SECOND), read(orders=100))
    assert (saved(second).state, covered(second)) == ("cancelled", [])
    assert [w.repeats for w in opened(second)] == [1]


def test_of_a_second_that_is_being_read_already_no_other_window_is_made() -> None:
    two = window(lower=NOON - 2 * SECOND)
    crowd = window(window_id=5, lower=NOON - SECOND)
    effects = after_page(replace(VIEW, windows=(two, crowd)), two, read(next_token="t", orders=100))
    assert [w.upper for w in opened(effects)] == [NOON - SECOND]
    other = replace(crowd, marketplace_ids=("B",))
    effects = after_page(replace(VIEW, windows=(two, other)), two, read(next_token="t", orders=100))
    assert [w.upper for w in opened(effects)] == [NOON - SECOND, NOON]


def test_what_a_marketplace_catches_up_on_after_a_day_needs_no_second_look() -> None:
    away = marketplace("A", NOON, live_from=NOON - 9 * DAY, second_position=NOON - 3 * DAY)
    old = window(lower=NOON - 3 * DAY, upper=NOON - 2 * DAY)
    view = view_of([away, B], now=NOON + MINUTE, amazon_now=NOON + MINUTE)
    effects = after_page(view, old, read())
    assert covered(effects) == [(look, old.lower, old.upper) for look in ("first", "second")]
    assert moved(effects)["A"].second_position == old.upper
    young = replace(old, upper=NOON - HOUR)
    assert [look for look, *_ in covered(after_page(view, young, read()))] == ["first"]
    beyond = replace(old, lower=NOON - 2 * DAY, upper=NOON - 1.5 * DAY)
    assert moved(after_page(view, beyond, read())) == {}


def test_at_amazons_two_year_edge_tokens_are_not_followed_because_the_list_shrinks() -> None:
    edge = NOON + MINUTE + SECOND - LISTED_FOR
    near = window(kind="sweep", axis="created", lower=edge + NEAR_THE_END, upper=edge + 9 * DAY)
    assert len(opened(after_page(VIEW, near, read(next_token="t", orders=100)))) == 2
    inside = replace(near, lower=near.lower + SECOND)
    assert opened(after_page(VIEW, inside, read(next_token="t", orders=100))) == []


def test_what_has_left_amazons_list_stays_a_gap() -> None:
    edge = NOON + MINUTE + SECOND - LISTED_FOR
    across = window(kind="sweep", axis="created", lower=edge - DAY, upper=edge + HOUR)
    assert covered(after_page(VIEW, across, read())) == [("created", edge, edge + HOUR)]
    beyond = replace(across, upper=edge - HOUR)
    assert covered(after_page(VIEW, beyond, read(orders=0, new=0))) == []


def test_a_page_of_a_backfill_is_counted_and_its_last_closes_the_window() -> None:
    walk = window(kind="backfill", axis="created", backfill_id=7)
    first = after_page(VIEW, walk, read(next_token="t", orders=100))
    assert effects_of(first, CountPage) == [CountPage(7, 100)]
    assert effects_of(first, CloseBackfillWindow) == []
    last = after_page(VIEW, saved(first), read(orders=3))
    assert effects_of(last, CountPage) == [CountPage(7, 3)]
    (closed,) = effects_of(last, CloseBackfillWindow)
    assert (closed.window.orders, closed.window.backfill_id) == (103, 7)


@pytest.mark.parametrize(
    "page",
    [{"next_token": "t1", "orders": 100, "new": 100}, {"next_token": "t2", "orders": 100, "new": 0}],
    ids=["same token", "nothing new"],
)
def test_a_walk_that_makes_no_progress_starts_again_in_halves(page: dict[str, Any]) -> None:
    walked = window(axis="created", kind="sweep", page_token="t1", pages=1, orders=100, walk_started_at=NOON)
    effects = after_page(VIEW, walked, read(**page))
    assert saved(effects).state == "cancelled"
    assert [(w.attempts, w.page_token) for w in opened(effects)] == [(1, None)] * 2
    assert covered(effects) == []


def test_a_walks_last_page_may_bring_nothing_new() -> None:
    walked = window(axis="created", kind="sweep", page_token="t1", pages=1, orders=100)
    assert saved(after_page(VIEW, walked, read(orders=3, new=0))).state == "done"


# --- what a page says of the source -----------------------------------------------------------------


def test_a_stored_page_ends_a_row_of_failures() -> None:
    failing = view_of(
        [A], now=NOON, failures=4, failing_since=NOON - HOUR, last_error=NO_ANSWER, retry_at=NOON - MINUTE
    )
    after = source_after(after_page(failing, window(last_error=NO_ANSWER), read()))
    assert (after.failures, after.failing_since, after.last_error, after.retry_at) == (0, None, None, None)
    assert after.succeeded_at == NOON


def test_a_live_page_frees_a_marketplace_that_failed_alone() -> None:
    view = view_of([marketplace("A", alone_since=NOON, trouble="status 500"), B])
    after = moved(after_page(view, window(), read()))
    assert (after["A"].alone_since, after["A"].trouble) == (None, None)
    assert moved(after_page(view, window(kind="sweep"), read())) == {}
    assert "B" not in after


def rate_after(
    page: PageRead, before: float = 0.0, *, seen_by: tuple[str, ...] = ("A", "B"), **own: Any
) -> float:
    view = view_of([A, B], now=NOON, changes_per_second=before)
    return source_after(after_page(view, window(marketplace_ids=seen_by, **own), page)).changes_per_second


def test_the_rate_of_changes_follows_what_looks_show() -> None:
    wide = rate_after(read(orders=36), lower=NOON - 5 * HOUR)
    assert wide == pytest.approx(36 / (5 * 3600), rel=1e-3)
    narrow = rate_after(read(orders=0), 1.0, lower=NOON - MINUTE)
    assert narrow == pytest.approx(0.935, abs=0.01)


def test_a_marketplace_that_is_refused_does_not_freeze_the_rate() -> None:
    view = view_of([A, marketplace("B", alone_since=NOON)], now=NOON, changes_per_second=1.0)
    effects = after_page(view, window(marketplace_ids=("A",), lower=NOON - 5 * HOUR), read(orders=0))
    assert source_after(effects).changes_per_second == pytest.approx(0, abs=1e-3)


def test_the_rate_is_judged_by_looks_over_all_marketplaces_only() -> None:
    assert rate_after(read(orders=36), 1.0, seen_by=("A",)) == 1.0
    assert rate_after(read(orders=36), 1.0, kind="sweep") == 1.0
    assert rate_after(read(orders=100, next_token="t"), 1.0, lower=NOON - SECOND) == 1.0


def test_a_look_that_was_planned_to_fit_and_did_not_raises_the_rate() -> None:
    planned_for = ROOM / 3600
    assert rate_after(read(orders=100, next_token="t"), planned_for) == pytest.approx(100 / 3600)
    steep = 100 / 3600
    assert rate_after(read(orders=100, next_token="t"), steep) == pytest.approx(steep * results.RATE_RAISED)
    half = rate_after(read(orders=100, next_token="t"), planned_for, lower=NOON - 20 * MINUTE)
    assert half == planned_for


# --- a request failed -------------------------------------------------------------------------------


def test_a_failure_counts_against_window_and_source_with_back_off() -> None:
    held = window(owner="me", claimed_until=NOON, page_token="t", axis="created", kind="sweep")
    effects = results.after_failure(VIEW, held, NO_ANSWER)
    failing = saved(effects)
    assert (failing.attempts, failing.state, failing.last_error) == (1, "open", NO_ANSWER)
    assert (failing.owner, failing.claimed_until, failing.page_token) == (None, None, "t")
    assert failing.retry_at == VIEW.now + 30 * SECOND
    source = source_after(effects)
    assert (source.failures, source.last_error, source.failing_since) == (1, NO_ANSWER, VIEW.now)
    assert source.retry_at == VIEW.now + 30 * SECOND


def test_a_failure_before_any_window_counts_against_the_source() -> None:
    effects = results.after_failure(VIEW, None, NO_ANSWER)
    assert source_after(effects).failures == 1
    assert effects_of(effects, SaveWindow) == []


def test_a_source_is_failing_since_its_first_failure() -> None:
    view = view_of([A], failures=2, failing_since=NOON - HOUR)
    source = source_after(results.after_failure(view, window(), NO_ANSWER))
    assert (source.failures, source.failing_since) == (3, NOON - HOUR)


def test_a_marketplace_known_to_fail_alone_is_no_news_about_the_source() -> None:
    view = view_of([marketplace("A", alone_since=NOON), B])
    for effects in (
        results.after_failure(view, window(), NO_ANSWER),
        results.after_refusal(view, window(), Failure("status 403", "access_refused", 403)),
    ):
        assert effects_of(effects, SaveSource) == []
        assert saved(effects).attempts == 1


def test_a_group_that_fails_too_often_is_divided_to_find_the_marketplace_that_fails() -> None:
    effects = results.after_failure(
        VIEW, window(marketplace_ids=("A", "B"), attempts=ATTEMPTS - 1), NO_ANSWER
    )
    assert saved(effects).state == "cancelled"
    assert [(w.marketplace_ids, w.attempts) for w in opened(effects)] == [(("A",), 0), (("B",), 0)]
    assert moved(effects) == {}


def test_a_single_marketplace_that_fails_too_often_is_set_aside_and_read_alone_from_then_on() -> None:
    effects = results.after_failure(VIEW, window(attempts=ATTEMPTS - 1), NO_ANSWER)
    aside = saved(effects)
    assert (aside.state, aside.retry_at) == ("set_aside", VIEW.now + 15 * MINUTE)
    assert (moved(effects)["A"].alone_since, moved(effects)["A"].trouble) == (VIEW.now, "no answer")
    sweep = results.after_failure(VIEW, window(kind="sweep", attempts=ATTEMPTS - 1), NO_ANSWER)
    assert moved(sweep) == {}
    view = view_of([marketplace("A", alone_since=NOON - DAY)])
    assert moved(results.after_failure(view, window(attempts=ATTEMPTS - 1), NO_ANSWER)) == {}


@pytest.mark.parametrize("kind", sorted(results.FAULTS_OF_CONTENT))
def test_what_its_content_may_cause_is_narrowed_down_to_a_minute(kind: str) -> None:
    fault = Failure("unexpected: KeyError", kind)
    effects = results.after_failure(VIEW, window(attempts=ATTEMPTS - 1), fault)
    assert [(w.lower, w.upper, w.attempts) for w in opened(effects)] == [
        (NOON - HOUR, NOON - HOUR / 2, ATTEMPTS - 1),
        (NOON - HOUR / 2, NOON, ATTEMPTS - 1),
    ]
    minute = window(attempts=ATTEMPTS - 1, lower=NOON - MINUTE)
    assert saved(results.after_failure(VIEW, minute, fault)).state == "set_aside"
    assert opened(results.after_failure(VIEW, window(attempts=1), fault)) == []


@pytest.mark.parametrize("kind", sorted(results.FAULTS_OF_CONTENT))
def test_parts_of_what_content_may_have_broken_are_tried_at_once_and_fail_at_the_first_attempt(
    kind: str,
) -> None:
    fault = Failure("unexpected: KeyError", kind)
    group = window(marketplace_ids=("A", "B"), attempts=ATTEMPTS - 1)
    view = view_of([A, B], failures=8)
    effects = results.after_failure(view, group, fault)
    assert [(w.marketplace_ids, w.attempts) for w in opened(effects)] == [
        (("A",), ATTEMPTS - 1),
        (("B",), ATTEMPTS - 1),
    ]
    assert source_after(effects).retry_at == view.now + results.SOON
    not_yet = results.after_failure(view, window(attempts=1), fault)
    assert source_after(not_yet).retry_at == view.now + windows.LONGEST_BACKOFF


def test_a_source_that_fails_twenty_times_in_a_row_is_not_taken_for_one_with_bad_content() -> None:
    fault = Failure("unexpected: KeyError", "unexpected")
    view = view_of([A, B], failures=results.FAULTS_OF_A_SOURCE)
    effects = results.after_failure(view, window(attempts=ATTEMPTS - 1), fault)
    assert (saved(effects).state, opened(effects)) == ("set_aside", [])
    assert source_after(effects).retry_at == view.now + windows.LONGEST_BACKOFF


def test_a_group_that_is_refused_with_400_is_halved_at_once_and_the_source_is_well() -> None:
    refusal = Failure("status 400", "request_refused", 400)
    effects = results.after_refusal(VIEW, window(marketplace_ids=("A", "B")), refusal)
    assert saved(effects).state == "cancelled"
    assert [w.marketplace_ids for w in opened(effects)] == [("A",), ("B",)]
    assert effects_of(effects, SaveSource) == []


def test_a_403_is_believed_at_the_second_time_only_and_counts_against_the_source() -> None:
    refusal = Failure("status 403", "access_refused", 403)
    first = results.after_refusal(VIEW, window(marketplace_ids=("A", "B")), refusal)
    assert (saved(first).state, saved(first).attempts, opened(first)) == ("open", 1, [])
    assert source_after(first).failures == 1
    second = results.after_refusal(VIEW, saved(first), refusal)
    assert saved(second).state == "cancelled"
    assert [w.attempts for w in opened(second)] == [0, 0]


def test_a_refused_page_token_starts_the_walk_again_in_halves() -> None:
    walked = window(axis="created", kind="sweep", page_token="t", pages=3)
    effects = results.after_expired_token(VIEW, walked, Failure("expired", "page_expired"))
    assert saved(effects).state == "cancelled"
    assert [(w.page_token, w.attempts) for w in opened(effects)] == [(None, 1)] * 2
    assert effects_of(effects, SaveSource) == []


def test_a_refused_bound_is_lowered_to_what_amazons_clock_allows() -> None:
    why = Failure("too young", "bound_refused", 400)
    view = replace(VIEW, amazon_now=NOON)
    effects = results.after_refused_bound(view, window(), why)
    (lowered,) = opened(effects)
    assert (lowered.lower, lowered.upper) == (NOON - HOUR, view.signpost)
    assert saved(effects).state == "cancelled"
    assert moved(effects)["A"].position == view.signpost
    assert effects_of(effects, SaveSource) == []
    hopeless = results.after_refused_bound(replace(VIEW, amazon_now=NOON + DAY), window(), why)
    assert saved(hopeless).attempts == 1
    assert source_after(hopeless).failures == 1


# --- the life of a window ---------------------------------------------------------------------------


def test_parts_start_from_their_first_page_and_are_held_by_no_process() -> None:
    busy = window(page_token="t", pages=4, orders=400, owner="me", claimed_until=NOON, version=7)
    for half in windows.parts_of_time(busy):
        assert (half.state, half.page_token, half.pages, half.orders) == ("open", None, 0, 0)
        assert (half.owner, half.claimed_until, half.version, half.window_id) == (None, None, 0, 0)


@given(st.integers(2_000_000, 10**13), st.integers(0, 999_999))
def test_halves_together_cover_the_window_exactly(width: int, offset: int) -> None:
    lower = NOON + timedelta(microseconds=offset)
    whole = window(lower=lower, upper=lower + timedelta(microseconds=width))
    first, second = windows.parts_of_time(whole)
    assert (first.lower, first.upper, second.upper) == (whole.lower, second.lower, whole.upper)
    assert first.upper.microsecond == 0 or first.upper == lower
    assert max(first.upper - first.lower, second.upper - second.lower) < whole.upper - whole.lower


@given(st.integers(0, 40_000_000))
def test_halving_again_and_again_ends_within_a_second(width: int) -> None:
    parts = [window(upper=NOON + timedelta(microseconds=width), lower=NOON)]
    for _ in range(8):
        parts = [half for part in parts for half in windows.parts_of_time(part)]
    assert all(windows.is_instant(p) for p in parts)
    assert joined([Interval(p.lower, p.upper) for p in parts])[0].upper == parts[-1].upper


@given(st.integers(2, 50))
def test_halves_of_marketplaces_together_are_all_of_them_once(number: int) -> None:
    ids = tuple(f"M{i:02}" for i in range(number))
    first, second = windows.halves_of_marketplaces(window(marketplace_ids=ids))
    assert first.marketplace_ids + second.marketplace_ids == ids
    assert abs(len(first.marketplace_ids) - len(second.marketplace_ids)) <= 1


def test_a_second_is_divided_by_marketplace_fulfiller_and_status_and_then_no_more() -> None:
    level = [window(lower=NOON - SECOND, marketplace_ids=("A", "B"))]
    seen: set[tuple[str, str, str]] = set()
    while level:
        part = level.pop()
        parts = windows.halves_of_orders(part)
        level += parts
        if not parts:
            (status,) = part.statuses
            (fulfiller,) = part.fulfilled_by
            (marketplace_id,) = part.marketplace_ids
            assert (marketplace_id, fulfiller, status) not in seen
            seen.add((marketplace_id, fulfiller, status))
    assert len(seen) == 2 * len(windows.FULFILLERS) * len(STATUSES)


@given(st.sets(st.sampled_from("ABCDE"), min_size=1), st.sets(st.sampled_from("ABCDE")))
def test_parting_forgets_no_marketplace(ids: set[str], leaving: set[str]) -> None:
    parts = windows.parted(window(marketplace_ids=tuple(sorted(ids))), leaving)
    assert sorted(m for part in parts for m in part.marketplace_ids) == sorted(ids)
    assert all(set(p.marketplace_ids) <= leaving or not set(p.marketplace_ids) & leaving for p in parts)


def test_back_off_doubles_and_is_bounded() -> None:
    assert [windows.backoff(n).total_seconds() for n in (1, 2, 3, 5, 6, 1000)] == [30, 60, 120, 480, 900, 900]


@pytest.mark.parametrize("kind", ["live", "sweep", "backfill"])
def test_the_fifth_failure_sets_a_window_aside_and_later_ones_wait_longer(kind: str) -> None:
    now, pauses = NOON, []
    failing = window(kind=kind)
    for attempt in range(1, 40):
        failing = windows.failed(failing, NO_ANSWER, now)
        assert failing.state == ("open" if attempt < ATTEMPTS else "set_aside")
        assert failing.retry_at is not None
        pauses.append(failing.retry_at - now)
        now = failing.retry_at
    assert pauses[: ATTEMPTS - 1] == sorted(pauses[: ATTEMPTS - 1])
    assert pauses[ATTEMPTS - 1] == 15 * MINUTE
    assert max(pauses[:12]) == (HOUR if kind == "live" else 6 * HOUR)
    assert pauses[-1] == 6 * HOUR


def test_a_walk_that_cannot_go_on_is_repeated_in_halves_and_at_last_set_aside() -> None:
    level = [window(page_token="t", pages=3, axis="created")]
    for expected in range(1, ATTEMPTS):
        (changed, halves), *_ = [windows.restarted(w, NO_ANSWER, NOON) for w in level]
        assert (changed.state, changed.page_token) == ("cancelled", None)
        assert {w.attempts for w in halves} == {expected}
        level = list(halves)
    aside, parts = windows.restarted(level[0], NO_ANSWER, NOON)
    assert (aside.state, aside.page_token, parts) == ("set_aside", None, ())


def test_a_second_that_cannot_be_divided_is_a_gap_that_is_tried_again_from_its_first_page() -> None:
    part = window(
        lower=NOON - SECOND,
        fulfilled_by=("AMAZON",),
        statuses=("SHIPPED",),
        page_token="t",
        pages=40,
        orders=4000,
    )
    aside, parts = windows.restarted(part, NO_ANSWER, NOON)
    assert (aside.state, aside.page_token, aside.pages, aside.orders, parts) == ("set_aside", None, 0, 0, ())
    assert aside.retry_at == NOON + 15 * MINUTE


def test_effects_name_only_marketplaces_of_the_view() -> None:
    gone = window(marketplace_ids=("A", "X"))
    effects = after_page(VIEW, gone, read(echoed_before=NOON - MINUTE))
    assert {e.progress.marketplace_id for e in effects_of(effects, SaveMarketplace)} == {"A"}
