"""The part of Amazon's order model that we read, declared once, and how it is read into our vocabulary.

The shapes are Amazon's and nothing else; types are checked while decoding. The decoder ignores an undeclared
field and refuses a declared one of another type, optional or not. Reading decides what a type cannot say: a
blank text is absent, the format of times and amounts. A field without a default is required. ``Any`` marks a
field of which only the presence counts.

Members are in snake case here and in camel case at Amazon (``order_id`` is ``orderId``).
Source: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from connectors import orders
from connectors.amazon.values import (
    Malformed,
    first_text,
    joined_text,
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


class Money(_Model, frozen=True):
    amount: str | None = None
    currency_code: Annotated[str, msgspec.Meta(max_length=8)] | None = None


class OrderAlias(_Model, frozen=True):
    alias_id: str | None = None
    alias_type: str | None = None


class AssociatedOrder(_Model, frozen=True):
    order_id: Id | None = None
    association_type: str | None = None


class SalesChannel(_Model, frozen=True):
    channel_name: Word
    marketplace_id: MarketplaceId | None = None


class Buyer(_Model, frozen=True):
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
    delivery_preference: DeliveryPreference | None = None


class OrderProceeds(_Model, frozen=True):
    grand_total: Money | None = None
    breakdowns: Any = None


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
    fulfilled_by: Word | None = None
    fulfillment_service_level: Word | None = None
    ship_by_window: TimeWindow | None = None
    deliver_by_window: TimeWindow | None = None


class Price(_Model, frozen=True):
    unit_price: Money | None = None


class Customization(_Model, frozen=True):
    customized_url: str | None = None


class Product(_Model, frozen=True):
    asin: Annotated[str, msgspec.Meta(max_length=20)] | None = None
    title: str | None = None
    seller_sku: str | None = None
    price: Price | None = None
    customization: Customization | None = None


class ProceedsBreakdown(_Model, frozen=True):
    type: str
    subtotal: Money | None = None


class ItemProceeds(_Model, frozen=True):
    proceeds_total: Any = None
    breakdowns: list[ProceedsBreakdown] | None = None


class PromotionBreakdown(_Model, frozen=True):
    promotion_id: str | None = None


class ItemPromotion(_Model, frozen=True):
    breakdowns: list[PromotionBreakdown] | None = None


class CancellationRequest(_Model, frozen=True):
    requester: Any = None
    cancel_reason: str | None = None


class CancellationExecution(_Model, frozen=True):
    cancelled_by: Word | None = None
    cancel_reason: str | None = None


class ItemCancellation(_Model, frozen=True):
    cancellation_request: CancellationRequest | None = None
    cancellation_execution: CancellationExecution | None = None


class GiftOption(_Model, frozen=True):
    gift_message: str | None = None


class Packing(_Model, frozen=True):
    gift_option: GiftOption | None = None


class ItemFulfillment(_Model, frozen=True):
    quantity_fulfilled: Count | None = None
    packing: Packing | None = None


class TaxCollection(_Model, frozen=True):
    model: str | None = None


class ItemTax(_Model, frozen=True):
    tax_collections: list[TaxCollection] | None = None


class OrderItem(_Model, frozen=True):
    order_item_id: Id
    quantity_ordered: Count
    product: Product
    proceeds: ItemProceeds | None = None
    promotion: ItemPromotion | None = None
    cancellation: ItemCancellation | None = None
    fulfillment: ItemFulfillment | None = None
    tax: ItemTax | None = None


class PackageStatus(_Model, frozen=True):
    status: str | None = None
    detailed_status: str | None = None


class Package(_Model, frozen=True):
    package_reference_id: str
    package_status: PackageStatus | None = None
    carrier: str | None = None
    shipping_service: str | None = None
    tracking_number: str | None = None
    ship_time: str | None = None


class Order(_Model, frozen=True):
    order_id: Id
    created_time: str
    last_updated_time: str
    sales_channel: SalesChannel
    order_items: list[OrderItem]
    order_aliases: list[OrderAlias] | None = None
    programs: list[str | None] | None = None
    associated_orders: list[AssociatedOrder] | None = None
    buyer: Buyer | None = None
    recipient: Recipient | None = None
    proceeds: OrderProceeds | None = None
    tax: OrderTax | None = None
    fulfillment: OrderFulfillment | None = None
    packages: list[Package] | None = None


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


def read_order(order: Order) -> AmazonOrder:
    """Return an order in our vocabulary. Raises Malformed."""
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

    return AmazonOrder(  # by position, in the order of its fields: keywords would double the cost
        required_text(order.order_id, "orderId"),
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
    )


def _seller_order_id(aliases: Iterable[OrderAlias]) -> str | None:
    return first_text([alias.alias_id for alias in aliases if alias.alias_type == "SELLER_ORDER_ID"])


def _replaced(associated: Iterable[AssociatedOrder]) -> str | None:
    return first_text([o.order_id for o in associated if o.association_type == "REPLACEMENT_ORIGINAL_ID"])


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
        reference=required_text(package.package_reference_id, "packageReferenceId"),
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
    product = item.product
    amounts: dict[str, orders.Money] = {}
    if item.proceeds is not None:
        if item.proceeds.breakdowns:
            present.add("proceeds")
            amounts = _subtotals(item.proceeds.breakdowns)
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
            withheld_tax = amounts.get("TAX")
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
    )


def _gift_message(packing: Packing) -> str | None:
    return None if packing.gift_option is None else text_of(packing.gift_option.gift_message)


_AMOUNTS = frozenset({"ITEM", "TAX", "SHIPPING", "DISCOUNT", "GIFT_WRAP"})


def _subtotals(breakdowns: Sequence[ProceedsBreakdown]) -> dict[str, orders.Money]:
    """Return the subtotal by type of breakdown; a repeated type is summed, in one currency only."""
    sums: dict[str, orders.Money] = {}
    at = 0
    try:
        for at, breakdown in enumerate(breakdowns):  # noqa: B007
            kind = required_text(breakdown.type, "type")
            if kind not in _AMOUNTS:
                continue
            subtotal = _money(breakdown.subtotal, "subtotal")
            if subtotal is None:
                raise Malformed("subtotal is missing")
            known = sums.get(kind)
            if known is not None:
                if known.currency != subtotal.currency:
                    raise Malformed("subtotal is in another currency than the one before it")
                subtotal = orders.Money(known.amount + subtotal.amount, known.currency)
            sums[kind] = subtotal
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
