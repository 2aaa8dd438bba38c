"""Creating and upgrading the schema, and saying what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from store.tables import metadata

_FOLDER = Path(__file__).parent / "migrations"


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
    """Bring the database to the newest revision; safe to repeat."""
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")


def differences(engine: Engine) -> list[str]:
    """How the database's tables differ from what the program expects; empty when they do not."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"render_as_batch": connection.dialect.name == "sqlite"}
        )
        return [_in_words(change) for change in compare_metadata(context, metadata)]


def _in_words(change: object) -> str:
    if isinstance(change, list):
        return "; ".join(_in_words(part) for part in change)
    if isinstance(change, tuple):
        return " ".join(str(getattr(part, "name", part)) for part in change if part is not None)
    return str(change)
