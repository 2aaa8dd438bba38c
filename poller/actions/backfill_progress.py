"""How far a backfill has got, and when it will be ready."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.base import Operation
from connectors.marketplaces import BY_ID
from poller.actions.arguments import Place, place_of
from poller.backfill import estimates
from poller.backfill.estimates import Budgets
from poller.backfill.history import is_awaited, share_done
from poller.ingest.accounts import Setup
from poller.ingest.budget import stored_bucket
from poller.sync.decide import BACKFILL_FIRST_SPAN
from store import backfill_reports, ledger
from store.engine import Transaction
from store.progress import Backfill, Interval, ReportPart
from store.token_bucket import Bucket

ACTIVE = ("planned", "running")


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a backfill.

    ``share``: of its range that has been read, 1 only if it is done. ``left``: orders. ``waits``: what it
    waits for, in words. ``left`` and ``eta`` are None if they cannot be estimated.
    """

    backfill: Backfill
    marketplace: str
    windows_total: int
    share: float
    left: int | None
    eta: datetime | None
    waits: str | None = None


def budgets_of(tx: Transaction, place: Place, busy: float) -> Budgets:
    """Return the account's budgets as of now; ``busy``: seconds between live polls beside a backfill."""

    def bucket(operation: Operation) -> Bucket:
        return stored_bucket(tx, place.source.application, place.name, operation, place.account.plans)

    return Budgets(bucket("searchOrders"), bucket("getOrder"), busy)


def expected_in(tx: Transaction, account: str, marketplace_id: str, interval: Interval) -> int | None:
    """Estimate the orders in an interval from the stored ones; None if too few are stored."""
    read = ledger.read_coverage(tx, account, marketplace_id, "created")
    progress = ledger.load_marketplaces(tx, account).get(marketplace_id)
    if progress is not None and progress.position > progress.live_from:
        read = [*read, Interval(max([progress.live_from, *(i.upper for i in read)]), progress.position)]
    known = {
        i: backfill_reports.count_orders(tx, account, marketplace_id, i.lower, i.upper)
        for i in read
        if i.upper > i.lower
    }
    return estimates.expected_orders(known, interval)


def standing_of(tx: Transaction, setup: Setup, backfill: Backfill) -> Standing:
    """Return the progress of a backfill."""
    place = place_of(setup.accounts, backfill)
    marketplace = BY_ID.get(backfill.marketplace_id)
    code = marketplace.code if marketplace is not None else backfill.marketplace_id
    if backfill.state == "done":
        return Standing(backfill, code, backfill.windows_done, 1.0, 0, None)
    parts = () if backfill.way == "search" else backfill_reports.load_parts(tx, backfill.backfill_id)
    unread = ledger.pending_of(tx, backfill.backfill_id)

    def oldest(part: ReportPart, below: datetime) -> datetime | None:
        return backfill_reports.oldest_left(tx, backfill.backfill_id, below, part.lower, untried=True)

    share = share_done(backfill, parts, unread, oldest)
    span = (backfill.upper - backfill.lower) * (1 - share)
    left: int | None = None
    eta: datetime | None = None
    waits: str | None = None
    if place is not None:
        left = _orders_left(tx, backfill, span)
        if backfill.state in ACTIVE:
            making = [p for p in parts if p.state == "asked" and is_awaited(backfill, p)]
            waits = f"Amazon is making its report{'s' if len(making) > 1 else ''}" if making else None
            eta = _ready_at(
                tx, backfill, left, span, parts, budgets_of(tx, place, setup.settings.poll_seconds_busy)
            )
    width = timedelta(seconds=backfill.span_seconds) if backfill.span_seconds else BACKFILL_FIRST_SPAN
    ahead = math.ceil(max(timedelta(), backfill.position - backfill.lower) / width)
    total = backfill.windows_done + len(unread) + (0 if backfill.state == "cancelled" else ahead)
    return Standing(backfill, code, total, share, left, eta, waits)


def _ready_at(
    tx: Transaction,
    backfill: Backfill,
    left: int | None,
    span: timedelta,
    parts: Sequence[ReportPart],
    budgets: Budgets,
) -> datetime | None:
    """Estimate when a backfill will be ready; None if it cannot be, as while a report is late."""
    if left is None:
        return None
    if backfill.way == "search":
        cost = estimates.by_search(left, span, budgets)
    else:
        takes = estimates.REPORT_TAKES
        awaited = [p for p in parts if is_awaited(backfill, p)] if backfill.way == "report" else []
        if awaited:
            takes -= tx.now - min(p.asked_at or tx.now for p in awaited)
            if takes <= timedelta():
                return None
        elif parts:
            takes = timedelta()
        cost = estimates.by_report(left, span, budgets, takes)
    # All backfills of an account share its budget.
    others = ledger.wanted_backfills(tx, backfill.account)
    return None if cost.time is None else tx.now + cost.time * max(1, len(others))


def _orders_left(tx: Transaction, backfill: Backfill, span: timedelta) -> int | None:
    """Count the ids that are left; without any, estimate from the orders stored around."""
    ids = backfill_reports.count_ids(tx, backfill.backfill_id, backfill.position)
    if ids:
        return ids
    unread = Interval(backfill.lower, backfill.lower + span)
    return expected_in(tx, backfill.account, backfill.marketplace_id, unread)
