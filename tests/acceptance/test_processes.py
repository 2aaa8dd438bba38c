"""Several processes on one database: they share its work and its budget, and all is right.

Where they share a budget time is real, and the usage plan so fast that its limit is felt within seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
import sqlalchemy as sa

from connectors.simulator.api import Simulator
from connectors.simulator.orders import order
from connectors.simulator.world import Seller, World
from store import customers as records
from store.engine import Transaction
from store.records import MainEmail
from store.tables import budgets, customer_emails, customers, orders
from tests.acceptance.stage import Copies, Stage, copies_of, staged
from tests.acceptance.victim import Victims, clock_of, victims
from tests.databases import long_on
from tests.harness import NOON, Shop, SimulatedClock, rules_for

CODES = ("UK", "DE", "FR")
RATE, BURST = 4.0, 4
TOLERANCE = 2
"""Requests may reach Amazon closer together than their tokens were taken: by half a second here."""


@pytest.fixture(scope="module")
def helper() -> Iterator[Victims]:
    with victims() as started:
        yield started


@pytest.fixture
def copies(database_url: str) -> Iterator[Copies]:
    with copies_of(database_url) as made:
        yield made


@pytest.fixture
def history() -> tuple[datetime, World]:
    """Some weeks of orders that nothing happens to any more, and when they begin."""
    today = datetime.combine(clock_of(None, 0)().date(), time(), UTC)
    start = today - timedelta(days=32)
    return start, World.generate(
        seed=21, marketplaces=CODES, orders=900, start=start, end=today - timedelta(days=12)
    )


def searched(stage: Stage) -> Counter[int | None]:
    """Answers to searches, by status."""
    return Counter(a.status for a in stage.simulator.requests if a.operation == "searchOrders")


def taken(stage: Stage) -> int:
    found = stage.query(sa.select(budgets.c.taken).where(budgets.c.operation == "searchOrders"))
    return int(found[0][0])


@pytest.mark.long
@long_on("postgresql")
def test_three_processes_do_the_work_of_one_on_the_budget_of_one(
    copies: Copies, helper: Victims, history: tuple[datetime, World]
) -> None:
    start, world = history
    with staged(helper, world, start) as stage:
        alone = stage(copies.new())
        alone.complete()
        shared = stage(copies.new(), rate=RATE, burst=BURST, tolerance=TOLERANCE)
        endings = shared.live(*(shared.life(split=("UK",)) for _ in range(3)))
    assert sum(1 for ending in endings if ending.pages) >= 2, "they did not share the work"
    assert all("failed" not in ending.outcomes for ending in endings)
    assert any("deferred" in ending.outcomes for ending in endings), "the budget was never felt"
    assert set(searched(shared)) == {200}
    assert taken(shared) == len(shared.answered()) <= BURST + RATE * max(e.seconds for e in endings)
    assert shared.repeated() == 0
    assert shared.stored_pages() == len(shared.answered())
    assert len(shared.answered("created")) <= len(alone.answered("created")) + len(CODES)
    assert shared.wrongs() == []


@long_on("postgresql")
def test_three_processes_that_take_tokens_as_fast_as_they_can_get_no_more_than_there_are(
    copies: Copies, helper: Victims
) -> None:
    tokens = 1000
    with staged(helper, World(), NOON) as stage:
        greedy = stage(copies.new(), clock=SimulatedClock(), burst=tokens)
        endings = greedy.live(*(greedy.life(only_takes=True) for _ in range(3)))
    assert sum(ending.tokens for ending in endings) == tokens == taken(greedy)


@pytest.mark.long
@long_on("postgresql")
def test_when_one_of_three_is_killed_the_others_go_on_and_a_later_one_finishes(
    copies: Copies, helper: Victims, history: tuple[datetime, World]
) -> None:
    start, world = history
    with staged(helper, world, start) as stage:
        shared = stage(copies.new(), rate=RATE, burst=BURST, tolerance=TOLERANCE)
        endings = shared.live(shared.life(killed_after=1.5), shared.life(), shared.life())
        assert [ending.killed for ending in endings] == [True, False, False]
        assert shared.repeated() == 0
        shared.complete()
    assert set(searched(shared)) == {200}
    assert shared.repeated() <= 1
    assert len(shared.answered()) - shared.stored_pages() <= 1
    assert shared.wrongs() == []


@pytest.mark.long
def test_r16_two_first_orders_in_two_processes_at_the_same_time_end_on_one_record(
    copies: Copies, helper: Victims
) -> None:
    """A hundred buyers buy from both accounts of a business, and both accounts are read at the same time."""
    many, day = 100, NOON - timedelta(hours=3)
    sellers = [Seller(), Seller("second", refresh_token="Atzr|second")]
    world = World(*sellers)
    for turn, seller in enumerate(sellers):
        for n in range(many):
            # Each account meets the buyers in an order of its own, so that they also wait for each other.
            created = day + timedelta(seconds=n if turn == 0 else many - n)
            email = f"buyer{n:03d}@marketplace.amazon.co.uk"
            made = order(f"{turn}-{n:03d}", created=created, email=email, status="UNSHIPPED")
            world.add(made, seller=seller.name)
    with staged(helper, world, NOON) as stage:
        for _ in range(4):
            both = stage(copies.new(), clock=SimulatedClock())
            lives = [
                both.life(account=account, refresh_token=seller.refresh_token)
                for account, seller in zip(("first", "second"), sellers, strict=True)
            ]
            endings = both.live(*lives)
            assert [ending.outcomes for ending in endings] == [["complete"], ["complete"]]
            linked = both.query(sa.select(orders.c.order_id, orders.c.customer_id))
            bought: dict[int, set[str]] = {}
            for order_id, customer_id in linked:
                bought.setdefault(customer_id, set()).add(order_id)
            assert len(linked) == 2 * many
            assert sorted(map(sorted, bought.values())) == [[f"0-{n:03d}", f"1-{n:03d}"] for n in range(many)]
            assert len(both.query(sa.select(customers.c.customer_id))) == many
            assert len(both.query(sa.select(customer_emails.c.customer_id))) == many


@pytest.mark.long
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_r55_an_order_matched_while_a_merge_commits_ends_on_the_record_that_was_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL lets a merge commit between the search for an e-mail and the lock on its record."""
    first, second = (f"{name}@marketplace.amazon.co.uk" for name in ("first", "second"))
    world, clock = World(), SimulatedClock()
    world.order("A-1", created=NOON - timedelta(hours=2), email=first, status="UNSHIPPED")
    world.order("A-2", created=NOON - timedelta(hours=2), email=second, status="UNSHIPPED")
    world.order("A-3", created=NOON + timedelta(minutes=10), email=second, status="UNSHIPPED")
    shop = Shop(database_url, Simulator(world, now=clock), clock, [rules_for("UK")], NOON.date())
    shop.sync()
    with shop.store.read() as tx:
        found = records.find_emails(tx, "acme", [first, second])
    kept, gone = found[first][0], found[second][0]
    find = records.find_emails
    merges: list[dict[str, tuple[int, int]]] = []

    def find_and_merge(tx: Transaction, business: str, emails: Collection[str]) -> dict[str, tuple[int, int]]:
        found = find(tx, business, emails)
        if not merges:
            merges.append(found)
            with shop.store.begin() as other:
                record = records.load(other, [kept, gone])[kept]
                records.bury(other, gone, kept)
                both = (*record.emails, MainEmail(2, second, "amazon"))
                records.change(other, replace(record, emails=both))
        return found

    monkeypatch.setattr(records, "find_emails", find_and_merge)
    clock.go_to(NOON + timedelta(minutes=20))
    shop.sync()
    assert [found[second][0] for found in merges] == [gone]
    with shop.store.read() as tx:
        stored = tx.rows(sa.select(orders.c.customer_id).where(orders.c.order_id == "A-3"))
    shop.close()
    assert [row.customer_id for row in stored] == [kept]
