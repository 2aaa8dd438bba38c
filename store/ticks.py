"""When each source is due, if several schedulers and workers share the schedule.

A tick is due, is queued once (``mark_queued`` compares and sets), runs, and is due again at the time that its
run sets. This saves effort; only the ledger excludes two runs of a source.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.engine import Transaction
from store.tables import ticks
from store.types import among

LOST = timedelta(minutes=10)
"""A job that has not run for this long is lost, for example in the queue of a restored backup."""

FORGOTTEN = timedelta(days=1)
"""A source that has not run for this long is not configured any more."""


def enter(tx: Transaction, due: Mapping[str, datetime]) -> None:
    """Store the due times of sources that are not stored yet."""
    tx.insert_missing(ticks, [{"source": source, "due_at": at} for source, at in sorted(due.items())])


def known(tx: Transaction) -> set[str]:
    """Return the stored sources."""
    return set(tx.conn.execute(sa.select(ticks.c.source)).scalars())


def forget(tx: Transaction) -> None:
    """Delete sources that have not run for a day."""
    tx.conn.execute(sa.delete(ticks).where(ticks.c.due_at < tx.now - FORGOTTEN))


def hasten(tx: Transaction, sources: Collection[str]) -> None:
    """Make sources due now, because something about them has changed."""
    if sources:
        later = sa.and_(among(ticks.c.source, sorted(sources)), ticks.c.due_at > tx.now)
        tx.conn.execute(sa.update(ticks).where(later).values(due_at=tx.now))


def _unqueued(tx: Transaction) -> sa.ColumnElement[bool]:
    return sa.or_(ticks.c.queued_at.is_(None), ticks.c.queued_at < tx.now - LOST)


def due_until(tx: Transaction, time: datetime) -> list[tuple[str, datetime]]:
    """Return sources that are due by a time and not queued, longest due first."""
    c = ticks.c
    query = sa.select(c.source, c.due_at).where(c.due_at <= time, _unqueued(tx)).order_by(c.due_at)
    return [(row.source, row.due_at) for row in tx.rows(query)]


def mark_queued(tx: Transaction, sources: Collection[str]) -> list[str]:
    """Mark those of the sources as queued that are due and not queued by another scheduler. Return them."""
    due = sa.and_(among(ticks.c.source, sources), ticks.c.due_at <= tx.now, _unqueued(tx))
    # Locked in one order: two schedulers may mark the same sources at once.
    query = sa.select(ticks.c.source).where(due).order_by(ticks.c.source).with_for_update()
    keys = list(tx.conn.execute(query).scalars())
    if keys:
        marked = sa.update(ticks).where(among(ticks.c.source, keys)).values(queued_at=tx.now)
        tx.conn.execute(marked)
    return keys


def finish(conn: Connection, source: str, due_at: sa.ColumnElement[datetime]) -> None:
    """Make a tick that ran or was given up due again at this time, by ``Store.server_time``."""
    conn.execute(sa.update(ticks).where(ticks.c.source == source).values(due_at=due_at, queued_at=None))
