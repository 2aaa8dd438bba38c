"""``order-sync keys``: encryption keys."""

from __future__ import annotations

import typer

from poller.cli.shell import put, say
from store.sealing import new_key

app = typer.Typer()


@app.callback()
def keys() -> None:
    """Make encryption keys."""


@app.command()
def new() -> None:
    """Make a key for ORDER_SYNC_ENCRYPTION_KEY: the key on standard output, nothing is stored."""
    put(new_key())
    say("Set it as ORDER_SYNC_ENCRYPTION_KEY and keep a copy apart from the database: without it, buyer data")
    say("cannot be read again. To change keys later, put the new one first: NEW,OLD.")
