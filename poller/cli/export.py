"""``order-sync export``: all records, or those changed since a position, as a stream.

An export reads one transaction, so the position that it ends with is exact: the next export with it
repeats nothing that did not change, and leaves nothing out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

import typer

from poller.cli.export_files import write_csv, write_jsonl
from poller.cli.options import bad_position_refused, position_of
from poller.cli.output import say
from poller.cli.session import actor, audited, opened
from poller.export import customer_object, order_object
from store import changes, queries
from store.audit_records import AuditEntry, Records
from store.audit_records import Kind as OfKind
from store.change_records import START
from store.engine import Transaction

app = typer.Typer()
T = TypeVar("T")
Kind = Literal["orders", "customers"]


class Format(StrEnum):
    """Export formats."""

    JSONL = "jsonl"
    CSV = "csv"


AsFormat = Annotated[Format, typer.Option("--format", help="One JSON object per line, or CSV with a header.")]
Since = Annotated[str, typer.Option("--since", metavar="P", help="Only records changed after this position.")]


@app.callback()
def group() -> None:
    """Export orders or customers to standard output.

    The last line on standard error is the position P. Give it to --since next time to export only changes.
    """


@app.command()
def orders(as_format: AsFormat = Format.JSONL, since: Since = str(START)) -> None:
    """Export orders; in CSV, one row per line item."""
    _export("orders", as_format, since, queries.changed_orders, order_object)


@app.command()
def customers(as_format: AsFormat = Format.JSONL, since: Since = str(START)) -> None:
    """Export customers, including merged ones."""
    _export("customers", as_format, since, queries.changed_customers, customer_object)


def _entry(tx: Transaction, what: Kind, since: int, upto: int) -> AuditEntry:
    """Return the entry of the audit log for an export of these changes."""
    count = queries.count_changed(tx, what, since, upto)
    selection = {"after": str(since), "upto": str(upto)}
    kind: OfKind = "order" if what == "orders" else "customer"
    return AuditEntry(
        actor(), "exported", records=Records(what, count=count, selection=selection, all_of=(kind,))
    )


def _export(
    what: Kind,
    as_format: Format,
    since: str,
    changed: Callable[[Transaction, int, int], Iterable[T]],
    exported: Callable[[T], dict[str, Any]],
) -> None:
    after = position_of(since)
    with opened() as service, service.store.read() as tx:
        with bad_position_refused():
            changes.check_history(tx, after)
        position = changes.readable(tx)
        upto = tx.readable_change_no()
        audited(service.store, _entry(tx, what, after.whole, upto))
        objects = map(exported, changed(tx, after.whole, upto))
        if as_format is Format.CSV:
            write_csv(what, objects, sys.stdout)
        else:
            write_jsonl(objects, sys.stdout)
    sys.stdout.flush()
    say(str(position))
