"""One open transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from store import tables
from store.engine import outbox, statements
from store.engine.statements import Row
from store.sealing import Lookup, Sealer


class Tombstone(Exception):
    """A customer that was read as living has been merged or forgotten meanwhile: decide again."""


class Overtaken(Exception):
    """A record was changed by a transaction of a later position before ours changed it: begin anew."""


def is_conflict(error: BaseException) -> bool:
    """Whether somebody else was first, so that rolling back and deciding again will help."""
    if isinstance(error, sa.exc.IntegrityError | Tombstone | Overtaken):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state in ("40001", "40P01")  # serialisation failure, deadlock (PostgreSQL's manual, appendix A)


_COUNT = "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value"
"""For SQLite; PostgreSQL counts by itself."""


@dataclass
class Transaction:
    """One open transaction: everything in it becomes visible together, or not at all.

    ``now`` is one moment for the whole transaction: the database's clock on PostgreSQL, the
    process's on SQLite.
    """

    conn: Connection
    sealer: Sealer
    lookup: Lookup
    now: datetime
    began_at: float = field(default_factory=time.monotonic)
    """When it began, by the clock that tells how long something takes: seconds."""
    counted_from: int = 0
    """What PostgreSQL's change positions are counted from."""
    given: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The first and the last key that was given out of each sequence."""
    revealed: set[int] = field(default_factory=set)
    """Keys of orders that were only remembered before, and are shown from now on (R30)."""

    @property
    def _on_postgresql(self) -> bool:
        return self.conn.dialect.name == "postgresql"

    def rows(self, statement: sa.Executable, *args: Any) -> Sequence[sa.Row[Any]]:
        """All rows of a query."""
        return self.conn.execute(statement, *args).all()

    def these(self, words: Iterable[str]) -> sa.TableValuedAlias:
        """Words as rows of one column, ``value``, to be joined: one parameter, however many they are."""
        column = sa.column("value", sa.String)
        if self._on_postgresql:
            given = sa.bindparam(None, list(words), type_=postgresql.ARRAY(sa.String))
            return sa.func.unnest(given).table_valued(column).render_derived()
        return sa.func.json_each(json.dumps(list(words))).table_valued(column)

    def lock(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Lock what the query finds until the end; SQLite's transaction has the whole file already.

        One that only reads locks nothing: it would wait for writers, and fail when they have written.
        """
        reading = self.conn.get_execution_options().get("reading", False)
        return statements.locking(query) if self._on_postgresql and not reading else query

    def lock_all(self, query: sa.Select[Any]) -> None:
        """Lock the rows that the query finds, in its order; SQLite has the whole file anyway."""
        if self._on_postgresql:
            self.conn.execute(self.lock(query)).all()

    @property
    def sees_later_commits(self) -> bool:
        """True where a statement sees what others committed since an earlier one of the same transaction."""
        return self._on_postgresql

    @cached_property
    def change_no(self) -> int:
        """The change position of this transaction."""
        if self._on_postgresql:
            number = self.conn.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint").scalar_one()
            return self.counted_from + int(number)
        return self._count("change_no", 1)

    def readable_change_no(self) -> int:
        """The newest position below which nothing can appear any more."""
        if self._on_postgresql:
            query = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1"
            return self.counted_from + int(self.conn.exec_driver_sql(query).scalar_one())
        counted = sa.select(tables.counters.c.value).where(tables.counters.c.name == "change_no")
        return int(self.conn.execute(counted).scalar_one_or_none() or 0)

    def insert(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert rows that all have the same columns. Raises a conflict (``is_conflict``)."""
        if self._on_postgresql and len(rows) >= statements.COPY_MINIMUM:
            columns = tuple(rows[0])
            statements.copy(self.conn, table, columns, (map(row.__getitem__, columns) for row in rows))
        elif rows:
            prepared = statements.insertion(self.conn.dialect, table, tuple(rows[0]))
            self.conn.exec_driver_sql(prepared.sql, prepared.parameters(rows))

    def insert_missing(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert the rows whose key is not in the table yet; leave the others as they are."""
        if rows:
            insert = postgresql.insert if self._on_postgresql else sqlite.insert
            self.conn.execute(insert(table).on_conflict_do_nothing(), rows)

    def update(self, table: sa.Table, rows: Sequence[Row], **where: Any) -> int:
        """Set the same columns of rows found by equality; returns how many were found.

        ``where`` holds a column's value, or None for the value that each row itself has for it.
        """
        if not rows:
            return 0
        given = {f"where_{name}": value for name, value in where.items() if value is not None}
        own = [name for name, value in where.items() if value is None]
        columns = tuple(name for name in rows[0] if name not in own)
        prepared = statements.updating(self.conn.dialect, table, columns, tuple(where))
        named = [
            {f"set_{name}": row[name] for name in columns} | {f"where_{n}": row[n] for n in own} | given
            for row in rows
        ]
        return self.conn.exec_driver_sql(prepared.sql, prepared.parameters(named)).rowcount

    def take_keys(self, sequence: sa.Sequence, many: int) -> list[int]:
        """Give out ``many`` new growing numbers."""
        if many == 0:
            return []
        if self._on_postgresql:
            query = sa.text(f"SELECT nextval('{sequence.name}') FROM generate_series(1, :many)")
            keys = sorted(int(row[0]) for row in self.conn.execute(query, {"many": many}))
        else:
            last = self._count(sequence.name, many)
            keys = list(range(last - many + 1, last + 1))
        self.given[sequence.name] = (self.given.get(sequence.name, keys)[0], keys[-1])
        return keys

    def write_outbox(self) -> None:
        """What this transaction has changed, as events. The last thing before the commit.

        Raises a conflict (``is_conflict``) when a record's events would not be in the order of its changes.
        """
        if "change_no" not in vars(self):
            return
        if not outbox.write(self.conn, self.change_no, self.given, self.revealed):
            raise Overtaken

    def _count(self, name: str, many: int) -> int:
        counted = self.conn.exec_driver_sql(_COUNT, (many, name)).scalar_one_or_none()
        if counted is None:
            self.insert(tables.counters, [{"name": name, "value": many}])
            return many
        return int(counted)
