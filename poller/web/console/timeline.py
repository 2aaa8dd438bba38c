"""What happened to an order, as far as its record says. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from poller.matching.explanations import BASIS
from store.records import OrderRecord


class Event(NamedTuple):
    """One thing that happened."""

    at: datetime
    text: str


def timeline_of(order: OrderRecord) -> list[Event]:
    """Return the events of an order, the first one first."""
    return sorted(_events(order), key=lambda event: event.at)


def _events(order: OrderRecord) -> Iterator[Event]:
    yield Event(order.created_at, "placed at Amazon")
    yield Event(order.last_updated_at, "last changed at Amazon")
    if order.first_seen_at is not None:
        yield Event(order.first_seen_at, f"stored here: {BASIS[order.match_basis or 'none']}")
    if order.changed_at is not None and order.changed_at != order.first_seen_at:
        yield Event(order.changed_at, "last changed here; programs that follow changes receive it")
    sent = {package.shipped_at for package in order.packages if package.shipped_at is not None}
    if sent:
        for number, at in enumerate(sorted(sent)):
            yield Event(at, "a further package shipped" if number else "shipped")
    elif order.shipped_at is not None:
        yield Event(order.shipped_at, "seen as shipped")
    if order.delivered_at is not None:
        yield Event(order.delivered_at, "seen as delivered")
    if order.cancelled_at is not None:
        yield Event(order.cancelled_at, "seen as cancelled")
    if order.erased_at is not None:
        yield Event(order.erased_at, "buyer data erased")
