"""``make bench``: how fast orders go from Amazon's JSON into the database, and where the time goes; how fast
an order office gets doubled customers and merged ones; what history takes by Amazon's limits; how far busy
shops fall behind.

``python -m tests.bench PART`` measures the shape with workers, or slow connections alone, instead.

Prints figures; judges nothing. Every measured run is a process of its own on one core. Runs against the
empty and the large database alternate, so that a machine whose speed drifts does not spoil the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from store.tables import OPEN
from tests.bench import busy, history, looking, slow
from tests.bench.pages import write_pages
from tests.bench.scaling import PARTS

RUN = 20_000
FIRST_SEED = 1000
ROUNDS = 3
CUSTOMERS = 100_000
ORDERS_OF_EACH = 10_000


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def ingest(database: Path, pages: Path, profile: str = "") -> dict[str, Any]:
    """One measured process, pinned to one core where the system can do that."""
    arguments = [sys.executable, "-m", "tests.bench.ingest", f"sqlite:///{database}", str(pages), profile]
    pin = (lambda: os.sched_setaffinity(0, {0})) if hasattr(os, "sched_setaffinity") else None
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, preexec_fn=pin)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def worlds(folder: Path, first_seed: int, many: int) -> Iterator[Path]:
    """Folders with the pages of 20,000 orders each, made one ahead."""
    with ProcessPoolExecutor(1) as pool:
        folders = [folder / f"S{seed}" for seed in range(first_seed, first_seed + many)]
        made = [pool.submit(write_pages, f, int(f.name[1:]), RUN) for f in folders]
        for path, done in zip(folders, made, strict=True):
            done.result()
            yield path


def grow(database: Path, folder: Path, there: int, wanted: int) -> None:
    """Fill a database from one number of worlds to another."""
    for number, pages in enumerate(worlds(folder, FIRST_SEED + there, wanted - there), there + 1):
        figures = ingest(database, pages)
        say(f"filling: {number * RUN:,} of {wanted * RUN:,} orders, {figures['wall']:.1f} s")
        shutil.rmtree(pages)


def ship(database: Path) -> None:
    """As nearly all orders are within days; those of the worlds stay as they were."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"UPDATE orders SET status = 'SHIPPED' WHERE {OPEN}")


def row(name: str, runs: list[dict[str, Any]]) -> float:
    """Print one line of figures; returns the median orders a second."""
    speeds = sorted(run["orders"] / run["wall"] for run in runs)
    cpu = statistics.median(run["orders"] / run["cpu"] for run in runs)
    peak = max(run["peak_mb"] for run in runs)
    median = statistics.median(speeds)
    print(
        f"{name:<34} {median:8,.0f} orders/s  (min {speeds[0]:,.0f}, max {speeds[-1]:,.0f}; "
        f"{cpu:,.0f} per second of CPU; peak memory {peak:.0f} MB)"
    )
    return median


def office(folder: Path) -> None:
    """Print how long it takes to look for doubled customers, and to merge two large ones."""
    database = f"sqlite:///{folder / 'customers.db'}"
    say(f"filling: {CUSTOMERS:,} customers")
    command = [sys.executable, "-m", "tests.bench.customers", database]
    subprocess.run([*command, str(CUSTOMERS), str(ORDERS_OF_EACH)], check=True)
    runs = []
    for number in range(ROUNDS):
        say(f"measuring: round {number + 1} of {ROUNDS}")
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))

    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    peak = max(run["peak_mb"] for run in runs)
    print(f"\n{CUSTOMERS:,} customers, of whom two have {ORDERS_OF_EACH:,} orders each, SQLite, sealing on")
    print(
        f"{'looking for doubled customers':<34} {median('duplicates'):8.2f} s  "
        f"({median('pairs'):,.0f} pairs; peak memory {peak:.0f} MB)"
    )
    print(f"{'merging those two':<34} {median('merge'):8.2f} s  ({median('moved'):,.0f} orders moved)")
    print(f"{'undoing that':<34} {median('unmerge'):8.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "part",
        nargs="?",
        choices=list(PARTS),
        help="instead: workers, idle sources, many stored, slow connections",
    )
    parser.add_argument("--stored", type=int, default=500_000, help="orders in the large database")
    parser.add_argument("--looked", type=int, default=1_000_000, help="orders to look at; 0 for none")
    parser.add_argument("--history", type=int, default=history.ORDERS, help="orders of history; 0 for none")
    parser.add_argument(
        "--busy", type=int, default=1, help="seeds of busy shops on the product; 0: decisions alone"
    )
    options = parser.parse_args()
    if options.part is not None:
        PARTS[options.part]()
        return
    with tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name:
        folder = Path(name)
        office(folder)
        large = folder / "large.db"
        small_runs, large_runs = [], []
        fill = max(0, options.stored // RUN)
        grow(large, folder, 0, fill)
        if fill:
            ship(large)
        # Made before anything is measured: making them is work, too.
        measured = list(worlds(folder, FIRST_SEED + fill, ROUNDS))
        for number, pages in enumerate(measured):
            say(f"measuring: round {number + 1} of {ROUNDS}")
            small_runs.append(ingest(folder / f"small{number}.db", pages))
            large_runs.append(ingest(large, pages))
        ingest(folder / "profiled.db", measured[0], str(folder / "profile.txt"))
        size = sum(page.stat().st_size for page in measured[0].iterdir())
        lines = (
            sum(page.read_text().count('"orderItemId"') for page in list(measured[0].iterdir())[:10]) / 1000
        )
        print(f"\n{RUN:,} orders, parse to commit, SQLite, sealing on, one core")
        print(f"(about {size / RUN:,.0f} bytes of JSON and {lines:.1f} mentions of an item an order)")
        empty = row("into an empty database", small_runs)
        full = row(f"with {options.stored:,} stored", large_runs)
        print(f"{'cost with many stored':<34} {empty / full:8.2f} times that of the empty database")
        print("\nwhere the time goes (profiled, which slows small functions most):")
        text = (folder / "profile.txt").read_text().splitlines()
        start = next(i for i, line in enumerate(text) if "ncalls" in line)
        print("\n".join(line for line in text[start:] if line.strip()))
        if options.looked:
            grow(large, folder, fill + ROUNDS, options.looked // RUN)
            looking.main(large)
    if options.history:
        history.main(options.history)
    busy.main(options.busy)
    slow.main()


if __name__ == "__main__":
    main()
