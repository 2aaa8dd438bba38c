"""Rotating the key while other processes run: nothing unreadable, no customer doubled, nothing left."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
import sqlalchemy as sa

from connectors.orders import TaxRegistration, UnreadableOrder
from poller.privacy.key_rotation import Rotation, about_keys
from store import (
    customers,
    ledger,
    quarantine,
    queries,
    revisions,
    rotation,
    users,
    verifications,
    webhooks,
)
from store import tables as t
from store.engine import Store, create_engine
from store.progress import Window
from store.sealing import Sealer, UnknownKey, key_id
from store.verification_records import Verification
from tests.harness import NOON, SimulatedClock
from tests.integration.store_world import all_customers, apply, basis, count, customer_of, order
from tests.unit.matching_world import UK, an_order, line

OLD, NEW, OTHER = (bytes([i]) * 32 for i in (1, 2, 3))


class Processes:
    """Processes on one database, each with its own list of keys."""

    def __init__(self, url: str) -> None:
        self.url, self._opened = url, list[Store]()

    def __call__(self, *keys: bytes) -> Store:
        store = Store(create_engine(self.url), Sealer(keys), clock=SimulatedClock())
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def process(database_url: str) -> Iterator[Processes]:
    opened = Processes(database_url)
    revisions.upgrade(opened(OLD).engine)
    yield opened
    opened.close()


def fill(store: Store, many: int = 3) -> None:
    """Fill every sealed column."""
    full = replace(
        an_order("full", "full@marketplace.amazon.co.uk", status="CANCELLED", company="Ann & Co"),
        delivery_instructions="By the door",
        tax_registrations=(TaxRegistration("BUYER", "VAT", "GB1", None),),
        lines=(line(gift_message="For you", customization_url="https://x.example", cancel_reason="No"),),
    )
    ready = replace(full, status="UNSHIPPED")
    apply(store, ready, *[an_order(f"o{i}", f"buyer{i}@marketplace.amazon.co.uk") for i in range(many)])
    unreadable = UnreadableOrder("q1", None, "createdTime is missing", '{"orderId": "q1"}')
    apply(store, full, unreadable=[unreadable])
    key = customer_of(store, "full").customer_id
    with store.begin() as tx:
        record = customers.load(tx, [key])[key]
        customers.change(tx, replace(record, aliases=("old@marketplace.amazon.co.uk",)), record)
        customers.write_journal(tx, "tests", "edit", key, details={"before": {"name": "Anna"}})
        ledger.open_windows(tx, [Window("acme:EU", "acme", "live", "updated", (UK,), ("BUYER",), NOON, NOON)])
        (window,) = ledger.pending_windows(tx, "acme", "acme:EU")
        ledger.save_window(tx, replace(window, page_token="secret"))
        proof = Verification("acme", UK, NOON, NOON, NOON, "search", "asked", False, NOON)
        verifications.save(tx, replace(verifications.begin(tx, proof), page_token="secret"))
        webhooks.add(tx, "https://erp.example/changes", "whsec_AA==")
        users.add(tx, "ann", None, ("read",))
        users.prepare_totp(tx, "ann", "GEZDGNBVGY3TQOJQ")


def contents(store: Store) -> list[object]:
    """Return everything, opened."""
    with store.read() as tx:
        upto = tx.readable_change_no()
        keys = [record.customer_id for record in queries.list_customers(tx, limit=1000)]
        return [
            *queries.changed_orders(tx, 0, upto),
            *queries.changed_customers(tx, 0, upto),
            *(entry for key in keys for entry in queries.journal_of(tx, key)),
            *quarantine.entries(tx),
            *ledger.pending_windows(tx, "acme", "acme:EU"),
            *verifications.of_account(tx, "acme"),
            *((hook.url, hook.secret) for hook in webhooks.load(tx)),
            *(users.totp_secret(tx, user.name) for user in users.load(tx)),
        ]


def of_keys(store: Store, *keys: bytes) -> list[int]:
    """Return how many values each key still seals."""
    with store.read() as tx:
        left = rotation.count_old(tx)
    return [left[key_id(key)] for key in keys]


def hashes(store: Store) -> set[bytes]:
    with store.read() as tx:
        return set(tx.conn.execute(sa.select(t.customer_emails.c.email_hash)).scalars())


def plain(items: Sequence[object]) -> list[object]:
    """Return what journal entries quote, without the sealed bytes of their rows; everything else as it is."""
    return [getattr(item, "details", item) for item in items]


@pytest.mark.long
def test_every_sealed_column_is_rotated(process: Processes) -> None:
    assert {*rotation.PLACES} == {*t.SEALED, "meta"}
    old = process(OLD)
    fill(old)
    with old.read() as tx:
        for name, columns in t.SEALED.items():
            table = t.metadata.tables[name]
            for column in columns:
                query = sa.select(sa.func.count()).where(table.c[column].is_not(None))
                assert tx.conn.execute(query).scalar_one() > 0, f"the test fills {name}.{column}"
    both = process(NEW, OLD)
    assert of_keys(both, OLD)[0] > 20
    assert Rotation(both).run() == 0
    alone = process(NEW)
    old = process(OLD, NEW)
    assert plain(contents(alone)) == plain(contents(old))
    assert of_keys(old, NEW)[0] > 20


@pytest.mark.long
def test_a_rotation_changes_nothing_but_the_seal(process: Processes) -> None:
    old = process(OLD)
    fill(old)
    before, known, many = plain(contents(old)), hashes(old), count(old, t.customers)
    with old.read() as tx:
        position = tx.readable_change_no()
    rotated = process(NEW, OLD)
    progress: list[int] = []
    turn = Rotation(rotated, advanced=progress.append)
    assert turn.run() == 0
    assert progress == sorted(progress)
    assert progress[-1] == turn.replaced > 20
    assert (plain(contents(process(NEW))), hashes(rotated)) == (before, known)
    with rotated.read() as tx:
        assert list(queries.changed_orders(tx, position, tx.readable_change_no())) == []
    apply(process(NEW), an_order("next", "BUYER1@marketplace.amazon.co.uk"))
    assert basis(rotated, "next") == "email_1"
    assert count(rotated, t.customers) == many
    assert Rotation(rotated).run() == 0


@pytest.mark.long
def test_a_process_without_the_old_key_is_refused_until_nothing_needs_it(process: Processes) -> None:
    fill(process(OLD), many=300)
    both = process(NEW, OLD)
    asked = iter([False] * 4)
    half = Rotation(both, stopping=lambda: next(asked, True))
    assert half.run() > 0
    assert half.replaced > 0
    with pytest.raises(UnknownKey):
        _ = process(NEW).lookup
    assert "`order-sync keys rotate`" in about_keys(both)[0]
    assert len(plain(contents(process(OLD, NEW)))) == len(plain(contents(both)))
    assert Rotation(both).run() == 0
    assert process(NEW).lookup.email("acme", "a@b") == process(OLD, NEW).lookup.email("acme", "a@b")
    (sentence,) = about_keys(both)
    assert sentence.startswith("nothing needs key 2 of ORDER_SYNC_ENCRYPTION_KEY any more")


@pytest.mark.long
def test_what_another_process_writes_with_the_old_key_meanwhile_is_found(process: Processes) -> None:
    old, both = process(OLD, NEW), process(NEW, OLD)
    fill(old)
    numbers = iter(range(4))

    def write_some(_: float) -> None:
        number = next(numbers, None)
        if number is not None:
            apply(old, an_order(f"meanwhile{number}", f"meanwhile{number}@marketplace.amazon.co.uk"))

    assert Rotation(both, rest=write_some).run() == 0
    assert order(process(NEW), "meanwhile3").buyer is not None


@pytest.mark.long
def test_who_writes_with_the_old_key_all_the_time_is_not_waited_for(process: Processes) -> None:
    old, both = process(OLD, NEW), process(NEW, OLD)
    fill(old)
    numbers = iter(range(10_000))

    def write_some(_: float) -> None:
        number = next(numbers)
        apply(old, an_order(f"m{number}", f"m{number}@marketplace.amazon.co.uk"))

    assert Rotation(both, rest=write_some).run() > 0
    with pytest.raises(UnknownKey):
        _ = process(NEW).lookup


@pytest.mark.long
def test_a_value_changed_between_reading_and_replacing_is_left_alone(process: Processes) -> None:
    old, both = process(OLD, NEW), process(NEW, OLD)
    fill(old)
    with both.read() as tx:
        found = rotation.find(tx, "orders", None, 500)
    apply(old, an_order("o1", "buyer1@marketplace.amazon.co.uk", name="Changed", updated=60))
    with both.begin() as tx:
        values = sum(row[column] is not None for row in found.rows for column in t.SEALED["orders"])
        assert rotation.reseal(tx, found) == (values - 1, 0)
    changed = order(both, "o1")
    assert changed.buyer is not None
    assert changed.buyer.name == "Changed"
    assert Rotation(both).run() == 0


@pytest.mark.long
def test_a_value_of_an_unknown_key_is_reported_and_not_touched(process: Processes) -> None:
    fill(process(OLD))
    both = process(NEW, OLD)
    Rotation(both).run()
    with both.begin() as tx:
        strange = Sealer([OTHER]).seal(b"{}", "orders:1:buyer")
        tx.conn.execute(sa.update(t.orders).where(t.orders.c.order_key == 1).values(buyer=strange))
    assert of_keys(both, OTHER) == [1]
    again = Rotation(both)
    assert (again.run(), again.damaged) == (0, 1)
    assert of_keys(both, OTHER) == [1]


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_syncs_go_on_during_a_rotation(process: Processes, seed: int) -> None:
    """Run two syncs, one with the old key first for a while, beside a rotation."""
    first = process(OLD)
    buyers = [f"buyer{i}@marketplace.amazon.co.uk" for i in range(40)]
    apply(first, *[an_order(f"first{i}", email) for i, email in enumerate(buyers)])
    known, done, switched = hashes(first), Event(), Event()

    def sync(name: str, *stores: Store) -> int:
        rng, pages = random.Random(f"{seed} {name}"), 0
        while pages < 12 or not done.is_set():
            store = stores[min(pages // 6, len(stores) - 1)]
            if store is stores[-1] and len(stores) > 1:
                switched.set()
            picked = rng.sample(range(40), 6)
            new = [an_order(f"{name}{pages}-{i}", buyers[i]) for i in picked[:3]]
            for i in picked[3:]:
                new.append(an_order(f"first{i}", buyers[i], name=f"{name} {pages}", updated=pages + 1))
            apply(store, *new)
            assert len(all_customers(store)) == 40
            pages += 1
        return pages

    def rotate(store: Store) -> int:
        while not switched.is_set():
            Rotation(store).run()
        while left := Rotation(store).run():
            pass
        done.set()
        return left

    with ThreadPoolExecutor(3) as pool:
        working = [
            pool.submit(sync, "a", process(NEW, OLD)),
            pool.submit(sync, "b", process(OLD, NEW), process(NEW, OLD)),
            pool.submit(rotate, process(NEW, OLD)),
        ]
        results = [each.result() for each in working]
    assert results[2] == 0
    alone = process(NEW)
    assert hashes(alone) == known
    assert len(all_customers(alone)) == 40
    with alone.read() as tx:
        found = list(queries.changed_orders(tx, 0, tx.readable_change_no()))
    assert len(found) == 40 + 3 * (results[0] + results[1])
    assert {o.match_basis for o in found} == {"created", "email_1"}
