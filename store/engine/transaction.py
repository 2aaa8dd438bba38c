"""One open transaction: reading, locking, writing, keys and its change position."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from store.engine import outbox, positions, statements
from store.engine.positions import History
from store.engine.statements import Row
from store.sealing import Lookup, Sealer


class Tombstone(Exception):
    """A customer was merged or forgotten after it was read as active: decide again."""


class Overtaken(Exception):
    """A transaction with a later position changed the same record first: begin again."""


def is_conflict(error: BaseException) -> bool:
    """Return True if another process was first, so that rolling back and deciding again helps."""
    if isinstance(error, sa.exc.IntegrityError | Tombstone | Overtaken):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state in ("40001", "40P01")  # serialisation failure, deadlock (PostgreSQL's manual, appendix A)


@dataclass
class Transaction:
    """One open transaction: everything in it becomes visible together, or not at all.

    ``now`` is the same for the whole transaction: by the database's clock on PostgreSQL, by the process's
    on SQLite.
    """

    conn: Connection
    sealer: Sealer
    lookup: Lookup
    now: datetime
    began_at: float = field(default_factory=time.monotonic)
    """When it began, in seconds of the monotonic clock."""
    history: History | None = None
    """The history of change positions that this transaction writes, as far as it is known."""
    new_keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The first and last key taken from each sequence, by its name."""
    revealed: set[int] = field(default_factory=set)
    """Keys of orders that were pending and are shown from now on (R30)."""
    once_committed: list[Callable[[], None]] = field(default_factory=list)
    """What `Store.commit` does after the commit, such as writing a log line about it."""

    @property
    def _on_postgresql(self) -> bool:
        return self.conn.dialect.name == "postgresql"

    def rows(self, statement: sa.Executable, *args: Any) -> Sequence[sa.Row[Any]]:
        """Return all rows of a query."""
        return self.conn.execute(statement, *args).all()

    def these(self, words: Iterable[str]) -> sa.TableValuedAlias:
        """Return words as rows of one column, ``value``, to join: a single parameter for all of them."""
        column = sa.column("value", sa.String)
        if self._on_postgresql:
            array = sa.bindparam(None, list(words), type_=postgresql.ARRAY(sa.String))
            return sa.func.unnest(array).table_valued(column).render_derived()
        return sa.func.json_each(json.dumps(list(words))).table_valued(column)

    def begins(self, column: sa.ColumnElement[str], prefix: str) -> sa.ColumnElement[bool]:
        """Return the condition that a text begins with a prefix.

        On SQLite a range, which an index finds. On PostgreSQL what lies between two texts depends on the
        database's collation.
        """
        if self._on_postgresql:
            return column.startswith(prefix, autoescape=True)
        return sa.and_(column >= prefix, column < f"{prefix}\U0010ffff")

    def lock(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with locks, held until the end, on the rows that it finds.

        SQLite's transaction holds the whole file already. A reading transaction locks nothing: it would wait
        for writers and fail after their commit.
        """
        return statements.locking(query) if self._on_postgresql and not self.only_reads else query

    @property
    def only_reads(self) -> bool:
        """Return True if the transaction must not write."""
        return bool(self.conn.get_execution_options().get("reading", False))

    def lock_all(self, query: sa.Select[Any]) -> None:
        """Lock the rows that the query finds, in its order."""
        if self._on_postgresql:
            self.conn.execute(self.lock(query)).all()

    def hold(self, name: str, *, shared: bool) -> None:
        """Hold a named lock until the end. SQLite's transaction holds the whole file already."""
        if self._on_postgresql:
            kind = "_shared" if shared else ""
            self.conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock{kind}(hashtext('order-sync {name}'))")

    @property
    def sees_later_commits(self) -> bool:
        """Return True if a statement may see commits that an earlier one of this transaction did not."""
        return self._on_postgresql

    @cached_property
    def change_no(self) -> int:
        """Return the change position of this transaction; the first call takes it."""
        number, self.history = positions.take(self.conn, self.now, self.history)
        return number

    def readable_change_no(self) -> int:
        """Return the newest position up to which no further changes can appear."""
        return positions.readable(self.conn)

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
        """Set the same columns of rows found by equality. Return how many rows were found.

        ``where`` holds a column's value; None takes the value from each of ``rows``.
        """
        if not rows:
            return 0
        shared = {f"where_{name}": value for name, value in where.items() if value is not None}
        own = [name for name, value in where.items() if value is None]
        columns = tuple(name for name in rows[0] if name not in own)
        prepared = statements.updating(self.conn.dialect, table, columns, tuple(where))
        named = [
            {f"set_{name}": row[name] for name in columns} | {f"where_{n}": row[n] for n in own} | shared
            for row in rows
        ]
        return self.conn.exec_driver_sql(prepared.sql, prepared.parameters(named)).rowcount

    def take_keys(self, sequence: sa.Sequence, number: int) -> list[int]:
        """Return ``number`` new keys, in ascending order."""
        if number == 0:
            return []
        if self._on_postgresql:
            query = sa.text(f"SELECT nextval('{sequence.name}') FROM generate_series(1, :number)")
            keys = sorted(int(row[0]) for row in self.conn.execute(query, {"number": number}))
        else:
            last = positions.count(self.conn, sequence.name, number)
            keys = list(range(last - number + 1, last + 1))
        self.new_keys[sequence.name] = (self.new_keys.get(sequence.name, keys)[0], keys[-1])
        return keys

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block did if it raises; the transaction itself stays good."""
        new_keys, revealed, is_counted = dict(self.new_keys), set(self.revealed), "change_no" in vars(self)
        history = self.history
        try:
            with self.conn.begin_nested():
                yield
        except BaseException:
            self.new_keys, self.revealed = new_keys, revealed
            if not is_counted:
                vars(self).pop("change_no", None)
                self.history = history
            raise

    def write_outbox(self) -> None:
        """Write what this transaction changed as events, last before the commit.

        Raises a conflict (``is_conflict``) if a record's events would not be in the order of its changes.
        """
        if "change_no" not in vars(self):
            return
        if not outbox.write(self.conn, self.change_no, self.new_keys, self.revealed):
            raise Overtaken
