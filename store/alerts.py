"""What people have been told is wrong, in the database that all processes share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import alerts, credentials, quarantine


@dataclass(frozen=True, slots=True)
class Standing:
    """Something that is wrong ``since`` then. ``over_at``: since when it is not, as long as nobody knows.

    ``telling_until``: until then some process is telling people.
    """

    alert: str
    sentence: str
    since: datetime
    over_at: datetime | None = None
    told_at: datetime | None = None
    times: int = 0
    telling_until: datetime | None = None


def load(tx: Transaction) -> dict[str, Standing]:
    """All that is wrong, locked, by name."""
    query = tx.lock(sa.select(alerts).order_by(alerts.c.alert))
    return {row.alert: Standing(**row._mapping) for row in tx.rows(query)}


def save(tx: Transaction, standing: Iterable[Standing], known: Collection[str]) -> None:
    """Remember; ``known``: the names that ``load`` found in this transaction.

    Raises a conflict (``engine.is_conflict``) when another process entered one of the others meanwhile: what
    is not locked must not be written over.
    """
    for each in standing:
        if each.alert in known:
            mine = sa.update(alerts).where(alerts.c.alert == each.alert)
            tx.conn.execute(mine.values(asdict(each)))
        else:
            tx.conn.execute(sa.insert(alerts).values(asdict(each)))


def forget(tx: Transaction, names: Iterable[str]) -> None:
    """These are over, and people know."""
    tx.conn.execute(sa.delete(alerts).where(alerts.c.alert.in_(list(names))))


def told(tx: Transaction, name: str) -> None:
    """People were told that this is wrong."""
    values = {"told_at": tx.now, "times": alerts.c.times + 1, "telling_until": None}
    tx.conn.execute(sa.update(alerts).where(alerts.c.alert == name).values(values))


def in_use_since(tx: Transaction, account: str, kind: str, fingerprint: str) -> datetime:
    """Since when this account has been using this credential, as far as is known here."""
    c = credentials.c
    mine = sa.and_(c.account == account, c.kind == kind)
    row = tx.conn.execute(tx.lock(sa.select(credentials).where(mine))).one_or_none()
    if row is not None and row.fingerprint == fingerprint:
        since: datetime = row.since
        return since
    tx.conn.execute(sa.delete(credentials).where(mine))
    fresh = {"account": account, "kind": kind, "fingerprint": fingerprint, "since": tx.now}
    tx.insert(credentials, [fresh])
    return tx.now


def quarantined_since(tx: Transaction, since: datetime) -> int:
    """How many of the orders in quarantine came there after the given time."""
    query = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.first_seen_at > since)
    return int(tx.conn.execute(query).scalar_one())
