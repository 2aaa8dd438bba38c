"""Several people and a sync at work on the same few customers: actors, chance, and what must hold in the end.

Every actor has a thread or a process, a store with connections of its own, and a generator of its own, so
that a seed repeats what each of them tries; how they meet is up to the machine. An actor is a function of a
``Worker`` that does one thing and returns; to add another one, put it into ``ACTORS``. A refusal is part of
the game. A process that syncs is late: what a purge has erased looks to it as if it had days left.
"""

from __future__ import annotations

import csv
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import sqlalchemy as sa

from connectors.amazon.parse import order_of_json
from poller.customers import edits, imports, merges
from poller.customers.fields import checked
from poller.errors import Refused
from poller.ingest.apply import apply_orders
from poller.matching.retention import erased
from poller.matching.statuses import is_ready
from poller.privacy.forget import find_person, forget_customer
from poller.privacy.purge import Purge
from store import queries
from store import tables as t
from store.engine import Store, Transaction
from store.origins import OURS
from store.records import normal_email, says_something
from tests.integration.retention_world import MONTH, day
from tests.integration.store_world import account_rules, open_store, rules_of
from tests.unit.matching_world import DE, UK, after, an_order

EMAILS = tuple(f"buyer{i}@example.com" for i in range(16))
ORDERS = 40
"""The number at any time; with each page, two are new and two are seen no more."""


@dataclass
class Worker:
    """One actor at work: its database, its chance, and what it has done."""

    store: Store
    rng: random.Random
    folder: Path
    name: str
    done: Counter[str] = field(default_factory=Counter)
    forgotten: set[str] = field(default_factory=set)
    updated: dict[str, int] = field(default_factory=dict)

    def email(self) -> str:
        return self.rng.choice(EMAILS)

    def customer(self, *, with_orders: bool = False) -> int:
        """Any customer; now and then a tombstone or a forgotten one, as people with an old list have it."""
        c = t.customers.c
        query = sa.select(c.customer_id)
        if self.rng.random() < 0.9:
            query = query.where(c.status.not_in(("merged", "forgotten")), c.special.is_(None))
        if with_orders:
            query = query.where(c.customer_id.in_(sa.select(t.orders.c.customer_id)))
        with self.store.read() as tx:
            ids = tx.conn.execute(query.order_by(c.customer_id)).scalars().all()
        return self.rng.choice(ids) if ids else 1


def sync(worker: Worker) -> None:
    """A page of some orders, new ones and later copies, with and without e-mail, a replacement among them."""
    rng, page = worker.rng, []
    first = 2 * worker.done[worker.name]
    about = [f"order{i:03}" for i in range(first, first + ORDERS)]
    for order_id in rng.sample(about, 5):
        age = worker.updated[order_id] = worker.updated.get(order_id, 0) + rng.randrange(2)
        email = worker.email() if rng.random() < 0.75 else None
        name = None if email is None else "Somebody"
        replaces = rng.choice(about) if email is None and rng.random() < 0.3 else None
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
    rules = replace(rules, retention=MONTH)
    worker.store.commit(lambda tx: apply_orders(tx, rules, page))


def merge(worker: Worker) -> None:
    kept, other = worker.customer(), worker.customer()
    chosen = [worker.email()] if worker.rng.random() < 0.2 else None
    worker.store.commit(lambda tx: merges.merge(tx, kept, other, worker.name, frozenset(), chosen))


def unmerge(worker: Worker) -> None:
    """One of the newest merges; where addresses are on third records now, they may stay there."""
    if worker.rng.random() < 0.3:
        merge(worker)
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
    worker.store.commit(lambda tx: merges.unmerge(tx, other, worker.name, frozenset(), leave))


def edit(worker: Worker) -> None:
    customer_id, slot = worker.customer(), worker.rng.choice((1, 2, 3))
    what = worker.rng.choice(("", worker.email(), worker.email()))
    changes = checked({f"email_{slot}": what, "name": f"By {worker.rng.randrange(99)}"})
    worker.store.commit(lambda tx: edits.edit(tx, customer_id, changes, worker.name))


def import_file(worker: Worker) -> None:
    path = worker.folder / f"{worker.name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("external_id", "name", "email_1", "phone"))
        for number in worker.rng.sample(range(8), 4):
            writer.writerow((f"C-{number}", f"Imported {number}", worker.email(), worker.rng.randrange(99)))
    lines = imports.read_lines(path, {"acme": "acme"}, frozenset())
    for outcome in imports.import_lines(worker.store, lines, worker.name, dry_run=False, tell=lambda _: None):
        worker.done[f"line {outcome.kind}"] += 1


def purge(worker: Worker) -> None:
    """All that is due; shipped orders are, the others are not."""
    done = Purge(worker.store, MONTH, worker.name).run()
    worker.done["erased order"] += done.orders
    worker.done["erased record"] += done.records


def forget(worker: Worker) -> None:
    """Whose orders have come; not in every turn, or none would be left."""
    if worker.forgotten and worker.rng.random() < 0.8:
        return
    customer_id = worker.customer(with_orders=not worker.forgotten)

    def once(tx: Transaction) -> list[str]:
        person = find_person(tx, customer_id, order_of_json)
        if person is None or person.records[0].special is not None:
            return []
        forget_customer(tx, customer_id, worker.name, order_of_json)
        c = t.orders.c
        query = sa.select(c.order_id).where(c.customer_id.in_(person.ids))
        return list(tx.conn.execute(query).scalars())

    worker.forgotten.update(worker.store.commit(once))
    worker.done["forgotten order"] = len(worker.forgotten)


ACTORS: dict[str, Callable[[Worker], None]] = {
    "sync": sync,
    "second sync": sync,
    "merge": merge,
    "unmerge": unmerge,
    "edit": edit,
    "import": import_file,
    "purge": purge,
    "forget": forget,
}

CAME_THROUGH = {"purge": "erased order", "forget": "forgotten order"}
"""What says that an actor came through, where its turns prove nothing: one may find no customer yet."""


@dataclass
class Lived:
    """What came of it: how often each actor did what, and the orders that are never to have a buyer again."""

    done: Counter[str]
    forgotten: set[str]


def _work(url: str, folder: Path, seed: int, turns: int, name: str) -> Worker:
    """All turns of one actor, and as many more as it needs to come through once."""
    store = open_store(url, now=day(40) if name == "purge" else day(1))
    worker = Worker(store, random.Random(f"{seed} {name}"), folder, name)
    try:
        for turn in range(10 * turns):
            if turn >= turns and worker.done[CAME_THROUGH.get(name, name)]:
                break
            try:
                ACTORS[name](worker)
                worker.done[name] += 1
            except Refused:
                worker.done[f"{name} refused"] += 1
    finally:
        store.close()
    return worker


def _work_elsewhere(*arguments: Any) -> tuple[Counter[str], set[str]]:
    worker = _work(*arguments)
    return worker.done, worker.forgotten


def _meet(barrier: Any) -> None:
    barrier.wait(120)


def in_threads() -> Executor:
    """A pool with a thread for each actor; all begin together."""
    many = len(ACTORS)
    return ThreadPoolExecutor(many, initializer=_meet, initargs=(Barrier(many),))


def in_processes() -> Executor:
    """A pool with a process for each actor; all begin together."""
    served, many = multiprocessing.get_context("forkserver"), len(ACTORS)
    served.set_forkserver_preload([__name__])  # imported once, not by each
    return ProcessPoolExecutor(many, served, initializer=_meet, initargs=(served.Barrier(many),))


def live(pool: Executor, url: str, folder: Path, seed: int, turns: int) -> Lived:
    """Let all actors work at once."""
    lived = Lived(Counter(), set())
    for each in [pool.submit(_work_elsewhere, url, folder, seed, turns, name) for name in ACTORS]:
        done, forgotten = each.result(600)
        lived.done.update(done)
        lived.forgotten |= forgotten
    return lived


# --- what must hold -----------------------------------------------------------------------------------


def wrongs(store: Store, forgotten: set[str]) -> list[str]:
    """What is wrong with the customers and their orders, in sentences; empty when all is right.

    ``store`` is of the day of the purges, ``forgotten`` what the actors have forgotten.
    """
    Purge(store, MONTH).run()
    with store.read() as tx:
        return [
            *_orders(tx),
            *_emails(tx),
            *_tombstones(tx),
            *_merges(tx),
            *_erased_orders(tx, forgotten),
            *_erased_records(tx),
            *_forgotten_records(tx),
        ]


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


def _erased_orders(tx: Transaction, forgotten: set[str]) -> Iterator[str]:
    """An order past its term, or forgotten, has no buyer, and never gets one again (R60, R62, R63)."""
    remembered = set(tx.conn.execute(sa.select(t.forgotten_orders.c.order_id)).scalars())
    for order_id in sorted(forgotten ^ remembered):
        yield f"{order_id} is {'not remembered as' if order_id in forgotten else 'unduly'} forgotten"
    over = MONTH.over_since(tx.now)
    assert over is not None
    for order in queries.changed_orders(tx, 0, tx.readable_change_no()):
        gone = order.erased_at is not None  # and stays so, if it is said not to be shipped after all
        if not gone and (order.order_id in remembered or order.term_at is None or order.term_at <= over):
            yield f"{order.order_id} should have been erased"
        billing = None if order.billing_origin in OURS else order.billing
        if gone and (order.buyer is not None or says_something(order.delivery) or says_something(billing)):
            yield f"{order.order_id} has buyer data again"
        if order.order_id in remembered and says_something(order.billing):
            yield f"{order.order_id} is forgotten and has an address"


def _erased_records(tx: Transaction) -> Iterator[str]:
    """A record none of whose orders waits has nothing of Amazon's; its e-mails are hashes (R60, R61)."""
    over = MONTH.over_since(tx.now)
    assert over is not None
    orders: dict[int, list[bool]] = {}
    for row in tx.rows(sa.select(t.orders.c.customer_id, t.orders.c.term_at)):
        orders.setdefault(row.customer_id, []).append(row.term_at > over)
    for record in queries.changed_customers(tx, 0, tx.readable_change_no()):
        waits = orders.get(record.customer_id)
        if waits is not None and not any(waits) and record.special is None and erased(record) != record:
            yield f"customer {record.customer_id} has data that is due"


def _forgotten_records(tx: Transaction) -> Iterator[str]:
    """Of a forgotten person nothing is left, in no record that was merged into it, and no journal (R62)."""
    c, j = t.customers.c, t.journal.c
    gone = set(tx.conn.execute(sa.select(c.customer_id).where(c.status == "forgotten")).scalars())
    fresh = gone
    while fresh:
        query = sa.select(c.customer_id).where(c.merged_into.in_(fresh))
        fresh = set(tx.conn.execute(query).scalars()) - gone
        gone |= fresh
    for record in queries.changed_customers(tx, 0, tx.readable_change_no()):
        if record.customer_id in gone:
            kept = (record.name, record.company, record.amazon_name, record.phone, record.external_id)
            if any(kept) or record.emails or record.aliases or record.billing or record.delivery:
                yield f"customer {record.customer_id} is forgotten and holds something"
    quoting = sa.or_(j.details.is_not(None), j.facts.is_not(None))
    for row in tx.rows(sa.select(j.entry, j.customer_id, j.other_id).where(quoting)):
        if {row.customer_id, row.other_id} & gone:
            yield f"entry {row.entry} quotes a customer that is forgotten"
