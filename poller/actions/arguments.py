"""Parse what people name: a polled marketplace, a range of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta

from connectors.marketplaces import BY_NAME
from poller.errors import Refused
from poller.ingest.accounts import Account
from poller.ingest.sources import PolledMarketplace, Source
from store.progress import Backfill


@dataclass(frozen=True, slots=True)
class Place:
    """A polled marketplace."""

    account: Account
    source: Source
    polled: PolledMarketplace

    @property
    def name(self) -> str:
        return self.source.account


def places(accounts: Mapping[str, Account]) -> Iterable[Place]:
    """Yield every polled marketplace."""
    for account in accounts.values():
        for source in account.sources:
            for polled in source.verified().values():
                yield Place(account, source, polled)


def place_of(accounts: Mapping[str, Account], backfill: Backfill) -> Place | None:
    """Return a backfill's marketplace, or None if it is no longer polled."""
    account = accounts.get(backfill.account)
    for source in () if account is None else account.sources:
        polled = source.marketplaces.get(backfill.marketplace_id)
        if account is not None and polled is not None:
            return Place(account, source, polled)
    return None


@dataclass(frozen=True, slots=True)
class Words:
    """The names of arguments, as options or as fields, so that messages name what was typed."""

    lower: str = "from"
    upper: str = "to"
    account: str = "account"
    by: str = "by"
    again: str = "again"


OPTIONS = Words("--from", "--to", "--account", "--by", "--again")
FIELDS = Words()


def chosen_place(
    accounts: Mapping[str, Account], marketplace: str, account: str | None, words: Words = OPTIONS
) -> Place:
    """Return the polled marketplace of a name. Raises Refused."""
    named = BY_NAME.get(marketplace.strip().upper()) or BY_NAME.get(marketplace.strip())
    if named is None:
        codes = ", ".join(sorted({place.code for place in BY_NAME.values()}))
        raise Refused(f"{marketplace} is not an Amazon marketplace; there are {codes}.")
    polled = list(places(accounts))
    if account is not None and account not in accounts:
        names = ", ".join(sorted(accounts)) or "none"
        raise Refused(f"there is no usable account {account}; accounts: {names}.")
    matching = [p for p in polled if p.polled.marketplace_id == named.id and account in (None, p.name)]
    if not matching:
        of = "" if account is None else f" of account {account}"
        codes = ", ".join(sorted(f"{p.name}:{p.polled.code}" for p in polled)) or "none"
        raise Refused(f"{named.code}{of} is not polled; polled: {codes}.")
    if len(matching) > 1:
        names = " and ".join(sorted(p.name for p in matching))
        raise Refused(f"accounts {names} both sell in {named.code}: add {words.account}.")
    return matching[0]


def parsed_range(first: str, end: str, words: Words = OPTIONS) -> tuple[datetime, datetime]:
    """Return the range from one time up to, not including, another. Raises Refused."""
    lower, upper = parsed_time(words.lower, first), parsed_time(words.upper, end)
    if lower >= upper:
        raise Refused(
            f"{words.lower} {first} is not before {words.upper} {end}: "
            f"{words.upper} is the day after the last day."
        )
    return lower, upper


def day_after(option: str, text: str) -> datetime | None:
    """Return the end of a day; None if it is the last day that there is. Raises Refused."""
    day = parsed_time(option, text)
    return None if day.year == MAXYEAR else day + timedelta(days=1)


def parsed_time(option: str, text: str) -> datetime:
    """Parse a time, in whole seconds, where neighbouring ranges meet. Raises Refused."""
    try:
        time = datetime.fromisoformat(text).replace(microsecond=0)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(
            f"{option} {text} is not a date or time: write it as 2026-01-31 or 2026-01-31T12:00:00Z.",
        ) from None
