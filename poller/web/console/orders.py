"""Order pages: the list, and one order with the reasons for its customer."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, cast, get_args

from fastapi import APIRouter, Depends, Query, Request, Response

from poller.actions.arguments import day_after, parsed_time
from poller.actions.orders import account_of, fetched, headline, reasons_for, retained
from poller.bootstrap import Service
from poller.matching.statuses import PENDING, STATUSES
from poller.text import defused
from poller.web.console.bill import bill_of
from poller.web.console.rendering import page, unchanged
from poller.web.console.timeline import timeline_of
from poller.web.console.tracking import tracking_url
from poller.web.dependencies import (
    CallerDep,
    Cursor,
    ServiceDep,
    Word,
    asking_amazon,
    bad_cursor,
    cursor_of,
    position_of,
)
from poller.web.masking import Viewer, orders_for
from poller.web.orders import find_order
from poller.web.problems import Problem
from store import order_list, queries
from store.engine import Transaction
from store.order_list import MAX_SORTED, Column, OrderFilter, OrdersPage, Position
from store.records import Basis

router = APIRouter()

PAGE_SIZE = 50
CSV_PART = 500
MAX_CSV = 10_000
"""Most orders in one file: the newest that match."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the reader of the list has chosen, as it stands in the address."""

    status: str
    marketplace: str
    fulfilment: str
    basis: str
    account: str
    lower: str
    upper: str
    sort: str

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the address, but for those that are empty."""
        named = {
            "status": self.status,
            "marketplace": self.marketplace,
            "fulfilment": self.fulfilment,
            "basis": self.basis,
            "account": self.account,
            "from": self.lower,
            "to": self.upper,
            "sort": self.sort,
        }
        return {name: value for name, value in named.items() if value}

    @property
    def column(self) -> Column:
        return cast(Column, self.sort.removeprefix("-") or "created")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-") or not self.sort

    @property
    def is_by_time(self) -> bool:
        """True if the newest come first."""
        return self.sort in ("", "-created")

    def filter(self) -> OrderFilter:
        """Return which orders are listed. Raises Refused."""
        return OrderFilter(
            account=self.account or None,
            status=None if self.status in ("", "pending") else self.status,
            pending=self.status == "pending",
            marketplace=self.marketplace or None,
            fulfilled_by=self.fulfilment or None,
            match_basis=self.basis or None,
            created_from=parsed_time("from", self.lower) if self.lower else None,
            created_to=day_after("to", self.upper) if self.upper else None,
        )


def _chosen(
    status: Annotated[str, Query(max_length=40)] = "",
    marketplace: Annotated[str, Query(max_length=16)] = "",
    fulfilment: Annotated[str, Query(max_length=40)] = "",
    basis: Annotated[str, Query(max_length=20)] = "",
    account: Annotated[str, Query(max_length=64)] = "",
    lower: Annotated[str, Query(alias="from", max_length=10)] = "",
    upper: Annotated[str, Query(alias="to", max_length=10)] = "",
    sort: Annotated[str, Query(max_length=20)] = "",
) -> Chosen:
    if sort and sort.removeprefix("-") not in order_list.COLUMNS:
        raise Problem(422, "invalid", f"orders can be sorted by {', '.join(order_list.COLUMNS)}.")
    return Chosen(status, marketplace, fulfilment, basis, account, lower, upper, sort)


ChosenDep = Annotated[Chosen, Depends(_chosen)]


# --- the list ---------------------------------------------------------------------------------------


@router.get("/orders")
def list_orders(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    chosen: ChosenDep,
    cursor: Cursor = None,
    number: Annotated[int, Query(alias="page", ge=1, le=MAX_SORTED // PAGE_SIZE)] = 1,
) -> Response:
    """List orders, the newest first or by a column."""
    with service.store.read() as tx:
        state = (queries.last_change(tx, "orders"),)
        same = unchanged(request, state)
        if same is not None:
            return same
        before = None if cursor is None else _position(cursor)
        found = _found(tx, chosen, PAGE_SIZE, before, (number - 1) * PAGE_SIZE)
    more: dict[str, object] | None = None
    if found.after is not None:
        more = {"cursor": cursor_of(found.after.created_at.isoformat(), found.after.order_key)}
    elif found.has_more:
        more = {"page": number + 1}
    return page(
        request,
        "orders.html",
        state=state,
        orders=orders_for(caller, found.orders),
        found=found,
        more=more,
        chosen=chosen,
        chosen_parameters=chosen.parameters(),
        statuses=[word for word in STATUSES if word not in PENDING],
        marketplaces=_marketplaces(service, chosen),
        accounts=_accounts(service, chosen),
        bases=get_args(Basis),
        first=cursor is None and number == 1,
        max_sorted=MAX_SORTED,
        max_csv=MAX_CSV,
    )


def _found(tx: Transaction, chosen: Chosen, limit: int, before: Position | None, offset: int) -> OrdersPage:
    """Return a part of the list: by time it begins at a position, in any other order at an offset."""
    wanted = chosen.filter()
    if chosen.is_by_time:
        return order_list.newest(tx, wanted, limit, before)
    return order_list.sorted_by(tx, wanted, chosen.column, limit, offset, descending=chosen.descending)


def _position(cursor: str) -> Position:
    at, key = position_of(cursor, str, int)
    try:
        return Position(datetime.fromisoformat(at).astimezone(UTC), key)
    except (ValueError, OverflowError):
        raise bad_cursor() from None


def _marketplaces(service: Service, chosen: Chosen) -> list[str]:
    configured = {m.code for account in service.accounts.values() for m in account.marketplaces.values()}
    return sorted(configured | ({chosen.marketplace} if chosen.marketplace else set()))


def _accounts(service: Service, chosen: Chosen) -> list[str]:
    return sorted({*service.accounts, *([chosen.account] if chosen.account else [])})


CSV_COLUMNS = (
    "order_id",
    "account",
    "marketplace",
    "created_at",
    "buyer_name",
    "customer_id",
    "match_basis",
    "status",
    "fulfilled_by",
    "ship_by",
    "total",
    "currency",
)


@router.get("/orders.csv")
def download_orders(service: ServiceDep, caller: CallerDep, chosen: ChosenDep) -> Response:
    """Return what the list shows as CSV: the newest orders that match, up to 10,000."""
    out = io.StringIO()
    # A byte order mark: without it spreadsheets take UTF-8 for something else.
    out.write("\ufeff")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for part in _parts(service, chosen):
        for order in orders_for(caller, part.orders):
            cells = (order[name] for name in CSV_COLUMNS)
            writer.writerow([defused(cell) if isinstance(cell, str) else cell for cell in cells])
    headers = {"Content-Disposition": 'attachment; filename="orders.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _parts(service: Service, chosen: Chosen) -> Iterator[OrdersPage]:
    """Yield the orders of a file: by time in parts, each from a transaction of its own, else all at once."""
    size = CSV_PART if chosen.is_by_time else MAX_SORTED
    written, position = 0, None
    while written < MAX_CSV:
        with service.store.read() as tx:
            found = _found(tx, chosen, min(size, MAX_CSV - written), position, written)
        yield found
        written += len(found.orders)
        position = found.after
        if position is None:
            return


# --- one order --------------------------------------------------------------------------------------


@router.get("/orders/{account}/{order_id}")
def show_order(
    request: Request, service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> Response:
    """Show one order, why it has its customer, and how long its buyer data is kept."""
    return _order_page(request, service, caller, account, order_id, None)


def _order_page(
    request: Request, service: ServiceDep, caller: Viewer, account: str, order_id: str, message: str | None
) -> Response:
    with service.store.read() as tx:
        order = find_order(tx, order_id, account)
        values: dict[str, Any] = {
            "headline": headline(order),
            "reasons": reasons_for(tx, order),
            "buyer_data": retained(tx, service.setup.retention, order),
        }
    (shown,) = orders_for(caller, [order])
    return page(
        request,
        "order.html",
        order=shown,
        bill=bill_of(order),
        timeline=timeline_of(order),
        packages=[
            (package, tracking_url(package.carrier, package.tracking_number)) for package in order.packages
        ],
        several=len(service.accounts) > 1,
        message=message,
        **values,
    )


@router.post("/orders/{account}/{order_id}/fetch")
def fetch_order(
    request: Request, service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> Response:
    """Refetch one order from Amazon and store it."""
    with asking_amazon():
        message = fetched(service.store, account_of(service.accounts, account), order_id)
    return _order_page(request, service, caller, account, order_id, message)
