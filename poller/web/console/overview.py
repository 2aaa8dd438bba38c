"""The first page: how every source stands, what it did in the last day, and what needs attention.

Many may look, and each looks again by itself: what they see is taken once for all of them. Counting all
orders takes seconds where there are a million, so it is done beside the requests.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from fastapi import APIRouter, Request, Response

from poller.bootstrap import Service
from poller.monitoring.gather import gather
from poller.monitoring.status import Status
from poller.web.console import charts
from poller.web.console.charts import Activity
from poller.web.console.rendering import page
from poller.web.dependencies import Here
from store import queries, runs
from store.engine import Transaction
from store.queries import Totals

router = APIRouter()
log = structlog.get_logger("order_sync")

FRESH = timedelta(seconds=5)
COUNTED = timedelta(seconds=60)
PATIENCE = 0.05
"""Seconds that the first page waits for the first count: enough for what is small."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the overview shows. ``counted_at``: when orders and customers were counted; None not yet."""

    status: Status
    activities: dict[str, Activity]
    counted_at: datetime | None


class Snapshots:
    """The newest snapshot, taken again when it is old."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._totals = queries.UNCOUNTED
        self._counted_at: datetime | None = None
        self._taken: Snapshot | None = None

    def newest(self) -> Snapshot:
        """How it stands now, or stood some seconds ago."""
        with self._lock:
            now = self._service.store.now()
            if self._taken is None or self._taken.status.at + FRESH <= now:
                self._taken = self._take(now)
            return self._taken

    def _take(self, now: datetime) -> Snapshot:
        self._see_to_counts(now)
        status = gather(self._service, lambda _: self._totals)
        with self._service.store.read() as tx:
            activities = {
                source.source: charts.activity(
                    runs.since(tx, source.source, status.at - charts.SHOWN), status.at
                )
                for source in status.sources
            }
        return Snapshot(status, activities, self._counted_at)

    def _see_to_counts(self, now: datetime) -> None:
        if self._counted_at is not None and self._counted_at + COUNTED > now:
            return
        if not self._counting.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._count, name="counts", daemon=True)
        thread.start()
        if self._counted_at is None:
            thread.join(PATIENCE)

    def _count(self) -> None:
        try:
            with self._service.store.read() as tx:
                self._totals, self._counted_at = _counted(tx)
        except Exception as error:
            log.error("counting broke", error=type(error).__name__)
        finally:
            self._counting.release()


def _counted(tx: Transaction) -> tuple[Totals, datetime]:
    return queries.totals(tx), tx.now


def _newest(request: Request) -> Snapshot:
    snapshots: Snapshots = request.app.state.snapshots
    return snapshots.newest()


@router.get("/")
def show_overview(request: Request, service: Here) -> Response:
    """How everything stands."""
    return page(request, "overview.html", snapshot=_newest(request), drawn=charts.drawn)


@router.get("/live")
def refresh_overview(request: Request, service: Here) -> Response:
    """The part of the page that changes by itself."""
    return page(request, "_overview.html", snapshot=_newest(request), drawn=charts.drawn)
