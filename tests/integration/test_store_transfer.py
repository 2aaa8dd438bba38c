"""A database moves from SQLite to PostgreSQL: whole, however often interrupted, and life goes on there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from poller.bootstrap import Service
from poller.errors import Unusable
from store import revisions, tables, transfer
from store.engine import create_engine
from store.sealing import new_key
from store.transfer import Copying, CopyRefused, Unequal
from store.types import Exact, UtcTime
from tests.acceptance.command_line import account_variables, marketplace_file
from tests.harness import NOON, Shop, SimulatedClock, rules_for

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

START = NOON - timedelta(days=3)


@pytest.fixture
def world() -> World:
    """Orders until after the move, some of which cannot be understood."""
    return World.generate(
        seed=5,
        marketplaces=("UK", "DE"),
        orders=160,
        start=START,
        end=NOON + timedelta(hours=8),
        late=0.0,
        poisoned=0.02,
    )


@pytest.fixture
def shop(tmp_path: Path, world: World) -> Iterator[Shop]:
    """A shop on SQLite that has read everything so far."""
    clock = SimulatedClock()
    simulator = Simulator(world, now=clock)
    rules = [rules_for("UK"), rules_for("DE", without_email="shared")]
    shop = Shop(f"sqlite:///{tmp_path / 'order-sync.db'}", simulator, clock, rules, START.date())
    shop.run_until(NOON + timedelta(hours=1))
    yield shop
    shop.close()


@pytest.fixture
def target(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    yield engine
    engine.dispose()


def rows(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, but for numbers given out."""
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in tables.metadata.sorted_tables
            if table is not tables.counters
        }


def value_for(column: sa.Column[Any]) -> object:
    """Something for a column of any table; numbers are the same everywhere, so that references hold."""
    checked = {"slot": 2, "status": "merged"}
    if column.name in checked:
        return checked[column.name]
    kinds: dict[type[Any], object] = {
        UtcTime: NOON,
        Exact: Decimal("10.50"),
        sa.LargeBinary: b"\0sealed",
        sa.Date: NOON.date(),
        sa.Boolean: True,
        sa.Float: 0.1,
        sa.Integer: 7,
        sa.String: f"ä{column.name}"[: getattr(column.type, "length", None)],
    }
    return next(value for kind, value in kinds.items() if isinstance(column.type, kind))


class Interrupted(Exception):
    """The power went."""


def interrupted(shop: Shop, target: Engine, after: int) -> None:
    """A copy that gets no further than this number of steps."""
    steps = iter(range(after))

    def step(_table: str, _rows: int) -> None:
        if next(steps, None) is None:
            raise Interrupted

    with pytest.raises(Interrupted):
        Copying(shop.store.engine, target, step).run()


@pytest.mark.long
def test_everything_is_copied_and_the_shop_goes_on_there(
    shop: Shop, target: Engine, database_url: str
) -> None:
    exported = shop.exported()
    with shop.store.read() as tx:
        position = tx.readable_change_no()
    copied: dict[str, int] = {}
    sums = Copying(shop.store.engine, target, lambda t, n: copied.update({t: copied.get(t, 0) + n})).run()

    assert rows(target) == rows(shop.store.engine)
    assert sums["orders"].rows > 100
    assert sums["quarantine"].rows > 0
    assert copied["orders"] == 2 * sums["orders"].rows
    assert sum(copied.values()) == 2 * transfer.rows_of(shop.store.engine)
    assert revisions.differences(target) == []
    assert not transfer.is_unfinished(target)

    moved = Shop(
        database_url, shop.simulator, shop.clock, shop.rules, START.date(), pace=shop.pace, fresh=False
    )
    assert moved.exported() == exported
    with moved.store.read() as tx:
        assert tx.readable_change_no() >= position
    before = rows(target)
    moved.run_until(NOON + timedelta(hours=9))
    assert moved.wrongs() == []
    after = rows(target)
    changed = [row for row in after["orders"] if row not in before["orders"]]
    assert changed
    place = list(tables.orders.c).index(tables.orders.c.change_no)
    assert min(int(str(row[place])) for row in changed) > position
    assert len(after["orders"]) > len(before["orders"])
    moved.close()


@pytest.mark.long
def test_no_table_is_forgotten(target: Engine, tmp_path: Path) -> None:
    source = create_engine(f"sqlite:///{tmp_path / 'every.db'}")
    revisions.upgrade(source)
    left_out = (tables.counters, tables.processes)
    every = [table for table in tables.metadata.sorted_tables if table not in left_out]
    with source.begin() as connection:
        for table in every:
            connection.execute(sa.insert(table), [{c.name: value_for(c) for c in table.columns}])
    sums = Copying(source, target).run()
    assert {name: total.rows for name, total in sums.items()} == {table.name: 1 for table in every}
    assert rows(target) == rows(source)
    assert revisions.differences(target) == []
    source.dispose()


@pytest.mark.long
@pytest.mark.parametrize("after", [0, 7, 25])
def test_a_copy_that_was_interrupted_goes_on_and_is_not_opened_before(
    shop: Shop,
    target: Engine,
    database_url: str,
    after: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "ROWS", 25)
    interrupted(shop, target, after)
    assert transfer.is_unfinished(target)
    (tmp_path / "marketplaces").mkdir()
    (tmp_path / "marketplaces" / "uk.toml").write_text(marketplace_file("UK"))
    environ = {
        "ORDER_SYNC_CONFIG_DIR": str(tmp_path),
        "ORDER_SYNC_DATABASE_URL": database_url,
        "ORDER_SYNC_ENCRYPTION_KEY": new_key(),
        **account_variables("http://127.0.0.1:1", Seller()),
    }
    with Service(environ) as service, pytest.raises(Unusable, match="an unfinished copy"):
        service.open_store(create=False)
    interrupted(shop, target, after + 9)
    Copying(shop.store.engine, target).run()
    assert rows(target) == rows(shop.store.engine)
    assert revisions.differences(target) == []
    assert not transfer.is_unfinished(target)


@pytest.mark.long
def test_what_the_shop_did_in_between_is_copied_too(
    shop: Shop, target: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ROWS", 25)
    interrupted(shop, target, 40)
    shop.run_until(NOON + timedelta(hours=4))
    Copying(shop.store.engine, target).run()
    assert rows(target) == rows(shop.store.engine)
    assert revisions.differences(target) == []


@pytest.mark.long
def test_a_database_that_is_written_to_while_it_is_copied_is_not_called_copied(
    shop: Shop, target: Engine
) -> None:
    def write(table: str, _rows: int) -> None:
        if table == "orders":
            with shop.store.begin() as tx:
                tx.insert(tables.businesses, [{"account": f"late-{tx.change_no}", "business": "late"}])

    with pytest.raises(Unequal, match="was written to while it was copied"):
        Copying(shop.store.engine, target, write).run()
    assert transfer.is_unfinished(target)
    Copying(shop.store.engine, target).run()
    assert rows(target) == rows(shop.store.engine)


@pytest.mark.long
def test_a_row_that_was_changed_on_the_way_is_found_by_its_checksum_and_copied_again(
    shop: Shop, target: Engine
) -> None:
    def spoil(table: str, _rows: int) -> None:
        if table == "orders" and not spoiled:
            spoiled.append(table)
            with target.begin() as connection:
                connection.execute(
                    sa.update(tables.orders).values(status="LOST").where(tables.orders.c.order_key == 1)
                )

    spoiled: list[str] = []
    Copying(shop.store.engine, target, spoil).run()
    assert spoiled
    assert rows(target) == rows(shop.store.engine)


@pytest.mark.long
def test_a_target_that_has_something_is_refused(shop: Shop, target: Engine) -> None:
    with target.begin() as connection:
        connection.execute(sa.insert(tables.businesses).values(account="other", business="other"))
    with pytest.raises(CopyRefused, match=r"is not empty \(it has businesses\)"):
        Copying(shop.store.engine, target).run()


@pytest.mark.long
def test_half_a_copy_of_another_database_is_refused(shop: Shop, target: Engine, tmp_path: Path) -> None:
    interrupted(shop, target, 3)
    other = Shop(f"sqlite:///{tmp_path / 'other.db'}", shop.simulator, SimulatedClock(), shop.rules)
    other.sync()
    with pytest.raises(CopyRefused, match="a half-finished copy of another database"):
        Copying(other.store.engine, target).run()
    other.close()


@pytest.mark.long
def test_a_finished_copy_is_not_copied_over(shop: Shop, target: Engine) -> None:
    Copying(shop.store.engine, target).run()
    with pytest.raises(CopyRefused, match="is not empty"):
        Copying(shop.store.engine, target).run()


@pytest.mark.long
def test_text_that_postgresql_cannot_hold_is_reported(shop: Shop, target: Engine) -> None:
    with shop.store.begin() as tx:
        tx.conn.execute(sa.update(tables.sources).values(last_error="a\0b"))
    with pytest.raises(Unequal, match="a row of table sources cannot be stored in PostgreSQL"):
        Copying(shop.store.engine, target).run()


@pytest.mark.long
def test_positions_go_on_growing_after_a_dump_was_restored_into_another_server(
    shop: Shop, target: Engine, database_url: str
) -> None:
    """As a young server has it, whose transactions have lower numbers than the rows it was given."""
    Copying(shop.store.engine, target).run()
    far = 10**7
    with target.begin() as connection:
        connection.execute(sa.update(tables.orders).values(change_no=far))
    moved = [
        Shop(database_url, shop.simulator, shop.clock, shop.rules, START.date(), fresh=False)
        for _ in range(2)
    ]
    positions = []
    for each in moved:
        with each.store.begin() as tx:
            positions.append(tx.change_no)
    assert far < positions[0] < positions[1] < positions[0] + 1000
    with moved[0].store.read() as tx:
        assert tx.readable_change_no() >= positions[1]
    for each in moved:
        each.close()
