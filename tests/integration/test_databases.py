"""The databases that tests get are as new, whatever an earlier test has done to them."""

from __future__ import annotations

import psycopg
import pytest

from store.engine import create_engine
from tests.databases import Databases
from tests.integration.store_world import add_customer, all_customers, fresh_store


def test_a_database_comes_back_empty_and_numbers_begin_again(postgres_databases: Databases) -> None:
    numbers = []
    for _ in range(2):
        with postgres_databases.database() as url, fresh_store(url) as store:
            assert all_customers(store) == []
            numbers.append(add_customer(store, "ann@example.com"))
            assert len(all_customers(store)) == 1
    assert numbers[0] == numbers[1]


def test_what_a_test_has_left_behind_does_not_find_the_database_of_the_next(
    postgres_databases: Databases,
) -> None:
    with postgres_databases.database() as past:
        pass
    with postgres_databases.database() as url:
        assert url != past
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(past.replace("+psycopg", ""))


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE outbox",
        "CREATE SCHEMA other",
        "ALTER TABLE orders ADD COLUMN more text",
        "ALTER TABLE orders ALTER COLUMN account DROP NOT NULL",
        "CREATE INDEX more ON orders (account)",
        "INSERT INTO counters (name, value) VALUES ('x', 1); ANALYZE counters",
        "DELETE FROM alembic_version",
    ],
)
def test_a_database_whose_schema_has_changed_is_not_used_again(
    postgres_databases: Databases, change: str
) -> None:
    query = (
        "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_namespace), "
        "(SELECT count(*) FROM pg_statistic WHERE starelid >= 16384), "
        "(SELECT count(*) FROM pg_attribute WHERE attnotnull), (SELECT version_num FROM alembic_version)"
    )
    seen = []
    for _ in range(2):
        with postgres_databases.database() as url:
            engine = create_engine(url)
            with engine.begin() as connection:
                seen.append(connection.exec_driver_sql(query).one())
                connection.exec_driver_sql(change)
            engine.dispose()
    assert seen[0] == seen[1]
