"""Users of the console and their sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import console_sessions, console_users, sign_in_links


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A user as stored. ``password``: its hash. ``failures``: failed attempts since the last success."""

    name: str
    password: str = field(repr=False)
    scopes: tuple[str, ...]
    created_at: datetime
    failures: int
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Session:
    """A user who is signed in. ``seen_at``: when the user, not the page by itself, last made a request."""

    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    seen_at: datetime


def load(tx: Transaction) -> list[ConsoleUser]:
    """Return all users by name."""
    return [_user(row) for row in tx.rows(sa.select(console_users).order_by(console_users.c.name))]


def _user(row: sa.Row[tuple[object, ...]]) -> ConsoleUser:
    values = dict(row._mapping)
    return ConsoleUser(**{**values, "scopes": tuple(values["scopes"].split())})


def is_any(tx: Transaction) -> bool:
    """Return True if there is any user."""
    return tx.conn.execute(sa.select(console_users.c.name).limit(1)).first() is not None


def add(tx: Transaction, name: str, password: str, scopes: tuple[str, ...]) -> bool:
    """Store a new user with the hash of a password. Return False if there is one of that name."""
    if any(user.name == name for user in load(tx)):
        return False
    row = {
        "name": name,
        "password": password,
        "scopes": " ".join(scopes),
        "created_at": tx.now,
        "failures": 0,
        "locked_until": None,
    }
    tx.conn.execute(sa.insert(console_users).values(row))
    return True


def remove(tx: Transaction, name: str) -> bool:
    """Delete a user and all sessions. Return False if there is none of that name."""
    return tx.conn.execute(sa.delete(console_users).where(console_users.c.name == name)).rowcount == 1


# --- signing in -------------------------------------------------------------------------------------


def take_attempt(tx: Transaction, name: str, most: int, locked_for: timedelta) -> ConsoleUser | None:
    """Count an attempt to sign in, before the password is checked. Return None if it is not allowed.

    Counting first limits attempts that arrive at once like those that follow one another.
    """
    c = console_users.c
    row = tx.conn.execute(tx.lock(sa.select(console_users).where(c.name == name))).one_or_none()
    if row is None:
        return None
    user = _user(row)
    if user.locked_until is not None and user.locked_until > tx.now:
        return None
    failures = 1 if user.locked_until is not None else user.failures + 1
    locked = tx.now + locked_for if failures >= most else None
    tx.conn.execute(
        sa.update(console_users).where(c.name == name).values(failures=failures, locked_until=locked)
    )
    return user


def begin(tx: Transaction, user: ConsoleUser, digest: bytes, longest: timedelta) -> bool:
    """Sign the user in after a successful attempt. Return False if the user or the password changed since.

    Deletes sessions that are over.
    """
    c = console_users.c
    same = sa.and_(c.name == user.name, c.password == user.password)
    changed = tx.conn.execute(sa.update(console_users).where(same).values(failures=0, locked_until=None))
    if changed.rowcount != 1:
        return False
    _begin(tx, user.name, digest, longest)
    return True


def _begin(tx: Transaction, name: str, digest: bytes, longest: timedelta) -> None:
    s = console_sessions.c
    tx.conn.execute(sa.delete(console_sessions).where(s.created_at <= tx.now - longest))
    row = {"digest": digest, "name": name, "created_at": tx.now, "seen_at": tx.now}
    tx.conn.execute(sa.insert(console_sessions).values(row))


def put_link(tx: Transaction, name: str, digest: bytes, lasting: timedelta) -> bool:
    """Store a link that signs a user in once, in place of an earlier one. Return False without a user."""
    if tx.conn.execute(tx.lock(sa.select(console_users.c.name).filter_by(name=name))).first() is None:
        return False
    tx.conn.execute(sa.delete(sign_in_links).where(sign_in_links.c.name == name))
    row = {"digest": digest, "name": name, "expires_at": tx.now + lasting}
    tx.conn.execute(sa.insert(sign_in_links).values(row))
    return True


def has_link(tx: Transaction, name: str) -> bool:
    """Return True if a user has a link that was not used, expired or not."""
    return tx.conn.execute(sa.select(sign_in_links.c.name).filter_by(name=name)).first() is not None


def enter(tx: Transaction, link: bytes, digest: bytes, longest: timedelta) -> str | None:
    """Sign in the user of a link, which is used up. Return the name; None if the link is of no use."""
    c = sign_in_links.c
    taken = sa.delete(sign_in_links).where(c.digest == link, c.expires_at > tx.now).returning(c.name)
    name: str | None = tx.conn.execute(taken).scalar_one_or_none()
    if name is not None:
        _begin(tx, name, digest, longest)
    return name


def find_session(tx: Transaction, digest: bytes) -> Session | None:
    """Return the session of a browser's cookie."""
    c, s = console_users.c, console_sessions.c
    query = (
        sa.select(s.name, c.scopes, s.created_at, s.seen_at)
        .join(console_users, c.name == s.name)
        .where(s.digest == digest)
    )
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else Session(row.name, tuple(row.scopes.split()), row.created_at, row.seen_at)


def see(tx: Transaction, digest: bytes) -> None:
    """Store the time of a user's request."""
    s = console_sessions.c
    tx.conn.execute(sa.update(console_sessions).where(s.digest == digest).values(seen_at=tx.now))


def end(tx: Transaction, digest: bytes) -> None:
    """Sign out of a session."""
    tx.conn.execute(sa.delete(console_sessions).where(console_sessions.c.digest == digest))
