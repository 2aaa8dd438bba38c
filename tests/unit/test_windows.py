"""What is read next, and what becomes of a window: stories, properties, and months of decisions at random.

``Ledger`` is the database in miniature: it does with a decision what ``poller.sync.run`` does, without
orders.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import PAGE_SIZE
from poller.backfill import history
from poller.sync import windows
from poller.sync.windows import (
    ATTEMPTS,
    NARROWEST,
    OVERLAP,
    TURN,
    Enter,
    Pace,
    Prove,
    Read,
    Replace,
    View,
    Wait,
    decide,
)
from store.bucket import Bucket, spend
from store.progress import (
    Backfill,
    Failure,
    Interval,
    MarketplaceProgress,
    SourceProgress,
    Window,
    WindowKind,
    gaps,
    joined,
)

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=s) for s in (1, 60, 3600, 86400))
CLOCKS_APART = timedelta(seconds=7)
"""Amazon's clock is this much ahead of ours, so that a mix-up shows."""


def window(**changed: Any) -> Window:
    values: dict[str, Any] = {
        "source": "acme:EU",
        "account": "acme",
        "kind": "live",
        "axis": "updated",
        "marketplace_ids": ("A",),
        "included_data": (),
        "lower": NOON - HOUR,
        "upper": NOON,
        "window_id": 1,
    }
    return Window(**{**values, **changed})


def marketplace(marketplace_id: str, position: datetime = NOON, **changed: Any) -> MarketplaceProgress:
    live_from = changed.pop("live_from", NOON)
    second = changed.pop("second_position", max(live_from, position - DAY))
    return MarketplaceProgress("acme", marketplace_id, "acme:EU", live_from, position, second, **changed)


def view_of(
    marketplaces: Sequence[MarketplaceProgress],
    pending: Sequence[Window] = (),
    *,
    now: datetime = NOON + HOUR,
    tokens: float = 20.0,
    backfills: Sequence[Backfill] = (),
    amazon_now: datetime | None = None,
    **source: Any,
) -> View:
    return View(
        source=SourceProgress("acme:EU", "acme", **{"created_pass_at": now, **source}),
        marketplaces={m.marketplace_id: m for m in marketplaces},
        included_data={m.marketplace_id: ("BUYER",) for m in marketplaces},
        windows=pending,
        backfills=backfills,
        now=now,
        amazon_now=amazon_now or now + CLOCKS_APART,
        bucket=Bucket(0.0056, 20.0, tokens, now),
        pace=Pace(180, 900),
        owner="me",
    )


def backfill(**changed: Any) -> Backfill:
    values: dict[str, Any] = {
        "backfill_id": 1,
        "account": "acme",
        "marketplace_id": "A",
        "reason": "start_date",
        "lower": NOON - 90 * DAY,
        "upper": NOON,
        "position": NOON,
        "state": "running",
    }
    return Backfill(**{**values, **changed})


def entered(decision: windows.Decision) -> Window:
    assert isinstance(decision, Enter), decision
    (only,) = decision.windows
    return only


def read(decision: windows.Decision) -> Window:
    assert isinstance(decision, Read), decision
    return decision.window


# --- what becomes of a window -----------------------------------------------------------------------


def test_halves_start_from_their_first_page_and_are_held_by_nobody() -> None:
    busy = window(page_token="t", pages=4, orders=400, owner="me", claimed_until=NOON, version=7)
    for half in windows.halves_of_time(busy):
        assert (half.state, half.page_token, half.pages, half.orders) == ("open", None, 0, 0)
        assert (half.owner, half.claimed_until, half.version, half.window_id) == (None, None, 0, 0)


def test_what_is_too_narrow_to_halve_is_walked_again_as_it_is() -> None:
    narrow = window(lower=NOON - SECOND, pages=3, page_token="t")
    assert windows.halves_of_time(narrow) == (replace(narrow, window_id=0, pages=0, page_token=None),)


@given(st.integers(2_000_000, 10**13), st.integers(0, 999_999))
def test_halves_together_cover_the_window_exactly(width: int, offset: int) -> None:
    lower = NOON + timedelta(microseconds=offset)
    whole = window(lower=lower, upper=lower + timedelta(microseconds=width))
    first, second = windows.halves_of_time(whole)
    assert (first.lower, first.upper, second.upper) == (whole.lower, second.lower, whole.upper)
    assert first.upper.microsecond == 0
    assert max(first.upper - first.lower, second.upper - second.lower) < whole.upper - whole.lower


@given(st.integers(0, 40_000_000))
def test_halving_again_and_again_ends(width: int) -> None:
    parts = [window(upper=NOON + timedelta(microseconds=width), lower=NOON)]
    for _ in range(7):
        parts = [half for part in parts for half in windows.halves_of_time(part)]
    assert max(p.upper - p.lower for p in parts) < 2 * NARROWEST
    assert joined([Interval(p.lower, p.upper) for p in parts])[0].upper == parts[-1].upper


@given(st.integers(2, 50))
def test_halves_of_marketplaces_together_are_all_of_them_once(many: int) -> None:
    ids = tuple(f"M{i:02}" for i in range(many))
    first, second = windows.halves_of_marketplaces(window(marketplace_ids=ids))
    assert first.marketplace_ids + second.marketplace_ids == ids
    assert abs(len(first.marketplace_ids) - len(second.marketplace_ids)) <= 1


@given(st.sets(st.sampled_from("ABCDE"), min_size=1), st.sets(st.sampled_from("ABCDE")))
def test_parting_forgets_no_marketplace(ids: set[str], leaving: set[str]) -> None:
    parts = windows.parted(window(marketplace_ids=tuple(sorted(ids))), leaving)
    assert sorted(m for part in parts for m in part.marketplace_ids) == sorted(ids)
    assert all(set(p.marketplace_ids) <= leaving or not set(p.marketplace_ids) & leaving for p in parts)


def test_a_walk_that_has_ended_stands_for_each_part_but_one_on_its_way_begins_anew() -> None:
    ended = window(marketplace_ids=("A", "B"), state="unproven", walk_ended_at=NOON, pages=2)
    assert {(p.state, p.walk_ended_at) for p in windows.parted(ended, {"B"})} == {("unproven", NOON)}
    under_way = window(marketplace_ids=("A", "B"), page_token="t", walk_started_at=NOON, pages=2)
    assert {(p.state, p.page_token, p.pages) for p in windows.parted(under_way, {"B"})} == {("open", None, 0)}


def test_back_off_doubles_and_is_bounded() -> None:
    assert [windows.backoff(n).total_seconds() for n in (1, 2, 3, 5, 6, 1000)] == [30, 60, 120, 480, 900, 900]


@pytest.mark.parametrize(
    ("kind", "longest"), [("live", 6 * HOUR), ("sweep", 6 * HOUR), ("backfill", 6 * HOUR)]
)
def test_the_fifth_failure_sets_a_window_aside_and_later_ones_wait_longer(
    kind: str, longest: timedelta
) -> None:
    now, pauses = NOON, []
    failing = window(kind=kind)
    for attempt in range(1, 40):
        failing = windows.failed(failing, Failure("no answer"), now)
        assert failing.state == ("open" if attempt < ATTEMPTS else "set_aside")
        assert failing.retry_at is not None
        pauses.append(failing.retry_at - now)
        now = failing.retry_at
    assert pauses[: ATTEMPTS - 1] == sorted(pauses[: ATTEMPTS - 1])
    assert pauses[ATTEMPTS - 1] == 15 * MINUTE
    assert max(pauses[:12]) == (HOUR if kind == "live" else longest)
    assert pauses[-1] == longest


def test_a_failed_window_is_released_but_keeps_its_page_token() -> None:
    failing = windows.failed(
        window(owner="me", claimed_until=NOON, page_token="t"), Failure("no answer"), NOON
    )
    assert (failing.owner, failing.claimed_until, failing.page_token) == (None, None, "t")


def test_a_group_that_is_refused_with_400_is_halved_at_once() -> None:
    changed, parts = windows.refused(window(marketplace_ids=("A", "B", "C")), Failure("no", status=400), NOON)
    assert changed.state == "cancelled"
    assert [p.marketplace_ids for p in parts] == [("A",), ("B", "C")]


def test_a_403_is_believed_at_the_second_time_only() -> None:
    changed, parts = windows.refused(window(marketplace_ids=("A", "B")), Failure("no", status=403), NOON)
    assert (changed.state, changed.attempts, parts) == ("open", 1, ())
    changed, parts = windows.refused(changed, Failure("no", status=403), NOON)
    assert changed.state == "cancelled"
    assert [p.attempts for p in parts] == [0, 0]


def test_narrowing_down_leaves_only_the_refused_marketplace_aside() -> None:
    ids = tuple("ABCDEFGHI")
    open_ones = [window(marketplace_ids=ids)]
    good: set[str] = set()
    aside: set[str] = set()
    requests = 0
    while open_ones:
        asked = open_ones.pop()
        requests += 1
        if "D" not in asked.marketplace_ids:
            good.update(asked.marketplace_ids)
            continue
        changed, parts = windows.refused(asked, Failure("not enrolled", status=400), NOON)
        if changed.state == "set_aside":
            aside.update(changed.marketplace_ids)
        elif changed.state == "open":
            open_ones.append(changed)
        open_ones += parts
    assert (good, aside) == (set(ids) - {"D"}, {"D"})
    assert requests < 20


def test_a_walk_that_cannot_go_on_is_repeated_in_halves_and_at_last_set_aside() -> None:
    level = [window(page_token="t", pages=3)]
    for expected in range(1, ATTEMPTS):
        (changed, halves), *_ = [windows.restarted(w, Failure("expired"), NOON) for w in level]
        assert changed.state == "cancelled"
        assert changed.page_token is None
        assert {w.attempts for w in halves} == {expected}
        level = list(halves)
    aside, parts = windows.restarted(level[0], Failure("expired"), NOON)
    assert (aside.state, aside.page_token, parts) == ("set_aside", None, ())


def page(read_window: Window, **changed: Any) -> Window:
    values: dict[str, Any] = {
        "next_token": None,
        "orders": 10,
        "echoed_before": None,
        "amazon_now": NOON + MINUTE,
    }
    return windows.page_read(read_window, **{**values, **changed})


def test_a_window_of_one_page_is_done() -> None:
    assert page(window()).state == "done"


def test_a_live_window_of_several_pages_is_unproven_when_it_ends() -> None:
    first = page(window(), next_token="t", orders=100)
    assert (first.state, first.page_token, first.walk_started_at) == ("open", "t", NOON + MINUTE)
    last = page(first, amazon_now=NOON + HOUR)
    assert (last.state, last.walk_started_at, last.walk_ended_at) == (
        "unproven",
        NOON + MINUTE,
        NOON + HOUR,
    )
    assert (last.pages, last.orders) == (2, 110)


@pytest.mark.parametrize("kind", ["sweep", "backfill"])
def test_lists_by_created_time_do_not_shift_and_are_done_at_their_last_page(kind: str) -> None:
    assert page(page(window(kind=kind, axis="created"), next_token="t")).state == "done"


def test_a_second_look_of_several_pages_has_to_be_proven_too() -> None:
    assert page(page(window(kind="sweep"), next_token="t")).state == "unproven"
    assert page(window(kind="sweep")).state == "done"


def test_what_cannot_be_halved_any_more_counts_as_read() -> None:
    assert page(page(window(lower=NOON - SECOND), next_token="t")).state == "done"


def test_coverage_ends_at_the_smaller_bound() -> None:
    assert page(window(), echoed_before=NOON - MINUTE).upper == NOON - MINUTE
    assert page(window(), echoed_before=NOON + MINUTE).upper == NOON
    assert page(window(), echoed_before=NOON - DAY).upper == NOON - HOUR


def test_a_page_that_was_read_ends_a_row_of_failures() -> None:
    assert page(window(attempts=3, retry_at=NOON, last_error=Failure("x")), next_token="t").attempts == 0
    back = page(window(state="set_aside", attempts=7, retry_at=NOON), next_token="t")
    assert (back.state, back.attempts, back.retry_at) == ("open", 7, None)


def test_what_a_smaller_bound_left_over_is_not_asked_for_in_a_loop() -> None:
    rest = window()
    for _ in range(ATTEMPTS):
        rest = windows.remaining(rest, rest.lower, rest.upper, NOON)
        assert rest.retry_at is not None
        assert rest.retry_at > NOON
    assert rest.state == "set_aside"


@given(st.integers(0, 10**6), st.floats(0.0005, 10), st.integers(1, 30))
def test_the_next_stretch_of_history_is_sized_to_the_density_measured(
    orders: int, rate: float, days: int
) -> None:
    done = window(kind="backfill", axis="created", lower=NOON - days * DAY, orders=orders)
    span = windows.next_span(done, rate)
    assert HOUR <= span <= max(history.WINDOW_SPAN, HOUR)
    assert span <= max(4 * days * DAY, HOUR)
    if orders and span > HOUR:
        pages = orders * (span / (days * DAY)) / PAGE_SIZE
        assert pages / rate <= history.WINDOW_WALK.total_seconds() * 1.01


# --- what is done next ------------------------------------------------------------------------------


def test_live_reading_goes_from_the_last_bound_less_the_overlap_to_the_signpost_by_amazons_clock() -> None:
    step = decide(view_of([marketplace("A"), marketplace("B")], now=NOON + HOUR))
    live = entered(step)
    assert live.lower == NOON - OVERLAP
    assert live.upper == NOON + HOUR + CLOCKS_APART - windows.SIGNPOST_MARGIN
    assert live.marketplace_ids == ("A", "B")
    assert isinstance(step, Enter)
    assert [m.position for m in step.marketplaces] == [live.upper, live.upper]
    assert step.polled


def test_bounds_are_whole_seconds() -> None:
    odd = NOON + HOUR + timedelta(microseconds=654_321)
    assert entered(decide(view_of([marketplace("A")], amazon_now=odd))).upper.microsecond == 0


def test_a_window_holds_what_any_of_its_marketplaces_wants() -> None:
    view = view_of([marketplace("A"), marketplace("B")])
    wanted = replace(view, included_data={"A": ("BUYER", "PACKAGES"), "B": ("BUYER", "EXPENSE")})
    assert entered(decide(wanted)).included_data == ("BUYER", "EXPENSE", "PACKAGES")


def test_after_an_outage_live_reading_catches_up_in_stretches_without_waiting_for_its_pace() -> None:
    view = view_of([marketplace("A", NOON - 2 * DAY)], polled_at=NOON + HOUR)
    step = decide(replace(view, now=NOON + HOUR + 200 * SECOND))
    live = entered(step)
    assert live.upper - live.lower == windows.LIVE_SPAN + OVERLAP
    assert isinstance(step, Enter)
    assert not step.polled


def test_a_clock_that_jumped_back_starts_nothing() -> None:
    behind = [marketplace("A", NOON), marketplace("B", NOON - 3 * HOUR)]
    step = decide(view_of(behind, amazon_now=NOON - DAY, now=NOON + HOUR))
    assert isinstance(step, Wait)


def test_while_a_live_window_is_being_read_no_second_one_is_entered() -> None:
    ours = window(upper=NOON, claimed_until=NOON + DAY, owner="somebody else")
    assert isinstance(decide(view_of([marketplace("A")], [ours])), Wait)


def test_a_claim_that_ran_out_is_no_obstacle() -> None:
    left = window(upper=NOON, claimed_until=NOON, owner="somebody else")
    assert read(decide(view_of([marketplace("A")], [left]))) == left


def test_a_marketplace_that_was_away_is_caught_up_without_holding_up_the_others() -> None:
    away = [marketplace("A", NOON), marketplace("B", NOON - 30 * DAY)]
    front = entered(decide(view_of(away, now=NOON + HOUR)))
    assert front.marketplace_ids == ("A",)
    polled = [marketplace("A", front.upper), marketplace("B", NOON - 30 * DAY)]
    behind = entered(decide(view_of(polled, now=NOON + HOUR, polled_at=NOON + HOUR)))
    assert (behind.marketplace_ids, behind.upper) == (("B",), NOON - 30 * DAY + windows.LIVE_SPAN)


def test_a_marketplace_that_gave_trouble_is_tried_by_itself_before_it_joins_the_others() -> None:
    step = decide(view_of([marketplace("A"), marketplace("B", alone_since=NOON)]))
    assert entered(step).marketplace_ids == ("B",)
    assert isinstance(step, Enter)
    assert not step.polled


def test_a_marketplace_in_known_trouble_is_tried_after_the_others_were_read() -> None:
    polled = [marketplace("A", alone_since=NOON), marketplace("B")]
    failing = window(attempts=2)
    assert entered(decide(view_of(polled, [failing]))).marketplace_ids == ("B",)
    others = window(marketplace_ids=("B",), window_id=2)
    assert read(decide(view_of(polled, [failing, others]))) == others
    assert read(decide(view_of(polled, [failing], polled_at=NOON + HOUR))) == failing


def test_what_has_failed_comes_after_what_has_not() -> None:
    failing, fresh = window(attempts=1), window(marketplace_ids=("B",), window_id=2)
    assert read(decide(view_of([marketplace("A"), marketplace("B")], [failing, fresh]))) == fresh


def test_trouble_is_known_only_where_others_have_none() -> None:
    alone, gone = marketplace("A", alone_since=NOON), marketplace("B", enrolled=False)
    for others, is_known in (
        ([], False),
        ([gone], False),
        ([marketplace("B", alone_since=NOON)], False),
        ([marketplace("B")], True),
    ):
        found = windows.is_known_trouble(window(), {m.marketplace_id: m for m in [alone, *others]})
        assert found is is_known
    both = {"A": alone, "B": marketplace("B"), "C": marketplace("C")}
    assert not windows.is_known_trouble(window(marketplace_ids=("A", "B")), both)
    assert not windows.is_known_trouble(window(marketplace_ids=("X",)), both)


def test_a_marketplace_whose_last_window_is_aside_is_blocked_but_not_for_ever() -> None:
    troubled = marketplace("A", alone_since=NOON)
    aside = window(state="set_aside", attempts=ATTEMPTS, retry_at=NOON + DAY)
    assert isinstance(decide(view_of([troubled], [aside])), Wait)
    again = entered(decide(view_of([troubled], [replace(aside, attempts=ATTEMPTS + 1)])))
    assert again.lower == NOON - OVERLAP


def test_an_old_stretch_that_was_set_aside_holds_up_nobody() -> None:
    old = window(
        upper=NOON - 2 * DAY, lower=NOON - 3 * DAY, state="set_aside", attempts=9, retry_at=NOON + DAY
    )
    assert entered(decide(view_of([marketplace("A", alone_since=NOON)], [old]))).marketplace_ids == ("A",)


def test_a_marketplace_that_the_seller_left_is_parted_from_the_window_and_waits() -> None:
    both = window(marketplace_ids=("A", "B"), page_token="t")
    gone = marketplace("B", enrolled=False)
    step = decide(view_of([marketplace("A"), gone], [both]))
    assert isinstance(step, Replace)
    assert [p.marketplace_ids for p in step.by] == [("A",), ("B",)]
    alone = replace(step.by[1], window_id=2)
    assert isinstance(decide(view_of([gone], [alone])), Wait)
    assert read(decide(view_of([marketplace("B")], [alone]))) == alone


def test_an_unproven_walk_waits_until_live_reading_has_passed_its_end() -> None:
    walked = window(state="unproven", upper=NOON, walk_started_at=NOON, walk_ended_at=NOON + MINUTE, pages=2)
    polled: dict[str, Any] = {"polled_at": NOON + HOUR}
    assert isinstance(decide(view_of([marketplace("A", NOON)], [walked], **polled)), Wait)
    assert decide(view_of([marketplace("A", NOON + MINUTE)], [walked], **polled)) == Prove(walked)


def test_an_unproven_walk_is_not_proven_by_a_window_that_is_still_open() -> None:
    walked = window(state="unproven", walk_started_at=NOON, walk_ended_at=NOON + MINUTE, pages=2)
    after = window(window_id=2, lower=NOON - OVERLAP, upper=NOON + HOUR)
    assert read(decide(view_of([marketplace("A", NOON + HOUR)], [walked, after]))) == after


def test_an_unproven_walk_proves_nothing_for_a_marketplace_that_is_switched_off() -> None:
    walked = window(marketplace_ids=("A", "B"), state="unproven", walk_ended_at=NOON, pages=2)
    step = decide(view_of([marketplace("A", NOON + HOUR)], [walked]))
    assert isinstance(step, Replace)
    first, second = (replace(p, window_id=i) for i, p in enumerate(step.by, 5))
    assert decide(view_of([marketplace("A", NOON + HOUR)], [first, second])) == Prove(first)
    assert not isinstance(decide(view_of([marketplace("A", NOON + HOUR)], [second])), Prove)


def test_a_page_token_of_20_hours_is_not_used_any_more() -> None:
    old = window(page_token="t", walk_started_at=NOON - 20 * HOUR)
    step = decide(view_of([marketplace("A")], [old], amazon_now=NOON))
    assert isinstance(step, Replace)
    assert [h.page_token for h in step.by] == [None, None]
    young = replace(old, walk_started_at=NOON - 20 * HOUR + SECOND)
    assert read(decide(view_of([marketplace("A")], [young], amazon_now=NOON))) == young


def test_a_source_that_failed_waits_and_says_why() -> None:
    later = NOON + HOUR + 9 * MINUTE
    step = decide(view_of([marketplace("A")], retry_at=later, last_error=Failure("no answer")))
    assert step == Wait(later, False, "no answer", failure=Failure("no answer"))


def test_a_second_look_is_divided_where_its_pages_would_be_full() -> None:
    look = Enter((window(kind="sweep", lower=NOON - 12 * HOUR, upper=NOON),))
    bounds = [NOON - 12 * HOUR, NOON - 3 * HOUR, NOON - 3 * HOUR + MINUTE / 100, NOON - HOUR, NOON]
    parts = windows.divided(look, bounds).windows
    assert [(part.lower, part.upper) for part in parts] == [
        (NOON - 12 * HOUR, NOON - 3 * HOUR),
        (NOON - 3 * HOUR, NOON - HOUR),
        (NOON - HOUR, NOON),
    ]
    assert windows.divided(look, []) == look


def test_times_noted_by_a_clock_that_was_wrong_hold_nothing_up() -> None:
    tomorrow = NOON + DAY + HOUR
    step = decide(
        view_of([marketplace("A")], polled_at=tomorrow, retry_at=tomorrow, created_pass_at=tomorrow)
    )
    assert isinstance(step, Enter)
    assert step.polled


@pytest.mark.parametrize(
    ("pending", "left"),
    [
        ({"state": "set_aside", "attempts": ATTEMPTS, "last_error": Failure("status 500")}, "failed"),
        ({"attempts": 1, "last_error": Failure("status 400")}, "failed"),
        ({"owner": "somebody else", "claimed_until": NOON + MINUTE}, "elsewhere"),
        ({"state": "unproven", "walk_ended_at": NOON + HOUR}, "unproven"),
    ],
)
def test_what_is_left_is_told_when_there_is_nothing_to_read_now(pending: dict[str, Any], left: str) -> None:
    waiting = window(retry_at=NOON + 3 * MINUTE, **pending)
    step = decide(view_of([marketplace("A")], [waiting], now=NOON, polled_at=NOON))
    assert isinstance(step, Wait)
    assert step.left == left


def test_a_marketplace_in_trouble_spends_nothing_on_history_or_second_looks() -> None:
    aside = window(state="set_aside", attempts=ATTEMPTS, retry_at=NOON + 5 * DAY)
    troubled = marketplace("A", NOON, alone_since=NOON, second_position=NOON - 9 * DAY)
    late = view_of([troubled], [aside], now=NOON + 3 * DAY, created_pass_at=NOON, backfills=[backfill()])
    assert isinstance(decide(late), Wait)


def test_an_empty_budget_is_waited_for_and_nothing_is_entered_meanwhile() -> None:
    view = view_of([marketplace("A")], tokens=0.0)
    assert decide(view) == Wait(view.bucket.has_at(1.0), True, "the request budget is used up")


def test_every_closed_stretch_is_looked_at_again_a_day_later() -> None:
    seen = marketplace("A", NOON + 2 * DAY, live_from=NOON, second_position=NOON)
    soon = view_of([seen], now=NOON + 36 * HOUR - MINUTE, polled_at=NOON + 2 * DAY)
    assert isinstance(decide(soon), Wait)
    second = entered(decide(replace(soon, now=NOON + 36 * HOUR, amazon_now=NOON + 36 * HOUR)))
    assert (second.kind, second.axis) == ("sweep", "updated")
    assert (second.lower, second.upper) == (NOON, NOON + windows.SECOND_LOOK_SPAN)


def test_a_second_look_that_waits_for_a_marketplace_switched_off_stops_nobody_elses() -> None:
    seen = marketplace("A", NOON + 3 * DAY, second_position=NOON)
    waits = window(kind="sweep", marketplace_ids=("B",))
    step = decide(view_of([seen], [waits], now=NOON + 3 * DAY, polled_at=NOON + 3 * DAY))
    assert entered(step).marketplace_ids == ("A",)


def test_a_second_look_never_overtakes_live_reading() -> None:
    behind = marketplace("A", NOON + HOUR, second_position=NOON)
    step = decide(view_of([behind], now=NOON + 9 * DAY, polled_at=NOON + HOUR))
    assert entered(step).kind == "live"


def test_once_a_day_the_last_three_days_are_read_by_created_time() -> None:
    late: dict[str, Any] = {"now": NOON + DAY, "polled_at": NOON + DAY}
    pass_now = entered(decide(view_of([marketplace("A", NOON + DAY)], created_pass_at=NOON, **late)))
    assert (pass_now.kind, pass_now.axis) == ("sweep", "created")
    assert pass_now.upper - pass_now.lower == windows.CREATED_PASS_SPAN
    assert isinstance(
        decide(view_of([marketplace("A", NOON + DAY)], created_pass_at=NOON + HOUR, **late)), Wait
    )


def test_history_is_read_newest_first_down_to_its_day() -> None:
    due: dict[str, Any] = {"polled_at": NOON + HOUR}
    step = decide(view_of([marketplace("A")], backfills=[backfill()], **due))
    assert (entered(step).lower, entered(step).upper) == (NOON - windows.BACKFILL_FIRST_SPAN, NOON)
    last = backfill(position=NOON - 90 * DAY + HOUR, span_seconds=86400.0)
    assert entered(decide(view_of([marketplace("A")], backfills=[last], **due))).lower == NOON - 90 * DAY


def test_history_that_is_paused_is_not_read_on() -> None:
    half = window(kind="backfill", axis="created", backfill_id=1)
    due: dict[str, Any] = {"polled_at": NOON + HOUR}
    assert read(decide(view_of([marketplace("A")], [half], backfills=[backfill()], **due))) == half
    assert isinstance(decide(view_of([marketplace("A")], [half], polled_at=NOON + HOUR)), Wait)


def test_history_that_cannot_begin_yet_does_not_stop_other_history() -> None:
    future = backfill(lower=NOON + DAY, upper=NOON + 2 * DAY, position=NOON + 2 * DAY)
    other = backfill(backfill_id=2, requests=50)
    step = decide(view_of([marketplace("A")], backfills=[future, other], polled_at=NOON + HOUR))
    assert entered(step).backfill_id == 2


def test_the_last_token_is_kept_for_the_poll_that_is_due_before_the_next_one_comes() -> None:
    view = view_of([marketplace("A")], backfills=[backfill()], tokens=1.0, polled_at=NOON + HOUR)
    assert decide(replace(view, pace=Pace(60, 60))) == Wait(
        NOON + HOUR + MINUTE, True, "the request budget is used up"
    )
    assert isinstance(decide(view), Enter)


def test_while_live_reading_is_held_up_all_else_goes_on() -> None:
    held = window(owner="somebody else", claimed_until=NOON + 5 * DAY)
    step = decide(
        view_of(
            [marketplace("A")],
            [held],
            now=NOON + 3 * DAY,
            tokens=2.0,
            polled_at=NOON,
            backfills=[backfill()],
        )
    )
    assert entered(step).kind == "backfill"


# --- the ledger in miniature ------------------------------------------------------------------------


@dataclass
class Ledger:
    """Carries out decisions; ``outcome`` is what Amazon does with the requested page."""

    now: datetime
    marketplaces: dict[str, MarketplaceProgress]
    chance: random.Random
    source: SourceProgress = field(default_factory=lambda: SourceProgress("acme:EU", "acme"))
    pace: Pace = field(default_factory=lambda: Pace(180, 900))
    enabled: set[str] = field(default_factory=set)
    backfills: dict[int, Backfill] = field(default_factory=dict)
    pending: dict[int, Window] = field(default_factory=dict)
    seen: dict[tuple[str, str], list[Interval]] = field(default_factory=dict)
    reads: list[tuple[datetime, Window]] = field(default_factory=list)
    trouble: float = 0.0
    length: float = 0.0
    refusing: set[str] = field(default_factory=set)
    down: bool = False

    def __post_init__(self) -> None:
        self.source = replace(self.source, created_pass_at=self.now)
        self.enabled = self.enabled or set(self.marketplaces)
        self.bucket = Bucket(0.0056, 20.0, 20.0, self.now)
        self.number = 0

    @classmethod
    def of(cls, *ids: str, seed: int = 1, **more: Any) -> Ledger:
        start = windows.signpost(NOON)
        known = {i: marketplace(i, start, live_from=start, second_position=start) for i in ids}
        return cls(NOON, known, random.Random(seed), **more)

    def view(self) -> View:
        return View(
            source=self.source,
            marketplaces={m: p for m, p in self.marketplaces.items() if m in self.enabled},
            included_data=dict.fromkeys(self.enabled, ()),
            windows=list(self.pending.values()),
            backfills=[b for b in self.backfills.values() if b.state == "running"],
            now=self.now,
            amazon_now=self.now + CLOCKS_APART,
            bucket=self.bucket.at(self.now),
            pace=self.pace,
            owner="me",
        )

    def enter(self, new: Sequence[Window]) -> None:
        for each in new:
            assert each.upper >= each.lower
            self.number += 1
            self.pending[self.number] = replace(each, window_id=self.number, version=0)

    def close(self, ended: Window, by: Sequence[Window] = ()) -> None:
        del self.pending[ended.window_id]
        self.enter(by)

    def next(self) -> Read | Wait:
        """Decide until there is something to read or to wait for. Fails when that never comes."""
        for _ in range(20 + 8 * len(self.pending)):
            step = decide(self.view())
            if isinstance(step, Read | Wait):
                return step
            if isinstance(step, Enter):
                self.enter(step.windows)
                self.marketplaces |= {m.marketplace_id: m for m in step.marketplaces}
                self.backfills |= {b.backfill_id: b for b in step.backfills}
                if step.polled:
                    self.source = replace(self.source, polled_at=self.now)
                if step.created_pass:
                    self.source = replace(self.source, created_pass_at=self.now)
            elif isinstance(step, Replace):
                self.close(step.window, step.by)
            elif self.chance.random() < self.length:
                self.close(step.window, windows.halves_of_time(replace(step.window, attempts=0)))
            else:
                self.finish(step.window)
        pytest.fail("deciding went round in circles")

    def finish(self, done: Window) -> None:
        self.close(done)
        looks = ["created"] if done.axis == "created" else ["first"] if done.kind == "live" else ["second"]
        for look in looks:
            for m in done.marketplace_ids:
                self.seen[m, look] = joined([*self.seen.get((m, look), ()), Interval(done.lower, done.upper)])
        if done.kind == "live":
            for m in done.marketplace_ids:
                self.marketplaces[m] = replace(self.marketplaces[m], alone_since=None)
        if done.backfill_id is not None:
            history = self.backfills[done.backfill_id]
            span = windows.next_span(done, 0.0056).total_seconds()
            left = any(w.backfill_id == done.backfill_id for w in self.pending.values())
            over = history.position <= history.lower and not left
            self.backfills[done.backfill_id] = replace(
                history, span_seconds=span, state="done" if over else history.state
            )

    def fail(self, failing: Window, changed: Window) -> None:
        """A group that was set aside is narrowed down, a single one is alone from now on."""
        if changed.state == "set_aside" and len(failing.marketplace_ids) > 1:
            parts = [replace(w, attempts=0) for w in windows.halves_of_marketplaces(failing)]
            self.close(failing, parts)
            return
        self.pending[changed.window_id] = changed
        (only, *others) = changed.marketplace_ids
        if changed.state == "set_aside" and changed.kind == "live" and not others:
            self.marketplaces[only] = replace(self.marketplaces[only], alone_since=self.now)

    def fetch(self, step: Read) -> None:
        asked = step.window
        self.bucket, ready = spend(self.bucket, self.now, step.reserve)
        assert ready is None, "a token was promised"
        self.reads.append((self.now, asked))
        self.source = replace(self.source, turns=step.turns)
        self.now += SECOND
        what = self.chance.random()
        if self.down:
            self.source_failed()
            self.fail(asked, windows.failed(asked, Failure("no answer"), self.now))
        elif self.refusing & set(asked.marketplace_ids):
            changed, parts = windows.refused(
                asked, Failure("no", status=self.chance.choice([400, 403])), self.now
            )
            if parts:
                self.close(asked, parts)
            else:
                self.fail(asked, changed)
        elif what < self.trouble / 2:
            self.source_failed()
            self.fail(asked, windows.failed(asked, Failure("no answer"), self.now))
        elif what < self.trouble:
            changed, parts = windows.restarted(asked, Failure("expired"), self.now)
            if parts:
                self.close(asked, parts)
            else:
                self.pending[changed.window_id] = changed
        else:
            self.source = replace(self.source, failures=0, retry_at=None)
            long = self.chance.random() < self.length and asked.upper - asked.lower > 20 * MINUTE
            more = "t" if long else None
            after = windows.page_read(
                asked,
                next_token=more,
                orders=100 if more else self.chance.randrange(100),
                echoed_before=None,
                amazon_now=self.now + CLOCKS_APART,
            )
            self.pending[after.window_id] = after
            if after.state == "done":
                self.finish(after)

    def source_failed(self) -> None:
        failures = self.source.failures + 1
        self.source = replace(self.source, failures=failures, retry_at=self.now + windows.backoff(failures))

    def run_until(self, end: datetime) -> None:
        while self.now < end:
            step = self.next()
            if isinstance(step, Read):
                self.fetch(step)
            else:
                assert step.until > self.now, step
                self.now = min(step.until, end)

    def faults(self) -> Iterator[str]:
        """What is not as promised once all faults are over."""
        for each in self.pending.values():
            if each.kind != "live" or each.upper < self.now - 3 * HOUR:
                yield f"window {each} is still pending"
        for m, progress in self.marketplaces.items():
            if progress.position < self.now - 3 * HOUR:
                yield f"{m}: live reading has only got to {progress.position}"
            reached = max(progress.live_from, progress.position - 3 * HOUR)
            for gap in gaps(self.seen.get((m, "first"), []), progress.live_from, reached):
                yield f"{m}: not seen {gap}"
            if progress.second_position < self.now - 2 * DAY:
                yield f"{m}: the second look has only got to {progress.second_position}"
            for gap in gaps(self.seen.get((m, "second"), []), progress.live_from, progress.second_position):
                yield f"{m}: not looked at again {gap}"
            if progress.alone_since is not None:
                yield f"{m}: still alone"
        for backfill in self.backfills.values():
            if backfill.state != "done":
                yield f"backfill {backfill} is not done"
            seen = self.seen.get((backfill.marketplace_id, "created"), [])
            for gap in gaps(seen, backfill.lower, backfill.upper):
                yield f"{backfill.marketplace_id}: history not seen {gap}"


HISTORY = {1: backfill(position=NOON - DAY, upper=NOON - DAY)}


# --- promises about pace and shares -----------------------------------------------------------------


def live_pauses(ledger: Ledger, since: datetime) -> list[float]:
    times = [t for t, w in ledger.reads if w.kind == "live" and t >= since]
    return [(b - a).total_seconds() for a, b in pairwise(times)]


def test_a_quiet_shop_is_polled_every_180_seconds_also_beside_its_second_looks() -> None:
    ledger = Ledger.of("A", "B")
    ledger.run_until(NOON + 5 * DAY)
    pauses = live_pauses(ledger, NOON + 2 * HOUR)
    assert sum(p <= 185 for p in pauses) / len(pauses) > 0.99
    assert max(pauses) < 900
    assert not list(ledger.faults())


def test_beside_a_backfill_a_shop_is_polled_at_least_every_900_seconds() -> None:
    ledger = Ledger.of("A", "B", backfills=dict(HISTORY), length=0.9)
    ledger.run_until(NOON + HOUR)
    ledger.length = 0.0
    history = [w for t, w in ledger.reads if w.kind == "backfill"]
    ledger.run_until(NOON + 3 * DAY)
    assert history
    assert max(live_pauses(ledger, NOON + 2 * HOUR)) < 1100
    assert ledger.backfills[1].state == "done"


def test_a_whole_month_that_was_missed_does_not_slow_others_below_their_busy_pace() -> None:
    ledger = Ledger.of("A", "B")
    ledger.marketplaces["B"] = replace(ledger.marketplaces["B"], position=NOON - 30 * DAY)
    ledger.run_until(NOON + 12 * HOUR)
    fresh = [t for t, w in ledger.reads if "A" in w.marketplace_ids and w.kind == "live"]
    assert max(b - a for a, b in pairwise(fresh)) <= timedelta(seconds=1260)
    assert ledger.marketplaces["B"].position > NOON


def test_when_live_pages_never_end_every_kind_that_waits_has_its_share() -> None:
    ledger = Ledger.of("A", backfills=dict(HISTORY))
    ledger.run_until(NOON + 3 * DAY)
    ledger.reads.clear()
    ledger.backfills[1] = replace(HISTORY[1], position=NOON - 2 * DAY, lower=NOON - 3000 * DAY)
    ledger.length = 1.0
    ledger.run_until(NOON + 6 * DAY)
    kinds = [w.kind for _, w in ledger.reads]
    for kind in ("sweep", "backfill"):
        share = kinds.count(kind) / len(kinds)
        assert 1 / (TURN + 4) < share < 1 / TURN, (kind, share)
    assert kinds.count("live") / len(kinds) > 0.7


def test_no_request_is_lost_while_there_is_history_to_read() -> None:
    ledger = Ledger.of("A", backfills={1: replace(HISTORY[1], lower=NOON - 9000 * DAY)})
    ledger.length = 0.9
    ledger.run_until(NOON + 2 * DAY)
    assert len(ledger.reads) > 0.95 * (20 + 2 * 86400 * 0.0056)


# --- months of trouble ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]
)
def test_whatever_happened_in_the_end_everything_has_been_seen(seed: int) -> None:
    chance = random.Random(seed)
    ledger = Ledger.of("A", "B", "C", seed=seed, backfills=dict(HISTORY), pace=Pace(3600, 7200))
    for _ in range(8):
        ledger.trouble, ledger.length = chance.choice([0, 0.1, 0.5, 0.9]), chance.choice([0, 0.3, 0.8])
        ledger.down = chance.random() < 0.2
        ledger.refusing = {m for m in ledger.marketplaces if chance.random() < 0.15}
        ledger.enabled = {m for m in ledger.marketplaces if chance.random() < 0.8} or {"A"}
        for m, progress in ledger.marketplaces.items():
            ledger.marketplaces[m] = replace(progress, enrolled=chance.choice([None, True, True, False]))
        ledger.run_until(ledger.now + timedelta(hours=chance.choice([1, 9, 30, 90])))
    ledger.trouble, ledger.length, ledger.down, ledger.refusing = 0.0, 0.0, False, set()
    ledger.enabled = set(ledger.marketplaces)
    for m, progress in ledger.marketplaces.items():
        ledger.marketplaces[m] = replace(progress, enrolled=True)
    ledger.run_until(ledger.now + 9 * DAY)
    assert list(ledger.faults()) == []


def test_an_outage_of_a_week_is_noticed_to_be_over_within_an_hour() -> None:
    ledger = Ledger.of("A", "B", "C")
    ledger.run_until(NOON + HOUR)
    ledger.down = True
    ledger.run_until(NOON + 7 * DAY)
    ledger.down = False
    ledger.run_until(NOON + 7 * DAY + 65 * MINUTE)
    assert any(w.kind == "live" for t, w in ledger.reads if t > NOON + 7 * DAY)
    ledger.run_until(NOON + 10 * DAY)
    assert list(ledger.faults()) == []


def test_a_marketplace_that_is_refused_for_a_month_costs_the_others_little_and_fills_no_ledger() -> None:
    ledger = Ledger.of("A", "B", "C", pace=Pace(900, 900))
    ledger.run_until(NOON + HOUR)
    ledger.refusing = {"B"}
    ledger.run_until(NOON + 30 * DAY)
    assert len(ledger.pending) < 60
    asked = [w for t, w in ledger.reads if t > NOON + 2 * DAY]
    assert sum("B" in w.marketplace_ids for w in asked) < 100 * 30
    assert ledger.marketplaces["A"].position > NOON + 30 * DAY - HOUR
    ledger.refusing = set()
    ledger.run_until(NOON + 45 * DAY)
    assert list(ledger.faults()) == []


# --- deciding ends ----------------------------------------------------------------------------------

IDS = ("A", "B", "C")
around = st.integers(-400, 400).map(lambda hours: NOON + hours * HOUR)
maybe = st.one_of(st.none(), around)


@st.composite
def any_window(draw: st.DrawFn, number: int) -> Window:
    lower = draw(around)
    kind: WindowKind = draw(st.sampled_from(["live", "sweep", "backfill"]))
    return Window(
        source="acme:EU",
        account="acme",
        kind=kind,
        axis="created" if kind == "backfill" else draw(st.sampled_from(["updated", "created"])),
        marketplace_ids=tuple(sorted(draw(st.sets(st.sampled_from(IDS), min_size=1)))),
        included_data=(),
        lower=lower,
        upper=lower + draw(st.sampled_from([timedelta(0), SECOND, MINUTE, HOUR, 6 * HOUR, 9 * DAY])),
        window_id=number,
        state=draw(st.sampled_from(["open", "set_aside", "unproven" if kind == "live" else "open"])),
        page_token=draw(st.sampled_from([None, "t"])),
        walk_started_at=draw(maybe),
        walk_ended_at=draw(maybe),
        attempts=draw(st.integers(0, 9)),
        retry_at=draw(maybe),
        owner=draw(st.sampled_from([None, "me", "somebody else"])),
        claimed_until=draw(maybe),
        backfill_id=draw(st.sampled_from([1, 2])) if kind == "backfill" else None,
    )


@st.composite
def any_ledger(draw: st.DrawFn) -> Ledger:
    known = {
        m: marketplace(
            m,
            draw(around),
            live_from=draw(around),
            second_position=draw(around),
            enrolled=draw(st.sampled_from([None, True, False])),
            alone_since=draw(maybe),
        )
        for m in IDS
    }
    ledger = Ledger(NOON + draw(st.integers(-5, 5)) * DAY, known, random.Random(draw(st.integers(0, 99))))
    ledger.enabled = draw(st.sets(st.sampled_from(IDS), min_size=1))
    ledger.length = draw(st.sampled_from([0.0, 0.5, 1.0]))
    ledger.number = draw(st.integers(0, 5))
    ledger.pending = {n: draw(any_window(n)) for n in range(1, ledger.number + 1)}
    for n in draw(st.sets(st.sampled_from([1, 2]))):
        lower, upper = sorted((draw(around), draw(around)))
        position = draw(st.sampled_from([lower, upper, lower + (upper - lower) / 2]))
        ledger.backfills[n] = backfill(
            backfill_id=n,
            marketplace_id=draw(st.sampled_from(IDS)),
            lower=lower,
            upper=upper,
            position=position,
            span_seconds=draw(st.sampled_from([None, 3600.0, 86400.0 * 30])),
        )
    ledger.source = replace(
        ledger.source,
        polled_at=draw(maybe),
        created_pass_at=draw(maybe),
        turns={"sweep": draw(st.integers(0, 20)), "backfill": draw(st.integers(0, 20))},
        retry_at=draw(st.one_of(st.none(), st.none(), around)),
    )
    ledger.bucket = replace(ledger.bucket, tokens=draw(st.floats(0, 20)))
    return ledger


@settings(max_examples=250, deadline=None)
@given(any_ledger())
def test_from_any_state_deciding_ends_in_something_to_read_or_a_time_to_come_back(ledger: Ledger) -> None:
    step = ledger.next()
    if isinstance(step, Wait):
        assert step.until > ledger.now
        return
    assert step.window.window_id in ledger.pending
    assert 0 <= step.reserve <= 1
    assert spend(ledger.bucket, ledger.now, step.reserve)[1] is None
    assert any(m in ledger.enabled for m in step.window.marketplace_ids)
    held = step.window.claimed_until is not None and step.window.claimed_until > ledger.now
    assert not (held and step.window.owner == "somebody else")
