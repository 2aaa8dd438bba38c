"""Sessions of the console: who is signed in, and what becomes of a request that may not see a page.

Which scope a request needs is decided in ``poller/web/access.py``, as for the API. A browser without a
session is redirected to the sign-in page; any other request is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from poller.web.access import Caller, check_scope
from poller.web.console.forms import PREFIX, session_cookie
from poller.web.console.rendering import LIVE, problem_page
from poller.web.problems import Problem
from poller.web.requests import Front, RequestInfo, cookie, cookie_values
from poller.web.tokens import digest
from poller.web.users import Step, is_over, missing_step
from store import sessions
from store.engine import Store
from store.sessions import Session

HOME = f"{PREFIX}/"
SIGN_IN = f"{PREFIX}/sign-in"
SIGN_OUT = f"{PREFIX}/sign-out"
ACCOUNT = f"{PREFIX}/account"

STEPS: Mapping[Step, str] = {
    "code": f"{SIGN_IN}/code",
    "password": f"{ACCOUNT}/password",
    "totp": f"{ACCOUNT}/totp",
}
"""The page of each step that may be missing."""

SEEN_EVERY = timedelta(minutes=1)
"""Shortest time between two updates of a session's last use."""

_OWN_PAGE = re.compile(rf"{PREFIX}(/[\w/:.?=&%-]*)?")


def is_page(path: str) -> bool:
    """Return True if a path belongs to the console or redirects to it."""
    return path in ("/", PREFIX) or path.startswith(f"{PREFIX}/")


def is_automatic(request: RequestInfo) -> bool:
    """Return True if an open page sent the request by itself: it keeps no session alive."""
    return request.header_values(LIVE) != []


class SignInFirst(Problem):
    """The request has no session: a browser is redirected to the sign-in page."""

    def __init__(self, path: str) -> None:
        super().__init__(401, "sign-in", "sign in first.")
        self.path = path

    def response(self) -> Response:
        target = SIGN_IN if self.path in ("/", PREFIX, HOME) else f"{SIGN_IN}?next={quote(self.path)}"
        return RedirectResponse(target, 303)


class StepFirst(Problem):
    """A step is missing before any other page: a browser is redirected to it."""

    def __init__(self, page: str) -> None:
        super().__init__(403, "step", f"a step of signing in is missing: open {page}.")
        self.page = page

    def response(self) -> Response:
        return RedirectResponse(self.page, 303)


@dataclass(frozen=True, slots=True)
class SignedIn(Caller):
    """A signed-in user. ``missing``: the step that is left before any page but its own."""

    session: Session
    missing: Step | None


def authenticate(store: Store, request: RequestInfo, front: Front, require_totp: bool) -> SignedIn:
    """Return the caller of a page, or raise Problem."""
    name = session_cookie(request, front)
    if len(cookie_values(request, name)) > 1:
        raise Problem(
            400,
            "cookies",
            f"your browser sent the cookie {name} twice, so another page of this host has set one: delete "
            "this site's cookies and sign in again.",
        )
    caller = _signed_in(store, request, cookie(request, name), require_totp)
    if caller is None:
        if request.method in ("GET", "HEAD") and not is_automatic(request):
            raise SignInFirst(request.path)
        raise Problem(401, "sign-in", "sign in first.")
    if caller.missing is not None and request.path not in (STEPS[caller.missing], SIGN_OUT):
        step = StepFirst(STEPS[caller.missing])
        if request.method in ("GET", "HEAD") and not is_automatic(request):
            raise step
        raise Problem(step.status, step.kind, step.detail)
    check_scope(request, caller)
    return caller


def _signed_in(store: Store, request: RequestInfo, token: str | None, require_totp: bool) -> SignedIn | None:
    if token is None:
        return None
    session_digest = digest(token)
    with store.read() as tx:
        session, now = sessions.find(tx, session_digest), tx.now
    if session is None or is_over(session, now):
        return None
    if now - session.seen_at > SEEN_EVERY and not is_automatic(request):
        store.commit(lambda tx: sessions.see(tx, session_digest))
    return SignedIn(
        f"user:{session.name}",
        frozenset(session.scopes),
        session,
        missing_step(session, now, require_totp=require_totp),
    )


def problem_response(scope: MutableMapping[str, Any], problem: Problem) -> Response:
    """Return a problem as a page if a page was requested, else as problem details."""
    if isinstance(problem, SignInFirst | StepFirst) or not is_page(scope["path"]):
        return problem.response()
    return problem_page(Request(scope), problem.status, problem.detail, problem.headers)


def safe_target(target: str) -> str:
    """Return the page to show after signing in; the overview if ``target`` is no page of the console."""
    return target if _OWN_PAGE.fullmatch(target) else HOME
