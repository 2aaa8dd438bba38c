"""The audit log: entries are added and, when their time is over, deleted; none is ever changed.

Entries are numbered in the order in which they are committed, so a reader that continues after the last one
it has seen misses none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.audit_records import ALL, Actor, AuditEntry, Records
from store.engine import Transaction
from store.tables import audit, audit_subjects
from store.types import among

_ORDER_OF_ENTRIES = "audit"

MAX_TEXT = 120
"""Longest text of an entry; what callers send is cut."""


def insert(tx: Transaction, *entries: AuditEntry) -> None:
    """Add entries. Others that add some wait until this transaction ends: let it be short."""
    tx.hold(_ORDER_OF_ENTRIES, shared=False)
    for entry in entries:
        insert_on(tx.conn, tx.now, entry)


def insert_on(conn: Connection, now: datetime, entry: AuditEntry) -> None:
    """Add an entry on a connection that no other process adds entries beside."""
    records = entry.records
    values = {
        "at": now,
        "who": entry.actor.who[:MAX_TEXT],
        "client": entry.actor.client[:MAX_TEXT],
        "door": entry.actor.door,
        "action": entry.action,
        "outcome": entry.outcome,
        "what": None if records is None else records.what,
        "count": None if records is None else records.count,
        "selection": json.dumps(dict(records.selection)) if records and records.selection else None,
        "detail": None if entry.detail is None else entry.detail[:MAX_TEXT],
        "times": entry.times,
    }
    number = conn.execute(sa.insert(audit).values(values)).inserted_primary_key
    assert number is not None
    if records is None:
        return
    subjects = {
        *(("order", order_id) for order_id in records.orders),
        *(("customer", str(customer_id)) for customer_id in records.customers),
        *((kind, ALL) for kind in records.all_of),
    }
    rows = [{"kind": kind, "record": record, "entry": number[0]} for kind, record in sorted(subjects)]
    if rows:
        conn.execute(sa.insert(audit_subjects), rows)


# --- reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: all that are given must match. ``who`` may end with ``*``.

    ``order`` and ``customer`` also find entries about many records, which may include it.
    """

    who: str | None = None
    action: str | None = None
    order: str | None = None
    customer: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def newest(tx: Transaction, limit: int, wanted: Filter, before: int | None = None) -> list[AuditEntry]:
    """Return the newest matching entries, newest first; ``before``: only those with a lower number."""
    query = _matching(tx, wanted).order_by(audit.c.entry.desc()).limit(limit)
    return _opened(tx, query if before is None else query.where(audit.c.entry < before))


def after(tx: Transaction, position: int, limit: int, wanted: Filter) -> list[AuditEntry]:
    """Return the next matching entries after this number, oldest first."""
    query = _matching(tx, wanted).where(audit.c.entry > position).order_by(audit.c.entry).limit(limit)
    return _opened(tx, query)


def last_number(tx: Transaction) -> int:
    """Return the number of the newest entry; 0 without any."""
    return int(tx.conn.execute(sa.select(sa.func.max(audit.c.entry))).scalar_one() or 0)


def _matching(tx: Transaction, wanted: Filter) -> sa.Select[Any]:
    c = audit.c
    query = sa.select(audit)
    if wanted.who is not None:
        who = wanted.who
        query = query.where(tx.begins(c.who, who[:-1]) if who.endswith("*") else c.who == who)
    if wanted.action is not None:
        query = query.where(c.action == wanted.action)
    if wanted.since is not None:
        query = query.where(c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(c.at < wanted.until)
    for kind, record in (("order", wanted.order), ("customer", wanted.customer)):
        if record is not None:
            s = audit_subjects.c
            named = sa.select(s.entry).where(s.kind == kind, s.record.in_((str(record), ALL)))
            query = query.where(c.entry.in_(named))
    return query


def _opened(tx: Transaction, query: sa.Select[Any]) -> list[AuditEntry]:
    rows = tx.rows(query)
    s = audit_subjects.c
    named: dict[int, list[tuple[str, str]]] = defaultdict(list)
    subjects = sa.select(audit_subjects).where(among(s.entry, [row.entry for row in rows]))
    for row in tx.rows(subjects.order_by(s.entry, s.kind, s.record)):
        named[row.entry].append((row.kind, row.record))
    return [_entry(row, named[row.entry]) for row in rows]


def _entry(row: Any, named: Iterable[tuple[str, str]]) -> AuditEntry:
    records = None
    if row.what is not None:
        subjects = [(kind, record) for kind, record in named if record != ALL]
        records = Records(
            row.what,
            tuple(record for kind, record in subjects if kind == "order"),
            tuple(sorted(int(record) for kind, record in subjects if kind == "customer")),
            row.count,
            json.loads(row.selection) if row.selection else {},
            tuple(kind for kind, record in named if record == ALL),  # type: ignore[misc]
        )
    return AuditEntry(
        Actor(row.who, row.client, row.door),
        row.action,
        row.outcome,
        records,
        row.detail,
        row.times,
        row.entry,
        row.at,
    )


# --- the end of their time ------------------------------------------------------------------------------


def prune(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete the oldest entries from before this time, at most ``limit``. Return how many."""
    c = audit.c
    oldest = sa.select(c.entry).where(c.at < before).order_by(c.at).limit(limit)
    numbers: Sequence[int] = tx.conn.execute(oldest).scalars().all()
    if numbers:
        tx.conn.execute(sa.delete(audit_subjects).where(among(audit_subjects.c.entry, numbers)))
        tx.conn.execute(sa.delete(audit).where(among(c.entry, numbers)))
    return len(numbers)
