"""Rendering of pages: templates, and filters for times, numbers and addresses."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup, escape

from poller.matching.explanations import BASIS
from poller.text import address_lines, counted, lasting, when
from poller.version import program_version
from poller.web.access import Caller
from poller.web.console import forms
from poller.web.masking import MASK

HERE = Path(__file__).parent

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Pages load nothing from other hosts and run no inline scripts."""

MENU = (
    ("/", "Overview"),
    ("/orders", "Orders"),
    ("/customers", "Customers"),
    ("/duplicates", "Duplicates"),
    ("/backfills", "Backfills"),
    ("/quarantine", "Quarantine"),
    ("/verifications", "Verification"),
    ("/runs", "Runs"),
    ("/audit", "Audit"),
)


DASH = "\u2013"
"""Shown for a missing value."""


LIVE = "x-live"
"""Header of the requests that open pages send by themselves to stay fresh."""


def _time(value: datetime | str | None, otherwise: str = DASH) -> str:
    """Return a ``<time>`` that says ``2026-01-31 12:00`` for a time or its ISO text."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return otherwise if value is None else _time_element(value, when(value))


def _time_element(time: datetime, text: str, kind: str = "") -> Markup:
    """Return a time for ``console.js``, which shows it in the reader's zone, or relative to now."""
    at = time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time{} datetime="{}">{}</time>').format(
        Markup(' class="{}"').format(kind) if kind else "", at, text
    )


def _span(seconds: float | timedelta | None, otherwise: str = DASH) -> str:
    if seconds is None:
        return otherwise
    return lasting(seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds))


def _ago(value: datetime | None, now: datetime, otherwise: str = "never") -> str:
    return otherwise if value is None else _time_element(value, f"{lasting(now - value)} ago", "ago")


def _until(value: datetime | None, now: datetime, otherwise: str = DASH) -> str:
    if value is None:
        return otherwise
    return _time_element(value, f"in {lasting(value - now)}" if value > now else "now", "until")


def _shown(value: Any) -> str:
    """Return a value as text; a dash if it is missing or empty."""
    return DASH if value in (None, "", [], {}) else str(value)


_MARKED = re.compile(r"`([^`]+)`|\b(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::\d\d)?(?: UTC|Z)?")


def _sentence(text: str) -> Markup:
    """Return a sentence whose commands in backquotes are marked as code, and its times as times.

    A time within a command stays as it is: people copy it.
    """

    def marked(found: re.Match[str]) -> str:
        if found[1] is not None:
            return f"<code>{found[1]}</code>"
        return f'<time datetime="{found[2]}T{found[3]}Z">{found[0]}</time>'

    return Markup(_MARKED.sub(marked, str(escape(text))))


def _lines(address: Mapping[str, str | None] | None) -> list[str]:
    """Return the lines of an address."""
    if address is None:
        return []
    lines = address_lines(address)
    is_masked = MASK in lines or f"{MASK} {MASK}" in lines
    return [MASK, *filter(None, [address.get("country")])] if is_masked else lines


FILTERS: dict[str, Any] = {
    "ago": _ago,
    "counted": counted,
    "lines": _lines,
    "time": _time,
    "sentence": _sentence,
    "shown": _shown,
    "span": _span,
    "until": _until,
}

State = tuple[object, ...]
"""Plain values that decide what a page shows."""

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= FILTERS
ENVIRONMENT.globals |= {"BASIS": BASIS, "MENU": MENU, "PREFIX": forms.PREFIX, "VERSION": program_version()}


# Compiled now, so that the first request is not slow.
for _name in ENVIRONMENT.list_templates():
    ENVIRONMENT.get_template(_name)


def unchanged(request: Request, state: State) -> Response | None:
    """Return the answer to an open page that shows this state already; None if there is more to show.

    A page that discloses buyers is asked so before it reads them: a page that stays open reads nothing.
    """
    etag = _etag(request, state)
    return _not_modified(etag) if request.headers.get("if-none-match") == etag else None


def page(
    request: Request, template: str, status: int = 200, *, state: State | None = None, **values: Any
) -> Response:
    """Render a page for the caller. A browser without our cookies gets the one that ties forms to it.

    ``state``: what decides what the page shows (`unchanged`); without it, that is the page itself.
    """
    known_seed = forms.csrf_seed(request)
    seed = secrets.token_urlsafe(24) if known_seed is None else known_seed
    caller: Caller | None = getattr(request.state, "caller", None)
    if getattr(caller, "missing", None) is not None:
        caller = None  # no menu before the last step
    etag = None if state is None else _etag(request, state)
    text = ENVIRONMENT.get_template(template).render(
        caller=caller,
        may_write=caller is not None and "write" in caller.scopes,
        sees_buyers=caller is not None and caller.sees_buyers,
        csrf_token=forms.csrf_token(request, seed),
        page_etag=etag,
        path=request.scope["path"],
        now=datetime.now(UTC),
        **values,
    )
    if etag is None:
        etag = _etag(request, (text,))
        if LIVE in request.headers and request.headers.get("if-none-match") == etag:
            return _not_modified(etag)
    headers = {"Content-Security-Policy": POLICY, "ETag": etag, "Vary": "Cookie"}
    response = HTMLResponse(text, status, headers)
    if known_seed is None:
        forms.begin_forms(request, response, seed)
    return response


def _etag(request: Request, state: State) -> str:
    """Return what names a state of a page, for this browser and what its user may see."""
    caller: Caller | None = getattr(request.state, "caller", None)
    seen = (
        program_version(),
        str(request.url),
        None if caller is None else (caller.who, sorted(caller.scopes)),
        forms.csrf_seed(request),
        state,
    )
    return f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:32]}"'


def _not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": etag, "Vary": "Cookie"})


def problem_page(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Render a problem as a page with one sentence."""
    response = page(request, "problem.html", status, detail=detail[:1].upper() + detail[1:])
    response.headers.update(headers or {})
    return response


def redirect_to(path: str) -> RedirectResponse:
    """Redirect after a change, so that reloading does not repeat it."""
    return RedirectResponse(f"{forms.PREFIX}{path}", 303)
