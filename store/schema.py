"""Creating and upgrading the schema, and saying what is wrong with it."""

from __future__ import annotations

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

from store.engine import hold_tables, index_texts, is_conflict
from store.tables import metadata

_FOLDER = Path(__file__).parent / "migrations"


class NewerDatabase(Exception):
    """The database was upgraded by a newer version of the program than this one."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str | None:
    """The revision that this version of the program works with."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def revision(engine: Engine) -> str | None:
    """The revision that the database is at; None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest revision, also beside services; repeatable. Raises NewerDatabase."""
    for attempt in range(_ATTEMPTS):
        try:
            with engine.begin() as connection:
                _upgrade(connection)
                return
        except sa.exc.DBAPIError as error:
            if not is_conflict(error) or attempt == _ATTEMPTS - 1:
                raise


_ATTEMPTS = 5
"""How often an upgrade is begun anew that was the one to give way to a service."""


def _upgrade(connection: Connection) -> None:
    stranger = _unknown_revision(connection)
    if stranger is not None:
        raise NewerDatabase(stranger)
    if MigrationContext.configure(connection).get_current_revision() != newest_revision():
        # All tables before any work: an upgrade that waits for one later may lose what it did to a deadlock.
        hold_tables(connection, metadata.tables.keys() & set(sa.inspect(connection).get_table_names()))
    command.upgrade(_config(connection), "head")


def differences(engine: Engine) -> list[str]:
    """What keeps this program from working with the database, in sentences; empty when nothing does."""
    with engine.connect() as connection:
        if not sa.inspect(connection).get_table_names():
            return ["the database is empty"]
        context = MigrationContext.configure(connection)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*expression-based index")  # those are looked at below
            changes = compare_metadata(context, metadata)
        return [
            *_about_revision(connection),
            *(sentence for change in changes for sentence in _in_words(change)),
            *_wrong_expressions(connection),
        ]


def _wrong_expressions(connection: Connection) -> Iterator[str]:
    """Yield what is wrong with indexes by expressions, where SQLAlchemy cannot read them."""
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
    """A sentence about a revision that this version of the program has never heard of."""
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is None or current in known:
        return None
    return f"the database is at revision {current}, which this version of the program does not know"


def _about_revision(connection: Connection) -> list[str]:
    stranger = _unknown_revision(connection)
    if stranger is not None:
        return [stranger]
    current, newest = MigrationContext.configure(connection).get_current_revision(), newest_revision()
    if current == newest:
        return []
    return [f"the database is at revision {current or 'none'}, this version of the program at {newest}"]


def _in_words(change: Any) -> list[str]:
    """Alembic says what it would do to the database; a reader wants to know what is wrong with it."""
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
