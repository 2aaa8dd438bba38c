"""Change positions across databases: what PostgreSQL counts them from."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from store import tables

COUNTED_FROM = "counted_from"
"""The counter that PostgreSQL's change positions are counted from."""

_LEAP = 1_000_000_000


def counted_from(conn: Connection) -> int:
    """What change positions are counted from, seen to that new ones are higher than all there are.

    A dump that was restored into another server has rows from transactions that this server has still
    to come to. Readers may be at positions even above those: a leap leaves them behind.
    """
    if (counted := _counting_on(conn)) is not None:
        return counted
    # Of processes that start together one leaps, and the others keep to its number.
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock(hashtext('order-sync {COUNTED_FROM}'))")
    if (counted := _counting_on(conn)) is not None:
        return counted
    counted = newest_change(conn) + _LEAP
    insert = postgresql.insert(tables.counters).values(name=COUNTED_FROM, value=counted)
    conn.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": counted}))
    return counted


def _counting_on(conn: Connection) -> int | None:
    """The recorded number, if all positions there are lie below those to come."""
    c = tables.counters.c
    counted = conn.execute(sa.select(c.value).where(c.name == COUNTED_FROM)).scalar_one_or_none() or 0
    ahead = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    return int(counted) if newest_change(conn) < counted + conn.exec_driver_sql(ahead).scalar_one() else None


def newest_change(conn: Connection) -> int:
    """The highest change position of any change; whoever follows them is above it at most by a leap."""
    found = [
        conn.execute(sa.select(sa.func.max(table.c.change_no))).scalar()
        for table in (tables.customers, tables.orders, tables.outbox)
    ]
    return max((int(number) for number in found if number is not None), default=0)
