"""Who may do what over HTTP: tokens with scopes, and without any token this machine alone.

Everything is refused that is not allowed here, by path and method alone, before a route is looked for: a
route that is added later needs no thought to be safe. What reads buyer data masks it for those who lack that
scope (``poller/web/masking.py``).
"""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.values import is_loopback
from poller.web.problems import Problem
from poller.web.tokens import SCOPES, Scope, digest
from store.tokens import StoredToken

READY = "/readyz"

PUBLIC = frozenset({"/healthz", READY})
"""Served to everybody. Nothing of the seller's is told there, but at ``READY`` to those who may read."""

OPEN_PAGES = re.compile(r"/console/sign-in|/console/static/[\w./-]+")
"""What a browser needs to sign in, and what the pages look like."""

_READING = re.compile(
    r"/customers/search|(/console)?/customers/[0-9]+/merge/preview|(/console)?/backfills/plan"
    r"|/console/(search|duplicates|sign-out)"
)
"""What is asked for with a body, and changes nothing."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

FORWARDING = frozenset(
    {
        *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip"),
        *("cf-connecting-ip", "fastly-client-ip", "x-original-forwarded-for", "x-original-host"),
    }
)
"""Headers that proxies add."""

FAILURES = 10
WITHIN = timedelta(minutes=1)
LOCKED = timedelta(minutes=1)
REMEMBERED = 10_000
"""Addresses whose failures are counted at most."""

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as journals and logs name them."""

    who: str
    scopes: frozenset[str]

    @property
    def sees_buyers(self) -> bool:
        return "buyer-data" in self.scopes


@dataclass(frozen=True, slots=True)
class Asked:
    """What access is decided by. Names of headers are in lower case."""

    method: str
    path: str
    client: str
    headers: Sequence[Header]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def needed(asked: Asked) -> Scope | None:
    """The scope that a request needs; None for what is served to everybody."""
    if (asked.path in PUBLIC and asked.method in _SAFE) or OPEN_PAGES.fullmatch(asked.path):
        return None
    return "read" if asked.method in _SAFE or _READING.fullmatch(asked.path) else "write"


def why_not_here(asked: Asked) -> str | None:
    """Why a request without a token does not count as one from this machine; None when it does.

    A proxy on this machine forwards what strangers ask, and a page in a browser on this machine may be
    anybody's: neither is the person at the keyboard.
    """
    if not is_loopback(asked.client):
        return "without a token only this machine is served"
    for name, _ in asked.headers:
        if name in FORWARDING or name.startswith("x-forwarded-"):
            return "without a token nothing is served that a proxy forwards"
    hosts = asked.all("host")
    if len(hosts) != 1 or not is_loopback(host_of(hosts[0])):
        return "without a token the Host must be 127.0.0.1, ::1 or localhost"
    for origin in asked.all("origin"):
        if origin.partition("://")[2] != hosts[0]:
            return "without a token no page of another origin is served"
    if any(site not in ("same-origin", "none") for site in asked.all("sec-fetch-site")):
        return "without a token no page of another site is served"
    return None


def host_of(text: str) -> str:
    """The host of a Host header."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].lower()


def check_scope(asked: Asked, caller: Caller) -> None:
    """Raises Problem when the caller may not do what is asked for."""
    scope = needed(asked)
    if scope is not None and scope not in caller.scopes:
        raise Problem(403, "scope", f"{caller.who} may not {scope}.")


class Gate:
    """Lets requests in. Counts wrong tokens by address, in memory: after ten within a minute, it has to wait.

    The right one is never refused: through a proxy, everybody comes from the same address.
    """

    def __init__(self, api_token: str | None, now: Callable[[], datetime]) -> None:
        self._own = () if api_token is None else (("setting:api_token", SCOPES, digest(api_token)),)
        self._now = now
        self._lock = threading.Lock()
        self._failures: dict[str, list[datetime]] = {}

    def admit(self, asked: Asked, stored: Iterable[StoredToken], *, has_users: bool = False) -> Caller:
        """Who asks, if they may. Raises Problem. ``has_users``: somebody may sign in to the console."""
        known = [*self._own, *((f"token:{t.name}", t.scopes, t.digest) for t in stored)]
        caller = self._caller(asked, known, closed=bool(known) or has_users)
        check_scope(asked, caller)
        return caller

    def is_closed(self, stored: Iterable[StoredToken], has_users: bool) -> bool:
        """Whether nobody is served without credentials."""
        return bool(self._own) or has_users or any(True for _ in stored)

    def _caller(
        self, asked: Asked, known: Sequence[tuple[str, Sequence[str], bytes]], *, closed: bool
    ) -> Caller:
        given = asked.all("authorization")
        if not given:
            if closed:
                raise _unauthorised("a token is needed: Authorization: Bearer …")
            reason = why_not_here(asked)
            if reason is not None:
                raise Problem(403, "not-here", f"{reason}: `order-sync tokens add` makes a token.")
            return Caller("loopback", frozenset(SCOPES))
        kind, _, token = given[0].partition(" ")
        found: Caller | None = None
        if len(given) == 1 and kind.lower() == "bearer":
            mine = digest(token.strip())
            for who, scopes, theirs in known:  # all of them, however early one fits
                if hmac.compare_digest(mine, theirs):
                    found = Caller(who, frozenset(scopes))
        if found is None:
            self._refuse_locked(asked.client)
            self._count_failure(asked.client)
            raise _unauthorised("this token is not accepted.", ' error="invalid_token"')
        return found

    def _refuse_locked(self, client: str) -> None:
        now = self._now()
        with self._lock:
            failures = self._failures.get(client, [])
            if len(failures) < FAILURES or failures[-1] + LOCKED <= now:
                return
            left = failures[-1] + LOCKED - now
        raise Problem(
            429,
            "locked",
            "too many wrong tokens came from this address.",
            headers={"Retry-After": str(max(1, round(left.total_seconds())))},
        )

    def _count_failure(self, client: str) -> None:
        now = self._now()
        with self._lock:
            recent = [at for at in self._failures.pop(client, []) if at > now - WITHIN]
            self._failures[client] = [*recent, now][-FAILURES:]
            while len(self._failures) > REMEMBERED:
                del self._failures[next(iter(self._failures))]


def _unauthorised(detail: str, further: str = "") -> Problem:
    return Problem(401, "token", detail, headers={"WWW-Authenticate": f"Bearer{further}"})
