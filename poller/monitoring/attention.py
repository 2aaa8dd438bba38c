"""Sentences about what a person should act on, the most urgent first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from connectors.errors import AccessRefused, OrderNotFound, RequestRefused
from connectors.marketplaces import BY_ID
from poller.ingest.accounts import Setup
from poller.matching.buyer_visibility import sentence
from poller.monitoring.status import MarketplaceStatus, RetentionStatus, SourceStatus, VerificationStatus
from poller.verification import comparison
from store.quarantine import Counts
from store.queries import Totals, Unconfigured

ERASING_OVERDUE = timedelta(days=2)
"""Buyer data that should have been erased so long ago is worth a word."""
OVERDUE = timedelta(hours=2)
"""A source that has work to do and has not been run for so long: nobody sees to it."""


ACCESS_REMEDY = (
    "Amazon refuses access: check that the application has the roles it needs and that the seller "
    "authorised it after they were granted"
)


def remedy(kind: str | None) -> str:
    """Say what to do about a failure of this kind; None is that of a row that an older version stored."""
    if kind == AccessRefused.kind:
        return f"{ACCESS_REMEDY}; the next run retries it"
    if kind in (RequestRefused.kind, OrderNotFound.kind):
        return "Amazon refuses the request: `order-sync config check --online` may say why"
    return "the next run retries it"


REFUSED = {
    "account": "authorise the application again in Seller Central and set the new refresh token",
    "application": "see that LWA_CLIENT_ID and LWA_CLIENT_SECRET are the application's present ones",
}
"""What to do when Login with Amazon refuses an account or an application."""


def attention(
    setup: Setup,
    sources: Sequence[SourceStatus],
    totals: Totals,
    kept: Counts,
    retention: RetentionStatus,
    now: datetime,
) -> tuple[str, ...]:
    """All sentences, the worst first."""
    return (
        *(problem.message for problem in setup.problems),
        *(sentence for source in sources for sentence in _attention(source, now)),
        *_attention_of_quarantine(kept),
        *_attention_of_totals(totals),
        *_attention_of_files(setup, totals),
        *_attention_of_retention(retention, now),
    )


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
            f"{remedy(source.last_error_kind)}."
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


def _attention_of_files(setup: Setup, totals: Totals) -> list[str]:
    """Which marketplaces need a file, or a better one. An account that was taken out needs none."""
    in_use = {(name, place) for name, account in setup.accounts.items() for place in account.marketplaces}
    broken = {problem.place for problem in setup.problems if problem.place is not None}
    found = []
    for one in without_file(totals):
        account, place = one.account, one.marketplace_id or ""
        if (account, place) in in_use or account not in setup.settings.accounts:
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
