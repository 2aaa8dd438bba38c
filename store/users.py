"""Users of the console: scopes, passwords, one-time codes and recovery codes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from store.engine import Transaction
from store.sealing import SealError
from store.tables import (
    console_passwords,
    console_recovery_codes,
    console_sessions,
    console_users,
    sign_in_links,
)


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A user as stored. ``password``: its hash; None for one who signs in without a password.

    ``totp_at``: since when the user has one-time codes. ``totp_step``: the time step of the last one.
    """

    name: str
    password: str | None = field(repr=False)
    password_at: datetime
    password_is_chosen: bool
    scopes: tuple[str, ...]
    created_at: datetime
    signed_in_at: datetime | None = None
    signed_in_from: str | None = None
    totp_at: datetime | None = None
    totp_step: int = 0

    @property
    def never_signed_in(self) -> bool:
        """True for a user who has neither signed in nor been given a password."""
        return self.signed_in_at is None and self.password is None

    @property
    def has_totp(self) -> bool:
        return self.totp_at is not None


_COLUMNS = tuple(console_users.c[name] for name in ConsoleUser.__dataclass_fields__)


def place(name: str) -> str:
    """Return the place to which the sealed secret of a user's one-time codes is bound."""
    return f"console_users:{name}:totp"


def load(tx: Transaction) -> list[ConsoleUser]:
    """Return all users by name."""
    return [_user(row) for row in tx.rows(sa.select(*_COLUMNS).order_by(console_users.c.name))]


def find(tx: Transaction, name: str) -> ConsoleUser | None:
    """Return a user, locked in a transaction that writes."""
    query = sa.select(*_COLUMNS).where(console_users.c.name == name)
    row = tx.conn.execute(tx.lock(query)).one_or_none()
    return None if row is None else _user(row)


def _user(row: sa.Row[Any]) -> ConsoleUser:
    values = dict(row._mapping)
    return ConsoleUser(**{**values, "scopes": tuple(values["scopes"].split())})


def is_any(tx: Transaction) -> bool:
    """Return True if there is any user."""
    return tx.conn.execute(sa.select(console_users.c.name).limit(1)).first() is not None


def add(tx: Transaction, name: str, password: str | None, scopes: Collection[str]) -> bool:
    """Store a new user with the hash of a password. Return False if there is one of that name."""
    if any(user.name == name for user in load(tx)):
        return False
    row = {
        "name": name,
        "password": password,
        "password_at": tx.now,
        "password_is_chosen": False,
        "scopes": " ".join(scopes),
        "created_at": tx.now,
        "totp_step": 0,
    }
    tx.conn.execute(sa.insert(console_users).values(row))
    _remember(tx, name, password)
    return True


def remove(tx: Transaction, name: str) -> bool:
    """Delete a user and all sessions. Return False if there is none of that name."""
    return tx.conn.execute(sa.delete(console_users).where(console_users.c.name == name)).rowcount == 1


def signed_in(tx: Transaction, name: str, address: str) -> None:
    """Store when and from where a user signed in."""
    _set(tx, name, signed_in_at=tx.now, signed_in_from=address)


def _set(tx: Transaction, name: str, **values: object) -> bool:
    changed = tx.conn.execute(sa.update(console_users).where(console_users.c.name == name).values(values))
    return changed.rowcount == 1


# --- passwords --------------------------------------------------------------------------------------


def last_passwords(tx: Transaction, name: str, number: int) -> list[str]:
    """Return the hashes of a user's last passwords, the present one included."""
    c = console_passwords.c
    query = sa.select(c.password).where(c.name == name).order_by(c.at.desc(), c.password).limit(number)
    return list(tx.conn.execute(query).scalars())


def set_password(
    tx: Transaction, name: str, password: str, *, before: str | None, is_chosen: bool, remembered: int
) -> bool:
    """Replace a user's password and end all access, if its hash is still the one of ``before``.

    ``is_chosen``: by the user. ``remembered``: how many hashes are kept. Return False if another process has
    changed the password meanwhile, or removed the user.
    """
    user = find(tx, name)
    if user is None or user.password != before:
        return False
    _set(tx, name, password=password, password_at=tx.now, password_is_chosen=is_chosen)
    _remember(tx, name, password)
    c = console_passwords.c
    kept = last_passwords(tx, name, remembered)
    tx.conn.execute(sa.delete(console_passwords).where(c.name == name, c.password.not_in(kept)))
    end_access(tx, name)
    return True


def end_access(tx: Transaction, name: str) -> int:
    """End all sessions of a user, and the link that signs in. Return how many sessions."""
    tx.conn.execute(sa.delete(sign_in_links).where(sign_in_links.c.name == name))
    return tx.conn.execute(sa.delete(console_sessions).where(console_sessions.c.name == name)).rowcount


def _remember(tx: Transaction, name: str, password: str | None) -> None:
    if password is not None:
        tx.conn.execute(
            sa.insert(console_passwords).values({"name": name, "password": password, "at": tx.now})
        )


# --- one-time codes ---------------------------------------------------------------------------------


def totp_secret(tx: Transaction, name: str) -> str | None:
    """Return the secret of a user's one-time codes, set up or being set up. Raises SealError."""
    query = sa.select(console_users.c.totp).where(console_users.c.name == name)
    sealed = tx.conn.execute(query).scalar_one_or_none()
    return None if sealed is None else tx.sealer.open(sealed, place(name)).decode()


def prepare_totp(tx: Transaction, name: str, secret: str) -> str | None:
    """Store a new secret while a user without one-time codes sets them up; one in preparation stays.

    Return the secret; None if the user has one-time codes by now, or is gone.
    """
    user = find(tx, name)
    if user is None or user.has_totp:
        return None
    with suppress(SealError):  # one that does not open is replaced
        known = totp_secret(tx, name)
        if known is not None:
            return known
    _set(tx, name, totp=tx.sealer.seal(secret.encode(), place(name)), totp_step=0)
    return secret


def confirm_totp(tx: Transaction, name: str, step: int, recovery_codes: Sequence[bytes]) -> bool:
    """Require one-time codes from now on, after the first one was right. Return False if they were already.

    ``recovery_codes``: hashes, which replace those that were there.
    """
    c = console_users.c
    prepared = sa.and_(c.name == name, c.totp.is_not(None), c.totp_at.is_(None))
    changed = tx.conn.execute(sa.update(console_users).where(prepared).values(totp_at=tx.now, totp_step=step))
    if changed.rowcount != 1:
        return False
    _forget_recovery_codes(tx, name)
    rows = [{"name": name, "digest": digest} for digest in recovery_codes]
    tx.conn.execute(sa.insert(console_recovery_codes), rows)
    return True


def use_totp_step(tx: Transaction, name: str, step: int) -> bool:
    """Take a time step, so that its code is accepted once. Return False if it or a later one was taken."""
    c = console_users.c
    changed = tx.conn.execute(
        sa.update(console_users).where(c.name == name, c.totp_step < step).values(totp_step=step)
    )
    return changed.rowcount == 1


def use_recovery_code(tx: Transaction, name: str, digest: bytes) -> bool:
    """Use up a recovery code. Return False if it is none of the user's."""
    c = console_recovery_codes.c
    found = tx.conn.execute(sa.delete(console_recovery_codes).where(c.name == name, c.digest == digest))
    return found.rowcount == 1


def recovery_codes_left(tx: Transaction, name: str) -> int:
    """Return how many recovery codes a user has left."""
    c = console_recovery_codes.c
    query = sa.select(sa.func.count()).select_from(console_recovery_codes).where(c.name == name)
    return int(tx.conn.execute(query).scalar_one())


def reset_totp(tx: Transaction, name: str) -> bool:
    """Delete a user's one-time codes and end all sessions. Return False if there is no such user."""
    _forget_recovery_codes(tx, name)
    end_access(tx, name)
    return _set(tx, name, totp=None, totp_at=None, totp_step=0)


def _forget_recovery_codes(tx: Transaction, name: str) -> None:
    tx.conn.execute(sa.delete(console_recovery_codes).where(console_recovery_codes.c.name == name))


# --- links ------------------------------------------------------------------------------------------


def put_link(tx: Transaction, name: str, digest: bytes, lasting: timedelta) -> bool:
    """Store a link that signs a user in once, in place of an earlier one. Return False without a user."""
    if find(tx, name) is None:
        return False
    tx.conn.execute(sa.delete(sign_in_links).where(sign_in_links.c.name == name))
    row = {"digest": digest, "name": name, "expires_at": tx.now + lasting}
    tx.conn.execute(sa.insert(sign_in_links).values(row))
    return True


def has_link(tx: Transaction, name: str) -> bool:
    """Return True if a user has a link that was not used, expired or not."""
    return tx.conn.execute(sa.select(sign_in_links.c.name).filter_by(name=name)).first() is not None


def take_link(tx: Transaction, digest: bytes) -> str | None:
    """Use up a link. Return the name of its user; None if the link is of no use."""
    c = sign_in_links.c
    taken = sa.delete(sign_in_links).where(c.digest == digest, c.expires_at > tx.now).returning(c.name)
    return tx.conn.execute(taken).scalar_one_or_none()
