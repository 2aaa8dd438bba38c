"""Rules for passwords, their hashes, and their age. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta

import argon2

from poller.errors import Refused
from poller.web.weak_passwords import is_common

MIN_PASSWORD, MAX_PASSWORD = 12, 256
"""Characters of a password."""

REMEMBERED = 10
"""A user's last passwords, which cannot be chosen again."""

MAX_AGE = timedelta(days=365)
"""After this time a user must choose another password."""

MIN_AGE = timedelta(days=1)
"""How long users keep a password that they have chosen: else ten changes in a row bring an old one back."""

WARNED_BEFORE = timedelta(days=14)

_SHORTEST_NAME = 3
"""Shorter names are part of too many words to be looked for."""

_hasher = argon2.PasswordHasher()


def check_password(name: str, password: str) -> None:
    """Raise Refused, without quoting it, if a password is too weak for this user."""
    plain = _normalised(password)
    if len(plain) < MIN_PASSWORD:
        raise Refused(f"a password has at least {MIN_PASSWORD} characters.")
    if len(plain) > MAX_PASSWORD:
        raise Refused(f"a password has at most {MAX_PASSWORD} characters.")
    if any(part in plain.lower() for part in name.split("@") if len(part) >= _SHORTEST_NAME):
        raise Refused("this password is easy to guess: it contains the user's name.")
    if is_common(plain):
        raise Refused(
            "this password is easy to guess: it is made of common words, rows of keys, repeats or years; "
            "take four words that have nothing to do with each other, or a random one."
        )


def check_unused(password: str, kept: Iterable[str]) -> None:
    """Raise Refused if a password is one of the user's last ones, whose hashes these are. Slow by design."""
    if any(password_matches(one, password) for one in kept):
        raise Refused(f"this password is one of the user's last {REMEMBERED}: choose another one.")


def check_age(changed_at: datetime, now: datetime) -> None:
    """Raise Refused if the user has chosen the present password too lately to choose another one."""
    if now - changed_at < MIN_AGE:
        raise Refused(
            "a password that you have chosen can be changed a day later; if it has become known, "
            "`order-sync users passwd` changes it at once."
        )


def must_change(changed_at: datetime | None, now: datetime) -> bool:
    """Return True if a password is older than allowed."""
    return changed_at is not None and now - changed_at >= MAX_AGE


def days_left(changed_at: datetime | None, now: datetime) -> int | None:
    """Return the days until a password must be changed, from two weeks before; None if there are more."""
    if changed_at is None or now - changed_at < MAX_AGE - WARNED_BEFORE:
        return None
    return max(0, (changed_at + MAX_AGE - now).days)


def hashed(password: str) -> str:
    """Return what the database keeps of a password (argon2id)."""
    return _hasher.hash(_normalised(password))


def password_matches(kept: str | None, password: str) -> bool:
    """Return True if a password matches its hash. Takes as long without a hash, and if it is too long."""
    try:
        _hasher.verify(kept or _HASH_OF_NONE, _normalised(password[:MAX_PASSWORD]))
    except argon2.exceptions.VerificationError:
        return False
    return kept is not None and len(password) <= MAX_PASSWORD


def _normalised(password: str) -> str:
    """Return one form for characters that keyboards send in several."""
    return unicodedata.normalize("NFKC", password)


_HASH_OF_NONE = _hasher.hash("no user has this password")
