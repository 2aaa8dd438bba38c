"""Amazon's words to ours: groups, datasets, and the seller's words on the order (R40-R43)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import structs
from rich.pretty import pretty_repr

from connectors.orders import (
    GROUPS,
    AmazonAddress,
    AmazonBuyer,
    AmazonOrder,
    AmazonPackage,
    Money,
    TaxRegistration,
)
from poller.matching.marketplace_rules import ALL_DATASETS, DATASETS
from poller.matching.order_copies import merge_copies
from poller.matching.translation import translate
from store.records import Address, Amount, Buyer, OrderRecord, PackageRecord, TaxNumber
from tests.unit.matching_world import DE, T0, UK, World, a_pending_order, an_order, gbp, line, rules_of


def full() -> AmazonOrder:
    return an_order(
        buyer=AmazonBuyer("Ann", "a@x.example", "Buyer Ltd", "PO-7"),
        delivery_instructions="ring twice",
        packages=(AmazonPackage("p1", "DELIVERED", "LEFT", "DHL", "Express", "T1", T0),),
        tax_registrations=(TaxRegistration("BUYER", "VAT", "GB1", "Buyer Ltd"),),
        lines=(
            line(
                discount=gbp("-3.00"),
                withheld_tax=gbp("2.00"),
                promotion_ids=("P1",),
                gift_message="hi",
                quantity_shipped=1,
                cancel_requested=True,
                cancel_request_reason="changed mind",
                cancelled_by="BUYER",
            ),
        ),
    )


def filled_fields(record: OrderRecord) -> set[str]:
    groups = {
        "buyer": (record.buyer,),
        "delivery": (record.delivery, record.delivery_instructions),
        "proceeds": (record.total, record.lines[0].item_total, record.lines[0].discount),
        "price": (record.lines[0].unit_price,),
        "promotion": record.lines[0].promotion_ids,
        "cancellation": (record.cancel_requested, record.cancelled_by, record.cancel_reason),
        "packages": record.packages,
        "tax": record.tax_numbers,
        "withheld": (record.withheld_tax, record.lines[0].withheld_tax),
        "fulfillment": (record.status, record.fulfilled_by, record.lines[0].gift_message),
    }
    return {name for name, values in groups.items() if any(values)}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (AmazonAddress, Address),
        (AmazonBuyer, Buyer),
        (TaxRegistration, TaxNumber),
        (AmazonPackage, PackageRecord),
    ],
)
def test_what_is_copied_whole_has_the_same_members_in_both_vocabularies(
    theirs: type[msgspec.Struct], ours: type[msgspec.Struct]
) -> None:
    assert theirs.__struct_fields__ == ours.__struct_fields__


def test_every_group_has_its_dataset() -> None:
    assert set(DATASETS) == GROUPS
    assert rules_of().included_data == ALL_DATASETS


def test_a_full_copy_fills_every_group_with_its_update_time() -> None:
    record = translate(full(), "acme", rules_of())
    assert filled_fields(record) == GROUPS | {"withheld"}
    assert record.as_of == dict.fromkeys(GROUPS | {"withheld"}, T0)
    assert (record.customer_id, record.match_basis) == (None, None)


@pytest.mark.parametrize("group", sorted(GROUPS - {"fulfillment", "price"}))
def test_what_a_marketplace_did_not_want_is_dropped(group: Any) -> None:
    wanted = ALL_DATASETS - {DATASETS[group]}
    record = translate(full(), "acme", rules_of(included_data=wanted))
    assert group not in record.as_of
    assert group not in filled_fields(record)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_what_a_copy_does_not_carry_is_not_claimed(group: Any) -> None:
    order = full()
    record = translate(replace(order, present=order.present - {group}), "acme", rules_of())
    withheld = set() if group in ("proceeds", "tax") else {"withheld"}
    assert set(record.as_of) == GROUPS - {group} | withheld
    assert group not in filled_fields(record)


def test_the_status_and_the_price_are_kept_whatever_the_list_says() -> None:
    record = translate(full(), "acme", rules_of(included_data=frozenset()))
    assert set(record.as_of) == {"fulfillment", "price"}
    assert record.status == "UNSHIPPED"


@pytest.mark.parametrize("amount", ["-3.00", "3.00"])
def test_a_discount_is_positive_whichever_sign_amazon_gives_it(amount: Any) -> None:
    record = translate(an_order(lines=(line(discount=gbp(amount)),)), "acme", rules_of())
    assert record.lines[0].discount == Amount(Decimal("3.00"), "GBP")


def test_cancellation_of_the_order_is_said_by_its_lines() -> None:
    lines = (
        line("i1"),
        line("i2", cancelled_by="MERCHANT", cancel_reason="no stock"),
        line("i3", cancel_requested=True, cancelled_by="BUYER", cancel_reason="late"),
    )
    record = translate(an_order(lines=lines), "acme", rules_of())
    assert (record.cancel_requested, record.cancelled_by, record.cancel_reason) == (
        True,
        "MERCHANT",
        "no stock",
    )


def test_a_request_alone_gives_its_reason() -> None:
    record = translate(full(), "acme", rules_of())
    assert (record.cancel_requested, record.cancel_reason) == (True, "changed mind")


def test_packages_and_tax_numbers_keep_every_word() -> None:
    record = translate(full(), "acme", rules_of())
    assert record.packages == (PackageRecord("p1", "DELIVERED", "LEFT", "DHL", "Express", "T1", T0),)
    assert record.tax_numbers == (TaxNumber("BUYER", "VAT", "GB1", "Buyer Ltd"),)


def test_prices_of_a_pending_order_of_an_unknown_marketplace_are_not_kept() -> None:
    assert translate(a_pending_order(), "acme", None).total is None
    assert translate(a_pending_order(), "acme", rules_of(pending="placeholder")).total is None
    assert translate(a_pending_order(), "acme", rules_of()).total is not None


@pytest.mark.parametrize(
    ("programs", "fulfilled_by", "names", "expected"),
    [
        (("PRIME",), "AMAZON", {"new": "N", "fba": "F", "prime": "P"}, "P"),
        (("PRIME",), "AMAZON", {"new": "N", "fba": "F"}, "F"),
        (("PRIME",), "AMAZON", {"new": "N"}, "N"),
        ((), "AMAZON", {"new": "N", "fba": "F", "prime": "P"}, "F"),
        ((), "MERCHANT", {"new": "N", "fba": "F", "prime": "P"}, "N"),
        (("PRIME",), "MERCHANT", {"new": "N", "fba": "F", "prime": "P"}, "P"),
        ((), "MERCHANT", {"fba": "F", "prime": "P"}, None),
    ],
)
def test_r40_the_sellers_status_goes_by_precedence_prime_fba_new(
    programs: Any, fulfilled_by: Any, names: Any, expected: Any
) -> None:
    rules = rules_of(**{f"status_{name}": value for name, value in names.items()})
    order = an_order(programs=programs, fulfilled_by=fulfilled_by)
    assert translate(order, "acme", rules).seller_status == expected
    world = World(rules)
    world.sync(order)
    assert world.orders["o1"].seller_status == expected


def test_r41_price_list_and_currency_come_from_the_marketplaces_rules_never_from_an_amount() -> None:
    world = World(rules_of(DE))
    world.sync(an_order(marketplace_id=DE, total=gbp("12.00")))
    assert (world.customer_of().currency, world.customer_of().price_list) == ("EUR", "DE retail")
    assert world.orders["o1"].total == Amount(Decimal("12.00"), "GBP")


def test_r42_withheld_tax_is_kept_apart_and_added_up() -> None:
    lines = (line("i1", withheld_tax=gbp("2.00")), line("i2", withheld_tax=gbp("0.50")), line("i3"))
    record = translate(an_order(lines=lines), "acme", rules_of())
    assert record.withheld_tax == Amount(Decimal("2.50"), "GBP")
    assert [i.tax for i in record.lines] == [Amount(Decimal("2.00"), "GBP")] * 3


@pytest.mark.parametrize("group", ["proceeds", "tax"])
def test_r42_r25_a_copy_without_the_proceeds_or_the_tax_data_does_not_erase_withheld_tax(group: Any) -> None:
    first = an_order(lines=(line(withheld_tax=gbp("2.00")),))
    later = replace(first, last_updated_at=T0 + timedelta(hours=1), present=first.present - {group})
    (merged,) = merge_copies([translate(copy, "acme", rules_of()) for copy in (first, later)], {})
    assert merged.record.withheld_tax == Amount(Decimal("2.00"), "GBP")
    assert merged.record.lines[0].withheld_tax == Amount(Decimal("2.00"), "GBP")
    assert merged.record.as_of["withheld"] == T0


def test_r42_amounts_of_different_currencies_have_no_sum() -> None:
    lines = (line("i1", withheld_tax=gbp("2.00")), line("i2", withheld_tax=Money(Decimal(1), "EUR")))
    record = translate(an_order(lines=lines), "acme", rules_of())
    assert record.withheld_tax is None
    assert record.lines[1].withheld_tax == Amount(Decimal(1), "EUR")


@pytest.mark.parametrize(("total", "withheld"), [(None, "EUR"), ("EUR", "EUR"), ("GBP", None)])
def test_r42_withheld_tax_is_in_the_currency_of_the_total(total: str | None, withheld: str | None) -> None:
    lines = (line("i1", withheld_tax=Money(Decimal(1), "EUR")),)
    paid = None if total is None else Money(Decimal(9), total)
    record = translate(an_order(lines=lines, total=paid), "acme", rules_of())
    assert record.withheld_tax == (None if withheld is None else Amount(Decimal(1), withheld))


def test_other_amounts_are_carried_over_and_a_discount_among_them_is_positive() -> None:
    others = (("COD_FEE", gbp("3.00")), ("DISCOUNT", Money(Decimal(-2), "EUR")))
    order = an_order(lines=(line(other_amounts=others),), own_amounts=(("DELIVERY_TIP", gbp("5.00")),))
    record = translate(order, "acme", rules_of())
    assert record.lines[0].other_amounts == (
        ("COD_FEE", Amount(Decimal("3.00"), "GBP")),
        ("DISCOUNT", Amount(Decimal(2), "EUR")),
    )
    assert record.own_amounts == (("DELIVERY_TIP", Amount(Decimal("5.00"), "GBP")),)
    bare = translate(replace(order, present=order.present - {"proceeds"}), "acme", rules_of())
    assert (bare.own_amounts, bare.lines[0].other_amounts) == ((), ())
    (merged,) = merge_copies([record, structs.replace(bare, last_updated_at=T0 + timedelta(hours=1))], {})
    assert merged.record.own_amounts == record.own_amounts
    assert merged.record.lines[0].other_amounts == record.lines[0].other_amounts


def test_r43_business_data_is_kept_and_matches_no_one() -> None:
    world = World()
    world.sync(
        full(), replace(full(), order_id="o2", buyer=AmazonBuyer("Ann", "b@x.example", "Buyer Ltd", "PO-7"))
    )
    order = world.orders["o1"]
    assert order.buyer is not None
    assert (order.buyer.company, order.buyer.purchase_order_number) == ("Buyer Ltd", "PO-7")
    assert order.tax_numbers[0].number == "GB1"
    assert world.customer_of("o1").company == "Buyer Ltd"
    assert order.customer_id != world.orders["o2"].customer_id


def test_labels_of_an_order_are_its_marketplaces() -> None:
    world = World(rules_of(UK, labels={"warehouse": "north"}))
    world.sync(an_order())
    assert world.orders["o1"].labels == {"warehouse": "north"}
    assert world.customer_of().labels == {}


def test_a_record_without_customer_shows_no_buyer_data_in_its_repr() -> None:
    record = translate(full(), "acme", rules_of())
    text = repr(record)
    private = ("Ann", "a@x.example", "High Street", "GB1", "ring twice", "gift_message", "changed mind")
    assert [word for word in private if word in text + pretty_repr(record)] == []
    assert "o1" in text


def test_times_stay_aware() -> None:
    assert translate(full(), "acme", None).created_at == datetime(2026, 5, 1, 12, tzinfo=UTC)
