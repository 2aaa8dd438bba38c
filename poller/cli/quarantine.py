"""``order-sync quarantine``: orders that could not be understood, and another attempt at them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import typer

from poller.actions.quarantine import NAMELESS, ask_again, marketplace_of, quarantine_object, tried_again
from poller.cli.failures import BAD_INPUT, FAULT, Failure
from poller.cli.options import AsJson, OfAccount
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.text import counted, plain, when
from store import quarantine as store
from store.quarantine import Quarantined

WAITS = "waits for a person"
NEVER = "cannot be: its id is not known"

app = typer.Typer()


@app.callback()
def quarantine() -> None:
    """Orders that could not be understood: they are kept whole until they can."""


@app.command("list")
def list_quarantine(
    as_json: AsJson = False,
) -> None:
    """What is in quarantine, oldest first."""
    with opened() as service, service.store.read() as tx:
        found = store.entries(tx)
    if as_json:
        put_json([quarantine_object(entry) for entry in found])
    elif found:
        put_table(
            (
                "order",
                "account",
                "shop",
                ">attempts",
                "since (UTC)",
                "Amazon is asked again",
                "what could not be understood",
            ),
            [
                (
                    e.order_id,
                    e.account,
                    marketplace_of(e),
                    e.attempts,
                    when(e.first_seen_at),
                    when(e.next_attempt_at, otherwise=_waits(e)),
                    e.reason,
                )
                for e in found
            ],
        )
    else:
        say("nothing is in quarantine")


@app.command()
def show(
    order_id: Annotated[str, typer.Argument(metavar="ORDER_ID", help="As `quarantine list` names it.")],
    account: OfAccount = None,
) -> None:
    """Why an order is in quarantine, and what Amazon sent (as JSON, on standard output)."""
    with opened() as service, service.store.read() as tx:
        found = _of(store.entries(tx, [order_id]), account)
    if not found:
        raise Failure(f"order {order_id} is not in quarantine.", status=BAD_INPUT)
    if len(found) > 1:
        names = " and ".join(sorted(entry.account for entry in found))
        raise Failure(f"accounts {names} both have order {order_id} there: add --account.", status=BAD_INPUT)
    (entry,) = found
    if entry.payload == store.ERASED:
        raise Failure(f"{entry.order_id}: {store.HAS_BEEN_ERASED} ({entry.reason}); {ask_again(entry)}.")
    seen = f"{counted(entry.attempts, 'attempt')} since {when(entry.first_seen_at)} UTC"
    again = WAITS if store.has_id(entry) else NAMELESS
    if entry.next_attempt_at is not None:
        again = f"Amazon is asked again at {when(entry.next_attempt_at)} UTC"
    say(plain(f"{entry.order_id} ({entry.account}): {entry.reason}; {seen}; {again}"))
    put(_pretty(json.loads(entry.payload, parse_float=Decimal)))


def _waits(entry: Quarantined) -> str:
    """In place of a time at which Amazon is asked again."""
    return WAITS if store.has_id(entry) else NEVER


def _of(entries: Sequence[Quarantined], account: str | None) -> list[Quarantined]:
    return [entry for entry in entries if account in (None, entry.account)]


def _pretty(value: Any, indent: str = "") -> str:
    """Indented JSON with every number as Amazon wrote it."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(key)}: {_pretty(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        items = [inner + _pretty(item, inner) for item in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


# --- retry ------------------------------------------------------------------------------------------


@app.command()
def retry(
    order_ids: Annotated[list[str] | None, typer.Argument(metavar="ORDER_ID...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is in quarantine.")] = False,
    refetch: Annotated[
        bool, typer.Option("--refetch", help="Ask Amazon again, instead of applying what it sent then.")
    ] = False,
    account: OfAccount = None,
) -> None:
    """Try again, after an upgrade or a repair: one line for each order.

    Exit status 0 when all of them have left quarantine, else 1.
    """
    if bool(order_ids) == everything:
        raise Failure("name the orders to try again, or give --all (not both).", status=BAD_INPUT)
    with opened(wired=True) as service:
        with service.store.read() as tx:
            entries = _of(store.entries(tx, None if everything else order_ids), account)
        missing = sorted(set(order_ids or ()) - {entry.order_id for entry in entries})
        for order_id in missing:
            say(f"{order_id}: is not in quarantine")
        if everything and not entries:
            say("nothing is in quarantine")
        left = bool(missing)
        for entry in entries:
            problem = tried_again(service, entry, refetch)
            put(plain(f"{entry.order_id}: {problem or 'understood and stored'}"))
            left = left or problem is not None
    if left:
        raise typer.Exit(FAULT)
