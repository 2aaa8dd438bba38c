"""``order-sync db``: create, upgrade, check and copy the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from config.load import Config, load
from connectors.marketplaces import BY_NAME
from poller.cli.failures import BAD_INPUT, Failure, sentences_of
from poller.cli.output import put, say
from poller.cli.progress import progress
from poller.cli.session import NO_KEY, actor, check_place, make_folders, problems_of, sqlite_file
from poller.text import counted
from store import job_queue, revisions, rotation, transfer
from store.audit import insert_on
from store.audit_records import AuditEntry
from store.engine import (
    DatabaseError,
    Engine,
    Store,
    create_engine,
    damages,
    has_lookup_key,
    missing_rights,
    name_of,
)
from store.sealing import Sealer, SealError

app = typer.Typer()


@app.callback()
def db() -> None:
    """Create, upgrade, check and copy the database."""


@app.command()
def upgrade() -> None:
    """Upgrade the database to the schema of this version, or create it. Safe to repeat."""
    config, url = _settings()
    check_place(url, create=True)
    make_folders(config.settings)
    with closing_engine(url) as engine:
        before = revisions.revision(engine)
        revisions.upgrade(engine)
        after = revisions.revision(engine)
        queue = _upgrade_queue(config, engine)
    say(_upgraded(f"the database {name_of(url)}", before, after))
    if queue:
        say(queue)


@app.command()
def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Replace sealed values that were stored as text of their bytes.")
    ] = False,
) -> None:
    """Check that the database answers, fits this version, opens with the key, and is sound."""
    config, url = _settings()
    check_place(url, create=False)
    with closing_engine(url) as engine:
        fault = _fault_of(engine)
        if fault is not None:
            put(f"wrong  {fault}")
            raise typer.Exit(1)
        put(f"ok     the database {name_of(url)} answers")
        if not _passes("its user may read and write all tables", "rights", missing_rights(engine)):
            raise typer.Exit(1)  # the rest could not be read
        checks = (
            (f"schema is revision {revisions.newest_revision()}", "schema", revisions.differences(engine)),
            ("the encryption key opens it", "encryption key", key_problems(config, engine)),
            ("the file is sound", "file", damages(engine)),
            ("every sealed value opens", "sealed value", damaged_values(config, engine, repair=repair)),
            ("the job queue is there", "job queue", _queue_problems(config, engine)),
        )
        passes = [_passes(*each) for each in checks]
    if not all(passes):
        raise typer.Exit(1)


def _passes(passed: str, check_name: str, problems: list[str] | None) -> bool:
    """Print the result of a check, nothing if it was not made. Return False if it found problems."""
    if problems == []:
        put(f"ok     {passed}")
    for problem in problems or ():
        put(f"wrong  {check_name}: {problem}")
    return not problems


@app.command()
def copy(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="An empty database: postgresql+psycopg://…")],
) -> None:
    """Copy the SQLite database to PostgreSQL, and check by counts and checksums that all of it arrived.

    Stop the service first. The schema is created in the target. If interrupted, run it again to continue.
    """
    _, url = _settings()
    if sqlite_file(url) is None:
        raise Failure("ORDER_SYNC_DATABASE_URL must name the SQLite database to copy.", status=BAD_INPUT)
    if not to.startswith("postgresql+psycopg://"):
        raise Failure("--to must be a URL that starts with postgresql+psycopg://.", status=BAD_INPUT)
    check_place(url, create=False)
    with closing_engine(url) as source, closing_engine(to) as target:
        if (revision := revisions.revision(source)) != (newest := revisions.newest_revision()):
            raise Failure(
                f"the database {name_of(url)} is at schema revision {revision}, "
                f"this version needs {newest}: run `order-sync db upgrade` first."
            )
        revisions.upgrade(target)
        with source.begin() as connection:
            entry = AuditEntry(actor(), "database_copied", detail=name_of(to))
            insert_on(connection, datetime.now(UTC), entry)
        total_rows = transfer.rows_of(source)
        done = 0
        try:
            with progress("copying and comparing", 2 * total_rows) as report:

                def advance(_: str, rows: int) -> None:
                    nonlocal done
                    done += rows
                    report(done)

                sums = transfer.Copying(source, target, advance).run()
        except (transfer.CopyRefused, transfer.Unequal) as error:
            raise Failure(str(error)) from None
    for name, total in sorted(sums.items()):
        say(f"{name}: {counted(total.rows, 'row')}, checksum {total.hashes:016x}, the same on both sides")
    say(
        f"{counted(total_rows, 'row')} copied to {name_of(to)}: set ORDER_SYNC_DATABASE_URL to it; "
        "positions of exports stay valid"
    )


def _settings() -> tuple[Config, str]:
    """Return the configuration and the database's URL; accounts and marketplaces may be wrong or missing."""
    config = load(os.environ, BY_NAME)
    if problems := problems_of(config, "ORDER_SYNC_DATABASE_URL"):
        raise Failure(*problems, status=BAD_INPUT)
    return config, config.settings.database_url.get_secret_value()


@contextmanager
def closing_engine(url: str) -> Iterator[Engine]:
    """Yield an engine, and dispose of it at the end."""
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _fault_of(engine: Engine) -> str | None:
    """Return why the database does not answer; None if it does."""
    try:
        revisions.revision(engine)
    except DatabaseError as error:
        return sentences_of(error)[1]
    return None


def key_problems(config: Config, engine: Engine) -> list[str]:
    """Return why the configured key does not open the database; empty if it does or nothing is sealed yet."""
    keys = config.settings.encryption_key
    if keys is None:
        return problems_of(config, "ORDER_SYNC_ENCRYPTION_KEY") or [NO_KEY]
    try:
        if has_lookup_key(engine):
            _ = Store(engine, Sealer([key.get_secret_value() for key in keys])).lookup
    except SealError as error:
        return [str(error)]
    return []


DAMAGED_AT_MOST = 20
"""Damaged values that are named; a missing key would name all."""


def damaged_values(config: Config, engine: Engine, *, repair: bool) -> list[str] | None:
    """Return table, column and row of sealed values that do not open; None if they cannot be tried."""
    keys = config.settings.encryption_key
    if not keys or key_problems(config, engine) or revisions.differences(engine):
        return None
    store = Store(engine, Sealer([key.get_secret_value() for key in keys]))
    if repair:
        say(f"{counted(store.commit(rotation.repair), 'value')} repaired")
    with store.read() as tx:
        damaged = [f"{name} does not open" for name in rotation.find_damaged(tx)]
    if damaged and not repair:
        say(
            "`order-sync db check --repair` restores values that were stored as text of their bytes; "
            "`order-sync orders fetch` replaces what Amazon still shows"
        )
    if len(damaged) > DAMAGED_AT_MOST:
        damaged[DAMAGED_AT_MOST:] = [f"{len(damaged) - DAMAGED_AT_MOST} more do not open"]
    return damaged


def _upgraded(name: str, before: str | None, after: str | None) -> str:
    if before == after:
        return f"{name} is up to date (revision {after})"
    return f"{name} was {f'upgraded from revision {before}' if before else 'created'} at revision {after}"


def _upgrade_queue(config: Config, engine: Engine) -> str:
    """Install or upgrade the job queue, if workers are configured. Returns a sentence about it."""
    if config.settings.executor != "procrastinate":
        return ""
    try:
        before, after = job_queue.upgrade(engine)
    except job_queue.Forbidden:
        raise Failure(
            f"the database's user may not create the schema {job_queue.SCHEMA} for the job queue: let the "
            f"database's owner run `CREATE SCHEMA {job_queue.SCHEMA} AUTHORIZATION <that user>` once."
        ) from None
    return _upgraded("the job queue", before, after)


def _queue_problems(config: Config, engine: Engine) -> list[str] | None:
    """Return what keeps workers from their jobs; None if workers are not configured."""
    return job_queue.problems(engine) if config.settings.executor == "procrastinate" else None
