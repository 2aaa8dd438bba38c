"""Orders in their tables: new, changed by group, left alone, and sealed each in its own place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from connectors.orders import AmazonLine, AmazonPackage, Money, TaxRegistration
from poller.matching.match import OrderWrite
from poller.matching.statuses import PENDING, UNDER_WAY
from poller.matching.translation import translate
from store import orders
from store.engine import Store, create_engine
from store.records import Address, Amount, Buyer, LineRecord, OrderRecord, PackageRecord, TaxNumber
from store.sealing import Sealer
from store.tables import order_lines
from store.tables import orders as table
from tests.harness import SimulatedClock
from tests.integration.store_world import (
    KEY,
    NOON,
    UK,
    apply,
    count,
    exported,
    fresh_store,
    order,
    row,
    rules_of,
)
from tests.unit.matching_world import OTHER_HOME, T0, after, an_order, gbp, line


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    with fresh_store(database_url):
        opened = Store(create_engine(database_url), Sealer([KEY]), clock=clock)
        yield opened
        opened.close()


def full(**changes: Any) -> OrderRecord:
    """A record in which nothing is empty but the customer."""
    lines = (
        line(
            "i1",
            tax=gbp("2.00"),
            shipping=gbp("3.10"),
            discount=gbp("-1.00"),
            gift_wrap=gbp("0.50"),
            withheld_tax=gbp("2.00"),
            quantity_shipped=1,
            promotion_ids=("SALE, with a comma", "TWO"),
            gift_message="Many happy returns",
            customization_url="https://example.com/custom",
            cancel_requested=True,
            cancelled_by="BUYER",
            cancel_reason="Changed my mind",
            asin="B0",
            title="A kettle",
        ),
        line("i2", unit_price=None, item_total=None, tax=None),
    )
    package = AmazonPackage("1", "IN_TRANSIT", "OUT", "Carrier", "Ground", "TRK1", after(5))
    whole = an_order(
        lines=lines,
        packages=(package, replace(package, reference="2", shipped_at=None)),
        programs=("PRIME", "AMAZON_BUSINESS"),
        seller_order_id="SHOP-1",
        replaces="o0",
        delivery_instructions="Behind the shed",
        service_level="STANDARD",
        ship_by=after(100),
        deliver_by=after(200),
        tax_registrations=(TaxRegistration("BUYER", "VAT", "XX1", None),),
    )
    record = translate(whole, "acme", rules_of(UK, status_new="New", labels={"channel": "Amazon UK"}))
    billing = Address(name="Ann", line1="1 High Street", country="GB")
    return replace(record, **({"billing": billing} | changes))


def save(store: Store, *writes: OrderWrite, walk: int | None = None) -> int:
    with store.begin() as tx:
        stored = orders.load_rows(tx, "acme", [w.record.order_id for w in writes])
        return orders.save(tx, writes, stored, walk=walk)


def new(record: OrderRecord) -> OrderWrite:
    return OrderWrite(record, is_new=True, core=True, groups=frozenset(record.as_of), billing=True)


def known(record: OrderRecord, *groups: str, core: bool = False, billing: bool = False) -> OrderWrite:
    return OrderWrite(record, is_new=False, core=core, groups=frozenset(groups), billing=billing)


def change_no(store: Store, order_id: str = "o1") -> int:
    return int(row(store, table, order_id=order_id)["change_no"])


def test_a_new_order_comes_back_as_it_was_saved(store: Store) -> None:
    record = full()
    assert save(store, new(record)) == 1
    found = order(store)
    assert found == replace(record, first_seen_at=NOON, changed_at=NOON)
    assert found.lines == record.lines
    assert found.as_of == dict.fromkeys(record.as_of, T0)


def test_a_page_of_new_orders_is_saved_at_once_in_its_order(store: Store) -> None:
    page = [new(full(order_id=f"o{i}")) for i in range(5)]
    assert save(store, *page) == 5
    keys = [row(store, table, order_id=f"o{i}")["order_key"] for i in range(5)]
    assert keys == sorted(keys)
    assert count(store, order_lines) == 10


def test_two_accounts_may_have_an_order_of_the_same_id(store: Store) -> None:
    save(store, new(full()), new(full(account="beta")))
    assert count(store, table) == 2
    with pytest.raises(sa.exc.IntegrityError):
        save(store, new(full()))


EMPTY = {
    "buyer": Buyer(name="Someone Else"),
    "delivery": Address(name="Else", country="FR"),
    "delivery_instructions": None,
    "total": Amount(Decimal("1.00"), "GBP"),
    "status": "SHIPPED",
    "fulfilled_by": "AMAZON",
    "service_level": None,
    "ship_by": None,
    "deliver_by": None,
    "cancel_requested": False,
    "cancelled_by": None,
    "cancel_reason": None,
    "packages": (),
    "tax_numbers": (TaxNumber("BUYER", "VAT", "XX2", "Else Ltd"),),
    "withheld_tax": None,
}
CORE: dict[str, Any] = {
    "last_updated_at": after(50),
    "channel": "NON_AMAZON",
    "programs": (),
    "seller_order_id": "SHOP-2",
    "replaces": "o9",
}
OF_GROUP = {
    "fulfillment": ("status", "fulfilled_by", "service_level", "ship_by", "deliver_by"),
    "buyer": ("buyer",),
    "delivery": ("delivery", "delivery_instructions"),
    "proceeds": ("total",),
    "cancellation": ("cancel_requested", "cancelled_by", "cancel_reason"),
    "packages": ("packages",),
    "tax": ("tax_numbers",),
    "withheld": ("withheld_tax",),
}


@pytest.mark.long
@pytest.mark.parametrize("group", sorted(OF_GROUP))
def test_an_update_writes_the_groups_that_it_names_and_keeps_all_others(store: Store, group: str) -> None:
    before = full()
    save(store, new(before))
    copy = replace(before, billing=None, **EMPTY, **CORE)
    assert save(store, known(copy, group)) == 1
    written = {name: EMPTY[name] for name in OF_GROUP[group]}
    expected = replace(before, first_seen_at=NOON, changed_at=NOON, **written)
    assert order(store) == expected


def test_an_update_of_the_core_keeps_the_groups_and_the_billing_address(store: Store) -> None:
    before = full()
    save(store, new(before))
    as_of = dict.fromkeys(before.as_of, T0)
    copy = replace(before, billing=None, **EMPTY, **CORE, as_of=as_of)
    save(store, known(copy, core=True))
    found = order(store)
    assert found == replace(before, first_seen_at=NOON, changed_at=NOON, **CORE)
    assert found.as_of == as_of


def test_the_billing_address_is_written_only_when_it_was_copied(store: Store) -> None:
    save(store, new(full()))
    moved = full(billing=Address(name="Ann", line1="9 New Road", country="IE"))
    assert save(store, known(moved)) == 0
    assert save(store, known(moved, billing=True)) == 1
    assert order(store).billing == moved.billing
    assert row(store, table)["billing_country"] == "IE"


def test_an_equal_copy_writes_nothing(store: Store, clock: SimulatedClock) -> None:
    record = full()
    save(store, new(record))
    before = row(store, table)
    clock.sleep(60)
    again = known(record, *record.as_of, core=True, billing=True)
    assert save(store, again) == 0
    assert row(store, table) == before
    assert exported(store, before["change_no"])[0] == []


def test_a_change_is_dated_and_gets_a_new_position(store: Store, clock: SimulatedClock) -> None:
    save(store, new(full()))
    before = change_no(store)
    clock.sleep(60)
    assert save(store, known(full(status="SHIPPED"), "fulfillment")) == 1
    found = order(store)
    assert found.changed_at == NOON + timedelta(seconds=60)
    assert found.first_seen_at == NOON
    assert change_no(store) > before


def test_a_change_of_nothing_but_a_line_counts_as_a_change_of_the_order(store: Store) -> None:
    record = full()
    save(store, new(record))
    before = change_no(store)
    lines = (replace(record.lines[0], gift_message="Better luck"), record.lines[1])
    assert save(store, known(replace(record, lines=lines), "fulfillment")) == 1
    assert order(store).lines == lines
    assert change_no(store) > before


def test_an_older_copy_fills_only_the_groups_never_seen(store: Store) -> None:
    apply(store, an_order(updated=60, delivery=None, absent={"delivery"}, status="SHIPPED"))
    apply(store, an_order(updated=30, name="An Older Name", delivery=OTHER_HOME, status="UNSHIPPED"))
    found = order(store)
    assert found.delivery is not None
    assert found.delivery.line1 == OTHER_HOME.line1
    assert found.status == "SHIPPED"
    assert found.buyer is not None
    assert found.buyer.name == "Ann Buyer"
    assert found.last_updated_at == after(60)
    assert found.as_of["delivery"] == after(30)
    assert found.as_of["buyer"] == after(60)


def test_an_older_copy_with_nothing_new_writes_nothing(store: Store) -> None:
    apply(store, an_order(updated=60))
    before = row(store, table)
    assert apply(store, an_order(updated=30, name="An Older Name", status="PENDING")).changed == 0
    assert row(store, table) == before


# --- lines ----------------------------------------------------------------------------------------


def item_ids(store: Store) -> list[str]:
    return [one.order_item_id for one in order(store).lines]


def test_the_newest_copy_says_which_lines_there_are(store: Store) -> None:
    apply(store, an_order(lines=(line("i1"), line("i2"))))
    apply(store, an_order(updated=10, lines=(line("i3"), line("i2", quantity=7))))
    assert item_ids(store) == ["i3", "i2"]
    assert order(store).lines[1].quantity == 7
    apply(store, an_order(updated=5, lines=(line("i1"), line("i2"), line("i4"))))
    assert item_ids(store) == ["i3", "i2"]
    apply(store, an_order(updated=20, lines=()))
    assert item_ids(store) == ["i3", "i2"]


BARE: dict[str, Any] = {"sku": None, "asin": None, "title": None}


@pytest.mark.long
@pytest.mark.parametrize("updated", [5, 10, 20], ids=["older", "equally old", "newer"])
@pytest.mark.parametrize("together", [False, True], ids=["two pages", "one page"])
def test_r25_a_copy_without_items_programs_or_product_erases_none(
    store: Store, updated: float, together: bool
) -> None:
    whole = an_order(updated=10, programs=("PRIME",), lines=(line("i1", title="A title"), line("i2")))
    lacking = [
        an_order(updated=updated, programs=("PRIME",), lines=()),
        an_order(updated=updated, programs=(), lines=(line("i1", **BARE), line("i2", **BARE))),
    ]
    for copy in lacking:
        apply(store, whole, copy) if together else (apply(store, whole), apply(store, copy))
        stored = order(store)
        assert [(i.order_item_id, i.sku, i.title, i.quantity) for i in stored.lines] == [
            ("i1", "SKU", "A title", 1),
            ("i2", "SKU", None, 1),
        ]
        assert stored.programs == ("PRIME",)
        assert stored.last_updated_at == after(max(10, updated))


@pytest.mark.parametrize(
    "lacking", [{"lines": ()}, {"lines": (line("i1", **BARE),)}], ids=["items", "product"]
)
def test_r25_an_older_copy_brings_the_items_programs_or_product_that_the_newer_one_lacks(
    store: Store, lacking: dict[str, Any]
) -> None:
    apply(store, an_order(updated=20, programs=(), **lacking))
    apply(store, an_order(updated=10, programs=("PRIME",), lines=(line("i1", quantity=7, title="A title"),)))
    stored = order(store)
    assert [(i.order_item_id, i.sku, i.title) for i in stored.lines] == [("i1", "SKU", "A title")]
    assert stored.programs == ("PRIME",)
    assert stored.last_updated_at == after(20)


# Source: members of another type than Amazon's model says; a label of that kind is read as if it were absent.
def test_r25_a_label_that_cannot_be_read_does_not_erase_the_stored_one(store: Store) -> None:
    apply(store, an_order(deliver_by=after(60), service_level="STANDARD", lines=(line(title="A title"),)))
    odd = an_order(
        updated=10,
        status="SHIPPED",
        service_level="EXPEDITED",
        lines=(line(sku="NEW-SKU", quantity=7),),
        unread=frozenset({"deliver_by", "title"}),
    )
    apply(store, odd)
    stored = order(store)
    assert (stored.status, stored.deliver_by, stored.service_level) == ("SHIPPED", after(60), "EXPEDITED")
    assert [(i.sku, i.title, i.quantity) for i in stored.lines] == [("NEW-SKU", "A title", 7)]
    apply(store, dataclasses.replace(odd, last_updated_at=after(20), unread=frozenset()))
    stored = order(store)
    assert (stored.deliver_by, stored.lines[0].title) == (None, None)


@pytest.mark.parametrize("later_brings", [True, False])
def test_r25_of_two_copies_on_one_page_each_brings_what_can_be_read(store: Store, later_brings: bool) -> None:
    apply(store, an_order(deliver_by=after(60)))
    odd = an_order(updated=10, unread=frozenset({"deliver_by"}))
    absent = set[str]() if later_brings else {"fulfillment"}
    apply(store, odd, an_order(updated=20, deliver_by=after(90), absent=absent))
    assert order(store).deliver_by == after(90 if later_brings else 60)


# Source: amzn/selling-partner-api-models#5127, packages come without members that Amazon's model promises.
def test_r25_a_package_keeps_the_labels_that_the_newer_copy_lacks(store: Store) -> None:
    first = AmazonPackage("1", "IN_TRANSIT", "AT_DEPOT", "Post", "48", "T1", after(1))
    other = AmazonPackage("2", "IN_TRANSIT", tracking_number="T2")
    apply(store, an_order(status="SHIPPED", packages=(first, other)))
    bare = (AmazonPackage(None, "DELIVERED", tracking_number="T1"), AmazonPackage(None, "IN_TRANSIT"))
    apply(store, an_order(updated=10, status="SHIPPED", packages=bare))
    assert order(store).packages == (
        PackageRecord("1", "DELIVERED", None, "Post", "48", "T1", after(1)),
        PackageRecord(None, "IN_TRANSIT"),
    )


def test_a_line_keeps_the_groups_that_a_newer_copy_lacks(store: Store) -> None:
    first = line("i1", shipping=gbp("3.00"), promotion_ids=("SALE",), gift_message="For you")
    apply(store, an_order(lines=(first,)))
    bare = line("i1", title="A new title", item_total=None, tax=None)
    lacking = {"proceeds", "promotion", "fulfillment"}
    apply(store, an_order(updated=10, lines=(bare,), absent=lacking, total=None))
    (found,) = order(store).lines
    assert found.title == "A new title"
    assert found.shipping == Amount(Decimal("3.00"), "GBP")
    assert found.item_total == Amount(Decimal("10.00"), "GBP")
    assert found.promotion_ids == ("SALE",)
    assert found.gift_message == "For you"


# Source: a line of the Emirates with its item in AED and its tax in USD; fees and tips that had no field.
def test_amounts_without_a_field_and_in_other_currencies_come_back_as_they_were(store: Store) -> None:
    aed, usd = (Money(Decimal("50.00"), "AED"), Money(Decimal("0.6800"), "USD"))
    others = (("TAX", usd), ("COD_FEE", Money(Decimal(3), "AED")))
    abroad = line(unit_price=usd, item_total=aed, tax=None, withheld_tax=usd, other_amounts=others)
    tip = (("DELIVERY_TIP", Money(Decimal("1E+1"), "USD")),)
    copy = an_order(lines=(abroad,), total=Money(Decimal("23.61"), "USD"), own_amounts=tip)
    apply(store, copy)
    stored = order(store)
    (found,) = stored.lines
    assert (found.item_total, found.tax) == (Amount(Decimal("50.00"), "AED"), None)
    assert (found.unit_price, found.withheld_tax) == (None, None), "a line has one currency"
    assert [(kind, str(a.amount), a.currency) for kind, a in found.other_amounts] == [
        ("TAX", "0.6800", "USD"),
        ("COD_FEE", "3", "AED"),
    ]
    assert stored.own_amounts == (("DELIVERY_TIP", Amount(Decimal(10), "USD")),)
    assert stored.withheld_tax == Amount(Decimal("0.6800"), "USD")
    orders, _, position = exported(store)
    assert (orders[0]["withheld_tax"], orders[0]["unexplained"]) == ("0.6800", "12.9300")
    apply(store, copy)
    assert exported(store, position)[0] == [], "an equal copy changes nothing"


def _priced(currency: str, **changes: Any) -> AmazonLine:
    price = Money(Decimal(7), currency)
    return line(unit_price=price, item_total=price, tax=None, **changes)


@pytest.mark.parametrize(
    ("updated", "absent", "expected"),
    [
        (10, set(), ("EUR", "EUR", "EUR")),
        (10, {"price"}, ("EUR", None, "EUR")),
        (10, {"proceeds"}, ("GBP", None, "GBP")),
        (-10, set(), ("GBP", "GBP", "GBP")),
    ],
)
def test_copies_of_a_line_in_two_currencies_leave_it_with_one(
    store: Store, updated: float, absent: set[str], expected: Any
) -> None:
    apply(store, an_order(lines=(_priced("GBP"),)))
    apply(store, an_order(updated=updated, lines=(_priced("EUR"),), absent=absent))
    (found,) = order(store).lines
    currency, unit_price, item_total = expected
    assert row(store, order_lines)["currency"] == currency
    assert (found.unit_price and found.unit_price.currency) == unit_price
    assert found.item_total is not None
    assert found.item_total.currency == item_total


def test_an_older_copy_brings_its_amounts_with_their_currency(store: Store) -> None:
    apply(store, an_order(lines=(_priced("GBP"),), absent={"proceeds"}, total=None))
    apply(store, an_order(updated=-10, lines=(_priced("EUR"),)))
    (found,) = order(store).lines
    assert (found.unit_price, found.item_total) == (None, Amount(Decimal(7), "EUR"))


def test_the_amounts_that_a_line_keeps_keep_their_currency(store: Store) -> None:
    record = full()
    save(store, new(record))
    bare = tuple(LineRecord(one.order_item_id, one.quantity) for one in record.lines)
    save(store, known(replace(record, lines=bare), core=True))
    assert order(store).lines[0].shipping == Amount(Decimal("3.10"), "GBP")


# --- sealed, each in its own place ----------------------------------------------------------------

ORDER_SEALED = ("buyer", "delivery", "delivery_instructions", "billing", "tax_numbers", "cancel_reason")


@pytest.mark.parametrize("column", ORDER_SEALED)
def test_a_sealed_value_moved_to_another_order_does_not_open(store: Store, column: str) -> None:
    save(store, new(full()), new(full(order_id="o2")))
    stolen = row(store, table, order_id="o2")[column]
    with store.begin() as tx:
        moved = sa.update(table).where(table.c.order_id == "o1").values({column: stolen})
        tx.conn.execute(moved)
    assert order(store).unreadable == (column,)
    assert order(store, "o2").unreadable == ()


def test_a_sealed_value_moved_to_another_column_or_line_does_not_open(store: Store) -> None:
    record = full()
    lines = (record.lines[0], replace(record.lines[0], order_item_id="i2"))
    save(store, new(replace(record, lines=lines)))
    for source, target in (("i1", "i2"), ("i1", "i1")):
        values = row(store, order_lines, order_item_id=source)
        column = "gift_message" if source != target else "customization_url"
        with store.begin() as tx:
            change = sa.update(order_lines).where(order_lines.c.order_item_id == target)
            tx.conn.execute(change.values({column: values["gift_message"]}))
        moved_to = next(line for line in order(store).lines if line.order_item_id == target)
        assert moved_to.unreadable == (column,)
        with store.begin() as tx:
            whole = sa.update(order_lines).where(order_lines.c.order_item_id == target)
            tx.conn.execute(whole.values({column: None}))


def test_what_is_sealed_is_not_opened_to_carry_it_over(store: Store) -> None:
    record = full()
    save(store, new(record))
    before = row(store, table)
    save(store, known(replace(record, status="SHIPPED"), "fulfillment"))
    after_it = row(store, table)
    for column in ORDER_SEALED:
        assert after_it[column] == before[column]


# --- walks, and orders to look at again -----------------------------------------------------------


def test_a_walk_recognises_the_orders_that_it_has_brought_before(store: Store) -> None:
    page = [an_order("o1"), an_order("o2", "bea@example.com")]
    assert apply(store, *page, walk=7).seen_by_walk == 0
    assert apply(store, page[1], an_order("o3", "cid@example.com"), walk=7).seen_by_walk == 1
    assert apply(store, *page, walk=7).seen_by_walk == 2
    assert apply(store, *page, walk=8).seen_by_walk == 0
    assert apply(store, *page).seen_by_walk == 0
    assert row(store, table, order_id="o1")["walk"] == 8


def test_the_mark_of_a_walk_is_no_change_of_the_order(store: Store) -> None:
    apply(store, an_order())
    before = change_no(store)
    assert apply(store, an_order(), walk=7).changed == 0
    assert change_no(store) == before


def nth(store: Store, number: int, **changes: Any) -> datetime | None:
    asked: dict[str, Any] = {
        "account": "acme",
        "marketplace_ids": [UK],
        "after": T0,
        "before": after(50),
    }
    with store.read() as tx:
        return orders.nth_updated(tx, number=number, **(asked | changes))


def test_the_nth_stored_order_of_a_range_says_where_a_page_would_be_full(store: Store) -> None:
    apply(store, *(an_order(f"o{n}", updated=n) for n in (3, 1, 2)))
    assert [nth(store, n) for n in (1, 2, 3, 4)] == [after(1), after(2), after(3), None]
    assert nth(store, 1, after=after(1)) == after(2)
    assert nth(store, 3, before=after(2)) is None
    assert nth(store, 1, marketplace_ids=["other"]) is None
    assert nth(store, 1, account="beta") is None


def stale(store: Store) -> list[str]:
    with store.read() as tx:
        found = orders.stale(tx, "acme", [UK], 10, pending=PENDING, under_way=UNDER_WAY)
        return [order_id for order_id, _ in found]


def test_orders_long_pending_or_late_are_refetched_once_a_day(store: Store, clock: SimulatedClock) -> None:
    old = NOON - timedelta(days=8)
    young: dict[str, Any] = {"created_at": NOON, "last_updated_at": NOON}
    late: dict[str, Any] = {"ship_by": NOON - timedelta(hours=1)}
    nobody: dict[str, Any] = {"email": None, "name": None}
    apply(
        store,
        an_order("pending-old", **nobody, status="PENDING", created_at=old),
        an_order("pending-young", **nobody, status="PENDING", **young),
        an_order("statusless-old", **nobody, status=None, created_at=old),
        an_order("statusless-young", **nobody, status=None, **young),
        an_order("late", **late),
        an_order("in-time", ship_by=NOON + timedelta(hours=1)),
        an_order("shipped", status="SHIPPED", **late),
        an_order("other-marketplace", marketplace_id="A1PA6795UKMFR9", **late),
    )
    assert sorted(stale(store)) == ["late", "pending-old", "statusless-old"]
    with store.begin() as tx:
        orders.mark_refetch_tried(tx, "acme", "late")
    assert sorted(stale(store)) == ["pending-old", "statusless-old"]
    clock.sleep(25 * 3600)
    assert set(stale(store)) == {"late", "statusless-old", "pending-old", "in-time"}
    assert stale(store)[-1] == "late"
