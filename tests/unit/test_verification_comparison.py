"""Amazon's list compared with the database: what is missing, and what only looks like it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from poller.verification.comparison import (
    Compared,
    compare,
    covered_ranges,
    halved,
    is_due,
    next_range,
    state_after,
)
from store.progress import Interval
from store.verification_records import FetchOutcome, Finding, Held, Listed, Verification
from tests.harness import NOON

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
LOWER, UPPER = NOON - 30 * DAY, NOON
PLACED = NOON - 10 * DAY


def listed(
    order_id: str = "o1", *, created: datetime | None = PLACED, updated: datetime | None = PLACED
) -> Listed:
    return Listed(order_id, created, updated)


def held(
    order_id: str = "o1",
    *,
    created: datetime = PLACED,
    updated: datetime = PLACED,
    marketplace: str | None = "UK",
    refetched: datetime | None = None,
) -> Held:
    return Held(order_id, marketplace, created, updated, refetched)


def compared(
    amazon: Iterable[Listed], ours: Iterable[Held], quarantined: Iterable[str] = (), **more: Any
) -> Compared:
    values: dict[str, Any] = {
        "marketplace_ids": {"UK"},
        "lower": LOWER,
        "upper": UPPER,
        "start": NOON - 20 * DAY,
        "settled": NOON,
    }
    return compare(amazon, {one.order_id: one for one in ours}, frozenset(quarantined), **{**values, **more})


def kinds(result: Compared) -> dict[str, str]:
    return {finding.order_id: finding.kind for finding in result.findings}


def test_the_same_on_both_sides_is_complete() -> None:
    assert compared([listed()], [held()]) == Compared((), 1, 0)


def test_what_we_do_not_have_is_missing() -> None:
    result = compared([listed("o1"), listed("o2")], [held("o1")])
    assert result.findings == (Finding("o2", "missing", PLACED, PLACED),)
    assert result.listed == 2


def test_a_pending_order_that_is_held_back_is_there() -> None:
    assert compared([listed()], [held(marketplace="UK")]).findings == ()


def test_what_is_listed_twice_counts_once() -> None:
    result = compared([listed(), listed()], [])
    assert (len(result.findings), result.listed) == (1, 1)


def test_orders_from_before_the_start_date_are_not_missing() -> None:
    before = NOON - 20 * DAY - SECOND
    assert compared([listed(created=before)], []) == Compared((), 1, 1)
    assert kinds(compared([listed(created=NOON - 20 * DAY)], [])) == {"o1": "missing"}


def test_an_order_that_could_not_be_understood_is_not_missing() -> None:
    assert kinds(compared([listed()], [], ["o1"])) == {"o1": "quarantined"}
    newer = listed(updated=PLACED + DAY)
    assert kinds(compared([newer], [held()], ["o1"])) == {"o1": "quarantined"}
    assert kinds(compared([listed()], [held()], ["o1"])) == {}


def test_an_order_of_another_channel_is_there_without_its_marketplace() -> None:
    assert compared([listed()], [held(marketplace=None)]).findings == ()


def test_what_the_list_does_not_name_is_unknown_only_in_its_marketplace_and_range() -> None:
    ours = [
        held("o1"),
        held("o2", marketplace=None),
        held("o3", marketplace="DE"),
        held("o4", created=UPPER),
        held("o5", created=LOWER - SECOND),
        held("o6", created=LOWER),
    ]
    assert kinds(compared([], ours)) == {"o1": "unknown", "o6": "unknown"}


@pytest.mark.parametrize(
    ("amazon", "ours", "older"),
    [
        (PLACED + SECOND, PLACED, True),
        (PLACED, PLACED + SECOND, False),
        (PLACED, PLACED + timedelta(milliseconds=900), False),
        (PLACED + timedelta(milliseconds=900), PLACED, False),
        (None, PLACED, False),
    ],
)
def test_a_copy_is_older_by_whole_seconds(amazon: datetime | None, ours: datetime, older: bool) -> None:
    result = compared([listed(updated=amazon)], [held(updated=ours)])
    assert kinds(result) == ({"o1": "older"} if older else {})


def test_updates_that_have_not_been_looked_for_yet_are_not_due() -> None:
    late = listed(updated=NOON + SECOND)
    assert compared([late], [held()]).findings == ()
    assert kinds(compared([late], [held()], settled=NOON + SECOND)) == {"o1": "older"}


def test_what_was_fetched_by_its_id_long_after_the_update_is_all_there_is() -> None:
    update = PLACED + DAY
    soon, late = update + DAY - SECOND, update + DAY
    assert kinds(compared([listed(updated=update)], [held(refetched=soon)])) == {"o1": "older"}
    assert kinds(compared([listed(updated=update)], [held(refetched=late)])) == {}


def test_reports_have_whole_seconds_at_the_edge_of_a_range() -> None:
    lower = LOWER + timedelta(milliseconds=500)
    ours = held(created=lower + timedelta(milliseconds=100))
    assert compared([listed(created=LOWER)], [ours], lower=lower) == Compared((), 1, 0)


def test_what_lies_outside_is_neither_missing_nor_unknown() -> None:
    assert compared([listed(created=UPPER), listed("o2", created=LOWER - SECOND)], []) == Compared((), 0, 0)
    assert compared([listed(created=UPPER)], [held()]) == Compared((), 0, 0)


def test_without_a_time_it_is_taken_to_be_within() -> None:
    assert kinds(compared([listed(created=None, updated=None)], [])) == {"o1": "missing"}


def test_the_worst_comes_first_then_the_oldest() -> None:
    result = compared(
        [
            listed("o1", created=PLACED + DAY),
            listed("o2"),
            listed("o3", updated=PLACED + DAY),
            listed("o4", created=None),
        ],
        [held("o3"), held("o5")],
    )
    assert [f.order_id for f in result.findings] == ["o4", "o2", "o1", "o3", "o5"]


# --- how it is gone about ---------------------------------------------------------------------------

JOB = Verification("acme", "UK", NOON - 70 * DAY, NOON, NOON, "report", "asked", False, NOON - 70 * DAY)


def test_a_long_range_is_compared_in_parts_of_thirty_days() -> None:
    assert next_range(JOB) == (NOON - 70 * DAY, NOON - 40 * DAY)
    assert next_range(replace(JOB, position=NOON - 10 * DAY)) == (NOON - 10 * DAY, NOON)
    assert next_range(replace(JOB, span_seconds=3600.0)) == (
        NOON - 70 * DAY,
        NOON - 70 * DAY + timedelta(hours=1),
    )


def test_halves_do_not_become_too_small() -> None:
    assert halved(JOB) == (15 * DAY).total_seconds()
    assert halved(replace(JOB, position=NOON - timedelta(minutes=5))) == 3600


def test_what_was_stored_is_lacking_no_more_and_what_went_to_quarantine_is() -> None:
    outcomes: tuple[FetchOutcome | None, ...] = (None, "stored", "quarantined", "unreadable", "not_found")
    found = tuple(Finding(str(n), "missing", None, None, outcome) for n, outcome in enumerate(outcomes))
    job = replace(
        JOB, findings=(*found, Finding("x", "older", None, None), Finding("y", "unknown", None, None))
    )
    assert [f.order_id for f in job.lacking] == ["0", "2", "3", "4", "x"]
    assert [f.order_id for f in job.unfetched] == ["0", "x"]


def test_once_a_week_is_due() -> None:
    assert not is_due(NOON, NOON - 6 * DAY, None)
    assert is_due(NOON, NOON - 7 * DAY, None)
    assert not is_due(NOON, NOON - 99 * DAY, NOON - 6 * DAY)
    assert is_due(NOON, NOON - 99 * DAY, NOON - 7 * DAY)


def test_what_was_found_is_fetched_before_the_next_range_is_compared() -> None:
    missing = Finding("x", "missing", None, None)
    begun = replace(JOB, position=NOON - DAY, findings=(missing,))
    assert state_after(begun) == "reading"
    assert state_after(replace(begun, repair=True)) == "repairing"
    asked_for = replace(begun, repair=True, findings=(replace(missing, outcome="not_found"),))
    assert state_after(asked_for) == "reading"
    assert state_after(replace(asked_for, position=NOON)) == "done"


def proven(seen: list[Interval], *, start: datetime = NOON - 99 * DAY) -> list[tuple[float, float]]:
    """Days before noon; live reading began ten days ago."""
    parts = covered_ranges(NOON + timedelta(milliseconds=700), start, NOON - 10 * DAY, seen)
    assert not any(bound.microsecond for part in parts for bound in (part.lower, part.upper))
    return [((part.lower - NOON) / DAY, (part.upper - NOON) / DAY) for part in parts]


def test_the_service_verifies_the_last_thirty_days() -> None:
    assert proven([Interval(NOON - 99 * DAY, NOON - 10 * DAY)]) == [(-30 + SECOND / DAY, 0)]
    assert proven([Interval(NOON - 99 * DAY, NOON - 10 * DAY)], start=NOON - 20 * DAY) == [(-20, 0)]
    assert proven([], start=NOON + DAY) == []


def test_a_gap_does_not_keep_what_is_covered_from_being_verified() -> None:
    assert proven([]) == [(-10, 0)]
    gap = [Interval(NOON - 28 * DAY, NOON - 20 * DAY), Interval(NOON - 15 * DAY, NOON - 10 * DAY)]
    assert proven(gap) == [(-28, -20), (-15, 0)]
    assert proven([Interval(NOON - 20 * DAY, NOON - 20 * DAY + 9 * SECOND)]) == [(-10, 0)]
