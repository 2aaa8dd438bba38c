"""What a source reads next: looks of one page, second looks, settled days, history, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from poller.sync import decide as deciding
from poller.sync import windows
from poller.sync.decide import (
    LONGEST_LOOK,
    LONGEST_OVERLAP,
    ROOM,
    SECOND_LOOK_SPAN,
    SETTLED_SPAN,
    SHORTEST_OVERLAP,
    SIGNPOST_MARGIN,
    Fetch,
    Pace,
    Wait,
    decide,
)
from poller.sync.effects import AdvanceBackfill, OpenWindow, SaveMarketplace, SaveSource, SaveWindow
from poller.sync.windows import ATTEMPTS, LISTED_FOR
from tests.unit.sync_values import (
    CLOCKS_APART,
    DAY,
    HOUR,
    MINUTE,
    NO_ANSWER,
    NOON,
    SECOND,
    backfill,
    effects_of,
    entered,
    fetched,
    marketplace,
    moved,
    planned,
    source_after,
    view_of,
    window,
)

A_PAGE_IN_TEN_MINUTES = ROOM / 600


# --- live looks -------------------------------------------------------------------------------------


def test_a_look_reaches_from_the_last_bound_less_the_overlap_to_the_signpost_by_amazons_clock() -> None:
    step = planned(decide(view_of([marketplace("A"), marketplace("B")])))
    look = entered(step)
    assert (look.kind, look.axis, look.marketplace_ids) == ("live", "updated", ("A", "B"))
    assert look.lower == NOON - LONGEST_OVERLAP
    assert look.upper == NOON + HOUR + CLOCKS_APART - SIGNPOST_MARGIN
    assert {m.position for m in moved(step.effects).values()} == {look.upper}
    assert source_after(step.effects).polled_at == NOON + HOUR


def test_bounds_are_whole_seconds() -> None:
    odd = NOON + HOUR + timedelta(microseconds=654_321)
    assert entered(decide(view_of([marketplace("A")], amazon_now=odd))).upper.microsecond == 0


def test_a_window_holds_what_any_of_its_marketplaces_wants() -> None:
    view = view_of([marketplace("A"), marketplace("B")])
    view = replace(view, included_data={"A": ("BUYER", "PACKAGES"), "B": ("BUYER", "EXPENSE")})
    assert entered(decide(view)).included_data == ("BUYER", "EXPENSE", "PACKAGES")


def test_the_overlap_is_what_the_page_has_room_for() -> None:
    view = view_of([marketplace("A")], now=NOON + 6 * MINUTE, changes_per_second=A_PAGE_IN_TEN_MINUTES)
    look = entered(decide(view))
    new = look.upper - NOON
    assert look.upper - look.lower == timedelta(minutes=10) * deciding.OVERLAP_SHARE
    assert NOON - look.lower >= SHORTEST_OVERLAP
    busier = replace(view, source=replace(view.source, changes_per_second=ROOM / (new + 70 * SECOND).seconds))
    assert NOON - entered(decide(busier)).lower == SHORTEST_OVERLAP


def test_a_look_that_would_be_full_ends_sooner_and_does_not_overlap() -> None:
    view = view_of([marketplace("A")], changes_per_second=A_PAGE_IN_TEN_MINUTES)
    step = planned(decide(view))
    look = entered(step)
    assert (look.lower, look.upper) == (NOON, NOON + 10 * MINUTE)
    assert moved(step.effects)["A"].position == NOON + 10 * MINUTE
    behind = view.signpost - look.upper - SHORTEST_OVERLAP
    assert source_after(step.effects).polled_at == view.now - behind


@pytest.mark.parametrize(
    ("after_the_bound", "overlap"),
    [
        (0 * SECOND, SHORTEST_OVERLAP),
        (50 * SECOND, SHORTEST_OVERLAP),
        (MINUTE, 0 * SECOND),
        (HOUR, 0 * SECOND),
    ],
)
def test_a_look_that_ends_sooner_overlaps_if_the_last_one_had_not_left_an_overlap_to_it(
    after_the_bound: timedelta, overlap: timedelta
) -> None:
    """As after a pause: the last look ended at its signpost, and what was shown late was never read."""
    now = NOON + 3 * HOUR
    polled_at = NOON + SIGNPOST_MARGIN + after_the_bound
    view = view_of(
        [marketplace("A")],
        now=now,
        amazon_now=now,
        polled_at=polled_at,
        changes_per_second=A_PAGE_IN_TEN_MINUTES,
    )
    look = entered(decide(view))
    assert (look.lower, look.upper) == (NOON - overlap, NOON + 10 * MINUTE)


def test_a_look_never_reads_what_is_too_young_to_have_been_shown_unless_it_overlaps() -> None:
    soon = NOON + 10 * MINUTE + 30 * SECOND + SIGNPOST_MARGIN
    view = view_of([marketplace("A")], now=soon, amazon_now=soon, changes_per_second=A_PAGE_IN_TEN_MINUTES)
    assert entered(decide(view)).upper == view.signpost - SHORTEST_OVERLAP


def test_after_an_outage_looks_are_as_wide_as_the_density_before_allows_and_do_not_wait() -> None:
    view = view_of([marketplace("A", NOON - 2 * DAY)], polled_at=NOON + HOUR)
    look = entered(decide(view))
    assert (look.lower, look.upper) == (NOON - 2 * DAY, NOON - 2 * DAY + LONGEST_LOOK)
    dense = replace(view, source=replace(view.source, changes_per_second=A_PAGE_IN_TEN_MINUTES))
    assert entered(decide(dense)).upper == NOON - 2 * DAY + 10 * MINUTE


def test_a_look_is_due_at_its_pace_or_when_its_page_is_full() -> None:
    polled: dict[str, Any] = {
        "polled_at": NOON,
        "now": NOON + 100 * SECOND,
        "amazon_now": NOON + 100 * SECOND,
    }
    at = NOON + 100 * SECOND - SIGNPOST_MARGIN - 50 * SECOND
    quiet = view_of([marketplace("A", at)], **polled)
    assert deciding.next_look_at(quiet) == NOON + 180 * SECOND
    full = view_of([marketplace("A", at)], changes_per_second=ROOM / 50, **polled)
    assert deciding.next_look_at(full) == NOON + 100 * SECOND + SHORTEST_OVERLAP
    fuller = view_of([marketplace("A", at)], changes_per_second=ROOM / 5, **polled)
    assert deciding.next_look_at(fuller) == NOON + 100 * SECOND + SHORTEST_OVERLAP - 45 * SECOND


def test_a_marketplace_that_fails_alone_does_not_hurry_the_others() -> None:
    at = NOON - SIGNPOST_MARGIN
    marketplaces = [marketplace("A", at), marketplace("B", at - 5 * MINUTE, alone_since=NOON)]
    view = view_of(
        marketplaces, now=NOON, amazon_now=NOON, polled_at=NOON, changes_per_second=A_PAGE_IN_TEN_MINUTES
    )
    assert deciding.next_look_at(view) == NOON + 180 * SECOND


def test_a_clock_that_jumped_back_starts_nothing() -> None:
    behind = [marketplace("A", NOON), marketplace("B", NOON - 3 * HOUR)]
    assert isinstance(decide(view_of(behind, amazon_now=NOON - DAY, now=NOON + HOUR)), Wait)


def test_times_noted_by_a_clock_that_was_wrong_hold_nothing_up() -> None:
    tomorrow = NOON + DAY + HOUR
    step = decide(view_of([marketplace("A")], polled_at=tomorrow, retry_at=tomorrow))
    assert source_after(planned(step).effects).polled_at == NOON + HOUR


def test_while_a_live_window_is_being_read_no_second_one_is_entered() -> None:
    held = window(upper=NOON, claimed_until=NOON + HOUR + MINUTE, owner="another process")
    assert isinstance(decide(view_of([marketplace("A")], [held])), Wait)


def test_times_that_a_wrong_clock_left_in_a_window_hold_nothing_up() -> None:
    """The host's clock was a day ahead for one pass."""
    tomorrow = NOON + DAY
    claimed = window(upper=NOON, claimed_until=tomorrow, owner="a process that died")
    assert fetched(decide(view_of([marketplace("A")], [claimed]))) == claimed
    failed = window(upper=NOON, attempts=1, retry_at=tomorrow)
    assert fetched(decide(view_of([marketplace("A")], [failed]))) == failed
    soon = view_of([marketplace("A")], [replace(failed, retry_at=NOON + HOUR + windows.LONGEST_PAUSE)])
    assert isinstance(decide(soon), Wait)


def test_a_claim_that_ran_out_is_no_obstacle() -> None:
    abandoned = window(upper=NOON, claimed_until=NOON, owner="another process")
    assert fetched(decide(view_of([marketplace("A")], [abandoned]))) == abandoned


def test_both_halves_of_a_look_are_read_before_the_next_look_is_planned() -> None:
    halves = [window(upper=NOON - HOUR / 2), window(lower=NOON - HOUR / 2, window_id=2)]
    assert fetched(decide(view_of([marketplace("A")], halves))) == halves[0]
    assert fetched(decide(view_of([marketplace("A")], halves[:1]))) == halves[0]
    assert fetched(decide(view_of([marketplace("A")], halves[1:]))) == halves[1]


def test_a_marketplace_that_was_away_is_caught_up_without_holding_up_the_others() -> None:
    away = [marketplace("A", NOON), marketplace("B", NOON - 30 * DAY)]
    front = entered(decide(view_of(away)))
    assert front.marketplace_ids == ("A",)
    polled = [marketplace("A", front.upper), marketplace("B", NOON - 30 * DAY)]
    behind = entered(decide(view_of(polled, polled_at=NOON + HOUR)))
    assert (behind.marketplace_ids, behind.upper) == (("B",), NOON - 30 * DAY + LONGEST_LOOK)


def test_a_marketplace_that_was_away_is_caught_up_in_the_widest_looks_whatever_the_others_rate_is() -> None:
    away = marketplace("B", NOON - 30 * DAY, live_from=NOON - 60 * DAY)
    view = view_of([marketplace("A", NOON + HOUR), away], polled_at=NOON + HOUR, changes_per_second=0.1)
    catching_up = entered(decide(view))
    assert catching_up.marketplace_ids == ("B",)
    assert catching_up.upper - catching_up.lower == LONGEST_LOOK


def test_marketplaces_join_the_front_only_within_what_a_page_holds() -> None:
    marketplaces = [marketplace("A", NOON), marketplace("B", NOON - 15 * MINUTE)]
    assert entered(decide(view_of(marketplaces))).marketplace_ids == ("A", "B")
    busy = view_of(marketplaces, changes_per_second=A_PAGE_IN_TEN_MINUTES)
    assert entered(decide(busy)).marketplace_ids == ("A",)


def test_a_marketplace_that_failed_in_a_group_is_tried_by_itself_before_it_joins_the_others() -> None:
    step = planned(decide(view_of([marketplace("A"), marketplace("B", alone_since=NOON)])))
    assert entered(step).marketplace_ids == ("B",)
    assert effects_of(step.effects, SaveSource) == []


def test_a_marketplace_that_fails_alone_is_tried_after_the_others_were_read() -> None:
    marketplaces = [marketplace("A", alone_since=NOON), marketplace("B")]
    failing = window(attempts=2)
    assert entered(decide(view_of(marketplaces, [failing]))).marketplace_ids == ("B",)
    others = window(marketplace_ids=("B",), window_id=2)
    assert fetched(decide(view_of(marketplaces, [failing, others]))) == others
    assert fetched(decide(view_of(marketplaces, [failing], polled_at=NOON + HOUR))) == failing


def test_what_has_failed_comes_after_what_has_not() -> None:
    failing, fresh = window(attempts=1), window(marketplace_ids=("B",), window_id=2)
    assert fetched(decide(view_of([marketplace("A"), marketplace("B")], [failing, fresh]))) == fresh


def test_failing_alone_is_known_only_where_others_do_not_fail() -> None:
    alone, gone = marketplace("A", alone_since=NOON), marketplace("B", enrolled=False)
    for others, is_known in (
        ([], False),
        ([gone], False),
        ([marketplace("B", alone_since=NOON)], False),
        ([marketplace("B")], True),
    ):
        known = {m.marketplace_id: m for m in [alone, *others]}
        assert deciding.is_known_trouble(window(), known) is is_known
    both = {"A": alone, "B": marketplace("B"), "C": marketplace("C")}
    assert not deciding.is_known_trouble(window(marketplace_ids=("A", "B")), both)
    assert not deciding.is_known_trouble(window(marketplace_ids=("X",)), both)


def test_a_marketplace_whose_last_window_is_aside_is_blocked_but_not_for_ever() -> None:
    alone = marketplace("A", alone_since=NOON)
    aside = window(state="set_aside", attempts=ATTEMPTS, retry_at=NOON + 2 * HOUR)
    assert isinstance(decide(view_of([alone], [aside])), Wait)
    again = entered(decide(view_of([alone], [replace(aside, attempts=ATTEMPTS + 1)])))
    assert again.lower == NOON - LONGEST_OVERLAP


def test_a_marketplace_that_is_refused_is_tried_by_its_newest_range_only() -> None:
    older = window(state="set_aside", attempts=9, upper=NOON - HOUR, lower=NOON - 2 * HOUR)
    newest = window(window_id=2, state="set_aside", attempts=9)
    alone = view_of([marketplace("A", alone_since=NOON)], [older, newest], polled_at=NOON + HOUR)
    assert fetched(decide(alone)) == newest
    waiting = replace(alone, windows=(older, replace(newest, retry_at=NOON + 2 * HOUR)))
    assert not isinstance(decide(waiting), Fetch)
    well = view_of([marketplace("A")], [older], polled_at=NOON + HOUR)
    assert fetched(decide(well)) == older


def test_an_old_range_that_was_set_aside_holds_up_no_other() -> None:
    old = window(
        upper=NOON - 2 * DAY, lower=NOON - 3 * DAY, state="set_aside", attempts=9, retry_at=NOON + 2 * HOUR
    )
    assert entered(decide(view_of([marketplace("A", alone_since=NOON)], [old]))).marketplace_ids == ("A",)


def test_a_marketplace_that_the_seller_left_is_parted_from_the_window_and_waits() -> None:
    both = window(marketplace_ids=("A", "B"))
    gone = marketplace("B", enrolled=False)
    step = planned(decide(view_of([marketplace("A"), gone], [both])))
    assert effects_of(step.effects, SaveWindow)[0].window.state == "cancelled"
    parts = [e.window for e in effects_of(step.effects, OpenWindow)]
    assert [p.marketplace_ids for p in parts] == [("A",), ("B",)]
    alone = replace(parts[1], window_id=2)
    assert isinstance(decide(view_of([gone], [alone])), Wait)
    assert fetched(decide(view_of([marketplace("B")], [alone]))) == alone


@pytest.mark.parametrize("axis", ["created", "updated"])
def test_a_page_token_of_20_hours_is_not_used_any_more(axis: str) -> None:
    wide = (
        {"lower": NOON - HOUR} if axis == "created" else {"lower": NOON - SECOND, "fulfilled_by": ("AMAZON",)}
    )
    old = window(
        axis=axis, page_token="t", walk_started_at=NOON - 20 * HOUR, kind="sweep", attempts=3, **wide
    )
    step = planned(decide(view_of([marketplace("A")], [old], amazon_now=NOON)))
    parts = [e.window for e in effects_of(step.effects, OpenWindow)]
    assert [(p.page_token, p.attempts) for p in parts] == [(None, 0)] * 2
    if axis == "updated":
        assert {p.statuses for p in parts} != {()}
    young = replace(old, walk_started_at=NOON - 20 * HOUR + SECOND)
    due: dict[str, Any] = {"amazon_now": NOON, "polled_at": NOON + HOUR}
    assert fetched(decide(view_of([marketplace("A")], [young], **due))) == young


def test_a_walk_under_way_comes_before_a_new_one_because_its_token_ages() -> None:
    fresh = window(axis="created", kind="sweep")
    walked = replace(fresh, window_id=2, page_token="t", walk_started_at=NOON)
    step = decide(view_of([marketplace("A")], [fresh, walked], polled_at=NOON + HOUR))
    assert fetched(step) == walked


def test_a_source_that_failed_waits_and_says_why() -> None:
    later = NOON + HOUR + 9 * MINUTE
    step = decide(view_of([marketplace("A")], retry_at=later, last_error=NO_ANSWER))
    assert step == Wait(later, False, "no answer", failure=NO_ANSWER)


@pytest.mark.parametrize(
    ("pending", "uncovered"),
    [
        ({"state": "set_aside", "attempts": ATTEMPTS, "last_error": NO_ANSWER}, "failed"),
        ({"attempts": 1, "last_error": NO_ANSWER}, "failed"),
        ({"owner": "another process", "claimed_until": NOON + MINUTE}, "elsewhere"),
    ],
)
def test_what_is_uncovered_is_said_when_there_is_nothing_to_read_now(
    pending: dict[str, Any], uncovered: str
) -> None:
    waiting = window(retry_at=NOON + 3 * MINUTE, **pending)
    step = decide(view_of([marketplace("A")], [waiting], now=NOON, polled_at=NOON))
    assert isinstance(step, Wait)
    assert step.uncovered == uncovered


def test_a_marketplace_that_fails_spends_nothing_on_history_or_second_looks() -> None:
    aside = window(state="set_aside", attempts=ATTEMPTS, retry_at=NOON + 3 * DAY + HOUR)
    old = {"second_position": NOON - 9 * DAY, "settled_position": NOON - 9 * DAY}
    alone = marketplace("A", NOON, alone_since=NOON, **old)
    late = view_of([alone], [aside], now=NOON + 3 * DAY, backfills=[backfill()])
    assert isinstance(decide(late), Wait)


def test_an_empty_budget_is_waited_for_and_nothing_is_entered_meanwhile() -> None:
    view = view_of([marketplace("A")], tokens=0.0)
    assert decide(view) == Wait(view.bucket.has_at(1.0), True, "the request budget is used up")


# --- second looks and settled days ------------------------------------------------------------------


def seen(now: Any = NOON + 2 * DAY, **changed: Any) -> Any:
    """A view of a marketplace that was polled just now; what it changed since NOON has no second look."""
    settled = changed.pop("settled_position", now)
    first = marketplace("A", now, live_from=NOON, second_position=NOON, settled_position=settled)
    return view_of([first], now=now, amazon_now=now, polled_at=now, **changed)


def test_every_range_is_looked_at_again_a_day_later() -> None:
    due = NOON + DAY + SECOND_LOOK_SPAN
    assert isinstance(decide(seen(due - SECOND)), Wait)
    step = planned(decide(seen(due)))
    look = entered(step)
    assert (look.kind, look.axis) == ("sweep", "updated")
    assert (look.lower, look.upper) == (NOON, NOON + SECOND_LOOK_SPAN)
    assert moved(step.effects)["A"].second_position == look.upper
    assert moved(step.effects)["A"].position == due


def test_a_second_look_ends_where_its_page_would_be_full_and_is_not_delayed_then() -> None:
    edge = NOON + 20 * MINUTE + timedelta(microseconds=7)
    due = NOON + DAY + 20 * MINUTE
    assert entered(decide(seen(due, second_edge=edge))).upper == NOON + 20 * MINUTE
    assert isinstance(decide(seen(due - SECOND, second_edge=edge)), Wait)
    crowd = NOON + timedelta(microseconds=9)
    assert entered(decide(seen(due, second_edge=crowd))).upper == NOON + SECOND


def test_second_looks_are_read_one_after_the_other() -> None:
    now = NOON + 2 * DAY
    under_way = window(kind="sweep", owner="another process", claimed_until=now + MINUTE)
    first = marketplace("A", now, live_from=NOON, second_position=NOON)
    assert isinstance(decide(view_of([first], [under_way], now=now, amazon_now=now, polled_at=now)), Wait)


def test_a_second_look_that_waits_for_a_marketplace_switched_off_stops_no_other() -> None:
    first = marketplace("A", NOON + 3 * DAY, second_position=NOON)
    waits = window(kind="sweep", marketplace_ids=("B",))
    step = decide(view_of([first], [waits], now=NOON + 3 * DAY, polled_at=NOON + 3 * DAY))
    assert entered(step).marketplace_ids == ("A",)


def test_a_second_look_never_overtakes_live_looks() -> None:
    behind = marketplace("A", NOON + HOUR, second_position=NOON)
    assert entered(decide(view_of([behind], now=NOON + 9 * DAY, polled_at=NOON + HOUR))).kind == "live"
    held = window(upper=NOON + HOUR, owner="another process", claimed_until=NOON + 9 * DAY + MINUTE)
    late = view_of([behind], [held], now=NOON + 9 * DAY, polled_at=NOON + 9 * DAY)
    assert isinstance(decide(late), Wait)


def test_each_settled_range_is_read_once_by_created_time() -> None:
    due = NOON + SETTLED_SPAN + deciding.SETTLED_AFTER
    at = marketplace("A", due, live_from=NOON, second_position=due, settled_position=NOON)
    early = due - SECOND
    assert isinstance(decide(view_of([at], now=early, amazon_now=early, polled_at=early)), Wait)
    step = planned(decide(view_of([at], now=due, amazon_now=due, polled_at=due)))
    walk = entered(step)
    assert (walk.kind, walk.axis, walk.lower, walk.upper) == ("sweep", "created", NOON, NOON + SETTLED_SPAN)
    assert moved(step.effects)["A"].settled_position == walk.upper


def test_a_marketplace_that_was_in_trouble_is_settled_where_it_stopped_until_it_meets_the_others() -> None:
    now = NOON + 9 * DAY
    at = {"live_from": NOON, "second_position": now}
    front = marketplace("A", now, **at, settled_position=NOON + DAY)
    away = marketplace("B", now, **at, settled_position=NOON, alone_since=NOON)
    walk = entered(decide(view_of([front, away], now=now, amazon_now=now, polled_at=now)))
    assert (walk.marketplace_ids, walk.lower) == (("A",), NOON + DAY)
    away = replace(away, alone_since=None)
    step = planned(decide(view_of([front, away], now=now, amazon_now=now, polled_at=now)))
    assert (entered(step).marketplace_ids, entered(step).lower) == (("B",), NOON)
    assert moved(step.effects)["B"].settled_position == NOON + SETTLED_SPAN
    away = replace(away, settled_position=NOON + DAY - HOUR)
    step = planned(decide(view_of([front, away], now=now, amazon_now=now, polled_at=now)))
    assert (entered(step).marketplace_ids, entered(step).lower) == (("A", "B"), NOON + DAY - HOUR)
    assert {m.settled_position for m in moved(step.effects).values()} == {entered(step).upper}


def test_settled_days_that_left_amazons_list_are_not_read() -> None:
    now = NOON + 999 * DAY
    at = marketplace("A", now, live_from=NOON, second_position=now, settled_position=NOON)
    walk = entered(decide(view_of([at], now=now, amazon_now=now, polled_at=now)))
    assert walk.lower == now - LISTED_FOR


def test_second_looks_come_before_settled_days() -> None:
    now = NOON + 3 * DAY
    assert entered(decide(seen(now, settled_position=NOON))).axis == "updated"
    half_way = window(kind="sweep", axis="created", page_token="t", walk_started_at=now)
    first = marketplace("A", now, live_from=NOON, second_position=NOON)
    step = decide(view_of([first], [half_way], now=now, amazon_now=now, polled_at=now))
    assert entered(step).axis == "updated"


# --- pace -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "seconds"),
    [(timedelta(0), 180), (HOUR, 270), (2 * HOUR, 360), (4 * HOUR, 540), (9 * HOUR, 600)],
)
def test_late_second_looks_stretch_the_time_between_looks_up_to_ten_minutes(
    late: timedelta, seconds: float
) -> None:
    now = NOON + DAY + SECOND_LOOK_SPAN + late
    assert deciding.pace(seen(now)).total_seconds() == seconds


def test_a_second_look_is_late_once_its_page_is_full() -> None:
    now = NOON + DAY + HOUR
    assert deciding.pace(seen(now, second_edge=NOON + HOUR)).total_seconds() == 180
    assert deciding.pace(seen(now, second_edge=NOON)).total_seconds() == pytest.approx(270, abs=0.1)


def test_a_late_settled_day_stretches_it_more_slowly() -> None:
    now = NOON + SETTLED_SPAN + deciding.SETTLED_AFTER + 12 * HOUR
    at = marketplace("A", now, live_from=NOON, second_position=now, settled_position=NOON)
    view = view_of([at], now=now, amazon_now=now, polled_at=now)
    assert deciding.pace(view).total_seconds() == 270


def test_the_default_plan_carries_the_changes_of_eight_thousand_orders_a_day() -> None:
    """The busy worlds of ``test_sync_worlds`` show that it does: three changes each."""
    view = view_of([marketplace("A")], changes_per_second=0.25)
    assert deciding.carried_per_day(view.bucket) == pytest.approx(3 * 8_000, rel=0.03)
    assert deciding.changes_per_day(view.source) == 21_600


def test_beside_a_backfill_looks_are_at_most_ten_minutes_apart_and_only_while_tokens_are_scarce() -> None:
    view = view_of([marketplace("A")], tokens=1.9)
    assert deciding.pace(view, beside_backfill=True).total_seconds() == 600
    assert deciding.pace(replace(view, pace=Pace(180, 420)), beside_backfill=True).total_seconds() == 420
    leaving_half = deciding.pace(replace(view, pace=Pace(180, 300)), beside_backfill=True)
    assert leaving_half.total_seconds() == pytest.approx(2 / view.bucket.rate)
    assert deciding.pace(replace(view, pace=Pace(3600, 7200)), beside_backfill=True).total_seconds() == 3600
    plenty = view_of([marketplace("A")], tokens=2.0)
    assert deciding.pace(plenty, beside_backfill=True).total_seconds() == 180


# --- history ----------------------------------------------------------------------------------------


def test_history_is_read_newest_first_down_to_its_day() -> None:
    due: dict[str, Any] = {"polled_at": NOON + HOUR}
    step = planned(decide(view_of([marketplace("A")], backfills=[backfill()], **due)))
    walk = entered(step)
    assert (walk.lower, walk.upper) == (NOON - deciding.BACKFILL_FIRST_SPAN, NOON)
    assert (walk.kind, walk.axis, walk.backfill_id) == ("backfill", "created", 1)
    assert effects_of(step.effects, AdvanceBackfill) == [AdvanceBackfill(1, walk.lower)]
    last = backfill(position=NOON - 90 * DAY + HOUR, span_seconds=86400.0)
    assert entered(decide(view_of([marketplace("A")], backfills=[last], **due))).lower == NOON - 90 * DAY


def test_history_that_is_paused_is_not_read_on() -> None:
    half = window(kind="backfill", axis="created", backfill_id=1)
    due: dict[str, Any] = {"polled_at": NOON + HOUR}
    assert fetched(decide(view_of([marketplace("A")], [half], backfills=[backfill()], **due))) == half
    assert isinstance(decide(view_of([marketplace("A")], [half], polled_at=NOON + HOUR)), Wait)


def test_history_that_cannot_begin_yet_does_not_stop_other_history() -> None:
    future = backfill(lower=NOON + DAY, upper=NOON + 2 * DAY, position=NOON + 2 * DAY)
    other = backfill(backfill_id=2, requests=50)
    step = decide(view_of([marketplace("A")], backfills=[future, other], polled_at=NOON + HOUR))
    assert entered(step).backfill_id == 2


# --- whose turn it is -------------------------------------------------------------------------------


def test_the_last_token_is_kept_for_the_look_that_is_due_before_the_next_one_comes() -> None:
    sweep = window(kind="sweep")
    view = view_of([marketplace("A")], [sweep], tokens=1.0, polled_at=NOON + HOUR)
    soon = replace(view, pace=Pace(60, 60))
    assert decide(soon) == Wait(NOON + HOUR + MINUTE, True, "the request budget is used up")
    assert fetched(decide(view)) == sweep


def test_while_live_looks_are_held_up_all_else_goes_on() -> None:
    held = window(owner="another process", claimed_until=NOON + 3 * DAY + MINUTE)
    step = decide(
        view_of(
            [marketplace("A")], [held], now=NOON + 3 * DAY, tokens=2.0, polled_at=NOON, backfills=[backfill()]
        )
    )
    assert entered(step).kind == "backfill"


@pytest.mark.parametrize(("turns", "kind"), [(7, "live"), (8, "backfill")])
def test_after_eight_requests_for_others_a_waiting_backfill_has_its_turn(turns: int, kind: str) -> None:
    view = view_of([marketplace("A")], backfills=[backfill()], turns={"backfill": turns})
    assert entered(decide(view)).kind == kind


@pytest.mark.parametrize(("late", "kind"), [(11 * HOUR, "live"), (13 * HOUR, "sweep")])
def test_a_sweep_has_its_turn_before_a_live_look_only_when_it_is_much_too_late(
    late: timedelta, kind: str
) -> None:
    now = NOON + DAY + SECOND_LOOK_SPAN + late
    first = marketplace("A", now - HOUR, live_from=NOON, second_position=NOON)
    view = view_of([first], now=now, amazon_now=now, turns={"sweep": 99})
    assert entered(decide(view)).kind == kind


def test_a_crowded_second_takes_turns_with_looks_that_are_always_due() -> None:
    crowd = window(lower=NOON - SECOND, upper=NOON, page_token="t")
    view = view_of([marketplace("A", NOON + MINUTE)], [crowd], polled_at=NOON)
    look = entered(decide(view))
    assert look.kind == "live"
    first = replace(
        view, windows=(crowd, replace(look, window_id=2)), source=replace(view.source, polled_at=view.now)
    )
    step = decide(first)
    assert isinstance(step, Fetch)
    assert (step.window.window_id, step.turns["crowd"]) == (2, 1)
    then = decide(replace(view, source=replace(view.source, turns=step.turns)))
    assert isinstance(then, Fetch)
    assert (then.window, then.turns["crowd"]) == (crowd, 0)


def test_turns_count_what_waited() -> None:
    live, walk = window(), window(kind="backfill", axis="created", backfill_id=1, window_id=2)
    step = decide(view_of([marketplace("A")], [live, walk], backfills=[backfill()], turns={"backfill": 3}))
    assert isinstance(step, Fetch)
    assert (step.window, step.turns) == (live, {"sweep": 0, "backfill": 4})


def test_planning_moves_only_what_it_planned_for() -> None:
    step = planned(decide(view_of([marketplace("A"), marketplace("B", NOON - 9 * DAY)])))
    assert [e.progress.marketplace_id for e in effects_of(step.effects, SaveMarketplace)] == ["A"]
