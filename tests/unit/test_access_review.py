"""What a review of access reports as overdue."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from poller.web.access_review import review
from store.tokens import StoredToken
from store.users import ConsoleUser
from tests.harness import NOON

DAY = timedelta(days=1)
ANN = ConsoleUser(
    "ann", "hash", NOON, True, ("read",), NOON - 200 * DAY, signed_in_at=NOON - DAY, totp_at=NOON - DAY
)
ERP = StoredToken("erp", ("read",), b"x" * 32, NOON - 50 * DAY, NOON + 40 * DAY, NOON - DAY, "192.0.2.7")


def overdue(*, user: ConsoleUser = ANN, token: StoredToken = ERP) -> list[str]:
    found = review([(user, 1)], [token], has_setting=False, now=NOON)
    texts = [*found.users[0].overdue, *found.tokens[0].overdue]
    assert found.overdue == len(texts)
    return texts


def test_nothing_is_overdue_of_what_is_in_use_and_limited() -> None:
    assert overdue() == []


def test_users_are_overdue_by_password_one_time_codes_and_use() -> None:
    assert overdue(user=replace(ANN, password_at=NOON - 366 * DAY)) == ["the password is 366 days old"]
    assert overdue(user=replace(ANN, totp_at=None)) == ["no one-time codes"]
    assert overdue(user=replace(ANN, password=None, totp_at=None)) == []
    assert overdue(user=replace(ANN, signed_in_at=NOON - 90 * DAY)) == ["not signed in for 90 days"]
    assert overdue(user=replace(ANN, signed_in_at=None)) == ["never signed in"]
    assert overdue(user=replace(ANN, signed_in_at=None, created_at=NOON - DAY)) == []


def test_tokens_are_overdue_by_expiry_and_use() -> None:
    assert overdue(token=replace(ERP, expires_at=None)) == ["no expiry"]
    assert overdue(token=replace(ERP, expires_at=NOON)) == ["expired on 2026-06-15"]
    assert overdue(token=replace(ERP, used_at=NOON - 91 * DAY)) == ["not used for 91 days"]
    assert overdue(token=replace(ERP, used_at=None)) == ["never used"]


def test_the_token_of_the_settings_is_named() -> None:
    (token,) = review([], [], has_setting=True, now=NOON).tokens
    assert token.name == "setting:api_token"
    assert token.overdue == ("ORDER_SYNC_API_TOKEN has all scopes and no expiry",)
