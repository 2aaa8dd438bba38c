"""What Amazon's published limits allow is reached, and never exceeded: on a simulated clock, default plans.

Every number here is counted at the simulator, which enforces the usage plans, or read from the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.base import UsagePlan
from connectors.simulator.api import Served, Simulator
from connectors.simulator.faults import SEARCH, Faults
from connectors.simulator.orders import Order, order
from connectors.simulator.world import Seller, World
from poller.sync.decide import Pace
from store import ledger, tables
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.oracle import compare

TOKEN = timedelta(seconds=178.6)
"""One searchOrders call is allowed in this time (Amazon's default plan: 0.0056 a second)."""

BURST = 20
EU = ("UK", "DE", "FR", "IT", "ES", "NL", "BE", "IE", "SE", "PL")
DAY = timedelta(days=1)


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'limits.db'}"


def shop_of(url: str, world: World, clock: SimulatedClock, codes: Sequence[str], **more: Any) -> Shop:
    return Shop(url, Simulator(world, now=clock), clock, [rules_for(code) for code in codes], **more)


def seller_of(codes: Sequence[str]) -> Seller:
    return Seller(marketplaces=tuple(codes))


def searches(shop: Shop) -> list[datetime]:
    return [r.at for r in shop.simulator.requests if r.operation == SEARCH]


def throttled(shop: Shop) -> int:
    return sum(r.status == 429 for r in shop.simulator.requests)


def asked(served: Served, name: str) -> datetime | None:
    """The value of a time parameter of a search."""
    return datetime.fromisoformat(served.query[name][0]) if name in served.query else None


def walk_of(shop: Shop, live_from: datetime) -> list[Served]:
    """The pages of the history before ``live_from``: what backfills requested."""
    return [s for s in shop.simulator.served if (asked(s, "createdBefore") or NOON + 99 * DAY) <= live_from]


def longest_pause(times: Sequence[datetime], since: datetime, until: datetime) -> timedelta:
    points = [since, *times, until]
    return max(b - a for a, b in pairwise(points))


def assert_within_plan(times: Sequence[datetime], rate: float = 0.0056, burst: int = BURST) -> None:
    for number, at in enumerate(times, 1):
        assert number <= burst + rate * (at - times[0]).total_seconds() + 1e-6


# --- the walk over 5,000 orders ---------------------------------------------------------------------


@dataclass
class Walked:
    shop: Shop
    began: datetime
    took: timedelta


@pytest.fixture(
    scope="module",
    params=[30, pytest.param(2, marks=pytest.mark.long)],
    ids=["over 30 days", "within two days"],
)
def walked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    """A shop with nearly 5,000 orders of history, run until the backfill of its start date is done."""
    history = timedelta(days=request.param)
    clock = SimulatedClock(NOON)
    world = World.generate(
        seed=3,
        marketplaces=["UK"],
        orders=4_990,
        start=NOON - history,
        end=NOON - timedelta(minutes=10),
        late=0.0,
    )
    shop = shop_of(
        sqlite(tmp_path_factory.mktemp("walk")), world, clock, ["UK"], start_date=(NOON - history).date()
    )
    while True:
        reports = shop.sync()
        with shop.store.read() as tx:
            if [b.state for b in ledger.load_backfills(tx, "acme")] == ["done"]:
                break
        clock.go_to(max(min(r.until for r in reports), clock() + timedelta(milliseconds=1)))
    yield Walked(shop, NOON, clock() - NOON)
    shop.close()


@pytest.mark.long
def test_a_walk_over_4990_orders_takes_50_requests_and_one_for_each_boundary(walked: Walked) -> None:
    shop = walked.shop
    with shop.store.read() as tx:
        live_from = ledger.load_marketplaces(tx, "acme")[shop.rules[0].marketplace_id].live_from
    walk = walk_of(shop, live_from)
    windows = {s.query["createdAfter"] for s in walk}
    assert len(shop.simulator.world.orders()) == 4_990
    assert 50 <= len(walk) <= 50 + len(windows) - 1
    with shop.store.read() as tx:
        stored = set(tx.conn.execute(sa.select(tables.orders.c.order_id)).scalars())
    wanted = (one for one in shop.simulator.world.orders() if not one.is_of_other_shop)
    assert stored == {one.order_id for one in wanted}


@pytest.mark.long
def test_a_walk_meets_no_429_and_takes_no_longer_than_the_plan_demands(walked: Walked) -> None:
    """All searches of that time count. Those of the walk alone (51) would have to be made in 5,648 s, but in
    these 5,648 s the plan allows 51 requests in all, and live polling goes on: it needs one each 600 s.
    """
    shop = walked.shop
    made = len(searches(shop))
    assert throttled(shop) == 0
    assert_within_plan(searches(shop))
    assert walked.took <= (made - BURST) * TOKEN * 1.02


def test_live_polling_goes_on_every_600_seconds_while_a_backfill_waits(walked: Walked) -> None:
    shop = walked.shop
    live = [s.at for s in shop.simulator.served if "lastUpdatedAfter" in s.query]
    assert longest_pause(live, walked.began, walked.began + walked.took) <= timedelta(seconds=600) + TOKEN
    # And no more often than that once the burst is spent: the rest is the backfill's.
    assert len(live) <= walked.took / timedelta(seconds=600) + 2


# --- many marketplaces ------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 3, 10])
def test_an_idle_pass_costs_one_request_whatever_the_number_of_marketplaces(
    many: int, tmp_path: Path
) -> None:
    clock = SimulatedClock(NOON)
    shop = shop_of(sqlite(tmp_path), World(seller_of(EU[:many])), clock, EU[:many])
    for passed in range(1, 11):
        reports = shop.sync()
        assert [r.outcome for r in reports] == ["complete"]
        assert len(searches(shop)) == passed
        assert len(shop.simulator.served[-1].query["marketplaceIds"][0].split(",")) == many
        clock.go_to(reports[0].until)
    assert clock() == NOON + 10 * timedelta(seconds=180)
    shop.close()


@dataclass
class Stored:
    """When which version was first seen in the database."""

    shop: Shop
    position: int = 0
    at: dict[tuple[str, datetime], datetime] = field(default_factory=dict)

    def look(self) -> None:
        c = tables.orders.c
        with self.shop.store.read() as tx:
            for row in tx.rows(sa.select(c.order_id, c.last_updated_at, c.change_no).where(
                c.change_no > self.position
            )):  # fmt: skip
                self.at.setdefault((row.order_id, row.last_updated_at), self.shop.clock())
                self.position = max(self.position, row.change_no)


def an_update(number: int, at: datetime) -> Order:
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    return order(
        f"203-{number:07d}-0000000",
        created=at,
        marketplace=EU[number % len(EU)],
        status="SHIPPED",
        milliseconds=True,
    )


@pytest.mark.long
@pytest.mark.timeout(400)  # 1,220 polls; a minute and more on a busy machine
def test_ten_marketplaces_together_are_fresh_within_seven_minutes_also_while_sweeps_run(
    tmp_path: Path,
) -> None:
    """Three days with 300 updates a day, the service's own second looks and created-time passes included.

    Every hour one order is updated a millisecond after the bound that was just requested: the worst
    time there is. The clock's odd fraction of a second is the worst for a Date header of whole seconds.
    """
    days, every = 3, timedelta(seconds=288)
    began = NOON + timedelta(milliseconds=999)
    clock = SimulatedClock(began)
    end = began + timedelta(hours=61)  # the third day's sweeps are done by then
    world = World(seller_of(EU))
    moments = [began + i * every + timedelta(seconds=i * 37 % 288) for i in range(int((end - began) / every))]
    spread = [an_update(i, at) for i, at in enumerate(moments)]
    world.add(*spread)
    updates = {one.order_id: one.created for one in spread}
    shop = shop_of(sqlite(tmp_path), world, clock, EU)
    stored = Stored(shop)
    oldest_bound = timedelta(0)
    worst_moments = 0
    while clock() < end + timedelta(minutes=7):
        with shop.store.read() as tx:
            bounds = [m.position for m in ledger.load_marketplaces(tx, "acme").values()]
        if bounds:
            oldest_bound = max(oldest_bound, clock() - min(bounds))
        (report,) = shop.sync()
        stored.look()
        if clock() < end and clock() >= began + worst_moments * timedelta(hours=1):
            with shop.store.read() as tx:
                bound = max(m.position for m in ledger.load_marketplaces(tx, "acme").values())
            worst = an_update(1_000_000 + worst_moments, bound + timedelta(milliseconds=1))
            world.add(worst)
            updates[worst.order_id] = worst.created
            worst_moments += 1
        clock.go_to(report.until)

    worst_of_day = [timedelta(0)] * days
    for order_id, at in updates.items():
        day = max(0, (at - began) // DAY)
        worst_of_day[day] = max(worst_of_day[day], stored.at[order_id, at] - at)
    assert worst_moments == 61
    assert max(worst_of_day) < timedelta(minutes=7), worst_of_day
    assert oldest_bound < timedelta(minutes=7)
    assert throttled(shop) == 0
    with shop.store.read() as tx:
        for rules in shop.rules:
            (second,) = ledger.read_coverage(tx, "acme", rules.marketplace_id, "second")
            assert second.upper - second.lower == timedelta(hours=36)
    settled = [
        (s.at, lower, upper)
        for s in shop.simulator.served
        if (lower := asked(s, "createdAfter")) and (upper := asked(s, "createdBefore"))
    ]
    assert all(at - upper < timedelta(hours=27) for at, _, upper in settled), settled
    assert settled[0][1] == NOON - timedelta(seconds=129)
    assert all(earlier[2] == later[1] for earlier, later in pairwise(settled)), "no range is left out"
    assert settled[-1][2] > end - timedelta(hours=27 + 4), "and none waits that is due"
    shop.close()


# --- scarcity ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_live_sweep_and_backfill_all_get_on_when_live_updates_alone_exceed_the_quota(tmp_path: Path) -> None:
    """2,600 updates an hour arrive where 2,016 can be read; second looks, a day late, and a history wait."""
    clock = SimulatedClock(NOON)
    flood_begins, flood_ends = NOON + timedelta(hours=48), NOON + timedelta(hours=52, minutes=10)
    world = World()
    first_day = [
        order(f"1-{i}", created=NOON + i * timedelta(seconds=40), status="PENDING") for i in range(1_000)
    ]
    history = [
        order(f"2-{i}", created=NOON - timedelta(hours=2) - i * timedelta(minutes=4), status="PENDING")
        for i in range(1_500)
    ]
    step = timedelta(hours=1) / 2_600
    many = int((flood_ends - flood_begins) / step)
    flood = [order(f"3-{i}", created=flood_begins + i * step, status="PENDING") for i in range(many)]
    world.add(*first_day, *history, *flood)
    # Pending orders and a single dataset: it is the requests that count here, and small orders are quick.
    lean = rules_for("UK", included_data=frozenset({"FULFILLMENT"}))
    shop = Shop(sqlite(tmp_path), Simulator(world, now=clock), clock, [lean])
    for _ in range(8):  # a calm day, polled rarely to save the test's time
        shop.sync()
        clock.go_to(clock() + timedelta(hours=3))
    with shop.store.read() as tx:
        (live_from,) = {m.live_from for m in ledger.load_marketplaces(tx, "acme").values()}
    clock.go_to(NOON + timedelta(hours=49, minutes=10))
    shop.start_date = (NOON - 5 * DAY).date()
    began, before = clock(), len(shop.simulator.served)
    shop.run_until(flood_ends)

    kinds: dict[str, list[datetime]] = {"live": [], "sweep": [], "backfill": []}
    for s in shop.simulator.served[before:]:
        created_before = asked(s, "createdBefore")
        if created_before is not None:
            kinds["backfill" if created_before <= live_from else "sweep"].append(s.at)
        else:
            upper = asked(s, "lastUpdatedBefore")
            second_look = upper is not None and upper <= NOON + timedelta(hours=12)
            kinds["sweep" if second_look else "live"].append(s.at)
    assert throttled(shop) == 0
    turns = {kind: len(times) for kind, times in kinds.items()}
    assert min(turns["sweep"], turns["backfill"]) >= 8, turns
    assert turns["live"] > turns["sweep"] + turns["backfill"], turns
    # A kind waits for at most eight others, and those for their own turn.
    for times in kinds.values():
        assert longest_pause(times, began, flood_ends) <= 11 * TOKEN
    with shop.store.read() as tx:
        waiting = {w.kind for w in ledger.pending_windows(tx, "acme", "acme:EU")}
    assert "live" in waiting  # the backlog lasted to the end
    shop.close()


@pytest.mark.long
def test_two_workers_on_one_database_never_exceed_the_budget(database_url: str) -> None:
    """Two owners with two sources each, all at the same moments, in threads, and as fast as they are let."""
    clock = SimulatedClock(NOON)
    codes = EU[:3]
    world = World.generate(
        seed=5,
        marketplaces=codes,
        orders=200,
        start=NOON - 4 * DAY,
        end=NOON - timedelta(minutes=10),
        late=0.0,
    )
    more: dict[str, Any] = {
        "pace": Pace(60, 60),
        "split": frozenset({"UK"}),
        "start_date": (NOON - 4 * DAY).date(),
    }
    first = shop_of(database_url, world, clock, codes, owner="first", **more)
    second = Shop(database_url, first.simulator, clock, first.rules, owner="second", fresh=False, **more)
    jobs = [shop.syncer(source) for shop in (first, second) for source in shop.sources()]
    assert {(job.owner, job.source.key) for job in jobs} == {
        (owner, key) for owner in ("first", "second") for key in ("acme:EU", "acme:UK")
    }
    workers: Counter[str] = Counter()
    with ThreadPoolExecutor(4) as threads:
        while clock() < NOON + timedelta(hours=2):
            jobs = [shop.syncer(source) for shop in (first, second) for source in shop.sources()]
            reports = list(threads.map(lambda job: job.run(), jobs))
            for job, report in zip(jobs, reports, strict=True):
                workers[job.owner] += report.requests
            clock.go_to(max(min(r.until for r in reports), clock() + timedelta(seconds=20)))
    made = searches(first)
    assert throttled(first) == 0
    assert_within_plan(made)
    assert len(made) >= BURST + 2 * 3600 * 0.0056 - 2  # and none was wasted
    assert min(workers.values()) > 0
    with first.store.read() as tx:
        assert {b.state for b in ledger.load_backfills(tx, "acme")} == {"done"}
    assert compare(first.oracle(), *first.exported()) == []
    first.close()
    second.close()


# --- the rate that Amazon names ---------------------------------------------------------------------


def eager(tmp_path: Path, faults: Faults | None = None) -> Shop:
    """A shop that polls whenever the budget lets it."""
    clock = SimulatedClock(NOON)
    simulator = Simulator(World(), now=clock, faults=faults)
    return Shop(sqlite(tmp_path), simulator, clock, [rules_for("UK")], pace=Pace(1, 1))


def made_between(shop: Shop, begin: datetime, end: datetime) -> int:
    return sum(begin <= at < end for at in searches(shop))


@pytest.mark.long
@pytest.mark.parametrize("rate", [0.01, 0.002])
def test_the_pace_follows_the_rate_that_amazon_names(rate: float, tmp_path: Path) -> None:
    shop = eager(tmp_path)
    shop.simulator.plans = {SEARCH: UsagePlan(rate, BURST)}
    end = NOON + timedelta(hours=3)
    shop.run_until(end)
    assert throttled(shop) == 0
    expected = BURST + rate * 3 * 3600
    assert expected - 2 <= made_between(shop, NOON, end) <= expected + 1
    shop.close()


@pytest.mark.long
def test_a_rate_that_is_lowered_meanwhile_costs_a_few_429_and_is_then_kept(tmp_path: Path) -> None:
    """A 429 carries no rate, so the news comes with the next answer that is let through."""
    shop = eager(tmp_path)
    shop.run_until(NOON + timedelta(hours=1))
    shop.simulator.plans = {SEARCH: UsagePlan(0.002, BURST)}
    shop.run_until(NOON + timedelta(hours=2))
    refused = throttled(shop)
    assert 1 <= refused <= 3
    shop.run_until(NOON + timedelta(hours=7))
    assert throttled(shop) == refused
    made = made_between(shop, NOON + timedelta(hours=2), NOON + timedelta(hours=7))
    assert 34 <= made <= 37
    shop.close()


@pytest.mark.long
@pytest.mark.parametrize(
    "absurd",
    [
        "rate_not_a_number",
        "rate_nan",
        "rate_infinite",
        "rate_negative",
        "rate_zero",
        "rate_huge",
        "rate_absent",
    ],
)
def test_an_absurd_rate_changes_nothing(absurd: str, tmp_path: Path) -> None:
    shop = eager(tmp_path, Faults.only(absurd))
    shop.run_until(NOON + timedelta(hours=1))
    assert throttled(shop) == 0
    assert made_between(shop, NOON, NOON + timedelta(hours=1)) == BURST + int(3600 * 0.0056)
    shop.close()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["throttled_json", "throttled_empty"])
def test_a_429_in_spite_of_our_budget_empties_it(kind: str, tmp_path: Path) -> None:
    shop = eager(tmp_path, Faults.only(kind, calls=[3], operations=[SEARCH]))
    reports = []
    for _ in range(3):
        reports += shop.sync()
        shop.clock.go_to(max(reports[-1].until, shop.clock() + timedelta(seconds=1)))
    assert throttled(shop) == 1
    assert [r.outcome for r in reports] == ["complete", "complete", "deferred"]
    # Seventeen tokens were left by our count; now the next one has to grow first.
    waited = shop.clock() - searches(shop)[2]
    assert timedelta(seconds=178) < waited < timedelta(seconds=179)
    shop.run_until(shop.clock() + timedelta(hours=1))
    later = searches(shop)[3:]
    assert_within_plan(later, burst=1)
    assert len(later) == 21
    shop.close()
