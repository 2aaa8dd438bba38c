"""Pages, purges and forgetting at the same time, in several threads and in several processes."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from connectors.amazon.parse import order_of_json
from poller.privacy.forget import forget_customer
from poller.privacy.purge import Purge
from store import customers, queries
from store import tables as t
from store.engine import Store, Transaction, create_engine
from store.sealing import Sealer
from tests.harness import KEY, SimulatedClock
from tests.integration.retention_world import MONTH, Place, day, delivered
from tests.integration.store_world import account_rules, apply

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


def test_r60_r63_pages_purges_and_forgetting_at_once(database_url: str) -> None:
    raced(database_url, ThreadPoolExecutor(4), 1)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(2, 12))
def test_r60_r63_also_for_more_seeds(database_url: str, seed: int) -> None:
    """Run every other one in a process."""
    served = multiprocessing.get_context("forkserver")
    raced(database_url, ThreadPoolExecutor(4) if seed % 2 else ProcessPoolExecutor(4, served), seed)
