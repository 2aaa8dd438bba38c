"""No statement of a page, or of the status, reads a growing table from end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.simulator.api import Simulator
from connectors.simulator.world import World
from poller.monitoring.gather import gather
from store import revisions
from store.engine import create_engine
from store.queries import UNCOUNTED
from store.search import orders_with_sku
from tests.bench.filling import fill
from tests.harness import Shop, SimulatedClock, rules_for
from tests.integration.store_world import clock_of, open_store
from tests.integration.test_gather import many_accounts

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SMALL = {
    "backfills",
    "budgets",
    "businesses",
    "counters",
    "histories",
    "marketplaces",
    "meta",
    "pg_database",
    "processes",
    "refusals",
    "sellers",
    "sources",
    "webhooks",
}
"""Tables with a few rows per account, server or start of it, which may be read whole."""

FEW = {"CONSTANT", "json_each", "forgotten_orders", "quarantine", "verifications"}
"""What SQLite may read within one account: few rows, or one row; and lists of parameters."""


def scans(plan: Any) -> Iterator[str]:
    """Return the tables that a plan reads from end to end, or by an index without a start in it."""
    sorting = plan["Node Type"] in ("Index Scan", "Index Only Scan") and "Index Cond" not in plan
    if plan["Node Type"] == "Seq Scan" or (sorting and "Filter" in plan):
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from scans(part)


_STEP = re.compile(r"(SCAN|SEARCH) (\w+)(?: .*\((.*)\))?")


def scans_on_sqlite(plan: list[str]) -> Iterator[str]:
    """Return the tables that a plan reads from end to end, or within one account or source."""
    for line in plan:
        step = _STEP.match(line)
        whole = step and (step[1] == "SCAN" or step[3] in ("account=?", "source=?", "business=?"))
        if step and whole and "SEARCH windows USING INDEX ix_windows_unfinished" not in line:
            yield step[2]


class Explained:
    """Reads the plan of every statement before it runs, with its own values."""

    def __init__(self, engine: sa.Engine) -> None:
        self.statements: set[str] = set()
        self.scanning: dict[str, set[str]] = {}
        sa.event.listen(engine, "before_cursor_execute", self._explain)

    def _explain(
        self, conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if statement.split(None, 1)[0] not in ("SELECT", "UPDATE", "DELETE"):
            return
        find = _on_sqlite if conn.dialect.name == "sqlite" else _on_postgresql
        for values in parameters[:1] if many else [parameters]:
            self.statements.add(statement)
            for table in find(cursor.connection, statement, values) - SMALL:
                self.scanning.setdefault(table, set()).add(statement)


def _on_postgresql(connection: Any, statement: str, values: Any) -> set[str]:
    with connection.cursor() as own:
        own.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
        (found,) = own.fetchone()
    return set(scans((found if isinstance(found, list) else json.loads(found))[0]["Plan"]))


def _on_sqlite(connection: Any, statement: str, values: Any) -> set[str]:
    """Return the statements. Without statistics SQLite's plans do not depend on the rows."""
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    return set(scans_on_sqlite(plan)) - FEW


def explained(database_url: str, stored: int = 0) -> Explained:
    """Return all statements of a shop that reads new and changed orders and history, beside many stored."""
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    if stored:
        fill(engine, stored)
    engine.dispose()
    now = datetime.now(UTC).replace(microsecond=0)
    start = now - timedelta(days=2)
    world = World.generate(
        seed=3,
        marketplaces=("UK", "DE"),
        orders=300,
        start=start,
        end=now + timedelta(hours=30),
        withheld=0.2,
    )
    clock = SimulatedClock(now)
    rules = [rules_for("UK"), rules_for("DE", without_email="shared")]
    shop = Shop(database_url, Simulator(world, now=clock), clock, rules, start.date(), fresh=False)
    seen = Explained(shop.store.engine)
    read = 0
    while clock() < now + timedelta(hours=31):
        read += sum(report.orders for report in shop.sync())
        clock.sleep(3600)
    assert read > 500
    shop.close()
    return seen


def judge(seen: Explained) -> None:
    assert len(seen.statements) > 30, "too little was looked at"
    assert any("FROM customer_emails" in statement for statement in seen.statements)
    assert any(statement.startswith("UPDATE orders") for statement in seen.statements)
    assert seen.scanning == {}


@pytest.mark.long
@on_postgresql
def test_a_page_reads_no_table_from_end_to_end(database_url: str) -> None:
    judge(explained(database_url, 20_000))


@pytest.mark.long
@on_sqlite
def test_a_page_reads_no_table_from_end_to_end_on_sqlite(database_url: str) -> None:
    judge(explained(database_url))


@on_postgresql
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_page_reads_no_table_from_end_to_end_beside_a_million_orders(database_url: str) -> None:
    judge(explained(database_url, 1_000_000))


GROWING = """
    CREATE TEMPORARY TABLE grown ON COMMIT DROP AS
    SELECT source, account, ago, %s::timestamptz - ago * '3 min'::interval AS at
    FROM sources, generate_series(1, 3000) ago
"""
GROWN = """
    INSERT INTO runs (source, started_at, finished_at, outcome, pages, orders, requests)
    SELECT source, at, at, 'complete', 1, 0, 1 FROM grown
    ORDER BY at;
    INSERT INTO run_days (source, day, runs, failed, pages, orders, requests, identifiable)
    SELECT source, at::date - ago, 480, 0, 480, 0, 480, 3 FROM grown WHERE ago <= 1000
    ON CONFLICT DO NOTHING;
    INSERT INTO windows (
        source, account, kind, axis, marketplace_ids, included_data, lower, upper,
        state, pages, orders, attempts, version, created_at, finished_at
    )
    SELECT source, account, 'live', 'updated', '', '', at, at, 'done', 1, 0, 0, 1, at, at FROM grown
"""
"""What sources leave behind if they are polled every three minutes."""


@pytest.mark.long
def test_a_search_for_an_article_reads_no_table_from_end_to_end(database_url: str) -> None:
    store = open_store(database_url)
    if store.engine.dialect.name == "postgresql":
        fill(store.engine, 20_000)
    seen = Explained(store.engine)
    with store.read() as tx:
        orders_with_sku(tx, "no such article", 20)
    store.close()
    assert any("FROM order_lines" in statement for statement in seen.statements)
    assert seen.scanning == {}


@pytest.mark.long
@on_postgresql
def test_a_look_at_how_all_sources_stand_reads_no_history_from_end_to_end(
    database_url: str, tmp_path: Path
) -> None:
    with many_accounts(database_url, tmp_path, 30) as service:
        with service.store.engine.begin() as connection:
            connection.exec_driver_sql(GROWING, (clock_of(service.store)(),))
            connection.exec_driver_sql(GROWN)
            connection.exec_driver_sql("ANALYZE")
        seen = Explained(service.store.engine)
        assert any(
            source.identity for source in gather(service.store, service.setup, lambda _: UNCOUNTED).sources
        )
    assert any("JOIN runs" in statement for statement in seen.statements)
    assert any("FROM windows" in statement for statement in seen.statements)
    assert any("JOIN run_days" in statement for statement in seen.statements)
    assert not seen.scanning.keys() & {"runs", "run_days", "windows"}, seen.scanning


@pytest.mark.long
@on_postgresql
def test_a_scan_would_be_found(database_url: str) -> None:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    fill(engine, 2000)
    seen = Explained(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM orders WHERE price_list = 'x'").all()
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql(
            "SELECT * FROM customers WHERE tax_code = 'x' ORDER BY customer_id LIMIT 1"
        ).all()
    engine.dispose()
    assert set(seen.scanning) == {"customers", "orders"}


@on_sqlite
def test_a_scan_would_be_found_on_sqlite(database_url: str) -> None:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    seen = Explained(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM orders WHERE account = 'x' AND price_list = 'x'").all()
        connection.exec_driver_sql("SELECT * FROM customers AS c WHERE tax_code = 'x'").all()
        connection.exec_driver_sql("SELECT * FROM order_lines WHERE order_key = 1").all()
    engine.dispose()
    assert set(seen.scanning) == {"c", "orders"}
