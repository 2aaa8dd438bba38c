"""The connectors' vocabulary: an order as Amazon gives it, with nothing of ours added.

Plain values that never change. (Lines and orders are not ``frozen``: making a frozen one takes three times as
long.) Absent means ``None`` or an empty tuple; an empty string from Amazon is absent. Amazon's words
(statuses, programs, …) stay open strings, because Amazon adds some between two releases of its model. Times
are aware UTC, money is exact, and no ``repr`` shows buyer data or a page token.

Source of every field: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec


class Money(msgspec.Struct, frozen=True, gc=False):
    """An exact amount in the currency that Amazon named (never derived from the marketplace).

    The most frequent value. Small parts of an order are Structs: they are made ten times as fast as a frozen
    dataclass, and the garbage collector ignores them.
    """

    amount: Decimal
    currency: str


OtherAmounts = tuple[tuple[str, Money], ...]
"""Amounts without a field of their own, each with Amazon's type."""


class Personal(msgspec.Struct, frozen=True, gc=False):
    """A group of buyer data. Its ``repr`` hides everything."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class AmazonAddress(Personal, frozen=True, gc=False):
    """A postal address as Amazon gives it; any member may be withheld."""

    name: str | None = None
    company: str | None = None
    line1: str | None = None
    line2: str | None = None
    line3: str | None = None
    city: str | None = None
    county: str | None = None
    """``districtOrCounty`` and ``municipality``, joined with a comma if both are given."""
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None
    kind: str | None = None
    """``addressType``: RESIDENTIAL, COMMERCIAL, PICKUP_POINT, or a newer word."""


class AmazonBuyer(Personal, frozen=True, gc=False):
    """Who bought. There is no buyer ID; ``email``, if given, is an anonymised relay address."""

    name: str | None = None
    email: str | None = None
    company: str | None = None
    purchase_order_number: str | None = None


class TaxRegistration(Personal, frozen=True, gc=False):
    """One entry of ``tax.taxRegistrations``: buyer data, since it identifies people."""

    entity: str | None
    kind: str | None
    number: str | None
    legal_name: str | None


@dataclass(slots=True)
class AmazonLine:
    """One order item.

    Amounts are the item's breakdown subtotals, None if absent; ``discount`` has Amazon's sign. All are in one
    currency: that of ITEM, or without it, of the first. ``other_amounts`` has the subtotals of other types,
    and those in another currency. ``withheld_tax`` is the TAX subtotal of an item whose tax collections say
    MARKETPLACE_FACILITATOR, else None.
    """

    order_item_id: str
    quantity: int
    sku: str | None = None
    asin: str | None = None
    title: str | None = None
    unit_price: Money | None = None
    quantity_shipped: int | None = None
    item_total: Money | None = None
    tax: Money | None = None
    shipping: Money | None = None
    discount: Money | None = None
    gift_wrap: Money | None = None
    withheld_tax: Money | None = None
    promotion_ids: tuple[str, ...] = ()
    gift_message: str | None = field(default=None, repr=False)
    customization_url: str | None = field(default=None, repr=False)
    cancel_requested: bool = False
    cancel_request_reason: str | None = field(default=None, repr=False)
    cancelled_by: str | None = None
    cancel_reason: str | None = field(default=None, repr=False)
    other_amounts: OtherAmounts = ()


class AmazonPackage(msgspec.Struct, frozen=True, gc=False):
    """One package of a merchant-fulfilled order; the only place with a delivery status."""

    reference: str | None = None
    status: str | None = None
    detailed_status: str | None = None
    carrier: str | None = None
    service: str | None = None
    tracking_number: str | None = None
    shipped_at: datetime | None = None


@dataclass(slots=True)
class AmazonOrder:
    """One copy of an order.

    ``present`` names the groups of data that it carries (``GROUPS``); any other is unknown, not empty.
    """

    order_id: str
    created_at: datetime
    last_updated_at: datetime
    channel: str
    """``AMAZON``, ``NON_AMAZON``, or a newer word."""
    present: frozenset[str]
    marketplace_id: str | None = None
    status: str | None = None
    """``fulfillmentStatus``; None only without the FULFILLMENT dataset."""
    fulfilled_by: str | None = None
    service_level: str | None = None
    ship_by: datetime | None = None
    """``shipByWindow.latestDateTime``."""
    deliver_by: datetime | None = None
    """``deliverByWindow.latestDateTime``."""
    programs: tuple[str, ...] = ()
    seller_order_id: str | None = None
    replaces: str | None = None
    """The order named by a REPLACEMENT_ORIGINAL_ID association."""
    buyer: AmazonBuyer | None = field(default=None, repr=False)
    delivery: AmazonAddress | None = field(default=None, repr=False)
    delivery_instructions: str | None = field(default=None, repr=False)
    """Free text of ``deliveryPreference``; may say anything, so it is buyer data."""
    total: Money | None = None
    lines: tuple[AmazonLine, ...] = ()
    packages: tuple[AmazonPackage, ...] = ()
    tax_registrations: tuple[TaxRegistration, ...] = field(default=(), repr=False)
    own_amounts: OtherAmounts = ()
    """Amounts of the order alone, which no item has a part of, such as a tip."""
    unread: frozenset[str] = frozenset()
    """Fields, of the order or of its lines, that this copy brings in a form that cannot be read."""


GROUPS = frozenset(
    {
        "fulfillment",  # status, fulfilled_by, service level, windows, shipped quantities, gift messages
        "buyer",  # buyer carries a name, an e-mail, a company or a purchase order number
        "delivery",  # the delivery address carries a name or a street
        "proceeds",  # total and the amounts of lines
        "price",  # unit prices of lines, which come with the product whatever datasets are requested
        "promotion",  # promotion ids of lines
        "cancellation",  # who cancelled, who requested it
        "packages",  # at least one package
        "tax",  # tax registrations or tax collections
    }
)
"""The groups of data whose absence is judged: an absent group never erases a stored one."""


@dataclass(frozen=True, slots=True)
class UnreadableOrder:
    """An order that could not be read, and why.

    ``payload`` is Amazon's JSON of this order and holds buyer data: seal it. ``reason`` names the field and
    what was expected, never the value.
    """

    order_id: str | None
    marketplace_id: str | None
    reason: str
    payload: str = field(repr=False)
    last_updated_at: datetime | None = None
    """Which version of the order this is, if that can be read; likewise the buyer's e-mail."""
    buyer_email: str | None = field(default=None, repr=False)


class ListedOrder(msgspec.Struct, frozen=True, gc=False):
    """An order as a report lists it: that it exists, and since when. No buyer data."""

    order_id: str
    created_at: datetime
    last_updated_at: datetime
    """Cut to whole seconds; of an update that ``searchOrders`` may not show yet."""
    marketplace_id: str | None
    """By its sales channel: ``NON_AMAZON`` for every other shop than Amazon's; None for an unknown word."""


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What a report lists: of every order its newest version, of all marketplaces of the seller's region.

    ``unreadable`` counts rows that could not be read; ``first_unreadable`` says what is wrong with one.
    """

    orders: tuple[ListedOrder, ...]
    unreadable: int = 0
    first_unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class OrderPage:
    """One answer of ``searchOrders``, checked to be complete JSON of the promised shape."""

    orders: tuple[AmazonOrder, ...]
    unreadable: tuple[UnreadableOrder, ...]
    next_token: str | None = field(repr=False)
    echoed_before: datetime | None
    """The upper bound that Amazon says it applied, if it does."""
    payload_of: Callable[[str], str] = field(default=lambda order_id: "{}", repr=False, compare=False)
    """Return Amazon's JSON of one of ``orders``, by its id. It holds buyer data: seal it."""
