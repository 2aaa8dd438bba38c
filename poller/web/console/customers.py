"""Customer pages: the list, and one customer with orders and journal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response

from poller.errors import NoCustomer
from poller.web.console.rendering import page, unchanged
from poller.web.customers import customers_page
from poller.web.dependencies import LARGEST_ID, CallerDep, Cursor, Id, ServiceDep
from poller.web.masking import customers_for, journal_for, orders_for
from store import queries, sales
from store.queries import JournalEntry
from store.records import CustomerStatus

router = APIRouter()

PAGE_SIZE = 50


@router.get("/customers")
def list_customers(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    status: Annotated[str, Query(max_length=16)] = "",
    business: Annotated[str, Query(max_length=80)] = "",
    cursor: Cursor = None,
) -> Response:
    """List customers, newest first; tombstones, too."""
    with service.store.read() as tx:
        state = (queries.last_change(tx, "customers"),)
    if (same := unchanged(request, state)) is not None:
        return same
    records, more = customers_page(service, cursor, PAGE_SIZE, status or None, business or None)
    return page(
        request,
        "customers.html",
        state=state,
        customers=customers_for(caller, records),
        more=more,
        chosen={"status": status, "business": business},
        statuses=get_args(CustomerStatus),
        businesses=sorted({*service.businesses().values()}),
        first=cursor is None,
    )


@router.get("/customers/{customer_id}")
def show_customer(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    customer_id: Id,
    done: Annotated[str, Query(max_length=20)] = "",
    other: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    moved: Annotated[int, Query(ge=0)] = 0,
    lost: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Show one customer with its orders and journal; its last merge, or its own, can be undone here."""
    with service.store.read() as tx:
        customer = queries.get_customer(tx, customer_id)
        if customer is None:
            raise NoCustomer(customer_id)
        orders = queries.list_orders(tx, limit=PAGE_SIZE + 1, customer_id=customer_id)
        bought = sales.of_customer(tx, customer_id)
        entries = queries.journal_of(tx, customer_id)
    (shown,) = customers_for(caller, [customer])
    return page(
        request,
        "customer.html",
        customer=shown,
        orders=orders_for(caller, orders[:PAGE_SIZE]),
        more=len(orders) > PAGE_SIZE,
        bought=bought,
        entries=journal_for(caller, entries),
        undoable=last_merge(customer_id, entries),
        done=done,
        other=other,
        moved=moved,
        lost=lost,
    )


def last_merge(customer_id: int, entries: Iterable[JournalEntry]) -> int | None:
    """Return the customer whose merge into this one stands and is the newest; only that one can be undone."""
    standing: list[int] = []
    for entry in entries:
        if entry.customer_id != customer_id or entry.other_id is None:
            continue
        if entry.action == "merge":
            standing.append(entry.other_id)
        elif entry.action == "unmerge" and entry.other_id in standing:
            standing.remove(entry.other_id)
    return standing[-1] if standing else None
