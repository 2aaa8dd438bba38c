"""Amazon's report of all orders, as history and proofs of completeness both ask for it.

A report takes some minutes, at times over an hour; how long that is waited for, and what its end means, is
said here once. What it lists is a claim, and judged where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from connectors.base import Budget, OrderConnector
from connectors.errors import ReportUnreadable, RequestRefused
from connectors.orders import ListedOrder

PATIENCE = timedelta(hours=6)
"""After this long a report is taken to be never made."""

LOOKS = (2.0, 30.0, 60.0, 60.0, 120.0, 300.0)
"""Seconds between looks at a report that is being made, which a small one may be at once; the last one again
and again."""


class ReportForgotten(Exception):
    """Amazon does not know the report any more: it has to be asked for anew."""


def next_look(looks: int, now: datetime) -> datetime:
    """When to ask again whether a report is done, after so many looks."""
    return now + timedelta(seconds=LOOKS[min(looks, len(LOOKS) - 1)])


def is_overdue(asked_at: datetime | None, now: datetime) -> bool:
    """Whether a report has been waited for long enough."""
    return asked_at is not None and now - asked_at >= PATIENCE


def read(connector: OrderConnector, report_id: str, budget: Budget) -> Sequence[ListedOrder] | None:
    """The orders that a report lists; None while it is being made.

    A cancelled one lists none: that is how Amazon says that there were no orders. Raises ReportUnreadable,
    ReportForgotten and the connector's other errors.
    """
    try:
        state = connector.report_state(report_id, budget)
        if state.status == "CANCELLED":
            return ()
        if state.failed:
            raise ReportUnreadable(f"Amazon could not make the report ({state.status})")
        if not state.done or state.document_id is None:
            return None
        return connector.report_orders(state.document_id, budget)
    except RequestRefused as error:
        if error.status == 404:
            raise ReportForgotten("Amazon does not know the report any more") from error
        raise


def has_version(stored_at: datetime, listed_at: datetime) -> bool:
    """Whether a stored order is at least as new as a list says. Reports tell whole seconds."""
    return stored_at.replace(microsecond=0) >= listed_at.replace(microsecond=0)
