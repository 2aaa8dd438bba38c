"""Sessions of the console: who is signed in, and what becomes of a request that may not see a page.

Which scope a request needs is decided in ``poller/web/access.py``, as for the API. A browser without a
session is redirected to the sign-in page; any other request is refused.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from poller.web.access import Caller, RequestInfo, check_scope, why_not_local
from poller.web.console.forms import PREFIX, SESSION_COOKIE
from poller.web.console.rendering import problem_page
from poller.web.problems import Problem
from poller.web.tokens import SCOPES, digest
from poller.web.users import is_over
from store import users
from store.engine import Store

HOME = f"{PREFIX}/"
SIGN_IN = f"{PREFIX}/sign-in"

SEEN_EVERY = timedelta(minutes=1)
"""Shortest time between two updates of a session's last use."""

_OWN_PAGE = re.compile(rf"{PREFIX}(/[\w/:.?=&%-]*)?")


def is_page(path: str) -> bool:
    """Return True if a path belongs to the console or redirects to it."""
    return path in ("/", PREFIX) or path.startswith(f"{PREFIX}/")


def is_automatic(path: str) -> bool:
    """Return True if pages request this path by themselves: it keeps no session alive."""
    return path.endswith("/live")


class SignInFirst(Problem):
    """The request has no session: a browser is redirected to the sign-in page."""

    def __init__(self, path: str) -> None:
        super().__init__(401, "sign-in", "sign in first.")
        self.path = path

    def response(self) -> Response:
        target = SIGN_IN if self.path in ("/", PREFIX, HOME) else f"{SIGN_IN}?next={quote(self.path)}"
        return RedirectResponse(target, 303)


def authenticate(store: Store, request: RequestInfo, closed: bool) -> Caller:
    """Return the caller of a page, or raise Problem. ``closed``: credentials are required."""
    caller = _signed_in(store, request)
    if caller is None and closed:
        if request.method in ("GET", "HEAD") and not is_automatic(request.path):
            raise SignInFirst(request.path)
        raise Problem(401, "sign-in", "sign in first.")
    if caller is None:
        reason = why_not_local(request)
        if reason is not None:
            raise Problem(
                403,
                "not-here",
                f"{reason.replace('a token', 'a signed-in user')}: create one with `order-sync users add`.",
            )
        caller = Caller("loopback", frozenset(SCOPES))
    check_scope(request, caller)
    return caller


def _signed_in(store: Store, request: RequestInfo) -> Caller | None:
    token = _cookies(request).get(SESSION_COOKIE)
    if not token:
        return None
    session_digest = digest(token)
    with store.read() as tx:
        session, now = users.find_session(tx, session_digest), tx.now
    if session is None or is_over(session.created_at, session.seen_at, now):
        return None
    if now - session.seen_at > SEEN_EVERY and not is_automatic(request.path):
        store.commit(lambda tx: users.see(tx, session_digest))
    return Caller(f"user:{session.name}", frozenset(session.scopes))


def _cookies(request: RequestInfo) -> dict[str, str]:
    cookies: dict[str, str] = {}
    for header in request.header_values("cookie"):
        try:
            cookies.update({name: morsel.value for name, morsel in SimpleCookie(header).items()})
        except CookieError:
            continue
    return cookies


def problem_response(scope: MutableMapping[str, Any], problem: Problem) -> Response:
    """Return a problem as a page if a page was requested, else as problem details."""
    if isinstance(problem, SignInFirst) or not is_page(scope["path"]):
        return problem.response()
    return problem_page(Request(scope), problem.status, problem.detail, problem.headers)


def safe_target(target: str) -> str:
    """Return the page to show after signing in; the overview if ``target`` is no page of the console."""
    return target if _OWN_PAGE.fullmatch(target) else HOME
