"""``order-sync tokens``: manage the tokens of the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.text import time_text, when
from poller.web.tokens import checked_name, checked_scopes, digest, new_token
from store import tokens

app = typer.Typer()
Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name, for example erp.")]


@app.callback()
def group() -> None:
    """Manage the tokens of the HTTP API. Only hashes are stored: a token is shown once, when it is made."""


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
    """Make a token and print it: it cannot be shown again."""
    called, scopes = checked_name(name), checked_scopes(scope or ["read"])
    with opened(create=True) as service:
        token = new_token()
        if not service.store.commit(lambda tx: tokens.add(tx, called, scopes, digest(token))):
            raise Failure(
                f"token {called} exists already: choose another name, or remove that token first.",
                status=BAD_INPUT,
            )
    put(token)
    say(f"token {called} may {', '.join(scopes)}; it cannot be shown again")


@app.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List all tokens and their scopes."""
    with opened() as service, service.store.read() as tx:
        rows = tokens.load(tx)
    if as_json:
        put_json(
            [{"name": t.name, "scopes": list(t.scopes), "created_at": time_text(t.created_at)} for t in rows]
        )
    elif rows:
        put_table(
            ("name", "may", "since (UTC)"), [(t.name, ", ".join(t.scopes), when(t.created_at)) for t in rows]
        )
    else:
        say("there are no tokens: make one with `order-sync tokens add NAME`")


@app.command()
def remove(name: Name) -> None:
    """Revoke a token at once."""
    with opened() as service:
        if not service.store.commit(lambda tx: tokens.remove(tx, name)):
            raise Failure("there is no token of that name; see `order-sync tokens list`.", status=BAD_INPUT)
    say(f"token {name} is no longer accepted")
