"""The reports of a backfill: request them, wait for them, store the ids that they list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from connectors.base import ReportQuery
from connectors.errors import (
    ConnectorError,
    CredentialsRefused,
    Deferred,
    ReportUnreadable,
    RequestRefused,
)
from connectors.orders import ListedOrder
from poller.backfill import history
from poller.backfill.context import Context, TakenOver
from poller.ingest import reports
from poller.ingest.reports import ReportForgotten
from store import backfill_reports
from store.engine import Transaction
from store.progress import Backfill, HistoryId, ReportPart

IDS_PER_TRANSACTION = 5_000


@dataclass(frozen=True, slots=True)
class ReportReader:
    """Carries the reports of claimed backfills forward. Methods raise TakenOver if the claim is lost."""

    context: Context

    def carry_on(self, backfill: Backfill) -> datetime | None:
        """Take every report that is due one step further. Return when the next one is due, if any is."""
        times: list[datetime] = []
        exhausted: set[str] = set()
        for part in self._parts(backfill):
            if not history.is_awaited(backfill, part):
                continue
            if part.state in exhausted or self.context.stopping():
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

    def _parts(self, backfill: Backfill) -> tuple[ReportPart, ...]:
        """Return the stored parts of a backfill; cut it into parts first if it has none."""
        with self.context.store.read() as tx:
            parts = backfill_reports.load_parts(tx, backfill.backfill_id)
        if parts or backfill.position <= backfill.lower:
            return parts
        parts = history.parts_of(backfill, self.context.connector.amazon_now())
        with self.context.store.begin() as tx:
            if not backfill_reports.claim(tx, backfill.backfill_id, self.context.owner):
                raise TakenOver
            stored = backfill_reports.load_parts(tx, backfill.backfill_id)
            if not stored:
                backfill_reports.enter_parts(tx, parts)
        return stored or parts

    def _advance(self, backfill: Backfill, part: ReportPart) -> ReportPart:
        """Take one report one step further. Raises Deferred."""
        now = self.context.store.now()
        if part.look_at is not None and part.look_at > now:
            return part
        if reports.is_overdue(part.asked_at, now):
            return self._save(part, history.searched(part, "the report was not made in time"))
        try:
            if part.state == "wanted":
                return self._request(backfill, part, now)
            return self._read(backfill, part, now)
        except (Deferred, CredentialsRefused):
            raise
        except ReportForgotten as error:
            again = replace(part, state="wanted", report_id=None, asked_at=None, looks=0)
            return self._save(part, history.failed(again, str(error), now))
        except (RequestRefused, ReportUnreadable) as error:
            return self._save(part, history.searched(part, str(error)))
        except ConnectorError as error:
            return self._save(part, history.failed(part, str(error), now))

    def _request(self, backfill: Backfill, part: ReportPart, now: datetime) -> ReportPart:
        query = ReportQuery(part.lower, part.upper, (backfill.marketplace_id,))
        report_id = self.context.connector.request_report(query, self.context.allowance)
        look_at = reports.next_check(part.looks, now)
        requested = replace(part, state="asked", report_id=report_id, asked_at=now, look_at=look_at)
        return self._save(part, requested, requests=1)

    def _read(self, backfill: Backfill, part: ReportPart, now: datetime) -> ReportPart:
        context = self.context
        share = reports.read(
            context.connector, part.report_id or "", backfill.marketplace_id, context.allowance
        )
        if share is None:
            checked = replace(part, looks=part.looks + 1, look_at=reports.next_check(part.looks, now))
            return self._save(part, checked, requests=1)
        if share.first_unreadable is not None:  # which orders it hides is unknown
            return self._save(part, history.searched(part, share.first_unreadable), requests=2)
        return self._enter(backfill, part, share.orders)

    def _enter(self, backfill: Backfill, part: ReportPart, listed: Sequence[ListedOrder]) -> ReportPart:
        """Store a report's ids; those outside of the part belong to its neighbours."""
        ids = [
            HistoryId(order.created_at, order.order_id, order.last_updated_at)
            for order in listed
            if part.lower <= order.created_at < part.upper
        ]
        if not ids:
            return self._save(part, history.searched(part, "the report lists no order"), requests=2)
        ids.sort(key=lambda entry: (entry.created_at, entry.order_id))
        for chunk in _chunks(ids, IDS_PER_TRANSACTION):
            with self.context.store.begin() as tx:
                self._check_held(tx, part)
                backfill_reports.enter_ids(tx, backfill.backfill_id, chunk)
        ready = replace(part, state="ready", look_at=None, orders=len(ids))
        return self._save(part, ready, requests=2)

    def _check_held(self, tx: Transaction, part: ReportPart) -> None:
        """Raise TakenOver if another worker holds the ids, or held them and has advanced this part."""
        if not backfill_reports.holds(tx, part.backfill_id, self.context.owner):
            raise TakenOver
        if part not in backfill_reports.load_parts(tx, part.backfill_id):
            raise TakenOver

    def _save(self, before: ReportPart, part: ReportPart, requests: int = 0) -> ReportPart:
        """Store a part's next state, unless it is no longer as it was ``before``."""
        with self.context.store.begin() as tx:
            self._check_held(tx, before)
            backfill_reports.save_part(tx, part)
            held = backfill_reports.count_and_renew(
                tx, part.backfill_id, self.context.owner, requests=requests
            )
        if not held:
            raise TakenOver
        return part


def _chunks(ids: Sequence[HistoryId], size: int) -> Iterator[list[HistoryId]]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, size)):
        yield chunk
