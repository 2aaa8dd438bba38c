"""The part of Amazon's order model that we read, declared once, and how it is read into our vocabulary.

The shapes are Amazon's and nothing else; types are checked while decoding. The decoder ignores an undeclared
field and refuses a declared one of another type, optional or not. Reading decides what a type cannot say: a
blank text is absent, the format of times and amounts. A field without a default is required. ``Any`` marks a
field of which only the presence counts.

An order waits in quarantine if what it is stored for cannot be read: which order and which version it is,
what was sold for how much, whether it goes ahead, to whom and where. The reason stands at each such member.
What only labels or explains is ``Spare``.

Members are in snake case here and in camel case at Amazon (``order_id`` is ``orderId``).
Source: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from connectors import orders
from connectors.amazon.values import (
    Malformed,
    first_text,
    is_order_id,
    joined_text,
    order_id_of,
    required_text,
    required_time,
    text_of,
    texts_of,
    time_of,
)
from connectors.orders import AmazonAddress, AmazonBuyer, AmazonLine, AmazonOrder, AmazonPackage

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Word = Annotated[str, msgspec.Meta(max_length=40)]
Id = Annotated[str, msgspec.Meta(max_length=64)]
MarketplaceId = Annotated[str, msgspec.Meta(max_length=32)]
"""Length limits of what has a column of its own: a longer value would fail the whole page's transaction."""


class _Model(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Never outlives the parsing of its page, so the garbage collector need not track it (``gc=False``)."""

    def __repr__(self) -> str:
        return type(self).__name__  # hides buyer data


class Spare(NamedTuple):
    """Marks a member that an order is stored without if it cannot be read.

    ``field``: the field of ours that it fills; what is stored there stays (R25). Without, nothing is erased.
    """

    field: str | None = None


class Money(_Model, frozen=True):
    """Needed where it is given: an order that hides an amount would state less than Amazon does."""

    amount: str | None = None
    currency_code: Annotated[str, msgspec.Meta(max_length=8)] | None = None


class OrderAlias(_Model, frozen=True):
    alias_id: str | None = None
    alias_type: str | None = None


class AssociatedOrder(_Model, frozen=True):
    """Needed where it is given: a replacement goes to the customer of the order that it replaces (R23)."""

    order_id: Id | None = None
    association_type: str | None = None


class SalesChannel(_Model, frozen=True):
    channel_name: Word
    """Needed: an order of another channel has no buyer of Amazon's, and must not match by e-mail (R24)."""
    marketplace_id: MarketplaceId | None = None
    """Needed where it is given: its rules decide the customer. Missing, the order waits for it (R26)."""


class Buyer(_Model, frozen=True):
    """Needed where it is given: it decides the customer, and is kept as one value."""

    buyer_name: str | None = None
    buyer_email: str | None = None
    buyer_company_name: str | None = None
    buyer_purchase_order_number: str | None = None


class ExtendedFields(_Model, frozen=True):
    """The parts of a Brazilian street."""

    street_name: str | None = None
    street_number: str | None = None
    complement: str | None = None
    neighborhood: str | None = None


class Address(_Model, frozen=True):
    """Needed where it is given: a parcel with a part of its address goes astray. It is kept as one value."""

    name: str | None = None
    company_name: str | None = None
    address_line1: str | None = None
    address_line2: str | None = None
    address_line3: str | None = None
    city: str | None = None
    district_or_county: str | None = None
    municipality: str | None = None
    state_or_region: str | None = None
    postal_code: str | None = None
    country_code: Id | None = None
    phone: str | None = None
    address_type: str | None = None
    extended_fields: ExtendedFields | None = None


class DeliveryPreference(_Model, frozen=True):
    drop_off_location: str | None = None
    address_instruction: str | None = None


class Recipient(_Model, frozen=True):
    delivery_address: Address | None = None
    delivery_preference: Annotated[DeliveryPreference | None, Spare("delivery_instructions")] = None


class ProceedsBreakdown(_Model, frozen=True):
    type: str
    """Needed: an amount of no known kind can be neither added nor taken off."""
    subtotal: Money | None = None


class OrderProceeds(_Model, frozen=True):
    grand_total: Money | None = None
    breakdowns: Annotated[list[ProceedsBreakdown] | None, Spare("own_amounts")] = None
    """Spare: nearly all are sums over the items, and what is left out stays unexplained."""


class TaxRegistration(_Model, frozen=True):
    entity_type: str | None = None
    tax_registration_type: str | None = None
    tax_registration_number: str | None = None
    legal_name: str | None = None


class OrderTax(_Model, frozen=True):
    tax_registrations: list[TaxRegistration] | None = None


class TimeWindow(_Model, frozen=True):
    latest_date_time: str | None = None


class OrderFulfillment(_Model, frozen=True):
    fulfillment_status: Word | None = None
    """Needed where it is given: it decides if this is an order yet, and if it still is one (R30, R32)."""
    fulfilled_by: Annotated[Word | None, Spare("fulfilled_by")] = None
    fulfillment_service_level: Annotated[Word | None, Spare("service_level")] = None
    ship_by_window: Annotated[TimeWindow | None, Spare("ship_by")] = None
    deliver_by_window: Annotated[TimeWindow | None, Spare("deliver_by")] = None


class Price(_Model, frozen=True):
    unit_price: Money | None = None


class Customization(_Model, frozen=True):
    customized_url: str | None = None


class Product(_Model, frozen=True):
    asin: Annotated[Annotated[str, msgspec.Meta(max_length=20)] | None, Spare("asin")] = None
    title: Annotated[str | None, Spare("title")] = None
    seller_sku: str | None = None
    """Needed where it is given: it says what to send."""
    price: Price | None = None
    customization: Customization | None = None
    """Needed where it is given: it says what to make. So is a gift's message."""


class ItemProceeds(_Model, frozen=True):
    proceeds_total: Any = None
    breakdowns: list[ProceedsBreakdown] | None = None


class PromotionBreakdown(_Model, frozen=True):
    promotion_id: str | None = None


class ItemPromotion(_Model, frozen=True):
    breakdowns: list[PromotionBreakdown] | None = None


class CancellationRequest(_Model, frozen=True):
    """Needed where it is given: an order that the buyer wants to cancel should not be sent."""

    requester: Any = None
    cancel_reason: Annotated[str | None, Spare("cancel_reason")] = None


class CancellationExecution(_Model, frozen=True):
    cancelled_by: Annotated[Word | None, Spare("cancelled_by")] = None
    cancel_reason: Annotated[str | None, Spare("cancel_reason")] = None


class ItemCancellation(_Model, frozen=True):
    cancellation_request: CancellationRequest | None = None
    cancellation_execution: CancellationExecution | None = None


class GiftOption(_Model, frozen=True):
    gift_message: str | None = None


class Packing(_Model, frozen=True):
    gift_option: GiftOption | None = None


class ItemFulfillment(_Model, frozen=True):
    quantity_fulfilled: Count | None = None
    """Needed where it is given: the rest is still to be sent."""
    packing: Packing | None = None


class TaxCollection(_Model, frozen=True):
    """Needed where it is given: it says whose the tax is to pay (R42)."""

    model: str | None = None


class ItemTax(_Model, frozen=True):
    tax_collections: list[TaxCollection] | None = None


class OrderItem(_Model, frozen=True):
    order_item_id: Id
    """Needed: copies of a line are merged by it."""
    quantity_ordered: Count
    """Needed: no other number can stand for how many were sold."""
    product: Product | None = None
    proceeds: ItemProceeds | None = None
    promotion: Annotated[ItemPromotion | None, Spare("promotion_ids")] = None
    cancellation: ItemCancellation | None = None
    fulfillment: ItemFulfillment | None = None
    tax: ItemTax | None = None


class PackageStatus(_Model, frozen=True):
    status: str | None = None
    detailed_status: Annotated[str | None, Spare()] = None


class Package(_Model, frozen=True):
    """All is spare: Amazon leaves out what its model promises, and the order has a status of its own."""

    package_reference_id: Annotated[str | None, Spare()] = None
    package_status: Annotated[PackageStatus | None, Spare()] = None
    carrier: Annotated[str | None, Spare()] = None
    shipping_service: Annotated[str | None, Spare()] = None
    tracking_number: Annotated[str | None, Spare()] = None
    ship_time: Annotated[str | None, Spare()] = None


class Order(_Model, frozen=True):
    order_id: Id
    """Needed: it is the order."""
    created_time: str
    """Needed: orders are matched, listed and read again by it (R20)."""
    last_updated_time: str
    """Needed: the newer copy wins (R25)."""
    sales_channel: SalesChannel
    order_items: list[OrderItem]
    """Needed: they are what was sold. An empty list, as Amazon sends it at first, is absence (R25)."""
    order_aliases: Annotated[list[OrderAlias] | None, Spare("seller_order_id")] = None
    programs: list[str | None] | None = None
    """Needed where it is given: a program says that e-mail or address are not the buyer's (R17, R18)."""
    associated_orders: list[AssociatedOrder] | None = None
    buyer: Buyer | None = None
    recipient: Recipient | None = None
    proceeds: OrderProceeds | None = None
    tax: Annotated[OrderTax | None, Spare("tax_numbers")] = None
    fulfillment: OrderFulfillment | None = None
    packages: Annotated[list[Package] | None, Spare()] = None


# --- what an order is stored without ---------------------------------------------------------


@cache
def spares(model: type[_Model] = Order, path: str = "") -> dict[str, Spare]:
    """Return the spare members by their paths at Amazon, with ``[]`` for each list on the way."""
    found: dict[str, Spare] = {}
    hints = get_type_hints(model, include_extras=True)
    for name, hint in zip(model.__struct_encode_fields__, hints.values(), strict=True):
        here = f"{path}{name}"
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Spare):
                found[here] = mark
        within, indices = _model_in(hint)
        if within is not None:
            found |= spares(within, f"{here}{indices}.")
    return found


def _model_in(hint: Any) -> tuple[type[_Model] | None, str]:
    """Return the model that a type consists of, and ``[]`` for a list of it."""
    if isinstance(hint, type) and issubclass(hint, _Model):
        return hint, ""
    if get_origin(hint) not in (Annotated, UnionType, list):
        return None, ""
    inner = [_model_in(each) for each in get_args(hint)]
    model, indices = next((each for each in inner if each[0] is not None), (None, ""))
    return model, "[]" + indices if get_origin(hint) is list else indices


# --- answers ---------------------------------------------------------------------------------


class Pagination(_Model, frozen=True):
    next_token: str | None = None


class SearchOrdersAnswer(_Model, frozen=True):
    orders: list[Order]
    pagination: Pagination | None = None
    last_updated_before: str | None = None
    created_before: str | None = None
    errors: Any = None


# --- an order, read --------------------------------------------------------------------------

_NO_RECIPIENT = Recipient()
_NO_FULFILLMENT = OrderFulfillment()
_NO_STATUS = PackageStatus()
_NO_PRODUCT = Product()


def read_order(order: Order, unread: frozenset[str] = frozenset()) -> AmazonOrder:
    """Return an order in our vocabulary; ``unread``: fields whose members were left out. Raises Malformed."""
    channel = order.sales_channel
    fulfillment = order.fulfillment or _NO_FULFILLMENT
    recipient = order.recipient or _NO_RECIPIENT

    present: set[str] = set()
    status = text_of(fulfillment.fulfillment_status)
    if status is not None:
        present.add("fulfillment")
    buyer = None if order.buyer is None else _buyer(order.buyer)
    if buyer is not None:
        present.add("buyer")
    delivery = None if recipient.delivery_address is None else _address(recipient.delivery_address)
    if delivery is not None and (delivery.name or delivery.line1 or delivery.line2 or delivery.line3):
        present.add("delivery")
    total = None
    if order.proceeds is not None:
        total = _money(order.proceeds.grand_total, "proceeds.grandTotal")
        if total is not None or order.proceeds.breakdowns:
            present.add("proceeds")
    packages = _packages(order.packages) if order.packages else ()
    if packages:
        present.add("packages")
    registrations: tuple[orders.TaxRegistration, ...] = ()
    if order.tax is not None and order.tax.tax_registrations:
        present.add("tax")
        registrations = tuple([_registration(each) for each in order.tax.tax_registrations])
    lines = _lines(order.order_items, present)
    own_amounts: orders.OtherAmounts = ()
    if order.proceeds is not None and order.proceeds.breakdowns:
        own_amounts = _own_amounts(order.proceeds.breakdowns, lines)

    return AmazonOrder(  # by position, in the order of its fields: keywords would double the cost
        order_id_of(order.order_id, "orderId"),
        required_time(order.created_time, "createdTime"),
        required_time(order.last_updated_time, "lastUpdatedTime"),
        required_text(channel.channel_name, "salesChannel.channelName"),
        frozenset(present),
        text_of(channel.marketplace_id),
        status,
        text_of(fulfillment.fulfilled_by),
        text_of(fulfillment.fulfillment_service_level),
        _latest(fulfillment.ship_by_window, "fulfillment.shipByWindow"),
        _latest(fulfillment.deliver_by_window, "fulfillment.deliverByWindow"),
        texts_of(order.programs) if order.programs else (),
        _seller_order_id(order.order_aliases) if order.order_aliases else None,
        _replaced(order.associated_orders) if order.associated_orders else None,
        buyer,
        delivery,
        _instructions(recipient.delivery_preference),
        total,
        lines,
        packages,
        registrations,
        own_amounts,
        unread,
    )


def _seller_order_id(aliases: Iterable[OrderAlias]) -> str | None:
    return first_text([alias.alias_id for alias in aliases if alias.alias_type == "SELLER_ORDER_ID"])


def _replaced(associated: Iterable[AssociatedOrder]) -> str | None:
    originals = (o.order_id for o in associated if o.association_type == "REPLACEMENT_ORIGINAL_ID")
    return next((order_id for order_id in originals if order_id and is_order_id(order_id)), None)


def _latest(window: TimeWindow | None, path: str) -> datetime | None:
    return None if window is None else time_of(window.latest_date_time, f"{path}.latestDateTime")


def _buyer(buyer: Buyer) -> AmazonBuyer | None:
    members = (
        text_of(buyer.buyer_name),
        text_of(buyer.buyer_email),
        text_of(buyer.buyer_company_name),
        text_of(buyer.buyer_purchase_order_number),
    )
    return AmazonBuyer(*members) if any(members) else None


def _address(address: Address) -> AmazonAddress | None:
    """Read an address. Brazil's name the street in ``extendedFields``: each line falls back to its part.

    A municipality is one more part of the place beside or instead of a district, and no field of ours is its
    own: the county has what comes of the two.
    """
    line1 = text_of(address.address_line1)
    line2 = text_of(address.address_line2)
    line3 = text_of(address.address_line3)
    extended = address.extended_fields
    if extended is not None:
        line1 = line1 or joined_text(" ", extended.street_name, extended.street_number)
        line2 = line2 or text_of(extended.complement)
        line3 = line3 or text_of(extended.neighborhood)
    members = (
        text_of(address.name),
        text_of(address.company_name),
        line1,
        line2,
        line3,
        text_of(address.city),
        joined_text(", ", *dict.fromkeys((address.district_or_county, address.municipality))),
        text_of(address.state_or_region),
        text_of(address.postal_code),
        text_of(address.country_code),
        text_of(address.phone),
        text_of(address.address_type),
    )
    return AmazonAddress(*members) if any(members) else None


def _instructions(preference: DeliveryPreference | None) -> str | None:
    if preference is None:
        return None
    return joined_text("\n", preference.drop_off_location, preference.address_instruction)


def _packages(packages: Sequence[Package]) -> tuple[AmazonPackage, ...]:
    read: list[AmazonPackage] = []
    try:
        for package in packages:
            read.append(_package(package))
    except Malformed as malformed:
        reason = f"packages[{len(read)}].{malformed}"
    else:
        return tuple(read)
    raise Malformed(reason)


def _package(package: Package) -> AmazonPackage:
    status = package.package_status or _NO_STATUS
    return AmazonPackage(
        reference=text_of(package.package_reference_id),
        status=text_of(status.status),
        detailed_status=text_of(status.detailed_status),
        carrier=text_of(package.carrier),
        service=text_of(package.shipping_service),
        tracking_number=text_of(package.tracking_number),
        shipped_at=time_of(package.ship_time, "shipTime"),
    )


def _registration(registration: TaxRegistration) -> orders.TaxRegistration:
    return orders.TaxRegistration(
        entity=text_of(registration.entity_type),
        kind=text_of(registration.tax_registration_type),
        number=text_of(registration.tax_registration_number),
        legal_name=text_of(registration.legal_name),
    )


# --- order items -----------------------------------------------------------------------------


def _lines(items: Sequence[OrderItem], present: set[str]) -> tuple[AmazonLine, ...]:
    """Read the order items, and add the groups that they carry to ``present``."""
    lines: list[AmazonLine] = []
    try:
        for item in items:
            lines.append(_line(item, present))
    except Malformed as malformed:
        reason = f"orderItems[{len(lines)}].{malformed}"
    else:
        return tuple(lines)
    raise Malformed(reason)


def _line(item: OrderItem, present: set[str]) -> AmazonLine:
    product = item.product or _NO_PRODUCT
    amounts: dict[str, orders.Money] = {}
    other_amounts: orders.OtherAmounts = ()
    if item.proceeds is not None:
        if item.proceeds.breakdowns:
            present.add("proceeds")
            amounts, other_amounts = _amounts(item.proceeds.breakdowns)
        elif item.proceeds.proceeds_total:
            present.add("proceeds")
    promotion_ids: tuple[str, ...] = ()
    if item.promotion is not None and item.promotion.breakdowns:
        present.add("promotion")
        promotion_ids = texts_of([breakdown.promotion_id for breakdown in item.promotion.breakdowns])
    withheld_tax = None
    if item.tax is not None and item.tax.tax_collections:
        present.add("tax")
        if any([collection.model == "MARKETPLACE_FACILITATOR" for collection in item.tax.tax_collections]):
            withheld_tax = amounts.get("TAX") or next((m for kind, m in other_amounts if kind == "TAX"), None)
    quantity_shipped = gift_message = None
    if item.fulfillment is not None:
        quantity_shipped = item.fulfillment.quantity_fulfilled
        if item.fulfillment.packing is not None:
            gift_message = _gift_message(item.fulfillment.packing)
    cancel_requested, cancel_request_reason, cancelled_by, cancel_reason = False, None, None, None
    if item.cancellation is not None:
        request, execution = item.cancellation.cancellation_request, item.cancellation.cancellation_execution
        if request is not None and (request.requester or request.cancel_reason):
            present.add("cancellation")
            cancel_requested, cancel_request_reason = True, text_of(request.cancel_reason)
        if execution is not None and (execution.cancelled_by or execution.cancel_reason):
            present.add("cancellation")
            cancelled_by, cancel_reason = text_of(execution.cancelled_by), text_of(execution.cancel_reason)
    unit_price = None
    if product.price is not None:
        unit_price = _money(product.price.unit_price, "product.price.unitPrice")
        if unit_price is not None:
            present.add("price")
    customization = product.customization

    return AmazonLine(  # by position, see above
        required_text(item.order_item_id, "orderItemId"),
        item.quantity_ordered,
        text_of(product.seller_sku),
        text_of(product.asin),
        text_of(product.title),
        unit_price,
        quantity_shipped,
        amounts.get("ITEM"),
        amounts.get("TAX"),
        amounts.get("SHIPPING"),
        amounts.get("DISCOUNT"),
        amounts.get("GIFT_WRAP"),
        withheld_tax,
        promotion_ids,
        gift_message,
        None if customization is None else text_of(customization.customized_url),
        cancel_requested,
        cancel_request_reason,
        cancelled_by,
        cancel_reason,
        other_amounts,
    )


def _gift_message(packing: Packing) -> str | None:
    return None if packing.gift_option is None else text_of(packing.gift_option.gift_message)


_AMOUNTS = frozenset({"ITEM", "TAX", "SHIPPING", "DISCOUNT", "GIFT_WRAP"})
"""Types of breakdowns that have a field of their own."""

_SUMS_OVER_ITEMS = _AMOUNTS | {"COD_FEE", "OTHER"}
"""Types that an order's breakdowns have as sums over its items (Amazon's model, OrderProceedsBreakdown)."""


def _amounts(
    breakdowns: Sequence[ProceedsBreakdown],
) -> tuple[dict[str, orders.Money], orders.OtherAmounts]:
    """Return an item's subtotals that have a field, by type, and all others.

    What has a field is in one currency, so that it adds up: that of ITEM, or without it, of the first.
    """
    sums = _subtotals(breakdowns)
    currency = next((c for kind, c in sums if kind == "ITEM"), next((c for _, c in sums), None))
    amounts, others = {}, []
    for (kind, its_currency), money in sums.items():
        if its_currency == currency and kind in _AMOUNTS:
            amounts[kind] = money
        else:
            others.append((kind, money))
    return amounts, tuple(others)


def _own_amounts(breakdowns: Sequence[ProceedsBreakdown], lines: Iterable[AmazonLine]) -> orders.OtherAmounts:
    """Return the order's amounts that are no sums over its items, such as DELIVERY_TIP."""
    sums = _subtotals(breakdowns)
    of_items = _SUMS_OVER_ITEMS | {kind for line in lines for kind, _ in line.other_amounts}
    return tuple([(kind, money) for (kind, _), money in sums.items() if kind not in of_items])


def _subtotals(breakdowns: Sequence[ProceedsBreakdown]) -> dict[tuple[str, str], orders.Money]:
    """Return the sums by type and currency; a breakdown without an amount says nothing."""
    sums: dict[tuple[str, str], orders.Money] = {}
    at = 0
    try:
        for at, breakdown in enumerate(breakdowns):  # noqa: B007
            kind = required_text(breakdown.type, "type")
            subtotal = _money(breakdown.subtotal, "subtotal")
            if subtotal is None:
                continue
            known = sums.get((kind, subtotal.currency))
            if known is not None:
                subtotal = orders.Money(known.amount + subtotal.amount, known.currency)
            sums[kind, subtotal.currency] = subtotal
    except Malformed as malformed:
        reason = f"proceeds.breakdowns[{at}].{malformed}"
    else:
        return sums
    raise Malformed(reason)


# Short enough that any sum of breakdowns is exact in the 28 digits of Decimal's default context.
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,10})?").fullmatch


def _money(money: Money | None, path: str) -> orders.Money | None:
    if money is None or not (money.amount or money.currency_code):
        return None
    if money.amount is None or not _PLAIN_DECIMAL(money.amount):
        raise Malformed(f"{path}.amount is not a plain decimal")
    if not money.currency_code or money.currency_code.isspace():
        raise Malformed(f"{path}.currencyCode is missing")
    return orders.Money(Decimal(money.amount), money.currency_code)
