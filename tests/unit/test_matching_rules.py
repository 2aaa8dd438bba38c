"""The customer rules R1-R33 and R44, one by one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from connectors.orders import AmazonAddress, AmazonOrder
from poller.customers.fields import checked
from poller.errors import Refused
from poller.matching.customer_records import shown_name, special_key
from poller.matching.emails import contact_email, is_shared_email, relevant_emails, usable_email
from poller.matching.explanations import explain
from poller.matching.order_copies import merge_copies
from poller.matching.translation import translate
from store.records import Address, CustomerRecord, MainEmail, Origin, normal_email
from tests.unit.matching_world import (
    DE,
    HOME,
    IBA_EMAIL,
    NOW,
    OTHER_HOME,
    T0,
    UK,
    World,
    a_pending_order,
    after,
    an_order,
    line,
    rules_of,
)

ANN = "ann@marketplace.amazon.co.uk"
LOCKER = structs.replace(HOME, name="Locker Blue", kind="PICKUP_POINT")


def anonymous(order_id: str = "o1", **changes: Any) -> AmazonOrder:
    return an_order(order_id, email=None, name=None, **changes)


def test_r1_a_final_order_refers_to_exactly_one_customer() -> None:
    world = World()
    world.sync(an_order("o1"), anonymous("o2"), an_order("o3", "bob@x.example"))
    assert all(o.customer_id in world.customers for o in world.orders.values())
    assert len(world.customers) == 3


def test_r2_an_unknown_email_creates_a_record_from_the_order() -> None:
    world = World()
    matched = world.sync(an_order())
    customer = world.customer_of()
    assert len(matched.created) == 1
    assert world.basis() == "created"
    assert (customer.status, customer.created_from_order, customer.created_at) == ("active", "o1", NOW)
    assert (customer.business, customer.account, customer.marketplace) == ("acme", "acme", "UK")


def test_r3_what_amazon_gives_goes_into_the_record_and_nothing_else() -> None:
    world = World()
    world.sync(an_order(company="Buyer Ltd"))
    customer = world.customer_of()
    assert customer.name == customer.amazon_name == "Ann Buyer"
    assert customer.company == "Buyer Ltd"
    assert customer.phone == "0113"
    assert customer.emails == (MainEmail(1, ANN, "amazon"),)
    assert customer.delivery is not None
    assert customer.delivery.line1 == "1 High Street"
    assert set(customer.origins.values()) == {"amazon"}
    assert customer.labels == {}


def test_r3_nothing_is_made_up_for_an_order_without_anything() -> None:
    world = World()
    world.sync(anonymous(delivery=None, absent={"delivery"}))
    customer = world.customer_of()
    assert (customer.name, customer.phone, customer.billing, customer.emails) == (None, None, None, ())
    assert set(customer.origins) == {"price_list", "currency", "tax_code", "discount_percent"}


def test_r4_a_new_record_gets_price_list_tax_code_currency_and_discount_of_its_marketplace() -> None:
    world = World(rules_of(DE, discount_percent=Decimal("2.5")))
    world.sync(an_order(marketplace_id=DE))
    customer = world.customer_of()
    assert (customer.price_list, customer.tax_code, customer.currency) == ("DE retail", "T19", "EUR")
    assert customer.discount_percent == Decimal("2.5")


def test_r5_billing_and_delivery_of_a_new_record_are_the_first_delivery_address() -> None:
    world = World()
    world.sync(an_order())
    customer = world.customer_of()
    assert customer.billing == customer.delivery == world.orders["o1"].delivery is not None


@pytest.mark.parametrize(
    "pick_up", [{"delivery": LOCKER}, {"programs": ("IN_STORE_PICK_UP",)}], ids=["pickup point", "store"]
)
def test_r5_a_pick_up_gives_the_record_neither_address_nor_phone(pick_up: Any) -> None:
    world = World()
    world.sync(an_order(**pick_up))
    customer = world.customer_of()
    assert (customer.billing, customer.delivery, customer.phone) == (None, None, None)
    assert customer.name == "Ann Buyer"
    assert world.orders["o1"].delivery is not None
    assert world.orders["o1"].billing is None


def test_r6_a_known_email_uses_that_record_as_it_is_also_from_another_marketplace() -> None:
    world = World()
    world.sync(an_order("o1"))
    before = world.customer_of("o1")
    matched = world.sync(an_order("o2", name="Anna", marketplace_id=DE, delivery=OTHER_HOME))
    assert (matched.created, matched.updated) == ((), ())
    assert world.customer_of("o2") == before
    assert world.basis("o2") == "email_1"


def test_r7_the_same_person_on_two_marketplaces_is_two_records() -> None:
    world = World()
    world.sync(an_order("o1"), an_order("o2", "ann@marketplace.amazon.de", marketplace_id=DE))
    assert world.orders["o1"].customer_id != world.orders["o2"].customer_id


def test_r8_a_changed_name_keeps_record_and_link_and_stays_on_the_order() -> None:
    world = World()
    world.sync(an_order("o1"))
    world.sync(an_order("o2", name="Ann Married", company="New Ltd", delivery=OTHER_HOME))
    assert world.customer_of("o2").name == "Ann Buyer"
    assert world.orders["o2"].buyer is not None
    assert world.orders["o2"].buyer.name == "Ann Married"
    assert world.orders["o1"].customer_id == world.orders["o2"].customer_id


def test_r8_wholly_empty_fields_are_filled_and_an_address_only_as_a_whole() -> None:
    world = World()
    world.add_customer(ANN, origin="import", delivery=Address(city="Oslo"))
    matched = world.sync(an_order(company="Buyer Ltd"))
    customer = world.customer_of()
    assert [c.customer_id for c in matched.updated] == [customer.customer_id]
    assert (customer.name, customer.company, customer.phone) == ("Ann Buyer", "Buyer Ltd", "0113")
    assert customer.delivery == Address(city="Oslo")
    assert customer.billing == world.orders["o1"].delivery
    assert customer.origins["name"] == customer.origins["billing"] == "amazon"
    assert customer.origins["delivery"] == "import"
    assert (customer.price_list, customer.tax_code, customer.discount_percent) == (None, None, None)
    assert "R8" in world.orders["o1"].match_rules


def test_r8_what_was_emptied_by_hand_stays_empty() -> None:
    world = World()
    emptied: dict[str, Origin] = dict.fromkeys(
        ("name", "company", "amazon_name", "phone", "billing", "delivery"), "hand"
    )
    world.add_customer(ANN, origins=emptied)
    assert world.sync(an_order(company="Buyer Ltd")).updated == ()


def test_r8_a_later_copy_fills_from_the_groups_that_it_brought() -> None:
    world = World()
    world.sync(an_order(name=None, delivery=None, absent={"delivery"}))
    assert world.customer_of().name is None
    world.sync(an_order(updated=5))
    assert (world.customer_of().name, world.customer_of().phone) == ("Ann Buyer", "0113")


def test_r8_a_pick_up_fills_no_address_and_no_phone() -> None:
    world = World()
    world.add_customer(ANN)
    world.sync(an_order(delivery=LOCKER))
    customer = world.customer_of()
    assert customer.name == "Ann Buyer"
    assert (customer.phone, customer.billing, customer.delivery) == (None, None, None)


def test_r8_a_shared_or_placeholder_record_is_never_filled() -> None:
    world = World(rules_of(UK, without_email="shared", pending="placeholder"))
    world.sync(an_order("o1", email=None), a_pending_order("o2"))
    world.sync(an_order("o1", email=None, updated=5), a_pending_order("o2", delivery=HOME, absent=()))
    for customer in world.customers.values():
        assert (customer.name, customer.phone, customer.billing, customer.emails) == (None, None, None, ())


def test_r8_an_address_of_which_retention_left_the_country_is_empty() -> None:
    world = World()
    world.add_customer(ANN, origins={"name": "hand"}, name="Ann", billing=Address(country="GB"))
    world.sync(an_order())
    assert world.customer_of().billing == world.orders["o1"].delivery


def test_r9_another_delivery_address_is_the_orders_alone() -> None:
    world = World()
    world.sync(an_order("o1"))
    world.sync(an_order("o2", delivery=OTHER_HOME))
    assert world.orders["o2"].delivery is not None
    assert world.orders["o2"].delivery.line1 == "2 Low Street"
    assert world.customer_of("o2").delivery == world.orders["o1"].delivery


def test_r10_the_billing_address_of_an_order_is_its_records() -> None:
    world = World()
    world.sync(an_order("o1"))
    matched = world.sync(an_order("o2", delivery=OTHER_HOME))
    assert matched.writes[0].billing
    assert world.orders["o2"].billing == world.customer_of("o2").billing == world.orders["o1"].delivery


def test_r10_a_later_edit_of_the_record_does_not_rewrite_the_order() -> None:
    world = World()
    world.sync(an_order())
    first = world.orders["o1"].billing
    world.edit(1, billing=Address(line1="Edited"))
    matched = world.sync(an_order(updated=5))
    assert not matched.writes[0].billing
    assert world.orders["o1"].billing == first


def test_r10_an_address_that_arrives_later_with_the_same_order_becomes_its_billing_address_too() -> None:
    world = World()
    world.sync(an_order(delivery=None, absent={"delivery"}))
    assert world.orders["o1"].billing is None
    matched = world.sync(an_order(updated=5))
    assert matched.writes[0].billing
    assert world.orders["o1"].billing == world.customer_of().billing == world.orders["o1"].delivery


def test_r11_a_later_copy_changes_neither_the_records_nor_the_orders_billing() -> None:
    world = World()
    world.sync(an_order())
    before = world.customer_of()
    world.sync(an_order(delivery=OTHER_HOME, updated=5))
    assert world.customer_of() == before
    assert world.orders["o1"].billing == before.billing


@pytest.mark.parametrize("origin", ["hand", "import", "amazon"])
def test_r12_all_three_main_emails_match(origin: Any) -> None:
    world = World()
    kept = world.add_customer("a@x.example", "b@x.example", "c@x.example", origin=origin, name="Ann")
    for slot, email in enumerate(("a@x.example", "b@x.example", "c@x.example"), 1):
        world.sync(an_order(f"o{slot}", email))
        assert world.orders[f"o{slot}"].customer_id == kept
        assert world.orders[f"o{slot}"].match_basis == f"email_{slot}"
    assert "R12" in world.orders["o3"].match_rules


def test_r13_an_email_removed_from_the_record_no_longer_matches_another_order() -> None:
    world = World()
    world.sync(an_order("o1"))
    world.edit(1, emails=(), aliases=(ANN,))
    world.sync(an_order("o1", updated=5), an_order("o2", updated=5))
    assert world.orders["o1"].customer_id == 1
    assert world.orders["o2"].customer_id == 2
    assert world.basis("o2") == "created"


def customer_with(*emails: Any, **fields: Any) -> CustomerRecord:
    mains = tuple(MainEmail(slot, email, origin) for slot, (email, origin) in enumerate(emails, 1))
    return CustomerRecord("acme", "acme", "UK", T0, emails=mains, **fields)


@pytest.mark.parametrize(
    ("emails", "expected"),
    [
        ([(ANN, "amazon")], None),
        ([("ann@home.example", "amazon")], None),
        ([("x@Marketplace.Amazon.com.br ", "hand")], None),
        ([(ANN, "amazon"), ("ann@home.example", "hand")], "ann@home.example"),
        ([(None, "import"), ("ann@work.example", "import")], "ann@work.example"),
        ([], None),
    ],
)
def test_r14_only_an_entered_address_that_is_no_relay_may_be_written_to(emails: Any, expected: Any) -> None:
    assert contact_email(customer_with(*emails)) == expected


def test_r15_emails_are_compared_trimmed_and_in_lower_case_and_stored_as_received() -> None:
    world = World()
    world.sync(an_order("o1", "Ann.B+1@Marketplace.Amazon.co.uk"))
    world.sync(
        an_order("o2", " ann.b+1@marketplace.amazon.co.uk "), an_order("o3", "annb@marketplace.amazon.co.uk")
    )
    assert world.customer_of("o1").emails[0].email == "Ann.B+1@Marketplace.Amazon.co.uk"
    assert world.orders["o2"].customer_id == 1
    assert world.orders["o3"].customer_id == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "N/A", "none", "@", "a@", "@example.com", "ann@example", "ann example.com"),
        # What records had as main e-mails, contactable (review of customers, F9), and near ones.
        *(
            "mailto:ann@example.com",
            "a@b@c",
            ".@.",
            "ann@example..com",
            "ann@.example.com",
            "ann@example.com.",
        ),
        *("Ann <ann@example.com>", "ann@example.com, bea@example.com", "ann@exam ple.com", "ann@[10.0.0.1]"),
        *(
            "a nn@example.com",
            "ann\u00a0@example.com",
            "ann@example.com\u200e",
            "ann@example.com\n@example.com",
        ),
        'ann"bea@example.com',
    ],
)
def test_r15_what_has_not_the_form_of_an_address_is_no_email(text: str) -> None:
    order = translate(an_order(email=text), "acme", rules_of())
    assert usable_email(order, frozenset()) is None
    assert relevant_emails([order], frozenset()) == frozenset()
    if text.strip():
        with pytest.raises(Refused, match="is not an e-mail address"):
            checked({"email_2": text.replace("\n", " ")})


@pytest.mark.parametrize(
    "text",
    [
        *("ann@example.com", "x1y2z3+0f3c-44a@marketplace.amazon.co.uk", "ANN@EXAMPLE.COM", "a@b.c"),
        *(
            "ann.@example.co.jp",
            "a..b@example.co.jp",
            ".ann@example.com",
            "o'neil@example.com",
            "a/b=c@example.com",
        ),
        *('"ann example"@example.com', '"a@b"@example.com', r'"a\"b"@example.com'),
        *("käthe@müller.example", "ann@straße.example", "ann@xn--strae-oqa.example", "उदा@उदाहरण.भारत"),
        *("ann@my_host.example.com", "ann@\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example"),
    ],
)
def test_r15_what_can_be_an_address_is_one_and_is_kept_as_received(text: str) -> None:
    world = World()
    world.sync(an_order("o1", text))
    assert [m.email for m in world.customer_of("o1").emails] == [text]
    assert checked({"email_1": text}).values == {"email_1": text}


def test_r15_case_is_folded_and_letters_are_not() -> None:
    """ß and ss are two letters and two domains (review of customers, F10; MSC2265 on case-folding)."""
    world = World()
    world.sync(an_order("o1", "info@straße.example"), an_order("o2", "info@strasse.example"))
    world.sync(an_order("o3", "INFO@STRAẞE.EXAMPLE"), an_order("o4", "Info@Strasse.example"))
    assert [world.orders[f"o{i}"].customer_id for i in range(1, 5)] == [1, 2, 1, 2]


@given(st.text(max_size=40))
def test_r15_lower_case_folds_again_to_what_older_versions_compared(text: str) -> None:
    """Two e-mails that are one now were one before, so an upgrade never finds two records for one hash."""
    assert normal_email(normal_email(text)) == normal_email(text)
    assert normal_email(text).casefold() == text.strip().casefold()


def test_r21_what_is_no_address_joins_no_strangers() -> None:
    """Two buyers with the e-mail "N/A" were one customer (review, F5; woocommerce_fusion#117)."""
    world = World()
    world.sync(an_order("o1", "N/A", name="Ann"), an_order("o2", "n/a", name="Bea"))
    first, second = world.customer_of("o1"), world.customer_of("o2")
    assert (first.status, first.name, second.name) == ("unidentified", "Ann", "Bea")
    assert world.orders["o2"].buyer is not None
    assert world.orders["o2"].buyer.email == "n/a"
    world.sync(an_order("o2", "bea@x.example", name="Bea", updated=5))
    assert world.orders["o2"].match_basis == "promoted"


def test_r21_a_record_that_has_such_a_text_matches_no_order_any_more() -> None:
    world = World()
    old = world.add_customer("N/A")
    world.sync(an_order("o1", "N/A"))
    assert world.orders["o1"].customer_id != old
    assert contact_email(world.customers[old]) is None


def test_r16_two_first_orders_of_one_page_end_on_one_record() -> None:
    world = World()
    matched = world.sync(an_order("o1"), an_order("o2", ANN.upper()))
    assert len(matched.created) == 1
    assert {w.record.customer_id for w in matched.writes} == {matched.created[0].customer_id}


@pytest.mark.parametrize(
    "order",
    [
        an_order(email=IBA_EMAIL, company="Amazon EU"),
        an_order(programs=("INVOICE_BY_AMAZON",), company="Amazon EU"),
        an_order(email="Desk@Shared.example", company="Amazon EU"),
    ],
    ids=["list", "program", "settings"],
)
def test_r17_a_shared_address_identifies_no_one_and_gives_no_name(order: Any) -> None:
    world = World(shared=frozenset({" desk@shared.EXAMPLE"}))
    world.sync(order, replace(order, order_id="o2"))
    assert world.orders["o1"].customer_id != world.orders["o2"].customer_id
    for order_id in ("o1", "o2"):
        customer = world.customer_of(order_id)
        assert (customer.status, customer.emails) == ("unidentified", ())
        assert (customer.name, customer.company, customer.amazon_name) == (None, None, None)
        assert customer.phone == "0113"
        assert world.orders[order_id].match_rules[:2] == ("R17", "R21")


def test_r17_a_later_copy_gives_no_name_either() -> None:
    world = World()
    world.sync(an_order(email=IBA_EMAIL), an_order(email=IBA_EMAIL, updated=3))
    world.sync(an_order(email=IBA_EMAIL, updated=5))
    assert world.customer_of().name is None


def test_r17_an_address_put_on_the_list_stops_matching_at_once() -> None:
    world = World()
    world.sync(an_order("o1"))
    world.shared = frozenset({ANN})
    world.sync(an_order("o2"))
    assert world.basis("o2") == "unidentified"
    assert is_shared_email(ANN.upper(), world.shared)


def test_r18_name_address_and_phone_never_match_anybody() -> None:
    world = World()
    world.sync(an_order("o1"), an_order("o2", "second@marketplace.amazon.co.uk"))
    assert len(world.customers) == 2


def test_r18_without_a_buyer_name_the_recipients_is_shown_but_not_stored() -> None:
    world = World()
    world.sync(an_order("o1", name=None))
    assert world.customer_of().name is None
    assert shown_name(world.customer_of()) == "Ann Recipient"
    world.sync(an_order("o2", name="Ann Buyer"))
    assert world.customer_of().name == shown_name(world.customer_of()) == "Ann Buyer"


def test_r18_the_name_of_a_locker_or_store_is_never_shown() -> None:
    world = World()
    world.sync(an_order("o1", name=None, delivery=LOCKER))
    world.sync(an_order("o2", "b@x.example", name=None, programs=("IN_STORE_PICK_UP",)))
    assert shown_name(world.customer_of("o1")) is None
    assert shown_name(world.customer_of("o2")) is None
    assert shown_name(customer_with(delivery=Address(name="Locker", kind="PICKUP_POINT"))) is None


def test_r19_a_later_copy_with_another_email_does_not_change_the_customer() -> None:
    world = World()
    world.sync(an_order())
    world.sync(an_order(email="other@marketplace.amazon.co.uk", updated=5))
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis) == (1, "created")
    assert order.buyer is not None
    assert order.buyer.email == "other@marketplace.amazon.co.uk"
    assert len(world.customers) == 1


def test_r19_a_merge_by_hand_stands() -> None:
    world = World()
    world.sync(anonymous())
    kept = world.add_customer("real@home.example", name="Ann")
    world.orders["o1"] = structs.replace(world.orders["o1"], customer_id=kept)
    world.sync(an_order(updated=5))
    assert world.orders["o1"].customer_id == kept


def test_r20_a_page_is_matched_by_created_time_and_order_id_however_amazon_sorts() -> None:
    orders = [
        an_order("o3", name="Third", created_at=after(2)),
        an_order("o2", name="Second", created_at=after(1)),
        an_order("o1", name="First", created_at=after(1)),
    ]
    for page in (orders, orders[::-1]):
        world = World()
        matched = world.sync(*page)
        assert [w.record.order_id for w in matched.writes] == ["o1", "o2", "o3"]
        assert [c.created_from_order for c in matched.created] == ["o1"]
        assert world.customer_of().name == "First"


def test_r21_per_order_makes_one_unidentified_record_and_repeating_adds_none() -> None:
    world = World()
    world.sync(anonymous())
    world.sync(anonymous(), anonymous(updated=5))
    order = world.orders["o1"]
    assert (order.match_basis, order.customer_id, len(world.customers)) == ("unidentified", 1, 1)
    assert world.customer_of().status == "unidentified"
    assert world.customer_of().phone == "0113"


def test_r21_shared_puts_all_on_one_record_a_marketplace() -> None:
    world = World(rules_of(UK, without_email="shared"), rules_of(DE, without_email="shared"))
    world.sync(anonymous("o1"), anonymous("o2"), anonymous("o3", marketplace_id=DE))
    world.sync(anonymous("o4"))
    ids = [world.orders[f"o{i}"].customer_id for i in (1, 2, 3, 4)]
    assert ids[0] == ids[1] == ids[3] != ids[2]
    assert world.customer_of("o1").special == special_key("shared", "acme", UK)
    assert {o.match_basis for o in world.orders.values()} == {"shared"}


def test_r21_hold_stores_the_order_and_lets_its_customer_wait() -> None:
    world = World(rules_of(UK, without_email="hold"))
    matched = world.sync(anonymous())
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis, order.shown) == (None, "held", True)
    assert matched.created == ()
    world.sync(anonymous(updated=5))
    assert world.basis() == "held"


def test_r21_another_setting_gives_held_orders_their_record_when_they_are_matched_again() -> None:
    world = World(rules_of(UK, without_email="hold"))
    world.sync(anonymous())
    world.rules[UK] = rules_of(UK)
    world.rematch("o1")
    assert world.basis() == "unidentified"
    world.sync(an_order(updated=5))
    assert world.basis() == "promoted"


def test_r22_the_email_arrives_later_and_the_unidentified_record_becomes_a_tombstone() -> None:
    world = World()
    world.sync(anonymous(delivery=OTHER_HOME))
    matched = world.sync(an_order(updated=5))
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis) == (2, "promoted")
    assert world.tombstones == {1: 2}
    assert world.customers[2].status == "active"
    assert matched.writes[0].billing
    assert order.billing == world.customers[2].billing
    assert order.match_rules[:2] == ("R22", "R2")


def test_r22_the_email_of_a_known_customer_promotes_to_that_record() -> None:
    world = World()
    kept = world.add_customer(ANN, name="Ann", billing=Address(line1="Hers"), price_list="VIP")
    world.sync(anonymous())
    world.sync(an_order(updated=5))
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis, order.price_list) == (kept, "promoted", "VIP")
    assert order.billing == Address(line1="Hers")
    assert world.tombstones == {2: kept}


def test_r22_a_record_edited_by_hand_is_kept_and_suggested_for_merging() -> None:
    world = World()
    world.sync(anonymous())
    world.edit(1, name="Known by phone", origins={**world.customers[1].origins, "name": "hand"})
    world.sync(an_order(updated=5))
    assert world.orders["o1"].customer_id == 2
    assert world.tombstones == {}
    assert world.suggested == [(1, 2)]


def test_r22_also_when_an_email_entered_by_hand_made_the_record_active() -> None:
    world = World()
    world.sync(anonymous())
    world.edit(1, status="active", emails=(MainEmail(1, "ann@home.example", "hand"),))
    world.sync(an_order(updated=5))
    assert (world.orders["o1"].customer_id, world.basis()) == (2, "promoted")
    assert (world.tombstones, world.suggested) == ({}, [(1, 2)])


def test_r22_an_unidentified_record_with_other_orders_is_no_tombstone() -> None:
    world = World()
    world.sync(anonymous("o1"), anonymous("o2"))
    world.orders["o2"] = structs.replace(world.orders["o2"], customer_id=1)
    world.sync(an_order("o1", updated=5))
    assert (world.tombstones, world.suggested) == ({}, [])
    assert world.orders["o2"].customer_id == 1


def test_r22_an_email_put_on_the_unidentified_record_itself_keeps_the_order_there() -> None:
    world = World()
    world.sync(anonymous())
    world.edit(1, emails=(MainEmail(1, ANN, "hand"),))
    world.sync(an_order(updated=5))
    assert (world.orders["o1"].customer_id, world.basis()) == (1, "promoted")
    assert (world.tombstones, world.suggested) == ({}, [])


def test_r22_a_shared_record_outlives_its_last_order() -> None:
    world = World(rules_of(UK, without_email="shared"))
    world.sync(anonymous())
    world.sync(an_order(updated=5))
    assert (world.orders["o1"].customer_id, world.basis()) == (2, "promoted")
    assert (world.tombstones, world.suggested) == ({}, [])


def test_r22_two_copies_on_one_page_leave_no_unidentified_record_behind() -> None:
    world = World()
    world.sync(an_order(updated=5), anonymous())
    assert (len(world.customers), world.basis()) == (1, "created")


def test_r22_a_forgotten_record_is_not_left() -> None:
    world = World()
    world.sync(anonymous())
    world.edit(1, status="forgotten")
    matched = world.sync(an_order(updated=5))
    assert world.orders["o1"].customer_id == 1
    assert (matched.created, matched.updated) == ((), ())


def test_r23_a_replacement_goes_to_the_customer_of_the_order_that_it_replaces() -> None:
    world = World()
    world.sync(an_order("o1"))
    world.sync(anonymous("o2", replaces="o1", created_at=after(9)))
    assert world.orders["o2"].customer_id == world.orders["o1"].customer_id
    assert world.basis("o2") == "replacement"


def test_r23_also_when_both_come_on_one_page() -> None:
    world = World()
    world.sync(anonymous("o0", replaces="o1", created_at=after(9)), an_order("o1"))
    assert (world.orders["o0"].customer_id, world.basis("o0")) == (1, "replacement")


def test_r23_a_usable_email_of_its_own_goes_first() -> None:
    world = World()
    world.sync(an_order("o1"), an_order("o2", "b@x.example", replaces="o1", created_at=after(9)))
    assert world.basis("o2") == "created"


def test_r23_while_the_replaced_order_is_unknown_the_replacement_is_as_without_email() -> None:
    world = World()
    world.sync(anonymous("o2", replaces="o1", created_at=after(9)))
    assert world.basis("o2") == "unidentified"
    world.sync(an_order("o1"))
    world.sync(anonymous("o2", replaces="o1", created_at=after(9), updated=9))
    assert world.orders["o2"].customer_id == world.orders["o1"].customer_id
    assert world.basis("o2") == "promoted"
    assert world.tombstones == {1: 2}


def test_r23_a_replaced_order_on_a_placeholder_or_shared_record_is_unknown() -> None:
    world = World(rules_of(UK, pending="placeholder", without_email="hold"))
    world.sync(a_pending_order("o1"), anonymous("o2", replaces="o1", created_at=after(9)))
    assert world.basis("o2") == "held"
    world.sync(an_order("o1", updated=5))
    world.rematch("o2")
    assert world.orders["o2"].customer_id == world.orders["o1"].customer_id
    assert world.basis("o2") == "promoted"


def test_r23_an_order_that_names_itself_replaces_nothing() -> None:
    world = World()
    world.sync(anonymous("o1", replaces="o1"))
    world.sync(anonymous("o1", replaces="o1", updated=5))
    assert (world.basis(), len(world.customers)) == ("unidentified", 1)


def test_r24_an_order_of_another_channel_has_no_amazon_buyer() -> None:
    world = World()
    world.add_customer(ANN)
    world.sync(an_order(channel="NON_AMAZON"))
    assert world.basis() == "unidentified"
    assert world.orders["o1"].match_rules[:2] == ("R24", "R21")


def test_r24_without_a_configured_marketplace_it_is_of_an_unknown_one() -> None:
    world = World()
    world.sync(an_order(channel="NON_AMAZON", marketplace_id=None))
    assert (world.orders["o1"].customer_id, world.orders["o1"].match_rules) == (None, ("R26",))


def test_r25_what_is_absent_never_erases_what_is_stored() -> None:
    world = World()
    world.sync(an_order())
    before = world.orders["o1"]
    matched = world.sync(
        anonymous(updated=5, status="SHIPPED", delivery=None, total=None, absent={"delivery", "proceeds"})
    )
    order = world.orders["o1"]
    assert not matched.writes[0].groups & {"buyer", "delivery", "proceeds"}
    assert (order.buyer, order.delivery, order.total) == (before.buyer, before.delivery, before.total)
    assert order.lines[0].item_total == before.lines[0].item_total
    assert order.status == "SHIPPED"
    assert order.as_of["buyer"] == T0
    assert order.as_of["fulfillment"] == after(5)


def test_r25_an_older_copy_fills_only_groups_never_seen() -> None:
    world = World()
    world.sync(anonymous(updated=5, status="SHIPPED", seller_order_id="new"))
    matched = world.sync(an_order(name="Late", delivery=OTHER_HOME, seller_order_id="old"))
    assert (matched.writes[0].groups, matched.writes[0].core) == (frozenset({"buyer"}), False)
    order = world.orders["o1"]
    assert (order.status, order.seller_order_id, order.last_updated_at) == ("SHIPPED", "new", after(5))
    assert order.delivery is not None
    assert order.delivery.line1 == "1 High Street"
    assert order.match_basis == "promoted"


def test_r25_an_equal_time_fills_and_replaces_and_an_address_is_replaced_whole() -> None:
    world = World()
    world.sync(an_order())
    world.sync(an_order(delivery=AmazonAddress(name="Only a name")))
    assert world.orders["o1"].delivery == Address(name="Only a name")


def test_r25_an_address_that_counts_as_withheld_is_not_kept() -> None:
    world = World()
    world.sync(an_order(delivery=AmazonAddress(city="Leeds", country="GB"), absent={"delivery"}))
    assert world.orders["o1"].delivery is None
    assert "delivery" not in world.orders["o1"].as_of


def test_r25_the_first_seen_creation_time_stays() -> None:
    world = World()
    world.sync(an_order())
    world.sync(an_order(created_at=after(1), updated=5))
    assert world.orders["o1"].created_at == T0


def test_r25_a_newer_copy_without_marketplace_or_replaced_order_does_not_erase_them() -> None:
    world = World()
    world.sync(an_order(replaces="o0", seller_order_id="S1"))
    world.sync(an_order(marketplace_id=None, updated=5))
    order = world.orders["o1"]
    assert (order.marketplace_id, order.replaces, order.seller_order_id) == (UK, "o0", "S1")
    assert order.last_updated_at == after(5)


def test_r25_the_newest_copy_says_which_lines_there_are() -> None:
    two = an_order(lines=(line("i1", title="old"), line("i2")))
    one = an_order(lines=(line("i1", title="new"),), updated=5)
    for pages in ([[two], [one]], [[one], [two]], [[one, two]]):
        world = World()
        for page in pages:
            world.sync(*page)
        assert [(i.order_item_id, i.title) for i in world.orders["o1"].lines] == [("i1", "new")]


def test_r25_an_older_copy_adds_no_line_to_stored_ones_that_were_handed_in() -> None:
    newer = translate(an_order(updated=5), "acme", rules_of())
    older = translate(an_order(lines=(line("i0"), line("i1", title="old"))), "acme", rules_of())
    (merged,) = merge_copies([older], {"o1": newer})
    assert (merged.record.lines, merged.core, merged.groups) == (newer.lines, False, frozenset())


def test_r25_two_copies_on_one_page_are_one_write_whatever_their_order() -> None:
    shipped = anonymous(updated=5, status="SHIPPED", total=None, absent={"proceeds"})
    outcomes = []
    for page in ([an_order(), shipped], [shipped, an_order()]):
        world = World()
        world.sync(*page)
        outcomes.append(world.orders["o1"])
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].status == "SHIPPED"
    assert outcomes[0].total is not None
    assert outcomes[0].lines[0].item_total is not None


def test_r26_an_order_of_an_unknown_marketplace_is_stored_and_matched_once_it_is_configured() -> None:
    world = World(rules_of(DE))
    world.sync(an_order())
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis, order.marketplace, order.shown) == (None, None, None, True)
    assert order.match_rules == ("R26",)
    world.rules[UK] = rules_of(UK, status_new="New", labels={"channel": "Amazon UK"})
    matched = world.rematch("o1")
    order = world.orders["o1"]
    assert matched.writes[0].core
    assert (order.match_basis, order.marketplace, order.price_list) == ("created", "UK", "UK retail")
    assert (order.seller_status, order.labels) == ("New", {"channel": "Amazon UK"})
    assert order.total is not None


def test_r26_a_pending_order_of_an_unknown_marketplace_is_not_shown() -> None:
    world = World(rules_of(DE))
    world.sync(a_pending_order())
    assert (world.orders["o1"].shown, world.orders["o1"].match_rules) == (False, ("R26",))


def test_r26_a_customer_stays_when_the_marketplace_is_no_longer_configured() -> None:
    world = World()
    world.sync(an_order("o1"), anonymous("o2"))
    world.rules = {}
    world.sync(an_order("o1", updated=5), an_order("o2", updated=5))
    assert [world.orders[i].match_basis for i in ("o1", "o2")] == ["created", "unidentified"]
    assert world.orders["o1"].marketplace == "UK"
    assert world.orders["o1"].price_list == "UK retail"


def test_r26_a_held_order_that_gets_its_customer_is_promoted() -> None:
    world = World(rules_of(UK, without_email="hold"))
    world.sync(anonymous())
    world.sync(an_order(updated=5))
    assert world.basis() == "promoted"
    assert world.customer_of().emails[0].email == ANN


@pytest.mark.parametrize("status", ["PENDING", "PENDING_AVAILABILITY"])
def test_r30_a_pending_order_is_remembered_without_customer_until_it_is_ready(status: Any) -> None:
    world = World()
    matched = world.sync(a_pending_order(status=status))
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis, order.shown, order.ready) == (None, None, False, False)
    assert (matched.created, order.match_rules) == ((), ("R30",))
    world.sync(an_order(updated=5))
    order = world.orders["o1"]
    assert (order.match_basis, order.shown, order.ready) == ("created", True, True)


def test_r30_an_unknown_status_counts_as_final_and_no_status_at_all_as_pending() -> None:
    world = World()
    world.sync(an_order("o1", status="INVOICE_UNCONFIRMED"), an_order("o2", absent={"fulfillment"}))
    assert world.basis() == "created"
    assert (world.orders["o2"].customer_id, world.orders["o2"].shown) == (None, False)


def test_r30_an_older_pending_copy_does_not_take_readiness_back() -> None:
    world = World()
    world.sync(an_order(updated=5))
    world.sync(a_pending_order())
    order = world.orders["o1"]
    assert (order.status, order.ready, order.shown, order.customer_id) == ("UNSHIPPED", True, True, 1)


def test_r31_a_placeholder_shows_the_order_at_once_without_prices() -> None:
    world = World(rules_of(UK, pending="placeholder"))
    world.sync(a_pending_order("o1"), a_pending_order("o2"))
    order = world.orders["o1"]
    assert (order.match_basis, order.shown, order.ready) == ("placeholder", True, False)
    assert (order.total, order.lines[0].unit_price, order.lines[0].item_total) == (None, None, None)
    assert "proceeds" not in order.as_of
    assert world.customer_of().special == special_key("placeholder", "acme", UK)
    assert order.customer_id == world.orders["o2"].customer_id


def test_r31_when_ready_the_order_gets_its_customer_and_its_prices() -> None:
    world = World(rules_of(UK, pending="placeholder"))
    known = world.add_customer("b@x.example", name="Bob")
    world.sync(a_pending_order("o1"), a_pending_order("o2"), a_pending_order("o3"))
    world.sync(
        an_order("o1", updated=5), an_order("o2", "b@x.example", updated=5), anonymous("o3", updated=5)
    )
    assert [world.orders[f"o{i}"].match_basis for i in (1, 2, 3)] == ["created", "email_1", "unidentified"]
    assert world.orders["o2"].customer_id == known
    assert world.orders["o1"].total is not None
    assert world.orders["o1"].lines[0].unit_price is not None
    assert world.tombstones == {}


def test_r31_a_ready_order_without_email_may_wait_without_the_placeholder() -> None:
    world = World(rules_of(UK, pending="placeholder", without_email="hold"))
    world.sync(a_pending_order())
    world.sync(anonymous(updated=5))
    assert (world.orders["o1"].customer_id, world.basis()) == (None, "held")


def test_r31_cancelled_while_pending_it_stays_on_the_placeholder() -> None:
    world = World(rules_of(UK, pending="placeholder"))
    world.sync(a_pending_order())
    world.sync(a_pending_order(status="CANCELLED", updated=5))
    order = world.orders["o1"]
    assert (order.match_basis, order.status, order.shown) == ("placeholder", "CANCELLED", True)


def test_r32_cancelled_after_it_was_ready_keeps_its_customer() -> None:
    world = World()
    world.sync(an_order())
    gone = replace(an_order().lines[0], cancelled_by="BUYER", cancel_reason="too late")
    world.sync(anonymous(status="CANCELLED", updated=5, lines=(gone,)))
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis, order.status) == (1, "created", "CANCELLED")
    assert (order.cancelled_by, order.cancel_reason) == ("BUYER", "too late")


@pytest.mark.parametrize("seen_pending", [True, False])
def test_r33_cancelled_before_it_was_ready_has_no_customer(seen_pending: Any) -> None:
    world = World()
    if seen_pending:
        world.sync(a_pending_order())
    world.sync(an_order(status="CANCELLED", updated=5))
    order = world.orders["o1"]
    assert (order.customer_id, order.match_basis, order.shown) == (None, None, True)
    assert order.match_rules == ("R33",)
    assert world.customers == {}


def test_r33_an_older_copy_proves_that_it_had_been_ready() -> None:
    world = World()
    world.sync(anonymous(status="CANCELLED", updated=5))
    world.sync(an_order())
    order = world.orders["o1"]
    assert (order.status, order.match_basis) == ("CANCELLED", "created")


def test_r44_price_list_and_tax_code_are_the_customers_else_the_marketplaces() -> None:
    world = World(rules_of(UK, without_email="hold"))
    world.add_customer(ANN, name="Ann", price_list="VIP", tax_code="T0")
    world.sync(an_order("o1"), anonymous("o2"))
    assert (world.orders["o1"].price_list, world.orders["o1"].tax_code) == ("VIP", "T0")
    assert (world.orders["o2"].price_list, world.orders["o2"].tax_code) == ("UK retail", "T20")
    world.edit(1, price_list="Other")
    world.sync(an_order("o1", updated=5))
    assert world.orders["o1"].price_list == "VIP"


def test_r61_a_retained_hash_recognises_the_customer_and_its_email_is_restored() -> None:
    world = World()
    back = world.add_customer("a@x.example")
    mains = (MainEmail(1, "a@x.example", "hand"), MainEmail(2, None, "amazon"))
    world.edit(back, emails=mains, origins={})
    world.hashes = {ANN: (back, 2)}
    world.sync(an_order("o1"), an_order("o2"))
    assert [world.orders[i].match_basis for i in ("o1", "o2")] == ["retained_hash", "email_2"]
    assert world.customers[back].emails == (mains[0], MainEmail(2, ANN, "amazon"))
    assert world.customers[back].name == "Ann Buyer"


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ([an_order()], ["R2", "R3", "R4", "R5"]),
        ([anonymous()], ["R21", "R44"]),
        ([anonymous(), an_order(updated=5)], ["R22", "R2", "R3", "R4", "R5"]),
        ([a_pending_order()], ["R30"]),
        ([anonymous(status="CANCELLED")], ["R33"]),
        ([an_order(marketplace_id=None)], ["R26"]),
    ],
)
def test_explain_answers_with_the_rules_numbers_and_no_buyer_data(orders: Any, expected: Any) -> None:
    world = World()
    for order in orders:
        world.sync(order)
    record = world.orders["o1"]
    sentences = explain(record, None if record.customer_id is None else world.customer_of())
    assert [s.partition(": ")[0] for s in sentences] == expected
    assert not any(word in s for s in sentences for word in ("Ann", ANN, "High Street", "{"))


def test_explain_names_customer_replaced_order_and_merge() -> None:
    world = World()
    world.sync(an_order("o1"), anonymous("o2", replaces="o1", created_at=after(9)))
    world.edit(1, status="merged", merged_into=7)
    sentences = explain(world.orders["o2"], world.customer_of("o2"))
    assert sentences[0] == "R23: The order replaces o1, so it went to that order's customer."
    assert sentences[-1] == "R53: The record was merged: customer 1 points to customer 7."
