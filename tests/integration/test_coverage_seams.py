"""Neighbouring windows must meet exactly, or coverage shows gaps that are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from store import ledger
from store.progress import gaps, joined
from tests.harness import Shop, SimulatedClock, rules_for


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
