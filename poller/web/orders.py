"""Orders over HTTP: list, show, explain, fetch."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from connectors.marketplaces import BY_NAME
from poller.actions.orders import account_of, checked_id, fetched, headline, reasons_for, retained
from poller.bootstrap import Service
from poller.export import Order
from poller.web.dependencies import (
    Answer,
    CallerDep,
    ChangeDep,
    Cursor,
    Limit,
    ServiceDep,
    Word,
    bad_cursor,
    page_of,
    position_of,
    utc,
)
from poller.web.masking import orders_for
from poller.web.problems import Problem
from poller.web.schemas.base import Page
from poller.web.schemas.orders import Explanation, Fetched, FetchRequest
from store import quarantine, queries
from store.engine import Transaction
from store.records import Basis, OrderRecord

router = APIRouter(tags=["orders"])

Account = Annotated[Word | None, Query(description="Only orders of this account.")]


@router.get("/orders")
def list_orders(
    service: ServiceDep,
    caller: CallerDep,
    status: Annotated[Word | None, Query(description="Amazon's status, for example UNSHIPPED.")] = None,
    marketplace: Annotated[Word | None, Query(description="A country code, for example UK.")] = None,
    account: Account = None,
    customer_id: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    match_basis: Basis | None = None,
    created_from: Annotated[datetime | None, Query(description="Placed at this time or later.")] = None,
    created_to: Annotated[datetime | None, Query(description="Placed before this time.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Order]:
    """List orders, the most recently placed first."""
    records, more = orders_page(
        service,
        cursor,
        limit,
        status=None if status is None else status.upper(),
        marketplace=None if marketplace is None else _code(marketplace),
        account=account,
        customer_id=customer_id,
        match_basis=match_basis,
        created_from=utc(created_from),
        created_to=utc(created_to),
    )
    return Page[Order].model_validate({"items": orders_for(caller, records), "next": more})


def orders_page(
    service: Service, cursor: str | None, limit: int, **filters: Any
) -> tuple[list[OrderRecord], str | None]:
    """Return a page of orders and the next cursor; ``filters`` are those of ``queries.list_orders``."""
    with service.store.read() as tx:
        before = None
        if cursor is not None:
            before = queries.position_of(tx, *position_of(cursor, str, str))
            if before is None:
                raise bad_cursor()
        records = queries.list_orders(tx, limit=limit + 1, before=before, **filters)
    return page_of(records, limit, lambda order: (order.account, order.order_id))


def _code(name: str) -> str:
    place = BY_NAME.get(name.upper())
    if place is None:
        raise Problem(422, "invalid", "marketplace must be one of Amazon's, for example UK.")
    return place.code


def find_order(tx: Transaction, order_id: str, account: str | None) -> OrderRecord:
    """Return the order with this ID. Raises Problem if there is none, or several and no account."""
    matches = queries.find_orders(tx, order_id, account)
    if len(matches) > 1:
        names = " and ".join(sorted(order.account for order in matches))
        raise Problem(409, "ambiguous", f"accounts {names} both have this order: add the parameter account.")
    if not matches:
        entries = [e for e in quarantine.entries(tx, [order_id]) if account in (None, e.account)]
        where = "is not in the database: `order-sync orders fetch ID` reads it from Amazon"
        if entries:
            where = "is in quarantine: `order-sync quarantine show ID` says why"
        raise Problem(404, "unknown", f"this order {where}.")
    return matches[0]


@router.get("/orders/{order_id}", response_model=Order)
def show_order(
    service: ServiceDep, caller: CallerDep, order_id: Word, account: Account = None
) -> dict[str, Any]:
    """Show one order with its lines."""
    with service.store.read() as tx:
        order = find_order(tx, order_id, account)
    (shown,) = orders_for(caller, [order])
    return shown


@router.get("/orders/{order_id}/explanation")
def explain_order(service: ServiceDep, order_id: Word, account: Account = None) -> Explanation:
    """Explain why this order has its customer, or none."""
    with service.store.read() as tx:
        order = find_order(tx, order_id, account)
        explanation: dict[str, Any] = {
            "order_id": order.order_id,
            "account": order.account,
            "customer_id": order.customer_id,
            "match_basis": order.match_basis,
            "headline": headline(order),
            "reasons": list(reasons_for(tx, order)),
            "buyer_data": retained(tx, service.setup.retention, order),
        }
    return Explanation.model_validate(explanation)


@router.post("/orders/{order_id}/fetch", response_model=Fetched)
def fetch_order(service: ServiceDep, change: ChangeDep, order_id: Word, body: FetchRequest) -> Response:
    """Refetch one order from Amazon and store it."""
    order = checked_id(order_id)

    def work() -> Answer:
        message = fetched(service.store, account_of(service.accounts, body.account), order)
        return Answer(200, {"order_id": order, "account": body.account, "message": message})

    return change.outside_transaction(work)
