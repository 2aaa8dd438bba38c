"""A backfill by reports in the database: its parts, and the ids that are still to be fetched.

Ids are no buyer data and are stored in the clear. They are ordered by backfill and age, so both the oldest
and the newest are found quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa

from store.engine import Transaction
from store.progress import CLAIM, Backfill, HistoryId, ReportPart
from store.tables import backfills, history_ids, history_parts, orders

# --- claims -----------------------------------------------------------------------------------------


def claim(tx: Transaction, backfill_id: int, owner: str) -> bool:
    """Claim a backfill's ids for two minutes. Return False if another has them or it does not run now."""
    c = backfills.c
    free = sa.or_(c.owner.is_(None), c.owner == owner, c.claimed_until <= tx.now)
    claimed = tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id, c.state.in_(("planned", "running")), free)
        .values(owner=owner, claimed_until=tx.now + CLAIM, state="running")
    )
    return claimed.rowcount == 1


def holds(tx: Transaction, backfill_id: int, owner: str) -> bool:
    """Return True if ``owner`` still holds the claim (even if the backfill was paused) or can re-acquire it.

    This locks the backfill: another owner has written already, or will write later.
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
    """Count what was fetched and renew the claim for two minutes. Return False if the claim is lost."""
    c = backfills.c
    tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id)
        .values(orders=c.orders + fetched, requests=c.requests + requests)
    )
    return claim(tx, backfill_id, owner)


def release(tx: Transaction, backfill_id: int, owner: str) -> None:
    """Give up the claim of this owner."""
    c = backfills.c
    tx.conn.execute(
        sa.update(backfills)
        .where(c.backfill_id == backfill_id, c.owner == owner)
        .values(owner=None, claimed_until=None)
    )


# --- parts ------------------------------------------------------------------------------------------


def load_parts(tx: Transaction, backfill_id: int) -> tuple[ReportPart, ...]:
    """Return the parts of a backfill, oldest first; none before they were planned."""
    c = history_parts.c
    query = sa.select(history_parts).where(c.backfill_id == backfill_id).order_by(c.lower)
    return tuple(ReportPart(**row._mapping) for row in tx.rows(query))


def enter_parts(tx: Transaction, parts: Iterable[ReportPart]) -> None:
    """Store the parts of a backfill for which reports will be requested."""
    tx.insert(history_parts, [{f.name: getattr(part, f.name) for f in fields(part)} for part in parts])


def save_part(tx: Transaction, part: ReportPart) -> None:
    """Store the new state of a part."""
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    tx.update(history_parts, [values], backfill_id=None, lower=None)


# --- ids --------------------------------------------------------------------------------------------


def enter_ids(tx: Transaction, backfill_id: int, ids: Sequence[HistoryId]) -> None:
    """Store ids to fetch; ids that are stored already stay as they are."""
    rows = [
        {
            "backfill_id": backfill_id,
            "created_at": entry.created_at,
            "order_id": entry.order_id,
            "last_updated_at": entry.last_updated_at,
            "attempts": 0,
        }
        for entry in ids
    ]
    tx.insert_missing(history_ids, rows)


def forget(tx: Transaction, backfill_id: int, *, parts: bool) -> None:
    """Delete the remaining ids, and with ``parts`` the parts, of a backfill that is over."""
    tx.conn.execute(sa.delete(history_ids).where(history_ids.c.backfill_id == backfill_id))
    if parts:
        tx.conn.execute(sa.delete(history_parts).where(history_parts.c.backfill_id == backfill_id))


def oldest_ids(
    tx: Transaction, account: str, backfill_id: int, below: datetime | None, limit: int
) -> list[tuple[HistoryId, datetime | None]]:
    """Return the oldest due ids below a time, each with the time of the order's stored version."""
    c = history_ids.c
    stored = sa.and_(orders.c.account == account, orders.c.order_id == c.order_id)
    query = (
        sa.select(
            c.created_at,
            c.order_id,
            c.last_updated_at.label("updated_at"),
            c.attempts,
            c.retry_at,
            orders.c.last_updated_at.label("stored_at"),
        )
        .select_from(history_ids.outerjoin(orders, stored))
        .where(
            *_in_range(backfill_id, below, None),
            sa.or_(c.retry_at.is_(None), c.retry_at <= tx.now),
        )
        .order_by(c.created_at, c.order_id)
        .limit(limit)
    )
    return [
        (HistoryId(row.created_at, row.order_id, row.updated_at, row.attempts, row.retry_at), row.stored_at)
        for row in tx.rows(query)
    ]


def take_out(tx: Transaction, backfill_id: int, ids: Sequence[HistoryId]) -> None:
    """Delete ids that are fetched, or whose orders are stored already."""
    c = history_ids.c
    deletion = sa.delete(history_ids).where(
        c.backfill_id == backfill_id,
        c.created_at == sa.bindparam("its_time", type_=c.created_at.type),
        c.order_id == sa.bindparam("its_id"),
    )
    if ids:
        tx.conn.execute(deletion, [{"its_time": i.created_at, "its_id": i.order_id} for i in ids])


def postpone(tx: Transaction, backfill_id: int, entry: HistoryId) -> None:
    """Store the attempts and the next attempt of an id that could not be fetched."""
    values = {"attempts": entry.attempts, "retry_at": entry.retry_at}
    key = {"backfill_id": backfill_id, "created_at": entry.created_at, "order_id": entry.order_id}
    tx.update(history_ids, [values], **key)


def next_retry(tx: Transaction, backfill_id: int, below: datetime | None) -> datetime | None:
    """Return when the first postponed id of a range is due."""
    c = history_ids.c
    in_range = _in_range(backfill_id, below, None)
    retry_at: datetime | None = tx.conn.execute(
        sa.select(sa.func.min(c.retry_at)).where(*in_range, c.retry_at > tx.now)
    ).scalar_one()
    return retry_at


def count_ids(
    tx: Transaction,
    backfill_id: int,
    below: datetime | None = None,
    since: datetime | None = None,
    *,
    due: bool = False,
) -> int:
    """Return how many ids of a range are left; ``due``: only those that may be fetched now."""
    query = sa.select(sa.func.count()).select_from(history_ids).where(*_in_range(backfill_id, below, since))
    if due:
        retry_at = history_ids.c.retry_at
        query = query.where(sa.or_(retry_at.is_(None), retry_at <= tx.now))
    return int(tx.conn.execute(query).scalar_one())


def has_more(tx: Transaction, backfill: Backfill, is_awaited: Callable[[Backfill, ReportPart], bool]) -> bool:
    """Return True if a backfill still waits for ids to be fetched or for reports."""
    if count_ids(tx, backfill.backfill_id):
        return True
    return any(is_awaited(backfill, part) for part in load_parts(tx, backfill.backfill_id))


def oldest_left(
    tx: Transaction, backfill_id: int, below: datetime, since: datetime, *, untried: bool = False
) -> datetime | None:
    """Return the time of the oldest id left in a range; ``untried``: of those never requested."""
    query = sa.select(sa.func.min(history_ids.c.created_at)).where(*_in_range(backfill_id, below, since))
    if untried:
        query = query.where(history_ids.c.attempts == 0)
    created_at: datetime | None = tx.conn.execute(query).scalar_one()
    return created_at


def newest_of(
    tx: Transaction, backfill_id: int, below: datetime, since: datetime, number: int
) -> datetime | None:
    """Return the time of the ``number``-th newest id of a range; None if there are fewer."""
    c = history_ids.c
    query = (
        sa.select(c.created_at)
        .where(*_in_range(backfill_id, below, since))
        .order_by(c.created_at.desc())
        .offset(number - 1)
        .limit(1)
    )
    created_at: datetime | None = tx.conn.execute(query).scalar_one_or_none()
    return created_at


def _in_range(
    backfill_id: int, below: datetime | None, since: datetime | None
) -> list[sa.ColumnElement[bool]]:
    c = history_ids.c
    conditions = [c.backfill_id == backfill_id]
    if below is not None:
        conditions.append(c.created_at < below)
    if since is not None:
        conditions.append(c.created_at >= since)
    return conditions


# --- stored orders ----------------------------------------------------------------------------------


def count_orders(tx: Transaction, account: str, marketplace_id: str, lower: datetime, upper: datetime) -> int:
    """Return how many stored orders of a marketplace were placed in a range."""
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
