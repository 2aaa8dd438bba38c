"""The change feed: the outbox read from a position, and trimmed.

A position is that of an event, and means "up to and with this one". Positions grow as changes become
readable, for each record and over all: an event is readable only when no transaction with a smaller position
can still commit, so whoever goes on from the last position that was given misses nothing. A plain number, as
``order-sync export`` prints it, means all events of that number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from store.engine import Transaction
from store.engine.outbox import CUSTOMER, ORDER
from store.tables import customers, orders, outbox, webhook_events, webhooks

Kind = Literal[
    "order.created",
    "order.changed",
    "customer.created",
    "customer.changed",
    "customer.merged",
    "customer.forgotten",
]
"""What became of a record. ``merged``: it is a tombstone that points to another one."""

KEPT = timedelta(days=30)
"""How long events are kept."""

KEPT_FOR_HOOKS = timedelta(days=90)
"""How long events are kept that some web hook has not dealt with."""

LONGEST = 1000
"""Events that are read at once, at most."""

_TRIM = 5000
_AFTER_ALL = 9
_TRIMMED = "trimmed"
"""The kind of a mark in the outbox, before all events: up to there they have been let go."""

_NUMBER = re.compile(r"(\d{1,18})(?:\.([12])\.(\d{1,18}))?", re.ASCII)


class BadPosition(ValueError):
    """What was given is no position from which one can go on."""


class PositionGone(BadPosition):
    """Events after that position have been let go: whoever was there has to read everything anew."""


class Position(NamedTuple):
    """A place between events: after the one named so, or after all of ``change_no``."""

    change_no: int
    what: int = _AFTER_ALL
    key: int = 0

    def __str__(self) -> str:
        if self.what == _AFTER_ALL:
            return str(self.change_no)
        return f"{self.change_no}.{self.what}.{self.key}"


START = Position(0)


def read_position(text: str) -> Position:
    """The position written so. Raises BadPosition."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise BadPosition("a position is a number, as the last answer or `order-sync export` gave it")
    number, what, key = found.groups()
    return Position(int(number)) if what is None else Position(int(number), int(what), int(key))


@dataclass(frozen=True, slots=True)
class Change:
    """One event. ``version`` grows with every change of the record; ids are as they are now."""

    position: Position
    kind: Kind
    at: datetime
    account: str | None = None
    order_id: str | None = None
    marketplace: str | None = None
    business: str | None = None
    customer_id: int | None = None
    merged_into: int | None = None

    @property
    def version(self) -> int:
        return self.position.change_no

    @property
    def record(self) -> tuple[int, int]:
        """Which record it is about: events of one record have an order."""
        return self.position.what, self.position.key


@dataclass(frozen=True, slots=True)
class Changes:
    """Some events, oldest first, and the position from which to go on. ``more``: there are some already."""

    events: tuple[Change, ...]
    position: Position
    more: bool


def later_than(after: Position) -> sa.ColumnElement[bool]:
    """Events after a position."""
    c = outbox.c
    same = sa.and_(
        c.change_no == after.change_no,
        sa.or_(c.what > after.what, sa.and_(c.what == after.what, c.key > after.key)),
    )
    return sa.and_(c.change_no >= after.change_no, sa.or_(c.change_no > after.change_no, same))


def events(
    tx: Transaction, which: sa.ColumnElement[bool], limit: int
) -> tuple[list[Change], Position | None]:
    """Some events, oldest first, with the ids of their records; and where to go on when there may be more.

    An event whose record was erased altogether is left out.
    """
    c, o, p = outbox.c, orders.c, customers.c
    query = (
        sa.select(
            outbox,
            o.order_key,
            o.account,
            o.order_id,
            o.marketplace,
            o.customer_id.label("of_order"),
            p.customer_id,
            p.business,
        )
        .select_from(outbox)
        .outerjoin(orders, sa.and_(c.what == ORDER, o.order_key == c.key))
        .outerjoin(customers, sa.and_(c.what == CUSTOMER, p.customer_id == c.key))
        .where(which)
        .order_by(c.change_no, c.what, c.key)
        .limit(limit)
    )
    rows = tx.rows(query)
    found = [change for row in rows if (change := _change(row)) is not None]
    return found, _position(rows[-1]) if len(rows) == limit else None


def _position(row: sa.Row[Any]) -> Position:
    return Position(row.change_no, row.what, row.key)


def _change(row: sa.Row[Any]) -> Change | None:
    if row.order_key is not None:
        kind: Kind = "order.created" if row.kind == "created" else "order.changed"
        ids = {"account": row.account, "order_id": row.order_id, "marketplace": row.marketplace}
        return Change(_position(row), kind, row.at, **ids, customer_id=row.of_order)
    if row.customer_id is None:
        return None
    kind = _of_customer(row.kind)
    ids = {"business": row.business, "customer_id": row.customer_id, "merged_into": row.merged_into}
    return Change(_position(row), kind, row.at, **ids)


def _of_customer(kind: str) -> Kind:
    kinds: dict[str, Kind] = {
        "created": "customer.created",
        "merged": "customer.merged",
        "forgotten": "customer.forgotten",
    }
    return kinds.get(kind, "customer.changed")


def readable(tx: Transaction) -> Position:
    """The newest position that may be given to a reader."""
    return Position(tx.readable_change_no())


def reached(tx: Transaction, position: Position) -> Position:
    """The newest position that may be given to a reader, when one can go on from this one.

    Raises BadPosition for one that has not been reached, as after an older backup was restored, and
    PositionGone for one that was left behind too long ago. From ``START`` one can always begin.
    """
    newest = readable(tx)
    if position > newest:
        raise BadPosition(f"that position has not been reached yet: the newest is {newest}")
    c = outbox.c
    oldest = tx.conn.execute(sa.select(c.change_no, c.kind).order_by(c.change_no).limit(1)).first()
    if oldest is not None and oldest.kind == _TRIMMED and START < position < Position(oldest.change_no):
        raise PositionGone(f"changes are kept from position {oldest.change_no} on: export everything anew")
    return newest


def changes_after(tx: Transaction, after: Position, limit: int) -> Changes:
    """The events after a position, at most ``limit`` (and ``LONGEST``). Raises BadPosition (``reached``).

    Use it in ``Store.read``: what is readable and what is read must be of one moment.
    """
    limit = max(1, min(limit, LONGEST))
    upto = reached(tx, after)
    found, last = events(tx, sa.and_(later_than(after), outbox.c.change_no <= upto.change_no), limit)
    return Changes(tuple(found), last or upto, last is not None)


def trim(tx: Transaction) -> int:
    """Let go of some events that are older than they are kept. Returns how many; 0 when none is left.

    What a web hook has not dealt with stays longer, so that a receiver may be away for long.
    """
    c = outbox.c
    some = sa.select(c.change_no, c.at).where(c.kind != _TRIMMED).order_by(c.change_no).limit(_TRIM)
    oldest = some.subquery()
    ends = [
        tx.conn.execute(sa.select(sa.func.min(t.c.change_no))).scalar_one()
        for t in (webhooks, webhook_events)
    ]
    held = min((end for end in ends if end is not None), default=None)
    old = oldest.c.at < tx.now - KEPT
    if held is not None:
        old = sa.and_(old, sa.or_(oldest.c.change_no < held, oldest.c.at < tx.now - KEPT_FOR_HOOKS))
    upto = tx.conn.execute(sa.select(sa.func.max(oldest.c.change_no)).where(old)).scalar_one()
    if upto is None:
        return 0
    tx.conn.execute(sa.delete(webhook_events).where(webhook_events.c.change_no <= upto))
    tx.conn.execute(sa.delete(outbox).where(c.kind == _TRIMMED, c.change_no <= upto))
    gone = tx.conn.execute(sa.delete(outbox).where(c.change_no <= upto)).rowcount
    mark = {**Position(upto)._asdict(), "kind": _TRIMMED, "at": tx.now, "merged_into": None}
    tx.insert(outbox, [mark])
    return gone
