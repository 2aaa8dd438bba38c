"""The part of Amazon's order model that we read, declared once; types are checked while decoding.

These are Amazon's names and shapes, nothing else. The decoder ignores an undeclared field and refuses a
declared one of another type, optional or not. ``connectors.amazon.parse`` decides what a type cannot say: a
blank text is absent, the format of times and amounts. A field without a default is required. ``Any`` marks a
field of which only the presence counts.

Members are in snake case here and in camel case at Amazon (``order_id`` is ``orderId``).
Source: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

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
