"""The read side: what commands, exports and status pages ask. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store import customers as customer_rows
from store import orders as order_rows
from store import quarantine as quarantined
from store.codec import dump_words
from store.engine import Transaction
from store.journal import opened as details_of
from store.merges import merged_into
from store.records import CustomerRecord, OrderRecord
from store.tables import (
    NOT_ACTIVE,
    RARE_BASIS,
    customer_emails,
    customers,
    journal,
    merged_orders,
    order_lines,
    orders,
    quarantine,
)
from store.types import among

_CHUNK = 500


def opened_orders(tx: Transaction, query: sa.Select[Any]) -> list[OrderRecord]:
    rows = tx.conn.execute(query).mappings().all()
    lines = order_rows.load_lines(tx, [row["order_key"] for row in rows]) if rows else {}
    return [order_rows.record_of(tx, row, lines.get(row["order_key"], ())) for row in rows]


def _in_chunks(
    tx: Transaction, table: sa.Table, key: str, since: int, upto: int, only: sa.ColumnElement[bool]
) -> Iterator[sa.Select[Any]]:
    """Queries that together give all rows changed in ``since < change_no <= upto``, in that order."""
    number, row_key = table.c.change_no, table.c[key]
    after: tuple[int, int] | None = None
    while True:
        query = sa.select(table).where(number > since, number <= upto, only)
        if after is not None:
            later = sa.and_(number == after[0], row_key > after[1])
            query = query.where(sa.or_(number > after[0], later))
        query = query.order_by(number, row_key).limit(_CHUNK)
        ends = query.with_only_columns(number, row_key, maintain_column_froms=True)
        last = tx.conn.execute(ends).all()
        if not last:
            return
        yield query
        if len(last) < _CHUNK:
            return
        after = (last[-1][0], last[-1][1])


def changed_orders(tx: Transaction, since: int, upto: int) -> Iterator[OrderRecord]:
    """Shown orders changed after position ``since``, up to ``upto``, opened, oldest change first."""
    for query in _in_chunks(tx, orders, "order_key", since, upto, orders.c.shown):
        yield from opened_orders(tx, query)


def changed_customers(tx: Transaction, since: int, upto: int) -> Iterator[CustomerRecord]:
    """Customers, tombstones too, changed after position ``since``, up to ``upto``, opened."""
    for query in _in_chunks(tx, customers, "customer_id", since, upto, sa.true()):
        rows = tx.conn.execute(query).mappings().all()
        yield from customer_rows.records_of(tx, rows).values()


def find_orders(tx: Transaction, order_id: str, account: str | None = None) -> list[OrderRecord]:
    """Orders with this Amazon id: one for each account that has it."""
    accounts = distinct(tx, orders.c.account) if account is None else [account]
    query = sa.select(orders).where(orders.c.order_id == order_id, orders.c.account.in_(accounts))
    return opened_orders(tx, query)


def distinct(tx: Transaction, column: sa.ColumnElement[str]) -> list[str]:
    """The few different values of a column that begins an index: one look-up for each of them."""
    found: list[str] = []
    query = sa.select(sa.func.min(column))
    while (least := tx.conn.execute(query).scalar_one_or_none()) is not None:
        found.append(least)
        query = sa.select(sa.func.min(column)).where(column > least)
    return found


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
    """The newest shown orders, by created time; with ``before``, those that come after that position."""
    c = orders.c
    query = sa.select(orders).where(c.shown).order_by(c.created_at.desc(), c.order_key.desc()).limit(limit)
    if created_from is not None:
        query = query.where(c.created_at >= created_from)
    if created_to is not None:
        query = query.where(c.created_at < created_to)
    if before is not None:
        at, key = before
        query = query.where(c.created_at <= at, sa.or_(c.created_at < at, c.order_key < key))
    for column, wanted in (
        (c.account, account),
        (c.status, status),
        (c.marketplace, marketplace),
        (c.customer_id, customer_id),
        (c.match_basis, match_basis),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if match_basis not in (None, "created", "email_1"):
        query = query.where(sa.text(RARE_BASIS))
    return opened_orders(tx, query)


def order_statuses(tx: Transaction) -> list[str]:
    """The different statuses of shown orders, sorted; looks at all of them."""
    query = sa.select(orders.c.status).where(orders.c.shown, orders.c.status.is_not(None)).distinct()
    return sorted(tx.conn.execute(query).scalars())


def position_of(tx: Transaction, account: str, order_id: str) -> tuple[datetime, int] | None:
    """Where an order stands in ``list_orders``."""
    c = orders.c
    query = sa.select(c.created_at, c.order_key).where(c.account == account, c.order_id == order_id)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else (row.created_at, row.order_key)


def orders_of_customer(tx: Transaction, customer_id: int) -> list[OrderRecord]:
    """All orders of one customer, oldest first, those that are only remembered too."""
    c = orders.c
    query = sa.select(orders).where(c.customer_id == customer_id).order_by(c.created_at, c.order_key)
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
    """The newest customers; ``email`` finds by main e-mail in every business, ``before`` by smaller ids."""
    c = customers.c
    query = sa.select(customers).order_by(c.customer_id.desc()).limit(limit)
    if business is not None:
        query = query.where(c.business == business)
    if before is not None:
        query = query.where(c.customer_id < before)
    if status is not None:
        query = query.where(c.status == status)
        if status != "active":
            query = query.where(sa.text(NOT_ACTIVE))
    if email is not None:
        found = [
            customer_id
            for business in distinct(tx, customer_emails.c.business)
            for customer_id, _ in customer_rows.find_emails(tx, business, [email]).values()
        ]
        query = query.where(c.customer_id.in_(found))
    return list(customer_rows.records_of(tx, tx.conn.execute(query).mappings().all()).values())


def get_customer(tx: Transaction, customer_id: int) -> CustomerRecord | None:
    """One customer, opened; a tombstone too."""
    query = sa.select(customers).where(customers.c.customer_id == customer_id)
    return customer_rows.records_of(tx, tx.conn.execute(query).mappings().all()).get(customer_id)


def version_of(tx: Transaction, customer_id: int) -> int | None:
    """A number that every change of a customer changes."""
    query = sa.select(customers.c.change_no).where(customers.c.customer_id == customer_id)
    found: int | None = tx.conn.execute(query).scalar_one_or_none()
    return found


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
    """What was done to a customer, and with it to others, oldest first."""
    c = journal.c
    query = (
        sa.select(c.entry, c.at, c.who, c.action, c.customer_id, c.other_id, c.order_id, c.details)
        .where(sa.or_(c.customer_id == customer_id, c.other_id == customer_id))
        .order_by(c.entry)
    )
    return [JournalEntry(**{**row._mapping, "details": details_of(tx, row)}) for row in tx.rows(query)]


def merges_of(tx: Transaction, order: OrderRecord) -> list[tuple[int, int]]:
    """From which customer to which an order was moved by merges that stand, oldest first."""
    o, j = orders.c, journal.c
    query = (
        sa.select(j.other_id, j.customer_id)
        .select_from(orders)
        .join(merged_orders, sa.and_(merged_orders.c.order_key == o.order_key, merged_orders.c.moved))
        .join(journal, j.entry == merged_orders.c.entry)
        .where(o.account == order.account, o.order_id == order.order_id)
        .order_by(j.entry)
    )
    return [(row.other_id, row.customer_id) for row in tx.rows(query)]


def suggested(tx: Transaction) -> list[tuple[int, int]]:
    """Records that a person should look at, each with the one that its order was promoted to (R22).

    Both are followed to where merges have led since; a pair that has become one is not among them.
    """
    c = customers.c
    query = sa.select(c.customer_id, c.suggested_into).where(c.suggested_into.is_not(None))
    found: dict[tuple[int, int], None] = {}
    for row in tx.rows(query.order_by(c.customer_id)):
        left, into = followed(tx, row.customer_id), followed(tx, row.suggested_into)
        if left != into and "forgotten" not in statuses(tx, (left, into)).values():
            found[left, into] = None
    return list(found)


def followed(tx: Transaction, customer_id: int) -> int:
    """The living record that a customer's tombstones lead to in the end (R53)."""
    into: int | None = customer_id
    while into is not None:
        customer_id = into
        into = merged_into(tx, customer_id)
    return customer_id


def statuses(tx: Transaction, customer_ids: Collection[int]) -> dict[int, str]:
    """The status of some customers."""
    c = customers.c
    query = sa.select(c.customer_id, c.status).where(among(c.customer_id, sorted(customer_ids)))
    return {row.customer_id: row.status for row in tx.rows(query)} if customer_ids else {}


def count_customers(tx: Transaction) -> int:
    """How many records there are, tombstones too."""
    return int(tx.conn.execute(sa.select(sa.func.count()).select_from(customers)).scalar_one())


@dataclass(frozen=True, slots=True)
class Unconfigured:
    """Orders without a customer because their marketplace had no file; some name no marketplace."""

    account: str
    marketplace_id: str | None
    orders: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts for the status page, over all accounts.

    ``without_marketplace`` are those of unknown marketplaces that name none at all, as orders of other
    channels do: no configuration can make them known. ``unconfigured`` are orders that are shown and have no
    customer for that reason and no other, by account and marketplace.
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
"""For who does not look at the totals: where there are a million orders, counting takes seconds."""


def totals(tx: Transaction) -> Totals:
    """Count everything once."""
    o, c = orders.c, customers.c
    by_basis: dict[str, int] = {}
    shown = pending = unknown = nowhere = 0
    kinds = (
        o.match_basis,
        o.shown,
        o.marketplace.is_(None).label("unknown"),
        o.marketplace_id.is_(None).label("nowhere"),
    )
    grouped = sa.select(*kinds, sa.func.count().label("many")).group_by(*kinds)
    for row in tx.rows(grouped):
        if not row.shown:
            pending += row.many
        else:
            shown += row.many
            basis = row.match_basis or "none"
            by_basis[basis] = by_basis.get(basis, 0) + row.many
        if row.unknown:
            unknown += row.many
            nowhere += row.many if row.nowhere else 0
    statuses = sa.select(c.status, sa.func.count().label("many")).group_by(c.status)
    people: dict[str, int] = {row.status: row.many for row in tx.rows(statuses)}
    quarantined = tx.conn.execute(sa.select(sa.func.count()).select_from(quarantine)).scalar_one()
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
    """Orders that no file made known, but for those that would have no customer with one either."""
    o = orders.c
    query = (
        sa.select(o.account, o.marketplace_id, sa.func.count().label("many"))
        .where(o.marketplace.is_(None), o.shown, o.customer_id.is_(None), o.match_rules != _CANCELLED_EARLY)
        .group_by(o.account, o.marketplace_id)
    )
    found = [Unconfigured(row.account, row.marketplace_id, row.many) for row in tx.rows(query)]
    return tuple(sorted(found, key=lambda one: (-one.orders, one.account, one.marketplace_id or "")))


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows some tables have. ``erased``: orders without buyer data."""

    orders: int
    lines: int
    quarantined: int
    erased: int


def row_counts(tx: Transaction) -> RowCounts:
    """Count rows, pending orders included."""
    counts = [sa.select(sa.func.count()).select_from(table) for table in (orders, order_lines, quarantine)]
    counts.append(sa.select(sa.func.count()).where(orders.c.erased_at.is_not(None)))
    return RowCounts(*tx.conn.execute(sa.select(*(count.scalar_subquery() for count in counts))).one())


def order_versions(tx: Transaction) -> list[tuple[str, datetime]]:
    """Return each stored order's id and its last update at Amazon."""
    query = sa.select(orders.c.order_id, orders.c.last_updated_at)
    return [(row.order_id, row.last_updated_at) for row in tx.rows(query)]


def erased_emails(tx: Transaction) -> list[tuple[str, bytes]]:
    """Return business and hash of each customer's e-mail whose text was erased (R61)."""
    c = customer_emails.c
    query = sa.select(c.business, c.email_hash).where(c.email.is_(None))
    return [(row.business, row.email_hash) for row in tx.rows(query)]


_IS_BEHIND = sa.select(sa.or_(quarantined.IS_ANY_OF_OLDER_READERS, order_rows.IS_ANY_WAITING))


def is_behind(
    tx: Transaction, account: str, version: str, known: Sequence[str], holding_none: Sequence[str]
) -> bool:
    """Whether orders of an account wait for this version of the program, or for its configuration.

    That is whether ``quarantine.of_older_readers`` or ``orders.waiting`` would find any.
    """
    values = {
        "of_account": account,
        "version": version,
        "known": known,
        "holding_none": holding_none,
    }
    return bool(tx.conn.execute(_IS_BEHIND, values).scalar_one())
