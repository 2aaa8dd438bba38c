"""The upgrade from the very first schema, while services of the new version start beside it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from connectors.simulator.world import World
from store import revisions
from store.engine import create_engine
from tests.acceptance.command_line import STARTED, Shop, open_shop
from tests.acceptance.test_cli_service import knows, next_event, running, stops, until

NEW = "111-0000000-0000001"
KEPT = ("account", "customer_id", "last_updated_at", "status", "match_basis")


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Shop]:
    start, end = STARTED - timedelta(days=3), STARTED - timedelta(hours=2)
    world = World.generate(seed=9, marketplaces=("UK",), orders=150, start=start, end=end, returning=0.5)
    with open_shop(tmp_path / "shop", world) as opened:
        opened.environ["ORDER_SYNC_DATABASE_URL"] = database_url
        opened("sync")
        yield opened


def known(shop: Shop) -> dict[str, tuple[object, ...]]:
    """What the first schema held of each order, as it is exported."""
    orders = [json.loads(line) for line in shop("export", "orders").lines]
    return {o["order_id"]: tuple(o[key] for key in KEPT) for o in orders}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_database_of_the_first_schema_is_upgraded_while_services_start(
    shop: Shop, database_url: str
) -> None:
    before = known(shop)
    assert len(before) > 140
    bare = sa.create_engine(database_url)  # ours has SQLite check references, which a downgrade would break
    with bare.begin() as connection:
        command.downgrade(revisions._config(connection), "0001")
    bare.dispose()
    engine = create_engine(database_url)
    assert revisions.revision(engine) == "0001"
    shop.world.order(NEW, created=datetime.now(UTC) - timedelta(seconds=120))
    if engine.dialect.name == "postgresql":
        with running(shop) as early:
            assert "upgraded from revision 0001 at revision" in shop("db", "upgrade").messages[0]
            assert early.poll() in (None, 1), "it serves, or was refused before"
    with running(shop) as first, running(shop) as second:
        for process in (first, second):
            next_event(process, "starting")
        until(lambda: knows(shop, NEW))
        for process in (first, second):
            stops(process, signal.SIGTERM)
    assert revisions.revision(engine) == revisions.newest_revision()
    assert revisions.differences(engine) == []
    engine.dispose()
    after = known(shop)
    assert after.keys() >= {*before, NEW}
    changed = [order_id for order_id in before if after[order_id] != before[order_id]]
    assert all(after[order_id] > before[order_id] for order_id in changed), "only by Amazon's later versions"
    assert len(changed) < 10
    assert "wrong" not in shop("db", "check").out
