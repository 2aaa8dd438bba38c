"""What people have been told is wrong, in the database that all processes share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


def count_open(tx: Transaction) -> int:
    """Return how many things are wrong now."""
    query = sa.select(sa.func.count()).select_from(alerts).where(alerts.c.over_at.is_(None))
    return int(tx.conn.execute(query).scalar_one())


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


Used = Mapping[tuple[str, str], str]
"""Fingerprints of credentials that are in use, by account and kind."""


def in_use_since(tx: Transaction, used: Used) -> dict[tuple[str, str], datetime]:
    """Since when these credentials have been in use, as far as is known here: nothing of one that is new."""
    return {name: since for name, (known, since) in _in_use(tx).items() if used.get(name) == known}


def note_use(tx: Transaction, used: Used) -> dict[tuple[str, str], datetime]:
    """The same, with what is new remembered as in use from now on. Raises a conflict (``is_conflict``)."""
    before = _in_use(tx)
    new = [
        {"account": account, "kind": kind, "fingerprint": fingerprint, "since": tx.now}
        for (account, kind), fingerprint in sorted(used.items())
        if (account, kind) not in before or before[account, kind][0] != fingerprint
    ]
    known = [row for row in new if (row["account"], row["kind"]) in before]
    tx.update(credentials, known, account=None, kind=None)
    tx.insert(credentials, [row for row in new if (row["account"], row["kind"]) not in before])
    return in_use_since(tx, used)


def _in_use(tx: Transaction) -> dict[tuple[str, str], tuple[str, datetime]]:
    query = tx.lock(sa.select(credentials))
    return {(row.account, row.kind): (row.fingerprint, row.since) for row in tx.rows(query)}


def quarantined_since(tx: Transaction, since: datetime) -> int:
    """How many of the orders in quarantine came there after the given time."""
    query = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.first_seen_at > since)
    return int(tx.conn.execute(query).scalar_one())
