"""``order-sync audit``: who did and saw what. Entries are kept for twelve months."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, get_args

import typer

from poller.actions.arguments import OPTIONS, parsed_time
from poller.audit import audit_object, shown_records
from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson, Limit
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from store import audit
from store.audit import Filter
from store.audit_records import Action

app = typer.Typer()

Who = Annotated[
    str | None, typer.Option(metavar="NAME", help="user:ann, token:erp, cli:root; user:* for all.")
]
ActionWord = Annotated[str | None, typer.Option("--action", metavar="WORD", help="For example disclosed.")]
Order = Annotated[str | None, typer.Option(metavar="ORDER_ID", help="Only entries that may be about it.")]
Customer = Annotated[int | None, typer.Option(metavar="ID", help="Only entries that may be about this one.")]
From = Annotated[str | None, typer.Option("--from", metavar="DATE", help="First day or time (UTC).")]
To = Annotated[
    str | None, typer.Option("--to", metavar="DATE", help="The day after the last one, or a time (UTC).")
]

EXPORTED_AT_ONCE = 1000


@app.callback()
def group() -> None:
    """List and export the audit log: who did and saw what, from where, whose, and how it ended."""


@app.command("list")
def list_entries(
    who: Who = None,
    action: ActionWord = None,
    order: Order = None,
    customer: Customer = None,
    start: From = None,
    end: To = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest entries, newest first.

    With --order or --customer, exports and other entries about many records are listed, too: they may
    include it.
    """
    wanted = _filter(who, action, order, customer, start, end)
    with opened() as service, service.store.read() as tx:
        entries = audit.newest(tx, limit + 1, wanted)
    more, entries = len(entries) > limit, entries[:limit]
    if as_json:
        put_json([audit_object(entry) for entry in entries])
    elif entries:
        put_table(
            ("at (UTC)", "who", "from", "door", "action", "outcome", ">times", "records", "detail"),
            [
                (
                    None if entry.at is None else f"{entry.at:%Y-%m-%d %H:%M:%S}",
                    entry.actor.who,
                    entry.actor.client,
                    entry.actor.door,
                    entry.action,
                    entry.outcome,
                    entry.times if entry.times > 1 else None,
                    shown_records(entry.records),
                    entry.detail,
                )
                for entry in entries
            ],
        )
    else:
        say("no entry matches")
    if more:
        say(f"only the newest {limit} are shown; see --limit, or `order-sync audit export` for all")


@app.command()
def export(
    who: Who = None,
    action: ActionWord = None,
    order: Order = None,
    customer: Customer = None,
    start: From = None,
    end: To = None,
    since: Annotated[
        int, typer.Option("--since", metavar="P", min=0, help="Only entries after this position.")
    ] = 0,
) -> None:
    """Export entries as JSON Lines, oldest first, to standard output.

    The last line on standard error is the position P. Give it to --since next time to continue.
    """
    wanted = _filter(who, action, order, customer, start, end)
    with opened() as service, service.store.read() as tx:
        last = audit.last_number(tx)
        if since > last:
            raise Failure(
                f"--since: {since} is after the newest entry, {last} (after a restore?): export everything.",
                status=BAD_INPUT,
            )
        position = since
        while entries := audit.after(tx, position, EXPORTED_AT_ONCE, wanted):
            for entry in entries:
                put(json.dumps(audit_object(entry), ensure_ascii=False))
            position = entries[-1].entry
    say(str(max(last, since)))


def _filter(
    who: str | None,
    action: str | None,
    order: str | None,
    customer: int | None,
    start: str | None,
    end: str | None,
) -> Filter:
    """Return the filter that was typed. Raises Failure and Refused."""
    known = get_args(Action)
    if action is not None and action not in known:
        raise Failure(f"{action} is not an action: use one of {', '.join(known)}.", status=BAD_INPUT)
    since, until = _time(start, OPTIONS.lower), _time(end, OPTIONS.upper)
    return Filter(who, action, order, customer, since, until)


def _time(text: str | None, option: str) -> datetime | None:
    return None if text is None else parsed_time(option, text)
