"""The migrations make exactly the tables that the program works with, on both databases, there and back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from store import revisions, tables
from store.engine import create_engine
from store.revisions import NewerDatabase, UpgradeFailed
from store.tables import metadata


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    opened = create_engine(empty_database_url)
    yield opened
    opened.dispose()


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_an_empty_database_is_called_empty(engine: Engine) -> None:
    assert revisions.revision(engine) is None
    assert revisions.differences(engine) == ["the database is empty"]


@pytest.mark.long
def test_an_upgraded_database_has_exactly_the_tables_of_the_program(engine: Engine) -> None:
    revisions.upgrade(engine)
    assert revisions.differences(engine) == []
    assert revisions.revision(engine) == revisions.newest_revision()
    assert set(sa.inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrations_make_what_the_tables_would_make_themselves(
    engine: Engine, empty_database_url: str
) -> None:
    """Besides what Alembic compares: checks, key columns, and SQLite's tables without row ids."""

    def kind_of(type_: object) -> str:
        """Return a column's type; on SQLite, which knows no lengths, without one."""
        return str(type_).partition("(")[0] if engine.dialect.name == "sqlite" else str(type_)

    def made() -> dict[str, object]:
        found: dict[str, object] = {}
        inspector = sa.inspect(engine)
        for name in metadata.tables:
            found[name] = (
                {c["name"]: (kind_of(c["type"]), c["nullable"]) for c in inspector.get_columns(name)},
                inspector.get_pk_constraint(name)["constrained_columns"],
                sorted(str(c["name"]) for c in inspector.get_check_constraints(name)),
                sorted(str(c["name"]) for c in inspector.get_unique_constraints(name)),
                sorted(str(f["name"]) for f in inspector.get_foreign_keys(name)),
            )
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                query = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index'"
                found["indexes"] = {
                    tuple(row) for row in connection.exec_driver_sql(query) if row.tbl_name in metadata.tables
                }
                query = "SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%'"
                found["without rowid"] = set(connection.exec_driver_sql(query).scalars())
        else:
            found["sequences"] = set(inspector.get_sequence_names())
            with engine.connect() as connection:
                query = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'"
                found["indexes"] = {
                    row.indexdef
                    for row in connection.exec_driver_sql(query)
                    if row.tablename in metadata.tables
                }
        return found

    metadata.create_all(engine)
    by_tables = made()
    metadata.drop_all(engine)
    revisions.upgrade(engine)
    assert made() == by_tables
    if engine.dialect.name == "sqlite":
        assert "order_lines" in set(by_tables["without rowid"])  # type: ignore[call-overload]


@pytest.mark.long
def test_an_upgrade_may_be_repeated_and_loses_nothing(engine: Engine) -> None:
    revisions.upgrade(engine)
    run(engine, "INSERT INTO businesses (account, business) VALUES ('acme', 'acme')")
    revisions.upgrade(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT account FROM businesses").scalars().all() == ["acme"]
    assert revisions.differences(engine) == []


def bring_to(engine: Engine, revision: str) -> None:
    """Upgrade to the newest revision, and go back to this one."""
    revisions.upgrade(engine)
    with engine.begin() as connection:
        command.downgrade(revisions._config(connection), revision)


@pytest.mark.long
def test_down_to_nothing_and_up_again(engine: Engine) -> None:
    bring_to(engine, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    if engine.dialect.name == "postgresql":
        assert sa.inspect(engine).get_sequence_names() == []
    assert revisions.revision(engine) is None
    revisions.upgrade(engine)
    assert revisions.differences(engine) == []


@pytest.mark.long
def test_what_runs_saw_of_their_buyers_is_carried_over_to_the_days(engine: Engine) -> None:
    bring_to(engine, "0012")
    days = "INSERT INTO run_days (source, day, runs, failed, pages, orders, requests) VALUES"
    each = (
        "INSERT INTO runs (source, started_at, pages, orders, requests, identifiable, with_email, with_name)"
    )
    run(
        engine,
        f"{days} ('acme:EU', '2026-06-14', 9, 1, 8, 70, 12)",
        f"{each} VALUES ('acme:EU', '2026-06-14 23:59:59+00:00', 1, 9, 1, 9, 8, 7)",
        f"{each} VALUES ('acme:EU', '2026-06-15 00:00:00+00:00', 1, 9, 1, 4, 4, 4)",
        f"{each} VALUES ('acme:EU', '2026-06-15 12:00:00+00:00', 1, 9, 1, 5, 0, 1)",
        f"{each} VALUES ('acme:EU', '2026-06-16 12:00:00+00:00', 1, 9, 1, 0, 0, 0)",
    )
    revisions.upgrade(engine)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM run_days ORDER BY day")
        assert [(str(row[1]), *row[2:]) for row in rows] == [
            ("2026-06-14", 9, 1, 8, 70, 12, 9, 8, 7),
            ("2026-06-15", 0, 0, 0, 0, 0, 9, 4, 5),
        ]


def test_settled_days_go_on_where_the_source_was_and_earlier_where_a_marketplace_failed(
    engine: Engine,
) -> None:
    bring_to(engine, "0015")
    source = "INSERT INTO sources (source, account, turns, failures, settled_until) VALUES"
    each = (
        "INSERT INTO marketplaces"
        " (account, marketplace_id, source, live_from, position, second_position, alone_since) VALUES"
    )
    at = "'2026-06-01 00:00:00+00:00', '2026-06-15 00:00:00+00:00', '2026-06-14 00:00:00+00:00'"
    run(
        engine,
        f"{source} ('acme:EU', 'acme', '{{}}', 0, '2026-06-13 08:00:00+00:00')",
        f"{source} ('new:EU', 'new', '{{}}', 0, NULL)",
        f"{each} ('acme', 'A', 'acme:EU', {at}, NULL)",
        f"{each} ('acme', 'B', 'acme:EU', {at}, '2026-06-09 00:00:00+00:00')",
        f"{each} ('new', 'A', 'new:EU', {at}, NULL)",
    )
    revisions.upgrade(engine)
    c = tables.marketplaces.c
    with engine.connect() as connection:
        settled = connection.execute(
            sa.select(c.settled_position).order_by(c.account, c.marketplace_id)
        ).scalars()
        assert [f"{at:%m-%d %H}" for at in settled] == ["06-13 08", "06-08 00", "05-31 00"]


@pytest.mark.long
def test_users_and_tokens_go_on_after_the_upgrade_and_sessions_end(engine: Engine) -> None:
    bring_to(engine, "0026")
    digest = "X'00'" if engine.dialect.name == "sqlite" else "'\\x00'"
    at = "'2026-06-01 00:00:00.000000+00:00'"
    run(
        engine,
        "INSERT INTO console_users (name, password, scopes, created_at, failures)"
        f" VALUES ('ann', 'a hash', 'read write', {at}, 3)",
        "INSERT INTO console_sessions (digest, name, created_at, seen_at)"
        f" VALUES ({digest}, 'ann', {at}, {at})",
        f"INSERT INTO api_tokens (name, digest, scopes, created_at) VALUES ('erp', {digest}, 'read', {at})",
    )
    revisions.upgrade(engine)
    users, tokens, passwords = tables.console_users, tables.api_tokens, tables.console_passwords
    with engine.connect() as connection:
        (ann,) = connection.execute(sa.select(users))
        (erp,) = connection.execute(sa.select(tokens))
        assert connection.execute(sa.select(passwords.c.password)).scalars().all() == ["a hash"]
        assert connection.execute(sa.select(tables.console_sessions)).all() == []
    assert (ann.password, ann.password_at, ann.password_is_chosen) == ("a hash", ann.created_at, False)
    assert ann.totp_at is None
    assert (erp.name, erp.expires_at, erp.used_at) == ("erp", None, None)


def test_a_failing_upgrade_leaves_nothing_behind(engine: Engine) -> None:
    run(engine, "CREATE TABLE orders (a INTEGER)")
    with pytest.raises(UpgradeFailed, match="a table orders exists that this program did not make"):
        revisions.upgrade(engine)
    assert sa.inspect(engine).get_table_names() == ["orders"]


def test_there_is_one_newest_revision() -> None:
    newest = revisions.newest_revision()
    assert newest is not None
    assert newest.isalnum()


@pytest.mark.long
def test_a_database_of_a_newer_version_is_refused_and_reported(engine: Engine) -> None:
    revisions.upgrade(engine)
    run(engine, "UPDATE alembic_version SET version_num = '9999'")
    sentence = (
        "the database is at revision 9999, which this version of the program does not know: run the version "
        "that upgraded it, or a newer one"
    )
    assert revisions.differences(engine) == [sentence]
    with pytest.raises(NewerDatabase, match=sentence):
        revisions.upgrade(engine)


def test_tables_without_a_revision_are_reported(engine: Engine) -> None:
    metadata.create_all(engine)
    newest = revisions.newest_revision()
    assert revisions.differences(engine) == [
        f"the database is at revision none, this version of the program at {newest}"
    ]


@pytest.mark.long
def test_what_is_missing_or_strange_is_reported_in_words(engine: Engine) -> None:
    revisions.upgrade(engine)
    run(
        engine,
        "DROP TABLE refusals",
        "DROP TABLE run_days",
        "DROP INDEX ix_orders_updated",
        "DROP INDEX ix_order_lines_sku_block",
        "ALTER TABLE runs DROP COLUMN message",
        "ALTER TABLE runs ADD COLUMN mood INTEGER",
        "CREATE TABLE notes (note INTEGER)",
    )
    assert sorted(revisions.differences(engine)) == [
        "column runs.message is missing",
        "column runs.mood is not known to this program",
        "index ix_order_lines_sku_block of table order_lines is missing",
        "index ix_orders_updated of table orders is missing",
        "table notes is not known to this program",
        "table refusals is missing",
        "table run_days is missing",
    ]


@pytest.mark.long
def test_a_column_of_another_kind_is_reported_in_words(engine: Engine) -> None:
    revisions.upgrade(engine)
    run(engine, "ALTER TABLE meta DROP COLUMN value", "ALTER TABLE meta ADD COLUMN value INTEGER")
    nullable, kind = sorted(revisions.differences(engine))
    assert nullable == "column meta.value: nullable is True, not False"
    assert kind.startswith("column meta.value: type is INTEGER, not ")


@pytest.mark.long
@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_an_upgrade_that_loses_a_deadlock_to_a_service_is_repeated(engine: Engine) -> None:
    """The service has one table and wants another one; the upgrade has that and wants the first."""
    bring_to(engine, "0009")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'windows'::regclass"
    with ThreadPoolExecutor(1) as pool, engine.connect() as service, engine.connect() as watch:
        service.exec_driver_sql("LOCK TABLE windows IN ROW EXCLUSIVE MODE")
        upgrading = pool.submit(revisions.upgrade, engine)
        while not watch.exec_driver_sql(waiting).scalar_one():
            watch.rollback()
            assert not upgrading.done()
        assert service.exec_driver_sql("SELECT count(*) FROM orders").scalar_one() == 0
        service.commit()
        upgrading.result(60)
    assert revisions.differences(engine) == []
