"""Write the outbox: what a transaction changed, in the same transaction as the change.

One statement at the end of each transaction that took a change position finds every order and customer that
carries this position. Exports need the position on each changed record anyway, so no code that changes a
record has to remember the outbox. An event says which record changed and how, never what the record holds.
``store/changes.py`` reads the events.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.tables import CUSTOMER_IDS, ORDER_KEYS, customers, orders, outbox
from store.types import among

CUSTOMER, ORDER = 1, 2
"""Kinds of records, in their order within a transaction: a new customer comes before its order."""

ERASED = "erased"
"""Kind of the event of a deleted order."""

OF_ERASED = ("account", "order_id", "marketplace", "customer_id")

_NO_KEYS = (1, 0)


def _between(key: sa.ColumnElement[int], name: str) -> sa.ColumnElement[bool]:
    return key.between(sa.bindparam(f"first_{name}"), sa.bindparam(f"last_{name}"))


def _writing() -> sa.Insert:
    position = sa.bindparam("position", type_=sa.BigInteger)
    c, o = customers.c, orders.c
    of_customers = sa.select(
        c.change_no,
        sa.literal_column(str(CUSTOMER)),
        c.customer_id,
        sa.case(
            (c.status.in_(("merged", "forgotten")), c.status),
            (_between(c.customer_id, "customer"), sa.literal_column("'created'")),
            else_=sa.literal_column("'changed'"),
        ),
        c.changed_at,
        c.merged_into,
    ).where(c.change_no == position)
    of_orders = sa.select(
        o.change_no,
        sa.literal_column(str(ORDER)),
        o.order_key,
        sa.case(
            (_between(o.order_key, "order"), sa.literal_column("'created'")),
            else_=sa.literal_column("'changed'"),
        ),
        o.changed_at,
        sa.cast(sa.null(), sa.BigInteger),
    ).where(o.change_no == position, o.shown)
    columns = ["change_no", "what", "key", "kind", "at", "merged_into"]
    return sa.insert(outbox).from_select(columns, sa.union_all(of_customers, of_orders))


_WRITE = _writing()


def _writing_on_postgresql() -> sa.Select[Any]:
    """Return the statement that writes the events and says if one of the records has a later event already.

    A transaction gets its number at its first write, so two may change a record in another order than that of
    their numbers. Only positions of this server's past count: a restored dump may hold higher ones.
    """
    position = sa.bindparam("position", type_=sa.BigInteger)
    written = _writing().returning(outbox.c.what, outbox.c.key).cte("written")
    later = outbox.alias("later")
    same = sa.and_(later.c.what == written.c.what, later.c.key == written.c.key)
    ahead = sa.literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint", sa.BigInteger)
    own = sa.literal_column("pg_current_xact_id()::text::bigint", sa.BigInteger)
    since = sa.and_(later.c.change_no > position, later.c.change_no < position + (ahead - own))
    return sa.select(sa.exists().select_from(written.join(later, same)).where(since))


_WRITE_ON_POSTGRESQL = _writing_on_postgresql()


def announce_erased(
    conn: Connection, change_no: int, now: datetime, erased: Sequence[Mapping[str, Any]]
) -> None:
    """Write an event for each order that the transaction deletes, with its ids: no record has them then.

    ``erased``: ``order_key``, ``account``, ``order_id``, ``marketplace`` and ``customer_id`` of each.
    """
    rows = [
        {
            "change_no": change_no,
            "what": ORDER,
            "key": each["order_key"],
            "kind": ERASED,
            "at": now,
            "ids": json.dumps({name: each[name] for name in OF_ERASED}),
        }
        for each in erased
    ]
    if rows:
        conn.execute(sa.insert(outbox), rows)


def write(
    conn: Connection, change_no: int, new_keys: Mapping[str, tuple[int, int]], revealed: Collection[int]
) -> bool:
    """Write the events of the transaction with this position. Return False if it must not be committed.

    That is so if a transaction with a later position changed one of the records first: readers would receive
    the older change last.

    ``new_keys``: first and last key that the transaction took of each sequence. Between them only its own
    records have its position. ``revealed``: keys of orders that were pending, which are new to a reader.
    """
    first_customer, last_customer = new_keys.get(CUSTOMER_IDS.name, _NO_KEYS)
    first_order, last_order = new_keys.get(ORDER_KEYS.name, _NO_KEYS)
    values = {
        "position": change_no,
        "first_customer": first_customer,
        "last_customer": last_customer,
        "first_order": first_order,
        "last_order": last_order,
    }
    if conn.dialect.name == "postgresql":
        if conn.execute(_WRITE_ON_POSTGRESQL, values).scalar_one():
            return False
    else:
        conn.execute(_WRITE, values)
    if revealed:
        c = outbox.c
        these = sa.and_(c.change_no == change_no, c.what == ORDER, among(c.key, sorted(revealed)))
        conn.execute(sa.update(outbox).where(these).values(kind="created"))
    return True
