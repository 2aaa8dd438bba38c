"""Moving a database from SQLite to PostgreSQL: every table, resumable, and proven equal at the end.

The source is read in one transaction, of one moment. Rows go over table by table in the order of their
keys, a few thousand a transaction, so what an interrupted copy has brought over is simply the first so
many rows. Every run reads both sides whole and compares counts and checksums: a table that differs,
because the source went on in between, is copied anew. Knows no table by name but ``counters``, which
is translated: PostgreSQL has sequences instead, and counts change positions from where SQLite stopped.

Until all is proven a mark stands in the target, and no service opens it (``is_unfinished``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from store import tables
from store.engine import COUNTED_FROM, LOOKUP_KEY, newest_change
from store.engine.statements import copy
from store.tables import counters, metadata

COPYING = "copying"
"""The counter whose number names the source of a copy that is not finished."""

ROWS = 5000
"""Rows of a transaction, and of a step of the progress."""

_LOCK = "hashtext('order-sync copying')"

_WRITTEN_TO = "the database was written to while it was copied: stop what writes to it, and copy again."

Progress = Callable[[str, int], None]
"""Told of a table and how many more of its rows have been copied or compared."""


class Refused(Exception):
    """The target cannot take a copy of this source. The message is a sentence that says why."""


class Unequal(Exception):
    """After copying, a table is not the same on both sides. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows, and a sum of their hashes, which does not depend on their order."""

    rows: int = 0
    hashes: int = 0

    def __add__(self, row: tuple[Any, ...]) -> Sum:
        digest = hashlib.blake2b(repr(row).encode(), digest_size=8).digest()
        return Sum(self.rows + 1, (self.hashes + int.from_bytes(digest)) % 2**64)


@dataclass
class Copying:
    """One run of a copy from ``source`` (SQLite) to ``target`` (PostgreSQL), both of the newest schema."""

    source: Engine
    target: Engine
    progress: Progress = field(default=lambda table, rows: None)

    def run(self) -> dict[str, Sum]:
        """Copy what is missing, and prove it. Returns what each table has. Raises Refused, Unequal."""
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
        """Nobody else copies into the target meanwhile."""
        with self.target.connect() as guard:
            if not guard.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar_one():
                raise Refused("another copy to the same database is going on.")
            guard.commit()  # the lock is the connection's, not the transaction's
            try:
                yield
            finally:
                guard.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
                guard.commit()

    @contextmanager
    def _patient(self) -> Iterator[Connection]:
        """A transaction in the target without time limits: tables may be large."""
        with self.target.begin() as target:
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                target.exec_driver_sql(f"SET LOCAL {limit} = 0")
            yield target

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self.source.connect() as connection:
            yield connection.execution_options(reading=True)

    # --- beginning and end --------------------------------------------------------------------------

    def _begin(self, source: Connection) -> None:
        """See that the target is empty, or a copy of this source that was not finished; mark it as such."""
        name = identity(source)
        with self.target.begin() as target:
            mark = _counter(target, COPYING)
            if mark is None:
                full = [t.name for t in metadata.sorted_tables if _any(target, t)]
                if full:
                    there = ", ".join(full[:3])
                    raise Refused(
                        f"the database to copy to is not empty (it has {there}): give an empty one."
                    )
                target.execute(sa.insert(counters).values(name=COPYING, value=name))
            elif mark != name:
                raise Refused(
                    "the database to copy to holds a half-finished copy of another database, or of this one "
                    "before its keys were rotated: give an empty one."
                )
            # Rows refer to others that come later, and what is copied anew is deleted first.
            for key in _foreign_keys(target):
                target.execute(sa.schema.DropConstraint(key))

    def _end(self, source: Connection) -> None:
        """All is equal: let the target go on counting where the source stopped, and take the mark away."""
        with self._patient() as target:
            there = set(_foreign_keys(target))
            for table in _copied():
                for key in table.foreign_key_constraints - there:
                    target.execute(sa.schema.AddConstraint(key, isolate_from_table=False))
            counted = {row.name: int(row.value) for row in source.execute(sa.select(counters))}
            position = max(counted.pop("change_no", 0), newest_change(source))
            for name, value in counted.items():
                target.execute(sa.select(sa.func.setval(name, value)))
            for table in _copied():
                _go_on_counting(target, table)
            target.execute(sa.delete(counters).where(counters.c.name.in_((COPYING, COUNTED_FROM))))
            target.execute(sa.insert(counters).values(name=COUNTED_FROM, value=position))
            for table in _copied():
                # Until it knows how much there is, PostgreSQL would read whole tables for a page.
                target.exec_driver_sql(f"ANALYZE {table.name}")

    # --- one table ----------------------------------------------------------------------------------

    def _bring(self, source: Connection, table: sa.Table) -> Sum:
        with self._patient() as target:
            there = target.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        try:
            wanted = self._copy(source, table, there)
            found = self._sum(table)
        except sa.exc.IntegrityError as error:
            if getattr(error.orig, "sqlstate", None) != "23505":  # a key that is there already
                raise
            wanted, found = Sum(), Sum(-1)
        if found != wanted:
            with self._patient() as target:
                target.execute(sa.delete(table))
            wanted = self._copy(source, table, 0)
            found = self._sum(table)
        if found != wanted:
            raise Unequal(
                f"table {table.name} is not the same on both sides: {wanted.rows} rows with checksum "
                f"{wanted.hashes:016x} became {found.rows} with {found.hashes:016x}."
            )
        return found

    def _copy(self, source: Connection, table: sa.Table, there: int) -> Sum:
        """Copy all rows but the first ``there``. Returns the sum of all."""
        total = Sum()
        query = sa.select(table).order_by(*table.primary_key.columns)
        rows = source.execute(query.execution_options(yield_per=ROWS))
        while chunk := [tuple(row) for row in islice(rows, ROWS)]:
            fresh = chunk[max(0, there - total.rows) :]
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
                    raise  # the server's; the driver itself refuses nothing but a NUL
                what = f"a row of table {table.name} cannot be stored in PostgreSQL"
                raise Unequal(f"{what} ({type(error).__name__}): it holds a NUL character.") from None

    def _sum(self, table: sa.Table) -> Sum:
        """The sum of a table of the target."""
        total = Sum()
        query = sa.select(table).execution_options(yield_per=ROWS)
        with self._patient() as target, target.execute(query) as rows:
            while chunk := list(islice(rows, ROWS)):
                for row in chunk:
                    total += tuple(row)
                self.progress(table.name, len(chunk))
        return total


def _copied() -> list[sa.Table]:
    return [table for table in metadata.sorted_tables if table is not counters]


def _version(watch: Connection) -> int:
    """A number that is another one when somebody has written to the source."""
    version = watch.exec_driver_sql("PRAGMA data_version").scalar_one()
    watch.rollback()
    return int(version)


def rows_of(source: Engine) -> int:
    """How many rows there are to copy."""
    with source.connect() as bare:
        connection = bare.execution_options(reading=True)
        counts = (sa.select(sa.func.count()).select_from(table) for table in _copied())
        return sum(connection.execute(count).scalar_one() for count in counts)


def identity(source: Connection) -> int:
    """A number for this very database, whatever is in it: made of its sealed key of hashes."""
    key = source.execute(
        sa.select(tables.meta.c.value).where(tables.meta.c.name == LOOKUP_KEY)
    ).scalar_one_or_none()
    return int.from_bytes(hashlib.blake2b(key or b"", digest_size=8).digest(), signed=True)


def is_unfinished(engine: Engine) -> bool:
    """Whether a database is a copy that was not finished."""
    with engine.connect() as connection:
        return _counter(connection, COPYING) is not None


def _counter(connection: Connection, name: str) -> int | None:
    return connection.execute(sa.select(counters.c.value).where(counters.c.name == name)).scalar_one_or_none()


def _any(connection: Connection, table: sa.Table) -> bool:
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None


def _foreign_keys(target: Connection) -> Iterator[sa.ForeignKeyConstraint]:
    """Those of our foreign keys that the target has."""
    inspector = sa.inspect(target)
    for table in _copied():
        there = {key["name"] for key in inspector.get_foreign_keys(table.name)}
        yield from (key for key in table.foreign_key_constraints if key.name in there)


def _go_on_counting(target: Connection, table: sa.Table) -> None:
    """A column that numbers its rows itself goes on after the last one."""
    column = table.autoincrement_column
    if column is None:
        return
    sequence = target.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))).scalar()
    last = target.execute(sa.select(sa.func.max(column))).scalar()
    if sequence is not None and last is not None:
        target.execute(sa.select(sa.func.setval(sequence, last)))
