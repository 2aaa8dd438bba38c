"""How far busy shops fall behind at worst in four days, by Amazon's default plan (simulated time).

Run alone with ``python -m tests.bench.busy [SEEDS]``; each shop takes minutes, one a core.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

from tests.acceptance.busy import Behind, live

SHOPS = [(n, nights) for n in (500, 2_000, 4_000, 6_000, 8_000, 16_000) for nights in (False, True)]
DAYS = 4.0


def measure(shop: tuple[int, bool, int]) -> Behind:
    """Let one shop live."""
    per_day, nights, seed = shop
    with tempfile.TemporaryDirectory(prefix="order-sync-busy-") as folder:
        return live(f"sqlite:///{Path(folder) / 'busy.db'}", per_day, DAYS, nights=nights, seed=seed)


def main(seeds: int = 1) -> None:
    """Print a row for each shop: the worst of its seeds."""
    print(f"\nbusy shops, {DAYS:g} days each, three changes an order, worst of {seeds} seed(s)")
    print("orders/day  nights  live behind  covered  second look  searches/day  429  alarms  wrong")
    shops = [(*shop, seed) for shop in SHOPS for seed in range(1, seeds + 1)]
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lives = pool.map(measure, shops)
        for per_day, nights in SHOPS:
            each = [next(lives) for _ in range(seeds)]
            live_behind, covered = (max(getattr(b, n) for b in each) for n in ("live", "covered"))
            second = max(b.second_look for b in each)
            print(
                f"{per_day:>10,}  {'yes' if nights else 'no':<6}  {live_behind / minute:7.1f} min  "
                f"{covered / minute:4.1f} min  {second / hour:9.1f} h  "
                f"{max(b.searches for b in each) / DAYS:12.0f}  {sum(b.refused for b in each):3}  "
                f"{sum(b.alarms for b in each):6}  {sum(len(b.wrongs) for b in each):5}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
