"""What the reports of backfills say when their next windows are planned; ``history`` decides by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from poller.backfill import history
from store import backfill_reports
from store.engine import Transaction
from store.progress import Backfill, Window
from store.token_bucket import Bucket


@dataclass(frozen=True, slots=True)
class Rates:
    """The two buckets that history shares with live polling, and live polling's slower pace in seconds."""

    search: Bucket
    get: Bucket
    busy: float


def grounds(
    tx: Transaction, backfills: Iterable[Backfill], pending: Sequence[Window], rates: Callable[[], Rates]
) -> dict[int, history.Ground]:
    """Map backfill ID to ground; omits backfills with no report or with an open window.

    ``rates`` is called only if it matters: most decisions are about other windows.
    """
    busy = {w.backfill_id for w in pending if w.state == "open"}
    planned = [b for b in backfills if b.way != "search" and b.backfill_id not in busy]
    known = {b.backfill_id: _ground(tx, b, rates) for b in planned}
    return {number: ground for number, ground in known.items() if ground is not None}


def _ground(tx: Transaction, backfill: Backfill, rates: Callable[[], Rates]) -> history.Ground | None:
    parts = backfill_reports.load_parts(tx, backfill.backfill_id)
    part = history.part_below(backfill.position, parts)
    if part is None or not part.has_ids:
        return history.Ground(parts) if parts else None
    number, below = backfill.backfill_id, backfill.position
    oldest = backfill_reports.oldest_left(tx, number, below, part.lower, untried=True)
    if oldest is None:
        return history.Ground(parts)
    left = backfill_reports.count_ids(tx, number, below)
    now = rates()
    pages = history.pages_to_take(left, now.search.rate - 1 / now.busy, now.get.rate)
    cut = backfill_reports.newest_of(tx, number, below, part.lower, history.places(pages))
    return history.Ground(parts, oldest, cut)
