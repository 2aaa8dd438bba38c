"""R60, R61 and R63 as decisions: terms, what is left, and what matching does with what came too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from connectors.orders import AmazonOrder, AmazonPackage, TaxRegistration
from poller.matching.emails import relevant_emails
from poller.matching.match import Known, match
from poller.matching.retention import (
    KEEP_ALL,
    Retention,
    as_if_withheld,
    erased,
    explain,
    forgotten,
    months_before,
    quarantine_term,
    term,
    without_buyer_data,
)
from poller.matching.translation import translate
from store.records import Address, Amount, CustomerRecord, MainEmail, OrderRecord
from tests.unit.matching_world import T0, UK, World, after, an_order, line, rules_of

ANN = "ann@marketplace.amazon.co.uk"
DAY = 24 * 60
MONTH = Retention(30, 18)


def day(number: float) -> datetime:
    return T0 + timedelta(days=number)


def package(status: str, shipped: float | None = None, reference: str = "p1") -> AmazonPackage:
    return AmazonPackage(reference, status, shipped_at=None if shipped is None else day(shipped))


def copy(updated: float, **changes: Any) -> OrderRecord:
    """A translated copy that was updated on a day."""
    return translate(an_order(updated=updated * DAY, **changes), "acme", rules_of(UK))


# --- R60: the term --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "at", "stage"),
    [
        (copy(3, status="SHIPPED", packages=(package("DELIVERED", 1),)), 3, "delivered"),
        (copy(3, status="SHIPPED", packages=(package("DELIVERED", 1), package("CANCELLED"))), 3, "delivered"),
        (copy(3, status="SHIPPED", packages=(package("IN_TRANSIT", 1),), deliver_by=day(5)), 5, "shipped"),
        (copy(8, status="SHIPPED", packages=(package("IN_TRANSIT", 7),), deliver_by=day(5)), 7, "shipped"),
        (copy(8, status="SHIPPED", packages=(package("SHIPPED", 2), package("SHIPPED", 4))), 4, "shipped"),
        (copy(8, status="SHIPPED", packages=(package("UNDELIVERABLE", 2),), deliver_by=day(5)), 5, "shipped"),
        (copy(8, status="SHIPPED", packages=(package("DELIVERED", 2), package("SHIPPED", 6))), 6, "shipped"),
        (copy(4, status="SHIPPED", fulfilled_by="AMAZON"), 4, "shipped"),
        (copy(4, status="SHIPPED", fulfilled_by="AMAZON", deliver_by=day(6)), 6, "shipped"),
        (copy(2, status="CANCELLED", deliver_by=day(6)), 2, "cancelled"),
        (copy(2, status="UNSHIPPED", deliver_by=day(6)), 92, "open"),
        (copy(2, status="PARTIALLY_SHIPPED", packages=(package("DELIVERED", 1),)), 92, "open"),
        (copy(2, status="PENDING"), 92, "open"),
        (copy(2, status="A_NEW_WORD"), 92, "open"),
    ],
)
def test_r60_the_term_of_an_order(order: OrderRecord, at: float, stage: str) -> None:
    assert term(order) == (day(at), stage)


def test_r60_the_oldest_copy_that_showed_it_delivered_counts() -> None:
    world = World()
    delivered: dict[str, Any] = {"status": "SHIPPED", "packages": (package("DELIVERED", 1),)}
    world.sync(an_order(updated=9 * DAY, **delivered))
    assert world.orders["o1"].term_at == day(9)
    world.sync(an_order(updated=4 * DAY, **delivered))
    world.sync(an_order(updated=20 * DAY, **delivered))
    assert world.orders["o1"].term_at == day(4)


def test_r60_another_package_makes_it_undelivered_again() -> None:
    world = World()
    world.sync(an_order(updated=4 * DAY, status="SHIPPED", packages=(package("DELIVERED", 1),)))
    both = (package("DELIVERED", 1), package("IN_TRANSIT", 6, "p2"))
    world.sync(an_order(updated=6 * DAY, status="SHIPPED", packages=both))
    assert term(world.orders["o1"]) == (day(6), "shipped")


_STATUSES = ("UNSHIPPED", "SHIPPED", "CANCELLED", "PENDING")
_PACKAGES = ((), (package("DELIVERED", 1),), (package("IN_TRANSIT", 2),))


@given(
    kinds=st.lists(st.tuples(st.sampled_from(_STATUSES), st.sampled_from(_PACKAGES)), min_size=2, max_size=4),
    data=st.data(),
)
def test_r60_the_order_of_arrival_does_not_change_the_term(kinds: Any, data: st.DataObject) -> None:
    copies = [an_order(updated=i * DAY, status=s, packages=p) for i, (s, p) in enumerate(kinds)]
    terms = []
    for arrival in (copies, data.draw(st.permutations(copies))):
        world = World()
        for each in arrival:
            world.sync(each)
        terms.append(world.orders["o1"].term_at)
    assert terms[0] == terms[1]


ANY_TIME = st.datetimes(timezones=st.just(UTC))
"""From the year 1 to the year 9999."""
LAST = datetime.max.replace(tzinfo=UTC)


# Source: a promised delivery on 9999-12-31 ended `orders explain` with OverflowError.
@given(
    updated=ANY_TIME,
    promised=st.none() | ANY_TIME,
    shipped=st.none() | ANY_TIME,
    status=st.sampled_from(_STATUSES),
    state=st.sampled_from(("DELIVERED", "IN_TRANSIT")),
    days=st.none() | st.integers(0, 36_500),
)
def test_r60_any_date_of_amazon_s_has_a_term_and_an_explanation(
    updated: datetime,
    promised: datetime | None,
    shipped: datetime | None,
    status: str,
    state: str,
    days: int | None,
) -> None:
    packages = (AmazonPackage("p1", state, shipped_at=shipped),)
    copied = replace(an_order(status=status, packages=packages, deliver_by=promised), last_updated_at=updated)
    order = translate(copied, "acme", rules_of(UK))
    known = {updated, promised, shipped} - {None}
    at = term(order).at
    assert at in known or at - updated == min(timedelta(days=90), LAST - updated)
    assert explain(order, Retention(days, 18)).startswith("R60: Buyer data is kept")
    assert "R60" in explain(structs.replace(order, erased_at=updated), Retention(days, 18))
    assert quarantine_term(promised, updated) >= min(updated, promised or updated)


def test_r60_a_payload_in_quarantine_counts_from_its_last_update() -> None:
    assert quarantine_term(None, day(1)) == day(91)
    assert quarantine_term(day(-5), day(1)) == day(85)
    assert quarantine_term(day(900), day(1)) == day(91), "a time to come is no excuse"


# --- R60: what is left ----------------------------------------------------------------------------

FULL = AmazonOrder(
    **{
        **{name: getattr(an_order(), name) for name in AmazonOrder.__dataclass_fields__},
        "lines": (line(gift_message="For you", customization_url="https://x/y", cancel_reason="No more"),),
        "tax_registrations": (TaxRegistration("BUYER", "VAT", "GB1", "Ann Ltd"),),
        "delivery_instructions": "By the door",
    }
)


def test_r60_amounts_products_dates_and_countries_stay() -> None:
    whole = translate(FULL, "acme", rules_of(UK))
    left = without_buyer_data(whole)
    assert (left.buyer, left.tax_numbers, left.delivery_instructions, left.cancel_reason) == (
        None,
        (),
        None,
        None,
    )
    assert left.delivery == Address(country="GB")
    assert (left.lines[0].gift_message, left.lines[0].customization_url) == (None, None)
    assert left.lines[0].item_total == whole.lines[0].item_total
    assert (left.lines[0].sku, left.total, left.created_at) == ("SKU", whole.total, whole.created_at)


def test_r60_a_billing_address_that_was_entered_by_hand_stays_on_the_order() -> None:
    address = Address(name="Ann", line1="1 Office Road", country="GB")
    order = structs.replace(translate(FULL, "acme", rules_of(UK)), billing=address)
    assert without_buyer_data(order).billing == Address(country="GB")
    for origin in ("hand", "import"):
        assert without_buyer_data(structs.replace(order, billing_origin=origin)).billing == address


def a_record(**changes: Any) -> CustomerRecord:
    home = Address(name="Ann", line1="1 High Street", country="GB")
    amazons = dict.fromkeys(("name", "company", "amazon_name", "phone", "billing", "delivery"), "amazon")
    values: dict[str, Any] = {
        "name": "Ann",
        "company": "Ann & Co",
        "amazon_name": "Ann",
        "phone": "0113",
        "billing": home,
        "delivery": home,
        "emails": (MainEmail(1, ANN, "amazon"),),
        "aliases": ("old@marketplace.amazon.co.uk",),
        "price_list": "UK retail",
        "labels": {"vip": "yes"},
        "origins": amazons | {"price_list": "amazon", "labels": "hand"},
    }
    return CustomerRecord("acme", "acme", "UK", T0, customer_id=7, **{**values, **changes})


def test_r60_r61_of_a_record_from_amazon_the_hash_and_the_country_stay() -> None:
    left = erased(a_record())
    assert (left.name, left.company, left.amazon_name, left.phone, left.aliases) == (
        None,
        None,
        None,
        None,
        (),
    )
    assert left.billing == left.delivery == Address(country="GB")
    assert left.emails == (MainEmail(1, None, "amazon"),)
    assert left.origins == {"price_list": "amazon", "labels": "hand"}
    assert (left.price_list, left.labels, left.status) == ("UK retail", {"vip": "yes"}, "active")
    assert erased(left) == left


@pytest.mark.parametrize("origin", ["hand", "import"])
def test_r60_what_was_entered_or_imported_stays(origin: Any) -> None:
    emails = (MainEmail(1, ANN, "amazon"), MainEmail(2, "ann@home.example", origin))
    mixed = a_record(
        emails=emails,
        aliases=("ann@work.example", "old@marketplace.amazon.co.uk"),
        origins={
            "name": origin,
            "phone": origin,
            "billing": origin,
            "company": "amazon",
            "delivery": "amazon",
        },
    )
    left = erased(mixed)
    assert (left.name, left.phone, left.company) == ("Ann", "0113", None)
    assert (left.billing, left.delivery) == (mixed.billing, Address(country="GB"))
    assert left.emails == (MainEmail(1, None, "amazon"), emails[1])
    assert left.aliases == ("ann@work.example",)


def test_r60_a_field_that_was_emptied_by_hand_stays_emptied() -> None:
    left = erased(a_record(name=None, origins={"name": "hand"}))
    assert left.origins == {"name": "hand"}


# --- R61, R62 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "months", "then"),
    [
        ((2026, 7, 31), 18, (2025, 1, 31)),
        ((2026, 8, 31), 18, (2025, 2, 28)),
        ((2025, 8, 30), 18, (2024, 2, 29)),
        ((2026, 1, 15), 1, (2025, 12, 15)),
        ((2026, 12, 1), 12, (2025, 12, 1)),
    ],
)
def test_r61_months_are_those_of_the_calendar(now: Any, months: int, then: Any) -> None:
    noon = time(12, tzinfo=UTC)
    assert months_before(datetime.combine(date(*now), noon), months) == datetime.combine(date(*then), noon)


def test_r60_r61_off_erases_nothing() -> None:
    assert (KEEP_ALL.over_since(T0), KEEP_ALL.unknown_since(T0)) == (None, None)


def test_r62_of_a_forgotten_person_nothing_is_left_not_even_what_was_entered_by_hand() -> None:
    by_hand = dict.fromkeys(("name", "phone", "billing", "price_list", "labels"), "hand")
    record = a_record(external_id="C-1", origins=by_hand, emails=(MainEmail(1, "a@home.example", "hand"),))
    left = forgotten(record)
    assert left == CustomerRecord(
        "acme",
        "acme",
        "UK",
        T0,
        customer_id=7,
        status="forgotten",
        price_list="UK retail",
        origins={"price_list": "hand"},
    )
    tombstone = forgotten(a_record(status="merged", merged_into=3))
    assert (tombstone.status, tombstone.merged_into, tombstone.name) == ("merged", 3, None)


# --- R63: what comes too late ---------------------------------------------------------------------


class Late(World):
    """A naive store whose matching knows the terms."""

    now = day(60)

    def apply(self, copies: list[OrderRecord]) -> Any:
        stored = {i: structs.replace(o, lines=()) for i, o in self.orders.items()}
        emails = relevant_emails([*copies, *stored.values()], self.shared)
        by_email = {e: place for e, place in self.email_places().items() if e in emails}
        special = {c.special: c.customer_id for c in self.customers.values() if c.special is not None}
        counts = {
            i: sum(o.customer_id == i for o in self.orders.values())
            for i, c in self.customers.items()
            if c.status == "unidentified"
        }

        matched = match(
            copies,
            Known(stored, dict(self.customers), by_email, special, counts),
            self.rules,
            account="acme",
            business="acme",
            shared_emails=self.shared,
            now=self.now,
            retention=MONTH,
        )
        self._store(matched)
        for customer_id, record in self.customers.items():  # as the store keeps what is unwritten
            for main in record.emails:
                if main.unwritten and main.email is not None:
                    self.hashes[main.email] = (customer_id, main.slot)
            kept = tuple(replace(m, email=None, unwritten=False) if m.unwritten else m for m in record.emails)
            self.customers[customer_id] = replace(record, emails=kept)
        return matched


def an_old_order(order_id: str = "o1", email: str | None = ANN, **changes: Any) -> AmazonOrder:
    given: dict[str, Any] = {"status": "SHIPPED", "packages": (package("DELIVERED", 1),), "updated": 2 * DAY}
    return replace(
        an_order(order_id, email, **{**given, **changes}),
        delivery_instructions="By the door",
        lines=(line(gift_message="For you"),),
    )


def test_r63_an_order_past_its_term_on_arrival_is_matched_and_leaves_no_buyer_data() -> None:
    world = Late()
    world.sync(an_old_order())
    order, record = world.orders["o1"], world.customer_of("o1")
    assert order.erased_at == Late.now
    assert (order.buyer, order.delivery, order.billing) == (None, Address(country="GB"), None)
    assert (order.delivery_instructions, order.lines[0].gift_message) == (None, None)
    assert order.total == Amount(an_order().total.amount, "GBP")  # type: ignore[union-attr]
    assert (record.name, record.amazon_name, record.phone, record.delivery) == (None, None, None, None)
    assert record.emails == (MainEmail(1, None, "amazon"),)
    assert (record.status, record.price_list, record.idle_since) == ("active", "UK retail", T0)
    assert world.basis() == "created"


def test_r61_r63_two_old_orders_of_one_buyer_are_one_record_and_a_new_one_brings_the_buyer_back() -> None:
    for pages in ((["o1", "o2", "o3"],), (["o1"], ["o2"], ["o3"])):
        world = Late()
        new = an_order("o3", created_at=day(59), updated=59 * DAY)
        copies = {"o1": an_old_order("o1"), "o2": an_old_order("o2", ANN.upper()), "o3": new}
        for page in pages:
            world.sync(*[copies[order_id] for order_id in page])
        assert {o.customer_id for o in world.orders.values()} == {1}
        assert [world.basis(i) for i in ("o1", "o2", "o3")] == ["created", "retained_hash", "retained_hash"]
        record = world.customer_of("o3")
        assert (record.name, record.idle_since, record.emails) == (
            "Ann Buyer",
            None,
            (MainEmail(1, ANN, "amazon"),),
        )
        assert world.orders["o3"].buyer is not None


def test_r63_an_old_order_fills_and_restores_nothing_on_a_record() -> None:
    world = Late()
    known = world.add_customer(
        origins={"billing": "hand"}, billing=Address(line1="1 Office Road", country="GB")
    )
    world.customers[known] = replace(world.customers[known], emails=(MainEmail(1, None, "amazon"),))
    world.hashes[ANN] = (known, 1)
    world.sync(an_old_order())
    record = world.customers[known]
    assert (record.name, record.phone, record.emails) == (None, None, (MainEmail(1, None, "amazon"),))
    assert world.basis() == "retained_hash"
    assert world.orders["o1"].billing == record.billing, "entered by hand, and so not Amazon's"


def test_r63_an_old_order_copies_no_billing_address_of_amazons() -> None:
    world = Late()
    world.sync(an_order("o2", created_at=day(59), updated=59 * DAY))
    world.sync(an_old_order("o1"))
    assert world.basis("o1") == "email_1"
    assert world.orders["o1"].billing == Address(country="GB")


def test_r63_an_erased_order_takes_no_later_copy_s_buyer_data_but_all_else() -> None:
    world = Late()
    world.sync(an_old_order())
    world.sync(an_old_order(updated=59 * DAY, status="SHIPPED", seller_order_id="S-1"))
    order = world.orders["o1"]
    assert (order.seller_order_id, order.last_updated_at) == ("S-1", after(59 * DAY))
    assert (order.buyer, order.delivery, order.lines[0].gift_message) == (None, Address(country="GB"), None)


def test_r63_a_stored_order_whose_days_are_over_loses_what_it_has_with_the_next_copy() -> None:
    world = Late()
    world.now = day(3)
    world.sync(an_old_order())
    assert world.orders["o1"].buyer is not None
    world.now = day(60)
    world.sync(an_old_order(absent={"buyer", "delivery"}, updated=2 * DAY))
    order = world.orders["o1"]
    assert (order.erased_at, order.buyer, order.delivery) == (day(60), None, Address(country="GB"))


def test_r63_an_order_that_lives_on_has_its_days_again() -> None:
    world = Late()
    world.now = day(110)
    world.sync(an_order("o1", updated=100 * DAY, status="SHIPPED", deliver_by=day(105)))
    assert world.orders["o1"].buyer is not None


def test_r63_a_copy_of_a_forgotten_order_looks_as_if_amazon_withheld_the_buyer() -> None:
    bare = as_if_withheld(translate(FULL, "acme", rules_of(UK)))
    assert not {"buyer", "delivery"} & bare.as_of.keys()
    assert (bare.buyer, bare.delivery) == (None, Address(country="GB"))


def test_r23_r62_a_replacement_does_not_go_to_a_forgotten_customer() -> None:
    world = World()
    world.sync(an_order("o1"))
    record = world.customer_of("o1")
    world.customers[record.customer_id] = forgotten(record)
    world.sync(an_order("o2", None, name=None, replaces="o1", updated=5))
    assert world.basis("o2") == "unidentified"
    assert world.orders["o2"].customer_id != record.customer_id
    world.sync(an_order("o1", updated=9))
    assert world.orders["o1"].customer_id == record.customer_id
    assert world.customers[record.customer_id].name is None


# --- in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "retention", "forgotten_at", "sentence"),
    [
        (
            copy(3, status="SHIPPED", packages=(package("DELIVERED", 1),)),
            MONTH,
            None,
            "R60: Buyer data is kept until 2026-06-03 (30 days after delivery, seen on 2026-05-04).",
        ),
        (
            copy(3, status="SHIPPED", deliver_by=day(5)),
            Retention(1, 18),
            None,
            "R60: Buyer data is kept until 2026-05-07 (1 day after the promised delivery on 2026-05-06), "
            "or 1 day after delivery is confirmed.",
        ),
        (
            copy(3, status="CANCELLED"),
            MONTH,
            None,
            "R60: Buyer data is kept until 2026-06-03 (30 days after cancellation, seen on 2026-05-04).",
        ),
        (
            copy(1),
            MONTH,
            None,
            "R60: Buyer data is kept until 2026-08-30 (30 days after 90 days without an update, on "
            "2026-07-31), or 30 days after delivery is confirmed.",
        ),
        (
            structs.replace(copy(1), erased_at=day(125)),
            MONTH,
            None,
            "R60: Buyer data was erased on 2026-09-03 and is never stored again (R63): 90 days without an "
            "update, on 2026-07-31.",
        ),
        (
            structs.replace(copy(3, status="CANCELLED"), erased_at=day(40)),
            MONTH,
            None,
            "R60: Buyer data was erased on 2026-06-10 and is never stored again (R63): cancellation, seen "
            "on 2026-05-04.",
        ),
        (
            copy(1),
            KEEP_ALL,
            None,
            "R60: Buyer data is kept: ORDER_SYNC_RETENTION_DAYS is off.",
        ),
        (
            copy(1),
            MONTH,
            day(2),
            "R63: Forgotten on 2026-05-03: its buyer data is erased and never stored again.",
        ),
    ],
)
def test_r60_r63_when_and_why_is_said_in_one_sentence(
    order: OrderRecord, retention: Retention, forgotten_at: datetime | None, sentence: str
) -> None:
    assert explain(order, retention, forgotten_at) == sentence
