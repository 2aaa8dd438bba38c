"""Failed attempts to sign in, counted by name and network, by network, and by name since the last success.

Known and unknown names cause the same statements. Names are kept as keyed hashes, because people type their
password into the wrong field. The rows are bounded; those of users go last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import console_users, sign_in_failures

MAX_ROWS = 20_000
"""Most rows that are kept."""

KEPT_FOR = timedelta(days=90)
"""Failures that are older are forgotten."""

_ANY = ""
"""The key of all names, or of all networks."""


@dataclass(frozen=True, slots=True)
class Count:
    """That many failures, the last one ``at``."""

    failures: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted against an attempt: failures with its name from its network, and from its network."""

    pair: Count
    network: Count


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures with a name since its last success: how many, when the last was and from which address."""

    number: int
    at: datetime
    address: str


def lock(tx: Transaction, name: str, network: str) -> Counts:
    """Return what is counted against an attempt, locked. ``network``: stands for a person's addresses."""
    return Counts(_lock(tx, _pair(tx, name, network)), _lock(tx, _network(tx, network)))


def save(tx: Transaction, name: str, network: str, counts: Counts) -> None:
    """Store the counts, locked before."""
    for key, count in ((_pair(tx, name, network), counts.pair), (_network(tx, network), counts.network)):
        _update(tx, key, failures=count.failures, at=count.at)


def undo(tx: Transaction, name: str, network: str) -> None:
    """Take back an attempt that was counted before it turned out to be right."""
    c = sign_in_failures.c
    for key in (_pair(tx, name, network), _network(tx, network)):
        fewer = sa.case((c.failures > 0, c.failures - 1), else_=0)
        tx.conn.execute(sa.update(sign_in_failures).where(*_is(key)).values(failures=fewer))


def failed(tx: Transaction, name: str, address: str) -> None:
    """Note a failure for the next sign-in with this name."""
    key = _pair(tx, name, _ANY)
    count = _lock(tx, key)
    _update(tx, key, failures=count.failures + 1, at=tx.now, address=address)


def of_name(tx: Transaction, name: str) -> Failures | None:
    """Return the failures with a name since its last success."""
    row = tx.conn.execute(sa.select(sign_in_failures).where(*_is(_pair(tx, name, _ANY)))).one_or_none()
    return None if row is None or not row.failures else Failures(row.failures, row.at, row.address)


def forget(tx: Transaction, name: str, network: str) -> None:
    """Delete the failures of a name from this network, after a success."""
    for key in (_pair(tx, name, network), _pair(tx, name, _ANY)):
        tx.conn.execute(sa.delete(sign_in_failures).where(*_is(key)))


def unlock(tx: Transaction, name: str) -> None:
    """Delete the failures with a name from all networks, and of those networks."""
    c, name_key = sign_in_failures.c, _key(tx, "name", name)
    networks = sa.select(c.address_key).where(c.name_key == name_key, c.address_key != _ANY)
    found = list(tx.conn.execute(networks).scalars())
    of_networks = sa.and_(c.name_key == _ANY, c.address_key.in_(found))
    tx.conn.execute(sa.delete(sign_in_failures).where(sa.or_(c.name_key == name_key, of_networks)))


_Key = tuple[str, str]


def _key(tx: Transaction, kind: str, value: str) -> str:
    return tx.lookup.fingerprint(f"sign-in\0{kind}\0{value}") if value else _ANY


def _pair(tx: Transaction, name: str, network: str) -> _Key:
    # No name is unlike all names: an empty field is a name, too.
    return _key(tx, "name", name or "\0"), _key(tx, "network", network)


def _network(tx: Transaction, network: str) -> _Key:
    return _ANY, _key(tx, "network", network)


def _is(key: _Key) -> tuple[sa.ColumnElement[bool], ...]:
    c = sign_in_failures.c
    return c.name_key == key[0], c.address_key == key[1]


def _lock(tx: Transaction, key: _Key) -> Count:
    query = tx.lock(sa.select(sign_in_failures).where(*_is(key)))
    row = tx.conn.execute(query).one_or_none()
    if row is None:
        _make_room(tx)
        empty = {"name_key": key[0], "address_key": key[1], "failures": 0, "at": tx.now, "address": ""}
        tx.insert_missing(sign_in_failures, [empty])
        row = tx.conn.execute(query).one()
    return Count(row.failures, row.at)


def _update(tx: Transaction, key: _Key, **values: object) -> None:
    tx.conn.execute(sa.update(sign_in_failures).where(*_is(key)).values(values))


def _make_room(tx: Transaction) -> None:
    """Delete old rows; if there are still too many, the oldest ones that are of no user."""
    c = sign_in_failures.c
    tx.conn.execute(sa.delete(sign_in_failures).where(c.at <= tx.now - KEPT_FOR))
    number = tx.conn.execute(sa.select(sa.func.count()).select_from(sign_in_failures)).scalar_one()
    if number < MAX_ROWS:
        return
    names = tx.conn.execute(sa.select(console_users.c.name)).scalars()
    of_users = [_key(tx, "name", name) for name in names]
    for of_no_user in (c.name_key.not_in(of_users), sa.true()):
        cut = sa.select(c.at).where(of_no_user).order_by(c.at).offset(MAX_ROWS // 10).limit(1)
        last = tx.conn.execute(cut).scalar_one_or_none()
        if last is not None:
            tx.conn.execute(sa.delete(sign_in_failures).where(of_no_user, c.at < last))
            return
