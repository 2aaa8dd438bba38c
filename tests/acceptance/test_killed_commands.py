"""Commands that take long, killed at random moments: run again, they end as if nothing had happened."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.simulator.world import World
from store import transfer
from store.engine import create_engine
from tests.acceptance.command_line import STARTED, Shop, open_shop, order_sync

KILLS = 12
ORDERS = 400


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    start, end = STARTED - timedelta(days=2), STARTED - timedelta(hours=1)
    world = World.generate(seed=5, marketplaces=("UK",), orders=ORDERS, start=start, end=end)
    with open_shop(tmp_path / "shop", world) as opened:
        opened("sync")
        yield opened


def contents(shop: Shop) -> list[str]:
    return sorted(shop("export", "orders").lines + shop("export", "customers").lines)


def start_up(shop: Shop) -> float:
    """Return the seconds that a command takes that does nearly nothing."""
    began = time.monotonic()
    with shop.start("db", "check") as process:
        process.communicate()
    return time.monotonic() - began


def kills_at_random(shop: Shop, *command: str, **environ: str) -> Iterator[int]:
    """Run a command and kill it, again and again, until it ends by itself; yield how often so far."""
    longest, moment = 2 * start_up(shop), random.Random(1)
    for killed in range(1, KILLS + 1):
        with shop.start(*command, **environ) as process:
            timer = threading.Timer(moment.uniform(longest / 5, longest), process.kill)
            timer.start()
            _, err = process.communicate()
            timer.cancel()
        if process.returncode == 0:
            return
        assert process.returncode == -signal.SIGKILL, err
        yield killed


@pytest.mark.long
def test_a_rotation_that_is_killed_loses_nothing_and_is_finished_by_the_next(shop: Shop) -> None:
    before = contents(shop)
    keys = f"{order_sync('keys', 'new').out.strip()},{shop.environ['ORDER_SYNC_ENCRYPTION_KEY']}"
    kills = list(kills_at_random(shop, "keys", "rotate", ORDER_SYNC_ENCRYPTION_KEY=keys))
    assert kills
    shop.environ["ORDER_SYNC_ENCRYPTION_KEY"] = keys
    assert contents(shop) == before
    assert "0 values of old keys left" in shop("keys", "rotate").err
    shop.environ["ORDER_SYNC_ENCRYPTION_KEY"] = keys.partition(",")[0]
    assert contents(shop) == before
    assert "wrong" not in shop("db", "check").out


@pytest.mark.long
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_copy_that_is_killed_is_unusable_until_the_next_has_finished_it(
    shop: Shop, database_url: str
) -> None:
    before, engine = contents(shop), create_engine(database_url)
    kills = 0
    for _ in kills_at_random(shop, "db", "copy", "--to", database_url):
        kills += 1
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT count(*) FROM orders").scalar_one()
        assert transfer.is_unfinished(engine) or rows in (0, ORDERS)
    assert kills
    engine.dispose()
    copied = shop("db", "copy", "--to", database_url, status=None)
    assert "copied to" in copied.messages[-1] or "is not empty" in copied.messages[-1]
    shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
    assert contents(shop) == before
    assert "wrong" not in shop("db", "check").out
