"""A shop that lives through an afternoon in which everything goes wrong, and through the quiet days after.

``chaos(seed, database_url)`` puts all faults into one life; a test about one fault makes a ``Life`` of
its own. Either way the answer is a list of what is wrong, empty when all is right. A seed is lived through
again with ``python -m tests.acceptance.chaos SEED [DATABASE_URL]``.

The lives have teeth: bursts of hundreds of orders within minutes while the budget is empty, so that a walk
takes several pages, minutes apart, through a list that changes; a history to catch up with; late arrivals.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import httpx
import sqlalchemy as sa
import structlog

from connectors.amazon.usage_plans import PLANS
from connectors.simulator.api import Simulator
from connectors.simulator.faults import PARTICIPATIONS, Faults
from connectors.simulator.orders import PENDING_STATUSES, Order
from connectors.simulator.population import populate
from connectors.simulator.world import ALL_ROLES, Seller, World
from poller.matching import match
from poller.matching.marketplace_rules import ALL_DATASETS, MarketplaceRules
from poller.sync.decide import Pace
from store import budgets
from store.budgets import BudgetKey
from store.tables import orders, windows
from tests.acceptance.truth import incomplete, misplaced, overclaimed, unfinished
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.oracle import compare
from tests.simulator_transport import transport

HISTORY = timedelta(days=1)
AFTERNOON = timedelta(hours=3)
"""How long the faults last; Amazon's quota allows about 80 requests in it."""

LAST_CHANGE = timedelta(hours=3, minutes=30)
DAILY_PASS = timedelta(hours=24, minutes=10)
"""The shop is polled at this time at the latest; what appears later is left to the second look."""

END = timedelta(hours=42)
"""Enough for the second look at everything that changed, and for the created-time passes."""

BUSY_DAYS = timedelta(days=2)
"""How long those chaotic shops sell that go on after the afternoon: two of three."""

ONE_IN = 500
"""One order in this number cannot be stored until it is calm, and one more in every life."""

ANYTHING = (RuntimeError, KeyError, OSError, RecursionError, AssertionError, UnicodeError, ZeroDivisionError)
"""What a library below the connector may raise."""

CODES = ("UK", "DE", "FR", "IT", "ES", "NL")


# --- the world --------------------------------------------------------------------------------------


def burst(random: Random, seed: int, codes: tuple[str, ...], orders: int, at: datetime) -> list[Order]:
    """Many orders within five minutes, most of which change again while they are read."""
    made = populate(
        seed=seed, marketplaces=codes, orders=orders, start=at, end=at + timedelta(minutes=5), poisoned=0.01
    )
    return [_restless(random, order) for order in made]


def _restless(random: Random, order: Order) -> Order:
    for _ in range(random.choice((0, 0, 1, 1, 1, 2, 4))):
        facts = order.versions[-1].facts
        at = order.versions[-1].last_updated + timedelta(seconds=random.randrange(5, 2400))
        if not facts.milliseconds:
            at = at.replace(microsecond=0)
        late = random.choices((0, random.randrange(10, 600), random.randrange(600, 80_000)), (90, 9, 1))[0]
        status = "UNSHIPPED" if facts.status in PENDING_STATUSES else facts.status
        order = order.then(
            at, late=timedelta(seconds=late), status=status, seller_order_id=f"SHOP-{random.randrange(10**6)}"
        )
    return order


def a_world(
    random: Random,
    seed: int,
    seller: Seller,
    *,
    history: int,
    live: int,
    bursts: dict[datetime, int],
    last: datetime = NOON + LAST_CHANGE,
    **habits: Any,
) -> World:
    """History, a trickle of new orders, and bursts; nothing but a burst's orders changes after ``last``."""
    codes = seller.marketplaces
    world = World(seller, list_order=random.choice(("scattered", "time")))
    long_ago = NOON - HISTORY - timedelta(days=1)
    for number, (amount, start) in enumerate(((history, long_ago), (live, NOON))):
        numbered = seed * 100 + number
        world.add(
            *populate(seed=numbered, marketplaces=codes, orders=amount, start=start, end=last, **habits)
        )
    for number, (at, amount) in enumerate(sorted(bursts.items())):
        world.add(*burst(random, seed * 100 + 2 + number, codes, amount, at))
    return world


# --- the line to Amazon -----------------------------------------------------------------------------


class Line(httpx.BaseTransport):
    """The way to the simulator: takes its time, and records which fault struck where it mattered."""

    def __init__(self, simulator: Simulator, clock: SimulatedClock, random: Random) -> None:
        self._simulator, self._clock, self._random = simulator, clock, random
        self._to_simulator = transport(simulator)
        self._calls: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        """How often each kind struck; those about pages only where a page token was used."""
        self.unprovoked: list[str] = []
        self.breaks = 0.0
        """The share of requests that raise anything instead, until ``calm``."""
        self.calm = NOON

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        at, faults = self._simulator.amazon_now(), self._simulator.faults
        if self._clock() < self.calm and self._random.random() < self.breaks:
            raise self._random.choice(ANYTHING)("a fault below the connector")
        status = None
        try:
            answer = self._to_simulator.handle_request(request)
            status = answer.status_code
        except httpx.ReadTimeout:
            self._clock.sleep(60)
            raise
        finally:
            operation = self._simulator.requests[-1].operation
            self._calls[operation] += 1
            kinds = faults.strike(operation, self._calls[operation], at)
            paging = b"paginationToken" in request.url.query
            self.struck.update(
                kind for kind in kinds if paging or not kind.startswith(("page_token", "same_token"))
            )
            if status == 429 and not kinds & {"throttled_json", "throttled_empty"}:
                self.unprovoked.append(f"429 to {operation} at {at}")
            self._clock.sleep(self._random.uniform(0.1, 3))
        return answer


# --- a life -----------------------------------------------------------------------------------------


@dataclass
class Life:
    """One shop from ``NOON`` to the end, and what was found wrong on the way."""

    seed: int
    shop: Shop
    line: Line
    events: list[tuple[datetime, Callable[[], None]]] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    calm: datetime = NOON + LAST_CHANGE
    """From here on the shop is polled a few times a day."""
    busy_until: datetime = NOON
    authorisations: int = 1
    broken: set[str] = field(default_factory=set)
    """Orders that cannot be stored now."""
    undamaged: dict[str, bytes] = field(default_factory=dict)
    """What damaged values of stored orders were."""
    damaged_at: dict[str, datetime] = field(default_factory=dict)

    def at(self, moment: datetime, event: Callable[[], None]) -> None:
        self.events.append((moment, event))

    def look(self) -> None:
        """Nothing may be claimed now that was not seen."""
        self.wrongs += [f"at {self.shop.clock():%d. %H:%M}: {wrong}" for wrong in overclaimed(self.shop)]

    def empty_budget(self) -> None:
        """Another program spends the account's whole budget: the next pages come three minutes apart."""
        plan = PLANS["searchOrders"]
        with self.shop.store.begin() as tx:
            budgets.drain(tx, BudgetKey("app", "acme", "searchOrders"), plan.rate, plan.burst)

    def revoke(self) -> None:
        """The seller withdraws the authorisation."""
        self.shop.simulator.world.revoke(self.shop.seller.refresh_token)

    def authorise_again(self) -> None:
        """The seller authorises again: another refresh token, and so another fingerprint."""
        shop = self.shop
        self.revoke()
        self.authorisations += 1
        shop.seller = replace(shop.seller, refresh_token=f"Atzr|authorised-anew-{self.authorisations}")
        shop.simulator.world.enrol(shop.seller)
        shop.credential = f"credential {self.authorisations}"
        shop.connector = shop.new_connector()

    def run_until(self, end: datetime) -> None:
        """Go on as the service does: every source runs again when its last run said so."""
        shop = self.shop
        due = dict.fromkeys((source.key for source in shop.sources()), shop.clock())
        while shop.clock() < end:
            for source in shop.sources():
                if due[source.key] <= shop.clock():
                    try:
                        due[source.key] = shop.syncer(source).run().until
                    except ANYTHING:  # as ``poller.service.tick`` does
                        due[source.key] = shop.clock() + timedelta(minutes=1)
            shop.clock.go_to(max(min(due.values()), shop.clock() + timedelta(milliseconds=1)))

    def divided(self) -> int:
        """How many looks held more than a page and were replaced by their halves."""
        c = windows.c
        query = sa.select(sa.func.count()).where(c.state == "cancelled", c.axis == "updated")
        with self.shop.store.read() as tx:
            count: int = tx.conn.execute(query).scalar_one()
        return count

    def damage(self) -> None:
        """A sealed value of a stored order cannot be opened any more."""
        c = orders.c
        with self.shop.store.begin() as tx:
            row = tx.conn.execute(sa.select(c.order_id, c.delivery).where(c.delivery.is_not(None))).first()
            if row is not None and row.order_id not in self.undamaged:
                self.undamaged[row.order_id] = row.delivery
                self.damaged_at[row.order_id] = self.shop.simulator.amazon_now()
                damaged = row.delivery[:-1] + bytes([row.delivery[-1] ^ 1])
                tx.conn.execute(sa.update(orders).where(c.order_id == row.order_id).values(delivery=damaged))

    def repair(self) -> None:
        """Put damaged values back that nothing has replaced."""
        c = orders.c
        with self.shop.store.begin() as tx:
            for order_id, value in self.undamaged.items():
                damaged = value[:-1] + bytes([value[-1] ^ 1])
                is_still = (c.order_id == order_id, c.delivery == damaged)
                tx.conn.execute(sa.update(orders).where(*is_still).values(delivery=value))

    @contextmanager
    def breaking(self) -> Iterator[None]:
        """Let matching raise for the orders that are ``broken``."""
        decide = match._Page.decide

        def decide_or_break(page: match._Page, merged: Any) -> None:
            if merged.record.order_id in self.broken:
                raise ANYTHING[zlib.crc32(merged.record.order_id.encode()) % len(ANYTHING)]("an order breaks")
            decide(page, merged)

        with patch.object(match._Page, "decide", decide_or_break):
            yield

    def live(self) -> list[str]:
        """Live to the end; returns what is wrong."""
        shop, live_from = self.shop, self.shop.simulator.amazon_now()
        self.run_until(shop.clock() + timedelta(seconds=1))
        for moment, event in sorted(self.events, key=lambda planned: planned[0]):
            self.run_until(moment)
            event()
            self.look()
        self.run_until(self.calm)
        broken, cured_at = set(self.broken), shop.simulator.amazon_now()
        self.broken.clear()
        self.repair()
        self.look()
        shop.pace = Pace(3600, 3600)
        self.run_until(self.busy_until)
        self.look()
        shop.pace = Pace(5 * 3600, 5 * 3600)
        for pause in (DAILY_PASS, END):
            self.run_until(self.busy_until + pause)
            self.look()
        start = (NOON - HISTORY).replace(hour=0)
        self.wrongs += incomplete(shop, live_from, start)
        self.wrongs += misplaced(shop)
        self.wrongs += unfinished(shop, live_from - timedelta(minutes=2, seconds=9))
        self.wrongs += self.line.unprovoked
        self.forget_unstored(dict.fromkeys(broken, NOON - HISTORY) | self.damaged_at, cured_at)
        self.wrongs += compare(shop.oracle(), *shop.exported())
        return self.wrongs

    def forget_unstored(self, since: dict[str, datetime], until: datetime) -> None:
        """Of orders that could not be stored, the oracle must not know what was served meanwhile."""
        served = self.shop.simulator.served
        for number, each in enumerate(served):
            ids = {order_id for order_id, begin in since.items() if begin <= each.at < until}
            kept = [o for o in each.orders if not (isinstance(o, dict) and o.get("orderId") in ids)]
            served[number] = replace(each, orders=kept)


def a_life(
    seed: int,
    database_url: str,
    rules: list[MarketplaceRules],
    world: World,
    random: Random,
    *,
    faults: Faults | None = None,
    split: frozenset[str] = frozenset(),
    skew: timedelta = timedelta(0),
    not_enrolled_status: int = 403,
) -> Life:
    """A shop at NOON in this world, over a line that takes its time."""
    clock = SimulatedClock(NOON)
    simulator = Simulator(world, now=clock, faults=faults, skew=skew, not_enrolled_status=not_enrolled_status)
    shop = Shop(
        database_url,
        simulator,
        clock,
        rules,
        start_date=(NOON - HISTORY).date(),
        seller=next(iter(world.sellers.values())),
        split=split,
        pace=Pace(300, 900),
    )
    line = Line(simulator, clock, random)
    shop.go_through(line)
    return Life(seed, shop, line)


# --- everything at once -----------------------------------------------------------------------------


def chaos(seed: int, database_url: str) -> list[str]:
    """All faults in one afternoon, different ones for each seed; returns what is wrong at the end."""
    life = a_chaotic_life(seed, database_url)
    try:
        with life.breaking(), structlog.testing.capture_logs():
            return life.live()
    finally:
        life.shop.close()


def a_chaotic_life(seed: int, database_url: str) -> Life:
    """Policies, world, faults and their hours are all drawn from the seed."""
    random = Random(f"chaos {seed}")
    codes = tuple(random.sample(CODES, random.choice((2, 3, 4))))
    stranger = random.random() < 0.3  # configured, but the seller is not enrolled there
    roles = ALL_ROLES if random.random() < 0.8 else frozenset({"TAX"})
    seller = Seller(marketplaces=codes[:-1] if stranger else codes, roles=roles)
    minutes = random.sample(range(10, 120), random.choice((1, 2)))
    bursts = {NOON + timedelta(minutes=m): random.choice((110, 160, 210)) for m in minutes}
    world = a_world(
        random,
        seed,
        seller,
        history=random.choice((50, 90)),
        live=random.choice((30, 60)),
        bursts=bursts,
        poisoned=0.02,
        late=0.05,
        returning=0.4,
    )
    sales = random.choice((0, 120, 240))
    world.add(*_days_of_sales(random, seed, codes, sales))
    calm = NOON + AFTERNOON
    faults = Faults.everything(seed, intensity=random.choice((0.1, 0.2, 0.35)), until=calm)
    forbidden = NOON + timedelta(minutes=random.randrange(140))
    faults += Faults.only("forbidden", during=(forbidden, forbidden + timedelta(minutes=25)))
    if stranger:
        faults += Faults.only("html_503", operations={PARTICIPATIONS}, until=calm)
    life = a_life(
        seed,
        database_url,
        [_some_rules(random, code) for code in codes],
        world,
        random,
        faults=faults,
        split=frozenset(code for code in codes if random.random() < 0.2),
        skew=timedelta(seconds=random.randrange(-90, 90)),
        not_enrolled_status=random.choice((400, 403)),
    )
    sold = sorted(order.order_id for order in world.orders())
    one_in_many = (o for o in sold if zlib.crc32(o.encode()) % ONE_IN == seed % ONE_IN)
    life.broken = {random.choice(sold), *one_in_many}
    life.busy_until = NOON + BUSY_DAYS if sales else NOON + LAST_CHANGE
    life.line.breaks, life.line.calm = random.choice((0.0, 0.03, 0.1)), calm
    life.at(NOON + timedelta(minutes=random.randrange(30, 150)), life.damage)
    for start in bursts:
        if random.random() < 0.8:
            life.at(start + timedelta(minutes=random.randrange(1, 12)), life.empty_budget)
    if random.random() < 0.5:
        revoked = NOON + timedelta(minutes=random.randrange(20, 150))
        life.at(revoked, life.revoke)
        life.at(revoked + timedelta(minutes=random.randrange(5, 60)), life.authorise_again)
    for _ in range(3):
        life.at(NOON + timedelta(minutes=random.randrange(10, 180)), lambda: None)
    return life


def _days_of_sales(random: Random, seed: int, codes: tuple[str, ...], number: int) -> list[Order]:
    """Orders of two days, most of which change again soon."""
    start, end = NOON + LAST_CHANGE, NOON + BUSY_DAYS
    made = populate(seed=seed * 100 + 90, marketplaces=codes, orders=number, start=start, end=end)
    return [_restless(random, order) for order in made]


def _some_rules(random: Random, code: str) -> MarketplaceRules:
    optional = sorted(ALL_DATASETS - {"FULFILLMENT"})
    left_out = set(random.sample(optional, 2)) if random.random() < 0.25 else set()
    return rules_for(
        code,
        pending=random.choice(("hold", "hold", "placeholder")),
        without_email=random.choice(("per_order", "per_order", "shared", "hold")),
        included_data=frozenset(ALL_DATASETS - left_out),
    )


def main(arguments: list[str]) -> int:
    """Live through one seed and say what is wrong."""
    seed = int(arguments[0])
    with tempfile.TemporaryDirectory() as folder:
        url = arguments[1] if len(arguments) > 1 else f"sqlite:///{Path(folder) / 'chaos.db'}"
        wrongs = chaos(seed, url)
    print(f"seed {seed}: {len(wrongs)} wrong", *wrongs, sep="\n")
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
