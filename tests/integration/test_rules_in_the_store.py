"""The customer rules once more, through both real databases: what is decided must also be what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs

from connectors.orders import GROUPS, AmazonAddress, AmazonBuyer, AmazonOrder, TaxRegistration
from connectors.simulator.api import Simulator
from connectors.simulator.world import World
from poller.customers.fields import checked
from poller.errors import Refused
from poller.ingest.apply import decide_again
from poller.ingest.sources import AccountRules
from store import customers, orders, queries
from store import tables as t
from store.engine import Store
from store.records import Address, MainEmail
from tests.databases import long_on
from tests.harness import DATASETS, NOON, Shop, SimulatedClock, rules_for
from tests.integration.store_world import (
    DE,
    UK,
    account_rules,
    add_customer,
    all_customers,
    apply,
    basis,
    customer,
    customer_of,
    edit,
    exported,
    order,
    row,
    rules_of,
)
from tests.integration.store_world import count as rows_of
from tests.unit.matching_world import OTHER_HOME, a_pending_order, after, an_order, gbp, line

pytestmark = long_on("postgresql")

NOBODY: dict[str, Any] = {"email": None, "name": None}
ANN = "ann@marketplace.amazon.co.uk"


def edit_email(store: Store, customer_id: int, slot: int, email: str | None) -> None:
    edit(store, customer_id, **{f"email_{slot}": email or ""})


def journal_of(store: Store, customer_id: int) -> list[tuple[str, str, int | None]]:
    with store.read() as tx:
        return [(e.who, e.action, e.other_id) for e in queries.journal_of(tx, customer_id)]


# --- which record ---------------------------------------------------------------------------------


def test_r2_r3_r4_r5_a_first_order_makes_a_record_of_what_amazon_gave(store: Store) -> None:
    apply(store, an_order())
    record = customer_of(store)
    home = Address(
        name="Ann Recipient",
        line1="1 High Street",
        city="Leeds",
        postal_code="LS1",
        country="GB",
        phone="0113",
    )
    assert (record.name, record.amazon_name, record.phone) == ("Ann Buyer", "Ann Buyer", "0113")
    assert (record.billing, record.delivery) == (home, home)
    assert record.emails == (MainEmail(1, ANN, "amazon"),)
    assert (record.price_list, record.tax_code, record.currency) == ("UK retail", "T20", "GBP")
    assert record.created_from_order == "o1"
    assert basis(store) == "created"
    assert order(store).billing == home


def test_r6_r8_r9_r10_a_known_e_mail_is_used_and_the_record_stays_as_it_is(store: Store) -> None:
    apply(store, an_order("o1"))
    before = customer_of(store)
    apply(store, an_order("o2", ANN.upper(), name="A New Name", delivery=OTHER_HOME, marketplace_id=DE))
    assert customer_of(store, "o2") == before
    found = order(store, "o2")
    assert (found.match_basis, found.price_list, found.tax_code) == ("email_1", "UK retail", "T20")
    assert found.billing == before.billing
    assert found.delivery is not None
    assert found.delivery.line1 == OTHER_HOME.line1
    assert found.buyer is not None
    assert found.buyer.name == "A New Name"
    assert rows_of(store, t.customers) == 1


def test_r8_an_empty_field_is_filled_but_never_one_emptied_by_hand(store: Store) -> None:
    empty = add_customer(store, ANN)
    emptied = add_customer(store, "bea@example.com", company="Old & Co")
    with store.begin() as tx:
        record = customers.load(tx, [emptied])[emptied]
        by_hand = dict.fromkeys(("name", "phone", "billing", "delivery"), "hand")
        customers.change(tx, replace(record, origins=by_hand))  # type: ignore[arg-type]
    apply(store, an_order("o1"), an_order("o2", "bea@example.com"))
    filled = customer(store, empty)
    assert (filled.name, filled.phone) == ("Ann Buyer", "0113")
    assert filled.origins["name"] == "amazon"
    assert filled.price_list is None
    kept = customer(store, emptied)
    assert (kept.name, kept.phone, kept.billing, kept.delivery) == (None, None, None, None)


@pytest.mark.parametrize("origin", ["hand", "import"])
def test_r12_all_three_main_e_mails_match_records_entered_by_hand_and_imported(
    store: Store, origin: Any
) -> None:
    emails = ("One@Example.com", "two@example.com", "three@example.com")
    known = add_customer(store, *emails, origin=origin, name="Ann", price_list="Special")
    for slot, email in enumerate(emails, 1):
        apply(store, an_order(f"o{slot}", f" {email.upper()} "))
        assert basis(store, f"o{slot}") == f"email_{slot}"
        assert order(store, f"o{slot}").customer_id == known
        assert order(store, f"o{slot}").price_list == "Special"
    assert rows_of(store, t.customers) == 1
    assert customer(store, known).name == "Ann"


def test_r12_a_record_of_another_business_does_not_match(store: Store) -> None:
    other = add_customer(store, ANN, business="beta")
    apply(store, an_order())
    assert customer_of(store).customer_id != other
    assert basis(store) == "created"


def test_r13_a_removed_e_mail_no_longer_matches(store: Store) -> None:
    apply(store, an_order("o1"))
    first = customer_of(store, "o1").customer_id
    edit_email(store, first, 1, None)
    apply(store, an_order("o2"))
    assert basis(store, "o2") == "created"
    assert customer_of(store, "o2").customer_id != first
    assert customer_of(store, "o1").customer_id == first


def test_r13_an_edited_e_mail_matches_as_it_is_now_and_no_longer_as_it_was(store: Store) -> None:
    apply(store, an_order("o1"))
    first = customer_of(store, "o1").customer_id
    edit_email(store, first, 1, "ann@home.example")
    apply(store, an_order("o2"), an_order("o3", "Ann@Home.example"))
    assert customer_of(store, "o2").customer_id != first
    assert customer_of(store, "o3").customer_id == first
    assert journal_of(store, first) == [("tests", "edit", None)]


def test_r13_r19_a_later_copy_of_the_same_order_stays_where_it_is(store: Store) -> None:
    apply(store, an_order("o1"))
    first = customer_of(store, "o1").customer_id
    edit_email(store, first, 1, None)
    apply(store, an_order("o1", updated=10, status="SHIPPED"))
    assert order(store).status == "SHIPPED"
    assert customer_of(store, "o1").customer_id == first
    assert rows_of(store, t.customers) == 1


def test_r14_only_an_e_mail_entered_or_imported_that_is_no_relay_may_be_written_to(store: Store) -> None:
    apply(store, an_order("o1"))
    ann = customer_of(store, "o1").customer_id
    imported = add_customer(store, "import@example.com", origin="import")

    def contact(customer_id: int) -> tuple[bool, str | None]:
        found = {c["customer_id"]: c for c in exported(store)[1]}[customer_id]
        return found["contactable"], found["contact_email"]

    assert contact(ann) == (False, None)
    edit_email(store, ann, 2, "relayed@marketplace.amazon.de")
    assert contact(ann) == (False, None)
    edit_email(store, ann, 3, "ann@home.example")
    assert contact(ann) == (True, "ann@home.example")
    assert contact(imported) == (True, "import@example.com")


def test_r15_e_mails_are_compared_trimmed_and_case_folded_and_stored_as_received(store: Store) -> None:
    apply(store, an_order("o1", " Ann.Buyer+tag@Example.COM"), an_order("o2", "ann.buyer+TAG@example.com"))
    apply(store, an_order("o3", "annbuyer@example.com"))
    record = customer_of(store, "o1")
    assert record == customer_of(store, "o2")
    assert [m.email for m in record.emails] == [" Ann.Buyer+tag@Example.COM"]
    assert customer_of(store, "o3").customer_id != record.customer_id


def test_r16_an_e_mail_that_another_has_is_refused_with_the_other_s_id(store: Store) -> None:
    apply(store, an_order("o1"))
    other = add_customer(store, "bea@example.com")
    holder = customer_of(store, "o1").customer_id
    with pytest.raises(Refused, match=f"^customer {holder} has the e-mail of email_3: merge them"):
        edit_email(store, other, 3, ANN)


@pytest.mark.long
def test_r16_two_simultaneous_first_orders_end_on_one_record(database_url: str) -> None:
    """Two workers, each with its own connections, fetch first orders of the same buyers together."""
    buyers = 6
    world = World()
    for i in range(buyers):
        for worker in "ab":
            world.order(f"{worker}{i}", created=NOON, email=f"buyer{i}@marketplace.amazon.co.uk")
    simulator = Simulator(world, now=lambda: NOON)
    rules = [rules_for("UK")]
    shops = [Shop(database_url, simulator, SimulatedClock(), rules, fresh=fresh) for fresh in (True, False)]
    start = Barrier(2)

    def fetch(worker: int) -> None:
        syncer = shops[worker].syncer(shops[worker].sources()[0])
        for i in range(buyers):
            start.wait(30)
            assert syncer.single.fetch(f"{'ab'[worker]}{i}", DATASETS) is None
        for i in range(buyers):  # the same order by both: one row, nothing new
            start.wait(30)
            assert syncer.single.fetch(f"{'ab'[i % 2]}{i}", DATASETS) is None

    try:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(fetch, worker) for worker in range(2)]:
                done.result(60)
        store = shops[0].store
        assert rows_of(store, t.customers) == buyers
        assert rows_of(store, t.orders) == 2 * buyers
        for i in range(buyers):
            assert order(store, f"a{i}").customer_id == order(store, f"b{i}").customer_id
            assert {basis(store, f"a{i}"), basis(store, f"b{i}")} == {"created", "email_1"}
    finally:
        for shop in shops:
            shop.close()


@pytest.mark.long
def test_r16_two_pages_with_the_same_new_buyers_in_opposite_order_do_not_block_each_other(
    store: Store,
) -> None:
    """Each page locks what the other wants next: a database that gives up one must get it again."""
    start = Barrier(2)

    def apply_page(worker: int) -> None:
        for round_ in range(4):
            page = [
                an_order(
                    f"{worker}-{round_}-{i}",
                    f"buyer{round_}-{i}@example.com",
                    created_at=after(i if worker else -i),
                )
                for i in range(5)
            ]
            start.wait(30)
            apply(store, *page)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(apply_page, worker) for worker in range(2)]:
            done.result(60)
    assert rows_of(store, t.customers) == 20
    assert rows_of(store, t.orders) == 40


def test_r17_a_shared_address_identifies_no_one_and_stops_matching_at_once(store: Store) -> None:
    apply(store, an_order("o1", "help@agency.example"))
    first = customer_of(store, "o1").customer_id
    listed = replace(account_rules(), shared_emails=frozenset({"help@agency.example"}))
    apply(
        store,
        an_order("o2", "Help@agency.example"),
        an_order("o3", "no-reply-amazon-iba-buyer@amazon.de"),
        an_order("o4", programs=("INVOICE_BY_AMAZON",)),
        rules=listed,
    )
    for order_id in ("o2", "o3", "o4"):
        assert basis(store, order_id) == "unidentified"
        assert customer_of(store, order_id).name is None
    assert order(store, "o1").customer_id == first
    with pytest.raises(Refused, match="identifies none of them"):
        checked({"email_1": "HELP@agency.example"}, shared_emails=listed.shared_emails)


def test_r18_the_recipient_is_shown_but_never_stored_as_the_buyer_nor_matched(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY), an_order("o2", **NOBODY))
    first, second = (customer_of(store, i) for i in ("o1", "o2"))
    assert first.customer_id != second.customer_id
    assert (first.name, first.amazon_name) == (None, None)
    shown = {c["customer_id"]: c["name"] for c in exported(store)[1]}
    assert shown[first.customer_id] == "Ann Recipient"
    apply(store, an_order("o1", None, name="Ann Buyer", updated=5))
    assert customer(store, first.customer_id).name == "Ann Buyer"


def test_r19_an_orders_customer_is_decided_once(store: Store) -> None:
    apply(store, an_order("o1", "one@example.com"))
    first = customer_of(store, "o1").customer_id
    apply(store, an_order("o1", "two@example.com", updated=5), an_order("o2", "two@example.com"))
    assert order(store, "o1").customer_id == first
    assert order(store, "o2").customer_id != first


def test_r20_the_outcome_does_not_depend_on_how_amazon_sorts(store: Store) -> None:
    page = [
        an_order("late", created_at=after(5), name="Late Name"),
        an_order("b-early", created_at=after(1), name="Early Name"),
        an_order("a-early", created_at=after(1), name="First Name"),
    ]
    apply(store, *page)
    record = customer_of(store, "late")
    assert (record.created_from_order, record.name) == ("a-early", "First Name")
    assert [basis(store, i) for i in ("a-early", "b-early", "late")] == ["created", "email_1", "email_1"]


# --- without an e-mail ----------------------------------------------------------------------------


def test_r21_an_order_without_an_e_mail_has_a_record_of_its_own_that_repeating_does_not_double(
    store: Store,
) -> None:
    apply(store, an_order("o1", **NOBODY), an_order("o2", **NOBODY))
    apply(store, an_order("o1", **NOBODY))
    apply(store, an_order("o1", **NOBODY, updated=10, status="SHIPPED"))
    assert rows_of(store, t.customers) == 2
    assert customer_of(store, "o1").status == "unidentified"
    assert customer_of(store, "o1").customer_id != customer_of(store, "o2").customer_id


def test_r21_shared_one_record_serves_all_such_orders_of_a_marketplace(store: Store) -> None:
    rules = account_rules(rules_of(UK, without_email="shared"), rules_of(DE, without_email="shared"))
    apply(store, an_order("o1", **NOBODY), rules=rules)
    apply(store, an_order("o2", **NOBODY), an_order("o3", **NOBODY, marketplace_id=DE), rules=rules)
    assert customer_of(store, "o1") == customer_of(store, "o2")
    assert customer_of(store, "o3").customer_id != customer_of(store, "o1").customer_id
    assert customer_of(store, "o1").delivery is None
    assert basis(store, "o2") == "shared"


def test_r21_a_held_order_waits_and_is_promoted_when_the_e_mail_comes(store: Store) -> None:
    rules = account_rules(rules_of(UK, without_email="hold"))
    apply(store, an_order(**NOBODY), rules=rules)
    held = order(store)
    assert (held.match_basis, held.customer_id, held.shown) == ("held", None, True)
    assert (held.price_list, held.tax_code) == ("UK retail", "T20")
    assert rows_of(store, t.customers) == 0
    apply(store, an_order(updated=10), rules=rules)
    assert basis(store) == "promoted"
    assert customer_of(store).emails == (MainEmail(1, ANN, "amazon"),)


def test_r22_promotion_leaves_a_tombstone_and_a_line_in_the_journal(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY))
    left = customer_of(store).customer_id
    apply(store, an_order("o2"))
    target = customer_of(store, "o2").customer_id
    apply(store, an_order("o1", updated=10))
    assert basis(store) == "promoted"
    assert customer_of(store).customer_id == target
    tombstone = customer(store, left)
    assert (tombstone.status, tombstone.merged_into) == ("merged", target)
    assert journal_of(store, left) == [("sync", "promote", target)]
    assert order(store).billing == customer(store, target).billing
    exports = {c["customer_id"]: c for c in exported(store)[1]}
    assert (exports[left]["status"], exports[left]["merged_into"]) == ("merged", target)


def test_r22_promotion_to_a_record_made_at_that_time(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY))
    left = customer_of(store).customer_id
    apply(store, an_order("o1", updated=10))
    target = customer_of(store)
    assert target.customer_id > left
    assert customer(store, left).merged_into == target.customer_id
    assert target.name == "Ann Buyer"


def test_r22_a_record_that_was_edited_by_hand_is_kept_and_suggested(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY))
    left = customer_of(store)
    with store.begin() as tx:
        record = customers.load(tx, [left.customer_id])[left.customer_id]
        customers.change(tx, replace(record, name="By Hand", origins={**record.origins, "name": "hand"}))
    apply(store, an_order("o1", updated=10))
    target = customer_of(store).customer_id
    assert customer(store, left.customer_id).status == "unidentified"
    assert customer(store, left.customer_id).name == "By Hand"
    assert row(store, t.customers, customer_id=left.customer_id)["suggested_into"] == target


def test_r22_a_shared_record_is_left_and_lives_on(store: Store) -> None:
    rules = account_rules(rules_of(UK, without_email="shared"))
    apply(store, an_order("o1", **NOBODY), rules=rules)
    shared = customer_of(store).customer_id
    apply(store, an_order("o1", updated=10), rules=rules)
    assert basis(store) == "promoted"
    assert customer_of(store).customer_id != shared
    assert customer(store, shared).status == "unidentified"


def test_r23_a_replacement_goes_to_the_customer_of_the_order_it_replaces(store: Store) -> None:
    apply(store, an_order("o1"))
    apply(store, an_order("o2", **NOBODY, replaces="o1"))
    assert basis(store, "o2") == "replacement"
    assert customer_of(store, "o2") == customer_of(store, "o1")
    apply(store, an_order("o3", **NOBODY, replaces="never-seen"))
    assert basis(store, "o3") == "unidentified"


# --- unknown marketplaces -------------------------------------------------------------------------


def waiting(store: Store, rules: AccountRules) -> list[str]:
    with store.read() as tx:
        return orders.waiting(tx, "acme", sorted(rules.by_marketplace), [], limit=10)


def test_r26_orders_of_an_unknown_marketplace_are_matched_once_it_is_configured(store: Store) -> None:
    only_uk, both = account_rules(rules_of(UK)), account_rules()
    apply(
        store,
        an_order("o1", marketplace_id=DE, lines=(line("i1"), line("i2", gift_message="For you"))),
        an_order("o2", marketplace_id=DE, **NOBODY),
        an_order("o3", marketplace_id=None),
        rules=only_uk,
    )
    before = order(store, "o1")
    assert (before.match_basis, before.customer_id, before.marketplace) == (None, None, None)
    assert before.shown
    assert waiting(store, only_uk) == []
    assert waiting(store, both) == ["o1", "o2"]
    with store.begin() as tx:
        decide_again(tx, both, waiting(store, both))
    assert waiting(store, both) == []
    found = order(store, "o1")
    assert (found.match_basis, found.marketplace, found.price_list) == ("created", "DE", "DE retail")
    assert found.lines == before.lines
    assert found.buyer == before.buyer
    assert customer_of(store, "o1").marketplace == "DE"
    assert basis(store, "o2") == "unidentified"
    assert order(store, "o3").customer_id is None


def test_r26_a_pending_order_of_an_unknown_marketplace_is_matched_again_only_once(
    store: Store,
) -> None:
    apply(store, a_pending_order(marketplace_id=DE), rules=account_rules(rules_of(UK)))
    both = account_rules()
    assert waiting(store, both) == ["o1"]
    with store.begin() as tx:
        decide_again(tx, both, ["o1"])
    assert waiting(store, both) == []
    assert order(store).customer_id is None
    apply(store, an_order(marketplace_id=DE, updated=10))
    assert basis(store) == "created"


# --- pending and cancelled ------------------------------------------------------------------------


def test_r30_a_pending_order_is_remembered_and_becomes_an_order_when_it_is_ready(store: Store) -> None:
    apply(store, a_pending_order())
    assert not order(store).shown
    assert exported(store)[:2] == ([], [])
    apply(store, an_order(updated=10))
    assert order(store).shown
    assert basis(store) == "created"
    ((found,), _, _) = exported(store)
    assert found["order_id"] == "o1"


def test_r31_a_pending_order_is_shown_on_the_placeholder_without_prices(store: Store) -> None:
    rules = account_rules(rules_of(UK, pending="placeholder"))
    apply(store, a_pending_order("o1"), a_pending_order("o2"), rules=rules)
    placeholder = customer_of(store, "o1")
    assert customer_of(store, "o2") == placeholder
    ((first, _), _, _) = exported(store)
    assert first["match_basis"] == "placeholder"
    assert (first["total"], first["lines"][0]["unit_price"]) == (None, None)
    apply(store, an_order("o1", updated=10), rules=rules)
    apply(store, a_pending_order("o2", status="CANCELLED", updated=10), rules=rules)
    ready = order(store, "o1")
    assert ready.match_basis == "created"
    assert ready.lines[0].unit_price is not None
    assert ready.total is not None
    cancelled = order(store, "o2")
    assert (cancelled.match_basis, cancelled.status) == ("placeholder", "CANCELLED")
    assert customer_of(store, "o2").customer_id == placeholder.customer_id
    assert customer(store, placeholder.customer_id).status == "unidentified"


def test_r32_cancelled_after_it_was_ready_the_order_keeps_its_customer(store: Store) -> None:
    apply(store, an_order())
    customer_id = customer_of(store).customer_id
    gone = line(cancelled_by="BUYER", cancel_reason="Changed my mind")
    apply(store, an_order(updated=10, status="CANCELLED", lines=(gone,)))
    found = order(store)
    assert (found.customer_id, found.status, found.cancelled_by) == (customer_id, "CANCELLED", "BUYER")
    assert found.cancel_reason == "Changed my mind"


@pytest.mark.parametrize("seen_pending", [True, False])
def test_r33_cancelled_before_it_was_ever_ready_it_is_an_order_without_customer(
    store: Store, seen_pending: bool
) -> None:
    if seen_pending:
        apply(store, a_pending_order())
    apply(store, a_pending_order(status="CANCELLED", updated=10))
    found = order(store)
    assert (found.shown, found.customer_id, found.match_basis) == (True, None, None)
    assert (found.price_list, found.tax_code) == ("UK retail", "T20")
    assert rows_of(store, t.customers) == 0
    ((shown,), _, _) = exported(store)
    assert (shown["status"], shown["customer_id"]) == ("CANCELLED", None)


# --- retention's remains --------------------------------------------------------------------------


def test_r61_a_customer_who_comes_back_is_known_by_the_hash_and_gets_the_e_mail_back(store: Store) -> None:
    apply(store, an_order("o1"))
    customer_id = customer_of(store).customer_id
    with store.begin() as tx:
        tx.conn.execute(sa.update(t.customer_emails).values(email=None))
    apply(store, an_order("o2", ANN.title()))
    assert basis(store, "o2") == "retained_hash"
    assert customer_of(store, "o2").customer_id == customer_id
    assert customer(store, customer_id).emails == (MainEmail(1, ANN.title(), "amazon"),)
    apply(store, an_order("o3"))
    assert basis(store, "o3") == "email_1"


# --- many copies, one order -----------------------------------------------------------------------

_numbers = count(1)
_DECIDED_BY_ARRIVAL = ("order_id", "customer_id", "match_basis", "billing", "changed_at")
"""Who the customer was by then: the first copy decides it (R19), so these may differ."""


@st.composite
def copies_of_an_order(draw: st.DrawFn) -> list[AmazonOrder]:
    """Three or four copies of one order, each newer than the one before, each lacking some groups."""
    statuses = ["UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED", "CANCELLED"]
    made = []
    for i in range(draw(st.integers(3, 4))):
        absent = draw(st.sets(st.sampled_from(sorted(GROUPS - {"fulfillment"}))))
        buyer = AmazonBuyer(name=f"Name {i}", email=f"ann@example.com {i % 2}", company=f"Company {i}")
        price = gbp(f"{i + 1}.00")
        lines = tuple(
            line(
                item,
                quantity=i + 1,
                unit_price=price,
                item_total=None if "proceeds" in absent else price,
                tax=None if "proceeds" in absent else price,
                promotion_ids=() if "promotion" in absent else (f"PROMO {i}",),
                gift_message=f"Message {i}",
                cancelled_by=None if "cancellation" in absent else f"BUYER {i}",
            )
            for item in ("i1", "i2")
        )
        made.append(
            an_order(
                updated=i,
                status=statuses[i],
                absent=absent,
                lines=lines,
                buyer=None if "buyer" in absent else buyer,
                delivery=None
                if "delivery" in absent
                else AmazonAddress(name=f"Recipient {i}", line1=f"{i} Street", country="GB"),
                total=None if "proceeds" in absent else gbp(f"{i + 1}.50"),
                tax_registrations=()
                if "tax" in absent
                else (TaxRegistration("BUYER", "VAT", f"XX{i}", None),),
            )
        )
    return made


def outcome(store: Store, pages: Sequence[Sequence[AmazonOrder]]) -> dict[str, Any]:
    """What a reader sees of an order that came in these pages; every order is a new one."""
    order_id = f"p{next(_numbers)}"
    with store.read() as tx:
        since = tx.readable_change_no()
    for page in pages:
        apply(store, *[_for(order_id, copy) for copy in page])
    found, _, _ = exported(store, since)
    (mine,) = found
    stored = order(store, order_id)
    result = {key: value for key, value in mine.items() if key not in _DECIDED_BY_ARRIVAL}
    result["buyer_email"] = result["buyer_email"] and result["buyer_email"].partition("@")[2]
    return result | {"as_of": stored.as_of, "tax": [n.number for n in stored.tax_numbers]}


def _for(order_id: str, copy: AmazonOrder) -> AmazonOrder:
    buyer = copy.buyer
    if buyer is not None and buyer.email is not None:
        buyer = structs.replace(buyer, email=f"{order_id}@{buyer.email.partition('@')[2]}")
    return replace(copy, order_id=order_id, buyer=buyer)


@pytest.mark.long
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(copies=copies_of_an_order(), data=st.data())
def test_r25_the_order_of_arrival_does_not_change_what_is_exported(
    store: Store, copies: list[AmazonOrder], data: st.DataObject
) -> None:
    in_time = outcome(store, [[copy] for copy in copies])
    shuffled = data.draw(st.permutations(copies), label="arrival")
    assert outcome(store, [[copy] for copy in shuffled]) == in_time
    assert outcome(store, [shuffled]) == in_time
    again = data.draw(st.sampled_from(copies), label="repeated")
    assert outcome(store, [[copy] for copy in [*shuffled, again]]) == in_time


def test_r25_the_e_mail_ends_on_one_identified_record_whichever_copy_comes_first(store: Store) -> None:
    withheld = an_order(updated=0, **NOBODY)
    shown = an_order(updated=5)
    withheld_again = an_order(updated=10, **NOBODY, status="SHIPPED")
    for pages in (
        [withheld, shown, withheld_again],
        [withheld_again, shown, withheld],
        [shown, withheld_again, withheld],
    ):
        order_id = f"p{next(_numbers)}"
        for copy in pages:
            apply(store, _for(order_id, copy))
        record = customer_of(store, order_id)
        assert record.status == "active"
        assert [e.email for e in record.emails] == [f"{order_id}@marketplace.amazon.co.uk"]
    living = [c for c in all_customers(store) if c.status != "merged"]
    assert len(living) == 3


def test_r25_a_newer_copy_without_a_unit_price_does_not_erase_it(store: Store) -> None:
    full = an_order("o1", lines=(line("i1", unit_price=gbp("9.99")),))
    bare = an_order("o1", lines=(line("i1", unit_price=None),), updated=5, absent={"price"})
    apply(store, full)
    apply(store, bare)
    (kept,) = exported(store)[0][0]["lines"]
    assert kept["unit_price"] == "9.99"


def test_an_e_mail_moves_from_one_slot_of_its_record_to_another(store: Store) -> None:
    apply(store, an_order("o1"))
    record = customer_of(store, "o1")
    edit_email(store, record.customer_id, 3, ANN)
    assert [(e.slot, e.email) for e in customer_of(store, "o1").emails] == [(3, ANN)]
