"""Verifications as plain values: what is compared and what was found. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from store.progress import Interval, gaps, joined

By = Literal["report", "search"]
VerificationState = Literal["reading", "repairing", "done", "failed"]
FindingKind = Literal["missing", "older", "quarantined", "unknown"]
Reason = Literal["asked", "requested", "scheduled"]
FetchOutcome = Literal["stored", "quarantined", "unreadable", "not_found"]


@dataclass(frozen=True, slots=True)
class Listed:
    """An order in Amazon's list. Times are None if the list has none."""

    order_id: str
    created_at: datetime | None
    last_updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """A stored order."""

    order_id: str
    marketplace_id: str | None
    created_at: datetime
    last_updated_at: datetime
    refetched_at: datetime | None


@dataclass(frozen=True, slots=True)
class Finding:
    """An order that differs between Amazon's list and the database.

    ``kind``: *missing* (listed but not stored), *older* (the stored copy is older than Amazon's),
    *quarantined* (stored but not readable), *unknown* (stored but not listed). ``outcome``: the result of
    fetching it by its id; None if it was not fetched.
    """

    order_id: str
    kind: FindingKind
    created_at: datetime | None
    last_updated_at: datetime | None
    outcome: FetchOutcome | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """A verification from its request to its result, with all that is needed to continue after a crash.

    It compares orders of a marketplace created in ``lower <= t < upper``. ``asked_upper`` is the requested
    end; ``upper`` stops where the marketplace had been read (a scheduled one: where it had been read twice).
    Orders before ``position`` have been compared. ``report_id`` or ``page_token`` belong to the range that
    begins there, and ``attempts`` counts its failures. ``non_amazon`` counts the orders of other shops in
    Amazon's reports, ``unreadable`` their rows that could not be read: what they hide is not compared, and
    ``message`` names the first. ``reason``: *asked* (a command carries it out),
    *requested* (of the service), *scheduled* (by the service itself).
    """

    account: str
    marketplace_id: str
    lower: datetime
    upper: datetime
    asked_upper: datetime
    by: By
    reason: Reason
    repair: bool
    position: datetime
    verification_id: int = 0
    state: VerificationState = "reading"
    span_seconds: float | None = None
    report_id: str | None = None
    report_asked_at: datetime | None = None
    page_token: str | None = field(default=None, repr=False)
    walk_started_at: datetime | None = None
    attempts: int = 0
    listed: int = 0
    before_start: int = 0
    non_amazon: int = 0
    unreadable: int = 0
    findings: tuple[Finding, ...] = ()
    message: str | None = None
    next_at: datetime | None = None
    version: int = 0
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def lacking(self) -> tuple[Finding, ...]:
        """Return the orders that are still missing or older, fetched or not."""
        return tuple(f for f in self.findings if is_lacking(f))

    @property
    def unfetched(self) -> tuple[Finding, ...]:
        """Return the missing or older orders that were not requested by their id yet."""
        return tuple(f for f in self.lacking if f.outcome is None)

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


def is_lacking(finding: Finding) -> bool:
    """Return True if Amazon has something that is not stored. An order in quarantine counts as not stored."""
    return finding.kind in ("missing", "older") and finding.outcome != "stored"


# --- unsettled verifications ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A verification with problems that no later one has compared again.

    ``lacking``: orders that are still missing or older. ``failed``: part of its range was never compared.
    """

    verification: Verification
    lacking: tuple[Finding, ...]
    failed: bool


def unsettled(verifications: Sequence[Verification]) -> tuple[Unsettled, ...]:
    """Return the unsettled ones among all verifications of one marketplace, newest first.

    A later verification that is over settles what it compared again; if it found the same, it reports that
    itself. A search does not settle what a report found, because it does not list all orders.
    """
    result = []
    for verification in sorted(verifications, key=lambda v: -v.verification_id):
        later = [other for other in verifications if _is_later(other, verification)]
        lacking = tuple(
            f for f in verification.lacking if not any(_settles(other, verification, f) for other in later)
        )
        whole = (o for o in later if o.position > o.lower and not o.unreadable)
        compared = joined([Interval(o.lower, o.position) for o in whole])
        begin = verification.lower if verification.unreadable else verification.position
        is_partial = verification.state == "failed" or verification.unreadable > 0
        failed = is_partial and bool(gaps(compared, begin, verification.upper))
        if lacking or failed:
            result.append(Unsettled(verification, lacking, failed))
    return tuple(result)


def _is_later(other: Verification, verification: Verification) -> bool:
    """Return True if ``other`` is over and began after this verification had ended."""
    if not other.is_over or other.verification_id <= verification.verification_id:
        return False
    if verification.finished_at is None or other.created_at is None:
        return True
    return other.created_at >= verification.finished_at


def _settles(other: Verification, verification: Verification, finding: Finding) -> bool:
    if any(f.order_id == finding.order_id for f in other.findings):
        return True
    if other.by == "search" and verification.by == "report":
        return False
    if finding.created_at is None:
        return other.lower <= verification.lower and verification.upper <= other.position
    return other.lower <= finding.created_at < other.position
