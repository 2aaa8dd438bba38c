"""Proofs of completeness as plain values: what is compared, what was found. Standard library only."""

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
    """An order that Amazon's list names. Times are None when the list does not tell them."""

    order_id: str
    created_at: datetime | None
    last_updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """An order that we have."""

    order_id: str
    marketplace_id: str | None
    created_at: datetime
    last_updated_at: datetime
    refetched_at: datetime | None


@dataclass(frozen=True, slots=True)
class Finding:
    """An order about which Amazon's list and the database differ.

    ``kind``: *missing* (Amazon has it, we do not), *older* (Amazon's copy is newer than ours),
    *quarantined* (we have it, and cannot read it), *unknown* (we have it, the list does not).
    ``outcome``: what came of fetching it by its id; None when it was not fetched.
    """

    order_id: str
    kind: FindingKind
    created_at: datetime | None
    last_updated_at: datetime | None
    outcome: FetchOutcome | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """One proof, from being asked for to its result; everything that is needed to go on after a crash.

    It is about orders of a marketplace created in ``lower <= t < upper``: what was asked for (up to
    ``asked_upper``), as far as the marketplace had been read; of a scheduled one it is up to where
    every update had been looked for twice. What lies before ``position`` has been compared. ``report_id`` or
    ``page_token`` belong to the stretch that begins there, ``attempts`` counts what went wrong with it,
    ``reason``: asked for by a person who carries it out,
    requested of the service, or by the service's own schedule.
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
    findings: tuple[Finding, ...] = ()
    message: str | None = None
    next_at: datetime | None = None
    version: int = 0
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def left(self) -> tuple[Finding, ...]:
        """What is missing or older still, whether or not it was fetched."""
        return tuple(f for f in self.findings if is_lacking(f))

    @property
    def unfetched(self) -> tuple[Finding, ...]:
        """What is missing or older, and has not been asked for by its id."""
        return tuple(f for f in self.left if f.outcome is None)

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


def is_lacking(finding: Finding) -> bool:
    """Whether Amazon has something that we have not. What went to quarantine when it came is not had yet."""
    return finding.kind in ("missing", "older") and finding.outcome != "stored"


# --- what is not settled ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A proof that did not come out well, and what of it no later one has judged anew.

    ``left``: orders that are missing or older still. ``failed``: some of its stretch was never compared.
    """

    proof: Verification
    left: tuple[Finding, ...]
    failed: bool


def unsettled(proofs: Sequence[Verification]) -> tuple[Unsettled, ...]:
    """Of all proofs of one marketplace, in any order, those that are not settled; newest first.

    A later proof settles what it has compared once more: what it found again is told by itself. But what a
    report has found no search settles, which does not list every order. One that is still going on settles
    nothing.
    """
    found = []
    for proof in sorted(proofs, key=lambda one: -one.verification_id):
        later = [other for other in proofs if _is_later(other, proof)]
        left = tuple(f for f in proof.left if not any(_settles(other, proof, f) for other in later))
        compared = joined([Interval(o.lower, o.position) for o in later if o.position > o.lower])
        failed = proof.state == "failed" and bool(gaps(compared, proof.position, proof.upper))
        if left or failed:
            found.append(Unsettled(proof, left, failed))
    return tuple(found)


def _is_later(other: Verification, proof: Verification) -> bool:
    """Whether a proof that is over was begun when this one had said what it had to say."""
    if not other.is_over or other.verification_id <= proof.verification_id:
        return False
    if proof.finished_at is None or other.created_at is None:
        return True
    return other.created_at >= proof.finished_at


def _settles(other: Verification, proof: Verification, finding: Finding) -> bool:
    if any(f.order_id == finding.order_id for f in other.findings):
        return True
    if other.by == "search" and proof.by == "report":
        return False
    if finding.created_at is None:
        return other.lower <= proof.lower and proof.upper <= other.position
    return other.lower <= finding.created_at < other.position
