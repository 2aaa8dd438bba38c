"""Users of the console: rules for names and scopes, the end of a session. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

from poller.errors import Refused
from poller.text import plain
from poller.web.passwords import must_change
from poller.web.tokens import Scope, checked_scopes
from store.sessions import Session

MAX_IDLE = timedelta(hours=1)
MAX_SESSION = timedelta(hours=12)
"""A session ends after this time without a request, and after this time in any case."""

MAX_AWAITING = timedelta(minutes=5)
"""Time for the one-time code after the password."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


def checked_user_name(name: str) -> str:
    """Return the name of a user. Raises Refused if it is not allowed."""
    if not _NAME.fullmatch(name):
        raise Refused(
            "a user's name is made of a-z, 0-9, ., _, - and @, at most 64 characters, for example ann."
        )
    return name


def checked_user_scopes(names: Collection[str]) -> tuple[Scope, ...]:
    """Return the scopes of a user; `read` is always one of them. Raises Refused if one is unknown."""
    return checked_scopes({"read", *names})


def is_over(session: Session, now: datetime) -> bool:
    """Return True if a session has ended."""
    longest = MAX_AWAITING if session.awaits_code else MAX_SESSION
    return now >= session.created_at + longest or now >= session.seen_at + MAX_IDLE


Step = Literal["code", "password", "totp"]
"""What is missing before a signed-in user may go on: a one-time code, a new password, setting up codes."""


def missing_step(session: Session, now: datetime, *, require_totp: bool) -> Step | None:
    """Return what a session lacks; None if it is complete. Another provider has its own second factor."""
    if session.awaits_code:
        return "code"
    if session.method == "password" and must_change(session.password_at, now):
        return "password"
    if require_totp and session.method != "oidc" and not session.has_totp:
        return "totp"
    return None


# The first that is found counts: browsers name those that they want to be taken for, too.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrom", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)


def browser_of(agent: str) -> str:
    """Return ``Firefox on Linux`` for what a browser calls itself; its first word if it is no known one."""
    name = next((name for part, name in _BROWSERS if part in agent), None)
    system = next((name for part, name in _SYSTEMS if part in agent), None)
    if name is None:
        return plain(agent.partition(" ")[0])[:40]
    return name if system is None else f"{name} on {system}"
