"""When each source is due, where several schedulers and workers share the schedule.

A tick is due, is queued once (``mark_queued`` compares and sets), runs, and is due again when its run
has said so. Nothing here excludes two runs of a source: the ledger does that. It only saves effort.
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
"""A job that has neither run nor been taken back for so long is gone, say from the queue of a backup."""

FORGOTTEN = timedelta(days=1)
"""A source that nobody has run for so long is not configured any more."""


def enter(tx: Transaction, due: Mapping[str, datetime]) -> None:
    """Enter sources that are not known yet, each with the time when it is due."""
    tx.insert_missing(ticks, [{"source": source, "due_at": at} for source, at in sorted(due.items())])


def known(tx: Transaction) -> set[str]:
    """The sources that were entered."""
    return set(tx.conn.execute(sa.select(ticks.c.source)).scalars())


def forget(tx: Transaction) -> None:
    """Drop sources that nobody has run for a day."""
    tx.conn.execute(sa.delete(ticks).where(ticks.c.due_at < tx.now - FORGOTTEN))


def hasten(tx: Transaction, sources: Collection[str]) -> None:
    """Something has changed about these sources: they are due now."""
    if sources:
        later = sa.and_(among(ticks.c.source, sorted(sources)), ticks.c.due_at > tx.now)
        tx.conn.execute(sa.update(ticks).where(later).values(due_at=tx.now))


def _unqueued(tx: Transaction) -> sa.ColumnElement[bool]:
    return sa.or_(ticks.c.queued_at.is_(None), ticks.c.queued_at < tx.now - LOST)


def due_until(tx: Transaction, moment: datetime) -> list[tuple[str, datetime]]:
    """Sources that are due by then and not queued, the longest waiting first."""
    c = ticks.c
    query = sa.select(c.source, c.due_at).where(c.due_at <= moment, _unqueued(tx)).order_by(c.due_at)
    return [(row.source, row.due_at) for row in tx.rows(query)]


def mark_queued(tx: Transaction, sources: Collection[str]) -> list[str]:
    """Those of these sources whose ticks are on us to queue: they are due, and nobody else has."""
    mine = sa.and_(among(ticks.c.source, sources), ticks.c.due_at <= tx.now, _unqueued(tx))
    # Locked in one order: two schedulers may mark the same ones at once.
    found = sa.select(ticks.c.source).where(mine).order_by(ticks.c.source).with_for_update()
    keys = list(tx.conn.execute(found).scalars())
    if keys:
        marked = sa.update(ticks).where(among(ticks.c.source, keys)).values(queued_at=tx.now)
        tx.conn.execute(marked)
    return keys


def finish(conn: Connection, source: str, due_at: sa.ColumnElement[datetime]) -> None:
    """The tick has run, or was given up: it is due again at this time, by ``Store.server_time``."""
    conn.execute(sa.update(ticks).where(ticks.c.source == source).values(due_at=due_at, queued_at=None))
