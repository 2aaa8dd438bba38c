"""Change positions: the histories of the database, and which positions belong to them.

A restored database cannot tell that it was restored. So a new history begins wherever that is possible: at
the first change of each process on SQLite, and at the first change on each PostgreSQL server, which is
another one after every start of it and in every copy of the database. Its first position is the clock's
microseconds: above all positions issued before, by histories that a restore has undone, too. What lies
between the last position of a history and the first of the next was issued by such a history.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.tables import counters, customers, histories, orders, outbox

CHANGE_NO = "change_no"
"""Counter of change positions on SQLite; on PostgreSQL the last one that SQLite or an old version issued."""

_COUNT = "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value"
"""Counts on SQLite; PostgreSQL has sequences."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LEAP = 1_000_000_000
"""If the clock is behind the positions, a history begins one to two leaps after the last."""

_KEPT = timedelta(days=400)
"""How long each history is remembered; readers who stopped in an older one must start again."""

_SERVER = (
    "SELECT concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), oid, 'histories'::regclass::oid) "
    "FROM pg_database WHERE datname = current_database()"
)
"""What differs after any restore: the server's start, or, from a dump, the database or its tables."""

_TAKE = f"SELECT pg_current_xact_id()::text::bigint, ({_SERVER})"

_READABLE = f"""
SELECT coalesce(min(open.xid), pg_snapshot_xmax(pg_current_snapshot())::text::bigint) - 1,
    ({_SERVER}), pg_is_in_recovery()
FROM (SELECT x::text::bigint AS xid FROM pg_snapshot_xip(pg_current_snapshot()) AS x) AS open
WHERE NOT EXISTS (
    SELECT FROM pg_locks AS held JOIN pg_stat_activity AS backend ON backend.pid = held.pid
    WHERE held.locktype = 'transactionid' AND held.mode = 'ExclusiveLock' AND held.granted
    AND held.transactionid::text::bigint = mod(open.xid, 4294967296)
    AND backend.datname <> current_database()
)
"""
"""The transaction id before the oldest transaction of this database that is still open.

Transaction ids are the server's: without the condition a long transaction in another database would hold up
all readers. One that has ended since the snapshot holds no lock any more, and counts as ours.
"""


class History(NamedTuple):
    """The history that a process writes. PostgreSQL's positions are transaction ids plus ``counted_from``."""

    server: str = ""
    counted_from: int = 0


def was_issued(number: int, newest: int, last_before_next: int | None) -> bool:
    """Return True if a position belongs to this database's histories.

    ``newest`` is the newest readable position; ``last_before_next`` the last one of the history before the
    first that begins after ``number``, None if none does.
    """
    return number <= (newest if last_before_next is None else last_before_next)


def first_after(last: int, now: datetime) -> int:
    """Return the first position of a history that begins now, after position ``last``."""
    by_clock = (now - _EPOCH) // timedelta(microseconds=1)
    return by_clock if by_clock > last else last + _LEAP + secrets.randbelow(_LEAP)


def take(conn: Connection, now: datetime, known: History | None) -> tuple[int, History]:
    """Take a transaction's change position; begin a history if the process knows none, or another server's.

    Return the history, too: the process may reuse it once the transaction is committed.
    """
    if conn.dialect.name == "postgresql":
        xid, server = conn.exec_driver_sql(_TAKE).one()
        if known is None or known.server != server:
            known = _history_on(server, conn, now)
        return known.counted_from + int(xid), known
    if known is None:
        last = count(conn, CHANGE_NO, 0)
        known = History("", first_after(last, now))
        _remember(conn, now, last, known.counted_from, known)
        count(conn, CHANGE_NO, known.counted_from - last - 1)
    return count(conn, CHANGE_NO, 1), known


def _history_on(server: str, conn: Connection, now: datetime) -> History:
    """Return the history that a PostgreSQL server writes; begin it if no process has.

    It is committed at once, so that other processes do not wait for all of this transaction.
    """
    if (newest := _newest(conn)) is not None and newest.server == server:
        return History(server, newest.counted_from)
    with conn.engine.begin() as own:
        own.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('order-sync histories'))")
        if (newest := _newest(own)) is not None and newest.server == server:
            return History(server, newest.counted_from)
        last = newest_change(own)
        first = first_after(last, now)
        # Transactions that wait for the history have an id already.
        lowest = own.exec_driver_sql("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        history = History(server, first - int(lowest.scalar_one()))
        _remember(own, now, last, first, history)
    return history


def _newest(conn: Connection) -> sa.Row[Any] | None:
    return conn.execute(sa.select(histories).order_by(histories.c.first_no.desc()).limit(1)).first()


def _remember(conn: Connection, now: datetime, last: int, first: int, history: History) -> None:
    row = {"first_no": first, "after_no": last, "began_at": now, **history._asdict()}
    conn.execute(sa.insert(histories).values(row))


def readable(conn: Connection) -> int:
    """Return the newest position up to which no further changes can appear."""
    if conn.dialect.name != "postgresql":
        return _counted(conn)
    upto, server, is_standby = conn.exec_driver_sql(_READABLE).one()
    newest = _newest(conn)
    if newest is not None and (newest.server == server or is_standby):
        return int(newest.counted_from) + int(upto)
    return newest_change(conn)  # no process has changed anything here


def is_ours(conn: Connection, number: int) -> bool:
    """Return True if a position was issued by this database, as far as it is known (``was_issued``)."""
    c = histories.c
    next_one = sa.select(c.after_no).where(c.first_no > number).order_by(c.first_no).limit(1)
    return was_issued(number, readable(conn), conn.execute(next_one).scalar_one_or_none())


def condense(conn: Connection, now: datetime) -> None:
    """Merge histories past their time into one whose positions are all refused, but the oldest."""
    c = histories.c
    old = sa.select(sa.func.max(c.first_no), sa.func.min(c.after_no)).where(c.began_at < now - _KEPT)
    newest_old, last = conn.execute(old).one()
    if newest_old is not None:
        conn.execute(sa.delete(histories).where(c.first_no < newest_old))
        conn.execute(sa.update(histories).where(c.first_no == newest_old).values(after_no=last))


def newest_change(conn: Connection) -> int:
    """Return the highest change position of all that the database knows of."""
    positions = [
        _counted(conn),
        *(
            conn.execute(sa.select(sa.func.max(table.c.change_no))).scalar_one() or 0
            for table in (customers, orders, outbox)
        ),
    ]
    return max(positions)


def _counted(conn: Connection) -> int:
    counted = sa.select(counters.c.value).where(counters.c.name == CHANGE_NO)
    return int(conn.execute(counted).scalar_one_or_none() or 0)


def count(conn: Connection, name: str, number: int) -> int:
    """Add to a counter of SQLite's and return its new value."""
    value = conn.exec_driver_sql(_COUNT, (number, name)).scalar_one_or_none()
    if value is None:
        conn.execute(sa.insert(counters).values(name=name, value=number))
        return number
    return int(value)
