"""Read the status from database and configuration in one transaction, without asking Amazon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta

from connectors.base import Operation
from poller.actions.backfill_progress import ACTIVE, Standing, standing_of
from poller.backfill.run import next_work
from poller.ingest.accounts import Setup
from poller.ingest.sources import PolledMarketplace, Source
from poller.matching.buyer_visibility import days_of, drops
from poller.matching.retention import Retention
from poller.monitoring.health import (
    QUARANTINE_GROWTH_WITHIN,
    REFUSAL_REMEDIES,
    Credential,
    Facts,
    health,
)
from poller.monitoring.snapshot import SHOWN_BUDGETS, Known, known_of
from poller.monitoring.status import (
    BackfillStatus,
    BudgetStatus,
    Gap,
    MarketplaceStatus,
    PaceStatus,
    RefusalStatus,
    RetentionStatus,
    SourceStatus,
    Status,
    VerificationStatus,
    WindowsStatus,
)
from poller.sync import decide
from poller.sync.decide import View
from poller.sync.view import Rows, view_of
from poller.verification import comparison
from store import alerts, erasure, processes, quarantine, queries, tokens, webhooks
from store.alerts import CredentialKind, Used
from store.engine import Store, Transaction
from store.progress import Interval, MarketplaceProgress, Window, WindowKind, complete_until, gaps
from store.queries import Totals
from store.runs import Refusal
from store.sealing import Lookup
from store.token_bucket import Bucket
from store.verification_records import Finding, Verification, unsettled

WINDOW_KINDS: tuple[WindowKind, ...] = ("live", "sweep", "backfill")
VERIFICATION_OVERDUE = timedelta(days=2)
"""How late a weekly verification may be, or how long it may run, before the reason is reported."""

FINDINGS_REPORTED_AFTER = timedelta(days=1)
"""When the findings of a verification that is still running are reported."""


def gather(store: Store, setup: Setup, count: Callable[[Transaction], Totals] = queries.totals) -> Status:
    """Return the status; ``count`` supplies the totals."""
    with store.read() as tx:
        known = known_of(tx, setup)
        facts = Facts(
            now=tx.now,
            sources=tuple(
                _source(tx, setup, known, source) for _, (_, source) in sorted(setup.sources.items())
            ),
            totals=count(tx),
            quarantined=quarantine.counts(tx),
            retention=retention_status(tx, setup.retention),
            quarantined_lately=alerts.quarantined_since(tx, tx.now - QUARANTINE_GROWTH_WITHIN),
            credentials=credentials_in_use(tx, setup),
            processes=processes.load(tx),
            tokens=tokens.load(tx),
            hooks=[(hook, webhooks.backlog(tx, hook)) for hook in webhooks.load(tx)],
        )
    not_polled = tuple(
        f"{name}:{marketplace.code}"
        for name, account in sorted(setup.accounts.items())
        for marketplace in account.marketplaces.values()
        if not marketplace.enabled
    )
    items = health(setup, facts)
    return Status(
        at=facts.now,
        attention=tuple(item.sentence for item in items if item.why != "start"),
        health=items,
        sources=tuple(facts.sources),
        not_polled=not_polled,
        totals=facts.totals,
        quarantine=facts.quarantined,
        retention=facts.retention,
    )


def credentials_used(lookup: Lookup, setup: Setup) -> Used:
    """Return fingerprints of the credentials in use, by account and kind; the key has no account."""
    used: dict[tuple[str, CredentialKind], str] = {}
    for name, account in setup.accounts.items():
        settings = account.settings
        newest = settings.lwa_client_secret[0].get_secret_value()
        used[name, "secret"] = lookup.fingerprint(f"{settings.lwa_client_id}\0{newest}")
        used[name, "authorisation"] = lookup.fingerprint(settings.refresh_token.get_secret_value())
    for key in (setup.settings.encryption_key or ())[:1]:
        used["", "key"] = lookup.fingerprint(key.get_secret_value().hex())
    return used


def credentials_in_use(tx: Transaction, setup: Setup) -> tuple[Credential, ...]:
    """Return since when credentials are in use; one that was not recorded yet is new."""
    used = credentials_used(tx.lookup, setup)
    since = alerts.in_use_since(tx, used)
    return tuple(Credential(*name, since.get(name, tx.now)) for name in sorted(used))


def _source(tx: Transaction, setup: Setup, known: Known, source: Source) -> SourceStatus:
    key = source.key
    progress = known.sources.get(key)
    failure = None if progress is None else progress.last_error
    pending = known.pending.get(key, ())
    backfills = known.backfills.get(key, ())
    marketplaces = tuple(
        _marketplace(source, polled, known, pending, tx.now)
        for polled in sorted(source.verified().values(), key=lambda polled: polled.code)
    )
    shown = known.shown.get(key, {})
    bounds = [
        m.covered_until
        for m in marketplaces
        if m.enrolled is not False and m.marketplace_id in source.marketplaces
    ]
    covered_until = min((b for b in bounds if b is not None), default=None) if None not in bounds else None
    view = _view(tx, setup, known, source)
    next_at, next_why = _next(tx, known, source, view)
    return SourceStatus(
        source=key,
        account=source.account,
        covered_until=covered_until,
        behind_seconds=_behind(tx.now, covered_until),
        succeeded_at=None if progress is None else progress.succeeded_at,
        failing_since=None if progress is None else progress.failing_since,
        failures=0 if progress is None else progress.failures,
        last_error=None if failure is None else failure.message,
        last_error_kind=None if failure is None else failure.kind,
        last_error_status=None if failure is None else failure.status,
        last_error_code=None if failure is None else failure.code,
        last_run=known.runs.get(key),
        next_at=next_at,
        next_why=next_why,
        pace=None if view is None else _pace(view),
        refusal=_refusal(known.refusal(source)),
        marketplaces=marketplaces,
        windows=_windows(pending),
        backfills=tuple(_backfill(standing_of(tx, setup, b)) for b in backfills),
        budgets=tuple(_budget(operation, known.bucket(tx, source, operation)) for operation in SHOWN_BUDGETS),
        identity=days_of(shown),
        identity_drops=tuple(drops(shown, tx.now.date())),
    )


def _view(tx: Transaction, setup: Setup, known: Known, source: Source) -> View | None:
    """Return what the next decision about a source depends on; None if it has not run yet."""
    progress, places = known.sources.get(source.key), known.marketplaces.get(source.account, {})
    if progress is None or not source.marketplaces.keys() <= places.keys():
        return None
    settings = setup.settings
    active = [b for b in known.backfills.get(source.key, ()) if b.state in ACTIVE]
    return view_of(
        tx,
        source,
        Rows(progress, places, known.pending.get(source.key, ()), active),
        amazon_now=tx.now,
        bucket=lambda operation: known.bucket(tx, source, operation),
        pace=decide.Pace(settings.poll_seconds, settings.poll_seconds_busy),
        owner=setup.owner,
    )


def _pace(view: View) -> PaceStatus:
    every = decide.pace(view, beside_backfill=bool(view.backfills))
    changes, carried = decide.changes_per_day(view.source), decide.carried_per_day(view.bucket)
    return PaceStatus(every.total_seconds(), changes, carried)


def _next(tx: Transaction, known: Known, source: Source, view: View | None) -> tuple[datetime, str]:
    """Return when a source next has work to do, and what."""
    if view is None:
        ran = source.key in known.runs
        return tx.now, "nothing has been read yet" if ran else "it has not run yet"
    step = decide.decide(view)
    if not isinstance(step, decide.Wait):
        return tx.now, "there is work to do"
    next_at = step.until
    next_why = "all covered; the next poll for new orders" if step.why == "all covered" else step.why
    failing = view.source.retry_at is not None and view.source.retry_at > tx.now
    for backfill in () if failing else view.backfills:
        place = view.marketplaces[backfill.marketplace_id]
        if backfill.way == "search" or place.enrolled is False or place.alone_since is not None:
            continue
        awaited = next_work(tx, backfill, lambda operation: known.bucket(tx, source, operation))
        if awaited is not None and awaited.at < next_at:
            next_at, next_why = max(awaited.at, tx.now), awaited.why
    return next_at, next_why


def retention_status(tx: Transaction, retention: Retention) -> RetentionStatus:
    """Return how erasing buyer data stands."""
    over = retention.over_since(tx.now)
    due, oldest = (0, None) if over is None else (erasure.count_due(tx, over), erasure.oldest_due(tx, over))
    return RetentionStatus(retention.days, retention.hash_months, due, oldest)


def _behind(now: datetime, bound: datetime | None) -> float | None:
    return None if bound is None else max(0.0, (now - bound).total_seconds())


def _marketplace(
    source: Source, polled: PolledMarketplace, known: Known, pending: Sequence[Window], now: datetime
) -> MarketplaceStatus:
    account, marketplace_id = source.account, polled.marketplace_id
    progress = known.marketplaces.get(account, {}).get(marketplace_id)
    verifications = known.verifications.get((account, marketplace_id), ())
    covered = known.coverage.get((account, marketplace_id, "first"), ())
    history = known.coverage.get((account, marketplace_id, "created"), ())
    until: datetime | None = None
    missing: list[Gap] = []
    history_missing: list[Interval] = []
    if progress is not None:
        reading = [w for w in pending if w.axis == "updated" and marketplace_id in w.marketplace_ids]
        missing = [_gap(g, reading) for g in gaps(covered, progress.live_from, progress.position)]
        until = complete_until(covered, progress.live_from)
        if progress.history_from is not None:
            history_missing = gaps(history, progress.history_from, progress.live_from)
    elif marketplace_id in source.reported:
        until = max((v.upper for v in verifications if v.state == "done"), default=None)
    return MarketplaceStatus(
        marketplace=polled.code,
        marketplace_id=marketplace_id,
        covered_until=until,
        behind_seconds=None if marketplace_id in source.reported else _behind(now, until),
        covered=tuple(covered),
        gaps=tuple(missing),
        live_from=None if progress is None else progress.live_from,
        history_from=None if progress is None else progress.history_from,
        history_covered=tuple(history),
        history_gaps=tuple(history_missing),
        enrolled=None if progress is None else progress.enrolled,
        alone_since=None if progress is None else progress.alone_since,
        trouble=None if progress is None else progress.trouble,
        verification=_newest(verifications),
        unsettled_verifications=tuple(
            _verification(each.verification, each.lacking, failed=each.failed)
            for each in unsettled(verifications)
            if each.verification.is_over
            or now - (each.verification.created_at or now) >= FINDINGS_REPORTED_AFTER
        ),
        verification_waits=_why_late(polled, progress, history, verifications, now),
    )


def _newest(verifications: Sequence[Verification]) -> VerificationStatus | None:
    """Return the newest that has ended, else the newest."""
    ended = (v for v in verifications if v.is_over)
    newest = next(ended, next(iter(verifications), None))
    return None if newest is None else _verification(newest, newest.lacking, failed=newest.state == "failed")


def _verification(verification: Verification, left: Sequence[Finding], *, failed: bool) -> VerificationStatus:
    kinds = Counter(finding.kind for finding in verification.findings)
    return VerificationStatus(
        id=verification.verification_id,
        lower=verification.lower,
        upper=verification.upper,
        by=verification.by,
        state=verification.state,
        listed=verification.listed,
        missing=kinds["missing"],
        older=kinds["older"],
        unknown=kinds["unknown"],
        still_missing=len(left),
        went_to_quarantine=sum(finding.outcome == "quarantined" for finding in left),
        not_compared=failed,
        started_at=verification.created_at,
        finished_at=verification.finished_at,
        message=verification.message,
    )


def _why_late(
    polled: PolledMarketplace,
    progress: MarketplaceProgress | None,
    history: Sequence[Interval],
    verifications: Sequence[Verification],
    now: datetime,
) -> str | None:
    """Return why the weekly verification is late, or None if it is not."""
    scheduled = [v for v in verifications if v.reason == "scheduled"]
    begun = scheduled[0].created_at if scheduled else None
    for each in scheduled:
        if not each.is_over and each.created_at is not None and now - each.created_at >= VERIFICATION_OVERDUE:
            return each.message or "it is still running"
    if progress is None:
        return None
    start = datetime.combine(polled.start_date, time(), UTC)
    possible = progress.enrolled is not False and start < progress.second_position
    if not possible or not comparison.is_due(now - VERIFICATION_OVERDUE, progress.live_from, begun):
        return None
    if progress.alone_since is not None:
        return "the marketplace is failing"
    if not comparison.covered_ranges(progress.second_position, start, progress.live_from, history):
        return "no part of the last 30 days has been read twice yet"
    return None


def _gap(gap: Interval, pending: Sequence[Window]) -> Gap:
    overlapping = [w for w in pending if w.lower < gap.upper and w.upper > gap.lower]
    for window in overlapping:
        if window.state == "set_aside":
            reason = None if window.last_error is None else window.last_error.message
            return Gap(gap.lower, gap.upper, "set_aside", window.retry_at, reason)
    if any(w.state == "open" for w in overlapping):
        return Gap(gap.lower, gap.upper, "reading")
    return Gap(gap.lower, gap.upper, "proving" if overlapping else "waiting")


def _windows(pending: Sequence[Window]) -> tuple[WindowsStatus, ...]:
    return tuple(
        WindowsStatus(
            kind,
            len(group),
            sum(w.state == "set_aside" for w in group),
            min(w.lower for w in group),
            sum(w.pages for w in group),
            sum(w.orders for w in group),
        )
        for kind in WINDOW_KINDS
        if (group := [w for w in pending if w.kind == kind])
    )


def _backfill(standing: Standing) -> BackfillStatus:
    backfill = standing.backfill
    return BackfillStatus(
        id=backfill.backfill_id,
        marketplace=standing.marketplace,
        state=backfill.state,
        lower=backfill.lower,
        upper=backfill.upper,
        position=backfill.position,
        done=standing.share,
        orders=backfill.orders,
        requests=backfill.requests,
        by=backfill.way,
        eta=standing.eta,
        waits=standing.waits,
    )


def _budget(operation: Operation, bucket: Bucket) -> BudgetStatus:
    return BudgetStatus(operation, bucket.tokens, bucket.burst, bucket.rate, bucket.has_at(1.0))


def _refusal(refusal: Refusal | None) -> RefusalStatus | None:
    if refusal is None:
        return None
    return RefusalStatus(refusal.kind, refusal.reason, refusal.since, REFUSAL_REMEDIES[refusal.kind])
