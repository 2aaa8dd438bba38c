"""Verifications as people request and read them."""

from __future__ import annotations

from collections import Counter

from connectors.marketplaces import BY_ID
from poller import export
from poller.actions.arguments import OPTIONS, Words
from poller.errors import Refused
from poller.export import some_time
from poller.text import time_text
from store.verification_records import By, Finding, Verification

WAYS: tuple[By, ...] = ("report", "search")
KINDS = {
    "missing": "missing",
    "older": "older than Amazon's copy",
    "quarantined": "in quarantine",
    "unknown": "not on Amazon's list",
}


def chosen_way(by: str, words: Words = OPTIONS) -> By:
    """Return the way of that name. Raises Refused."""
    if by not in WAYS:
        raise Refused(f"{words.by} {by} is unknown: it is report or search.")
    return "search" if by == "search" else "report"


def nothing_read(account: str, code: str, words: Words = OPTIONS) -> str:
    """Say why a verification cannot begin."""
    return (
        f"{account}:{code}: nothing of that period has been read yet: "
        f"`order-sync sync` reads what is new; {words.lower} must be before that."
    )


def verification_object(job: Verification) -> export.VerificationResult:
    """Return a verification with its exported keys."""
    found = Counter(finding.kind for finding in job.findings)
    return {
        "id": job.verification_id,
        "account": job.account,
        "marketplace": BY_ID[job.marketplace_id].code,
        "from": some_time(job.lower),
        "to": some_time(job.upper),
        "asked_to": some_time(job.asked_upper),
        "compared_to": some_time(job.position),
        "by": job.by,
        "state": job.state,
        "listed": job.listed,
        "before_start": job.before_start,
        "missing": found["missing"],
        "older": found["older"],
        "quarantined": found["quarantined"],
        "unknown": found["unknown"],
        "still_missing": len(job.lacking),
        "orders": [_finding_object(finding) for finding in job.findings],
        "started_at": time_text(job.created_at),
        "finished_at": time_text(job.finished_at),
    }


def _finding_object(finding: Finding) -> export.Finding:
    return {
        "order_id": finding.order_id,
        "what": finding.kind,
        "created_at": time_text(finding.created_at),
        "last_updated_at": time_text(finding.last_updated_at),
        "outcome": finding.outcome,
    }
