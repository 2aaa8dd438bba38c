"""What tests of killed and of many processes stand on: copied databases, a served world, and the verdict.

The simulator runs in the test's process, behind a socket. Its world does not change while it is read, so that
a page that is requested again brings the same orders, and storing it twice must do no harm.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from connectors.simulator.api import Simulator
from connectors.simulator.serve import SimulatorServer, serve
from connectors.simulator.world import World
from store import revisions, tables
from store.engine import create_engine
from store.progress import CLAIM
from tests.acceptance.victim import Ending, Life, Victims, clock_of, plans_of
from tests.harness import NOON, Shop, SimulatedClock, rules_for

CONTENTS = (
    tables.orders,
    tables.order_lines,
    tables.customers,
    tables.customer_emails,
    tables.customer_words,
    tables.journal,
    tables.quarantine,
)
"""Where a page's transaction writes what it has to say about orders and customers."""


@dataclass
class Copies:
    """Makes copies of databases that no process has open. ``url``: one with the schema and nothing in it."""

    url: str
    numbers: Iterator[int] = field(default_factory=itertools.count)
    made: list[str] = field(default_factory=list)

    @property
    def on_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def new(self) -> str:
        """URL of a new database with the schema."""
        return self.of(self.url)

    def of(self, url: str) -> str:
        """URL of a new copy of a database."""
        database = sa.make_url(url).database or ""
        if self.on_sqlite:
            made = Path(database).with_name(f"copy_{next(self.numbers)}.db")
            # Not a copy of the file alone: what a killed process committed may lie in the log beside it.
            with closing(sqlite3.connect(database)) as original, closing(sqlite3.connect(made)) as copy:
                original.backup(copy)
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


@contextmanager
def copies_of(database_url: str) -> Iterator[Copies]:
    """Give an empty database the schema, and copies of it; those are dropped in the end."""
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    engine.dispose()
    made = Copies(database_url)
    try:
        yield made
    finally:
        made.drop_all()


@dataclass
class Stage:
    """One database, one simulator, and the lives that pass between them.

    ``clock``: the time of all of them, standing still within a life; without it, the machine's.
    """

    helper: Victims
    server: SimulatorServer
    endpoint: str
    world: World
    database_url: str
    start: datetime
    clock: SimulatedClock | None = None
    rate: float = 50.0
    burst: int = 1_000_000
    tolerance: int = 0
    """Tokens that the simulator grants beyond the burst."""

    def __post_init__(self) -> None:
        plans = plans_of(self.rate, self.burst + self.tolerance)
        self.simulator = Simulator(self.world, now=self.now, plans={str(name): plans[name] for name in plans})
        self.codes = next(iter(self.world.sellers.values())).marketplaces
        self.ahead = 0.0
        self.lives = 0

    def now(self) -> datetime:
        return self.clock() if self.clock is not None else clock_of(None, self.ahead)()

    def let_claims_lapse(self) -> None:
        """Time goes on until no claim holds any more."""
        if self.clock is not None:
            self.clock.sleep(CLAIM.total_seconds() + 1)
        else:
            self.ahead += CLAIM.total_seconds() + 1

    def life(self, **more: Any) -> Life:
        """A new process that is to sync all of this stage's world."""
        self.lives += 1
        return Life(
            self.database_url,
            self.endpoint,
            owner=f"life {self.lives}",
            start_date=self.start.date().isoformat(),
            rate=self.rate,
            burst=self.burst,
            marketplaces=self.codes,
            at=None if self.clock is None else self.clock().isoformat(),
            ahead=self.ahead,
            **more,
        )

    def live(self, *lives: Life) -> list[Ending]:
        """Live these lives at once; then time goes on until no claim of theirs holds any more."""
        self.server.simulator = self.simulator
        endings = self.helper.live(*lives)
        self.server.settle()
        self.let_claims_lapse()
        return endings

    def complete(self) -> Ending:
        """A life that is not killed: it must end by itself with everything read."""
        (ending,) = self.live(self.life())
        assert not ending.killed
        assert ending.outcomes[-1] == "complete"
        assert "failed" not in ending.outcomes
        return ending

    # --- what happened ------------------------------------------------------------------------------

    def answered(self, axis: str = "") -> list[tuple[tuple[str, tuple[str, ...]], ...]]:
        """The searches (on one axis) that were answered whole."""
        searches = [s for s in self.simulator.served if s.operation == "searchOrders"]
        return [tuple(sorted(s.query.items())) for s in searches if f"{axis}After" in s.query or not axis]

    def repeated(self) -> int:
        """The number of pages that were requested again."""
        return sum(many - 1 for many in Counter(self.answered()).values())

    @cached_property
    def engine(self) -> sa.Engine:
        return create_engine(self.database_url)

    def query(self, *statements: sa.Executable) -> list[tuple[Any, ...]]:
        """All rows of some queries. No connection is left open that would keep a log from being closed."""
        with self.engine.connect() as connection:
            found = [tuple(row) for statement in statements for row in connection.execute(statement)]
        self.engine.dispose()
        return found

    def stored_pages(self) -> int:
        return sum(pages for (pages,) in self.query(sa.select(tables.runs.c.pages)))

    def stored(self) -> list[tuple[Any, ...]]:
        """All that a page's transaction writes about orders, and what it counts."""
        contents = [sa.select(table).order_by(*table.primary_key) for table in CONTENTS]
        counting = (tables.windows, tables.runs, tables.backfills)
        counts = [sa.select(sa.func.sum(table.c.orders)) for table in counting]
        return self.query(*contents, *counts)

    def wrongs(self) -> list[str]:
        """What is wrong with the database, in sentences; empty when all is right."""
        rules = [rules_for(code) for code in self.codes]
        shop = Shop(
            self.database_url,
            self.simulator,
            SimulatedClock(self.now()),
            rules,
            self.start.date(),
            fresh=False,
        )
        try:
            found = shop.wrongs()
        finally:
            shop.close()
        known = len([o for o in self.world.orders() if o.current(self.now()) and not o.is_of_other_shop])
        stored = len(self.query(sa.select(tables.orders.c.order_id)))
        if stored != known:
            found.append(f"there are {known} orders, {stored} are stored")
        return found + self._damage()

    def _damage(self) -> list[str]:
        """What SQLite itself finds wrong with its file."""
        if not self.database_url.startswith("sqlite"):
            return []
        checked = self.query(sa.text("PRAGMA integrity_check"), sa.text("PRAGMA foreign_key_check"))
        return [str(row) for row in checked if row != ("ok",)]


@contextmanager
def staged(helper: Victims, world: World, start: datetime) -> Iterator[Callable[..., Stage]]:
    """Serves ``world``; makes a stage for a database, and whatever else of a stage is named.

    The last stage that lived has the simulator's word.
    """
    with serve(Simulator(world, now=lambda: NOON)) as (server, endpoint):

        def stage(database_url: str, **more: Any) -> Stage:
            return Stage(helper, server, endpoint, world, database_url, start, **more)

        yield stage
