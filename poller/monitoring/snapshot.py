"""What is stored about all sources of a service, read with a handful of statements however many they are.

Asked for each source anew, it was fourteen statements a source, and four fifths of what a scheduler of many
idle sources did. Tables of a few rows for each account are read whole; of those that grow with time, what is
not finished and what is newest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from connectors.base import Operation
from poller.actions.places import place_of
from poller.ingest.accounts import Account, Setup
from poller.ingest.budget import stored_bucket
from poller.ingest.sources import Source
from poller.matching.buyer_visibility import LOOKED_BACK, Seen
from store import budgets, ledger, runs, verifications
from store.bucket import Bucket
from store.budgets import BudgetKey
from store.engine import Transaction
from store.findings import Verification
from store.progress import Backfill, Interval, Look, MarketplaceProgress, SourceProgress, Window
from store.runs import Refusal, Run

SHOWN_BUDGETS: tuple[Operation, ...] = ("searchOrders", "getOrder")


@dataclass(frozen=True, slots=True)
class Known:
    """By source, by account, or by account and marketplace; where nothing is stored, nothing is here."""

    sources: Mapping[str, SourceProgress]
    marketplaces: Mapping[str, Mapping[str, MarketplaceProgress]]
    coverage: Mapping[tuple[str, str, Look], Sequence[Interval]]
    pending: Mapping[str, Sequence[Window]]
    backfills: Mapping[str, Sequence[Backfill]]
    """Those of marketplaces that are polled and that are neither done nor cancelled, by source."""
    proofs: Mapping[tuple[str, str], Sequence[Verification]]
    """As far as they tell how things stand, newest first."""
    runs: Mapping[str, Run]
    """The newest of each source."""
    shown: Mapping[str, Mapping[date, Seen]]
    buckets: Mapping[BudgetKey, Bucket]
    accounts: Mapping[str, Account]
    refusals: Mapping[tuple[str, str], Refusal]

    def bucket(self, tx: Transaction, source: Source, operation: Operation) -> Bucket:
        """A source's stored budget for one operation, as of now; a full one before the first request."""
        plans = self.accounts[source.account].plans
        if operation not in SHOWN_BUDGETS:
            return stored_bucket(tx, source.application, source.account, operation, plans)
        found = self.buckets.get(BudgetKey(source.application, source.account, operation))
        plan = plans[operation]
        return found or budgets.full(plan.rate, plan.burst, tx.now)

    def refusal(self, source: Source) -> Refusal | None:
        """The refusal in force; one about credentials that have been replaced since is over."""
        names = {"account": source.account, "application": source.secret}
        mine = {k: self.refusals[k, name] for k, name in names.items() if (k, name) in self.refusals}
        return runs.standing(mine, source.credential)


def known_of(tx: Transaction, setup: Setup) -> Known:
    """All that is stored about the sources that may run."""
    sources = setup.sources
    return Known(
        sources=ledger.all_sources(tx),
        marketplaces=ledger.all_marketplaces(tx),
        coverage=ledger.all_coverage(tx, "first", "created"),
        pending=ledger.all_pending(tx, sources),
        backfills=_backfills(tx, setup.accounts),
        proofs=verifications.telling(tx, setup.accounts),
        runs=runs.latest_of_each(tx, sources),
        shown=buyers_shown(tx, sources),
        buckets=budgets.all_of(tx, SHOWN_BUDGETS),
        accounts=setup.accounts,
        refusals=runs.all_in_force(tx),
    )


def buyers_shown(tx: Transaction, sources: Collection[str]) -> dict[str, dict[date, Seen]]:
    """Return how many orders showed their buyer, by source and day, as far back as a mean needs."""
    today = tx.now.date()
    counts = runs.buyers_by_day(tx, sources, today - LOOKED_BACK - timedelta(days=1), today)
    return {source: {day: Seen(*seen) for day, seen in days.items()} for source, days in counts.items()}


def _backfills(tx: Transaction, accounts: Mapping[str, Account]) -> Mapping[str, Sequence[Backfill]]:
    found: dict[str, list[Backfill]] = {}
    for backfill in ledger.unfinished_backfills(tx):
        place = place_of(accounts, backfill)
        if place is not None:
            found.setdefault(place.source.key, []).append(backfill)
    return found
