"""The exported shape is a promise to programs outside this repository: keys, times, money, CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import structs

from poller.cli.export_files import write_csv, write_jsonl
from poller.cli.output import put_json
from poller.export import KEYS as EXPORTED_KEYS
from poller.export import customer_object, order_object
from poller.text import time_text
from store.records import (
    Address,
    Amount,
    Buyer,
    CustomerRecord,
    LineRecord,
    MainEmail,
    OrderRecord,
    PackageRecord,
)

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)

ORDER_KEYS = """order_id, account, marketplace, marketplace_id, status, seller_status, fulfilled_by, programs,
service_level, created_at, last_updated_at, ship_by, deliver_by, seller_order_id, replaces,
purchase_order_number, buyer_name, buyer_email, currency, total, customer_id, match_basis, delivery, billing,
price_list, tax_code, labels, lines, packages, cancel_requested, cancelled_by, withheld_tax, other_amounts,
unexplained, changed_at"""
LINE_KEYS = """order_item_id, sku, asin, title, quantity, quantity_shipped, unit_price, item_total, tax,
shipping, discount, gift_wrap, gift_message, promotion_ids, currency, other_amounts"""
CUSTOMER_KEYS = """customer_id, business, account, marketplace, status, merged_into, external_id, name,
company, amazon_name, emails, aliases, phone, billing, delivery, price_list, currency, tax_code,
discount_percent, labels, contactable, contact_email, created_from_order, created_at, changed_at"""
ADDRESS_KEYS = "name, company, line1, line2, line3, city, county, state, postal_code, country, phone"


def keys(text: str) -> list[str]:
    return text.replace(",", " ").split()


def gbp(text: str) -> Amount:
    return Amount(Decimal(text), "GBP")


HOME = Address(name="Ann", line1="1 High Street", country="GB", phone="+44 113", kind="RESIDENTIAL")
LINE = LineRecord(
    "i1",
    2,
    sku="SKU",
    asin="B0",
    title="A kettle",
    unit_price=gbp("10.00"),
    quantity_shipped=1,
    item_total=gbp("20.00"),
    tax=gbp("4.00"),
    shipping=gbp("1E+1"),
    discount=gbp("0.50"),
    gift_wrap=gbp("0"),
    promotion_ids=("SALE", "TWO"),
    gift_message="For you",
)
ORDER = OrderRecord(
    account="acme",
    order_id="o1",
    channel="AMAZON",
    created_at=T0,
    last_updated_at=T0 + timedelta(milliseconds=250),
    as_of={},
    marketplace_id="A1F83G8C2ARO7P",
    marketplace="UK",
    status="SHIPPED",
    programs=("PRIME",),
    buyer=Buyer("Ann", "ann@example.com", "Ann & Co", "PO-1"),
    delivery=HOME,
    total=gbp("33.50"),
    lines=(LINE, LineRecord("i2", 1)),
    packages=(PackageRecord("1", "DELIVERED", shipped_at=T0),),
    labels={"channel": "Amazon UK"},
    customer_id=7,
    match_basis="created",
    changed_at=T0,
)
BARE_ORDER = OrderRecord("acme", "o2", "AMAZON", T0, T0, {})
CUSTOMER = CustomerRecord(
    business="acme",
    account="acme",
    marketplace="UK",
    created_at=T0,
    customer_id=7,
    name="Ann",
    emails=(
        MainEmail(1, "x@marketplace.amazon.co.uk", "hand"),
        MainEmail(2, None, "amazon"),
        MainEmail(3, "ann@example.com", "import"),
    ),
    aliases=("old@example.com",),
    billing=HOME,
    discount_percent=Decimal("2.50"),
    labels={"tier": "gold"},
)
BARE_CUSTOMER = CustomerRecord("acme", None, None, T0)


def promised(exported: dict[str, Any], names: str) -> list[str]:
    """The promised keys of an object, in its order; new keys are documented (test_order_field_recipe)."""
    return [key for key in exported if key in keys(names)]


def test_an_order_has_the_promised_keys_in_their_order_known_or_not() -> None:
    for order in (ORDER, BARE_ORDER):
        exported = order_object(order)
        assert promised(exported, ORDER_KEYS) == keys(ORDER_KEYS)
        assert tuple(exported) == EXPORTED_KEYS["orders"]


def test_a_line_and_an_address_have_the_promised_keys() -> None:
    exported = order_object(ORDER)
    assert [promised(line, LINE_KEYS) for line in exported["lines"]] == [keys(LINE_KEYS)] * 2
    assert list(exported["delivery"]) == keys(ADDRESS_KEYS)
    assert exported["billing"] is None


def test_a_customer_has_the_promised_keys_in_their_order_known_or_not() -> None:
    for customer in (CUSTOMER, BARE_CUSTOMER):
        assert list(customer_object(customer)) == keys(CUSTOMER_KEYS)


def test_an_order_of_which_little_is_known_says_null() -> None:
    exported = order_object(BARE_ORDER)
    known = {"order_id", "account", "created_at", "last_updated_at"}
    empty = {"programs": [], "labels": {}, "lines": [], "packages": [], "cancel_requested": False}
    empty |= {"other_amounts": {}}
    assert {k: v for k, v in exported.items() if k not in known} == dict.fromkeys(
        k for k in exported if k not in known
    ) | empty


def test_money_is_a_plain_decimal_string() -> None:
    exported = order_object(ORDER)
    assert exported["total"] == "33.50"
    line, bare = exported["lines"]
    assert (line["unit_price"], line["shipping"], line["gift_wrap"]) == ("10.00", "10", "0")
    assert (bare["unit_price"], bare["discount"]) == (None, None)
    assert customer_object(CUSTOMER)["discount_percent"] == "2.50"
    json.dumps(exported)  # nothing in it that JSON does not know


def test_the_amounts_add_up_to_the_total_or_the_rest_is_unexplained() -> None:
    exported = order_object(ORDER)
    assert [line["currency"] for line in exported["lines"]] == ["GBP", None]
    assert exported["unexplained"] == "0.00"
    paid_at_the_door = structs.replace(
        LINE, other_amounts=(("COD_FEE", gbp("3.00")), ("DISCOUNT", gbp("1.00")))
    )
    order = structs.replace(
        ORDER, lines=(paid_at_the_door,), total=gbp("37.50"), own_amounts=(("DELIVERY_TIP", gbp("1.50")),)
    )
    exported = order_object(order)
    assert exported["lines"][0]["other_amounts"] == {"COD_FEE": "3.00", "DISCOUNT": "1.00"}
    assert (exported["other_amounts"], exported["unexplained"]) == ({"DELIVERY_TIP": "1.50"}, "0.50")
    assert order_object(structs.replace(order, total=None))["unexplained"] is None
    assert order_object(structs.replace(order, total=gbp("30.00")))["unexplained"] == "-7.00"


def test_an_amount_in_another_currency_says_so_and_explains_nothing() -> None:
    tax = (("TAX", Amount(Decimal("0.68"), "USD")),)
    line = LineRecord("i1", 1, item_total=Amount(Decimal("50.00"), "AED"), other_amounts=tax)
    order = structs.replace(ORDER, lines=(line,), total=Amount(Decimal("13.61"), "USD"))
    exported = order_object(order)
    (found,) = exported["lines"]
    assert (found["currency"], found["item_total"], found["tax"]) == ("AED", "50.00", None)
    assert found["other_amounts"] == {"TAX USD": "0.68"}
    assert (exported["currency"], exported["unexplained"]) == ("USD", "12.93")


def test_times_are_utc_with_a_z() -> None:
    exported = order_object(ORDER)
    assert exported["created_at"] == "2026-05-01T12:00:00Z"
    assert exported["last_updated_at"] == "2026-05-01T12:00:00.250000Z"
    assert exported["packages"][0]["shipped_at"] == "2026-05-01T12:00:00Z"
    assert time_text(None) is None


def test_r61_an_erased_e_mail_keeps_its_place_as_null() -> None:
    assert customer_object(CUSTOMER)["emails"] == ["x@marketplace.amazon.co.uk", None, "ann@example.com"]


def test_r14_only_an_address_entered_by_a_person_may_be_written_to() -> None:
    exported = customer_object(CUSTOMER)
    assert (exported["contactable"], exported["contact_email"]) == (True, "ann@example.com")
    exported = customer_object(replace(CUSTOMER, emails=CUSTOMER.emails[:2]))
    assert (exported["contactable"], exported["contact_email"]) == (False, None)


def test_r18_the_recipient_s_name_is_shown_where_the_buyer_s_is_not_known() -> None:
    nameless = replace(BARE_CUSTOMER, delivery=HOME)
    assert customer_object(nameless)["name"] == "Ann"
    assert customer_object(nameless)["amazon_name"] is None
    assert (
        customer_object(replace(nameless, delivery=msgspec.structs.replace(HOME, kind="PICKUP_POINT")))[
            "name"
        ]
        is None
    )


def test_a_tombstone_is_exported_with_where_it_points() -> None:
    exported = customer_object(replace(BARE_CUSTOMER, status="merged", merged_into=9))
    assert (exported["status"], exported["merged_into"]) == ("merged", 9)


# --- files ----------------------------------------------------------------------------------------


UNSEEN = "\x1b[2J\x07\x7f\x9b2J\u202e\u2066\u200b\ufeff\u2028"
"""What a terminal obeys, and marks that reorder or hide what stands beside them."""


def test_json_never_brings_a_control_character_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In files neither: an escape means the same to whatever reads JSON."""
    named = structs.replace(ORDER, buyer=Buyer(name=f"Zoë {UNSEEN}\u200d👩"))
    out = io.StringIO()
    write_jsonl([order_object(named)], out)
    put_json(order_object(named))
    for text in (out.getvalue(), capsys.readouterr().out):
        assert json.loads(text) == order_object(named)
        assert "Zoë" in text
        assert "\u200d👩" in text
        assert not [c for c in UNSEEN if c in text and c not in "[2J"]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_csv_on_a_terminal_has_no_control_character_and_in_a_file_every_one() -> None:
    named = structs.replace(ORDER, buyer=Buyer(name=f"Zoë\r\n{UNSEEN}"))
    file, screen = io.StringIO(newline=""), Screen(newline="")
    write_csv("orders", [order_object(named)], file)
    write_csv("orders", [order_object(named)], screen)
    row = next(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert row["buyer_name"] == f"Zoë\r\n{UNSEEN}"
    row = next(csv.DictReader(io.StringIO(screen.getvalue(), newline="")))
    assert row["buyer_name"].split() == ["Zoë", "[2J", "2J"]
    assert not [c for c in screen.getvalue() if ord(c) < 32 and c not in "\r\n"]


def test_json_lines_are_one_object_a_line_in_readable_letters() -> None:
    out = io.StringIO()
    named = structs.replace(ORDER, buyer=Buyer(name="Zoë\nÖ"))
    assert write_jsonl([order_object(named), order_object(BARE_ORDER)], out) == 2
    first, second = out.getvalue().splitlines()
    assert json.loads(first) == order_object(named)
    assert "Zoë" in first
    assert json.loads(second)["order_id"] == "o2"


def as_csv(what: str, objects: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, str]]]:
    out = io.StringIO(newline="")
    assert write_csv(what, objects, out) == len(objects)
    reader = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    rows = list(reader)
    return list(reader.fieldnames or ()), rows


def test_orders_in_csv_are_one_row_a_line_item() -> None:
    objects = [order_object(order) for order in (ORDER, BARE_ORDER)]
    _, rows = as_csv("orders", objects)
    assert [r["order_id"] for r in rows] == ["o1", "o1", "o2"]
    assert [r["lines.order_item_id"] for r in rows] == ["i1", "i2", ""]
    assert rows[0]["delivery.line1"] == rows[1]["delivery.line1"] == "1 High Street"
    assert rows[0]["lines.unit_price"] == "10.00"
    assert json.loads(rows[0]["lines.promotion_ids"]) == ["SALE", "TWO"]
    assert (rows[0]["lines.currency"], rows[0]["lines.other_amounts"], rows[0]["unexplained"]) == (
        "GBP",
        "",
        "0.00",
    )
    assert json.loads(rows[0]["labels"]) == {"channel": "Amazon UK"}
    assert json.loads(rows[0]["packages"])[0]["reference"] == "1"
    assert rows[0]["billing.line1"] == rows[0]["ship_by"] == ""


def test_the_columns_are_the_keys_with_nested_ones_joined_by_a_dot() -> None:
    whole = [order_object(structs.replace(ORDER, billing=HOME))]
    columns, _ = as_csv("orders", whole)
    expected: list[str] = []
    for key in EXPORTED_KEYS["orders"]:
        if key in ("delivery", "billing"):
            expected += [f"{key}.{name}" for name in keys(ADDRESS_KEYS)]
        elif key == "lines":
            expected += [f"lines.{name}" for name in whole[0]["lines"][0]]
        else:
            expected.append(key)
    assert columns == expected
    assert as_csv("orders", []) == (expected, [])


def test_customers_in_csv_are_one_row_each() -> None:
    objects = [customer_object(customer) for customer in (CUSTOMER, BARE_CUSTOMER)]
    columns, rows = as_csv("customers", objects)
    assert columns == as_csv("customers", [])[0]
    assert "billing.postal_code" in columns
    assert [r["customer_id"] for r in rows] == ["7", "0"]
    assert json.loads(rows[0]["emails"])[2] == "ann@example.com"
    assert rows[1]["emails"] == rows[1]["delivery.name"] == ""


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "+44 113|x",
        "-2+3",
        "@cmd",
        "\t=1",
        "\r=1",
        "\n=1",
        "-",
        "+",
        "--5",
        "+A1",
        "+1+cmd|x",
        "'=1",
        "''+x",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20cmd",
        "'\uff1d1",
    ],
)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    order = structs.replace(ORDER, buyer=Buyer(name=text), lines=(structs.replace(LINE, gift_message=text),))
    _, rows = as_csv("orders", [order_object(order)])
    assert rows[0]["buyer_name"] == rows[0]["lines.gift_message"] == "'" + text


@pytest.mark.parametrize(
    "text",
    [
        *("-1.50", "-3", "12", "Ann", "a=b", "O'Neil, Ann", "two\nlines", "two\rlines", "'t Hooft"),
        # Phones had an apostrophe in every program but a spreadsheet (iris-client#443: the + of phones lost).
        *(
            "+44 1632 960777",
            "+441632960777",
            "+1 (415) 555-0100",
            "+1 415-555-0100 ext. 40172",
            "+49 30/123456",
        ),
    ],
)
def test_a_number_or_a_plain_text_stays_as_it_is(text: str) -> None:
    order = structs.replace(ORDER, buyer=Buyer(name=text))
    _, rows = as_csv("orders", [order_object(order)])
    assert rows[0]["buyer_name"] == text
