"""Queries of commands, exports and status pages. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from store import customers, journal, orders, quarantine, tables
from store.codec import dump_words
from store.engine import Transaction
from store.merges import merged_into
from store.records import CustomerRecord, OrderRecord
from store.tables import NOT_ACTIVE, RARE_BASIS
from store.types import among

_ROWS_AT_ONCE = 500


def opened_orders(tx: Transaction, query: sa.Select[Any]) -> list[OrderRecord]:
    """Open the orders that a query finds, with their lines."""
    rows = tx.conn.execute(query).mappings().all()
    lines = orders.load_lines(tx, [row["order_key"] for row in rows]) if rows else {}
    return [orders.record_of(tx, row, lines.get(row["order_key"], ())) for row in rows]


def _in_chunks(
    tx: Transaction, table: sa.Table, key: str, since: int, upto: int, only: sa.ColumnElement[bool]
) -> Iterator[sa.Select[Any]]:
    """Yield queries that together return all rows changed in ``since < change_no <= upto``, in that order."""
    number, row_key = table.c.change_no, table.c[key]
    after: tuple[int, int] | None = None
    while True:
        query = sa.select(table).where(number > since, number <= upto, only)
        if after is not None:
            later = sa.and_(number == after[0], row_key > after[1])
            query = query.where(sa.or_(number > after[0], later))
        query = query.order_by(number, row_key).limit(_ROWS_AT_ONCE)
        ends = query.with_only_columns(number, row_key, maintain_column_froms=True)
        last = tx.conn.execute(ends).all()
        if not last:
            return
        yield query
        if len(last) < _ROWS_AT_ONCE:
            return
        after = (last[-1][0], last[-1][1])


def changed_orders(tx: Transaction, since: int, upto: int) -> Iterator[OrderRecord]:
    """Yield shown orders changed after position ``since`` up to ``upto``, oldest change first."""
    for query in _in_chunks(tx, tables.orders, "order_key", since, upto, tables.orders.c.shown):
        yield from opened_orders(tx, query)


def changed_customers(tx: Transaction, since: int, upto: int) -> Iterator[CustomerRecord]:
    """Yield customers, tombstones included, changed after position ``since`` up to ``upto``."""
    for query in _in_chunks(tx, tables.customers, "customer_id", since, upto, sa.true()):
        rows = tx.conn.execute(query).mappings().all()
        yield from customers.records_of(tx, rows).values()


def last_change(tx: Transaction, what: Literal["orders", "customers"]) -> int:
    """Return the position of the last readable change of these records; 0 without one."""
    number = (tables.orders if what == "orders" else tables.customers).c.change_no
    query = sa.select(sa.func.max(number)).where(number <= tx.readable_change_no())
    return int(tx.conn.execute(query).scalar_one_or_none() or 0)


def count_changed(tx: Transaction, what: Literal["orders", "customers"], since: int, upto: int) -> int:
    """Return how many records ``changed_orders`` or ``changed_customers`` yields."""
    table = tables.orders if what == "orders" else tables.customers
    only = tables.orders.c.shown if what == "orders" else sa.true()
    number = table.c.change_no
    query = sa.select(sa.func.count()).select_from(table).where(number > since, number <= upto, only)
    return int(tx.conn.execute(query).scalar_one())


def find_orders(tx: Transaction, order_id: str, account: str | None = None) -> list[OrderRecord]:
    """Return the orders with this Amazon id: one for each account that has it."""
    accounts = distinct(tx, tables.orders.c.account) if account is None else [account]
    query = sa.select(tables.orders).where(
        tables.orders.c.order_id == order_id, tables.orders.c.account.in_(accounts)
    )
    return opened_orders(tx, query)


def distinct(tx: Transaction, column: sa.ColumnElement[str]) -> list[str]:
    """Return the few different values of a column that begins an index, by one look-up for each."""
    values: list[str] = []
    query = sa.select(sa.func.min(column))
    while (least := tx.conn.execute(query).scalar_one_or_none()) is not None:
        values.append(least)
        query = sa.select(sa.func.min(column)).where(column > least)
    return values


def oldest_order(tx: Transaction) -> datetime | None:
    """Return when the oldest order was placed; None without orders."""
    return tx.conn.execute(sa.select(sa.func.min(tables.orders.c.created_at))).scalar_one_or_none()


def list_orders(
    tx: Transaction,
    *,
    limit: int,
    status: str | None = None,
    marketplace: str | None = None,
    customer_id: int | None = None,
    match_basis: str | None = None,
    account: str | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    before: tuple[datetime, int] | None = None,
) -> list[OrderRecord]:
    """Return the newest shown orders by created time; ``before``: those that follow this position."""
    c = tables.orders.c
    query = (
        sa.select(tables.orders).where(c.shown).order_by(c.created_at.desc(), c.order_key.desc()).limit(limit)
    )
    if created_from is not None:
        query = query.where(c.created_at >= created_from)
    if created_to is not None:
        query = query.where(c.created_at < created_to)
    if before is not None:
        at, key = before
        query = query.where(c.created_at <= at, sa.or_(c.created_at < at, c.order_key < key))
    for column, value in (
        (c.account, account),
        (c.status, status),
        (c.marketplace, marketplace),
        (c.customer_id, customer_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if match_basis is not None:
        query = query.where(matched_by(match_basis))
    return opened_orders(tx, query)


def matched_by(basis: str) -> sa.ColumnElement[bool]:
    """Return the condition that orders have this ``match_basis``; a rare one is found by its index."""
    condition = tables.orders.c.match_basis == basis
    return condition if basis in ("created", "email_1") else sa.and_(condition, sa.text(RARE_BASIS))


def order_statuses(tx: Transaction) -> list[str]:
    """Return the different statuses of shown orders, sorted; reads all of them."""
    query = (
        sa.select(tables.orders.c.status)
        .where(tables.orders.c.shown, tables.orders.c.status.is_not(None))
        .distinct()
    )
    return sorted(tx.conn.execute(query).scalars())


def position_of(tx: Transaction, account: str, order_id: str) -> tuple[datetime, int] | None:
    """Return the position of an order in ``list_orders``."""
    c = tables.orders.c
    query = sa.select(c.created_at, c.order_key).where(c.account == account, c.order_id == order_id)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else (row.created_at, row.order_key)


def orders_of_customer(tx: Transaction, customer_id: int) -> list[OrderRecord]:
    """Return all orders of a customer, pending ones included, oldest first."""
    c = tables.orders.c
    query = sa.select(tables.orders).where(c.customer_id == customer_id).order_by(c.created_at, c.order_key)
    return opened_orders(tx, query)


def list_customers(
    tx: Transaction,
    *,
    limit: int,
    status: str | None = None,
    email: str | None = None,
    business: str | None = None,
    before: int | None = None,
) -> list[CustomerRecord]:
    """Return the newest customers; ``email``: those with this main e-mail in any business."""
    c = tables.customers.c
    query = sa.select(tables.customers).order_by(c.customer_id.desc()).limit(limit)
    if business is not None:
        query = query.where(c.business == business)
    if before is not None:
        query = query.where(c.customer_id < before)
    if status is not None:
        query = query.where(c.status == status)
        if status != "active":
            query = query.where(sa.text(NOT_ACTIVE))
    if email is not None:
        with_email = [
            customer_id
            for business in distinct(tx, tables.customer_emails.c.business)
            for customer_id, _ in customers.find_emails(tx, business, [email]).values()
        ]
        query = query.where(c.customer_id.in_(with_email))
    return list(customers.records_of(tx, tx.conn.execute(query).mappings().all()).values())


def get_customer(tx: Transaction, customer_id: int) -> CustomerRecord | None:
    """Return a customer, also a tombstone; None if there is none with this id."""
    query = sa.select(tables.customers).where(tables.customers.c.customer_id == customer_id)
    return customers.records_of(tx, tx.conn.execute(query).mappings().all()).get(customer_id)


def version_of(tx: Transaction, customer_id: int) -> int | None:
    """Return the number that each change of a customer changes."""
    query = sa.select(tables.customers.c.change_no).where(tables.customers.c.customer_id == customer_id)
    version: int | None = tx.conn.execute(query).scalar_one_or_none()
    return version


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One journalled change of a customer; ``details`` have ``before`` and ``after``, by field."""

    entry: int
    at: datetime
    who: str
    action: str
    customer_id: int
    other_id: int | None
    order_id: str | None
    details: Mapping[str, Any] = field(repr=False)


def journal_of(tx: Transaction, customer_id: int) -> list[JournalEntry]:
    """Return all entries about a customer, those of its merges with others included, oldest first."""
    c = tables.journal.c
    query = (
        sa.select(c.entry, c.at, c.who, c.action, c.customer_id, c.other_id, c.order_id, c.details)
        .where(sa.or_(c.customer_id == customer_id, c.other_id == customer_id))
        .order_by(c.entry)
    )
    return [JournalEntry(**{**row._mapping, "details": journal.opened(tx, row)}) for row in tx.rows(query)]


def emails_before(tx: Transaction, customer_id: int, entry: int) -> list[str]:
    """Return the main e-mails that changes of a customer replaced, since an entry of the journal."""
    changes = [each.details.get("before", {}) for each in journal_of(tx, customer_id) if each.entry >= entry]
    fields = [f"email_{slot}" for slot in (1, 2, 3)]
    return [email for before in changes for name in fields if (email := before.get(name)) is not None]


def merges_of(tx: Transaction, order: OrderRecord) -> list[tuple[int, int]]:
    """Return from which customer to which standing merges moved an order, oldest first."""
    o, j = tables.orders.c, tables.journal.c
    query = (
        sa.select(j.other_id, j.customer_id)
        .select_from(tables.orders)
        .join(
            tables.merged_orders,
            sa.and_(tables.merged_orders.c.order_key == o.order_key, tables.merged_orders.c.moved),
        )
        .join(tables.journal, j.entry == tables.merged_orders.c.entry)
        .where(o.account == order.account, o.order_id == order.order_id)
        .order_by(j.entry)
    )
    return [(row.other_id, row.customer_id) for row in tx.rows(query)]


def suggested(tx: Transaction) -> list[tuple[int, int]]:
    """Return records for a person to check, each with the one that its order was promoted to (R22).

    Later merges of both are followed; pairs that have become one record are left out.
    """
    c = tables.customers.c
    query = sa.select(c.customer_id, c.suggested_into).where(c.suggested_into.is_not(None))
    pairs: dict[tuple[int, int], None] = {}
    for row in tx.rows(query.order_by(c.customer_id)):
        left, into = followed(tx, row.customer_id), followed(tx, row.suggested_into)
        if left != into and "forgotten" not in statuses(tx, (left, into)).values():
            pairs[left, into] = None
    return list(pairs)


def followed(tx: Transaction, customer_id: int) -> int:
    """Return the record to which a customer's tombstones lead (R53)."""
    into: int | None = customer_id
    while into is not None:
        customer_id = into
        into = merged_into(tx, customer_id)
    return customer_id


def statuses(tx: Transaction, customer_ids: Collection[int]) -> dict[int, str]:
    """Return the status of some customers."""
    c = tables.customers.c
    query = sa.select(c.customer_id, c.status).where(among(c.customer_id, sorted(customer_ids)))
    return {row.customer_id: row.status for row in tx.rows(query)} if customer_ids else {}


def count_customers(tx: Transaction) -> int:
    """Return the number of records, tombstones included."""
    return int(tx.conn.execute(sa.select(sa.func.count()).select_from(tables.customers)).scalar_one())


@dataclass(frozen=True, slots=True)
class Unconfigured:
    """Orders without a customer because their marketplace has no file; some name no marketplace."""

    account: str
    marketplace_id: str | None
    orders: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts for the status page, over all accounts.

    ``without_marketplace`` counts orders that name no marketplace, as those of other channels: no
    configuration can make them known. ``unconfigured`` counts shown orders whose only obstacle to a customer
    is the unknown marketplace, by account and marketplace.
    """

    orders: int
    customers: int
    unidentified: int
    pending: int
    held: int
    suggested: int
    unknown_marketplace: int
    without_marketplace: int
    quarantined: int
    by_basis: dict[str, int]
    unconfigured: tuple[Unconfigured, ...] = ()


UNCOUNTED = Totals(0, 0, 0, 0, 0, 0, 0, 0, 0, {})
"""For callers that need no totals: counting a million orders takes seconds."""


def totals(tx: Transaction) -> Totals:
    """Count orders, customers and quarantine over all accounts."""
    o, c = tables.orders.c, tables.customers.c
    by_basis: dict[str, int] = {}
    shown = pending = unknown = nowhere = 0
    kinds = (
        o.match_basis,
        o.shown,
        o.marketplace.is_(None).label("unknown"),
        o.marketplace_id.is_(None).label("nowhere"),
    )
    grouped = sa.select(*kinds, sa.func.count().label("number")).group_by(*kinds)
    for row in tx.rows(grouped):
        if not row.shown:
            pending += row.number
        else:
            shown += row.number
            basis = row.match_basis or "none"
            by_basis[basis] = by_basis.get(basis, 0) + row.number
        if row.unknown:
            unknown += row.number
            nowhere += row.number if row.nowhere else 0
    statuses = sa.select(c.status, sa.func.count().label("number")).group_by(c.status)
    people: dict[str, int] = {row.status: row.number for row in tx.rows(statuses)}
    quarantined = tx.conn.execute(sa.select(sa.func.count()).select_from(tables.quarantine)).scalar_one()
    return Totals(
        orders=shown,
        customers=people.get("active", 0) + people.get("unidentified", 0),
        unidentified=people.get("unidentified", 0),
        pending=pending,
        held=by_basis.get("held", 0),
        suggested=len(suggested(tx)),
        unknown_marketplace=unknown,
        without_marketplace=nowhere,
        quarantined=quarantined,
        by_basis=dict(sorted(by_basis.items(), key=lambda item: -item[1])),
        unconfigured=_unconfigured(tx) if unknown else (),
    )


_CANCELLED_EARLY = dump_words(("R33",))


def _unconfigured(tx: Transaction) -> tuple[Unconfigured, ...]:
    """Count orders of unknown marketplaces, except those that get no customer anyway."""
    o = tables.orders.c
    query = (
        sa.select(o.account, o.marketplace_id, sa.func.count().label("number"))
        .where(o.marketplace.is_(None), o.shown, o.customer_id.is_(None), o.match_rules != _CANCELLED_EARLY)
        .group_by(o.account, o.marketplace_id)
    )
    unconfigured = [Unconfigured(row.account, row.marketplace_id, row.number) for row in tx.rows(query)]
    return tuple(sorted(unconfigured, key=lambda u: (-u.orders, u.account, u.marketplace_id or "")))


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows some tables have. ``erased``: orders without buyer data."""

    orders: int
    lines: int
    quarantined: int
    erased: int


def row_counts(tx: Transaction) -> RowCounts:
    """Count rows, pending orders included."""
    counts = [
        sa.select(sa.func.count()).select_from(table)
        for table in (tables.orders, tables.order_lines, tables.quarantine)
    ]
    counts.append(sa.select(sa.func.count()).where(tables.orders.c.erased_at.is_not(None)))
    return RowCounts(*tx.conn.execute(sa.select(*(count.scalar_subquery() for count in counts))).one())


def order_versions(tx: Transaction) -> list[tuple[str, datetime]]:
    """Return each stored order's id and its last update at Amazon."""
    query = sa.select(tables.orders.c.order_id, tables.orders.c.last_updated_at)
    return [(row.order_id, row.last_updated_at) for row in tx.rows(query)]


def erased_emails(tx: Transaction) -> list[tuple[str, bytes]]:
    """Return business and hash of each customer's e-mail whose text was erased (R61)."""
    c = tables.customer_emails.c
    query = sa.select(c.business, c.email_hash).where(c.email.is_(None))
    return [(row.business, row.email_hash) for row in tx.rows(query)]


_IS_BEHIND = sa.select(sa.or_(quarantine.IS_ANY_OF_OLDER_READERS, orders.IS_ANY_WAITING))


def is_behind(
    tx: Transaction, account: str, version: str, known: Sequence[str], holding_none: Sequence[str]
) -> bool:
    """Return True if orders of an account wait for this version of the program or for its configuration.

    That is, if ``quarantine.of_older_readers`` or ``orders.waiting`` would return any.
    """
    values = {
        "of_account": account,
        "version": version,
        "known": known,
        "holding_none": holding_none,
    }
    return bool(tx.conn.execute(_IS_BEHIND, values).scalar_one())
