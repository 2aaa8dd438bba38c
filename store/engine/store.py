"""The seller's database: its transactions, its clock and its lookup key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine

from store import tables
from store.engine.connections import BUSY_SECONDS, POOLED, wait_long
from store.engine.positions import History
from store.engine.transaction import Transaction, is_conflict
from store.sealing import Lookup, Sealer, UnknownKey, key_id_of

LOOKUP_KEY = "lookup_key"
LOOKUP_KEY_PLACE = f"meta:{LOOKUP_KEY}"

COMMIT_ATTEMPTS = 20
"""How often work that meets conflicts is tried before the conflict counts as a fault."""

T = TypeVar("T")

_NOT_DURABLE = ", set_config('synchronous_commit', 'off', true)"
_PATIENT = ", set_config('idle_in_transaction_session_timeout', '0', true)"
"""Lift the time limit of pauses: a reader holds up no other process, and an export may be read slowly."""


class Store:
    """The seller's database. ``clock`` replaces the database's own clock (simulations, tests)."""

    def __init__(self, engine: Engine, sealer: Sealer, clock: Callable[[], datetime] | None = None) -> None:
        self.engine = engine
        self._sealer = sealer
        self._clock = clock
        self._lookup: Lookup | None = None
        self._history: History | None = None

    @contextmanager
    def begin(self, *, durable: bool = True) -> Iterator[Transaction]:
        """Open a transaction that may write. Commits at the end, rolls back on any exception.

        ``durable=False`` does not wait for the disk: a power cut (not a crash of the process) may undo it,
        together with all later transactions. For claims and tokens, which mean nothing minutes later.
        """
        lookup = self.lookup
        with self.engine.connect() as bare:
            conn = bare.execution_options(durable=durable)
            with conn.begin():
                now = self._now(conn, "" if durable else _NOT_DURABLE)
                tx = Transaction(conn, self._sealer, lookup, now, history=self._history)
                yield tx
                tx.write_outbox()
            self._history = tx.history or self._history

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that only reads: one snapshot, which holds up no writer."""
        lookup = self.lookup
        with self.engine.connect() as bare:
            level = {"isolation_level": "REPEATABLE READ"} if bare.dialect.name == "postgresql" else {}
            conn = bare.execution_options(reading=True, **level)
            with conn.begin():
                now = self._now(conn, _PATIENT)
                yield Transaction(conn, self._sealer, lookup, now)

    def database_version(self) -> tuple[str, str]:
        """Return the name and the version of the database's program."""
        with self.engine.connect() as conn:
            info = conn.dialect.server_version_info or ()
            name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[conn.dialect.name]
        return name, ".".join(map(str, info))

    def commit(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Do ``work`` in a transaction of its own; repeat all of it if another process was first."""
        for _ in range(COMMIT_ATTEMPTS - 1):
            try:
                return self._committed(work, durable)
            except Exception as error:
                if not is_conflict(error):
                    raise
        return self._committed(work, durable)

    def _committed(self, work: Callable[[Transaction], T], durable: bool) -> T:
        with self.begin(durable=durable) as tx:
            result = work(tx)
        for do in tx.once_committed:
            do()
        return result

    @property
    def server_time(self) -> sa.ColumnElement[datetime]:
        """Return an expression for the time at which PostgreSQL runs the statement."""
        now = None if self._clock is None else self._clock()
        return sa.func.clock_timestamp() if now is None else sa.literal(now, sa.DateTime(timezone=True))

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Open a connection on which each statement is a transaction: one trip to PostgreSQL, not four."""
        with self.engine.connect() as bare:
            yield bare.execution_options(isolation_level="AUTOCOMMIT")

    def leave_no_trace(self, tables: Sequence[str]) -> bool:
        """Remove overwritten and deleted rows of some tables from the database's files.

        SQLite: copy the whole log into the database, where ``secure_delete`` has overwritten them, and empty
        it. Return False if readers or writers prevented that for two seconds.
        PostgreSQL: vacuum the tables. Return True.
        """
        if self.engine.dialect.name == "postgresql":
            with self.alone() as conn:
                wait_long(conn)
                if POOLED not in conn.info:
                    conn.detach()  # closed in the end, and its limits with it
                    # Another scheduler may be vacuuming the same table: wait for it.
                    conn.exec_driver_sql("SET statement_timeout = 0; SET lock_timeout = 0")
                for name in tables:
                    conn.exec_driver_sql(f"VACUUM {name}")
            return True
        bare_connection = self.engine.raw_connection()
        try:
            cursor = bare_connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 2000")
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            return not busy
        finally:
            bare_connection.close()

    def now(self) -> datetime:
        """Return the time of a transaction that begins now."""
        with self.read() as tx:
            return tx.now

    def _now(self, conn: Connection, also: str) -> datetime:
        """Return the transaction's time; ``also`` sets options of PostgreSQL in the same trip."""
        now, also = datetime.now(UTC), conn.info.get(POOLED, "") + also
        if conn.dialect.name == "postgresql" and (also or self._clock is None):
            now = conn.exec_driver_sql(f"SELECT clock_timestamp(){also}").scalar_one().astimezone(UTC)
        return now if self._clock is None else self._clock()

    @property
    def lookup(self) -> Lookup:
        """Return the keyed hashes. Their key is made on first use and stored sealed.

        A wrong encryption key therefore shows here first. Raises SealError.
        """
        if self._lookup is None:
            with self.engine.begin() as conn:
                self._lookup = Lookup(_lookup_key(conn, self._sealer))
        return self._lookup

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def has_lookup_key(engine: Engine) -> bool:
    """Return True if the database was used with an encryption key; a new one accepts any key."""
    with engine.connect() as conn:
        if not sa.inspect(conn).has_table(tables.meta.name):
            return False
        return conn.execute(sa.select(tables.meta.c.name).limit(1)).first() is not None


def _lookup_key(conn: Connection, sealer: Sealer) -> bytes:
    query = sa.select(tables.meta.c.value).where(tables.meta.c.name == LOOKUP_KEY)
    sealed = conn.execute(query).scalar_one_or_none()
    if sealed is None:
        fresh = sealer.seal(os.urandom(32), LOOKUP_KEY_PLACE)
        row = {"name": LOOKUP_KEY, "value": fresh}
        if conn.dialect.name == "postgresql":
            conn.execute(postgresql.insert(tables.meta).values(row).on_conflict_do_nothing())
            sealed = conn.execute(query).scalar_one()
        else:
            conn.execute(sa.insert(tables.meta).values(row))
            sealed = fresh
    try:
        return sealer.open(sealed, LOOKUP_KEY_PLACE)
    except UnknownKey:
        configured = ", ".join(key.hex() for key in sealer.key_ids)
        raise UnknownKey(
            f"this database was sealed with another encryption key: set ORDER_SYNC_ENCRYPTION_KEY to the key "
            f"whose id is {key_id_of(sealed).hex()} (configured: {configured}), which it was last used with"
        ) from None
