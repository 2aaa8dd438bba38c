"""Whether the service may be relied upon: the decisions behind ``/healthz`` and ``/readyz``.

``healthz`` is ``poller.service.lifecycle.is_alive``: the process gives signs of life. ``readiness`` judges
a status that was gathered; ``look`` gathers it, and takes a database that is away for an answer as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from config.settings import Settings
from poller.ingest.accounts import Setup
from poller.monitoring.gather import gather
from poller.monitoring.status import MarketplaceStatus, SourceStatus, Status
from store.engine import Store, Unavailable, reason_of
from store.queries import UNCOUNTED

Why = Literal["database", "sources", "success", "gap", "authorisation"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How old the newest success, the oldest gap and a refusal of a source may be."""

    success: timedelta = timedelta(hours=1)
    gap: timedelta = timedelta(hours=6)
    refusal: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is beyond its limit. ``subject``: the source, or ``account:UK`` for a gap."""

    why: Why
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer. Its reasons are for those who may read, not for everybody."""

    reasons: tuple[Reason, ...]

    @property
    def ready(self) -> bool:
        return not self.reasons


def limits_of(settings: Settings) -> Limits:
    """The limits that are set."""
    return Limits(
        timedelta(seconds=settings.ready_success_seconds),
        timedelta(seconds=settings.ready_gap_seconds),
        timedelta(seconds=settings.ready_refusal_seconds),
    )


def look(store: Store, setup: Setup) -> Readiness:
    """Whether an opened and wired service is ready now."""
    try:
        return readiness(gather(store, setup, lambda _: UNCOUNTED), limits_of(setup.settings))
    except Unavailable as error:
        return Readiness((Reason("database", "", f"the database is away ({reason_of(error)})."),))


def readiness(status: Status, limits: Limits) -> Readiness:
    """What keeps the service from being ready, the worst first."""
    if not status.sources:
        nothing = "no source can be polled: `order-sync config check` says why."
        return Readiness((Reason("sources", "", nothing),))
    reasons = [reason for source in status.sources for reason in _of_source(source, status.at, limits)]
    return Readiness(tuple(reasons))


def _of_source(source: SourceStatus, now: datetime, limits: Limits) -> Iterator[Reason]:
    name, refusal = source.source, source.refusal
    if refusal is not None and now - refusal.since > limits.refusal:
        since = f"Login with Amazon refuses the {refusal.kind} since {_minute(refusal.since)}"
        yield Reason("authorisation", name, f"{name}: {since}: {refusal.remedy}.")
    if source.succeeded_at is None:
        yield Reason("success", name, f"{name}: nothing has been read from Amazon yet.")
    elif now - source.succeeded_at > limits.success:
        since = _minute(source.succeeded_at)
        yield Reason("success", name, f"{name}: nothing has been read from Amazon since {since}.")
    for marketplace in source.marketplaces:
        gap = oldest_gap(marketplace)
        if gap is not None and now - gap > limits.gap:
            place = f"{source.account}:{marketplace.marketplace}"
            missing = f"orders updated since {_minute(gap)} have not all been read"
            yield Reason("gap", place, f"{place}: {missing}: `order-sync status` has the gaps.")


def oldest_gap(marketplace: MarketplaceStatus) -> datetime | None:
    """Where the oldest gap of a marketplace begins; one that the seller is not enrolled in has none."""
    if marketplace.enrolled is False:
        return None
    return min((gap.lower for gap in marketplace.gaps), default=None)


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
