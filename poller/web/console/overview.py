"""The overview: what was sold, how fresh it is, and what needs attention.

Every open overview refreshes by itself, so all of them share one snapshot. Counting a million orders takes
seconds, so a thread counts them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import structlog
from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from poller.bootstrap import Service
from poller.ingest.accounts import Setup
from poller.monitoring.gather import gather
from poller.monitoring.status import Item, SourceStatus, Status
from poller.text import lasting
from poller.web.console import charts
from poller.web.console.charts import Activity, Stack
from poller.web.console.rendering import page
from poller.web.dependencies import ServiceDep
from store import queries, runs, sales
from store.engine import Store
from store.sales import Sales

router = APIRouter()
log = structlog.get_logger("order_sync")

SNAPSHOT_EVERY = timedelta(seconds=5)
COUNT_EVERY = timedelta(seconds=60)
COUNT_SHARE = 20
"""The next count waits at least this many times as long as the last one took."""

FIRST_COUNT_SECONDS = 0.05
"""How long the first page waits for the first count: enough for a small database."""

DAYS = 30
"""How many days of sales are shown."""

FRESH = timedelta(minutes=10)
"""How far behind Amazon a source counts as up to date."""


# --- how fresh --------------------------------------------------------------------------------------

Kind = Literal["good", "warn", "bad", "busy"]


class Freshness(NamedTuple):
    """How a source stands: the colour, and in words."""

    kind: Kind
    text: str


def freshness(source: SourceStatus, now: datetime) -> Freshness:
    """Return how fresh a source is. Waiting for the request budget is neither a failure nor up to date."""
    if source.refusal is not None:
        return Freshness("bad", "refused by Amazon")
    if source.failing_since is not None:
        return Freshness("bad", f"failing for {lasting(now - source.failing_since)}")
    if source.behind_seconds is None:
        return Freshness("busy", "not read yet")
    behind = timedelta(seconds=source.behind_seconds)
    if behind <= FRESH:
        return Freshness("good", "up to date")
    every = timedelta() if source.pace is None else timedelta(seconds=source.pace.look_every_seconds)
    if every > FRESH and behind <= 2 * every:
        return Freshness("busy", f"polled every {lasting(every)} while history uses the request budget")
    return Freshness("warn", f"{lasting(behind)} behind")


# --- what needs attention ---------------------------------------------------------------------------


class Remedy(NamedTuple):
    """The page that shows more of what needs attention."""

    page: str
    name: str


_REMEDIES = {
    "alone": Remedy("/runs", "Runs"),
    "behind": Remedy("/runs", "Runs"),
    "duplicates": Remedy("/duplicates", "Compare them"),
    "gap": Remedy("/runs", "Runs"),
    "held": Remedy("/orders?basis=held", "Show them"),
    "quarantine": Remedy("/quarantine", "Quarantine"),
    "success": Remedy("/runs", "Runs"),
    "verification": Remedy("/verifications", "Verifications"),
}


def remedy(item: Item) -> Remedy | None:
    """Return the page on which a person sees more of this, or acts; None if no page helps."""
    return _REMEDIES.get(item.why)


# --- what was sold ----------------------------------------------------------------------------------


class Chart(NamedTuple):
    """One chart, with what it shows in words, and its series, each with the class of its colour."""

    title: str
    total: str
    keys: Sequence[tuple[str, str]]
    image: Markup


def sales_charts(sold: Sequence[Sales], last: datetime) -> list[Chart]:
    """Return the chart of orders by day and marketplace, and one of revenue for each currency."""
    days = [(last - timedelta(days=back)).date() for back in range(DAYS - 1, -1, -1)]

    def stacks(of: Sequence[Sales], *, money: bool) -> list[Stack]:
        values: dict[object, dict[str, float]] = {day: {} for day in days}
        for one in of:
            if one.day in values:
                name = one.marketplace or "elsewhere"
                values[one.day][name] = values[one.day].get(name, 0) + float(
                    one.total if money else one.orders
                )
        return [Stack(day, values[day]) for day in days]

    colours = charts.series_of(stacks(sold, money=False))  # the same in every chart

    def chart(title: str, of: Sequence[Sales], unit: str, *, money: bool) -> Chart:
        drawn = stacks(of, money=money)
        total = f"{sum(sum(stack.values.values()) for stack in drawn):,.0f}{unit}"
        summary = f"{title} in the last {DAYS} days: {total} in all"
        keys = [
            (name, charts.colour(colours, name)) for name in colours if any(name in s.values for s in drawn)
        ]
        return Chart(title, total, keys, charts.stacked_chart(drawn, colours, summary))

    orders = chart("Orders a day", sold, "", money=False)
    by_currency: dict[str, int] = {}
    for one in sold:
        if one.currency is not None:
            by_currency[one.currency] = by_currency.get(one.currency, 0) + one.orders
    currencies = sorted(by_currency, key=lambda name: (-by_currency[name], name))
    return [
        orders,
        *(
            chart(f"{name} a day", [s for s in sold if s.currency == name], f" {name}", money=True)
            for name in currencies
        ),
    ]


# --- the snapshot -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counted:
    """What takes long to count, and when it was."""

    totals: queries.Totals = queries.UNCOUNTED
    charts: Sequence[Chart] = ()
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the overview shows."""

    status: Status
    counted: Counted
    activities: dict[str, Activity]
    fresh: dict[str, Freshness]
    attention: list[tuple[Item, Remedy | None]] = field(repr=False)


class Snapshots:
    """The newest snapshot, retaken when it is old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._counted = Counted()
        self._count_at: datetime | None = None
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
        counted = self._counted
        status = gather(store, setup, lambda _: counted.totals)
        with store.read() as tx:
            activities = {
                source.source: charts.activity(
                    runs.since(tx, source.source, status.at - charts.SHOWN), status.at
                )
                for source in status.sources
            }
        return Snapshot(
            status,
            counted,
            activities,
            {source.source: freshness(source, status.at) for source in status.sources},
            [(item, remedy(item)) for item in status.health if item.why != "start"],
        )

    def _count_if_due(self, store: Store, now: datetime) -> None:
        if self._count_at is not None and self._count_at > now:
            return
        if not self._counting.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._count, args=(store,), name="counts", daemon=True)
        thread.start()
        if self._counted.at is None:
            thread.join(FIRST_COUNT_SECONDS)

    def _count(self, store: Store) -> None:
        try:
            began = time.monotonic()
            with store.read() as tx:
                sold = sales.by_day(tx, tx.now.date(), DAYS)
                self._counted = Counted(queries.totals(tx), sales_charts(sold, tx.now), tx.now)
                took = timedelta(seconds=time.monotonic() - began)
                self._count_at = tx.now + max(COUNT_EVERY, COUNT_SHARE * took)
        except Exception as error:
            log.error("counting broke", error=type(error).__name__)
        finally:
            self._counting.release()


def newest(request: Request, service: Service) -> Snapshot:
    snapshots: Snapshots = request.app.state.snapshots
    return snapshots.newest(service.store, service.setup)


@router.get("/")
def show_overview(request: Request, service: ServiceDep) -> Response:
    """Show the overview."""
    return page(request, "overview.html", snapshot=newest(request, service), bar_chart=charts.bar_chart)
