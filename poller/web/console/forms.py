"""Forms and cookies of the console: reading what was sent, and checking that a page of ours sent it."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs

from fastapi import Request, Response

from config.values import is_loopback
from poller.web.access import host_of
from poller.web.problems import Problem

PREFIX = "/console"
SESSION_COOKIE = "order_sync_session"
FORM_COOKIE = "order_sync_form"
"""Seed of the CSRF tokens in a browser without a session."""


# --- cookies ----------------------------------------------------------------------------------------


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
    """Set a cookie that scripts cannot read and that travels over TLS only, except on this machine."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=PREFIX,
        secure=not _is_local(request),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(request: Request, response: Response, name: str) -> None:
    """Make the browser forget a cookie."""
    response.delete_cookie(name, path=PREFIX, secure=not _is_local(request), httponly=True, samesite="lax")


def _is_local(request: Request) -> bool:
    return is_loopback(host_of(request.headers.get("host", "")))


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


def csrf_token(seed: str) -> str:
    """Return the token that a form must carry; only the browser that got the form keeps ``seed``."""
    return hashlib.sha256(f"form\0{seed}".encode()).hexdigest()[:40]


def csrf_seed(request: Request) -> str | None:
    """Return what ties a form to this browser: its session, or the form cookie if it has none."""
    return request.cookies.get(SESSION_COOKIE) or request.cookies.get(FORM_COOKIE)


def check_form(request: Request) -> None:
    """Raise Problem if a change was not sent by a form of ours from this browser."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "form", "only forms of the console are accepted here.")
    seed = csrf_seed(request)
    if seed is None:
        raise Problem(
            403,
            "form",
            "your browser sent no cookie. From another machine, signing in needs https.",
        )
    if not hmac.compare_digest(csrf_token(seed), fields_of(request).one("csrf_token")):
        raise Problem(403, "form", "this form has expired: go back, reload the page and send it again.")
