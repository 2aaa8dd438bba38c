"""Amazon's words for how far an order is."""

from __future__ import annotations

from typing import Literal

from store.records import PackageRecord

PENDING = frozenset({"PENDING", "PENDING_AVAILABILITY"})


CANCELLED = "CANCELLED"


Stage = Literal["delivered", "shipped", "cancelled", "open"]


_UNDER_WAY = frozenset({"UNSHIPPED", "PARTIALLY_SHIPPED"})


_DELIVERED = frozenset({"DELIVERED"})


_CALLED_OFF = frozenset({"DELIVERED", CANCELLED})


def stage(status: str | None, packages: tuple[PackageRecord, ...]) -> Stage:
    """How far an order has got (R60).

    *Delivered* when every package is (cancelled ones aside) and none is to come: of several packages
    the last one counts, since its recipient is still needed.
    """
    if packages and status not in _UNDER_WAY and not is_pending(status):
        kinds = {package.status for package in packages}
        if kinds >= _DELIVERED and kinds <= _CALLED_OFF:
            return "delivered"
    if status == "SHIPPED":
        return "shipped"
    return "cancelled" if status == CANCELLED else "open"


def is_pending(status: str | None) -> bool:
    """True while Amazon has not made the order ready (R30).

    No status at all (the copy carries no fulfilment data) is pending too: whether the order is ready is
    not known, pending orders are remembered, counted and fetched again, and a customer given too early
    cannot be taken back. A status that is given but unfamiliar counts as final.
    """
    return status is None or status in PENDING


def is_ready(status: str | None) -> bool:
    """True for every final status but CANCELLED, which says nothing about what was before it (R32, R33)."""
    return status != CANCELLED and not is_pending(status)
