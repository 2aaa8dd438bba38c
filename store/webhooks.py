"""Web hooks in the database: who is told of changes, how far each has been told, and what it did not take.

A hook is worked on by one process at a time: it is claimed for ``CLAIM``, and every change compares its
version, so that whoever lost the claim, or works on a hook that was replayed or removed meanwhile, writes
nothing (``Superseded``). What such a one has sent is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from store.changes import Change, Position, events, later_than, reached, readable
from store.engine import Row, Transaction
from store.ledger import Superseded
from store.tables import outbox, webhook_events, webhooks
from store.types import among

CLAIM = timedelta(minutes=1)
"""How long a process has a hook to itself; it must be done with its turn well before."""

State = Literal["waiting", "dead"]


@dataclass(frozen=True, slots=True)
class Hook:
    """A receiver. ``position``: the last event that was dealt with, taken by it or entered as ``Held``."""

    hook_id: int
    url: str = field(repr=False)
    secret: str = field(repr=False)
    position: Position
    version: int
    created_at: datetime
    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    last_error: str | None = None
    succeeded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """An event that was not taken, or waits behind one of its record. ``failed_at``: since when."""

    position: Position
    state: State
    attempts: int
    failed_at: datetime
    next_at: datetime
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How a hook stands: what waits, what was given up, and since when its oldest event is undelivered."""

    waiting: int
    dead: int
    oldest: datetime | None


def place(hook_id: int, column: str) -> str:
    """Where a sealed value of a hook is bound to."""
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
    """A new receiver, to be told what changes after a position; from now on without one.

    Raises BadPosition (``store.changes.reached``).
    """
    if position is None:
        position = readable(tx)
    else:
        reached(tx, position)
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
    """All hooks, or the one of this id."""
    query = sa.select(webhooks).order_by(webhooks.c.hook_id)
    if hook_id is not None:
        query = query.where(webhooks.c.hook_id == hook_id)
    return [_hook(tx, row) for row in tx.conn.execute(query).mappings()]


def remove(tx: Transaction, hook_id: int) -> bool:
    """Tell this receiver nothing more. Whether there was one."""
    tx.conn.execute(sa.delete(webhook_events).where(webhook_events.c.hook_id == hook_id))
    return tx.conn.execute(sa.delete(webhooks).where(webhooks.c.hook_id == hook_id)).rowcount == 1


# --- turns ------------------------------------------------------------------------------------------


def _first_due(now: datetime) -> sa.ColumnElement[bool]:
    """Waiting events that are due and that no older one of their record waits before."""
    e, older = webhook_events.c, aliased(webhook_events)
    same = (older.c.hook_id == e.hook_id, older.c.what == e.what, older.c.key == e.key)
    overtakes = sa.exists().where(*same, older.c.state == "waiting", older.c.change_no < e.change_no)
    return sa.and_(e.state == "waiting", e.next_at <= now, ~overtakes)


def due(tx: Transaction) -> list[int]:
    """Hooks that there is something to do for, claimed by nobody. Opens nothing, changes nothing."""
    c, e, o = webhooks.c, webhook_events.c, outbox.c
    free = sa.or_(c.claimed_until.is_(None), c.claimed_until <= tx.now)
    rested = sa.or_(c.retry_at.is_(None), c.retry_at <= tx.now)
    found = []
    query = sa.select(c.hook_id, c.change_no, c.what, c.key).where(free, rested).order_by(c.hook_id)
    rows = tx.rows(query)
    upto = readable(tx).change_no if rows else 0
    for row in rows:
        fresh = sa.and_(later_than(Position(row.change_no, row.what, row.key)), o.change_no <= upto)
        waiting = sa.and_(e.hook_id == row.hook_id, _first_due(tx.now))
        either = (sa.select(sa.literal(1)).where(fresh), sa.select(sa.literal(1)).where(waiting))
        if any(tx.conn.execute(each.limit(1)).first() for each in either):
            found.append(row.hook_id)
    return found


def claim(tx: Transaction, hook_id: int, owner: str) -> Hook:
    """Take a hook for a turn. Raises Superseded when somebody else has it, or it is not due or gone."""
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
    """Write what a turn came to, and give the hook back. Raises Superseded when it is not ours any more."""
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
    """Give back every hook that a process holds; what it still does with them is superseded."""
    c = webhooks.c
    given_back = {"owner": None, "claimed_until": None, "version": c.version + 1}
    tx.conn.execute(sa.update(webhooks).where(c.owner == owner).values(given_back))


def blocked(tx: Transaction, hook_id: int, records: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of some records that have an event waiting: a newer one may not overtake it."""
    e = webhook_events.c
    query = sa.select(e.what, e.key).where(
        e.hook_id == hook_id, e.state == "waiting", among(e.key, sorted({key for _, key in records}))
    )
    return {(row.what, row.key) for row in tx.rows(query)}


def waiting_first(tx: Transaction, hook_id: int, limit: int) -> list[tuple[Held, Change | None]]:
    """Of each record with waiting events the oldest, if it is due; None for a record that was erased."""
    e = webhook_events.c
    query = (
        sa.select(webhook_events)
        .where(e.hook_id == hook_id, _first_due(tx.now))
        .order_by(e.next_at, e.change_no, e.what, e.key)
        .limit(limit)
    )
    held = [_held(row) for row in tx.rows(query)]
    told = changes_at(tx, [each.position for each in held])
    return [(each, told.get(each.position)) for each in held]


def _held(row: sa.Row[tuple[object, ...]]) -> Held:
    at = Position(row.change_no, row.what, row.key)
    return Held(at, row.state, row.attempts, row.failed_at, row.next_at, row.last_error)


def changes_at(tx: Transaction, positions: Sequence[Position]) -> dict[Position, Change]:
    """The events at some positions."""
    if not positions:
        return {}
    c = outbox.c
    which = sa.tuple_(c.change_no, c.what, c.key).in_([tuple(position) for position in positions])
    found, _ = events(tx, which, len(positions))
    return {change.position: change for change in found}


def hold(tx: Transaction, hook_id: int, held: Iterable[Held]) -> None:
    """Enter events that were not taken, or changed what is known of them."""
    e = webhook_events.c
    for each in held:
        known = {
            "state": each.state,
            "attempts": each.attempts,
            "failed_at": each.failed_at,
            "next_at": each.next_at,
            "last_error": each.last_error,
        }
        at = each.position._asdict()
        mine = sa.and_(e.hook_id == hook_id, *(e[name] == value for name, value in at.items()))
        if tx.conn.execute(sa.update(webhook_events).where(mine).values(known)).rowcount == 0:
            tx.conn.execute(sa.insert(webhook_events).values(hook_id=hook_id, **at, **known))


def let_go(tx: Transaction, hook_id: int, positions: Iterable[Position]) -> None:
    """These events were taken."""
    e = webhook_events.c
    for position in positions:
        mine = sa.and_(e.hook_id == hook_id, *(e[n] == value for n, value in position._asdict().items()))
        tx.conn.execute(sa.delete(webhook_events).where(mine))


# --- what people ask and do ---------------------------------------------------------------------------


def dead(tx: Transaction, hook_id: int) -> list[tuple[Held, Change | None]]:
    """The events that were given up, oldest first."""
    e = webhook_events.c
    mine = sa.and_(e.hook_id == hook_id, e.state == "dead")
    query = sa.select(webhook_events).where(mine).order_by(e.change_no, e.what, e.key)
    held = [_held(row) for row in tx.rows(query)]
    told: dict[Position, Change] = {}
    for first in range(0, len(held), 500):
        told |= changes_at(tx, [each.position for each in held[first : first + 500]])
    return [(each, told.get(each.position)) for each in held]


def backlog(tx: Transaction, hook: Hook) -> Backlog:
    """What this hook has not taken yet."""
    e, c = webhook_events.c, outbox.c
    query = sa.select(e.state, sa.func.count().label("many")).where(e.hook_id == hook.hook_id)
    many: dict[str, int] = {row.state: row.many for row in tx.rows(query.group_by(e.state))}
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
    ends = [tx.conn.execute(each).scalar_one_or_none() for each in (first_waiting, first_fresh)]
    oldest = min((end for end in ends if end is not None), default=None)
    return Backlog(many.get("waiting", 0), many.get("dead", 0), oldest)


def replay(tx: Transaction, hook_id: int, position: Position) -> bool:
    """Tell this receiver again all that came after a position. Whether there is such a hook.

    Raises BadPosition (``store.changes.reached``).
    """
    reached(tx, position)
    e, c = webhook_events.c, webhooks.c
    again = {
        **position._asdict(),
        "failures": 0,
        "failing_since": None,
        "retry_at": None,
        "owner": None,
        "claimed_until": None,
        "version": c.version + 1,
    }
    found = tx.conn.execute(sa.update(webhooks).where(c.hook_id == hook_id).values(again)).rowcount == 1
    further = sa.or_(e.what > position.what, sa.and_(e.what == position.what, e.key > position.key))
    later = sa.or_(e.change_no > position.change_no, sa.and_(e.change_no == position.change_no, further))
    # They are read anew; those before the position wait as they did.
    tx.conn.execute(sa.delete(webhook_events).where(e.hook_id == hook_id, later))
    return found


def revive(tx: Transaction, hook_id: int) -> int:
    """Try the events that were given up once more. Returns how many."""
    e, c = webhook_events.c, webhooks.c
    mine = sa.and_(e.hook_id == hook_id, e.state == "dead")
    fresh = {"state": "waiting", "attempts": 0, "failed_at": tx.now, "next_at": tx.now}
    revived = tx.conn.execute(sa.update(webhook_events).where(mine).values(fresh)).rowcount
    tx.conn.execute(
        sa.update(webhooks).where(c.hook_id == hook_id).values(retry_at=None, version=c.version + 1)
    )
    return revived
