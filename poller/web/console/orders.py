"""Order pages: the list, and one order with the reasons for its customer."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response

from connectors.marketplaces import MARKETPLACES
from poller.actions.orders import account_of, fetched, headline, reasons_for, retained
from poller.matching.statuses import STATUSES
from poller.web.console.rendering import page
from poller.web.dependencies import CallerDep, Cursor, ServiceDep, Word, asking_amazon
from poller.web.masking import orders_for
from poller.web.orders import find_order, orders_page
from store.records import Basis

router = APIRouter()

PAGE_SIZE = 50


@router.get("/orders")
def list_orders(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    status: Annotated[str, Query(max_length=40)] = "",
    marketplace: Annotated[str, Query(max_length=8)] = "",
    basis: Annotated[str, Query(max_length=20)] = "",
    cursor: Cursor = None,
) -> Response:
    """List orders, newest first."""
    records, more = orders_page(
        service,
        cursor,
        PAGE_SIZE,
        status=status or None,
        marketplace=marketplace or None,
        match_basis=basis or None,
    )
    return page(
        request,
        "orders.html",
        orders=orders_for(caller, records),
        more=more,
        chosen={"status": status, "marketplace": marketplace, "basis": basis},
        statuses=tuple(STATUSES),
        marketplaces=sorted(place.code for place in MARKETPLACES),
        bases=get_args(Basis),
        first=cursor is None,
    )


@router.get("/orders/{account}/{order_id}")
def show_order(
    request: Request, service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> Response:
    """Show one order, why it has its customer, and how long its buyer data is kept."""
    return _order_page(request, service, caller, account, order_id, None)


def _order_page(
    request: Request, service: ServiceDep, caller: CallerDep, account: str, order_id: str, message: str | None
) -> Response:
    with service.store.read() as tx:
        order = find_order(tx, order_id, account)
        title = headline(order)
        reasons = reasons_for(tx, order)
        buyer_data = retained(tx, service.setup.retention, order)
    (shown,) = orders_for(caller, [order])
    return page(
        request,
        "order.html",
        order=shown,
        headline=title,
        reasons=reasons,
        buyer_data=buyer_data,
        message=message,
    )


@router.post("/orders/{account}/{order_id}/fetch")
def fetch_order(
    request: Request, service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> Response:
    """Refetch one order from Amazon and store it."""
    with asking_amazon():
        message = fetched(service.store, account_of(service.accounts, account), order_id)
    return _order_page(request, service, caller, account, order_id, message)
