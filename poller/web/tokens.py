"""Tokens of the HTTP API: generation, digests, names and scopes. Pure."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from typing import Literal, get_args

from poller.errors import Refused

Scope = Literal["read", "write", "buyer-data"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

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


def checked_scopes(names: Collection[str]) -> tuple[Scope, ...]:
    """Return the named scopes in their fixed order. Raises Refused if one is unknown."""
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise Refused(f"there is no scope {unknown[0]}: there are {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in names)
