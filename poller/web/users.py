"""Users of the console: rules for names and scopes, the end of a session. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta

from poller.errors import Refused
from poller.web.tokens import Scope, checked_scopes

MAX_FAILURES = 10
LOCK_TIME = timedelta(minutes=15)
"""This many failures in a row lock a user for this long."""

MAX_IDLE = timedelta(hours=1)
MAX_SESSION = timedelta(hours=12)
"""A session ends after this time without a request, and after this time in any case."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


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


def is_over(created_at: datetime, seen_at: datetime, now: datetime) -> bool:
    """Return True if a session has ended."""
    return now >= created_at + MAX_SESSION or now >= seen_at + MAX_IDLE
