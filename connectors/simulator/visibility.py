"""What a seller sees of an order, by the requested datasets and the held roles.

A dataset that was not requested, and a field for which a role is missing, are absent from an answer with
status 200; Amazon never says why. Sources: Orders API model 2026-01-01, and the SP-API guides
on included data and on access to personal data in orders.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from connectors.simulator.orders import PENDING_STATUSES, Facts, Json, Version

DATASETS = frozenset(
    {
        "BUYER",
        "RECIPIENT",
        "PROCEEDS",
        "EXPENSE",
        "PROMOTION",
        "CANCELLATION",
        "FULFILLMENT",
        "PACKAGES",
        "TAX",
        "PAYMENT",
        "FULFILLMENT_ORDERS",
    }
)

_ORDER_GATES = {
    "buyer": "BUYER",
    "recipient": "RECIPIENT",
    "proceeds": "PROCEEDS",
    "fulfillment": "FULFILLMENT",
    "packages": "PACKAGES",
    "tax": "TAX",
    "payment": "PAYMENT",
    "fulfillmentOrders": "FULFILLMENT_ORDERS",
}
_ITEM_GATES = {
    "proceeds": "PROCEEDS",
    "expense": "EXPENSE",
    "promotion": "PROMOTION",
    "cancellation": "CANCELLATION",
    "fulfillment": "FULFILLMENT",
    "tax": "TAX",
}
_STREET_AND_NAME = frozenset(
    {"name", "addressLine1", "addressLine2", "addressLine3", "extendedFields", "phone"}
)
_NAMELESS_MARKETPLACES = frozenset({"ATVPDKIKX0DER", "A1VC38T7YXB528", "A19VAU5U5O7RUS"})
"""US, JP, SG: the tax roles do not give the buyer's name there."""


def phone_expired(facts: Facts, at: datetime) -> bool:
    """Return True if a shipped order's phone number is gone: after the latest promised delivery."""
    return facts.status == "SHIPPED" and facts.deliver_by is not None and at > facts.deliver_by


def shown(version: Version, included: frozenset[str], roles: frozenset[str], *, phone_gone: bool) -> object:
    """Return the JSON of one version as sent; a poisoned order that is not an object is sent unchanged."""
    payload = version.payload
    if not isinstance(payload, dict):
        return payload
    consumer = (
        "DIRECT_TO_CONSUMER" in roles and version.facts.fulfilled_by == "MERCHANT" and version.facts.shippable
    )
    closed = DATASETS - included
    seen: Json = {name: v for name, v in payload.items() if _ORDER_GATES.get(name) not in closed}
    _replace(seen, "buyer", _buyer(version.facts, roles, consumer))
    _replace(seen, "recipient", _recipient(version.facts, consumer, phone_gone))
    if "TAX" not in roles and isinstance(seen.get("tax"), dict):
        seen["tax"] = {k: v for k, v in seen["tax"].items() if k != "taxRegistrations"}
        if not seen["tax"]:
            del seen["tax"]
    items = seen.get("orderItems")
    if isinstance(items, list):
        seen["orderItems"] = [_item(item, closed, consumer) for item in items]
    return seen


def _replace(seen: Json, name: str, withheld: frozenset[str] | None) -> None:
    """Drop the ``withheld`` members (None: all) of the object ``name``, and the object if then empty."""
    member = seen.get(name)
    if not isinstance(member, dict):
        return
    kept = {} if withheld is None else _thinned(member, withheld)
    if kept:
        seen[name] = kept
    else:
        del seen[name]


def _thinned(member: dict[str, Any], withheld: frozenset[str]) -> Json:
    thinned: Json = {}
    for name, value in member.items():
        if name in withheld:
            continue
        thinned[name] = _thinned(value, withheld) if name == "deliveryAddress" else value
    return thinned


def _buyer(facts: Facts, roles: frozenset[str], consumer: bool) -> frozenset[str]:
    withheld = set() if consumer else {"buyerEmail"}
    by_tax_role = "TAX" in roles and facts.shippable and facts.marketplace_id not in _NAMELESS_MARKETPLACES
    if not (consumer or by_tax_role):
        withheld.add("buyerName")
    return frozenset(withheld)


def _recipient(facts: Facts, consumer: bool, phone_gone: bool) -> frozenset[str] | None:
    if facts.status in PENDING_STATUSES:
        return None
    if not consumer:
        return _STREET_AND_NAME | {"deliveryPreference"}
    return frozenset({"phone"}) if phone_gone else frozenset()


def _item(item: object, closed: frozenset[str], consumer: bool) -> object:
    if not isinstance(item, dict):
        return item
    seen = {name: value for name, value in item.items() if _ITEM_GATES.get(name) not in closed}
    if not consumer:
        product = seen.get("product")
        if isinstance(product, dict) and "customization" in product:
            seen["product"] = {k: v for k, v in product.items() if k != "customization"}
        fulfilment = seen.get("fulfillment")
        if isinstance(fulfilment, dict) and "packing" in fulfilment:
            gift = fulfilment["packing"]["giftOption"]
            gift = {k: v for k, v in gift.items() if k != "giftMessage"}
            seen["fulfillment"] = fulfilment | {"packing": {"giftOption": gift}}
    return seen
