"""Orders that could not be understood: kept sealed with their reason, counted, and let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from connectors.orders import UnreadableOrder
from poller.version import program_version
from store import quarantine
from store.engine import Store, create_engine
from store.quarantine import Quarantined
from store.sealing import Sealer
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
        next_attempt_at=NOON + timedelta(hours=1),
        first_seen_at=NOON,
        last_seen_at=NOON,
        read_by=program_version(),
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
        quarantine.release(tx, "beta", {"o2": NOON, "o3": NOON})
        quarantine.release(tx, "acme", {})
    assert len(entries(store)) == 2


def test_an_older_copy_that_can_be_read_does_not_let_it_go(store: Store) -> None:
    newer = replace(broken(), last_updated_at=NOON)
    apply(store, unreadable=[newer])
    apply(store, an_order("o1", last_updated_at=NOON - timedelta(seconds=1)))
    assert [entry.order_id for entry in entries(store)] == ["o1"]
    apply(store, an_order("o1", last_updated_at=NOON))
    assert entries(store) == []


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("unreadable_at", "is_kept"),
    [(NOON + SECOND, True), (None, True), (NOON, True), (NOON - SECOND, False)],
    ids=["newer", "of unknown time", "the same", "older"],
)
def test_of_two_copies_on_one_page_an_unreadable_one_counts_unless_it_is_older(
    store: Store, unreadable_at: datetime | None, is_kept: bool
) -> None:
    readable = an_order("o1", last_updated_at=NOON)
    apply(store, readable, unreadable=[replace(broken(), last_updated_at=unreadable_at)])
    assert [entry.order_id for entry in entries(store)] == (["o1"] if is_kept else [])


def test_a_copy_of_unknown_time_is_released_by_any_that_comes_later(store: Store) -> None:
    apply(store, unreadable=[broken()])
    apply(store, an_order("o1", last_updated_at=NOON - timedelta(days=9)))
    assert entries(store) == []


def test_the_newest_of_several_readable_copies_on_a_page_counts(store: Store) -> None:
    apply(store, unreadable=[replace(broken(), last_updated_at=NOON)])
    copies = [an_order("o1", last_updated_at=NOON - age) for age in (SECOND, timedelta(0), 2 * SECOND)]
    apply(store, *copies)
    assert entries(store) == []


@pytest.mark.parametrize("at", [NOON - SECOND, None], ids=["older", "of unknown time"])
def test_a_further_unreadable_copy_does_not_hide_how_new_the_one_before_was(
    store: Store, at: datetime | None
) -> None:
    apply(store, unreadable=[replace(broken(), last_updated_at=NOON)])
    apply(store, unreadable=[replace(broken(payload="{}"), last_updated_at=at)])
    (entry,) = entries(store)
    assert (entry.attempts, entry.last_updated_at) == (2, NOON)
    assert entry.payload == (PAYLOAD if at is not None else "{}"), "of two, the newer one is kept"
    apply(store, an_order("o1", last_updated_at=NOON - SECOND))
    assert len(entries(store)) == 1
    apply(store, an_order("o1", last_updated_at=NOON))
    assert entries(store) == []


def test_an_old_unreadable_copy_of_a_stored_order_is_nothing_to_keep(store: Store) -> None:
    apply(store, an_order("o1", last_updated_at=NOON))
    apply(store, unreadable=[replace(broken(), last_updated_at=NOON - SECOND)])
    assert entries(store) == []


def test_what_has_no_id_is_never_requested(store: Store) -> None:
    apply(store, unreadable=[broken(None)])
    assert entries(store)[0].next_attempt_at is None
    apply(store, unreadable=[broken()])
    with store.read() as tx:
        found = quarantine.counts(tx)
    assert (found.orders, found.waiting, found.without_id) == (2, 1, 1)


def test_one_of_two_processes_gets_to_ask(store: Store) -> None:
    apply(store, unreadable=[broken()])
    (entry,) = entries(store)
    later = NOON + timedelta(hours=2)
    with store.begin() as tx:
        assert quarantine.schedule(tx, entry, later, refetches=0)
        assert not quarantine.schedule(tx, entry, later, refetches=0)
        assert quarantine.schedule(tx, replace(entry, next_attempt_at=later), None, refetches=1)
        assert quarantine.counts(tx) == quarantine.Counts(1, 1, NOON, None)


def test_what_is_due_is_what_has_waited_longest(store: Store, clock: SimulatedClock) -> None:
    apply(store, unreadable=[broken("o2")])
    clock.sleep(60)
    apply(store, unreadable=[broken("o1"), broken("o3")])
    clock.sleep(3540)
    with store.read() as tx:
        assert [entry.order_id for entry in quarantine.due(tx, "acme", 9)] == ["o2"]
        assert quarantine.due(tx, "beta", 9) == []
    clock.sleep(60)
    with store.read() as tx:
        assert [entry.order_id for entry in quarantine.due(tx, "acme", 2)] == ["o2", "o1"]


def test_one_page_may_hold_good_orders_and_bad(store: Store) -> None:
    applied = apply(store, an_order("o1"), unreadable=[broken("o2")])
    assert applied.changed == 1
    assert [entry.order_id for entry in entries(store)] == ["o2"]


def test_a_payload_moved_to_another_order_does_not_open(store: Store) -> None:
    apply(store, unreadable=[broken("o1"), broken("o2")])
    stolen = row(store, table, order_id="o2")["payload"]
    with store.begin() as tx:
        tx.conn.execute(sa.update(table).where(table.c.order_id == "o1").values(payload=stolen))
    (entry,) = entries(store, "o1")
    assert entry.payload == quarantine.DAMAGED
