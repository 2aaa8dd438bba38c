"""Runs and what Login with Amazon has refused, as status pages ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from connectors.simulator.api import Simulator
from connectors.simulator.faults import Faults
from connectors.simulator.world import Seller, World
from poller.sync.decide import Pace
from store import runs, tables
from store.engine import Store, create_engine
from store.runs import Refusal, Run
from store.sealing import Sealer
from tests.harness import Shop, SimulatedClock, rules_for
from tests.integration.store_world import KEY, NOON, count, fresh_store


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    with fresh_store(database_url):
        opened = Store(create_engine(database_url), Sealer([KEY]), clock=clock)
        yield opened
        opened.close()


def run(store: Store, source: str, outcome: runs.RunOutcome, *pages: int) -> int:
    with store.begin() as tx:
        number = runs.start(tx, source)
    for orders in pages:
        with store.begin() as tx:
            runs.add_page(tx, source, number, orders)
    with store.begin() as tx:
        runs.finish(tx, number, outcome, len(pages) + 1, "a sentence" if outcome == "failed" else None)
    return number


def test_a_run_says_how_it_went(store: Store, clock: SimulatedClock) -> None:
    with store.begin() as tx:
        number = runs.start(tx, "acme:EU")
        assert runs.latest(tx, "acme:EU") == Run(
            number, "acme:EU", NOON, None, None, 0, 0, 0, None, 0, 0, 0, 0
        )
        runs.add_page(tx, "acme:EU", number, 100)
        runs.add_page(tx, "acme:EU", number, 7)
    clock.sleep(5)
    with store.begin() as tx:
        runs.finish(tx, number, "deferred", 3, "the budget is used up")
        ended = NOON + timedelta(seconds=5)
        expected = Run(
            number, "acme:EU", NOON, ended, "deferred", 2, 107, 3, "the budget is used up", 0, 0, 0, 0
        )
        assert runs.latest(tx, "acme:EU") == expected
        assert runs.latest(tx, "acme:UK") is None


def test_the_latest_run_is_the_source_s_own_and_the_newest(store: Store) -> None:
    run(store, "acme:EU", "complete", 1)
    newest = run(store, "acme:EU", "failed", 2)
    run(store, "beta:EU", "complete", 3)
    with store.read() as tx:
        latest = runs.latest(tx, "acme:EU")
    assert latest is not None
    assert (latest.run, latest.orders) == (newest, 2)


def test_old_runs_become_daily_totals_that_later_ones_are_added_to(
    store: Store, clock: SimulatedClock
) -> None:
    run(store, "acme:EU", "complete", 10, 20)
    run(store, "acme:EU", "failed", 5)
    clock.sleep(86400)
    run(store, "acme:EU", "complete", 1)
    run(store, "beta:EU", "complete")
    clock.go_to(NOON + runs.KEPT + timedelta(hours=1))
    with store.begin() as tx:
        runs.condense(tx, "acme:EU")
    assert count(store, tables.runs) == 2
    clock.sleep(86400)
    with store.begin() as tx:
        runs.condense(tx, "acme:EU")
        runs.condense(tx, "beta:EU")
        runs.condense(tx, "acme:EU")
        c = tables.run_days.c
        days = [tuple(day) for day in tx.rows(sa.select(tables.run_days).order_by(c.day, c.source))]
    first, second = date(2026, 6, 15), date(2026, 6, 16)
    assert days == [
        ("acme:EU", first, 2, 1, 3, 35, 5, 0, 0, 0),
        ("acme:EU", second, 1, 0, 1, 1, 2, 0, 0, 0),
        ("beta:EU", second, 1, 0, 0, 0, 1, 0, 0, 0),
    ]
    assert count(store, tables.runs) == 0


def test_runs_that_brought_nothing_become_totals_sooner(store: Store, clock: SimulatedClock) -> None:
    run(store, "acme:EU", "complete")
    run(store, "acme:EU", "failed")
    run(store, "acme:EU", "complete", 3)
    clock.go_to(NOON + runs.QUIET_KEPT + timedelta(hours=1))
    with store.begin() as tx:
        runs.condense(tx, "acme:EU")
        (day,) = tx.rows(sa.select(tables.run_days))
        left = tx.rows(sa.select(tables.runs.c.outcome, tables.runs.c.orders).order_by(tables.runs.c.run))
    assert (day.runs, day.failed, day.orders) == (1, 0, 0)
    assert [tuple(row) for row in left] == [("failed", 0), ("complete", 3)]


def test_totals_of_a_day_that_is_there_already_are_added_up(store: Store, clock: SimulatedClock) -> None:
    run(store, "acme:EU", "complete", 10)
    clock.sleep(6 * 3600)
    run(store, "acme:EU", "complete", 4)
    for hours in (1, 7):
        clock.go_to(NOON + runs.KEPT + timedelta(hours=hours))
        with store.begin() as tx:
            runs.condense(tx, "acme:EU")
    with store.read() as tx:
        (day,) = tx.rows(sa.select(tables.run_days))
    assert (day.runs, day.orders, day.requests) == (2, 14, 4)


def test_a_refusal_stands_until_it_is_forgiven_or_the_credentials_change(
    store: Store, clock: SimulatedClock
) -> None:
    with store.begin() as tx:
        assert runs.in_force(tx, "acme", "s1").get("account") is None
        runs.refuse(tx, "account", "acme", "f1", "invalid_grant")
    clock.sleep(60)
    with store.begin() as tx:
        runs.refuse(tx, "account", "acme", "f1", "invalid_grant again")
        assert runs.in_force(tx, "acme", "s1").get("account") == Refusal(
            "account", "acme", "f1", "invalid_grant", NOON
        )
        assert runs.in_force(tx, "acme", "s1").get("application") is None
        runs.refuse(tx, "account", "acme", "f2", "other credentials")
        changed = runs.in_force(tx, "acme", "s1").get("account")
        assert changed is not None
        assert (changed.fingerprint, changed.since) == ("f2", NOON + timedelta(seconds=60))
        runs.forgive(tx, "acme")
        assert runs.in_force(tx, "acme", "s1").get("account") is None


def test_a_run_records_how_often_it_had_to_retry(database_url: str) -> None:
    clock = SimulatedClock(NOON - timedelta(hours=2))
    faults = Faults.only("html_503", calls=[2, 3], operations=["searchOrders"])
    simulator = Simulator(World(Seller(marketplaces=("UK",))), now=clock, faults=faults)
    shop = Shop(database_url, simulator, clock, [rules_for("UK")], pace=Pace(1800, 1800))
    shop.sync()
    shop.run_until(NOON)
    with shop.store.read() as tx:
        found = runs.since(tx, "acme:EU", NOON - timedelta(hours=2))
        later = runs.since(tx, "acme:EU", found[-1].started_at)
    shop.close()
    assert [run.outcome for run in found] == ["complete"] * len(found)
    assert sum(run.retries for run in found) == 2
    (troubled,) = [run for run in found if run.retries]
    assert troubled.requests >= 3
    assert later == found[-1:]
