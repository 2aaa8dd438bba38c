"""The overview: what needs attention, and the state and last day of every source.

Every open overview refreshes by itself, so all of them share one snapshot. Counting a million orders takes
seconds, so a thread counts them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from fastapi import APIRouter, Request, Response

from poller.bootstrap import Service
from poller.ingest.accounts import Setup
from poller.monitoring.gather import gather
from poller.monitoring.status import Status
from poller.web.console import charts
from poller.web.console.charts import Activity
from poller.web.console.rendering import page
from poller.web.dependencies import ServiceDep
from store import queries, runs
from store.engine import Store

router = APIRouter()
log = structlog.get_logger("order_sync")

SNAPSHOT_EVERY = timedelta(seconds=5)
COUNT_EVERY = timedelta(seconds=60)
FIRST_COUNT_SECONDS = 0.05
"""How long the first page waits for the first count: enough for a small database."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the overview shows. ``counted_at``: when orders and customers were counted, if they were."""

    status: Status
    activities: dict[str, Activity]
    counted_at: datetime | None


class Snapshots:
    """The newest snapshot, retaken when it is old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._totals = queries.UNCOUNTED
        self._counted_at: datetime | None = None
        self._taken: Snapshot | None = None

    def newest(self, store: Store, setup: Setup) -> Snapshot:
        """Return the snapshot of now or of a few seconds ago."""
        with self._lock:
            now = store.now()
            if self._taken is None or self._taken.status.at + SNAPSHOT_EVERY <= now:
                self._taken = self._take(store, setup, now)
            return self._taken

    def _take(self, store: Store, setup: Setup, now: datetime) -> Snapshot:
        self._count_if_due(store, now)
        status = gather(store, setup, lambda _: self._totals)
        with store.read() as tx:
            activities = {
                source.source: charts.activity(
                    runs.since(tx, source.source, status.at - charts.SHOWN), status.at
                )
                for source in status.sources
            }
        return Snapshot(status, activities, self._counted_at)

    def _count_if_due(self, store: Store, now: datetime) -> None:
        if self._counted_at is not None and self._counted_at + COUNT_EVERY > now:
            return
        if not self._counting.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._count, args=(store,), name="counts", daemon=True)
        thread.start()
        if self._counted_at is None:
            thread.join(FIRST_COUNT_SECONDS)

    def _count(self, store: Store) -> None:
        try:
            with store.read() as tx:
                self._totals, self._counted_at = queries.totals(tx), tx.now
        except Exception as error:
            log.error("counting broke", error=type(error).__name__)
        finally:
            self._counting.release()


def _newest(request: Request, service: Service) -> Snapshot:
    snapshots: Snapshots = request.app.state.snapshots
    return snapshots.newest(service.store, service.setup)


@router.get("/")
def show_overview(request: Request, service: ServiceDep) -> Response:
    """Show the overview."""
    return page(request, "overview.html", snapshot=_newest(request, service), bar_chart=charts.bar_chart)
