"""How far busy shops fall behind at worst in four days, by Amazon's default plan (simulated time).

The decisions alone, on lists in memory, for five seeds of each shop: minutes. Then the whole product for one
seed: an hour and more of a core, most of it for storing. Run alone with
``python -m tests.bench.busy [SEEDS_OF_THE_PRODUCT]``, 0 for the decisions alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.acceptance.busy import Behind, live
from tests.unit.core_world import DAY, HOUR, MINUTE, NOON, AmazonList, Miniature, busy_shop, worst_of

Shop = tuple[int, bool, int]
"""Orders a day, with quiet nights or not, seed."""

SHOPS = [(n, nights) for n in (500, 2_000, 4_000, 6_000, 8_000, 16_000) for nights in (False, True)]
DAYS = 4.0
SEEDS = 5
PROMISED = {
    **dict.fromkeys(SHOPS[:7], (8 * MINUTE, 20 * MINUTE, 26 * HOUR)),
    **dict.fromkeys(SHOPS[7:10], (15 * MINUTE, 30 * MINUTE, 36 * HOUR)),
}
"""Live behind, covered for good, second look; the plan does not carry 16,000 orders of three changes."""


def decided(shop: Shop) -> Behind:
    """Let one shop live by its decisions alone."""
    per_day, nights, seed = shop
    changes = busy_shop(per_day, DAYS, nights=nights, seed=seed)
    shown = Miniature.of(AmazonList(changes, seed), "A")
    worst = worst_of(shown, NOON + DAYS * DAY)
    searches = len(shown.fetched)
    for _ in shown.run_until(NOON + (DAYS + 2) * DAY):
        pass
    return Behind(
        worst.live, worst.covered, worst.second_look, searches=searches, wrongs=tuple(shown.faults())
    )


def synced(shop: Shop) -> Behind:
    """Let one shop live on the product."""
    per_day, nights, seed = shop
    with tempfile.TemporaryDirectory(prefix="order-sync-busy-") as folder:
        url = f"sqlite:///{Path(folder) / 'busy.db'}"
        return live(url, per_day, DAYS, nights=nights, seed=seed, with_customers=False)


def table(title: str, lived: Callable[[Shop], Behind], shops: Sequence[tuple[int, bool]], seeds: int) -> None:
    """Print a row for each shop: the worst of its seeds."""
    print(f"\n{title}: {DAYS:g} days, three changes an order, the worst of {seeds} seed(s)")
    print("orders/day  nights  live behind  covered for good  second look  searches/day  429  alarms  wrong")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lives = pool.map(lived, [(*shop, seed) for shop in shops for seed in range(1, seeds + 1)])
        for shop in shops:
            each = [next(lives) for _ in range(seeds)]
            behind = tuple(max(getattr(b, n) for b in each) for n in ("live", "covered", "second_look"))
            is_kept = all(b <= p for b, p in zip(behind, PROMISED.get(shop, behind), strict=True))
            print(
                f"{shop[0]:>10,}  {'yes' if shop[1] else 'no':<6}  {behind[0] / MINUTE:7.1f} min  "
                f"{behind[1] / MINUTE:12.1f} min  {behind[2] / HOUR:9.1f} h  "
                f"{max(b.searches for b in each) / DAYS:12.0f}  {sum(b.refused for b in each):3}  "
                f"{sum(b.alarms for b in each):6}  {sum(len(b.wrongs) for b in each):5}"
                f"{'' if is_kept else '  MORE THAN PROMISED'}",
                flush=True,
            )


def main(seeds: int = 1) -> None:
    """Print both tables."""
    table("busy shops, decisions alone", decided, SHOPS, SEEDS)
    if seeds:
        table("busy shops, the product", synced, SHOPS, seeds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
