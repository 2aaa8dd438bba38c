"""``order-sync users``: passwords come from standard input and are never shown."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connectors.simulator.world import Seller, World
from poller.web.passwords import password_matches
from store import tables
from store.engine import create_engine
from tests.acceptance.command_line import Result, Shop, open_shop

PASSWORD = "correct horse battery"

Add = Callable[..., Result]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop", World(Seller("acme", ("UK",)))) as shop:
        yield shop


@pytest.fixture
def add(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Add:
    """``users add`` with a password on standard input."""

    def command(name: str, *arguments: str, password: str = PASSWORD, status: int = 0) -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
        return shop("users", "add", name, *arguments, status=status)

    return command


@pytest.mark.long
def test_of_a_password_only_an_argon2_hash_is_kept(shop: Shop, add: Add) -> None:
    made = add("ann", "--scope", "write", "--scope", "buyer-data")
    assert made.messages == ["user ann may read, write, buyer-data"]
    assert add("bob").messages == ["user bob may read"]
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    with engine.connect() as connection:
        ann, bob = connection.execute(sa.select(tables.console_users)).all()
    engine.dispose()
    assert ann.password.startswith("$argon2id$")
    assert ann.password != bob.password
    assert PASSWORD not in repr((ann, bob))
    assert password_matches(ann.password, PASSWORD)
    assert not password_matches(ann.password, PASSWORD.upper())
    assert not password_matches(None, PASSWORD)
    listed = shop("users", "list", "--json").json()
    assert [(u["name"], u["scopes"], u["totp"]) for u in listed] == [
        ("ann", ["read", "write", "buyer-data"], False),
        ("bob", ["read"], False),
    ]
    assert "argon2" not in shop("users", "list").out


@pytest.mark.long
def test_wrong_users_commands_are_refused_in_one_sentence(shop: Shop, add: Add) -> None:
    for password, problem in (
        ("elevenchars", "a password has at least 12 characters"),
        ("", "a password has at least 12 characters"),
        ("x" * 257, "at most 256"),
        ("aaaaaaaaaaaaaa", "easy to guess"),
        ("Ann-is-my-name", "easy to guess"),
    ):
        refused = add("ann", password=password, status=2)
        assert problem in refused.err
        assert password not in refused.err or not password
    assert "a user's name is made of" in add("A N N", status=2).err
    assert "there is no scope admin" in add("ann", "--scope", "admin", status=2).err
    add("ann")
    assert "user ann exists already" in add("ann", status=2).err
    shop("users", "remove", "ann")
    assert "there is no user of that name" in shop("users", "remove", "ann", status=2).err
    assert "there are no users: add one with `order-sync users add NAME`" in shop("users", "list").err
    assert "there is no user of that name" in shop("users", "link", "ann", status=2).err
