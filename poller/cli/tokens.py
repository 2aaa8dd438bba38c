"""``order-sync tokens``: who may use the HTTP API, and for what."""

from __future__ import annotations

from typing import Annotated

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.text import time_text, when
from poller.web.tokens import checked_name, checked_scopes, digest, new_token
from store import tokens as stored

app = typer.Typer()
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the token is called, for example erp.")]


@app.callback()
def tokens() -> None:
    """Tokens of the HTTP API. Of a token only a hash is kept: it is shown once, when it is made."""


@app.command()
def add(
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="WORD",
            help="read (the default), write or buyer-data; repeatable.",
        ),
    ] = None,
) -> None:
    """Make a token and print it, this once."""
    called, scopes = checked_name(name), checked_scopes(scope or ["read"])
    with opened(create=True) as service:
        token = new_token()
        if not service.store.commit(lambda tx: stored.add(tx, called, scopes, digest(token))):
            raise Failure(
                f"there is a token {called} already: take another name, or remove that one first.",
                status=BAD_INPUT,
            )
    put(token)
    say(f"token {called} may {', '.join(scopes)}; it is not shown again")


@app.command("list")
def list_tokens(
    as_json: AsJson = False,
) -> None:
    """Names and scopes of all tokens."""
    with opened() as service, service.store.read() as tx:
        found = stored.load(tx)
    if as_json:
        put_json(
            [{"name": t.name, "scopes": list(t.scopes), "created_at": time_text(t.created_at)} for t in found]
        )
    elif found:
        put_table(
            ("name", "may", "since (UTC)"), [(t.name, ", ".join(t.scopes), when(t.created_at)) for t in found]
        )
    else:
        say("there is no token: without one, only this machine is served")


@app.command()
def remove(name: Name) -> None:
    """Take a token back, at once."""
    with opened() as service:
        if not service.store.commit(lambda tx: stored.remove(tx, name)):
            raise Failure("there is no token of that name: `order-sync tokens list`.", status=BAD_INPUT)
    say(f"token {name} is no longer accepted")
