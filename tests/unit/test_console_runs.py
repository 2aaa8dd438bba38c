"""Runs on one row: neighbours of a source that ended alike without an order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from poller.web.console.runs import Fold, folded
from store.runs import Run, RunOutcome

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def run(
    number: int,
    outcome: RunOutcome | None = "deferred",
    source: str = "acme:EU",
    orders: int = 0,
    message: str | None = "history waits for reports",
) -> Run:
    started = NOON + timedelta(minutes=number)
    finished = None if outcome is None else started + timedelta(seconds=1)
    return Run(number, source, started, finished, outcome, 1, orders, 2, message, 0, 0, 0, 0)


def numbers(folds: list[Fold]) -> list[list[int]]:
    return [[each.run for each in fold.runs] for fold in folds]


def test_equal_neighbours_are_one_row_with_first_and_last_time_and_sums() -> None:
    folds = folded([run(9), run(8), run(7)])
    (fold,) = folds
    assert (fold.state, fold.first_at, fold.newest.run) == ("waiting", NOON + timedelta(minutes=7), 9)
    assert fold.total("requests") == 6


def test_runs_of_other_sources_in_between_do_not_part_neighbours() -> None:
    runs = [run(9), run(8, source="acme:NA"), run(7), run(6, source="acme:NA"), run(5, "complete", "acme:NA")]
    assert numbers(folded(runs)) == [[9, 7], [8, 6], [5]]


def test_another_run_of_the_same_source_parts_them() -> None:
    assert numbers(folded([run(9), run(8, "failed"), run(7)])) == [[9], [8], [7]]


@pytest.mark.parametrize(
    "other",
    [run(8, orders=1), run(8, message="the process is stopping"), run(8, "complete"), run(8, None)],
    ids=["orders", "message", "outcome", "running"],
)
def test_what_differs_stays_a_row_of_its_own(other: Run) -> None:
    assert numbers(folded([run(9), other])) == [[9], [8]]
    assert numbers(folded([other, run(7)])) == [[8], [7]]


def test_runs_that_read_orders_and_those_that_run_are_never_folded() -> None:
    assert numbers(folded([run(9, orders=2), run(8, orders=2)])) == [[9], [8]]
    assert numbers(folded([run(9, None), run(8, None)])) == [[9], [8]]


def test_no_run_is_lost() -> None:
    outcomes: tuple[RunOutcome | None, ...] = (
        "deferred",
        "deferred",
        "failed",
        "complete",
        None,
        "superseded",
    )
    runs = [run(n, outcomes[n % 6], ("a", "b")[n % 2], n % 5 // 4) for n in range(60, 0, -1)]
    folds = folded(runs)
    assert sorted(n for fold in numbers(folds) for n in fold) == list(range(1, 61))
    assert folded([]) == []
    assert {fold.state for fold in folds} == {
        *("waiting", "failed", "complete", "running", "left to another process")
    }
