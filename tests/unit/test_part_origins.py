"""The origin of each part of an address: what edits, imports, fills, merges and purges make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from poller.customers import merge_rules
from poller.customers.fields import Changes, amended, checked
from poller.customers.import_rules import imported
from poller.errors import Refused
from poller.matching.customer_records import fillable
from poller.matching.retention import erased
from poller.matching.translation import translate
from store.origins import ADDRESS_PARTS, as_a_whole
from store.records import Address, CustomerRecord, MainEmail, OrderRecord
from tests.unit.matching_world import T0, UK, an_order, rules_of

HOME = Address(name="Ann", line1="1 High Street", city="Leds", postal_code="LS1 1AA", country="GB")
RELAY = "ann@marketplace.amazon.co.uk"
AMAZONS = dict.fromkeys(("name", "phone", "billing", "delivery"), "amazon")


def a_record(**changes: Any) -> CustomerRecord:
    """Return a record as an order made it."""
    values: dict[str, Any] = {
        "name": "Ann",
        "phone": "0113",
        "billing": HOME,
        "delivery": HOME,
        "emails": (MainEmail(1, RELAY, "amazon"),),
        "price_list": "Retail",
        "origins": AMAZONS | {"price_list": "amazon"},
    }
    return CustomerRecord("acme", "acme", "UK", T0, customer_id=7, **{**values, **changes})


def typed(record: CustomerRecord, **values: str) -> CustomerRecord:
    return amended(record, checked(values), "hand")


# one_part_by_hand.py: the case from the field


def test_r60_a_value_that_was_there_already_changes_no_origin() -> None:
    record = a_record()
    same = {"name": "Ann", "phone": "0113", "email_1": RELAY, "price_list": "Retail"}
    assert typed(record, **same, billing_country="GB", delivery_city="Leds") == record
    assert imported(record, {**same, "email_1": RELAY.upper()}) == replace(
        record, emails=(MainEmail(1, RELAY.upper(), "amazon"),)
    )
    whole: dict[str, Any] = {
        f"billing_{p}": getattr(HOME, p) for p in ADDRESS_PARTS if getattr(HOME, p) is not None
    }
    assert imported(record, whole) == record


def test_r60_a_part_that_a_person_typed_stays_and_the_rest_of_the_address_goes() -> None:
    record = typed(a_record(), billing_city="Leeds")
    assert record.origins == {**a_record().origins, "billing_city": "hand"}
    assert as_a_whole(record, "billing") == "amazon"
    left = erased(record)
    assert (left.billing, left.delivery) == (Address(city="Leeds", country="GB"), Address(country="GB"))
    assert left.origins == {"price_list": "amazon", "billing_city": "hand"}
    assert erased(left) == left
    assert as_a_whole(left, "billing") == "hand"


def test_r60_an_address_whose_every_part_was_typed_is_typed_as_a_whole() -> None:
    record = typed(a_record(), billing_name="Bea", billing_line1="2 Low Road", billing_city="Leeds")
    assert {n for n in record.origins if n.startswith("billing")} == {
        *("billing", "billing_name", "billing_line1", "billing_city")
    }
    whole = typed(record, billing_postal_code="LS2")
    assert {n: o for n, o in whole.origins.items() if n.startswith("billing")} == {"billing": "hand"}
    assert erased(whole).billing == whole.billing
    empty = typed(CustomerRecord("acme", None, None, T0), billing_city="Leeds", billing_country="GB")
    assert empty.origins == {"billing": "hand"}
    country_left = a_record(billing=Address(country="GB"), origins={})
    assert typed(country_left, billing_city="Leeds").origins == {"billing": "hand"}


def filled(record: CustomerRecord, **order: Any) -> set[str]:
    everything = frozenset({"buyer", "delivery"})
    return set(fillable(record, an_order_record(**order), everything, True, frozenset()))


def an_order_record(**order: Any) -> OrderRecord:
    return translate(an_order("o2", RELAY, **order), "acme", rules_of(UK))


def test_r8_an_address_with_a_part_that_a_person_typed_or_emptied_is_not_filled() -> None:
    untouched = erased(a_record())
    assert {"billing", "delivery", "name"} <= filled(untouched)
    assert filled(erased(typed(a_record(), billing_city="Leeds"))) == filled(untouched) - {"billing"}
    emptied = typed(a_record(), billing_city="", delivery_line2="")
    assert emptied.origins["billing_city"] == emptied.origins["delivery_line2"] == "hand"
    assert filled(erased(emptied)) == filled(untouched) - {"billing", "delivery"}
    assert filled(typed(untouched, billing_line1="", name="")) == filled(untouched) - {"billing", "name"}


def test_r57_an_import_replaces_an_address_but_for_what_was_typed() -> None:
    record = typed(a_record(), billing_city="Leeds")
    after = imported(record, {"billing_line1": "2 Low Road", "billing_city": "York"})
    assert after.billing == Address(line1="2 Low Road", city="Leeds")
    assert after.origins["billing_city"] == "hand"
    assert as_a_whole(after, "billing") == "import"
    assert erased(after).billing == after.billing
    assert imported(after, {"billing_line1": "2 Low Road", "billing_city": "York"}) == after
    partly = imported(a_record(), {"billing_line1": "2 Low Road", "billing_city": "Leds"})
    assert partly.billing == Address(line1="2 Low Road", city="Leds")
    assert erased(partly).billing == Address(line1="2 Low Road")
    emptied = typed(a_record(), billing_line1="")
    assert imported(emptied, {"billing_line1": "2 Low Road"}) == emptied


def test_r57_an_imported_e_mail_that_a_person_moved_is_replaced_by_no_import() -> None:
    mains = (MainEmail(1, RELAY, "amazon"), MainEmail(3, "ann@home.example", "import"))
    moved = typed(a_record(emails=mains), email_2="ann@home.example", email_3="cem@home.example")
    assert moved.emails[1] == MainEmail(2, "ann@home.example", "import")
    with pytest.raises(Refused, match="no slot that is free"):
        imported(moved, {"email_1": "bea@home.example", "email_2": "dan@home.example"})


def test_r60_a_relay_address_is_amazons_whoever_wrote_it() -> None:
    other = "cem@marketplace.amazon.de"
    record = typed(a_record(), email_2=other, email_3="ann@home.example")
    assert [m.origin for m in record.emails] == ["amazon", "amazon", "hand"]
    assert record.origins["email_2"] == "hand", "no import puts another one there"
    assert [m.email for m in imported(record, {"email_2": "x@y.example"}).emails] == [
        m.email for m in record.emails
    ]
    assert [m.email for m in erased(record).emails] == [None, None, "ann@home.example"]
    new = amended(CustomerRecord("acme", None, None, T0), Changes({"email_1": other}), "import")
    assert new.emails == (MainEmail(1, other, "amazon"),)


def test_r52_r54_a_merge_carries_the_origins_of_parts_and_undoing_it_takes_them_back() -> None:
    other = replace(typed(a_record(), billing_city="Leeds"), customer_id=8)
    kept = a_record(billing=Address(country="FR"), emails=(), origins={})
    planned = merge_rules.merge(kept, other, frozenset())
    assert erased(planned.kept).billing == Address(city="Leeds", country="GB")
    facts = merge_rules.facts_of(planned, kept, other, {"kept": {}, "other": {1: "a1"}}, str)
    tombstone = replace(other, status="merged", merged_into=7, emails=())
    undone = merge_rules.undo(planned.kept, tombstone, facts, {1: "a1"}, str, {})
    assert (undone.kept.billing, dict(undone.kept.origins)) == (Address(country="FR"), {})
    emptied = typed(kept, billing_city="")
    assert merge_rules.merge(emptied, other, frozenset()).kept.billing == Address(country="FR")


STEPS = st.one_of(
    st.dictionaries(
        st.sampled_from([f"{kind}_{part}" for kind in ("billing", "delivery") for part in ADDRESS_PARTS]),
        st.sampled_from(["", "DE", "BB", "CC"]),
        min_size=1,
        max_size=4,
    ),
    st.builds(Address, **dict.fromkeys(ADDRESS_PARTS, st.sampled_from([None, "DE", "BB"]))),
    st.just("purge"),
)


@given(st.lists(STEPS, max_size=12))
def test_r60_whatever_is_edited_filled_and_purged_only_what_was_typed_and_the_country_outlive_the_term(
    steps: list[Any],
) -> None:
    """A naive model notes each part that got another value by hand; fills overwrite none of them."""
    record = a_record(billing=None, delivery=None, origins={})
    entered: dict[str, str] = {}
    for step in steps:
        before = record
        if step == "purge":
            record = erased(record)
        elif isinstance(step, dict):
            record = typed(record, **step)
            for name, value in step.items():
                kind, part = name.split("_", 1)
                if value != (getattr(getattr(before, kind) or Address(), part) or ""):
                    entered[name] = value
        else:
            order = structs.replace(an_order_record(), delivery=step)
            fills = fillable(record, order, frozenset({"delivery"}), True, frozenset())
            record = replace(record, **fills, origins={**record.origins, **dict.fromkeys(fills, "amazon")})
            assert not any(f"{kind}_{part}" in entered for kind in fills for part in ADDRESS_PARTS)
    left = erased(record)
    for kind in ("billing", "delivery"):
        for part in ADDRESS_PARTS:
            now = getattr(getattr(left, kind) or Address(), part)
            was = getattr(getattr(record, kind) or Address(), part)
            by_hand = entered.get(f"{kind}_{part}") or None
            assert now == (was if part == "country" else by_hand), (kind, part)
