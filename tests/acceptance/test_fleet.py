"""Many sources, schedulers and workers, and what may happen to them: killed, and the database gone.

Everything is real: processes, clocks, PostgreSQL. What is right says the naive oracle, account by account.
"""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from connectors.amazon.usage_plans import PLANS
from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.population import populate
from connectors.simulator.serve import serve
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World
from poller.bootstrap import Service
from poller.export import customer_object, order_object
from poller.matching.marketplace_rules import MarketplaceRules
from store import job_queue, queries, tables
from store.engine import Store, create_engine
from store.sealing import Sealer, new_key
from tests.acceptance.command_line import GENEROUS, Shop, marketplace_file
from tests.acceptance.test_cli_service import until
from tests.harness import oracle_rules
from tests.oracle import Oracle, compare

HISTORY_LEFT = "SELECT count(*) FROM backfills WHERE state <> 'done'"


WHO_WAS_FIRST = re.compile(
    r"order \S+ differs in (match_basis|match_rules|billing(\..+)?)"
    r"|customer \S+ differs in (created_from_order|phone|(billing|delivery)(\..+)?)"
)
"""What depends on which of a buyer's orders was stored first.

The oracle takes pages as they were served. One that died with its worker is stored later than another one
of the same account that was served after it.
"""


def business_of(number: int) -> str:
    return f"shop-{number:03}"


@dataclass
class Fleet:
    """Sellers, the processes that keep their orders, and the database in between."""

    shop: Shop
    database_url: str
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    faults: int = 0

    def start(self, name: str) -> None:
        """``scheduler 1``, ``worker 3``."""
        command = "run" if name.startswith("scheduler") else "worker"
        self.processes[name] = self.shop.start(command, ORDER_SYNC_LOG_LEVEL="error")

    def kill(self, name: str) -> None:
        """Without a warning; it is started again."""
        self.faults += 1
        self.processes[name].kill()
        self.processes[name].communicate()
        self.start(name)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; a process that ends by itself fails the test."""

        def holds() -> bool:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    pytest.fail(f"{name} ended with {process.returncode}: {process.communicate()[1]}")
            return condition()

        until(holds)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.database_url.replace("+psycopg", ""), autocommit=True) as connection:
            yield connection

    def ask(self, query: str) -> int:
        with self.database() as connection:
            row = connection.execute(query.encode()).fetchone()
        return int(row[0] or 0) if row else 0

    def succeeded_since(self, moment: datetime) -> int:
        """How many sources have succeeded since."""
        return self.ask(f"SELECT count(*) FROM sources WHERE succeeded_at > '{moment.isoformat()}'")

    # --- what is right ------------------------------------------------------------------------------

    def rules(self) -> dict[str, dict[str, MarketplaceRules]]:
        with Service(self.shop.environ) as service:
            service.open_store(create=False)
            service.wire()
            return {name: dict(account.rules.by_marketplace) for name, account in service.accounts.items()}

    def wrongs(self) -> list[str]:
        """What is wrong with the database, account by account, in the naive oracle's words."""
        engine = create_engine(self.database_url)
        store = Store(engine, Sealer([_key(self.shop)]))
        with store.read() as tx:
            upto = tx.readable_change_no()
            known: dict[str, set[str]] = {}  # those that are held back, too
            for row in tx.rows(sa.select(tables.orders.c.account, tables.orders.c.order_id)):
                known.setdefault(row.account, set()).add(row.order_id)
            found_orders = [order_object(o) for o in queries.changed_orders(tx, 0, upto)]
            found_customers = [customer_object(c) for c in queries.changed_customers(tx, 0, upto)]
        store.close()
        wrong = []
        for account, rules in self.rules().items():
            oracle = Oracle(account, account, {m: oracle_rules(r) for m, r in rules.items()})
            for served in self.shop.simulator.served:
                if served.seller == account:
                    oracle.page(served.orders)
            wrong += compare(
                oracle,
                [o for o in found_orders if o["account"] == account],
                [c for c in found_customers if c["business"] == account],
            )
            wrong = [sentence for sentence in wrong if not WHO_WAS_FIRST.fullmatch(sentence)]
            wrong += self._missing(account, known[account])
        return wrong

    def _missing(self, account: str, stored: set[str]) -> list[str]:
        now = self.shop.simulator.amazon_now() - timedelta(minutes=10)
        there = (o for o in self.shop.world.orders(account) if o.current(now) and not o.is_of_other_shop)
        return [f"{account}: {o.order_id} is not stored" for o in there if o.order_id not in stored]

    def over_budget(self) -> list[str]:
        """Searches that Amazon refused because there were too many."""
        refused = [a for a in self.shop.simulator.requests if a.status == 429]
        return [f"{a.seller}: {a.operation} at {a.at}" for a in refused]

    def longest_wait(self, since: datetime, until: datetime) -> timedelta:
        """The longest time that any source went without a finished run."""
        engine = create_engine(self.database_url)
        c = tables.runs.c
        query = sa.select(c.source, c.finished_at).where(c.finished_at.is_not(None)).order_by(c.source, c.run)
        times: dict[str, list[datetime]] = {}
        with engine.connect() as connection:
            for row in connection.execute(query):
                times.setdefault(row.source, []).append(row.finished_at)
        engine.dispose()
        longest = timedelta(0)
        for ended in times.values():
            moments = [since, *(t for t in ended if since < t < until), until]
            longest = max(longest, *(b - a for a, b in pairwise(moments)))
        return longest


def _key(shop: Shop) -> bytes:
    with Service(shop.environ) as service:
        keys = service.config.settings.encryption_key
        assert keys is not None
        return keys[0].get_secret_value()


@contextmanager
def fleet(
    folder: Path,
    database_url: str,
    *,
    sources: int,
    orders_each: int,
    plans: dict[str, UsagePlan],
    end: datetime,
    **settings: str,
) -> Iterator[Fleet]:
    """Accounts of one marketplace each; their orders come in until ``end``. Nothing runs yet."""
    names = [business_of(number) for number in range(sources)]
    world = World(*(Seller(name, ("UK",), refresh_token=f"Atzr|{name}") for name in names))
    start = datetime.now(UTC) - timedelta(hours=6)
    for number, name in enumerate(names):
        made = populate(
            seed=number, marketplaces=["UK"], orders=orders_each, start=start, end=end, late=0.0, withheld=0.0
        )
        world.add(*made, seller=name)
    simulator = Simulator(world, now=lambda: datetime.now(UTC), plans=plans)
    for kind in ("accounts", "marketplaces"):
        (folder / kind).mkdir(parents=True)
    with serve(simulator) as (_, url):
        for name in names:
            (folder / "accounts" / f"{name}.toml").write_text(
                f'lwa_client_id = "{CLIENT_ID}"\nlwa_client_secret = "{CLIENT_SECRET}"\n'
                f'refresh_token = "Atzr|{name}"\nendpoint = "{url}"\ntoken_url = "{url}/auth/o2/token"\n'
            )
            text = marketplace_file("UK", account=name, days=1)
            (folder / "marketplaces" / f"{name}.toml").write_text(text)
        environ = {
            "ORDER_SYNC_CONFIG_DIR": str(folder),
            "ORDER_SYNC_DATABASE_URL": database_url,
            "ORDER_SYNC_ENCRYPTION_KEY": new_key(),
            "ORDER_SYNC_EXECUTOR": "procrastinate",
            "ORDER_SYNC_LISTEN": "127.0.0.1:0",  # two schedulers cannot both have the default port
            "ORDER_SYNC_LOG_FORMAT": "json",
            **settings,
        }
        made_fleet = Fleet(Shop(folder, simulator, environ), database_url)
        made_fleet.shop("db", "upgrade")
        try:
            yield made_fleet
        finally:
            made_fleet.end()


def shut(running: Fleet, seconds: float) -> None:
    """The database closes every connection and accepts none for a while."""
    running.faults += 1
    url = running.database_url.replace("+psycopg", "")
    name = sa.make_url(running.database_url).database
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        threading.Event().wait(seconds)
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def time_goes_by(running: Fleet) -> None:
    """Dead workers have given no sign of life for long, and what they claimed is free."""
    with running.database() as connection:
        workers = f"{job_queue.SCHEMA}.procrastinate_workers"
        connection.execute(f"UPDATE {workers} SET last_heartbeat = now() - interval '1 hour'".encode())
        connection.execute(
            "UPDATE windows SET claimed_until = now() - interval '1 hour' WHERE owner IS NOT NULL"
        )


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_fleet_whose_processes_are_killed_and_whose_database_goes_away_is_right(
    tmp_path: Path, database_url: str
) -> None:
    with fleet(
        tmp_path / "fleet",
        database_url,
        sources=12,
        orders_each=40,
        plans=dict(GENEROUS),
        end=datetime.now(UTC),
        ORDER_SYNC_POLL_SECONDS="1",
        ORDER_SYNC_POLL_SECONDS_BUSY="1",
    ) as running:
        for name in ("scheduler 1", "scheduler 2", "worker 1", "worker 2"):
            running.start(name)
        running.until(lambda: running.ask("SELECT count(*) FROM orders") > 50)
        running.kill("worker 1")
        running.until(lambda: running.ask("SELECT count(*) FROM orders") > 150)
        running.kill("scheduler 1")
        shut(running, 1.0)
        running.kill("worker 2")
        time_goes_by(running)
        last_fault = datetime.now(UTC)
        running.until(lambda: running.succeeded_since(last_fault) == 12)
        running.until(lambda: running.ask(HISTORY_LEFT) == 0)
        running.end()
        assert running.over_budget() == []
        assert running.wrongs() == []


# --- large ---------------------------------------------------------------------------------------------


@dataclass
class OwnServer:
    """A PostgreSQL that may be restarted."""

    url: str
    restart: Callable[[], None]


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    from tests.bench.server import server

    with server() as started:
        yield OwnServer(started.database(), started.restart)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_sources_four_workers_and_random_faults(
    tmp_path: Path, own_server: OwnServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """At Amazon's own pace and usage plan; faults for eight minutes."""
    sources, interval = 200, timedelta(seconds=180)
    rng = random.Random(8)
    began = datetime.now(UTC)
    plans = {str(operation): plan for operation, plan in PLANS.items()}
    with fleet(
        tmp_path / "fleet",
        own_server.url,
        sources=sources,
        orders_each=60,
        plans=plans,
        end=began + timedelta(minutes=12),
    ) as running:
        names = [*(f"worker {n}" for n in range(1, 5)), "scheduler 1", "scheduler 2"]
        for name in names:
            running.start(name)
        running.until(lambda: running.succeeded_since(began) > sources // 4)
        disturbed_until = datetime.now(UTC) + timedelta(minutes=8)
        restarts = 0
        while (now := datetime.now(UTC)) < disturbed_until:
            if (disturbed_until - now) < timedelta(minutes=6 - 3 * restarts):
                restarts += 1
                running.faults += 1
                own_server.restart()
            else:
                running.kill(rng.choice(names))
            time.sleep(rng.uniform(5, 15))
        last_fault = datetime.now(UTC)
        running.until(lambda: running.succeeded_since(last_fault) == sources)
        recovered = datetime.now(UTC) - last_fault
        # Live reading sees what is older than the two minutes that Amazon holds back, each three minutes.
        settled = max(datetime.now(UTC), began + timedelta(minutes=12)) + timedelta(minutes=6)
        running.until(lambda: datetime.now(UTC) > settled and running.ask(HISTORY_LEFT) == 0)
        longest = running.longest_wait(began, datetime.now(UTC))
        running.end()
        with capsys.disabled():
            print(
                f"\n{sources} sources, 4 workers, 2 schedulers; {running.faults} faults, {restarts} of them "
                "restarts of the database. Every source had succeeded again "
                f"{recovered.total_seconds():.0f} s after the last one; the longest wait of any source "
                f"was {longest.total_seconds():.0f} s; "
                f"{len(running.shop.simulator.requests):,} requests"
            )
        assert running.over_budget() == []
        assert running.wrongs() == []
        assert recovered <= 2 * interval
