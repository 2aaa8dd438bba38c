"""Why an order has its customer, in words; and until when its buyer data stays."""

from __future__ import annotations

from connectors.marketplaces import BY_ID
from poller.bootstrap import Service
from poller.matching.basis import BASIS
from poller.matching.match import explain
from poller.matching.retention import explain as explain_term
from store import erasure, queries
from store.engine import Transaction
from store.records import OrderRecord


def reasons_for(tx: Transaction, order: OrderRecord) -> tuple[str, ...]:
    """Why this order has this customer, or none; with the numbers of the customer rules."""
    customer = None if order.customer_id is None else queries.get_customer(tx, order.customer_id)
    return explain(order, customer, queries.merges_of(tx, order))


def retained(tx: Transaction, service: Service, order: OrderRecord) -> str:
    """When the order's buyer data will be or was erased, and why."""
    forgotten_at = erasure.forgotten_at(tx, order.account, order.order_id)
    return explain_term(order, service.retention, forgotten_at)


def headline(order: OrderRecord) -> str:
    """What became of an order, in one sentence."""
    place = order.marketplace or order.marketplace_id or "no marketplace"
    name = f"Order {order.order_id} ({order.account}, {place}, {order.status or 'status unknown'})"
    if order.customer_id is not None:
        return f"{name} belongs to customer {order.customer_id}: {BASIS.get(order.match_basis or 'none')}."
    if order.match_basis == "held":
        return f"{name} is held: it waits for its customer."
    if "R33" in order.match_rules:
        return f"{name} has no customer: it was cancelled before it was ever seen ready."
    if order.marketplace_id is None:
        return f"{name} has no customer: it names no marketplace."
    if order.marketplace_id not in BY_ID:
        return f"{name} has no customer: its shop is not one of Amazon's marketplaces."
    if order.marketplace is None:
        return f"{name} has no customer: its marketplace has no file."
    if not order.shown:
        return f"{name} is pending: it is remembered, and not an order yet."
    return f"{name} has no customer."
