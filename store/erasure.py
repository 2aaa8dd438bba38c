"""Erase buyer data: find what is due and clear it without opening it (R60-R63).

Each function does a bounded amount of work for one transaction. Rows are locked in the order in which storing
a page locks them, orders by key and then customers by id, so the two seldom block each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import codec
from store.engine import Row, Transaction
from store.engine.outbox import announce_erased
from store.order_rows import LINES, ORDERS
from store.records import OrderRecord
from store.tables import (
    businesses,
    customer_emails,
    customers,
    forgotten_orders,
    merged_orders,
    order_lines,
    orders,
    quarantine,
)
from store.types import among

TABLES = (
    *("orders", "order_lines", "customers", "customer_emails", "customer_words"),
    *("journal", "quarantine", "windows"),
)
"""Tables from which data is erased."""

_LINE_HOLDS = sa.or_(*(order_lines.c[name].is_not(None) for name in LINES.sealed))
_HOLDS = sa.or_(
    *(orders.c[name].is_not(None) for name in ORDERS.sealed),
    sa.exists().where(order_lines.c.order_key == orders.c.order_key, _LINE_HOLDS),
)
"""Condition for orders that hold any buyer data."""


class OrderRef(NamedTuple):
    """An order whose buyer data will be erased; ``holds``: it has any."""

    order_key: int
    account: str
    order_id: str
    customer_id: int | None
    holds: bool


# --- orders -------------------------------------------------------------------------------------------


def last_erased(tx: Transaction) -> datetime | None:
    """Return when the buyer data of an order was erased last. Reads all orders."""
    return tx.conn.execute(sa.select(sa.func.max(orders.c.erased_at))).scalar_one_or_none()


def due_orders(tx: Transaction, over: datetime, limit: int) -> list[OrderRef]:
    """Return orders whose term has passed and that were not erased yet, longest overdue first; locked."""
    c = orders.c
    due = sa.and_(c.erased_at.is_(None), c.term_at <= over)
    keys = tx.conn.execute(sa.select(c.order_key).where(due).order_by(c.term_at).limit(limit)).scalars().all()
    return refs_of(tx, sa.and_(among(c.order_key, keys), due)) if keys else []


def count_due(tx: Transaction, over: datetime) -> int:
    """Return how many orders ``due_orders`` has left."""
    c = orders.c
    query = sa.select(sa.func.count()).where(c.erased_at.is_(None), c.term_at <= over)
    return int(tx.conn.execute(query.select_from(orders)).scalar_one())


def oldest_due(tx: Transaction, over: datetime) -> datetime | None:
    """Return the term of the order that has been due longest."""
    c = orders.c
    query = sa.select(c.term_at).where(c.erased_at.is_(None), c.term_at <= over).order_by(c.term_at).limit(1)
    term_at: datetime | None = tx.conn.execute(query).scalar_one_or_none()
    return term_at


def refs_of(tx: Transaction, which: sa.ColumnElement[bool]) -> list[OrderRef]:
    c = orders.c
    query = (
        sa.select(c.order_key, c.account, c.order_id, c.customer_id, _HOLDS.label("holds"))
        .where(which)
        .order_by(c.order_key)
    )
    return [OrderRef(**row._mapping) for row in tx.rows(tx.lock(query))]


def orders_of(tx: Transaction, customer_ids: Collection[int]) -> list[OrderRef]:
    """Return all orders of these customers, locked."""
    return refs_of(tx, among(orders.c.customer_id, sorted(customer_ids)))


def orders_to_forget(tx: Transaction, account: str, limit: int) -> list[OrderRef]:
    """Return orders of an account that are not forgotten yet, locked."""
    c, f = orders.c, forgotten_orders.c
    known = sa.exists().where(f.account == c.account, f.order_id == c.order_id)
    query = sa.select(c.order_key).where(c.account == account, sa.not_(known)).limit(limit)
    keys = tx.conn.execute(query).scalars().all()
    return refs_of(tx, among(c.order_key, keys)) if keys else []


def count_to_forget(tx: Transaction, account: str) -> int:
    """Return how many orders of an account are not forgotten yet."""
    c, f = orders.c, forgotten_orders.c
    known = sa.exists().where(f.account == c.account, f.order_id == c.order_id)
    query = sa.select(sa.func.count()).where(c.account == account, sa.not_(known))
    return int(tx.conn.execute(query.select_from(orders)).scalar_one())


def known_accounts(tx: Transaction) -> list[str]:
    """Return all accounts with stored data, sorted."""
    return list(tx.conn.execute(sa.select(businesses.c.account).order_by(businesses.c.account)).scalars())


def erase_orders(tx: Transaction, refs: Sequence[OrderRef], *, whole: bool = False) -> None:
    """Erase buyer data from orders and lines for good; countries stay.

    A billing address that is not Amazon's stays, too, unless ``whole``. Orders that held anything get a new
    change position, so readers of changes are notified.
    """
    if not refs:
        return
    c = orders.c
    cleared: dict[str, Any] = dict.fromkeys(ORDERS.sealed)
    if not whole:
        entered = c.billing_origin.in_(("hand", "import"))
        cleared["billing"] = sa.case((entered, c.billing), else_=sa.null())
    keys = [ref.order_key for ref in refs]
    holding = [ref.order_key for ref in refs if ref.holds]
    erased = sa.update(orders).where(among(c.order_key, keys))
    tx.conn.execute(erased.values(**cleared, erased_at=sa.func.coalesce(c.erased_at, tx.now)))
    if not holding:
        return
    changed = sa.update(orders).where(among(c.order_key, holding))
    tx.conn.execute(changed.values(changed_at=tx.now, change_no=tx.change_no))
    lines = sa.update(order_lines).where(among(order_lines.c.order_key, holding), _LINE_HOLDS)
    tx.conn.execute(lines.values(dict.fromkeys(LINES.sealed)))


# --- orders without buyer data (R64) --------------------------------------------------------------------


def _old(before: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(orders.c.created_at < before, orders.c.erased_at.is_not(None))


def old_orders(tx: Transaction, before: datetime, limit: int) -> list[OrderRef]:
    """Return orders placed before this time whose buyer data was erased, oldest first; locked."""
    c = orders.c
    oldest = sa.select(c.order_key).where(_old(before)).order_by(c.created_at).limit(limit)
    keys = tx.conn.execute(oldest).scalars().all()
    return refs_of(tx, sa.and_(among(c.order_key, keys), _old(before))) if keys else []


def count_old(tx: Transaction, before: datetime) -> int:
    """Return how many orders ``old_orders`` has left."""
    query = sa.select(sa.func.count()).select_from(orders).where(_old(before))
    return int(tx.conn.execute(query).scalar_one())


def delete_orders(tx: Transaction, refs: Sequence[OrderRef]) -> None:
    """Delete orders with their lines, and what merges and quarantine know of them.

    A reader of changes is notified of each that was shown. Their customers stay, and remember when they
    ordered last (``idle_since``).
    """
    ids = sorted({ref.customer_id for ref in refs if ref.customer_id is not None})
    lock_customers(tx, ids)
    ordered = last_orders(tx, ids)
    c, p = orders.c, customers.c
    idle = sa.select(p.customer_id, p.idle_since).where(among(p.customer_id, ids), p.idle_since.is_not(None))
    for row in tx.rows(idle):
        if row.idle_since < ordered.get(row.customer_id, row.idle_since):
            set_idle(tx, row.customer_id, ordered[row.customer_id])
    keys = [ref.order_key for ref in refs]
    shown = sa.select(c.order_key, c.account, c.order_id, c.marketplace, c.customer_id).where(
        among(c.order_key, keys), c.shown
    )
    rows = [row._asdict() for row in tx.rows(shown)]
    announce_erased(tx.conn, tx.change_no, tx.now, rows)
    for table in (order_lines, merged_orders):
        tx.conn.execute(sa.delete(table).where(among(table.c.order_key, keys)))
    tx.conn.execute(sa.delete(orders).where(among(c.order_key, keys)))
    for account in sorted({ref.account for ref in refs}):
        order_ids = [ref.order_id for ref in refs if ref.account == account]
        q = quarantine.c
        tx.conn.execute(sa.delete(quarantine).where(q.account == account, among(q.order_id, order_ids)))


def delete_old_payloads(tx: Transaction, before: datetime) -> int:
    """Delete entries of quarantine, erased already, of orders that changed last before this time."""
    q = quarantine.c
    changed = sa.func.coalesce(q.last_updated_at, q.first_seen_at, type_=q.first_seen_at.type)
    old = sa.delete(quarantine).where(q.term_at.is_(None), q.first_seen_at < before, changed < before)
    return tx.conn.execute(old).rowcount


def without_term(tx: Transaction, limit: int) -> list[tuple[int, OrderRecord]]:
    """Return orders, with their keys, that a version of the program without terms stored."""
    c = orders.c
    query = sa.select(orders).where(c.erased_at.is_(None), c.term_at.is_(None)).limit(limit)
    rows = tx.conn.execute(tx.lock(query.order_by(c.order_key))).mappings().all()
    return [(row["order_key"], _dated(row)) for row in rows]


def _dated(row: Row) -> OrderRecord:
    """Return the fields of an order that its term depends on, without opening anything sealed."""
    return OrderRecord(
        account=row["account"],
        order_id=row["order_id"],
        channel=row["channel"],
        created_at=row["created_at"],
        last_updated_at=row["last_updated_at"],
        as_of=codec.load_as_of(row["as_of"], row["last_updated_at"]),
        status=row["status"],
        deliver_by=row["deliver_by"],
        packages=codec.load_packages(row["packages"]),
        delivered_at=row["delivered_at"],
        shipped_at=row["shipped_at"],
        cancelled_at=row["cancelled_at"],
    )


def which_erased(tx: Transaction, account: str, order_ids: Collection[str]) -> frozenset[str]:
    """Return those of the stored orders that accept no buyer data any more (R63)."""
    c = orders.c
    query = sa.select(c.order_id).where(
        c.account == account, among(c.order_id, sorted(order_ids)), c.erased_at.is_not(None)
    )
    return frozenset(tx.conn.execute(query).scalars())


def save_terms(tx: Transaction, terms: Mapping[int, datetime]) -> None:
    """Store terms by order key."""
    rows = [{"order_key": key, "term_at": at} for key, at in sorted(terms.items())]
    tx.update(orders, rows, order_key=None)


# --- forgotten orders -----------------------------------------------------------------------------------

_FORGETTING = "forgetting"


def hold_off_forgetting(tx: Transaction) -> None:
    """Let nothing be forgotten until this transaction ends: what it stores is found by what forgets next."""
    tx.hold(_FORGETTING, shared=True)


def hold_off_storing(tx: Transaction) -> None:
    """Let no orders be stored until this transaction ends.

    Row locks would not do: a page may bring an order of which only quarantine knows, without an e-mail.
    """
    tx.hold(_FORGETTING, shared=False)


def remember_forgotten(tx: Transaction, order_ids: Iterable[tuple[str, str]]) -> None:
    """Refuse buyer data of these (account, order id) from now on, whatever its source (R63)."""
    rows = [{"account": a, "order_id": o, "forgotten_at": tx.now} for a, o in sorted(set(order_ids))]
    tx.insert_missing(forgotten_orders, rows)


_ANY_FORGOTTEN = (
    sa.select(forgotten_orders.c.order_id)
    .where(forgotten_orders.c.account == sa.bindparam("account"))
    .limit(1)
)


def which_forgotten(tx: Transaction, account: str, order_ids: Collection[str]) -> frozenset[str]:
    """Return those of the orders that are forgotten."""
    if not order_ids or tx.conn.execute(_ANY_FORGOTTEN, {"account": account}).first() is None:
        return frozenset()
    c = forgotten_orders.c
    query = sa.select(c.order_id).where(c.account == account, among(c.order_id, sorted(order_ids)))
    return frozenset(tx.conn.execute(query).scalars())


def forgotten_at(tx: Transaction, account: str, order_id: str) -> datetime | None:
    """Return when an order was forgotten; None if it was not."""
    c = forgotten_orders.c
    query = sa.select(c.forgotten_at).where(c.account == account, c.order_id == order_id)
    at: datetime | None = tx.conn.execute(query).scalar_one_or_none()
    return at


# --- customers --------------------------------------------------------------------------------------------


def not_waiting(tx: Transaction, customer_ids: Collection[int], over: datetime) -> list[int]:
    """Return those of the records without an order whose term is after ``over``.

    Leaves out shared and placeholder records, which hold no one's data, and tombstones, whose data waits with
    the record that they were merged into.
    """
    if not customer_ids:
        return []
    c, o = customers.c, orders.c
    waits = sa.exists().where(o.customer_id == c.customer_id, _waits(over))
    query = sa.select(c.customer_id).where(
        among(c.customer_id, sorted(customer_ids)),
        c.special.is_(None),
        c.status != "merged",
        sa.not_(waits),
    )
    return sorted(tx.conn.execute(query).scalars())


def _waits(over: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(orders.c.term_at > over, orders.c.term_at.is_(None))


def with_tombstones(tx: Transaction, customer_ids: Collection[int]) -> list[int]:
    """Return these records and all that were ever merged into them."""
    c = customers.c
    ids, fresh = set(customer_ids), set(customer_ids)
    while fresh:
        query = sa.select(c.customer_id).where(among(c.merged_into, sorted(fresh)))
        fresh = set(tx.conn.execute(query).scalars()) - ids
        ids |= fresh
    return sorted(ids)


_HAS_AMAZON_DATA = sa.or_(
    *(
        customers.c.origins.contains(f'"{name}":"amazon"', autoescape=True)
        for name in ("name", "company", "amazon_name", "phone", "billing", "delivery")
    ),
    sa.exists().where(
        customer_emails.c.customer_id == customers.c.customer_id,
        customer_emails.c.email.is_not(None),
        customer_emails.c.origin == "amazon",
    ),
)


def lock_customers(tx: Transaction, customer_ids: Collection[int]) -> None:
    """Lock these records, so that no page gives them another order."""
    c = customers.c
    if customer_ids:
        query = sa.select(c.customer_id).where(among(c.customer_id, sorted(customer_ids)))
        tx.lock_all(query.order_by(c.customer_id))


def left_behind(
    tx: Transaction, after: int, over: datetime, unchanged_since: datetime, chunk: int
) -> tuple[list[int], int | None]:
    """Return those of the next ``chunk`` records with Amazon's data that wait for no order's term.

    A record whose orders have all moved elsewhere counts if it has not changed since ``unchanged_since``. A
    tombstone is replaced by the record that it was merged into. Returns also the id from which to continue,
    None at the end.
    """
    c = customers.c
    ids = sa.select(c.customer_id).where(c.customer_id > after).order_by(c.customer_id).limit(chunk)
    last = tx.conn.execute(ids).scalars().all()
    if not last:
        return [], None
    due = sa.or_(c.status == "merged", _may_go(over, unchanged_since))
    which = sa.and_(c.customer_id > after, c.customer_id <= last[-1], c.special.is_(None), _HAS_AMAZON_DATA)
    due_ids: set[int] = set()
    while True:
        rows = tx.rows(sa.select(c.customer_id, c.merged_into).where(which, due))
        due_ids.update(row.customer_id for row in rows if row.merged_into is None)
        into = sorted({row.merged_into for row in rows if row.merged_into is not None})
        if not into:
            return sorted(due_ids), last[-1]
        which = among(c.customer_id, into)


def _may_go(over: datetime, unchanged_since: datetime) -> sa.ColumnElement[bool]:
    """Return the condition for records that no order keeps, whether they have orders or not."""
    c, o = customers.c, orders.c
    has_orders = sa.exists().where(o.customer_id == c.customer_id)
    waits = sa.exists().where(o.customer_id == c.customer_id, _waits(over))
    return sa.and_(sa.or_(has_orders, c.changed_at <= unchanged_since), sa.not_(waits))


def last_orders(tx: Transaction, customer_ids: Collection[int]) -> dict[int, datetime]:
    """Return when each of the customers ordered last."""
    c = orders.c
    query = (
        sa.select(c.customer_id, sa.func.max(c.created_at, type_=c.created_at.type).label("last"))
        .where(among(c.customer_id, sorted(customer_ids)))
        .group_by(c.customer_id)
    )
    return {row.customer_id: row.last for row in tx.rows(query)}


def idle_customers(tx: Transaction, since: datetime, limit: int) -> list[int]:
    """Return records with kept hashes that may have had no order since then, longest idle first."""
    c = customers.c
    query = sa.select(c.customer_id).where(c.idle_since <= since).order_by(c.idle_since).limit(limit)
    return list(tx.conn.execute(query).scalars())


def count_idle(tx: Transaction, since: datetime) -> int:
    """Return how many records ``idle_customers`` has left."""
    query = sa.select(sa.func.count()).where(customers.c.idle_since <= since)
    return int(tx.conn.execute(query.select_from(customers)).scalar_one())


def set_idle(tx: Transaction, customer_id: int, since: datetime) -> None:
    """Correct since when a record has had no order."""
    record = sa.update(customers).where(customers.c.customer_id == customer_id)
    tx.conn.execute(record.values(idle_since=since))


def customers_to_forget(tx: Transaction, account: str, limit: int) -> list[int]:
    """Return records of an account that are not forgotten yet, without tombstones.

    If the account is the only one of its business, all records of the business; else those that came from
    this account and have no order of another one.
    """
    c, o = customers.c, orders.c
    business, alone = business_of(tx, account)
    of_account: sa.ColumnElement[bool] = c.business == business
    if not alone:
        elsewhere = sa.exists().where(o.customer_id == c.customer_id, o.account != account)
        of_account = sa.and_(of_account, c.account == account, sa.not_(elsewhere))
    query = (
        sa.select(c.customer_id)
        .where(of_account, c.special.is_(None), c.status.not_in(("merged", "forgotten")))
        .order_by(c.customer_id)
        .limit(limit)
    )
    return list(tx.conn.execute(query).scalars())


def business_of(tx: Transaction, account: str) -> tuple[str, bool]:
    """Return the business of an account, and True if it has no other account."""
    c = businesses.c
    recorded = tx.conn.execute(sa.select(c.business).where(c.account == account)).scalar_one_or_none()
    business = account if recorded is None else str(recorded)
    others = sa.select(sa.func.count()).where(c.business == business, c.account != account)
    return business, tx.conn.execute(others.select_from(businesses)).scalar_one() == 0
