"""Metrics for Prometheus: what ``status`` shows, as gauges, and what has been done, as counters.

Labels are names from the configuration and fixed words, so their number is bounded; no order, customer or
e-mail is ever one. Counters of runs, pages and orders are read from the database and go on over restarts;
requests by outcome are this process's own. ``docs/ops`` has alert rules and a dashboard made of these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from poller.ingest.accounts import Setup
from poller.matching.buyer_visibility import ENOUGH_ORDERS, Field
from poller.monitoring.gather import gather
from poller.monitoring.health import oldest_gap, without_file
from poller.monitoring.readiness import readiness
from poller.monitoring.status import SourceStatus, Status
from store import alerts, budgets, runs, webhooks
from store.change_records import Backlog, Hook
from store.engine import Store, Transaction, Unavailable
from store.records import Basis

F = TypeVar("F", GaugeMetricFamily, CounterMetricFamily)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUDGET = ("account", "operation")

Requests = tuple[Mapping[tuple[str, str], int], Mapping[str, int]]
"""Attempts by operation and outcome, and attempts that were followed by a retry, by outcome."""

Labelled = tuple[Sequence[str], float | None]
"""The values of a metric's labels, and its own; None leaves it out, because it is not known yet."""


def render_metrics(store: Store, setup: Setup, requests: Requests) -> bytes:
    """Return all metrics in Prometheus's text format.

    While the database is away ``order_sync_database_up`` is 0, and most others are missing.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(ServiceCollector(store, setup, requests))
    return generate_latest(registry)


class ServiceCollector(Collector):
    """Reads all metrics at every collection."""

    def __init__(self, store: Store, setup: Setup, requests: Requests) -> None:
        self._store = store
        self._setup = setup
        self._requests = requests

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not query the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families, those of the database only if it answers."""
        try:
            status = gather(self._store, self._setup)
            with self._store.read() as tx:
                counted = [*_of_runs(tx), *_of_budgets(tx), *_of_hooks(tx), *_of_alerts(tx)]
            ready = readiness(status.health).ready
            known = [*_of_status(status), *counted]
        except Unavailable:
            ready, known = False, []
            yield _one("database_up", "1 while the database answers.", 0)
        else:
            yield _one("database_up", "1 while the database answers.", 1)
        yield _one("ready", "1 if no source exceeds its limits, as /readyz answers.", ready)
        yield from known
        yield from _of_process(*self._requests)


def _gauge(name: str, what: str, labels: Sequence[str], values: Iterable[Labelled]) -> GaugeMetricFamily:
    return _filled(GaugeMetricFamily(f"order_sync_{name}", what, labels=labels), values)


def _counter(name: str, what: str, labels: Sequence[str], values: Iterable[Labelled]) -> CounterMetricFamily:
    return _filled(CounterMetricFamily(f"order_sync_{name}", what, labels=labels), values)


def _filled(family: F, values: Iterable[Labelled]) -> F:
    for names, value in values:
        if value is not None:
            family.add_metric(names, value)
    return family


def _one(name: str, what: str, value: float) -> GaugeMetricFamily:
    return _gauge(name, what, (), [((), value)])


def _stamp(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


# --- sources and marketplaces -----------------------------------------------------------------------


def _of_status(status: Status) -> Iterator[Metric]:
    yield from _of_sources(status.sources)
    yield from _of_marketplaces(status)
    yield from _of_verifications(status.sources)
    yield from _of_identity(status.sources)
    yield from _of_budget(status.sources)
    yield from _of_windows(status.sources)
    yield from _of_backfills(status.sources)
    yield from _of_records(status)


def _of_sources(sources: Sequence[SourceStatus]) -> Iterator[Metric]:
    label = ("source",)
    yield _gauge(
        "source_behind_seconds",
        "Age of the time up to which all changes of a source's orders have been read.",
        label,
        [((s.source,), s.behind_seconds) for s in sources],
    )
    yield _gauge(
        "source_succeeded_timestamp_seconds",
        "When a page of a source was last stored.",
        label,
        [((s.source,), _stamp(s.succeeded_at)) for s in sources],
    )
    yield _gauge(
        "source_failures",
        "Failures of a source since its last success.",
        label,
        [((s.source,), s.failures) for s in sources],
    )
    yield _gauge(
        "source_refused",
        "1 while Login with Amazon refuses the credentials of a source.",
        label,
        [((s.source,), s.refusal is not None) for s in sources],
    )


def _of_marketplaces(status: Status) -> Iterator[Metric]:
    label = ("account", "marketplace")
    all_of_them = [((s.account, m.marketplace), m) for s in status.sources for m in s.marketplaces]
    yield _gauge(
        "marketplace_behind_seconds",
        "Age of the time up to which all changes of a marketplace's orders have been read.",
        label,
        [(names, m.behind_seconds) for names, m in all_of_them],
    )
    yield _gauge(
        "marketplace_gaps",
        "Ranges of time that have not been read yet, or could not be.",
        label,
        [(names, len(m.gaps)) for names, m in all_of_them],
    )
    oldest = [(names, oldest_gap(m)) for names, m in all_of_them]
    yield _gauge(
        "marketplace_oldest_gap_seconds",
        "Age of the start of the oldest gap; 0 without one.",
        label,
        [(names, 0 if gap is None else (status.at - gap).total_seconds()) for names, gap in oldest],
    )
    yield _gauge(
        "marketplace_alone",
        "1 while a marketplace fails and is read apart from the others.",
        label,
        [(names, m.alone_since is not None) for names, m in all_of_them],
    )


def _of_verifications(sources: Sequence[SourceStatus]) -> Iterator[Metric]:
    label = ("account", "marketplace")
    each = [
        ((s.account, m.marketplace), m.verification, m.unsettled_verifications)
        for s in sources
        for m in s.marketplaces
        if m.verification is not None
    ]
    yield _gauge(
        "verification_finished_timestamp_seconds",
        "When the newest verification of a marketplace ended.",
        label,
        [(names, _stamp(newest.finished_at)) for names, newest, _ in each],
    )
    yield _gauge(
        "verification_failed",
        "1 while a range that a failed verification did not compare has not been compared by a later one.",
        label,
        [(names, any(v.not_compared for v in unsettled)) for names, _, unsettled in each],
    )
    yield _gauge(
        "verification_missing_orders",
        "Orders that Amazon lists and that are missing from the database, or stored in an older version.",
        label,
        [(names, sum(v.still_missing for v in unsettled)) for names, _, unsettled in each],
    )


def _of_identity(sources: Sequence[SourceStatus]) -> Iterator[Metric]:
    label = ("source", "field")
    newest = [(s, next((day for day in s.identity if day.orders >= ENOUGH_ORDERS), None)) for s in sources]
    yield _gauge(
        "identity_share",
        "Share of the orders that may show their buyer and came with an e-mail, or with a buyer's name, "
        "on the newest day with enough of them, 0 to 1.",
        label,
        [
            ((s.source, field), share)
            for s, day in newest
            if day is not None
            for field, share in (("email", day.email_share), ("name", day.name_share))
        ],
    )
    yield _gauge(
        "identity_dropped",
        "1 if that share fell today or yesterday below half of its mean of the 14 days before.",
        label,
        [
            ((s.source, field), any(drop.field == field for drop in s.identity_drops))
            for s in sources
            for field in get_args(Field)
        ],
    )


def _of_budget(sources: Sequence[SourceStatus]) -> Iterator[Metric]:
    """Yield each budget once, though the sources of an account share it."""
    by_place = {(s.account, str(b.operation)): b for s in sources for b in s.budgets}
    for name, what, values in (
        ("tokens", "Requests that Amazon's budget allows at once.", [b.tokens for b in by_place.values()]),
        ("burst", "Requests that a full budget allows at once.", [b.burst for b in by_place.values()]),
        (
            "rate_per_second",
            "How fast the budget refills, in requests per second.",
            [b.rate for b in by_place.values()],
        ),
    ):
        yield _gauge(f"budget_{name}", what, BUDGET, zip(by_place, values, strict=True))


def _of_windows(sources: Sequence[SourceStatus]) -> Iterator[Metric]:
    each = [(s.source, w) for s in sources for w in s.windows]
    label = ("source", "kind")
    yield _gauge(
        "windows",
        "Ranges of time that are being read or wait to be, by kind: live, sweep or backfill.",
        label,
        [((source, w.kind), w.windows) for source, w in each],
    )
    yield _gauge(
        "windows_set_aside",
        "Windows that failed too often and are retried with growing pauses.",
        label,
        [((source, w.kind), w.set_aside) for source, w in each],
    )


def _of_backfills(sources: Sequence[SourceStatus]) -> Iterator[Metric]:
    each = sorted((s.account, b.marketplace, b.done) for s in sources for b in s.backfills)
    by_place = [(place, [b[2] for b in group]) for place, group in groupby(each, key=lambda b: b[:2])]
    label = ("account", "marketplace")
    yield _gauge(
        "backfills",
        "Backfills of history that are not finished.",
        label,
        [(place, len(done)) for place, done in by_place],
    )
    yield _gauge(
        "backfill_done_ratio",
        "Share that has been read of the unfinished backfill that is furthest behind, 0 to 1.",
        label,
        [(place, min(done)) for place, done in by_place],
    )


def _of_records(status: Status) -> Iterator[Metric]:
    totals = status.totals
    oldest = status.retention.oldest_term
    keeps = timedelta(days=status.retention.days or 0)
    late = 0.0 if oldest is None else max(0.0, (status.at - oldest - keeps).total_seconds())
    bases = (*get_args(Basis), "none")
    waiting = sum(group.orders for group in without_file(totals))
    yield _gauge(
        "stored_orders",
        "Orders in the database, by match basis (why an order has its customer).",
        ("basis",),
        [((basis,), totals.by_basis.get(basis, 0)) for basis in bases],
    )
    for name, what, number in (
        ("customers", "Active customer records.", totals.customers),
        ("unidentified_customers", "Customer records without an identifying e-mail.", totals.unidentified),
        ("pending_orders", "Orders that wait until Amazon makes them ready.", totals.pending),
        ("unknown_marketplace_orders", "Orders of a marketplace without a file.", totals.unknown_marketplace),
        ("without_file_orders", "Orders that would get a customer if their marketplace had a file.", waiting),
        ("quarantined_orders", "Orders that could not be read.", status.quarantine.orders),
        ("quarantine_waiting_orders", "Orders in quarantine that need a person.", status.quarantine.waiting),
        ("erasing_overdue_seconds", "How long ago the oldest buyer data should have been erased.", late),
    ):
        yield _one(name, what, number)


# --- what the database counts -----------------------------------------------------------------------


def _of_runs(tx: Transaction) -> Iterator[Metric]:
    """Yield totals of runs: of the days that were condensed, and of the runs since."""
    totals = sorted(runs.totals_by_source(tx).items())
    for i, (name, what) in enumerate(
        (
            ("runs", "Runs of a source."),
            ("failed_runs", "Runs of a source that failed."),
            ("pages", "Pages of orders that were stored."),
            ("orders", "Orders on those pages, repeats included."),
            ("run_requests", "Requests that finished runs made."),
        )
    ):
        yield _counter(name, what, ("source",), [((source,), total[i]) for source, total in totals])


def _of_budgets(tx: Transaction) -> Iterator[Metric]:
    taken: dict[tuple[str, str], int] = {}
    for key, requests in budgets.taken(tx).items():
        place = (key.account, key.operation)
        taken[place] = taken.get(place, 0) + requests
    yield _counter("budget_taken", "Requests by all processes, retries included.", BUDGET, taken.items())


def _of_hooks(tx: Transaction) -> Iterator[Metric]:
    hooks: list[tuple[Hook, Backlog]] = [(hook, webhooks.backlog(tx, hook)) for hook in webhooks.load(tx)]

    def gauge(name: str, what: str, values: Iterable[float]) -> Metric:
        names = [(str(hook.hook_id),) for hook, _ in hooks]
        return _gauge(f"webhook_{name}", what, ("hook",), zip(names, values, strict=True))

    ages = [0.0 if b.oldest is None else max(0.0, (tx.now - b.oldest).total_seconds()) for _, b in hooks]
    yield gauge("behind_seconds", "Age of the oldest event that a webhook has not accepted.", ages)
    yield gauge("failures", "Failures of a webhook since its last success.", [h.failures for h, _ in hooks])
    yield gauge(
        "waiting_events", "Events that a webhook has not accepted yet.", [b.waiting for _, b in hooks]
    )
    yield gauge("dead_events", "Events that were given up.", [b.dead for _, b in hooks])


def _of_alerts(tx: Transaction) -> Iterator[Metric]:
    yield _one("alerts", "Alerts that are open.", alerts.count_open(tx))


# --- what this process counts -----------------------------------------------------------------------


def _of_process(requests: Mapping[tuple[str, str], int], retried: Mapping[str, int]) -> Iterator[Metric]:
    yield _counter(
        "requests",
        "Attempts at requests to Amazon by this process, by operation and outcome.",
        ("operation", "outcome"),
        sorted(requests.items()),
    )
    yield _counter(
        "retries",
        "Attempts that were followed by a retry, by outcome.",
        ("outcome",),
        [((outcome,), attempts) for outcome, attempts in sorted(retried.items())],
    )
