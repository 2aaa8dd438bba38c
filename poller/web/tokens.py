"""Tokens of the HTTP API: generation, digests, names and scopes. Pure."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Literal, get_args

from poller.errors import Refused

Scope = Literal["read", "write", "buyer-data"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

VALID_DAYS = 90
"""How long a token is accepted, unless its maker says otherwise."""

MOST_DAYS = 3650

NOTED_EVERY = timedelta(hours=1)
"""A use is noted at most once in this time."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def new_token() -> str:
    """Return a new token with 256 random bits."""
    return f"osync_{secrets.token_urlsafe(32)}"


def digest(token: str) -> bytes:
    """Return what the database keeps of a token. It is random, so unlike for a password SHA-256 will do."""
    return hashlib.sha256(token.encode()).digest()


def checked_name(name: str) -> str:
    """Return the name of a token. Raises Refused if it is not allowed."""
    if not _NAME.fullmatch(name):
        raise Refused(
            "a token's name is made of a-z, 0-9, ., _ and -, at most 64 characters, for example erp."
        )
    return name


def checked_expiry(text: str) -> timedelta | None:
    """Return how long a token is accepted: a number of days, None for `never`. Raises Refused."""
    if text == "never":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MOST_DAYS):
        raise Refused(f"--expires takes a number of days from 1 to {MOST_DAYS}, or never.")
    return timedelta(days=int(text))


def checked_scopes(names: Collection[str]) -> tuple[Scope, ...]:
    """Return the named scopes in their fixed order. Raises Refused if one is unknown."""
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise Refused(f"there is no scope {unknown[0]}: there are {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in names)
