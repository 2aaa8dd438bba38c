"""Whether Amazon still shows who buys: the share of orders with an e-mail and with a buyer's name, by day.

Amazon withdraws fields without notice, and a missing one is no error (R25): all that shows it is that the
share falls. Counted are copies that live reading brings of orders that may name their buyer: shipped by the
merchant, ready and not cancelled. Pure; ``store.runs`` keeps the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, NamedTuple

from connectors.orders import AmazonOrder
from poller.matching.statuses import SHOWING_BUYERS

LOOKED_BACK = timedelta(days=14)
ENOUGH = 5
"""A day with fewer orders that may name their buyer says nothing."""

Field = Literal["email", "name"]


class Seen(NamedTuple):
    """Counts of a page, a run or a day."""

    identifiable: int = 0
    with_email: int = 0
    with_name: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """What a source saw on one day (UTC); shares are None when nothing could have been seen."""

    day: date
    orders: int
    email_share: float | None
    name_share: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """A day on which a share fell below half its mean over the 14 days before."""

    day: date
    field: Field
    share: float
    mean: float
    orders: int


def may_name_buyer(order: AmazonOrder) -> bool:
    """Whether Amazon would show the buyer of this order to an application with the role for it."""
    return order.fulfilled_by == "MERCHANT" and order.status in SHOWING_BUYERS and order.channel == "AMAZON"


def seen(orders: Iterable[AmazonOrder]) -> Seen:
    """Count one page."""
    identifiable = with_email = with_name = 0
    for order in orders:
        if may_name_buyer(order):
            identifiable += 1
            buyer = order.buyer
            if buyer is not None:
                with_email += buyer.email is not None
                with_name += buyer.name is not None
    return Seen(identifiable, with_email, with_name)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def days_of(counts: Mapping[date, Seen]) -> tuple[Day, ...]:
    """The days with their shares, newest first."""
    return tuple(
        Day(day, s.identifiable, _share(s.with_email, s.identifiable), _share(s.with_name, s.identifiable))
        for day, s in sorted(counts.items(), reverse=True)
        if s.identifiable
    )


def drops(counts: Mapping[date, Seen], today: date) -> Sequence[Drop]:
    """What fell today or yesterday; of both, today."""
    found: dict[Field, Drop] = {}
    for day in (today - timedelta(days=1), today):
        for drop in _drops_of(counts, day):
            found[drop.field] = drop
    return tuple(found.values())


def _drops_of(counts: Mapping[date, Seen], day: date) -> Iterable[Drop]:
    now = counts.get(day, Seen())
    before = [s for then, s in counts.items() if day - LOOKED_BACK <= then < day]
    whole = sum(s.identifiable for s in before)
    if now.identifiable < ENOUGH or whole < ENOUGH:
        return
    parts: tuple[tuple[Field, int, int], ...] = (
        ("email", now.with_email, sum(s.with_email for s in before)),
        ("name", now.with_name, sum(s.with_name for s in before)),
    )
    for name, part, earlier in parts:
        share, mean = part / now.identifiable, earlier / whole
        if share < mean / 2:
            yield Drop(day, name, share, mean, now.identifiable)


_WORDS = {"email": "an e-mail", "name": "a buyer's name"}


def sentence(source: str, drop: Drop) -> str:
    """What a person should know of it, and do."""
    return (
        f"{source}: on {drop.day} only {drop.share:.0%} of {drop.orders} orders that may show their buyer "
        f"came with {_WORDS[drop.field]}, after {drop.mean:.0%} in the 14 days before: Amazon may have "
        "withdrawn it; see whether the application still has its roles (`order-sync config check --online`)."
    )
