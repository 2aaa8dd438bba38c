"""Rendering of pages: templates, and filters for times, numbers and addresses."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup, escape

from poller.matching.explanations import BASIS
from poller.text import counted, lasting, when
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
    ("/runs", "Runs"),
    ("/audit", "Audit"),
)


DASH = "\u2013"
"""Shown for a missing value."""


def _time(value: datetime | str | None, otherwise: str = DASH) -> str:
    """Return ``2026-01-31 12:00`` for a time or its ISO text."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return when(value, otherwise=otherwise)


def _span(seconds: float | timedelta | None, otherwise: str = DASH) -> str:
    if seconds is None:
        return otherwise
    return lasting(seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds))


def _ago(value: datetime | None, now: datetime) -> str:
    return "never" if value is None else f"{lasting(now - value)} ago"


def _shown(value: Any) -> str:
    """Return a value as text; a dash if it is missing or empty."""
    return DASH if value in (None, "", [], {}) else str(value)


def _sentence(text: str) -> Markup:
    """Return a sentence whose commands in backquotes are marked as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _lines(address: Mapping[str, str | None] | None) -> list[str]:
    """Return the lines of an address."""
    if address is None:
        return []
    town = " ".join(filter(None, (address.get("postal_code"), address.get("city"))))
    parts = (
        *(address.get(key) for key in ("name", "company", "line1", "line2", "line3")),
        town,
        *(address.get(key) for key in ("county", "state", "country", "phone")),
    )
    lines = [part for part in parts if part]
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
}

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


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a page for the caller. A browser without our cookies gets the one that ties forms to it."""
    known_seed = forms.csrf_seed(request)
    seed = secrets.token_urlsafe(24) if known_seed is None else known_seed
    caller: Caller | None = getattr(request.state, "caller", None)
    if getattr(caller, "missing", None) is not None:
        caller = None  # no menu before the last step
    text = ENVIRONMENT.get_template(template).render(
        caller=caller,
        may_write=caller is not None and "write" in caller.scopes,
        sees_buyers=caller is not None and caller.sees_buyers,
        csrf_token=forms.csrf_token(request, seed),
        path=request.scope["path"],
        now=datetime.now(UTC),
        **values,
    )
    response = HTMLResponse(text, status, {"Content-Security-Policy": POLICY, "Vary": "Cookie"})
    if known_seed is None:
        forms.begin_forms(request, response, seed)
    return response


def problem_page(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """Render a problem as a page with one sentence."""
    response = page(request, "problem.html", status, detail=detail[:1].upper() + detail[1:])
    response.headers.update(headers or {})
    return response


def redirect_to(path: str) -> RedirectResponse:
    """Redirect after a change, so that reloading does not repeat it."""
    return RedirectResponse(f"{forms.PREFIX}{path}", 303)
