"""What the reports and the ids of a backfill share during one run of their source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connectors.base import Operation, OrderConnector
from poller.backfill import history
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.sources import Source
from store.engine import Store

RESERVES: dict[Operation, float] = {
    "getOrder": history.GET_LEAVES,
    "createReport": history.REPORTS_LEAVE,
    "getReport": history.REPORTS_LEAVE,
    "getReportDocument": history.REPORTS_LEAVE,
}
"""Tokens that backfills leave in the buckets of these operations."""


class TakenOver(Exception):
    """Another worker claimed this backfill, or it was paused or cancelled: stop."""


@dataclass(frozen=True, slots=True)
class Context:
    """The run that a backfill is part of. ``owner`` claims the ids of backfills."""

    store: Store
    connector: OrderConnector
    source: Source
    budget: AccountBudget
    owner: str
    run_number: int
    stopping: Callable[[], bool]

    @property
    def allowance(self) -> Allowance:
        """Return what a request for a backfill may spend."""
        plans = self.budget.plans
        return Allowance(
            self.budget,
            {
                operation: history.reserve(kept, plans[operation].burst)
                for operation, kept in RESERVES.items()
            },
        )
