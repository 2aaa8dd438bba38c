"""``order-sync users``: manage the users of the console."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import enter, entered, opened
from poller.errors import Refused
from poller.text import counted, time_text, when
from poller.web.first_access import link_of, put_link
from poller.web.passwords import MIN_PASSWORD, REMEMBERED, check_password, check_unused, hashed
from poller.web.requests import url_of
from poller.web.users import browser_of, checked_user_name, checked_user_scopes, is_over
from store import sessions, sign_in_failures, users
from store.engine import Transaction
from store.sessions import Session

if TYPE_CHECKING:
    from poller.bootstrap import Service

app = typer.Typer()
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name, for example ann.")]


@app.callback()
def group() -> None:
    """Manage the users of the console. Passwords are stored as hashes only."""


@app.command()
def add(
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="WORD",
            help="read (always included), write or buyer-data; repeatable.",
        ),
    ] = None,
    without_password: Annotated[
        bool, typer.Option("--without-password", help="The user signs in at the provider of OpenID Connect.")
    ] = False,
) -> None:
    """Add a user. The password is prompted for on a terminal, or is the first line of standard input."""
    called, scopes = checked_user_name(name), checked_user_scopes(scope or [])
    with opened(create=True) as service:
        kept = None if without_password else hashed(_password(called))
        if not service.store.commit(
            lambda tx: entered(
                tx, users.add(tx, called, kept, scopes), "user_added", f"{called}: {' '.join(scopes)}"
            )
        ):
            raise Failure(
                f"user {called} exists already: choose another name, or remove that user first.",
                status=BAD_INPUT,
            )
    say(f"user {called} may {', '.join(scopes)}")


def _password(name: str) -> str:
    """Return a new password for a user. Raises Refused."""
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass(f"Password (at least {MIN_PASSWORD} characters): ")
        if getpass.getpass("Repeat the password: ") != password:
            raise Refused("the two passwords differ.")
    check_password(name, password)
    return password


@app.command()
def link(name: Name) -> None:
    """Print a link that signs a user in once, within an hour: for a first sign-in or a lost password."""
    with opened() as service:
        key = service.store.commit(lambda tx: entered(tx, put_link(tx, name), "link_made", name))
        settings = service.config.settings
    if key is None:
        raise _unknown()
    put(link_of(url_of(settings.public_url, *(settings.listen or ("127.0.0.1", 8000))), key))
    say(f"open it within an hour; it signs {name} in once")


@app.command()
def passwd(name: Name) -> None:
    """Change a password and end the user's sessions. It is read as by `add`."""
    with opened() as service:
        with service.store.read() as tx:
            user, last = users.find(tx, name), users.last_passwords(tx, name, REMEMBERED)
        if user is None:
            raise _unknown()
        password = _password(name)
        check_unused(password, last)
        kept, before = hashed(password), user.password
        changed = service.store.commit(
            lambda tx: entered(
                tx,
                users.set_password(tx, name, kept, before=before, is_chosen=False, remembered=REMEMBERED),
                "password_changed",
                name,
            )
        )
    if not changed:
        raise Failure(f"another process has changed user {name} meanwhile: try again.")
    say(f"user {name} has a new password and is signed out everywhere")


@app.command()
def unlock(name: Name) -> None:
    """Let a user who failed too often sign in at once."""
    with opened() as service:
        _require(service, name)

        def unlock_user(tx: Transaction) -> None:
            enter(tx, "user_unlocked", detail=name)
            sign_in_failures.unlock(tx, name)

        service.store.commit(unlock_user)
    say(f"user {name} can sign in again without waiting")


@app.command("reset-totp")
def reset_totp(name: Name) -> None:
    """Delete the one-time codes of a user whose device is lost, and end all sessions."""
    with opened() as service:
        if not service.store.commit(
            lambda tx: entered(tx, users.reset_totp(tx, name), "second_factor_changed", f"{name}: removed")
        ):
            raise _unknown()
    say(f"user {name} signs in without one-time codes, until they are set up again")


@app.command("sessions")
def list_sessions(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of this user only.")] = None,
    as_json: AsJson = False,
) -> None:
    """List who is signed in: since when, from where, with which browser."""
    with opened() as service:
        if name is not None:
            _require(service, name)
        with service.store.read() as tx:
            rows = [s for s in sessions.load(tx, name) if not is_over(s, tx.now)]
    if as_json:
        put_json([_session_object(session) for session in rows])
    elif rows:
        put_table(
            ("user", "since (UTC)", "last use (UTC)", "from", "browser", "by"),
            [
                (s.name, when(s.created_at), when(s.seen_at), s.address, browser_of(s.browser), s.method)
                for s in rows
            ],
        )
    else:
        say("no one is signed in")


def _session_object(session: Session) -> dict[str, object]:
    return {
        "name": session.name,
        "created_at": time_text(session.created_at),
        "seen_at": time_text(session.seen_at),
        "address": session.address,
        "browser": session.browser,
        "method": session.method,
    }


@app.command("end-sessions")
def end_sessions(name: Name) -> None:
    """Sign a user out everywhere."""
    with opened() as service:
        _require(service, name)
        ended = service.store.commit(
            lambda tx: entered(tx, users.end_access(tx, name), "session_ended", name)
        )
    say(f"{counted(ended, 'session')} of user {name} ended")


def _require(service: Service, name: str) -> None:
    """Raise Failure if there is no such user."""
    with service.store.read() as tx:
        if users.find(tx, name) is None:
            raise _unknown()


def _unknown() -> Failure:
    return Failure("there is no user of that name; see `order-sync users list`.", status=BAD_INPUT)


@app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List all users: scopes, age of the password, one-time codes, last sign-in, failures since."""
    with opened() as service, service.store.read() as tx:
        rows = users.load(tx)
        failures = {user.name: sign_in_failures.of_name(tx, user.name) for user in rows}
    failed = {name: found.number if found is not None else 0 for name, found in failures.items()}
    if as_json:
        put_json(
            [
                {
                    "name": user.name,
                    "scopes": list(user.scopes),
                    "created_at": time_text(user.created_at),
                    "password_at": None if user.password is None else time_text(user.password_at),
                    "totp": user.has_totp,
                    "signed_in_at": time_text(user.signed_in_at),
                    "signed_in_from": user.signed_in_from,
                    "failures": failed[user.name],
                }
                for user in rows
            ]
        )
    elif rows:
        put_table(
            (
                *("name", "may", "since (UTC)", "password of", "one-time codes", "last sign-in (UTC)"),
                *("from", ">failures since"),
            ),
            [
                (
                    user.name,
                    ", ".join(user.scopes),
                    when(user.created_at),
                    "none" if user.password is None else f"{user.password_at:%Y-%m-%d}",
                    "yes" if user.has_totp else "no",
                    when(user.signed_in_at, otherwise="never"),
                    user.signed_in_from,
                    failed[user.name] or None,
                )
                for user in rows
            ],
        )
    else:
        say("there are no users: add one with `order-sync users add NAME`")


@app.command()
def remove(name: Name) -> None:
    """Remove a user and end its sessions at once."""
    with opened() as service:
        if not service.store.commit(lambda tx: entered(tx, users.remove(tx, name), "user_removed", name)):
            raise _unknown()
    say(f"user {name} can no longer sign in")
