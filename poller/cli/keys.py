"""``order-sync keys``: encryption keys, and sealing everything anew with another one."""

from __future__ import annotations

import typer

from poller.cli.failures import BAD_INPUT, FAULT, INTERRUPTED, Failure
from poller.cli.output import progress, put, say
from poller.cli.session import opened, stopped_by_signals
from poller.privacy.key_rotation import Rotation, about_keys
from poller.text import counted
from store import rotation
from store.sealing import new_key

app = typer.Typer()


@app.callback()
def keys() -> None:
    """Make encryption keys; seal everything with the first one."""


@app.command()
def new() -> None:
    """Make a key for ORDER_SYNC_ENCRYPTION_KEY: the key on standard output, nothing is stored."""
    put(new_key())
    say("Set it as ORDER_SYNC_ENCRYPTION_KEY and keep a copy apart from the database: without it, buyer data")
    say("cannot be read again. How to change keys while the service runs: docs/operation.md.")


@app.command()
def rotate() -> None:
    """Seal everything with the first key of ORDER_SYNC_ENCRYPTION_KEY, beside running services.

    May be stopped at any moment, and called again: it goes on with what is left. Before: every process has
    the new key as its second one, then every process has it as its first one. After: the old key may go.

    Exit status: 0 nothing needs an old key any more, 1 something still does.
    """
    with opened() as service, stopped_by_signals(service) as signals:
        with service.store.read() as tx:
            needed = rotation.left(tx)
            strange = sum(many for key, many in needed.items() if key not in tx.sealer.key_ids)
        if strange:
            raise Failure(
                f"{counted(strange, 'value')} can be opened with no key of ORDER_SYNC_ENCRYPTION_KEY: "
                "add the key that they were sealed with.",
                status=BAD_INPUT,
            )
        with progress("sealing values with the first key", needed.total()) as advanced:
            turn = Rotation(service.store, service.stop.is_set, service.stop.wait, advanced)
            left = turn.run()
        say(f"{counted(turn.replaced, 'value')} sealed anew; {counted(left, 'value')} of old keys left")
        for sentence in about_keys(service.store):
            say(sentence)
    if signals:
        raise typer.Exit(INTERRUPTED)
    if left:
        say("another process still seals with an old key: change its settings, then run this again")
        raise typer.Exit(FAULT)
