"""Compare Amazon's list of orders with the database. Pure.

There are two lists: the report of all orders, which Amazon makes from other data than the search and which
has orders that no search lists; and the search by created-time. Neither is the truth: a report may be late,
empty or of another time. So every difference is judged by what may explain it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from connectors.base import REPORT_SPAN
from poller.ingest import reports
from store.progress import Interval, joined
from store.verification_records import (
    Finding,
    FindingKind,
    Held,
    Listed,
    Verification,
    VerificationState,
)

SHORTEST_RANGE = timedelta(hours=1)
SHOWN_WITHIN = timedelta(days=1)
"""An order refetched this long after an update is all that Amazon shows of it, whatever a list says."""

ALMOST_A_SECOND = timedelta(microseconds=999_999)

SCHEDULED_EVERY = timedelta(days=7)
"""How often the service verifies each marketplace by its own schedule."""

_WORST_FIRST: tuple[FindingKind, ...] = ("missing", "older", "quarantined", "unknown")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found. ``before_start`` counts orders that are not wanted: from before ``start``."""

    findings: tuple[Finding, ...]
    listed: int
    before_start: int


def compare(
    listed: Iterable[Listed],
    held: Mapping[str, Held],
    quarantined: Collection[str],
    *,
    marketplace_ids: Collection[str],
    lower: datetime,
    upper: datetime,
    start: datetime,
    settled: datetime,
) -> Compared:
    """Compare Amazon's list of the orders created in ``lower <= t < upper`` with the database.

    ``held`` are the stored orders of that range, and of the listed ones all. ``start`` is since when
    they are wanted. Updates after ``settled`` need not be known yet.
    """
    findings: list[Finding] = []
    seen: set[str] = set()
    count = before_start = 0
    for order in listed:
        if order.order_id in seen:
            continue
        seen.add(order.order_id)
        if not _is_within(order, lower, upper):
            continue
        count += 1
        stored = held.get(order.order_id)
        kind: FindingKind
        if stored is None and order.order_id in quarantined:
            kind = "quarantined"
        elif stored is None:
            if order.created_at is not None and order.created_at < start:
                before_start += 1
                continue
            kind = "missing"
        elif _is_older(stored, order, settled):
            kind = "quarantined" if order.order_id in quarantined else "older"
        else:
            continue
        findings.append(Finding(order.order_id, kind, order.created_at, order.last_updated_at))
    findings += [
        Finding(stored.order_id, "unknown", stored.created_at, None)
        for stored in held.values()
        if stored.order_id not in seen
        and stored.marketplace_id in marketplace_ids
        and lower <= stored.created_at < upper
    ]
    return Compared(in_order(findings), count, before_start)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings by kind, the worst first, then by age."""
    long_ago = datetime.min.replace(tzinfo=UTC)
    return tuple(
        sorted(
            findings,
            key=lambda f: (
                _WORST_FIRST.index(f.kind),
                f.created_at or long_ago,
                f.order_id,
            ),
        )
    )


def _is_within(order: Listed, lower: datetime, upper: datetime) -> bool:
    # Reports have whole seconds.
    return order.created_at is None or lower.replace(microsecond=0) <= order.created_at < upper


def _is_older(stored: Held, order: Listed, settled: datetime) -> bool:
    if order.last_updated_at is None or order.last_updated_at > settled:
        return False
    if reports.has_version(stored.last_updated_at, order.last_updated_at):
        return False
    return stored.refetched_at is None or stored.refetched_at - order.last_updated_at < SHOWN_WITHIN


# --- range by range ---------------------------------------------------------------------------------


def next_range(verification: Verification) -> tuple[datetime, datetime]:
    """Return the range that is compared next: at most thirty days of the whole."""
    span = REPORT_SPAN
    if verification.span_seconds is not None:
        span = min(span, timedelta(seconds=verification.span_seconds))
    return verification.position, min(verification.position + span, verification.upper)


def halved(verification: Verification) -> float:
    """Return half the width of the next range, in seconds."""
    lower, upper = next_range(verification)
    return max((upper - lower) / 2, SHORTEST_RANGE).total_seconds()


def state_after(verification: Verification) -> VerificationState:
    """Return the state after a range was compared, or some orders were fetched.

    Findings are fetched before the next range is read: if that fails, they are repaired all the same.
    """
    if verification.repair and verification.unfetched:
        return "repairing"
    return "done" if verification.position >= verification.upper else "reading"


# --- the service's own schedule ---------------------------------------------------------------------


def is_due(now: datetime, live_from: datetime, last: datetime | None) -> bool:
    """Return True if a marketplace must be verified: a week after the last time or after its first poll."""
    return now - max(live_from, last or live_from) >= SCHEDULED_EVERY


def covered_ranges(
    upper: datetime, start: datetime, live_from: datetime, seen: Sequence[Interval]
) -> tuple[Interval, ...]:
    """Return what is covered of the thirty days before ``upper``, oldest first, in whole seconds.

    ``seen`` are intervals of history that were read; live reading has seen what came since ``live_from``.
    Reports have whole seconds. A gap must not keep the rest from being verified.
    """
    lower = max(upper - REPORT_SPAN, start)
    read = joined([*seen, Interval(live_from, max(live_from, upper))])
    parts = []
    for interval in read:
        begin = (max(interval.lower, lower) + ALMOST_A_SECOND).replace(microsecond=0)
        end = min(interval.upper, upper).replace(microsecond=0)
        if end - begin >= SHORTEST_RANGE:
            parts.append(Interval(begin, end))
    return tuple(parts)
