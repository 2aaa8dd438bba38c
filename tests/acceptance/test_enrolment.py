"""Where the seller is enrolled, as Amazon lists it once a day: one wrong list, no list, a real end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from connectors.marketplaces import BY_NAME
from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from store import ledger, tables
from store.progress import MarketplaceProgress
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.simulator_transport import transport

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PATH = "marketplaceParticipations"
DE = BY_NAME["DE"].id

Change = Callable[[int, httpx.Response], httpx.Response]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop in two marketplaces, of which each sells every twenty minutes."""
    clock, seller = SimulatedClock(NOON), Seller(marketplaces=("UK", "DE"))
    world = World(seller)
    for n in range(200):
        created = NOON + 10 * n * MINUTE
        world.order(f"{n:03d}", created=created, marketplace="DE" if n % 2 else "UK", status="UNSHIPPED")
    rules = [rules_for("UK"), rules_for("DE")]
    shop = Shop(f"sqlite:///{tmp_path / 'e.db'}", Simulator(world, now=clock), clock, rules, seller=seller)
    yield shop
    shop.close()


def answer_with(shop: Shop, change: Change) -> list[int]:
    """Change Amazon's list of enrolments, by the number of the answer. Returns a list with one entry each."""
    inner, answers = transport(shop.simulator), list[int]()

    def answer(request: httpx.Request) -> httpx.Response:
        answered = inner.handle_request(request)
        if PATH not in request.url.path:
            return answered
        answers.append(len(answers) + 1)
        return change(answers[-1], answered)

    shop.go_through(httpx.MockTransport(answer))
    return answers


def without_germany(answered: httpx.Response) -> httpx.Response:
    body = json.loads(answered.read())
    body["payload"] = [each for each in body["payload"] if each["marketplace"]["id"] != DE]
    return httpx.Response(200, headers={"date": answered.headers["date"]}, json=body)


def germany(shop: Shop) -> MarketplaceProgress:
    with shop.store.read() as tx:
        return ledger.load_marketplaces(tx, "acme")[DE]


def stored(shop: Shop, code: str) -> int:
    query = sa.select(tables.orders.c.order_id).where(tables.orders.c.marketplace == code)
    with shop.store.read() as tx:
        return len(tx.rows(query))


@pytest.mark.long
def test_a_marketplace_that_the_first_answer_lacks_is_asked_about_again_within_minutes(shop: Shop) -> None:
    """A new marketplace is not polled meanwhile, and the run says so at once."""
    answers = answer_with(
        shop, lambda number, answered: without_germany(answered) if number == 1 else answered
    )
    (first,) = shop.sync()
    assert first.message == "DE, where the seller is not enrolled"
    shop.run_until(NOON + 15 * MINUTE)
    assert len(answers) == 2
    assert germany(shop).enrolled is True
    assert germany(shop).trouble is None
    shop.run_until(NOON + 6 * HOUR)
    assert len(answers) == 2
    assert stored(shop, "DE") == stored(shop, "UK") == 18


@pytest.mark.long
def test_a_marketplace_that_one_later_answer_lacks_is_polled_all_the_time(shop: Shop) -> None:
    answers = answer_with(
        shop, lambda number, answered: without_germany(answered) if number == 2 else answered
    )
    reports = shop.run_until(NOON + 24 * HOUR + 30 * MINUTE)
    assert len(answers) == 3
    assert {report.message for report in reports} == {None}
    assert (germany(shop).enrolled, germany(shop).absent_since) == (True, None)
    shop.run_until(NOON + 30 * HOUR)
    assert stored(shop, "DE") >= 89
    assert len(answers) == 3


@pytest.mark.long
def test_a_marketplace_that_two_answers_lack_is_not_polled_until_it_is_listed_again(shop: Shop) -> None:
    shop.run_until(NOON + HOUR)
    answers = answer_with(
        shop, lambda number, answered: without_germany(answered) if number <= 3 else answered
    )
    reports = shop.run_until(NOON + 24 * HOUR + 30 * MINUTE)
    assert len(answers) == 2
    assert germany(shop).enrolled is False
    assert germany(shop).trouble == "the seller is not enrolled in this marketplace"
    assert reports[-1].message == "DE, where the seller is not enrolled"
    shop.run_until(NOON + 47 * HOUR)
    assert len(answers) == 2
    shop.run_until(NOON + 74 * HOUR)
    assert len(answers) == 4
    assert (germany(shop).enrolled, germany(shop).trouble) == (True, None)
    assert stored(shop, "DE") == 100


@pytest.mark.long
def test_without_the_role_for_it_the_list_is_requested_once_a_day_and_no_token_is_dropped(
    shop: Shop,
) -> None:
    def refuse(number: int, answered: httpx.Response) -> httpx.Response:
        denied = {"code": "Unauthorized", "message": "Access to requested resource is denied."}
        return httpx.Response(403, json={"errors": [denied]}, headers={"date": answered.headers["date"]})

    answers = answer_with(shop, refuse)
    reports = shop.run_until(NOON + 24 * HOUR)
    assert {report.outcome for report in reports} <= {"complete", "deferred"}
    assert len(answers) <= 2
    tokens = sum("token" in request.operation for request in shop.simulator.requests)
    assert 24 <= tokens <= 26
    assert germany(shop).enrolled is not False
    assert stored(shop, "DE") >= 70
