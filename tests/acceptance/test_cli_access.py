"""Passwords, sessions, expiring tokens and the review of access on the command line."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.simulator.world import Seller, World
from poller.web.passwords import hashed
from poller.web.sign_in import Client, Entered, Wait, by_password
from poller.web.tokens import digest
from store import sessions, tokens, users
from store.engine import Store, Transaction, create_engine
from store.sealing import Sealer
from tests.acceptance.command_line import Result, Shop, open_shop

PASSWORD = "correct horse battery"
ANOTHER = "violet hammer meadow"
HERE = Client("192.0.2.7", "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop", World(Seller("acme", ("UK",)))) as shop:
        yield shop


@pytest.fixture
def with_input(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command with a line on standard input."""

    def command(line: str, *arguments: str, status: int = 0) -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{line}\n"))
        return shop(*arguments, status=status)

    return command


@pytest.fixture
def store(shop: Shop) -> Iterator[Store]:
    """The shop's database, with the user ann."""
    shop("db", "upgrade")
    key = shop.environ["ORDER_SYNC_ENCRYPTION_KEY"]
    opened = Store(create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"]), Sealer([base64.b64decode(key)]))
    kept = hashed(PASSWORD)
    opened.commit(lambda tx: users.add(tx, "ann", kept, ("read",)))
    yield opened
    opened.close()


@pytest.mark.long
def test_passwd_changes_a_password_and_ends_all_sessions(
    shop: Shop, store: Store, with_input: Callable[..., Result]
) -> None:
    assert isinstance(by_password(store, HERE, "ann", PASSWORD), Entered)
    (listed,) = shop("users", "sessions", "ann", "--json").json()
    assert (listed["name"], listed["address"], listed["method"]) == ("ann", HERE.address, "password")
    assert "Firefox on Linux" in shop("users", "sessions").out
    for line, sentence in (
        ("passwordpassword", "easy to guess"),
        (PASSWORD, "one of the user's last 10"),
        ("short", "at least 12"),
    ):
        assert sentence in with_input(line, "users", "passwd", "ann", status=2).err
    done = with_input(ANOTHER, "users", "passwd", "ann")
    assert done.messages == ["user ann has a new password and is signed out everywhere"]
    assert "no one is signed in" in shop("users", "sessions").err
    assert isinstance(by_password(store, HERE, "ann", ANOTHER), Entered)
    assert "no user of that name" in with_input(ANOTHER, "users", "passwd", "bob", status=2).err


@pytest.mark.long
def test_a_user_is_unlocked_and_signed_out_and_loses_one_time_codes(shop: Shop, store: Store) -> None:
    while not isinstance(by_password(store, HERE, "ann", "wrong"), Wait):
        pass
    shop("users", "unlock", "ann")
    assert isinstance(by_password(store, HERE, "ann", PASSWORD), Entered)
    assert "1 session of user ann ended" in shop("users", "end-sessions", "ann").err
    shop("users", "reset-totp", "ann")
    for command in ("unlock", "end-sessions", "reset-totp", "sessions"):
        assert "no user of that name" in shop("users", command, "bob", status=2).err


def test_a_user_without_a_password_signs_in_elsewhere(shop: Shop, store: Store) -> None:
    shop("users", "add", "carla@example.com", "--without-password")
    (carla,) = [u for u in shop("users", "list", "--json").json() if u["name"] != "ann"]
    assert carla["password_at"] is None
    assert not isinstance(by_password(store, HERE, "carla@example.com", ""), Entered)


def test_tokens_expire_after_90_days_unless_their_maker_says_otherwise(shop: Shop, store: Store) -> None:
    for arguments, days in ((("erp",), 90), (("day", "--expires", "1"), 1)):
        said = shop("tokens", "add", *arguments).err
        assert f"expires in {days} day" in said
    assert "never expires" in shop("tokens", "add", "old", "--expires", "never").err
    listed = {t["name"]: t["expires_at"] for t in shop("tokens", "list", "--json").json()}
    assert listed["old"] is None
    until = datetime.fromisoformat(listed["erp"]) - datetime.now(UTC)
    assert timedelta(days=89) < until <= timedelta(days=90)
    table = shop("tokens", "list").out
    assert "(soon)" in table
    for wrong in ("0", "-1", "x", "3651", "9" * 99):
        assert (
            "--expires takes a number of days" in shop("tokens", "add", "x", "--expires", wrong, status=2).err
        )


def test_status_warns_of_tokens_that_expire_soon_or_have_expired(shop: Shop, store: Store) -> None:
    def add(tx: Transaction) -> None:
        tokens.add(tx, "soon", ("read",), digest("s"), valid_for=timedelta(days=13))
        tokens.add(tx, "gone", ("read",), digest("g"), valid_for=timedelta(days=-1))
        tokens.add(tx, "fine", ("read",), digest("f"), valid_for=timedelta(days=20))

    store.commit(add)
    attention = "\n".join(shop("status", "--json").json()["attention"])
    assert "the token soon expires on" in attention
    assert "the token gone expired on" in attention
    assert "fine" not in attention
    assert "(expired)" in shop("tokens", "list").out


def test_a_review_names_what_is_overdue_and_is_recorded(shop: Shop, store: Store) -> None:
    assert isinstance(by_password(store, HERE, "ann", PASSWORD), Entered)
    shop("tokens", "add", "erp", "--expires", "never")
    looked = shop("access", "review", "--no-record")
    assert "this review is not recorded, the first one" in looked.err
    review: dict[str, Any] = shop("access", "review", "--json").json()
    assert review["previous"] is None
    assert [(u["name"], u["sessions"], u["overdue"]) for u in review["users"]] == [
        ("ann", 1, ["no one-time codes"])
    ]
    assert [(t["name"], t["overdue"]) for t in review["tokens"]] == [("erp", ["no expiry"])]
    again = shop("access", "review", ORDER_SYNC_API_TOKEN="x" * 40)
    assert "3 findings; this review is recorded, the last one was on" in again.err
    assert "setting:api_token" in again.out
    with store.read() as tx:
        assert len(sessions.load(tx)) == 1


@pytest.mark.long
def test_the_policy_report_has_evidence_and_no_secret(shop: Shop) -> None:
    token = shop("tokens", "add", "erp").out.strip()
    found = shop("policy", "report", "--json").json()
    states = {item["item"].partition(":")[0]: item["state"] for item in found["items"]}
    assert (states["buyer data"], states["multi-factor authentication"]) == ("met", "not met")
    assert found["versions"]["SQLite"].count(".") >= 1
    text = shop("policy", "report")
    assert " not met, 5 for a person to show" in text.err
    for secret in (token, shop.environ["ORDER_SYNC_ENCRYPTION_KEY"]):
        assert secret not in text.out + text.err
