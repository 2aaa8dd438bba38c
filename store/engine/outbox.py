"""The outbox: what a transaction changed, written in the same transaction as the change.

One statement at the end of each transaction that took a change position finds every order and customer that
carries it. So whatever changes a record and gives it the transaction's position, as it must for those who
export from a position, is told; nobody has to remember to tell it. An event says which record and how it
changed, never what is in it. ``store/changes.py`` reads them.

Knows no more of a transaction than its connection, because ``store/engine/`` stands on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.tables import CUSTOMER_IDS, ORDER_KEYS, customers, orders, outbox
from store.types import among

CUSTOMER, ORDER = 1, 2
"""In this order within a transaction: an order comes after the customer that was made for it."""

_NONE = (1, 0)


def _between(key: sa.ColumnElement[int], name: str) -> sa.ColumnElement[bool]:
    return key.between(sa.bindparam(f"first_{name}"), sa.bindparam(f"last_{name}"))


def _writing() -> sa.Insert:
    mine = sa.bindparam("mine", type_=sa.BigInteger)
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
    ).where(c.change_no == mine)
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
    ).where(o.change_no == mine, o.shown)
    columns = ["change_no", "what", "key", "kind", "at", "merged_into"]
    return sa.insert(outbox).from_select(columns, sa.union_all(of_customers, of_orders))


_WRITE = _writing()


def _writing_on_postgresql() -> sa.Select[Any]:
    """The same, and whether a record of ours has an event of a later position already.

    Transactions have their numbers from when they first write, and may change a record in another order.
    Positions of this server's past only: a restored dump may hold higher ones.
    """
    mine = sa.bindparam("mine", type_=sa.BigInteger)
    written = _writing().returning(outbox.c.what, outbox.c.key).cte("written")
    later = outbox.alias("later")
    same = sa.and_(later.c.what == written.c.what, later.c.key == written.c.key)
    ahead = sa.literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint", sa.BigInteger)
    own = sa.literal_column("pg_current_xact_id()::text::bigint", sa.BigInteger)
    since = sa.and_(later.c.change_no > mine, later.c.change_no < mine + (ahead - own))
    return sa.select(sa.exists().select_from(written.join(later, same)).where(since))


_WRITE_ON_POSTGRESQL = _writing_on_postgresql()


def write(
    conn: Connection, change_no: int, given: Mapping[str, tuple[int, int]], revealed: Collection[int]
) -> bool:
    """Write the events of the transaction that has this position.

    False when that may not be committed: a record was changed meanwhile by a transaction of a later
    position, and who reads would be told of the older change last.

    ``given``: the keys that it gave to new records, first and last; nobody else's record between them can
    have its position. ``revealed``: orders that were only remembered until now, and so are new to a reader.
    """
    first_customer, last_customer = given.get(CUSTOMER_IDS.name, _NONE)
    first_order, last_order = given.get(ORDER_KEYS.name, _NONE)
    values = {
        "mine": change_no,
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
