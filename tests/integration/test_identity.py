"""Amazon stops showing who buys: counted with the pages, found by the day."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest

from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from poller.matching.buyer_visibility import drops
from poller.monitoring.snapshot import buyers_shown
from poller.sync.decide import Pace
from store import runs
from tests.harness import NOON, Shop, SimulatedClock, rules_for


@pytest.mark.long
def test_a_role_that_was_taken_away_shows_on_the_same_day(database_url: str) -> None:
    start = NOON - timedelta(days=1)
    world = World.generate(
        seed=31, marketplaces=("UK",), orders=400, start=start, end=NOON + timedelta(days=7), withheld=0.0
    )
    clock = SimulatedClock(NOON)
    shop = Shop(database_url, Simulator(world, now=clock), clock, [rules_for("UK")], start.date())
    with closing(shop):
        shop.pace = Pace(2 * 3600, 2 * 3600)
        lost = (NOON + timedelta(days=5)).replace(hour=0)
        shop.run_until(lost)
        with shop.store.read() as tx:
            before = buyers_shown(tx, ["acme:EU"]).get("acme:EU", {})
            assert drops(before, tx.now.date()) == ()
        assert len(before) >= 5
        assert sum(s.identifiable for s in before.values()) > 100
        assert all(s.with_email == s.identifiable for s in before.values()), "all that may have one"
        world.enrol(Seller(marketplaces=("UK",), roles=frozenset()))
        shop.run_until(lost + timedelta(hours=20))
        with shop.store.read() as tx:
            after = buyers_shown(tx, ["acme:EU"]).get("acme:EU", {})
            fell = drops(after, tx.now.date())
            newest = runs.latest(tx, "acme:EU")
        assert {drop.field for drop in fell} == {"email", "name"}
        assert {drop.day for drop in fell} == {lost.date()}
        assert all(drop.share == 0 for drop in fell)
        assert newest is not None


def test_a_history_is_not_counted(database_url: str) -> None:
    start = NOON - timedelta(days=30)
    world = World.generate(
        seed=32, marketplaces=("UK",), orders=60, start=start, end=NOON - timedelta(days=8)
    )
    clock = SimulatedClock(NOON)
    shop = Shop(database_url, Simulator(world, now=clock), clock, [rules_for("UK")], start.date())
    with closing(shop):
        shop.sync()
        with shop.store.read() as tx:
            assert sum(s.identifiable for s in buyers_shown(tx, ["acme:EU"]).get("acme:EU", {}).values()) == 0
