"""The one file that knows which database this is.

SQLite: a transaction that may write begins with ``BEGIN IMMEDIATE``. The driver's own way of beginning
waits for the first write, too late for "read, decide, write": eight threads took 150 of 20 tokens so.
WAL lets readers go on meanwhile; ``secure_delete`` overwrites what is erased; ``synchronous = FULL``
keeps a commit through a power cut, since positions already handed to readers must not come back.

PostgreSQL: row locks and the database's own clock. A change position is the transaction's id, counted
from where another database stopped that this one continues, and is readable once no older transaction
can still commit.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.types import TypeDecorator

from store import outbox, tables
from store.sealing import Lookup, Sealer, UnknownKey

Row = Mapping[Any, Any]
"""A row as it lies in its table, by column name."""

LOOKUP_KEY = "lookup_key"
LOOKUP_KEY_PLACE = f"meta:{LOOKUP_KEY}"

Unavailable = (sa.exc.OperationalError, sa.exc.InterfaceError)
"""What a database that is away, starting or busy raises."""

CONFLICTS = 20
"""How often work is begun anew because somebody else was first, before that is taken for a fault."""

T = TypeVar("T")


_BUSY_SECONDS = 60
"""How long SQLite waits for whoever writes."""


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


_REASONS = (
    "password authentication failed",
    "Connection refused",
    "No such file or directory",
    "could not translate host name",
    "failed to resolve host",
    "timeout expired",
    "does not exist",
    "the database system is starting up",
    "the database system is shutting down",
    "database is locked",
    "unable to open database file",
    "attempt to write a readonly database",
    "database or disk is full",
    "no such table",
    "file is not a database",
    "database disk image is malformed",
    "disk I/O error",
    "too many clients already",
)
"""What a database may say about itself that is safe to repeat: its other words may quote data."""


def reason_of(error: sa.exc.DBAPIError) -> str:
    """What a database said, as far as that is safe to repeat; else the name of the error."""
    text = str(error.orig)
    return next((reason for reason in _REASONS if reason in text), type(error).__name__)


CONNECTIONS = 12
"""Connections that a process keeps: one for each source that it works on at once, and two."""

BURST = 5
"""Further ones that it may open for a moment."""

_POSTGRESQL: Mapping[str, Any] = {
    "connect_timeout": 10,
    # No statement, no wait for a lock and no pause within a transaction lasts longer than this: whoever
    # hangs must not hold up the others. Milliseconds.
    "options": "-c timezone=UTC -c statement_timeout=60000 -c lock_timeout=60000"
    " -c idle_in_transaction_session_timeout=60000",
    # A server that vanished without a word is noticed within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def connect_arguments(engine: Engine) -> dict[str, Any]:
    """How psycopg itself connects to an engine's database, with the same time limits."""
    _, found = engine.dialect.create_connect_args(engine.url)
    return {**found, **_POSTGRESQL}


def create_engine(url: str, connections: int = CONNECTIONS) -> Engine:
    """An engine for ``sqlite:///…`` or ``postgresql+psycopg://…`` that keeps the promises above.

    ``connections``: how many it keeps open to PostgreSQL. One that the server has closed while it was idle is
    noticed when it is taken, and replaced.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(
            parsed,
            hide_parameters=True,
            connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        sa.event.listen(engine, "handle_error", _say_whose)
        return engine
    engine = sa.create_engine(
        parsed,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=BURST,
        pool_recycle=1800,
        connect_args=dict(_POSTGRESQL),
    )
    sa.event.listen(engine, "checkout", _look_whether_it_lives)
    sa.event.listen(engine, "checkin", _note_that_it_lived)
    sa.event.listen(engine, "handle_error", _say_whose)
    return engine


WHOSE = "url"
"""Attribute of a database's error: the URL of the database that it came from."""


def _say_whose(context: sa.engine.ExceptionContext) -> None:
    if context.sqlalchemy_exception is not None and context.engine is not None:
        vars(context.sqlalchemy_exception)[WHOSE] = context.engine.url


_LIVELY = 10.0
"""Seconds. A connection that was used so lately is not asked whether it lives: that took a third of all trips
to the database. If it does not, whoever uses it finds the database away, tries again, and gets a new one."""


def _look_whether_it_lives(connection: Any, record: Any, _proxy: Any) -> None:
    used_at = record.info.get("used_at")
    if used_at is None or time.monotonic() - used_at < _LIVELY:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except connection.Error:
        raise sa.exc.DisconnectionError from None


def _note_that_it_lived(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


# The driver asks how to adapt each value that is no plain number or text. An answer, that it stays as it is,
# takes half the time of finding none, and rows are full of None.
sqlite3.register_adapter(type(None), lambda none: none)
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
        "cache_size = -16000",
        "temp_store = MEMORY",
        "wal_autocheckpoint = 24000",  # 96 MB: pages that change often are copied back less often
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("reading", False):
        connection.exec_driver_sql("BEGIN")
        return
    durable = options.get("durable", True)
    driver: Any = connection.connection.driver_connection  # a setting waits for nobody, and cannot fail
    driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _converters(dialect: sa.Dialect, types: Sequence[Any]) -> list[tuple[int, Callable[[Any], Any]]]:
    """How values of our own types become the driver's, by their place; it takes all others as they are.

    For truth values and bytes SQLAlchemy has a way of its own, which costs more and ends in the same.
    """
    ours = [
        (i, each.bind_processor(dialect)) for i, each in enumerate(types) if isinstance(each, TypeDecorator)
    ]
    return [(i, convert) for i, convert in ours if convert is not None]


class _Prepared:
    """An INSERT or UPDATE compiled once: its text, and how to turn values into the driver's parameters.

    SQLAlchemy compiles it; only the building of a statement and its parameters anew for every row, which
    costs more than running it, is left out.
    """

    def __init__(
        self, dialect: sa.Dialect, statement: sa.Insert | sa.Update, types: Mapping[str, Any]
    ) -> None:
        columns = list(types) if isinstance(statement, sa.Insert) else None
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.sql = str(compiled)
        self._positional = compiled.positional
        self._names = tuple(compiled.positiontup or ()) if compiled.positional else tuple(types)
        self._pick = itemgetter(*self._names)  # a tuple, as no table has a single column
        self._converters = _converters(dialect, [types[name] for name in self._names])

    def parameters(self, rows: Sequence[Row]) -> list[Any]:
        """The values of rows as the driver takes them, converted column by column."""
        columns: list[Iterable[Any]] = list(zip(*map(self._pick, rows), strict=True))
        for i, convert in self._converters:
            columns[i] = map(convert, columns[i])
        values = zip(*columns, strict=True)
        return list(values) if self._positional else [dict(zip(self._names, v, strict=True)) for v in values]


@lru_cache(maxsize=64)
def _insertion(dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...]) -> _Prepared:
    return _Prepared(dialect, sa.insert(table), {name: table.c[name].type for name in columns})


@lru_cache(maxsize=64)
def _updating(
    dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...], where: tuple[str, ...]
) -> _Prepared:
    found = sa.and_(
        *(table.c[name] == sa.bindparam(f"where_{name}", type_=table.c[name].type) for name in where)
    )
    values = {name: sa.bindparam(f"set_{name}", type_=table.c[name].type) for name in columns}
    types = {f"set_{name}": table.c[name].type for name in columns} | {
        f"where_{name}": table.c[name].type for name in where
    }
    return _Prepared(dialect, sa.update(table).where(found).values(values), types)


_MANY = 5
"""From so many rows on, PostgreSQL takes them by COPY, as one statement."""


@lru_cache(maxsize=64)
def _copying(dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...]) -> tuple[str, list[Any]]:
    """The COPY statement of a table, and how its values are turned into the driver's."""
    quote = dialect.identifier_preparer
    names = ", ".join(quote.format_column(table.c[name]) for name in columns)
    converters = _converters(dialect, [table.c[name].type for name in columns])
    return f"COPY {quote.format_table(table)} ({names}) FROM STDIN", converters


def copy_in(
    conn: Connection, table: sa.Table, columns: tuple[str, ...], rows: Iterable[Iterable[Any]]
) -> None:
    """Insert rows into PostgreSQL by COPY, values in the order of the columns; errors are the driver's."""
    statement, converters = _copying(conn.dialect, table, columns)
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            values = list(row)
            for i, convert in converters:
                values[i] = convert(values[i])
            copy.write_row(values)


def _copy(conn: Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows by COPY; errors are those of an INSERT.

    With an INSERT for each row, a page took a third more of the server's time, and a quarter more of ours.
    """
    columns = tuple(rows[0])
    dbapi: Any = conn.dialect.loaded_dbapi
    try:
        copy_in(conn, table, columns, (map(row.__getitem__, columns) for row in rows))
    except dbapi.Error as error:
        statement, _ = _copying(conn.dialect, table, columns)
        raised = sa.exc.DBAPIError.instance(
            statement, None, error, dbapi.Error, hide_parameters=True, dialect=conn.dialect
        )
        raise raised from error


@lru_cache(maxsize=64)
def _locking(query: sa.Select[Any]) -> sa.Select[Any]:
    """The same query, locking what it finds; kept for those that are made once and asked with every page."""
    return query.with_for_update()


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
    def on_postgresql(self) -> bool:
        return self.conn.dialect.name == "postgresql"

    def rows(self, statement: sa.Executable, *args: Any) -> Sequence[sa.Row[Any]]:
        """All rows of a query."""
        return self.conn.execute(statement, *args).all()

    def these(self, words: Iterable[str]) -> sa.TableValuedAlias:
        """Words as rows of one column, ``value``, to be joined: one parameter, however many they are."""
        column = sa.column("value", sa.String)
        if self.on_postgresql:
            given = sa.bindparam(None, list(words), type_=postgresql.ARRAY(sa.String))
            return sa.func.unnest(given).table_valued(column).render_derived()
        return sa.func.json_each(json.dumps(list(words))).table_valued(column)

    def lock(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Lock what the query finds until the end; SQLite's transaction has the whole file already.

        One that only reads locks nothing: it would wait for writers, and fail when they have written.
        """
        reading = self.conn.get_execution_options().get("reading", False)
        return _locking(query) if self.on_postgresql and not reading else query

    @cached_property
    def change_no(self) -> int:
        """The change position of this transaction."""
        if self.on_postgresql:
            number = self.conn.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint").scalar_one()
            return self.counted_from + int(number)
        return self._count("change_no", 1)

    def readable_change_no(self) -> int:
        """The newest position below which nothing can appear any more."""
        if self.on_postgresql:
            query = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1"
            return self.counted_from + int(self.conn.exec_driver_sql(query).scalar_one())
        counted = sa.select(tables.counters.c.value).where(tables.counters.c.name == "change_no")
        return int(self.conn.execute(counted).scalar_one_or_none() or 0)

    def insert(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert rows that all have the same columns. Raises a conflict (``is_conflict``)."""
        if self.on_postgresql and len(rows) >= _MANY:
            _copy(self.conn, table, rows)
        elif rows:
            prepared = _insertion(self.conn.dialect, table, tuple(rows[0]))
            self.conn.exec_driver_sql(prepared.sql, prepared.parameters(rows))

    def update(self, table: sa.Table, rows: Sequence[Row], **where: Any) -> int:
        """Set the same columns of rows found by equality; returns how many were found.

        ``where`` holds a column's value, or None for the value that each row itself has for it.
        """
        if not rows:
            return 0
        given = {f"where_{name}": value for name, value in where.items() if value is not None}
        own = [name for name, value in where.items() if value is None]
        columns = tuple(name for name in rows[0] if name not in own)
        prepared = _updating(self.conn.dialect, table, columns, tuple(where))
        named = [
            {f"set_{name}": row[name] for name in columns} | {f"where_{n}": row[n] for n in own} | given
            for row in rows
        ]
        return self.conn.exec_driver_sql(prepared.sql, prepared.parameters(named)).rowcount

    def take_keys(self, sequence: sa.Sequence, many: int) -> list[int]:
        """Give out ``many`` new growing numbers."""
        if many == 0:
            return []
        if self.on_postgresql:
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


_NOT_DURABLE = ", set_config('synchronous_commit', 'off', true)"
_PATIENT = ", set_config('idle_in_transaction_session_timeout', '0', true)"
"""A reader holds up nobody, and whoever reads an export may take his time."""


class Store:
    """The seller's database. ``clock`` replaces the database's own clock (simulations, tests)."""

    def __init__(self, engine: Engine, sealer: Sealer, clock: Callable[[], datetime] | None = None) -> None:
        self.engine = engine
        self._sealer = sealer
        self._clock = clock
        self._lookup: Lookup | None = None
        self._counted_from = 0

    @contextmanager
    def begin(self, *, durable: bool = True) -> Iterator[Transaction]:
        """A transaction that may write. Commits at the end, rolls back on any exception.

        ``durable=False`` does not wait for the disk: a power cut (not a crash of ours) may take it back,
        never without what came after it. For claims and tokens, which minutes later mean nothing.
        """
        lookup = self.lookup
        with self.engine.connect() as bare:
            conn = bare.execution_options(durable=durable)
            with conn.begin():
                moment = self._now(conn, "" if durable else _NOT_DURABLE)
                tx = Transaction(conn, self._sealer, lookup, moment, counted_from=self._counted_from)
                yield tx
                tx.write_outbox()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that only reads, of one moment; it holds up no writer."""
        lookup = self.lookup
        with self.engine.connect() as bare:
            level = {"isolation_level": "REPEATABLE READ"} if bare.dialect.name == "postgresql" else {}
            conn = bare.execution_options(reading=True, **level)
            with conn.begin():
                moment = self._now(conn, _PATIENT)
                yield Transaction(conn, self._sealer, lookup, moment, counted_from=self._counted_from)

    def commit(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Do ``work`` in a transaction of its own; all of it once more when somebody else was first."""
        for _ in range(CONFLICTS - 1):
            try:
                with self.begin(durable=durable) as tx:
                    return work(tx)
            except Exception as error:
                if not is_conflict(error):
                    raise
        with self.begin(durable=durable) as tx:
            return work(tx)

    @property
    def server_time(self) -> sa.ColumnElement[datetime]:
        """The time at which PostgreSQL carries out a statement that has this in it."""
        given = None if self._clock is None else self._clock()
        return sa.func.clock_timestamp() if given is None else sa.literal(given, sa.DateTime(timezone=True))

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction by itself: a trip to PostgreSQL, not four."""
        with self.engine.connect() as bare:
            yield bare.execution_options(isolation_level="AUTOCOMMIT")

    def leave_no_trace(self, tables: Sequence[str]) -> bool:
        """See to it that what was overwritten or deleted in some tables is not left in files either.

        SQLite: everything goes from the log into the database, where ``secure_delete`` has overwritten it,
        and the log is emptied, whatever the tables; False when somebody who reads or writes did not allow it
        within two seconds.
        PostgreSQL: the old versions of rows are vacuumed away.
        """
        if self.engine.dialect.name == "postgresql":
            with self.alone() as conn:
                # A second scheduler may be at it: it is waited for.
                for limit in ("statement_timeout", "lock_timeout"):
                    conn.exec_driver_sql(f"SET {limit} = 0")
                for name in tables:
                    conn.exec_driver_sql(f"VACUUM {name}")
                for limit in ("statement_timeout", "lock_timeout"):
                    conn.exec_driver_sql(f"RESET {limit}")
            return True
        bare_connection = self.engine.raw_connection()
        try:
            cursor = bare_connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 2000")
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
            return not busy
        finally:
            bare_connection.close()

    def now(self) -> datetime:
        """The time of a transaction that begins now."""
        with self.read() as tx:
            return tx.now

    def _now(self, conn: Connection, also: str) -> datetime:
        """The transaction's moment; ``also`` sets something for PostgreSQL on the same way to it."""
        moment = datetime.now(UTC)
        if conn.dialect.name == "postgresql" and (also or self._clock is None):
            moment = conn.exec_driver_sql(f"SELECT clock_timestamp(){also}").scalar_one().astimezone(UTC)
        return moment if self._clock is None else self._clock()

    @property
    def lookup(self) -> Lookup:
        """The keyed hashes; their key is made on first use and stored sealed.

        So it is here that a wrong encryption key shows first. Raises SealError.
        """
        if self._lookup is None:
            with self.engine.begin() as conn:
                self._counted_from = _counted_from(conn) if conn.dialect.name == "postgresql" else 0
                self._lookup = Lookup(_lookup_key(conn, self._sealer))
        return self._lookup

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


COUNTED_FROM = "counted_from"
"""The counter that PostgreSQL's change positions are counted from."""

_LEAP = 1_000_000_000


def _counted_from(conn: Connection) -> int:
    """What change positions are counted from, seen to that new ones are higher than all there are.

    A dump that was restored into another server has rows from transactions that this server has still
    to come to. Readers may be at positions even above those: a leap leaves them behind.
    """
    if (counted := _counting_on(conn)) is not None:
        return counted
    # Of processes that start together one leaps, and the others keep to its number.
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock(hashtext('order-sync {COUNTED_FROM}'))")
    if (counted := _counting_on(conn)) is not None:
        return counted
    counted = newest_change(conn) + _LEAP
    insert = postgresql.insert(tables.counters).values(name=COUNTED_FROM, value=counted)
    conn.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": counted}))
    return counted


def _counting_on(conn: Connection) -> int | None:
    """The recorded number, if all positions there are lie below those to come."""
    c = tables.counters.c
    counted = conn.execute(sa.select(c.value).where(c.name == COUNTED_FROM)).scalar_one_or_none() or 0
    ahead = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    return int(counted) if newest_change(conn) < counted + conn.exec_driver_sql(ahead).scalar_one() else None


def try_writing(engine: Engine) -> None:
    """Raises what a database raises that may only be read; changes nothing.

    SQLite lets a transaction that is to write begin on a file that may not be written to.
    """
    with engine.begin() as conn:
        conn.execute(sa.update(tables.counters).where(sa.false()).values(value=0))


def newest_change(conn: Connection) -> int:
    """The highest change position of any change; whoever follows them is above it at most by a leap."""
    found = [
        conn.execute(sa.select(sa.func.max(table.c.change_no))).scalar()
        for table in (tables.customers, tables.orders, tables.outbox)
    ]
    return max((int(number) for number in found if number is not None), default=0)


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
        raise UnknownKey(
            "this database was sealed with another encryption key: "
            "put the key that it was used with last into ORDER_SYNC_ENCRYPTION_KEY"
        ) from None
