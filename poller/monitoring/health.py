"""Decide how the service stands: one list of items for ``status``, ``/readyz``, alerts and the console. Pure.

All doors show the same items, each from its own urgency on: ``status`` and the console all of them, alerts
those from ``alert`` on, ``/readyz`` those that are ``unready``. "All is well" is said only without any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from config.problems import Problem
from config.settings import Settings
from connectors.errors import AccessRefused, OrderNotFound, RequestRefused, SecretExpired
from connectors.marketplaces import BY_ID
from poller.ingest.accounts import Setup
from poller.matching import buyer_visibility
from poller.monitoring.status import (
    Gap,
    Item,
    MarketplaceStatus,
    RetentionStatus,
    SourceStatus,
    Urgency,
    VerificationStatus,
    Why,
)
from poller.privacy.purge import CLOCKS_AGREE_WITHIN
from poller.text import counted, lasting, when
from poller.verification.comparison import ALMOST_A_SECOND
from store.alerts import CredentialKind
from store.change_records import Backlog, Hook
from store.processes import ALIVE_FOR, Kind, Process
from store.quarantine import Counts
from store.queries import Totals, Unconfigured
from store.tokens import StoredToken

ERASURE_OVERDUE = timedelta(days=2)
"""How late erasing may be before it is reported."""

RUN_OVERDUE = timedelta(hours=2)
"""How long a source with work to do may go without a run before it is reported."""

BEHIND = timedelta(minutes=30)
"""How far a source may be behind, beside two of its paces, before it is reported."""

QUARANTINE_GROWTH = 5
QUARANTINE_GROWTH_WITHIN = timedelta(days=1)
"""That many orders that came into quarantine within that time are worth an alert."""

HOOK_FAILING_FOR = timedelta(hours=1)

VALID_FOR: Mapping[CredentialKind, timedelta] = {
    "secret": timedelta(days=180),
    "authorisation": timedelta(days=365),
}
"""How long Amazon accepts a client secret, and the authorisation of a public application."""

EXPIRY_WARNED_BEFORE = timedelta(days=30)

TOKEN_WARNED_BEFORE = timedelta(days=14)
"""How long before it expires a token of the HTTP API is reported."""

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
    "seller": "set the refresh token of its own seller, or run `order-sync accounts confirm NAME` if the "
    "account is to go on with this one",
    "renamed": "run `order-sync accounts rename OLD NEW` to carry that account's orders over, or set the "
    "refresh token of another seller",
}
"""What to do when an account or an application is refused, by what is refused."""


def remedy(kind: str | None) -> str:
    """Say what to do about a failure of this kind; None if an older version stored it."""
    if kind in ACCESS_REMEDIES:
        return f"{ACCESS_REMEDIES[kind]}; the next run retries it"
    if kind in (RequestRefused.kind, OrderNotFound.kind):
        return "Amazon refuses the request: `order-sync config check --online` may say why"
    return "the next run retries it"


@dataclass(frozen=True, slots=True)
class Limits:
    """How old a source's last success, oldest gap and refusal may be before the service is not ready."""

    success: timedelta = timedelta(hours=1)
    gap: timedelta = timedelta(hours=6)
    refusal: timedelta = timedelta(minutes=15)


def limits_of(settings: Settings) -> Limits:
    """Return the configured limits."""
    return Limits(
        timedelta(seconds=settings.ready_success_seconds),
        timedelta(seconds=settings.ready_gap_seconds),
        timedelta(seconds=settings.ready_refusal_seconds),
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential of an account; ``since``: when it was first seen in use, so it may be older."""

    account: str
    kind: CredentialKind
    since: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the items depend on, beside the configuration."""

    now: datetime
    sources: Sequence[SourceStatus]
    totals: Totals
    quarantined: Counts
    retention: RetentionStatus
    quarantined_lately: int = 0
    credentials: Sequence[Credential] = ()
    hooks: Sequence[tuple[Hook, Backlog]] = ()
    processes: Sequence[Process] = ()
    tokens: Sequence[StoredToken] = ()


def health(setup: Setup, facts: Facts) -> tuple[Item, ...]:
    """Return all items, the most urgent first."""
    limits, now = limits_of(setup.settings), facts.now
    items = [
        *(_about_problem(problem) for problem in setup.problems),
        *_about_processes(
            facts.processes, now, setup.owner, with_workers=setup.settings.executor != "threads"
        ),
        *_about_sources(facts.sources, now, limits, _serving_since(facts.processes, now)),
        *_about_quarantine(facts.quarantined, facts.quarantined_lately),
        *_about_totals(facts.totals),
        *_about_files(setup, facts.totals),
        *_about_retention(facts.retention, now),
        *_about_credentials(facts.credentials, now),
        *_about_tokens(facts.tokens, now),
        *_about_hooks(facts.hooks, now),
    ]
    return tuple(sorted(items, key=lambda item: -URGENCIES.index(item.urgency)))


URGENCIES = get_args(Urgency)


def _about_problem(problem: Problem) -> Item:
    urgency: Urgency = "note" if problem.stops == "nothing" else "alert"
    return Item("configuration", problem.subject, problem.message, urgency)


# --- processes --------------------------------------------------------------------------------------


def _about_processes(
    processes: Sequence[Process], now: datetime, reader: str, *, with_workers: bool
) -> Iterator[Item]:
    """Yield which processes are gone, lack a key, or have a clock that is wrong.

    ``reader``: the process that reads this. One that reads and is not seen cannot write.
    """
    alive = [process for process in processes if process.is_alive(now)]
    for process in alive:
        yield from _about_keys(process, alive)
        yield from _about_clock(process)
    kinds: tuple[Kind, ...] = ("service", "worker") if with_workers else ("service",)
    for kind in kinds:
        of_kind = [process for process in processes if process.kind == kind]
        if of_kind and not any(process in alive for process in of_kind):
            newest = max(of_kind, key=lambda process: process.seen_at)
            seen = _since(newest.seen_at, now)
            if newest.owner == reader:
                said = f"the {kind} {newest.name} has not been able to write to the database since {seen}"
                yield Item("process", kind, f"{said}: its log says why.", "unready")
            else:
                said = f"the {kind} {newest.name} has not been seen since {seen}"
                why = "it has died, hangs, or cannot write to the database"
                yield Item("process", kind, f"{said}: {why}. Its log says why.", "unready")
        elif kind == "worker" and not of_kind and any(now - p.started_at > ALIVE_FOR for p in alive):
            missing = "no worker carries out what the service queues: start `order-sync worker`"
            yield Item("process", kind, f"{missing}.", "unready")


def _about_keys(process: Process, alive: Sequence[Process]) -> Iterator[Item]:
    lacking = {other.key_ids[0] for other in alive} - {*process.key_ids}
    if lacking:
        name = f"the {process.kind} {process.name}"
        lacks = f"{name} lacks an encryption key that another process seals with"
        do = "give all processes the same keys in ORDER_SYNC_ENCRYPTION_KEY, and start it again"
        yield Item("keys", process.owner, f"{lacks}: {do}.", "unready")


def _about_clock(process: Process) -> Iterator[Item]:
    ahead = timedelta(seconds=process.clock_ahead or 0.0)
    if abs(ahead) > CLOCKS_AGREE_WITHIN:
        which = "ahead of" if ahead > timedelta() else "behind"
        clock = f"the clock of the {process.kind} {process.name} is {lasting(abs(ahead))} {which} Amazon's"
        yield Item("clock", process.owner, f"{clock}: set it right (NTP).", "unready")


# --- sources and marketplaces -----------------------------------------------------------------------


def _serving_since(processes: Sequence[Process], now: datetime) -> datetime | None:
    """Return since when a service that is alive has been running."""
    started = (p.started_at for p in processes if p.kind == "service" and p.is_alive(now))
    return min(started, default=None)


def _about_sources(
    sources: Sequence[SourceStatus], now: datetime, limits: Limits, serving_since: datetime | None
) -> Iterator[Item]:
    if not sources:
        nothing = "no source can be polled: `order-sync config check` says why."
        yield Item("sources", "", nothing, "unready")
    for source in sources:
        is_new = serving_since is None or now - serving_since <= limits.success
        yield from _about_source(source, now, limits, is_new=is_new)
        for drop in source.identity_drops:
            sentence = buyer_visibility.sentence(source.source, drop)
            yield Item("buyers", f"{source.source}:{drop.field}", sentence, "alert")
        for marketplace in source.marketplaces:
            yield from _about_marketplace(source.account, marketplace, now, limits)


def _about_source(source: SourceStatus, now: datetime, limits: Limits, *, is_new: bool) -> Iterator[Item]:
    """Yield what keeps a source from going on: one item, the cause before its effects.

    ``is_new``: no service has been running for long enough to have read from it.
    """
    succeeded_at, refusal, behind = source.succeeded_at, source.refusal, _behind_since(source)
    is_late = succeeded_at is None or now - succeeded_at > limits.success
    is_late |= behind is not None and now - behind > limits.gap

    def item(why: Why, sentence: str, *, is_bad: bool = False) -> Item:
        return Item(
            why, source.source, f"{source.source}: {sentence}", "unready" if is_late or is_bad else "note"
        )

    if refusal is not None:
        is_bad = now - refusal.since > limits.refusal
        since = _since(refusal.since, now)
        if refusal.kind in ("account", "application"):
            refused = f"Login with Amazon refuses the {refusal.kind} since {since}"
            yield item("authorisation", f"{refused}: {refusal.remedy}.", is_bad=is_bad)
        else:
            stopped = f"nothing is requested since {since}, because {refusal.reason}"
            yield item("seller", f"{stopped}: {refusal.remedy}.", is_bad=True)
    elif source.failing_since is not None:
        since, why = _since(source.failing_since, now), source.last_error or "no answer"
        yield item("success", f"failing since {since} ({why}): {remedy(source.last_error_kind)}.")
    elif (idle_since := _idle_since(source, now)) is not None:
        start = "`order-sync run` is the service, `order-sync sync` one pass."
        since = f"No request to Amazon since {_since(idle_since, now)}"
        yield item("success", f"{since}. Is the service running? {start}")
    elif source.last_run is not None and source.last_run.started_at > now + CLOCKS_AGREE_WITHIN:
        run = f"the last run is dated {_minute(source.last_run.started_at)}, in the future"
        clock = "the clock of this machine, or of the database, was ahead then or is behind now"
        yield item("clock", f"{run}: {clock}. Set it right.", is_bad=True)
    elif behind is not None and now - behind > _usual(source):
        upto = f"complete only up to {_minute(behind)}, {lasting(now - behind)} ago"
        yield item("behind", f"{upto}: {_progress(source, now)}.")
    elif succeeded_at is None:
        yield item(
            "start" if is_new else "success", f"nothing has been read from Amazon yet: {source.next_why}."
        )
    elif is_late:
        yield item("success", f"nothing has been read from Amazon since {_since(succeeded_at, now)}.")


def _about_marketplace(
    account: str, marketplace: MarketplaceStatus, now: datetime, limits: Limits
) -> Iterator[Item]:
    name = f"{account}:{marketplace.marketplace}"
    unread = unread_since(marketplace)
    urgency: Urgency = "unready" if unread is not None and now - unread > limits.gap else "note"
    if marketplace.enrolled is False:
        yield Item("enrolment", name, not_enrolled(name), "unready")
    else:
        if marketplace.alone_since is not None:
            since = f"failing, and read apart from the others since {_minute(marketplace.alone_since)}"
            yield Item("alone", name, f"{name}: {since} ({marketplace.trouble}).", urgency)
        yield from _about_gaps(name, marketplace.gaps, urgency)
    yield from _about_verifications(account, marketplace)


def _about_gaps(name: str, gaps: Sequence[Gap], urgency: Urgency) -> Iterator[Item]:
    """Yield the oldest gap with this urgency, if it has one, and every other that is set aside."""
    for number, gap in enumerate(sorted(gaps, key=lambda gap: gap.lower)):
        if gap.state == "set_aside" and gap.retry_at is not None:
            between = f"orders updated between {_minute(gap.lower)} and {_minute(gap.upper)}"
            why = f"could not be read ({gap.reason}); next retry at {_minute(gap.retry_at)}"
            yield Item("gap", name, f"{name}: {between} {why}.", "note" if number else urgency)
        elif number == 0 and urgency != "note":
            missing = f"orders updated since {_minute(gap.lower)} have not all been read"
            yield Item("gap", name, f"{name}: {missing}: `order-sync status` lists the gaps.", urgency)


def not_enrolled(place: str) -> str:
    """Say that orders of ``account:UK`` are not requested, and what to do."""
    return (
        f"{place}: the seller is not enrolled in this marketplace, so its orders are not requested: "
        "enrol, or set enabled = false in its file."
    )


def _about_verifications(account: str, marketplace: MarketplaceStatus) -> Iterator[Item]:
    """Yield what a person should know of a marketplace's verifications; the first is sent to people."""
    code = marketplace.marketplace
    sentences = [
        sentence
        for verification in marketplace.unsettled_verifications
        for sentence in _about_verification(account, code, verification)
    ]
    if (why := marketplace.verification_waits) is not None:
        sentences.append(f"{account}:{code}: the weekly verification is late: {why}.")
    for number, sentence in enumerate(sentences):
        yield Item("verification", f"{account}:{code}", sentence, "note" if number else "alert")


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


def _behind_since(source: SourceStatus) -> datetime | None:
    """Return up to when a source is complete, in the marketplaces that say of themselves nothing worse.

    Those that come by report alone are behind by nature, and say so themselves if a report is late.
    """
    bounds = [
        marketplace.covered_until
        for marketplace in source.marketplaces
        if marketplace.enrolled is not False
        and marketplace.behind_seconds is not None
        and marketplace.alone_since is None
        and not any(gap.state == "set_aside" for gap in marketplace.gaps)
    ]
    return min((bound for bound in bounds if bound is not None), default=None)


def _usual(source: SourceStatus) -> timedelta:
    """Return how far a source may be behind before that is reported."""
    every = 0.0 if source.pace is None else source.pace.look_every_seconds
    return BEHIND + 2 * timedelta(seconds=every)


def unread_since(marketplace: MarketplaceStatus) -> datetime | None:
    """Return from when on a marketplace has not been read: since its oldest gap, or since its last look."""
    is_read = marketplace.enrolled is not False and marketplace.behind_seconds is not None
    bounds = (oldest_gap(marketplace), marketplace.covered_until if is_read else None)
    return min((bound for bound in bounds if bound is not None), default=None)


def oldest_gap(marketplace: MarketplaceStatus) -> datetime | None:
    """Return where a marketplace's oldest gap begins; without enrolment there are no gaps."""
    if marketplace.enrolled is False:
        return None
    return min((gap.lower for gap in marketplace.gaps), default=None)


def _progress(source: SourceStatus, now: datetime) -> str:
    if source.succeeded_at is None or now - source.succeeded_at > BEHIND:
        since = "yet" if source.succeeded_at is None else f"since {_minute(source.succeeded_at)}"
        return f"no page has been stored {since}, the service's log says why"
    return "it is catching up"


# --- orders and customers ---------------------------------------------------------------------------


def _about_quarantine(quarantined: Counts, lately: int) -> Iterator[Item]:
    """Yield what is in quarantine; the first item is sent to people while the quarantine grows."""
    see = "`order-sync quarantine list` says why"
    upgrade = f"{see}, and a newer version of this program may help"
    sentences = []
    unhelped = quarantined.waiting - quarantined.without_id
    if unhelped:
        sentences.append(f"{counted(unhelped, 'order')} in quarantine, refetching has not helped: {upgrade}.")
    if quarantined.without_id:
        has, it = ("has", "it") if quarantined.without_id == 1 else ("have", "they")
        orders = f"{counted(quarantined.without_id, 'order')} could not be read and {has} no usable id"
        sentences.append(f"{orders}, so {it} can't be requested again: {upgrade}.")
    retried = quarantined.orders - quarantined.waiting
    if retried and quarantined.next_attempt_at is not None:
        after = f"refetched automatically, next after {_minute(quarantined.next_attempt_at)}"
        sentences.append(f"{counted(retried, 'order')} in quarantine, {after}: {see}.")
    is_growing = lately >= QUARANTINE_GROWTH
    for number, sentence in enumerate(sentences):
        grown = f"{lately} orders came into quarantine within a day. " if is_growing and not number else ""
        yield Item("quarantine", "", f"{grown}{sentence}", "alert" if grown else "note")


def _about_totals(totals: Totals) -> Iterator[Item]:
    if totals.held:
        why = "without e-mail, waiting for a customer (`order-sync orders list --basis held`)"
        yield Item("held", "", f"{counted(totals.held, 'order')} held: {why}.")
    if totals.suggested:
        pairs = f"{counted(totals.suggested, 'pair')} of customers"
        yield Item("duplicates", "", f"{pairs} suggested for merging (`order-sync customers duplicates`).")


def without_file(totals: Totals) -> list[Unconfigured]:
    """Return the orders that would get customers if their marketplace had a file.

    Orders of other shops, which Amazon only ships, name none of Amazon's marketplaces (``of_other_shops``).
    """
    return [group for group in totals.unconfigured if group.marketplace_id in BY_ID]


def of_other_shops(totals: Totals) -> list[Unconfigured]:
    """Return the orders of shops that are not Amazon's and have no file, or that name no shop."""
    return [group for group in totals.unconfigured if group.marketplace_id not in BY_ID]


def _about_files(setup: Setup, totals: Totals) -> Iterator[Item]:
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
        code = BY_ID[place].code
        yield Item("file", f"{account}:{code}", f"{counted(group.orders, 'order')} of {code}, {why}.")


# --- erasing, credentials, webhooks -----------------------------------------------------------------


def _about_retention(retention: RetentionStatus, now: datetime) -> Iterator[Item]:
    if retention.days is None or retention.oldest_term is None:
        return
    late = now - retention.oldest_term - timedelta(days=retention.days)
    if late >= ERASURE_OVERDUE:
        orders = counted(retention.due, "order")
        overdue = f"buyer data of {orders} should have been erased, the first {late.days} days ago"
        purge = "`order-sync privacy purge` erases it; a running service does so several times a day"
        yield Item("retention", "", f"{overdue}: {purge}.", "alert")


def _about_credentials(credentials: Iterable[Credential], now: datetime) -> Iterator[Item]:
    for credential in credentials:
        valid_for = VALID_FOR.get(credential.kind)
        if valid_for is None or credential.since + valid_for - now > EXPIRY_WARNED_BEFORE:
            continue
        expires_at = credential.since + valid_for
        in_use = f"in use since {credential.since:%Y-%m-%d} or longer"
        latest = f"by {expires_at:%Y-%m-%d} at the latest"
        if credential.kind == "secret":
            what = f"the client secret is {in_use}"
            do = f"Amazon lets it expire 180 days after it was made, {latest}: make a new one"
        else:
            what = f"the authorisation is {in_use}"
            do = (
                f"a seller must renew that of a public application every 365 days, {latest}; "
                "that of a private one only when its roles change"
            )
        subject = f"{credential.account}:{credential.kind}"
        yield Item("expiry", subject, f"{credential.account}: {what}: {do}.", "alert")


def _about_tokens(tokens: Iterable[StoredToken], now: datetime) -> Iterator[Item]:
    """Yield which tokens of the HTTP API expire soon, or have expired and are still sent."""
    for token in tokens:
        if token.expires_at is None or token.expires_at - now > TOKEN_WARNED_BEFORE:
            continue
        subject, on = f"token:{token.name}", f"{token.expires_at:%Y-%m-%d}"
        do = "make another one with `order-sync tokens add`, give it to its program, and remove this one"
        if not token.is_expired(now):
            yield Item("expiry", subject, f"the token {token.name} expires on {on}: {do}.", "alert")
        else:
            yield Item("expiry", subject, f"the token {token.name} expired on {on}: {do}.")


def _about_hooks(hooks: Iterable[tuple[Hook, Backlog]], now: datetime) -> Iterator[Item]:
    for hook, backlog in hooks:
        name = f"webhook {hook.hook_id}"
        if hook.failing_since is not None and now - hook.failing_since > HOOK_FAILING_FOR:
            since = f"has accepted nothing since {when(hook.failing_since)} UTC"
            yield Item("receiver", str(hook.hook_id), f"{name} {since} ({hook.last_error}).", "alert")
        if backlog.dead:
            events = f"{counted(backlog.dead, 'event was', 'events were')} given up"
            see = f"`order-sync webhooks dead {hook.hook_id}` lists them"
            yield Item("events", str(hook.hook_id), f"{name}: {events}: {see}.", "alert")


def _minute(time: datetime) -> str:
    return f"{when(time)} UTC"


def _since(time: datetime, now: datetime) -> str:
    """Return a time, with its age if that is an hour or more."""
    hours = int((now - time) / timedelta(hours=1))
    if hours < 1:
        return _minute(time)
    return f"{_minute(time)} ({hours} h)" if hours < 48 else f"{_minute(time)} ({hours // 24} days)"
