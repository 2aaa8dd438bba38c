"""Signing in and out: by password and one-time code, by a link, at an OpenID provider."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from poller.audit import record
from poller.bootstrap import Service
from poller.text import lasting
from poller.web import sign_in as entry
from poller.web.console import forms, sessions
from poller.web.console.rendering import page
from poller.web.console.sessions import SignedIn
from poller.web.dependencies import ServiceDep
from poller.web.passwords import days_left
from poller.web.problems import Problem, starting
from poller.web.sign_in import Client, Entered, Wait, Wrong
from poller.web.sign_in_pool import SignInPool
from poller.web.tokens import digest
from poller.web.users import MAX_SESSION
from store import sessions as stored_sessions
from store import users
from store.audit_records import Action, AuditEntry
from store.engine import Transaction
from store.sessions import Session

router = APIRouter()
PASSWORDS = SignInPool()
PROVIDER = SignInPool()
"""Sign-ins that wait for the OpenID provider."""

CALLBACK = f"{sessions.SIGN_IN}/oidc/callback"
"""Where the OpenID provider sends a browser back to."""

LONGEST_NAME = 100
"""More characters than any name has."""

REFUSED = "Wrong name or password. Each further failure makes this address wait longer."
CODE_REFUSED = "This code is wrong or was used. Codes change every 30 seconds: try the next one."


def _signed_in(request: Request) -> SignedIn:
    caller: SignedIn = request.state.caller
    return caller


SignedInDep = Annotated[SignedIn, Depends(_signed_in)]


def client_of(request: Request) -> Client:
    """Return who sent a request, as sessions and failures name them."""
    return Client(request.state.info.client[:45], request.headers.get("user-agent", ""))


# --- by password ------------------------------------------------------------------------------------


@router.get("/sign-in")
def show_form(request: Request, service: ServiceDep, next: str = "") -> Response:
    """Show the sign-in page."""
    return _form(request, service, next)


def _form(
    request: Request,
    service: Service,
    target: str,
    status: int = 200,
    problem: str = "",
    name: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    has_users = True
    if service.is_open:
        with service.store.read() as tx:
            has_users = users.is_any(tx)
    response = page(
        request,
        "sign_in.html",
        status,
        next=target,
        problem=problem,
        name=name,
        has_users=has_users,
        has_provider=service.config.settings.oidc_issuer is not None,
    )
    response.headers.update(headers or {})
    return response


@router.post("/sign-in")
async def sign_in(request: Request, service: ServiceDep) -> Response:
    """Begin a session if name and password are right. Holds no thread of other requests."""
    if not service.is_open:
        raise starting()
    fields = forms.fields_of(request)
    name, target = fields.one("name").lower()[:LONGEST_NAME], fields.one("next")
    password = fields.secret("password")

    def work() -> Response:
        outcome = entry.by_password(service.store, client_of(request), name, password)
        if isinstance(outcome, Entered):
            return begun(request, service, outcome, target)
        is_known = isinstance(outcome, Wrong) and outcome.is_known
        # An unknown name may be a password in the wrong field.
        note_refused(request, outcome, name if is_known else None, "password", typed=name)
        return _form(request, service, target, **refusal(outcome, REFUSED), name=name)

    return await PASSWORDS.run(work)


def refusal(outcome: Wrong | Wait, sentence: str) -> dict[str, Any]:
    """Return status, problem and headers of a page after an attempt that failed or must wait."""
    if isinstance(outcome, Wrong):
        return {"status": 401, "problem": sentence}
    again = lasting(timedelta(seconds=outcome.seconds))
    return {
        "status": 429,
        "problem": f"Too many failed attempts from this address: try again in {again}.",
        "headers": {"Retry-After": str(outcome.seconds)},
    }


def note_refused(
    request: Request, outcome: Wrong | Wait, name: str | None, detail: str, typed: str = ""
) -> None:
    """Enter an attempt that failed, or was not checked, into the audit log. ``name``: of a known user."""
    action: Action = "locked" if isinstance(outcome, Wait) else "sign_in_refused"
    entry = AuditEntry(client_of(request).actor(name), action, "refused", detail=detail)
    request.state.refusals.note(request.state.service.store, entry, typed)


# --- by a one-time code -----------------------------------------------------------------------------


@router.get("/sign-in/code")
def show_code(request: Request, caller: SignedInDep, next: str = "") -> Response:
    """Show the page for the one-time code."""
    if caller.missing != "code":
        return RedirectResponse(sessions.HOME, 303)
    return page(request, "code.html", next=next, problem="")


@router.post("/sign-in/code")
def check_code(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """Complete the session by a one-time code or a recovery code."""
    fields = forms.fields_of(request)
    target = fields.one("next")
    if caller.missing != "code":
        return RedirectResponse(sessions.HOME, 303)
    outcome = entry.by_code(service.store, client_of(request), caller.session, fields.one("code"))
    if isinstance(outcome, Entered):
        return begun(request, service, outcome, target)
    note_refused(request, outcome, caller.session.name, "code")
    failed = refusal(outcome, CODE_REFUSED)
    response = page(request, "code.html", failed["status"], next=target, problem=failed["problem"])
    response.headers.update(failed.get("headers", {}))
    return response


# --- by a link --------------------------------------------------------------------------------------


@router.get("/enter")
def show_entrance(request: Request, service: ServiceDep, key: str = "") -> Response:
    """Show the button that uses a link up: programs that look at links in mails and chats only open them."""
    if not service.is_open:
        raise starting()
    return page(request, "enter.html", key=key)


@router.post("/enter")
def enter(request: Request, service: ServiceDep) -> Response:
    """Begin a session by a link that works once."""
    key, client = forms.fields_of(request).one("key"), client_of(request)

    def begin(tx: Transaction) -> Entered | None:
        name = users.take_link(tx, digest(key))
        return None if name is None else entry.without_password(tx, client, name, "link")

    entered = service.store.commit(begin)
    if entered is None:
        raise Problem(
            403, "link", "this link was used or has expired: `order-sync users link NAME` makes another."
        )
    return begun(request, service, entered, sessions.HOME)


# --- at an OpenID provider --------------------------------------------------------------------------


@router.get("/sign-in/oidc")
async def leave(request: Request, service: ServiceDep, next: str = "") -> Response:
    """Send the browser to the provider."""
    provider = _provider(request)
    from poller.web.oidc import OidcFailed  # needs the extra, which a provider has

    known = forms.form_seed_of(request)
    seed = secrets.token_urlsafe(24) if known is None else known

    def work() -> Response:
        try:
            response = RedirectResponse(provider.address(seed, sessions.safe_target(next)), 303)
        except OidcFailed as failed:
            return _form(request, service, next, 502, f"{failed}")
        if known is None:
            forms.begin_forms(request, response, seed)
        return response

    return await PROVIDER.run(work)


@router.get("/sign-in/oidc/callback")
async def come_back(
    request: Request, service: ServiceDep, code: str = "", state: str = "", error: str = ""
) -> Response:
    """Begin a session for the user whom the provider names, if there is one of that name."""
    if not service.is_open:
        raise starting()
    provider, client = _provider(request), client_of(request)
    from poller.web.oidc import OidcFailed, target_of  # needs the extra, which a provider has

    def work() -> Response:
        try:
            seed = forms.form_seed_of(request) or ""
            target = target_of(seed, state)
            if error or not code:
                raise OidcFailed("the provider did not sign you in.")
            name = provider.user_of(seed, code)
        except OidcFailed as failed:
            note_refused(request, Wrong(), None, "oidc")
            return _form(request, service, "", 403, f"{failed}")
        entered = service.store.commit(lambda tx: entry.without_password(tx, client, name, "oidc"))
        if entered is None:
            note_refused(request, Wrong(), None, "oidc: no such user")
            return _form(
                request, service, "", 403, "The provider signed you in, but there is no such user here."
            )
        return begun(request, service, entered, target)

    return await PROVIDER.run(work)


def _provider(request: Request) -> Any:
    if request.app.state.oidc is None:
        raise Problem(404, "no-provider", "no OpenID provider is set (ORDER_SYNC_OIDC_ISSUER).")
    return request.app.state.oidc


# --- both -------------------------------------------------------------------------------------------


def begun(request: Request, service: Service, entered: Entered, target: str) -> Response:
    """Give the browser its session. What its user should know is shown before the page that was wanted."""
    safe = sessions.safe_target(target)
    if entered.awaits_code:
        location = f"{sessions.STEPS['code']}?next={quote(safe)}"
    else:
        with service.store.read() as tx:
            session, now = stored_sessions.find(tx, digest(entered.token)), tx.now
        is_notable = session is not None and (
            session.failures or password_days_left(session, now) is not None
        )
        location = f"{sessions.ACCOUNT}?next={quote(safe)}" if is_notable else safe
    response = RedirectResponse(location, 303)
    forms.begin_session(request, response, entered.token, round(MAX_SESSION.total_seconds()))
    return response


def password_days_left(session: Session, now: datetime) -> int | None:
    """Return the days until the user's password must be changed, if there are few."""
    return days_left(session.password_at, now) if session.has_password else None


@router.post("/sign-out")
def sign_out(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """End the session, on the server and in the browser."""
    token = forms.session_of(request)
    if token is not None:
        record(service.store, AuditEntry(client_of(request).actor(caller.session.name), "signed_out"))
        service.store.commit(lambda tx: stored_sessions.end(tx, digest(token)))
    response = RedirectResponse(sessions.SIGN_IN, 303)
    forms.end_session(request, response)
    return response
