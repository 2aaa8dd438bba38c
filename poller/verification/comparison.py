"""Is anything missing? Amazon's list of orders compared with the database. Pure.

The lists are two: the report of all orders, which is made from other books than the ones that are polled
and so knows of orders that no search lists; and the search by created-time. Neither is the truth: a
report may be late, empty or of another moment. So every difference is judged by what may explain it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from connectors.base import REPORT_SPAN
from poller.ingest import reports
from store.findings import Finding, FindingKind, Held, Listed, Verification, VerificationState
from store.progress import Interval, joined

SHORTEST = timedelta(hours=1)
SHOWN_WITHIN = timedelta(days=1)
"""A copy fetched by its id so long after an update is all that Amazon shows of it, whatever a list says."""

ALMOST_A_SECOND = timedelta(microseconds=999_999)

EVERY = timedelta(days=7)
"""How often the service verifies each marketplace by itself."""

_WORST_FIRST: tuple[FindingKind, ...] = ("missing", "older", "quarantined", "unknown")


@dataclass(frozen=True, slots=True)
class Compared:
    """``before_start``: listed orders from before the marketplace's start date, which nobody wants."""

    findings: tuple[Finding, ...]
    listed: int
    before_start: int


def compare(
    listed: Iterable[Listed],
    held: Mapping[str, Held],
    quarantined: Collection[str],
    *,
    marketplace_id: str,
    lower: datetime,
    upper: datetime,
    start: datetime,
    settled: datetime,
) -> Compared:
    """Where Amazon's list of the orders created in ``lower <= t < upper`` and the database differ.

    ``held``: what we have of that stretch, and whatever else is listed. ``start``: the marketplace's start
    date. ``settled``: the database knows all updates up to then; later ones are not due yet.
    """
    findings: list[Finding] = []
    seen: set[str] = set()
    many = before_start = 0
    for one in listed:
        if one.order_id in seen:
            continue
        seen.add(one.order_id)
        if not _is_within(one, lower, upper):
            continue
        many += 1
        mine = held.get(one.order_id)
        kind: FindingKind
        if mine is None and one.order_id in quarantined:
            kind = "quarantined"
        elif mine is None:
            if one.created_at is not None and one.created_at < start:
                before_start += 1
                continue
            kind = "missing"
        elif _is_older(mine, one, settled):
            kind = "quarantined" if one.order_id in quarantined else "older"
        else:
            continue
        findings.append(Finding(one.order_id, kind, one.created_at, one.last_updated_at))
    findings += [
        Finding(mine.order_id, "unknown", mine.created_at, None)
        for mine in held.values()
        if mine.order_id not in seen
        and mine.marketplace_id == marketplace_id
        and lower <= mine.created_at < upper
    ]
    return Compared(in_order(findings), many, before_start)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by age."""
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


def _is_within(one: Listed, lower: datetime, upper: datetime) -> bool:
    """Reports tell whole seconds."""
    return one.created_at is None or lower.replace(microsecond=0) <= one.created_at < upper


def _is_older(mine: Held, one: Listed, settled: datetime) -> bool:
    if one.last_updated_at is None or one.last_updated_at > settled:
        return False
    if reports.has_version(mine.last_updated_at, one.last_updated_at):
        return False
    return mine.refetched_at is None or mine.refetched_at - one.last_updated_at < SHOWN_WITHIN


# --- how it is gone about ---------------------------------------------------------------------------


def next_range(verification: Verification) -> tuple[datetime, datetime]:
    """What is compared next, of the whole: at most thirty days."""
    span = REPORT_SPAN
    if verification.span_seconds is not None:
        span = min(span, timedelta(seconds=verification.span_seconds))
    return verification.position, min(verification.position + span, verification.upper)


def halved(verification: Verification) -> float:
    """Width, in seconds, of half of the stretch that is compared next."""
    lower, upper = next_range(verification)
    return max((upper - lower) / 2, SHORTEST).total_seconds()


def state_after(verification: Verification) -> VerificationState:
    """What comes next once a stretch was compared, or some orders were fetched.

    What was found is fetched before the next stretch: trouble with that one must not keep it from being had.
    """
    if verification.repair and verification.unfetched:
        return "repairing"
    return "done" if verification.position >= verification.upper else "reading"


# --- by the service's own schedule ------------------------------------------------------------------


def is_due(now: datetime, live_from: datetime, last: datetime | None) -> bool:
    """Whether a marketplace is to be verified again, after the last time or since it was first read."""
    return now - max(live_from, last or live_from) >= EVERY


def covered_ranges(
    upper: datetime, start: datetime, live_from: datetime, seen: Sequence[Interval]
) -> tuple[Interval, ...]:
    """What the service verifies by itself: of the thirty days before ``upper`` what is covered, oldest first.

    ``seen``: stretches of history that have been read; live reading has seen what came since ``live_from``.
    In whole seconds, which is as finely as reports tell. A gap must not keep the rest from being verified.
    """
    lower = max(upper - REPORT_SPAN, start)
    read = joined([*seen, Interval(live_from, max(live_from, upper))])
    parts = []
    for one in read:
        begin = (max(one.lower, lower) + ALMOST_A_SECOND).replace(microsecond=0)
        end = min(one.upper, upper).replace(microsecond=0)
        if end - begin >= SHORTEST:
            parts.append(Interval(begin, end))
    return tuple(parts)
