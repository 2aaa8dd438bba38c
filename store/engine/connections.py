"""Engines for SQLite and PostgreSQL: how a connection is made, begun and checked."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.types import TypeEngine

from store import tables

DatabaseError = sa.exc.DBAPIError
"""Any error that a database raises."""

NoConnection = sa.exc.TimeoutError
"""Raised while all connections of this process are in use."""

Unavailable = (sa.exc.OperationalError, sa.exc.InterfaceError)
"""What a database that is away, starting or busy raises."""

BUSY_SECONDS = 60
"""How long SQLite waits for another writer."""

ENCODING_REFUSED = "its encoding is not UTF8"

NO_ANSWER = "no answer came in time"
ANSWER_SECONDS = 75.0
"""The longest wait for an answer of PostgreSQL, which itself ends statements and waits for locks after 60 s:
something between, such as a proxy, forwards nothing more and does not say so."""

SAFE_REASONS = (
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
    "too many connections",
    "in a read-only transaction",
    "No space left on device",
    "permission denied",
    "canceling statement due to lock timeout",
    "already exists",
    "does not support SSL",
    NO_ANSWER,
    ENCODING_REFUSED,
)
"""Parts of database errors that are safe to repeat; the rest of a message may quote data."""


def reason_of(error: sa.exc.DBAPIError) -> str:
    """Return the safe part of what a database said; without one, the name of the error."""
    text = str(error.orig)
    return next((reason for reason in SAFE_REASONS if reason in text), type(error).__name__)


CONNECTIONS = 12
"""Connections that a process keeps open: one for each source that it works on at once, and two."""

BURST = 5
"""Further connections that it may open for a short time."""

_POSTGRESQL: Mapping[str, Any] = {
    "connect_timeout": 10,
    # A server that vanished silently is noticed within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

_SETTINGS = {
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",  # if off, COPY stores the text of escaped bytes
    "DateStyle": "ISO",  # the only one that the driver reads
    "TimeZone": "UTC",
}
"""What the values of our statements depend on, whatever the server, the database or the user sets. pgbouncer
sets these four for the client whose turn it is, in every mode."""

_FURTHER_SETTINGS = {
    "extra_float_digits": "1",  # or numbers of tokens and seconds lose their digits
    # Milliseconds. A process that hangs must not hold up the others: neither with a statement, nor waiting
    # for a lock, nor idle within a transaction.
    "statement_timeout": "60000",
    "lock_timeout": "60000",
    "idle_in_transaction_session_timeout": "60000",
}


def _columns(settings: Mapping[str, str], *, local: bool) -> str:
    """Return columns of a SELECT that set these, until the transaction ends if ``local``."""
    return ", ".join(f"set_config('{name}', '{value}', {local})" for name, value in settings.items())


OPENING = f"SELECT pg_backend_pid(), {_columns(_SETTINGS, local=False)}"
"""The first statement on every connection to PostgreSQL: returns the id of the process that answers."""

SESSION = f"SELECT {_columns(_FURTHER_SETTINGS, local=False)}"
"""The second one, unless there is a pooler."""

PER_TRANSACTION = _columns(_FURTHER_SETTINGS, local=True)
"""Columns of the first query of each transaction through a pooler."""


def is_pooled(connection: Any, process: int) -> bool:
    """Return True if another process answers than the one that was connected to: a pooler is in between.

    Each transaction may then reach another process, where prepared statements and all but ``_SETTINGS`` stay
    behind for the next client.
    """
    return bool(process != connection.info.backend_pid)


def _open_postgresql(
    dialect: sa.Dialect, record: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    driver: Any = dialect.loaded_dbapi
    connection: Any = dialect.connect(*arguments, **named)
    _limit_waits(connection, driver, record.info)
    try:
        if connection.info.parameter_status("server_encoding") != "UTF8":
            raise driver.OperationalError(ENCODING_REFUSED)
        connection.autocommit = True
        process, *_ = connection.execute(OPENING).fetchone()
        if is_pooled(connection, process):
            connection.prepare_threshold = None
            record.info[POOLED] = f", {PER_TRANSACTION}"
        else:
            connection.execute(SESSION)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def _limit_waits(connection: Any, driver: Any, info: Mapping[str, Any]) -> None:
    """Let no wait for an answer last longer than ``ANSWER_SECONDS``, and close the connection after one."""
    without_limit = connection.wait

    def wait(generator: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None or info.get(UNLIMITED):
            return without_limit(generator, interval, timeout)
        try:
            return without_limit(generator, interval, ANSWER_SECONDS)
        except driver.errors._WaitTimeout:
            connection.pgconn.finish()  # an answer that comes later must not be taken for the next one's
            raise driver.OperationalError(NO_ANSWER) from None

    connection.wait = wait


POOLED = "pooled"
"""Key of a connection's ``info``, there only with a pooler in between: the columns of ``_now``."""


UNLIMITED = "unlimited"
"""Key of a connection's ``info`` while a wait for an answer may last as long as it needs."""


def wait_long(conn: Connection) -> None:
    """Let answers on this connection take as long as they need, until it is given back."""
    conn.info[UNLIMITED] = True


def lift_limit(conn: Connection) -> None:
    """Let the transaction's statements last as long as they need; waits for locks stay limited."""
    wait_long(conn)
    if conn.dialect.name != "postgresql":
        return  # SQLite has no limit
    conn.exec_driver_sql(
        f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {_FURTHER_SETTINGS['lock_timeout']}"
    )


def file_of(url: str | sa.URL) -> Path | None:
    """Return the file of an SQLite database; None for PostgreSQL."""
    parsed = sa.make_url(url)
    return Path(str(parsed.database).removeprefix("file:")) if parsed.get_backend_name() == "sqlite" else None


def name_of(url: str | sa.URL) -> str:
    """Return a database's name for people, without user and password."""
    file, parsed = file_of(url), sa.make_url(url)
    host = parsed.host or "this machine"
    return f"{parsed.database} at {host}:{parsed.port or 5432}" if file is None else str(file)


def connect_arguments(engine: Engine) -> dict[str, Any]:
    """Return psycopg's own arguments for connecting to an engine's database. Run ``OPENING`` first on it."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    return {**arguments, **_POSTGRESQL}


def create_engine(url: str, connections: int = CONNECTIONS) -> Engine:
    """Return an engine for ``sqlite:///…`` or ``postgresql+psycopg://…`` as the package describes it.

    It keeps ``connections`` open to PostgreSQL, and replaces one that the server closed while it was idle.
    """
    parsed = sa.make_url(url)
    if file_of(parsed) is not None:
        engine = sa.create_engine(
            parsed,
            hide_parameters=True,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        sa.event.listen(engine, "do_connect", _create_privately)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        sa.event.listen(engine, "handle_error", _attach_url)
        return engine
    engine = sa.create_engine(
        parsed,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=BURST,
        pool_recycle=1800,
        # What waited for a lock must see what its holder committed, whatever level the server prefers.
        isolation_level="READ COMMITTED",
        connect_args=dict(_POSTGRESQL),
    )
    sa.event.listen(engine, "do_connect", _open_postgresql)
    sa.event.listen(engine, "checkout", _check_idle)
    sa.event.listen(engine, "checkin", _note_use)
    sa.event.listen(engine, "handle_error", _attach_url)
    return engine


WHOSE = "url"
"""Attribute that holds the database's URL on each error that a database raises."""


def _attach_url(context: sa.engine.ExceptionContext) -> None:
    if context.sqlalchemy_exception is not None and context.engine is not None:
        vars(context.sqlalchemy_exception)[WHOSE] = context.engine.url


_UNCHECKED_SECONDS = 10.0
"""A connection used this recently is not checked before its next use: checks took a third of all trips to the
database. If it is dead, its user finds the database unavailable, tries again and gets a new one."""


def _check_idle(connection: Any, record: Any, _proxy: Any) -> None:
    used_at = record.info.get("used_at")
    if used_at is None or time.monotonic() - used_at < _UNCHECKED_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except connection.Error:
        raise sa.exc.DisconnectionError from None


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()
    record.info.pop(UNLIMITED, None)


# The driver looks up an adapter for each value that is no plain number or text. Finding one that returns the
# value takes half the time of finding none, and rows are full of None.
sqlite3.register_adapter(type(None), lambda none: none)
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)


_PRIVATE = 0o600


def _create_privately(_dialect: Any, _record: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Make a missing file for this user alone. SQLite gives the files that it adds the same mode.

    The file is never opened: closing it would end the locks of this process's connections to it, and another
    process would then delete the log that they write to (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    if named.get("uri"):
        return  # it may say that nothing is created
    with suppress(OSError):  # it is there, or SQLite says why it cannot be opened
        os.mknod(arguments[0], _PRIVATE | stat.S_IFREG)


def make_private(engine: Engine) -> Path | None:
    """Take an SQLite file, and those beside it, from all other users if any user may read or write it.

    Return the file if something changed. A file that only its group shares, or that another user owns, stays.
    """
    file = file_of(engine.url)
    changed = False
    for path in [] if file is None else [file, *(Path(f"{file}{end}") for end in ("-wal", "-shm"))]:
        with suppress(OSError):
            found = path.stat()
            if found.st_mode & 0o007 and found.st_uid == os.geteuid():
                path.chmod(_PRIVATE)
                changed = True
    return file if changed else None


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
    driver: Any = connection.connection.driver_connection  # directly: a setting waits for no lock
    driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def try_writing(engine: Engine) -> None:
    """Raise the database's error if it may only be read; change nothing.

    SQLite lets a writing transaction begin even on a file that it may not write to.
    """
    with engine.begin() as conn:
        conn.execute(sa.update(tables.counters).where(sa.false()).values(value=0))


def hold_tables(conn: Connection, names: Collection[str]) -> None:
    """Lock whole tables until the end of the transaction, and lift its time limit.

    Does nothing on SQLite, whose transaction holds the whole file and has no limit.
    """
    if conn.dialect.name == "postgresql":
        lift_limit(conn)  # an index over millions of rows takes long
        if names:
            conn.exec_driver_sql(f"LOCK TABLE {', '.join(sorted(names))} IN ACCESS EXCLUSIVE MODE")


def index_texts(conn: Connection) -> dict[str, str] | None:
    """Return the SQL of each index on SQLite, where SQLAlchemy cannot read indexes over expressions."""
    if conn.dialect.name == "postgresql":
        return None
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
    return {row.name: row.sql for row in conn.exec_driver_sql(query)}


def is_another_type(
    context: Any, _there: object, _here: object, there: TypeEngine[Any], here: TypeEngine[Any]
) -> bool | None:
    """Return False for two texts on SQLite, which knows no lengths; else None: Alembic compares the types."""
    is_text = isinstance(there, sa.String) and isinstance(here, sa.String)
    return False if is_text and context.dialect.name == "sqlite" else None


def missing_rights(engine: Engine) -> list[str] | None:
    """Return which rights PostgreSQL's user lacks on our tables, a sentence each; None for SQLite."""
    if file_of(engine.url) is not None:
        return None
    names = ", ".join(f"('{name}')" for name in sorted(tables.metadata.tables))
    query = (
        "SELECT name, kind FROM pg_tables JOIN (VALUES {}) AS ours (name) ON tablename = name, "
        "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS rights (kind, number) "
        "WHERE schemaname = current_schema() AND NOT has_table_privilege(name, kind) ORDER BY name, number"
    )
    lacking: dict[str, list[str]] = {}
    with engine.connect() as conn:
        for row in conn.exec_driver_sql(query.format(names)):
            lacking.setdefault(row.name, []).append(row.kind)
    return [f"no right to {', '.join(kinds)} on {name}" for name, kinds in lacking.items()]


def damages(engine: Engine) -> list[str] | None:
    """Return what SQLite finds wrong with its file, a line each; None for PostgreSQL."""
    if file_of(engine.url) is None:
        return None
    with engine.connect() as conn:
        lines = [row[0] for row in conn.execute(sa.text("PRAGMA integrity_check"))]
        broken = [
            f"a row of {row[0]} refers to a row of {row[2]} that is not there"
            for row in conn.execute(sa.text("PRAGMA foreign_key_check"))
        ]
    return [line for line in lines if line != "ok"] + broken
