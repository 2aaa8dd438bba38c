"""Orders that cannot be read: all of them and only they wait, nothing stops for them, and they get out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.faults import GET, Faults
from connectors.simulator.orders import POISONS, order
from connectors.simulator.world import Seller, World
from poller.ingest.refetch import REFETCHES
from poller.sync.decide import Pace
from store import ledger, quarantine, tables
from store.quarantine import Quarantined
from tests.databases import long_on
from tests.harness import NOON, Shop, SimulatedClock, rules_for

pytestmark = long_on("postgresql")

HOUR = timedelta(hours=1)
NAMELESS = {"order_null", "order_a_string", "order_a_list", "order_id_missing"}
BAD = "BAD-1"


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    """An empty shop in two marketplaces, polled every half hour, opened two hours ago."""
    clock = SimulatedClock(NOON - 2 * HOUR)
    simulator = Simulator(World(Seller(marketplaces=("UK", "DE"))), now=clock)
    rules = [rules_for("UK"), rules_for("DE")]
    shop = Shop(database_url, simulator, clock, rules, pace=Pace(1800, 1800))
    shop.sync()
    clock.go_to(NOON)
    yield shop
    shop.close()


@pytest.fixture
def one(shop: Shop) -> Shop:
    """The same, with one order that cannot be read."""
    shop.simulator.world.order(BAD, created=NOON - HOUR, poison="quantity_a_word")
    run_on(shop, timedelta(0))
    return shop


def run_on(shop: Shop, span: timedelta) -> None:
    """Time goes on; every run must end well."""
    reports = shop.sync() + shop.run_until(shop.clock() + span)
    assert {report.outcome for report in reports} <= {"complete", "deferred"}


def entries(shop: Shop) -> dict[str, Quarantined]:
    with shop.store.read() as tx:
        return {entry.order_id: entry for entry in quarantine.entries(tx)}


def stored(shop: Shop) -> set[str]:
    with shop.store.read() as tx:
        return set(tx.conn.execute(sa.select(tables.orders.c.order_id)).scalars())


def asked_for(shop: Shop) -> list[datetime]:
    return [request.at for request in shop.simulator.requests if request.operation == GET]


def to_the_last_question(shop: Shop) -> list[timedelta]:
    """Sync shortly before each question to Amazon is due, and then. Returns how long each was waited for."""
    waits = []
    while (at := entries(shop)[BAD].next_attempt_at) is not None:
        waits.append(at - shop.clock())
        shop.clock.go_to(at - timedelta(seconds=1))
        shop.sync()
        assert len(asked_for(shop)) == len(waits) - 1
        shop.clock.go_to(at)
        shop.sync()
        assert len(asked_for(shop)) == len(waits)
    return waits


@pytest.mark.long
def test_all_and_only_what_cannot_be_read_is_in_quarantine_and_nothing_stops(shop: Shop) -> None:
    assert len(POISONS) >= 12
    start = NOON - HOUR
    sound = [
        order(f"GOOD-{n:03}", created=start + n * timedelta(seconds=20), marketplace="UK" if n % 3 else "DE")
        for n in range(150)
    ]
    bad = [
        order(f"BAD-{poison}", created=start + n * timedelta(minutes=2), poison=poison)
        for n, poison in enumerate(sorted(POISONS))
    ]
    shop.simulator.world.add(*sound, *bad)

    run_on(shop, 2 * HOUR)

    found = entries(shop)
    assert {name for name in found if name.startswith("BAD-")} == {
        f"BAD-{poison}" for poison in POISONS.keys() - NAMELESS
    }
    strangers = [entry for name, entry in found.items() if not name.startswith("BAD-")]
    assert len(strangers) == len(NAMELESS)
    assert all(name.startswith("unreadable-") for name in found.keys() - {o.order_id for o in bad})
    assert stored(shop) == {one.order_id for one in sound}
    assert all(entry.reason for entry in found.values())
    with shop.store.read() as tx:
        read = [m.position for m in ledger.load_marketplaces(tx, "acme").values()]
    assert min(read) > shop.clock() - HOUR


def test_a_later_version_that_can_be_read_gets_out_by_itself(one: Shop) -> None:
    assert list(entries(one)) == [BAD]
    one.simulator.world.update(BAD, NOON + timedelta(minutes=1), poison=None)
    one.clock.go_to(NOON + HOUR / 2)
    run_on(one, HOUR / 4)
    assert entries(one) == {}
    assert stored(one) == {BAD}
    assert asked_for(one) == [], "it came with the others"


def test_a_stored_order_whose_next_version_cannot_be_read_keeps_what_it_has(shop: Shop) -> None:
    world = shop.simulator.world
    world.order(BAD, created=NOON - HOUR)
    run_on(shop, HOUR)
    world.update(BAD, NOON + HOUR, poison="items_missing", status="SHIPPED")
    run_on(shop, HOUR)
    assert stored(shop) == set(entries(shop)) == {BAD}
    world.update(BAD, shop.clock(), poison=None)
    run_on(shop, HOUR)
    assert entries(shop) == {}
    assert [o["status"] for o in shop.exported()[0]] == ["SHIPPED"]


@pytest.mark.long
def test_amazon_is_asked_ever_more_seldom_and_at_last_a_person(one: Shop) -> None:
    waits = to_the_last_question(one)
    assert [round(wait / HOUR) for wait in waits] == [1, 2, 4, 8, 16, 32, 64]
    one.clock.sleep(99 * 3600)
    one.sync()
    assert len(asked_for(one)) == REFETCHES
    (entry,) = entries(one).values()
    assert entry.next_attempt_at is None
    assert entry.attempts > REFETCHES
    with one.store.read() as tx:
        assert quarantine.counts(tx).waiting == 1


def test_what_amazon_has_mended_gets_out_at_the_next_question(one: Shop) -> None:
    one.simulator.world.order(BAD, created=NOON - HOUR)  # the same version: no list tells it
    run_on(one, 1.5 * HOUR)
    assert entries(one) == {}
    assert stored(one) == {BAD}
    assert len(asked_for(one)) == 1


def test_a_question_that_gets_no_answer_does_not_count(one: Shop) -> None:
    one.simulator.faults = Faults.only("html_503", operations=[GET])
    run_on(one, 5 * HOUR)
    assert entries(one)[BAD].refetches == 0
    one.simulator.faults = Faults()
    run_on(one, HOUR)
    assert entries(one)[BAD].refetches == 1


@pytest.mark.long
def test_what_amazon_does_not_know_any_more_is_left_to_a_person(one: Shop) -> None:
    one.simulator.world.order(BAD, created=NOON - HOUR, late=timedelta(days=99))
    to_the_last_question(one)
    assert (entries(one)[BAD].refetches, entries(one)[BAD].next_attempt_at) == (REFETCHES, None)


def test_only_an_idle_budget_is_used(one: Shop) -> None:
    one.simulator.plans = {GET: UsagePlan(0.5, 30)}
    with one.store.begin() as tx:
        tx.conn.execute(
            sa.insert(tables.budgets).values(
                application="app",
                account="acme",
                operation="getOrder",
                rate=0.0001,
                burst=30,
                tokens=9,
                counted_at=tx.now,
                taken=21,
            )
        )
    run_on(one, 2.5 * HOUR)
    assert asked_for(one) == []


def by_an_older_program(shop: Shop, payload: str | None = None) -> None:
    """What is in quarantine was left there by an older version of this program."""
    with shop.store.begin() as tx:
        for entry in quarantine.entries(tx):
            text = payload or entry.payload
            quarantine.put(tx, Quarantined("acme", BAD, entry.marketplace_id, "old", text, read_by="0.0.1"))
            quarantine.schedule(tx, entry, None, refetches=REFETCHES)


def test_after_an_upgrade_the_stored_payload_is_read_again(one: Shop) -> None:
    payload = json.loads(entries(one)[BAD].payload)
    payload["orderItems"][0]["quantityOrdered"] = 1
    by_an_older_program(one, json.dumps(payload))
    one.sync()
    assert entries(one) == {}
    assert stored(one) == {BAD}
    assert asked_for(one) == []


def test_what_the_new_version_cannot_read_either_is_refetched(one: Shop) -> None:
    by_an_older_program(one)
    one.sync()
    entry = entries(one)[BAD]
    assert entry.reason != "old"
    assert (entry.refetches, entry.next_attempt_at) == (0, one.clock() + HOUR)
    attempts = entry.attempts
    one.sync()
    assert entries(one)[BAD].attempts == attempts, "once for each upgrade"
