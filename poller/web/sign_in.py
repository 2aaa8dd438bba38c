"""Signing in: by password and one-time code, by a link, at an OpenID provider. One function for each step.

A password takes 64 MB and 50 ms to check: call ``by_password`` and ``change_password`` only in the pool of
sign-ins (``poller/web/sign_in_pool.py``).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from poller import audit
from poller.errors import Refused
from poller.web import attempts, second_factor
from poller.web.passwords import (
    REMEMBERED,
    check_age,
    check_password,
    check_unused,
    hashed,
    password_matches,
)
from poller.web.refusals import ANYONE
from poller.web.tokens import digest
from poller.web.users import MAX_SESSION
from store import sessions, sign_in_failures, users
from store.audit_records import Action, Actor, AuditEntry
from store.engine import Store, Transaction
from store.sealing import SealError
from store.sessions import Method, NewSession, Session
from store.users import ConsoleUser


@dataclass(frozen=True, slots=True)
class Client:
    """Who tries to sign in. ``address``: the true one, not a proxy's. ``browser``: what it calls itself."""

    address: str
    browser: str

    @property
    def network(self) -> str:
        return attempts.network_of(self.address)

    def actor(self, name: str | None) -> Actor:
        """Return this client as the user of this name; None if it is not known who it is."""
        return Actor(ANYONE if name is None else f"user:{name}", self.address, "console")


@dataclass(frozen=True, slots=True)
class Entered:
    """Signed in: what the browser keeps. ``awaits_code``: a one-time code is missing."""

    token: str = field(repr=False)
    awaits_code: bool = False


@dataclass(frozen=True, slots=True)
class Wrong:
    """The name, the password or the code is wrong. ``is_known``: there is a user of that name."""

    is_known: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Too many attempts failed; the next one is allowed ``until`` then. This one was not checked."""

    seconds: int


def by_password(store: Store, client: Client, name: str, password: str) -> Entered | Wrong | Wait:
    """Sign in by name and password. An unknown name takes the same statements and the same work."""

    def begin(tx: Transaction) -> tuple[Wait | None, ConsoleUser | None]:
        return _take_attempt(tx, name, client), users.find(tx, name)

    wait, user = store.commit(begin)
    if wait is not None:
        return wait
    if not password_matches(None if user is None else user.password, password) or user is None:
        return _refuse(store, client, name)
    entered = Entered(_new_token(), user.has_totp)

    def enter(tx: Transaction) -> bool:
        sign_in_failures.undo(tx, name, client.network)
        return _begin(tx, user, client, entered, "password")

    return entered if store.commit(enter) else Wrong(True)


def by_code(store: Store, client: Client, session: Session, code: str) -> Entered | Wrong | Wait:
    """Complete a session that awaits a one-time code, or a recovery code. It is replaced by a new one."""
    entered = Entered(_new_token())

    def check(tx: Transaction) -> Entered | Wrong | Wait:
        user = _take_code(tx, client, session, code)
        if not isinstance(user, ConsoleUser):
            return user
        return entered if _begin(tx, user, client, entered, session.method) else Wrong(True)

    return store.commit(check)


def without_password(tx: Transaction, client: Client, name: str, method: Method) -> Entered | None:
    """Sign in a user whom a link or another provider has named. Return None if there is no such user.

    After a link the one-time code is still needed; the other provider has its own.
    """
    user = users.find(tx, name)
    if user is None:
        return None
    entered = Entered(_new_token(), user.has_totp and method == "link")
    return entered if _begin(tx, user, client, entered, method) else None


def use_code(tx: Transaction, user: ConsoleUser, code: str) -> bool:
    """Use up a one-time code or a recovery code. Return False if it is none of the user's, or was used."""
    step = _step_of(tx, user.name, code)
    if step is not None:
        return users.use_totp_step(tx, user.name, step)
    return users.use_recovery_code(tx, user.name, second_factor.recovery_digest(code))


def _step_of(tx: Transaction, name: str, code: str) -> int | None:
    """Return the time step of a one-time code; None if it is wrong, or the secret is missing or damaged."""
    try:
        secret = users.totp_secret(tx, name)
    except SealError:
        return None
    return None if secret is None else second_factor.step_of(secret, code, tx.now)


# --- an own account ---------------------------------------------------------------------------------


def change_password(
    store: Store, client: Client, session: Session, present: str, wanted: str
) -> Entered | Wrong | Wait:
    """Change the user's own password and end all sessions but this one, which gets a new token.

    ``present``: the present password; not checked if the user has none. Raises Refused if the wanted one is
    too weak, was used before, or comes too soon after the last change.
    """
    check_password(session.name, wanted)

    def begin(tx: Transaction) -> tuple[Wait | None, ConsoleUser | None, list[str], datetime]:
        wait = _take_attempt(tx, session.name, client)
        return wait, users.find(tx, session.name), users.last_passwords(tx, session.name, REMEMBERED), tx.now

    wait, user, last, now = store.commit(begin)
    if wait is not None:
        return wait
    if user is None:
        return Wrong()
    if user.password is None and session.method == "oidc":
        raise Refused(
            "you sign in at another provider and have no password here: "
            f"`order-sync users passwd {session.name}` gives you one."
        )
    if user.password is not None and not password_matches(user.password, present):
        return _refuse(store, client, session.name)
    store.commit(lambda tx: sign_in_failures.undo(tx, session.name, client.network))
    if user.password is not None and user.password_is_chosen:
        check_age(user.password_at, now)
    check_unused(wanted, last)
    entered, kept, before = Entered(_new_token()), hashed(wanted), user.password

    def change(tx: Transaction) -> bool:
        if not sessions.end(tx, session.digest):
            return False  # ended from elsewhere meanwhile
        if not users.set_password(
            tx, session.name, kept, before=before, is_chosen=True, remembered=REMEMBERED
        ):
            return False
        enter(tx, client, session.name, "password_changed")
        changed = users.find(tx, session.name)
        new = _new_session(entered, session.method, client)
        return changed is not None and sessions.begin(tx, changed, new, MAX_SESSION)

    if not store.commit(change):
        raise Refused("the password was changed elsewhere, or this session has ended: sign in again.")
    return entered


def set_up_totp(store: Store, client: Client, session: Session, code: str) -> list[str] | None:
    """Require one-time codes from now on, and end the user's other sessions, if the code is right.

    Return the recovery codes, which cannot be shown again; None if the code is wrong or the secret damaged.
    """
    codes = second_factor.new_recovery_codes()

    def confirm(tx: Transaction) -> bool:
        step = _step_of(tx, session.name, code)
        kept = [second_factor.recovery_digest(one) for one in codes]
        if step is None or not users.confirm_totp(tx, session.name, step, kept):
            return False
        sessions.end_all(tx, session.name, but=session.digest)
        enter(tx, client, session.name, "second_factor_changed", "set up")
        return True

    return codes if store.commit(confirm) else None


def remove_totp(store: Store, client: Client, session: Session, code: str) -> Entered | Wrong | Wait:
    """Remove the user's one-time codes by one of them, and end all sessions but this one."""
    entered = Entered(_new_token())

    def remove(tx: Transaction) -> Entered | Wrong | Wait:
        user = _take_code(tx, client, session, code)
        if not isinstance(user, ConsoleUser):
            return user
        enter(tx, client, session.name, "second_factor_changed", "removed")
        users.reset_totp(tx, session.name)
        changed = users.find(tx, session.name)
        new = _new_session(entered, session.method, client)
        begun = changed is not None and sessions.begin(tx, changed, new, MAX_SESSION)
        return entered if begun else Wrong()

    return store.commit(remove)


# --- parts ------------------------------------------------------------------------------------------


ANY_NETWORK = "every network"
"""Wrong one-time codes of a user are counted over all networks, too. Those who try them know the password,
so that no stranger can lock a user out."""


def _take_attempt(tx: Transaction, name: str, client: Client) -> Wait | None:
    """Count an attempt before it is checked, so that many at once are no more than one after the other."""
    return _take(tx, name, client.network)


def _take_code(tx: Transaction, client: Client, session: Session, code: str) -> ConsoleUser | Wrong | Wait:
    """Use up a code of the session's user, and end the session, which a new one replaces. Return the user.

    The attempt is counted from this network and from any.
    """
    networks = (ANY_NETWORK, client.network)
    for network in networks:
        if (wait := _take(tx, session.name, network)) is not None:
            return wait
    user = users.find(tx, session.name)
    if user is None or not use_code(tx, user, code):
        sign_in_failures.failed(tx, session.name, client.address)
        return Wrong(True)
    for network in networks:
        sign_in_failures.undo(tx, session.name, network)
    return user if sessions.end(tx, session.digest) else Wrong(True)  # else it ended from elsewhere meanwhile


def _take(tx: Transaction, name: str, network: str) -> Wait | None:
    decided = attempts.attempt(sign_in_failures.lock(tx, name, network), tx.now)
    if isinstance(decided, datetime):
        return Wait(max(1, round((decided - tx.now).total_seconds())))
    sign_in_failures.save(tx, name, network, decided)
    return None


def _refuse(store: Store, client: Client, name: str) -> Wrong:
    store.commit(lambda tx: sign_in_failures.failed(tx, name, client.address))
    with store.read() as tx:
        return Wrong(users.find(tx, name) is not None)


def _begin(tx: Transaction, user: ConsoleUser, client: Client, entered: Entered, method: Method) -> bool:
    """Begin a session; once nothing is missing the user has signed in."""
    if not sessions.begin(tx, user, _new_session(entered, method, client), MAX_SESSION):
        return False
    if not entered.awaits_code:
        enter(tx, client, user.name, "signed_in", method)
    return True


def enter(tx: Transaction, client: Client, name: str, action: Action, detail: str | None = None) -> None:
    """Add an entry about a user to the audit log."""
    audit.enter(tx, AuditEntry(client.actor(name), action, detail=detail))


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _new_session(entered: Entered, method: Method, client: Client) -> NewSession:
    return NewSession(
        digest(entered.token), method, client.address, client.network, client.browser, entered.awaits_code
    )
