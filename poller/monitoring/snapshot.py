"""Everything that is stored about all sources, read with a handful of statements, however many there are.

One source at a time took fourteen statements each, four fifths of the work of a scheduler with many idle
sources. Tables with a few rows per account are read whole; of tables that grow with time, only what is
unfinished and what is newest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from connectors.base import Operation
from poller.actions.arguments import place_of
from poller.ingest.accounts import Account, Setup
from poller.ingest.budget import stored_bucket
from poller.ingest.sources import Source
from poller.matching.buyer_visibility import MEAN_PERIOD, Seen
from store import budgets, ledger, runs, verifications
from store.budgets import BudgetKey
from store.engine import Transaction
from store.progress import Backfill, Interval, Look, MarketplaceProgress, SourceProgress, Window
from store.runs import Refusal, Run
from store.token_bucket import Bucket
from store.verification_records import Verification

SHOWN_BUDGETS: tuple[Operation, ...] = ("searchOrders", "getOrder")


@dataclass(frozen=True, slots=True)
class Known:
    """By source, by account, or by account and marketplace; without an entry where nothing is stored."""

    sources: Mapping[str, SourceProgress]
    marketplaces: Mapping[str, Mapping[str, MarketplaceProgress]]
    coverage: Mapping[tuple[str, str, Look], Sequence[Interval]]
    pending: Mapping[str, Sequence[Window]]
    backfills: Mapping[str, Sequence[Backfill]]
    """Unfinished ones of polled marketplaces, by source."""
    verifications: Mapping[tuple[str, str], Sequence[Verification]]
    """Those that the status depends on, newest first."""
    runs: Mapping[str, Run]
    """The newest of each source."""
    shown: Mapping[str, Mapping[date, Seen]]
    buckets: Mapping[BudgetKey, Bucket]
    accounts: Mapping[str, Account]
    refusals: Mapping[tuple[str, str], Refusal]

    def bucket(self, tx: Transaction, source: Source, operation: Operation) -> Bucket:
        """Return a source's budget for one operation as of now; a full one before the first request."""
        plans = self.accounts[source.account].plans
        if operation not in SHOWN_BUDGETS:
            return stored_bucket(tx, source.application, source.account, operation, plans)
        bucket = self.buckets.get(BudgetKey(source.application, source.account, operation))
        plan = plans[operation]
        return bucket or budgets.full(plan.rate, plan.burst, tx.now)

    def refusal(self, source: Source) -> Refusal | None:
        """Return the refusal in force, or None; one of credentials that were replaced is over."""
        names = {"application": source.secret, **dict.fromkeys(runs.OF_ACCOUNT, source.account)}
        refusals = {k: self.refusals[k, name] for k, name in names.items() if (k, name) in self.refusals}
        return runs.standing(refusals, source.credential)


def known_of(tx: Transaction, setup: Setup) -> Known:
    """Read what is stored about the sources that may run."""
    sources = setup.sources
    return Known(
        sources=ledger.all_sources(tx),
        marketplaces=ledger.all_marketplaces(tx),
        coverage=ledger.all_coverage(tx, "first", "created"),
        pending=ledger.all_pending(tx, sources),
        backfills=_backfills(tx, setup.accounts),
        verifications=verifications.for_status(tx, setup.accounts),
        runs=runs.latest_of_each(tx, sources),
        shown=buyers_shown(tx, sources),
        buckets=budgets.all_of(tx, SHOWN_BUDGETS),
        accounts=setup.accounts,
        refusals=runs.all_in_force(tx),
    )


def buyers_shown(tx: Transaction, sources: Collection[str]) -> dict[str, dict[date, Seen]]:
    """Return how many orders showed their buyer, by source and day, as far back as a mean needs."""
    today = tx.now.date()
    counts = runs.buyers_by_day(tx, sources, today - MEAN_PERIOD - timedelta(days=1), today)
    return {source: {day: Seen(*seen) for day, seen in days.items()} for source, days in counts.items()}


def _backfills(tx: Transaction, accounts: Mapping[str, Account]) -> Mapping[str, Sequence[Backfill]]:
    by_source: dict[str, list[Backfill]] = {}
    for backfill in ledger.unfinished_backfills(tx):
        place = place_of(accounts, backfill)
        if place is not None:
            by_source.setdefault(place.source.key, []).append(backfill)
    return by_source
