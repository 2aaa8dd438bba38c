"""In which forms names, phones and companies are compared (R56)."""

from __future__ import annotations

import pytest

from poller.customers import likeness
from poller.customers.likeness import MAX_ALIKE, MAX_ALL_PAIRS


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (("Ann Buyer", "LS1 1AA", "GB"), ("buyer,  ANN", "ls11aa", "GB"), True),
        (("Zoë Müller", "10115", "DE"), ("Zoe Muller", "10115", "DE"), True),
        (("Ann Buyer", "LS1 1AA", "GB"), ("Ann Buyer", "LS1 1AB", "GB"), False),
        (("Ann Buyer", "10115", "DE"), ("Ann Buyer", "10115", "FR"), False),
        (("Ann Buyer", "10115", "DE"), ("Anna Buyer", "10115", "DE"), False),
    ],
)
def test_r56_the_same_name_at_the_same_postcode(one: tuple, other: tuple, alike: bool) -> None:
    assert (likeness.name_and_postcode(*one) == likeness.name_and_postcode(*other)) is alike


@pytest.mark.parametrize(
    "nothing",
    [(None, "LS1", "GB"), ("Ann", None, "GB"), ("", "", None), ("…", "LS1", "GB"), ("Ann", "-", None)],
)
def test_r56_half_of_a_name_and_postcode_is_like_nothing(nothing: tuple) -> None:
    assert likeness.name_and_postcode(*nothing) is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("+44 1632 960123", "01632 960123", True),
        ("0044 (0)1632-960123", "01632960123", True),
        ("01632 960123", "01632 960124", False),
        ("+1 480-555-0100 ext. 12345", "+1 480-555-0100 x 12345", True),
        ("+1 480-555-0100 ext. 12345", "+1 480-555-0100 ext. 54321", False),
        ("+1 480-555-0100 ext. 12345", "+1 480-555-0100", False),
    ],
)
def test_r56_the_same_phone_with_and_without_its_country_code(one: str, other: str, alike: bool) -> None:
    assert (likeness.phone(one) == likeness.phone(other)) is alike


@pytest.mark.parametrize("nothing", [None, "", "0113", "none", "ext. 1234567"])
def test_r56_too_short_a_phone_is_like_nothing(nothing: str | None) -> None:
    assert likeness.phone(nothing) is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Invented Trading Ltd.", "INVENTED TRADING", True),
        ("Erfundene GmbH & Co. KG", "erfundene", True),
        ("Invented Trading Ltd", "Invented Holding Ltd", False),
        ("Ltd", "LTD", True),
    ],
)
def test_r56_the_same_company_with_and_without_its_legal_form(one: str, other: str, alike: bool) -> None:
    assert (likeness.company(one) == likeness.company(other)) is alike


def test_r56_several_reasons_speak_louder_than_one() -> None:
    assert (
        likeness.score(("company",)) < likeness.score(("phone",)) < likeness.score(("phone", "company")) < 1
    )
    assert likeness.score(()) == 0


def test_r56_few_are_paired_with_each_other_more_with_the_first_and_very_many_not_at_all() -> None:
    assert list(likeness.pairs([5])) == []
    assert len(list(likeness.pairs(range(MAX_ALL_PAIRS)))) == MAX_ALL_PAIRS * (MAX_ALL_PAIRS - 1) / 2
    assert list(likeness.pairs(range(MAX_ALL_PAIRS + 1))) == [(0, i) for i in range(1, MAX_ALL_PAIRS + 1)]
    assert len(list(likeness.pairs(range(MAX_ALIKE)))) == MAX_ALIKE - 1
    assert list(likeness.pairs(range(MAX_ALIKE + 1))) == []
