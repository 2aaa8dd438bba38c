"""``order-sync webhooks``: which programs are notified of changes, and which events they missed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from config.values import webhook_url
from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson, bad_position_refused, position_of
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import enter, opened
from poller.text import counted, time_text, when
from poller.webhooks.rules import event_object, new_secret
from store import webhooks
from store.change_records import Backlog, Change, Held, Hook

app = typer.Typer()
HookId = Annotated[int, typer.Argument(metavar="ID", help="The webhook's number; see `webhooks list`.")]


@app.callback()
def group() -> None:
    """Notify other programs of changed orders and customers by signed requests (see docs/changes.md)."""


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="An https URL; plain http only to this machine.")],
    since: Annotated[
        str | None, typer.Option("--since", metavar="P", help="Start after this position instead of now.")
    ] = None,
) -> None:
    """Notify this URL of every change from now on. Prints the secret that signs the requests."""
    try:
        checked = webhook_url(url)
    except ValueError as error:
        raise Failure(f"URL {error}.", status=BAD_INPUT) from None
    position = None if since is None else position_of(since)
    secret = new_secret()
    with opened(create=True) as service, bad_position_refused(), service.store.begin() as tx:
        hook = webhooks.add(tx, checked, secret, position)
        enter(tx, "webhook_added", detail=f"webhook {hook.hook_id}")
    put(secret)
    say(f"webhook {hook.hook_id} is notified of changes after position {hook.position}.")
    say("The secret is not shown again: the receiver needs it to check webhook-signature.")


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """List all webhooks: how far each has been notified, and what it did not accept."""
    with opened() as service, service.store.read() as tx:
        hooks = [(hook, webhooks.backlog(tx, hook)) for hook in webhooks.load(tx)]
    if as_json:
        put_json([hook_object(hook, backlog) for hook, backlog in hooks])
    elif hooks:
        put_table(
            (
                ">id",
                "URL",
                ">position",
                "behind since (UTC)",
                ">waiting",
                ">dead",
                "last answer (UTC)",
                "failing",
            ),
            [
                (
                    hook.hook_id,
                    shown_url(hook.url),
                    str(hook.position),
                    when(backlog.oldest),
                    backlog.waiting or None,
                    backlog.dead or None,
                    when(hook.succeeded_at),
                    None
                    if hook.failing_since is None
                    else f"since {when(hook.failing_since)}: {hook.last_error}",
                )
                for hook, backlog in hooks
            ],
        )
    else:
        say("there are no webhooks")


def shown_url(url: str) -> str:
    """Return an address without the values of its query, which may be secrets."""
    front, mark, _ = url.partition("?")
    return f"{front}{mark}…" if mark else url


def hook_object(hook: Hook, backlog: Backlog) -> dict[str, Any]:
    """Return a webhook as JSON, without its secret."""
    return {
        "id": hook.hook_id,
        "url": shown_url(hook.url),
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
    """Remove a webhook: it is no longer notified."""
    with opened() as service, service.store.begin() as tx:
        if not webhooks.remove(tx, hook_id):
            raise _unknown(hook_id)
        enter(tx, "webhook_removed", detail=f"webhook {hook_id}")
    say(f"webhook {hook_id} is removed")


def _unknown(hook_id: int) -> Failure:
    return Failure(f"there is no webhook {hook_id}; see `order-sync webhooks list`.", status=BAD_INPUT)


@app.command()
def dead(hook_id: HookId, as_json: AsJson = False) -> None:
    """List the events that a webhook did not accept and that are no longer sent, oldest first."""
    with opened() as service, service.store.read() as tx:
        if not webhooks.load(tx, hook_id):
            raise _unknown(hook_id)
        events = webhooks.dead(tx, hook_id)
    if as_json:
        put_json([dead_object(held, change) for held, change in events])
    elif events:
        put_table(
            (">position", "event", "about", ">attempts", "since (UTC)", "last error"),
            [
                (
                    str(held.position),
                    change.kind if change else None,
                    (change.order_id or f"customer {change.customer_id}") if change else "erased meanwhile",
                    held.attempts,
                    when(held.failed_at),
                    held.last_error,
                )
                for held, change in events
            ],
        )
    else:
        say(f"webhook {hook_id} has no dead events")


def dead_object(held: Held, change: Change | None) -> dict[str, Any]:
    """Return a dead event as JSON; ``event`` is null if its record was erased."""
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
        str | None, typer.Option("--since", metavar="P", help="Send all events after this position.")
    ] = None,
    given_up: Annotated[bool, typer.Option("--dead", help="Send the dead events.")] = False,
) -> None:
    """Send events to a webhook again: all after a position, or the dead ones."""
    if (since is None) is not given_up:
        raise Failure("give --since P or --dead (not both).", status=BAD_INPUT)
    position = None if since is None else position_of(since)
    with opened() as service, bad_position_refused(), service.store.begin() as tx:
        if not webhooks.load(tx, hook_id):
            raise _unknown(hook_id)
        enter(tx, "webhook_replayed", detail=f"webhook {hook_id}")
        if position is None:
            revived = webhooks.revive(tx, hook_id)
        else:
            webhooks.replay(tx, hook_id, position)
    if position is None:
        say(f"webhook {hook_id}: {counted(revived, 'event')} will be sent again")
    else:
        say(f"webhook {hook_id}: all events after position {position} will be sent again")
