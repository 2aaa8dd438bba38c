"""Verifications as people request and read them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from connectors.marketplaces import CODES, NON_AMAZON
from poller import export
from poller.actions.arguments import FIELDS, OPTIONS, Place, Words
from poller.errors import Refused
from poller.export import some_time
from poller.text import counted, time_text, when
from poller.verification import jobs
from store.engine import Transaction
from store.verification_records import By, Finding, Verification

WAYS: tuple[By, ...] = ("report", "search")
KINDS = {
    "missing": "missing",
    "older": "older than Amazon's copy",
    "quarantined": "in quarantine",
    "unknown": "not on Amazon's list",
}

OUTCOMES = {
    "stored": "fetched and stored",
    "quarantined": "in quarantine: what Amazon sent could not be read",
    "unreadable": "fetched, but not even its id could be read",
    "not_found": "Amazon does not return it by its id",
}
IN_QUARANTINE = (
    "`order-sync quarantine list` says why; they are refetched automatically, and reread after an upgrade"
)


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


def requested(
    tx: Transaction,
    place: Place,
    period: tuple[datetime, datetime],
    way: By,
    *,
    repair: bool,
    words: Words = FIELDS,
) -> Verification:
    """Request a verification, which the running service carries out. Raises Refused.

    One of exactly this period that is not over goes on.
    """
    job = jobs.enter(
        tx, place.source, place.polled.marketplace_id, *period, way, repair=repair, reason="requested"
    )
    if job is None:
        raise Refused(nothing_read(place.name, place.polled.code, words))
    return job


def verdict(job: Verification) -> str:
    """Return the result in one sentence."""
    counts = {kind: sum(f.kind == kind for f in job.findings) for kind in KINDS}
    listed = f"{counted(job.listed, 'order')} listed"
    lacking = counts["missing"] + counts["older"]
    if not lacking:
        verdict = "complete" if job.state == "done" and not job.unreadable else "NOT verified"
        return f"{verdict}: {listed}, none of them is missing"
    parts = [f"{counts[kind]} {KINDS[kind]}" for kind in ("missing", "older") if counts[kind]]
    still_missing = len(job.lacking)
    if still_missing == lacking:
        return f"NOT complete: {listed}, {', '.join(parts)}"
    if still_missing:
        fetched = f"{lacking - still_missing} of them fetched, {still_missing} still missing"
        return f"NOT complete: {listed}, {', '.join(parts)}; {fetched}"
    verdict = "complete now" if job.state == "done" and not job.unreadable else "NOT verified"
    return f"{verdict}: {listed}, {', '.join(parts)}, and fetched"


def notes(job: Verification) -> list[str]:
    """Return what else a person should know of the result."""
    said = []
    if job.position < job.upper:
        compared = f"only up to {when(job.position)} UTC" if job.position > job.lower else "nothing"
        said.append(f"compared so far: {compared}")
    if job.upper < job.asked_upper:
        said.append(f"orders placed after {when(job.upper)} UTC have not been read yet")
    if job.before_start:
        old = counted(job.before_start, "order")
        said.append(f"{old} from before the start date, or older than orders are kept: not stored")
    if job.non_amazon and job.marketplace_id != NON_AMAZON.id:
        others = counted(job.non_amazon, "order")
        said.append(
            f"{others} of other shops, which Amazon ships: a file with marketplace = NON_AMAZON takes them"
        )
    if job.unreadable:
        said.append(unread_rows(job.unreadable, job.message))
    in_quarantine = sum(f.kind == "quarantined" or f.outcome == "quarantined" for f in job.findings)
    if in_quarantine:
        said.append(f"{counted(in_quarantine, 'order')} in quarantine: {IN_QUARANTINE}")
    return said


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
