"""A database that cannot be used, in words: which one, what it said, and what a person can do about it."""

from __future__ import annotations

import sqlalchemy as sa

from store.engine import WHOSE, Unavailable, file_of, name_of, reason_of

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


def sentence_of(error: sa.exc.DBAPIError) -> str | None:
    """What is wrong with which database, and what to do; None when something else is wrong."""
    reason = reason_of(error)
    if reason == type(error).__name__ and not isinstance(error, Unavailable):
        return None
    url = vars(error).get(WHOSE)
    file = None if url is None else file_of(url)
    table_is_missing = reason == "does not exist" and isinstance(error, sa.exc.ProgrammingError)
    remedy = _REMEDIES.get("no such table" if table_is_missing else reason, f"see {_URL}")
    folder = "" if file is None else file.absolute().parent
    which = "the database" if url is None else f"the database {name_of(url)}"
    return f"{which} cannot be used ({reason}): {remedy.format(folder=folder)}."


def is_lasting(error: sa.exc.DBAPIError) -> bool:
    """Whether waiting does not help: an SQLite file that may not be written to, or not be opened."""
    return reason_of(error) in _LASTING
