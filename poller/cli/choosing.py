"""What the options of several commands mean: a marketplace that is polled, a moment."""

from __future__ import annotations

from datetime import UTC, datetime

from connectors.amazon.marketplaces import BY_NAME
from poller.backfilling import Place, places
from poller.bootstrap import Service
from poller.cli.shell import BAD_INPUT, Failure


def chosen_place(service: Service, marketplace: str, account: str | None) -> Place:
    """The polled marketplace that ``--marketplace`` and ``--account`` name. Raises Failure."""
    known = BY_NAME.get(marketplace.strip().upper()) or BY_NAME.get(marketplace.strip())
    if known is None:
        codes = ", ".join(sorted({place.code for place in BY_NAME.values()}))
        raise Failure(f"{marketplace} is no marketplace of Amazon's; there are {codes}.", status=BAD_INPUT)
    polled = list(places(service))
    if account is not None and account not in service.accounts:
        names = ", ".join(sorted(service.accounts)) or "none"
        raise Failure(f"there is no account {account} that can be used; there is {names}.", status=BAD_INPUT)
    there = [p for p in polled if p.polled.marketplace_id == known.id and account in (None, p.name)]
    if not there:
        of = "" if account is None else f" of account {account}"
        codes = ", ".join(sorted(f"{p.name}:{p.polled.code}" for p in polled)) or "none"
        raise Failure(f"{known.code}{of} is not polled here; polled: {codes}.", status=BAD_INPUT)
    if len(there) > 1:
        names = " and ".join(sorted(p.name for p in there))
        raise Failure(f"accounts {names} both sell in {known.code}: add --account.", status=BAD_INPUT)
    return there[0]


def stretch_of(first: str, end: str) -> tuple[datetime, datetime]:
    """The stretch that ``--from`` and ``--to`` name, which does not include its end. Raises Failure."""
    lower, upper = _moment("--from", first), _moment("--to", end)
    if lower >= upper:
        raise Failure(
            f"--from {first} is not before --to {end}: --to is the day after the last one.", status=BAD_INPUT
        )
    return lower, upper


def _moment(option: str, text: str) -> datetime:
    """Whole seconds: neighbouring stretches meet there."""
    try:
        moment = datetime.fromisoformat(text).replace(microsecond=0)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Failure(
            f"{option} {text} is no date or time: write it as 2026-01-31 or 2026-01-31T12:00:00Z.",
            status=BAD_INPUT,
        ) from None
