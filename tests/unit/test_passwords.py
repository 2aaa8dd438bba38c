"""Passwords: the commonest, short ones and the user's name are refused; age and history count."""

from __future__ import annotations

from datetime import timedelta

import pytest

from poller.errors import Refused
from poller.web import passwords
from poller.web.passwords import MAX_AGE, MIN_AGE, check_age, check_password, days_left, must_change
from poller.web.weak_passwords import pieces
from tests.harness import NOON

_TEXT = """
passwordpassword 123456123456 qwertyuiop12 letmein12345 letmeinletmein Password1234! P@ssw0rd2026
Summer2026!! Welcome12345 iloveyou1234 1q2w3e4r5t6y 1qaz2wsx3edc zaq12wsxcde3 abcabcabcabc
aaaaaaaaaaaaaa 121212121212 adminadmin123 dragonmonkey77 trustno1trustno1 order-sync-2026
Amazon-Seller-1 qazwsxedcrfv 098765432109 Monday-Friday1 FOOTBALLfootball
abcdefghijkl changemechangeme
MICHAELmichael1 hallohallo2025 9876543210123
"""
COMMON = _TEXT.split()


@pytest.mark.parametrize("password", COMMON)
def test_the_commonest_passwords_are_refused_and_not_quoted(password: str) -> None:
    with pytest.raises(Refused, match="easy to guess") as caught:
        check_password("ann", password)
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "blue giraffe piano ladder",
        "x7Gh2kQp9Lm4",
        "xK9#mP2$vL7@",
        "a quiet green lamp",
    ],
)
def test_long_phrases_and_random_texts_are_accepted(password: str) -> None:
    check_password("ann", password)


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("elevenchars", "at least 12"),
        ("", "at least 12"),
        ("x" * 257, "at most 256"),
        ("Ann-is-my-own-word", "contains the user's name"),
    ],
)
def test_short_long_and_named_passwords_are_refused(password: str, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        check_password("ann", password)


def test_a_name_of_two_letters_and_the_domain_of_an_address_forbid_little() -> None:
    check_password("al", "a walrus paints alone")
    with pytest.raises(Refused, match="name"):
        check_password("ann@example.com", "Example.com has walls")


def test_a_password_is_made_of_the_fewest_pieces() -> None:
    assert [pieces(text) for text in ("", "password", "passwordpassword", "password2026", "zq")] == [
        0,
        1,
        2,
        2,
        2,
    ]


def test_a_password_that_is_too_long_takes_the_same_work_and_never_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = passwords.hashed("x" * 256)
    verified: list[str] = []
    hasher = passwords._hasher

    class Counting:
        def verify(self, kept: str, password: str) -> bool:
            verified.append(password)
            return hasher.verify(kept, password)

    monkeypatch.setattr(passwords, "_hasher", Counting())
    assert passwords.password_matches(kept, "x" * 256)
    assert not passwords.password_matches(kept, "x" * 257)
    assert not passwords.password_matches(None, "x" * 257)
    assert verified == ["x" * 256] * 3


def test_one_of_the_last_passwords_is_refused() -> None:
    kept = [passwords.hashed(text) for text in ("violet hammer meadow", "another long phrase")]
    with pytest.raises(Refused, match="last 10"):
        passwords.check_unused("violet hammer meadow", kept)
    passwords.check_unused("a third phrase of words", kept)


def test_a_password_is_changed_after_a_day_and_within_a_year() -> None:
    with pytest.raises(Refused, match="a day later"):
        check_age(NOON, NOON + MIN_AGE - timedelta(seconds=1))
    check_age(NOON, NOON + MIN_AGE)
    assert not must_change(NOON, NOON + MAX_AGE - timedelta(seconds=1))
    assert must_change(NOON, NOON + MAX_AGE)
    assert not must_change(None, NOON)
    assert days_left(NOON, NOON + timedelta(days=350)) is None
    assert days_left(NOON, NOON + timedelta(days=351)) == 14
    assert days_left(NOON, NOON + timedelta(days=400)) == 0
