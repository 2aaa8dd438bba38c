"""The ids of a backfill: fetch their orders from the oldest, and claim as covered what is finished.

An order is stored and its id deleted in one transaction: a crash at any point repeats at most one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from connectors.errors import (
    AccessRefused,
    ConnectorError,
    CredentialsRefused,
    Deferred,
    RequestRefused,
)
from connectors.orders import AmazonOrder, UnreadableOrder
from poller.backfill import history
from poller.backfill.context import Context, TakenOver
from poller.ingest import reports
from poller.ingest.apply import apply_single
from store import backfill_reports, ledger, runs
from store.engine import Transaction
from store.progress import Backfill, HistoryId
from store.token_bucket import Bucket

IDS_PER_LOOK = 500


def fetch_below(tx: Transaction, backfill: Backfill) -> datetime | None:
    """Return the time below which ids are fetched; None if there is no bound.

    Ids above the position belong to searching until it is through; then those that it did not show are
    fetched, too.
    """
    through = backfill.position <= backfill.lower and not ledger.has_pending(tx, backfill.backfill_id)
    return None if through else backfill.position


@dataclass
class IdFetcher:
    """Fetches orders of claimed backfills by their ids. Methods raise TakenOver if the claim is lost.

    ``fetched`` counts the orders stored.
    """

    context: Context
    fetched: int = 0

    def carry_on(self, backfill: Backfill) -> datetime | None:
        """Fetch what the budget allows. Return when there is more to do, None if no id is left."""
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
        with self.context.store.read() as tx:
            return fetch_below(tx, backfill)

    def _fetch_some(self, backfill: Backfill, below: datetime | None) -> datetime | None:
        while not self.context.stopping():
            ids, later = self._next_ids(backfill, below)
            if not ids:
                return later
            for entry in ids:
                later = self._fetch(backfill, entry)
                if later is not None:
                    return later
        return self.context.store.now()

    def _next_ids(
        self, backfill: Backfill, below: datetime | None
    ) -> tuple[Sequence[HistoryId], datetime | None]:
        """Return the oldest ids to fetch now, as many as there are tokens, and when there will be more."""
        number = backfill.backfill_id

        def look(tx: Transaction) -> tuple[list[HistoryId], bool, Bucket, datetime | None]:
            oldest = backfill_reports.oldest_ids(tx, backfill.account, number, below, IDS_PER_LOOK)
            lacking: list[HistoryId] = []
            stored: list[HistoryId] = []
            for entry, stored_at in oldest:
                is_stored = stored_at is not None and reports.has_version(stored_at, entry.last_updated_at)
                (stored if is_stored else lacking).append(entry)
            backfill_reports.take_out(tx, number, stored)
            retry_at = None if lacking else backfill_reports.next_retry(tx, number, below)
            bucket = self.context.budget.bucket(tx, "getOrder")
            return lacking, len(oldest) == IDS_PER_LOOK, bucket, retry_at

        while True:
            lacking, more, bucket, retry_at = self.context.store.commit(look)
            if lacking or not more:
                break
        if not lacking:
            return (), retry_at
        return lacking[: history.gets_now(bucket)], history.gets_at(bucket, len(lacking))

    def _fetch(self, backfill: Backfill, entry: HistoryId) -> datetime | None:
        """Fetch one order and store it. Return when to go on, None for at once."""
        context = self.context
        included_data = context.source.marketplaces[backfill.marketplace_id].included_data
        try:
            fetched = context.connector.get(entry.order_id, included_data, context.allowance)
        except Deferred as deferred:
            return deferred.until
        except CredentialsRefused:
            raise
        except ConnectorError as error:
            return self._put_off(backfill, entry, error)
        return self._store(backfill, entry, fetched)

    def _store(
        self, backfill: Backfill, entry: HistoryId, fetched: AmazonOrder | UnreadableOrder
    ) -> datetime | None:
        context = self.context

        def store(tx: Transaction) -> bool:
            apply_single(tx, context.source.rules, fetched)
            backfill_reports.take_out(tx, backfill.backfill_id, [entry])
            runs.add_order(tx, context.run_number)
            return backfill_reports.count_and_renew(tx, backfill.backfill_id, context.owner, fetched=1)

        held = context.store.commit(store)
        self.fetched += 1
        return None if held else context.store.now()

    def _put_off(self, backfill: Backfill, entry: HistoryId, error: ConnectorError) -> datetime | None:
        """Retry an order that Amazon does not know later; after the third time, give it up.

        Any other error is not the order's, and ends this run's fetching.
        """
        unknown = isinstance(error, RequestRefused) and not isinstance(error, AccessRefused)
        number, owner = backfill.backfill_id, self.context.owner

        def note(tx: Transaction) -> tuple[datetime, bool]:
            if not backfill_reports.holds(tx, number, owner):
                raise TakenOver
            tried = replace(entry, attempts=entry.attempts + 1)
            tried = replace(tried, retry_at=history.next_attempt(tried.attempts, tx.now))
            if unknown and tried.attempts >= history.FETCH_ATTEMPTS:
                backfill_reports.take_out(tx, number, [entry])
                for part in backfill_reports.load_parts(tx, number):
                    if part.lower <= entry.created_at < part.upper:
                        lost = replace(part, lost=part.lost + 1, last_error=str(error))
                        backfill_reports.save_part(tx, lost)
            else:
                backfill_reports.postpone(tx, number, tried)
            held = backfill_reports.count_and_renew(tx, number, owner)
            return tried.retry_at or tx.now, held

        retry_at, held = self.context.store.commit(note)
        return None if unknown and held else retry_at

    def _settle(self, backfill: Backfill) -> Backfill | None:
        """Claim coverage of the parts that ids have finished. Return the changed backfill, None when over."""
        number = backfill.backfill_id

        def settle(tx: Transaction) -> Backfill | None:
            ledger.load_source(tx, self.context.source.key)  # a process that plans windows waits for this
            before = ledger.lock_backfill(tx, number)
            if before is None or before.state not in ("planned", "running"):
                return None
            position, passed = history.settled(
                before,
                backfill_reports.load_parts(tx, number),
                lambda part: (
                    backfill_reports.oldest_left(tx, number, min(before.position, part.upper), part.lower)
                    is not None
                ),
            )
            for part, seen in passed:
                backfill_reports.save_part(tx, replace(part, state="done"))
                if not part.lost:
                    ledger.cover(tx, before.account, [before.marketplace_id], "created", seen)
            after = replace(before, position=position)
            through = position <= before.lower and not ledger.has_pending(tx, number)
            if through and not backfill_reports.has_more(tx, after, history.is_awaited):
                after = replace(after, state="done", finished_at=tx.now)
            if after != before:
                ledger.save_backfill(tx, after)
            return after if after.state != "done" else None

        return self.context.store.commit(settle)
