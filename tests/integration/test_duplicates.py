"""Looking for doubled customers on both real databases: what is suggested, and how much is opened (R56)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from poller.customers import duplicates
from poller.customers.duplicates import Pair, Suggestions
from poller.customers.likeness import MAX_ALIKE, score
from store.engine import Store
from store.records import Address
from store.sealing import Sealer
from tests.databases import long_on
from tests.integration.store_world import (
    account_rules,
    add_customer,
    apply,
    customer,
    customer_of,
    edit,
    exported,
    merge,
)
from tests.unit.matching_world import UK, an_order, rules_of

pytestmark = long_on("postgresql")

NOBODY: dict[str, Any] = {"email": None, "name": None}


def found(store: Store, limit: int = 100) -> Suggestions:
    with store.read() as tx:
        return duplicates.find(tx, limit=limit, tell=lambda _: None)


def at(postal_code: str, **further: str) -> Address:
    return Address(postal_code=postal_code, country="GB", **further)


@pytest.mark.long
def test_r56_pairs_come_with_reason_and_score_the_likeliest_first_and_nothing_is_changed(
    store: Store,
) -> None:
    ann = add_customer(store, name="Ann Buyer", delivery=at("LS1 1AA"), phone="01632 960123")
    bea = add_customer(store, name="Bea", phone="+44 1632 960124", company="Bea Ltd")
    double = add_customer(store, name="buyer ann", billing=at("ls11aa"), phone="+44 1632 960123")
    cem = add_customer(store, name="Cem", company="BEA")
    add_customer(store, name="Ann Buyer", delivery=at("LS1 1AA"), phone="01632 960123", business="beta")
    before = exported(store)
    suggestions = found(store)
    both = ("name_and_postcode", "phone")
    assert suggestions.pairs == (
        Pair(ann, double, score(both), both),  # type: ignore[arg-type]
        Pair(bea, cem, score(("company",)), ("company",)),
    )
    assert (suggestions.total, suggestions.common) == (2, {})
    assert found(store, limit=1).pairs == suggestions.pairs[:1]
    assert found(store, limit=1).total == 2
    assert exported(store) == before


def test_r56_two_marketplaces_relay_addresses_of_one_person_are_suggested(store: Store) -> None:
    apply(store, an_order("o1", "a@marketplace.amazon.co.uk"), an_order("o2", "b@marketplace.amazon.de"))
    (pair,) = found(store).pairs
    assert {pair.customer_id, pair.other_id} == {customer_of(store, i).customer_id for i in ("o1", "o2")}


def test_r56_an_active_record_is_kept_before_an_unidentified_one(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY))
    apply(store, an_order("o2", name="Ann Recipient"))
    (pair,) = found(store).pairs
    assert (pair.customer_id, pair.other_id) == tuple(customer_of(store, i).customer_id for i in ("o2", "o1"))


def test_r56_tombstones_forgotten_and_marketplaces_records_are_left_out(store: Store) -> None:
    alike: dict[str, Any] = {"name": "Ann", "delivery": at("LS1"), "phone": "01632 960123"}
    ann, double = add_customer(store, **alike), add_customer(store, **alike)
    add_customer(store, status="forgotten", **alike)
    add_customer(store, special="shared:acme:UK", **alike)
    assert len(found(store).pairs) == 1
    merge(store, ann, double)
    assert found(store).pairs == ()


def test_r56_uk_and_gb_are_one_country(store: Store) -> None:
    """UK was stored as it was typed, and its pair was not found (review of customers, F7)."""
    typed = Address(postal_code="LS1 1AA", country="UK")
    kept = add_customer(store, name="Ann Buyer", billing=typed)
    double = add_customer(store, name="Ann Buyer", delivery=at("LS1 1AA"))
    (pair,) = found(store).pairs
    assert {pair.customer_id, pair.other_id} == {kept, double}
    edit(store, kept, billing_country="uk")
    billing = customer(store, kept).billing
    assert billing is not None
    assert billing.country == "GB"


def test_r56_what_a_pick_up_point_shares_says_nothing(store: Store) -> None:
    for _ in range(2):
        add_customer(store, delivery=at("LS1", name="Locker", kind="PICKUP_POINT", phone="01632 960123"))
    assert found(store).pairs == ()


def test_r56_what_very_many_share_is_counted_and_not_suggested(store: Store) -> None:
    for i in range(MAX_ALIKE + 1):
        add_customer(store, name=f"Buyer {i}", phone="01632 960123")
    suggestions = found(store)
    assert (suggestions.pairs, suggestions.common) == ((), {"phone": 1})


def test_r22_r56_a_record_that_was_left_after_an_edit_is_suggested_first(store: Store) -> None:
    rules = account_rules(rules_of(UK))
    apply(store, an_order("o1", **NOBODY), rules=rules)
    left = customer_of(store, "o1").customer_id
    edit(store, left, name="By Hand", delivery_postal_code="", phone="")
    apply(store, an_order("o1", updated=5), rules=rules)
    target = customer_of(store, "o1").customer_id
    (pair,) = found(store).pairs
    assert (pair.customer_id, pair.other_id, pair.reasons) == (target, left, ("promoted",))
    merge(store, target, left)
    assert found(store).pairs == ()


def test_r56_every_value_is_opened_at_most_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(7):
        add_customer(store, f"e{i}@example.com", name="Ann", delivery=at("LS1"), billing=at("LS2"))
    monkeypatch.setattr(duplicates, "CHUNK_SIZE", 3)
    opened: Counter[str] = Counter()
    really = Sealer.open

    def counted(self: Sealer, sealed: bytes, place: str) -> bytes:
        opened[place] += 1
        return really(self, sealed, place)

    monkeypatch.setattr(Sealer, "open", counted)
    progress: list[int] = []
    with store.read() as tx:
        assert duplicates.find(tx, limit=100, tell=progress.append).total == 6
    assert progress == [3, 6, 7]
    assert set(opened.values()) == {1}
    assert {place.rpartition(":")[2] for place in opened} == {"person", "delivery"}
