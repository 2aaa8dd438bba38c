"""Neighbouring windows must meet exactly, or coverage shows gaps that are none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from poller.sync.windows import Pace
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


def test_an_order_skipped_by_one_walk_is_not_taken_as_seen_because_the_next_walk_is_unproven_too(
    life: Life,
) -> None:
    """A-100 is skipped when A-000 leaves the list; C-000 then makes the walk that could tell unproven too."""
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


def test_a_second_look_whose_list_shifts_while_it_is_read_still_finds_what_came_late(life: Life) -> None:
    """B changed after all of A and is shown three hours late; A-000 leaves the list of the second look."""
    shop, clock, world = life.shop, life.shop.clock, life.shop.simulator.world
    world.order("B-000", created=NOON - 8 * DAY, status="SHIPPED")
    for n in range(100):
        world.order(f"A-{n:03d}", created=NOON + HOUR + n * MINUTE, status="SHIPPED")
    shop.start_date = (NOON - 9 * DAY).date()
    life.run_until(NOON + 5 * MINUTE)
    world.update("B-000", NOON + 4 * HOUR, late=3 * HOUR, status="SHIPPED", seller_order_id="NEW")
    shop.pace = Pace(3 * 3600, 3 * 3600)
    life.run_until(NOON + 35 * HOUR + 30 * MINUTE)
    assert stored_versions(shop)["B-000"] == NOON - 8 * DAY
    clock.go_to(NOON + 36 * HOUR + 5 * MINUTE)
    life.empty_budget()
    read_pages(life, 1)
    world.update(
        "A-000", (clock() + 20 * SECOND).replace(microsecond=0), status="SHIPPED", seller_order_id="Z"
    )
    life.run_until(NOON + 80 * HOUR)
    assert overclaimed(shop) == []
    assert stored_versions(shop)["B-000"] == NOON + 4 * HOUR
