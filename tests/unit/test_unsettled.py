"""A verification with findings stays unsettled until a later one has judged those findings again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from store.verification_records import (
    By,
    FetchOutcome,
    Finding,
    Verification,
    VerificationState,
    unsettled,
)
from tests.harness import NOON

DAY = timedelta(days=1)


def verification(
    number: int,
    days: tuple[float, float] = (-30, 0),
    *missing: float,
    by: By = "report",
    state: VerificationState = "done",
    compared: float | None = None,
    outcome: FetchOutcome | None = None,
) -> Verification:
    """Verification ``number``, made on the day of its number, of orders placed on some days from noon on.

    ``missing``: the days that missing orders were placed on; ``o-3`` is the one of three days before.
    """
    lower, upper = NOON + days[0] * DAY, NOON + days[1] * DAY
    return Verification(
        "acme",
        "UK",
        lower,
        upper,
        upper,
        by,
        "asked",
        False,
        position=upper if compared is None else NOON + compared * DAY,
        verification_id=number,
        state=state,
        findings=tuple(Finding(f"o{day:g}", "missing", NOON + day * DAY, None, outcome) for day in missing),
        created_at=NOON + number * DAY,
        finished_at=NOON + number * DAY if state in ("done", "failed") else None,
    )


def left(*verifications: Verification) -> dict[int, list[str]]:
    """What is in sight: by verification, the orders; ``-`` says that a part of it was never compared."""
    return {
        one.verification.verification_id: [f.order_id for f in one.lacking] + ["-"] * one.failed
        for one in unsettled(verifications)
    }


def test_a_narrower_verification_hides_nothing_that_it_has_not_compared() -> None:
    wide = verification(1, (-30, 0), -20, -10, -3)
    assert left(wide, verification(2, (-5, -4))) == {1: ["o-20", "o-10", "o-3"]}
    assert left(wide, verification(2, (-12, -8))) == {1: ["o-20", "o-3"]}
    assert left(wide, verification(2, (-12, 0)), verification(3, (-30, -12))) == {}


def test_a_verification_of_the_same_period_that_came_out_well_settles_it() -> None:
    assert left(verification(1, (-30, 0), -20), verification(2)) == {}
    assert left(verification(1, (-30, 0), -20), verification(2, (-30, 0), -20, outcome="stored")) == {}


def test_what_is_found_again_is_reported_once_by_the_newest() -> None:
    assert left(verification(1, (-30, 0), -20), verification(2, (-30, 0), -20)) == {2: ["o-20"]}
    in_quarantine = verification(2, (-30, 0), -20, outcome="quarantined")
    assert left(verification(1, (-30, 0), -20), in_quarantine) == {2: ["o-20"]}


def test_what_a_report_has_found_is_not_settled_by_a_search_which_need_not_list_it() -> None:
    found = verification(1, (-30, 0), -20)
    assert left(found, verification(2, by="search")) == {1: ["o-20"]}
    assert left(found, verification(2, (-30, 0), -20, by="search", outcome="stored")) == {}
    assert left(verification(1, (-30, 0), -20, by="search"), verification(2)) == {}


def test_a_failed_verification_stays_until_all_that_it_did_not_compare_was_compared() -> None:
    failed = verification(1, (-30, 0), -25, state="failed", compared=-20)
    assert left(failed) == {1: ["o-25", "-"]}
    assert left(failed, verification(2, (-30, -15))) == {1: ["-"]}
    assert left(failed, verification(2, (-20, 0), by="search")) == {1: ["o-25"]}
    assert left(failed, verification(2, (-30, -9)), verification(3, (-9, 0))) == {}


def test_a_verification_that_failed_settles_only_what_it_has_compared() -> None:
    assert left(verification(1, (-30, 0), -20, -3), verification(2, state="failed", compared=-10)) == {
        1: ["o-3"],
        2: ["-"],
    }


def test_one_that_is_going_on_settles_nothing() -> None:
    assert left(verification(1, (-30, 0), -20), verification(2, state="reading", compared=-10)) == {
        1: ["o-20"]
    }


def test_one_that_was_begun_before_the_other_ended_settles_nothing() -> None:
    earlier: datetime = NOON
    assert left(verification(1, (-30, 0), -20), replace(verification(2), created_at=earlier)) == {1: ["o-20"]}


def test_an_order_whose_time_is_not_known_needs_all_of_its_period_compared() -> None:
    found = verification(1, (-30, 0), -20)
    unknown = replace(found, findings=(replace(found.findings[0], created_at=None),))
    assert left(unknown, verification(2, (-29, 0))) == {1: ["o-20"]}
    assert left(unknown, verification(2)) == {}
