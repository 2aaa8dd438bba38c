"""The store's vocabulary: what we keep, as plain values. Knows no database.

Nothing changes a value once it is made. Orders and their parts are Structs, because there are so many of
them: one is made and copied several times as fast as a dataclass, and is of no concern to the garbage
collector.

Times are aware UTC, money is exact, absent is ``None``. Buyer data is in the clear here and sealed
in the tables; these values are never logged (their ``repr`` leaves buyer fields out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal

import msgspec

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
    """The form in which e-mails are compared (R15): trimmed and case-folded, nothing rewritten."""
    return email.strip().casefold()


class Amount(msgspec.Struct, frozen=True, gc=False):
    """Exact money."""

    amount: Decimal
    currency: str


class Discreet(msgspec.Struct, gc=False):
    """A value with buyer data in some of its fields, ``UNTOLD``, which its ``repr`` leaves out."""

    UNTOLD: ClassVar[frozenset[str]]

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({told})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.UNTOLD]


class Personal(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A group of buyer data, sealed as one value; what is absent is left out. Its ``repr`` tells nothing."""

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
    """What retention leaves of an address (R60)."""
    return Address(country=address.country) if address is not None and address.country else None


def says_something(address: Address | None) -> bool:
    """Whether there is more to an address than its country."""
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

    UNTOLD = frozenset({"gift_message", "customization_url"})

    order_item_id: str
    quantity: int
    sku: str | None = None
    asin: str | None = None
    title: str | None = None
    unit_price: Amount | None = None
    quantity_shipped: int | None = None
    item_total: Amount | None = None
    tax: Amount | None = None
    shipping: Amount | None = None
    discount: Amount | None = None
    gift_wrap: Amount | None = None
    withheld_tax: Amount | None = None
    promotion_ids: tuple[str, ...] = ()
    gift_message: str | None = None
    customization_url: str | None = None


class PackageRecord(msgspec.Struct, frozen=True, gc=False):
    reference: str
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

    Not ``frozen``: whoever decides about an order completes a copy of it.
    """

    UNTOLD = frozenset(
        {"buyer", "delivery", "billing", "delivery_instructions", "tax_numbers", "cancel_reason"}
    )

    account: str
    order_id: str
    channel: str
    created_at: datetime
    last_updated_at: datetime
    as_of: Mapping[str, datetime]
    marketplace_id: str | None = None
    marketplace: str | None = None
    """Country code; None while the marketplace is not configured (R26)."""
    status: str | None = None
    seller_status: str | None = None
    fulfilled_by: str | None = None
    service_level: str | None = None
    programs: tuple[str, ...] = ()
    ship_by: datetime | None = None
    deliver_by: datetime | None = None
    seller_order_id: str | None = None
    replaces: str | None = None
    buyer: Buyer | None = None
    delivery: Address | None = None
    billing: Address | None = None
    delivery_instructions: str | None = None
    total: Amount | None = None
    withheld_tax: Amount | None = None
    lines: tuple[LineRecord, ...] = ()
    packages: tuple[PackageRecord, ...] = ()
    tax_numbers: tuple[TaxNumber, ...] = ()
    cancel_requested: bool = False
    cancelled_by: str | None = None
    cancel_reason: str | None = None
    price_list: str | None = None
    tax_code: str | None = None
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    customer_id: int | None = None
    match_basis: Basis | None = None
    match_rules: tuple[str, ...] = ()
    """The numbers of the rules that decided the customer, in the order they were applied."""
    ready: bool = False
    shown: bool = True
    billing_origin: Origin | None = None
    """Where the record's billing address came from when it was copied (R10)."""
    delivered_at: datetime | None = None
    """Update time of the oldest copy that showed all of it delivered; so also the two that follow (R60)."""
    shipped_at: datetime | None = None
    cancelled_at: datetime | None = None
    term_at: datetime | None = None
    """The moment that the days of its buyer data are counted from (R60)."""
    erased_at: datetime | None = None
    """When its buyer data was erased, or refused because it came too late; none is ever taken again (R63)."""
    first_seen_at: datetime | None = None
    changed_at: datetime | None = None


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
