"""Fetch individual orders by ID, spending only the getOrder tokens above a reserve.

These are orders in quarantine that are due, and orders that should have changed long ago.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.base import OrderConnector
from connectors.errors import ConnectorError, Deferred, OrderNotFound
from connectors.orders import UnreadableOrder
from poller.ingest.apply import apply_single
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.refetch import FIRST_REFETCH, next_refetch
from poller.ingest.sources import Source
from poller.matching.statuses import PENDING, UNDER_WAY
from store import ledger, orders, quarantine
from store.engine import Store, Transaction
from store.progress import SourceProgress

REFRESH_EVERY = timedelta(hours=1)
ORDERS_PER_REFRESH = 20
REFRESH_LEAVES = 10.0
"""Tokens that refetching leaves in getOrder's bucket."""


def refresh_is_due(progress: SourceProgress, now: datetime) -> bool:
    """Return True if it is time to refetch orders that should have changed."""
    return progress.refreshed_at is None or abs(now - progress.refreshed_at) >= REFRESH_EVERY


@dataclass(frozen=True, slots=True)
class SingleOrders:
    """Fetches orders of one source by their ids."""

    store: Store
    connector: OrderConnector
    source: Source
    budget: AccountBudget
    stopping: Callable[[], bool]

    def fetch(self, order_id: str, included_data: tuple[str, ...]) -> UnreadableOrder | None:
        """Fetch one order and store it. Return it if it could not be read.

        Raises the connector's errors.
        """
        account = self.source.account
        with self.store.begin() as tx:
            # Noted first, so that an order that always fails does not hold up the others.
            orders.mark_refetch_tried(tx, account, order_id)
        fetched = self.connector.get(order_id, included_data, Allowance(self.budget))

        def store(tx: Transaction) -> UnreadableOrder | None:
            unreadable = apply_single(tx, self.source.rules, fetched)
            if unreadable is None:
                orders.mark_refetched(tx, account, order_id)
            return unreadable

        return self.store.commit(store)

    def refetch_quarantined(self) -> None:
        """Refetch the orders in quarantine that are due."""
        with self.store.begin() as tx:
            # Put off first, so that no other source or process requests them, too.
            later = tx.now + FIRST_REFETCH
            taken = [
                replace(entry, next_attempt_at=later)
                for entry in quarantine.due(tx, self.source.account, limit=self._idle(tx))
                if quarantine.schedule(tx, entry, later, refetches=entry.refetches)
            ]
        for entry in taken:
            if self.stopping():
                return
            is_answer = True
            try:
                self.fetch(entry.order_id, self._datasets(entry.marketplace_id))
            except Deferred:
                return
            except ConnectorError as error:
                is_answer = isinstance(error, OrderNotFound)
            refetches = entry.refetches + 1 if is_answer else entry.refetches
            with self.store.begin() as tx:
                # An order that Amazon does not answer for comes after the others, not first for ever.
                again_at = next_refetch(tx.now, refetches) if is_answer else tx.now + 1.5 * FIRST_REFETCH
                quarantine.schedule(tx, entry, again_at, refetches=refetches)
            if not is_answer:
                return

    def refresh_stale(self) -> None:
        """Refetch orders pending for a week or past their ship-by date, at most once an hour."""
        with self.store.begin(durable=False) as tx:
            progress = ledger.load_source(tx, self.source.key)
            if progress is None or not refresh_is_due(progress, tx.now):
                return
            ledger.save_source(tx, replace(progress, refreshed_at=tx.now))
            stale = orders.stale(
                tx,
                self.source.account,
                sorted(self.source.marketplaces),
                limit=self._idle(tx),
                pending=PENDING,
                under_way=UNDER_WAY,
            )
        for order_id, marketplace_id in stale:
            if self.stopping():
                return
            try:
                self.fetch(order_id, self.source.marketplaces[marketplace_id].included_data)
            except OrderNotFound:
                continue
            except ConnectorError:
                return

    def _idle(self, tx: Transaction) -> int:
        """Return how many orders may be fetched now."""
        bucket = self.budget.bucket(tx, "getOrder")
        return max(0, min(ORDERS_PER_REFRESH, int(bucket.tokens - REFRESH_LEAVES)))

    def _datasets(self, marketplace_id: str | None) -> tuple[str, ...]:
        """Return the datasets of an order's marketplace; of an unknown one, those of all the account's."""
        by_marketplace = self.source.rules.by_marketplace
        rules = by_marketplace.get(marketplace_id or "")
        if rules is not None:
            return tuple(sorted(rules.included_data))
        return tuple(sorted({word for each in by_marketplace.values() for word in each.included_data}))
