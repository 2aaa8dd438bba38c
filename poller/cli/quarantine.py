"""``order-sync quarantine``: orders that could not be read, and retrying them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from poller.actions.quarantine import WITHOUT_ID, marketplace_of, quarantine_object, refetch_hint, retried
from poller.cli.failures import BAD_INPUT, FAULT, Failure
from poller.cli.options import AsJson, OfAccount
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import disclosed, opened
from poller.text import counted, indented, plain, readable_json, when
from store import quarantine
from store.audit_records import about
from store.quarantine import Quarantined

WAITS = "needs a person"
NEVER = "never: its id is not known"

app = typer.Typer()


@app.callback()
def group() -> None:
    """List, show and retry orders that could not be read. They are kept whole until they can."""


@app.command("list")
def list_quarantine(
    as_json: AsJson = False,
) -> None:
    """List the orders in quarantine, oldest first."""
    with opened() as service, service.store.read() as tx:
        entries = quarantine.entries(tx)
    if as_json:
        put_json([quarantine_object(entry) for entry in entries])
    elif entries:
        put_table(
            (
                "order",
                "account",
                "marketplace",
                ">attempts",
                "since (UTC)",
                "next refetch (UTC)",
                "reason",
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
                for e in entries
            ],
        )
    else:
        say("nothing is in quarantine")


@app.command()
def show(
    order_id: Annotated[str, typer.Argument(metavar="ORDER_ID", help="An id from `quarantine list`.")],
    account: OfAccount = None,
) -> None:
    """Show why an order is in quarantine, and what Amazon sent (as JSON, on standard output)."""
    with opened() as service, service.store.read() as tx:
        entries = _of(quarantine.entries(tx, [order_id]), account)
        if entries:
            disclosed(service, about("quarantine", (order_id,)))
    if not entries:
        raise Failure(
            f"order {order_id} is not in quarantine: `order-sync quarantine list` lists those that are.",
            status=BAD_INPUT,
        )
    if len(entries) > 1:
        names = " and ".join(sorted(entry.account for entry in entries))
        raise Failure(f"accounts {names} both have order {order_id} there: add --account.", status=BAD_INPUT)
    (entry,) = entries
    if entry.payload == quarantine.ERASED:
        raise Failure(
            f"{entry.order_id}: {quarantine.HAS_BEEN_ERASED} ({entry.reason}); {refetch_hint(entry)}."
        )
    attempts = f"{counted(entry.attempts, 'attempt')} since {when(entry.first_seen_at)} UTC"
    again = WAITS if quarantine.has_id(entry) else WITHOUT_ID
    if entry.next_attempt_at is not None:
        again = f"it is refetched at {when(entry.next_attempt_at)} UTC"
    say(plain(f"{entry.order_id} ({entry.account}): {entry.reason}; {attempts}; {again}"))
    put(readable_json(indented(entry.payload)))


def _waits(entry: Quarantined) -> str:
    """Return what stands in place of the time of the next refetch."""
    return WAITS if quarantine.has_id(entry) else NEVER


def _of(entries: Sequence[Quarantined], account: str | None) -> list[Quarantined]:
    return [entry for entry in entries if account in (None, entry.account)]


# --- retry ------------------------------------------------------------------------------------------


@app.command()
def retry(
    order_ids: Annotated[list[str] | None, typer.Argument(metavar="ORDER_ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Retry all orders in quarantine.")] = False,
    refetch: Annotated[
        bool, typer.Option("--refetch", help="Refetch from Amazon, instead of rereading what is stored.")
    ] = False,
    account: OfAccount = None,
) -> None:
    """Reread orders in quarantine, for example after an upgrade. Prints one line per order.

    Exit status: 0 if all of them left quarantine, else 1.
    """
    if bool(order_ids) == everything:
        raise Failure("give the orders to retry, or --all (not both).", status=BAD_INPUT)
    with opened(wired=True) as service:
        with service.store.read() as tx:
            entries = _of(quarantine.entries(tx, None if everything else order_ids), account)
        missing = sorted(set(order_ids or ()) - {entry.order_id for entry in entries})
        for order_id in missing:
            say(f"{order_id}: not in quarantine")
        if everything and not entries:
            say("nothing is in quarantine")
        failed = bool(missing)
        for entry in entries:
            problem = retried(service.store, service.accounts, entry, refetch)
            put(plain(f"{entry.order_id}: {problem or 'stored'}"))
            failed = failed or problem is not None
    if failed:
        raise typer.Exit(FAULT)
