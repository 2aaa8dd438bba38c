"""Orders as people have reported them from the field: each is read, translated and has its customer decided.

M: amzn/selling-partner-api-models, D: amzn/selling-partner-api-docs; numbers are those of issues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from connectors.amazon.parse import order_of
from connectors.marketplaces import BY_NAME, Marketplace
from connectors.orders import AmazonOrder, UnreadableOrder
from poller.export import order_object
from poller.matching.retention import term
from poller.matching.translation import translate
from store.records import OrderRecord
from tests.harness import rules_for
from tests.unit.test_amazon_parse import full_order, readable

Change = Callable[[dict[str, Any]], object]


def stored(*changes: Change, code: str = "UK") -> OrderRecord:
    """An order of a marketplace as it would be stored, after changes of what Amazon sends."""
    order, place = full_order(), BY_NAME[code]
    in_currency_of(place)(order)
    order["salesChannel"]["marketplaceId"] = place.id
    for change in changes:
        change(order)
    return translate(readable(order), "acme", rules_for(code))


def in_currency_of(place: Marketplace) -> Change:
    def change(part: Any) -> None:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            change(value)
        if isinstance(part, dict) and "currencyCode" in part:
            part["currencyCode"] = place.currency

    return change


def address(**members: str | None) -> Change:
    return lambda order: order["recipient"].update(deliveryAddress=members)


def item(**members: Any) -> Change:
    return lambda order: order["orderItems"][0].update(members)


def places(codes: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("code", list(codes))


def test_a_ship_time_of_1995_is_not_believed() -> None:
    """frappe/ecommerce_integrations pull request 344: removal orders are shipped in 1995."""
    record = stored(
        lambda order: order["packages"][0].update(
            shipTime="1995-01-01T00:00:00Z", packageStatus={"status": "IN_TRANSIT"}
        ),
        lambda order: order["fulfillment"].pop("deliverByWindow"),
    )
    assert record.packages[0].shipped_at == datetime(1995, 1, 1, tzinfo=UTC)
    assert term(record).at >= record.last_updated_at


def test_a_line_of_nothing_is_a_line() -> None:
    """frappe/erpnext issue 23882: quantity 0 after a cancellation."""
    (line,) = stored(item(quantityOrdered=0)).lines
    assert (line.quantity, line.sku) == (0, "SKU-1")


def test_a_gift_of_the_seller_has_no_amounts() -> None:
    """D 554: Vine and free replacements come without money, or with a discount of all of it."""

    def without_money(order: dict[str, Any]) -> None:
        del order["proceeds"]
        del order["orderItems"][0]["proceeds"]
        del order["orderItems"][0]["product"]["price"]

    record = stored(without_money)
    (line,) = record.lines
    assert (record.total, order_object(record)["unexplained"]) == (None, None)
    assert (line.unit_price, line.item_total, line.tax, line.discount) == (None, None, None, None)
    free = stored(
        lambda order: order["proceeds"].update(grandTotal={"amount": "0.00", "currencyCode": "GBP"}),
        item(
            proceeds={
                "breakdowns": [
                    {"type": "ITEM", "subtotal": {"amount": "9.99", "currencyCode": "GBP"}},
                    {"type": "DISCOUNT", "subtotal": {"amount": "-9.99", "currencyCode": "GBP"}},
                ]
            }
        ),
    )
    exported = order_object(free)
    assert (exported["total"], exported["unexplained"]) == ("0.00", "0.00")
    assert exported["lines"][0]["discount"] == "9.99"


def test_a_replacement_names_its_original() -> None:
    record = stored(lambda order: order.pop("buyer"))
    assert (record.replaces, record.buyer) == ("026-0000000-0000002", None)


def test_one_item_id_twice_is_two_lines() -> None:
    """M 442, 498, 544: rows and items come doubled, under one id."""
    record = stored(lambda order: order["orderItems"].append(dict(order["orderItems"][0], quantityOrdered=5)))
    assert [(line.order_item_id, line.quantity) for line in record.lines] == [("111", 2), ("111", 5)]


def test_a_japanese_address_has_no_city_and_its_amounts_no_decimals() -> None:
    """M 732: Japan without city."""
    record = stored(
        address(
            name="見本 花子",
            addressLine1="見本町1-2-3",
            stateOrRegion="東京都",
            postalCode="100-0001",
            countryCode="JP",
        ),
        lambda order: order["proceeds"].update(grandTotal={"amount": "3148", "currencyCode": "JPY"}),
        code="JP",
    )
    assert record.delivery is not None
    assert (record.delivery.city, record.delivery.state, record.delivery.line1) == (
        None,
        "東京都",
        "見本町1-2-3",
    )
    assert record.total is not None
    assert (record.total.amount, record.total.currency) == (Decimal(3148), "JPY")


def test_a_brazilian_order_has_a_cpf_and_a_bairro() -> None:
    record = stored(
        address(
            name="Amostra Silva",
            city="São Paulo",
            stateOrRegion="SP",
            postalCode="01000-000",
            countryCode="BR",
        ),
        lambda order: order["recipient"]["deliveryAddress"].update(
            extendedFields={
                "streetName": "Rua Exemplo",
                "streetNumber": "12",
                "complement": "ap. 3",
                "neighborhood": "Bairro Amostra",
            }
        ),
        lambda order: order["tax"]["taxRegistrations"][0].update(
            taxRegistrationType="CPF", taxRegistrationNumber="000.000.000-00"
        ),
        code="BR",
    )
    assert record.delivery is not None
    lines = (record.delivery.line1, record.delivery.line2, record.delivery.line3)
    assert lines == ("Rua Exemplo 12", "ap. 3", "Bairro Amostra")
    assert [(n.kind, n.number) for n in record.tax_numbers] == [("CPF", "000.000.000-00")]


@places(["AE", "SA", "EG", "IE", "ZA", "SG", "AU", "IN", "TR"])
def test_an_address_needs_neither_postcode_nor_state(code: str) -> None:
    """The Gulf and Egypt use no postcodes, South Africa and Singapore no states."""
    country = BY_NAME[code].code
    record = stored(
        address(name="Sample Person", addressLine1="PO Box 1", city="Sampleton", countryCode=country),
        code=code,
    )
    assert record.delivery is not None
    assert (record.delivery.postal_code, record.delivery.state, record.delivery.country) == (
        None,
        None,
        country,
    )
    assert order_object(record)["currency"] == BY_NAME[code].currency
    assert record.marketplace == code


def test_times_with_an_offset_and_nine_digits_are_cut_to_microseconds() -> None:
    record = stored(lambda order: order.update(createdTime="2026-11-01T19:00:00.123456789+09:00"))
    assert record.created_at == datetime(2026, 11, 1, 10, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("url", ["", "https://example.test/" + "x" * 3000])
def test_a_customization_of_any_length_is_kept(url: str) -> None:
    """D 230, M 4008: customizedUrl is empty, then very long."""
    (line,) = stored(
        lambda order: order["orderItems"][0]["product"].update(customization={"customizedUrl": url})
    ).lines
    assert line.customization_url == (url or None)


@pytest.mark.parametrize("items", [None, []])
def test_an_order_without_items_for_a_while_loses_nothing(items: list[object] | None) -> None:
    """D 970, 979: items are empty, or null, for a while; null goes to quarantine and is refetched (R25)."""
    order = full_order() | {"orderItems": items}
    read = order_of(order)
    if items is None:
        assert isinstance(read, UnreadableOrder)
    else:
        assert isinstance(read, AmazonOrder)
        assert read.lines == ()
