"""Search by order id, SKU, e-mail and name: one box, whatever is typed into it.

It is sent as a form and not in the address, because addresses are kept by browsers and proxies, and an
e-mail or a name is a buyer's.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from poller.export import customer_object, order_object
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page
from poller.web.dependencies import Here, Who
from poller.web.masking import customers_for, orders_for
from poller.web.problems import Problem
from store import quarantine, queries, search
from store.orders import order_currency
from store.records import OrderRecord

router = APIRouter()

MANY = 50
LONGEST = 254


@router.post("/search")
def find(request: Request, service: Here, caller: Who) -> Response:
    """Orders and customers that fit what was typed."""
    text = fields_of(request).one("q")
    if len(text) > LONGEST:
        raise Problem(422, "invalid", f"a search has at most {LONGEST} characters.")
    orders: list[OrderRecord] = []
    customers = []
    kept = []
    if text:
        with service.store.read() as tx:
            orders = queries.find_orders(tx, text)
            kept = quarantine.entries(tx, [text])
            if not orders and "@" not in text:
                orders = search.orders_with_sku(tx, text, MANY)
            if caller.sees_buyers and not orders:
                customers = (
                    queries.list_customers(tx, limit=MANY, email=text)
                    if "@" in text
                    else search.customers_named(tx, text, MANY)
                )
            if "@" in text:
                orders = [
                    order
                    for customer in customers
                    for order in queries.list_orders(tx, limit=MANY, customer_id=customer.customer_id)
                ][:MANY]
    return page(
        request,
        "search.html",
        q=text,
        orders=orders_for(caller, [order_object(o, order_currency(o)) for o in orders]),
        customers=customers_for(caller, [customer_object(c) for c in customers]),
        kept=kept,
        many=MANY,
    )
