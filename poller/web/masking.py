"""Buyer data in answers: shown to those who may see it, and then noted; masked for all others.

Whose data was shown to whom is logged, whatever level the log has; the data itself never is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from poller.web.access import Caller
from store.journal import BUYER_FIELDS

MASK = "***"
"""Stands for what is there and not shown; what is absent stays null."""

ORDER_KEYS = ("purchase_order_number", "buyer_name", "buyer_email", "delivery", "billing")
LINE_KEYS = ("gift_message",)
CUSTOMER_KEYS = (
    *("name", "company", "amazon_name", "emails", "aliases", "phone"),
    *("billing", "delivery", "contact_email"),
)

logging.getLogger("order_sync.audit").setLevel(logging.INFO)
audit = structlog.get_logger("order_sync.audit")


def masked(value: Any) -> Any:
    """A value with the mask in place of every text; of an address the country stays, as in the database."""
    if isinstance(value, dict):
        return {key: item if key == "country" else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return None if value is None else MASK


def _with_mask(item: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {**item, **{key: masked(item[key]) for key in keys if key in item}}


def _says(value: Any) -> bool:
    """Whether buyer data is in it."""
    if isinstance(value, dict):
        return any(_says(item) for key, item in value.items() if key != "country")
    if isinstance(value, list):
        return any(map(_says, value))
    return value is not None


def disclosed(caller: Caller, what: str, ids: Iterable[object]) -> None:
    """Note that buyer data of these was shown."""
    shown = list(ids)
    if shown:
        audit.info("buyer data disclosed", who=caller.who, what=what, ids=shown)


def orders_for(caller: Caller, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Orders (``poller.export.order_object``) as this caller may see them."""
    if not caller.sees_buyers:
        return [
            {
                **_with_mask(order, ORDER_KEYS),
                "lines": [_with_mask(line, LINE_KEYS) for line in order["lines"]],
            }
            for order in orders
        ]
    disclosed(caller, "orders", [o["order_id"] for o in orders if _order_says(o)])
    return orders


def _order_says(order: Mapping[str, Any]) -> bool:
    lines = [line[key] for line in order["lines"] for key in LINE_KEYS]
    return _says([*(order[key] for key in ORDER_KEYS), *lines])


def customers_for(caller: Caller, customers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Customers (``poller.export.customer_object``) as this caller may see them."""
    if not caller.sees_buyers:
        return [_with_mask(customer, CUSTOMER_KEYS) for customer in customers]
    shown = [c["customer_id"] for c in customers if _says([c[key] for key in CUSTOMER_KEYS])]
    disclosed(caller, "customers", shown)
    return customers


def journal_for(caller: Caller, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A customer's journal (``poller.export.journal_object``) as this caller may see it."""
    if not caller.sees_buyers:
        return [
            {**entry, **{when: _with_mask(entry[when], BUYER_FIELDS) for when in ("before", "after")}}
            for entry in entries
        ]
    quoted = {
        whose
        for entry in entries
        if _says([entry[when].get(name) for when in ("before", "after") for name in BUYER_FIELDS])
        for whose in (entry["customer_id"], entry["other_id"])
        if whose is not None
    }
    disclosed(caller, "journal", sorted(quoted))
    return entries
