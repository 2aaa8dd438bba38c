"""Amazon's JSON into our vocabulary: strict about what we need, ignoring the rest, order by order."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.amazon import parse
from connectors.amazon.parse import compact_json, order_of, order_of_json, page_of_json
from connectors.amazon.wire import json_object
from connectors.errors import Garbled
from connectors.orders import (
    GROUPS,
    AmazonAddress,
    AmazonBuyer,
    AmazonOrder,
    AmazonPackage,
    Money,
    OrderPage,
    TaxRegistration,
    UnreadableOrder,
)


def money(amount: str, currency: str = "GBP") -> dict[str, str]:
    return {"amount": amount, "currencyCode": currency}


def full_order() -> dict[str, Any]:
    """Return an order with every dataset that we read."""
    return {
        "orderId": "026-1520163-6049104",
        "orderAliases": [{"aliasId": "SHOP-7", "aliasType": "SELLER_ORDER_ID"}],
        "createdTime": "2026-11-01T10:00:00Z",
        "lastUpdatedTime": "2026-11-02T11:30:00.250Z",
        "programs": ["PRIME", "SOMETHING_NEW"],
        "associatedOrders": [
            {"orderId": "026-0000000-0000001", "associationType": "EXCHANGE_ORIGINAL_ID"},
            {"orderId": "026-0000000-0000002", "associationType": "REPLACEMENT_ORIGINAL_ID"},
        ],
        "salesChannel": {"channelName": "AMAZON", "marketplaceId": "A1F83G8C2ARO7P"},
        "buyer": {
            "buyerName": "Ada Byron",
            "buyerEmail": "q1w2e3@marketplace.amazon.co.uk",
            "buyerCompanyName": "Engines Ltd",
            "buyerPurchaseOrderNumber": "PO-9",
        },
        "recipient": {
            "deliveryAddress": {
                "name": "Ada Byron",
                "companyName": "Engines Ltd",
                "addressLine1": "12 St James's Square",
                "addressLine2": "",
                "addressLine3": "  ",
                "city": "London",
                "municipality": "Westminster",
                "stateOrRegion": "Greater London",
                "postalCode": "SW1Y 4JH",
                "countryCode": "GB",
                "phone": "020 7946 0000",
                "addressType": "COMMERCIAL",
            },
            "deliveryPreference": {"dropOffLocation": "Porch", "addressInstruction": "Ring twice"},
        },
        "proceeds": {"grandTotal": money("31.48")},
        "tax": {
            "taxRegistrations": [
                {
                    "entityType": "BUYER",
                    "taxRegistrationType": "VAT",
                    "taxRegistrationNumber": "GB123",
                    "legalName": "Engines Ltd",
                }
            ]
        },
        "fulfillment": {
            "fulfillmentStatus": "SHIPPED",
            "fulfilledBy": "MERCHANT",
            "fulfillmentServiceLevel": "STANDARD",
            "shipByWindow": {"latestDateTime": "2026-11-03T00:00:00Z"},
            "deliverByWindow": {"latestDateTime": "2026-11-05T23:59:59+01:00"},
        },
        "orderItems": [
            {
                "orderItemId": "111",
                "quantityOrdered": 2,
                "product": {
                    "asin": "B000000001",
                    "sellerSku": "SKU-1",
                    "title": "Punched cards",
                    "price": {"unitPrice": money("10.00")},
                    "customization": {"customizedUrl": "https://example.test/zip"},
                },
                "proceeds": {
                    "proceedsTotal": money("31.48"),
                    "breakdowns": [
                        {"type": "ITEM", "subtotal": money("20.00")},
                        {"type": "TAX", "subtotal": money("4.00")},
                        {"type": "TAX", "subtotal": money("0.99")},
                        {"type": "SHIPPING", "subtotal": money("5.00")},
                        {"type": "DISCOUNT", "subtotal": money("-0.51")},
                        {"type": "GIFT_WRAP", "subtotal": money("2.00")},
                        {"type": "OTHER"},
                    ],
                },
                "promotion": {"breakdowns": [{"promotionId": "PAWS-1"}, {"promotionId": ""}]},
                "cancellation": {
                    "cancellationRequest": {"requester": "BUYER", "cancelReason": "Wrong colour"},
                    "cancellationExecution": {"cancelledBy": "MERCHANT", "cancelReason": "Out of stock"},
                },
                "fulfillment": {
                    "quantityFulfilled": 1,
                    "packing": {"giftOption": {"giftMessage": "For Charles"}},
                },
                "tax": {"taxCollections": [{"model": "MARKETPLACE_FACILITATOR"}]},
            }
        ],
        "packages": [
            {
                "packageReferenceId": "1",
                "packageStatus": {"status": "DELIVERED", "detailedStatus": "DELIVERED"},
                "carrier": "Royal Mail",
                "shippingService": "Tracked 48",
                "trackingNumber": "RM1",
                "shipTime": "2026-11-02T09:00:00Z",
            }
        ],
    }


def bare_order() -> dict[str, Any]:
    """Return an order as Amazon gives it if no dataset is requested."""
    return {
        "orderId": "026-1520163-6049104",
        "createdTime": "2026-11-01T10:00:00Z",
        "lastUpdatedTime": "2026-11-01T10:00:00Z",
        "salesChannel": {"channelName": "NON_AMAZON"},
        "orderItems": [{"orderItemId": "111", "quantityOrdered": 1, "product": {}}],
    }


def page_of(body: dict[str, Any]) -> OrderPage:
    return page_of_json(compact_json(body).encode())


def read_in_all_ways(order: Any) -> AmazonOrder | UnreadableOrder:
    """Read an order alone, as text, and in a page, which has a fast way of its own; all must be equal."""
    read = order_of(order)
    text = compact_json(order)
    assert order_of_json(text) == read
    page = page_of({"orders": [order]})
    assert (*page.orders, *page.unreadable) == (read,)
    return read


def readable(order: Any) -> AmazonOrder:
    read = read_in_all_ways(order)
    assert isinstance(read, AmazonOrder), read
    return read


def unreadable(order: Any) -> UnreadableOrder:
    read = read_in_all_ways(order)
    assert isinstance(read, UnreadableOrder)
    return read


def changed(order: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of ``order`` with ``value`` at a dotted path; lists are entered at the first element."""
    order = copy.deepcopy(order)
    target: Any = order
    *parents, last = path.split(".")
    for key in parents:
        target = target[key]
        if isinstance(target, list):
            target = target[0]
    target[last] = value
    return order


def test_every_member_of_an_order_is_read() -> None:
    order = readable(full_order())
    assert order.order_id == "026-1520163-6049104"
    assert order.created_at == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert order.last_updated_at == datetime(2026, 11, 2, 11, 30, 0, 250_000, tzinfo=UTC)
    assert (order.channel, order.marketplace_id) == ("AMAZON", "A1F83G8C2ARO7P")
    assert order.present == GROUPS
    assert (order.status, order.fulfilled_by, order.service_level) == ("SHIPPED", "MERCHANT", "STANDARD")
    assert order.ship_by == datetime(2026, 11, 3, tzinfo=UTC)
    assert order.deliver_by == datetime(2026, 11, 5, 22, 59, 59, tzinfo=UTC)
    assert order.deliver_by.tzinfo is UTC
    assert order.programs == ("PRIME", "SOMETHING_NEW")
    assert order.seller_order_id == "SHOP-7"
    assert order.replaces == "026-0000000-0000002"
    assert order.buyer == AmazonBuyer("Ada Byron", "q1w2e3@marketplace.amazon.co.uk", "Engines Ltd", "PO-9")
    assert order.delivery == AmazonAddress(
        name="Ada Byron",
        company="Engines Ltd",
        line1="12 St James's Square",
        city="London",
        county="Westminster",
        state="Greater London",
        postal_code="SW1Y 4JH",
        country="GB",
        phone="020 7946 0000",
        kind="COMMERCIAL",
    )
    assert order.delivery_instructions == "Porch\nRing twice"
    assert order.total == Money(Decimal("31.48"), "GBP")
    assert order.packages == (
        AmazonPackage(
            reference="1",
            status="DELIVERED",
            detailed_status="DELIVERED",
            carrier="Royal Mail",
            service="Tracked 48",
            tracking_number="RM1",
            shipped_at=datetime(2026, 11, 2, 9, tzinfo=UTC),
        ),
    )
    assert order.tax_registrations == (TaxRegistration("BUYER", "VAT", "GB123", "Engines Ltd"),)


def test_every_member_of_a_line_is_read() -> None:
    (line,) = readable(full_order()).lines
    assert (line.order_item_id, line.quantity, line.quantity_shipped) == ("111", 2, 1)
    assert (line.sku, line.asin, line.title) == ("SKU-1", "B000000001", "Punched cards")
    assert line.unit_price == Money(Decimal("10.00"), "GBP")
    assert line.item_total == Money(Decimal("20.00"), "GBP")
    assert line.tax == Money(Decimal("4.99"), "GBP")
    assert line.withheld_tax == line.tax
    assert line.shipping == Money(Decimal("5.00"), "GBP")
    assert line.discount == Money(Decimal("-0.51"), "GBP")
    assert line.gift_wrap == Money(Decimal("2.00"), "GBP")
    assert line.promotion_ids == ("PAWS-1",)
    assert line.gift_message == "For Charles"
    assert line.customization_url == "https://example.test/zip"
    assert line.cancel_requested
    assert line.cancel_request_reason == "Wrong colour"
    assert (line.cancelled_by, line.cancel_reason) == ("MERCHANT", "Out of stock")


def test_an_order_without_any_dataset_is_readable_and_carries_no_group() -> None:
    order = readable(bare_order())
    assert order.present == frozenset()
    assert order.status is None
    assert order.marketplace_id is None
    assert order.buyer is None
    assert order.delivery is None
    assert order.total is None
    assert not order.lines[0].cancel_requested


@pytest.mark.parametrize(
    ("path", "value", "group"),
    [
        ("buyer", {"buyerName": "", "buyerEmail": "  "}, "buyer"),
        ("recipient", {"deliveryAddress": {"city": "London", "countryCode": "GB"}}, "delivery"),
        ("recipient", {"deliveryAddress": {"name": "", "addressLine1": ""}}, "delivery"),
        ("recipient", {}, "delivery"),
        ("fulfillment", {"fulfilledBy": "AMAZON"}, "fulfillment"),
        ("fulfillment", None, "fulfillment"),
        ("packages", [], "packages"),
        ("orderItems.cancellation", {"cancellationRequest": {}}, "cancellation"),
        ("orderItems.promotion", {"breakdowns": []}, "promotion"),
    ],
)
def test_a_group_without_content_is_not_present(path: str, value: Any, group: str) -> None:
    assert readable(changed(full_order(), path, value)).present == GROUPS - {group}


def test_proceeds_and_tax_are_present_by_the_order_or_by_an_item() -> None:
    order = full_order()
    del order["proceeds"], order["tax"]
    assert {"proceeds", "tax"} <= readable(order).present
    order["orderItems"][0]["proceeds"] = {}
    order["orderItems"][0]["tax"] = {"taxCollections": []}
    assert not {"proceeds", "tax"} & readable(order).present


@pytest.mark.parametrize("member", ["name", "addressLine1", "addressLine2", "addressLine3"])
def test_a_name_or_one_line_of_street_makes_the_delivery_present(member: str) -> None:
    order = bare_order() | {"recipient": {"deliveryAddress": {member: "x"}}}
    assert readable(order).present == {"delivery"}


def test_a_city_without_name_and_street_is_kept_but_counts_as_withheld() -> None:
    order = readable(bare_order() | {"recipient": {"deliveryAddress": {"city": "London"}}})
    assert order.delivery == AmazonAddress(city="London")
    assert "delivery" not in order.present


def test_a_brazilian_street_fills_the_lines_that_are_absent() -> None:
    extended = {
        "streetName": "Rua das Acácias",
        "streetNumber": "42",
        "complement": "Apto 7",
        "neighborhood": "Centro",
    }
    address: dict[str, Any] = {"extendedFields": extended}
    order = readable(bare_order() | {"recipient": {"deliveryAddress": address}})
    assert order.delivery == AmazonAddress(line1="Rua das Acácias 42", line2="Apto 7", line3="Centro")
    assert "delivery" in order.present

    address["addressLine1"] = "Rua A, 1"
    order = readable(bare_order() | {"recipient": {"deliveryAddress": address}})
    assert order.delivery is not None
    assert order.delivery.line1 == "Rua A, 1"


# Source: CustomerAddress of Amazon's model has both members; Turkish and Gulf addresses use both.
@pytest.mark.parametrize(
    ("district", "municipality", "county"),
    [
        ("Kent", "Dover", "Kent, Dover"),
        ("Kent", "", "Kent"),
        (None, "Dover", "Dover"),
        ("Kent", "Kent", "Kent"),
        (" ", None, None),
    ],
)
def test_a_county_has_the_district_and_the_municipality(
    district: str | None, municipality: str | None, county: str | None
) -> None:
    address = {"city": "Sampleton", "districtOrCounty": district, "municipality": municipality}
    order = readable(bare_order() | {"recipient": {"deliveryAddress": address}})
    assert order.delivery == AmazonAddress(city="Sampleton", county=county)


def test_tax_is_withheld_only_for_a_marketplace_facilitator() -> None:
    order = changed(full_order(), "orderItems.tax.taxCollections", [{"model": "SOMEBODY_NEW"}])
    line = readable(order).lines[0]
    assert line.withheld_tax is None
    assert line.tax is not None


def test_amounts_keep_their_scale_and_their_precision() -> None:
    order = changed(full_order(), "proceeds.grandTotal", money("123456789012345.0123456789", "JPY"))
    assert readable(order).total == Money(Decimal("123456789012345.0123456789"), "JPY")
    breakdowns = [{"type": "ITEM", "subtotal": money("999999999999999.9999999999")}] * 2
    line = readable(changed(full_order(), "orderItems.proceeds.breakdowns", breakdowns)).lines[0]
    assert line.item_total == Money(Decimal("1999999999999999.9999999998"), "GBP")


def test_a_money_object_without_content_is_absent() -> None:
    assert readable(changed(full_order(), "proceeds.grandTotal", {})).total is None


@pytest.mark.parametrize(
    "amount",
    ["NaN", "Infinity", "1e3", "1_000", " 1", "", "1,50", "--1", "+1", ".5", "٣", None],
)
def test_an_amount_that_is_no_plain_decimal_makes_the_order_unreadable(amount: Any) -> None:
    order = changed(full_order(), "proceeds.grandTotal.amount", amount)
    assert unreadable(order).reason == "proceeds.grandTotal.amount is not a plain decimal"


@pytest.mark.parametrize("amount", [0, 1, Decimal("1.5"), True, {}, []])
def test_an_amount_that_is_no_text_makes_the_order_unreadable(amount: Any) -> None:
    order = changed(full_order(), "proceeds.grandTotal.amount", amount)
    assert unreadable(order).reason == "proceeds.grandTotal.amount is not a text"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("orderId", None, "orderId is missing"),
        ("orderId", "", "orderId is missing"),
        ("createdTime", None, "createdTime is missing"),
        ("lastUpdatedTime", None, "lastUpdatedTime is missing"),
        ("createdTime", "2026-11-01T10:00:00", "createdTime is not a time with an offset"),
        ("createdTime", "yesterday", "createdTime is not a time with an offset"),
        ("createdTime", "10000-01-01", "createdTime is not a time with an offset"),
        ("createdTime", 1793500000, "createdTime is not a text"),
        ("salesChannel", None, "salesChannel is missing"),
        ("salesChannel.channelName", "", "salesChannel.channelName is missing"),
        ("salesChannel.marketplaceId", 7, "salesChannel.marketplaceId is not a text"),
        ("orderItems", None, "orderItems is missing"),
        ("orderItems", {}, "orderItems is not a list"),
        ("orderItems", ["x"], "orderItems[0] is not an object"),
        ("orderItems", [None], "orderItems[0] is not an object"),
        ("orderItems.orderItemId", None, "orderItems[0].orderItemId is missing"),
        ("orderItems.quantityOrdered", None, "orderItems[0].quantityOrdered is missing"),
        ("orderItems.quantityOrdered", "2", "orderItems[0].quantityOrdered is not a whole number"),
        ("orderItems.quantityOrdered", True, "orderItems[0].quantityOrdered is not a whole number"),
        ("orderItems.quantityOrdered", Decimal("2.0"), "orderItems[0].quantityOrdered is not a whole number"),
        ("orderItems.quantityOrdered", -1, "orderItems[0].quantityOrdered is negative or too large"),
        ("orderItems.quantityOrdered", 2**31, "orderItems[0].quantityOrdered is negative or too large"),
        ("orderItems.quantityOrdered", 2**63, "orderItems[0].quantityOrdered is negative or too large"),
        ("orderId", "1" * 65, "orderId is longer than 64 characters"),
        *(
            ("orderId", order_id, "orderId has a character that no order id has")
            for order_id in ("../../sign-out", "a/b", "a\\b", "a?b", "a#b", "a%2fb", "..", ".", "a b", "a\nb")
        ),
        *(
            ("orderId", order_id, "orderId has a character that no order id has")
            for order_id in ("a\x1b[2J", "a\x9b", "\u202e1", "a\u200b", "a\u2028")
        ),
        ("salesChannel.marketplaceId", "A" * 33, "salesChannel.marketplaceId is longer than 32 characters"),
        (
            "fulfillment.fulfillmentStatus",
            "S" * 41,
            "fulfillment.fulfillmentStatus is longer than 40 characters",
        ),
        ("orderItems.product.sellerSku", 7, "orderItems[0].product.sellerSku is not a text"),
        (
            "orderItems.fulfillment.packing.giftOption",
            "x",
            "orderItems[0].fulfillment.packing.giftOption is not an object",
        ),
        ("orderItems.tax.taxCollections", {}, "orderItems[0].tax.taxCollections is not a list"),
        ("orderItems.proceeds.breakdowns.type", "", "orderItems[0].proceeds.breakdowns[0].type is missing"),
        (
            "orderItems.proceeds.breakdowns.subtotal",
            {"amount": "1,5"},
            "orderItems[0].proceeds.breakdowns[0].subtotal.amount is not a plain decimal",
        ),
        ("buyer", "Ada", "buyer is not an object"),
        ("buyer.buyerEmail", 5, "buyer.buyerEmail is not a text"),
        ("recipient.deliveryAddress.name", {}, "recipient.deliveryAddress.name is not a text"),
        (
            "recipient.deliveryAddress.city",
            "Lon\0don",
            "recipient.deliveryAddress.city holds a character that no database can store",
        ),
        ("buyer.buyerName", "\ud800", "buyer.buyerName holds a character that no database can store"),
        ("programs", ["PRIME", "\udc00x"], "programs[1] holds a character that no database can store"),
        ("\ud800", 1, "the order has a field with a name that no database can store"),
        ("programs", "PRIME", "programs is not a list"),
        ("programs", [1], "programs[0] is not a text"),
        ("proceeds.grandTotal", "5", "proceeds.grandTotal is not an object"),
        ("proceeds.grandTotal.currencyCode", "", "proceeds.grandTotal.currencyCode is missing"),
    ],
)
def test_a_malformed_field_is_named_and_its_value_is_not(path: str, value: Any, reason: str) -> None:
    assert unreadable(changed(full_order(), path, value)).reason == reason


@pytest.mark.parametrize("order_id", ["S01-1234567-1234567", "mcf_2026.11~7", "Über-1", "..x", "a:b@c"])
def test_an_unusual_order_id_is_taken(order_id: str) -> None:
    """Orders of other channels bring ids of their own (R26)."""
    assert readable(changed(full_order(), "orderId", order_id)).order_id == order_id


def test_an_unsafe_order_id_is_no_id() -> None:
    """It would make an address, of which it is a part, lead elsewhere."""
    assert unreadable(changed(full_order(), "orderId", "../../sign-out")).order_id is None
    associated = [{"orderId": "../1", "associationType": "REPLACEMENT_ORIGINAL_ID"}]
    replacing = changed(full_order(), "associatedOrders", associated)
    assert readable(replacing).replaces is None


# Source: amzn/selling-partner-api-models#5127, packages come without members that Amazon's model promises.
@pytest.mark.parametrize("reference", [None, "", " ", 7, "\0", ["1"]])
def test_a_package_without_its_reference_keeps_its_order(reference: Any) -> None:
    order = readable(changed(full_order(), "packages.packageReferenceId", reference))
    assert (order.packages[0].reference, order.packages[0].tracking_number) == (None, "RM1")
    assert order.present == GROUPS
    del (left := full_order())["packages"][0]["packageReferenceId"]
    assert readable(left) == order


# The kind: each member that only labels, in every odd form, and the field that then keeps what is stored.
@pytest.mark.parametrize(
    ("path", "values", "read", "unread"),
    [
        ("packages.carrier", [7, {}, "\0"], lambda o: o.packages[0].carrier, None),
        ("packages.shipTime", ["soon", 7, "2026-11-02"], lambda o: o.packages[0].shipped_at, None),
        ("packages.packageStatus", ["DELIVERED", {"status": 7}], lambda o: o.packages[0].status, None),
        ("packages", ["x", [1], {}, [None]], lambda o: o.packages or None, None),
        ("orderItems.product.title", [["x"], "x\0", "\ud800"], lambda o: o.lines[0].title, "title"),
        ("orderItems.product.asin", [7, "B" * 21], lambda o: o.lines[0].asin, "asin"),
        (
            "orderItems.promotion",
            ["x", {"breakdowns": [7]}],
            lambda o: o.lines[0].promotion_ids or None,
            "promotion_ids",
        ),
        ("orderAliases", ["x", [{"aliasId": 7}]], lambda o: o.seller_order_id, "seller_order_id"),
        ("fulfillment.fulfilledBy", [7, "M" * 41], lambda o: o.fulfilled_by, "fulfilled_by"),
        ("fulfillment.fulfillmentServiceLevel", [{}], lambda o: o.service_level, "service_level"),
        ("fulfillment.shipByWindow", ["soon", {"latestDateTime": 7}], lambda o: o.ship_by, "ship_by"),
        ("fulfillment.deliverByWindow", [{"latestDateTime": "soon"}], lambda o: o.deliver_by, "deliver_by"),
        (
            "recipient.deliveryPreference",
            ["x", {"dropOffLocation": 7}],
            lambda o: o.delivery_instructions,
            "delivery_instructions",
        ),
        ("tax", ["x", {"taxRegistrations": {}}], lambda o: o.tax_registrations or None, "tax_numbers"),
        (
            "orderItems.cancellation.cancellationExecution.cancelledBy",
            [7],
            lambda o: o.lines[0].cancelled_by,
            "cancelled_by",
        ),
    ],
)
def test_an_order_is_read_without_what_only_labels(
    path: str, values: list[Any], read: Callable[[AmazonOrder], Any], unread: str | None
) -> None:
    for value in values:
        order = readable(changed(full_order(), path, value))
        assert read(order) is None
        assert order.unread == frozenset({unread} - {None})
        assert order.total is not None


def test_several_labels_may_be_odd_but_not_without_end() -> None:
    order = full_order()
    item = order["orderItems"][0]
    order["fulfillment"]["fulfilledBy"] = item["product"]["title"] = 7
    assert readable(order).unread == {"fulfilled_by", "title"}
    order["orderItems"] = [changed(item, "orderItemId", str(n)) for n in range(parse.MOST_LEFT_OUT + 1)]
    assert unreadable(order).reason.endswith("product.title is not a text")


def test_an_item_without_its_product_keeps_its_order() -> None:
    order = readable(changed(full_order(), "orderItems.product", None))
    assert (order.lines[0].sku, order.lines[0].item_total) == (None, Money(Decimal("20.00"), "GBP"))


# Source: 9999-12-31 stands for "never" in many programs; its offset, or the last time of Java, leads beyond
# what Python and both databases can hold.
@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9999-12-31T23:59:59-08:00", datetime.max.replace(tzinfo=UTC)),
        ("+292278994-08-17T07:12:55.807Z", datetime.max.replace(tzinfo=UTC)),
        ("10000-01-01T00:00:00+00:00", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_a_date_beyond_reason_is_a_date(value: str, time: datetime) -> None:
    order = readable(changed(full_order(), "fulfillment.deliverByWindow.latestDateTime", value))
    assert order.deliver_by == time


def with_amounts(*breakdowns: tuple[str, str, str], tax: Any = None) -> dict[str, Any]:
    """Return an order whose item has these subtotals: type, amount, currency."""
    each = [{"type": kind, "subtotal": money(amount, code)} for kind, amount, code in breakdowns]
    order = changed(full_order(), "orderItems.proceeds.breakdowns", each)
    return changed(order, "orderItems.tax", tax)


# Source: COD_FEE and OTHER of ItemProceedsBreakdown in Amazon's model; orders paid at the door.
def test_amounts_that_have_no_field_are_kept_by_their_type() -> None:
    order = with_amounts(
        ("ITEM", "10.00", "SAR"),
        ("COD_FEE", "12.00", "SAR"),
        ("A_NEW_ONE", "1", "SAR"),
        ("COD_FEE", "3.00", "SAR"),
    )
    (line,) = readable(order).lines
    assert line.item_total == Money(Decimal("10.00"), "SAR")
    assert line.other_amounts == (
        ("COD_FEE", Money(Decimal("15.00"), "SAR")),
        ("A_NEW_ONE", Money(Decimal(1), "SAR")),
    )


# Source: a line of the Emirates with its item in AED and its tax in USD (assumed: each Money names its own).
@pytest.mark.parametrize(
    ("breakdowns", "item", "others"),
    [
        ((("ITEM", "50.00", "AED"), ("TAX", "0.68", "USD")), "AED", [("TAX", "USD")]),
        ((("TAX", "0.68", "USD"), ("ITEM", "50.00", "AED")), "AED", [("TAX", "USD")]),
        ((("ITEM", "50.00", "AED"), ("ITEM", "9.00", "USD")), "AED", [("ITEM", "USD")]),
        ((("TAX", "1.00", "GBP"), ("TAX", "1.00", "EUR")), None, [("TAX", "EUR")]),
        ((("COD_FEE", "1.00", "AED"), ("TAX", "1.00", "EUR")), None, [("COD_FEE", "AED"), ("TAX", "EUR")]),
    ],
)
def test_the_amounts_of_a_line_that_have_a_field_are_in_one_currency(
    breakdowns: Any, item: str | None, others: Any
) -> None:
    (line,) = readable(with_amounts(*breakdowns)).lines
    assert (None if line.item_total is None else line.item_total.currency) == item
    assert [(kind, amount.currency) for kind, amount in line.other_amounts] == others
    fields = [line.item_total, line.tax, line.shipping, line.discount, line.gift_wrap]
    assert len({amount.currency for amount in fields if amount is not None}) <= 1


def test_a_subtotal_without_an_amount_is_absent() -> None:
    (line,) = readable(changed(full_order(), "orderItems.proceeds.breakdowns.subtotal", None)).lines
    assert (line.item_total, line.tax) == (None, Money(Decimal("4.99"), "GBP"))


# Source: OrderProceedsBreakdown of Amazon's model: a DELIVERY_TIP is the order's alone, all else is of items.
def test_an_order_has_the_amounts_of_its_own_that_no_item_has_a_part_of() -> None:
    tip = [
        {"type": "ITEM", "subtotal": money("20.00")},
        {"type": "COD_FEE", "subtotal": money("2.00")},
        {"type": "A_NEW_ONE", "subtotal": money("1.00")},
        {"type": "DELIVERY_TIP", "status": "FINALIZED", "subtotal": money("5.00")},
    ]
    order = with_amounts(("ITEM", "20.00", "GBP"), ("A_NEW_ONE", "1.00", "GBP"))
    order["proceeds"]["breakdowns"] = tip
    assert readable(order).own_amounts == (("DELIVERY_TIP", Money(Decimal("5.00"), "GBP")),)
    order["proceeds"]["breakdowns"] = [{"type": "DELIVERY_TIP", "subtotal": {"amount": "five"}}]
    assert (readable(order).own_amounts, readable(order).unread) == ((), frozenset({"own_amounts"}))


FACILITATOR = [{"model": "MARKETPLACE_FACILITATOR", "responsibleParty": "Amazon"}]


# Source: deemed-reseller tax of the EU. Amazon's model says who remits a tax in taxCollections only, and its
# own example of an IOSS item has both: a reporting scheme alone does not say that Amazon withholds the tax.
@pytest.mark.parametrize("scheme", ["IOSS", "UOSS"])
def test_r42_a_reporting_scheme_alone_withholds_no_tax(scheme: str) -> None:
    tax: dict[str, Any] = {"taxCalculationBreakdowns": [{"reportingScheme": scheme}]}
    amounts = (("ITEM", "10.00", "EUR"), ("TAX", "1.90", "EUR"))
    (line,) = readable(with_amounts(*amounts, tax=tax)).lines
    assert (line.tax, line.withheld_tax) == (Money(Decimal("1.90"), "EUR"), None)
    (line,) = readable(with_amounts(*amounts, tax=tax | {"taxCollections": FACILITATOR})).lines
    assert line.withheld_tax == line.tax


def test_r42_withheld_tax_may_be_in_another_currency_than_the_line() -> None:
    order = with_amounts(
        ("ITEM", "50.00", "AED"), ("TAX", "0.68", "USD"), tax={"taxCollections": FACILITATOR}
    )
    assert readable(order).lines[0].withheld_tax == Money(Decimal("0.68"), "USD")


def test_an_unreadable_order_says_what_it_can_and_keeps_its_payload() -> None:
    order = changed(full_order(), "buyer", 1)
    read = unreadable(order)
    assert (read.order_id, read.marketplace_id) == ("026-1520163-6049104", "A1F83G8C2ARO7P")
    assert json.loads(read.payload) == order
    assert unreadable({"orderId": 1, "salesChannel": []}).order_id is None
    assert unreadable("text").payload == '"text"'


def test_a_payload_that_is_no_json_is_an_unreadable_order() -> None:
    for text in ("", "{", "[" * 100_000, '{"orderId": 1e99999999999999999999}'):
        read = order_of_json(text)
        assert isinstance(read, UnreadableOrder)
        assert (read.order_id, read.payload) == (None, text)


def test_a_payload_is_compact_ascii_and_rounds_nothing() -> None:
    text = '{"a":[1,0.1000000000000000055511151231257827,1.5E+30,true,null,"\\u00e9\\ud800"],"b":{}}'
    body = json_object(text.encode())
    assert body is not None
    assert isinstance(body["a"][1], Decimal)
    assert compact_json(body) == text


@pytest.mark.parametrize("depth", [100, 400, 1000, 3000, 10_000, 100_000])
def test_however_deep_an_order_is_nested_it_is_unreadable_or_its_page_is_garbled(depth: int) -> None:
    deep = '{"a":[' * depth + "]}" * depth
    garbled = 0
    for text in (f'{{"createdTime":{deep}}}', f'{{"proceeds":{deep}}}', f'{{"novelty":{deep}}}'):
        assert isinstance(order_of_json(text), UnreadableOrder)
        try:
            (order,) = page_of_json(f'{{"orders":[{text}]}}'.encode()).unreadable
        except Garbled:
            garbled += 1
        else:
            assert order.payload == text
    # In between it depends on the interpreter: each release of Python has its own limit.
    assert depth > 100 or garbled == 0
    assert depth < 100_000 or garbled == 3


@pytest.mark.parametrize("character", ["\0", "\ud83d", chr(0xDC00)])
def test_a_character_that_no_database_can_store_does_no_harm_where_we_do_not_read(character: str) -> None:
    order = full_order() | {"novelty": [{"deep": character}]}
    order["orderItems"][0]["proceeds"]["proceedsTotal"] = {"novelty": character}
    assert readable(order) == readable(full_order())


def test_a_backslash_and_a_pair_of_surrogates_are_characters_like_others() -> None:
    order = readable(changed(full_order(), "buyer.buyerName", "\\u0000 \U0001f600"))
    assert order.buyer is not None
    assert order.buyer.name == "\\u0000 \U0001f600"


def test_of_a_repeated_field_the_last_one_counts() -> None:
    text = compact_json(full_order())
    twice = text[:-1] + ',"orderId":"026-0000000-0000009"}'
    read = [*page_of_json(f'{{"orders":[{twice}]}}'.encode()).orders, order_of_json(twice)]
    assert [order.order_id for order in read] == ["026-0000000-0000009"] * 2


def test_a_page_of_perfect_orders_is_read_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = compact_json({"orders": [full_order(), bare_order()]}).encode()
    monkeypatch.setattr(parse, "_any_page", lambda _: pytest.fail("read again, which takes its time"))
    assert len(page_of_json(body).orders) == 2


def test_unknown_fields_are_ignored_and_unknown_words_kept() -> None:
    order = changed(full_order(), "fulfillment.fulfillmentStatus", "TELEPORTED")
    order["novelty"] = {"deep": [1, 2]}
    assert readable(order).status == "TELEPORTED"


def test_an_unreadable_order_leaves_the_rest_of_the_page_unharmed() -> None:
    bad = changed(full_order(), "createdTime", "never")
    page = page_of({"orders": [full_order(), bad, bare_order(), 5], "pagination": {"nextToken": "t"}})
    assert len(page.orders) == 2
    assert [order.reason for order in page.unreadable] == [
        "createdTime is not a time with an offset",
        "the order is not an object",
    ]
    assert page.next_token == "t"


@pytest.mark.parametrize(
    "pagination", [{}, {"pagination": None}, {"pagination": {}}, {"pagination": {"nextToken": ""}}]
)
def test_a_page_without_a_next_token_is_the_last(pagination: dict[str, Any]) -> None:
    page = page_of({"orders": []} | pagination)
    assert page.next_token is None
    assert page.orders == ()


@pytest.mark.parametrize("name", ["lastUpdatedBefore", "createdBefore"])
def test_the_echoed_bound_is_read_on_both_axes(name: str) -> None:
    page = page_of({"orders": [], name: "2026-11-01T10:00:00.000Z"})
    assert page.echoed_before == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert page_of({"orders": []}).echoed_before is None


@pytest.mark.parametrize(
    "envelope",
    [
        {"pagination": []},
        {"pagination": {"nextToken": 5}},
        {"pagination": {"nextToken": "a\0"}},
        {"pagination": {"nextToken": "a\ud800"}},
        {"lastUpdatedBefore": "now"},
        {"createdBefore": 5},
        {"errors": [{"code": "InternalFailure"}]},
        {"errors": "x"},
    ],
)
def test_a_malformed_envelope_is_never_taken_for_the_last_page(envelope: dict[str, Any]) -> None:
    for orders in ([], [full_order()], [5]):
        with pytest.raises(Garbled) as caught:
            page_of({"orders": orders} | envelope)
        assert caught.value.__context__ is None


def test_no_repr_shows_buyer_data() -> None:
    order = readable(full_order())
    broken = unreadable(changed(full_order(), "orderItems.quantityOrdered", "x"))
    page = page_of({"orders": [full_order()], "pagination": {"nextToken": "page-token"}})
    shown = repr((order, order.buyer, order.delivery, order.tax_registrations, order.lines, broken, page))
    private = ["Ada", "q1w2", "Engines", "PO-9", "James", "SW1Y", "7946", "Ring", "GB123", "Charles", "zip"]
    private += ["Wrong colour", "Out of stock", "page-token"]
    assert [word for word in private if word in shown] == []
    assert "026-1520163-6049104" in shown


TEXTS = st.text(max_size=5) | st.sampled_from(["", " ", "\0", "\ud800", "1.5", "2026-11-01T10:00:00Z"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def every_path(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [path] * bool(path) + [
            found for key, item in pairs for found in every_path(item, (*path, key))
        ]
    return [path]


@pytest.mark.long
@settings(max_examples=150, deadline=None, database=None)
@given(path=st.sampled_from(every_path(full_order())), value=JSON_VALUES)
def test_whatever_stands_in_a_field_nothing_is_raised(path: tuple[Any, ...], value: Any) -> None:
    order = full_order()
    target: Any = order
    for key in path[:-1]:
        target = target[key]
    # As JSON brings it: a whole decimal comes back as a whole number.
    target[path[-1]] = json.loads(compact_json([value]), parse_float=Decimal)[0]
    read = read_in_all_ways(order)
    if isinstance(read, UnreadableOrder):
        assert read.payload
    else:
        assert read.order_id


def test_one_byte_that_is_not_utf_8_makes_one_order_unreadable() -> None:
    orders = [changed(full_order(), "orderId", f"026-1520163-604910{n}") for n in range(3)]
    content = compact_json({"orders": orders}).encode()
    bad = content.replace(b"For Charles", b"For Ch\xe4rles", 1)
    page = page_of_json(bad)
    (broken,) = page.unreadable
    assert [order.order_id for order in page.orders] == ["026-1520163-6049101", "026-1520163-6049102"]
    assert broken.order_id == "026-1520163-6049100"
    assert "holds a character that no database can store" in broken.reason
    assert "\\udce4" in broken.payload
    assert page.payload_of is not None
    assert json.loads(page.payload_of("026-1520163-6049102")) == json.loads(compact_json(orders[2]))


@pytest.mark.parametrize("field", ["createdTime", "lastUpdatedTime"])
def test_a_time_in_the_future_is_not_believed(field: str) -> None:
    now = datetime(2026, 11, 12, tzinfo=UTC)
    orders = [full_order(), changed(full_order(), field, "2107-02-03T04:05:06Z")]
    page = page_of_json(compact_json({"orders": orders}).encode(), now)
    (broken,) = page.unreadable
    assert len(page.orders) == 1
    assert broken.reason == f"{field} is in the future"
    assert broken == order_of(orders[1], now) == order_of_json(compact_json(orders[1]), now)
    believed = broken.last_updated_at
    assert (believed is None) == (field == "lastUpdatedTime"), "no true version may be shut out by it"
    at_the_limit = changed(full_order(), "lastUpdatedTime", "2026-11-12T00:00:00Z")
    assert not isinstance(order_of(at_the_limit, now), UnreadableOrder)
    assert isinstance(order_of(at_the_limit, now - timedelta(microseconds=1)), UnreadableOrder)
