"""How far a backfill has got, and when it will be ready."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.settings import Settings
from connectors.base import Operation
from connectors.marketplaces import BY_ID
from poller.actions.arguments import Place, place_of
from poller.backfill import estimates
from poller.backfill.estimates import Budgets, Certainty, Expected
from poller.backfill.history import is_awaited, share_done
from poller.ingest.accounts import Setup
from poller.ingest.budget import stored_bucket
from poller.sync import decide
from store import backfill_reports, ledger
from store.engine import Transaction
from store.progress import Backfill, Interval, ReportPart, gaps, joined
from store.token_bucket import Bucket

ACTIVE = ("planned", "running")


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a backfill.

    ``share``: of its range that has been read, 1 only if it is done. ``left``: orders. ``waits``: what it
    waits for, in words. ``left`` and ``eta`` are None if they cannot be estimated. ``sure``: how sure
    ``left`` is, on which ``eta`` rests.
    """

    backfill: Backfill
    marketplace: str
    windows_total: int
    share: float
    left: int | None
    eta: datetime | None
    waits: str | None = None
    sure: Certainty = "exact"


def budgets_of(tx: Transaction, place: Place, settings: Settings) -> Budgets:
    """Return the account's budgets as of now, and what comes before a backfill."""

    def bucket(operation: Operation) -> Bucket:
        return stored_bucket(tx, place.source.application, place.name, operation, place.account.plans)

    progress = ledger.load_source(tx, place.source.key)
    changes = 0.0 if progress is None else progress.changes_per_second
    full = decide.LONGEST_LOOK if progress is None else decide.span_of_a_page(progress)
    pace = decide.Pace(settings.poll_seconds, settings.poll_seconds_busy)
    search = bucket("searchOrders")
    polls = min(decide.busy_pace(pace, search), max(pace.alone, full.total_seconds()))
    second_looks = max(1 / decide.SECOND_LOOK_SPAN.total_seconds(), changes / decide.SECOND_LOOK_ORDERS)
    sweeps = second_looks + 1 / decide.SETTLED_SPAN.total_seconds()
    return Budgets(search, bucket("getOrder"), polls, pace.alone, sweeps)


NEARLY_LIVE = timedelta(hours=1)
"""A marketplace that is read up to this long ago counts as read until now."""


def read_ranges(tx: Transaction, account: str, marketplace_id: str) -> list[Interval]:
    """Return the ranges of created time whose orders have been read, as history or live."""
    read = ledger.read_coverage(tx, account, marketplace_id, "created")
    progress = ledger.load_marketplaces(tx, account).get(marketplace_id)
    if progress is not None and progress.position > progress.live_from:
        # An order before a gap may have moved into it.
        first = ledger.read_coverage(tx, account, marketplace_id, "first")
        missing = gaps(first, progress.live_from, progress.position)
        lower = missing[-1].upper if missing else progress.live_from
        upper = tx.now if tx.now - progress.position < NEARLY_LIVE else progress.position
        read.append(Interval(lower, max(lower, upper)))
    return [i for i in joined(read) if i.lower < i.upper]


def expected_in(tx: Transaction, account: str, marketplace_id: str, interval: Interval) -> Expected:
    """Count the orders of an interval where it has been read, and estimate the others."""

    def count(part: Interval) -> int:
        upper = part.upper - timedelta(microseconds=1)  # an order at the bound belongs to what follows
        return backfill_reports.count_orders(tx, account, marketplace_id, part.lower, upper)

    return estimates.expected_orders(read_ranges(tx, account, marketplace_id), interval, count)


def _not_polled(setup: Setup, backfill: Backfill, code: str) -> str:
    """Return why no source reads a backfill's marketplace, and what to do."""
    number = backfill.backfill_id
    account = setup.accounts.get(backfill.account)
    if account is not None and backfill.marketplace_id in account.marketplaces:
        found, remedy = f"{code} is not enabled", "set enabled = true in its file"
    else:
        found, remedy = (
            f"no usable file for marketplace {code}",
            "write or mend it (`order-sync config check`)",
        )
    return f"{found}: {remedy}, or end it with `order-sync backfill cancel {number}`"


def waits_for(tx: Transaction, account: str, marketplace_id: str, code: str) -> str | None:
    """Return why a backfill of a polled marketplace cannot go on, in words; None if it can."""
    progress = ledger.load_marketplaces(tx, account).get(marketplace_id)
    if progress is not None and progress.enrolled is False:
        return f"the seller is not enrolled in {code}: enrol, or set enabled = false in its file"
    if progress is not None and progress.alone_since is not None:
        return f"{code} cannot be read: {progress.trouble or 'its last look failed'}"
    return None


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
    sure: Certainty = "unknown"
    if backfill.state in ACTIVE:
        waits = (
            _not_polled(setup, backfill, code)
            if place is None
            else waits_for(tx, place.name, backfill.marketplace_id, code)
        )
    if place is not None:
        left, sure = _orders_left(tx, backfill, span)
        if backfill.state in ACTIVE and waits is None:
            making = [p for p in parts if p.state == "asked" and is_awaited(backfill, p)]
            waits = f"Amazon is making its report{'s' if len(making) > 1 else ''}" if making else None
            eta = _ready_at(tx, backfill, left, span, parts, budgets_of(tx, place, setup.settings))
    ahead = math.ceil(max(timedelta(), backfill.position - backfill.lower) / decide.next_width(backfill))
    total = backfill.windows_done + len(unread) + (0 if backfill.state == "cancelled" else ahead)
    return Standing(backfill, code, total, share, left, eta, waits, sure)


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
        cost = estimates.by_search(left, span, budgets, decide.next_width(backfill))
    else:
        takes = estimates.REPORT_TAKES
        awaited = [p for p in parts if is_awaited(backfill, p)] if backfill.way == "report" else []
        if awaited:
            takes -= tx.now - min(p.asked_at or tx.now for p in awaited)
            if takes <= timedelta():
                return None
        elif parts:
            takes = timedelta()
        cost = estimates.by_report(left, span, budgets, decide.next_width(backfill), takes)
    # All backfills of an account share its budget.
    others = ledger.wanted_backfills(tx, backfill.account)
    return None if cost.time is None else tx.now + cost.time * max(1, len(others))


def _orders_left(tx: Transaction, backfill: Backfill, span: timedelta) -> tuple[int | None, Certainty]:
    """Count the ids that are left; without any, estimate from the orders stored around."""
    ids = backfill_reports.count_ids(tx, backfill.backfill_id, backfill.position)
    if ids:
        return ids, "exact"
    unread = Interval(backfill.lower, backfill.lower + span)
    expected = expected_in(tx, backfill.account, backfill.marketplace_id, unread)
    if expected.total is None:
        return None, expected.certainty
    walked = ledger.walked_orders(tx, backfill.backfill_id)
    return max(0, expected.total - walked), expected.certainty
