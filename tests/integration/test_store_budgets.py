"""The stored token bucket: what is taken, kept back, learnt and drained is there for the next process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from math import ceil

import pytest

from connectors.amazon.usage_plans import PLANS
from poller.ingest.budget import AccountBudget, Allowance
from store import budgets, ledger
from store.budgets import BudgetKey
from store.engine import Store, create_engine
from store.ledger import Superseded
from store.progress import CLAIM, Window
from store.sealing import Sealer
from store.token_bucket import Bucket
from tests.harness import SimulatedClock
from tests.integration.store_world import KEY, NOON, fresh_store

SEARCH = BudgetKey("app", "acme", "searchOrders")
RATE, BURST = 0.0056, 20


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    with fresh_store(database_url):
        opened = Store(create_engine(database_url), Sealer([KEY]), clock=clock)
        yield opened
        opened.close()


def take(store: Store, key: BudgetKey = SEARCH, reserve: float = 0.0) -> datetime | None:
    with store.begin() as tx:
        return budgets.take(tx, key, RATE, BURST, reserve)[1]


def read(store: Store, key: BudgetKey = SEARCH) -> Bucket:
    with store.read() as tx:
        return budgets.read(tx, key, RATE, BURST)


def test_an_untouched_bucket_is_full(store: Store) -> None:
    assert read(store) == Bucket(RATE, BURST, BURST, NOON)


def test_an_empty_bucket_says_when_to_come_back_and_keeps_its_word(
    store: Store, clock: SimulatedClock
) -> None:
    assert [take(store) for _ in range(BURST)] == [None] * BURST
    ready = take(store)
    assert ready is not None
    assert ceil((ready - NOON).total_seconds()) == 179
    clock.go_to(ready - timedelta(milliseconds=10))
    assert take(store) == ready
    clock.go_to(ready)
    assert take(store) is None
    assert take(store) is not None


def test_a_reserve_is_left_for_others(store: Store) -> None:
    assert [take(store, reserve=15.0) for _ in range(5)] == [None] * 5
    assert take(store, reserve=15.0) is not None
    assert [take(store) for _ in range(15)] == [None] * 15
    assert take(store) is not None


def test_a_bucket_never_holds_more_than_its_burst(store: Store, clock: SimulatedClock) -> None:
    take(store)
    clock.go_to(NOON + timedelta(days=365))
    assert read(store).tokens == BURST


def test_a_clock_that_goes_backwards_neither_gives_nor_takes(store: Store, clock: SimulatedClock) -> None:
    for _ in range(5):
        take(store)
    clock.time = NOON - timedelta(minutes=5)
    assert read(store).tokens == 15
    assert take(store) is None
    clock.time = NOON
    assert read(store).tokens == 14


def test_a_clock_that_was_a_day_ahead_does_not_hold_requests_up(store: Store, clock: SimulatedClock) -> None:
    while take(store) is None:
        pass
    clock.time = NOON - timedelta(days=1)
    until = take(store)
    assert until is not None
    assert until < clock.time + timedelta(minutes=3)


def test_after_a_429_nothing_is_left(store: Store, clock: SimulatedClock) -> None:
    with store.begin() as tx:
        until = budgets.drain(tx, SEARCH, RATE, BURST)
    assert read(store).tokens == 0
    assert take(store) == until
    clock.go_to(until)
    assert take(store) is None


def test_a_rate_that_amazon_names_counts_from_then_on(store: Store, clock: SimulatedClock) -> None:
    with store.begin() as tx:
        budgets.drain(tx, SEARCH, RATE, BURST)
    clock.go_to(NOON + timedelta(seconds=250))
    with store.begin() as tx:
        budgets.set_rate(tx, SEARCH, RATE, BURST, 0.1)
    assert read(store).tokens == pytest.approx(250 * RATE)
    clock.go_to(NOON + timedelta(seconds=260))
    assert read(store).tokens == pytest.approx(250 * RATE + 1)
    assert read(store).rate == 0.1


def test_accounts_applications_and_operations_have_buckets_of_their_own(store: Store) -> None:
    others = [
        BudgetKey("other", "acme", "searchOrders"),
        BudgetKey("app", "beta", "searchOrders"),
        BudgetKey("app", "acme", "getOrder"),
    ]
    for _ in range(BURST):
        take(store)
    assert [take(store, key) for key in others] == [None, None, None]
    with store.read() as tx:
        assert budgets.taken(tx) == {SEARCH: BURST, **dict.fromkeys(others, 1)}


def test_a_token_that_was_refused_is_not_counted(store: Store) -> None:
    for _ in range(BURST + 3):
        take(store)
    with store.read() as tx:
        assert budgets.taken(tx) == {SEARCH: BURST}


@pytest.mark.parametrize("waited", [9, 125])
def test_a_token_that_was_taken_ahead_serves_as_long_as_the_window_is_ours(
    store: Store, clock: SimulatedClock, waited: int
) -> None:
    """Another process may claim the window while this process stands still; that shows before the request."""
    window = Window("acme:EU", "acme", "live", "updated", ("A1F83G8C2ARO7P",), ("BUYER",), NOON, NOON)
    since = time.monotonic()
    budget = AccountBudget(store, "app", "acme", PLANS, monotonic=lambda: since + waited)
    with store.begin() as tx:
        (opened,) = ledger.open_windows(tx, [window])
        claimed = ledger.claim(tx, opened, "slow")
        prepaid_at = budget.take_ahead(tx, reserve=0.0)
    assert prepaid_at is not None
    allowance = Allowance(budget, window=claimed, prepaid_at=prepaid_at)
    clock.sleep(waited)
    if waited > CLAIM.total_seconds():
        with store.begin() as tx:
            ledger.claim(tx, claimed, "other")
        for again in (False, True):
            with pytest.raises(Superseded):
                allowance.take("searchOrders", again=again)
        assert budget.taken == 0
        paid_for = 1
    else:
        allowance.take("searchOrders")
        assert (budget.taken, budget.retries) == (1, 0)
        allowance.take("searchOrders", again=True)
        assert (budget.taken, budget.retries) == (2, 1)
        paid_for = 2
    with store.read() as tx:
        assert budgets.taken(tx) == {SEARCH: paid_for}
