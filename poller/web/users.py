"""Users of the console: rules for names and passwords, password hashes, the end of a session."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from datetime import datetime, timedelta

import argon2

from poller.errors import Refused
from poller.web.tokens import Scope, checked_scopes

MIN_PASSWORD, MAX_PASSWORD = 12, 256
"""Characters of a password."""

MAX_FAILURES = 10
LOCK_TIME = timedelta(minutes=15)
"""This many failures in a row lock a user for this long."""

MAX_IDLE = timedelta(hours=1)
MAX_SESSION = timedelta(hours=12)
"""A session ends after this time without a request, and after this time in any case."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_hasher = argon2.PasswordHasher()


def checked_user_name(name: str) -> str:
    """Return the name of a user. Raises Refused if it is not allowed."""
    if not _NAME.fullmatch(name):
        raise Refused(
            "a user's name is made of a-z, 0-9, ., _ and -, at most 64 characters, for example ann."
        )
    return name


def checked_user_scopes(names: Collection[str]) -> tuple[Scope, ...]:
    """Return the scopes of a user; `read` is always one of them. Raises Refused if one is unknown."""
    return checked_scopes({"read", *names})


def checked_password(name: str, password: str) -> str:
    """Return the password for a new user. Raises Refused, without quoting it, if it is too weak."""
    plain = _normalised(password)
    if len(plain) < MIN_PASSWORD:
        raise Refused(f"a password has at least {MIN_PASSWORD} characters.")
    if len(plain) > MAX_PASSWORD:
        raise Refused(f"a password has at most {MAX_PASSWORD} characters.")
    if name in plain.lower() or len(set(plain)) < 5:
        raise Refused(
            "this password is easy to guess: it contains the user's name or too few different characters."
        )
    return password


def hashed(password: str) -> str:
    """Return what the database keeps of a password (argon2id)."""
    return _hasher.hash(_normalised(password))


def password_matches(kept: str | None, password: str) -> bool:
    """Return True if a password matches its hash. Takes as long if there is no hash."""
    if len(password) > MAX_PASSWORD:
        return False
    try:
        _hasher.verify(kept or _HASH_OF_NONE, _normalised(password))
    except argon2.exceptions.VerificationError:
        return False
    return kept is not None


def _normalised(password: str) -> str:
    """Return one form for characters that keyboards send in several."""
    return unicodedata.normalize("NFKC", password)


_HASH_OF_NONE = _hasher.hash("no user has this password")


def is_over(created_at: datetime, seen_at: datetime, now: datetime) -> bool:
    """Return True if a session has ended."""
    return now >= created_at + MAX_SESSION or now >= seen_at + MAX_IDLE
