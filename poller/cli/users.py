"""``order-sync users``: manage the users of the console."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.errors import Refused
from poller.text import time_text, when
from poller.web.first_access import link_of, put_link
from poller.web.passwords import MIN_PASSWORD, check_password, hashed
from poller.web.requests import url_of
from poller.web.users import checked_user_name, checked_user_scopes
from store import users

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
) -> None:
    """Add a user. The password is prompted for on a terminal, or is the first line of standard input."""
    called, scopes = checked_user_name(name), checked_user_scopes(scope or [])
    with opened(create=True) as service:
        password = _password()
        check_password(called, password)
        kept = hashed(password)
        if not service.store.commit(lambda tx: users.add(tx, called, kept, scopes)):
            raise Failure(
                f"user {called} exists already: choose another name, or remove that user first.",
                status=BAD_INPUT,
            )
    say(f"user {called} may {', '.join(scopes)}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password (at least {MIN_PASSWORD} characters): ")
    if getpass.getpass("Repeat the password: ") != password:
        raise Refused("the two passwords differ.")
    return password


@app.command()
def link(name: Name) -> None:
    """Print a link that signs a user in once, within an hour: for a first sign-in or a lost password."""
    with opened() as service:
        key = service.store.commit(lambda tx: put_link(tx, name))
        settings = service.config.settings
    if key is None:
        raise Failure("there is no user of that name; see `order-sync users list`.", status=BAD_INPUT)
    put(link_of(url_of(settings.public_url, *(settings.listen or ("127.0.0.1", 8000))), key))
    say(f"open it within an hour; it signs {name} in once")


@app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List all users and their scopes."""
    with opened() as service, service.store.read() as tx:
        rows = users.load(tx)
    if as_json:
        put_json(
            [
                {
                    "name": user.name,
                    "scopes": list(user.scopes),
                    "created_at": time_text(user.created_at),
                    "locked_until": time_text(user.locked_until),
                }
                for user in rows
            ]
        )
    elif rows:
        put_table(
            ("name", "may", "since (UTC)", "locked until (UTC)"),
            [(u.name, ", ".join(u.scopes), when(u.created_at), when(u.locked_until)) for u in rows],
        )
    else:
        say("there are no users: add one with `order-sync users add NAME`")


@app.command()
def remove(name: Name) -> None:
    """Remove a user and end its sessions at once."""
    with opened() as service:
        if not service.store.commit(lambda tx: users.remove(tx, name)):
            raise Failure("there is no user of that name; see `order-sync users list`.", status=BAD_INPUT)
    say(f"user {name} can no longer sign in")
