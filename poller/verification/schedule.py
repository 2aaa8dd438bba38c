"""Which verification the service carries out next: one begun or requested before, else what is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta

from connectors.base import REPORT_SPAN
from poller.ingest.sources import PolledMarketplace, Source
from poller.matching.retention import Retention
from poller.verification import comparison
from store import ledger, verifications
from store.engine import Transaction
from store.progress import Interval, MarketplaceProgress, gaps, joined
from store.verification_records import Verification

REPORTED_EVERY = timedelta(days=1)
"""How often what comes by report alone is read."""

HISTORY_EVERY = timedelta(days=28)
"""How often what is older than a report's thirty days is read again."""

SHOWN = timedelta(days=729)
"""How far back Amazon shows orders: two years."""


def is_due(tx: Transaction, source: Source, known: Mapping[str, MarketplaceProgress]) -> bool:
    """Return True if ``next_job`` would return a verification. ``known``: the marketplaces as stored."""
    job, due = _next(tx, source, known)
    return job is not None or bool(due)


def next_job(tx: Transaction, source: Source) -> Verification | None:
    """Return the verification to carry out now, after beginning what is due; None if there is none."""
    ledger.lock_account(tx, source.account)  # of two processes that find one due, one begins it
    job, due = _next(tx, source, ledger.load_marketplaces(tx, source.account))
    if due:
        verifications.forget_old(tx, source.account)
        return [verifications.begin(tx, fresh) for fresh in due][-1]
    return job


def start_of(polled: PolledMarketplace) -> datetime:
    """Return the time of a marketplace's start date."""
    return datetime.combine(polled.start_date, time(), UTC)


def expected_since(polled: PolledMarketplace, retention: Retention, now: datetime) -> datetime:
    """Return since when a marketplace's orders must be stored: its start date, or as long as orders stay."""
    start, kept = start_of(polled), retention.orders_since(now)
    return start if kept is None else max(start, kept)


def _next(
    tx: Transaction, source: Source, known: Mapping[str, MarketplaceProgress]
) -> tuple[Verification | None, list[Verification]]:
    """Return the one that was begun and can go on; else those that are due, which are not stored yet."""
    jobs = [
        v
        for v in verifications.of_account(tx, source.account)
        if v.reason != "asked" and v.marketplace_id in source.verified()
    ]
    unfinished = [v for v in jobs if not v.is_over]
    for job in unfinished:
        if job.next_at is None or job.next_at <= tx.now:
            return job, []
        if job.message is None:
            return None, []  # the others wait for one that waits, but not for one that failed
    begun_at: dict[str, datetime | None] = {}
    for job in jobs:
        if job.reason == "scheduled":
            begun_at.setdefault(job.marketplace_id, job.created_at)
    for marketplace_id in sorted(source.marketplaces.keys() - {v.marketplace_id for v in unfinished}):
        polled, last = source.marketplaces[marketplace_id], begun_at.get(marketplace_id)
        if due := _due(tx, source.account, polled, known.get(marketplace_id), last):
            return None, due
    for marketplace_id in sorted(source.reported):
        earlier = [v for v in jobs if v.marketplace_id == marketplace_id and v.reason == "scheduled"]
        if reported := _due_by_report(tx.now, source.account, source.reported[marketplace_id], earlier):
            return None, [reported]
    return None, []


def _due_by_report(
    now: datetime, account: str, reported: PolledMarketplace, earlier: Sequence[Verification]
) -> Verification | None:
    """Return the due verification of what comes by report alone: so it is read, and kept up to date.

    Every day of the last thirty days, and then, every four weeks, of what lies before, thirty days at a time
    and the newest first. A range that fails is tried again a day later, and holds up no other.
    """
    upper = now.replace(microsecond=0)
    start = max(start_of(reported), upper - SHOWN)
    if start >= upper:
        return None
    newest = max(start, upper - REPORT_SPAN)
    lately = [v for v in earlier if now - (v.created_at or now) < REPORTED_EVERY]
    if not any(v.asked_upper > upper - REPORT_SPAN for v in lately):
        return _scheduled(account, reported, Interval(newest, upper), upper)
    done = [v for v in earlier if v.state == "done" and now - (v.created_at or now) < HISTORY_EVERY]
    left = gaps(joined(Interval(v.lower, v.asked_upper) for v in (*lately, *done)), start, newest)
    if not left:
        return None
    end = left[-1].upper
    return _scheduled(account, reported, Interval(max(left[-1].lower, end - REPORT_SPAN), end), end)


def _scheduled(account: str, polled: PolledMarketplace, span: Interval, settled: datetime) -> Verification:
    """Return a new verification of the service's own; ``settled``: up to where every update must be known."""
    return Verification(
        account,
        polled.marketplace_id,
        span.lower,
        span.upper,
        settled,
        "report",
        "scheduled",
        True,
        position=span.lower,
    )


def _due(
    tx: Transaction,
    account: str,
    polled: PolledMarketplace,
    progress: MarketplaceProgress | None,
    last: datetime | None,
) -> list[Verification]:
    """Return the due verifications of a marketplace's last thirty days, the newest last.

    They reach as far as every update was searched for twice. It is one, unless a gap of history divides it.
    """
    if progress is None or progress.enrolled is False or progress.alone_since is not None:
        return []
    if not comparison.is_due(tx.now, progress.live_from, last):
        return []
    ranges = comparison.covered_ranges(
        progress.second_position,
        start_of(polled),
        progress.live_from,
        ledger.read_coverage(tx, account, polled.marketplace_id, "created"),
    )
    return [_scheduled(account, polled, interval, progress.second_position) for interval in ranges]
