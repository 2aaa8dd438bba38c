"""A database that cannot be used, in words: which one, what it said, and what a person can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from store.engine import WHOSE, Unavailable, reason_of

_URL = "ORDER_SYNC_DATABASE_URL"

_WRITE = (
    "whoever runs this must be allowed to write to the file and to its folder {folder}, where SQLite keeps "
    "its log"
)

_REMEDIES = {
    "attempt to write a readonly database": _WRITE,
    "unable to open database file": _WRITE,
    "file is not a database": f"the file is something else, see the path in {_URL}",
    "database disk image is malformed": "`order-sync db check` tells what is broken; restore a backup",
    "database or disk is full": "make room on the disk that the folder {folder} is on",
    "disk I/O error": "see to the disk that the folder {folder} is on, which must not be a network's",
    "database is locked": "another program has been writing to it for a minute; end it, or try again later",
    "no such table": "`order-sync db upgrade` makes what is missing",
    "Connection refused": f"nobody listens there, see whether it runs, and host and port in {_URL}",
    "No such file or directory": f"nobody listens there, see whether it runs, and the host in {_URL}",
    "could not translate host name": f"no such host is known here, see {_URL}",
    "failed to resolve host": f"no such host is known here, see {_URL}",
    "timeout expired": f"no answer came in time, see the network between, and host and port in {_URL}",
    "password authentication failed": f"see user and password in {_URL}",
    "does not exist": f"see the database's name and the user in {_URL}; whoever runs the server makes them",
    "too many clients already": "raise the server's max_connections, or lower "
    "ORDER_SYNC_DATABASE_CONNECTIONS",
    "the database system is starting up": "try again in a moment",
    "the database system is shutting down": "it has to be started again",
}
"""What to do, by what the database said; braces are for the folder of SQLite's file."""

_LASTING = ("attempt to write a readonly database", "unable to open database file")


@dataclass(frozen=True, slots=True)
class Place:
    """A database as it may be shown, without user and password; ``file`` is SQLite's."""

    name: str
    file: Path | None


def place_of(url: str | sa.URL) -> Place:
    """Where a database is."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        file = str(parsed.database).removeprefix("file:")
        return Place(file, Path(file))
    host = parsed.host or "this machine"
    return Place(f"{parsed.database} at {host}:{parsed.port or 5432}", None)


def sentence_of(error: sa.exc.DBAPIError) -> str | None:
    """What is wrong with which database, and what to do; None when something else is wrong."""
    reason = reason_of(error)
    if reason == type(error).__name__ and not isinstance(error, Unavailable):
        return None
    url = vars(error).get(WHOSE)
    place = Place("", None) if url is None else place_of(url)
    table_is_missing = reason == "does not exist" and isinstance(error, sa.exc.ProgrammingError)
    remedy = _REMEDIES.get("no such table" if table_is_missing else reason, f"see {_URL}")
    folder = "" if place.file is None else place.file.absolute().parent
    which = " ".join(("the database", place.name)).strip()
    return f"{which} cannot be used ({reason}): {remedy.format(folder=folder)}."


def is_lasting(error: sa.exc.DBAPIError) -> bool:
    """Whether waiting does not help: an SQLite file that may not be written to, or not be opened."""
    return reason_of(error) in _LASTING
