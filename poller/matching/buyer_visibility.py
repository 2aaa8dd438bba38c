"""The share of orders that come with an e-mail and with a buyer's name, by day, and when it drops.

Amazon withdraws fields without notice, and a missing field is no error (R25): only a falling share shows it.
Live reading counts the orders that may name their buyer: shipped by the merchant, ready and not cancelled.
Pure; ``store.runs`` keeps the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, NamedTuple

from connectors.orders import AmazonOrder
from poller.matching.emails import is_address
from poller.matching.statuses import SHOWING_BUYERS

MEAN_PERIOD = timedelta(days=14)
ENOUGH_ORDERS = 5
"""A day with fewer orders that may name their buyer says nothing."""

Field = Literal["email", "name"]


class Seen(NamedTuple):
    """Counts of a page, a run or a day: orders that may name their buyer, with an e-mail, with a name."""

    identifiable: int = 0
    with_email: int = 0
    with_name: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """What a source saw on one day (UTC); a share is None without an order that may name its buyer."""

    day: date
    orders: int
    email_share: float | None
    name_share: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """A day on which a share fell below half its mean of the 14 days before."""

    day: date
    field: Field
    share: float
    mean: float
    orders: int


def may_name_buyer(order: AmazonOrder) -> bool:
    """Return True if Amazon shows the buyer of this order to an application with the role for it."""
    return order.fulfilled_by == "MERCHANT" and order.status in SHOWING_BUYERS and order.channel == "AMAZON"


def seen(orders: Iterable[AmazonOrder]) -> Seen:
    """Return the counts of some orders."""
    identifiable = with_email = with_name = 0
    for order in orders:
        if may_name_buyer(order):
            identifiable += 1
            buyer = order.buyer
            if buyer is not None:
                with_email += buyer.email is not None and is_address(buyer.email)
                with_name += buyer.name is not None
    return Seen(identifiable, with_email, with_name)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def days_of(counts: Mapping[date, Seen]) -> tuple[Day, ...]:
    """Return the days with their shares, newest first."""
    return tuple(
        Day(day, s.identifiable, _share(s.with_email, s.identifiable), _share(s.with_name, s.identifiable))
        for day, s in sorted(counts.items(), reverse=True)
        if s.identifiable
    )


def drops(counts: Mapping[date, Seen], today: date) -> Sequence[Drop]:
    """Return the drops of today or yesterday; of a field that dropped on both, today's."""
    newest: dict[Field, Drop] = {}
    for day in (today - timedelta(days=1), today):
        newest |= {drop.field: drop for drop in _drops_of(counts, day)}
    return tuple(newest.values())


def _drops_of(counts: Mapping[date, Seen], day: date) -> Iterable[Drop]:
    now = counts.get(day, Seen())
    before = [s for then, s in counts.items() if day - MEAN_PERIOD <= then < day]
    whole = sum(s.identifiable for s in before)
    if now.identifiable < ENOUGH_ORDERS or whole < ENOUGH_ORDERS:
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
    """Return what happened, and what to do."""
    return (
        f"{source}: on {drop.day} only {drop.share:.0%} of {drop.orders} orders that may show their buyer "
        f"came with {_WORDS[drop.field]}, after {drop.mean:.0%} in the 14 days before. Amazon may have "
        "withdrawn it: check that the application still has its roles (`order-sync config check --online`)."
    )
