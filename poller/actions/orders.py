"""One order on request: fetch it from Amazon, explain its customer and its retention term."""

from __future__ import annotations

import re
from collections.abc import Mapping

from connectors.errors import OrderNotFound
from connectors.marketplaces import BY_ID
from connectors.orders import UnreadableOrder
from poller.errors import Refused
from poller.ingest.accounts import Account
from poller.ingest.budget import AccountBudget
from poller.ingest.by_id import SingleOrders
from poller.matching.emails import usable_email
from poller.matching.explanations import BASIS, explain
from poller.matching.retention import Retention
from poller.matching.retention import explain as explain_term
from poller.sync import seller
from store import customers, erasure, queries
from store.engine import Store, Transaction
from store.records import OrderRecord

_ORDER_ID = re.compile(r"[A-Z0-9]{3}-[0-9]{7}-[0-9]{7}")
"""Orders of other channels, which Amazon only ships, begin with a letter (S01) instead of three digits."""


class NotStored(Exception):
    """Amazon does not know the order, or what it sent could not be read."""


class NotUnderstood(NotStored):
    """Amazon sent an order that could not be read: it is in quarantine."""

    def __init__(self, order_id: str, unreadable: UnreadableOrder) -> None:
        self.reason = unreadable.reason
        show = "list`" if unreadable.order_id is None else f"show {order_id}`"
        super().__init__(
            f"{order_id}: not stored: what Amazon sent could not be read and is in quarantine "
            f"({self.reason}): see it with `order-sync quarantine {show}; it is refetched automatically, "
            "and a newer version of this program reads it again."
        )


def checked_id(text: str) -> str:
    """Return an order id as Amazon writes it. Raises Refused."""
    order_id = text.strip()
    if not _ORDER_ID.fullmatch(order_id):
        raise Refused(f"{order_id or 'nothing'} is not an order id: those look like 123-1234567-1234567.")
    return order_id


def account_of(accounts: Mapping[str, Account], name: str | None) -> Account:
    """Return a usable account that polls a marketplace; without a name, the only one. Raises Refused."""
    names = ", ".join(sorted(accounts)) or "none"
    if name is None:
        if len(accounts) > 1:
            raise Refused(f"there are several accounts: add --account with one of {names}.")
        if not accounts:
            raise Refused("no account can be used: `order-sync config check` says why.")
        (name,) = accounts
    account = accounts.get(name)
    if account is None:
        raise Refused(f"there is no usable account {name}; accounts: {names}.")
    if not account.sources:
        raise Refused(f"account {name} has no enabled marketplace: set enabled = true in the file of one.")
    return account


def fetched(store: Store, account: Account, order_id: str) -> str:
    """Fetch and store one order. Return what happened, in words.

    Raises NotStored and the connector's errors.
    """
    name, source = account.name, account.sources[0]
    seller.require(store, source)
    before = _version(store, name, order_id)
    datasets = _datasets(account, before)
    budget = AccountBudget(store, source.application, name, account.plans)
    orders = SingleOrders(store, account.connector, source, budget, stopping=lambda: False)
    try:
        unreadable = orders.fetch(order_id, datasets)
    except OrderNotFound:
        raise NotStored(f"Amazon knows no order {order_id} of account {name}.") from None
    if unreadable is not None:
        raise NotUnderstood(order_id, unreadable)
    after = _version(store, name, order_id)
    if before is None and after is None:
        months = source.rules.retention.order_months
        raise NotStored(
            f"{order_id}: not stored: it was placed more than {months} months ago "
            "(ORDER_SYNC_ORDER_RETENTION_MONTHS)."
        )
    if before is None:
        return f"{order_id}: new, stored"
    if after is not None and after.changed_at != before.changed_at:
        return f"{order_id}: changed, stored"
    return f"{order_id}: unchanged"


def _version(store: Store, account: str, order_id: str) -> OrderRecord | None:
    with store.read() as tx:
        return next(iter(queries.find_orders(tx, order_id, account)), None)


def _datasets(account: Account, stored: OrderRecord | None) -> tuple[str, ...]:
    """Return the datasets of the order's marketplace; if that is unknown, of all of the account's."""
    settings = account.marketplaces.get(stored.marketplace_id or "") if stored is not None else None
    if settings is not None:
        return tuple(settings.included_data)
    return tuple(sorted({word for m in account.marketplaces.values() for word in m.included_data}))


# --- explaining ---------------------------------------------------------------------------------------------


def reasons_for(tx: Transaction, order: OrderRecord) -> tuple[str, ...]:
    """Explain why an order has its customer, or none, with the numbers of the customer rules."""
    customer = None if order.customer_id is None else queries.get_customer(tx, order.customer_id)
    older: list[int] = []
    if customer is not None and (email := usable_email(order, frozenset())) is not None:
        older = customers.with_older_email(tx, customer.business, email)
    return explain(order, customer, queries.merges_of(tx, order), older)


def retained(tx: Transaction, retention: Retention, order: OrderRecord) -> str:
    """Say when the order's buyer data will be or was erased, and why; and what of it does not open."""
    forgotten_at = erasure.forgotten_at(tx, order.account, order.order_id)
    term = explain_term(order, retention, forgotten_at)
    unreadable = sorted({*order.unreadable, *(name for line in order.lines for name in line.unreadable)})
    if not unreadable:
        return term
    return f"{term} Unreadable, because damaged in the database: {', '.join(unreadable)}; refetch the order."


def headline(order: OrderRecord) -> str:
    """Say what became of an order, in one sentence."""
    place = order.marketplace or order.marketplace_id or "no marketplace"
    name = f"Order {order.order_id} ({order.account}, {place}, {order.status or 'status unknown'})"
    if order.customer_id is not None:
        return f"{name} belongs to customer {order.customer_id}: {BASIS.get(order.match_basis or 'none')}."
    if order.match_basis == "held":
        return f"{name} is held: it waits for a customer."
    if "R33" in order.match_rules:
        return f"{name} has no customer: it was cancelled before it was ready."
    if order.marketplace_id is None:
        return f"{name} has no customer: it names no marketplace."
    if order.marketplace_id not in BY_ID and order.marketplace is None:
        return f"{name} has no customer: its shop is not one of Amazon's marketplaces."
    if order.marketplace is None:
        return f"{name} has no customer: its marketplace has no file."
    if not order.shown:
        return f"{name} is pending: it is not shown as an order yet."
    return f"{name} has no customer."
