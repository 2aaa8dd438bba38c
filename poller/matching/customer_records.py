"""What an order makes of a customer record."""

from __future__ import annotations

from typing import Literal

from store.records import Address, CustomerRecord, OrderRecord

STORE_PICK_UP = "IN_STORE_PICK_UP"


PICKUP_POINT = "PICKUP_POINT"


def special_key(kind: Literal["shared", "placeholder"], account: str, marketplace_id: str) -> str:
    """Names a marketplace's one shared (R21) or placeholder (R31) record."""
    return f"{kind}:{account}:{marketplace_id}"


def is_pick_up(order: OrderRecord) -> bool:
    """True when the delivery address is a locker's or a store's, not a person's (R5, R18)."""
    return STORE_PICK_UP in order.programs or (
        order.delivery is not None and order.delivery.kind == PICKUP_POINT
    )


def shown_name(customer: CustomerRecord) -> str | None:
    """The name to show: the buyer's, else the recipient's, which is never stored as the buyer's (R18)."""
    if customer.name or customer.amazon_name:
        return customer.name or customer.amazon_name
    if customer.delivery is None or customer.delivery.kind == PICKUP_POINT:
        return None
    return customer.delivery.name


def is_given(value: object) -> bool:
    """False for an empty field; a country alone is what retention leaves of an address (R60)."""
    if isinstance(value, Address):
        return value != Address(country=value.country, kind=value.kind)
    return value is not None and value != ""
