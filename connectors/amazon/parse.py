"""Reads Amazon's JSON of orders into our vocabulary. Only this file and ``model`` know Amazon's names.

Read strictly what we need, ignore the rest. New words of Amazon's are kept, new fields ignored, and an empty
text is absent. A needed field of the wrong type is never guessed, optional or not: that order is returned as
unreadable, with the field's name and its payload, and the rest of the page is unharmed.

There are two ways to read a page. A page without a fault is decoded against its model in one go; any other
page is re-read order by order with the standard library's decoder and checked against the same model, which
finds the unreadable order and the reason. The first takes 35 µs an order, the second 160 µs, where a worker
stores an order in 230 µs altogether. Both end in ``_order``, so they cannot differ in meaning.

Source of all names and types: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from connectors.amazon import model
from connectors.amazon.wire import promised
from connectors.errors import Garbled
from connectors.orders import (
    AmazonAddress,
    AmazonBuyer,
    AmazonLine,
    AmazonOrder,
    AmazonPackage,
    Money,
    OrderPage,
    TaxRegistration,
    UnreadableOrder,
)

M = TypeVar("M")


# --- pages and orders ------------------------------------------------------------------------


def page_of_json(content: bytes) -> OrderPage:
    """Read a body of searchOrders.

    Raises Garbled if the body is not what the operation promises (see ``wire.promised``) or if anything
    around the orders is malformed: an unreadable page token must never look like the end of the walk, nor an
    unreadable bound like none.
    """
    page = _faultless_page(content)
    return _any_page(content) if page is None else page


def order_of_json(text: str) -> AmazonOrder | UnreadableOrder:
    """Read one order from its JSON, such as the payload of an unreadable one. Never raises."""
    try:
        value = json.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):
        return UnreadableOrder(None, None, "the order is not readable JSON", text)
    return order_of(value)


def order_of(value: Any) -> AmazonOrder | UnreadableOrder:
    """Read one order decoded by the standard library, fractions as Decimal. Never raises."""
    try:
        return _order(_checked(value, model.Order, "the order"))
    except _Malformed as malformed:
        return UnreadableOrder(
            order_id=_glimpse(value, "orderId", max_length=80),
            marketplace_id=_glimpse(value, "salesChannel", "marketplaceId", max_length=32),
            reason=str(malformed),
            payload=compact_json(value),
            last_updated_at=_glimpsed_time(value, "lastUpdatedTime"),
            buyer_email=_glimpse(value, "buyer", "buyerEmail", max_length=320),
        )


def compact_json(value: Any) -> str:
    """Return JSON in ASCII without blanks. Decimals are written exactly, so nothing is rounded.

    Iterative, because Amazon decides how deep a value is nested.
    """
    written: list[str] = []
    waiting = [value]  # the next item last; a tuple holds finished text
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple):
            written.append(item[0])
        elif isinstance(item, dict):
            members = [part for key in item for part in ((",",), (f"{json.dumps(key)}:",), item[key])]
            waiting += [("}",), *reversed(members[1:]), ("{",)]
        elif isinstance(item, list):
            elements = [part for element in item for part in ((",",), element)]
            waiting += [("]",), *reversed(elements[1:]), ("[",)]
        else:
            written.append(str(item) if isinstance(item, Decimal) else json.dumps(item))
    return "".join(written)


_PAGES = msgspec.json.Decoder(model.SearchOrdersAnswer)


def _faultless_page(content: bytes) -> OrderPage | None:
    """Return the page if it has no fault, else None, without the reason."""
    try:
        answer = _PAGES.decode(content)
    except (ValueError, RecursionError):
        return None
    # JSON has one spelling for NUL; searching for the backslash alone is many times faster.
    if answer.errors or (b"\\" in content and b"\\u0000" in content):
        return None
    try:
        return _page(answer, [_order(order) for order in answer.orders], [])
    except _Malformed:
        return None


def _any_page(content: bytes) -> OrderPage:
    """Return the page, with its unreadable orders apart. Raises Garbled."""
    body = promised(content, "orders", list)
    try:
        answer = _checked(body | {"orders": []}, model.SearchOrdersAnswer, "the body")
        read = [order_of(order) for order in body["orders"]]
        return _page(
            answer,
            [order for order in read if isinstance(order, AmazonOrder)],
            [order for order in read if isinstance(order, UnreadableOrder)],
        )
    except _Malformed as malformed:
        reason = str(malformed)
    raise Garbled(reason)


def _page(
    answer: model.SearchOrdersAnswer, orders: Sequence[AmazonOrder], unreadable: Sequence[UnreadableOrder]
) -> OrderPage:
    return OrderPage(
        orders=tuple(orders),
        unreadable=tuple(unreadable),
        next_token=_text(answer.pagination.next_token) if answer.pagination is not None else None,
        echoed_before=_time(answer.last_updated_before, "lastUpdatedBefore")
        or _time(answer.created_before, "createdBefore"),
    )


# --- the order and its parts -----------------------------------------------------------------


class _Malformed(Exception):
    """The order is unreadable. The text is the reason: a field's path and what it is not, never its value."""


_NO_RECIPIENT = model.Recipient()
_NO_FULFILLMENT = model.OrderFulfillment()
_NO_STATUS = model.PackageStatus()


def _order(order: model.Order) -> AmazonOrder:
    channel = order.sales_channel
    fulfillment = order.fulfillment or _NO_FULFILLMENT
    recipient = order.recipient or _NO_RECIPIENT

    present: set[str] = set()
    status = _text(fulfillment.fulfillment_status)
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
    registrations: tuple[TaxRegistration, ...] = ()
    if order.tax is not None and order.tax.tax_registrations:
        present.add("tax")
        registrations = tuple([_registration(each) for each in order.tax.tax_registrations])
    lines = _lines(order.order_items, present)

    return AmazonOrder(  # by position, in the order of its fields: keywords would double the cost
        _required(order.order_id, "orderId"),
        _required_time(order.created_time, "createdTime"),
        _required_time(order.last_updated_time, "lastUpdatedTime"),
        _required(channel.channel_name, "salesChannel.channelName"),
        frozenset(present),
        _text(channel.marketplace_id),
        status,
        _text(fulfillment.fulfilled_by),
        _text(fulfillment.fulfillment_service_level),
        _latest(fulfillment.ship_by_window, "fulfillment.shipByWindow"),
        _latest(fulfillment.deliver_by_window, "fulfillment.deliverByWindow"),
        _texts(order.programs) if order.programs else (),
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


def _seller_order_id(aliases: Iterable[model.OrderAlias]) -> str | None:
    return _first([alias.alias_id for alias in aliases if alias.alias_type == "SELLER_ORDER_ID"])


def _replaced(associated: Iterable[model.AssociatedOrder]) -> str | None:
    return _first([o.order_id for o in associated if o.association_type == "REPLACEMENT_ORIGINAL_ID"])


def _latest(window: model.TimeWindow | None, path: str) -> datetime | None:
    return None if window is None else _time(window.latest_date_time, f"{path}.latestDateTime")


def _buyer(buyer: model.Buyer) -> AmazonBuyer | None:
    members = (
        _text(buyer.buyer_name),
        _text(buyer.buyer_email),
        _text(buyer.buyer_company_name),
        _text(buyer.buyer_purchase_order_number),
    )
    return AmazonBuyer(*members) if any(members) else None


def _address(address: model.Address) -> AmazonAddress | None:
    """Read an address. Brazil's name the street in ``extendedFields``: each line falls back to its part."""
    line1 = _text(address.address_line1)
    line2 = _text(address.address_line2)
    line3 = _text(address.address_line3)
    extended = address.extended_fields
    if extended is not None:
        line1 = line1 or _joined(" ", extended.street_name, extended.street_number)
        line2 = line2 or _text(extended.complement)
        line3 = line3 or _text(extended.neighborhood)
    members = (
        _text(address.name),
        _text(address.company_name),
        line1,
        line2,
        line3,
        _text(address.city),
        _text(address.district_or_county) or _text(address.municipality),
        _text(address.state_or_region),
        _text(address.postal_code),
        _text(address.country_code),
        _text(address.phone),
        _text(address.address_type),
    )
    return AmazonAddress(*members) if any(members) else None


def _instructions(preference: model.DeliveryPreference | None) -> str | None:
    if preference is None:
        return None
    return _joined("\n", preference.drop_off_location, preference.address_instruction)


def _packages(packages: Sequence[model.Package]) -> tuple[AmazonPackage, ...]:
    read: list[AmazonPackage] = []
    try:
        for package in packages:
            read.append(_package(package))
    except _Malformed as malformed:
        reason = f"packages[{len(read)}].{malformed}"
    else:
        return tuple(read)
    raise _Malformed(reason)


def _package(package: model.Package) -> AmazonPackage:
    status = package.package_status or _NO_STATUS
    return AmazonPackage(
        reference=_required(package.package_reference_id, "packageReferenceId"),
        status=_text(status.status),
        detailed_status=_text(status.detailed_status),
        carrier=_text(package.carrier),
        service=_text(package.shipping_service),
        tracking_number=_text(package.tracking_number),
        shipped_at=_time(package.ship_time, "shipTime"),
    )


def _registration(registration: model.TaxRegistration) -> TaxRegistration:
    return TaxRegistration(
        entity=_text(registration.entity_type),
        kind=_text(registration.tax_registration_type),
        number=_text(registration.tax_registration_number),
        legal_name=_text(registration.legal_name),
    )


# --- order items -----------------------------------------------------------------------------


def _lines(items: Sequence[model.OrderItem], present: set[str]) -> tuple[AmazonLine, ...]:
    """Read the order items, and add the groups that they carry to ``present``."""
    lines: list[AmazonLine] = []
    try:
        for item in items:
            lines.append(_line(item, present))
    except _Malformed as malformed:
        reason = f"orderItems[{len(lines)}].{malformed}"
    else:
        return tuple(lines)
    raise _Malformed(reason)


def _line(item: model.OrderItem, present: set[str]) -> AmazonLine:
    product = item.product
    amounts: dict[str, Money] = {}
    if item.proceeds is not None:
        if item.proceeds.breakdowns:
            present.add("proceeds")
            amounts = _subtotals(item.proceeds.breakdowns)
        elif item.proceeds.proceeds_total:
            present.add("proceeds")
    promotion_ids: tuple[str, ...] = ()
    if item.promotion is not None and item.promotion.breakdowns:
        present.add("promotion")
        promotion_ids = _texts([breakdown.promotion_id for breakdown in item.promotion.breakdowns])
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
            cancel_requested, cancel_request_reason = True, _text(request.cancel_reason)
        if execution is not None and (execution.cancelled_by or execution.cancel_reason):
            present.add("cancellation")
            cancelled_by, cancel_reason = _text(execution.cancelled_by), _text(execution.cancel_reason)
    unit_price = None
    if product.price is not None:
        unit_price = _money(product.price.unit_price, "product.price.unitPrice")
        if unit_price is not None:
            present.add("price")
    customization = product.customization

    return AmazonLine(  # by position, see above
        _required(item.order_item_id, "orderItemId"),
        item.quantity_ordered,
        _text(product.seller_sku),
        _text(product.asin),
        _text(product.title),
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
        None if customization is None else _text(customization.customized_url),
        cancel_requested,
        cancel_request_reason,
        cancelled_by,
        cancel_reason,
    )


def _gift_message(packing: model.Packing) -> str | None:
    return None if packing.gift_option is None else _text(packing.gift_option.gift_message)


_AMOUNTS = frozenset({"ITEM", "TAX", "SHIPPING", "DISCOUNT", "GIFT_WRAP"})


def _subtotals(breakdowns: Sequence[model.ProceedsBreakdown]) -> dict[str, Money]:
    """Return the subtotal by type of breakdown; a repeated type is summed, in one currency only."""
    sums: dict[str, Money] = {}
    at = 0
    try:
        for at, breakdown in enumerate(breakdowns):  # noqa: B007
            kind = _required(breakdown.type, "type")
            if kind not in _AMOUNTS:
                continue
            subtotal = _money(breakdown.subtotal, "subtotal")
            if subtotal is None:
                raise _Malformed("subtotal is missing")
            known = sums.get(kind)
            if known is not None:
                if known.currency != subtotal.currency:
                    raise _Malformed("subtotal is in another currency than the one before it")
                subtotal = Money(known.amount + subtotal.amount, known.currency)
            sums[kind] = subtotal
    except _Malformed as malformed:
        reason = f"proceeds.breakdowns[{at}].{malformed}"
    else:
        return sums
    raise _Malformed(reason)


# --- single values ---------------------------------------------------------------------------
# ``path`` is the field's path, for the reason.


def _text(value: str | None) -> str | None:
    return value if value and not value.isspace() else None


def _required(value: str, path: str) -> str:
    if not value or value.isspace():
        raise _Malformed(f"{path} is missing")
    return value


def _texts(values: Iterable[str | None] | None) -> tuple[str, ...]:
    return tuple([value for value in values if value and not value.isspace()]) if values else ()


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if _text(value)), None)


def _joined(separator: str, *values: str | None) -> str | None:
    return separator.join(_texts(values)) or None


def _time(value: str | None, path: str) -> datetime | None:
    """Read ISO 8601 with ``Z`` or an offset, with or without fractions of a second; return UTC."""
    if not value or value.isspace():
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is UTC:
            return time
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _Malformed(f"{path} is not a time with an offset")


def _required_time(value: str, path: str) -> datetime:
    time = _time(value, path)
    if time is None:
        raise _Malformed(f"{path} is missing")
    return time


# Short enough that any sum of breakdowns is exact in the 28 digits of Decimal's default context.
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,10})?").fullmatch


def _money(money: model.Money | None, path: str) -> Money | None:
    if money is None or not (money.amount or money.currency_code):
        return None
    if money.amount is None or not _PLAIN_DECIMAL(money.amount):
        raise _Malformed(f"{path}.amount is not a plain decimal")
    if not money.currency_code or money.currency_code.isspace():
        raise _Malformed(f"{path}.currencyCode is missing")
    return Money(Decimal(money.amount), money.currency_code)


# --- what is wrong with an order -------------------------------------------------------------


def _checked(value: Any, kind: type[M], whole: str) -> M:
    """Check ``value`` against the model. Raises _Malformed; ``whole`` is what the reason calls ``value``."""
    try:
        checked = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason = _reason(str(error), whole)
    except UnicodeEncodeError:
        reason = f"{whole} has a field with a name that no database can store"
    else:
        path = _unstorable(checked)
        if path is None:
            return checked
        reason = f"{path} holds a character that no database can store"
    raise _Malformed(reason)


_WORDS = {"str": "a text", "int": "a whole number", "object": "an object", "array": "a list"}


def _reason(message: str, whole: str) -> str:
    """Reword the decoder's message. It names types and the path, never a value."""
    problem, _, path = message.rstrip("`").partition(" - at `$")
    path = path.removeprefix(".")
    named = re.findall(r"`(\w+)", problem)
    if problem.startswith("Object missing"):
        return f"{path}.{named[0]} is missing".removeprefix(".")
    if named[1:] == ["null"] and path and not path.endswith("]"):
        return f"{path} is missing"
    longest = re.search(r"of length <= (\d+)", problem)
    if longest is not None:
        return f"{path or whole} is longer than {longest[1]} characters"
    if "=" in problem:
        return f"{path or whole} is negative or too large"
    return f"{path or whole} is not {_WORDS[named[0]]}"


def _unstorable(value: Any, path: str = "") -> str | None:
    """Return the path of the first text that no database can store, None if there is none.

    Such a text has a NUL, or half a surrogate pair, which JSON can spell and UTF-8 cannot.
    """
    if isinstance(value, str):
        return path if "\0" in value or not (value.isascii() or _is_encodable(value)) else None
    if isinstance(value, msgspec.Struct):
        for theirs, ours in zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True):
            member = getattr(value, ours)
            member_path = f"{path}.{theirs}" if path else theirs
            unstorable = None if member is None else _unstorable(member, member_path)
            if unstorable is not None:
                return unstorable
    elif isinstance(value, list):
        for i, element in enumerate(value):
            unstorable = _unstorable(element, f"{path}[{i}]")
            if unstorable is not None:
                return unstorable
    return None


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _glimpse(order: Any, *path: str, max_length: int) -> str | None:
    """Return a text of an unreadable order, None if it is missing, unstorable or too long."""
    for key in path:
        order = order.get(key) if isinstance(order, dict) else None
    if not isinstance(order, str) or len(order) > max_length or _unstorable(order) is not None:
        return None
    return _text(order)


def _glimpsed_time(order: Any, name: str) -> datetime | None:
    """Return a time of an unreadable order, None if it is missing or malformed."""
    try:
        return _time(_glimpse(order, name, max_length=40), name)
    except _Malformed:
        return None
