"""What people mean: a marketplace that is polled, a stretch of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.marketplaces import BY_NAME
from poller.errors import Refused
from poller.ingest.accounts import Account
from poller.ingest.sources import PolledMarketplace, Source
from store.progress import Backfill


@dataclass(frozen=True, slots=True)
class Place:
    """A marketplace that is polled."""

    account: Account
    source: Source
    polled: PolledMarketplace

    @property
    def name(self) -> str:
        return self.source.account


def places(accounts: Mapping[str, Account]) -> Iterable[Place]:
    """Every marketplace that is polled."""
    for account in accounts.values():
        for source in account.sources:
            for polled in source.marketplaces.values():
                yield Place(account, source, polled)


def place_of(accounts: Mapping[str, Account], backfill: Backfill) -> Place | None:
    """Where a backfill belongs; None when its marketplace is not polled any more."""
    account = accounts.get(backfill.account)
    for source in () if account is None else account.sources:
        polled = source.marketplaces.get(backfill.marketplace_id)
        if account is not None and polled is not None:
            return Place(account, source, polled)
    return None


@dataclass(frozen=True, slots=True)
class Words:
    """How a person calls what a function is given, so that sentences speak of what was typed."""

    lower: str = "from"
    upper: str = "to"
    account: str = "account"
    by: str = "by"


OPTIONS = Words("--from", "--to", "--account", "--by")
FIELDS = Words()


def chosen_place(
    accounts: Mapping[str, Account], marketplace: str, account: str | None, words: Words = OPTIONS
) -> Place:
    """The polled marketplace that somebody names. Raises Refused."""
    known = BY_NAME.get(marketplace.strip().upper()) or BY_NAME.get(marketplace.strip())
    if known is None:
        codes = ", ".join(sorted({place.code for place in BY_NAME.values()}))
        raise Refused(f"{marketplace} is no marketplace of Amazon's; there are {codes}.")
    polled = list(places(accounts))
    if account is not None and account not in accounts:
        names = ", ".join(sorted(accounts)) or "none"
        raise Refused(f"there is no account {account} that can be used; there is {names}.")
    there = [p for p in polled if p.polled.marketplace_id == known.id and account in (None, p.name)]
    if not there:
        of = "" if account is None else f" of account {account}"
        codes = ", ".join(sorted(f"{p.name}:{p.polled.code}" for p in polled)) or "none"
        raise Refused(f"{known.code}{of} is not polled here; polled: {codes}.")
    if len(there) > 1:
        names = " and ".join(sorted(p.name for p in there))
        raise Refused(f"accounts {names} both sell in {known.code}: add {words.account}.")
    return there[0]


def stretch_of(first: str, end: str, words: Words = OPTIONS) -> tuple[datetime, datetime]:
    """The stretch that two texts name, which does not include its end. Raises Refused."""
    lower, upper = _moment(words.lower, first), _moment(words.upper, end)
    if lower >= upper:
        raise Refused(
            f"{words.lower} {first} is not before {words.upper} {end}: "
            f"{words.upper} is the day after the last one."
        )
    return lower, upper


def _moment(option: str, text: str) -> datetime:
    """Whole seconds: neighbouring stretches meet there."""
    try:
        moment = datetime.fromisoformat(text).replace(microsecond=0)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(
            f"{option} {text} is no date or time: write it as 2026-01-31 or 2026-01-31T12:00:00Z.",
        ) from None
