"""What an order makes of a customer record: a new one, filled fields, a restored e-mail (R2-R8, R21, R61)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from poller.matching.emails import real_buyer
from poller.matching.marketplace_rules import MarketplaceRules
from store.origins import OURS, of_field
from store.records import Address, Buyer, CustomerRecord, MainEmail, OrderRecord, Origin

STORE_PICK_UP = "IN_STORE_PICK_UP"
PICKUP_POINT = "PICKUP_POINT"


def special_key(kind: Literal["shared", "placeholder"], account: str, marketplace_id: str) -> str:
    """Return the name of a marketplace's one shared (R21) or placeholder (R31) record."""
    return f"{kind}:{account}:{marketplace_id}"


def is_pick_up(order: OrderRecord) -> bool:
    """Return True if the delivery address is a locker's or a store's, not a person's (R5, R18)."""
    return STORE_PICK_UP in order.programs or (
        order.delivery is not None and order.delivery.kind == PICKUP_POINT
    )


def shown_name(customer: CustomerRecord) -> str | None:
    """Return the name that a person gave, else the buyer's, else the recipient's, never stored as it (R18).

    One that a person has emptied stays empty (R57).
    """
    if customer.name or customer.origins.get("name") in OURS:
        return customer.name
    if customer.amazon_name:
        return customer.amazon_name
    if customer.delivery is None or customer.delivery.kind == PICKUP_POINT:
        return None
    return customer.delivery.name


def is_given(value: object) -> bool:
    """Return False for an empty field; a country alone is what retention leaves of an address (R60)."""
    if isinstance(value, Address):
        return value != Address(country=value.country, kind=value.kind)
    return value is not None and value != ""


def is_edited_by_hand(customer: CustomerRecord) -> bool:
    """Return True if a person set a field or a main e-mail of the record."""
    return "hand" in customer.origins.values() or any(m.origin == "hand" for m in customer.emails)


def record_of_buyer(
    order: OrderRecord, email: str | None, rules: MarketplaceRules, shared_emails: frozenset[str]
) -> dict[str, Any]:
    """Return the fields of a record that an order creates (R2-R5); unidentified without ``email`` (R21).

    Of an order past its term nothing is kept but the hash of its e-mail (R63).
    """
    is_kept = order.erased_at is None
    buyer = real_buyer(order, shared_emails) if is_kept else None
    address = order.delivery if is_kept and not is_pick_up(order) else None
    fields = _fields(rules, buyer, address) | {"created_from_order": order.order_id}
    if email is None:
        return fields | {"status": "unidentified"}
    return fields | {
        "emails": (MainEmail(1, email, "amazon", unwritten=not is_kept),),
        "idle_since": None if is_kept else order.created_at,
    }


def special_record(key: str, rules: MarketplaceRules) -> dict[str, Any]:
    """Return the fields of a marketplace's record for orders that name no buyer; it never has buyer data."""
    return _fields(rules, None, None) | {"status": "unidentified", "special": key}


def _fields(rules: MarketplaceRules, buyer: Buyer | None, address: Address | None) -> dict[str, Any]:
    """Return the fields of a new record, each with its origin; billing and delivery address are one (R5)."""
    fields = {
        "name": None if buyer is None else buyer.name,
        "company": None if buyer is None else buyer.company,
        "amazon_name": None if buyer is None else buyer.name,
        "phone": None if address is None else address.phone,
        "billing": address,
        "delivery": address,
        "price_list": rules.price_list,
        "currency": rules.currency,
        "tax_code": rules.tax_code,
        "discount_percent": rules.discount_percent,
    }
    origins: dict[str, Origin] = {name: "amazon" for name, value in fields.items() if value is not None}
    return fields | {"marketplace": rules.code, "origins": origins}


def fillable(
    customer: CustomerRecord,
    order: OrderRecord,
    groups: frozenset[str],
    fresh: bool,
    shared_emails: frozenset[str],
) -> Mapping[str, Any]:
    """Return what the order has for the record's wholly empty fields (R8).

    A fresh match offers all that the order holds, a later copy only the ``groups`` that it brought. A field
    with an origin, or an address with a part that has one, is not empty but emptied on purpose.
    """
    if customer.special is not None or customer.status in ("merged", "forgotten"):
        return {}
    if order.erased_at is not None:
        return {}
    offered: dict[str, Any] = {}
    buyer = real_buyer(order, shared_emails)
    if (fresh or "buyer" in groups) and buyer is not None:
        offered["name"] = offered["amazon_name"] = buyer.name
        offered["company"] = buyer.company
    if (fresh or "delivery" in groups) and order.delivery is not None and not is_pick_up(order):
        offered["phone"] = order.delivery.phone
        offered["billing"] = offered["delivery"] = order.delivery
    return {
        name: value
        for name, value in offered.items()
        if value and not of_field(customer, name) and not is_given(getattr(customer, name))
    }


def has_only_hash(customer: CustomerRecord, slot: int) -> bool:
    """Return True if nothing but its hash is kept of the e-mail in this slot (R61)."""
    return any(m.slot == slot and (m.email is None or m.unwritten) for m in customer.emails)


def with_email(customer: CustomerRecord, slot: int, email: str | None) -> tuple[MainEmail, ...]:
    """Return the main e-mails with the one in this slot restored (R61)."""
    return tuple(
        replace(main, email=email, unwritten=False) if main.slot == slot else main for main in customer.emails
    )
