"""``order-sync tokens``: manage the tokens of the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import entered, opened
from poller.monitoring.health import TOKEN_WARNED_BEFORE
from poller.text import counted, time_text, when
from poller.web.tokens import VALID_DAYS, checked_expiry, checked_name, checked_scopes, digest, new_token
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
    expires: Annotated[
        str, typer.Option("--expires", metavar="DAYS", help="Days until it is refused, or never.")
    ] = str(VALID_DAYS),
) -> None:
    """Make a token and print it: it cannot be shown again."""
    called, scopes, valid_for = checked_name(name), checked_scopes(scope or ["read"]), checked_expiry(expires)
    with opened(create=True) as service:
        token = new_token()
        kept = digest(token)
        if not service.store.commit(
            lambda tx: entered(
                tx,
                tokens.add(tx, called, scopes, kept, valid_for=valid_for),
                "token_added",
                f"{called}: {' '.join(scopes)}",
            )
        ):
            raise Failure(
                f"token {called} exists already: choose another name, or remove that token first.",
                status=BAD_INPUT,
            )
    put(token)
    until = "never expires" if valid_for is None else f"expires in {counted(valid_for.days, 'day')}"
    say(f"token {called} may {', '.join(scopes)} and {until}; it cannot be shown again")


@app.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List all tokens: scopes, expiry, last use."""
    with opened() as service, service.store.read() as tx:
        rows, now = tokens.load(tx), tx.now
    if as_json:
        put_json(
            [
                {
                    "name": token.name,
                    "scopes": list(token.scopes),
                    "created_at": time_text(token.created_at),
                    "expires_at": time_text(token.expires_at),
                    "used_at": time_text(token.used_at),
                    "used_from": token.used_from,
                }
                for token in rows
            ]
        )
    elif rows:
        put_table(
            ("name", "may", "since (UTC)", "expires (UTC)", "last use (UTC)", "from"),
            [
                (
                    token.name,
                    ", ".join(token.scopes),
                    when(token.created_at),
                    _expiry(token, now),
                    when(token.used_at, otherwise="never"),
                    token.used_from,
                )
                for token in rows
            ],
        )
    else:
        say("there are no tokens: make one with `order-sync tokens add NAME`")


def _expiry(token: tokens.StoredToken, now: datetime) -> str:
    at = when(token.expires_at, otherwise="never")
    if token.is_expired(now):
        return f"{at} (expired)"
    soon = token.expires_at is not None and token.expires_at - now <= TOKEN_WARNED_BEFORE
    return f"{at} (soon)" if soon else at


@app.command()
def remove(name: Name) -> None:
    """Revoke a token at once."""
    with opened() as service:
        if not service.store.commit(lambda tx: entered(tx, tokens.remove(tx, name), "token_removed", name)):
            raise Failure("there is no token of that name; see `order-sync tokens list`.", status=BAD_INPUT)
    say(f"token {name} is no longer accepted")
