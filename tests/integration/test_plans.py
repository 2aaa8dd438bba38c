"""No statement on the path of a page reads a table from end to end, however much is stored (PostgreSQL)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.simulator.api import Simulator
from connectors.simulator.world import World
from store import migrating
from store.engine import create_engine
from tests.bench.filling import fill
from tests.harness import Shop, SimulatedClock, rules_for

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

SMALL = {
    "backfills",
    "budgets",
    "businesses",
    "counters",
    "marketplaces",
    "meta",
    "refusals",
    "sources",
    "webhooks",
}
"""Tables of a few rows for each account: PostgreSQL is right to read them whole."""


def scans(plan: Any) -> Iterator[str]:
    """The tables that a plan reads from end to end, or by an index without knowing where to look in it."""
    sorting = plan["Node Type"] in ("Index Scan", "Index Only Scan") and "Index Cond" not in plan
    if plan["Node Type"] == "Seq Scan" or (sorting and "Filter" in plan):
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from scans(part)


class Explained:
    """Asks PostgreSQL for the plan of every statement before it is carried out, with its very values."""

    def __init__(self, engine: sa.Engine) -> None:
        self.statements: set[str] = set()
        self.scanning: dict[str, set[str]] = {}
        sa.event.listen(engine, "before_cursor_execute", self._explain)

    def _explain(
        self, conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if statement.split(None, 1)[0] not in ("SELECT", "UPDATE", "DELETE"):
            return
        with cursor.connection.cursor() as own:
            for values in parameters[:1] if many else [parameters]:
                own.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
                (found,) = own.fetchone()
                self.statements.add(statement)
                plan = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
                for table in set(scans(plan)) - SMALL:
                    self.scanning.setdefault(table, set()).add(statement)


def explained(database_url: str, stored: int) -> Explained:
    """All statements of a shop that reads new orders, changed ones and history, beside many stored ones."""
    engine = create_engine(database_url)
    migrating.upgrade(engine)
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


def test_a_page_reads_no_table_from_end_to_end(database_url: str) -> None:
    judge(explained(database_url, 20_000))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_page_reads_no_table_from_end_to_end_beside_a_million_orders(database_url: str) -> None:
    judge(explained(database_url, 1_000_000))


def test_a_scan_would_be_found(database_url: str) -> None:
    engine = create_engine(database_url)
    migrating.upgrade(engine)
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
