"""Reports of a backfill in the database: its parts, and the ids that are still to be fetched.

Ids are no buyer data, and are stored plainly. They are kept by backfill and age, so that the oldest are found
at one end and the newest at the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa

from store.engine import Transaction
from store.ledger import CLAIM
from store.progress import Backfill, HistoryId, ReportPart
from store.tables import backfills, history_ids, history_parts, orders

# --- whose turn it is -------------------------------------------------------------------------------


def claim(tx: Transaction, backfill_id: int, owner: str) -> bool:
    """Take a backfill's ids for two minutes. False when somebody else has them, or it is not wanted now."""
    c = backfills.c
    free = sa.or_(c.owner.is_(None), c.owner == owner, c.claimed_until <= tx.now)
    taken = tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id, c.state.in_(("planned", "running")), free)
        .values(owner=owner, claimed_until=tx.now + CLAIM, state="running")
    )
    return taken.rowcount == 1


def holds(tx: Transaction, backfill_id: int, owner: str) -> bool:
    """Whether a backfill's ids are still with this owner, be it paused meanwhile, or can be had again.

    The backfill is locked by that: whoever else has them by now has written, or writes later.
    """
    c = backfills.c
    renewed = tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id, c.owner == owner)
        .values(claimed_until=tx.now + CLAIM)
    )
    return renewed.rowcount == 1 or claim(tx, backfill_id, owner)


def count_and_renew(
    tx: Transaction, backfill_id: int, owner: str, *, fetched: int = 0, requests: int = 1
) -> bool:
    """Count what was fetched, and hold the ids for two minutes more. False when they are ours no more."""
    c = backfills.c
    tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id)
        .values(orders=c.orders + fetched, requests=c.requests + requests)
    )
    return claim(tx, backfill_id, owner)


def release(tx: Transaction, backfill_id: int, owner: str) -> None:
    c = backfills.c
    tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id, c.owner == owner)
        .values(owner=None, claimed_until=None)
    )


# --- parts ------------------------------------------------------------------------------------------


def load_parts(tx: Transaction, backfill_id: int) -> tuple[ReportPart, ...]:
    """The parts of a backfill, oldest first; none before they were planned."""
    c = history_parts.c
    query = sa.select(history_parts).where(c.backfill_id == backfill_id).order_by(c.lower)
    return tuple(ReportPart(**row._mapping) for row in tx.rows(query))


def enter_parts(tx: Transaction, parts: Iterable[ReportPart]) -> None:
    """Record the parts of a backfill that reports are wanted for."""
    tx.insert(history_parts, [{f.name: getattr(part, f.name) for f in fields(part)} for part in parts])


def save_part(tx: Transaction, part: ReportPart) -> None:
    """Write what has become of a part."""
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    tx.update(history_parts, [values], backfill_id=None, lower=None)


# --- ids --------------------------------------------------------------------------------------------


def enter_ids(tx: Transaction, backfill_id: int, ids: Sequence[HistoryId]) -> None:
    """Record ids to be fetched; those that are known already stay as they are."""
    rows = [
        {
            "backfill_id": backfill_id,
            "created_at": one.created_at,
            "order_id": one.order_id,
            "last_updated_at": one.last_updated_at,
            "attempts": 0,
        }
        for one in ids
    ]
    tx.insert_missing(history_ids, rows)


def forget(tx: Transaction, backfill_id: int, *, parts: bool) -> None:
    """A backfill is over: what is left of its ids, and its ``parts``, are not needed any more."""
    tx.conn.execute(sa.delete(history_ids).where(history_ids.c.backfill_id == backfill_id))
    if parts:
        tx.conn.execute(sa.delete(history_parts).where(history_parts.c.backfill_id == backfill_id))


def oldest_ids(
    tx: Transaction, account: str, backfill_id: int, below: datetime | None, limit: int
) -> list[tuple[HistoryId, datetime | None]]:
    """The oldest ids below a time that may be asked for now; with the time of each order's stored version."""
    c = history_ids.c
    mine = sa.and_(orders.c.account == account, orders.c.order_id == c.order_id)
    query = (
        sa.select(
            c.created_at,
            c.order_id,
            c.last_updated_at.label("updated_at"),
            c.attempts,
            c.retry_at,
            orders.c.last_updated_at.label("stored_at"),
        )
        .select_from(history_ids.outerjoin(orders, mine))
        .where(
            *_stretch(backfill_id, below, None),
            sa.or_(c.retry_at.is_(None), c.retry_at <= tx.now),
        )
        .order_by(c.created_at, c.order_id)
        .limit(limit)
    )
    found = []
    for row in tx.rows(query):
        one = HistoryId(row.created_at, row.order_id, row.updated_at, row.attempts, row.retry_at)
        found.append((one, row.stored_at))
    return found


def take_out(tx: Transaction, backfill_id: int, ids: Sequence[HistoryId]) -> None:
    """These are fetched, or stored already."""
    c = history_ids.c
    gone = sa.delete(history_ids).where(
        c.backfill_id == backfill_id,
        c.created_at == sa.bindparam("its_time", type_=c.created_at.type),
        c.order_id == sa.bindparam("its_id"),
    )
    if ids:
        tx.conn.execute(gone, [{"its_time": one.created_at, "its_id": one.order_id} for one in ids])


def postpone(tx: Transaction, backfill_id: int, one: HistoryId) -> None:
    """This one could not be had; its attempts and its next one are noted."""
    values = {"attempts": one.attempts, "retry_at": one.retry_at}
    mine = {"backfill_id": backfill_id, "created_at": one.created_at, "order_id": one.order_id}
    tx.update(history_ids, [values], **mine)


def next_retry(tx: Transaction, backfill_id: int, below: datetime | None) -> datetime | None:
    """When the first of a stretch's ids that were put off is due."""
    c = history_ids.c
    query = sa.select(sa.func.min(c.retry_at)).where(*_stretch(backfill_id, below, None), c.retry_at > tx.now)
    found: datetime | None = tx.conn.execute(query).scalar_one()
    return found


def count_ids(
    tx: Transaction,
    backfill_id: int,
    below: datetime | None = None,
    since: datetime | None = None,
    *,
    due: bool = False,
) -> int:
    """How many ids are left, of a stretch; ``due``: that may be asked for now."""
    query = sa.select(sa.func.count()).select_from(history_ids).where(*_stretch(backfill_id, below, since))
    if due:
        retry_at = history_ids.c.retry_at
        query = query.where(sa.or_(retry_at.is_(None), retry_at <= tx.now))
    return int(tx.conn.execute(query).scalar_one())


def has_more(tx: Transaction, backfill: Backfill, is_awaited: Callable[[Backfill, ReportPart], bool]) -> bool:
    """Whether ids of a backfill are still to be fetched, or reports to come in."""
    if count_ids(tx, backfill.backfill_id):
        return True
    return any(is_awaited(backfill, part) for part in load_parts(tx, backfill.backfill_id))


def oldest_left(
    tx: Transaction, backfill_id: int, below: datetime, since: datetime, *, untried: bool = False
) -> datetime | None:
    """The oldest id of a stretch that is still to be fetched; ``untried``: of those never asked for."""
    query = sa.select(sa.func.min(history_ids.c.created_at)).where(*_stretch(backfill_id, below, since))
    if untried:
        query = query.where(history_ids.c.attempts == 0)
    found: datetime | None = tx.conn.execute(query).scalar_one()
    return found


def newest_of(
    tx: Transaction, backfill_id: int, below: datetime, since: datetime, number: int
) -> datetime | None:
    """The time of the ``number``-th newest id of a stretch; None when there are not so many."""
    c = history_ids.c
    query = (
        sa.select(c.created_at)
        .where(*_stretch(backfill_id, below, since))
        .order_by(c.created_at.desc())
        .offset(number - 1)
        .limit(1)
    )
    found: datetime | None = tx.conn.execute(query).scalar_one_or_none()
    return found


def _stretch(
    backfill_id: int, below: datetime | None, since: datetime | None
) -> list[sa.ColumnElement[bool]]:
    c = history_ids.c
    conditions = [c.backfill_id == backfill_id]
    if below is not None:
        conditions.append(c.created_at < below)
    if since is not None:
        conditions.append(c.created_at >= since)
    return conditions


# --- what is known already --------------------------------------------------------------------------


def count_orders(tx: Transaction, account: str, marketplace_id: str, lower: datetime, upper: datetime) -> int:
    """How many orders of a marketplace are stored that were placed in a stretch."""
    c = orders.c
    query = (
        sa.select(sa.func.count())
        .select_from(orders)
        .where(
            c.account == account,
            c.marketplace_id == marketplace_id,
            c.created_at >= lower,
            c.created_at <= upper,
        )
    )
    return int(tx.conn.execute(query).scalar_one())
