"""A sealed value of an order that does not open spoils its own field, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from connectors.orders import TaxRegistration
from poller.actions.orders import retained
from poller.export import order_object
from poller.matching.retention import Retention
from poller.privacy.key_rotation import Rotation
from store import queries, rotation
from store import tables as t
from store.engine import Store, create_engine
from store.sealing import Sealer
from tests.harness import KEY, SimulatedClock
from tests.integration.store_world import apply, open_store, order
from tests.unit.matching_world import HOME, after, an_order, line

ALL = {"orders": t.SEALED["orders"], "order_lines": t.SEALED["order_lines"]}
FULL = replace(
    an_order("o1", status="CANCELLED", company="Ann & Co"),
    delivery_instructions="By the door",
    tax_registrations=(TaxRegistration("BUYER", "VAT", "GB1", None),),
    lines=(line(gift_message="For you", customization_url="https://x.example", cancel_reason="No"),),
)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with closing(open_store(database_url)) as opened:
        apply(opened, replace(FULL, status="UNSHIPPED"), an_order("o2", "bob@example.com"))
        apply(opened, FULL)
        yield opened


def damage(store: Store, table: str, column: str, byte: int = -1) -> bytes:
    """Flip a bit of the sealed value of order o1, and return what stands there now."""
    c = t.metadata.tables[table].c
    of_o1 = (
        c.order_key == sa.select(t.orders.c.order_key).where(t.orders.c.order_id == "o1").scalar_subquery()
    )
    with store.begin() as tx:
        sealed = bytearray(tx.conn.execute(sa.select(c[column]).where(of_o1)).scalar_one())
        sealed[byte] ^= 1
        tx.conn.execute(sa.update(t.metadata.tables[table]).where(of_o1).values({column: bytes(sealed)}))
    return bytes(sealed)


def value(store: Store, column: str) -> bytes:
    with store.read() as tx:
        query = sa.select(t.orders.c[column]).where(t.orders.c.order_id == "o1")
        return bytes(tx.conn.execute(query).scalar_one())


@pytest.mark.long
@pytest.mark.parametrize(("table", "column"), [(table, c) for table, columns in ALL.items() for c in columns])
def test_the_other_fields_and_orders_are_read(store: Store, table: str, column: str) -> None:
    whole = order_object(order(store))
    damage(store, table, column)
    with store.read() as tx:
        listed = {o.order_id: o for o in queries.list_orders(tx, limit=10)}
        changed = list(queries.changed_orders(tx, 0, tx.readable_change_no()))
        said = retained(tx, Retention(), listed["o1"])
        assert list(rotation.find_damaged(tx)) == [f"{table}.{column} of order_id o1, account acme"]
    assert {*listed} == {o.order_id for o in changed} == {"o1", "o2"}
    broken = listed["o1"] if table == "orders" else listed["o1"].lines[0]
    assert broken.unreadable == (column,)
    assert said.endswith(f"Unreadable, because damaged in the database: {column}; refetch the order.")
    assert listed["o2"].unreadable == ()
    exported = order_object(listed["o1"])
    of_buyer = {"buyer_name", "buyer_email", "purchase_order_number"}
    spoiled = {"buyer": of_buyer, "delivery": {"delivery"}, "billing": {"billing"}, "gift_message": {"lines"}}
    assert {key for key in whole if exported[key] != whole[key]} <= spoiled.get(column, set())


@pytest.mark.parametrize("byte", [0, 3, 10, -1], ids=["version", "key id", "nonce", "content"])
def test_it_stays_until_a_copy_brings_the_field(store: Store, byte: int) -> None:
    damaged = damage(store, "orders", "delivery", byte)
    apply(store, replace(an_order("o1", absent={"delivery"}, updated=1), delivery=None, status="CANCELLED"))
    assert value(store, "delivery") == damaged
    kept = order(store)
    assert kept.unreadable == ("delivery",)
    assert kept.buyer is not None
    assert kept.last_updated_at == after(1)
    apply(store, an_order("o1", updated=2, status="CANCELLED"))
    mended = order(store)
    assert mended.unreadable == ()
    assert mended.delivery is not None
    assert mended.delivery.line1 == HOME.line1


def test_the_same_copy_again_mends_it(store: Store) -> None:
    before = order(store)
    for table, columns in ALL.items():
        for column in columns:
            if column != "billing":
                damage(store, table, column)
    apply(store, FULL)
    mended = order(store)
    assert mended.unreadable == ()
    assert mended.lines == before.lines
    assert (mended.buyer, mended.delivery, mended.tax_numbers) == (
        before.buyer,
        before.delivery,
        before.tax_numbers,
    )


def test_all_else_gets_the_new_key(store: Store, database_url: str) -> None:
    damaged = damage(store, "orders", "delivery")
    new = bytes([7]) * 32
    with closing(Store(create_engine(database_url), Sealer([new, KEY]), clock=SimulatedClock())) as rotating:
        rotation_done = Rotation(rotating)
        assert rotation_done.run() == 0
        assert rotation_done.damaged == 1
        assert rotation_done.run() == 0
    assert value(store, "delivery") == damaged
    with closing(open_store(database_url, key=new)) as without_old:
        assert order(without_old, "o1").unreadable == ("delivery",)
        assert order(without_old, "o2").delivery is not None
