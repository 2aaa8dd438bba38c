"""Who is at a browser: sessions in cookies, and proof that a form is one of ours.

What may be asked for is decided where it is for the API (``poller/web/access.py``). Here a page that may
not be seen leads to signing in; everything else is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import MutableMapping
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from config.values import is_loopback
from poller.web.access import Asked, Caller, check_scope, host_of, why_not_here
from poller.web.problems import Problem
from poller.web.tokens import SCOPES, digest
from poller.web.users import is_over
from store import users
from store.engine import Store

PREFIX = "/console"
HOME = f"{PREFIX}/"
SIGN_IN = f"{PREFIX}/sign-in"
SESSION = "order_sync_session"
FORM = "order_sync_form"
"""Cookies: who is signed in; and for who is not, what ties a form to the browser that it was shown to."""

NOTED = timedelta(minutes=1)
"""A session is written that its user is still there at most so often."""

_OURS = re.compile(rf"{PREFIX}(/[\w/:.?=&%-]*)?")


def is_page(path: str) -> bool:
    """Whether a path belongs to the console, or leads there."""
    return path in ("/", PREFIX) or path.startswith(f"{PREFIX}/")


def is_automatic(path: str) -> bool:
    """Whether a page asks for this by itself: it does not keep anybody signed in."""
    return path.endswith("/live")


class SignInFirst(Problem):
    """Nobody is signed in: a browser is led to where that can be done."""

    def __init__(self, path: str) -> None:
        super().__init__(401, "sign-in", "sign in first.")
        self.path = path

    def response(self) -> Response:
        target = SIGN_IN if self.path in ("/", PREFIX, HOME) else f"{SIGN_IN}?next={quote(self.path)}"
        return RedirectResponse(target, 303)


def admit(store: Store, asked: Asked, closed: bool) -> Caller:
    """Who asks for a page, if they may. Raises Problem. ``closed``: nobody is served without credentials."""
    caller = _signed_in(store, asked)
    if caller is None and closed:
        if asked.method in ("GET", "HEAD") and not is_automatic(asked.path):
            raise SignInFirst(asked.path)
        raise Problem(401, "sign-in", "sign in first.")
    if caller is None:
        reason = why_not_here(asked)
        if reason is not None:
            raise Problem(
                403,
                "not-here",
                f"{reason.replace('a token', 'a user')}: `order-sync users add` makes one.",
            )
        caller = Caller("loopback", frozenset(SCOPES))
    check_scope(asked, caller)
    return caller


def _signed_in(store: Store, asked: Asked) -> Caller | None:
    token = _cookies(asked).get(SESSION)
    if not token:
        return None
    mine = digest(token)
    with store.read() as tx:
        session, now = users.find_session(tx, mine), tx.now
    if session is None or is_over(session.created_at, session.seen_at, now):
        return None
    if now - session.seen_at > NOTED and not is_automatic(asked.path):
        store.commit(lambda tx: users.see(tx, mine))
    return Caller(f"user:{session.name}", frozenset(session.scopes))


def _cookies(asked: Asked) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in asked.all("cookie"):
        try:
            found.update({name: morsel.value for name, morsel in SimpleCookie(header).items()})
        except CookieError:
            continue
    return found


def told(scope: MutableMapping[str, Any], problem: Problem) -> Response:
    """A problem as a page where pages are asked for, and as the API has it elsewhere."""
    if isinstance(problem, SignInFirst) or not is_page(scope["path"]):
        return problem.response()
    from poller.web.console.rendering import problem_page

    return problem_page(Request(scope), problem.status, problem.detail, problem.headers)


# --- cookies ----------------------------------------------------------------------------------------


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
    """A cookie that scripts cannot read, and that leaves this machine on encrypted ways only."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=PREFIX,
        secure=not _is_here(request),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(request: Request, response: Response, name: str) -> None:
    """Make a browser forget a cookie."""
    response.delete_cookie(name, path=PREFIX, secure=not _is_here(request), httponly=True, samesite="lax")


def _is_here(request: Request) -> bool:
    return is_loopback(host_of(request.headers.get("host", "")))


def safe_target(wanted: str) -> str:
    """Where to go after signing in: a page of the console, whatever was asked for."""
    return wanted if _OURS.fullmatch(wanted) else HOME


# --- forms ------------------------------------------------------------------------------------------


class Fields:
    """What a form was filled in with."""

    def __init__(self, body: bytes) -> None:
        try:
            text = body.decode()
            self._found = parse_qs(text, keep_blank_values=True, max_num_fields=200, errors="strict")
        except ValueError:
            raise Problem(422, "invalid", "this form cannot be read.") from None

    def one(self, name: str) -> str:
        """The only value of a field; empty when it is missing."""
        values = self._found.get(name, [""])
        if len(values) > 1 or "\0" in values[0]:
            raise Problem(422, "invalid", f"the field {name} cannot be read.")
        return values[0].strip()

    def secret(self, name: str) -> str:
        """A value as it was typed, spaces too."""
        return self._found.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """All values of a field that may be there several times."""
        return [value.strip() for value in self._found.get(name, []) if "\0" not in value]


def fields_of(request: Request) -> Fields:
    """The fields of the form that was sent."""
    return Fields(request.state.body)


def proof(seed: str) -> str:
    """What a form must carry; ``seed`` is what only the browser that it is shown to keeps."""
    return hashlib.sha256(f"form\0{seed}".encode()).hexdigest()[:40]


def seed_of(request: Request) -> str | None:
    """What ties a form to this browser: its session, or the cookie of who has none."""
    return request.cookies.get(SESSION) or request.cookies.get(FORM)


def check_form(request: Request) -> None:
    """Raises Problem when what changes something was not sent by a form of ours in this browser."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "form", "only a form of the console is taken here.")
    seed = seed_of(request)
    if seed is None:
        raise Problem(
            403,
            "form",
            "your browser sent no cookie back. Away from this machine, signing in needs https.",
        )
    if not hmac.compare_digest(proof(seed), fields_of(request).one("form")):
        raise Problem(403, "form", "this form is too old: go back, reload the page, and send it again.")
