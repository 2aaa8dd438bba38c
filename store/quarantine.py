"""Orders that could not be understood: kept with their payload and reason until they can.

Two ways lead out: the stored payload is read again by a newer version of this program (``of_older_readers``),
or Amazon is asked for the order again (``due``). Any later version that can be read opens the door as well
(``release``). When to ask next, and when to leave it to a person, is decided in
``poller/ingest/quarantine.py``.
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

    ``attempts``: how often it was read in vain, whatever brought it. ``next_attempt_at``: when Amazon is
    asked for it again; None when only a person can help. ``term_at``: the moment that the days of its
    buyer data are counted from (R60).
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
"""In place of a payload that was erased, or never kept."""

HAS_BEEN_ERASED = "what Amazon sent has been erased"
"""Why it cannot be read again."""

_NAMELESS = "unreadable-"


def name_of(order_id: str | None, payload: str) -> str:
    """The order's id, or a stable stand-in when even that cannot be read."""
    if order_id is not None:
        return order_id[:80]
    return _NAMELESS + hashlib.sha256(payload.encode()).hexdigest()[:20]


def has_id(entry: Quarantined) -> bool:
    """Whether Amazon can be asked for it."""
    return not entry.order_id.startswith(_NAMELESS)


def place(account: str, order_id: str) -> str:
    """Where a payload is bound to."""
    return f"quarantine:{account}:{order_id}:payload"


def _is(entry: Quarantined) -> sa.ColumnElement[bool]:
    c = quarantine.c
    return sa.and_(c.account == entry.account, c.order_id == entry.order_id)


def put(tx: Transaction, entry: Quarantined) -> None:
    """Keep an order, or count another attempt at one that is there already, whose turn does not change.

    An older copy counts, and does not take the place of a newer one. Of one that does not tell its time it
    is taken to be the newest; what is known of those before is kept, as a bound for what may release it.
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
    again = sa.update(quarantine).where(_is(entry)).values(attempts=c.attempts + 1)
    known = tx.conn.execute(again.where(newest).values(values)).rowcount
    known = known or tx.conn.execute(again.values(last_seen_at=tx.now)).rowcount
    if not known:
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
    """These orders could be read, in the version of the given time.

    A newer one that cannot be read stays: an old copy must not make it be forgotten.
    """
    c = quarantine.c
    if not read or not tx.conn.execute(_ANY, {"account": account}).first():
        return
    query = sa.select(c.order_id, c.last_updated_at).where(
        c.account == account, among(c.order_id, sorted(read))
    )
    gone = [
        row.order_id
        for row in tx.rows(tx.lock(query))
        if row.last_updated_at is None or row.last_updated_at <= read[row.order_id]
    ]
    if gone:
        tx.conn.execute(sa.delete(quarantine).where(c.account == account, c.order_id.in_(gone)))


def remove(tx: Transaction, entry: Quarantined) -> None:
    """Its payload has been understood, unless another one took its place meanwhile."""
    same = quarantine.c.last_seen_at == entry.last_seen_at
    tx.conn.execute(sa.delete(quarantine).where(_is(entry), same))


def read_again(tx: Transaction, entry: Quarantined, version: str) -> None:
    """This version of the program need not look at its payload again."""
    tx.conn.execute(sa.update(quarantine).where(_is(entry)).values(read_by=version))


def schedule(tx: Transaction, entry: Quarantined, at: datetime | None, *, refetches: int) -> bool:
    """When Amazon is asked for it next, and how often it was; False when somebody else has set that first."""
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


# --- reading ----------------------------------------------------------------------------------------


def entries(tx: Transaction, order_ids: Sequence[str] | None = None) -> list[Quarantined]:
    """Some or all orders in quarantine, oldest first."""
    c = quarantine.c
    query = sa.select(quarantine).order_by(c.first_seen_at, c.order_id)
    if order_ids is not None:
        query = query.where(c.order_id.in_(list(order_ids)))
    return _opened(tx, query)


def _opened(tx: Transaction, query: sa.Select[Any], **asked: object) -> list[Quarantined]:
    found = []
    for row in tx.conn.execute(query, asked).mappings():
        values = dict(row)
        sealed = values.pop("payload")
        payload = tx.sealer.open(sealed, place(row["account"], row["order_id"])).decode()
        found.append(Quarantined(**values, payload=payload))
    return found


_OF_ACCOUNT = sa.select(quarantine).where(quarantine.c.account == sa.bindparam("of_account"))
_OF_OLDER_READERS = _OF_ACCOUNT.where(
    sa.or_(quarantine.c.read_by.is_(None), quarantine.c.read_by != sa.bindparam("version"))
)
_DUE = _OF_ACCOUNT.where(quarantine.c.next_attempt_at <= sa.bindparam("now"))
IS_ANY_OF_OLDER_READERS = _OF_OLDER_READERS.exists()
"""With ``of_account`` and ``version``."""

_IS_ANY_DUE = sa.select(_DUE.exists())


def of_older_readers(tx: Transaction, account: str, version: str, limit: int) -> list[Quarantined]:
    """Orders that another version of this program could not read, oldest first."""
    c = quarantine.c
    query = _OF_OLDER_READERS.order_by(c.first_seen_at, c.order_id).limit(limit)
    return _opened(tx, query, of_account=account, version=version)


def is_any_due(tx: Transaction, account: str) -> bool:
    """Whether ``due`` would find any."""
    return bool(tx.conn.execute(_IS_ANY_DUE, {"of_account": account, "now": tx.now}).scalar_one())


def due(tx: Transaction, account: str, limit: int) -> list[Quarantined]:
    """Orders that Amazon is to be asked for again by now, longest due first."""
    c = quarantine.c
    query = _DUE.order_by(c.next_attempt_at, c.order_id).limit(limit)
    return _opened(tx, query, of_account=account, now=tx.now)


@dataclass(frozen=True, slots=True)
class Counts:
    """Quarantine in figures. ``waiting``: for a person, because asking Amazon again has not helped.

    ``without_id``: those of them that Amazon cannot be asked for, because not even their id could be read.
    """

    orders: int
    waiting: int
    oldest: datetime | None
    next_attempt_at: datetime | None
    without_id: int = 0


def counts(tx: Transaction) -> Counts:
    """How many there are, over all accounts."""
    c = quarantine.c
    query = sa.select(
        sa.func.count(),
        sa.func.count(c.next_attempt_at),
        sa.func.min(c.first_seen_at),
        sa.func.min(c.next_attempt_at),
        sa.func.count(sa.case((c.order_id.startswith(_NAMELESS, autoescape=True), 1))),
    )
    many, scheduled, oldest, following, nameless = tx.conn.execute(query).one()
    return Counts(many, many - scheduled, oldest, following, nameless)
