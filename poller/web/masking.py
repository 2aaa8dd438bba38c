"""Buyer data in answers: shown and logged as disclosed to callers who may see it, masked for all others.

The log names who saw whose data, at any log level; it never holds the data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from poller.export import Customer, Line, Order, buyer_keys, customer_object, journal_object, order_object
from poller.web.access import Caller
from poller.web.problems import Problem
from store.journal import BUYER_FIELDS
from store.queries import JournalEntry as StoredEntry
from store.records import CustomerRecord, OrderRecord

MASK = "***"
"""Replaces a text that is present but hidden; what is absent stays null."""

ORDER_KEYS, LINE_KEYS, CUSTOMER_KEYS = map(buyer_keys, (Order, Line, Customer))

logging.getLogger("order_sync.audit").setLevel(logging.INFO)
audit = structlog.get_logger("order_sync.audit")


def require_buyer_data(caller: Caller, purpose: str) -> None:
    """Raise Problem if the caller may not see buyer data: what serves this ``purpose`` reveals some."""
    if not caller.sees_buyers:
        raise Problem(403, "scope", f"{caller.who} lacks the scope buyer-data, which {purpose} needs.")


def masked(value: Any) -> Any:
    """Return a value with every text masked. An address keeps its country, which is not sealed either."""
    if isinstance(value, dict):
        return {key: item if key == "country" else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return None if value is None else MASK


def _with_mask(item: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {**item, **{key: masked(item[key]) for key in keys if key in item}}


def _holds_data(value: Any) -> bool:
    """Return True if a value holds buyer data."""
    if isinstance(value, dict):
        return any(_holds_data(item) for key, item in value.items() if key != "country")
    if isinstance(value, list):
        return any(map(_holds_data, value))
    return value is not None


def disclosed(caller: Caller, what: str, ids: Iterable[object]) -> None:
    """Log that the caller saw the buyer data of these records."""
    shown = list(ids)
    if shown:
        audit.info("buyer data disclosed", who=caller.who, what=what, ids=shown)


def orders_for(caller: Caller, records: Iterable[OrderRecord]) -> list[dict[str, Any]]:
    """Return orders (``poller.export.order_object``) as this caller may see them."""
    orders = [order_object(record) for record in records]
    if not caller.sees_buyers:
        return [
            {
                **_with_mask(order, ORDER_KEYS),
                "lines": [_with_mask(line, LINE_KEYS) for line in order["lines"]],
            }
            for order in orders
        ]
    disclosed(caller, "orders", [o["order_id"] for o in orders if _order_holds_data(o)])
    return orders


def _order_holds_data(order: Mapping[str, Any]) -> bool:
    lines = [line[key] for line in order["lines"] for key in LINE_KEYS]
    return _holds_data([*(order[key] for key in ORDER_KEYS), *lines])


def customers_for(caller: Caller, records: Iterable[CustomerRecord]) -> list[dict[str, Any]]:
    """Return customers (``poller.export.customer_object``) as this caller may see them."""
    customers = [customer_object(record) for record in records]
    if not caller.sees_buyers:
        return [_with_mask(customer, CUSTOMER_KEYS) for customer in customers]
    shown = [c["customer_id"] for c in customers if _holds_data([c[key] for key in CUSTOMER_KEYS])]
    disclosed(caller, "customers", shown)
    return customers


def journal_for(caller: Caller, stored: Iterable[StoredEntry]) -> list[dict[str, Any]]:
    """Return a customer's journal (``poller.export.journal_object``) as this caller may see it."""
    entries = [journal_object(entry) for entry in stored]
    if not caller.sees_buyers:
        return [
            {**entry, **{when: _with_mask(entry[when], BUYER_FIELDS) for when in ("before", "after")}}
            for entry in entries
        ]
    quoted = {
        customer_id
        for entry in entries
        if _holds_data([entry[when].get(name) for when in ("before", "after") for name in BUYER_FIELDS])
        for customer_id in (entry["customer_id"], entry["other_id"])
        if customer_id is not None
    }
    disclosed(caller, "journal", sorted(quoted))
    return entries
