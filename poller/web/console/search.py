"""Search by parts of order IDs, SKUs, tracking numbers, customers' numbers, e-mails and names, in one box.

The text is posted as a form: browsers and proxies keep addresses, and an e-mail or a name is buyer data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response

from poller.bootstrap import Service
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page, redirect_to
from poller.web.dependencies import CallerDep, ServiceDep
from poller.web.masking import Viewer, customers_for, orders_for
from poller.web.problems import Problem
from store import quarantine, queries, search
from store.engine import Transaction
from store.quarantine import Quarantined
from store.records import CustomerRecord, OrderRecord

router = APIRouter()

MAX_RESULTS = 50
MAX_TEXT = 254
SUGGESTED = 8
SUGGESTION_SECONDS = 0.06
"""How long parts of order IDs are searched while a person types."""

_PART_OF_ID = re.compile(r"[0-9A-Z-]{3,19}")
_TRACKING = re.compile(r"[0-9A-Za-z]{8,40}")


@dataclass(slots=True)
class Found:
    """What a search found."""

    orders: list[OrderRecord] = field(default_factory=list)
    customers: list[CustomerRecord] = field(default_factory=list)
    entries: list[Quarantined] = field(default_factory=list)
    too_many_words: bool = False


@router.get("/search")
def show_box(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Show an empty search: an address holds no query that a reload or a bookmark could repeat."""
    return _page(request, caller, "", Found())


@router.post("/search")
def search_all(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Find the orders and customers that match the text; a whole order ID opens the order."""
    text = _text(request)
    found = _found(service, caller, text)
    if len(found.orders) == 1 and found.orders[0].order_id == text and not found.entries:
        order = found.orders[0]
        return redirect_to(f"/orders/{order.account}/{order.order_id}")
    return _page(request, caller, text, found)


@router.post("/search/suggestions")
def suggest(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Return what the text may mean while it is typed: orders by a part of their ID, customers by number."""
    text = _text(request)
    orders: list[OrderRecord] = []
    customers: list[CustomerRecord] = []
    with service.store.read() as tx:
        if _PART_OF_ID.fullmatch(text.upper()):
            named = search.order_ids_with(tx, text.upper(), SUGGESTED, SUGGESTION_SECONDS)
            orders = search.orders_named(tx, named)
        if text:
            customers = search.customers_numbered(tx, text)[:SUGGESTED]
    return page(
        request,
        "suggestions.html",
        orders=orders_for(caller, orders),
        customers=customers_for(caller, customers),
    )


def _text(request: Request) -> str:
    text = fields_of(request).one("q")
    if len(text) > MAX_TEXT:
        raise Problem(422, "invalid", f"a search has at most {MAX_TEXT} characters.")
    return text


def _found(service: Service, caller: Viewer, text: str) -> Found:
    if not text:
        return Found()
    with service.store.read() as tx:
        found = Found(queries.find_orders(tx, text), entries=quarantine.entries(tx, [text]))
        if found.orders:
            return found
        if "@" in text:
            return _by_email(tx, text) if caller.sees_buyers else found
        found.customers = search.customers_numbered(tx, text)
        found.orders = _by_parts(tx, text)
        if caller.sees_buyers and not found.orders and not found.customers:
            try:
                found.customers = search.customers_named(tx, text, MAX_RESULTS)
            except search.TooManyWords:
                found.too_many_words = True
        return found


def _by_parts(tx: Transaction, text: str) -> list[OrderRecord]:
    """Return orders by a part of their ID, else by SKU, else by a tracking number."""
    if _PART_OF_ID.fullmatch(text.upper()):
        orders = search.orders_named(tx, search.order_ids_with(tx, text.upper(), MAX_RESULTS))
        if orders:
            return orders
    orders = search.orders_with_sku(tx, text, MAX_RESULTS)
    if orders or len(text) < 3:
        return orders
    if _TRACKING.fullmatch(text):
        orders = search.orders_tracked(tx, text, MAX_RESULTS)
    return orders or search.orders_with_sku(tx, text, MAX_RESULTS, part=True)


def _by_email(tx: Transaction, text: str) -> Found:
    customers = queries.list_customers(tx, limit=MAX_RESULTS, email=text)
    orders = [
        order
        for customer in customers
        for order in queries.list_orders(tx, limit=MAX_RESULTS, customer_id=customer.customer_id)
    ]
    return Found(orders[:MAX_RESULTS], customers)


def _page(request: Request, caller: Viewer, text: str, found: Found) -> Response:
    return page(
        request,
        "search.html",
        q=text,
        orders=orders_for(caller, found.orders),
        customers=customers_for(caller, found.customers),
        entries=found.entries,
        max_results=MAX_RESULTS,
        max_words=search.MAX_WORDS if found.too_many_words else None,
    )
