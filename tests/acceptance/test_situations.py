"""What happens to a seller sooner or later, each a short story on a simulated clock.

The truth is the simulator's world: a story ends well when every order stands in the database in the
version that Amazon shows. Polling is slow here (three hours), so that days pass quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.amazon.usage_plans import PLANS
from connectors.marketplaces import BY_NAME
from connectors.simulator.api import Served, Simulator
from connectors.simulator.faults import GET, SEARCH, TOKEN, Faults
from connectors.simulator.messages import Answer, Request
from connectors.simulator.orders import order
from connectors.simulator.world import Seller, World
from poller.ingest.sources import AccountRules
from poller.sync.decide import LONGEST_LOOK, LONGEST_OVERLAP, Pace
from poller.sync.run import RunReport
from store import budgets, ledger, quarantine, queries, tables
from store.budgets import BudgetKey
from store.progress import Interval, Look, MarketplaceProgress, Window, gaps
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.oracle import compare

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CALM = Pace(3 * 3600, 3 * 3600)
UK, DE = BY_NAME["UK"].id, BY_NAME["DE"].id

Open = Callable[..., Shop]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Open]:
    """Opens shops on one SQLite database, or on a ``url``, and closes them in the end."""
    opened: list[Shop] = []

    def opener(
        codes: Sequence[str],
        *,
        url: str | None = None,
        enrolled: Sequence[str] | None = None,
        simulator: dict[str, Any] | None = None,
        **more: Any,
    ) -> Shop:
        clock = SimulatedClock()
        world = World(Seller(marketplaces=tuple(enrolled or codes)))
        more.setdefault("pace", CALM)
        shop = Shop(
            url or f"sqlite:///{tmp_path / 'situations.db'}",
            Simulator(world, now=clock, **(simulator or {})),
            clock,
            [rules_for(code) for code in codes],
            **more,
        )
        opened.append(shop)
        return shop

    yield opener
    for shop in opened:
        shop.close()


def sell(shop: Shop, code: str, times: Sequence[datetime], **facts: Any) -> None:
    known = len(shop.simulator.world.orders())
    shop.simulator.world.add(
        *(
            order(f"{code}-{known + n:05d}", created=at, marketplace=code, **{"status": "SHIPPED", **facts})
            for n, at in enumerate(times)
        )
    )


def sell_all_the_time(shop: Shop, *codes: str, begin: datetime, end: datetime, every: timedelta) -> None:
    many = int((end - begin) / every)
    for n, code in enumerate(codes):
        sell(shop, code, [begin + i * every + n * timedelta(minutes=7) for i in range(many)])


def run_to(shop: Shop, end: datetime) -> list[RunReport]:
    """Go on as the service does, and poll once more at the end, whatever the pace."""
    reports: list[RunReport] = []
    while shop.clock() < end:
        passed = shop.sync()
        reports += passed
        next_time = min(report.until for report in passed)
        shop.clock.go_to(min(end, max(next_time, shop.clock() + timedelta(milliseconds=1))))
    pace, shop.pace = shop.pace, Pace(1, 1)
    shop.clock.sleep(1)
    passed = shop.sync()
    if any(report.outcome == "deferred" for report in passed):
        shop.clock.go_to(max(report.until for report in passed))
        passed += shop.sync()
    shop.pace = pace
    return reports + passed


def run_to_half_way(shop: Shop) -> Window:
    """Go on, one page at a time, until a walk has had its first page and has to go on with a token."""
    plan = PLANS["searchOrders"]
    with shop.store.begin() as tx:
        budgets.drain(tx, BudgetKey("app", "acme", "searchOrders"), plan.rate, plan.burst)
    end = shop.clock() + DAY
    while not (half_way := [w for w in unfinished(shop) if w.page_token is not None]):
        assert shop.clock() < end
        until = min(report.until for report in shop.sync())
        shop.clock.go_to(max(until, shop.clock() + timedelta(milliseconds=1)))
    return half_way[0]


def wrongs(shop: Shop) -> list[str]:
    """What is wrong with customers and orders, by all that Amazon has served."""
    return compare(shop.oracle(), *shop.exported())


def stored_versions(shop: Shop) -> dict[str, datetime]:
    query = sa.select(tables.orders.c.order_id, tables.orders.c.last_updated_at)
    with shop.store.read() as tx:
        return {row.order_id: row.last_updated_at for row in tx.rows(query)}


def not_up_to_date(shop: Shop, *, since: datetime = NOON - 9999 * DAY, code: str = "") -> list[str]:
    """Orders that are not stored in the version that Amazon has shown for three minutes or longer."""
    stored = stored_versions(shop)
    shown = shop.simulator.amazon_now() - timedelta(minutes=3)
    wrong = []
    for one in shop.simulator.world.orders():
        version = one.current(shown)
        if version is None or one.created < since or not one.order_id.startswith(code):
            continue
        if stored.get(one.order_id) != version.last_updated:
            wrong.append(one.order_id)
    return wrong


def progress(shop: Shop, code: str) -> MarketplaceProgress:
    with shop.store.read() as tx:
        return ledger.load_marketplaces(tx, "acme")[BY_NAME[code].id]


def coverage(shop: Shop, code: str, look: Look = "first") -> list[Interval]:
    with shop.store.read() as tx:
        return ledger.read_coverage(tx, "acme", BY_NAME[code].id, look)


def missing_coverage(shop: Shop, code: str) -> list[Interval]:
    """What has not been seen of a marketplace since it is read, up to four minutes ago by Amazon's clock."""
    until = shop.simulator.amazon_now() - timedelta(minutes=4)
    return gaps(coverage(shop, code), progress(shop, code).live_from, until)


def unfinished(shop: Shop) -> list[Window]:
    with shop.store.read() as tx:
        c = tables.windows.c
        places = tx.rows(sa.select(c.account, c.source).distinct())
        return [w for place in places for w in ledger.pending_windows(tx, place.account, place.source)]


def backfills(shop: Shop) -> list[tuple[str, datetime, datetime, str]]:
    with shop.store.read() as tx:
        return [(b.marketplace_id, b.lower, b.upper, b.state) for b in ledger.load_backfills(tx, "acme")]


def refusals(shop: Shop) -> int:
    return sum(r.status == 400 for r in shop.simulator.requests)


def set_rules(shop: Shop, *codes: str) -> None:
    """The marketplaces that are enabled from now on."""
    shop.rules = [rules_for(code) for code in codes]


def searches(shop: Shop) -> list[Served]:
    return [s for s in shop.simulator.served if s.operation == SEARCH]


def bounds_of(served: Served) -> tuple[datetime, datetime]:
    axis = "created" if "createdAfter" in served.query else "lastUpdated"
    lower, upper = (served.query[f"{axis}{end}"][0] for end in ("After", "Before"))
    return datetime.fromisoformat(lower), datetime.fromisoformat(upper)


# --- marketplaces come and go -----------------------------------------------------------------------


@pytest.mark.long
def test_a_marketplace_disabled_for_two_days_leaves_a_visible_gap_that_is_caught_up(
    database_url: str, open_shop: Open
) -> None:
    shop = open_shop(["UK", "DE"], url=database_url)
    sell_all_the_time(shop, "UK", "DE", begin=NOON, end=NOON + 4 * DAY, every=HOUR)
    run_to(shop, NOON + DAY)
    set_rules(shop, "UK")
    run_to(shop, NOON + 3 * DAY)
    (gap,) = missing_coverage(shop, "DE")
    assert gap.upper - gap.lower > 2 * DAY - 4 * HOUR
    assert [gap.lower] == [coverage(shop, "DE")[-1].upper]
    assert not_up_to_date(shop, code="DE") != []
    assert missing_coverage(shop, "UK") == []

    set_rules(shop, "UK", "DE")
    asked = len(searches(shop))
    run_to(shop, shop.clock() + HOUR)
    assert missing_coverage(shop, "UK") == missing_coverage(shop, "DE") == []
    assert not_up_to_date(shop) == []
    # The other one was polled at its pace meanwhile.
    polled = [s.at for s in searches(shop) if UK in s.query["marketplaceIds"][0]]
    assert len(searches(shop)) - asked >= 8
    assert max(b - a for a, b in pairwise(polled)) < 3 * HOUR + timedelta(minutes=1)
    assert wrongs(shop) == []


@pytest.mark.long
def test_a_marketplace_that_is_added_later_starts_now_and_gets_its_history_by_a_backfill(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK"], enrolled=["UK", "DE"], start_date=NOON.date())
    sell_all_the_time(shop, "UK", "DE", begin=NOON - 2 * HOUR, end=NOON + 3 * DAY, every=HOUR)
    run_to(shop, NOON + 2 * DAY)
    before = coverage(shop, "UK")
    set_rules(shop, "UK", "DE")
    shop.sync()
    added = progress(shop, "DE").live_from
    assert NOON + 2 * DAY - timedelta(minutes=3) < added < NOON + 2 * DAY
    history = NOON.replace(hour=0)
    assert [b for b in backfills(shop) if b[0] == DE] == [(DE, history, added, "done")]
    assert [b for b in backfills(shop) if b[0] == UK] == [
        (UK, history, before[0].lower + LONGEST_OVERLAP, "done")
    ]
    run_to(shop, NOON + 3 * DAY)
    assert not_up_to_date(shop) == []
    assert wrongs(shop) == []


@pytest.mark.long
def test_a_start_date_moved_earlier_opens_a_backfill_for_the_difference_only(open_shop: Open) -> None:
    shop = open_shop(["UK"], start_date=(NOON - 5 * DAY).date())
    sell_all_the_time(shop, "UK", begin=NOON - 20 * DAY, end=NOON, every=6 * HOUR)
    run_to(shop, NOON + 6 * HOUR)
    midnight = NOON.replace(hour=0)
    assert [b[1:] for b in backfills(shop)] == [(midnight - 5 * DAY, progress(shop, "UK").live_from, "done")]
    shop.start_date = (NOON - 15 * DAY).date()
    run_to(shop, NOON + 12 * HOUR)
    assert [b[1:] for b in backfills(shop)[1:]] == [(midnight - 15 * DAY, midnight - 5 * DAY, "done")]
    shop.start_date = (NOON - 3 * DAY).date()  # later again: nothing to do
    run_to(shop, NOON + 18 * HOUR)
    assert len(backfills(shop)) == 2
    assert not_up_to_date(shop, since=midnight - 15 * DAY) == []
    assert not any(order_id in stored_versions(shop) for order_id in ("UK-00000", "UK-00010"))


@pytest.mark.long
def test_a_start_date_beyond_the_two_years_that_amazon_shows_ends_as_done(open_shop: Open) -> None:
    shop = open_shop(["UK"], start_date=(NOON - 900 * DAY).date())
    sell(shop, "UK", [NOON - n * DAY for n in (1, 100, 700, 729, 760, 899)])
    run_to(shop, NOON + 6 * HOUR)
    (only,) = backfills(shop)
    assert only[1:] == ((NOON - 900 * DAY).replace(hour=0), progress(shop, "UK").live_from, "done")
    assert sorted(stored_versions(shop)) == ["UK-00000", "UK-00001", "UK-00002", "UK-00003"]
    assert unfinished(shop) == []


@pytest.mark.long
def test_a_service_that_was_down_for_ten_days_catches_up_in_windows_of_six_hours(open_shop: Open) -> None:
    shop = open_shop(["UK", "DE"])
    sell_all_the_time(shop, "UK", "DE", begin=NOON, end=NOON + 11 * DAY, every=2 * HOUR)
    run_to(shop, NOON + 6 * HOUR)
    shop.clock.go_to(NOON + 10 * DAY + 6 * HOUR)
    run_to(shop, NOON + 11 * DAY)
    assert missing_coverage(shop, "UK") == missing_coverage(shop, "DE") == []
    assert not_up_to_date(shop) == []
    c = tables.windows.c
    with shop.store.read() as tx:
        live = tx.rows(sa.select(c.lower, c.upper, c.state).where(c.kind == "live").order_by(c.lower))
    assert {row.state for row in live} == {"done"}
    assert max(row.upper - row.lower for row in live) <= LONGEST_LOOK + LONGEST_OVERLAP
    assert all(b.lower <= a.upper for a, b in pairwise(live))
    assert wrongs(shop) == []


# --- split ------------------------------------------------------------------------------------------


def test_a_split_marketplace_is_a_source_of_its_own(open_shop: Open) -> None:
    shop = open_shop(["UK", "DE", "FR"], split=frozenset({"UK"}))
    sell_all_the_time(shop, "UK", "DE", "FR", begin=NOON, end=NOON + DAY, every=2 * HOUR)
    reports = run_to(shop, NOON + DAY)
    assert {r.source for r in reports} == {"acme:EU", "acme:UK"}
    asked = {frozenset(s.query["marketplaceIds"][0].split(",")) for s in searches(shop)}
    assert asked == {frozenset({UK}), frozenset({DE, BY_NAME["FR"].id})}
    for code in ("UK", "DE", "FR"):
        assert missing_coverage(shop, code) == []
    assert not_up_to_date(shop) == []


@pytest.mark.long
@pytest.mark.parametrize("split", [{"UK"}, {"UK", "DE"}], ids=["one", "both"])
def test_a_marketplace_that_is_split_later_takes_its_unfinished_windows_along(
    split: set[str], open_shop: Open
) -> None:
    # 150 orders of one second cannot be split by time, so that a walk over both stands half-way.
    shop = open_shop(["UK", "DE"], pace=Pace(900, 900))
    shop.sync()
    for code in ("UK", "DE"):
        sell(shop, code, [NOON + HOUR] * 75)
    shop.clock.go_to(NOON + HOUR + timedelta(minutes=10))
    half_way = run_to_half_way(shop)
    assert (half_way.source, half_way.pages, set(half_way.marketplace_ids)) == ("acme:EU", 1, {UK, DE})
    shop.split = frozenset(split)
    run_to(shop, NOON + DAY)
    assert unfinished(shop) == []
    assert missing_coverage(shop, "UK") == missing_coverage(shop, "DE") == []
    assert not_up_to_date(shop) == []


# --- enrolment --------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("status", [403, 400])
def test_a_marketplace_without_enrolment_stops_alone_and_is_read_once_it_is_gained(
    status: int, open_shop: Open
) -> None:
    shop = open_shop(["UK", "DE"], enrolled=["UK"], simulator={"not_enrolled_status": status})
    sell_all_the_time(shop, "UK", begin=NOON, end=NOON + 3 * DAY, every=2 * HOUR)
    run_to(shop, NOON + 30 * HOUR)
    assert progress(shop, "DE").enrolled is False
    assert progress(shop, "DE").trouble is not None
    assert progress(shop, "UK").trouble is None
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop) == []
    assert all(s.query["marketplaceIds"] == (UK,) for s in searches(shop))

    shop.simulator.world.enrol(Seller(marketplaces=("UK", "DE")))
    sell_all_the_time(shop, "DE", begin=NOON + 31 * HOUR, end=NOON + 3 * DAY, every=2 * HOUR)
    run_to(shop, NOON + 3 * DAY)
    assert progress(shop, "DE").enrolled is True
    assert progress(shop, "DE").trouble is None
    assert missing_coverage(shop, "UK") == missing_coverage(shop, "DE") == []
    assert not_up_to_date(shop) == []


@pytest.mark.long
def test_enrolment_that_ends_meanwhile_stops_that_marketplace_alone(open_shop: Open) -> None:
    shop = open_shop(["UK", "DE"])
    sell_all_the_time(shop, "UK", "DE", begin=NOON, end=NOON + 2 * DAY, every=2 * HOUR)
    run_to(shop, NOON + 12 * HOUR)
    shop.simulator.world.enrol(Seller(marketplaces=("UK",)))
    run_to(shop, NOON + 2 * DAY)
    assert progress(shop, "DE").enrolled is False
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop, code="UK") == []
    (gap,) = missing_coverage(shop, "DE")
    assert NOON + 8 * HOUR < gap.lower < NOON + 12 * HOUR


@pytest.mark.long
def test_a_marketplace_that_amazon_answers_with_500_for_a_day_is_read_alone_and_closes_its_gap_by_itself(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK", "DE", "FR"], pace=Pace(900, 900))
    sell_all_the_time(shop, "UK", "DE", "FR", begin=NOON, end=NOON + 3 * DAY, every=HOUR)
    trouble = (NOON + 6 * HOUR, NOON + 30 * HOUR)
    handle = shop.simulator.handle

    def broken(request: Request) -> Answer:
        ids = request.parameters.get("marketplaceIds", ("",))[0].split(",")
        if trouble[0] <= shop.clock() < trouble[1] and UK in ids:
            return Answer(500, {"Date": format_datetime(shop.clock(), usegmt=True)}, b"")
        return handle(request)

    shop.simulator.handle = broken  # type: ignore[method-assign]
    worst = {True: timedelta(0), False: timedelta(0)}
    run_to(shop, trouble[0])
    while shop.clock() < trouble[1]:
        run_to(shop, shop.clock() + HOUR / 6)
        behind = [shop.clock() - coverage(shop, code)[-1].upper for code in ("DE", "FR")]
        if shop.clock() < trouble[1]:
            is_known, missing = progress(shop, "UK").alone_since is not None, missing_coverage(shop, "UK")
        worst[is_known] = max(worst[is_known], *behind)
    assert worst[False] < 1.25 * HOUR, "five attempts and again five, until it is clear whose trouble it is"
    assert worst[True] < timedelta(minutes=25), "the others stay fresh: a poll, its delay, a token"
    assert not_up_to_date(shop, code="DE") == not_up_to_date(shop, code="FR") == []
    assert is_known
    assert missing != []

    run_to(shop, NOON + 3 * DAY)
    assert progress(shop, "UK").alone_since is None
    assert [missing_coverage(shop, code) for code in ("UK", "DE", "FR")] == [[], [], []]
    assert not_up_to_date(shop) == []
    assert wrongs(shop) == []


# --- clocks and bounds ------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("minutes", [-120, -10, 10, 120])
def test_a_wrong_clock_of_the_host_neither_loses_orders_nor_asks_for_the_future(
    minutes: int, open_shop: Open
) -> None:
    skew = timedelta(minutes=minutes)
    shop = open_shop(["UK"], simulator={"skew": skew})
    amazon = shop.simulator.amazon_now
    sell_all_the_time(shop, "UK", begin=amazon(), end=amazon() + DAY, every=timedelta(minutes=20))
    run_to(shop, NOON + DAY)
    assert refusals(shop) == 0
    (seen,) = coverage(shop, "UK")
    assert abs(seen.lower - (NOON + skew)) < timedelta(minutes=15)
    assert seen.upper <= searches(shop)[-1].at - timedelta(minutes=2)
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop) == []


@pytest.mark.long
@pytest.mark.parametrize("minutes", [-120, 120])
def test_a_host_clock_that_is_set_while_the_service_runs_is_noticed(minutes: int, open_shop: Open) -> None:
    shop = open_shop(["UK"])
    sell_all_the_time(shop, "UK", begin=NOON, end=NOON + 2 * DAY, every=HOUR)
    run_to(shop, NOON + 12 * HOUR)
    step = timedelta(minutes=minutes)
    shop.simulator._skew -= step  # the host's clock jumps, Amazon's does not
    shop.clock.time += step
    run_to(shop, shop.clock() + DAY)
    assert refusals(shop) <= 1
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop) == []


def test_a_refused_bound_is_estimated_again_and_not_repeated(open_shop: Open) -> None:
    shop = open_shop(["UK"])
    sell_all_the_time(shop, "UK", begin=NOON, end=NOON + DAY, every=HOUR)
    run_to(shop, NOON + 3 * HOUR)
    shop.connector._time.learn(shop.clock() + timedelta(minutes=10))
    run_to(shop, shop.clock() + HOUR)
    assert refusals(shop) == 1
    (seen,) = coverage(shop, "UK")
    assert seen.upper <= shop.clock() - timedelta(minutes=2)
    assert missing_coverage(shop, "UK") == []
    run_to(shop, NOON + DAY)
    assert refusals(shop) == 1
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop) == []


# --- windows in trouble -----------------------------------------------------------------------------


@pytest.mark.long
def test_a_page_token_older_than_twenty_hours_is_not_used_and_a_second_is_read_in_parts(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK"], pace=Pace(900, 900))
    shop.sync()
    sell(shop, "UK", [NOON + HOUR] * 70, fulfilled_by="AMAZON")
    sell(shop, "UK", [NOON + HOUR] * 80, fulfilled_by="MERCHANT")
    shop.clock.go_to(NOON + HOUR + timedelta(minutes=10))
    half_way = run_to_half_way(shop)
    assert (half_way.pages, half_way.upper - half_way.lower) == (1, timedelta(seconds=1))
    shop.clock.go_to(NOON + 23 * HOUR)
    asked = len(searches(shop))
    run_to(shop, NOON + DAY)
    bounds = (half_way.lower, half_way.upper)
    later = [s for s in searches(shop)[asked:] if bounds_of(s) == bounds]
    assert [s.query["fulfilledBy"] for s in later] == [("AMAZON",), ("MERCHANT",)]
    assert all("paginationToken" not in s.query for s in later)
    assert refusals(shop) == 0
    run_to(shop, NOON + 2 * DAY)
    assert unfinished(shop) == []
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop) == []


@pytest.mark.long
def test_a_page_token_of_history_older_than_twenty_hours_is_not_used_and_the_rest_is_walked_in_halves(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK"], start_date=(NOON - DAY).date())
    sell(shop, "UK", [NOON - n * timedelta(minutes=4) for n in range(1, 181)])
    half_way = run_to_half_way(shop)
    assert (half_way.axis, half_way.pages) == ("created", 1)
    shop.clock.go_to(NOON + 22 * HOUR)
    asked = len(searches(shop))
    run_to(shop, NOON + DAY)
    later = [s for s in searches(shop)[asked:] if "createdAfter" in s.query]
    assert "paginationToken" not in later[0].query
    bounds = [bounds_of(s) for s in later]
    starts = {upper for lower, upper in bounds if lower == half_way.lower and upper < half_way.upper}
    assert any((middle, half_way.upper) in bounds for middle in starts)
    assert (half_way.lower, half_way.upper) not in bounds
    assert refusals(shop) == 0
    run_to(shop, NOON + 2 * DAY)
    assert unfinished(shop) == []
    assert not_up_to_date(shop, since=(NOON - DAY).replace(hour=0)) == []


@pytest.mark.long
def test_a_window_that_failed_five_times_is_set_aside_visibly_while_later_ones_go_on(open_shop: Open) -> None:
    """250 orders of one second cannot be halved, and Amazon refuses every page token for ten hours."""
    trouble = (NOON, NOON + 10 * HOUR)
    shop = open_shop(
        ["UK"],
        simulator={"faults": Faults.only("page_token_refused", during=trouble)},
        pace=Pace(900, 900),
    )
    crowd = NOON + HOUR
    sell(shop, "UK", [crowd] * 250)
    sell_all_the_time(shop, "UK", begin=NOON + 2 * HOUR, end=NOON + DAY, every=HOUR)
    run_to(shop, NOON + 8 * HOUR)
    aside = [w for w in unfinished(shop) if w.state == "set_aside"]
    assert aside
    assert all(w.attempts >= 5 and w.last_error and w.retry_at for w in aside)
    (gap,) = missing_coverage(shop, "UK")
    assert gap.lower <= crowd <= gap.upper
    assert gap.upper - gap.lower < HOUR
    assert not_up_to_date(shop, since=NOON + 2 * HOUR) == []

    run_to(shop, NOON + 12 * HOUR)
    assert unfinished(shop) == []
    assert missing_coverage(shop, "UK") == []
    assert not_up_to_date(shop) == []
    assert wrongs(shop) == []


# --- orders in trouble ------------------------------------------------------------------------------


def test_r26_an_order_of_an_unknown_marketplace_gets_its_customer_once_that_is_configured(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK"], enrolled=["UK", "DE"])
    sell(shop, "UK", [NOON + HOUR], marketplace_id=DE)
    run_to(shop, NOON + 4 * HOUR)
    with shop.store.read() as tx:
        (before,) = queries.find_orders(tx, "UK-00000")
        assert queries.totals(tx).unknown_marketplace == 1
    assert (before.customer_id, before.match_basis, before.marketplace) == (None, None, None)
    set_rules(shop, "UK", "DE")
    shop.sync()
    with shop.store.read() as tx:
        (after,) = queries.find_orders(tx, "UK-00000")
        assert queries.totals(tx).unknown_marketplace == 0
        assert after.customer_id is not None
        customer = queries.get_customer(tx, after.customer_id)
    assert (after.match_basis, after.marketplace) == ("created", "DE")
    assert customer is not None
    assert customer.price_list == "Amazon DE retail"


def test_r21_orders_that_were_held_get_their_customers_once_the_marketplace_holds_none(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK"])
    shop.rules = [rules_for("UK", without_email="hold")]
    sell(shop, "UK", [NOON + HOUR, NOON + 2 * HOUR], fulfilled_by="AMAZON", email=None)
    run_to(shop, NOON + 4 * HOUR)
    with shop.store.read() as tx:
        held = [queries.find_orders(tx, f"UK-0000{n}")[0] for n in range(2)]
    assert [(order.customer_id, order.match_basis) for order in held] == [(None, "held")] * 2
    shop.rules = [rules_for("UK")]
    shop.sync()
    with shop.store.read() as tx:
        found = [queries.find_orders(tx, f"UK-0000{n}")[0] for n in range(2)]
    assert [order.match_basis for order in found] == ["unidentified"] * 2
    assert len({order.customer_id for order in found} - {None}) == 2


@pytest.mark.long
def test_orders_that_ought_to_have_changed_are_fetched_by_id_at_most_once_a_day_each(open_shop: Open) -> None:
    shop = open_shop(["UK"])
    sell(shop, "UK", [NOON + HOUR], status="PENDING")
    sell(shop, "UK", [NOON + HOUR], status="UNSHIPPED", ship_by=NOON + 2 * DAY)
    sell(shop, "UK", [NOON + HOUR], status="SHIPPED", ship_by=NOON + 2 * DAY)
    run_to(shop, NOON + 11 * DAY)
    fetched: dict[str, list[datetime]] = {}
    for served in shop.simulator.served:
        if served.operation == GET:
            (one,) = served.orders
            assert isinstance(one, dict)
            fetched.setdefault(one["orderId"], []).append(served.at)
    assert fetched.keys() == {"UK-00000", "UK-00001"}
    for order_id, first in (("UK-00000", NOON + 7 * DAY + HOUR), ("UK-00001", NOON + 2 * DAY)):
        times = fetched[order_id]
        assert first <= times[0] <= first + 4 * HOUR
        pauses = [b - a for a, b in pairwise(times)]
        assert min(pauses) >= DAY
        assert max(pauses) <= DAY + 4 * HOUR


@pytest.mark.long
def test_a_change_that_no_search_ever_showed_is_found_by_the_fetch_by_id(open_shop: Open) -> None:
    shop = open_shop(["UK"])
    sell(shop, "UK", [NOON + HOUR], status="UNSHIPPED", ship_by=NOON + 6 * DAY)
    run_to(shop, NOON + 4 * DAY)
    # Updated on the first day, shown on the fifth: all looks at that stretch of time are over.
    (one,) = shop.simulator.world.orders()
    shop.simulator.world.add(one.then(NOON + 2 * HOUR, late=4 * DAY, status="SHIPPED"))
    run_to(shop, NOON + 5 * DAY)
    assert not_up_to_date(shop) == ["UK-00000"]
    run_to(shop, NOON + 7 * DAY)
    assert not_up_to_date(shop) == []


def test_an_unreadable_order_waits_in_quarantine_and_leaves_it_once_a_version_can_be_read(
    open_shop: Open,
) -> None:
    shop = open_shop(["UK"])
    sell(shop, "UK", [NOON + HOUR], poison="items_missing")
    sell(shop, "UK", [NOON + HOUR])
    run_to(shop, NOON + 4 * HOUR)
    with shop.store.read() as tx:
        (kept,) = quarantine.entries(tx)
    assert (kept.order_id, kept.marketplace_id) == ("UK-00000", UK)
    assert "orderItems" in kept.reason
    assert '"UK-00000"' in kept.payload
    assert list(stored_versions(shop)) == ["UK-00001"]
    assert missing_coverage(shop, "UK") == []
    shop.simulator.world.update("UK-00000", NOON + 5 * HOUR, poison=None)
    run_to(shop, NOON + 9 * HOUR)
    with shop.store.read() as tx:
        assert quarantine.entries(tx) == []
    assert not_up_to_date(shop) == []
    assert wrongs(shop) == []


# --- several accounts -------------------------------------------------------------------------------


@dataclass
class NamedShop(Shop):
    """A shop of another account than the usual one."""

    def account_rules(self) -> AccountRules:
        first = self.rules[0]
        by_id = {r.marketplace_id: r for r in self.rules}
        return AccountRules(first.account, first.business, by_id, self.shared_emails)


@pytest.mark.parametrize("one_business", [True, False], ids=["one business", "two businesses"])
def test_customers_are_shared_within_a_business_and_never_beyond_it(
    one_business: bool, database_url: str
) -> None:
    clock = SimulatedClock()
    sellers = [Seller("first"), Seller("second", refresh_token="Atzr|another-simulated-token")]
    simulator = Simulator(World(*sellers), now=clock)
    shops = []
    for seller in sellers:
        business = "together" if one_business else seller.name
        rules = rules_for("UK", account=seller.name, business=business)
        shops.append(
            NamedShop(
                database_url,
                simulator,
                clock,
                [rules],
                seller=seller,
                fresh=seller.name == "first",
                pace=CALM,
            )
        )
        simulator.world.order(
            f"{seller.name}-1",
            seller=seller.name,
            created=NOON + HOUR,
            email="same-buyer@marketplace.amazon.co.uk",
        )
    for shop in shops:
        shop.sync()
    clock.go_to(NOON + 2 * HOUR)
    for shop in shops:
        clock.go_to(max(clock(), shop.sync()[0].until))
        shop.sync()
    with shops[0].store.read() as tx:
        (first,), (second,) = queries.find_orders(tx, "first-1"), queries.find_orders(tx, "second-1")
        assert first.customer_id is not None
        assert second.customer_id is not None
        customer = queries.get_customer(tx, second.customer_id)
    assert (first.account, second.account) == ("first", "second")
    assert (first.match_basis, second.match_basis) == ("created", "email_1" if one_business else "created")
    assert (first.customer_id == second.customer_id) is one_business
    assert customer is not None
    assert customer.business == ("together" if one_business else "second")
    for shop in shops:
        shop.close()


def test_an_outage_of_login_with_amazon_eats_none_of_the_budget(open_shop: Open) -> None:
    begin, end = NOON + timedelta(hours=2), NOON + timedelta(hours=4)
    shop = open_shop(["UK"])
    shop.sync()
    shop.simulator.faults = Faults.only("html_503", operations=[TOKEN], during=(begin, end))
    shop.clock.go_to(begin)
    asked, outcomes = len(shop.simulator.requests), []
    while shop.clock() < end - timedelta(minutes=20):
        (report,) = shop.sync()
        outcomes.append(report.outcome)
        shop.clock.go_to(max(report.until, shop.clock() + timedelta(minutes=2)))
        with shop.store.read() as tx:
            (search,) = budgets.all_of(tx, ["searchOrders"]).values()
        assert search.tokens == search.burst
    assert outcomes.count("failed") > 3, outcomes
    assert all(each.operation == TOKEN for each in shop.simulator.requests[asked:])
    shop.clock.go_to(end)
    (report,) = shop.sync()
    assert report.outcome == "complete"
