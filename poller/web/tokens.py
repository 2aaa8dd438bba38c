"""Tokens of the HTTP API: how they are made, what they may be called, what they allow. Pure."""

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
    """A token that nobody can guess: 256 random bits."""
    return f"osync_{secrets.token_urlsafe(32)}"


def digest(token: str) -> bytes:
    """What is kept of a token. A plain hash will do, because a token is no password that could be guessed."""
    return hashlib.sha256(token.encode()).digest()


def checked_name(name: str) -> str:
    """A name for a token. Raises Refused."""
    if not _NAME.fullmatch(name):
        raise Refused("a token's name is made of a-z, 0-9, ., _ and -, at most 64 of them, for example erp.")
    return name


def checked_scopes(wanted: Collection[str]) -> tuple[Scope, ...]:
    """The scopes that are named, in their order. Raises Refused."""
    unknown = sorted(set(wanted) - set(SCOPES))
    if unknown:
        raise Refused(f"there is no scope {unknown[0]}: there are {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in wanted)
