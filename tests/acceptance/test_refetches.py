"""Orders refetched by their ids: what a failed fetch leaves behind, and whom it may hold up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import timedelta

import httpx
import pytest

from connectors.marketplaces import BY_NAME
from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from poller.sync.decide import Pace
from poller.verification import comparison
from store import verifications
from store.verification_records import Finding, Listed
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.simulator_transport import transport

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UK = BY_NAME["UK"].id
ORDER = "026-0000000-0000000"
UPDATED = NOON + 2 * HOUR


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    clock = SimulatedClock()
    simulator = Simulator(World(Seller(marketplaces=("UK",))), now=clock)
    shop = Shop(database_url, simulator, clock, [rules_for("UK")], pace=Pace(1800, 1800))
    yield shop
    shop.close()


def sell(shop: Shop, count: int) -> list[str]:
    """Orders that should be shipped within a day, and are not."""
    names = [f"026-0000000-{n:07}" for n in range(count)]
    for n, name in enumerate(names):
        created = NOON + timedelta(minutes=2, seconds=n)
        shop.simulator.world.order(
            name, created=created, marketplace="UK", status="UNSHIPPED", ship_by=NOON + 3 * HOUR
        )
    return names


def break_get_order(shop: Shop, broken: Collection[str]) -> Counter[str]:
    """Let getOrder answer 500 for some orders. Returns the requests for each order."""
    inner, requests = transport(shop.simulator), Counter[str]()

    def handle(request: httpx.Request) -> httpx.Response:
        name = request.url.path.rsplit("/", 1)[-1]
        if name.startswith("026-"):
            requests[name] += 1
        return httpx.Response(500, json={}) if name in broken else inner.handle_request(request)

    shop.http = httpx.Client(transport=httpx.MockTransport(handle))
    shop.connector = shop.new_connector()
    return requests


def verified(shop: Shop) -> tuple[Finding, ...]:
    """What a report that lists the order's newer version makes verification find."""
    with shop.store.read() as tx:
        held = verifications.held(tx, "acme", {UK}, NOON, NOON + DAY, [ORDER])
    listed = [Listed(ORDER, held[ORDER].created_at, UPDATED)]
    return comparison.compare(
        listed,
        held,
        (),
        marketplace_ids={UK},
        lower=NOON,
        upper=NOON + DAY,
        start=NOON - DAY,
        settled=shop.clock(),
    ).findings


@pytest.mark.long
def test_a_fetch_that_failed_does_not_count_as_all_that_amazon_shows(shop: Shop) -> None:
    sell(shop, 1)
    shop.run_until(NOON + 2 * HOUR)
    requests = break_get_order(shop, {ORDER})
    shop.clock.go_to(UPDATED + DAY + HOUR)
    shop.sync()
    assert requests[ORDER] >= 1
    assert [(finding.order_id, finding.kind) for finding in verified(shop)] == [(ORDER, "older")]
    break_get_order(shop, ())
    shop.clock.go_to(UPDATED + 2 * DAY + 2 * HOUR)
    shop.sync()
    assert verified(shop) == ()


@pytest.mark.long
def test_orders_that_cannot_be_fetched_do_not_hold_up_the_others(shop: Shop) -> None:
    names = sell(shop, 8)
    shop.run_until(NOON + 2 * HOUR)
    requests = break_get_order(shop, set(names[:4]))
    shop.run_until(NOON + 12 * HOUR)
    assert set(requests) == set(names)
    assert [requests[name] for name in names[4:]] == [1] * 4
