"""Settings of a PostgreSQL server, database or user that differ from the usual ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from connectors.simulator.orders import Line
from connectors.simulator.world import Seller, World
from store.engine import create_engine, name_of
from tests.acceptance.command_line import STARTED, Shop, open_shop

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

HARMLESS = {
    "standard_conforming_strings": "off",
    "DateStyle": "'SQL, DMY'",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "TimeZone": "'Asia/Kathmandu'",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-15",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "'50 ms'",
}


@contextmanager
def administrator(url: str) -> Iterator[psycopg.Connection]:
    """Yield a connection to the server's own database."""
    name = sa.make_url(url).database
    with psycopg.connect(
        url.replace("+psycopg", "").replace(f"/{name}?", "/postgres?"), autocommit=True
    ) as connection:
        yield connection


@pytest.fixture(params=[pytest.param("SYSTEM", marks=pytest.mark.long), "DATABASE", "ROLE"])
def odd_database_url(request: pytest.FixtureRequest, database_url: str) -> Iterator[str]:
    """URL of a database whose server, itself or whose user has other settings than ours."""
    names = {"SYSTEM": "", "DATABASE": sa.make_url(database_url).database, "ROLE": "CURRENT_USER"}
    whose = f"{request.param} {names[request.param]}"
    with administrator(database_url) as connection:
        for setting, value in HARMLESS.items():
            if (request.param, setting) != ("SYSTEM", "client_encoding"):  # the server's is its file's only
                connection.execute(f"ALTER {whose} SET {setting} = {value}")
        connection.execute("SELECT pg_reload_conf()")
    yield database_url
    with administrator(database_url) as connection:
        for setting in HARMLESS:
            connection.execute(f"ALTER {whose} RESET {setting}")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(params=["LATIN1", pytest.param("EUC_JP", marks=pytest.mark.long), "SQL_ASCII"])
def odd_encoding(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """URL of an empty database with another encoding than UTF8."""
    name = f"encoding_{request.param.lower()}"
    with administrator(postgres_url) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
        yield postgres_url.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name}")


def buyer(number: int) -> str:
    """Return a name that needs more than Latin letters."""
    return f"日本 \\x{number} 😀"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK",)))
    for number in range(20):
        created = STARTED - timedelta(days=1, minutes=number)
        order_id = f"111-0000000-{number:07}"
        line = Line(f"{order_id}-1", title=buyer(number), gift_message=buyer(number))
        world.order(order_id, created=created, name=buyer(number), lines=(line,))
    with open_shop(tmp_path / "shop", world) as opened:
        yield opened


@on_postgresql
def test_settings_of_the_server_change_nothing_that_is_stored(shop: Shop, odd_database_url: str) -> None:
    shop.environ["ORDER_SYNC_DATABASE_URL"] = odd_database_url
    shop("sync")
    assert "ok     every sealed value opens" in shop("db", "check").lines
    orders = [json.loads(line) for line in shop("export", "orders", "--format", "jsonl").lines]
    names = {buyer(number) for number in range(20)}
    assert {order["buyer_name"] for order in orders} == names
    assert {order["lines"][0]["title"] for order in orders} == names
    assert len(orders) == 20
    engine = create_engine(odd_database_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"
    engine.dispose()


AS_TEXT = {
    "orders": ("buyer",),
    "order_lines": ("gift_message",),
    "customers": ("person",),
    "customer_emails": ("email", "email_hash"),
}
"""Columns of bytes that COPY stored as their text with standard_conforming_strings=off."""


@on_postgresql
def test_values_that_were_stored_as_the_text_of_their_bytes_are_repaired(
    shop: Shop, database_url: str
) -> None:
    shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
    shop("sync")
    before = {what: shop("export", what) for what in ("orders", "customers")}
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        hashes = connection.execute("SELECT * FROM customer_emails ORDER BY 1, 2").fetchall()
        for table, columns in AS_TEXT.items():
            for column in columns:
                connection.execute(f"UPDATE {table} SET {column} = convert_to({column}::text, 'UTF8')")
        connection.execute(
            "UPDATE orders SET delivery = convert_to('\\x01', 'UTF8') WHERE order_id LIKE '%9'"
        )
        checked = shop("db", "check", status=1)
        assert "wrong  sealed value: 62 more do not open" in checked.lines
        assert checked.messages == [
            "`order-sync db check --repair` restores values that were stored as text of their bytes; "
            "`order-sync orders fetch` replaces what Amazon still shows"
        ]
        checked = shop("db", "check", "--repair", status=1)
        assert checked.messages == ["100 values repaired"]
        wrong = [line for line in checked.lines if line.startswith("wrong")]
        assert [line.split(" of ")[0] for line in wrong] == ["wrong  sealed value: orders.delivery"] * 2
        assert connection.execute("SELECT * FROM customer_emails ORDER BY 1, 2").fetchall() == hashes
    assert shop("db", "check", "--repair", status=1).messages == ["0 values repaired"]
    for what, exported in before.items():
        changed = shop("export", what, "--since", exported.messages[-1])
        assert len(changed.lines) == len(exported.lines) == 20
        assert [json.loads(line)["customer_id"] for line in changed.lines]
        for line, same in zip(sorted(exported.lines), sorted(changed.lines), strict=True):
            whole, mended = json.loads(line), json.loads(same)
            if not (what == "orders" and whole["order_id"].endswith("9")):
                assert {key for key in whole if whole[key] != mended[key]} <= {"changed_at", "change_no"}


@pytest.mark.parametrize("command", ["db upgrade", "sync", "run", "db check"])
def test_a_database_that_cannot_hold_every_character_is_refused(
    shop: Shop, odd_encoding: str, command: str
) -> None:
    shop.environ["ORDER_SYNC_DATABASE_URL"] = odd_encoding
    ended = shop(*command.split(), status=1)
    (sentence,) = ended.lines if command == "db check" else [m for m in ended.messages if "error: " in m]
    assert sentence.split("  ")[-1].removeprefix("error: ") == (
        f"the database {name_of(odd_encoding)} cannot be used (its encoding is not UTF8): create one with "
        "ENCODING 'UTF8' TEMPLATE template0 and name it in ORDER_SYNC_DATABASE_URL; pg_dump and psql bring "
        "over what this one holds."
    )
