"""Orders that could not be read, kept with their payload and reason until they can.

An order leaves when a newer version of this program reads the stored payload (``of_older_readers``), when it
is requested from Amazon again (``due``), or when any later version of it can be read (``release``).
``poller/ingest/quarantine.py`` decides when to request it next and when to leave it to a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import quarantine
from store.types import among


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One order in quarantine. ``payload`` is Amazon's JSON and holds buyer data; empty once erased (R60).

    ``attempts``: how often reading it failed. ``next_attempt_at``: when it is requested again; None if only a
    person can help. ``term_at``: the time from which the days of its buyer data count (R60).
    """

    account: str
    order_id: str
    marketplace_id: str | None
    reason: str
    payload: str = field(repr=False)
    attempts: int = 1
    next_attempt_at: datetime | None = None
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    last_updated_at: datetime | None = None
    read_by: str | None = None
    refetches: int = 0
    term_at: datetime | None = None


ERASED = ""
"""Stands for a payload that was erased or never kept."""

HAS_BEEN_ERASED = "what Amazon sent has been erased"
"""The reason why an order without a payload cannot be read."""

DAMAGED = "\0"
"""In place of a payload that does not open: it is damaged, or sealed with a key that is gone."""

IS_DAMAGED = "what Amazon sent is damaged in the database"
"""Why it cannot be read again."""

_NAMELESS = "unreadable-"


def name_of(order_id: str | None, payload: str) -> str:
    """Return the order's id, or a stable stand-in if it cannot be read."""
    if order_id is not None:
        return order_id[:80]
    return _NAMELESS + hashlib.sha256(payload.encode()).hexdigest()[:20]


def has_id(entry: Quarantined) -> bool:
    """Return True if the order has an id with which Amazon can be asked."""
    return not entry.order_id.startswith(_NAMELESS)


def place(account: str, order_id: str) -> str:
    """Return the place to which a payload is bound."""
    return f"quarantine:{account}:{order_id}:payload"


def _is(entry: Quarantined) -> sa.ColumnElement[bool]:
    c = quarantine.c
    return sa.and_(c.account == entry.account, c.order_id == entry.order_id)


def put(tx: Transaction, entry: Quarantined) -> None:
    """Store an order, or count another attempt if it is stored already; its next attempt stays.

    An older copy counts without replacing a newer one. A copy without a time counts as the newest; the time
    of the copy before stays, as a bound for what may release it.
    """
    c = quarantine.c
    values: dict[str, Any] = {
        "marketplace_id": entry.marketplace_id,
        "reason": entry.reason,
        "payload": tx.sealer.seal(entry.payload.encode(), place(entry.account, entry.order_id)),
        "last_seen_at": tx.now,
        "term_at": entry.term_at,
        "read_by": entry.read_by,
    }
    newest: sa.ColumnElement[bool] = sa.true()
    if entry.last_updated_at is not None:
        values["last_updated_at"] = entry.last_updated_at
        newest = sa.or_(c.last_updated_at.is_(None), c.last_updated_at <= entry.last_updated_at)
    counted = sa.update(quarantine).where(_is(entry)).values(attempts=c.attempts + 1)
    is_stored = tx.conn.execute(counted.where(newest).values(values)).rowcount
    is_stored = is_stored or tx.conn.execute(counted.values(last_seen_at=tx.now)).rowcount
    if not is_stored:
        tx.conn.execute(
            sa.insert(quarantine).values(
                account=entry.account,
                order_id=entry.order_id,
                attempts=1,
                refetches=0,
                next_attempt_at=entry.next_attempt_at,
                first_seen_at=tx.now,
                **values,
            )
        )


_ANY = sa.select(quarantine.c.order_id).where(quarantine.c.account == sa.bindparam("account")).limit(1)


def release(tx: Transaction, account: str, read: Mapping[str, datetime]) -> None:
    """Release orders that could be read, each in its version of the given time.

    A newer version that could not be read stays: reading an old copy does not settle it.
    """
    c = quarantine.c
    if not read or not tx.conn.execute(_ANY, {"account": account}).first():
        return
    query = sa.select(c.order_id, c.last_updated_at).where(
        c.account == account, among(c.order_id, sorted(read))
    )
    released = [
        row.order_id
        for row in tx.rows(tx.lock(query))
        if row.last_updated_at is None or row.last_updated_at <= read[row.order_id]
    ]
    if released:
        tx.conn.execute(sa.delete(quarantine).where(c.account == account, c.order_id.in_(released)))


def remove(tx: Transaction, entry: Quarantined) -> None:
    """Delete an order whose payload was read, unless another payload has replaced it."""
    same = quarantine.c.last_seen_at == entry.last_seen_at
    tx.conn.execute(sa.delete(quarantine).where(_is(entry), same))


def read_again(tx: Transaction, entry: Quarantined, version: str) -> None:
    """Record that this version of the program has tried to read the payload."""
    tx.conn.execute(sa.update(quarantine).where(_is(entry)).values(read_by=version))


def schedule(tx: Transaction, entry: Quarantined, at: datetime | None, *, refetches: int) -> bool:
    """Store the time of the next request and the count of requests. Return False if another process did."""
    c = quarantine.c
    as_read = c.next_attempt_at.is_not_distinct_from(
        sa.literal(entry.next_attempt_at, c.next_attempt_at.type)
    )
    changed = tx.conn.execute(
        sa.update(quarantine)
        .where(_is(entry), as_read, c.refetches == entry.refetches)
        .values(next_attempt_at=at, refetches=refetches)
    )
    return changed.rowcount == 1


def erase(tx: Transaction, which: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """Erase the payload of these (account, order id). Return those that had one."""
    c = quarantine.c
    erased = []
    for account in sorted({account for account, _ in which}):
        ids = sorted(order_id for of, order_id in which if of == account)
        query = sa.select(c.order_id, c.payload).where(c.account == account, among(c.order_id, ids))
        for row in tx.rows(tx.lock(query.order_by(c.order_id))):
            where = place(account, row.order_id)
            if _payload(tx, row.payload, where) != ERASED:
                entry = sa.update(quarantine).where(c.account == account, c.order_id == row.order_id)
                tx.conn.execute(entry.values(payload=tx.sealer.seal(ERASED.encode(), where), term_at=None))
                erased.append((account, row.order_id))
    return erased


def past_term(tx: Transaction, over: datetime, limit: int) -> list[tuple[str, str]]:
    """Return (account, order id) of entries whose payload is past its term (R60)."""
    c = quarantine.c
    query = sa.select(c.account, c.order_id).where(c.term_at <= over).limit(limit)
    return [(row.account, row.order_id) for row in tx.rows(query)]


def without_term(tx: Transaction) -> list[tuple[str, str, datetime]]:
    """Return (account, order id, first seen) of entries that a version without terms stored."""
    c = quarantine.c
    query = sa.select(c.account, c.order_id, c.first_seen_at, c.payload).where(c.term_at.is_(None))
    return [
        (row.account, row.order_id, row.first_seen_at)
        for row in tx.rows(query)
        if _payload(tx, row.payload, place(row.account, row.order_id)) != ERASED
    ]


def set_term(tx: Transaction, account: str, order_id: str, term_at: datetime) -> None:
    """Store the time from which the days of a payload count."""
    c = quarantine.c
    entry = sa.update(quarantine).where(c.account == account, c.order_id == order_id)
    tx.conn.execute(entry.values(term_at=term_at))


# --- reading ----------------------------------------------------------------------------------------


def entries(tx: Transaction, order_ids: Sequence[str] | None = None) -> list[Quarantined]:
    """Return some or all orders in quarantine, oldest first."""
    c = quarantine.c
    query = sa.select(quarantine).order_by(c.first_seen_at, c.order_id)
    if order_ids is not None:
        query = query.where(c.order_id.in_(list(order_ids)))
    return _opened(tx, query)


def _opened(tx: Transaction, query: sa.Select[Any], **parameters: object) -> list[Quarantined]:
    opened = []
    for row in tx.conn.execute(query, parameters).mappings():
        values = dict(row)
        sealed = values.pop("payload")
        payload = _payload(tx, sealed, place(row["account"], row["order_id"]))
        opened.append(Quarantined(**values, payload=payload))
    return opened


def _payload(tx: Transaction, sealed: bytes, where: str) -> str:
    """Open a payload. One that does not open must not stop what is done with the others."""
    opened = tx.sealer.try_open(sealed, where)
    return DAMAGED if opened is None else opened.decode()


_OF_ACCOUNT = sa.select(quarantine).where(quarantine.c.account == sa.bindparam("of_account"))
_OF_OLDER_READERS = _OF_ACCOUNT.where(
    sa.or_(quarantine.c.read_by.is_(None), quarantine.c.read_by != sa.bindparam("version"))
)
_DUE = _OF_ACCOUNT.where(quarantine.c.next_attempt_at <= sa.bindparam("now"))
IS_ANY_OF_OLDER_READERS = _OF_OLDER_READERS.exists()
"""Takes the parameters ``of_account`` and ``version``."""

_IS_ANY_DUE = sa.select(_DUE.exists())


def of_older_readers(tx: Transaction, account: str, version: str, limit: int) -> list[Quarantined]:
    """Return orders that only other versions of this program have tried to read, oldest first."""
    c = quarantine.c
    query = _OF_OLDER_READERS.order_by(c.first_seen_at, c.order_id).limit(limit)
    return _opened(tx, query, of_account=account, version=version)


def is_any_due(tx: Transaction, account: str) -> bool:
    """Return True if ``due`` would return any."""
    return bool(tx.conn.execute(_IS_ANY_DUE, {"of_account": account, "now": tx.now}).scalar_one())


def due(tx: Transaction, account: str, limit: int) -> list[Quarantined]:
    """Return orders whose next request to Amazon is due, longest due first."""
    c = quarantine.c
    query = _DUE.order_by(c.next_attempt_at, c.order_id).limit(limit)
    return _opened(tx, query, of_account=account, now=tx.now)


@dataclass(frozen=True, slots=True)
class Counts:
    """Quarantine in figures. ``waiting``: for a person, because further requests have not helped.

    ``without_id``: those of them without a readable id, which cannot be requested.
    """

    orders: int
    waiting: int
    oldest: datetime | None
    next_attempt_at: datetime | None
    without_id: int = 0


def counts(tx: Transaction) -> Counts:
    """Count the quarantine of all accounts."""
    c = quarantine.c
    query = sa.select(
        sa.func.count(),
        sa.func.count(c.next_attempt_at),
        sa.func.min(c.first_seen_at),
        sa.func.min(c.next_attempt_at),
        sa.func.count(sa.case((c.order_id.startswith(_NAMELESS, autoescape=True), 1))),
    )
    total, scheduled, oldest, next_attempt_at, nameless = tx.conn.execute(query).one()
    return Counts(total, total - scheduled, oldest, next_attempt_at, nameless)
