"""Sentences about what a person should act on, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from connectors.errors import AccessRefused, OrderNotFound, RequestRefused, SecretExpired
from connectors.marketplaces import BY_ID
from poller.ingest.accounts import Setup
from poller.matching.buyer_visibility import sentence
from poller.monitoring.status import MarketplaceStatus, RetentionStatus, SourceStatus, VerificationStatus
from poller.privacy.purge import CLOCKS_AGREE_WITHIN
from poller.text import counted, lasting, when
from poller.verification.comparison import ALMOST_A_SECOND
from store.quarantine import Counts
from store.queries import Totals, Unconfigured

ERASURE_OVERDUE = timedelta(days=2)
"""How late erasing may be before it is reported."""

RUN_OVERDUE = timedelta(hours=2)
"""How long a source with work to do may go without a run before it is reported."""

BEHIND = timedelta(minutes=30)
"""How far a source may be behind, beside two of its paces, before it is reported."""

ACCESS_REMEDIES = {
    AccessRefused.kind: "Amazon refuses access: check that the application has the roles it needs and that "
    "the seller authorised it after they were granted",
    SecretExpired.kind: "rotate the client secret: make a new one in Amazon's developer console and set it, "
    "first, in LWA_CLIENT_SECRET",
}
"""What to do when Amazon refuses what Login with Amazon granted, by the error's kind."""
REFUSAL_REMEDIES = {
    "account": "authorise the application again in Seller Central and set the new refresh token",
    "application": "check that LWA_CLIENT_ID and LWA_CLIENT_SECRET are the application's current ones",
}
"""What to do when Login with Amazon refuses an account or an application."""


def remedy(kind: str | None) -> str:
    """Say what to do about a failure of this kind; None if an older version stored it."""
    if kind in ACCESS_REMEDIES:
        return f"{ACCESS_REMEDIES[kind]}; the next run retries it"
    if kind in (RequestRefused.kind, OrderNotFound.kind):
        return "Amazon refuses the request: `order-sync config check --online` may say why"
    return "the next run retries it"


def attention(
    setup: Setup,
    sources: Sequence[SourceStatus],
    totals: Totals,
    quarantined: Counts,
    retention: RetentionStatus,
    now: datetime,
) -> tuple[str, ...]:
    """Return all sentences, the most urgent first."""
    return (
        *(problem.message for problem in setup.problems),
        *(sentence for source in sources for sentence in _about_source(source, now)),
        *_about_quarantine(quarantined),
        *_about_totals(totals),
        *_about_files(setup, totals),
        *_about_retention(retention, now),
    )


def _about_source(source: SourceStatus, now: datetime) -> Iterator[str]:
    if source.refusal is not None:
        refusal = source.refusal
        since = f"Login with Amazon refuses the {refusal.kind} since {_since(refusal.since, now)}"
        yield f"{source.source}: {since}: {refusal.remedy}."
    elif source.failing_since is not None:
        since, why = _since(source.failing_since, now), source.last_error or "no answer"
        yield f"{source.source}: failing since {since} ({why}): {remedy(source.last_error_kind)}."
    elif (idle_since := _idle_since(source, now)) is not None:
        yield (
            f"{source.source}: No request to Amazon since {_since(idle_since, now)}. Is the service running? "
            "`order-sync run` is the service, `order-sync sync` one pass."
        )
    elif source.last_run is not None and source.last_run.started_at > now + CLOCKS_AGREE_WITHIN:
        yield (
            f"{source.source}: the last run is dated {_minute(source.last_run.started_at)}, in the future: "
            "the clock of this machine, or of the database, was ahead then or is behind now. Set it right."
        )
    elif (unread_since := _behind_since(source, now)) is not None:
        behind = lasting(now - unread_since)
        upto = f"{source.source}: complete only up to {_minute(unread_since)}, {behind} ago"
        yield f"{upto}: {_progress(source, now)}."
    for drop in source.identity_drops:
        yield sentence(source.source, drop)
    for marketplace in source.marketplaces:
        yield from _about_marketplace(source.account, marketplace)


def _about_marketplace(account: str, marketplace: MarketplaceStatus) -> Iterator[str]:
    name = f"{account}:{marketplace.marketplace}"
    if marketplace.enrolled is False:
        yield not_enrolled(name)
    elif marketplace.alone_since is not None:
        since = _minute(marketplace.alone_since)
        yield f"{name}: failing, and read apart from the others since {since} ({marketplace.trouble})."
    for gap in marketplace.gaps:
        if gap.state == "set_aside" and gap.retry_at is not None:
            yield (
                f"{name}: orders updated between {_minute(gap.lower)} and {_minute(gap.upper)} could not be "
                f"read ({gap.reason}); next retry at {_minute(gap.retry_at)}."
            )
    yield from about_verifications(account, marketplace)


def not_enrolled(place: str) -> str:
    """Say that orders of ``account:UK`` are not requested, and what to do."""
    return (
        f"{place}: the seller is not enrolled in this marketplace, so its orders are not requested: "
        "enrol, or set enabled = false in its file."
    )


def about_verifications(account: str, marketplace: MarketplaceStatus) -> Iterator[str]:
    """Yield what a person should know of a marketplace's verifications."""
    for verification in marketplace.unsettled_verifications:
        yield from _about_verification(account, marketplace.marketplace, verification)
    if (why := marketplace.verification_waits) is not None:
        yield f"{account}:{marketplace.marketplace}: the weekly verification is late: {why}."


def _about_verification(account: str, code: str, verification: VerificationStatus) -> Iterator[str]:
    """Yield what is missing, what was not compared, and the command that helps."""
    lower, upper, missing = verification.lower, verification.upper, verification.still_missing
    placed = f"placed from {lower:%Y-%m-%d} to {upper:%Y-%m-%d}"
    command = (
        f"order-sync verify --marketplace {code} --account {account} "
        f"--from {_option(lower)} --to {_option(upper + ALMOST_A_SECOND)}"
    )
    if missing:
        are = "is" if missing == 1 else "are"
        what = f"Amazon lists {counted(missing, 'order')}, {placed}, that {are} missing from the database"
        remedies = [f"`{command} --repair` fetches what is missing"]
        if verification.went_to_quarantine:
            what += f", {verification.went_to_quarantine} of them in quarantine"
            remedies.append("`order-sync quarantine list` says why they could not be read")
            if verification.went_to_quarantine == missing:
                del remedies[0]
        yield f"{account}:{code}: {what}: {', '.join(remedies)}."
    if verification.not_compared:
        failed = f"verification failed: {verification.message} (orders {placed})"
        yield f"{account}:{code}: {failed}: `{command}` retries it, or the same with `--by search`."


def _option(time: datetime) -> str:
    """Return a time as ``--from`` and ``--to`` take it, in whole seconds."""
    if time.hour == time.minute == time.second == 0:
        return f"{time:%Y-%m-%d}"
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _idle_since(source: SourceStatus, now: datetime) -> datetime | None:
    """Return when a source last ran, if it has had work to do for too long."""
    run = source.last_run
    if run is None or source.next_at > now:
        return None
    ran_at = run.finished_at or run.started_at
    return ran_at if now - ran_at > RUN_OVERDUE else None


def _behind_since(source: SourceStatus, now: datetime) -> datetime | None:
    """Return up to when a source is complete, if that is longer ago than its pace or a gap explains."""
    if source.covered_until is None or source.pace is None:
        return None
    has_reason = any(
        m.alone_since or any(g.state == "set_aside" for g in m.gaps) for m in source.marketplaces
    )
    usual = BEHIND + 2 * timedelta(seconds=source.pace.look_every_seconds)
    return source.covered_until if now - source.covered_until > usual and not has_reason else None


def _progress(source: SourceStatus, now: datetime) -> str:
    if source.succeeded_at is None or now - source.succeeded_at > BEHIND:
        since = "yet" if source.succeeded_at is None else f"since {_minute(source.succeeded_at)}"
        return f"no page has been stored {since}, the service's log says why"
    return "it is catching up"


def _about_quarantine(quarantined: Counts) -> Iterator[str]:
    see = "`order-sync quarantine list` says why"
    upgrade = f"{see}, and a newer version of this program may help"
    unhelped = quarantined.waiting - quarantined.without_id
    if unhelped:
        yield f"{counted(unhelped, 'order')} in quarantine, refetching has not helped: {upgrade}."
    if quarantined.without_id:
        has, it = ("has", "it") if quarantined.without_id == 1 else ("have", "they")
        orders = f"{counted(quarantined.without_id, 'order')} could not be read and {has} no usable id"
        yield f"{orders}, so {it} can't be requested again: {upgrade}."
    retried = quarantined.orders - quarantined.waiting
    if retried and quarantined.next_attempt_at is not None:
        after = f"refetched automatically, next after {_minute(quarantined.next_attempt_at)}"
        yield f"{counted(retried, 'order')} in quarantine, {after}: {see}."


def _about_totals(totals: Totals) -> Iterator[str]:
    if totals.held:
        why = "without e-mail, waiting for a customer (`order-sync orders list --basis held`)"
        yield f"{counted(totals.held, 'order')} held: {why}."
    if totals.suggested:
        pairs = f"{counted(totals.suggested, 'pair')} of customers"
        yield f"{pairs} suggested for merging (`order-sync customers duplicates`)."


def without_file(totals: Totals) -> list[Unconfigured]:
    """Return the orders that would get customers if their marketplace had a file.

    Orders of other shops, which Amazon only ships, name none of Amazon's marketplaces (``of_other_shops``).
    """
    return [group for group in totals.unconfigured if group.marketplace_id in BY_ID]


def of_other_shops(totals: Totals) -> list[Unconfigured]:
    """Return the orders of shops that are not Amazon's, or that name none: no file gives them customers."""
    return [group for group in totals.unconfigured if group.marketplace_id not in BY_ID]


def _about_files(setup: Setup, totals: Totals) -> Iterator[str]:
    """Yield which marketplaces need a file, or a better one; an account that was removed needs none."""
    in_use = {(name, place) for name, account in setup.accounts.items() for place in account.marketplaces}
    broken = {problem.place for problem in setup.problems if problem.place is not None}
    for group in without_file(totals):
        account, place = group.account, group.marketplace_id or ""
        if (account, place) in in_use or account not in setup.settings.accounts:
            continue
        if broken & {(account, place), ("", place)}:
            why = f"whose file for account {account} cannot be used: no customer until it can"
        else:
            why = f"which has no file for account {account}: no customer until it has one"
        yield f"{counted(group.orders, 'order')} of {BY_ID[place].code}, {why}."


def _about_retention(retention: RetentionStatus, now: datetime) -> Iterator[str]:
    if retention.days is None or retention.oldest_term is None:
        return
    late = now - retention.oldest_term - timedelta(days=retention.days)
    if late >= ERASURE_OVERDUE:
        yield (
            f"buyer data of {counted(retention.due, 'order')} should have been erased, the first {late.days} "
            "days ago: `order-sync privacy purge` erases it; a running service does so several times a day."
        )


def _minute(time: datetime) -> str:
    return f"{when(time)} UTC"


def _since(time: datetime, now: datetime) -> str:
    """Return a time, with its age if that is an hour or more."""
    hours = int((now - time) / timedelta(hours=1))
    if hours < 1:
        return _minute(time)
    return f"{_minute(time)} ({hours} h)" if hours < 48 else f"{_minute(time)} ({hours // 24} days)"
