"""Several people and a sync at work on the same few customers: actors, chance, and what must hold in the end.

Every actor has a thread, a store with connections of its own, and a generator of its own, so that a seed
repeats what each of them tries; how they meet is up to the machine. An actor is a function of a ``Worker``
that does one thing and returns; to add another one, put it into ``ACTORS``. A refusal is part of the game.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Lock

import sqlalchemy as sa

from poller.applying import apply_orders
from poller.customers import editing, importing, merging
from poller.customers.fields import checked
from poller.customers.refused import Refused
from poller.translating import is_ready
from store import queries
from store import tables as t
from store.engine import Store, Transaction
from store.records import normal_email
from tests.integration.store_world import account_rules, open_store, rules_of
from tests.unit.matching_world import DE, UK, after, an_order

EMAILS = tuple(f"buyer{i}@example.com" for i in range(16))
ORDERS = tuple(f"order{i:02}" for i in range(40))


@dataclass
class Worker:
    """One actor at work: its database, its chance, and what it has done."""

    store: Store
    rng: random.Random
    folder: Path
    name: str
    done: Counter[str] = field(default_factory=Counter)
    updated: dict[str, int] = field(default_factory=dict)

    def email(self) -> str:
        return self.rng.choice(EMAILS)

    def customer(self) -> int:
        """Any customer; now and then a tombstone, as people with an old list have it."""
        c = t.customers.c
        query = sa.select(c.customer_id)
        if self.rng.random() < 0.9:
            query = query.where(c.status != "merged", c.special.is_(None))
        with self.store.read() as tx:
            ids = tx.conn.execute(query.order_by(c.customer_id)).scalars().all()
        return self.rng.choice(ids) if ids else 1


def sync(worker: Worker) -> None:
    """A page of some orders, new ones and later copies, with and without e-mail, a replacement among them."""
    rng, page = worker.rng, []
    for order_id in rng.sample(ORDERS, 5):
        age = worker.updated[order_id] = worker.updated.get(order_id, 0) + rng.randrange(2)
        email = worker.email() if rng.random() < 0.75 else None
        name = None if email is None else "Somebody"
        replaces = rng.choice(ORDERS) if email is None and rng.random() < 0.3 else None
        status = "PENDING" if age == 0 and rng.random() < 0.2 else rng.choice(("UNSHIPPED", "SHIPPED"))
        page.append(
            an_order(
                order_id,
                email,
                name=name,
                updated=age,
                status=status,
                replaces=replaces,
                marketplace_id=rng.choice((UK, UK, DE)),
                created_at=after(-int(order_id[5:])),
            )
        )
    rules = account_rules(rules_of(UK), rules_of(DE, without_email="shared", pending="placeholder"))
    worker.store.commit(lambda tx: apply_orders(tx, rules, page))


def merge(worker: Worker) -> None:
    kept, other = worker.customer(), worker.customer()
    chosen = [worker.email()] if worker.rng.random() < 0.2 else None
    worker.store.commit(lambda tx: merging.merge(tx, kept, other, worker.name, chosen))


def unmerge(worker: Worker) -> None:
    """One of the newest merges; where addresses are on third records now, they may stay there."""
    c, j = t.customers.c, t.journal.c
    query = sa.select(j.other_id).join(t.customers, c.customer_id == j.other_id)
    query = query.where(j.action == "merge", c.merged_into == j.customer_id).order_by(j.entry.desc()).limit(3)
    with worker.store.read() as tx:
        merged = tx.conn.execute(query).scalars().all()
    other = worker.rng.choice(merged) if merged else worker.customer()
    leave: tuple[str, ...] = ()
    for _ in range(3):
        try:
            return _unmerge(worker, other, leave)
        except Refused as refused:
            if not refused.named or worker.rng.random() < 0.2:
                raise
            leave = refused.named
    return None


def _unmerge(worker: Worker, other: int, leave: Sequence[str]) -> None:
    worker.store.commit(lambda tx: merging.unmerge(tx, other, worker.name, frozenset(), leave))


def edit(worker: Worker) -> None:
    customer_id, slot = worker.customer(), worker.rng.choice((1, 2, 3))
    what = worker.rng.choice(("", worker.email(), worker.email()))
    changes = checked({f"email_{slot}": what, "name": f"By {worker.rng.randrange(99)}"})
    worker.store.commit(lambda tx: editing.edit(tx, customer_id, changes, worker.name))


def import_file(worker: Worker) -> None:
    path = worker.folder / f"{worker.name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("external_id", "name", "email_1", "phone"))
        for number in worker.rng.sample(range(8), 4):
            writer.writerow((f"C-{number}", f"Imported {number}", worker.email(), worker.rng.randrange(99)))
    lines = importing.read_lines(path, {"acme": "acme"}, frozenset())
    for outcome in importing.import_lines(
        worker.store, lines, worker.name, dry_run=False, tell=lambda _: None
    ):
        worker.done[f"line {outcome.kind}"] += 1


ACTORS: dict[str, Callable[[Worker], None]] = {
    "sync": sync,
    "second sync": sync,
    "merge": merge,
    "unmerge": unmerge,
    "edit": edit,
    "import": import_file,
}


def live(
    url: str, folder: Path, seed: int, turns: int, actors: Sequence[str] = tuple(ACTORS)
) -> Counter[str]:
    """Let all actors work at once; returns how often each did what."""
    start, lock, total = Barrier(len(actors)), Lock(), Counter[str]()

    def work(name: str) -> None:
        store = open_store(url)
        worker = Worker(store, random.Random(f"{seed} {name}"), folder, name)
        start.wait(60)
        try:
            for _ in range(turns):
                try:
                    ACTORS[name](worker)
                    worker.done[name] += 1
                except Refused:
                    worker.done[f"{name} refused"] += 1
        finally:
            store.close()
        with lock:
            total.update(worker.done)

    with ThreadPoolExecutor(len(actors)) as pool:
        for done in [pool.submit(work, name) for name in actors]:
            done.result(300)
    return total


# --- what must hold -----------------------------------------------------------------------------------


def wrongs(store: Store) -> list[str]:
    """What is wrong with the customers and their orders, in sentences; empty when all is right."""
    with store.read() as tx:
        return [*_orders(tx), *_emails(tx), *_tombstones(tx), *_merges(tx)]


def _orders(tx: Transaction) -> Iterator[str]:
    """Every final order has exactly one customer, which lives (R1, R53)."""
    o, c = t.orders.c, t.customers.c
    query = sa.select(o.order_id, o.status, o.shown, o.customer_id, c.status.label("life")).select_from(
        t.orders.outerjoin(t.customers, c.customer_id == o.customer_id)
    )
    for row in tx.rows(query):
        if row.customer_id is None and is_ready(row.status):
            yield f"{row.order_id} is final and has no customer"
        if row.customer_id is not None and row.life in (None, "merged"):
            yield f"{row.order_id} points to customer {row.customer_id}, which is {row.life}"


def _emails(tx: Transaction) -> Iterator[str]:
    """No main e-mail is on two records of a business, and each is found by the hash that stands beside it."""
    holders: dict[tuple[str, str], int] = {}
    for record in queries.changed_customers(tx, 0, tx.readable_change_no()):
        hashes = {
            row.slot: row.email_hash
            for row in tx.rows(
                sa.select(t.customer_emails).where(t.customer_emails.c.customer_id == record.customer_id)
            )
        }
        if record.emails and record.status in ("merged", "forgotten"):
            yield f"customer {record.customer_id} is {record.status} and has main e-mails"
        for main in record.emails:
            if main.email is None:
                continue
            key = (record.business, normal_email(main.email))
            if key in holders:
                yield f"an e-mail is on customers {holders[key]} and {record.customer_id}"
            holders[key] = record.customer_id
            if hashes[main.slot] != tx.lookup.email(*key):
                yield f"customer {record.customer_id}: slot {main.slot} is found by another e-mail"


def _tombstones(tx: Transaction) -> Iterator[str]:
    """Every tombstone leads to a living record."""
    points = {
        row.customer_id: row.merged_into
        for row in tx.rows(sa.select(t.customers.c.customer_id, t.customers.c.merged_into))
    }
    for customer_id in points:
        seen = {customer_id}
        into = points[customer_id]
        while into is not None and into not in seen:
            seen.add(into)
            into = points[into]
        if into is not None:
            yield f"customer {customer_id} leads in a circle"


def _merges(tx: Transaction) -> Iterator[str]:
    """What a merge remembers, it remembers as long as it stands."""
    j, m, c = t.journal.c, t.merged_orders.c, t.customers.c
    query = (
        sa.select(j.entry, j.customer_id, j.other_id, c.merged_into)
        .where(j.entry.in_(sa.select(m.entry).distinct()))
        .join(t.customers, c.customer_id == j.other_id)
    )
    for row in tx.rows(query):
        if row.merged_into != row.customer_id:
            yield f"entry {row.entry}: customer {row.other_id} is not merged any more"
