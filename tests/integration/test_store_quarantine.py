"""Orders that could not be understood: kept sealed with their reason, counted, and let go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from connectors.orders import UnreadableOrder
from store import quarantine
from store.engine import Store, create_engine
from store.quarantine import Quarantined
from store.sealing import Sealer, SealError
from store.tables import quarantine as table
from tests.harness import SimulatedClock
from tests.integration.store_world import KEY, NOON, apply, fresh_store, row
from tests.unit.matching_world import an_order

PAYLOAD = '{"orderId": "o1", "buyer": {"buyerName": "Ann Buyer ☂"}}'


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    with fresh_store(database_url):
        opened = Store(create_engine(database_url), Sealer([KEY]), clock=clock)
        yield opened
        opened.close()


def broken(order_id: str | None = "o1", payload: str = PAYLOAD) -> UnreadableOrder:
    return UnreadableOrder(order_id, "M1", "createdTime is missing", payload)


def entries(store: Store, *order_ids: str) -> list[Quarantined]:
    with store.read() as tx:
        return quarantine.entries(tx, order_ids or None)


def test_an_order_is_kept_with_its_payload_and_reason(store: Store) -> None:
    apply(store, unreadable=[broken()])
    (entry,) = entries(store)
    assert entry == Quarantined(
        "acme",
        "o1",
        "M1",
        "createdTime is missing",
        PAYLOAD,
        first_seen_at=NOON,
        last_seen_at=NOON,
        term_at=NOON + timedelta(days=90),
    )
    assert "Ann" not in repr(entry)
    assert b"Ann" not in row(store, table)["payload"]


def test_another_attempt_is_counted_and_brings_the_newest_payload(
    store: Store, clock: SimulatedClock
) -> None:
    apply(store, unreadable=[broken()])
    clock.sleep(60)
    apply(store, unreadable=[broken(payload="{}")])
    (entry,) = entries(store)
    assert (entry.attempts, entry.payload) == (2, "{}")
    assert entry.first_seen_at == NOON
    assert entry.last_seen_at == NOON + timedelta(seconds=60)


def test_an_order_without_a_readable_id_has_a_stable_name(store: Store) -> None:
    apply(store, unreadable=[broken(None), broken(None, "null")])
    apply(store, unreadable=[broken(None)])
    found = {entry.order_id: entry.attempts for entry in entries(store)}
    assert sorted(found.values()) == [1, 2]
    assert all(name.startswith("unreadable-") and len(name) == 31 for name in found)
    assert len(quarantine.name_of("x" * 500, "")) == 80


def test_a_readable_copy_lets_the_order_go_and_no_other(store: Store) -> None:
    apply(store, unreadable=[broken("o1"), broken("o2"), broken("o3")])
    apply(store, an_order("o1"))
    assert [entry.order_id for entry in entries(store)] == ["o2", "o3"]
    assert [entry.order_id for entry in entries(store, "o3", "o9")] == ["o3"]
    with store.begin() as tx:
        quarantine.release(tx, "beta", ["o2", "o3"])
        quarantine.release(tx, "acme", [])
    assert len(entries(store)) == 2


def test_one_page_may_hold_good_orders_and_bad(store: Store) -> None:
    applied = apply(store, an_order("o1"), unreadable=[broken("o2")])
    assert applied.changed == 1
    assert [entry.order_id for entry in entries(store)] == ["o2"]


def test_a_payload_moved_to_another_order_does_not_open(store: Store) -> None:
    apply(store, unreadable=[broken("o1"), broken("o2")])
    stolen = row(store, table, order_id="o2")["payload"]
    with store.begin() as tx:
        tx.conn.execute(sa.update(table).where(table.c.order_id == "o1").values(payload=stolen))
    with pytest.raises(SealError, match="quarantine:acme:o1:payload"):
        entries(store, "o1")
