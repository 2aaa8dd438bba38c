"""The part of a run that fetches history by reports and ids; ``poller.backfill.history`` decides about it.

It comes after searching has done what its budget allows, takes tokens from other buckets than that, and
like it never sleeps: it says when there is more to do. An order is stored in one transaction with its id's
going out of the list, so that a crash at any point repeats at most one request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from connectors.base import Operation, ReportQuery
from connectors.errors import (
    AccessRefused,
    ConnectorError,
    CredentialsRefused,
    Deferred,
    ReportUnreadable,
    RequestRefused,
)
from connectors.orders import AmazonOrder, ListedOrder, UnreadableOrder
from poller.backfill import history
from poller.ingest import reports
from poller.ingest.apply import apply_single
from poller.ingest.budget import Allowance
from poller.ingest.reports import ReportForgotten
from store import backfill_reports as stored
from store import ledger, runs
from store.bucket import Bucket
from store.engine import Transaction
from store.ledger import CLAIM
from store.progress import Backfill, HistoryId, ReportPart, Way

if TYPE_CHECKING:
    from poller.sync.run import SourceSync

LEAVES: dict[Operation, float] = {
    "getOrder": history.GET_LEAVES,
    "createReport": history.REPORTS_LEAVE,
    "getReport": history.REPORTS_LEAVE,
    "getReportDocument": history.REPORTS_LEAVE,
}


class _TakenOver(Exception):
    """The backfill was taken over by another worker, paused or given up: nothing more is asked for here."""


_Act = Callable[[Backfill], datetime | None]

ENTERED_AT_ONCE = 5_000
LOOKED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Awaited:
    """When there is more to do for a backfill by reports and ids, and what it is."""

    at: datetime
    why: str


def next_work(tx: Transaction, backfill: Backfill, bucket: Callable[[Operation], Bucket]) -> Awaited | None:
    """What a run would wait for now; None when reports and ids have nothing to do.

    ``bucket``: the stored budget of an operation.
    """
    found: list[Awaited] = []
    for part in stored.load_parts(tx, backfill.backfill_id):
        if history.is_awaited(backfill, part):
            asking: Operation = "createReport" if part.state == "wanted" else "getReport"
            ready = _ready(bucket(asking), asking)
            why = "a report is asked for" if part.state == "wanted" else "Amazon is making a report"
            found.append(Awaited(max(part.look_at or tx.now, ready), why))
    below = _below(tx, backfill)
    due = stored.count_ids(tx, backfill.backfill_id, below, due=True)
    if due:
        found.append(Awaited(history.gets_at(bucket("getOrder"), due), "orders of history are fetched by id"))
    elif (again := stored.next_retry(tx, backfill.backfill_id, below)) is not None:
        found.append(Awaited(again, "orders of history that could not be had are asked for again"))
    return min(found, key=lambda one: one.at, default=None)


def _ready(bucket: Bucket, operation: Operation) -> datetime:
    return bucket.has_at(1.0 + history.reserve(LEAVES[operation], bucket.burst))


def _below(tx: Transaction, backfill: Backfill) -> datetime | None:
    """Ids above where searching has got to are its own; what it did not show comes when it is through."""
    through = backfill.position <= backfill.lower and not ledger.has_pending(tx, backfill.backfill_id)
    return None if through else backfill.position


class HistoryWork:
    """Reports and ids of the backfills of one source, for one run."""

    def __init__(self, sync: SourceSync) -> None:
        self._sync = sync
        reserves = {
            operation: history.reserve(leaves, sync.plans[operation].burst)
            for operation, leaves in LEAVES.items()
        }
        self._allowance = Allowance(sync.budget, reserves)

    def begin(self) -> None:
        """Before anything is searched for: ask for the reports that were expressly wanted."""
        fresh = []
        for backfill in self._wanted("report"):
            with self._sync.store.read() as tx:
                if not stored.load_parts(tx, backfill.backfill_id):
                    fresh.append(backfill)
        for backfill in fresh:
            self._held(backfill, self._by_reports)

    def work(self) -> datetime | None:
        """Do what the budgets allow. Returns when there will be more to do; None when there is nothing."""
        found = [self._held(backfill, self._all_of) for backfill in self._wanted("report", "auto")]
        return min((at for at in found if at is not None), default=None)

    def _wanted(self, *ways: Way) -> list[Backfill]:
        """Backfills of this source that are fetched in one of these ways, of marketplaces without trouble."""
        if not self._sync.has_history:
            return []
        source = self._sync.source
        with self._sync.store.read() as tx:
            mine = [b for b in ledger.wanted_backfills(tx, source.account) if b.way in ways]
            if not mine:
                return []
            known = ledger.load_marketplaces(tx, source.account)
        return [
            b
            for b in mine
            if b.marketplace_id in source.marketplaces
            and b.marketplace_id in known
            and known[b.marketplace_id].enrolled is not False
            and known[b.marketplace_id].alone_since is None
        ]

    def _held(self, backfill: Backfill, act: _Act) -> datetime | None:
        """Act while holding the backfill's ids; when another worker has them, come back later."""
        sync = self._sync
        with sync.store.begin() as tx:
            if not stored.claim(tx, backfill.backfill_id, sync.owner):
                return tx.now + CLAIM
        try:
            return act(backfill)
        except _TakenOver:
            return sync.store.now() + CLAIM
        finally:
            with sync.store.begin(durable=False) as tx:
                stored.release(tx, backfill.backfill_id, sync.owner)

    def _all_of(self, backfill: Backfill) -> datetime | None:
        times = [self._by_reports(backfill), self._by_ids(backfill)]
        return min((at for at in times if at is not None), default=None)

    # --- reports ------------------------------------------------------------------------------------

    def _by_reports(self, backfill: Backfill) -> datetime | None:
        """Ask for reports, look how far they are, read those that are done."""
        times: list[datetime] = []
        exhausted: set[str] = set()
        for part in self._planned(backfill):
            if not history.is_awaited(backfill, part):
                continue
            if part.state in exhausted or self._sync.stopping():
                continue
            try:
                part = self._advance(backfill, part)
            except Deferred as deferred:
                exhausted.add(part.state)
                times.append(deferred.until)
                continue
            if part.state in ("wanted", "asked") and part.look_at is not None:
                times.append(part.look_at)
        return min(times, default=None)

    def _planned(self, backfill: Backfill) -> tuple[ReportPart, ...]:
        with self._sync.store.read() as tx:
            parts = stored.load_parts(tx, backfill.backfill_id)
        if parts or backfill.position <= backfill.lower:
            return parts
        parts = history.parts_of(backfill, self._sync.connector.amazon_now())
        with self._sync.store.begin() as tx:
            if not stored.claim(tx, backfill.backfill_id, self._sync.owner):
                raise _TakenOver
            known = stored.load_parts(tx, backfill.backfill_id)
            if not known:
                stored.enter_parts(tx, parts)
        return known or parts

    def _advance(self, backfill: Backfill, part: ReportPart) -> ReportPart:
        """One step with one report. Raises Deferred."""
        now = self._sync.store.now()
        if part.look_at is not None and part.look_at > now:
            return part
        if reports.is_overdue(part.asked_at, now):
            return self._saved(part, history.searched(part, "the report was not made in time"))
        try:
            if part.state == "wanted":
                return self._ask(backfill, part, now)
            return self._look(backfill, part, now)
        except (Deferred, CredentialsRefused):
            raise
        except ReportForgotten as error:
            again = replace(part, state="wanted", report_id=None, asked_at=None, looks=0)
            return self._saved(part, history.troubled(again, str(error), now))
        except (RequestRefused, ReportUnreadable) as error:
            return self._saved(part, history.searched(part, str(error)))
        except ConnectorError as error:
            return self._saved(part, history.troubled(part, str(error), now))

    def _ask(self, backfill: Backfill, part: ReportPart, now: datetime) -> ReportPart:
        sync = self._sync
        query = ReportQuery(part.lower, part.upper, (backfill.marketplace_id,))
        report_id = sync.connector.request_report(query, self._allowance)
        look_at = reports.next_look(part.looks, now)
        asked = replace(part, state="asked", report_id=report_id, asked_at=now, look_at=look_at)
        return self._saved(part, asked, requests=1)

    def _look(self, backfill: Backfill, part: ReportPart, now: datetime) -> ReportPart:
        sync = self._sync
        listed = reports.read(sync.connector, part.report_id or "", self._allowance)
        if listed is None:
            looked = replace(part, looks=part.looks + 1, look_at=reports.next_look(part.looks, now))
            return self._saved(part, looked, requests=1)
        return self._enter(backfill, part, listed)

    def _enter(self, backfill: Backfill, part: ReportPart, listed: Sequence[ListedOrder]) -> ReportPart:
        """Store a report's ids; those outside of the part belong to its neighbours."""
        ids = [
            HistoryId(one.created_at, one.order_id, one.last_updated_at)
            for one in listed
            if part.lower <= one.created_at < part.upper
        ]
        if not ids:
            return self._saved(part, history.searched(part, "the report lists no order"), requests=2)
        ids.sort(key=lambda one: (one.created_at, one.order_id))
        for chunk in _chunks(ids, ENTERED_AT_ONCE):
            with self._sync.store.begin() as tx:
                self._still_ours(tx, part)
                stored.enter_ids(tx, backfill.backfill_id, chunk)
        ready = replace(part, state="ready", look_at=None, orders=len(ids))
        return self._saved(part, ready, requests=2)

    def _still_ours(self, tx: Transaction, part: ReportPart) -> None:
        """Raises _TakenOver when another worker has the ids, or had them and got further with this part."""
        if not stored.holds(tx, part.backfill_id, self._sync.owner):
            raise _TakenOver
        if part not in stored.load_parts(tx, part.backfill_id):
            raise _TakenOver

    def _saved(self, before: ReportPart, part: ReportPart, requests: int = 0) -> ReportPart:
        """Write what has become of a part, unless somebody has written something else meanwhile."""
        with self._sync.store.begin() as tx:
            self._still_ours(tx, before)
            stored.save_part(tx, part)
            ours = stored.count_and_renew(tx, part.backfill_id, self._sync.owner, requests=requests)
        if not ours:
            raise _TakenOver
        return part

    # --- ids ----------------------------------------------------------------------------------------

    def _by_ids(self, backfill: Backfill) -> datetime | None:
        """Fetch ids from the oldest; go on past parts that are finished."""
        while True:
            below = self._below(backfill)
            later = self._fetch_some(backfill, below)
            settled = self._settle(backfill)
            if later is not None or settled is None:
                return later
            if (settled.position, self._below(settled)) == (backfill.position, below):
                return None
            backfill = settled

    def _below(self, backfill: Backfill) -> datetime | None:
        with self._sync.store.read() as tx:
            return _below(tx, backfill)

    def _fetch_some(self, backfill: Backfill, below: datetime | None) -> datetime | None:
        """As many as the bucket gives. Returns when there is more to do; None when no id is left."""
        while not self._sync.stopping():
            ids, many, later = self._next_ids(backfill, below)
            if not many:
                return later
            for one in ids[:many]:
                later = self._fetch(backfill, one)
                if later is not None:
                    return later
        return self._sync.store.now()

    def _next_ids(
        self, backfill: Backfill, below: datetime | None
    ) -> tuple[Sequence[HistoryId], int, datetime | None]:
        """The oldest ids that are not stored yet, how many may be asked for now, when there will be more."""
        which = backfill.backfill_id

        def look(tx: Transaction) -> tuple[list[HistoryId], bool, Bucket, datetime | None]:
            found = stored.oldest_ids(tx, backfill.account, which, below, LOOKED_AT_ONCE)
            left: list[HistoryId] = []
            known: list[HistoryId] = []
            for one, stored_at in found:
                is_known = stored_at is not None and reports.has_version(stored_at, one.last_updated_at)
                (known if is_known else left).append(one)
            stored.take_out(tx, which, known)
            retry_at = None if left else stored.next_retry(tx, which, below)
            return left, len(found) == LOOKED_AT_ONCE, self._sync.budget.bucket(tx, "getOrder"), retry_at

        while True:
            left, more, bucket, retry_at = self._sync.store.commit(look)
            if left or not more:
                break
        if not left:
            return (), 0, retry_at
        many = min(history.gets_now(bucket), len(left))
        return left, many, history.gets_at(bucket, len(left))

    def _fetch(self, backfill: Backfill, one: HistoryId) -> datetime | None:
        """Fetch one order and store it. Returns when to go on, if not at once."""
        sync = self._sync
        included = sync.source.marketplaces[backfill.marketplace_id].included_data
        try:
            fetched = sync.connector.get(one.order_id, included, self._allowance)
        except Deferred as deferred:
            return deferred.until
        except CredentialsRefused:
            raise
        except ConnectorError as error:
            return self._put_off(backfill, one, error)
        return self._store(backfill, one, fetched)

    def _store(
        self, backfill: Backfill, one: HistoryId, fetched: AmazonOrder | UnreadableOrder
    ) -> datetime | None:
        def store(tx: Transaction) -> bool:
            apply_single(tx, self._sync.source.rules, fetched)
            stored.take_out(tx, backfill.backfill_id, [one])
            runs.add_order(tx, self._sync.run_number)
            return stored.count_and_renew(tx, backfill.backfill_id, self._sync.owner, fetched=1)

        ours = self._sync.store.commit(store)
        self._sync.fetched_by_id += 1
        return None if ours else self._sync.store.now()

    def _put_off(self, backfill: Backfill, one: HistoryId, error: ConnectorError) -> datetime | None:
        """An order that Amazon does not know is asked for again later, and given up the third time.

        Anything else that goes wrong is no fault of the order: it ends this run's fetching.
        """
        unknown = isinstance(error, RequestRefused) and not isinstance(error, AccessRefused)

        def note(tx: Transaction) -> tuple[datetime, bool]:
            if not stored.holds(tx, backfill.backfill_id, self._sync.owner):
                raise _TakenOver
            tried = replace(one, attempts=one.attempts + 1)
            tried = replace(tried, retry_at=history.next_attempt(tried.attempts, tx.now))
            if unknown and tried.attempts >= history.ATTEMPTS:
                stored.take_out(tx, backfill.backfill_id, [one])
                for part in stored.load_parts(tx, backfill.backfill_id):
                    if part.lower <= one.created_at < part.upper:
                        stored.save_part(tx, replace(part, lost=part.lost + 1, last_error=str(error)))
            else:
                stored.postpone(tx, backfill.backfill_id, tried)
            ours = stored.count_and_renew(tx, backfill.backfill_id, self._sync.owner)
            return tried.retry_at or tx.now, ours

        retry_at, ours = self._sync.store.commit(note)
        return None if unknown and ours else retry_at

    def _settle(self, backfill: Backfill) -> Backfill | None:
        """Claim what ids have finished. Returns the backfill as it is then, None when it is over."""
        which = backfill.backfill_id

        def settle(tx: Transaction) -> Backfill | None:
            ledger.load_source(tx, self._sync.source.key)  # whoever plans windows waits for this
            found = ledger.lock_backfill(tx, which)
            if found is None or found.state not in ("planned", "running"):
                return None
            parts = stored.load_parts(tx, which)
            position, passed = history.settled(
                found,
                parts,
                lambda part: (
                    stored.oldest_left(tx, which, min(found.position, part.upper), part.lower) is not None
                ),
            )
            for part, seen in passed:
                stored.save_part(tx, replace(part, state="done"))
                if not part.lost:
                    ledger.cover(tx, found.account, [found.marketplace_id], "created", seen)
            changed = replace(found, position=position)
            through = position <= found.lower and not ledger.has_pending(tx, which)
            if through and not stored.has_more(tx, changed, history.is_awaited):
                changed = replace(changed, state="done", finished_at=tx.now)
            if changed != found:
                ledger.save_backfill(tx, changed)
            return changed if changed.state != "done" else None

        return self._sync.store.commit(settle)


def _chunks(ids: Sequence[HistoryId], size: int) -> Iterator[list[HistoryId]]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, size)):
        yield chunk
