"""Create, upgrade and check the database's schema."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from store.engine import hold_tables, index_texts, is_another_type, is_conflict, reason_of
from store.tables import metadata

IN_THE_WAY = "already exists"

_FOLDER = Path(__file__).parent / "migrations"


class NewerDatabase(Exception):
    """A newer version of the program has upgraded the database."""


class UpgradeFailed(Exception):
    """An upgrade met what it cannot upgrade. Nothing was changed."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str | None:
    """Return the revision that this version of the program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def revision(engine: Engine) -> str | None:
    """Return the database's revision; None for an empty database."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check_known(engine: Engine) -> None:
    """Raise NewerDatabase if this version of the program does not know the database's revision."""
    with engine.connect() as connection:
        unknown = _unknown_revision(connection)
    if unknown is not None:
        raise NewerDatabase(unknown)


def upgrade(engine: Engine) -> None:
    """Upgrade to the newest revision; safe to repeat, and beside running services.

    Raises NewerDatabase and UpgradeFailed.
    """
    for attempt in range(_UPGRADE_ATTEMPTS):
        try:
            with engine.begin() as connection:
                _upgrade(connection)
                return
        except sa.exc.DBAPIError as error:
            if not is_conflict(error) or attempt == _UPGRADE_ATTEMPTS - 1:
                raise


_UPGRADE_ATTEMPTS = 5
"""How often an upgrade is tried that loses a deadlock to a service."""


def _upgrade(connection: Connection) -> None:
    unknown = _unknown_revision(connection)
    if unknown is not None:
        raise NewerDatabase(unknown)
    if MigrationContext.configure(connection).get_current_revision() != newest_revision():
        # Lock all tables first: an upgrade that waits for one later may lose its work to a deadlock.
        hold_tables(connection, metadata.tables.keys() & set(sa.inspect(connection).get_table_names()))
    try:
        command.upgrade(_config(connection), "head")
    except sa.exc.DBAPIError as error:
        if is_conflict(error) or reason_of(error) not in (IN_THE_WAY, type(error).__name__):
            raise
        raise UpgradeFailed(f"the upgrade failed and nothing was changed ({what_is_wrong(error)})") from None


def what_is_wrong(error: sa.exc.DBAPIError) -> str:
    """Return what an upgrade met: the table that is in its way, or the name of the error."""
    named = re.search(r'(?:table|relation) "?(\w+)"? already exists', str(error.orig))
    if named is None:
        return f"{type(error).__name__}; ORDER_SYNC_LOG_LEVEL=debug shows where"
    return (
        f"a table {named[1]} exists that this program did not make: rename it, or use a database of your own"
    )


def differences(engine: Engine) -> list[str]:
    """Return what keeps this program from using the database, in sentences; empty if nothing does."""
    with engine.connect() as connection:
        if not sa.inspect(connection).get_table_names():
            return ["the database is empty"]
        context = MigrationContext.configure(connection, opts={"compare_type": is_another_type})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*expression-based index")  # _wrong_expressions checks them
            changes = compare_metadata(context, metadata)
        return [
            *_about_revision(connection),
            *(sentence for change in changes for sentence in _in_words(change)),
            *_wrong_expressions(connection),
        ]


def _wrong_expressions(connection: Connection) -> Iterator[str]:
    """Yield what is wrong with indexes over expressions, where SQLAlchemy cannot read them."""
    there = index_texts(connection)
    if there is None:
        return
    for table in metadata.sorted_tables:
        for index in table.indexes:
            if len(index.columns) == len(index.expressions):
                continue
            if index.name not in there:
                yield f"index {index.name} of table {table.name} is missing"
            elif there[index.name] != str(sa.schema.CreateIndex(index).compile(connection)):
                yield f"index {index.name} of table {table.name} is not the one of this program"


def _unknown_revision(connection: Connection) -> str | None:
    """Return a sentence about a revision that this version of the program does not know; None if it does."""
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is None or current in known:
        return None
    knows = f"the database is at revision {current}, which this version of the program does not know"
    return f"{knows}: run the version that upgraded it, or a newer one"


def _about_revision(connection: Connection) -> list[str]:
    unknown = _unknown_revision(connection)
    if unknown is not None:
        return [unknown]
    current, newest = MigrationContext.configure(connection).get_current_revision(), newest_revision()
    if current == newest:
        return []
    return [f"the database is at revision {current or 'none'}, this version of the program at {newest}"]


def _in_words(change: Any) -> list[str]:
    """Turn Alembic's proposed changes into sentences about what is wrong with the database."""
    if isinstance(change, list):
        return [sentence for part in change for sentence in _in_words(part)]
    kind, *parts = change
    if kind.startswith("modify_"):
        _, table, column, _, found, expected = parts
        return [f"column {table}.{column}: {kind.removeprefix('modify_')} is {found}, not {expected}"]
    verb, _, thing = kind.partition("_")
    name = parts[-1].name or "without a name"
    if thing == "column":
        name = f"{parts[-2]}.{name}"
    elif thing != "table":
        name = f"{name} of table {parts[-1].table.name}"
    what = {"fk": "foreign key"}.get(thing, thing)
    return [f"{what} {name} is missing" if verb == "add" else f"{what} {name} is not known to this program"]
