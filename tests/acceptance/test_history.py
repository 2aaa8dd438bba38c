"""History by both request budgets: how fast, how complete, and what becomes of reports not to be believed.

Every number is counted at the simulator, which enforces Amazon's published plans, or read from the database.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.simulator.api import Simulator
from connectors.simulator.faults import GET, SEARCH, Faults
from connectors.simulator.reports import Reports
from connectors.simulator.world import World
from store import backfill_reports, ledger, tables
from store.progress import Backfill, BackfillState, HistoryId, ReportPart, Way
from tests.acceptance.stage import Stage, copies_of, staged
from tests.acceptance.truth import overclaimed
from tests.acceptance.victim import Victims, victims
from tests.databases import long_on
from tests.harness import NOON, Shop, SimulatedClock, rules_for

DAY = timedelta(days=1)
UK = rules_for("UK").marketplace_id


def quick_reports(world: World) -> Reports:
    return Reports(world, in_queue=timedelta(seconds=5), in_progress=timedelta(seconds=25))


def wanted_of(world: World) -> set[str]:
    """The orders that must be stored: those of other shops have no file."""
    return {one.order_id for one in world.orders() if not one.is_of_other_shop}


LEFT = 2.0
"""Searches that a shop has left which has spent the others."""


def shop_of(url: str, world: World, faults: Faults | None = None, spent: bool = False, **more: Any) -> Shop:
    """A shop that has polled once and has no history yet; ``spent``: it has hardly a search left, either."""
    clock = SimulatedClock(NOON)
    simulator = Simulator(world, now=clock, faults=faults, reports=quick_reports(world))
    shop = Shop(url, simulator, clock, [rules_for("UK")], **more)
    shop.sync()
    if spent:
        with shop.store.begin() as tx:
            mine = tables.budgets.c.operation == SEARCH
            tx.conn.execute(sa.update(tables.budgets).where(mine).values(tokens=LEFT, counted_at=tx.now))
    return shop


def begin(shop: Shop, days: float, way: Way = "auto", upper: datetime | None = None) -> int:
    with shop.store.begin() as tx:
        end = upper or ledger.load_marketplaces(tx, "acme")[UK].live_from
        return ledger.open_backfill(tx, "acme", UK, "manual", NOON - days * DAY, end, way, "planned")


def state(shop: Shop, number: int) -> Backfill:
    with shop.store.read() as tx:
        found = ledger.lock_backfill(tx, number)
    assert found is not None
    return found


def parts(shop: Shop, number: int) -> tuple[ReportPart, ...]:
    with shop.store.read() as tx:
        return backfill_reports.load_parts(tx, number)


def carry_out(shop: Shop, number: int, patience: timedelta = 20 * DAY) -> timedelta:
    """Go on as the service does until the backfill is done; returns how long that took."""
    began = shop.clock()
    while state(shop, number).state in ("planned", "running"):
        assert shop.clock() - began < patience, state(shop, number)
        reports = shop.sync()
        if state(shop, number).state != "done":
            shop.clock.go_to(max(min(r.until for r in reports), shop.clock() + timedelta(milliseconds=1)))
    return shop.clock() - began


def asked(shop: Shop, operation: str) -> list[datetime]:
    return [r.at for r in shop.simulator.requests if r.operation == operation]


def stored(shop: Shop) -> set[str]:
    with shop.store.read() as tx:
        return set(tx.conn.execute(sa.select(tables.orders.c.order_id)).scalars())


def world_of(orders: int, days: float, **more: Any) -> World:
    end = NOON - timedelta(minutes=10)
    return World.generate(
        seed=3, marketplaces=["UK"], orders=orders, start=NOON - days * DAY, end=end, late=0.0, **more
    )


def direct(shop: Shop, number: int, new: BackfillState, *of: BackfillState) -> None:
    with shop.store.begin() as tx:
        assert ledger.direct_backfill(tx, number, new, of)


# --- how fast ---------------------------------------------------------------------------------------


def physical_limit(orders: int) -> timedelta:
    """The least time in which the two buckets can give that many orders, less a live look each ten minutes.

    100 orders a search at 0.0056 searches a second, of which some are left; one order a getOrder at 0.5 a
    second, burst 30.
    """
    at_once = 100 * LEFT + 30
    rate = 100 * (0.0056 - 1 / 600) + 0.5
    return timedelta(seconds=(orders - at_once) / rate)


@dataclass
class Fetched:
    shop: Shop
    orders: int
    took: timedelta


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetched]:
    """3,200 orders of six days, fetched by both; reports are made within half a minute here."""
    shop = shop_of(f"sqlite:///{tmp_path_factory.mktemp('history') / 'x.db'}", world_of(3_200, 6), spent=True)
    took = carry_out(shop, begin(shop, 6))
    yield Fetched(shop, 3_200, took)
    shop.close()


@pytest.mark.long
def test_both_budgets_together_take_at_most_a_twentieth_more_than_is_possible(fetched: Fetched) -> None:
    shop = fetched.shop
    assert stored(shop) == wanted_of(shop.simulator.world)
    assert fetched.took <= 1.05 * physical_limit(fetched.orders)
    assert Counter(r.status for r in shop.simulator.requests).keys() == {200, 202}, "and no 429"


@pytest.mark.long
def test_live_polling_keeps_its_busy_pace_meanwhile(fetched: Fetched) -> None:
    live = [s.at for s in fetched.shop.simulator.served if "lastUpdatedAfter" in s.query]
    points = [NOON, *live, NOON + fetched.took]
    longest = max(b - a for a, b in itertools.pairwise(points))
    assert longest <= timedelta(seconds=600 + 178.6)


def test_orders_fetched_by_id_leave_a_reserve_in_their_budget(fetched: Fetched) -> None:
    gets = asked(fetched.shop, GET)
    for number, at in enumerate(gets, 1):
        allowed = 30 + 0.5 * (at - NOON).total_seconds()
        assert number <= allowed - 15 + 1e-6


def test_no_order_is_requested_twice(fetched: Fetched) -> None:
    served = [s for s in fetched.shop.simulator.served if s.operation == GET]
    ids = [one["orderId"] for s in served for one in s.orders if isinstance(one, dict)]
    assert len(ids) == len(set(ids))
    in_history = [s for s in fetched.shop.simulator.served if "createdAfter" in s.query]
    searched = {one["orderId"] for s in in_history for one in s.orders if isinstance(one, dict)}
    assert len(searched & set(ids)) <= 2 * len(in_history), "but for those at the bounds of windows"


# --- what is claimed and what is skipped ------------------------------------------------------------


def test_what_ids_have_done_is_claimed_as_seen(fetched: Fetched) -> None:
    with fetched.shop.store.read() as tx:
        seen = ledger.read_coverage(tx, "acme", UK, "created")
        live_from = ledger.load_marketplaces(tx, "acme")[UK].live_from
        assert backfill_reports.count_ids(tx, 1) == 0
    (one,) = seen
    assert (one.lower, one.upper) == (NOON - 6 * DAY, live_from)


@pytest.mark.long
@long_on("postgresql")
def test_orders_stored_in_the_reports_version_are_not_refetched(database_url: str) -> None:
    shop = shop_of(database_url, world_of(2_500, 40))
    carry_out(shop, begin(shop, 40, "search"))
    gets, took = len(asked(shop, GET)), carry_out(shop, begin(shop, 40, "report"))
    assert len(asked(shop, GET)) == gets
    assert took < timedelta(hours=1)
    shop.close()


@pytest.mark.long
def test_an_order_that_no_search_lists_comes_by_its_id(database_url: str) -> None:
    world = world_of(150, 20)
    for days in (2, 9, 17):
        world.order(f"HIDDEN-{days}", created=NOON - days * DAY, unlisted=True)
    shop = shop_of(database_url, world)
    carry_out(shop, begin(shop, 20, "search"))
    assert not {one for one in stored(shop) if one.startswith("HIDDEN")}
    carry_out(shop, begin(shop, 20, "report"))
    assert {one for one in stored(shop) if one.startswith("HIDDEN")} == {"HIDDEN-2", "HIDDEN-9", "HIDDEN-17"}
    shop.close()


@pytest.mark.long
def test_a_short_history_needs_no_report_unless_it_is_wanted(database_url: str) -> None:
    shop = shop_of(database_url, world_of(150, 20))
    carry_out(shop, begin(shop, 20, "auto"))
    assert asked(shop, "createReport") == []
    carry_out(shop, begin(shop, 20, "report"))
    assert len(asked(shop, "createReport")) == 1
    shop.close()


@pytest.mark.long
def test_the_history_of_a_start_date_is_fetched_by_both(tmp_path: Path) -> None:
    clock = SimulatedClock(NOON)
    world = world_of(2_600, 40)
    shop = Shop(
        f"sqlite:///{tmp_path / 'x.db'}",
        Simulator(world, now=clock, reports=quick_reports(world)),
        clock,
        [rules_for("UK")],
        (NOON - 40 * DAY).date(),
        history_by="auto",
    )
    shop.sync()
    carry_out(shop, 1)
    assert stored(shop) == wanted_of(world)
    assert len(asked(shop, GET)) > 100
    assert all(part.upper - part.lower <= 30 * DAY for part in parts(shop, 1))
    shop.close()


# --- reports that are not to be believed ------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("report_fatal", "FATAL"),
        ("report_cancelled", "lists no order"),
        ("report_empty", "lists no order"),
        ("report_malformed", "columns"),
        ("report_truncated", "co"),
        ("forbidden", "403"),
    ],
)
def test_without_a_report_the_range_is_searched(database_url: str, kind: str, why: str) -> None:
    operations = ["createReport"] if kind == "forbidden" else None
    shop = shop_of(database_url, world_of(250, 40), Faults.only(kind, operations=operations))
    number = begin(shop, 40, "report")
    carry_out(shop, number)
    assert stored(shop) == wanted_of(shop.simulator.world)
    assert asked(shop, GET) == []
    assert len(parts(shop, number)) == 2
    for part in parts(shop, number):
        assert part.state == "searched"
        assert why in str(part.last_error)
    assert overclaimed(shop) == []
    shop.close()


@pytest.mark.long
def test_one_part_without_a_report_is_searched_and_the_others_are_not_held_up(tmp_path: Path) -> None:
    shop = shop_of(
        f"sqlite:///{tmp_path / 'x.db'}",
        world_of(2_200, 80),
        Faults.only("report_fatal", calls=[2], operations=["createReport"]),
        spent=True,
    )
    number = begin(shop, 80, "report")
    carry_out(shop, number)
    assert stored(shop) == wanted_of(shop.simulator.world)
    states = [part.state for part in parts(shop, number)]
    assert states[1] == "searched"
    assert "done" in states
    assert len(asked(shop, GET)) > 200
    assert overclaimed(shop) == []
    shop.close()


@pytest.mark.long
@long_on("postgresql")
def test_an_order_that_the_report_invents_leaves_its_part_unclaimed(database_url: str) -> None:
    """Its id answers 404 three times: the rest is fetched, and the gap stays to be seen."""
    world = world_of(700, 40)
    shop = shop_of(database_url, world, spent=True)
    number = begin(shop, 40, "report")
    shop.sync()
    shop.clock.sleep(60)
    shop.sync()
    oldest = parts(shop, number)[0]
    assert oldest.state == "ready"
    with shop.store.begin() as tx:
        made_up = HistoryId(oldest.lower, "NO-SUCH-ORDER", oldest.lower)
        backfill_reports.enter_ids(tx, number, [made_up])
    carry_out(shop, number)
    assert stored(shop) == wanted_of(world)
    assert [part.lost for part in parts(shop, number)] == [1, 0]
    refused = [r for r in shop.simulator.requests if r.operation == GET and r.status == 404]
    assert len(refused) == 3
    with shop.store.read() as tx:
        seen = ledger.read_coverage(tx, "acme", UK, "created")
    assert not any(one.lower <= oldest.lower < one.upper for one in seen)
    shop.close()


@pytest.mark.long
def test_while_get_order_is_out_of_order_searching_goes_on(tmp_path: Path) -> None:
    shop = shop_of(
        f"sqlite:///{tmp_path / 'x.db'}",
        world_of(700, 40),
        Faults.only("html_503", operations=[GET]),
        spent=True,
    )
    number = begin(shop, 40, "report")
    for _ in range(200):
        shop.clock.go_to(max(min(r.until for r in shop.sync()), shop.clock() + timedelta(seconds=1)))
    live = [s.at for s in shop.simulator.served if "lastUpdatedAfter" in s.query]
    assert shop.clock() - live[-1] < timedelta(seconds=1_100)
    shop.simulator.faults = Faults()
    carry_out(shop, number)
    assert stored(shop) == wanted_of(shop.simulator.world)
    shop.close()


# --- several, pauses, kills -------------------------------------------------------------------------


@pytest.mark.long
def test_paused_with_ids_left_it_requests_nothing_more(tmp_path: Path) -> None:
    shop = shop_of(f"sqlite:///{tmp_path / 'x.db'}", world_of(3_000, 40))
    number = begin(shop, 40, "report")
    for _ in range(10):
        shop.clock.go_to(max(min(r.until for r in shop.sync()), shop.clock() + timedelta(seconds=1)))
    assert asked(shop, GET)
    direct(shop, number, "paused", "running")
    gets, pages = len(asked(shop, GET)), len([s for s in shop.simulator.served if "createdAfter" in s.query])
    shop.run_until(shop.clock() + timedelta(hours=2))
    assert len(asked(shop, GET)) == gets
    assert len([s for s in shop.simulator.served if "createdAfter" in s.query]) == pages
    direct(shop, number, "running", "paused")
    carry_out(shop, number)
    assert stored(shop) == wanted_of(shop.simulator.world)
    shop.close()


@pytest.mark.long
def test_cancelled_while_an_order_is_being_fetched_it_is_stored_and_nothing_follows(tmp_path: Path) -> None:
    shop = shop_of(f"sqlite:///{tmp_path / 'x.db'}", world_of(3_000, 40))
    number = begin(shop, 40, "report")
    handle, gets = shop.simulator.handle, 0

    def cancelling(request: Any) -> Any:
        nonlocal gets
        if request.path.count("-") >= 4:  # an order by its id
            gets += 1
            if gets == 5:
                direct(shop, number, "cancelled", "planned", "running")
                with shop.store.begin() as tx:
                    backfill_reports.forget(tx, number, parts=True)
        return handle(request)

    shop.simulator.handle = cancelling  # type: ignore[method-assign]
    for _ in range(10):
        shop.clock.go_to(max(min(r.until for r in shop.sync()), shop.clock() + timedelta(seconds=1)))
    assert gets == 5
    served = [s for s in shop.simulator.served if s.operation == GET]
    assert {one["orderId"] for s in served for one in s.orders if isinstance(one, dict)} <= stored(shop)
    assert state(shop, number).state == "cancelled"
    shop.run_until(shop.clock() + timedelta(hours=1))
    assert gets == 5
    shop.close()


@pytest.mark.long
@long_on("postgresql")
def test_two_workers_at_once_share_the_work_and_fetch_nothing_twice(database_url: str) -> None:
    first = shop_of(database_url, world_of(700, 40), spent=True)
    second = Shop(database_url, first.simulator, first.clock, first.rules, owner="other", fresh=False)
    number = begin(first, 40, "report")
    for shop in itertools.cycle((first, second)):
        reports = shop.sync()
        if state(first, number).state == "done":
            break
        first.clock.go_to(max(min(r.until for r in reports), first.clock() + timedelta(milliseconds=1)))
    served = [s for s in first.simulator.served if s.operation == GET]
    ids = [one["orderId"] for s in served for one in s.orders if isinstance(one, dict)]
    assert len(ids) == len(set(ids))
    assert stored(first) == wanted_of(first.simulator.world)
    first.close()
    second.close()


@pytest.mark.long
def test_a_worker_that_comes_late_overwrites_nothing(database_url: str) -> None:
    """While it waits for an answer longer than its claim lasts, another worker asks for the report, too."""
    first = shop_of(database_url, world_of(150, 20))
    second = Shop(database_url, first.simulator, first.clock, first.rules, owner="other", fresh=False)
    number = begin(first, 20, "report")
    handle, meanwhile = first.simulator.handle, list[ReportPart]()

    def slow(request: Any) -> Any:
        answer = handle(request)
        if request.method == "POST" and request.path.endswith("/reports") and not meanwhile:
            meanwhile.extend(parts(first, number))
            first.clock.sleep(180)
            second.sync()
            meanwhile.extend(parts(first, number))
        return answer

    first.simulator.handle = slow  # type: ignore[method-assign]
    first.sync()
    wanted, by_the_second = meanwhile
    assert (wanted.state, by_the_second.state) == ("wanted", "asked")
    assert len(asked(first, "createReport")) == 2
    assert parts(first, number)[0].report_id == by_the_second.report_id
    carry_out(first, number)
    assert stored(first) == wanted_of(first.simulator.world)
    first.close()
    second.close()


@pytest.fixture(scope="module")
def helper() -> Iterator[Victims]:
    with victims() as started:
        yield started


KILLS = 20


@pytest.mark.long
def test_killed_and_paused_at_random_while_its_orders_change(database_url: str, helper: Victims) -> None:
    """Each life has the tokens of two minutes: a search or two, and half a dozen orders by id."""
    start = NOON - 35 * DAY
    world = World.generate(
        seed=21, marketplaces=("UK",), orders=1_000, start=start, end=NOON - 12 * DAY, late=0.0, withheld=0.0
    )
    rng = random.Random(8)
    with copies_of(database_url) as copies, staged(helper, world, start) as make:
        clock = SimulatedClock()
        stage: Stage = make(copies.new(), clock=clock, rate=0.01, burst=2)
        stage.simulator = Simulator(
            world,
            now=clock,
            plans=stage.simulator.plans,
            reports=Reports(world, in_queue=timedelta(0), in_progress=timedelta(seconds=30)),
        )
        killed, changed, lives, longest = 0, 0, 0, 0.3
        while killed < KILLS or _unfinished(stage):
            assert lives < 400
            lives += 1
            patience = rng.uniform(longest / 6, longest) if killed < KILLS else None
            (ending,) = stage.live(stage.life(killed_after=patience, history_by="auto"))
            killed += ending.killed
            longest *= 1.2 if ending.killed else 0.8  # how long a life is depends on the machine
            if killed < KILLS:
                changed += _change(world, rng, clock())
                _pause_or_resume(stage, rng)
            else:
                _resume(stage)
        for _ in range(5):  # two minutes each: what changed last, has come by then
            stage.live(stage.life(history_by="auto"))
        by_id = [s for s in stage.simulator.served if s.operation == GET]
        assert killed >= KILLS
        assert changed > 10
        assert len(by_id) > 20, "there was something to be killed"
        stage.clock = SimulatedClock(clock() + timedelta(minutes=10))
        assert stage.wrongs() == []


def _unfinished(stage: Stage) -> bool:
    found = stage.query(sa.select(tables.backfills.c.state))
    return not found or any(state != "done" for (state,) in found)


def _change(world: World, rng: random.Random, now: datetime) -> int:
    """Some orders of the history get a newer version, which live polling brings.

    It shows all that the one before did: what Amazon withdraws while an answer is lost with its process
    no one could have stored.
    """
    ready = [o for o in world.orders() if o.versions[-1].facts.status == "UNSHIPPED" and not o.unlisted]
    for one in rng.sample(ready, min(2, len(ready))):
        world.update(one.order_id, now, seller_order_id=f"SHOP-{now:%H%M%S}")
    return min(2, len(ready))


def _pause_or_resume(stage: Stage, rng: random.Random) -> None:
    if rng.random() < 0.3:
        _set_state(stage, "paused", "running")
    else:
        _resume(stage)


def _resume(stage: Stage) -> None:
    _set_state(stage, "running", "paused")


def _set_state(stage: Stage, new: str, old: str) -> None:
    c = tables.backfills.c
    with stage.engine.begin() as connection:
        connection.execute(sa.update(tables.backfills).where(c.state == old).values(state=new))
    stage.engine.dispose()
