"""A simulated month of one shop, with everything that happens to a service sooner or later.

The host's clock is set wrong, the disk is full for an hour, the key is rotated, a backup is restored and a
failover loses a night; buyer data comes to its term all the time. Memory and the database's size are printed.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import structlog

from connectors.simulator.api import Simulator
from connectors.simulator.world import Seller, World
from poller.matching.retention import Retention
from poller.privacy.key_rotation import Rotation
from poller.privacy.purge import Purge
from poller.sync.decide import Pace
from store import changes, tables
from store.diagnosis import is_refusing
from store.engine import DatabaseError, Store, create_engine
from store.sealing import Sealer
from tests.acceptance.busy import health_of
from tests.acceptance.test_restores import _backup_of_sqlite
from tests.acceptance.truth import stored_versions
from tests.databases import PhysicalBackup, postgres_server
from tests.harness import KEY, NOON, Shop, SimulatedClock, rules_for

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DAYS = 31
ORDERS_A_DAY = 60
KEPT_DAYS = 10
KEPT = Retention(days=KEPT_DAYS, hash_months=18)
NEW = bytes([9]) * 32

Restore = Callable[[], None]


@dataclass
class Month:
    """A shop and the place where its database is."""

    shop: Shop
    take_backup: Callable[[], Restore]
    keys: tuple[bytes, ...] = (KEY,)
    refused: int = 0
    put_off: int = 0

    def reopen(self) -> None:
        """A new process, with these keys, on the database as it is now."""
        shop = self.shop
        shop.store.close()
        shop.store = Store(create_engine(shop.database_url), Sealer(self.keys), clock=shop.clock)
        shop.connector = shop.new_connector()

    def go_on_until(self, end: datetime) -> None:
        """Run as the service does, and its chores with it; print a line for each day."""
        shop = self.shop
        due = shop.clock()
        chores = shop.clock()
        while shop.clock() < end:
            try:
                if shop.clock() >= due:
                    (report,) = shop.sync()
                    due = report.until
                if shop.clock() >= chores:
                    chores = shop.clock() + 6 * HOUR
                    self.do_chores()
            except DatabaseError as error:
                if not is_refusing(error):
                    raise
                self.refused += 1
                due = shop.clock() + timedelta(minutes=1)
            shop.clock.go_to(max(min(due, chores, end), shop.clock() + timedelta(milliseconds=1)))

    def do_chores(self) -> None:
        shop = self.shop
        done = Purge(shop.store, KEPT, connectors=[shop.connector]).run()
        self.put_off += done.put_off is not None
        while shop.store.commit(changes.trim):
            pass

    def note_day(self) -> None:
        shop = self.shop
        with shop.store.read() as tx:
            count = "pg_database_size(current_database())"
            if tx.conn.dialect.name == "sqlite":
                count = "(SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size())"
            size = tx.conn.exec_driver_sql(f"SELECT {count}").scalar_one()
            orders = tx.conn.execute(sa.select(sa.func.count()).select_from(tables.orders)).scalar_one()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        of_it = f"database {size / 1e6:6.1f} MB, memory {memory / 1e3:4.0f} MB"
        print(f"{shop.clock():%d. %b}: {orders:5} orders, {of_it}")


@pytest.fixture(params=["sqlite", "postgresql"])
def month(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Month]:
    clock = SimulatedClock()
    seller = Seller(marketplaces=("UK", "DE"))
    start, end = NOON - 2 * DAY, NOON + (DAYS - 1) * DAY
    world = World.generate(
        seed=31,
        marketplaces=("UK", "DE"),
        orders=ORDERS_A_DAY * (DAYS + 1),
        start=start,
        end=end,
        poisoned=0.001,
    )
    simulator = Simulator(world, now=clock)
    rules = [rules_for("UK"), rules_for("DE")]
    with ExitStack() as stack:
        if request.param == "sqlite":
            file = tmp_path / "month.db"
            url, take = f"sqlite:///{file}", lambda: _backup_of_sqlite(file)
        else:
            server = stack.enter_context(postgres_server())
            url, take = server.get_uri(driver="psycopg"), lambda: PhysicalBackup(server).restore
        seller = next(iter(world.sellers.values()))
        pace = Pace(1800, 1800)
        shop = Shop(url, simulator, clock, rules, seller=seller, pace=pace, retention=KEPT)
        stack.callback(lambda: shop.close())
        stack.enter_context(structlog.testing.capture_logs())
        yield Month(shop, take)


@contextmanager
def full_disk(shop: Shop) -> Iterator[None]:
    """The database takes no writes, as on a full disk."""
    if shop.database_url.startswith("sqlite"):

        def stop_growing(connection: Any, _record: Any) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
            connection.execute("PRAGMA query_only = ON")

        shop.store.engine.dispose()
        sa.event.listen(shop.store.engine, "connect", stop_growing)
        yield
        sa.event.remove(shop.store.engine, "connect", stop_growing)
    else:
        name = sa.make_url(shop.database_url).database
        alter = f'ALTER DATABASE "{name}" SET default_transaction_read_only = '
        with closing(psycopg.connect(shop.database_url.replace("+psycopg", ""), autocommit=True)) as other:
            other.execute(f"{alter}on")
            shop.store.engine.dispose()
            yield
            other.execute("SET default_transaction_read_only = off")
            other.execute(f"{alter}off")
    shop.store.engine.dispose()


def restored(month: Month, backup: Restore) -> None:
    """Put the backup into place, as docs/operation.md says: the service is stopped meanwhile."""
    month.shop.store.close()
    backup()
    month.reopen()


def wrongs_of(shop: Shop) -> list[str]:
    """Orders that are not stored as Amazon shows them, or twice, or whose buyer data outlived its term."""
    stored, now = stored_versions(shop), shop.simulator.amazon_now()
    wrongs = []
    for order in shop.simulator.world.orders():
        before, newest = order.current(now - HOUR), order.current(now)
        if before is None or newest is None or newest.facts.poison or newest.last_updated < NOON:
            continue  # not shown yet, not readable, or of before the first look
        if stored.get(order.order_id) not in (before.last_updated, newest.last_updated):
            wrongs.append(f"{order.order_id}: stored as of {stored.get(order.order_id)}")
    c = tables.orders.c
    with shop.store.read() as tx:
        past = now - timedelta(days=KEPT_DAYS + 1)
        late = sa.select(sa.func.count()).where(c.term_at < past, c.erased_at.is_(None))
        if (number := tx.conn.execute(late).scalar_one()) > 0:
            wrongs.append(f"{number} orders whose buyer data is past its term")
        doubled = sa.select(c.order_id).group_by(c.account, c.order_id).having(sa.func.count() > 1)
        wrongs += [f"{row.order_id}: stored twice" for row in tx.rows(doubled)]
    return wrongs


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_month_with_all_that_happens_ends_right(month: Month) -> None:
    shop, clock = month.shop, month.shop.clock
    backup: Restore = lambda: None  # noqa: E731
    for day in range(1, DAYS):
        month.go_on_until(NOON + day * DAY)
        match day:
            case 4:  # the host's clock is an hour behind Amazon's for half a day
                shop.simulator._skew = HOUR
                month.go_on_until(clock() + DAY / 2)
                assert month.put_off > 0, "nothing is erased by a clock that is wrong"
                shop.simulator._skew = timedelta(0)
            case 7:
                month.keys = (NEW, KEY)
                month.reopen()
                assert Rotation(shop.store).run() == 0
                month.keys = (NEW,)
                month.reopen()
            case 11:
                backup = month.take_backup()
            case 12:
                restored(month, backup)
            case 16:
                with full_disk(shop):
                    month.go_on_until(clock() + HOUR)
                    assert month.refused > 10
            case 21:
                backup = month.take_backup()
                month.go_on_until(clock() + DAY / 2)
                restored(month, backup)
        month.note_day()
    month.go_on_until(NOON + (DAYS + 2) * DAY)
    assert wrongs_of(shop) == []
    left = health_of(shop)
    assert {(item.why, item.urgency) for item in left} <= {("quarantine", "note")}, left
