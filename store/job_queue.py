"""The tables of the job queue: procrastinate's own, in a PostgreSQL schema of their own.

Neither its migrations nor ours see the other's tables, and another program's procrastinate in the same
database is left alone. procrastinate does not record which of its migrations were applied: a comment on the
schema does.

Its migrations come in two kinds: "pre" ones work with old and new code, "post" ones remove what only old code
needs. So "post" ones at the end wait for the next ``db upgrade``, when no old process runs any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from store.engine import Transaction, lift_limit

SCHEMA = "order_sync_jobs"

_MARK = "procrastinate "

_INSUFFICIENT_PRIVILEGE = "42501"


class Forbidden(Exception):
    """The database's user may not create the queue's schema."""


def migrations() -> list[str]:
    """Return the names of all migrations of the installed procrastinate, in order."""
    folder = resources.files("procrastinate.sql") / "migrations"
    return sorted(f.name.removesuffix(".sql") for f in folder.iterdir() if f.name.endswith(".sql"))


def steps(names: Sequence[str], installed: str) -> list[str]:
    """Return the migrations to apply now, in a queue that has those up to ``installed``."""
    missing = [name for name in names if name > installed]
    pre = [number for number, name in enumerate(missing) if "_pre_" in name]
    return missing[: pre[-1] + 1] if pre else missing


def installed(connection: Connection) -> str | None:
    """Return the last applied migration; None if there is no queue."""
    query = f"SELECT obj_description(to_regnamespace('{SCHEMA}'), 'pg_namespace')"
    mark = connection.exec_driver_sql(query).scalar_one()
    return mark.removeprefix(_MARK) if mark is not None and mark.startswith(_MARK) else None


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Install or upgrade the queue; safe to repeat. Raises Forbidden.

    Returns the last migration before and after.
    """
    names = migrations()
    try:
        with engine.begin() as connection:
            return _upgrade(connection, names)
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise Forbidden from error


def _upgrade(connection: Connection, names: Sequence[str]) -> tuple[str | None, str]:
    # If two processes upgrade at once, the second waits here and has nothing left to do.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock(hashtext('{SCHEMA}'))")
    lift_limit(connection)
    before = installed(connection)
    if before is None:
        there = connection.exec_driver_sql(f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL").scalar_one()
        if not there:
            connection.execute(sa.schema.CreateSchema(SCHEMA))
        _run(connection, resources.files("procrastinate.sql") / "schema.sql")
        after = names[-1]
    else:
        todo = steps(names, before)
        for name in todo:
            _run(connection, resources.files("procrastinate.sql") / "migrations" / f"{name}.sql")
        after = todo[-1] if todo else before
    connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS '{_MARK}{after}'")
    return before, after


def driver_of(tx: Transaction) -> Any:
    """Return a transaction's driver connection, on which the queue's tables need no schema name."""
    tx.conn.exec_driver_sql(f"SET LOCAL search_path = {SCHEMA}")
    return tx.conn.connection.driver_connection


def _run(connection: Connection, script: resources.abc.Traversable) -> None:
    connection.exec_driver_sql(f"SET LOCAL search_path = {SCHEMA}")
    # Without parameters, psycopg accepts several statements at once and leaves each % as it is.
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(script.read_text(encoding="utf-8"))
    connection.exec_driver_sql("SET LOCAL search_path TO DEFAULT")


def problems(engine: Engine) -> list[str]:
    """Return what keeps schedulers and workers from using the queue, in sentences; empty if nothing does."""
    names = migrations()
    with engine.connect() as connection:
        last = installed(connection)
    if last is None:
        return ["the job queue is missing: run `order-sync db upgrade`"]
    if last > names[-1]:
        return [f"the job queue is at {last}, which the installed procrastinate does not know"]
    if any("_pre_" in name for name in steps(names, last)):
        return [f"the job queue is at {last}, procrastinate needs {names[-1]}: run `order-sync db upgrade`"]
    return []
