"""A process that syncs may be killed at any moment: whoever starts next finishes the work, and all is right.

The simulator runs here, behind a socket, with a world that does not change while it is read, so that a page
asked again brings the same orders again. The clock stands still within a life and goes on by more than a
claim lasts between two.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from connectors.simulator.api import Simulator
from connectors.simulator.serve import SimulatorServer, serve
from connectors.simulator.world import World
from store import migrating
from store.engine import create_engine
from store.ledger import CLAIM
from store.tables import (
    backfills,
    customer_emails,
    customer_words,
    customers,
    journal,
    order_lines,
    orders,
    quarantine,
    runs,
    windows,
)
from tests.acceptance.victim import Ending, Life, Victims, plans_of, victims
from tests.harness import NOON, Shop, SimulatedClock, rules_for

RATE, BURST = 50.0, 1_000_000
"""Plenty: here nothing is to wait for the budget."""

COUNT = -1
"""A boundary that is never reached: the others are counted."""

CONTENTS = (orders, order_lines, customers, customer_emails, customer_words, journal, quarantine)


@pytest.fixture(scope="module")
def helper() -> Iterator[Victims]:
    with victims() as started:
        yield started


@dataclass
class Copies:
    """Makes copies of a database that nobody has open."""

    url: str
    numbers: Iterator[int] = field(default_factory=itertools.count)
    made: list[str] = field(default_factory=list)

    @property
    def on_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def new(self) -> str:
        """URL of a new copy of the first database."""
        return self.of(self.url)

    def of(self, url: str) -> str:
        """URL of a new copy of another one."""
        database = sa.make_url(url).database or ""
        if self.on_sqlite:
            made = Path(database).with_name(f"copy_{next(self.numbers)}.db")
            shutil.copy(database, made)
            return f"sqlite:///{made}"
        self.made.append(f"{sa.make_url(self.url).database}_copy_{next(self.numbers)}")
        self._run("CREATE DATABASE {} TEMPLATE {}", self.made[-1], database)
        return url.replace(f"/{database}?", f"/{self.made[-1]}?")

    def drop_all(self) -> None:
        for name in self.made:
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _run(self, statement: str, *names: str) -> None:
        server = self.url.replace(f"/{sa.make_url(self.url).database}?", "/postgres?")
        with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture
def copies(database_url: str) -> Iterator[Copies]:
    """Databases to be had by copying ``database_url``, which has the schema and nothing in it."""
    engine = create_engine(database_url)
    migrating.upgrade(engine)
    engine.dispose()
    made = Copies(database_url)
    yield made
    made.drop_all()


@dataclass
class Stage:
    """One database, one simulator, and the lives that pass between them."""

    helper: Victims
    server: SimulatorServer
    endpoint: str
    world: World
    database_url: str
    start: datetime
    clock: SimulatedClock

    def __post_init__(self) -> None:
        self.simulator = Simulator(self.world, now=self.clock, plans=dict(plans_of(RATE, BURST)))
        self.codes = next(iter(self.world.sellers.values())).marketplaces
        self.lives = 0

    def live(self, **end: Any) -> Ending:
        """One life; then time goes on until no claim of it holds any more."""
        self.lives += 1
        life = Life(
            self.database_url,
            self.endpoint,
            owner=f"life {self.lives}",
            start_date=self.start.date().isoformat(),
            rate=RATE,
            burst=BURST,
            marketplaces=self.codes,
            at=self.clock.time.isoformat(),
            **end,
        )
        self.server.simulator = self.simulator
        (ending,) = self.helper.live(life)
        self.clock.sleep(CLAIM.total_seconds() + 1)
        return ending

    def complete(self) -> Ending:
        """A life that nobody ends: it must end by itself with everything read."""
        ending = self.live()
        assert not ending.killed
        assert set(ending.outcomes) == {"complete"}
        return ending

    # --- what happened ------------------------------------------------------------------------------

    def answered(self, axis: str = "") -> list[tuple[tuple[str, tuple[str, ...]], ...]]:
        """The searches that were answered whole."""
        searches = [s for s in self.simulator.served if s.operation == "searchOrders"]
        return [tuple(sorted(s.query.items())) for s in searches if f"{axis}After" in s.query or not axis]

    def repeated(self) -> int:
        """How many pages were asked for again."""
        return sum(many - 1 for many in Counter(self.answered()).values())

    def query(self, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
        engine = create_engine(self.database_url)
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(statement)]
        engine.dispose()
        return found

    def promoted(self) -> int:
        return len(self.query(sa.select(orders.c.order_id).where(orders.c.match_basis == "promoted")))

    def stored_pages(self) -> int:
        return sum(pages for (pages,) in self.query(sa.select(runs.c.pages)))

    def stored(self) -> list[list[tuple[Any, ...]]]:
        """All that a page's transaction writes about orders, and what it counts."""
        counted = [sa.select(sa.func.sum(table.c.orders)) for table in (windows, runs, backfills)]
        return [self.query(statement) for statement in (*map(_all_rows, CONTENTS), *counted)]

    def wrongs(self) -> list[str]:
        """What is wrong with the database, in sentences."""
        rules = [rules_for(code) for code in self.codes]
        shop = Shop(self.database_url, self.simulator, self.clock, rules, self.start.date(), fresh=False)
        try:
            found = shop.wrongs()
        finally:
            shop.close()
        known = len([o for o in self.world.orders() if o.current(self.clock.time) is not None])
        stored = len(self.query(sa.select(orders.c.order_id)))
        if stored != known:
            found.append(f"there are {known} orders, {stored} are stored")
        if self.database_url.startswith("sqlite"):
            engine = create_engine(self.database_url)
            with engine.connect() as connection:
                checked = [str(r[0]) for r in connection.exec_driver_sql("PRAGMA integrity_check")]
                checked += [str(r) for r in connection.exec_driver_sql("PRAGMA foreign_key_check")]
            engine.dispose()
            found += [line for line in checked if line != "ok"]
        return found


def _all_rows(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).order_by(*table.primary_key)


@contextmanager
def stages(helper: Victims, world: World, start: datetime) -> Iterator[Callable[[str], Stage]]:
    """Serves ``world``; gives a stage at noon for every database that is named to it."""
    with serve(Simulator(world, now=lambda: NOON)) as (server, endpoint):
        yield lambda url: Stage(helper, server, endpoint, world, url, start, SimulatedClock(NOON))


def test_whoever_is_killed_at_a_random_moment_costs_at_most_one_page(
    copies: Copies, helper: Victims
) -> None:
    kills = 200 if copies.on_sqlite else 40
    # So old that not even a telephone number is withheld any more while it is read.
    start, end = NOON - timedelta(days=32), NOON - timedelta(days=12)
    world = World.generate(seed=11, marketplaces=("UK", "DE"), orders=800, start=start, end=end)
    rng = random.Random(4)
    cut: Counter[str] = Counter()
    with stages(helper, world, start) as stage:
        undisturbed = stage(copies.new())
        length = undisturbed.complete().seconds
        assert undisturbed.wrongs() == []
        assert undisturbed.repeated() == 0
        needed = len(undisturbed.answered("created"))
        assert needed > 10
        while cut.total() < kills:
            disturbed, killed, ended = stage(copies.new()), 0, False
            while not ended and cut.total() < kills:
                answered, stored = len(disturbed.answered()), disturbed.stored_pages()
                patience = length * rng.choice((0.1, 0.3))
                ended = not disturbed.live(killed_after=rng.uniform(0, patience)).killed
                if not ended:
                    killed += 1
                    answered = len(disturbed.answered()) - answered
                    stored = disturbed.stored_pages() - stored
                    assert 0 <= answered - stored <= 1
                    cut["within a page" if answered > stored else "after a page" if stored else "before"] += 1
            disturbed.complete()
            assert disturbed.repeated() <= killed
            assert len(disturbed.answered("created")) <= needed + killed
            assert disturbed.wrongs() == []
    assert all(cut[moment] for moment in ("before", "within a page", "after a page")), cut


def kill_at_every_boundary(stage: Stage, boundaries: int, *, more: bool) -> None:
    """One life ends at the first boundary of a page's transaction, the next at the second, and so on.

    Nothing of the page is to be seen before its COMMIT, and all of it after.
    """
    before = None
    for boundary in range(1, boundaries + 1):
        assert stage.live(more=more, boundary=boundary).killed
        before = before or stage.stored()
        assert (stage.stored() == before) == (boundary < boundaries), f"{boundary} of {boundaries}"
    assert stage.repeated() == boundaries - 1
    stage.complete()
    assert stage.repeated() == boundaries - 1
    assert stage.wrongs() == []


@pytest.mark.parametrize("more", [True, False], ids=["with more to come", "the last one"])
def test_a_page_of_new_orders_is_stored_whole_or_not_at_all(
    copies: Copies, helper: Victims, more: bool
) -> None:
    start, end = NOON - timedelta(days=21), NOON - timedelta(days=12)
    world = World.generate(seed=12, marketplaces=("UK",), orders=150, start=start, end=end)
    with stages(helper, world, start) as stage:
        undisturbed = stage(copies.new()).live(more=more, boundary=COUNT)
        assert undisturbed.boundaries > 15
        kill_at_every_boundary(stage(copies.new()), undisturbed.boundaries, more=more)


def test_a_page_of_updates_and_promotions_is_stored_whole_or_not_at_all(
    copies: Copies, helper: Victims
) -> None:
    start, later = NOON - timedelta(hours=4), NOON + timedelta(hours=2)
    world = World.generate(
        seed=13, marketplaces=("UK",), orders=90, start=start, end=later, late=0.0, withheld=0.6
    )
    with stages(helper, world, start) as stage:
        changing = stage(copies.new())
        changing.complete()
        counted = stage(copies.of(changing.database_url))
        for each in (changing, counted):
            each.clock.go_to(later + timedelta(minutes=3))
        undisturbed = counted.live(boundary=COUNT)
        assert undisturbed.boundaries > 20
        promoted = changing.promoted()
        kill_at_every_boundary(changing, undisturbed.boundaries, more=False)
        assert changing.promoted() > promoted + 3
