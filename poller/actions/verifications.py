"""Verifications as people request and read them."""

from __future__ import annotations

from collections import Counter

from connectors.marketplaces import CODES
from poller import export
from poller.actions.arguments import OPTIONS, Place, Words
from poller.errors import Refused
from poller.export import some_time
from poller.text import counted, time_text
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


def require_listed(place: Place, way: By, words: Words = OPTIONS) -> None:
    """Raise Refused if no search lists the orders of a place."""
    if way == "search" and place.polled.marketplace_id in place.source.reported:
        raise Refused(f"no search of Amazon's lists {place.polled.code} orders: leave out {words.by} search.")


def unread_rows(number: int, first: str | None) -> str:
    """Say that some of a report was not compared, and what is wrong with it."""
    return f"{counted(number, 'row')} of Amazon's report could not be read, so nothing is proven: {first}"


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
        "marketplace": CODES[job.marketplace_id],
        "from": some_time(job.lower),
        "to": some_time(job.upper),
        "asked_to": some_time(job.asked_upper),
        "compared_to": some_time(job.position),
        "by": job.by,
        "state": job.state,
        "listed": job.listed,
        "before_start": job.before_start,
        "non_amazon": job.non_amazon,
        "unreadable": job.unreadable,
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
