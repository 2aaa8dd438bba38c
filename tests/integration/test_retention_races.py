"""Pages, purges and forgetting at the same time, in several threads and in several processes."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.amazon.parse import order_of_json
from connectors.orders import AmazonOrder
from poller.privacy.forget import forget_customer
from poller.privacy.purge import Purge
from store import customers, erasure, quarantine, queries
from store import tables as t
from store.engine import Store, Transaction, create_engine
from store.records import says_something
from store.sealing import Sealer
from tests.harness import KEY, SimulatedClock
from tests.integration.retention_world import MONTH, Place, day, delivered
from tests.integration.store_world import account_rules, apply, open_store
from tests.unit.matching_world import UK

BUYERS, ORDERS, PAGES = 24, 72, 8
SYNCED, PURGED = day(20), day(60)
"""The clock of a sync is late: what a purge erased seems to have days left."""


def email_of(number: int) -> str:
    return f"buyer{number % BUYERS}@marketplace.amazon.co.uk"


def opened(url: str, purging: bool) -> Store:
    clock = SimulatedClock(PURGED if purging else SYNCED)
    return Store(create_engine(url), Sealer([KEY]), clock=clock)


def sync(url: str, seed: str) -> int:
    """Store pages of copies, each with its own day."""
    rng = random.Random(seed)
    rules = replace(account_rules(), retention=MONTH)
    with closing(opened(url, purging=False)) as store:
        for _ in range(PAGES):
            picked = rng.sample(range(ORDERS), 7)
            copies = [delivered(f"o{i}", email_of(i), on=3 + i % 50 + rng.random()) for i in picked]
            apply(store, *copies, rules=rules)
    return 0


def purge(url: str, seed: str) -> int:
    """Purge until something was purged."""
    erased = turns = 0
    with closing(opened(url, purging=True)) as store:
        while turns < PAGES or not erased:
            erased += Purge(store, MONTH).run().orders
            turns += 1
    return erased


def forget(url: str, seed: str) -> list[str]:
    """Forget some buyers. Return the orders that must never have one again."""
    rng = random.Random(seed)
    gone: list[str] = []
    with closing(opened(url, purging=False)) as store:
        for number in rng.sample(range(BUYERS), 8):
            email = email_of(number)

            def once(tx: Transaction, email: str = email) -> list[str]:
                found = customers.find_emails(tx, "acme", [email]).get(email)
                if found is None:
                    return []
                forget_customer(tx, found[0], "tests", order_of_json)
                c = t.orders.c
                query = sa.select(c.order_id).where(c.customer_id == found[0])
                return list(tx.conn.execute(query).scalars())

            gone += store.commit(once)
    return gone


def everybody_at_once(pool: Executor, url: str, seed: int) -> list[str]:
    """Do all kinds of work at once. Return the forgotten orders."""
    working = [pool.submit(sync, url, f"{seed} {name}") for name in ("a", "b")]
    working.append(pool.submit(purge, url, f"{seed} purge"))
    forgetting = pool.submit(forget, url, f"{seed} forget")
    assert [each.result() for each in working][2] > 0, "there was something to purge"
    return forgetting.result()


def verdict(place: Place, gone: list[str]) -> None:
    """Check what must hold in any order of events."""
    place.purge(60)
    over = MONTH.over_since(PURGED)
    assert over is not None
    with place.store.read() as tx:
        found = list(queries.changed_orders(tx, 0, tx.readable_change_no()))
        records = {c.customer_id: c for c in queries.list_customers(tx, limit=1000)}
        forgotten = set(tx.conn.execute(sa.select(t.forgotten_orders.c.order_id)).scalars())
    assert set(gone) == forgotten
    homes: dict[str, set[int]] = {}
    for order in found:
        assert order.customer_id in records, "every final order has exactly one customer"
        erased = order.order_id in forgotten or (order.term_at is not None and order.term_at <= over)
        assert (order.buyer is None) == erased, order.order_id
        assert (order.erased_at is not None) == erased
        if order.order_id not in forgotten:
            homes.setdefault(email_of(int(order.order_id[1:])), set()).add(order.customer_id)
    assert {len(ids) for ids in homes.values()} == {1}, "nobody is doubled"
    for record in records.values():
        mine = [order for order in found if order.customer_id == record.customer_id]
        waiting = [order for order in mine if order.buyer is not None]
        assert (record.status == "forgotten") == any(o.order_id in forgotten for o in mine)
        assert (record.name is not None) == bool(waiting)
        assert [m.email is not None for m in record.emails] in ([bool(waiting)], [])


def raced(url: str, pool: Executor, seed: int) -> None:
    place = Place(url, SimulatedClock(SYNCED))
    with closing(place.store), pool:
        verdict(place, everybody_at_once(pool, url, seed))


@pytest.mark.long
def test_r60_r63_pages_purges_and_forgetting_at_once(database_url: str) -> None:
    raced(database_url, ThreadPoolExecutor(4), 1)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(2, 12))
def test_r60_r63_also_for_more_seeds(database_url: str, seed: int) -> None:
    """Run every other one in a process."""
    served = multiprocessing.get_context("forkserver")
    raced(database_url, ThreadPoolExecutor(4) if seed % 2 else ProcessPoolExecutor(4, served), seed)


# --- one order, stored while its buyer is forgotten ---------------------------------------------------


def copy_of(order_id: str, *, minute: int = 0, email: bool = True, readable: bool = True) -> str:
    """Return what Amazon sends of an order."""
    buyer = {"buyerEmail": "ann@marketplace.amazon.co.uk", "buyerName": "Ann"}
    address = {"name": "Ann", "addressLine1": "1 High Street", "postalCode": "LS1 1AA", "countryCode": "GB"}
    quantity = 1 if readable else "many"
    copy: dict[str, Any] = {
        "orderId": order_id,
        "createdTime": "2026-06-15T12:00:00Z",
        "lastUpdatedTime": f"2026-06-15T12:{minute:02}:00Z",
        "salesChannel": {"channelName": "AMAZON", "marketplaceId": UK},
        "fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "MERCHANT"},
        "recipient": {"deliveryAddress": address},
        "orderItems": [{"orderItemId": "1", "quantityOrdered": quantity, "product": {"sellerSku": "S"}}],
    }
    return json.dumps(copy | ({"buyer": buyer} if email else {}))


def store_copy(store: Store, copy: str) -> None:
    """Store a page of one order."""
    read = order_of_json(copy)
    if isinstance(read, AmazonOrder):
        apply(store, read)
    else:
        apply(store, unreadable=[read])


def is_kept_waiting(store: Store) -> bool:
    """Return True if a transaction waits for another one's lock."""
    if store.engine.dialect.name == "sqlite":
        return True  # the file is locked from the beginning of a transaction to its end
    with store.alone() as conn:
        return bool(conn.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())


def meanwhile(url: str, work: Callable[[Store], None], begun: Event) -> Thread:
    """Do work on a connection of its own; return when it is done or kept waiting."""

    def elsewhere() -> None:
        with closing(open_store(url)) as store:
            begun.set()
            work(store)

    thread = Thread(target=elsewhere)
    thread.start()
    assert begun.wait(10)
    with closing(open_store(url)) as watching:
        while thread.is_alive() and not is_kept_waiting(watching):
            thread.join(0.01)
    return thread


@pytest.mark.long
@pytest.mark.parametrize("first", ["storing", "forgetting"])
@pytest.mark.parametrize(
    "copy",
    [
        copy_of("o2", minute=1),
        copy_of("o2", minute=1, email=False),
        copy_of("o2", minute=1, readable=False),
    ],
    ids=["with e-mail", "without e-mail", "unreadable"],
)
def test_r62_r63_an_order_out_of_quarantine_is_forgotten_with_its_buyer(
    copy: str, first: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stops half way, and the other comes in between where the database lets it."""
    with closing(open_store(database_url)) as store:
        store_copy(store, copy_of("o1"))
        store_copy(store, copy_of("o2", readable=False))
        with store.read() as tx:
            ((ann, _),) = customers.find_emails(tx, "acme", ["ann@marketplace.amazon.co.uk"]).values()

        def forget_ann(store: Store) -> None:
            store.commit(lambda tx: forget_customer(tx, ann, "tests", order_of_json))

        def store_o2(store: Store) -> None:
            store_copy(store, copy)

        step, work, other = {
            "storing": ("which_forgotten", store_o2, forget_ann),
            "forgetting": ("remember_forgotten", forget_ann, store_o2),
        }[first]
        proceed, begun, threads = getattr(erasure, step), Event(), list[Thread]()

        def interrupted(*arguments: Any) -> Any:
            result = proceed(*arguments)
            if not begun.is_set() and arguments[-1]:
                threads.append(meanwhile(database_url, other, begun))
            return result

        monkeypatch.setattr(erasure, step, interrupted)
        work(store)
        (thread,) = threads
        thread.join(10)
        assert not thread.is_alive()
        with store.read() as tx:
            forgotten = erasure.which_forgotten(tx, "acme", ["o1", "o2"])
            payloads = {entry.payload for entry in quarantine.entries(tx)}
            records = {record.customer_id: record for record in queries.list_customers(tx, limit=10)}
            stored = [o for order_id in sorted(forgotten) for o in queries.find_orders(tx, order_id)]
        is_anns = first == "forgetting" or "Email" in copy
        assert forgotten == ({"o1", "o2"} if is_anns else {"o1"}), "all that was known to be hers by then"
        assert payloads <= {quarantine.ERASED}
        for forgotten_order in stored:
            assert forgotten_order.buyer is None
            assert not says_something(forgotten_order.delivery)
            assert forgotten_order.customer_id is not None
            assert records[forgotten_order.customer_id].name is None
