"""What the tests of the store share: a store on a simulated clock, and orders applied as a sync does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from connectors.orders import AmazonOrder, UnreadableOrder
from poller.customers import edits, merges
from poller.customers.fields import checked
from poller.customers.merges import Merged, Unmerged
from poller.export import customer_object, order_object
from poller.ingest.apply import Applied, apply_orders
from poller.ingest.sources import AccountRules
from poller.matching.marketplace_rules import MarketplaceRules
from store import customers, queries, runs
from store.engine import Store, Transaction, create_engine
from store.records import CustomerRecord, MainEmail, OrderRecord, Origin
from store.sealing import Sealer
from store.tables import metadata
from tests.harness import KEY, NOON, SimulatedClock
from tests.unit.matching_world import DE, UK, rules_of

__all__ = ["DE", "KEY", "NOON", "UK", "rules_of"]


def open_store(url: str, key: bytes = KEY, now: datetime = NOON) -> Store:
    """A store on a database that is up to date already, as another process would open it."""
    return Store(create_engine(url), Sealer([key]), clock=SimulatedClock(now))


def clock_of(store: Store) -> SimulatedClock:
    """The clock of a store that ``open_store`` gave."""
    assert isinstance(store._clock, SimulatedClock)
    return store._clock


@contextmanager
def fresh_store(url: str) -> Iterator[Store]:
    """A store on any database; one without tables gets them."""
    store = open_store(url)
    metadata.create_all(store.engine)
    try:
        yield store
    finally:
        store.close()


def count_buyers(tx: Transaction, source: str, day: date, *shown: int) -> None:
    """Orders of a day that may show their buyer, with an e-mail, with a name."""
    runs.add_to_day(tx, source, day, dict(zip(runs.BUYERS, shown, strict=True)))


def account_rules(*rules: MarketplaceRules, account: str = "acme", business: str = "acme") -> AccountRules:
    mine = rules or (rules_of(UK), rules_of(DE))
    return AccountRules(account, business, {r.marketplace_id: r for r in mine}, frozenset())


def apply(
    store: Store,
    *fetched: AmazonOrder,
    rules: AccountRules | None = None,
    unreadable: Sequence[UnreadableOrder] = (),
    walk: int | None = None,
) -> Applied:
    """Store a page as a sync does: on a conflict roll back and decide again."""
    return store.commit(lambda tx: apply_orders(tx, rules or account_rules(), fetched, unreadable, walk=walk))


def add_customer(
    store: Store, *emails: str, origin: Origin = "hand", business: str = "acme", **fields: Any
) -> int:
    """A record entered by hand, imported, or left by Amazon, with its e-mails in slots 1, 2, 3."""
    record = CustomerRecord(
        business=business,
        account=None,
        marketplace=None,
        created_at=NOON,
        emails=tuple(MainEmail(slot, email, origin) for slot, email in enumerate(emails, 1)),
        origins=dict.fromkeys(fields, origin),
        **fields,
    )
    with store.begin() as tx:
        return customers.create(tx, [record])[0]


def edit(store: Store, customer_id: int | None, *labels: str, **values: str) -> CustomerRecord:
    """Change fields by hand, as ``order-sync customers edit`` does."""
    assert customer_id is not None
    changes = checked(values, labels)
    return store.commit(lambda tx: edits.edit(tx, customer_id, changes, "tests"))


def merge(store: Store, kept: int | None, other: int | None, *keep_emails: str) -> Merged:
    assert kept is not None
    assert other is not None
    return store.commit(lambda tx: merges.merge(tx, kept, other, "tests", frozenset(), keep_emails or None))


def unmerge(store: Store, other: int | None, *leave: str) -> Unmerged:
    assert other is not None
    return store.commit(lambda tx: merges.unmerge(tx, other, "tests", frozenset(), leave))


def order(store: Store, order_id: str = "o1") -> OrderRecord:
    with store.read() as tx:
        (found,) = queries.find_orders(tx, order_id)
    return found


def customer(store: Store, customer_id: int | None) -> CustomerRecord:
    assert customer_id is not None
    with store.read() as tx:
        found = queries.get_customer(tx, customer_id)
    assert found is not None
    return found


def customer_of(store: Store, order_id: str = "o1") -> CustomerRecord:
    return customer(store, order(store, order_id).customer_id)


def basis(store: Store, order_id: str = "o1") -> str | None:
    return order(store, order_id).match_basis


def all_customers(store: Store) -> list[CustomerRecord]:
    with store.read() as tx:
        return queries.list_customers(tx, limit=1000)


def exported(store: Store, since: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """What a reader who continues from ``since`` gets: orders, customers, and the new position."""
    with store.read() as tx:
        upto = tx.readable_change_no()
        found = [order_object(o) for o in queries.changed_orders(tx, since, upto)]
        people = [customer_object(c) for c in queries.changed_customers(tx, since, upto)]
    return found, people, upto


def row(store: Store, table: sa.Table, **where: Any) -> dict[str, Any]:
    """One row as it lies in its table."""
    with store.read() as tx:
        query = sa.select(table).where(*(table.c[name] == value for name, value in where.items()))
        return dict(tx.conn.execute(query).mappings().one())


def count(store: Store, table: sa.Table) -> int:
    with store.read() as tx:
        return int(tx.conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
