"""What is wrong with a database that cannot be used, in a sentence with the remedy that works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.command import downgrade

from connectors.simulator.world import Seller, World
from poller.bootstrap import Service
from poller.service.presence import Presence
from store import revisions
from store.engine import connections, create_engine
from tests.acceptance.command_line import STARTED, Shop, open_shop

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

OLDER = "0018"
"""A revision without the table ``sellers``."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK",)))
    world.order("111-0000000-0000001", created=STARTED - timedelta(days=1))
    with open_shop(tmp_path / "shop", world) as opened:
        yield opened


def run(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def make_older(url: str) -> None:
    """Let an earlier version of the program have upgraded a database last."""
    engine = create_engine(url)
    with engine.begin() as connection:
        downgrade(revisions._config(connection), OLDER)
    engine.dispose()


def error_of(shop: Shop, *command: str) -> str:
    """Run a command that fails with status 1; return its one error."""
    (sentence,) = (m for m in shop(*command, status=1).messages if m.startswith("error: "))
    return sentence.removeprefix("error: ")


@pytest.mark.parametrize("command", ["run", "sync", "status", "db upgrade"])
def test_a_database_that_a_newer_version_has_upgraded(shop: Shop, database_url: str, command: str) -> None:
    shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
    run(database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert error_of(shop, *command.split()) == (
        "the database is at revision 9999, which this version of the program does not know: run the version "
        "that upgraded it, or a newer one."
    )


@pytest.mark.parametrize("command", ["db upgrade", "sync", "run"])
def test_a_table_of_another_program_in_the_way(shop: Shop, empty_database_url: str, command: str) -> None:
    shop.environ["ORDER_SYNC_DATABASE_URL"] = empty_database_url
    run(empty_database_url, "CREATE TABLE webhooks (a INTEGER)")
    sentence = error_of(shop, *command.split())
    if command != "db upgrade" and empty_database_url.startswith("postgresql"):
        assert sentence.endswith("run `order-sync db upgrade`.")
    else:
        assert sentence == (
            "the upgrade failed and nothing was changed (a table webhooks exists that this program did not "
            "make: rename it, or use a database of your own)."
        )
    engine = create_engine(empty_database_url)
    assert sa.inspect(engine).get_table_names() == ["webhooks"]
    engine.dispose()


@ON_POSTGRESQL
def test_a_transaction_that_holds_a_table_while_the_database_is_upgraded(
    shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections._FURTHER_SETTINGS, "lock_timeout", "500")
    shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
    make_older(database_url)
    with closing(psycopg.connect(database_url.replace("+psycopg", ""))) as reader:
        reader.execute("SELECT count(*) FROM orders")
        sentence = error_of(shop, "db", "upgrade")
    assert "cannot be used (canceling statement due to lock timeout): another session has held" in sentence
    assert "pg_stat_activity" in sentence
    done = f"upgraded from revision {OLDER} at revision {revisions.newest_revision()}"
    assert shop("db", "upgrade").messages[0].endswith(done)


@ON_POSTGRESQL
def test_a_user_without_rights_on_the_tables(shop: Shop, database_url: str) -> None:
    name = sa.make_url(database_url).database
    run(
        database_url,
        "CREATE ROLE reader LOGIN",
        f'GRANT CONNECT ON DATABASE "{name}" TO reader',
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        "REVOKE SELECT ON orders FROM reader",
    )
    try:
        url = sa.make_url(database_url).set(username="reader").render_as_string(hide_password=False)
        shop.environ["ORDER_SYNC_DATABASE_URL"] = url
        assert "cannot be used (permission denied): let the owner of its tables be" in error_of(shop, "sync")
        lines = shop("db", "check", status=1).lines
        assert "wrong  rights: no right to SELECT, INSERT, UPDATE, DELETE on orders" in lines
        assert "wrong  rights: no right to INSERT, UPDATE, DELETE on windows" in lines
    finally:
        run(database_url, "DROP OWNED BY reader", "DROP ROLE reader")


@ON_POSTGRESQL
def test_a_copy_beside_a_running_service_is_refused_before_it_begins(shop: Shop, database_url: str) -> None:
    shop("sync")
    with Service(shop.environ) as service:
        service.open_store(create=False)
        Presence(service, "service").show()
        sentence = error_of(shop, "db", "copy", "--to", database_url)
    assert sentence.startswith(
        f"the service {service.owner.rpartition(':')[0]} runs on this database: stop it"
    )
    run(shop.environ["ORDER_SYNC_DATABASE_URL"], "DELETE FROM processes")
    assert "copied to" in shop("db", "copy", "--to", database_url).messages[-1]


@ON_POSTGRESQL
def test_an_older_database_is_checked_as_far_as_that_is_possible(shop: Shop, database_url: str) -> None:
    shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
    make_older(database_url)
    newest = revisions.newest_revision()
    lines = shop("db", "check", status=1).lines
    versions = f"the database is at revision {OLDER}, this version of the program at {newest}"
    assert f"wrong  schema: {versions}" in lines
    assert "wrong  schema: table sellers is missing" in lines
