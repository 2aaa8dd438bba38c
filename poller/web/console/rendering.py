"""How pages are drawn: the templates, and the words and numbers that they show."""

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
"""Nothing from another host, and nothing that stands in the page itself is run."""

MENU = (
    ("/", "Overview"),
    ("/orders", "Orders"),
    ("/customers", "Customers"),
    ("/duplicates", "Duplicates"),
    ("/backfills", "Backfills"),
    ("/quarantine", "Quarantine"),
    ("/runs", "Runs"),
)


DASH = "\u2013"
"""Stands for what is not there."""


def _moment(value: datetime | str | None, otherwise: str = DASH) -> str:
    """``2026-01-31 12:00`` of a time or of its text."""
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
    """A value for people; a dash for what is not there."""
    return DASH if value in (None, "", [], {}) else str(value)


def _sentence(text: str) -> Markup:
    """A sentence of ours, with what is to be typed set apart."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _lines(address: Mapping[str, str | None] | None) -> list[str]:
    """An address, line by line."""
    if address is None:
        return []
    town = " ".join(filter(None, (address.get("postal_code"), address.get("city"))))
    parts = (
        *(address.get(key) for key in ("name", "company", "line1", "line2", "line3")),
        town,
        *(address.get(key) for key in ("county", "state", "country", "phone")),
    )
    found = [part for part in parts if part]
    hidden = MASK in found or f"{MASK} {MASK}" in found
    return [MASK, *filter(None, [address.get("country")])] if hidden else found


FILTERS: dict[str, Any] = {
    "ago": _ago,
    "counted": counted,
    "lines": _lines,
    "moment": _moment,
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


# Read now, so that nobody waits for it.
for _name in ENVIRONMENT.list_templates():
    ENVIRONMENT.get_template(_name)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page for who asks. A browser that keeps nothing of ours yet gets what ties its forms to it."""
    seed = forms.csrf_seed(request)
    made = secrets.token_urlsafe(24) if seed is None else seed
    caller: Caller | None = getattr(request.state, "caller", None)
    text = ENVIRONMENT.get_template(template).render(
        caller=caller,
        may_write=caller is not None and "write" in caller.scopes,
        sees_buyers=caller is not None and caller.sees_buyers,
        csrf_token=forms.csrf_token(made),
        path=request.scope["path"],
        now=datetime.now(UTC),
        **values,
    )
    response = HTMLResponse(text, status, {"Content-Security-Policy": POLICY, "Vary": "Cookie"})
    if seed is None:
        forms.set_cookie(request, response, forms.FORM_COOKIE, made, None)
    return response


def problem_page(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """What went wrong, in one sentence."""
    response = page(request, "problem.html", status, detail=detail[:1].upper() + detail[1:])
    response.headers.update(headers or {})
    return response


def onwards(path: str) -> RedirectResponse:
    """After a change: a page that may be loaded again."""
    return RedirectResponse(f"{forms.PREFIX}{path}", 303)
