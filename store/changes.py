"""The change feed: read the outbox from a position, and trim it.

A position names an event and means "up to and including this one". An event is readable only when no
transaction with a smaller position can still commit, so positions grow in the order in which changes become
readable, and a reader that continues from its last position misses nothing. A plain number, as
``order-sync export`` prints it, includes all events of that number.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from store.change_records import START, BadPosition, Change, Changes, EventKind, Position, PositionGone
from store.engine import Transaction, condense, is_ours
from store.engine.outbox import CUSTOMER, ERASED, ORDER
from store.tables import customers, orders, outbox, webhook_events, webhooks

KEPT = timedelta(days=30)
"""How long events are kept."""

KEPT_FOR_HOOKS = timedelta(days=90)
"""How long events are kept that a webhook has not handled yet."""

EVENTS_AT_ONCE = 1000
"""The most events that one call reads."""

_TRIMMED_AT_ONCE = 5000
_TRIMMED = "trimmed"
"""Kind of a mark before all events: those up to its position were deleted."""


def later_than(after: Position) -> sa.ColumnElement[bool]:
    """Return the condition for events after a position."""
    c = outbox.c
    same = sa.and_(
        c.change_no == after.change_no,
        sa.or_(c.what > after.what, sa.and_(c.what == after.what, c.key > after.key)),
    )
    return sa.and_(c.change_no >= after.change_no, sa.or_(c.change_no > after.change_no, same))


def events(
    tx: Transaction, which: sa.ColumnElement[bool], limit: int
) -> tuple[list[Change], Position | None]:
    """Return events, oldest first, with the ids of their records; and where to continue if there may be more.

    Of deleted records only the event that says so is left.
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
    changes = [change for row in rows if (change := _change(row)) is not None]
    return changes, _position(rows[-1]) if len(rows) == limit else None


def _position(row: sa.Row[Any]) -> Position:
    return Position(row.change_no, row.what, row.key)


def _change(row: sa.Row[Any]) -> Change | None:
    if row.kind == ERASED:
        return Change(_position(row), "order.erased", row.at, **json.loads(row.ids))
    if row.order_key is not None:
        kind: EventKind = "order.created" if row.kind == "created" else "order.changed"
        ids = {"account": row.account, "order_id": row.order_id, "marketplace": row.marketplace}
        return Change(_position(row), kind, row.at, **ids, customer_id=row.of_order)
    if row.customer_id is None:
        return None
    kind = _of_customer(row.kind)
    ids = {"business": row.business, "customer_id": row.customer_id, "merged_into": row.merged_into}
    return Change(_position(row), kind, row.at, **ids)


def _of_customer(kind: str) -> EventKind:
    kinds: dict[str, EventKind] = {
        "created": "customer.created",
        "merged": "customer.merged",
        "forgotten": "customer.forgotten",
    }
    return kinds.get(kind, "customer.changed")


def readable(tx: Transaction) -> Position:
    """Return the newest position that a reader may receive: that of an event.

    Others may be undone by a crash of PostgreSQL, and a reader would seem to be ahead.
    """
    c = outbox.c
    newest = sa.select(sa.func.max(c.change_no)).where(c.change_no <= tx.readable_change_no())
    return Position(tx.conn.execute(newest).scalar_one() or 0)


def check_history(tx: Transaction, position: Position) -> None:
    """Raise BadPosition for a position that this database did not issue, or a restore has undone."""
    if not is_ours(tx.conn, position.change_no):
        raise BadPosition(
            f"position {position} is of another database, or of one that was replaced by a backup: "
            "export everything again and continue from the new position"
        )


def check(tx: Transaction, position: Position) -> None:
    """Raise BadPosition if a reader cannot continue from this position. ``START`` is always valid."""
    check_history(tx, position)
    _check_kept(tx, position)


def _check_kept(tx: Transaction, position: Position) -> None:
    """Raise PositionGone if events after a position were deleted."""
    c = outbox.c
    oldest = tx.conn.execute(sa.select(c.change_no, c.kind).order_by(c.change_no).limit(1)).first()
    if oldest is not None and oldest.kind == _TRIMMED and START < position < Position(oldest.change_no):
        raise PositionGone(f"changes are kept from position {oldest.change_no} on: export everything again")


def changes_after(tx: Transaction, after: Position, limit: int) -> Changes:
    """Return the events after a reader's position. Raises BadPosition; otherwise as ``changes_for_hook``."""
    check_history(tx, after)
    return changes_for_hook(tx, after, limit)


def changes_for_hook(tx: Transaction, after: Position, limit: int) -> Changes:
    """Return the events after a position, ``limit`` (and ``EVENTS_AT_ONCE``) at most. Raises PositionGone.

    A webhook's position is stored here, so a restore takes it back, too; and one of a turn that lasted
    through a restore is below all later changes.
    Call it in ``Store.read``: the newest position and the events must come from one snapshot.
    """
    _check_kept(tx, after)
    limit = max(1, min(limit, EVENTS_AT_ONCE))
    upto = readable(tx)
    changes, last = events(tx, sa.and_(later_than(after), outbox.c.change_no <= upto.change_no), limit)
    return Changes(tuple(changes), last or upto, last is not None)


def trim(tx: Transaction) -> int:
    """Delete a batch of events past their time. Return how many; 0 if none is left.

    Events that a webhook has not handled stay longer, because a receiver may be down for long.
    """
    condense(tx.conn, tx.now)
    c = outbox.c
    oldest = (
        sa.select(c.change_no, c.at)
        .where(c.kind != _TRIMMED)
        .order_by(c.change_no)
        .limit(_TRIMMED_AT_ONCE)
        .subquery()
    )
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
    deleted = tx.conn.execute(sa.delete(outbox).where(c.change_no <= upto)).rowcount
    mark = {**Position(upto)._asdict(), "kind": _TRIMMED, "at": tx.now, "merged_into": None}
    tx.insert(outbox, [mark])
    return deleted
