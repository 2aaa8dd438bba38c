"""``order-sync export``: everything, or what has changed since a position, as a stream.

All of it is read in one transaction, so that an export is of one moment, and the position that it ends
with is exact: nothing is told twice that did not change, and nothing is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.output import say
from poller.cli.session import opened
from poller.export import customer_object, order_object, write_csv, write_jsonl
from store import queries
from store.engine import Transaction
from store.orders import order_currency
from store.records import CustomerRecord, OrderRecord

app = typer.Typer()


class Format(StrEnum):
    """How records are written."""

    JSONL = "jsonl"
    CSV = "csv"


_NEVER = datetime(1, 1, 1, tzinfo=UTC)
KEYS = {
    "orders": tuple(order_object(OrderRecord("", "", "", _NEVER, _NEVER, {}), None)),
    "customers": tuple(customer_object(CustomerRecord("", None, None, _NEVER))),
}
"""The exported keys: an export without a record has its heading too."""

AsFormat = Annotated[Format, typer.Option("--format", help="One JSON object a line, or CSV with a heading.")]
Since = Annotated[
    int, typer.Option("--since", metavar="P", min=0, help="Only what changed after this position.")
]


@app.callback()
def export() -> None:
    """Orders or customers to standard output.

    The last line on standard error is the position P: give it to --since the next time, and only what has
    changed comes.
    """


@app.command()
def orders(as_format: AsFormat = Format.JSONL, since: Since = 0) -> None:
    """Orders. In CSV one row for each line item."""
    _export("orders", as_format, since, _orders)


@app.command()
def customers(as_format: AsFormat = Format.JSONL, since: Since = 0) -> None:
    """Customers, those that were merged away too."""
    _export("customers", as_format, since, _customers)


def _orders(tx: Transaction, since: int, upto: int) -> Iterator[dict[str, Any]]:
    for order in queries.changed_orders(tx, since, upto):
        yield order_object(order, order_currency(order))


def _customers(tx: Transaction, since: int, upto: int) -> Iterator[dict[str, Any]]:
    for customer in queries.changed_customers(tx, since, upto):
        yield customer_object(customer)


def _export(
    what: str,
    as_format: Format,
    since: int,
    changed: Callable[[Transaction, int, int], Iterator[dict[str, Any]]],
) -> None:
    with opened() as service, service.store.read() as tx:
        upto = tx.readable_change_no()
        if since > upto:
            raise Failure(
                f"position {since} lies ahead of this database, which is at {upto}: it is another one's.",
                status=BAD_INPUT,
            )
        objects = changed(tx, since, upto)
        if as_format is Format.CSV:
            write_csv(what, objects, KEYS[what], sys.stdout)
        else:
            write_jsonl(objects, sys.stdout)
    sys.stdout.flush()
    say(str(upto))
