"""Change positions across databases: the number from which PostgreSQL counts them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from store import tables

COUNTED_FROM = "counted_from"
"""Name of the counter from which PostgreSQL's change positions are counted."""

_LEAP = 1_000_000_000
"""How far a restored database jumps ahead: more than any reader's lead over the restored rows."""


def counted_from(conn: Connection) -> int:
    """Return the number from which change positions are counted; make new positions the highest if needed.

    A dump restored into another server has rows with transaction ids that this server has not reached yet,
    and readers may have seen positions above even those. A leap puts new positions above both.
    """
    if (counted := _recorded_if_ahead(conn)) is not None:
        return counted
    # If several processes start together, one leaps and the others use its number.
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock(hashtext('order-sync {COUNTED_FROM}'))")
    if (counted := _recorded_if_ahead(conn)) is not None:
        return counted
    counted = newest_change(conn) + _LEAP
    insert = postgresql.insert(tables.counters).values(name=COUNTED_FROM, value=counted)
    conn.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": counted}))
    return counted


def _recorded_if_ahead(conn: Connection) -> int | None:
    """Return the recorded number if it puts new positions above all stored ones."""
    c = tables.counters.c
    counted = conn.execute(sa.select(c.value).where(c.name == COUNTED_FROM)).scalar_one_or_none() or 0
    ahead = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    return int(counted) if newest_change(conn) < counted + conn.exec_driver_sql(ahead).scalar_one() else None


def newest_change(conn: Connection) -> int:
    """Return the highest stored change position; a reader's position is above it by a leap at most."""
    positions = [
        conn.execute(sa.select(sa.func.max(table.c.change_no))).scalar()
        for table in (tables.customers, tables.orders, tables.outbox)
    ]
    return max((int(position) for position in positions if position is not None), default=0)
