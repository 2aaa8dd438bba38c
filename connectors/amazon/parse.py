"""Amazon's JSON of an order, read into our vocabulary. The only place that knows Amazon's field names.

Decision: read strictly what we need, ignore the rest. Words that Amazon adds are kept, fields that
Amazon adds are ignored, an empty text is absent. But a needed field of the wrong type is never
guessed at, optional or not: that one order is returned as unreadable, with the field's name and its
payload, and the rest of the page is unharmed.

Written for speed, since every order passes through here: plain functions, no generic validator, one
exception (``_Malformed``) that is only ever raised for an order that is given up.

Source of all names and types: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from connectors.amazon.wire import Json
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


def page_of(body: Json) -> OrderPage:
    """A body of searchOrders whose ``orders`` is known to be a list.

    Raises Garbled when what surrounds the orders is malformed: a page token that cannot be read
    must never look like the end of the walk, nor a bound like a bound.
    """
    try:
        pagination = _object(body, "pagination", "")
        next_token = _text(pagination, "nextToken", "pagination.") if pagination else None
        echoed_before = _time(body, "lastUpdatedBefore", "") or _time(body, "createdBefore", "")
    except _Malformed as malformed:
        reason = str(malformed)
    else:
        read = [order_of(order) for order in body["orders"]]
        return OrderPage(
            orders=tuple([order for order in read if order.__class__ is AmazonOrder]),
            unreadable=tuple([order for order in read if order.__class__ is UnreadableOrder]),
            next_token=next_token,
            echoed_before=echoed_before,
        )
    raise Garbled(f"searchOrders: {reason}")


def order_of(order: Any) -> AmazonOrder | UnreadableOrder:
    """One order of Amazon's; never raises."""
    try:
        if order.__class__ is not dict:
            raise _Malformed("the order is not an object")
        return _order(order)
    except _Malformed as malformed:
        return UnreadableOrder(
            order_id=_glimpse(order, "orderId"),
            marketplace_id=_glimpse(order, "salesChannel", "marketplaceId"),
            reason=str(malformed),
            payload=compact_json(order),
        )


def compact_json(value: Any) -> str:
    """JSON in ASCII without blanks. Decimals are written as the numbers they were, so nothing is rounded."""
    if isinstance(value, dict):
        return (
            "{" + ",".join([f"{json.dumps(key)}:{compact_json(item)}" for key, item in value.items()]) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join([compact_json(item) for item in value]) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


# --- the order and its parts -----------------------------------------------------------------


def _order(order: Json) -> AmazonOrder:
    channel = _object(order, "salesChannel", "")
    if channel is None:
        raise _Malformed("salesChannel is missing")
    if order.get("orderItems") is None:
        raise _Malformed("orderItems is missing")
    items = _objects(order, "orderItems", "")
    fulfillment = _object(order, "fulfillment", "") or _NOTHING
    proceeds = _object(order, "proceeds", "") or _NOTHING
    recipient = _object(order, "recipient", "") or _NOTHING
    tax = _object(order, "tax", "") or _NOTHING

    present: set[str] = set()
    status = _text(fulfillment, "fulfillmentStatus", "fulfillment.")
    if status is not None:
        present.add("fulfillment")
    buyer = _buyer(_object(order, "buyer", "") or _NOTHING)
    if buyer is not None:
        present.add("buyer")
    delivery = _address(_object(recipient, "deliveryAddress", "recipient.") or _NOTHING)
    if delivery is not None and (delivery.name or delivery.line1 or delivery.line2 or delivery.line3):
        present.add("delivery")
    if any(proceeds.values()):
        present.add("proceeds")
    packages = tuple([_package(p, where) for where, p in _numbered(order, "packages", "")])
    if packages:
        present.add("packages")
    registrations = tuple(
        [_registration(r, where) for where, r in _numbered(tax, "taxRegistrations", "tax.")]
    )
    if registrations:
        present.add("tax")
    lines = tuple([_line(item, f"orderItems[{i}].", present) for i, item in enumerate(items)])

    return AmazonOrder(
        order_id=_required_text(order, "orderId", ""),
        created_at=_required_time(order, "createdTime", ""),
        last_updated_at=_required_time(order, "lastUpdatedTime", ""),
        channel=_required_text(channel, "channelName", "salesChannel."),
        present=frozenset(present),
        marketplace_id=_text(channel, "marketplaceId", "salesChannel."),
        status=status,
        fulfilled_by=_text(fulfillment, "fulfilledBy", "fulfillment."),
        service_level=_text(fulfillment, "fulfillmentServiceLevel", "fulfillment."),
        ship_by=_latest(fulfillment, "shipByWindow", "fulfillment."),
        deliver_by=_latest(fulfillment, "deliverByWindow", "fulfillment."),
        programs=_texts(order, "programs", ""),
        seller_order_id=_reference(order, "orderAliases", "aliasType", "SELLER_ORDER_ID", "aliasId"),
        replaces=_reference(
            order, "associatedOrders", "associationType", "REPLACEMENT_ORIGINAL_ID", "orderId"
        ),
        buyer=buyer,
        delivery=delivery,
        delivery_instructions=_instructions(recipient),
        total=_money(proceeds, "grandTotal", "proceeds."),
        lines=lines,
        packages=packages,
        tax_registrations=registrations,
    )


def _reference(order: Json, key: str, kind_key: str, kind: str, value_key: str) -> str | None:
    """The first id of one kind in a list of references to other systems or orders."""
    for where, reference in _numbered(order, key, ""):
        if _text(reference, kind_key, where) == kind:
            value = _text(reference, value_key, where)
            if value is not None:
                return value
    return None


def _latest(fulfillment: Json, key: str, where: str) -> datetime | None:
    window = _object(fulfillment, key, where)
    return _time(window, "latestDateTime", f"{where}{key}.") if window else None


def _buyer(buyer: Json) -> AmazonBuyer | None:
    if not buyer:
        return None
    members = (
        _text(buyer, "buyerName", "buyer."),
        _text(buyer, "buyerEmail", "buyer."),
        _text(buyer, "buyerCompanyName", "buyer."),
        _text(buyer, "buyerPurchaseOrderNumber", "buyer."),
    )
    return AmazonBuyer(*members) if any(members) else None


def _address(address: Json) -> AmazonAddress | None:
    """Brazil's addresses name the street in ``extendedFields``; each line falls back to its part of it."""
    if not address:
        return None
    where = "recipient.deliveryAddress."
    line1 = _text(address, "addressLine1", where)
    line2 = _text(address, "addressLine2", where)
    line3 = _text(address, "addressLine3", where)
    extended = _object(address, "extendedFields", where)
    if extended:
        inside = f"{where}extendedFields."
        street = (_text(extended, "streetName", inside), _text(extended, "streetNumber", inside))
        line1 = line1 or " ".join([part for part in street if part]) or None
        line2 = line2 or _text(extended, "complement", inside)
        line3 = line3 or _text(extended, "neighborhood", inside)
    members = (
        _text(address, "name", where),
        _text(address, "companyName", where),
        line1,
        line2,
        line3,
        _text(address, "city", where),
        _text(address, "districtOrCounty", where) or _text(address, "municipality", where),
        _text(address, "stateOrRegion", where),
        _text(address, "postalCode", where),
        _text(address, "countryCode", where),
        _text(address, "phone", where),
        _text(address, "addressType", where),
    )
    return AmazonAddress(*members) if any(members) else None


def _instructions(recipient: Json) -> str | None:
    preference = _object(recipient, "deliveryPreference", "recipient.")
    if not preference:
        return None
    where = "recipient.deliveryPreference."
    parts = (_text(preference, "dropOffLocation", where), _text(preference, "addressInstruction", where))
    return "\n".join([part for part in parts if part]) or None


def _package(package: Json, where: str) -> AmazonPackage:
    status = _object(package, "packageStatus", where) or _NOTHING
    return AmazonPackage(
        reference=_required_text(package, "packageReferenceId", where),
        status=_text(status, "status", f"{where}packageStatus."),
        detailed_status=_text(status, "detailedStatus", f"{where}packageStatus."),
        carrier=_text(package, "carrier", where),
        service=_text(package, "shippingService", where),
        tracking_number=_text(package, "trackingNumber", where),
        shipped_at=_time(package, "shipTime", where),
    )


def _registration(registration: Json, where: str) -> TaxRegistration:
    return TaxRegistration(
        entity=_text(registration, "entityType", where),
        kind=_text(registration, "taxRegistrationType", where),
        number=_text(registration, "taxRegistrationNumber", where),
        legal_name=_text(registration, "legalName", where),
    )


# --- order items -----------------------------------------------------------------------------


def _line(item: Json, where: str, present: set[str]) -> AmazonLine:
    """One order item. Adds to ``present`` the groups that this item carries for its order."""
    product = _object(item, "product", where)
    if product is None:
        raise _Malformed(f"{where}product is missing")
    quantity = _whole_number(item, "quantityOrdered", where)
    if quantity is None:
        raise _Malformed(f"{where}quantityOrdered is missing")
    fulfillment = _object(item, "fulfillment", where) or _NOTHING
    proceeds = _object(item, "proceeds", where) or _NOTHING
    promotion = _object(item, "promotion", where) or _NOTHING
    cancellation = _object(item, "cancellation", where) or _NOTHING
    price = _object(product, "price", f"{where}product.") or _NOTHING
    customization = _object(product, "customization", f"{where}product.") or _NOTHING
    asked = _object(cancellation, "cancellationRequest", f"{where}cancellation.") or _NOTHING
    done = _object(cancellation, "cancellationExecution", f"{where}cancellation.") or _NOTHING

    if any(proceeds.values()):
        present.add("proceeds")
    if any(promotion.values()):
        present.add("promotion")
    if any(asked.values()) or any(done.values()):
        present.add("cancellation")
    amounts = _subtotals(proceeds, f"{where}proceeds.")
    collectors = _collectors(item, where)
    if collectors:
        present.add("tax")

    return AmazonLine(
        order_item_id=_required_text(item, "orderItemId", where),
        quantity=quantity,
        sku=_text(product, "sellerSku", f"{where}product."),
        asin=_text(product, "asin", f"{where}product."),
        title=_text(product, "title", f"{where}product."),
        unit_price=_money(price, "unitPrice", f"{where}product.price."),
        quantity_shipped=_whole_number(fulfillment, "quantityFulfilled", f"{where}fulfillment."),
        item_total=amounts.get("ITEM"),
        tax=amounts.get("TAX"),
        shipping=amounts.get("SHIPPING"),
        discount=amounts.get("DISCOUNT"),
        gift_wrap=amounts.get("GIFT_WRAP"),
        withheld_tax=amounts.get("TAX") if "MARKETPLACE_FACILITATOR" in collectors else None,
        promotion_ids=_promotion_ids(promotion, f"{where}promotion."),
        gift_message=_gift_message(fulfillment, f"{where}fulfillment."),
        customization_url=_text(customization, "customizedUrl", f"{where}product.customization."),
        cancel_requested=any(asked.values()),
        cancel_request_reason=_text(asked, "cancelReason", f"{where}cancellation.cancellationRequest."),
        cancelled_by=_text(done, "cancelledBy", f"{where}cancellation.cancellationExecution."),
        cancel_reason=_text(done, "cancelReason", f"{where}cancellation.cancellationExecution."),
    )


_AMOUNTS = frozenset({"ITEM", "TAX", "SHIPPING", "DISCOUNT", "GIFT_WRAP"})


def _subtotals(proceeds: Json, where: str) -> dict[str, Money]:
    """Subtotal by type of breakdown; a repeated type is summed, in one currency only."""
    sums: dict[str, Money] = {}
    if not proceeds:
        return sums
    for at, breakdown in _numbered(proceeds, "breakdowns", where):
        kind = _required_text(breakdown, "type", at)
        if kind not in _AMOUNTS:
            continue
        subtotal = _money(breakdown, "subtotal", at)
        if subtotal is None:
            raise _Malformed(f"{at}subtotal is missing")
        known = sums.get(kind)
        if known is not None:
            if known.currency != subtotal.currency:
                raise _Malformed(f"{at}subtotal is in another currency than the one before it")
            subtotal = Money(known.amount + subtotal.amount, known.currency)
        sums[kind] = subtotal
    return sums


def _collectors(item: Json, where: str) -> list[str | None]:
    """The models of the item's tax collections."""
    tax = _object(item, "tax", where)
    if not tax:
        return []
    return [
        _text(collection, "model", at) for at, collection in _numbered(tax, "taxCollections", f"{where}tax.")
    ]


def _promotion_ids(promotion: Json, where: str) -> tuple[str, ...]:
    if not promotion:
        return ()
    ids = [_text(breakdown, "promotionId", at) for at, breakdown in _numbered(promotion, "breakdowns", where)]
    return tuple([promotion_id for promotion_id in ids if promotion_id is not None])


def _gift_message(fulfillment: Json, where: str) -> str | None:
    packing = _object(fulfillment, "packing", where)
    option = _object(packing, "giftOption", f"{where}packing.") if packing else None
    return _text(option, "giftMessage", f"{where}packing.giftOption.") if option else None


# --- single values ---------------------------------------------------------------------------
# ``where`` is the path of the object, ending in a dot, for the reason; it never holds a value.


class _Malformed(Exception):
    """This order is given up; the text is the reason."""


_NOTHING: Json = {}


def _object(source: Json, key: str, where: str) -> Json | None:
    value = source.get(key)
    if value is None or value.__class__ is dict:
        return value
    raise _Malformed(f"{where}{key} is not an object")


def _objects(source: Json, key: str, where: str) -> list[Json]:
    value = source.get(key)
    if value is None:
        return []
    if value.__class__ is not list:
        raise _Malformed(f"{where}{key} is not a list")
    for i, item in enumerate(value):
        if item.__class__ is not dict:
            raise _Malformed(f"{where}{key}[{i}] is not an object")
    return value


def _numbered(source: Json, key: str, where: str) -> list[tuple[str, Json]]:
    """The objects of a list, each with the path for what is inside it."""
    return [(f"{where}{key}[{i}].", item) for i, item in enumerate(_objects(source, key, where))]


def _text(source: Json, key: str, where: str) -> str | None:
    value = source.get(key)
    if value is None:
        return None
    if value.__class__ is not str:
        raise _Malformed(f"{where}{key} is not a text")
    if "\0" in value or not (value.isascii() or _encodable(value)):
        raise _Malformed(f"{where}{key} holds a character that no database can store")
    return value if value and not value.isspace() else None


def _encodable(value: str) -> bool:
    """False for half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _required_text(source: Json, key: str, where: str) -> str:
    value = _text(source, key, where)
    if value is None:
        raise _Malformed(f"{where}{key} is missing")
    return value


def _texts(source: Json, key: str, where: str) -> tuple[str, ...]:
    value = source.get(key)
    if value is None:
        return ()
    if value.__class__ is not list:
        raise _Malformed(f"{where}{key} is not a list")
    read = [_text({key: item}, key, where) for item in value]
    return tuple([item for item in read if item is not None])


def _whole_number(source: Json, key: str, where: str) -> int | None:
    value = source.get(key)
    if value is None:
        return None
    if value.__class__ is not int or value < 0:
        raise _Malformed(f"{where}{key} is not a whole number")
    return value


def _time(source: Json, key: str, where: str) -> datetime | None:
    """ISO 8601 with ``Z`` or an offset, with or without a fraction of a second; in UTC."""
    value = _text(source, key, where)
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is UTC:
            return time
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _Malformed(f"{where}{key} is not a time with an offset")


def _required_time(source: Json, key: str, where: str) -> datetime:
    value = _time(source, key, where)
    if value is None:
        raise _Malformed(f"{where}{key} is missing")
    return value


# Short enough for any sum of breakdowns to stay exact in the 28 digits of Decimal's default context.
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,10})?").fullmatch


def _money(source: Json, key: str, where: str) -> Money | None:
    value = source.get(key)
    if value is None:
        return None
    if value.__class__ is not dict:
        raise _Malformed(f"{where}{key} is not an object")
    if not any(value.values()):
        return None
    amount = value.get("amount")
    if amount.__class__ is not str or not _PLAIN_DECIMAL(amount):
        raise _Malformed(f"{where}{key}.amount is not a plain decimal")
    return Money(Decimal(amount), _required_text(value, "currencyCode", f"{where}{key}."))


def _glimpse(order: Any, *path: str) -> str | None:
    """A text that even an unreadable order may still tell, else None."""
    *parents, key = path
    for parent in parents:
        order = order.get(parent) if isinstance(order, dict) else None
    try:
        return _text(order, key, "") if isinstance(order, dict) else None
    except _Malformed:
        return None
