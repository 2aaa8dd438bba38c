"""Answers to requests that may be repeated, kept for a day by the client's key.

The key is taken in the transaction of the change itself, so both are stored or neither. If two equal requests
arrive at once, the primary key fails the second one, which begins again and finds the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import idempotency_keys

KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """A request that was carried out. ``fingerprint``: of its content."""

    fingerprint: str
    answer: str


def find(tx: Transaction, who: str, key: str) -> Kept | None:
    """Return the answer to a caller's request with this key; None if there is none or it is too old."""
    c = idempotency_keys.c
    query = sa.select(c.fingerprint, c.answer).where(c.who == who, c.key == key, c.at > tx.now - KEPT)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else Kept(row.fingerprint, row.answer)


def take(tx: Transaction, who: str, key: str, fingerprint: str) -> None:
    """Take a key before the change. Raises a conflict (``is_conflict``) if another request takes it, too."""
    tx.conn.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.at <= tx.now - KEPT))
    row = {"who": who, "key": key, "fingerprint": fingerprint, "at": tx.now}
    tx.conn.execute(sa.insert(idempotency_keys).values(row))


def answer(tx: Transaction, who: str, key: str, text: str) -> None:
    """Store the answer after the change."""
    c = idempotency_keys.c
    tx.conn.execute(sa.update(idempotency_keys).where(c.who == who, c.key == key).values(answer=text))
