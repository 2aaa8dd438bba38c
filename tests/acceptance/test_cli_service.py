"""``order-sync run`` as a process of its own: it starts, survives, obeys its signals, and ends in time."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from connectors.simulator.faults import SEARCH, Faults
from connectors.simulator.world import Seller, World
from tests.acceptance.command_line import STARTED, Shop, open_shop, order_sync
from tests.databases import postgres_server

FAST = {"ORDER_SYNC_POLL_SECONDS": "1", "ORDER_SYNC_POLL_SECONDS_BUSY": "1"}
ENDS_WITHIN = 10.0
FIRST, SECOND = "111-0000000-0000001", "111-0000000-0000002"


@contextmanager
def running(shop: Shop, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The service; killed at the end in case that it did not end by itself."""
    with shop.start("run", **FAST, **environ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_event(process: subprocess.Popen[str], event: str, **fields: Any) -> dict[str, Any]:
    """Read the log up to an entry of this event that has these fields."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        entry = json.loads(line)
        seen.append(entry)
        if entry["event"] == event and all(entry.get(key) == value for key, value in fields.items()):
            return dict(entry)
    pytest.fail(f"the service ended without {event!r}: {seen[-5:]}")


def until(holds: Callable[[], bool]) -> None:
    """Wait for another process; the test's own time limit ends it if that never comes."""
    while not holds():
        threading.Event().wait(0.05)


def stops(process: subprocess.Popen[str], number: int) -> None:
    """The signal ends the service in time, with status 0."""
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(ENDS_WITHIN) == 0
    assert time.monotonic() - began < ENDS_WITHIN


def knows(shop: Shop, order_id: str) -> bool:
    orders = shop("orders", "list", "--json").json()
    return order_id in {order["order_id"] for order in orders}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK", "DE")))
    world.order(FIRST, created=STARTED - timedelta(days=1))
    world.order(SECOND, created=STARTED - timedelta(days=1), marketplace="DE")
    with open_shop(tmp_path / "shop", world) as shop:
        yield shop


def healthy(shop: Shop) -> int:
    with shop.start("health") as process:
        return process.wait()


@pytest.mark.long
def test_the_service_runs_reloads_and_ends_with_its_signals(shop: Shop) -> None:
    assert healthy(shop) == 1
    with running(shop) as process:
        next_event(process, "run", source="acme:EU", outcome="complete")
        assert knows(shop, FIRST)
        assert not knows(shop, SECOND)
        assert healthy(shop) == 0

        shop.configure("DE")
        process.send_signal(signal.SIGHUP)
        assert next_event(process, "configuration reloaded")["sources"] == ["acme:EU"]
        until(lambda: knows(shop, SECOND))

        (shop.folder / "marketplaces" / "fr.toml").write_text("not TOML")
        wrong = next_event(process, "configuration", stops="marketplace")
        assert wrong["problem"].startswith("marketplaces/fr.toml is not valid TOML")
        assert process.poll() is None
        stops(process, signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert healthy(shop) == 1


def test_a_service_that_can_poll_nothing_says_so_once_and_waits(shop: Shop) -> None:
    missing = str(shop.folder / "token")
    variables = {"REFRESH_TOKEN": "", "REFRESH_TOKEN_FILE": missing}
    with running(
        shop, **{f"ORDER_SYNC_ACCOUNTS__ACME__{key}": value for key, value in variables.items()}
    ) as process:
        problem = next_event(process, "configuration", stops="account")
        assert f"{missing} does not exist: run `install" in problem["problem"]
        waiting = next_event(process, "nothing can be polled; waiting for the configuration to change")
        assert waiting["level"] == "error"
        assert process.poll() is None
        stops(process, signal.SIGINT)


@pytest.mark.long
def test_a_rotation_waits_for_a_service_without_the_new_key_and_one_that_is_locked_out_stops(
    shop: Shop,
) -> None:
    old, new = shop.environ["ORDER_SYNC_ENCRYPTION_KEY"], order_sync("keys", "new").out.strip()
    keys = f"{new},{old}"
    with running(shop) as process:
        next_event(process, "run", outcome="complete")
        refused = shop("keys", "rotate", status=2, ORDER_SYNC_ENCRYPTION_KEY=keys)
        assert f":{process.pid} could not read what is sealed with the first key" in refused.err
        assert shop("keys", "rotate").lines == []
        with sqlite3.connect(shop.folder / "order-sync.db") as database:  # as a process of an older version
            database.execute("DELETE FROM processes")
        assert "0 values of old keys left" in shop("keys", "rotate", ORDER_SYNC_ENCRYPTION_KEY=keys).err
        assert process.wait(70) == 1
        assert process.stderr is not None
        assert "add that key to ORDER_SYNC_ENCRYPTION_KEY" in process.stderr.read()


@pytest.mark.long
def test_the_service_ends_in_time_although_amazon_does_not_answer(shop: Shop) -> None:
    shop.simulator.faults = Faults.only("hang", operations=[SEARCH])
    with running(shop) as process:
        until(lambda: any(r.operation == SEARCH for r in shop.simulator.requests))
        stops(process, signal.SIGINT)


@pytest.mark.long
def test_the_service_outlives_a_database_that_comes_late_and_goes_away(shop: Shop, postgres_url: str) -> None:
    early, name = sql.Identifier("cli_early"), sql.Identifier("cli_service")
    url = postgres_url.replace("/postgres?", "/{}?")
    shop.environ["ORDER_SYNC_DATABASE_URL"] = url.format("cli_service")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        with running(shop) as process:
            next_event(process, "database is away")
            connection.execute(sql.SQL("CREATE DATABASE {}").format(early))
            order_sync("db", "upgrade", environ={"ORDER_SYNC_DATABASE_URL": url.format("cli_early")})
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(early, name))
            next_event(process, "run", outcome="complete")
            assert knows(shop, FIRST)

            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cli_service'"
            )
            next_event(process, "database is away", source="acme:EU")
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
            shop.configure("DE")
            until(lambda: knows(shop, SECOND))
            stops(process, signal.SIGTERM)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


# --- what changes under the service -----------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_the_service_stops_when_its_database_is_not_the_file_any_more(shop: Shop, how: str) -> None:
    with running(shop) as process:
        next_event(process, "run", source="acme:EU", outcome="complete")
        file = shop.folder / "order-sync.db"
        other = shop.folder / "other.db"
        other.write_bytes(file.read_bytes())
        file.unlink()
        if how == "replaced":
            other.rename(file)
        assert f"was {how} while the service ran" in next_event(process, "the service stops")["problem"]
        assert process.wait(ENDS_WITHIN) == 1


@pytest.mark.long
def test_the_service_polls_on_when_the_clock_of_its_host_is_put_back(shop: Shop) -> None:
    """Its clock is five hours ahead when it starts, and is then set right."""
    clock = shop.folder / "clock"
    clock.write_text("+5h")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library is not None, "install libfaketime (on Debian and Ubuntu the package faketime)"
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
    }
    with running(shop, **fake) as process:
        next_event(process, "run", source="acme:EU", outcome="complete")
        clock.write_text("+0")
        assert next_event(process, "the clock was set")["seconds"] == -5 * 3600
        before = searches(shop)
        until(lambda: searches(shop) >= before + 2)
        # The library breaks time.sleep now and then: how the process ends is not judged.


def searches(shop: Shop) -> int:
    return sum(request.operation == SEARCH for request in shop.simulator.requests)


@pytest.mark.long
@pytest.mark.parametrize("shortly", [True, False])
def test_the_service_ends_in_time_although_its_database_hangs_and_its_files_changed(
    shop: Shop, shortly: bool
) -> None:
    """All processes of PostgreSQL stand still, as when its disk does, before or after the files change."""
    with postgres_server() as server:
        shop.environ["ORDER_SYNC_DATABASE_URL"] = server.get_uri(driver="psycopg")
        shop("db", "upgrade")
        with running(shop) as process:
            next_event(process, "run", source="acme:EU", outcome="complete")
            postmaster = int((server.pgdata / "postmaster.pid").read_text().split()[0])
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            servers = [postmaster, *map(int, children)]
            try:
                for each in servers:
                    os.kill(each, signal.SIGSTOP)
                shop.configure("DE")
                process.send_signal(signal.SIGHUP)
                threading.Event().wait(1 if shortly else 14)
                stops(process, signal.SIGTERM)
            finally:
                for each in servers:
                    os.kill(each, signal.SIGCONT)


@pytest.mark.long
@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_the_service_runs_with_a_closed_output(shop: Shop, closed: str) -> None:
    shop.environ |= FAST
    with shop.start_in_shell(f"run {closed}") as process:
        try:
            until(lambda: searches(shop) >= 2)
            stops(process, signal.SIGTERM)
        finally:
            process.kill()


@pytest.mark.long
def test_a_service_that_may_open_too_few_files_is_refused_in_a_sentence(shop: Shop) -> None:
    with shop.start_in_shell("run", before="ulimit -n 16") as process:
        _, printed = process.communicate()
        assert process.returncode == 1
    assert printed == (
        "error: this process may open 16 files, and needs 64 or more: raise its limit (`ulimit -n`, "
        "LimitNOFILE= of systemd, --ulimit nofile of Docker).\n"
    )


@pytest.mark.long
def test_an_output_that_is_full_is_one_sentence(shop: Shop) -> None:
    shop("sync")
    process = shop.start_in_shell("status >/dev/full")
    _, messages = process.communicate()
    assert messages == "error: the output cannot be written: No space left on device.\n"
    assert process.returncode == 1
