"""Orders without buyer data are erased, too, if that is wanted (R64), and nothing brings them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from connectors.orders import UnreadableOrder
from poller.matching.retention import Retention
from poller.privacy.purge import Purge
from store import changes, queries
from store import tables as t
from store.change_records import START
from tests.databases import long_on
from tests.integration.retention_world import Place, a_place, day, delivered, minutes
from tests.integration.store_world import basis, count, customer, customer_of, merge, row, unmerge
from tests.unit.matching_world import T0

YEAR = Retention(30, 18, 12)
BEA = "bea@marketplace.amazon.co.uk"


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    for place in a_place(database_url):
        place.retention = YEAR
        yield place


def stored(place: Place) -> list[str]:
    with place.store.read() as tx:
        return sorted(order.order_id for order in queries.list_orders(tx, limit=100))


def events(place: Place) -> list[tuple[str, str | None, int | None]]:
    with place.store.read() as tx:
        return [(e.kind, e.order_id, e.customer_id) for e in changes.changes_after(tx, START, 100).events]


def test_r64_an_order_is_erased_with_its_lines_and_its_customer_stays(place: Place) -> None:
    place.apply(delivered("o1"), delivered("o2", BEA, on=20))
    key = customer_of(place.store).customer_id
    assert place.purge(60).deleted == 0
    done = place.purge(366)
    assert (done.deleted, done.finished, stored(place)) == (1, True, ["o2"])
    assert count(place.store, t.orders) == count(place.store, t.order_lines) == 1
    assert customer(place.store, key).status == "active"
    assert place.purge().deleted == 0
    assert events(place)[-1] == ("order.erased", "o1", key)
    assert [kind for kind, order_id, _ in events(place) if order_id == "o1"] == ["order.erased"]
    assert place.purge(390).deleted == 1
    assert count(place.store, t.order_lines) == 0


@long_on("postgresql")
def test_r64_nothing_brings_an_erased_order_back(place: Place) -> None:
    place.apply(delivered("o1"))
    place.purge(400)
    before = events(place)
    place.apply(delivered("o1"))
    place.apply(delivered("o1", updated=minutes(day(399))))
    place.apply(delivered("new", BEA, on=3))  # as a backfill shows it that reads its time once more
    old = UnreadableOrder("o1", "A1F83G8C2ARO7P", "no total", '{"orderId": "o1"}', day(2))
    place.apply(unreadable=(old, replace(old, order_id="o9", last_updated_at=day(399))))
    assert stored(place) == []
    assert events(place) == before
    assert count(place.store, t.customers) == 1
    assert row(place.store, t.quarantine)["order_id"] == "o9"


@long_on("postgresql")
def test_r64_a_stored_order_is_kept_up_to_date_until_it_is_erased(place: Place) -> None:
    place.apply(delivered("o1"))
    place.clock.go_to(day(400))
    place.apply(delivered("o1", updated=minutes(day(399))))
    with place.store.read() as tx:
        (order,) = queries.find_orders(tx, "o1")
    assert order.last_updated_at == day(399)
    assert place.purge().deleted == 1


@long_on("postgresql")
def test_r64_an_order_that_still_has_its_buyer_stays(place: Place) -> None:
    place.apply(delivered("o1", on=380, created_at=T0))  # ordered long before it was delivered
    assert place.purge(381).deleted == 0
    assert place.purge(411).deleted == 1


@long_on("postgresql")
def test_r64_a_buyer_is_recognised_for_as_long_as_without_it(place: Place) -> None:
    place.apply(delivered("o1"))
    key = customer_of(place.store).customer_id
    place.purge(33)
    place.apply(delivered("o2", on=200))
    place.purge(600)
    assert stored(place) == []
    # Eighteen months count from the last order, although it is erased.
    assert row(place.store, t.customers)["idle_since"] == day(198)
    place.apply(delivered("o3", on=599))
    assert (basis(place.store, "o3"), customer_of(place.store, "o3").customer_id) == ("retained_hash", key)
    assert place.purge(1100).deleted == 1
    assert count(place.store, t.customer_emails) == 1
    assert place.purge(1200).hashes == 1


@long_on("postgresql")
def test_r64_a_merge_whose_orders_were_erased_is_undone(place: Place) -> None:
    place.apply(delivered("o1"), delivered("o2", BEA, on=100))
    kept, other = (customer_of(place.store, order_id).customer_id for order_id in ("o1", "o2"))
    merge(place.store, kept, other)
    assert place.purge(390).deleted == 1
    assert count(place.store, t.merged_orders) == 1
    unmerge(place.store, other)
    assert customer_of(place.store, "o2").customer_id == other
    assert place.purge(470).deleted == 1


@long_on("postgresql")
def test_r64_many_orders_are_erased_in_small_transactions(place: Place) -> None:
    place.apply(*(delivered(f"o{number}", f"b{number}@example.com") for number in range(120)))
    asked = iter([False] * 8)
    place.clock.go_to(day(400))
    stopped = Purge(place.store, YEAR, stopping=lambda: next(asked, True)).run()
    rest = place.purge()
    assert not stopped.finished
    assert (stopped.deleted + rest.deleted, rest.finished, stored(place)) == (120, True, [])


@long_on("postgresql")
@pytest.mark.parametrize("retention", [Retention(30, 18, None), Retention(None, 18, 12)])
def test_r64_off_erases_no_order(place: Place, retention: Retention) -> None:
    place.retention = retention
    place.apply(delivered("o1"))
    assert place.purge(4000).deleted == 0
    assert stored(place) == ["o1"]
    assert retention.orders_since(datetime.max.replace(tzinfo=T0.tzinfo)) is None
