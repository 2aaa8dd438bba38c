"""How the service stands: what a person opens first, as plain values.

``gather`` reads it from the database and the configuration, in one transaction, without asking Amazon
and without changing anything; ``as_object`` makes the JSON of it. The names of the fields are the keys
of ``order-sync status --json``, and stay. Times are aware UTC, spans are seconds.

A marketplace is *covered* where every order that Amazon showed for that stretch of updated-time has been
stored; what is missing between the start of live reading and where it has got to is a *gap*. History is
counted by created-time, from the marketplace's start date to the start of live reading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

from connectors.base import Operation
from connectors.marketplaces import BY_ID
from poller.actions.backfill_progress import ACTIVE, Standing, standing_of
from poller.backfill.ground import Rates, grounds
from poller.backfill.run import next_work
from poller.bootstrap import Service
from poller.export import time_text
from poller.ingest.sources import PolledMarketplace, Source
from poller.matching.buyer_visibility import Day, Drop, days_of, drops, sentence
from poller.monitoring.snapshot import SHOWN_BUDGETS, Known, known_of
from poller.sync import windows
from poller.verification import comparison
from store import erasure, quarantine, queries
from store.bucket import Bucket
from store.engine import Transaction
from store.progress import Interval, Kind, MarketplaceProgress, Way, Window, complete_until, gaps
from store.quarantine import Counts
from store.queries import Totals, Unconfigured
from store.runs import Refusal, Run
from store.verification import By, Finding, Verification, VerificationState, unsettled

ERASING_OVERDUE = timedelta(days=2)
"""Buyer data that should have been erased so long ago is worth a word."""

KINDS: tuple[Kind, ...] = ("live", "sweep", "backfill")
OVERDUE = timedelta(hours=2)
"""A source that has work to do and has not been run for so long: nobody sees to it."""
PROOF_OVERDUE = timedelta(days=2)
"""A weekly verification that is so late, or has been going on for so long: a person is told why."""
PROOF_LEFT = timedelta(days=1)
"""What a verification has found and not fetched for so long is told, though it is not over."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that is not covered. ``state``: what is being done about it.

    ``reading``: a window over it is open; ``proving``: it was read, and it is being made sure that nothing
    was skipped; ``set_aside``: it failed too often and is tried again at ``retry_at``, for ``reason``;
    ``waiting``: its turn has not come.
    """

    lower: datetime
    upper: datetime
    state: Literal["reading", "proving", "set_aside", "waiting"]
    retry_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class VerificationStatus:
    """A proof of completeness: what Amazon's own list of orders was compared with.

    ``missing`` and ``older`` were found so; ``still_missing`` of both after fetching what could be fetched,
    ``went_to_quarantine`` of those could not be understood when they came. ``not_compared``: it failed before
    all of its stretch was compared, and no later one has done that.
    """

    id: int
    lower: datetime
    upper: datetime
    by: By
    state: VerificationState
    listed: int
    missing: int
    older: int
    unknown: int
    still_missing: int
    went_to_quarantine: int
    not_compared: bool
    started_at: datetime | None
    finished_at: datetime | None
    message: str | None


@dataclass(frozen=True, slots=True)
class MarketplaceStatus:
    """One marketplace that is polled. ``covered_until`` is None before its first page."""

    marketplace: str
    marketplace_id: str
    covered_until: datetime | None
    behind_seconds: float | None
    covered: tuple[Interval, ...]
    gaps: tuple[Gap, ...]
    live_from: datetime | None
    history_from: datetime | None
    history_covered: tuple[Interval, ...]
    history_gaps: tuple[Interval, ...]
    enrolled: bool | None
    alone_since: datetime | None
    trouble: str | None
    verification: VerificationStatus | None
    """The newest proof that has come to its end; the one that is going on when there is none yet."""
    unsettled_verifications: tuple[VerificationStatus, ...]
    """Proofs that found something missing or failed, and that no later one has made good; newest first.

    ``still_missing`` counts what no later one has judged anew."""
    verification_waits: str | None
    """Why the weekly verification does not come to its end, though it has been due for days."""


@dataclass(frozen=True, slots=True)
class WindowsStatus:
    """Unfinished windows of one kind: live, sweep (a second look) or backfill (history)."""

    kind: Kind
    windows: int
    set_aside: int
    oldest: datetime
    pages: int
    orders: int


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """History being fetched, newest first. Windows have been entered from ``upper`` down to ``position``."""

    id: int
    marketplace: str
    state: str
    lower: datetime
    upper: datetime
    position: datetime
    done: float
    """Share of the stretch that is behind it, 0 to 1; 1 only when it is done."""
    orders: int
    requests: int
    by: Way
    eta: datetime | None
    """When it will be ready, going by the budget; None when nobody can tell."""
    waits: str | None
    """What is being waited for, in words; None when it goes on."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The stored request budget of one operation of Amazon's."""

    operation: Operation
    tokens: float
    burst: float
    rate: float
    """Requests a second."""
    next_request_at: datetime


@dataclass(frozen=True, slots=True)
class RefusalStatus:
    """Login with Amazon refuses these credentials; nothing is asked until they change."""

    kind: str
    reason: str
    since: datetime
    remedy: str


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source. ``covered_until`` and ``behind_seconds`` are those of its worst marketplace."""

    source: str
    account: str
    covered_until: datetime | None
    behind_seconds: float | None
    succeeded_at: datetime | None
    failing_since: datetime | None
    failures: int
    last_error: str | None
    last_run: Run | None
    next_at: datetime
    next_why: str
    refusal: RefusalStatus | None
    marketplaces: tuple[MarketplaceStatus, ...]
    windows: tuple[WindowsStatus, ...]
    backfills: tuple[BackfillStatus, ...]
    budgets: tuple[BudgetStatus, ...]
    identity: tuple[Day, ...]
    """How many orders showed their buyer, on each of the last days, newest first."""
    identity_drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class RetentionStatus:
    """Erasing buyer data. ``due``: orders past their term by now, of which the oldest is ``oldest_term``."""

    days: int | None
    hash_months: int | None
    due: int
    oldest_term: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything. ``attention``: sentences about what a person should look at, the worst first."""

    at: datetime
    attention: tuple[str, ...]
    sources: tuple[SourceStatus, ...]
    not_polled: tuple[str, ...]
    """Marketplaces that are configured and not enabled, as ``account:UK``."""
    totals: Totals
    quarantine: Counts
    retention: RetentionStatus


def gather(service: Service, count: Callable[[Transaction], Totals] = queries.totals) -> Status:
    """How an opened and wired service stands. ``count``: where the totals are had from."""
    with service.store.read() as tx:
        known = known_of(tx, service)
        sources = tuple(
            _source(tx, service, known, source) for _, (_, source) in sorted(service.sources.items())
        )
        totals = count(tx)
        retention = _retention(tx, service)
        kept = quarantine.counts(tx)
        now = tx.now
    not_polled = tuple(
        f"{name}:{marketplace.code}"
        for name, account in sorted(service.accounts.items())
        for marketplace in account.marketplaces.values()
        if not marketplace.enabled
    )
    attention = (
        *(problem.message for problem in service.problems),
        *(sentence for source in sources for sentence in _attention(source, now)),
        *_attention_of_quarantine(kept),
        *_attention_of_totals(totals),
        *_attention_of_files(service, totals),
        *_attention_of_retention(retention, now),
    )
    return Status(now, attention, sources, not_polled, totals, kept, retention)


def as_object(value: Any) -> Any:
    """JSON of a status or a part of it: times as ISO 8601 in UTC, field names as keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_object(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, tuple | list):
        return [as_object(item) for item in value]
    if isinstance(value, dict):
        return {key: as_object(item) for key, item in value.items()}
    return value


def remedy(message: str | None) -> str:
    """What to do about a run that failed with this message of ours."""
    found = re.search(r"status (\d{3})", message or "")
    status = int(found[1]) if found else None
    if status in (401, 403):
        return (
            "Amazon refuses access: see that the application has the roles it needs and that the seller "
            "authorised it after they were given; it is tried again at the next run"
        )
    if status is not None and 400 <= status < 500 and status != 429:
        return "Amazon refuses the request: `order-sync config check --online` may tell why"
    return "it is tried again at the next run"


REFUSED = {
    "account": "authorise the application again in Seller Central and set the new refresh token",
    "application": "see that LWA_CLIENT_ID and LWA_CLIENT_SECRET are the application's present ones",
}
"""What to do when Login with Amazon refuses an account or an application."""


# --- one source -------------------------------------------------------------------------------------


def _source(tx: Transaction, service: Service, known: Known, source: Source) -> SourceStatus:
    key = source.key
    progress = known.sources.get(key)
    pending = known.pending.get(key, ())
    backfills = known.backfills.get(key, ())
    marketplaces = tuple(
        _marketplace(source, polled, known, pending, tx.now)
        for polled in sorted(source.marketplaces.values(), key=lambda polled: polled.code)
    )
    shown = known.shown.get(key, {})
    read = [m for m in marketplaces if m.enrolled is not False]
    bounds = [m.covered_until for m in read]
    covered_until = min((b for b in bounds if b is not None), default=None) if None not in bounds else None
    next_at, next_why = _next(tx, service, known, source)
    return SourceStatus(
        source=key,
        account=source.account,
        covered_until=covered_until,
        behind_seconds=_behind(tx.now, covered_until),
        succeeded_at=None if progress is None else progress.succeeded_at,
        failing_since=None if progress is None else progress.failing_since,
        failures=0 if progress is None else progress.failures,
        last_error=None if progress is None else progress.last_error,
        last_run=known.runs.get(key),
        next_at=next_at,
        next_why=next_why,
        refusal=_refusal(known.refusal(source)),
        marketplaces=marketplaces,
        windows=_windows(pending),
        backfills=tuple(_backfill(standing_of(tx, service, b)) for b in backfills),
        budgets=tuple(_budget(operation, known.bucket(tx, source, operation)) for operation in SHOWN_BUDGETS),
        identity=days_of(shown),
        identity_drops=tuple(drops(shown, tx.now.date())),
    )


def _next(tx: Transaction, service: Service, known: Known, source: Source) -> tuple[datetime, str]:
    """When there is something to do for a source, and what."""
    progress, places = known.sources.get(source.key), known.marketplaces.get(source.account, {})
    if progress is None or not source.marketplaces.keys() <= places.keys():
        return tx.now, "it has not run yet"

    def bucket(operation: Operation) -> Bucket:
        return known.bucket(tx, source, operation)

    settings = service.config.settings
    pending = known.pending.get(source.key, ())
    active = [b for b in known.backfills.get(source.key, ()) if b.state in ACTIVE]
    search = bucket("searchOrders")
    step = windows.decide(
        windows.View(
            source=progress,
            marketplaces={m: places[m] for m in source.marketplaces},
            included_data={m: p.included_data for m, p in source.marketplaces.items()},
            windows=pending,
            backfills=active,
            now=tx.now,
            amazon_now=tx.now,
            bucket=search,
            pace=windows.Pace(settings.poll_seconds, settings.poll_seconds_busy),
            owner=service.owner,
            grounds=grounds(
                tx, active, pending, lambda: Rates(search, bucket("getOrder"), settings.poll_seconds_busy)
            ),
        )
    )
    if not isinstance(step, windows.Wait):
        return tx.now, "there is work to do"
    next_at = step.until
    next_why = "all covered; the next look for new orders" if step.why == "all covered" else step.why
    failing = progress.retry_at is not None and progress.retry_at > tx.now
    for backfill in () if failing else active:
        place = places[backfill.marketplace_id]
        if backfill.way == "search" or place.enrolled is False or place.alone_since is not None:
            continue
        awaited = next_work(tx, backfill, bucket)
        if awaited is not None and awaited.at < next_at:
            next_at, next_why = max(awaited.at, tx.now), awaited.why
    return next_at, next_why


def _retention(tx: Transaction, service: Service) -> RetentionStatus:
    retention = service.retention
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
    proofs = known.proofs.get((account, marketplace_id), ())
    covered = known.coverage.get((account, marketplace_id, "first"), ())
    history = known.coverage.get((account, marketplace_id, "created"), ())
    until: datetime | None = None
    missing: list[Gap] = []
    history_missing: list[Interval] = []
    if progress is not None:
        mine = [w for w in pending if w.axis == "updated" and marketplace_id in w.marketplace_ids]
        missing = [_gap(g, mine) for g in gaps(covered, progress.live_from, progress.position)]
        until = complete_until(covered, progress.live_from)
        if progress.history_from is not None:
            history_missing = gaps(history, progress.history_from, progress.live_from)
    return MarketplaceStatus(
        marketplace=polled.code,
        marketplace_id=marketplace_id,
        covered_until=until,
        behind_seconds=_behind(now, until),
        covered=tuple(covered),
        gaps=tuple(missing),
        live_from=None if progress is None else progress.live_from,
        history_from=None if progress is None else progress.history_from,
        history_covered=tuple(history),
        history_gaps=tuple(history_missing),
        enrolled=None if progress is None else progress.enrolled,
        alone_since=None if progress is None else progress.alone_since,
        trouble=None if progress is None else progress.trouble,
        verification=_verification(proofs),
        unsettled_verifications=tuple(
            _verification_status(one.proof, one.left, failed=one.failed)
            for one in unsettled(proofs)
            if one.proof.is_over or now - (one.proof.created_at or now) >= PROOF_LEFT
        ),
        verification_waits=None
        if progress is None
        else _verification_waits(polled, progress, history, proofs, now),
    )


def _verification(proofs: Sequence[Verification]) -> VerificationStatus | None:
    """The newest that is over, else the newest."""
    proof = next((proof for proof in proofs if proof.is_over), next(iter(proofs), None))
    return None if proof is None else _verification_status(proof, proof.left, failed=proof.state == "failed")


def _verification_status(proof: Verification, left: Sequence[Finding], *, failed: bool) -> VerificationStatus:
    kinds = Counter(finding.kind for finding in proof.findings)
    return VerificationStatus(
        id=proof.verification_id,
        lower=proof.lower,
        upper=proof.upper,
        by=proof.by,
        state=proof.state,
        listed=proof.listed,
        missing=kinds["missing"],
        older=kinds["older"],
        unknown=kinds["unknown"],
        still_missing=len(left),
        went_to_quarantine=sum(finding.outcome == "quarantined" for finding in left),
        not_compared=failed,
        started_at=proof.created_at,
        finished_at=proof.finished_at,
        message=proof.message,
    )


def _verification_waits(
    polled: PolledMarketplace,
    progress: MarketplaceProgress,
    history: Sequence[Interval],
    proofs: Sequence[Verification],
    now: datetime,
) -> str | None:
    """Why the weekly verification is late; None when it is not, or trouble of the whole source is told."""
    scheduled = [proof for proof in proofs if proof.reason == "scheduled"]
    begun = scheduled[0].created_at if scheduled else None
    for proof in scheduled:
        if not proof.is_over and proof.created_at is not None and now - proof.created_at >= PROOF_OVERDUE:
            return proof.message or "it is going on"
    start = datetime.combine(polled.start_date, time(), UTC)
    wanted = progress.enrolled is not False and start < progress.second_position
    if not wanted or not comparison.is_due(now - PROOF_OVERDUE, progress.live_from, begun):
        return None
    if progress.alone_since is not None:
        return "the marketplace gives trouble"
    if not comparison.to_prove(progress.second_position, start, progress.live_from, history):
        return "nothing of the last 30 days has been read and looked for twice"
    return None


def _gap(gap: Interval, pending: Sequence[Window]) -> Gap:
    over = [w for w in pending if w.lower < gap.upper and w.upper > gap.lower]
    for window in over:
        if window.state == "set_aside":
            return Gap(gap.lower, gap.upper, "set_aside", window.retry_at, window.last_error)
    if any(w.state == "open" for w in over):
        return Gap(gap.lower, gap.upper, "reading")
    return Gap(gap.lower, gap.upper, "proving" if over else "waiting")


def _windows(pending: Sequence[Window]) -> tuple[WindowsStatus, ...]:
    found = []
    for kind in KINDS:
        mine = [w for w in pending if w.kind == kind]
        if mine:
            found.append(
                WindowsStatus(
                    kind,
                    len(mine),
                    sum(w.state == "set_aside" for w in mine),
                    min(w.lower for w in mine),
                    sum(w.pages for w in mine),
                    sum(w.orders for w in mine),
                )
            )
    return tuple(found)


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


def _refusal(refused: Refusal | None) -> RefusalStatus | None:
    if refused is None:
        return None
    return RefusalStatus(refused.kind, refused.reason, refused.since, REFUSED[refused.kind])


# --- what to look at --------------------------------------------------------------------------------


def _attention(source: SourceStatus, now: datetime) -> list[str]:
    found = []
    if source.refusal is not None:
        refusal = source.refusal
        found.append(
            f"{source.source}: Login with Amazon refuses the {refusal.kind} since "
            f"{_since(refusal.since, now)}: {refusal.remedy}."
        )
    elif source.failing_since is not None:
        message = source.last_error
        found.append(
            f"{source.source}: failing since {_since(source.failing_since, now)} ({message or 'no answer'}): "
            f"{remedy(message)}."
        )
    elif (left := _left_alone_since(source, now)) is not None:
        found.append(
            f"{source.source}: Amazon has not been asked since {_since(left, now)}: is the service running? "
            "`order-sync run` is the service, `order-sync sync` one pass."
        )
    found += [sentence(source.source, drop) for drop in source.identity_drops]
    for marketplace in source.marketplaces:
        name = f"{source.account}:{marketplace.marketplace}"
        if marketplace.enrolled is False:
            found.append(
                f"{name}: the seller is not enrolled in this marketplace, so it is not asked for: "
                "enrol, or set enabled = false in its file."
            )
        elif marketplace.alone_since is not None:
            found.append(
                f"{name}: gives trouble and is read apart from the others since "
                f"{_minute(marketplace.alone_since)} ({marketplace.trouble})."
            )
        found += [
            f"{name}: orders updated between {_minute(gap.lower)} and {_minute(gap.upper)} could not be read "
            f"({gap.reason}); tried again at {_minute(gap.retry_at)}."
            for gap in marketplace.gaps
            if gap.state == "set_aside" and gap.retry_at is not None
        ]
        found += unproven(source.account, marketplace)
    return found


def unproven(account: str, marketplace: MarketplaceStatus) -> list[str]:
    """What a person should know of the verifications of a marketplace."""
    found = []
    for proof in marketplace.unsettled_verifications:
        found += _attention_of_verification(account, marketplace.marketplace, proof)
    if marketplace.verification_waits is not None:
        name = f"{account}:{marketplace.marketplace}"
        found.append(f"{name}: the weekly verification is late: {marketplace.verification_waits}.")
    return found


def _attention_of_verification(account: str, code: str, proof: VerificationStatus) -> list[str]:
    """What was found missing, what could not be compared, and the command that does something about it."""
    found = []
    name = f"{account}:{code}"
    placed = f"placed from {proof.lower:%Y-%m-%d} to {proof.upper:%Y-%m-%d}"
    verify = (
        f"order-sync verify --marketplace {code} --account {account} "
        f"--from {_option(proof.lower)} --to {_option(proof.upper + comparison.ALMOST_A_SECOND)}"
    )
    if proof.still_missing:
        many = proof.still_missing
        what = f"{_orders(many)} that Amazon lists, {placed}, {_are(many)} not here"
        do = f"`{verify} --repair` fetches what is missing"
        if proof.went_to_quarantine:
            what += f", {proof.went_to_quarantine} of them in quarantine"
            see = "`order-sync quarantine list` says what could not be understood"
            do = see if proof.went_to_quarantine == many else f"{do}, {see}"
        found.append(f"{name}: {what}: {do}.")
    if proof.not_compared:
        what = f"it could not be verified that nothing is missing ({proof.message}) of what was {placed}"
        found.append(f"{name}: {what}: `{verify}` tries again, also with `--by search`.")
    return found


def _option(moment: datetime) -> str:
    """A moment as ``--from`` and ``--to`` take it, in whole seconds."""
    if moment.hour == moment.minute == moment.second == 0:
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _left_alone_since(source: SourceStatus, now: datetime) -> datetime | None:
    """Since when nobody has seen to a source that has work to do."""
    run = source.last_run
    if run is None or source.next_at > now:
        return None
    seen = run.finished_at or run.started_at
    return seen if now - seen > OVERDUE else None


def _attention_of_quarantine(kept: Counts) -> list[str]:
    found = []
    do = "see why with `order-sync quarantine list`, and look for a newer version of this program"
    for waiting, why in (
        (kept.waiting - kept.without_id, "and asking Amazon again has not helped"),
        (kept.without_id, "not even the order id, so that Amazon cannot be asked again"),
    ):
        if waiting:
            found.append(f"{_orders(waiting)} in quarantine: not understood, {why}: {do}.")
    trying = kept.orders - kept.waiting
    if trying and kept.next_attempt_at is not None:
        what = f"not understood; Amazon is asked again by itself, next after {_minute(kept.next_attempt_at)}"
        found.append(f"{_orders(trying)} in quarantine: {what} (`order-sync quarantine list`).")
    return found


def _attention_of_totals(totals: Totals) -> list[str]:
    found = []
    if totals.held:
        what = "held: without e-mail, waiting for a customer (`order-sync orders list --basis held`)"
        found.append(f"{_orders(totals.held)} {what}.")
    if totals.suggested:
        pairs = f"{totals.suggested} pair{'' if totals.suggested == 1 else 's'} of customers"
        found.append(f"{pairs} suggested for merging (`order-sync customers duplicates`).")
    return found


def without_file(totals: Totals) -> list[Unconfigured]:
    """Orders that a marketplace file would give their customers.

    Orders of other shops, which Amazon only ships, name none of Amazon's marketplaces (``of_other_shops``).
    """
    return [one for one in totals.unconfigured if one.marketplace_id in BY_ID]


def of_other_shops(totals: Totals) -> list[Unconfigured]:
    """Orders of shops that are not Amazon's, or that name none: no file can give them customers."""
    return [one for one in totals.unconfigured if one.marketplace_id not in BY_ID]


def _attention_of_files(service: Service, totals: Totals) -> list[str]:
    """Which marketplaces need a file, or a better one. An account that was taken out needs none."""
    in_use = {(name, place) for name, account in service.accounts.items() for place in account.marketplaces}
    broken = {problem.place for problem in service.config.problems if problem.place is not None}
    found = []
    for one in without_file(totals):
        account, place = one.account, one.marketplace_id or ""
        if (account, place) in in_use or account not in service.config.settings.accounts:
            continue
        if broken & {(account, place), ("", place)}:
            what = f"whose file for account {account} cannot be used: no customer until it can"
        else:
            what = f"which has no file for account {account}: no customer until it has one"
        found.append(f"{_orders(one.orders)} of {BY_ID[place].code}, {what}.")
    return found


def _attention_of_retention(retention: RetentionStatus, now: datetime) -> list[str]:
    if retention.days is None or retention.oldest_term is None:
        return []
    late = now - retention.oldest_term - timedelta(days=retention.days)
    if late < ERASING_OVERDUE:
        return []
    whose = f"buyer data of {_orders(retention.due)} should have been erased, the first {late.days} days ago"
    return [f"{whose}: `order-sync privacy purge` does it; a running service does it several times a day."]


def _orders(number: int) -> str:
    return f"{number} order{'' if number == 1 else 's'}"


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _since(time: datetime, now: datetime) -> str:
    """A time with its age, from an hour on."""
    hours = int((now - time) / timedelta(hours=1))
    if hours < 1:
        return _minute(time)
    return f"{_minute(time)} ({hours} h)" if hours < 48 else f"{_minute(time)} ({hours // 24} days)"
