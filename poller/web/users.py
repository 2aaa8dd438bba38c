"""Users of the console: what they may be called, what a password must be, when a session is over."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from datetime import datetime, timedelta

import argon2

from poller.errors import Refused
from poller.web.tokens import Scope, checked_scopes

LEAST, MOST = 12, 256
"""Characters of a password."""

FAILURES = 10
LOCKED = timedelta(minutes=15)
"""So many failures in a row lock a user for so long."""

IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=12)
"""A session is over when nobody asked for anything for so long, and in any case after so long."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_hasher = argon2.PasswordHasher()


def checked_user_name(name: str) -> str:
    """A name for a user. Raises Refused."""
    if not _NAME.fullmatch(name):
        raise Refused("a user's name is made of a-z, 0-9, ., _ and -, at most 64 of them, for example ann.")
    return name


def checked_user_scopes(wanted: Collection[str]) -> tuple[Scope, ...]:
    """What a user may do; who may do anything may look. Raises Refused."""
    return checked_scopes({"read", *wanted})


def checked_password(name: str, password: str) -> str:
    """A password for a new user. Raises Refused, without the password."""
    plain = _plain(password)
    if len(plain) < LEAST:
        raise Refused(f"a password has at least {LEAST} characters.")
    if len(plain) > MOST:
        raise Refused(f"a password has at most {MOST} characters.")
    if name in plain.lower() or len(set(plain)) < 5:
        raise Refused("this password is easy to guess: it holds the user's name, or hardly any characters.")
    return password


def hashed(password: str) -> str:
    """What is kept of a password (argon2id)."""
    return _hasher.hash(_plain(password))


def fits(kept: str | None, password: str) -> bool:
    """Whether a password is the one that was kept; as slow when there is none."""
    if len(password) > MOST:
        return False
    try:
        _hasher.verify(kept or _NOBODYS, _plain(password))
    except argon2.exceptions.VerificationError:
        return False
    return kept is not None


def _plain(password: str) -> str:
    """One form for what keyboards write in several."""
    return unicodedata.normalize("NFKC", password)


_NOBODYS = _hasher.hash("nobody has this password")


def is_over(created_at: datetime, seen_at: datetime, now: datetime) -> bool:
    """Whether a session has ended."""
    return now >= created_at + LONGEST or now >= seen_at + IDLE
