"""Customers as an order office works on them: looking for doubled ones, and merging two large ones.

Run as a process of its own, so that its peak memory is its own. Prints one JSON object.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from typing import Any

from poller.customers import duplicates, merges
from store import customers, revisions
from store.engine import Store, Transaction, create_engine
from store.records import Address, CustomerRecord, MainEmail
from store.sealing import Sealer
from store.tables import ORDER_KEYS, orders
from tests.harness import KEY, NOON

BATCH = 2_000
ALIKE = 0.02
"""The share of customers that duplicate another."""


def fill(store: Store, many: int) -> None:
    """Customers with what Amazon gives of each; some of them are doubles."""
    rng = random.Random(1)
    for start in range(0, many, BATCH):
        with store.begin(durable=False) as tx:
            customers.create(tx, [_customer(rng, i) for i in range(start, min(start + BATCH, many))])


def _customer(rng: random.Random, number: int) -> CustomerRecord:
    who = rng.randrange(number + 1) if rng.random() < ALIKE else number
    home = Address(
        name=f"Testa Invented-{who}",
        line1=f"{who} Invented Street",
        city="Inventown",
        postal_code=f"IN{who % 7919} {who % 9}AA",
        country="GB",
        phone=f"+44 1632 {who:07}",
    )
    return CustomerRecord(
        business="acme",
        account="acme",
        marketplace="UK",
        created_at=NOON,
        name=home.name,
        amazon_name=home.name,
        company=f"Invented {who} Ltd" if who % 10 == 0 else None,
        phone=home.phone,
        emails=(MainEmail(1, f"buyer{number}@marketplace.amazon.co.uk", "amazon"),),
        billing=home,
        delivery=home,
        price_list="Amazon UK retail",
        currency="GBP",
        origins=dict.fromkeys(("name", "amazon_name", "phone", "billing", "delivery"), "amazon"),
    )


def give_orders(store: Store, customer_ids: list[int], many: int) -> None:
    """Orders without lines, ``many`` for each customer."""
    plain: dict[str, Any] = {column.name: None for column in orders.c}
    plain |= {"account": "acme", "channel": "AMAZON", "programs": "", "as_of": "", "match_rules": "R6"}
    plain |= {"match_basis": "email_1", "cancel_requested": False, "ready": True, "shown": True}
    plain |= {name: NOON for name in ("created_at", "last_updated_at", "first_seen_at", "changed_at")}
    with store.begin() as tx:
        keys = tx.take_keys(ORDER_KEYS, many * len(customer_ids))
        tx.insert(
            orders,
            [
                {
                    **plain,
                    "order_key": key,
                    "order_id": f"o{key}",
                    "customer_id": customer_ids[i % len(customer_ids)],
                    "change_no": tx.change_no,
                }
                for i, key in enumerate(keys)
            ],
        )


def prepare(database_url: str, many: int, with_orders: int) -> None:
    """A database with many customers, of whom the first two have many orders."""
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    store = Store(engine, Sealer([KEY]))
    fill(store, many)
    give_orders(store, [1, 2], with_orders)
    store.close()


def measure(database_url: str) -> None:
    """Look for doubles, then merge two customers, there and back."""
    store = Store(create_engine(database_url), Sealer([KEY]))
    start = time.perf_counter()
    with store.read() as tx:
        found = duplicates.find(tx, limit=100, tell=lambda _: None)
    figures: dict[str, float] = {"pairs": found.total, "duplicates": time.perf_counter() - start}
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def merge(tx: Transaction) -> int:
        return merges.merge(tx, 1, 2, "bench", frozenset()).moved

    def unmerge(tx: Transaction) -> int:
        return merges.unmerge(tx, 2, "bench", frozenset()).moved

    for work in (merge, unmerge):
        start = time.perf_counter()
        figures["moved"] = store.commit(work)
        figures[work.__name__] = time.perf_counter() - start
    store.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        prepare(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        measure(sys.argv[1])
