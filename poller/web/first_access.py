"""The first credentials: what `run` makes while no one can sign in and no program has a token."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path

import structlog

from config.settings import Settings
from poller.audit import write_line
from poller.bootstrap import Service
from poller.web.tokens import SCOPES, VALID_DAYS, digest, new_token
from store import audit, tokens, users
from store.audit_records import SERVICE, AuditEntry
from store.engine import Transaction, file_of

log = structlog.get_logger("order_sync")

OWNER = "owner"
"""The first user; the link is the only way to sign in until `users passwd owner` sets a password."""

FIRST = "first"
"""The name of the first token."""

USER_ADDED = AuditEntry(SERVICE, "user_added", detail=OWNER)
TOKEN_ADDED = AuditEntry(SERVICE, "token_added", detail=FIRST)

LINK_LASTS = timedelta(hours=1)
WORKS = f"once, within an hour, as the user {OWNER}; `order-sync users link {OWNER}` makes another"


def token_file(settings: Settings) -> Path | None:
    """Return the file of the first token: beside the SQLite file, else in ORDER_SYNC_RUNTIME_DIR."""
    database = file_of(settings.database_url.get_secret_value())
    if database is not None:
        return database.with_name(f"{database.name}.first-token")
    return None if settings.runtime_dir is None else settings.runtime_dir / "order-sync.first-token"


def link_of(url: str, key: str) -> str:
    """Return the address that signs in once. ``url``: where the service is reached."""
    return f"{url}/console/enter?key={key}"


def put_link(tx: Transaction, name: str) -> str | None:
    """Store a new link of a user. Return its key; None if there is no such user."""
    key = secrets.token_urlsafe(32)
    return key if users.put_link(tx, name, digest(key), LINK_LASTS) else None


def prepare(service: Service, url: str) -> None:
    """Make the first token and the first user if there are none, and log how to use them.

    While the first user's link was not used, each start makes another: the reader of its log can
    sign in, and no one can with an older log. ``url``: where the service is reached.
    """
    settings = service.config.settings
    with service.store.read() as tx:
        fresh = settings.api_token is None and _is_empty(tx)
        owner = users.find(tx, OWNER)
        waiting = users.has_link(tx, OWNER) and owner is not None and owner.never_signed_in
    if fresh:
        _make(service, url, token_file(settings))
    elif waiting:
        key = service.store.commit(lambda tx: put_link(tx, OWNER))
        if key is not None:
            log.warning("no one has signed in yet", sign_in=link_of(url, key), works=WORKS)


def _is_empty(tx: Transaction) -> bool:
    return not tokens.load(tx) and not users.is_any(tx)


def _make(service: Service, url: str, file: Path | None) -> None:
    token = new_token()

    def make(tx: Transaction) -> tuple[str, bool] | None:
        if not _is_empty(tx):
            return None
        users.add(tx, OWNER, None, SCOPES)
        audit.insert(tx, USER_ADDED)
        # Before the commit: a token that is valid but in no file could never be used. After the first row: a
        # process that does the same meanwhile waits there, and finds that there are credentials.
        written = file is not None and _write(file, token)
        if written:
            tokens.add(tx, FIRST, SCOPES, digest(token), valid_for=timedelta(days=VALID_DAYS))
            audit.insert(tx, TOKEN_ADDED)
        key = put_link(tx, OWNER)
        return None if key is None else (key, written)

    made = service.store.commit(make)
    if made is not None:
        key, written = made
        log.warning(
            "every request needs credentials",
            sign_in=link_of(url, key),
            works=WORKS,
            api=f"a token is in {file}" if written else "make a token with `order-sync tokens add NAME`",
        )
        for entry in (USER_ADDED, TOKEN_ADDED) if written else (USER_ADDED,):
            write_line(entry)  # after the line that people look for


def _write(file: Path, token: str) -> bool:
    """Write a token that only this user can read, in place of what is there. Return False if it cannot be."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # of a process with the same number, as the first of a container has
        descriptor = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{token}\n")
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError as error:
        log.warning("the first token cannot be written", file=str(file), error=type(error).__name__)
        return False
    return True
