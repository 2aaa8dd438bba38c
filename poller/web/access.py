"""Access over HTTP: which scope a request needs, and whose token it carries.

Every request is refused unless this file allows its path and method, before routing: a new route is closed
by default. Answers without the scope buyer-data are masked (``poller/web/masking.py``).
"""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from poller.web.problems import LacksScope, Problem
from poller.web.requests import SAFE_METHODS, RequestInfo
from poller.web.tokens import SCOPES, Scope, digest
from store.tokens import StoredToken

READY = "/readyz"

PUBLIC = frozenset({"/healthz", READY})
"""Need no token. They reveal nothing of the seller's; ``READY`` gives its reasons to readers only."""

OPEN_PAGES = re.compile(
    r"/console/sign-in|/console/sign-in/oidc(/callback)?|/console/enter|/console/static/[\w./-]+"
)
"""What a browser needs to sign in, and style sheets, scripts and icons."""

USED_UP_BY_GET = frozenset({"/console/sign-in/oidc/callback"})
"""What works once and begins a session. HEAD, which previews of links send, is refused there."""

_READ_BY_POST = re.compile(
    r"/customers/search|(/console)?/customers/[0-9]+/merge/preview|(/console)?/backfills/plan"
    r"|/console/(search(/suggestions)?|duplicates|sign-out)"
)
"""Requests with a body that change nothing."""

_OF_ONESELF = re.compile(r"/console/(sign-in/code|account(/[a-z-]+)*)")
"""What all users may change: their own password, one-time codes and sessions."""

MAX_FAILURES = 10
FAILURE_WINDOW = timedelta(minutes=1)
LOCK_TIME = timedelta(minutes=1)
MAX_ADDRESSES = 10_000
"""Most addresses whose failures are counted."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as journals and logs name them, and what they may do."""

    who: str
    scopes: frozenset[str]

    @property
    def sees_buyers(self) -> bool:
        return "buyer-data" in self.scopes


def required_scope(request: RequestInfo) -> Scope | None:
    """Return the scope that a request needs; None if it needs no credentials."""
    if (request.path in PUBLIC and request.method in SAFE_METHODS) or OPEN_PAGES.fullmatch(request.path):
        return None
    if request.method in SAFE_METHODS:
        return "read"
    is_reading = _READ_BY_POST.fullmatch(request.path) or _OF_ONESELF.fullmatch(request.path)
    return "read" if is_reading else "write"


def check_scope(request: RequestInfo, caller: Caller) -> None:
    """Raise Problem if the caller lacks the scope that the request needs."""
    scope = required_scope(request)
    if scope is not None and scope not in caller.scopes:
        raise LacksScope(caller.who, scope)


class Authenticator:
    """Finds the caller of a request. Ten wrong tokens within a minute lock an address; counted in memory.

    The right token is never refused: behind a proxy all callers have the same address.
    """

    def __init__(self, api_token: str | None, now: Callable[[], datetime]) -> None:
        self._setting = () if api_token is None else (("setting:api_token", SCOPES, digest(api_token)),)
        self._now = now
        self._lock = threading.Lock()
        self._failures: dict[str, list[datetime]] = {}

    def authenticate(self, request: RequestInfo, stored: Sequence[StoredToken]) -> Caller:
        """Return the caller of a request, or raise Problem."""
        known = [*self._setting, *((f"token:{t.name}", t.scopes, t.digest) for t in stored)]
        expiries = {f"token:{t.name}": t.expires_at for t in stored if t.is_expired(self._now())}
        headers = request.header_values("authorization")
        if not headers:
            raise _unauthorised("this request needs a token: Authorization: Bearer …")
        kind, _, token = headers[0].partition(" ")
        caller: Caller | None = None
        if len(headers) == 1 and kind.lower() == "bearer":
            sent_digest = digest(token.strip())
            for who, scopes, known_digest in known:  # compare all, so that timing reveals nothing
                if hmac.compare_digest(sent_digest, known_digest):
                    caller = Caller(who, frozenset(scopes))
        if caller is None:
            self._refuse_locked(request.client)
            self._count_failure(request.client)
            raise _unauthorised("this token is not valid.", ' error="invalid_token"')
        if (expired_at := expiries.get(caller.who)) is not None:
            raise _unauthorised(
                f"this token expired on {expired_at:%Y-%m-%d}: `order-sync tokens add` makes another one.",
                ' error="invalid_token"',
            )
        check_scope(request, caller)
        return caller

    def _refuse_locked(self, client: str) -> None:
        now = self._now()
        with self._lock:
            failures = self._failures.get(client, [])
            if len(failures) < MAX_FAILURES or failures[-1] + LOCK_TIME <= now:
                return
            wait = failures[-1] + LOCK_TIME - now
        raise Problem(
            429,
            "locked",
            "too many wrong tokens from this address.",
            headers={"Retry-After": str(max(1, round(wait.total_seconds())))},
        )

    def _count_failure(self, client: str) -> None:
        now = self._now()
        with self._lock:
            recent = [at for at in self._failures.pop(client, []) if at > now - FAILURE_WINDOW]
            self._failures[client] = [*recent, now][-MAX_FAILURES:]
            while len(self._failures) > MAX_ADDRESSES:
                del self._failures[next(iter(self._failures))]


def _unauthorised(detail: str, challenge: str = "") -> Problem:
    return Problem(401, "token", detail, headers={"WWW-Authenticate": f"Bearer{challenge}"})
