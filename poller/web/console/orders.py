"""Pages about orders: the list, and one order with why it has its customer."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response

from connectors.marketplaces import MARKETPLACES
from poller.actions.orders import account_of, fetched, headline, reasons_for, retained
from poller.export import order_object
from poller.matching.statuses import STATUSES
from poller.web import dependencies
from poller.web import orders as api
from poller.web.console.rendering import page
from poller.web.dependencies import Cursor, Here, Who, Word
from poller.web.masking import orders_for
from store import queries
from store.orders import order_currency
from store.records import Basis

router = APIRouter()

MANY = 50


@router.get("/orders")
def list_orders(
    request: Request,
    service: Here,
    caller: Who,
    status: Annotated[str, Query(max_length=40)] = "",
    marketplace: Annotated[str, Query(max_length=8)] = "",
    basis: Annotated[str, Query(max_length=20)] = "",
    cursor: Cursor = None,
) -> Response:
    """Orders, the newest first."""
    with service.store.read() as tx:
        before = None
        if cursor is not None:
            before = queries.position_of(tx, *dependencies.position_of(cursor, str, str))
            if before is None:
                raise dependencies.bad_cursor()
        found = queries.list_orders(
            tx,
            limit=MANY + 1,
            status=status or None,
            marketplace=marketplace or None,
            match_basis=basis or None,
            before=before,
        )
    more = (
        dependencies.cursor_of(found[MANY - 1].account, found[MANY - 1].order_id)
        if len(found) > MANY
        else None
    )
    return page(
        request,
        "orders.html",
        orders=orders_for(caller, [order_object(o, order_currency(o)) for o in found[:MANY]]),
        more=more,
        chosen={"status": status, "marketplace": marketplace, "basis": basis},
        statuses=tuple(STATUSES),
        marketplaces=sorted(place.code for place in MARKETPLACES),
        bases=get_args(Basis),
        first=cursor is None,
    )


@router.get("/orders/{account}/{order_id}")
def show_order(request: Request, service: Here, caller: Who, account: Word, order_id: Word) -> Response:
    """One order: what it is, why it has its customer, and until when its buyer data stays."""
    return _shown(request, service, caller, account, order_id, None)


def _shown(
    request: Request, service: Here, caller: Who, account: str, order_id: str, message: str | None
) -> Response:
    with service.store.read() as tx:
        order = api.one(tx, order_id, account)
        told = headline(order)
        reasons = reasons_for(tx, order)
        buyer_data = retained(tx, service, order)
    (shown,) = orders_for(caller, [order_object(order, order_currency(order))])
    return page(
        request,
        "order.html",
        order=shown,
        headline=told,
        reasons=reasons,
        buyer_data=buyer_data,
        message=message,
    )


@router.post("/orders/{account}/{order_id}/fetch")
def fetch_order(request: Request, service: Here, caller: Who, account: Word, order_id: Word) -> Response:
    """Ask Amazon for one order again and store it."""
    with dependencies.asking():
        message = fetched(service, account_of(service, account), order_id)
    return _shown(request, service, caller, account, order_id, message)
