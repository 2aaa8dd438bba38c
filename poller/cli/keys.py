"""``order-sync keys``: make encryption keys, and reseal stored data with a new one."""

from __future__ import annotations

from base64 import b64decode

import typer

from poller.cli.failures import BAD_INPUT, FAULT, INTERRUPTED, Failure
from poller.cli.output import put, say
from poller.cli.progress import progress
from poller.cli.session import enter, opened, stopped_by_signals
from poller.privacy.key_rotation import Rotation, about_keys, without_first_key
from poller.text import counted
from store import rotation
from store.sealing import key_id, new_key

app = typer.Typer()


@app.callback()
def keys() -> None:
    """Make encryption keys; reseal stored data with a new one."""


@app.command()
def new() -> None:
    """Make a key for ORDER_SYNC_ENCRYPTION_KEY and print it. Nothing is stored."""
    key = new_key()
    put(key)
    say(f"Its id is {key_id(b64decode(key)).hex()}, by which messages name it.")
    say("Set it as ORDER_SYNC_ENCRYPTION_KEY and keep a copy apart from the database: without it, buyer data")
    say("cannot be read. How to change keys while the service runs: docs/operation.md.")


@app.command()
def rotate() -> None:
    """Reseal stored data with the first key of ORDER_SYNC_ENCRYPTION_KEY, while services run.

    First add the new key as the second one in every process, then move it to the front in every process,
    then run this. It can be stopped and run again at any time. Afterwards remove the old key.

    Exit status: 0 if no value needs an old key, 1 if one still does; 2, and nothing is resealed, if a running
    process lacks the first key.
    """
    with opened() as service, stopped_by_signals(service) as signals:
        with service.store.read() as tx:
            old = rotation.count_old(tx)
            locked = sum(values for key, values in old.items() if key not in tx.sealer.key_ids)
        if locked:
            raise Failure(
                f"no key of ORDER_SYNC_ENCRYPTION_KEY opens {counted(locked, 'value')}: "
                "add the key that they were sealed with.",
                status=BAD_INPUT,
            )
        if lacking := without_first_key(service.store):
            raise Failure(
                f"{', '.join(lacking)} could not read what is sealed with the first key: add it to "
                "ORDER_SYNC_ENCRYPTION_KEY there, start that process again, then rotate (one that was killed "
                "counts as running for three minutes).",
                status=BAD_INPUT,
            )
        service.store.commit(lambda tx: enter(tx, "keys_rotated"))
        with progress("resealing values with the first key", old.total()) as advanced:
            resealing = Rotation(service.store, service.stop.is_set, service.stop.wait, advanced)
            remaining = resealing.run()
        say(
            f"{counted(resealing.replaced, 'value')} resealed; {counted(remaining, 'value')} of old keys left"
        )
        if resealing.damaged:
            say(
                f"{counted(resealing.damaged, 'value does', 'values do')} not open with any key: "
                "`order-sync db check` names them; the old key does not help them"
            )
        for sentence in about_keys(service.store):
            say(sentence)
    if signals:
        raise typer.Exit(INTERRUPTED)
    if remaining:
        say("another process still seals with an old key: change its settings, then run this command again")
        raise typer.Exit(FAULT)
