"""Review who has access, and what about it is overdue: for a person, every quarter. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from poller.web.passwords import MAX_AGE
from poller.web.tokens import SCOPES
from store.tokens import StoredToken
from store.users import ConsoleUser

UNUSED_FOR = timedelta(days=90)
"""Access that was not used for this long is reported."""

USED_WITHIN = timedelta(days=7)
"""New access that was not used at all within this time is reported."""


@dataclass(frozen=True, slots=True)
class ReviewedUser:
    """A user with the number of sessions, and what is overdue, in words."""

    user: ConsoleUser
    sessions: int
    overdue: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReviewedToken:
    """A token; ``stored`` is None for that of the settings, whose uses are not noted."""

    name: str
    scopes: tuple[str, ...]
    stored: StoredToken | None
    overdue: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """Everyone and everything that has access."""

    users: tuple[ReviewedUser, ...]
    tokens: tuple[ReviewedToken, ...]

    @property
    def overdue(self) -> int:
        """Return how many findings there are."""
        return sum(len(u.overdue) for u in self.users) + sum(len(t.overdue) for t in self.tokens)


def review(
    users: Iterable[tuple[ConsoleUser, int]],
    tokens: Iterable[StoredToken],
    *,
    has_setting: bool,
    now: datetime,
) -> Review:
    """Review users, each with the number of sessions, and tokens.

    ``has_setting``: ORDER_SYNC_API_TOKEN is set.
    """
    of_tokens = [
        ReviewedToken(token.name, token.scopes, token, tuple(_of_token(token, now))) for token in tokens
    ]
    if has_setting:
        never = "ORDER_SYNC_API_TOKEN has all scopes and no expiry"
        of_tokens.append(ReviewedToken("setting:api_token", SCOPES, None, (never,)))
    return Review(
        tuple(ReviewedUser(user, sessions, tuple(_of_user(user, now))) for user, sessions in users),
        tuple(of_tokens),
    )


def _of_user(user: ConsoleUser, now: datetime) -> Iterator[str]:
    if user.password is not None:
        if now - user.password_at >= MAX_AGE:
            yield f"the password is {(now - user.password_at).days} days old"
        if not user.has_totp:
            yield "no one-time codes"
    yield from _of_use(user.created_at, user.signed_in_at, now, "signed in")


def _of_token(token: StoredToken, now: datetime) -> Iterator[str]:
    if token.expires_at is None:
        yield "no expiry"
    elif token.is_expired(now):
        yield f"expired on {token.expires_at:%Y-%m-%d}"
    yield from _of_use(token.created_at, token.used_at, now, "used")


def _of_use(created_at: datetime, used_at: datetime | None, now: datetime, verb: str) -> Iterator[str]:
    if used_at is None:
        if now - created_at >= USED_WITHIN:
            yield f"never {verb}"
    elif now - used_at >= UNUSED_FOR:
        yield f"not {verb} for {(now - used_at).days} days"
