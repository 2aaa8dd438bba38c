"""The part of a run that fetches history by reports and ids; ``poller.backfill.history`` decides about it.

It runs once searching has done what its budget allows, takes tokens from other buckets, and never sleeps:
it returns when there will be more to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from connectors.base import Operation
from poller.backfill import history
from poller.backfill.context import RESERVES, Context, TakenOver
from poller.backfill.ids import IdFetcher, fetch_below
from poller.backfill.reports import ReportReader
from store import backfill_reports, ledger
from store.engine import Transaction
from store.progress import CLAIM, Backfill, Way
from store.token_bucket import Bucket


@dataclass(frozen=True, slots=True)
class Awaited:
    """When there is more to do for a backfill by reports and ids, and what it is."""

    at: datetime
    why: str


def next_work(tx: Transaction, backfill: Backfill, bucket: Callable[[Operation], Bucket]) -> Awaited | None:
    """Return what a run would wait for now; None if reports and ids have nothing to do.

    ``bucket`` reads the stored budget of an operation.
    """
    awaited: list[Awaited] = []
    for part in backfill_reports.load_parts(tx, backfill.backfill_id):
        if history.is_awaited(backfill, part):
            operation: Operation = "createReport" if part.state == "wanted" else "getReport"
            ready = _ready(bucket(operation), operation)
            why = "a report is being requested" if part.state == "wanted" else "Amazon is making a report"
            awaited.append(Awaited(max(part.look_at or tx.now, ready), why))
    below = fetch_below(tx, backfill)
    due = backfill_reports.count_ids(tx, backfill.backfill_id, below, due=True)
    if due:
        ready = history.gets_at(bucket("getOrder"), due)
        awaited.append(Awaited(ready, "orders of history are fetched by id"))
    elif (retry_at := backfill_reports.next_retry(tx, backfill.backfill_id, below)) is not None:
        awaited.append(Awaited(retry_at, "orders of history that could not be fetched are retried"))
    return min(awaited, key=lambda each: each.at, default=None)


def _ready(bucket: Bucket, operation: Operation) -> datetime:
    return bucket.has_at(1.0 + history.reserve(RESERVES[operation], bucket.burst))


class HistoryWork:
    """Reports and ids of the backfills of one source, for one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reports = ReportReader(context)
        self._ids = IdFetcher(context)

    @property
    def fetched(self) -> int:
        """Return how many orders were fetched by their ids and stored."""
        return self._ids.fetched

    def begin(self) -> None:
        """Request the reports of new backfills *by report*, before anything is searched for."""
        fresh = []
        for backfill in self._wanted("report"):
            with self._context.store.read() as tx:
                if not backfill_reports.load_parts(tx, backfill.backfill_id):
                    fresh.append(backfill)
        for backfill in fresh:
            self._held(backfill, self._reports.carry_on)

    def work(self) -> datetime | None:
        """Do what the budgets allow. Return when there will be more to do; None if there is nothing."""
        times = []
        for backfill in self._wanted("report", "auto"):
            times.append(self._held(backfill, self._reports_and_ids))
        return _earliest(times)

    def _reports_and_ids(self, backfill: Backfill) -> datetime | None:
        return _earliest([self._reports.carry_on(backfill), self._ids.carry_on(backfill)])

    def _wanted(self, *ways: Way) -> list[Backfill]:
        """Return this source's backfills in these ways, of enrolled marketplaces that are not read alone."""
        source = self._context.source
        with self._context.store.read() as tx:
            backfills = [b for b in ledger.wanted_backfills(tx, source.account) if b.way in ways]
            if not backfills:
                return []
            known = ledger.load_marketplaces(tx, source.account)
        return [
            b
            for b in backfills
            if b.marketplace_id in source.marketplaces
            and b.marketplace_id in known
            and known[b.marketplace_id].enrolled is not False
            and known[b.marketplace_id].alone_since is None
        ]

    def _held(self, backfill: Backfill, act: Callable[[Backfill], datetime | None]) -> datetime | None:
        """Act while holding the backfill's claim. Return when to come back, also if another has the claim."""
        store, owner = self._context.store, self._context.owner
        with store.begin() as tx:
            if not backfill_reports.claim(tx, backfill.backfill_id, owner):
                return tx.now + CLAIM
        try:
            return act(backfill)
        except TakenOver:
            return store.now() + CLAIM
        finally:
            with store.begin(durable=False) as tx:
                backfill_reports.release(tx, backfill.backfill_id, owner)


def _earliest(times: list[datetime | None]) -> datetime | None:
    return min((at for at in times if at is not None), default=None)
