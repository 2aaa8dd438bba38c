"""Reseal everything with the first key while other processes read and write (see docs/operation.md).

A value is replaced only if it is still the one that was read: locks last no longer than the replacement, and
another process that changes the row wins. The next pass finds what others wrote with an older first key. The
sealed lookup key comes last: until then a process without the old key cannot start, so the old key cannot be
removed too early. Hashes made with the lookup key stay the same, so every customer is still found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from store import customers, ledger, orders, quarantine, tables, users, verifications, webhooks
from store.engine import LOOKUP_KEY, LOOKUP_KEY_PLACE, Row, Transaction

PLACES: Mapping[str, Callable[[Row, str], str]] = {
    "orders": lambda row, column: orders.place(row["order_key"], column),
    "order_lines": lambda row, column: orders.line_place(row["order_key"], row["order_item_id"], column),
    "customers": lambda row, column: customers.place(row["customer_id"], column),
    "customer_emails": lambda row, column: customers.email_place(row["customer_id"], row["slot"]),
    "journal": lambda row, column: customers.journal_place(row["entry"]),
    "quarantine": lambda row, column: quarantine.place(row["account"], row["order_id"]),
    "windows": lambda row, column: ledger.token_place(row["window_id"]),
    "verifications": lambda row, column: verifications.token_place(row["verification_id"]),
    "webhooks": lambda row, column: webhooks.place(row["hook_id"], column),
    "console_users": lambda row, column: users.place(row["name"]),
    "meta": lambda row, column: LOOKUP_KEY_PLACE,
}
"""The place to which each table's sealed values are bound, in the order of a pass."""

LAST = "meta"
"""Holds one sealed value, the lookup key, which is resealed when no other is left."""

COLUMNS: Mapping[str, tuple[str, ...]] = {**tables.SEALED, "meta": ("value",)}

Position = tuple[object, ...]
"""The primary key of the last row that was checked."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a table that need the first key, and where to continue: ``after``, None at the table's end."""

    table: str
    rows: tuple[Row, ...]
    after: Position | None


def _key_id(column: sa.ColumnElement[bytes]) -> sa.ColumnElement[bytes]:
    """Return the SQL for the key id in a sealed value: bytes two to five."""
    return sa.func.substr(column, 2, 4, type_=sa.LargeBinary)


def _is_old(table: sa.Table, column: str, current: bytes) -> sa.ColumnElement[bool]:
    c = table.c
    old = sa.and_(c[column].is_not(None), _key_id(c[column]) != current)
    return sa.and_(old, c["name"] == LOOKUP_KEY) if table.name == "meta" else old


def count_old(tx: Transaction) -> Counter[bytes]:
    """Return how many values are sealed with each key other than the first, by key id."""
    counts: Counter[bytes] = Counter()
    for name in PLACES:
        table = tables.metadata.tables[name]
        for column in COLUMNS[name]:
            of = _key_id(table.c[column])
            query = (
                sa.select(of.label("key_id"), sa.func.count().label("number"))
                .where(_is_old(table, column, tx.sealer.current))
                .group_by(of)
            )
            for row in tx.rows(query):
                counts[bytes(row.key_id)] += row.number
    return counts


def find(tx: Transaction, name: str, after: Position | None, limit: int) -> Batch:
    """Return the next rows of a table, by primary key, with values of another key than the first."""
    table = tables.metadata.tables[name]
    keys = list(table.primary_key.columns)
    further = [table.c["order_item_id"]] if name == "order_lines" else []
    query = sa.select(*keys, *further, *(table.c[n] for n in COLUMNS[name])).where(
        sa.or_(*(_is_old(table, column, tx.sealer.current) for column in COLUMNS[name]))
    )
    if after is not None:
        query = query.where(sa.tuple_(*keys) > sa.tuple_(*map(sa.literal, after)))
    rows = tx.conn.execute(query.order_by(*keys).limit(limit)).mappings().all()
    last = tuple(rows[-1][key.name] for key in keys) if len(rows) == limit else None
    return Batch(name, tuple(dict(row) for row in rows), last)


def reseal(tx: Transaction, batch: Batch) -> tuple[int, int]:
    """Seal the old values of these rows with the first key, unless another process changed them.

    Return how many values were replaced, and how many do not open: those stay as they are.
    """
    table, place = tables.metadata.tables[batch.table], PLACES[batch.table]
    keys = [column.name for column in table.primary_key.columns]
    replaced = damaged = 0
    for row in batch.rows:
        for column in COLUMNS[batch.table]:
            old = row[column]
            if old is None or not tx.sealer.is_old(old):
                continue
            where = place(row, column)
            if (opened := tx.sealer.try_open(old, where)) is None:
                damaged += 1
                continue
            fresh = tx.sealer.seal(opened, where)
            same = {name: row[name] for name in (*keys, column)}
            replaced += tx.update(table, [{column: fresh}], **same)
    return replaced, damaged


def find_damaged(tx: Transaction) -> Iterator[str]:
    """Try every sealed value. Yield table, column and row of each that does not open."""
    for name in PLACES:
        for row, column in _damaged(tx, name):
            keys = (
                ("order_id", "account")
                if "order_id" in row
                else tables.metadata.tables[name].primary_key.columns.keys()
            )
            yield f"{name}.{column} of {', '.join(f'{key} {row[key]}' for key in keys)}"


def _damaged(tx: Transaction, name: str) -> Iterator[tuple[Row, str]]:
    """Yield row and column of each sealed value of a table that does not open."""
    table = tables.metadata.tables[name]
    query = sa.select(table)
    if name == "order_lines":
        o = tables.orders.c
        query = query.add_columns(o.account, o.order_id).join(tables.orders, o.order_key == table.c.order_key)
    if name == LAST:
        query = query.where(table.c.name == LOOKUP_KEY)
    for row in tx.conn.execute(query.execution_options(yield_per=500)).mappings():
        for column in COLUMNS[name]:
            if row[column] is not None and tx.sealer.try_open(row[column], PLACES[name](row, column)) is None:
                yield row, column


_CHANGED = {
    "orders": "order_key",
    "order_lines": "order_key",
    "customers": "customer_id",
    "customer_emails": "customer_id",
}
"""The key of the order or customer that a table's rows belong to: readers of changes see it again."""


def repair(tx: Transaction) -> int:
    """Replace values that were stored as the text of their bytes, and return how many.

    COPY did that with standard_conforming_strings=off. A sealed value is replaced only if it then opens,
    a hash only if no other record has it by now.
    """
    repaired = 0
    for name, place in PLACES.items():
        table = tables.metadata.tables[name]
        for row, column in list(_damaged(tx, name)):
            sealed = _bytes_of(row[column])
            if sealed is None or tx.sealer.try_open(sealed, place(row, column)) is None:
                continue
            same = {key: row[key] for key in (*table.primary_key.columns.keys(), column)}
            repaired += tx.update(table, [{column: sealed}], **same)
            if key := _CHANGED.get(name):
                record = tables.orders if key == "order_key" else tables.customers
                tx.update(record, [{"change_no": tx.change_no, "changed_at": tx.now}], **{key: row[key]})
    return repaired + _repair_hashes(tx)


def _repair_hashes(tx: Transaction) -> int:
    e, repaired = tables.customer_emails.c, 0
    for row in tx.rows(
        sa.select(e.customer_id, e.slot, e.email_hash).where(sa.func.length(e.email_hash) > 16)
    ):
        if (digest := _bytes_of(row.email_hash)) is not None:
            with suppress(sa.exc.IntegrityError), tx.savepoint():
                where = {"customer_id": row.customer_id, "slot": row.slot}
                repaired += tx.update(tables.customer_emails, [{"email_hash": digest}], **where)
    return repaired


def _bytes_of(text: bytes) -> bytes | None:
    """Return the bytes that a PostgreSQL text of bytes stands for; None if it is none."""
    try:
        return bytes.fromhex(text.decode("ascii").removeprefix("\\x")) if text[:2] == b"\\x" else None
    except ValueError:
        return None
