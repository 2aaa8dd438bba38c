"""``order-sync webhooks``: who is told of changes, and what they have missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.text import counted, time_text, when
from poller.webhooks.rules import checked_url, event_object, new_secret
from store import webhooks as store
from store.changes import BadPosition, Change, Position, read_position
from store.webhooks import Backlog, Held, Hook

app = typer.Typer()
HookId = Annotated[int, typer.Argument(metavar="ID", help="As `webhooks list` numbers it.")]


@app.callback()
def webhooks() -> None:
    """Who is told of changes of orders and customers, by signed requests (see docs/changes.md)."""


def _position(text: str) -> Position:
    with _bad_position_told():
        return read_position(text)


@contextmanager
def _bad_position_told() -> Iterator[None]:
    try:
        yield
    except BadPosition as error:
        raise Failure(f"--since: {error}.", status=BAD_INPUT) from None


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https; plain http only to this machine.")],
    since: Annotated[
        str | None, typer.Option("--since", metavar="P", help="From this position on instead of from now on.")
    ] = None,
) -> None:
    """Tell this address of every change from now on. Prints the secret that signs the requests."""
    try:
        checked = checked_url(url)
    except ValueError as error:
        raise Failure(f"URL {error}.", status=BAD_INPUT) from None
    position = None if since is None else _position(since)
    secret = new_secret()
    with opened(create=True) as service, _bad_position_told(), service.store.begin() as tx:
        hook = store.add(tx, checked, secret, position)
    put(secret)
    say(f"web hook {hook.hook_id} is told of what changes after position {hook.position}.")
    say("The secret is shown this once: give it to the receiver, which checks webhook-signature with it.")


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """All web hooks: how far each was told, and what it did not take."""
    with opened() as service, service.store.read() as tx:
        found = [(hook, store.backlog(tx, hook)) for hook in store.load(tx)]
    if as_json:
        put_json([hook_object(hook, backlog) for hook, backlog in found])
    elif found:
        put_table(
            (
                ">id",
                "URL",
                ">position",
                "behind since (UTC)",
                ">waiting",
                ">dead",
                "last answer (UTC)",
                "fails",
            ),
            [
                (
                    hook.hook_id,
                    hook.url,
                    str(hook.position),
                    when(backlog.oldest),
                    backlog.waiting or None,
                    backlog.dead or None,
                    when(hook.succeeded_at),
                    None
                    if hook.failing_since is None
                    else f"since {when(hook.failing_since)}: {hook.last_error}",
                )
                for hook, backlog in found
            ],
        )
    else:
        say("there is no web hook")


def hook_object(hook: Hook, backlog: Backlog) -> dict[str, Any]:
    """One web hook; its secret is not among the keys."""
    return {
        "id": hook.hook_id,
        "url": hook.url,
        "position": str(hook.position),
        "behind_since": time_text(backlog.oldest),
        "waiting": backlog.waiting,
        "dead": backlog.dead,
        "succeeded_at": time_text(hook.succeeded_at),
        "failing_since": time_text(hook.failing_since),
        "retry_at": time_text(hook.retry_at),
        "last_error": hook.last_error,
        "created_at": time_text(hook.created_at),
    }


@app.command()
def remove(hook_id: HookId) -> None:
    """Tell this web hook nothing more."""
    with opened() as service, service.store.begin() as tx:
        if not store.remove(tx, hook_id):
            raise _unknown(hook_id)
    say(f"web hook {hook_id} is removed")


def _unknown(hook_id: int) -> Failure:
    return Failure(f"there is no web hook {hook_id}: `order-sync webhooks list` has them.", status=BAD_INPUT)


@app.command()
def dead(hook_id: HookId, as_json: AsJson = False) -> None:
    """The events that this web hook did not take and that were given up, oldest first."""
    with opened() as service, service.store.read() as tx:
        if not store.load(tx, hook_id):
            raise _unknown(hook_id)
        found = store.dead(tx, hook_id)
    if as_json:
        put_json([dead_object(held, change) for held, change in found])
    elif found:
        put_table(
            (">position", "event", "about", ">attempts", "since (UTC)", "last error"),
            [
                (
                    str(held.position),
                    change.kind if change else None,
                    (change.order_id or f"customer {change.customer_id}") if change else "erased since",
                    held.attempts,
                    when(held.failed_at),
                    held.last_error,
                )
                for held, change in found
            ],
        )
    else:
        say(f"web hook {hook_id} has no event that was given up")


def dead_object(held: Held, change: Change | None) -> dict[str, Any]:
    """One event that was given up; ``event`` is null when its record was erased."""
    return {
        "position": str(held.position),
        "event": None if change is None else event_object(change),
        "attempts": held.attempts,
        "failed_at": time_text(held.failed_at),
        "last_error": held.last_error,
    }


@app.command()
def replay(
    hook_id: HookId,
    since: Annotated[
        str | None, typer.Option("--since", metavar="P", help="All events after this position.")
    ] = None,
    given_up: Annotated[bool, typer.Option("--dead", help="The events that were given up.")] = False,
) -> None:
    """Tell this web hook again: all that came after a position, or what was given up."""
    if (since is None) is not given_up:
        raise Failure("give --since P or --dead (not both).", status=BAD_INPUT)
    position = None if since is None else _position(since)
    with opened() as service, _bad_position_told(), service.store.begin() as tx:
        if not store.load(tx, hook_id):
            raise _unknown(hook_id)
        if position is None:
            revived = store.revive(tx, hook_id)
        else:
            store.replay(tx, hook_id, position)
    if position is None:
        say(f"web hook {hook_id}: {counted(revived, 'event')} will be sent again")
    else:
        say(f"web hook {hook_id} will be told again what came after position {position}")
