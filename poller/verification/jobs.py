"""Begin a verification, or resume one that was begun before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from poller.ingest.sources import Source
from poller.verification import comparison
from store import ledger, verifications
from store.engine import Transaction
from store.progress import complete_until
from store.verification_records import By, Reason, Verification


def enter(
    tx: Transaction,
    source: Source,
    marketplace_id: str,
    lower: datetime,
    upper: datetime,
    by: By,
    *,
    repair: bool,
    reason: Reason = "asked",
) -> Verification | None:
    """Return the unfinished verification of this very range, or a new one; None if none of it is read yet.

    The newest call decides if it repairs. The running service carries out one that was *requested*.
    """
    ledger.lock_account(tx, source.account)  # of two identical calls at once, the second resumes
    unfinished = verifications.unfinished(tx, source.account, marketplace_id, by, lower, upper, reason)
    if unfinished is not None:
        return resume(tx, unfinished, repair)
    known_until = read_until(tx, source, marketplace_id)
    if known_until is None or known_until <= lower:
        return None
    fresh = Verification(
        source.account,
        marketplace_id,
        lower,
        min(upper, known_until),
        upper,
        by,
        reason,
        repair,
        position=lower,
    )
    return verifications.begin(tx, fresh)


def resume(tx: Transaction, job: Verification, repair: bool) -> Verification:
    """Make a verification ready to go on; a failed one gets all its attempts again."""
    changed = replace(job, repair=repair)
    if job.state == "failed":
        changed = replace(changed, attempts=0, message=None)
    changed = replace(changed, state=comparison.state_after(changed))
    return job if changed == job else verifications.save(tx, changed)


def latest(tx: Transaction, job: Verification) -> Verification:
    """Return a verification as it is stored now, ready to go on with this job's ``repair``.

    Raises Superseded if it was deleted.
    """
    stored = verifications.load(tx, job.verification_id)
    return stored if stored.is_over else resume(tx, stored, job.repair)


def read_until(tx: Transaction, source: Source, marketplace_id: str) -> datetime | None:
    """Return up to where every update is known; what lies beyond a gap does not count.

    What comes by report alone is as new as its report.
    """
    if marketplace_id in source.reported:
        return tx.now.replace(microsecond=0)
    progress = ledger.load_marketplaces(tx, source.account).get(marketplace_id)
    covered = ledger.read_coverage(tx, source.account, marketplace_id, "first")
    if progress is None or not covered:
        return None
    return complete_until(covered, progress.live_from) or progress.live_from
