"""When a backfill says that it will be ready, and when it is: on Amazon's plan, with no searches to spare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.settings import AccountSettings, Settings
from connectors.amazon.usage_plans import PLANS
from connectors.simulator.world import World
from poller.actions.backfill_progress import Standing, standing_of
from poller.actions.backfills import orders_left
from poller.ingest.accounts import Account, Setup
from store import tables
from store.progress import Way
from tests.acceptance.test_history import DAY, begin, shop_of, state
from tests.harness import NOON, Shop

HOUR = timedelta(hours=1)

SECRETS = {"name": "acme", "lwa_client_id": "a", "lwa_client_secret": "b", "refresh_token": "c"}

Open = Callable[[World], Shop]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Open]:
    """Opens a shop that has polled for seven hours and has no searches to spare."""
    opened: list[Shop] = []

    def opener(world: World) -> Shop:
        shop = shop_of(f"sqlite:///{tmp_path / 'eta.db'}", world, spent=True)
        opened.append(shop)
        shop.run_until(NOON + 7 * HOUR)
        return shop

    yield opener
    for shop in opened:
        shop.close()


def spend(shop: Shop) -> None:
    """Use up the searches at hand."""
    with shop.store.begin() as tx:
        searching = tables.budgets.c.operation == "searchOrders"
        tx.conn.execute(sa.update(tables.budgets).where(searching).values(tokens=2.0, counted_at=tx.now))


def standing(shop: Shop, number: int) -> Standing:
    account = Account(
        AccountSettings.model_validate(SECRETS),
        "EU",
        shop.account_rules(),
        shop.connector,
        shop.sources(),
        {},
        PLANS,
    )
    settings = Settings()
    with shop.store.read() as tx:
        return standing_of(tx, Setup(settings, (), "tests", {"acme": account}), state(shop, number))


def carried_out(shop: Shop, number: int) -> tuple[list[tuple[datetime, datetime]], datetime]:
    """Go on until the backfill is done. Return the times with what was promised then, and its end."""
    promised: list[tuple[datetime, datetime]] = []
    began = shop.clock()
    while state(shop, number).state in ("planned", "running"):
        assert shop.clock() - began < 20 * DAY
        now = standing(shop, number)
        if now.eta is not None:
            promised.append((shop.clock(), now.eta))
        reports = shop.sync()
        if state(shop, number).state != "done":
            shop.clock.go_to(max(min(r.until for r in reports), shop.clock() + timedelta(milliseconds=1)))
    return promised, shop.clock()


def world_of(orders_a_day: int, days: float) -> World:
    """Orders from some days ago until tomorrow."""
    number = round(orders_a_day * (days + 1))
    return World.generate(
        seed=5, marketplaces=["UK"], orders=number, start=NOON - days * DAY, end=NOON + DAY, late=0.0
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("orders_a_day", "days", "way"),
    [
        (200, 8, "search"),
        (200, 8, "auto"),
        (0, 180, "auto"),
        pytest.param(0, 180, "search", marks=pytest.mark.long),
        pytest.param(40, 60, "search", marks=pytest.mark.long),
        pytest.param(40, 60, "auto", marks=pytest.mark.long),
    ],
)
def test_the_first_promise_is_right_within_a_third(
    orders_a_day: int, days: int, way: Way, open_shop: Open
) -> None:
    shop = open_shop(world_of(orders_a_day, days))
    spend(shop)
    began = shop.clock()
    promised, ended = carried_out(shop, begin(shop, days, way))
    (at, eta), took = promised[0], ended - began
    assert at == began
    assert abs((eta - began) / took - 1) <= 1 / 3
    half_way = [abs(eta - ended) for at, eta in promised if at >= began + took / 2]
    assert not half_way or half_way[0] <= took / 3


@pytest.mark.long
def test_a_promise_that_rests_on_a_guess_says_that_it_moves(open_shop: Open) -> None:
    """The last hours sold a fifth of what was sold before."""
    world = World.generate(
        seed=5, marketplaces=["UK"], orders=2_000, start=NOON - 8 * DAY, end=NOON - DAY, late=0.0
    )
    for n in range(20):
        world.order(f"NEW-{n}", created=NOON + n * HOUR / 3, marketplace="UK")
    shop = open_shop(world)
    spend(shop)
    began = shop.clock()
    number = begin(shop, 8, "search")
    first = standing(shop, number)
    _, ended = carried_out(shop, number)
    assert first.eta is not None
    assert (first.eta - began) / (ended - began) < 2 / 3
    assert orders_left(first) == f"about {first.left:,} (a guess: the end moves with what is found)"
