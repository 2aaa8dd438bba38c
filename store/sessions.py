"""Sessions of the console: who is signed in, since when, from where."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from store import sign_in_failures, users
from store.engine import Transaction
from store.tables import console_sessions, console_users

Method = Literal["password", "link", "oidc"]
"""How a user signed in: by password, by a link from the command line, at another provider."""

BROWSER_LENGTH = 200


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that begins. ``network``: stands for all addresses of one person (``sign_in_failures``).

    ``browser``: what the browser calls itself.
    """

    digest: bytes = field(repr=False)
    method: Method
    address: str
    network: str
    browser: str
    awaits_code: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A user who is signed in. ``seen_at``: when the user, not the page by itself, last made a request.

    ``awaits_code``: a one-time code is missing. ``failures``: failed attempts to sign in before it, since the
    success before; ``failed_at`` and ``failed_from``: the last of them.
    """

    digest: bytes = field(repr=False)
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    seen_at: datetime
    method: Method
    awaits_code: bool
    address: str
    browser: str
    failures: int
    failed_at: datetime | None
    failed_from: str | None
    has_password: bool
    password_at: datetime
    has_totp: bool

    @property
    def public_id(self) -> str:
        """What names it where its user sees it: half of the hash, which reveals nothing."""
        return self.digest[:16].hex()


def _query() -> sa.Select[Any]:
    c = console_users.c
    return sa.select(
        console_sessions,
        c.scopes,
        c.password_at,
        c.password.is_not(None).label("has_password"),
        c.totp_at.is_not(None).label("has_totp"),
    ).join(console_users, c.name == console_sessions.c.name)


def _session(row: sa.Row[Any]) -> Session:
    values = dict(row._mapping)
    return Session(**{**values, "digest": bytes(values["digest"]), "scopes": tuple(values["scopes"].split())})


def begin(tx: Transaction, user: users.ConsoleUser, new: NewSession, longest: timedelta) -> bool:
    """Sign a user in. Return False if the user, password or one-time codes changed since they were read.

    Forgets the failures, unless a code is missing, and deletes sessions that are over. A session that awaited
    the code has to be ended by the caller.
    """
    s = console_sessions.c
    stored = users.find(tx, user.name)
    if stored is None or (stored.password, stored.totp_at) != (user.password, user.totp_at):
        return False
    tx.conn.execute(sa.delete(console_sessions).where(s.created_at <= tx.now - longest))
    failures = sign_in_failures.of_name(tx, user.name)
    row = {
        "digest": new.digest,
        "name": user.name,
        "created_at": tx.now,
        "seen_at": tx.now,
        "method": new.method,
        "awaits_code": new.awaits_code,
        "address": new.address,
        "browser": new.browser[:BROWSER_LENGTH],
        "failures": 0 if failures is None else failures.number,
        "failed_at": None if failures is None else failures.at,
        "failed_from": None if failures is None else failures.address,
    }
    tx.conn.execute(sa.insert(console_sessions).values(row))
    if not new.awaits_code:
        sign_in_failures.forget(tx, user.name, new.network)
        users.signed_in(tx, user.name, new.address)
    return True


def find(tx: Transaction, digest: bytes) -> Session | None:
    """Return the session of a browser's cookie."""
    row = tx.conn.execute(_query().where(console_sessions.c.digest == digest)).one_or_none()
    return None if row is None else _session(row)


def load(tx: Transaction, name: str | None = None) -> list[Session]:
    """Return the sessions of a user, or of all, by name, the last used one first. Some may be over."""
    s = console_sessions.c
    query = _query() if name is None else _query().where(s.name == name)
    return [_session(row) for row in tx.rows(query.order_by(s.name, s.seen_at.desc(), s.digest))]


def see(tx: Transaction, digest: bytes) -> None:
    """Store the time of a user's request."""
    s = console_sessions.c
    tx.conn.execute(sa.update(console_sessions).where(s.digest == digest).values(seen_at=tx.now))


def end(tx: Transaction, digest: bytes) -> bool:
    """Sign out of a session. Return False if it has ended already."""
    found = tx.conn.execute(sa.delete(console_sessions).where(console_sessions.c.digest == digest))
    return found.rowcount == 1


def end_one(tx: Transaction, name: str, public_id: str) -> bool:
    """End one of a user's sessions by its public id. Return False if it is none of theirs."""
    ended = [session for session in load(tx, name) if session.public_id == public_id]
    for session in ended:
        end(tx, session.digest)
    return bool(ended)


def end_all(tx: Transaction, name: str, *, but: bytes | None = None) -> int:
    """End all sessions of a user, but for one. Return how many."""
    s = console_sessions.c
    query = sa.delete(console_sessions).where(s.name == name)
    return tx.conn.execute(query if but is None else query.where(s.digest != but)).rowcount
