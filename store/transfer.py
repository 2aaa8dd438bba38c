"""Copy a database from SQLite to PostgreSQL: all tables, resumable, compared at the end.

The source is read in one transaction, so from one snapshot. Rows are copied table by table in the order of
their keys, a few thousand in a transaction, so an interrupted copy has left the first rows of a table. Each
run reads both sides whole and compares counts and checksums: a table that differs, because the source changed
in between, is copied again. ``processes`` stays behind; ``counters`` is translated: PostgreSQL has sequences
instead. Its change positions begin a history of their own, and those of SQLite stay valid.

Until both sides are equal, a mark in the target keeps services from opening it (``is_unfinished``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from store import processes, tables
from store.engine import CHANGE_NO, LOOKUP_KEY, newest_change, wait_long
from store.engine.statements import copy
from store.processes import Process
from store.tables import counters, metadata

COPYING = "copying"
"""The counter whose number names the source of a copy that is not finished."""

ROWS = 5000
"""Rows in a transaction and in a step of the progress."""

_LOCK = "hashtext('order-sync copying')"

_WRITTEN_TO = "the database was written to while it was copied: stop what writes to it, and copy again."

Progress = Callable[[str, int], None]
"""Called with a table's name and how many more of its rows were copied or compared."""


class CopyRefused(Exception):
    """The target cannot take a copy of this source. The message is a sentence with the reason."""


class Unequal(Exception):
    """After copying, a table differs between both sides. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The number of rows and the sum of their hashes, which does not depend on their order."""

    rows: int = 0
    hashes: int = 0

    def __add__(self, row: tuple[Any, ...]) -> Sum:
        digest = hashlib.blake2b(repr(row).encode(), digest_size=8).digest()
        return Sum(self.rows + 1, (self.hashes + int.from_bytes(digest)) % 2**64)


@dataclass
class Copying:
    """One run of a copy from ``source`` (SQLite) to ``target`` (PostgreSQL), both at the newest revision."""

    source: Engine
    target: Engine
    progress: Progress = field(default=lambda table, rows: None)

    def run(self) -> dict[str, Sum]:
        """Copy missing rows and compare. Return the sum of each table. Raises CopyRefused or Unequal."""
        with self._alone(), self._reading() as watch, self._reading() as source:
            version = _version(watch)
            with source.begin():
                self._begin(source)
                sums = {table.name: self._bring(source, table) for table in _copied()}
                if _version(watch) != version:
                    raise Unequal(_WRITTEN_TO)
                self._end(source)
        return sums

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other copies out of the target."""
        with self._patient() as guard:
            if not guard.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_LOCK})").scalar_one():
                raise CopyRefused("another copy to the same database is running.")
            yield

    @contextmanager
    def _patient(self) -> Iterator[Connection]:
        """Open a transaction in the target without time limits, because tables may be large."""
        with self.target.begin() as target:
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                target.exec_driver_sql(f"SET LOCAL {limit} = 0")
            wait_long(target)
            yield target

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self.source.connect() as connection:
            yield connection.execution_options(reading=True)

    # --- beginning and end --------------------------------------------------------------------------

    def _begin(self, source: Connection) -> None:
        """Check that the target is empty or an unfinished copy of this source, and mark it."""
        name = identity(source)
        if (running := _running(source)) is not None:
            raise CopyRefused(
                f"the {running.kind} {running.name} runs on this database: stop it, then copy (one that was "
                "killed counts as running for three minutes)."
            )
        with self.target.begin() as target:
            mark = _counter(target, COPYING)
            if mark is None:
                full = [t.name for t in metadata.sorted_tables if _any(target, t)]
                if full:
                    names = ", ".join(full[:3])
                    raise CopyRefused(
                        f"the database to copy to is not empty (it has {names}): use an empty one."
                    )
                target.execute(sa.insert(counters).values(name=COPYING, value=name))
            elif mark != name:
                raise CopyRefused(
                    "the database to copy to holds a half-finished copy of another database, or of this one "
                    "before its keys were rotated: use an empty one."
                )
            # Rows refer to others that are copied later, and a table is emptied before it is copied again.
            for key in _foreign_keys(target):
                target.execute(sa.schema.DropConstraint(key))

    def _end(self, source: Connection) -> None:
        """Let the equal target continue counting where the source stopped, and remove the mark."""
        with self._patient() as target:
            present = set(_foreign_keys(target))
            for table in _copied():
                for key in table.foreign_key_constraints - present:
                    target.execute(sa.schema.AddConstraint(key, isolate_from_table=False))
            counted = {row.name: int(row.value) for row in source.execute(sa.select(counters))}
            counted.pop(CHANGE_NO, None)
            for name, value in counted.items():
                target.execute(sa.select(sa.func.setval(name, value)))
            for table in _copied():
                _continue_numbers(target, table)
            target.execute(sa.delete(counters).where(counters.c.name == COPYING))
            target.execute(sa.insert(counters).values(name=CHANGE_NO, value=newest_change(source)))
            for table in _copied():
                # Without statistics PostgreSQL would read whole tables for each page.
                target.exec_driver_sql(f"ANALYZE {table.name}")

    # --- one table ----------------------------------------------------------------------------------

    def _bring(self, source: Connection, table: sa.Table) -> Sum:
        with self._patient() as target:
            copied = target.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        try:
            source_sum = self._copy(source, table, copied)
            target_sum = self._sum(table)
        except sa.exc.IntegrityError as error:
            if getattr(error.orig, "sqlstate", None) != "23505":  # the key exists already
                raise
            source_sum, target_sum = Sum(), Sum(-1)
        if target_sum != source_sum:
            with self._patient() as target:
                target.execute(sa.delete(table))
            source_sum = self._copy(source, table, 0)
            target_sum = self._sum(table)
        if target_sum != source_sum:
            raise Unequal(
                f"table {table.name} is not the same on both sides: {source_sum.rows} rows with checksum "
                f"{source_sum.hashes:016x} became {target_sum.rows} with {target_sum.hashes:016x}."
            )
        return target_sum

    def _copy(self, source: Connection, table: sa.Table, copied: int) -> Sum:
        """Copy all rows but the first ``copied``. Return the sum of all rows."""
        total = Sum()
        query = sa.select(table).order_by(*table.primary_key.columns)
        rows = source.execute(query.execution_options(yield_per=ROWS))
        while chunk := [tuple(row) for row in islice(rows, ROWS)]:
            fresh = chunk[max(0, copied - total.rows) :]
            for row in chunk:
                total += row
            if fresh:
                self._write(table, fresh)
            self.progress(table.name, len(chunk))
        return total

    def _write(self, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
        with self.target.begin() as target:
            try:
                copy(target, table, tuple(table.columns.keys()), rows)
            except sa.exc.DataError as error:
                if getattr(error.orig, "sqlstate", None) is not None:
                    raise  # the server's error; the driver itself refuses only a NUL
                what = f"a row of table {table.name} cannot be stored in PostgreSQL"
                raise Unequal(f"{what} ({type(error).__name__}): it holds a NUL character.") from None

    def _sum(self, table: sa.Table) -> Sum:
        """Return the sum of a table of the target."""
        total = Sum()
        query = sa.select(table).execution_options(yield_per=ROWS)
        with self._patient() as target, target.execute(query) as rows:
            while chunk := list(islice(rows, ROWS)):
                for row in chunk:
                    total += tuple(row)
                self.progress(table.name, len(chunk))
        return total


def _copied() -> list[sa.Table]:
    return [table for table in metadata.sorted_tables if table not in (counters, tables.processes)]


def _running(source: Connection) -> Process | None:
    """Return a service that runs on the source, and would be writing to it."""
    now = datetime.now(UTC)
    return next((each for each in processes.of(source, now) if each.is_alive(now)), None)


def _version(watch: Connection) -> int:
    """Return a number that differs after another process has written to the source."""
    version = watch.exec_driver_sql("PRAGMA data_version").scalar_one()
    watch.rollback()
    return int(version)


def rows_of(source: Engine) -> int:
    """Return the number of rows to copy."""
    with source.connect() as bare:
        connection = bare.execution_options(reading=True)
        counts = (sa.select(sa.func.count()).select_from(table) for table in _copied())
        return sum(connection.execute(count).scalar_one() for count in counts)


def identity(source: Connection) -> int:
    """Return a number that identifies the database whatever it holds, made from its sealed lookup key."""
    key = source.execute(
        sa.select(tables.meta.c.value).where(tables.meta.c.name == LOOKUP_KEY)
    ).scalar_one_or_none()
    return int.from_bytes(hashlib.blake2b(key or b"", digest_size=8).digest(), signed=True)


def is_unfinished(engine: Engine) -> bool:
    """Return True if a database is an unfinished copy."""
    with engine.connect() as connection:
        return _counter(connection, COPYING) is not None


def _counter(connection: Connection, name: str) -> int | None:
    return connection.execute(sa.select(counters.c.value).where(counters.c.name == name)).scalar_one_or_none()


def _any(connection: Connection, table: sa.Table) -> bool:
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None


def _foreign_keys(target: Connection) -> Iterator[sa.ForeignKeyConstraint]:
    """Yield those of our foreign keys that the target has."""
    inspector = sa.inspect(target)
    for table in _copied():
        names = {key["name"] for key in inspector.get_foreign_keys(table.name)}
        yield from (key for key in table.foreign_key_constraints if key.name in names)


def _continue_numbers(target: Connection, table: sa.Table) -> None:
    """Let a column that numbers its rows continue after the last one."""
    column = table.autoincrement_column
    if column is None:
        return
    sequence = target.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))).scalar()
    last = target.execute(sa.select(sa.func.max(column))).scalar()
    if sequence is not None and last is not None:
        target.execute(sa.select(sa.func.setval(sequence, last)))
