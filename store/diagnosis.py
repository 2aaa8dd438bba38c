"""Sentences about a database that cannot be used: which one, what it said, and what to do."""

from __future__ import annotations

import sqlalchemy as sa

from store.engine import ENCODING_REFUSED, NO_ANSWER, WHOSE, Unavailable, file_of, name_of, reason_of

_URL = "ORDER_SYNC_DATABASE_URL"

_WRITE = (
    "the user that runs this needs write access to the file and to its folder {folder}, where SQLite keeps "
    "its log"
)

_REMEDIES = {
    "attempt to write a readonly database": _WRITE,
    "unable to open database file": _WRITE,
    "file is not a database": f"the file is no SQLite database, check the path in {_URL}",
    "database disk image is malformed": "`order-sync db check` shows what is broken; restore a backup",
    "database or disk is full": "free space on the disk of the folder {folder}",
    "disk I/O error": "check the disk of the folder {folder}, which must not be a network drive",
    "database is locked": "another program has been writing to it for a minute; stop it, or try again later",
    "no such table": "run `order-sync db upgrade` to create what is missing",
    "Connection refused": f"no server listens there, check that it runs, and the host and port in {_URL}",
    "No such file or directory": f"no server listens there, check that it runs, and the host in {_URL}",
    "could not translate host name": f"this host name is unknown, check {_URL}",
    "failed to resolve host": f"this host name is unknown, check {_URL}",
    NO_ANSWER: "a proxy in between forwards nothing more on that connection; another one is opened",
    "timeout expired": f"no answer came in time, check the network, and the host and port in {_URL}",
    "password authentication failed": f"check user and password in {_URL}",
    "does not exist": f"check the names of database and user in {_URL}; both must exist on the server",
    "too many clients already": "raise the server's max_connections, or lower "
    "ORDER_SYNC_DATABASE_CONNECTIONS",
    "too many connections": "raise the connection limit of the role or the database, or lower "
    "ORDER_SYNC_DATABASE_CONNECTIONS",
    "in a read-only transaction": "the server takes no writes, as a replica or one whose disk is full does: "
    f"name the one that does in {_URL}, or lift default_transaction_read_only",
    "No space left on device": "free space on the disk of the database's server",
    "permission denied": f"let the owner of its tables be the user in {_URL}, or grant that user SELECT, "
    "INSERT, UPDATE and DELETE on all of them and USAGE on all sequences; `order-sync db check` names what "
    "is missing",
    "canceling statement due to lock timeout": "another session has held a lock for over a minute: end its "
    "transaction (pg_stat_activity shows it), then try again",
    "already exists": f"give this program a database of its own in {_URL}: another one's table has its name",
    "does not support SSL": f"ask its administrator for TLS, or set sslmode in {_URL}",
    "the database system is starting up": "try again in a few seconds",
    "the database system is shutting down": "start the server again",
    ENCODING_REFUSED: f"create one with ENCODING 'UTF8' TEMPLATE template0 and name it in {_URL}; "
    "pg_dump and psql bring over what this one holds",
}
"""What to do, by what the database said; braces stand for the folder of SQLite's file."""

_LASTING = ("attempt to write a readonly database", "unable to open database file", ENCODING_REFUSED)


_REFUSING = (
    "attempt to write a readonly database",
    "in a read-only transaction",
    "database or disk is full",
    "No space left on device",
)


def is_refusing(error: sa.exc.DBAPIError) -> bool:
    """Return True if the database answers and takes no writes."""
    return reason_of(error) in _REFUSING


def sentence_of(error: sa.exc.DBAPIError) -> str | None:
    """Return which database has which problem and what to do; None for an error of another kind."""
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
    """Return True if waiting does not help: the file is closed to us, or the encoding is not UTF8."""
    return reason_of(error) in _LASTING
