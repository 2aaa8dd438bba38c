"""The services and workers of this database, as they say of themselves: alive since when, with which keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.engine import LOOKUP_KEY, Transaction
from store.tables import meta, processes

Kind = Literal["service", "worker"]

ALIVE_FOR = timedelta(minutes=3)
"""A process that has said nothing for this long is dead, stopped, or cannot write."""

REMEMBERED_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Process:
    """A process: ``owner`` is its unique name. ``key_ids``: its encryption keys, the one that seals first.

    ``clock_ahead``: seconds by which its host's clock is ahead of Amazon's; None before the first answer.
    """

    owner: str
    kind: Kind
    version: str
    key_ids: tuple[str, ...]
    clock_ahead: float | None
    started_at: datetime
    seen_at: datetime

    @property
    def name(self) -> str:
        """What people know it by: host and process id."""
        return self.owner.rpartition(":")[0]

    def is_alive(self, now: datetime) -> bool:
        """Return True if it has said so lately."""
        return abs(now - self.seen_at) < ALIVE_FOR


def load(tx: Transaction) -> tuple[Process, ...]:
    """Return all processes that were alive within a day."""
    return of(tx.conn, tx.now)


def of(conn: Connection, now: datetime) -> tuple[Process, ...]:
    """Return all processes that were alive within a day, outside of a transaction of ours."""
    c = processes.c
    query = sa.select(processes).where(c.seen_at > now - REMEMBERED_FOR).order_by(c.started_at, c.owner)
    return tuple(
        Process(**{**row._mapping, "key_ids": tuple(row.key_ids.split())}) for row in conn.execute(query)
    )


def save(tx: Transaction, owner: str, kind: Kind, version: str, clock_ahead: float | None) -> None:
    """Record that a process is alive, and forget those that have not been for a day."""
    values = {
        "kind": kind,
        "version": version,
        "key_ids": " ".join(key.hex() for key in tx.sealer.key_ids),
        "clock_ahead": clock_ahead,
        "seen_at": tx.now,
    }
    if not tx.update(processes, [values], owner=owner):
        tx.insert(processes, [{**values, "owner": owner, "started_at": tx.now}])
    tx.conn.execute(sa.delete(processes).where(processes.c.seen_at <= tx.now - REMEMBERED_FOR))


def remove(tx: Transaction, owner: str) -> None:
    """Forget a process, because it ends."""
    tx.conn.execute(sa.delete(processes).where(processes.c.owner == owner))


def is_locked_out(tx: Transaction) -> bool:
    """Return True if the database was resealed with a key that this process lacks."""
    sealed = tx.conn.execute(sa.select(meta.c.value).where(meta.c.name == LOOKUP_KEY)).scalar_one()
    return not tx.sealer.holds_key_of(sealed)
