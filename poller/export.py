"""Objects as other programs read them; each kind is declared once.

The keys are a promise to programs outside this repository: always present, in this order, null when unknown.
Money is a decimal string, a time ISO 8601 in UTC with ``Z``. JSON, the headings of CSV and the schemas of the
HTTP API follow from the types below; a docstring below a key is its description in the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, cast, get_type_hints

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from poller.matching.customer_records import shown_name
from poller.matching.emails import contact_email
from poller.text import time_text
from store.amounts import line_currency, order_currency, unexplained
from store.progress import BackfillState, Way
from store.queries import JournalEntry as StoredEntry
from store.records import Address as StoredAddress
from store.records import (
    Amount,
    Basis,
    CustomerRecord,
    CustomerStatus,
    LineRecord,
    OrderRecord,
    OtherAmounts,
    PackageRecord,
)
from store.verification_records import By, FetchOutcome, FindingKind, VerificationState

BUYER_DATA = "buyer data"
"""Marks a key that is masked for callers without the scope buyer-data (``poller.web.masking``)."""


SCHEMA = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@with_config(SCHEMA)
class Address(TypedDict):
    name: str | None
    company: str | None
    line1: str | None
    line2: str | None
    line3: str | None
    city: str | None
    county: str | None
    state: str | None
    postal_code: str | None
    country: str | None
    phone: str | None


@with_config(SCHEMA)
class Line(TypedDict):
    order_item_id: str
    sku: str | None
    asin: str | None
    title: str | None
    quantity: int
    quantity_shipped: int | None
    unit_price: str | None
    item_total: str | None
    tax: str | None
    shipping: str | None
    discount: str | None
    """Positive; it lowers the price."""
    gift_wrap: str | None
    gift_message: Annotated[str | None, BUYER_DATA]
    promotion_ids: list[str]
    currency: str | None
    """Of the line's amounts."""
    other_amounts: dict[str, str]
    """Amounts without a key of their own, by Amazon's type: COD_FEE; `TAX USD` if the currency is another."""


@with_config(SCHEMA)
class Package(TypedDict):
    reference: str | None
    status: str | None
    detailed_status: str | None
    carrier: str | None
    service: str | None
    tracking_number: str | None
    shipped_at: str | None


@with_config(SCHEMA)
class Order(TypedDict):
    """An order with the keys of the export. Without the scope buyer-data, texts of a buyer are ``***``."""

    order_id: str
    account: str
    marketplace: str | None
    """The country code."""
    marketplace_id: str | None
    status: str | None
    """Amazon's word, for example UNSHIPPED."""
    seller_status: str | None
    fulfilled_by: str | None
    programs: list[str]
    service_level: str | None
    created_at: str
    last_updated_at: str
    """When Amazon changed it last."""
    ship_by: str | None
    deliver_by: str | None
    seller_order_id: str | None
    replaces: str | None
    purchase_order_number: Annotated[str | None, BUYER_DATA]
    buyer_name: Annotated[str | None, BUYER_DATA]
    buyer_email: Annotated[str | None, BUYER_DATA]
    currency: str | None
    total: str | None
    """The grand total."""
    customer_id: int | None
    match_basis: Basis | None
    """Why this customer."""
    delivery: Annotated[Address | None, BUYER_DATA]
    billing: Annotated[Address | None, BUYER_DATA]
    price_list: str | None
    tax_code: str | None
    labels: dict[str, str]
    lines: list[Line]
    packages: list[Package]
    cancel_requested: bool
    cancelled_by: str | None
    withheld_tax: str | None
    """The tax that Amazon keeps and pays."""
    other_amounts: dict[str, str]
    """The order's own amounts, by Amazon's type: DELIVERY_TIP."""
    unexplained: str | None
    """The total less all amounts in its currency, normally 0.00; null without a total."""
    changed_at: str | None
    """When it changed here."""


@with_config(SCHEMA)
class Customer(TypedDict):
    """A customer with the keys of the export; tombstones, too."""

    customer_id: int
    business: str
    account: str | None
    marketplace: str | None
    status: CustomerStatus
    merged_into: int | None
    external_id: str | None
    name: Annotated[str | None, BUYER_DATA]
    company: Annotated[str | None, BUYER_DATA]
    amazon_name: Annotated[str | None, BUYER_DATA]
    emails: Annotated[list[str | None], BUYER_DATA]
    """Main ones in slot order; null once only a hash is left."""
    aliases: Annotated[list[str], BUYER_DATA]
    phone: Annotated[str | None, BUYER_DATA]
    billing: Annotated[Address | None, BUYER_DATA]
    delivery: Annotated[Address | None, BUYER_DATA]
    price_list: str | None
    currency: str | None
    tax_code: str | None
    discount_percent: str | None
    labels: dict[str, str]
    contactable: bool
    contact_email: Annotated[str | None, BUYER_DATA]
    created_from_order: str | None
    created_at: str
    changed_at: str | None


@with_config(SCHEMA)
class JournalEntry(TypedDict):
    """Who changed what on a customer, when, from what to what."""

    at: str
    who: str
    action: str
    other_id: int | None
    order_id: str | None
    customer_id: int
    before: dict[str, Any]
    after: dict[str, Any]


@with_config(SCHEMA)
class Quarantined(TypedDict):
    order_id: str
    account: str
    marketplace: str | None
    reason: str
    attempts: int
    next_attempt_at: str | None
    first_seen_at: str | None


@with_config(SCHEMA)
class QuarantinedWhole(Quarantined):
    payload: str | None
    """What Amazon sent, as JSON text; *** without the scope buyer-data; null once erased."""


Backfill = TypedDict(
    "Backfill",
    {
        "id": int,
        "marketplace": str,
        "from": str,
        "to": str,
        "by": Way,
        "state": BackfillState,
        "windows_done": int,
        "windows_total": int,
        "orders": int,
        "requests": int,
        "eta": str | None,
        "waits_for": str | None,
    },
)
with_config(SCHEMA)(Backfill)


@with_config(SCHEMA)
class Finding(TypedDict):
    order_id: str
    what: FindingKind
    created_at: str | None
    last_updated_at: str | None
    outcome: FetchOutcome | None


VerificationResult = TypedDict(
    "VerificationResult",
    {
        "id": int,
        "account": str,
        "marketplace": str,
        "from": str,
        "to": str,
        "asked_to": str,
        "compared_to": str,
        "by": By,
        "state": VerificationState,
        "listed": int,
        "before_start": int,
        "non_amazon": int,
        "unreadable": int,
        "missing": int,
        "older": int,
        "quarantined": int,
        "unknown": int,
        "still_missing": int,
        "orders": list[Finding],
        "started_at": str | None,
        "finished_at": str | None,
    },
)


@with_config(SCHEMA)
class Verification(VerificationResult):
    message: str | None


EXPORTED: Mapping[str, Any] = {"orders": Order, "customers": Customer}

KEYS: Mapping[str, tuple[str, ...]] = {name: tuple(kind.__annotations__) for name, kind in EXPORTED.items()}
"""The exported keys."""

ADDRESS_KEYS = tuple(Address.__annotations__)


def buyer_keys(kind: Any) -> tuple[str, ...]:
    """Return the keys of an exported type that are marked as buyer data."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(key for key, hint in hints.items() if BUYER_DATA in getattr(hint, "__metadata__", ()))


# --- objects ----------------------------------------------------------------------------------------


def some_time(time: datetime) -> str:
    """Return a time that an object always has."""
    return time_text(time) or ""


def _money(amount: Amount | None) -> str | None:
    return None if amount is None else format(amount.amount, "f")


def other_amounts_object(amounts: OtherAmounts, currency: str | None) -> dict[str, str]:
    """Return amounts by Amazon's type, with the currency in the key if it is another one than expected."""
    return {
        kind if amount.currency == currency else f"{kind} {amount.currency}": format(amount.amount, "f")
        for kind, amount in amounts
    }


def address_object(address: StoredAddress | None) -> Address | None:
    """Return an address with all its keys."""
    if address is None:
        return None
    return cast(Address, {key: getattr(address, key) for key in ADDRESS_KEYS})


def _line_object(line: LineRecord) -> Line:
    return {
        "order_item_id": line.order_item_id,
        "sku": line.sku,
        "asin": line.asin,
        "title": line.title,
        "quantity": line.quantity,
        "quantity_shipped": line.quantity_shipped,
        "unit_price": _money(line.unit_price),
        "item_total": _money(line.item_total),
        "tax": _money(line.tax),
        "shipping": _money(line.shipping),
        "discount": _money(line.discount),
        "gift_wrap": _money(line.gift_wrap),
        "gift_message": line.gift_message,
        "promotion_ids": list(line.promotion_ids),
        "currency": line_currency(line),
        "other_amounts": other_amounts_object(line.other_amounts, line_currency(line)),
    }


def _package_object(package: PackageRecord) -> Package:
    return {
        "reference": package.reference,
        "status": package.status,
        "detailed_status": package.detailed_status,
        "carrier": package.carrier,
        "service": package.service,
        "tracking_number": package.tracking_number,
        "shipped_at": time_text(package.shipped_at),
    }


def journal_object(entry: StoredEntry) -> dict[str, Any]:
    """Return one entry of a customer's journal, with what it quotes."""
    exported: JournalEntry = {
        "at": some_time(entry.at),
        "who": entry.who,
        "action": entry.action,
        "other_id": entry.other_id,
        "order_id": entry.order_id,
        "customer_id": entry.customer_id,
        "before": entry.details.get("before", {}),
        "after": entry.details.get("after", {}),
    }
    return dict(exported)


def order_object(order: OrderRecord) -> dict[str, Any]:
    """Return one order."""
    buyer = order.buyer
    exported: Order = {
        "order_id": order.order_id,
        "account": order.account,
        "marketplace": order.marketplace,
        "marketplace_id": order.marketplace_id,
        "status": order.status,
        "seller_status": order.seller_status,
        "fulfilled_by": order.fulfilled_by,
        "programs": list(order.programs),
        "service_level": order.service_level,
        "created_at": some_time(order.created_at),
        "last_updated_at": some_time(order.last_updated_at),
        "ship_by": time_text(order.ship_by),
        "deliver_by": time_text(order.deliver_by),
        "seller_order_id": order.seller_order_id,
        "replaces": order.replaces,
        "purchase_order_number": buyer.purchase_order_number if buyer else None,
        "buyer_name": buyer.name if buyer else None,
        "buyer_email": buyer.email if buyer else None,
        "currency": order_currency(order),
        "total": _money(order.total),
        "customer_id": order.customer_id,
        "match_basis": order.match_basis,
        "delivery": address_object(order.delivery),
        "billing": address_object(order.billing),
        "price_list": order.price_list,
        "tax_code": order.tax_code,
        "labels": dict(order.labels),
        "lines": [_line_object(line) for line in order.lines],
        "packages": [_package_object(package) for package in order.packages],
        "cancel_requested": order.cancel_requested,
        "cancelled_by": order.cancelled_by,
        "withheld_tax": _money(order.withheld_tax),
        "other_amounts": other_amounts_object(order.own_amounts, order_currency(order)),
        "unexplained": _money(unexplained(order)),
        "changed_at": time_text(order.changed_at),
    }
    return dict(exported)


def customer_object(customer: CustomerRecord) -> dict[str, Any]:
    """Return one customer; tombstones, too."""
    contact = contact_email(customer)
    discount = customer.discount_percent
    exported: Customer = {
        "customer_id": customer.customer_id,
        "business": customer.business,
        "account": customer.account,
        "marketplace": customer.marketplace,
        "status": customer.status,
        "merged_into": customer.merged_into,
        "external_id": customer.external_id,
        "name": shown_name(customer),
        "company": customer.company,
        "amazon_name": customer.amazon_name,
        "emails": [email.email for email in customer.emails],
        "aliases": list(customer.aliases),
        "phone": customer.phone,
        "billing": address_object(customer.billing),
        "delivery": address_object(customer.delivery),
        "price_list": customer.price_list,
        "currency": customer.currency,
        "tax_code": customer.tax_code,
        "discount_percent": None if discount is None else format(discount, "f"),
        "labels": dict(customer.labels),
        "contactable": contact is not None,
        "contact_email": contact,
        "created_from_order": customer.created_from_order,
        "created_at": some_time(customer.created_at),
        "changed_at": time_text(customer.changed_at),
    }
    return dict(exported)
