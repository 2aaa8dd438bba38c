"""Search by order ID, SKU, e-mail or name, in one box.

The text is posted as a form: browsers and proxies keep addresses, and an e-mail or a name is buyer data.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from poller.bootstrap import Service
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page
from poller.web.dependencies import CallerDep, ServiceDep
from poller.web.masking import Viewer, customers_for, orders_for
from poller.web.problems import Problem
from store import quarantine, queries, search
from store.records import CustomerRecord, OrderRecord

router = APIRouter()

MAX_RESULTS = 50
MAX_TEXT = 254


@router.get("/search")
def show_box(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Show an empty search: an address holds no query that a reload or a bookmark could repeat."""
    return _found(request, service, caller, "")


@router.post("/search")
def search_all(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Find the orders and customers that match the text."""
    return _found(request, service, caller, fields_of(request).one("q"))


def _found(request: Request, service: Service, caller: Viewer, text: str) -> Response:
    if len(text) > MAX_TEXT:
        raise Problem(422, "invalid", f"a search has at most {MAX_TEXT} characters.")
    orders: list[OrderRecord] = []
    customers: list[CustomerRecord] = []
    entries = []
    too_many_words = False
    if text:
        with service.store.read() as tx:
            orders = queries.find_orders(tx, text)
            entries = quarantine.entries(tx, [text])
            if not orders and "@" not in text:
                orders = search.orders_with_sku(tx, text, MAX_RESULTS)
            if caller.sees_buyers and not orders:
                try:
                    customers = (
                        queries.list_customers(tx, limit=MAX_RESULTS, email=text)
                        if "@" in text
                        else search.customers_named(tx, text, MAX_RESULTS)
                    )
                except search.TooManyWords:
                    too_many_words = True
            if "@" in text:
                orders = [
                    order
                    for customer in customers
                    for order in queries.list_orders(tx, limit=MAX_RESULTS, customer_id=customer.customer_id)
                ][:MAX_RESULTS]
    return page(
        request,
        "search.html",
        q=text,
        orders=orders_for(caller, orders),
        customers=customers_for(caller, customers),
        entries=entries,
        max_results=MAX_RESULTS,
        max_words=search.MAX_WORDS if too_many_words else None,
    )
