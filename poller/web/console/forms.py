"""Forms and cookies of the console: reading what was sent, and checking that a page of ours sent it."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from fastapi import Request, Response

from poller.web.problems import Problem, starting
from poller.web.requests import SAFE_METHODS, Front, RequestInfo, cookie, is_secure

PREFIX = "/console"
SESSION = "order_sync_session"
FORM = "order_sync_form"
"""Seed of the CSRF tokens in a browser without a session."""

OURS_ALONE = "__Host-"
"""Browsers let only this host, over TLS, set a cookie whose name begins so: no sibling domain can."""


# --- cookies ----------------------------------------------------------------------------------------


def session_cookie(request: RequestInfo, front: Front) -> str:
    """Return the name of the session's cookie."""
    return _full_name(SESSION, is_secure(request, front))


def session_of(request: Request) -> str | None:
    """Return the session's token that the browser sent."""
    return _sent(request, SESSION)


def form_seed_of(request: Request) -> str | None:
    """Return what ties forms to a browser without a session, if it has it already."""
    return _sent(request, FORM)


def begin_session(request: Request, response: Response, token: str, seconds: int) -> None:
    """Give the browser a session, in place of the seed of its forms."""
    _set(request, response, SESSION, token, seconds)
    _drop(request, response, FORM)


def end_session(request: Request, response: Response) -> None:
    """Make the browser forget its session."""
    _drop(request, response, SESSION)


def begin_forms(request: Request, response: Response, seed: str) -> None:
    """Give a browser without a session what ties forms to it."""
    _set(request, response, FORM, seed, None)


def _sent(request: Request, name: str) -> str | None:
    info: RequestInfo = request.state.info
    return cookie(info, _full_name(name, is_secure(info, request.state.front)))


def _set(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
    """Set a cookie that scripts cannot read and that travels over TLS only, except on this machine."""
    secure = is_secure(request.state.info, request.state.front)
    response.set_cookie(
        _full_name(name, secure),
        value,
        max_age=seconds,
        path=_path(secure),
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def _drop(request: Request, response: Response, name: str) -> None:
    secure = is_secure(request.state.info, request.state.front)
    response.delete_cookie(
        _full_name(name, secure), path=_path(secure), secure=secure, httponly=True, samesite="lax"
    )


def _full_name(name: str, secure: bool) -> str:
    return f"{OURS_ALONE}{name}" if secure else name


def _path(secure: bool) -> str:
    return "/" if secure else PREFIX  # browsers refuse __Host- with any other path


# --- fields -----------------------------------------------------------------------------------------


class Fields:
    """The fields of a submitted form."""

    def __init__(self, body: bytes) -> None:
        try:
            text = body.decode()
            self._values = parse_qs(text, keep_blank_values=True, max_num_fields=200, errors="strict")
        except ValueError:
            raise Problem(422, "invalid", "this form cannot be read.") from None

    def one(self, name: str) -> str:
        """Return the only value of a field; empty if it is missing."""
        values = self._values.get(name, [""])
        if len(values) > 1 or "\0" in values[0]:
            raise Problem(422, "invalid", f"the field {name} cannot be read.")
        return values[0].strip()

    def has(self, name: str) -> bool:
        """Return True if the form had this field, empty or not."""
        return name in self._values

    def secret(self, name: str) -> str:
        """Return a value as it was typed, spaces included."""
        return self._values.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """Return all values of a field that may occur several times."""
        return [value.strip() for value in self._values.get(name, []) if "\0" not in value]


def fields_of(request: Request) -> Fields:
    """Return the fields of the submitted form."""
    return Fields(request.state.body)


# --- cross-site requests ----------------------------------------------------------------------------


def csrf_token(request: Request, seed: str) -> str:
    """Return the token that a form must carry: from what only its browser keeps, and a key of the server's.

    Empty until the database, which has the key, is open.
    """
    service = request.state.service
    if not service.is_open:
        return ""
    token: str = service.store.lookup.fingerprint(f"form\0{seed}")
    return token


def csrf_seed(request: Request) -> str | None:
    """Return what ties a form to this browser: its session, or the form cookie if it has none."""
    return session_of(request) or _sent(request, FORM)


def check_form(request: Request) -> None:
    """Raise Problem if a change was not sent by a form of ours from this browser."""
    if request.method in SAFE_METHODS:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "form", "only forms of the console are accepted here.")
    if not request.state.service.is_open:
        raise starting()
    seed = csrf_seed(request)
    if seed is None:
        raise Problem(
            403,
            "form",
            "your browser sent no cookie. From another machine, signing in needs https.",
        )
    sent = fields_of(request).one("csrf_token")
    if not hmac.compare_digest(csrf_token(request, seed).encode(), sent.encode()):
        raise Problem(403, "form", "this form has expired: go back, reload the page and send it again.")
