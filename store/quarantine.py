"""Orders that could not be understood: kept with their payload and reason until they can."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import quarantine
from store.types import among


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One order in quarantine. ``payload`` is Amazon's JSON and holds buyer data; empty once erased (R60)."""

    account: str
    order_id: str
    marketplace_id: str | None
    reason: str
    payload: str = field(repr=False)
    attempts: int = 1
    next_attempt_at: datetime | None = None
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    term_at: datetime | None = None
    """The moment that the days of its buyer data are counted from (R60)."""


ERASED = ""
"""In place of a payload that was erased, or never kept."""


def name_of(order_id: str | None, payload: str) -> str:
    """The order's id, or a stable stand-in when even that cannot be read."""
    if order_id is not None:
        return order_id[:80]
    return "unreadable-" + hashlib.sha256(payload.encode()).hexdigest()[:20]


def place(account: str, order_id: str) -> str:
    """Where a payload is bound to."""
    return f"quarantine:{account}:{order_id}:payload"


def put(tx: Transaction, entry: Quarantined) -> None:
    """Keep an order, or count another attempt at one that is there already."""
    c = quarantine.c
    mine = sa.and_(c.account == entry.account, c.order_id == entry.order_id)
    values = {
        "marketplace_id": entry.marketplace_id,
        "reason": entry.reason,
        "payload": tx.sealer.seal(entry.payload.encode(), place(entry.account, entry.order_id)),
        "last_seen_at": tx.now,
        "term_at": entry.term_at,
    }
    changed = tx.conn.execute(sa.update(quarantine).where(mine).values(attempts=c.attempts + 1, **values))
    if changed.rowcount == 0:
        tx.conn.execute(
            sa.insert(quarantine).values(
                account=entry.account, order_id=entry.order_id, attempts=1, first_seen_at=tx.now, **values
            )
        )


_ANY = sa.select(quarantine.c.order_id).where(quarantine.c.account == sa.bindparam("account")).limit(1)


def release(tx: Transaction, account: str, order_ids: Collection[str]) -> None:
    """These orders can be read now."""
    c = quarantine.c
    if order_ids and tx.conn.execute(_ANY, {"account": account}).first():
        mine = sa.and_(c.account == account, among(c.order_id, sorted(order_ids)))
        tx.conn.execute(sa.delete(quarantine).where(mine))


def erase(tx: Transaction, which: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """Take the payload out of these (account, order id), where they are there; returns those that lost it."""
    c = quarantine.c
    lost = []
    for account in sorted({account for account, _ in which}):
        ids = sorted(order_id for of, order_id in which if of == account)
        query = sa.select(c.order_id, c.payload).where(c.account == account, among(c.order_id, ids))
        for row in tx.rows(tx.lock(query.order_by(c.order_id))):
            where = place(account, row.order_id)
            if tx.sealer.open(row.payload, where).decode() != ERASED:
                gone = sa.update(quarantine).where(c.account == account, c.order_id == row.order_id)
                tx.conn.execute(gone.values(payload=tx.sealer.seal(ERASED.encode(), where), term_at=None))
                lost.append((account, row.order_id))
    return lost


def past_term(tx: Transaction, over: datetime, limit: int) -> list[tuple[str, str]]:
    """(account, order id) of those whose payload has had its days (R60)."""
    c = quarantine.c
    query = sa.select(c.account, c.order_id).where(c.term_at <= over).limit(limit)
    return [(row.account, row.order_id) for row in tx.rows(query)]


def without_term(tx: Transaction) -> list[tuple[str, str, datetime]]:
    """(account, order id, first seen) of those that an older version of the program put there."""
    c = quarantine.c
    query = sa.select(c.account, c.order_id, c.first_seen_at, c.payload).where(c.term_at.is_(None))
    return [
        (row.account, row.order_id, row.first_seen_at)
        for row in tx.rows(query)
        if tx.sealer.open(row.payload, place(row.account, row.order_id)).decode() != ERASED
    ]


def set_term(tx: Transaction, account: str, order_id: str, term_at: datetime) -> None:
    """Say when the days of a payload begin."""
    c = quarantine.c
    mine = sa.update(quarantine).where(c.account == account, c.order_id == order_id)
    tx.conn.execute(mine.values(term_at=term_at))


def seen_since(tx: Transaction, account: str, since: datetime) -> bool:
    """Whether an order of the account came, and could not be understood, after the given time."""
    c = quarantine.c
    query = sa.select(sa.literal(1)).where(c.account == account, c.last_seen_at > since).limit(1)
    return tx.conn.execute(query).first() is not None


def entries(tx: Transaction, order_ids: Sequence[str] | None = None) -> list[Quarantined]:
    """Some or all orders in quarantine, oldest first."""
    c = quarantine.c
    query = sa.select(quarantine).order_by(c.first_seen_at, c.order_id)
    if order_ids is not None:
        query = query.where(c.order_id.in_(list(order_ids)))
    found = []
    for row in tx.conn.execute(query).mappings():
        values = dict(row)
        sealed = values.pop("payload")
        payload = tx.sealer.open(sealed, place(row["account"], row["order_id"])).decode()
        found.append(Quarantined(**values, payload=payload))
    return found
