"""R60-R63 on both real databases: what is erased is gone for good, and never comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.amazon.parse import order_of_json
from connectors.orders import AmazonOrder, AmazonPackage, TaxRegistration, UnreadableOrder
from poller.actions.orders import retained
from poller.matching.retention import KEEP_ALL, Retention
from poller.privacy.forget import AccountForgetting, SpecialRecord, find_person, forget_customer
from poller.privacy.purge import Purge
from poller.text import when
from store import customers, ledger, quarantine, queries
from store import tables as t
from store.progress import Window
from store.records import Address, MainEmail
from tests.databases import long_on
from tests.harness import NOON
from tests.integration.retention_world import ANN, MONTH, Place, a_place, day, delivered, minutes
from tests.integration.store_world import (
    account_rules,
    add_customer,
    apply,
    basis,
    count,
    customer,
    customer_of,
    edit,
    exported,
    order,
    row,
    rules_of,
)
from tests.unit.matching_world import UK, a_pending_order, an_order, line

pytestmark = long_on("postgresql")

BEA = "bea@marketplace.amazon.co.uk"


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    yield from a_place(database_url)


def everything(order_id: str = "o1", email: str | None = ANN, **changes: Any) -> AmazonOrder:
    """Return a delivered order with everything that a buyer can give."""
    return replace(
        delivered(order_id, email, company="Ann & Co", **changes),
        lines=(line(gift_message="For you", customization_url="https://x.example/y", cancel_reason="No"),),
        tax_registrations=(TaxRegistration("BUYER", "VAT", "GB1", "Ann Ltd"),),
        delivery_instructions="By the door",
    )


def unreadable(order_id: str = "q1", email: str = ANN, updated: float = 0) -> UnreadableOrder:
    payload = {
        "orderId": order_id,
        "lastUpdatedTime": day(updated).isoformat(),
        "buyer": {"buyerEmail": email, "buyerName": "Ann Buyer"},
    }
    order = order_of_json(json.dumps(payload))
    assert isinstance(order, UnreadableOrder)
    return order


def payload_of(place: Place, order_id: str = "q1") -> str:
    with place.store.read() as tx:
        (entry,) = quarantine.entries(tx, [order_id])
    return entry.payload


# --- R60 ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_r60_thirty_days_after_the_term_all_that_names_the_buyer_is_gone(place: Place) -> None:
    place.apply(everything())
    assert place.purge(31.9).orders == 0
    before = order(place.store)
    done = place.purge(32.1)
    assert (done.orders, done.records, done.clean) == (1, 1, True)
    after = order(place.store)
    assert (after.buyer, after.tax_numbers, after.delivery_instructions) == (None, (), None)
    assert (after.cancel_reason, after.lines[0].gift_message) == (None, None)
    assert after.lines[0].customization_url is None
    assert after.delivery == after.billing == Address(country="GB")
    assert after.erased_at == after.changed_at == place.clock()
    assert (after.total, after.created_at, after.match_basis) == (before.total, before.created_at, "created")
    assert after.lines[0].item_total == before.lines[0].item_total
    record = customer_of(place.store)
    assert (record.name, record.company, record.phone, record.amazon_name) == (None, None, None, None)
    assert record.delivery == record.billing == Address(country="GB")
    assert (record.price_list, record.tax_code) == ("UK retail", "T20")
    assert place.values() == set()
    assert count(place.store, t.customer_words) == 0
    assert place.purge().orders == 0


# Source: deliverByWindow.latestDateTime of 9999-12-31, and a ship time of 1995 in Amazon's removal orders.
def test_r60_dates_beyond_reason_are_stored_explained_exported_and_purged(place: Place) -> None:
    never, long_ago = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    parcel = AmazonPackage("p1", "IN_TRANSIT", shipped_at=long_ago)
    place.apply(an_order(status="SHIPPED", deliver_by=never, ship_by=long_ago, packages=(parcel,)))
    found = order(place.store)
    assert (found.deliver_by, found.ship_by, found.term_at) == (never, long_ago, never)
    assert found.packages[0].shipped_at == long_ago
    with place.store.read() as tx:
        assert retained(tx, MONTH, found) == (
            "R60: Buyer data is kept until 9999-12-31 (30 days after the promised delivery on 9999-12-31), "
            "or 30 days after delivery is confirmed."
        )
    orders, _, _ = exported(place.store)
    assert orders[0]["deliver_by"] == "9999-12-31T23:59:59.999999Z"
    assert orders[0]["ship_by"] == "0001-01-01T00:00:00Z"
    assert (when(never), when(long_ago)[-11:]) == ("9999-12-31 23:59", "01-01 00:00")
    assert place.purge(400).orders == 0


@pytest.mark.long
def test_r60_readers_of_changes_are_notified(place: Place) -> None:
    place.apply(everything(), delivered("o2", None, name=None, delivery=None, absent={"delivery"}))
    _, _, position = exported(place.store)
    place.purge(33)
    orders, people, _ = exported(place.store, position)
    assert [o["order_id"] for o in orders] == ["o1"], "of the other one there was nothing to erase"
    assert (orders[0]["buyer_email"], orders[0]["delivery"]["country"]) == (None, "GB")
    assert [(c["name"], c["emails"]) for c in people] == [(None, [None])]


@pytest.mark.long
def test_r60_a_record_waits_for_the_term_of_its_newest_order(place: Place) -> None:
    place.apply(everything("o1", on=2), everything("o2", on=20))
    assert place.purge(35).records == 0
    assert order(place.store, "o1").buyer is None
    assert order(place.store, "o2").buyer is not None
    assert customer_of(place.store).name == "Ann Buyer"
    assert place.purge(51).records == 1
    assert customer_of(place.store).name is None


@pytest.mark.long
@pytest.mark.parametrize("origin", ["hand", "import"])
def test_r60_what_was_entered_by_hand_or_imported_stays(place: Place, origin: Any) -> None:
    home = Address(name="Ann", line1="1 Office Road", country="GB")
    known = add_customer(place.store, "ann@home.example", ANN, origin=origin, name="Ann H", billing=home)
    place.apply(everything())
    assert basis(place.store) == "email_2"
    assert customer(place.store, known).company == "Ann & Co", "filled by R8"
    place.purge(33)
    record = customer(place.store, known)
    assert (record.name, record.billing, record.company, record.phone) == ("Ann H", home, None, None)
    assert record.emails == (MainEmail(1, "ann@home.example", origin), MainEmail(2, None, "amazon"))
    assert order(place.store).billing == home
    assert order(place.store).delivery == Address(country="GB")


@pytest.mark.long
def test_r60_of_an_address_the_parts_that_were_typed_stay_on_the_record_and_no_copy_on_orders(
    place: Place,
) -> None:
    """A person corrects the town that Amazon gave; before, all of the address was kept for ever."""
    place.apply(everything("o1"))
    key = customer_of(place.store, "o1").customer_id
    edit(place.store, key, billing_city="York", delivery_country="GB", name="Ann Buyer")
    place.apply(everything("o2", on=3))
    corrected = order(place.store, "o2").billing
    assert corrected is not None
    assert (corrected.city, corrected.line1, order(place.store, "o2").billing_origin) == (
        *("York", "1 High Street", "amazon"),
    )
    place.purge(34)
    record = customer(place.store, key)
    assert (record.billing, record.delivery, record.name) == (
        *(Address(city="York", country="GB"), Address(country="GB"), None),
    )
    for order_id in ("o1", "o2"):
        assert order(place.store, order_id).billing == Address(country="GB")
    with place.store.read() as tx:
        assert not any(entry.details for entry in queries.journal_of(tx, key))
    assert place.purge(35).records == 0, "nothing of it is due again"
    place.apply(everything("o3", on=36))
    assert customer(place.store, key).billing == Address(city="York", country="GB"), "R8 fills no part"
    assert order(place.store, "o3").billing == Address(city="York", country="GB")
    edit(place.store, key, billing_city="Bath")
    place.purge(80)
    assert order(place.store, "o3").billing == Address(city="York", country="GB")
    with place.store.read() as tx:
        typed = [entry.details for entry in queries.journal_of(tx, key) if entry.details]
    assert [each["before"] for each in typed] == [{"billing": {"city": "York", "country": "GB"}}]


@pytest.mark.long
def test_r60_the_journal_loses_what_it_quotes(place: Place) -> None:
    place.apply(everything())
    key = customer_of(place.store).customer_id
    edit(place.store, key, email_2="ann@home.example")
    edit(place.store, key, name="Anne", price_list="Trade")
    place.purge(33)
    with place.store.read() as tx:
        entries = queries.journal_of(tx, key)
    assert [(entry.who, entry.action) for entry in entries] == [
        ("tests", "edit"),
        ("tests", "edit"),
        ("retention", "purge"),
    ]
    assert entries[0].details["after"] == {"email_2": "ann@home.example"}
    assert entries[1].details["before"] == {"name": None, "price_list": "UK retail"}
    assert entries[1].details["after"] == {"name": "Anne", "price_list": "Trade"}
    assert customer(place.store, key).name == "Anne"


def test_r60_what_was_merged_into_a_record_is_erased_with_it(place: Place) -> None:
    place.apply(everything("o1", None, name=None))
    buried = customer_of(place.store).customer_id
    place.apply(everything("o1", ANN))
    assert basis(place.store) == "promoted"
    assert customer(place.store, buried).delivery is not None
    place.purge(33)
    assert customer(place.store, buried).delivery == Address(country="GB")
    assert place.values() == set()


def test_r60_a_record_whose_orders_went_elsewhere_is_erased_like_an_unfinished_order(place: Place) -> None:
    place.apply(everything("o1", None, name=None))
    left = customer_of(place.store)
    with place.store.begin() as tx:
        by_hand = replace(left, price_list="Trade", origins={**left.origins, "price_list": "hand"})
        customers.change(tx, by_hand, left)
    place.apply(everything("o1", ANN))
    place.purge(119)
    assert customer(place.store, left.customer_id).phone == "0113"
    place.purge(121)
    record = customer(place.store, left.customer_id)
    assert (record.phone, record.price_list) == (None, "Trade")


def test_r60_off_erases_nothing(place: Place) -> None:
    place.retention = KEEP_ALL
    place.apply(everything(), unreadable=(unreadable(),))
    before = place.sealed()
    done = place.purge(5000)
    assert (done.orders, done.records, done.payloads, done.hashes) == (0, 0, 0, 0)
    assert place.sealed() == before


def test_r60_orders_of_an_older_version_get_their_term(place: Place) -> None:
    place.apply(everything("o1", on=2), everything("o2", BEA, on=20), unreadable=(unreadable(),))
    names = ("term_at", "delivered_at", "shipped_at", "cancelled_at", "billing_origin")
    with place.store.begin() as tx:
        tx.conn.execute(sa.update(t.orders).values(dict.fromkeys(names)))
        tx.conn.execute(sa.update(t.quarantine).values(term_at=None))
    assert place.purge(33).orders == 1
    assert order(place.store, "o1").buyer is None
    assert order(place.store, "o2").term_at == day(20)
    assert row(place.store, t.quarantine)["term_at"] == day(90)


def test_r60_r63_payloads_in_quarantine_have_their_days(place: Place) -> None:
    place.apply(everything("o1"))
    place.apply(unreadable=(unreadable("q1", updated=1), unreadable("o1", updated=3)))
    done = place.purge(33)
    assert (done.payloads, payload_of(place, "o1")) == (1, "")
    assert "Ann Buyer" in payload_of(place, "q1")
    place.apply(unreadable=(unreadable("o1", updated=32),))
    assert payload_of(place, "o1") == "", "whatever re-reads it"
    assert place.purge(122).payloads == 1
    assert payload_of(place, "q1") == ""
    place.apply(unreadable=(unreadable("q2", updated=1),))
    assert payload_of(place, "q2") == "", "past its term on arrival"


@pytest.mark.long
def test_r60_many_orders_are_erased_in_small_transactions(place: Place) -> None:
    place.apply(*[everything(f"o{i}", f"buyer{i}@marketplace.amazon.co.uk") for i in range(230)])
    seen: list[int] = []
    rests: list[float] = []
    place.clock.go_to(day(33))
    purge = Purge(place.store, MONTH, rest=rests.append, advanced=seen.append)
    assert purge.due() == 230
    assert purge.run().orders == 230
    assert seen[:3] == [100, 200, 230]
    assert len(rests) == 3
    assert place.values() == set()


@pytest.mark.long
def test_r60_a_purge_that_is_stopped_goes_on_where_it_was(place: Place) -> None:
    place.apply(*[everything(f"o{i}", f"buyer{i}@marketplace.amazon.co.uk") for i in range(120)])
    place.clock.go_to(day(33))
    asked = iter([False, True])
    half = Purge(place.store, MONTH, stopping=lambda: next(asked, True)).run()
    assert (half.orders, half.finished) == (0, False), "the first step is about orders without a term"
    asked = iter([False, False, True])
    assert Purge(place.store, MONTH, stopping=lambda: next(asked, True)).run().orders == 100
    rest = place.purge()
    assert (rest.orders, rest.finished) == (20, True)


# --- R61 ------------------------------------------------------------------------------------------


def test_r61_a_buyer_who_comes_back_is_the_same_customer_and_fills_what_was_erased(place: Place) -> None:
    place.apply(everything("o1"))
    key = customer_of(place.store).customer_id
    place.purge(33)
    assert customer(place.store, key).emails == (MainEmail(1, None, "amazon"),)
    assert exported(place.store)[1][0]["emails"] == [None]
    place.apply(everything("o2", ANN.title(), on=40, name="Ann Married"))
    record = customer_of(place.store, "o2")
    assert (record.customer_id, basis(place.store, "o2")) == (key, "retained_hash")
    assert (record.name, record.phone, record.emails[0].email) == ("Ann Married", "0113", ANN.title())
    assert record.idle_since is None
    assert order(place.store, "o1").buyer is None
    place.purge(73)
    assert customer(place.store, key).name is None
    assert row(place.store, t.customers)["idle_since"] == day(38)


@pytest.mark.long
def test_r61_eighteen_months_after_the_last_order_no_one_is_recognised(place: Place) -> None:
    place.apply(everything("o1"))
    key = customer_of(place.store).customer_id
    place.purge(33)
    eighteen_months = 31 + 30 + 31 + 31 + 30 + 31 + 30 + 31 + 31 + 28 + 31 + 30 + 31 + 30 + 31 + 31 + 30 + 31
    assert place.purge(eighteen_months - 0.1).hashes == 0
    assert place.purge(eighteen_months + 0.1).hashes == 1
    assert count(place.store, t.customer_emails) == 0
    assert customer(place.store, key).status == "active"
    place.apply(everything("o2", on=eighteen_months))
    assert basis(place.store, "o2") == "created"
    assert customer_of(place.store, "o2").customer_id != key


def test_r61_an_old_order_that_came_later_counts_as_the_last_one(place: Place) -> None:
    place.apply(everything("o1", on=2))
    place.purge(33)
    place.clock.go_to(day(200))
    place.apply(everything("o2", on=150))
    assert basis(place.store, "o2") == "retained_hash"
    assert place.purge(560).hashes == 0
    assert row(place.store, t.customers)["idle_since"] == day(148)
    assert place.purge(700).hashes == 1


def test_r61_months_off_keeps_hashes_for_ever(place: Place) -> None:
    place.retention = Retention(30, None)
    place.apply(everything())
    place.purge(33)
    assert place.purge(5000).hashes == 0
    assert count(place.store, t.customer_emails) == 1


def test_r61_an_e_mail_entered_by_hand_is_matched_for_ever(place: Place) -> None:
    known = add_customer(place.store, "ann@home.example", name="Ann")
    place.apply(everything("o1", ANN))
    edit(place.store, known, email_2="ann@work.example")
    place.purge(33)
    place.purge(5000)
    assert [e.email for e in customer(place.store, known).emails] == ["ann@home.example", "ann@work.example"]


# --- R62 ------------------------------------------------------------------------------------------


def forget(place: Place, customer_id: int) -> Any:
    return place.store.commit(lambda tx: forget_customer(tx, customer_id, "tests", order_of_json))


def test_r62_a_forgotten_person_is_gone_at_once_and_matches_no_more(place: Place) -> None:
    known = add_customer(place.store, "ann@home.example", ANN, name="Ann H", external_id="C-1")
    place.apply(everything("o1"), everything("o2", BEA))
    place.apply(unreadable=(unreadable("q1", ANN), unreadable("o1", BEA, updated=3)))
    done = forget(place, known)
    assert (done.records, done.orders, done.payloads) == (1, 1, 2)
    record = customer(place.store, known)
    assert (record.status, record.name, record.emails, record.external_id) == ("forgotten", None, (), None)
    assert (order(place.store, "o1").buyer, order(place.store, "o1").customer_id) == (None, known)
    assert order(place.store, "o2").buyer is not None
    assert (payload_of(place, "q1"), payload_of(place, "o1")) == ("", "")
    place.apply(everything("o3", ANN, on=5))
    assert (basis(place.store, "o3"), customer_of(place.store, "o3").customer_id != known) == (
        "created",
        True,
    )
    assert forget(place, 99) is None


def test_r62_r63_nothing_brings_a_forgotten_person_back(place: Place) -> None:
    place.apply(everything("o1"), unreadable=(unreadable("q1", ANN), unreadable("q2", ANN)))
    key = customer_of(place.store).customer_id
    forget(place, key)
    customers_before = count(place.store, t.customers)
    place.apply(everything("o1", on=9), unreadable=(unreadable("q1", ANN, updated=9),))
    place.apply(everything("q2", ANN, on=9))
    assert (order(place.store, "o1").buyer, order(place.store, "o1").last_updated_at) == (None, day(9))
    assert order(place.store, "o1").customer_id == key
    assert payload_of(place, "q1") == ""
    nobodys = order(place.store, "q2")
    assert (nobodys.buyer, nobodys.delivery, nobodys.match_basis) == (
        None,
        Address(country="GB"),
        "unidentified",
    )
    assert count(place.store, t.customers) == customers_before + 1
    assert customer(place.store, key).status == "forgotten"
    assert count(place.store, t.customer_emails) == 0


def test_r62_what_was_merged_with_a_person_is_forgotten_with_it(place: Place) -> None:
    place.apply(everything("o1", None, name=None))
    buried = customer_of(place.store).customer_id
    place.apply(everything("o1", ANN))
    done = forget(place, buried)
    assert done.records == 2
    assert customer_of(place.store).status == "forgotten"
    assert customer(place.store, buried).status == "merged"
    assert set().union(*(v for k, v in place.sealed().items() if k != "quarantine.payload")) == set()


def test_r62_a_hash_is_enough_to_find_a_person_in_the_quarantine(place: Place) -> None:
    place.apply(everything("o1"))
    key = customer_of(place.store).customer_id
    place.purge(33)
    place.apply(unreadable=(unreadable("q1", ANN, updated=32),))
    with place.store.read() as tx:
        person = find_person(tx, key, order_of_json)
    assert person is not None
    assert [entry.order_id for entry in person.quarantined] == ["q1"]
    assert forget(place, key).payloads == 1


def test_r62_a_special_record_is_not_forgotten(place: Place) -> None:
    shared = account_rules(rules_of(UK, without_email="shared"))
    apply(place.store, everything("o1", None, name=None), rules=shared)
    with pytest.raises(SpecialRecord):
        forget(place, customer_of(place.store).customer_id)


@pytest.mark.long
def test_r62_a_seller_is_forgotten_whole_and_no_other(place: Place) -> None:
    other = account_rules(account="other", business="other")
    with place.store.begin() as tx:
        for name in ("acme", "other"):
            tx.conn.execute(sa.insert(t.businesses).values(account=name, business=name))
    add_customer(place.store, "by@hand.example", name="By Hand")
    place.apply(
        everything("o1"), everything("o2", BEA), a_pending_order("o3"), unreadable=(unreadable("q1"),)
    )
    apply(place.store, everything("o9", "zoe@marketplace.amazon.co.uk"), rules=other)
    with place.store.begin() as tx:
        ledger.open_windows(tx, [Window("acme:EU", "acme", "live", "updated", (UK,), ("BUYER",), NOON, NOON)])
        (window,) = ledger.pending_windows(tx, "acme", "acme:EU")
        ledger.save_window(tx, replace(window, page_token="secret", pages=3))
    kept = customer_of(place.store, "o9")
    done = AccountForgetting(place.store, "acme", "tests", order_of_json).run()
    assert (done.records, done.orders, done.payloads, done.clean) == (3, 3, 1, True)
    assert place.sealed()["windows.page_token"] == set()
    with place.store.read() as tx:
        (again,) = ledger.pending_windows(tx, "acme", "acme:EU")
        people = queries.list_customers(tx, limit=9)
    assert (again.page_token, again.pages, again.state) == (None, 0, "open")
    assert {c.status for c in people if c.business == "acme"} == {"forgotten"}
    assert customer(place.store, kept.customer_id) == kept
    assert order(place.store, "o9").buyer is not None
    place.apply(everything("o1", on=9), everything("o3", "new@marketplace.amazon.co.uk", on=9))
    assert (order(place.store, "o1").buyer, order(place.store, "o3").buyer) == (None, None)
    assert AccountForgetting(place.store, "acme", "tests", order_of_json).run().records == 1, (
        "the one that o3 has made"
    )


def test_r62_customers_that_another_account_of_the_business_shares_stay(place: Place) -> None:
    sister = replace(account_rules(account="sister", business="acme"), retention=MONTH)
    with place.store.begin() as tx:
        for name in ("acme", "sister"):
            tx.conn.execute(sa.insert(t.businesses).values(account=name, business="acme"))
    place.apply(everything("o1"), everything("o2", BEA))
    apply(place.store, everything("s1", BEA), rules=sister)
    done = AccountForgetting(place.store, "acme", "tests", order_of_json).run()
    assert (done.records, done.orders) == (1, 2)
    assert customer_of(place.store, "o1").status == "forgotten"
    shared = customer_of(place.store, "s1")
    assert (shared.status, shared.name) == ("active", "Ann Buyer")
    assert (order(place.store, "o2").buyer, order(place.store, "s1").buyer is None) == (None, False)


# --- R63 ------------------------------------------------------------------------------------------


def test_r63_whatever_re_reads_an_erased_order_brings_no_buyer_data(place: Place) -> None:
    place.apply(everything("o1"))
    place.purge(33)
    place.apply(everything("o1", on=2))
    place.apply(everything("o1", on=34, status="SHIPPED"))
    place.apply(everything("o1", on=1))
    assert place.values() == set()
    assert order(place.store).last_updated_at == day(34)


def test_r63_a_backfill_of_old_orders_matches_and_writes_no_buyer(place: Place) -> None:
    place.clock.go_to(day(100))
    place.apply(everything("o1"), everything("o2", BEA), everything("o3", on=20))
    assert place.values() == set()
    assert customer_of(place.store, "o1") == customer_of(place.store, "o3")
    assert customer_of(place.store, "o1") != customer_of(place.store, "o2")
    assert [basis(place.store, o) for o in ("o1", "o2", "o3")] == ["created", "created", "retained_hash"]
    assert count(place.store, t.customer_emails) == 2
    assert count(place.store, t.customer_words) == 0
    assert order(place.store, "o1").erased_at == day(100)
    place.apply(everything("o4", on=99))
    assert (basis(place.store, "o4"), customer_of(place.store, "o4").name) == ("retained_hash", "Ann Buyer")


def test_r63_an_order_whose_days_are_over_before_the_purge_came_takes_nothing_any_more(place: Place) -> None:
    place.apply(replace(everything("o1"), lines=(line("i1", gift_message="For you"), line("i2"))))
    place.clock.go_to(day(33))
    newer = everything("o1", on=2, updated=minutes(day(2)) + 1)
    place.apply(replace(newer, present=newer.present - {"buyer"}, buyer=None))
    found = order(place.store)
    assert (found.buyer, found.delivery, found.erased_at) == (None, Address(country="GB"), day(33))
    assert {line.gift_message for line in found.lines} == {None}
    assert place.purge().records == 1, "the record, which no due order brings up any more"
    assert place.values() == set()
