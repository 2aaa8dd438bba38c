"""Your account: the user's own sessions, password and one-time codes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from poller.errors import Refused
from poller.web import second_factor
from poller.web import sign_in as entry
from poller.web.console import forms, sessions
from poller.web.console.rendering import page, redirect_to
from poller.web.console.sign_in import (
    CODE_REFUSED,
    PASSWORDS,
    SignedInDep,
    client_of,
    note_refused,
    password_days_left,
    refusal,
)
from poller.web.dependencies import ServiceDep
from poller.web.passwords import MAX_AGE, MAX_PASSWORD, MIN_PASSWORD
from poller.web.sign_in import Entered
from poller.web.users import MAX_SESSION, browser_of, is_over
from store import sessions as stored_sessions
from store import users
from store.engine import Transaction

router = APIRouter(prefix="/account")

DONE = {
    "password": "Your password is changed, and all other sessions have ended.",
    "ended": "The session has ended.",
    "others": "All other sessions have ended.",
    "removed": "You sign in without one-time codes now.",
}


@router.get("")
def show_account(
    request: Request, service: ServiceDep, caller: SignedInDep, next: str = "", done: str = ""
) -> Response:
    """Show sessions, and what the user should know: failed attempts, the age of the password."""
    session = caller.session
    with service.store.read() as tx:
        rows = [one for one in stored_sessions.load(tx, session.name) if not is_over(one, tx.now)]
        codes_left = users.recovery_codes_left(tx, session.name)
        days = password_days_left(session, tx.now)
    target = sessions.safe_target(next)
    return page(
        request,
        "account.html",
        session=session,
        sessions=rows,
        browser_of=browser_of,
        codes_left=codes_left,
        days_left=days,
        done=DONE.get(done, ""),
        next=target if target != sessions.HOME and next else "",
        requires_totp=service.config.settings.require_totp,
    )


@router.post("/end-session")
def end_session(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """End one of the user's sessions."""
    public_id, client = forms.fields_of(request).one("session"), client_of(request)

    def end(tx: Transaction) -> None:
        entry.enter(tx, client, caller.session.name, "session_ended")
        stored_sessions.end_one(tx, caller.session.name, public_id)

    service.store.commit(end)
    return redirect_to("/account?done=ended")


@router.post("/end-others")
def end_others(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """End all of the user's sessions but this one."""
    session, client = caller.session, client_of(request)

    def end(tx: Transaction) -> None:
        entry.enter(tx, client, session.name, "session_ended", "all others")
        stored_sessions.end_all(tx, session.name, but=session.digest)

    service.store.commit(end)
    return redirect_to("/account?done=others")


# --- the password -----------------------------------------------------------------------------------


@router.get("/password")
def show_password(request: Request, caller: SignedInDep) -> Response:
    """Show the form for a new password."""
    return _password_page(request, caller)


def _password_page(request: Request, caller: SignedInDep, status: int = 200, problem: str = "") -> Response:
    return page(
        request,
        "password.html",
        status,
        session=caller.session,
        is_due=caller.missing == "password",
        problem=problem,
        least=MIN_PASSWORD,
        most=MAX_PASSWORD,
        days=MAX_AGE.days,
    )


@router.post("/password")
async def change_password(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """Change the user's own password."""
    fields = forms.fields_of(request)
    present, wanted = fields.secret("present"), fields.secret("password")
    if wanted != fields.secret("repeated"):
        return _password_page(request, caller, 422, "The two new passwords differ.")

    def work() -> Response:
        try:
            outcome = entry.change_password(
                service.store, client_of(request), caller.session, present, wanted
            )
        except Refused as refused:
            sentence = str(refused)
            return _password_page(request, caller, 422, sentence[:1].upper() + sentence[1:])
        if isinstance(outcome, Entered):
            return _again(request, outcome, "/account?done=password")
        note_refused(request, outcome, caller.session.name, "present password")
        failed = refusal(outcome, "The present password is wrong.")
        response = _password_page(request, caller, failed["status"], failed["problem"])
        response.headers.update(failed.get("headers", {}))
        return response

    return await PASSWORDS.run(work)


# --- one-time codes ---------------------------------------------------------------------------------


@router.get("/totp")
def show_totp(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """Show how to set up one-time codes, or how to remove them."""
    return _totp_page(request, service, caller)


def _totp_page(
    request: Request, service: ServiceDep, caller: SignedInDep, status: int = 200, problem: str = ""
) -> Response:
    session, secret, picture = caller.session, "", ""
    if not session.has_totp:
        fresh = second_factor.new_secret()
        prepared = service.store.commit(lambda tx: users.prepare_totp(tx, session.name, fresh))
        if prepared is None:
            return redirect_to("/account")
        secret = prepared
        picture = second_factor.picture_of(second_factor.uri_of(secret, session.name))
    return page(
        request,
        "totp.html",
        status,
        session=session,
        secret=" ".join(secret[i : i + 4] for i in range(0, len(secret), 4)),
        picture=picture,
        problem=problem,
        is_required=service.config.settings.require_totp,
        is_due=caller.missing == "totp",
    )


@router.post("/totp")
def set_up_totp(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """Require one-time codes, after the first right one, and show the recovery codes once."""
    if caller.session.has_totp:
        return redirect_to("/account/totp")
    code = forms.fields_of(request).one("code")
    codes = entry.set_up_totp(service.store, client_of(request), caller.session, code)
    if codes is None:
        return _totp_page(request, service, caller, 422, CODE_REFUSED)
    return page(request, "recovery_codes.html", codes=codes)


@router.post("/remove-totp")
def remove_totp(request: Request, service: ServiceDep, caller: SignedInDep) -> Response:
    """Remove the user's one-time codes, by one of them."""
    if not caller.session.has_totp or service.config.settings.require_totp:
        return redirect_to("/account/totp")
    code = forms.fields_of(request).one("code")
    outcome = entry.remove_totp(service.store, client_of(request), caller.session, code)
    if isinstance(outcome, Entered):
        return _again(request, outcome, "/account?done=removed")
    note_refused(request, outcome, caller.session.name, "code")
    failed = refusal(outcome, CODE_REFUSED)
    response = _totp_page(request, service, caller, failed["status"], failed["problem"])
    response.headers.update(failed.get("headers", {}))
    return response


def _again(request: Request, entered: Entered, path: str) -> RedirectResponse:
    """Continue with the session's new token."""
    response = redirect_to(path)
    forms.begin_session(request, response, entered.token, round(MAX_SESSION.total_seconds()))
    return response
