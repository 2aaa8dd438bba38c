"""A busy shop for days, on the product, its database and the simulator: how far it falls behind at worst.

Every order is created, made ready and shipped; some are shown hours late; a page lists them in random
order, and lists change while they are read. In ``tests/unit/core_world.py`` the same shop lives without a
database.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from config.settings import AccountSettings, Settings
from connectors.amazon.usage_plans import PLANS
from connectors.simulator.api import Simulator
from connectors.simulator.faults import SEARCH
from connectors.simulator.orders import Order
from connectors.simulator.orders import order as an_order
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World
from poller.ingest.accounts import Account, Setup
from poller.monitoring.gather import gather
from poller.monitoring.status import Item
from store import ledger
from store.progress import complete_until
from store.queries import UNCOUNTED
from tests.acceptance.truth import stored_versions
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.oracle import compare

DAY = timedelta(days=1)
PEAK = 1.7
"""The evening's rate over the day's mean, in a shop with nights."""
SAMPLED_EVERY = timedelta(minutes=30)


@dataclass
class Behind:
    """How far a shop fell behind at worst, and what else must not be."""

    live: timedelta = timedelta(0)
    covered: timedelta = timedelta(0)
    second_look: timedelta = timedelta(0)
    searches: int = 0
    refused: int = 0
    alarms: int = 0
    """Samples, one each half hour, in which it was not ready or not well."""
    wrongs: tuple[str, ...] = ()
    """What was missing, doubled or wrong at the end."""


def busy_orders(per_day: int, start: datetime, end: datetime, *, nights: bool, random: Random) -> list[Order]:
    """Orders from half a day before ``start`` on."""
    orders: list[Order] = []
    at = start - DAY / 2
    while at < end:
        hour = at.hour + at.minute / 60
        factor = 1 + (PEAK - 1) * math.cos((hour - 20) / 24 * 2 * math.pi) if nights else 1.0
        at += timedelta(seconds=random.expovariate(per_day / 86400 * factor))
        created = at.replace(microsecond=0)
        ready = created + timedelta(seconds=random.randrange(120, 1800))
        shipped = ready + timedelta(seconds=random.randrange(1800, 12 * 3600))
        number = len(orders)
        order = an_order(
            f"{number:03d}-{number:07d}-{number:07d}", created=created, status="PENDING", late=_late(random)
        )
        order = order.then(ready, late=_late(random), status="UNSHIPPED")
        orders.append(order.then(shipped, late=_late(random), status="SHIPPED"))
    return orders


def _late(random: Random) -> timedelta:
    return timedelta(seconds=random.randrange(6 * 3600) if random.random() < 0.01 else 0)


def live(
    url: str, per_day: int, days: float, *, nights: bool, seed: int, with_customers: bool = True
) -> Behind:
    """Let a busy shop live for some days, and for two quiet ones.

    ``with_customers``: judge them, too, at a cost that grows with their square.
    """
    random = Random(f"busy {per_day} {nights} {seed}")
    clock, end = SimulatedClock(NOON), NOON + days * DAY
    seller = Seller(marketplaces=("UK",))
    world = World(seller, list_order="scattered")
    world.add(*busy_orders(per_day, NOON, end, nights=nights, random=random))
    simulator = Simulator(world, now=clock)
    shop = Shop(url, simulator, clock, [rules_for("UK")], seller=seller)
    worst, sampled_at = Behind(), NOON
    try:
        while clock() < end:
            (report,) = shop.sync()
            if clock() > NOON + SAMPLED_EVERY:
                _note(worst, shop)
            if clock() - sampled_at >= SAMPLED_EVERY:
                sampled_at = clock()
                worst.alarms += bool(health_of(shop))
            clock.go_to(max(report.until, clock() + timedelta(milliseconds=1)))
        worst.searches = sum(request.operation == SEARCH for request in simulator.requests)
        shop.run_until(end + 2 * DAY)
        worst.refused = sum(request.status == 429 for request in simulator.requests)
        judged = compare(shop.oracle(), *shop.exported()) if with_customers else []
        worst.wrongs = tuple(judged + _never_stored(shop))
    finally:
        shop.close()
    return worst


def _note(worst: Behind, shop: Shop) -> None:
    now = shop.clock()
    with shop.store.read() as tx:
        (progress,) = ledger.load_marketplaces(tx, "acme").values()
        seen = ledger.read_coverage(tx, "acme", progress.marketplace_id, "first")
    covered = complete_until(seen, progress.live_from) or progress.live_from
    worst.live = max(worst.live, now - progress.position)
    worst.covered = max(worst.covered, now - covered)
    if now > NOON + DAY:
        worst.second_look = max(worst.second_look, now - progress.second_position)


def _never_stored(shop: Shop) -> list[str]:
    """Orders that are not stored as Amazon shows them, but for those that had changed before the start."""
    stored = stored_versions(shop)
    newest = ((order.order_id, order.versions[-1].last_updated) for order in shop.simulator.world.orders())
    return [f"{o}: not stored as of {at}" for o, at in newest if at > NOON and stored.get(o) != at]


def health_of(shop: Shop) -> tuple[Item, ...]:
    """What is not well, as every door of a service with this shop would say."""
    sources, rules = shop.sources(), shop.account_rules()
    settings = AccountSettings.model_validate(
        {
            "name": "acme",
            "lwa_client_id": CLIENT_ID,
            "lwa_client_secret": CLIENT_SECRET,
            "refresh_token": shop.seller.refresh_token,
        }
    )
    account = Account(settings, "EU", rules, shop.connector, sources, {}, PLANS)
    by_key = {source.key: (account, source) for source in sources}
    setup = Setup(Settings(), (), "tests", {"acme": account}, by_key)
    return gather(shop.store, setup, lambda _: UNCOUNTED).health
