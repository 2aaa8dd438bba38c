"""Backfills as people see them: which there are, how far they have got, how long they will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.base import Operation
from connectors.marketplaces import BY_ID
from poller.actions.places import Place, place_of
from poller.backfill import estimates
from poller.backfill.estimates import Budgets
from poller.backfill.history import is_awaited, share_done
from poller.ingest.accounts import Setup
from poller.ingest.budget import stored_bucket
from poller.sync.windows import BACKFILL_FIRST_SPAN, signpost
from store import backfill_reports, ledger
from store.bucket import Bucket
from store.engine import Transaction
from store.progress import Backfill, Interval, ReportPart

ACTIVE = ("planned", "running")


@dataclass(frozen=True, slots=True)
class Standing:
    """A backfill with what can be told about it.

    ``share``: of its stretch that is behind it, 1 only when it is done. ``left``: orders. ``waits``: what is
    being waited for, as the rest of a sentence. ``eta``: None when nobody can tell.
    """

    backfill: Backfill
    marketplace: str
    windows_total: int
    share: float
    left: int | None
    eta: datetime | None
    waits: str | None = None


def budgets_of(tx: Transaction, place: Place, busy: float) -> Budgets:
    """The account's stored budget as it is now."""

    def bucket(operation: Operation) -> Bucket:
        return stored_bucket(tx, place.source.application, place.name, operation, place.account.plans)

    return Budgets(bucket("searchOrders"), bucket("getOrder"), busy)


def expected_in(tx: Transaction, account: str, marketplace_id: str, stretch: Interval) -> int | None:
    """How many orders a stretch may hold, judged by those that are stored; None when nobody can tell."""
    seen = ledger.read_coverage(tx, account, marketplace_id, "created")
    progress = ledger.load_marketplaces(tx, account).get(marketplace_id)
    if progress is not None and progress.position > progress.live_from:
        seen = [*seen, Interval(max([progress.live_from, *(i.upper for i in seen)]), progress.position)]
    stretches = [i for i in seen if i.upper > i.lower]
    known = {
        i: backfill_reports.count_orders(tx, account, marketplace_id, i.lower, i.upper) for i in stretches
    }
    return estimates.expected_orders(known, stretch)


def standing_of(tx: Transaction, setup: Setup, backfill: Backfill) -> Standing:
    """How a backfill stands."""
    place = place_of(setup.accounts, backfill)
    known = BY_ID.get(backfill.marketplace_id)
    code = known.code if known is not None else backfill.marketplace_id
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
    """When a backfill will be ready; None when nobody can tell, as of a report that takes long."""
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
    # Several share the budget.
    others = ledger.wanted_backfills(tx, backfill.account)
    return None if cost.time is None else tx.now + cost.time * max(1, len(others))


def _orders_left(tx: Transaction, backfill: Backfill, span: timedelta) -> int | None:
    """Ids that are known are counted; of the rest the stored orders of the neighbourhood tell."""
    ids = backfill_reports.count_ids(tx, backfill.backfill_id, backfill.position)
    if ids:
        return ids
    stretch = Interval(backfill.lower, backfill.lower + span)
    return expected_in(tx, backfill.account, backfill.marketplace_id, stretch)


def latest_end(now: datetime) -> datetime:
    """The youngest end that a stretch of history can have."""
    return signpost(now)
