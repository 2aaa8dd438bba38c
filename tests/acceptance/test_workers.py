"""``order-sync run`` and ``order-sync worker`` as processes on one PostgreSQL: shared, killed, stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from connectors.simulator.faults import SEARCH, Faults
from connectors.simulator.world import Seller, World
from poller.service import worker
from store import job_queue
from tests.acceptance.command_line import STARTED, Shop, account_variables, open_shop
from tests.acceptance.test_cli_service import FAST, knows, next_event, stops, until

FIRST, SECOND = "111-0000000-0000001", "111-0000000-0000002"
JOBS = f"{job_queue.SCHEMA}.procrastinate_jobs"


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection of our own to look, and to make time pass."""
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Shop]:
    """A shop on PostgreSQL whose ticks workers carry out; a second seller is not configured yet."""
    world = World(Seller("acme", ("UK", "DE")), Seller("other", ("UK",), refresh_token="Atzr|other"))
    world.order(FIRST, created=STARTED - timedelta(days=1))
    world.order(SECOND, created=STARTED - timedelta(days=1), seller="other")
    with open_shop(tmp_path / "shop", world) as shop:
        shop.environ |= {
            "ORDER_SYNC_DATABASE_URL": database_url,
            "ORDER_SYNC_EXECUTOR": "procrastinate",
            **FAST,
        }
        yield shop


on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@contextmanager
def started(shop: Shop, *commands: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes; killed at the end in case that they did not end by themselves."""
    processes = [shop.start(*command.split()) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.long
@on_postgresql
def test_two_schedulers_and_two_workers_share_the_work_and_end_with_their_signals(
    shop: Shop, database: psycopg.Connection
) -> None:
    printed = shop("db", "upgrade").messages
    assert any("the job queue was created at" in line for line in printed)
    assert "ok     the job queue is there" in shop("db", "check").lines
    with started(shop, "run", "run", "worker --concurrency 2", "worker") as processes:
        until(lambda: knows(shop, FIRST))
        (shop.folder / "accounts").mkdir()
        variables = account_variables("", shop.world.sellers["other"], "other")
        account = {name.rpartition("__")[2].lower(): value for name, value in variables.items()}
        account |= {
            key: shop.environ[f"ORDER_SYNC_ACCOUNTS__ACME__{key.upper()}"]
            for key in ("endpoint", "token_url")
        }
        text = "".join(f'{key} = "{value}"\n' for key, value in account.items())
        (shop.folder / "accounts" / "other.toml").write_text(text)
        shop.configure("UK", "other", account="other")
        until(lambda: knows(shop, SECOND))
        (shop.folder / "accounts" / "other.toml").unlink()
        (shop.folder / "marketplaces" / "other.toml").unlink()
        for process in processes[:2]:
            next_event(process, "configuration reloaded", sources=["acme:EU"])
        for process in processes[2:]:
            next_event(process, "configuration reloaded", sources=1)
        for process in processes:
            stops(process, signal.SIGTERM)
    assert database.execute(f"SELECT count(*) FROM {JOBS} WHERE status = 'doing'").fetchone() == (0,)


def silent(database: psycopg.Connection) -> None:
    """Half a minute goes by for workers that are dead; those that live say so within ten seconds."""
    long_ago = "now() - interval '1 hour'"
    database.execute(f"UPDATE {job_queue.SCHEMA}.procrastinate_workers SET last_heartbeat = {long_ago}")


@pytest.mark.long
@on_postgresql
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_what_a_silent_worker_was_at_is_taken_back_within_a_minute(
    shop: Shop, database: psycopg.Connection, how: signal.Signals
) -> None:
    assert worker.WORKER_HEARTBEAT_SECONDS * 2 < worker.STALLED_AFTER_SECONDS
    assert worker.STALLED_AFTER_SECONDS + worker.TAKE_BACK_EVERY_SECONDS + 2 * worker.FETCH_EVERY_SECONDS < 60
    shop("db", "upgrade")
    shop.simulator.faults = Faults.only("hang", operations=[SEARCH])
    with started(shop, "run", "worker") as (scheduler, silenced):
        until(lambda: any(r.operation == SEARCH for r in shop.simulator.requests))
        silenced.send_signal(how)
        if how == signal.SIGKILL:
            silenced.wait()
        silent(database)
        shop.simulator.faults = Faults()
        # The window that it had claimed is its own for two minutes.
        database.execute("UPDATE windows SET claimed_until = now() WHERE owner IS NOT NULL")
        with started(shop, "worker") as (other,):
            entry = next_event(other, "taken back from a worker without a heartbeat")
            assert entry["source"] == "acme:EU"
            until(lambda: knows(shop, FIRST))
            if how == signal.SIGSTOP:
                silenced.send_signal(signal.SIGCONT)
                next_event(silenced, "run", outcome="superseded")
                stops(silenced, signal.SIGTERM)
            stops(other, signal.SIGTERM)
        stops(scheduler, signal.SIGTERM)
    assert len(shop("orders", "list", "--json").json()) == 1


@pytest.mark.long
@on_postgresql
def test_a_worker_that_must_stop_gives_back_what_it_cannot_finish(
    shop: Shop, database: psycopg.Connection
) -> None:
    shop("db", "upgrade")
    shop.simulator.faults = Faults.only("hang", operations=[SEARCH])
    with started(shop, "run", "worker") as (scheduler, stopped):
        until(lambda: any(r.operation == SEARCH for r in shop.simulator.requests))
        stops(scheduler, signal.SIGINT)
        stops(stopped, signal.SIGINT)
    assert database.execute(f"SELECT count(*) FROM {JOBS}").fetchone() == (0,)
    assert database.execute("SELECT source, queued_at FROM ticks").fetchall() == [("acme:EU", None)]
    held = "SELECT count(*) FROM windows WHERE owner IS NOT NULL"
    assert database.execute(held).fetchone() == (0,)


@pytest.mark.long
@on_postgresql
def test_without_a_queue_service_and_worker_are_refused_in_a_sentence(shop: Shop) -> None:
    shop("db", "upgrade", ORDER_SYNC_EXECUTOR="threads")
    assert "wrong  job queue: the job queue is missing: run `order-sync db upgrade`" in (
        shop("db", "check", status=1).lines
    )
    for command in ("run", "worker"):
        with started(shop, command) as (process,):
            assert process.wait() == 1
            assert process.stderr is not None
            printed = process.stderr.read().splitlines()
            assert printed[-1] == "error: the job queue is missing: run `order-sync db upgrade`."


@pytest.mark.parametrize("command", ["run", "worker"])
def test_workers_are_refused_on_sqlite_in_a_sentence(command: str, tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", World()) as shop:
        refused = shop(command, ORDER_SYNC_EXECUTOR="procrastinate", status=2)
    assert refused.messages == [
        "error: ORDER_SYNC_EXECUTOR must be threads with SQLite: workers need PostgreSQL in "
        "ORDER_SYNC_DATABASE_URL (`order-sync db copy` moves a database there)"
    ]


def test_a_worker_without_a_scheduler_that_queues_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", World()) as shop:
        (printed,) = shop("worker", status=2).messages
    assert printed.startswith("error: a worker has nothing to do: with ORDER_SYNC_EXECUTOR=threads")
