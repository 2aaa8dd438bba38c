"""Signing in and out."""

from __future__ import annotations

import secrets
import threading

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from poller.web.console import forms, sessions
from poller.web.console.rendering import page
from poller.web.dependencies import ServiceDep
from poller.web.passwords import password_matches
from poller.web.problems import Problem, starting
from poller.web.tokens import digest
from poller.web.users import LOCK_TIME, MAX_FAILURES, MAX_SESSION
from store import users

router = APIRouter()
log = structlog.get_logger("order_sync.audit")

_hashing = threading.BoundedSemaphore(2)
"""Checking a password takes 64 MB and 50 ms: strangers must not exhaust the machine."""


@router.get("/sign-in")
def show_form(request: Request, service: ServiceDep, next: str = "") -> Response:
    """Show the sign-in page."""
    has_users = False
    if service.is_open:
        with service.store.read() as tx:
            has_users = users.is_any(tx)
    return page(request, "sign_in.html", next=next, refused=False, name="", has_users=has_users)


@router.post("/sign-in")
def sign_in(request: Request, service: ServiceDep) -> Response:
    """Begin a session if name and password are right and the user is not locked."""
    fields = forms.fields_of(request)
    name, target = fields.one("name").lower(), fields.one("next")
    if not service.is_open:
        raise starting()
    user = service.store.commit(lambda tx: users.take_attempt(tx, name, MAX_FAILURES, LOCK_TIME))
    if not _hashing.acquire(timeout=5):
        raise Problem(503, "busy", "too many sign-ins at once: try again.", headers={"Retry-After": "5"})
    try:
        is_right = password_matches(None if user is None else user.password, fields.secret("password"))
    finally:
        _hashing.release()
    token = secrets.token_urlsafe(32)
    if (
        user is None
        or not is_right
        or not service.store.commit(lambda tx: users.begin(tx, user, digest(token), MAX_SESSION))
    ):
        if user is not None:
            log.warning("sign-in refused", who=f"user:{user.name}", attempt=user.failures + 1)
        return page(request, "sign_in.html", 401, next=target, refused=True, name=name, has_users=True)
    log.info("signed in", who=f"user:{user.name}")
    return _begun(request, sessions.safe_target(target), token)


@router.get("/enter")
def enter(request: Request, service: ServiceDep, key: str = "") -> Response:
    """Begin a session by a link that works once."""
    if not service.is_open:
        raise starting()
    token = secrets.token_urlsafe(32)
    name = service.store.commit(lambda tx: users.enter(tx, digest(key), digest(token), MAX_SESSION))
    if name is None:
        log.warning("sign-in link refused")
        raise Problem(
            403, "link", "this link was used or has expired: `order-sync users link NAME` makes another."
        )
    log.info("signed in", who=f"user:{name}", by="link")
    return _begun(request, sessions.HOME, token)


def _begun(request: Request, target: str, token: str) -> Response:
    response = RedirectResponse(target, 303)
    forms.begin_session(request, response, token, round(MAX_SESSION.total_seconds()))
    return response


@router.post("/sign-out")
def sign_out(request: Request, service: ServiceDep) -> Response:
    """End the session, on the server and in the browser."""
    token = forms.session_of(request)
    if token is not None:
        service.store.commit(lambda tx: users.end(tx, digest(token)))
    response = RedirectResponse(sessions.SIGN_IN, 303)
    forms.end_session(request, response)
    return response
