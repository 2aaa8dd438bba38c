"""The oracle on payloads written by hand: what is to judge the product has to be trusted first."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.oracle import Oracle, compare

UK, DE = "A1F83G8C2ARO7P", "A1PA6795UKMFR9"
ADDRESS = {
    "name": "Ann Lee",
    "addressLine1": "1 High Street",
    "addressLine3": "",
    "city": "Leeds",
    "municipality": "Leeds",
    "postalCode": "LS1 1AA",
    "countryCode": "GB",
    "phone": "+44 113 496 0000",
}
LATER = "2026-03-02T00:00:00Z"
LATEST = "2026-03-03T00:00:00Z"


def oracle(**rules: Any) -> Oracle:
    uk = {"code": "UK", "currency": "GBP", "price_list": "UK retail", "tax_code": "T20"} | rules
    de = {"code": "DE", "currency": "EUR", "price_list": "DE retail", "tax_code": "T19"} | rules
    return Oracle("acme", "acme", {UK: uk, DE: de}, shared_emails=["Office@Shop.example"])


def line(item_id: str = "1", price: str | None = "10.00", **more: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "orderItemId": item_id,
        "quantityOrdered": 2,
        "product": {"sellerSku": "SKU", **more},
    }
    if price is not None:
        money = {"amount": price, "currencyCode": "GBP"}
        item["product"]["price"] = {"unitPrice": money}
        item["proceeds"] = {"breakdowns": [{"type": "ITEM", "subtotal": money}]}
    return item


def order(
    order_id: str,
    email: str | None = "ann@marketplace.amazon.co.uk",
    *,
    status: str | None = "UNSHIPPED",
    updated: str = "2026-03-01T00:00:00Z",
    created: str = "2026-03-01T00:00:00Z",
    marketplace: str | None = UK,
    name: str | None = "Ann",
    address: dict[str, Any] | None = ADDRESS,
    items: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "orderId": order_id,
        "createdTime": created,
        "lastUpdatedTime": updated,
        "salesChannel": {"channelName": "AMAZON"},
        "orderItems": [line()] if items is None else items,
    }
    if marketplace:
        payload["salesChannel"]["marketplaceId"] = marketplace
    if email or name:
        payload["buyer"] = {"buyerEmail": email or "", "buyerName": name or ""}
    if address:
        payload["recipient"] = {"deliveryAddress": address}
    if status:
        payload["fulfillment"] = {"fulfillmentStatus": status, "fulfilledBy": "MERCHANT"}
    return payload | more


def unnamed(order_id: str, **more: Any) -> dict[str, Any]:
    """An order of which Amazon withholds the buyer and the address."""
    return order(order_id, None, name=None, address=None, **more)


def bases(truth: Oracle) -> dict[str, str | None]:
    return {order_id: shown["match_basis"] for order_id, shown in truth.orders().items()}


def grouped(*groups: str) -> set[frozenset[str]]:
    return {frozenset(group.split()) for group in groups}


def faithful(truth: Oracle) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The export of a product that is right."""
    orders = {i: copy.deepcopy(o) | {"customer_id": None} for i, o in truth.orders().items()}
    customers = []
    for number, (group, allowed) in enumerate(truth.customers().items(), start=1):
        for order_id in group:
            orders[order_id]["customer_id"] = number
        record = {key: (allowed[key] or [None])[0] for key in ("name", "amazon_name", "company", "phone")}
        record |= {key: allowed[key] for key in ("marketplace", "price_list", "tax_code", "currency")}
        address = (allowed["address"] or [None])[0]
        record |= {"billing": address, "delivery": address, "emails": sorted(allowed["emails"])}
        status = "unidentified" if allowed["kind"] == "unidentified" else "active"
        record |= {"customer_id": number, "business": "acme", "status": status, "merged_into": None}
        customers.append(record | {"created_from_order": allowed["created_from_order"]})
    return list(orders.values()), customers


def test_r2_and_r6_the_first_order_creates_and_the_next_with_that_email_links() -> None:
    truth = oracle()
    truth.page(
        [order("a"), order("b", " ANN@marketplace.amazon.co.uk ", marketplace=DE), order("c", "bob@x.uk")]
    )
    assert bases(truth) == {"a": "created", "b": "email_1", "c": "created"}
    assert truth.groups() == grouped("a b", "c")
    assert truth.orders()["b"]["price_list"] == "UK retail"  # R44: its customer's


def test_r8_and_r10_the_record_keeps_name_and_address_and_the_order_is_billed_to_the_record() -> None:
    truth = oracle()
    truth.page([order("a"), order("b", name="Anna", address={**ADDRESS, "addressLine1": "2 Low Road"})])
    second = truth.orders()["b"]
    assert (second["delivery"]["line1"], second["billing"]["line1"]) == ("2 Low Road", "1 High Street")
    (allowed,) = truth.customers().values()
    assert allowed["name"] == ["Ann"]
    assert [address["line1"] for address in allowed["address"]] == ["1 High Street"]


def test_r20_a_page_is_matched_by_created_time_however_it_is_sorted() -> None:
    truth = oracle()
    truth.page([order("a", created="2026-03-01T02:00:00Z"), order("z", created="2026-03-01T01:00:00.500Z")])
    assert bases(truth) == {"z": "created", "a": "email_1"}


@pytest.mark.parametrize(
    ("choice", "basis", "groups"),
    [
        ("per_order", "unidentified", grouped("a", "b")),
        ("shared", "shared", grouped("a b")),
        ("hold", "held", set()),
    ],
)
def test_r21_orders_without_an_email(choice: str, basis: str, groups: set[frozenset[str]]) -> None:
    truth = oracle(without_email=choice)
    truth.page([unnamed("a"), unnamed("b")])
    truth.page([unnamed("a", updated=LATER)])
    assert bases(truth) == {"a": basis, "b": basis}
    assert truth.groups() == groups


def test_r22_an_email_that_comes_later_promotes_once() -> None:
    truth = oracle()
    truth.page([order("a"), unnamed("b")])
    truth.page([order("b", updated=LATER)])
    truth.page([order("b", "other@x.uk", updated=LATEST)])
    assert bases(truth) == {"a": "created", "b": "promoted"}
    assert truth.groups() == grouped("a b")


def test_r23_a_replacement_without_an_email_follows_the_order_it_replaces() -> None:
    truth = oracle()
    origin = [{"orderId": "a", "associationType": "REPLACEMENT_ORIGINAL_ID"}]
    stranger = [{"orderId": "nowhere", "associationType": "REPLACEMENT_ORIGINAL_ID"}]
    truth.page([order("a"), unnamed("b", associatedOrders=origin), unnamed("c", associatedOrders=stranger)])
    assert bases(truth) == {"a": "created", "b": "replacement", "c": "unidentified"}
    assert truth.groups() == grouped("a b", "c")


def test_r17_and_r24_shared_addresses_and_other_channels_identify_no_one() -> None:
    truth = oracle()
    truth.page([order("a", " office@shop.EXAMPLE"), order("b", "no-reply-amazon-iba-buyer@amazon.de")])
    truth.page([order("c", programs=["INVOICE_BY_AMAZON"])])
    truth.page([order("d", salesChannel={"channelName": "NON_AMAZON", "marketplaceId": UK})])
    assert set(bases(truth).values()) == {"unidentified"}
    allowed = truth.customers()[frozenset("a")]
    assert (allowed["amazon_name"], allowed["name"]) == ([], ["Ann Lee"])  # R18: the recipient's, shown


def test_r18_a_pick_up_point_gives_the_record_nothing_but_the_buyer() -> None:
    truth = oracle()
    truth.page([order("a", name=None, address={**ADDRESS, "addressType": "PICKUP_POINT"})])
    (allowed,) = truth.customers().values()
    assert (allowed["name"], allowed["phone"], allowed["address"]) == ([], [], [])
    assert truth.orders()["a"]["delivery"]["name"] == "Ann Lee"
    assert truth.orders()["a"]["billing"] is None


def test_r25_each_group_comes_from_the_newest_copy_that_has_it() -> None:
    truth = oracle()
    truth.page([order("a", updated=LATER, status="SHIPPED")])
    withheld = {"city": "York", "postalCode": "YO1", "name": "", "addressLine1": ""}
    truth.page(
        [order("a", None, name=None, status=None, updated=LATEST, address=withheld, items=[line(price=None)])]
    )
    old = line(price="9.00") | {"promotion": {"breakdowns": [{"promotionId": "SPRING"}]}}
    truth.page([order("a", "old@x.uk", name="Old", items=[old])])
    shown = truth.orders()["a"]
    assert (shown["buyer_name"], shown["status"], shown["delivery"]["city"]) == ("Ann", "SHIPPED", "Leeds")
    assert shown["last_updated_at"] == LATEST
    assert shown["lines"][0]["item_total"] == shown["lines"][0]["unit_price"] == "10.00"
    assert shown["lines"][0]["promotion_ids"] == ["SPRING"]  # never seen before: filled by an older copy


def test_r25_of_copies_with_equal_times_the_later_served_wins() -> None:
    truth = oracle()
    truth.page([order("a", name="Ann")])
    truth.page([order("a", name="Anna")])
    assert truth.orders()["a"]["buyer_name"] == "Anna"


def test_r26_an_order_of_an_unknown_marketplace_is_shown_without_customer() -> None:
    truth = oracle()
    truth.page([order("a", marketplace="ELSEWHERE"), order("b", marketplace=None)])
    assert bases(truth) == {"a": None, "b": None}
    assert truth.groups() == set()
    assert "marketplace" not in truth.orders()["a"]


def test_r30_and_r33_a_pending_order_is_hidden_and_cancelled_it_has_no_customer() -> None:
    truth = oracle()
    truth.page([unnamed("a", status="PENDING"), unnamed("b", status="PENDING_AVAILABILITY")])
    assert truth.orders() == {}
    truth.page([order("a", updated=LATER), order("b", status="CANCELLED", updated=LATER)])
    truth.page([order("a", None, name=None, status="CANCELLED", updated=LATEST)])
    assert bases(truth) == {"a": "created", "b": None}  # R32: a was ready, its customer stays
    assert truth.groups() == grouped("a")


def test_r31_a_placeholder_stands_in_without_prices() -> None:
    truth = oracle(pending="placeholder")
    truth.page([unnamed(i, status="PENDING") for i in "abc"])
    assert truth.groups() == grouped("a b c")
    pending = truth.orders()["a"]
    assert (pending["lines"][0]["unit_price"], pending["lines"][0]["item_total"], pending["currency"]) == (
        None,
    ) * 3
    truth.page([order("a", updated=LATER), unnamed("b", status="CANCELLED", updated=LATER)])
    assert bases(truth) == {"a": "created", "b": "placeholder", "c": "placeholder"}
    assert truth.groups() == grouped("a", "b c")


def test_r40_the_sellers_word_is_prime_then_fba_then_new() -> None:
    fba = {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}
    orders = [order("a", programs=["PRIME"], fulfillment=fba), order("b", fulfillment=fba), order("c")]
    words = {"new": "New", "fba": "FBA", "prime": "Prime"}
    for configured, expected in ((words, ["Prime", "FBA", "New"]), ({"fba": "FBA"}, ["FBA", "FBA", None])):
        truth = oracle(order_status=configured)
        truth.page(orders)
        assert [shown["seller_status"] for shown in truth.orders().values()] == expected


def test_r42_money_is_read_line_by_line() -> None:
    def sums(**amounts: str) -> dict[str, Any]:
        moneys = {kind: {"amount": value, "currencyCode": "GBP"} for kind, value in amounts.items()}
        return {
            "proceeds": {"breakdowns": [{"type": kind, "subtotal": money} for kind, money in moneys.items()]}
        }

    facilitated = {"tax": {"taxCollections": [{"model": "MARKETPLACE_FACILITATOR"}]}}
    items = [
        line("1") | sums(ITEM="10.00", TAX="2.00", DISCOUNT="-1.50") | facilitated,
        line("2") | sums(TAX="0.40") | facilitated,
        line("3") | sums(TAX="7", SHIPPING="3", GIFT_WRAP="1"),
    ]
    truth = oracle()
    truth.page([order("a", items=items, proceeds={"grandTotal": {"amount": "22", "currencyCode": "EUR"}})])
    shown = truth.orders()["a"]
    assert (shown["withheld_tax"], shown["total"], shown["currency"]) == ("2.40", "22", "EUR")
    assert [entry["discount"] for entry in shown["lines"]] == ["1.50", None, None]
    assert [entry["shipping"] for entry in shown["lines"]] == [None, None, "3"]


def test_what_a_marketplace_does_not_want_is_dropped() -> None:
    truth = oracle(included_data=["FULFILLMENT", "BUYER"])
    truth.page([order("a")])
    shown = truth.orders()["a"]
    assert (shown["delivery"], shown["lines"][0]["item_total"], shown["buyer_name"]) == (None, None, "Ann")
    assert shown["lines"][0]["unit_price"] == "10.00"  # comes with the product, whatever is requested


def test_a_brazilian_street_is_put_together() -> None:
    street = {"streetName": "Rua A", "streetNumber": "12", "complement": "Apto 3", "neighborhood": "Centro"}
    truth = oracle()
    truth.page(
        [order("a", address={"extendedFields": street, "countryCode": "BR", "municipality": "Santos"})]
    )
    delivery = truth.orders()["a"]["delivery"]
    assert [delivery[f"line{n}"] for n in (1, 2, 3)] == ["Rua A 12", "Apto 3", "Centro"]
    assert delivery["county"] == "Santos"


def test_orders_that_cannot_be_read_are_left_out() -> None:
    truth = oracle()
    truth.poison.add("p")
    broken = line(price="ten")
    truth.page([order("a"), order("p"), order("x", items=[broken]), {"orderId": "y"}, None])
    assert bases(truth) == {"a": "created"}
    assert len(truth.unreadable) == 3


def test_an_export_that_is_right_has_nothing_wrong() -> None:
    truth = oracle(pending="placeholder")
    truth.page(
        [order("a"), order("b"), unnamed("c"), unnamed("d", status="PENDING"), order("e", marketplace=None)]
    )
    orders, customers = faithful(truth)
    for shown in orders:  # the product's own way to write the same
        shown["changed_at"] = None
        shown["created_at"] = shown["created_at"].replace("Z", ".000Z")
        for entry in shown["lines"]:
            entry["unit_price"] = entry["unit_price"] and "10"
    empty = {"customer_id": 9, "emails": [], "status": "active"}  # the placeholder of the other marketplace
    tombstone = {"customer_id": 10, "emails": [], "status": "merged", "merged_into": 1}
    assert compare(truth, orders, [*customers, empty, tombstone]) == []


def test_everything_wrong_in_an_export_is_said_without_buyer_data() -> None:
    truth = oracle()
    truth.page([order("a"), order("b"), order("c", "carl@x.uk"), order("d", "dora@x.uk")])
    orders, customers = faithful(truth)
    a, b, c, d = orders
    b["customer_id"] = c["customer_id"]
    c["delivery"]["city"] = "Elsewhere"
    c["lines"][0]["item_total"] = "10.01"
    d["customer_id"] = None
    del d["total"]
    customers[1]["name"] = "Somebody"
    customers[2]["emails"] = ["Ann@marketplace.amazon.co.uk"]
    assert compare(truth, [a, b, c, d, a | {"order_id": "z"}], customers) == [
        "order z should not be there",
        "order c differs in delivery.city",
        "order c differs in lines[1].item_total",
        "order d differs in total (the key is absent)",
        "orders a, b are one customer's, but on 2 records",
        "customer 2 has orders of different customers: a, c",
        "order d has no customer",
        "customers 1 and 3 have the same e-mail",
        "nobody refers to customer 3",
        "customer 2 differs in name",
    ]
    assert compare(truth, [b, c, d], customers)[0] == "order a is missing"


def test_r10_an_address_that_came_after_the_match_may_reach_the_order_or_not() -> None:
    truth = oracle()
    truth.page([order("a", address=None)])
    truth.page([order("a", updated=LATER)])
    orders, customers = faithful(truth)
    orders[0]["changed_at"] = None
    assert orders[0]["billing"] is None
    assert compare(truth, orders, customers) == []
    orders[0]["billing"] = customers[0]["billing"]
    assert compare(truth, orders, customers) == []
    orders[0]["billing"] = {**customers[0]["billing"], "city": "Elsewhere"}
    assert compare(truth, orders, customers) == ["order a differs in billing"]
