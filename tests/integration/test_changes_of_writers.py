"""Every writer that changes an order or a customer records the event with the change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.amazon.parse import order_of_json
from connectors.orders import UnreadableOrder
from connectors.simulator.orders import order as simulated
from connectors.simulator.orders import render
from poller.customers import edits
from poller.customers.fields import checked
from poller.ingest.apply import apply_single, decide_again
from poller.ingest.quarantine import after_upgrade
from poller.ingest.sources import AccountRules
from poller.matching.retention import Retention
from poller.privacy.forget import AccountForgetting, forget_customer
from poller.privacy.purge import Purge
from store import changes, erasure, quarantine, tables
from store.engine import Store
from store.engine.outbox import CUSTOMER, ORDER
from tests.integration.retention_world import ANN, Place, a_place, day, delivered
from tests.integration.store_world import account_rules, customer_of, edit, merge, order, unmerge
from tests.integration.test_customer_imports import imported
from tests.unit.matching_world import T0, UK, an_order

UNSEEN = {
    *(
        "changed_at",
        "change_no",
        "first_seen_at",
        "walk",
        "refetch_tried_at",
        "refetched_at",
        "term_at",
        "erased_at",
    ),
    *("idle_since", "suggested_into"),
}
"""What no reader of a record is shown; and where the change itself is written."""

BOB = "bob@marketplace.amazon.co.uk"

Records = dict[tuple[int, int], Any]


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    yield from a_place(database_url)


def rows(store: Store) -> tuple[Records, Records]:
    """Every record as a reader may see it, with its lines or e-mails; and the position of its last change."""
    seen: Records = {}
    positions: Records = {}
    with store.read() as tx:
        for what, table, key in (
            (CUSTOMER, tables.customers, "customer_id"),
            (ORDER, tables.orders, "order_key"),
        ):
            for found in tx.conn.execute(sa.select(table)).mappings():
                record = (what, found[key])
                seen[record] = [{n: v for n, v in found.items() if n not in UNSEEN}]
                positions[record] = found["change_no"]
        for what, table, key in (
            (CUSTOMER, tables.customer_emails, "customer_id"),
            (ORDER, tables.order_lines, "order_key"),
        ):
            for found in tx.conn.execute(sa.select(table).order_by(*table.primary_key)).mappings():
                seen[what, found[key]].append(dict(found))
    return seen, positions


@contextmanager
def events_of(store: Store) -> Iterator[Counter[str]]:
    """The kinds of a block's events; fails when a record changed without one, or has another version."""
    before, _ = rows(store)
    with store.read() as tx:
        position = changes.readable(tx)
    kinds: Counter[str] = Counter()
    yield kinds
    after, positions = rows(store)
    with store.read() as tx:
        found = changes.changes_after(tx, position, 1000)
    assert not found.more
    changed = {record for record in after if after[record] != before.get(record)}
    last = {change.record: change.version for change in found.events}
    assert changed <= last.keys()
    assert last == {record: positions[record] for record in last}
    for change in found.events:
        kinds[change.kind] += 1


def test_customers_by_hand_and_by_file(place: Place, tmp_path: Path) -> None:
    store = place.store
    place.apply(delivered("o1", ANN), delivered("o2", BOB))
    with events_of(store) as kinds:
        values = checked({"name": "Cleo", "email_1": "cleo@example.com", "external_id": "C-1"}, ())
        made = store.commit(lambda tx: edits.create(tx, "acme", values, "tests"))
    assert kinds == {"customer.created": 1}
    with events_of(store) as kinds:
        edit(store, made.customer_id, "vip=yes", company="Cleo Ltd")
    assert kinds == {"customer.changed": 1}
    with events_of(store) as kinds:
        imported(store, tmp_path, "C-1,Cleo,cleo@example.com,,0113,,,,", "C-2,Dan,dan@example.com,,,,,,")
    assert kinds == {"customer.changed": 1, "customer.created": 1}
    with events_of(store) as kinds:
        imported(store, tmp_path, "C-3,Eve,eve@example.com,,,,,,", dry_run=True)
    assert kinds == {}


def test_merging_and_separating(place: Place) -> None:
    store = place.store
    place.apply(delivered("o1", ANN), delivered("o2", BOB))
    kept, other = (customer_of(store, name).customer_id for name in ("o1", "o2"))
    with events_of(store) as kinds:
        merge(store, kept, other)
    assert kinds == {"customer.changed": 1, "customer.merged": 1, "order.changed": 1}
    with events_of(store) as kinds:
        place.apply(delivered("o3", BOB))
    assert kinds["order.created"] == 1
    with events_of(store) as kinds:
        unmerge(store, other)
    assert kinds == {"customer.changed": 2, "order.changed": 2}
    assert order(store, "o3").customer_id == other


def test_pages_promotions_and_what_gets_out_of_quarantine(place: Place) -> None:
    store, rules = place.store, place.rules
    with events_of(store) as kinds:
        place.apply(an_order("o1", None))
    assert kinds == {"customer.created": 1, "order.created": 1}
    with events_of(store) as kinds:
        place.apply(an_order("o1", ANN, updated=10))
    assert kinds == {"customer.merged": 1, "customer.created": 1, "order.changed": 1}

    payload = json.dumps(render(simulated("o2", created=T0).versions[-1].facts, T0))
    with events_of(store) as kinds:
        place.apply(unreadable=(UnreadableOrder("o2", None, "not understood yet", payload),))
    assert kinds == {}
    with store.begin() as tx:
        tx.conn.execute(sa.update(tables.quarantine).values(read_by="an older version"))
    with events_of(store) as kinds:
        assert store.commit(lambda tx: after_upgrade(tx, rules, 10, order_of_json)) == 1
    assert kinds == {"customer.created": 1, "order.created": 1}
    with store.read() as tx:
        assert quarantine.entries(tx) == []

    with events_of(store) as kinds:  # as a verification repairs, and `orders fetch` does
        fetched = an_order("o1", ANN, updated=20, status="SHIPPED")
        assert store.commit(lambda tx: apply_single(tx, rules, fetched)) is None
    assert kinds["order.changed"] == 1
    with events_of(store) as kinds:
        place.apply(an_order("o1", ANN, updated=20, status="SHIPPED"))
    assert kinds == {}


def test_orders_of_a_marketplace_that_becomes_known(place: Place) -> None:
    nowhere: AccountRules = replace(account_rules(), by_marketplace={})
    store, known = place.store, place.rules
    with events_of(store) as kinds:
        store.commit(lambda tx: apply_single(tx, nowhere, an_order("o1", ANN, marketplace_id=UK)))
    assert kinds == {"order.created": 1}
    with events_of(store) as kinds:
        store.commit(lambda tx: decide_again(tx, known, ["o1"]))
    assert kinds == {"customer.created": 1, "order.changed": 1}


def test_erasing(place: Place) -> None:
    store = place.store
    place.apply(delivered("o1", ANN), delivered("o2", BOB))
    with events_of(store) as kinds:
        assert place.purge(on=40).orders == 2
    assert kinds == {"order.changed": 2, "customer.changed": 2}
    with events_of(store) as kinds:
        assert place.purge().orders == 0
    assert kinds == {}
    with events_of(store) as kinds:
        place.clock.go_to(day(700))
        assert Purge(store, Retention(30, 18)).run().hashes == 2
    assert kinds == {"customer.changed": 2}


def test_forgetting_a_person_and_a_seller(place: Place) -> None:
    store = place.store
    place.apply(delivered("o1", ANN), delivered("o2", BOB), delivered("o3", "eve@marketplace.amazon.co.uk"))
    kept, other = (customer_of(store, name).customer_id for name in ("o1", "o2"))
    merge(store, kept, other)
    assert kept is not None
    with events_of(store) as kinds:
        assert store.commit(lambda tx: forget_customer(tx, kept, "tests", order_of_json)) is not None
    assert kinds == {"customer.forgotten": 1, "customer.merged": 1, "order.changed": 2}
    with events_of(store) as kinds:
        AccountForgetting(store, "acme", "tests", order_of_json).run()
    assert kinds == {"customer.forgotten": 1, "order.changed": 1}
    with store.read() as tx:
        assert erasure.count_to_forget(tx, "acme") == 0
