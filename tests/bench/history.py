"""How long history takes by Amazon's limits, on a simulated clock: by searching alone, and by both budgets.

The limit that it is held against is computed from the published plans and the time that a report takes. Run
alone with ``python -m tests.bench.history [ORDERS]``.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from connectors.amazon.usage_plans import PLANS
from connectors.simulator.api import Simulator
from connectors.simulator.faults import SEARCH
from connectors.simulator.reports import IN_PROGRESS, IN_QUEUE
from connectors.simulator.world import World
from poller.sync.decide import SECOND_LOOK_SPAN, SETTLED_SPAN, SLOWEST_PACE
from store import ledger, tables
from store.progress import Way
from tests.harness import NOON, Shop, SimulatedClock, rules_for

ORDERS = 100_000
FEW = 5_000
SPAN = timedelta(days=180)


def physical_limit(orders: int, searches_before: int, *, both: bool) -> timedelta:
    """The least time that the buckets allow beside what else is due.

    That is a live look each ten minutes, a second look each ninety and a settled range each four hours.
    Orders are fetched by id only once a report that names them is made.
    """
    search, get = PLANS["searchOrders"], PLANS["getOrder"]
    at_once = 100.0 * (search.burst - searches_before)
    looks = 1 / SLOWEST_PACE + 1 / SECOND_LOOK_SPAN.total_seconds() + 1 / SETTLED_SPAN.total_seconds()
    rate = 100 * (search.rate - looks)
    if both:
        made = (IN_QUEUE + IN_PROGRESS).total_seconds()
        at_once, rate = at_once + get.burst - get.rate * made, rate + get.rate
    return timedelta(seconds=max(0.0, (orders - at_once) / rate))


def measure(folder: Path, orders: int, way: Way) -> None:
    """Fetch a history once, and print what it took."""
    world = World.generate(
        seed=3,
        marketplaces=["UK"],
        orders=orders,
        start=NOON - SPAN,
        end=NOON - timedelta(minutes=10),
        late=0.0,
    )
    clock = SimulatedClock(NOON)
    rules = rules_for("UK")
    shop = Shop(f"sqlite:///{folder / f'{way}.db'}", Simulator(world, now=clock), clock, [rules])
    shop.sync()
    before = sum(r.operation == SEARCH for r in shop.simulator.requests)
    live = [s.at for s in shop.simulator.served]
    with shop.store.begin() as tx:
        upper = ledger.load_marketplaces(tx, "acme")[rules.marketplace_id].live_from
        ledger.open_backfill(tx, "acme", rules.marketplace_id, "manual", NOON - SPAN, upper, way)
    while True:
        reports = shop.sync()
        live += [s.at for s in shop.simulator.served if "lastUpdatedAfter" in s.query]
        shop.simulator.served.clear()
        with shop.store.read() as tx:
            if ledger.load_backfills(tx)[0].state == "done":
                break
        clock.go_to(max(min(r.until for r in reports), clock() + timedelta(milliseconds=1)))
    with shop.store.read() as tx:
        stored = tx.conn.execute(sa.select(sa.func.count()).select_from(tables.orders)).scalar_one()
        requests = ledger.load_backfills(tx)[0].requests
    refused = sum(r.status == 429 for r in shop.simulator.requests)
    took, limit = clock() - NOON, physical_limit(orders, before, both=way != "search")
    longest = max((b - a for a, b in pairwise([*live, clock()])), default=timedelta())
    name = "by searching alone" if way == "search" else "by both budgets"
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    print(
        f"{name:<20} {took / hour:7.2f} h, {took / limit:.3f} times the limit of {limit / hour:.2f} h  "
        f"({stored:,} stored, {requests:,} requests, {refused} refused, "
        f"longest between live polls {longest / minute:.0f} min)"
    )
    shop.close()


def main(orders: int = ORDERS) -> None:
    ways: tuple[Way, ...] = ("search", "auto")
    for size in sorted({FEW, orders}):
        print(f"\nhistory of {size:,} orders in {SPAN.days} days, by Amazon's plans (simulated time)")
        with tempfile.TemporaryDirectory(prefix="order-sync-history-") as name:
            for way in ways:
                measure(Path(name), size, way)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ORDERS)
