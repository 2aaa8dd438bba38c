"""The store's vocabulary: what we keep, as plain values. Knows no database.

Values never change. Orders and their parts are Structs because there are many: a Struct is made and
copied several times as fast as a dataclass, and the garbage collector ignores it.

Times are aware UTC, money is exact, absent is ``None``. Buyer data is in the clear here and sealed
in the tables; these values are never logged (their ``repr`` leaves buyer fields out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from store.introspection import In, sealed_fields

Origin = Literal["amazon", "hand", "import"]
"""Where a field of a customer came from. A field with an origin and no value was emptied on purpose."""

CustomerStatus = Literal["active", "unidentified", "merged", "forgotten"]

Basis = Literal[
    "created",
    "email_1",
    "email_2",
    "email_3",
    "retained_hash",
    "unidentified",
    "shared",
    "promoted",
    "replacement",
    "placeholder",
    "held",
]
"""Why an order has its customer; the exported ``match_basis``. None: undecided (R26, R30, R33)."""


def normal_email(email: str) -> str:
    """Return the form in which e-mails are compared (R15): trimmed and in lower case, no letter rewritten."""
    return email.strip().lower()


class Amount(msgspec.Struct, frozen=True, gc=False):
    """Exact money."""

    amount: Decimal
    currency: str


OtherAmounts = tuple[tuple[str, Amount], ...]
"""Amounts without a field of their own, each with Amazon's type; a DISCOUNT is positive."""


class Discreet(msgspec.Struct, gc=False):
    """A value whose ``repr`` leaves out its sealed fields."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        sealed = sealed_fields(type(self))
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in sealed]


class Personal(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A group of buyer data, sealed as one value without absent members. Its ``repr`` hides everything."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Address(Personal, frozen=True, omit_defaults=True, gc=False):
    """A postal address; ``kind`` is Amazon's address type and is not exported."""

    name: str | None = None
    company: str | None = None
    line1: str | None = None
    line2: str | None = None
    line3: str | None = None
    city: str | None = None
    county: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None
    kind: str | None = None


def country_only(address: Address | None) -> Address | None:
    """Return what retention leaves of an address (R60)."""
    return Address(country=address.country) if address is not None and address.country else None


def says_something(address: Address | None) -> bool:
    """Return True if there is more to an address than its country."""
    if address is None:
        return False
    return address.line1 is not None or address != Address(country=address.country)


class Buyer(Personal, frozen=True, omit_defaults=True, gc=False):
    """The order's own snapshot of who bought."""

    name: str | None = None
    email: str | None = None
    company: str | None = None
    purchase_order_number: str | None = None


class TaxNumber(Personal, frozen=True, gc=False):
    entity: str | None
    kind: str | None
    number: str | None
    legal_name: str | None


class LineRecord(Discreet, gc=False):
    """One order line. ``discount`` is positive and lowers the price."""

    order_item_id: Annotated[str, In("key", 64)]
    quantity: Annotated[int, In("core")]
    sku: Annotated[str | None, In("lasting")] = None
    asin: Annotated[str | None, In("lasting", 20)] = None
    title: Annotated[str | None, In("lasting")] = None
    unit_price: Annotated[Amount | None, In("price")] = None
    quantity_shipped: Annotated[int | None, In("fulfillment")] = None
    item_total: Annotated[Amount | None, In("proceeds")] = None
    tax: Annotated[Amount | None, In("proceeds")] = None
    shipping: Annotated[Amount | None, In("proceeds")] = None
    discount: Annotated[Amount | None, In("proceeds")] = None
    gift_wrap: Annotated[Amount | None, In("proceeds")] = None
    withheld_tax: Annotated[Amount | None, In("withheld")] = None
    promotion_ids: Annotated[tuple[str, ...], In("promotion")] = ()
    gift_message: Annotated[str | None, In("fulfillment", sealed=True)] = None
    customization_url: Annotated[str | None, In("lasting", sealed=True)] = None
    other_amounts: Annotated[OtherAmounts, In("proceeds")] = ()
    unreadable: tuple[str, ...] = ()


class PackageRecord(msgspec.Struct, frozen=True, gc=False):
    reference: str | None
    status: str | None = None
    detailed_status: str | None = None
    carrier: str | None = None
    service: str | None = None
    tracking_number: str | None = None
    shipped_at: datetime | None = None


class OrderRecord(Discreet, gc=False):
    """One order as we keep it.

    ``as_of`` says for each group of data (the names of ``connectors.orders.GROUPS``) which update
    time its copy had; a group not in it was never seen. ``shown`` is False for a pending order that
    is only remembered (R30). ``ready`` is True once the order was seen in a final state.

    Not ``frozen``: matching completes a copy of it. Fields without ``In`` have columns that
    ``store.orders`` fills itself.
    """

    account: Annotated[str, In("key", 64)]
    order_id: Annotated[str, In("key", 64)]
    channel: Annotated[str, In("core", 40)]
    created_at: Annotated[datetime, In("key")]
    last_updated_at: Annotated[datetime, In("core")]
    as_of: Mapping[str, datetime]
    marketplace_id: Annotated[str | None, In("core", 32)] = None
    marketplace: Annotated[str | None, In("decision", 16)] = None
    """Country code, or ``NON_AMAZON``; None while the marketplace is not configured (R26)."""
    status: Annotated[str | None, In("fulfillment", 40)] = None
    seller_status: Annotated[str | None, In("decision")] = None
    fulfilled_by: Annotated[str | None, In("fulfillment", 40)] = None
    service_level: Annotated[str | None, In("fulfillment", 40)] = None
    programs: Annotated[tuple[str, ...], In("lasting", joined=True)] = ()
    ship_by: Annotated[datetime | None, In("fulfillment")] = None
    deliver_by: Annotated[datetime | None, In("fulfillment")] = None
    seller_order_id: Annotated[str | None, In("core")] = None
    replaces: Annotated[str | None, In("core", 64)] = None
    buyer: Annotated[Buyer | None, In("buyer", sealed=True)] = None
    delivery: Annotated[Address | None, In("delivery", sealed=True)] = None
    billing: Annotated[Address | None, In("billing", sealed=True)] = None
    delivery_instructions: Annotated[str | None, In("delivery", sealed=True)] = None
    total: Annotated[Amount | None, In("proceeds")] = None
    withheld_tax: Annotated[Amount | None, In("withheld")] = None
    lines: tuple[LineRecord, ...] = ()
    packages: Annotated[tuple[PackageRecord, ...], In("packages")] = ()
    tax_numbers: Annotated[tuple[TaxNumber, ...], In("tax", sealed=True)] = ()
    cancel_requested: Annotated[bool, In("cancellation")] = False
    cancelled_by: Annotated[str | None, In("cancellation", 40)] = None
    cancel_reason: Annotated[str | None, In("cancellation", sealed=True)] = None
    price_list: Annotated[str | None, In("decision")] = None
    tax_code: Annotated[str | None, In("decision")] = None
    labels: Annotated[Mapping[str, str], In("decision")] = msgspec.field(default_factory=dict)
    customer_id: int | None = None
    match_basis: Annotated[Basis | None, In("decision", 20)] = None
    match_rules: Annotated[tuple[str, ...], In("decision", joined=True)] = ()
    """The numbers of the rules that decided the customer, in the order they were applied."""
    ready: Annotated[bool, In("decision")] = False
    shown: Annotated[bool, In("decision")] = True
    billing_origin: Annotated[Origin | None, In("billing", 8)] = None
    """Where the record's billing address came from when it was copied (R10)."""
    delivered_at: Annotated[datetime | None, In("decision")] = None
    """Update time of the oldest copy that showed it delivered; likewise the next two (R60)."""
    shipped_at: Annotated[datetime | None, In("decision")] = None
    cancelled_at: Annotated[datetime | None, In("decision")] = None
    term_at: Annotated[datetime | None, In("decision")] = None
    """The time that the days of its buyer data are counted from (R60)."""
    erased_at: Annotated[datetime | None, In("decision")] = None
    """When its buyer data was erased, or refused because it came too late; none is ever taken again (R63)."""
    own_amounts: Annotated[OtherAmounts, In("proceeds")] = ()
    """Amounts of the order alone, which no line has a part of, such as a tip."""
    first_seen_at: datetime | None = None
    changed_at: datetime | None = None
    unreadable: tuple[str, ...] = ()
    """Fields whose stored value does not open; it stays until a copy brings the field."""
    unread: frozenset[str] = frozenset()
    """Fields, of the order or of its lines, that this copy does not bring: what is stored stays."""


@dataclass(frozen=True, slots=True)
class MainEmail:
    """A main e-mail in its slot (1-3). ``email`` is None once retention left only its hash (R61).

    ``unwritten``: it came with an order past its term, so that only its hash is to be stored (R63).
    """

    slot: int
    email: str | None = field(repr=False)
    origin: Origin
    unwritten: bool = False


@dataclass(slots=True)
class CustomerRecord:
    """One customer record.

    ``origins`` maps a field's name (``name, company, amazon_name, phone, billing, delivery,
    price_list, currency, tax_code, discount_percent, labels``) to where it came from. A name in
    ``origins`` whose field is empty was emptied by hand, and is never filled again (R8).
    ``special`` marks a marketplace's shared or placeholder record (R21, R31). ``idle_since`` is the time
    of its last order, as far as was known when retention left only hashes of its e-mails (R61).
    """

    business: str
    account: str | None
    marketplace: str | None
    created_at: datetime
    customer_id: int = 0
    """0 until it is stored."""
    status: CustomerStatus = "active"
    merged_into: int | None = None
    external_id: str | None = None
    name: str | None = field(default=None, repr=False)
    company: str | None = field(default=None, repr=False)
    amazon_name: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    emails: tuple[MainEmail, ...] = ()
    aliases: tuple[str, ...] = field(default=(), repr=False)
    billing: Address | None = field(default=None, repr=False)
    delivery: Address | None = field(default=None, repr=False)
    price_list: str | None = None
    currency: str | None = None
    tax_code: str | None = None
    discount_percent: Decimal | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    special: str | None = None
    created_from_order: str | None = None
    idle_since: datetime | None = None
    changed_at: datetime | None = None
