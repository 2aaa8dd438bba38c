"""Amazon's report of all orders, as backfills and verifications both request it.

A report takes minutes, sometimes over an hour. How long to wait for it, and what its end means, is said here
once. What it lists is a claim, judged where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.base import Budget, OrderConnector
from connectors.errors import ReportUnreadable, RequestRefused
from connectors.marketplaces import NON_AMAZON
from connectors.orders import ListedOrder, OrderReport

OVERDUE_AFTER = timedelta(hours=6)
"""A report that is not made within this time never will be."""

CHECK_PAUSES = (2.0, 30.0, *[60.0] * 10, 300.0)
"""Seconds before each check of a report that is being made, the last one repeated; a small one may be made
at once."""


class ReportForgotten(Exception):
    """Amazon does not know the report any more: request another one."""


@dataclass(frozen=True, slots=True)
class Share:
    """A marketplace's share of a report, which lists all orders of its region.

    ``listed`` counts the orders of the whole report, ``non_amazon`` those of other shops than Amazon's.
    ``unreadable`` and ``first_unreadable`` are of the whole report: those rows may be of this marketplace.
    """

    orders: tuple[ListedOrder, ...]
    listed: int = 0
    non_amazon: int = 0
    unreadable: int = 0
    first_unreadable: str | None = None


def share_of(report: OrderReport, marketplace_id: str) -> Share:
    """Return a marketplace's share. What has an unknown sales channel belongs to each of Amazon's shops.

    Only fetching such an order shows where it was placed, and none may be lost.
    """
    others = tuple(order for order in report.orders if order.marketplace_id == NON_AMAZON.id)
    if marketplace_id == NON_AMAZON.id:
        orders = others
    else:
        orders = tuple(o for o in report.orders if o.marketplace_id in (marketplace_id, None))
    return Share(orders, len(report.orders), len(others), report.unreadable, report.first_unreadable)


def next_check(checks: int, now: datetime) -> datetime:
    """Return when to check again if a report is done, after ``checks`` checks."""
    return now + timedelta(seconds=CHECK_PAUSES[min(checks, len(CHECK_PAUSES) - 1)])


def is_overdue(asked_at: datetime | None, now: datetime) -> bool:
    """Return True if a report was requested so long ago that it is given up."""
    return asked_at is not None and now - asked_at >= OVERDUE_AFTER


def read(connector: OrderConnector, report_id: str, marketplace_id: str, budget: Budget) -> Share | None:
    """Return a marketplace's share of a report; None while it is being made.

    A cancelled one lists none: so Amazon says that there were no orders. Raises ReportUnreadable,
    ReportForgotten and the connector's other errors.
    """
    try:
        state = connector.report_state(report_id, budget)
        if state.status == "CANCELLED":
            return Share(())
        if state.failed:
            raise ReportUnreadable(f"Amazon could not make the report ({state.status})")
        if not state.done or state.document_id is None:
            return None
        return share_of(connector.report_orders(state.document_id, budget), marketplace_id)
    except RequestRefused as error:
        if error.status == 404:
            raise ReportForgotten("Amazon does not know the report any more") from error
        raise


def has_version(stored_at: datetime, listed_at: datetime) -> bool:
    """Return True if a stored order is at least as new as listed. Reports have whole seconds."""
    return stored_at.replace(microsecond=0) >= listed_at.replace(microsecond=0)
