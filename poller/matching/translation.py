"""Amazon's words to ours: one copy of an order as the record that we keep, not matched yet.

Everything that depends only on this one copy and on the seller's rules for its marketplace is settled
here, so that matching never sees data that the seller did not ask for. A group of data that the copy
does not carry, or that the marketplace does not want, leaves its fields empty and is not claimed in
``as_of``: then a partial address without name or street counts as withheld, not as an address (R25).

Groups of buyer data and packages have the same members in both vocabularies, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import astuple

from connectors.orders import (
    GROUPS,
    AmazonAddress,
    AmazonBuyer,
    AmazonLine,
    AmazonOrder,
    AmazonPackage,
    Money,
)
from poller.matching.marketplaces import ALWAYS, DATASETS, MarketplaceRules, seller_status
from poller.matching.statuses import is_pending, is_ready, stage
from store.records import Address, Amount, Buyer, LineRecord, OrderRecord, PackageRecord, TaxNumber

WITHHELD = "withheld"
"""A group of its own (R42): withheld tax is a subtotal of the proceeds that the tax data marks so."""

WITHHELD_TAKES = frozenset({"proceeds", "tax"})
"""What a copy must carry to bring it; one that lacks either erases nothing (R25)."""


def translate(order: AmazonOrder, account: str, rules: MarketplaceRules | None) -> OrderRecord:
    """One copy of Amazon's as a record without a customer.

    ``rules`` are those of the order's marketplace; None when it is missing or not configured (R26).
    The prices of a pending order are kept only where pending orders are held: a placeholder's are shown
    without prices (R31), and of an unknown marketplace nobody knows which it will be.
    """
    present = order.present & GROUPS
    if rules is not None:
        wanted = rules.included_data | {DATASETS["fulfillment"], ALWAYS}
        present = frozenset(g for g in present if DATASETS[g] in wanted)
    fulfilled = "fulfillment" in present
    status = order.status if fulfilled else None
    pending = is_pending(status)
    priced = not pending or (rules is not None and rules.pending == "hold")
    if not priced:
        present -= {"proceeds", "price"}
    if present >= WITHHELD_TAKES:
        present |= {WITHHELD}
    lines = tuple([_line(line, present) for line in order.lines])
    proceeds, delivered, cancelling = "proceeds" in present, "delivery" in present, "cancellation" in present
    fulfilled_by = order.fulfilled_by if fulfilled else None
    packages = tuple([_package(p) for p in order.packages]) if "packages" in present else ()
    reached = stage(status, packages)
    return OrderRecord(
        account=account,
        order_id=order.order_id,
        channel=order.channel,
        created_at=order.created_at,
        last_updated_at=order.last_updated_at,
        as_of=dict.fromkeys(present, order.last_updated_at),
        marketplace_id=order.marketplace_id,
        marketplace=None if rules is None else rules.code,
        status=status,
        seller_status=seller_status(order.programs, fulfilled_by, rules),
        fulfilled_by=fulfilled_by,
        service_level=order.service_level if fulfilled else None,
        programs=order.programs,
        ship_by=order.ship_by if fulfilled else None,
        deliver_by=order.deliver_by if fulfilled else None,
        seller_order_id=order.seller_order_id,
        replaces=order.replaces,
        buyer=_buyer(order.buyer) if "buyer" in present else None,
        delivery=_address(order.delivery) if delivered else None,
        delivery_instructions=order.delivery_instructions if delivered else None,
        total=_amount(order.total) if proceeds else None,
        withheld_tax=_sum([line.withheld_tax for line in lines]),
        lines=lines,
        packages=packages,
        tax_numbers=tuple([TaxNumber(*astuple(each)) for each in order.tax_registrations])
        if "tax" in present
        else (),
        cancel_requested=cancelling and any([line.cancel_requested for line in order.lines]),
        cancelled_by=_first([line.cancelled_by for line in order.lines]) if cancelling else None,
        cancel_reason=_cancel_reason(order) if cancelling else None,
        price_list=None if rules is None else rules.price_list,
        tax_code=None if rules is None else rules.tax_code,
        labels={} if rules is None else rules.labels,
        delivered_at=order.last_updated_at if reached == "delivered" else None,
        shipped_at=order.last_updated_at if reached == "shipped" else None,
        cancelled_at=order.last_updated_at if reached == "cancelled" else None,
        ready=is_ready(status),
        shown=not pending or (rules is not None and rules.pending == "placeholder"),
    )


def _cancel_reason(order: AmazonOrder) -> str | None:
    return _first([line.cancel_reason for line in order.lines]) or _first(
        [line.cancel_request_reason for line in order.lines]
    )


def _line(line: AmazonLine, present: frozenset[str]) -> LineRecord:
    fulfilled, proceeds = "fulfillment" in present, "proceeds" in present
    discount = line.discount if proceeds else None
    return LineRecord(  # by position, in the order of its fields: naming them would double the cost
        line.order_item_id,
        line.quantity,
        line.sku,
        line.asin,
        line.title,
        _amount(line.unit_price) if "price" in present else None,
        line.quantity_shipped if fulfilled else None,
        _amount(line.item_total) if proceeds else None,
        _amount(line.tax) if proceeds else None,
        _amount(line.shipping) if proceeds else None,
        # Amazon's sign of a discount is not documented; ours is positive and lowers the price.
        None if discount is None else Amount(abs(discount.amount), discount.currency),
        _amount(line.gift_wrap) if proceeds else None,
        _amount(line.withheld_tax) if WITHHELD in present else None,
        line.promotion_ids if "promotion" in present else (),
        line.gift_message if fulfilled else None,
        line.customization_url,
    )


def _package(package: AmazonPackage) -> PackageRecord:
    return PackageRecord(*astuple(package))


def _amount(money: Money | None) -> Amount | None:
    return None if money is None else Amount(money.amount, money.currency)


def _sum(amounts: Iterable[Amount | None]) -> Amount | None:
    """The sum, None when nothing was given; different currencies have no sum and stay on the lines."""
    given = [a for a in amounts if a is not None]
    if not given or any(a.currency != given[0].currency for a in given):
        return None
    return Amount(sum((a.amount for a in given), Decimal(0)), given[0].currency)


def _first(values: Iterable[str | None]) -> str | None:
    return next((v for v in values if v), None)


def _buyer(buyer: AmazonBuyer | None) -> Buyer | None:
    return None if buyer is None else Buyer(*astuple(buyer))


def _address(address: AmazonAddress | None) -> Address | None:
    return None if address is None else Address(*astuple(address))
