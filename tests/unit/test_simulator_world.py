"""The simulator's invented orders: the same for the same seed, of every kind, and true to Amazon's model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.marketplaces import BY_ID
from connectors.simulator.orders import POISONS, order
from connectors.simulator.population import FUTURE_PROGRAM, FUTURE_STATUS
from connectors.simulator.world import World

START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
PLACES = ("UK", "DE", "JP", "US", "BR")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def generate(seed: int = 1, orders: int = 3000, **habits: Any) -> World:
    return World.generate(seed=seed, marketplaces=PLACES, orders=orders, start=START, end=END, **habits)


def versions_of(world: World) -> list[Any]:
    return [(v.last_updated, v.visible_at, v.payload) for one in world.orders() for v in one.versions]


@pytest.fixture(scope="module")
def world() -> World:
    return generate()


@pytest.fixture(scope="module")
def payloads(world: World) -> list[dict[str, Any]]:
    """Return the last version of every order as Amazon's complete JSON."""
    found: list[dict[str, Any]] = []
    for one in world.orders():
        payload = one.versions[-1].payload
        assert isinstance(payload, dict)
        found.append(payload)
    return found


def test_the_same_seed_makes_the_same_world_and_another_seed_another() -> None:
    assert versions_of(generate(5, 200)) == versions_of(generate(5, 200))
    assert versions_of(generate(5, 200)) != versions_of(generate(6, 200))


def test_every_time_lies_between_start_and_end_and_never_runs_backwards(world: World) -> None:
    assert len(world.orders()) == 3000
    for one in world.orders():
        updated = [v.last_updated for v in one.versions]
        visible = [v.visible_at for v in one.versions]
        assert START - timedelta(seconds=1) <= one.created <= updated[0] <= updated[-1] <= END
        assert (updated, visible) == (sorted(updated), sorted(visible))
        assert all(v.visible_at >= v.last_updated for v in one.versions)


def test_some_updates_are_shown_hours_late(world: World) -> None:
    late = [v for one in world.orders() for v in one.versions if v.visible_at > v.last_updated]
    assert 0 < len(late) < 300
    assert max(v.visible_at - v.last_updated for v in late) > timedelta(hours=6)


def test_every_status_and_every_kind_of_order_occurs(world: World, payloads: list[dict[str, Any]]) -> None:
    statuses = {v.facts.status for one in world.orders() for v in one.versions}
    assert statuses == {
        "PENDING_AVAILABILITY", "PENDING", "UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED", "CANCELLED",
        "UNFULFILLABLE", FUTURE_STATUS,
    }  # fmt: skip
    programs = {program for one in payloads for program in one["programs"]}
    assert programs == {"PRIME", "AMAZON_BUSINESS", "INVOICE_BY_AMAZON", "IN_STORE_PICK_UP", FUTURE_PROGRAM}
    assert {one["fulfillment"]["fulfilledBy"] for one in payloads} == {"AMAZON", "MERCHANT"}
    kinds = {one.get("recipient", {}).get("deliveryAddress", {}).get("addressType") for one in payloads}
    assert {"RESIDENTIAL", "COMMERCIAL", "PICKUP_POINT"} <= kinds
    channels = Counter(
        (one["salesChannel"]["channelName"], one["salesChannel"].get("marketplaceId") in BY_ID)
        for one in payloads
    )
    assert channels.keys() == {("AMAZON", True), ("NON_AMAZON", False)}
    assert any("marketplaceId" not in one["salesChannel"] for one in payloads)
    packages = {p["packageStatus"]["status"] for one in payloads for p in one.get("packages", ())}
    assert packages == {"IN_TRANSIT", "DELIVERED", "UNDELIVERABLE"}
    assert any("carbonLabel" in one for one in payloads)


def test_every_trap_for_the_reader_of_an_item_occurs(payloads: list[dict[str, Any]]) -> None:
    items = [item for one in payloads for item in one["orderItems"]]
    assert any("sellerSku" not in item["product"] for item in items)
    assert any("asin" not in item["product"] for item in items)
    assert any(item["quantityOrdered"] == 0 for item in items)
    assert any("customization" in item["product"] for item in items)
    assert any("price" not in item["product"] for item in items)
    assert any("tax" in item for item in items)
    assert any(
        "giftMessage" in item["fulfillment"].get("packing", {}).get("giftOption", {}) for item in items
    )
    breakdowns = [b for item in items for b in item.get("proceeds", {}).get("breakdowns", ())]
    known = {"ITEM", "TAX", "SHIPPING", "GIFT_WRAP", "DISCOUNT", "COD_FEE", "OTHER"}
    assert {b["type"] for b in breakdowns} == known
    currencies = [
        {b["subtotal"]["currencyCode"] for b in item["proceeds"]["breakdowns"]}
        for item in items
        if "proceeds" in item
    ]
    assert {len(each) for each in currencies} == {1, 2}
    schemes = [
        scheme["reportingScheme"]
        for item in items
        for scheme in item.get("tax", {}).get("taxCalculationBreakdowns", ())
    ]
    assert {*schemes} == {"IOSS", "UOSS"}
    discounts = [b["subtotal"]["amount"] for b in breakdowns if b["type"] == "DISCOUNT"]
    assert len({amount.startswith("-") for amount in discounts}) == 2, "Amazon documents no sign"
    addresses = [one.get("recipient", {}).get("deliveryAddress", {}) for one in payloads]
    assert any(address.get("addressLine3") == "" for address in addresses)
    assert {len(one["createdTime"]) for one in payloads} == {20, 24}
    tipped = [one for one in payloads if "breakdowns" in one.get("proceeds", {})]
    assert {b["type"] for one in tipped for b in one["proceeds"]["breakdowns"]} == {*known, "DELIVERY_TIP"}


def test_yen_have_no_decimals_and_all_other_money_has_two(payloads: list[dict[str, Any]]) -> None:
    for one in payloads:
        total = one.get("proceeds", {}).get("grandTotal")
        if total is not None:
            pattern = r"-?\d+" if total["currencyCode"] == "JPY" else r"-?\d+\.\d\d"
            assert re.fullmatch(pattern, total["amount"])


def test_replacements_are_free_and_name_an_earlier_order(payloads: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    replacements = 0
    for one in payloads:
        for link in one["associatedOrders"]:
            assert (link["associationType"], link["orderId"] in seen) == ("REPLACEMENT_ORIGINAL_ID", True)
            assert one.get("proceeds", {}).get("grandTotal", {}).get("amount", "0") in {"0", "0.00"}
            replacements += 1
        seen.add(one["orderId"])
    assert replacements > 20


def test_buyers_come_back_with_one_address_a_marketplace(payloads: list[dict[str, Any]]) -> None:
    homes: defaultdict[str, set[str]] = defaultdict(set)
    names: defaultdict[str, set[str]] = defaultdict(set)
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    orders = 0
    for one in payloads:
        email = one.get("buyer", {}).get("buyerEmail")
        if email is None or email.startswith("no-reply"):
            continue
        orders += 1
        place = BY_ID[one["salesChannel"]["marketplaceId"]]
        assert re.fullmatch(rf"[A-Za-z0-9]{{15}}@{re.escape(place.relay_domain)}", email)
        homes[email.lower()].add(place.id)
        names[email.lower()].add(one["buyer"]["buyerName"])
        spellings[email.lower()].add(email)
    assert all(len(places) == 1 for places in homes.values())
    assert 0.65 < len(homes) / orders < 0.95
    assert any(len(given) > 1 for given in names.values())
    assert any(len(written) > 1 for written in spellings.values())


def test_invoices_by_amazon_all_have_the_shared_address(payloads: list[dict[str, Any]]) -> None:
    emails = {
        one["buyer"]["buyerEmail"].split("@")[0] for one in payloads if "INVOICE_BY_AMAZON" in one["programs"]
    }
    assert emails == {"no-reply-amazon-iba-buyer"}


def test_shares_can_be_set() -> None:
    plain = generate(2, 300, amazon_fulfilled=0, late=0, withheld=0, future=0, returning=0)
    facts = [v.facts for one in plain.orders() for v in one.versions]
    assert {one.fulfilled_by for one in facts} == {"MERCHANT"}
    assert not any(one.withheld for one in facts)
    rude = generate(2, 300, poisoned=0.5, withheld=0.5)
    facts = [v.facts for one in rude.orders() for v in one.versions]
    assert {one.poison for one in facts} == {None, *POISONS}
    assert any(one.withheld for one in facts)


@pytest.mark.long
def test_twenty_thousand_orders_are_listed_by_interval_without_reading_them_all() -> None:
    world = generate(3, 20_000)
    at = END + timedelta(days=1)
    day = (END - timedelta(days=3), END - timedelta(days=2))
    ids = frozenset(BY_ID)
    found = world.listing("seller", at=at, axis="updated", after=day[0], before=day[1], marketplace_ids=ids)
    naive = {
        one.order_id
        for one in world.orders()
        if not one.unlisted and (version := one.current(at)) and day[0] <= version.last_updated <= day[1]
    }
    assert {one.order_id for one, _ in found} == naive
    assert len(found) == len(naive) > 100
    again = world.listing("seller", at=at, axis="updated", after=day[0], before=day[1], marketplace_ids=ids)
    assert again is found, "the next page of a walk asks for the same list"


def test_a_new_version_replaces_the_order_everywhere() -> None:
    world = World()
    world.order("A-1", created=NOON)
    world.order("A-2", created=NOON)
    world.update("A-1", NOON + timedelta(hours=1), status="SHIPPED", phone="+999 1")
    first, second = world.orders()
    assert [len(first.versions), len(second.versions)] == [2, 1]
    later = NOON + timedelta(hours=2)
    listed = world.listing(
        "seller", at=later, axis="updated", after=NOON, before=later, marketplace_ids=frozenset(BY_ID)
    )
    assert Counter(one.order_id for one, _ in listed) == {"A-1": 1, "A-2": 1}
    delivery = first.versions[1].facts.delivery
    assert delivery is not None
    assert (delivery.phone, delivery.line1) == ("+999 1", "1 Invented Street")


def test_a_line_is_enough_to_state_an_order() -> None:
    stated = order("A-1", created=NOON, marketplace="DE", email="x@y", amount="12.5", quantity=2)
    payload = stated.then(NOON + timedelta(hours=1), email=None, city="Testhausen").versions[-1].payload
    assert isinstance(payload, dict)
    assert payload["buyer"] == {"buyerName": "Testa Invented"}
    assert payload["recipient"]["deliveryAddress"]["city"] == "Testhausen"
    assert payload["proceeds"]["grandTotal"] == {"amount": "25.00", "currencyCode": "EUR"}
    amended = order("A-2", created=NOON, amend=lambda body: body | {"orderId": 7}).versions[0].payload
    assert isinstance(amended, dict)
    assert amended["orderId"] == 7
