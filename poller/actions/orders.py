"""One order: fetching it from Amazon on request, and explaining its customer and retention term."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from connectors.errors import OrderNotFound
from connectors.marketplaces import BY_ID
from connectors.orders import UnreadableOrder
from poller.errors import Refused
from poller.ingest.accounts import Account
from poller.ingest.budget import AccountBudget
from poller.ingest.by_id import SingleOrders
from poller.matching.explanations import BASIS, explain
from poller.matching.retention import Retention
from poller.matching.retention import explain as explain_term
from store import erasure, queries
from store.engine import Store, Transaction
from store.records import OrderRecord

_ORDER_ID = re.compile(r"[A-Z0-9]{3}-[0-9]{7}-[0-9]{7}")
"""Three digits in front; orders of other channels, which Amazon only ships, have a letter there (S01)."""


class NotStored(Exception):
    """Amazon does not know the order, or what it sent could not be understood."""


class NotUnderstood(NotStored):
    """Amazon gave an order that could not be understood: it is in quarantine."""

    def __init__(self, order_id: str, found: UnreadableOrder) -> None:
        self.reason = found.reason
        show = "list`" if found.order_id is None else f"show {order_id}`"
        super().__init__(
            f"{order_id}: not stored: what Amazon sent could not be understood and is in quarantine "
            f"({found.reason}): see it with `order-sync quarantine {show}; Amazon is asked again by itself, "
            "and a newer version of this program reads it again."
        )


def checked_id(text: str) -> str:
    """An order id as Amazon writes it. Raises Refused."""
    order_id = text.strip()
    if not _ORDER_ID.fullmatch(order_id):
        wanted = "Amazon's are like 123-1234567-1234567"
        raise Refused(f"{order_id or 'nothing'} is no order id: {wanted}.")
    return order_id


def account_of(accounts: Mapping[str, Account], name: str) -> Account:
    """An account that may run. Raises Refused, naming those that there are."""
    account = accounts.get(name)
    if account is None:
        known = ", ".join(sorted(accounts)) or "none"
        raise Refused(f"there is no account {name} that can be used; there is {known}.")
    if not account.sources:
        raise Refused(f"account {name} has no marketplace that is enabled.")
    return account


def fetched(store: Store, account: Account, order_id: str) -> str:
    """Fetch one order and store it; says what happened.

    Raises NotStored when there is nothing to store, and the connector's errors.
    """
    name, source = account.name, account.sources[0]
    before = _version(store, name, order_id)
    wanted = _datasets(account, before)
    budget = AccountBudget(store, source.application, name, account.plans)
    orders = SingleOrders(store, account.connector, source, budget, stopping=lambda: False)
    try:
        unreadable = orders.fetch(order_id, wanted)
    except OrderNotFound:
        raise NotStored(f"Amazon knows no order {order_id} of account {name}.") from None
    if unreadable is not None:
        raise NotUnderstood(order_id, unreadable)
    after = _version(store, name, order_id)
    if before is None:
        return f"{order_id}: new, stored"
    if after is not None and after.changed_at != before.changed_at:
        return f"{order_id}: changed, stored"
    return f"{order_id}: unchanged"


def _version(store: Store, account: str, order_id: str) -> OrderRecord | None:
    with store.read() as tx:
        return next(iter(queries.find_orders(tx, order_id, account)), None)


def _datasets(account: Account, stored: OrderRecord | None) -> tuple[str, ...]:
    """What the order's marketplace wants; of an unknown one, what any of the account's wants."""
    settings = account.marketplaces.get(stored.marketplace_id or "") if stored is not None else None
    if settings is not None:
        return tuple(settings.included_data)
    wanted: Iterator[str] = (word for m in account.marketplaces.values() for word in m.included_data)
    return tuple(sorted(set(wanted)))


# --- explaining ---------------------------------------------------------------------------------------------


def reasons_for(tx: Transaction, order: OrderRecord) -> tuple[str, ...]:
    """Why this order has this customer, or none; with the numbers of the customer rules."""
    customer = None if order.customer_id is None else queries.get_customer(tx, order.customer_id)
    return explain(order, customer, queries.merges_of(tx, order))


def retained(tx: Transaction, retention: Retention, order: OrderRecord) -> str:
    """When the order's buyer data will be or was erased, and why."""
    forgotten_at = erasure.forgotten_at(tx, order.account, order.order_id)
    return explain_term(order, retention, forgotten_at)


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
