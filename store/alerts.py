"""Alerts in the database that all processes share: what is wrong, and if people were notified."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import alerts, credentials, quarantine


@dataclass(frozen=True, slots=True)
class Standing:
    """Something that is wrong ``since`` then.

    ``over_at``: when it ended, while people do not know yet. ``telling_until``: until then a process is
    notifying people.
    """

    alert: str
    sentence: str
    since: datetime
    over_at: datetime | None = None
    told_at: datetime | None = None
    times: int = 0
    telling_until: datetime | None = None


def load(tx: Transaction) -> dict[str, Standing]:
    """Return all that is wrong by name, locked."""
    query = tx.lock(sa.select(alerts).order_by(alerts.c.alert))
    return {row.alert: Standing(**row._mapping) for row in tx.rows(query)}


def count_open(tx: Transaction) -> int:
    """Return how many things are wrong now."""
    query = sa.select(sa.func.count()).select_from(alerts).where(alerts.c.over_at.is_(None))
    return int(tx.conn.execute(query).scalar_one())


def save(tx: Transaction, standing: Iterable[Standing], known: Collection[str]) -> None:
    """Store alerts. ``known``: the names that ``load`` returned in this transaction.

    Raises a conflict (``engine.is_conflict``) if another process has entered one of the others since: only
    locked rows may be overwritten.
    """
    for alert in standing:
        if alert.alert in known:
            changed = sa.update(alerts).where(alerts.c.alert == alert.alert)
            tx.conn.execute(changed.values(asdict(alert)))
        else:
            tx.conn.execute(sa.insert(alerts).values(asdict(alert)))


def forget(tx: Transaction, names: Iterable[str]) -> None:
    """Delete alerts that are over and of which people know that."""
    tx.conn.execute(sa.delete(alerts).where(alerts.c.alert.in_(list(names))))


def note_notified(tx: Transaction, name: str) -> None:
    """Record that people were notified of this alert."""
    values = {"told_at": tx.now, "times": alerts.c.times + 1, "telling_until": None}
    tx.conn.execute(sa.update(alerts).where(alerts.c.alert == name).values(values))


CredentialKind = Literal["secret", "authorisation", "key"]

Used = Mapping[tuple[str, CredentialKind], str]
"""Fingerprints of the credentials in use, by account and kind."""


def in_use_since(tx: Transaction, used: Used) -> dict[tuple[str, CredentialKind], datetime]:
    """Return since when these credentials have been in use; new ones are left out."""
    return {name: since for name, (known, since) in _in_use(tx).items() if used.get(name) == known}


def note_use(tx: Transaction, used: Used) -> dict[tuple[str, CredentialKind], datetime]:
    """Record new credentials as in use from now on. Return since when each of them all has been in use.

    Raises a conflict (``engine.is_conflict``) if another process records the same.
    """
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


def _in_use(tx: Transaction) -> dict[tuple[str, CredentialKind], tuple[str, datetime]]:
    query = tx.lock(sa.select(credentials))
    return {(row.account, row.kind): (row.fingerprint, row.since) for row in tx.rows(query)}


def quarantined_since(tx: Transaction, since: datetime) -> int:
    """Return how many of the orders in quarantine entered it after the given time."""
    query = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.first_seen_at > since)
    return int(tx.conn.execute(query).scalar_one())
