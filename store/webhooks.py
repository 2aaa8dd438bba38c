"""Webhooks in the database: receivers of changes, the position of each, and the events that it refused.

One process at a time works on a hook: it claims the hook for ``CLAIM``, and each change compares the version.
So a process that lost the claim, or whose hook was replayed or removed, writes nothing (``Superseded``); what
it has sent is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from store.change_records import Backlog, Change, Held, Hook, Position
from store.changes import check, events, later_than, readable
from store.engine import Row, Transaction
from store.ledger import Superseded
from store.tables import outbox, webhook_events, webhooks
from store.types import among

CLAIM = timedelta(minutes=1)
"""How long a process holds a hook; its turn must end well before."""


def place(hook_id: int, column: str) -> str:
    """Return the place to which a sealed value of a hook is bound."""
    return f"webhooks:{hook_id}:{column}"


def _hook(tx: Transaction, row: Row) -> Hook:
    hook_id = row["hook_id"]

    def opened(column: str) -> str:
        return tx.sealer.open(row[column], place(hook_id, column)).decode()

    return Hook(
        hook_id=hook_id,
        url=opened("url"),
        secret=opened("secret"),
        position=Position(row["change_no"], row["what"], row["key"]),
        version=row["version"],
        created_at=row["created_at"],
        failures=row["failures"],
        failing_since=row["failing_since"],
        retry_at=row["retry_at"],
        last_error=row["last_error"],
        succeeded_at=row["succeeded_at"],
    )


def add(tx: Transaction, url: str, secret: str, position: Position | None = None) -> Hook:
    """Store a new receiver of the changes after a position; by default of those from now on.

    Raises BadPosition (``store.changes.check``).
    """
    if position is None:
        position = readable(tx)
    else:
        check(tx, position)
    hook_id: int = tx.conn.execute(
        sa.insert(webhooks)
        .values(**position._asdict(), failures=0, version=0, created_at=tx.now)
        .returning(webhooks.c.hook_id)
    ).scalar_one()
    sealed = {
        name: tx.sealer.seal(text.encode(), place(hook_id, name))
        for name, text in (("url", url), ("secret", secret))
    }
    tx.conn.execute(sa.update(webhooks).where(webhooks.c.hook_id == hook_id).values(sealed))
    return Hook(hook_id, url, secret, position, 0, tx.now)


def load(tx: Transaction, hook_id: int | None = None) -> list[Hook]:
    """Return all hooks, or the one with this id."""
    query = sa.select(webhooks).order_by(webhooks.c.hook_id)
    if hook_id is not None:
        query = query.where(webhooks.c.hook_id == hook_id)
    return [_hook(tx, row) for row in tx.conn.execute(query).mappings()]


def remove(tx: Transaction, hook_id: int) -> bool:
    """Delete a hook and its events. Return False if there is none with this id."""
    tx.conn.execute(sa.delete(webhook_events).where(webhook_events.c.hook_id == hook_id))
    return tx.conn.execute(sa.delete(webhooks).where(webhooks.c.hook_id == hook_id)).rowcount == 1


# --- turns ------------------------------------------------------------------------------------------


def _first_due(now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition for due events without an older one of the same record waiting before them."""
    e, older = webhook_events.c, aliased(webhook_events)
    same = (older.c.hook_id == e.hook_id, older.c.what == e.what, older.c.key == e.key)
    overtakes = sa.exists().where(*same, older.c.state == "waiting", older.c.change_no < e.change_no)
    return sa.and_(e.state == "waiting", e.next_at <= now, ~overtakes)


def due(tx: Transaction) -> list[int]:
    """Return unclaimed hooks with something to do. Opens and changes nothing."""
    c, e, o = webhooks.c, webhook_events.c, outbox.c
    free = sa.or_(c.claimed_until.is_(None), c.claimed_until <= tx.now)
    rested = sa.or_(c.retry_at.is_(None), c.retry_at <= tx.now)
    hook_ids = []
    query = sa.select(c.hook_id, c.change_no, c.what, c.key).where(free, rested).order_by(c.hook_id)
    rows = tx.rows(query)
    upto = readable(tx).change_no if rows else 0
    for row in rows:
        fresh = sa.and_(later_than(Position(row.change_no, row.what, row.key)), o.change_no <= upto)
        waiting = sa.and_(e.hook_id == row.hook_id, _first_due(tx.now))
        queries = (sa.select(sa.literal(1)).where(fresh), sa.select(sa.literal(1)).where(waiting))
        if any(tx.conn.execute(query.limit(1)).first() for query in queries):
            hook_ids.append(row.hook_id)
    return hook_ids


def claim(tx: Transaction, hook_id: int, owner: str) -> Hook:
    """Claim a hook for a turn. Raises Superseded if another process holds it, or it is deleted or not due."""
    query = tx.lock(sa.select(webhooks).where(webhooks.c.hook_id == hook_id))
    row = tx.conn.execute(query).mappings().one_or_none()
    if row is None or any(
        row[name] is not None and row[name] > tx.now for name in ("claimed_until", "retry_at")
    ):
        raise Superseded
    claimed = {"owner": owner, "claimed_until": tx.now + CLAIM, "version": row["version"] + 1}
    tx.conn.execute(sa.update(webhooks).where(webhooks.c.hook_id == hook_id).values(claimed))
    return _hook(tx, {**row, **claimed})


def save(tx: Transaction, hook: Hook) -> None:
    """Store the result of a turn and release the hook. Raises Superseded if the claim was lost."""
    values = {
        **hook.position._asdict(),
        "failures": hook.failures,
        "failing_since": hook.failing_since,
        "retry_at": hook.retry_at,
        "last_error": hook.last_error,
        "succeeded_at": hook.succeeded_at,
        "owner": None,
        "claimed_until": None,
        "version": hook.version + 1,
    }
    if tx.update(webhooks, [values], hook_id=hook.hook_id, version=hook.version) != 1:
        raise Superseded


def release_all(tx: Transaction, owner: str) -> None:
    """Release all hooks of a process; what it still does with them is superseded."""
    c = webhooks.c
    released = {"owner": None, "claimed_until": None, "version": c.version + 1}
    tx.conn.execute(sa.update(webhooks).where(c.owner == owner).values(released))


def blocked(tx: Transaction, hook_id: int, records: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of the records with a waiting event, which no newer one may overtake."""
    e = webhook_events.c
    query = sa.select(e.what, e.key).where(
        e.hook_id == hook_id, e.state == "waiting", among(e.key, sorted({key for _, key in records}))
    )
    return {(row.what, row.key) for row in tx.rows(query)}


def waiting_first(tx: Transaction, hook_id: int, limit: int) -> list[tuple[Held, Change | None]]:
    """Return the oldest waiting event of each record, if due; the change is None for a deleted record."""
    e = webhook_events.c
    query = (
        sa.select(webhook_events)
        .where(e.hook_id == hook_id, _first_due(tx.now))
        .order_by(e.next_at, e.change_no, e.what, e.key)
        .limit(limit)
    )
    events_held = [_held(row) for row in tx.rows(query)]
    changes = changes_at(tx, [event.position for event in events_held])
    return [(event, changes.get(event.position)) for event in events_held]


def _held(row: sa.Row[tuple[object, ...]]) -> Held:
    at = Position(row.change_no, row.what, row.key)
    return Held(at, row.state, row.attempts, row.failed_at, row.next_at, row.last_error)


def changes_at(tx: Transaction, positions: Sequence[Position]) -> dict[Position, Change]:
    """Return the changes at some positions."""
    if not positions:
        return {}
    c = outbox.c
    which = sa.tuple_(c.change_no, c.what, c.key).in_([tuple(position) for position in positions])
    changes, _ = events(tx, which, len(positions))
    return {change.position: change for change in changes}


def hold(tx: Transaction, hook_id: int, held: Iterable[Held]) -> None:
    """Store events that were not accepted, or their new state."""
    for event in held:
        values = asdict(event)
        del values["position"]
        stored = sa.update(webhook_events).where(_is_at(hook_id, event.position))
        if tx.conn.execute(stored.values(values)).rowcount == 0:
            row = {"hook_id": hook_id, **event.position._asdict(), **values}
            tx.conn.execute(sa.insert(webhook_events).values(row))


def accept(tx: Transaction, hook_id: int, positions: Iterable[Position]) -> None:
    """Delete held events that the receiver has accepted."""
    for position in positions:
        tx.conn.execute(sa.delete(webhook_events).where(_is_at(hook_id, position)))


def _is_at(hook_id: int, position: Position) -> sa.ColumnElement[bool]:
    e = webhook_events.c
    return sa.and_(e.hook_id == hook_id, *(e[n] == value for n, value in position._asdict().items()))


# --- for people -------------------------------------------------------------------------------------


def dead(tx: Transaction, hook_id: int) -> list[tuple[Held, Change | None]]:
    """Return the events that were given up, oldest first; the change is None for a deleted record."""
    e = webhook_events.c
    which = sa.and_(e.hook_id == hook_id, e.state == "dead")
    query = sa.select(webhook_events).where(which).order_by(e.change_no, e.what, e.key)
    events_held = [_held(row) for row in tx.rows(query)]
    changes: dict[Position, Change] = {}
    for first in range(0, len(events_held), 500):
        changes |= changes_at(tx, [event.position for event in events_held[first : first + 500]])
    return [(event, changes.get(event.position)) for event in events_held]


def backlog(tx: Transaction, hook: Hook) -> Backlog:
    """Return what this hook has not accepted yet."""
    e, c = webhook_events.c, outbox.c
    query = sa.select(e.state, sa.func.count().label("number")).where(e.hook_id == hook.hook_id)
    numbers: dict[str, int] = {row.state: row.number for row in tx.rows(query.group_by(e.state))}
    same = sa.and_(c.change_no == e.change_no, c.what == e.what, c.key == e.key)
    waiting = sa.and_(e.hook_id == hook.hook_id, e.state == "waiting")
    first_waiting = (
        sa.select(c.at)
        .select_from(webhook_events)
        .join(outbox, same)
        .where(waiting)
        .order_by(e.change_no)
        .limit(1)
    )
    first_fresh = (
        sa.select(c.at)
        .where(later_than(hook.position), c.change_no <= tx.readable_change_no())
        .order_by(c.change_no, c.what, c.key)
        .limit(1)
    )
    times = [tx.conn.execute(first).scalar_one_or_none() for first in (first_waiting, first_fresh)]
    oldest = min((time for time in times if time is not None), default=None)
    return Backlog(numbers.get("waiting", 0), numbers.get("dead", 0), oldest)


def replay(tx: Transaction, hook_id: int, position: Position) -> bool:
    """Send a receiver all changes after a position again. Return False if there is no such hook.

    Raises BadPosition (``store.changes.check``).
    """
    check(tx, position)
    e, c = webhook_events.c, webhooks.c
    restarted = {
        **position._asdict(),
        "failures": 0,
        "failing_since": None,
        "retry_at": None,
        "owner": None,
        "claimed_until": None,
        "version": c.version + 1,
    }
    result = tx.conn.execute(sa.update(webhooks).where(c.hook_id == hook_id).values(restarted))
    further = sa.or_(e.what > position.what, sa.and_(e.what == position.what, e.key > position.key))
    later = sa.or_(e.change_no > position.change_no, sa.and_(e.change_no == position.change_no, further))
    # The outbox yields these again; those before the position go on waiting.
    tx.conn.execute(sa.delete(webhook_events).where(e.hook_id == hook_id, later))
    return result.rowcount == 1


def revive(tx: Transaction, hook_id: int) -> int:
    """Retry the events that were given up. Return how many."""
    e, c = webhook_events.c, webhooks.c
    which = sa.and_(e.hook_id == hook_id, e.state == "dead")
    fresh = {"state": "waiting", "attempts": 0, "failed_at": tx.now, "next_at": tx.now}
    revived = tx.conn.execute(sa.update(webhook_events).where(which).values(fresh)).rowcount
    tx.conn.execute(
        sa.update(webhooks).where(c.hook_id == hook_id).values(retry_at=None, version=c.version + 1)
    )
    return revived
