"""Rows of a merge of two customers: the orders that move, and what undoing the merge needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from store import codec
from store.engine import Transaction
from store.orders import place
from store.records import Buyer, OrderRecord
from store.tables import customers, journal, merged_orders, orders
from store.types import among

T = TypeVar("T")


def lock_orders(tx: Transaction, customer_id: int) -> None:
    """Lock a customer's orders, in key order and before any customer, as storing a page does."""
    c = orders.c
    tx.lock_all(sa.select(c.order_key).where(c.customer_id == customer_id).order_by(c.order_key))


def count_orders(tx: Transaction, customer_id: int) -> int:
    """Return how many orders a customer has, pending ones included."""
    query = sa.select(sa.func.count()).where(orders.c.customer_id == customer_id)
    return int(tx.conn.execute(query).scalar_one())


def move_orders(tx: Transaction, entry: int, other: int, kept: int) -> int:
    """Move all orders of one customer to another and record whose they were. Return how many moved."""
    both = sa.select(sa.literal(entry), orders.c.order_key, orders.c.customer_id == other).where(
        orders.c.customer_id.in_((kept, other))
    )
    tx.conn.execute(sa.insert(merged_orders).from_select(("entry", "order_key", "moved"), both))
    return _give(tx, orders.c.customer_id == other, kept)


def _give(tx: Transaction, which: sa.ColumnElement[bool], customer_id: int) -> int:
    moved = (
        sa.update(orders)
        .where(which)
        .values(customer_id=customer_id, changed_at=tx.now, change_no=tx.change_no)
    )
    return tx.conn.execute(moved).rowcount


def give_back(tx: Transaction, entry: int, kept: int, other: int) -> int:
    """Move back the orders of a merge that are still on the kept record. Return how many moved."""
    moved = sa.select(merged_orders.c.order_key).where(merged_orders.c.entry == entry, merged_orders.c.moved)
    return _give(tx, sa.and_(orders.c.customer_id == kept, orders.c.order_key.in_(moved)), other)


def forget_merge(tx: Transaction, entry: int) -> None:
    """Delete what undoing a merge needed, after it was undone."""
    tx.conn.execute(sa.delete(merged_orders).where(merged_orders.c.entry == entry))
    tx.conn.execute(sa.update(journal).where(journal.c.entry == entry).values(facts=None))


def hold_hashes(tx: Transaction, customer_ids: Collection[int]) -> frozenset[int]:
    """Return those of the customers whose standing merges hold hashes of e-mails."""
    c = journal.c
    query = sa.select(c.customer_id).where(among(c.customer_id, sorted(customer_ids)), c.facts.is_not(None))
    return frozenset(tx.conn.execute(query.distinct()).scalars())


@dataclass(frozen=True, slots=True)
class Arrived:
    """An order that the kept record received since a merge.

    Opened are only the fields that decide whose it is: channel, programs, buyer and match basis.
    """

    order_key: int
    order: OrderRecord


def arrived_since(tx: Transaction, entry: int, kept: int) -> list[Arrived]:
    """Return the kept record's orders that it received after the merge."""
    o, m = orders.c, merged_orders.c
    in_merge = sa.select(sa.literal(1)).where(m.entry == entry, m.order_key == o.order_key)
    query = (
        sa.select(
            *(o.order_key, o.account, o.order_id, o.channel, o.programs, o.buyer),
            *(o.created_at, o.last_updated_at, o.match_basis, o.match_rules),
        )
        .where(o.customer_id == kept, ~in_merge.exists())
        .order_by(o.order_key)
    )
    return [Arrived(row.order_key, _opened(tx, row)) for row in tx.rows(query)]


def _opened(tx: Transaction, row: sa.Row[Any]) -> OrderRecord:
    where = place(row.order_key, "buyer")
    buyer = None if row.buyer is None else tx.sealer.try_open(row.buyer, where)
    return OrderRecord(
        account=row.account,
        order_id=row.order_id,
        channel=row.channel,
        created_at=row.created_at,
        last_updated_at=row.last_updated_at,
        as_of={},
        programs=codec.load_words(row.programs),
        buyer=None if buyer is None else msgspec.json.decode(buyer, type=Buyer),
        match_basis=row.match_basis,
        match_rules=codec.load_words(row.match_rules),
    )


def give_arrived(tx: Transaction, arrived: Sequence[Arrived], other: int) -> None:
    """Give orders received since a merge to another customer, each with its new match basis."""
    rows = [
        {
            "order_key": a.order_key,
            "customer_id": other,
            "match_basis": a.order.match_basis,
            "match_rules": codec.dump_words(a.order.match_rules),
            "changed_at": tx.now,
            "change_no": tx.change_no,
        }
        for a in arrived
    ]
    tx.update(orders, rows, order_key=None)


def point_to(tx: Transaction, order_ids: Sequence[str], kept: int, other: int) -> None:
    """Let records that pointed to the kept one since these orders' promotion (R22) point to the other."""
    if not order_ids:
        return
    c = customers.c
    tx.conn.execute(
        sa.update(customers)
        .where(c.merged_into == kept, among(c.created_from_order, order_ids), c.customer_id != other)
        .values(merged_into=other, changed_at=tx.now, change_no=tx.change_no)
    )


def merged_into(tx: Transaction, customer_id: int) -> int | None:
    """Return the record that a tombstone points to; None for any other id."""
    query = sa.select(customers.c.merged_into).where(customers.c.customer_id == customer_id)
    return tx.conn.execute(query).scalar_one_or_none()


def free_external_id(tx: Transaction, customer_id: int) -> None:
    """Remove the external id of a tombstone."""
    record = sa.update(customers).where(customers.c.customer_id == customer_id)
    tx.conn.execute(record.values(external_id=None))


def facts_of(tx: Transaction, kept: int, other: int, kind: type[T]) -> tuple[int, T | None] | None:
    """Return the standing merge of one customer into another: its entry, and its facts unless erased."""
    c = journal.c
    query = (
        sa.select(c.entry, c.action, c.facts)
        .where(c.action.in_(("merge", "unmerge")), c.customer_id == kept, c.other_id == other)
        .order_by(c.entry.desc())
        .limit(1)
    )
    row = tx.conn.execute(query).first()
    if row is None or row.action == "unmerge":
        return None
    return row.entry, None if row.facts is None else msgspec.json.decode(row.facts, type=kind)


def merged_later(tx: Transaction, kept: int, entry: int) -> int | None:
    """Return the customer of the last standing merge into this one after ``entry``; None without one."""
    c = journal.c
    query = (
        sa.select(c.other_id)
        .join(customers, customers.c.customer_id == c.other_id)
        .where(c.action == "merge", c.customer_id == kept, c.entry > entry, customers.c.merged_into == kept)
        .order_by(c.entry.desc())
        .limit(1)
    )
    return tx.conn.execute(query).scalar_one_or_none()
