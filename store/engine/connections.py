"""Engines for SQLite and PostgreSQL: how a connection is made, begun and checked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from store import tables

DatabaseError = sa.exc.DBAPIError
"""Any error that a database raises."""

NoConnection = sa.exc.TimeoutError
"""Raised while all connections of this process are in use."""

Unavailable = (sa.exc.OperationalError, sa.exc.InterfaceError)
"""What a database that is away, starting or busy raises."""

BUSY_SECONDS = 60
"""How long SQLite waits for whoever writes."""


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
)
"""What a database may say about itself that is safe to repeat: its other words may quote data."""


def reason_of(error: sa.exc.DBAPIError) -> str:
    """What a database said, as far as that is safe to repeat; else the name of the error."""
    text = str(error.orig)
    return next((reason for reason in SAFE_REASONS if reason in text), type(error).__name__)


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
    """How psycopg itself connects to an engine's database, with the same time limits."""
    _, found = engine.dialect.create_connect_args(engine.url)
    return {**found, **_POSTGRESQL}


def create_engine(url: str, connections: int = CONNECTIONS) -> Engine:
    """An engine for ``sqlite:///…`` or ``postgresql+psycopg://…`` that keeps the promises above.

    ``connections``: how many it keeps open to PostgreSQL. One that the server has closed while it was idle is
    noticed when it is taken, and replaced.
    """
    parsed = sa.make_url(url)
    if file_of(parsed) is not None:
        engine = sa.create_engine(
            parsed,
            hide_parameters=True,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
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


def try_writing(engine: Engine) -> None:
    """Raises what a database raises that may only be read; changes nothing.

    SQLite lets a transaction that is to write begin on a file that may not be written to.
    """
    with engine.begin() as conn:
        conn.execute(sa.update(tables.counters).where(sa.false()).values(value=0))


def hold_tables(conn: Connection, names: Collection[str]) -> None:
    """Lock whole tables until the end of the transaction, and lift its time limit.

    SQLite does nothing: its transaction has the whole file, and no limit.
    """
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL statement_timeout = 0")  # an index of millions takes a while
        if names:
            conn.exec_driver_sql(f"LOCK TABLE {', '.join(sorted(names))} IN ACCESS EXCLUSIVE MODE")


def index_texts(conn: Connection) -> dict[str, str] | None:
    """Return how each index was created, where SQLAlchemy cannot read indexes by expressions (SQLite)."""
    if conn.dialect.name == "postgresql":
        return None
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
    return {row.name: row.sql for row in conn.exec_driver_sql(query)}


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
