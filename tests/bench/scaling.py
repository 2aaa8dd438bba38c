"""Measurements of the shape with workers: ``python -m tests.bench workers``, ``idle`` and ``stored``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store import revisions
from store.engine import create_engine
from tests.bench import sign_ins, slow
from tests.bench.filling import fill
from tests.bench.fleet import Fleet, fleet
from tests.bench.pages import write_pages
from tests.bench.server import server


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- throughput ----------------------------------------------------------------------------------------


FULL = 0.9
"""A machine has no more to give when so much of its cores is busy, or its disk is waited for so long."""


@dataclass(frozen=True)
class Measured:
    """Orders a second, cores that ours and that all processes used, how much of the time the disk took."""

    speed: float
    ours: float
    machine: float
    waited: float

    def limit(self) -> str:
        cores = os.cpu_count() or 1
        if self.machine >= FULL * cores:
            return f"the limit is CPU: {self.machine:.2f} of {cores} cores are busy"
        if self.waited >= FULL:
            return "the limit is the disk"
        return f"neither CPU ({self.machine:.2f} of {cores} cores) nor the disk is the limit: add workers"


def workers(accounts: int = 8, orders: int = 5000, rounds: int = 3) -> None:
    """Orders a second with 1, 2 and 4 workers, on the same data: from the first page to the last."""
    print(f"{accounts} accounts of {orders:,} orders each, PostgreSQL, one scheduler; all on this machine")
    figures: dict[int, list[Measured]] = {1: [], 2: [], 4: []}
    with tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name, server() as postgres:
        pages = Path(name) / "S1000"
        write_pages(pages, 1000, orders)
        for number in range(rounds):
            for many, found in figures.items():
                with fleet(Path(name) / f"w{many}-{number}", postgres, accounts, pages) as running:
                    running.start("run")
                    for _ in range(many):
                        running.start("worker", "--concurrency", "4")
                    found.append(_measured(running, accounts))
                say(f"round {number + 1} of {rounds}, workers {many}: {found[-1].speed:,.0f} orders/s")
    for many, found in figures.items():
        middle = sorted(found, key=lambda one: one.speed)[len(found) // 2]
        each = ", ".join(f"{one.speed:,.0f}" for one in found)
        print(
            f"{many} worker{'s' if many > 1 else ' '}  {middle.speed:8,.0f} orders/s ({each})   "
            f"{middle.ours:.2f} cores for scheduler and workers; {middle.limit()}"
        )


def _measured(running: Fleet, accounts: int) -> Measured:
    stored = "SELECT sum(orders) FROM runs"
    while running.ask(stored) == 0:
        time.sleep(0.1)
    first, began, cpu = running.ask(stored), time.monotonic(), sum(running.cpu())
    busy, waited = running.machine()
    done = "SELECT count(*) FROM windows WHERE kind = 'live' AND pages > 1 AND state IN ('unproven', 'done')"
    while running.ask(done) < accounts:
        time.sleep(0.1)
    seconds = time.monotonic() - began
    orders, used = running.ask(stored) - first, sum(running.cpu()) - cpu
    busy_now, waited_now = running.machine()
    return Measured(
        orders / seconds, used / seconds, (busy_now - busy) / seconds, (waited_now - waited) / seconds
    )


# --- idle ----------------------------------------------------------------------------------------------


def idle(accounts: int = 5000, many: int = 2, minutes: float = 4.0) -> None:
    """What thousands of sources cost that have nothing new, each asked every three minutes."""
    with (
        tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name,
        server() as postgres,
        fleet(Path(name) / "idle", postgres, accounts) as running,
    ):
        began = time.monotonic()
        running.start("run")
        for _ in range(many):
            running.start("worker")
        seen = "SELECT count(*) FROM sources WHERE succeeded_at IS NOT NULL"
        while (found := running.ask(seen)) < accounts:
            say(f"starting: {found:,} of {accounts:,} sources have run ({time.monotonic() - began:.0f} s)")
            time.sleep(10)
        print(f"{accounts:,} accounts: all have run once after {time.monotonic() - began:.0f} s")
        time.sleep(60)
        cpu, start, runs = running.cpu(), time.monotonic(), running.ask("SELECT count(*) FROM runs")
        time.sleep(minutes * 60)
        seconds = time.monotonic() - start
        each = [(after - before) / seconds for before, after in zip(cpu, running.cpu(), strict=True)]
        cores = sum(each)
        memory = running.memory()
        made = running.ask("SELECT count(*) FROM runs") - runs
        late = running.ask(
            "SELECT coalesce(extract(epoch FROM max(now() - succeeded_at)), 0)::int FROM sources"
        )
        shares = ", ".join(f"{one:.2f}" for one in each)
        sizes = ", ".join(f"{one:.0f}" for one in memory)
        print(
            f"scheduler and {many} workers: {cores:.2f} cores ({shares}), {sum(memory):.0f} MB ({sizes}); "
            f"{made / seconds:.1f} runs/s, "
            f"{1000 * cores * seconds / max(1, made):.1f} ms of CPU each; the longest wait is {late} s"
        )


# --- many stored ---------------------------------------------------------------------------------------


def stored(small: int = 10_000, large: int = 5_000_000, rounds: int = 3, orders: int = 5000) -> None:
    """What a page costs with many orders stored, beside what it costs with few."""
    figures: dict[int, list[dict[str, Any]]] = {small: [], large: []}
    with tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name, server() as postgres:
        urls = {}
        for many in figures:
            urls[many] = postgres.database()
            engine = create_engine(urls[many])
            revisions.upgrade(engine)
            began = time.monotonic()
            fill(engine, many)
            engine.dispose()
            say(f"filled with {many:,} orders in {time.monotonic() - began:.0f} s")
        for number in range(rounds + 1):
            pages = Path(name) / f"S{1000 + number}"
            write_pages(pages, 1000 + number, orders)
            for many, url in urls.items():
                line = [sys.executable, "-m", "tests.bench.ingest", url, str(pages)]
                done = subprocess.run(line, check=True, capture_output=True, text=True)
                if number:  # the first round warms both
                    figures[many].append(json.loads(done.stdout))
    medians = {
        many: statistics.median(1000 * f["wall"] / f["pages"] for f in found)
        for many, found in figures.items()
    }
    for many, median in medians.items():
        each = ", ".join(f"{1000 * f['wall'] / f['pages']:.0f}" for f in figures[many])
        print(f"with {many:9,} orders stored a page of 100 costs {median:6.1f} ms ({each})")
    print(f"that is {medians[large] / medians[small]:.2f} times as much")


PARTS: dict[str, Callable[[], None]] = {
    "workers": workers,
    "idle": idle,
    "stored": stored,
    "slow": slow.main,
    "sign-ins": sign_ins.main,
}
