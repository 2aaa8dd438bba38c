"""Amazon's order statuses in one table, and the questions that they answer.

A status that is given but not in the table counts as final: Amazon adds words between two releases.
Source: ``FulfillmentStatus`` of Amazon's Orders API model 2026-01-01.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from store.records import PackageRecord


class Status(NamedTuple):
    """What a status says. Source of ``shows_buyer``: SP-API guide on personal data in orders."""

    phase: Literal["pending", "under way", "final"]
    shows_buyer: bool = False
    """Amazon shows the buyer of a merchant's order in this status."""


SHIPPED = "SHIPPED"
CANCELLED = "CANCELLED"

STATUSES: Mapping[str, Status] = {
    "PENDING_AVAILABILITY": Status("pending"),
    "PENDING": Status("pending"),
    "UNSHIPPED": Status("under way", shows_buyer=True),
    "PARTIALLY_SHIPPED": Status("under way", shows_buyer=True),
    SHIPPED: Status("final", shows_buyer=True),
    CANCELLED: Status("final"),
    "UNFULFILLABLE": Status("final"),
}

PENDING = frozenset(word for word, status in STATUSES.items() if status.phase == "pending")
UNDER_WAY = frozenset(word for word, status in STATUSES.items() if status.phase == "under way")
SHOWING_BUYERS = frozenset(word for word, status in STATUSES.items() if status.shows_buyer)

Stage = Literal["delivered", "shipped", "cancelled", "open"]

_DELIVERED = frozenset({"DELIVERED"})
_DELIVERED_OR_CANCELLED = frozenset({"DELIVERED", "CANCELLED"})


def stage(status: str | None, packages: tuple[PackageRecord, ...]) -> Stage:
    """Return how far an order has got (R60).

    It is delivered when every package is (cancelled ones aside) and none is to come: of several packages
    the last one counts, since its recipient is still needed.
    """
    if packages and status not in UNDER_WAY and not is_pending(status):
        package_statuses = {package.status for package in packages}
        if _DELIVERED <= package_statuses <= _DELIVERED_OR_CANCELLED:
            return "delivered"
    if status == SHIPPED:
        return "shipped"
    return "cancelled" if status == CANCELLED else "open"


def is_pending(status: str | None) -> bool:
    """Return True while Amazon has not made the order ready (R30).

    An order without a status (the copy carries no fulfilment data) is pending, too: nothing says that it is
    ready, pending orders are kept, counted and refetched, and a customer assigned too early cannot be
    taken back.
    """
    return status is None or status in PENDING


def is_ready(status: str | None) -> bool:
    """Return True for every final status but CANCELLED, which hides what was before it (R32, R33)."""
    return status != CANCELLED and not is_pending(status)
