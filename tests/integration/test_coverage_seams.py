"""Neighbouring windows must meet exactly, or coverage shows gaps that are none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from poller.sync.decide import Pace
from store import ledger
from store.progress import gaps, joined
from tests.acceptance.chaos import Life, a_life
from tests.acceptance.truth import overclaimed, stored_versions
from tests.harness import NOON, Shop, SimulatedClock, rules_for

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))


class TickingClock(SimulatedClock):
    """A clock that goes on by itself, like a real one: no two looks at it are the same."""

    def __call__(self) -> datetime:
        self.time += timedelta(microseconds=1_357)
        return self.time


@pytest.mark.long
def test_a_clock_with_fractions_of_a_second_leaves_no_gap_between_windows(tmp_path: Path) -> None:
    start = datetime(2026, 6, 15, 12, 0, 0, 123_456, tzinfo=UTC)
    world = World.generate(
        seed=3, marketplaces=["UK"], orders=150, start=start - timedelta(days=20), end=start
    )
    clock = TickingClock(start)
    shop = Shop(
        f"sqlite:///{tmp_path / 'seams.db'}",
        Simulator(world, now=clock),
        clock,
        [rules_for("UK")],
        start_date=(start - timedelta(days=20)).date(),
        seller=Seller(),
    )
    try:
        shop.run_until(start + timedelta(hours=2))
        with shop.store.read() as tx:
            (progress,) = ledger.load_marketplaces(tx, "acme").values()
            assert progress.history_from is not None
            created = joined(ledger.read_coverage(tx, "acme", progress.marketplace_id, "created"))
            updated = joined(ledger.read_coverage(tx, "acme", progress.marketplace_id, "first"))
        assert gaps(created, progress.history_from, progress.live_from) == []
        assert gaps(updated, progress.live_from, progress.position) == []
    finally:
        shop.close()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """An empty world whose lists are sorted by time, so that one that leaves shifts all behind it."""
    world = World(Seller(), list_order="time")
    made = a_life(1, f"sqlite:///{tmp_path / 'seams.db'}", [rules_for("UK")], world, Random(1))
    yield made
    made.shop.close()


def read_pages(life: Life, many: int) -> datetime:
    """Run until ``many`` more pages with orders were served; return when to request the next."""
    served, clock = life.shop.simulator.served, life.shop.clock
    known, until = len(served), life.shop.clock()
    while len([page for page in served[known:] if page.orders]) < many:
        clock.go_to(max(until, clock() + SECOND))
        until = life.shop.sync()[0].until
    return until


@pytest.mark.long
def test_an_order_that_a_shifting_list_would_hide_is_not_taken_as_seen(life: Life) -> None:
    """A-100 would be skipped by tokens when A-000 leaves the list; C-000 then leaves the next look's list."""
    shop, clock, world = life.shop, life.shop.clock, life.shop.simulator.world
    for n in range(101):
        world.order(f"A-{n:03d}", created=NOON + 10 * MINUTE + n * SECOND)
    life.run_until(NOON + 8 * MINUTE)
    clock.go_to(NOON + 45 * MINUTE)
    life.empty_budget()
    until = read_pages(life, 1)
    changed = (clock() + 20 * SECOND).replace(microsecond=0)
    for n in range(100):
        world.order(f"C-{n:03d}", created=changed - (100 - n) * SECOND)
    world.update("A-000", changed + SECOND, seller_order_id="X")
    world.order("D-000", created=changed + 2 * SECOND)
    clock.go_to(until)
    until = read_pages(life, 1)
    world.update("C-000", (clock() + 20 * SECOND).replace(microsecond=0), seller_order_id="Y")
    clock.go_to(until)
    for _ in range(8):
        read_pages(life, 1)
        assert overclaimed(shop) == []
    life.run_until(clock() + 5 * HOUR)
    assert overclaimed(shop) == []
    assert "A-100" in stored_versions(shop)


@pytest.mark.long
def test_a_second_look_whose_list_shifts_while_it_is_read_still_finds_what_came_late(life: Life) -> None:
    """Thirty orders shown three hours late fill its page; A-000 leaves its list between two pages."""
    shop, clock, world = life.shop, life.shop.clock, life.shop.simulator.world
    for n in range(80):
        world.order(f"A-{n:03d}", created=NOON + HOUR + n * 15 * SECOND, status="SHIPPED")
    life.run_until(NOON + 5 * MINUTE)
    late = {f"B-{n:03d}": NOON + HOUR + n * 30 * SECOND + SECOND for n in range(30)}
    for order_id, updated in late.items():
        world.order(order_id, created=NOON - 8 * DAY, status="SHIPPED")
        world.update(order_id, updated, late=3 * HOUR, status="SHIPPED", seller_order_id="NEW")
    shop.pace = Pace(3 * 3600, 3 * 3600)
    life.run_until(NOON + 25 * HOUR + 15 * MINUTE)
    assert not late.keys() & stored_versions(shop).keys()
    life.empty_budget()
    known = len(shop.simulator.served)
    clock.go_to(read_pages(life, 1))
    (page,) = [page for page in shop.simulator.served[known:] if page.orders]
    assert len(page.orders) == 100
    world.update(
        "A-000", (clock() - 20 * SECOND).replace(microsecond=0), status="SHIPPED", seller_order_id="Z"
    )
    life.run_until(NOON + 60 * HOUR)
    assert overclaimed(shop) == []
    assert late.items() <= stored_versions(shop).items()


@pytest.mark.long
def test_a_crowded_second_whose_list_shifts_while_it_is_walked_is_not_taken_as_seen(life: Life) -> None:
    """Within one second tokens are followed: A-100 is skipped when A-000 leaves between two pages."""
    shop, clock, world = life.shop, life.shop.clock, life.shop.simulator.world
    life.run_until(NOON + 5 * MINUTE)
    for n in range(130):
        world.order(f"A-{n:03d}", created=NOON + 10 * MINUTE, status="SHIPPED")
    clock.go_to(NOON + 20 * MINUTE)
    life.empty_budget()
    served = shop.simulator.served
    is_walked = False
    while not is_walked:
        until = shop.sync()[0].until
        page = served[-1]
        if "lastUpdatedAfter" in page.query and len(page.orders) == 100:
            lower, upper = (page.query[f"lastUpdated{end}"][0] for end in ("After", "Before"))
            is_walked = datetime.fromisoformat(upper) - datetime.fromisoformat(lower) == SECOND
        clock.go_to(max(until, clock() + SECOND))
    shown = {order["orderId"] for order in page.orders if isinstance(order, dict)}
    for order_id in sorted(shown)[:3]:
        world.update(order_id, (clock() - 20 * SECOND).replace(microsecond=0), seller_order_id="Y")
    for _ in range(12):
        clock.go_to(shop.sync()[0].until)
        assert overclaimed(shop) == []
    life.run_until(clock() + 3 * HOUR)
    assert len(stored_versions(shop)) == 130
