"""Decide whether the service is ready, as ``/readyz`` answers.

``readiness`` decides from a status; ``check`` gathers that status first. (``/healthz`` only asks whether the
process is alive: ``poller.service.heartbeat.is_alive``.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from config.settings import Settings
from poller.ingest.accounts import Setup
from poller.monitoring.attention import not_enrolled
from poller.monitoring.gather import gather
from poller.monitoring.status import MarketplaceStatus, SourceStatus, Status
from poller.text import when
from store.engine import Store, Unavailable, reason_of
from store.queries import UNCOUNTED

Why = Literal["database", "sources", "success", "gap", "authorisation", "enrolment"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How old a source's last success, oldest gap and refusal may be."""

    success: timedelta = timedelta(hours=1)
    gap: timedelta = timedelta(hours=6)
    refusal: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Reason:
    """One limit that is exceeded. ``subject``: the source, or ``account:UK`` for a marketplace."""

    why: Why
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer. Its reasons are shown only to callers who may read."""

    reasons: tuple[Reason, ...]

    @property
    def ready(self) -> bool:
        return not self.reasons


def limits_of(settings: Settings) -> Limits:
    """Return the configured limits."""
    return Limits(
        timedelta(seconds=settings.ready_success_seconds),
        timedelta(seconds=settings.ready_gap_seconds),
        timedelta(seconds=settings.ready_refusal_seconds),
    )


def check(store: Store, setup: Setup) -> Readiness:
    """Gather the status and decide; a database that is away makes the service not ready."""
    try:
        return readiness(gather(store, setup, lambda _: UNCOUNTED), limits_of(setup.settings))
    except Unavailable as error:
        return Readiness((Reason("database", "", f"the database is away ({reason_of(error)})."),))


def readiness(status: Status, limits: Limits) -> Readiness:
    """Return what keeps the service from being ready, the worst first."""
    if not status.sources:
        nothing = "no source can be polled: `order-sync config check` says why."
        return Readiness((Reason("sources", "", nothing),))
    reasons = [reason for source in status.sources for reason in _of_source(source, status.at, limits)]
    return Readiness(tuple(reasons))


def _of_source(source: SourceStatus, now: datetime, limits: Limits) -> Iterator[Reason]:
    name, refusal = source.source, source.refusal
    if refusal is not None and now - refusal.since > limits.refusal:
        since = f"Login with Amazon refuses the {refusal.kind} since {when(refusal.since)} UTC"
        yield Reason("authorisation", name, f"{name}: {since}: {refusal.remedy}.")
    if source.succeeded_at is None:
        yield Reason("success", name, f"{name}: nothing has been read from Amazon yet.")
    elif now - source.succeeded_at > limits.success:
        since = f"{when(source.succeeded_at)} UTC"
        yield Reason("success", name, f"{name}: nothing has been read from Amazon since {since}.")
    for marketplace in source.marketplaces:
        place = f"{source.account}:{marketplace.marketplace}"
        if marketplace.enrolled is False:
            yield Reason("enrolment", place, not_enrolled(place))
        unread = unread_since(marketplace)
        if unread is not None and now - unread > limits.gap:
            missing = f"orders updated since {when(unread)} UTC have not all been read"
            yield Reason("gap", place, f"{place}: {missing}: `order-sync status` lists the gaps.")


def unread_since(marketplace: MarketplaceStatus) -> datetime | None:
    """Return from when on a marketplace has not been read: since its oldest gap, or since its last look."""
    bounds = (oldest_gap(marketplace), None if marketplace.enrolled is False else marketplace.covered_until)
    return min((bound for bound in bounds if bound is not None), default=None)


def oldest_gap(marketplace: MarketplaceStatus) -> datetime | None:
    """Return where a marketplace's oldest gap begins; without enrolment there are no gaps."""
    if marketplace.enrolled is False:
        return None
    return min((gap.lower for gap in marketplace.gaps), default=None)
