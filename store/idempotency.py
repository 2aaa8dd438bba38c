"""Requests that may be repeated: what each of them was answered, for a day.

The key is taken in the transaction of the change itself, so that both are there or neither. Two equal
requests at the same moment are settled by the primary key: the second one begins anew and finds the answer.
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
    """A request that was carried out. ``fingerprint``: of what it asked for."""

    fingerprint: str
    answer: str


def find(tx: Transaction, who: str, key: str) -> Kept | None:
    """What somebody's request with this key was answered, unless that is too long ago."""
    c = idempotency_keys.c
    query = sa.select(c.fingerprint, c.answer).where(c.who == who, c.key == key, c.at > tx.now - KEPT)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else Kept(row.fingerprint, row.answer)


def take(tx: Transaction, who: str, key: str, fingerprint: str) -> None:
    """Before the change is made. Raises a conflict (``is_conflict``) when somebody takes the key as well."""
    tx.conn.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.at <= tx.now - KEPT))
    row = {"who": who, "key": key, "fingerprint": fingerprint, "at": tx.now}
    tx.conn.execute(sa.insert(idempotency_keys).values(row))


def answer(tx: Transaction, who: str, key: str, text: str) -> None:
    """After the change was made."""
    c = idempotency_keys.c
    tx.conn.execute(sa.update(idempotency_keys).where(c.who == who, c.key == key).values(answer=text))
