"""The protocol between the poller and a connector, with the values that they exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from connectors.orders import AmazonOrder, OrderPage, OrderReport, UnreadableOrder

Operation = Literal[
    "searchOrders",
    "getOrder",
    "getMarketplaceParticipations",
    "createReport",
    "getReport",
    "getReportDocument",
]
"""A request with its own usage plan.

These are Amazon's names, because budgets, ``status`` and metrics store and show them; listed here so that
the type checker knows each.
"""

Axis = Literal["updated", "created"]
"""The time of an order that a window bounds."""

Clock = Callable[[], datetime]
"""Returns the current time as aware UTC."""

Sleep = Callable[[float], None]
"""Waits for a number of seconds."""


@dataclass(frozen=True, slots=True)
class UsagePlan:
    """A token bucket as Amazon publishes it: ``rate`` tokens a second, at most ``burst`` stored."""

    rate: float
    burst: int


Plans = Mapping[Operation, UsagePlan]


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """An interval of orders, both bounds inclusive. Must not change while a page token of it lives.

    ``included_data`` and ``marketplace_ids`` are sent in this order with every page.
    ``fulfilled_by`` and ``statuses`` are Amazon's words; empty: all.
    """

    axis: Axis
    after: datetime
    before: datetime
    marketplace_ids: tuple[str, ...]
    included_data: tuple[str, ...]
    fulfilled_by: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


PAGE_SIZE = 100
"""Maximum number of orders on a page of searchOrders. Source: Amazon's Orders API model 2026-01-01."""

WALK_LIMIT = timedelta(hours=20)
"""Age at which a walk restarts. A page token lives 24 hours (Amazon's Orders API model 2026-01-01)."""

REPORT_SPAN = timedelta(days=30)
"""A report over a longer range comes back empty, without an error."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """The orders created in an interval of at most ``REPORT_SPAN``, both bounds inclusive."""

    after: datetime
    before: datetime
    marketplace_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportState:
    """The progress of a report. ``document_id`` is set once it is done."""

    status: str
    """IN_QUEUE, IN_PROGRESS, DONE, CANCELLED (also for an empty report), FATAL, or a newer word."""
    document_id: str | None

    @property
    def done(self) -> bool:
        """Return True if the document can be read."""
        return self.status == "DONE" and self.document_id is not None

    @property
    def failed(self) -> bool:
        """Return True if there will never be a document."""
        return self.status in {"CANCELLED", "FATAL"} or (self.status == "DONE" and self.document_id is None)


class Budget(Protocol):
    """What one call of a connector method may spend of its account's stored request budget."""

    def take(self, operation: Operation, *, again: bool = False) -> None:
        """Take the token for an HTTP attempt; ``again``: it repeats a failed one. Raises BudgetEmpty."""

    def observe_rate(self, operation: Operation, rate: float) -> None:
        """Note Amazon's rate header, in tokens per second. The caller has checked that it is plausible."""

    def drain(self, operation: Operation) -> datetime:
        """Empty the bucket, because Amazon answered 429. Return when the next token is available."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP attempt, as reported to the observer. Holds nothing secret."""

    account: str
    operation: str
    outcome: str
    """``ok``, or the class name of the error."""
    retried: bool
    """True if another attempt at the same request follows."""
    seconds: float


AttemptObserver = Callable[[Attempt], None]


PayloadReader = Callable[[str], AmazonOrder | UnreadableOrder]
"""Reads the JSON of one order."""


class OrderConnector(Protocol):
    """One selling partner's orders in one region.

    Every method raises the errors of ``connectors.errors`` and nothing else on purpose.
    """

    def knows_time(self) -> bool:
        """Return True if ``amazon_now`` needs no request."""

    def has_access(self) -> bool:
        """Return True if a request can be sent at once, without fetching an access token first."""

    def amazon_now(self) -> datetime:
        """Return Amazon's current time, estimated from its ``Date`` headers and never later than the truth.

        Fetches an access token if Amazon has not answered yet (costs no budget).
        """

    def ask_time(self) -> datetime:
        """Return Amazon's time by an answer that arrives now, even a refusal. Costs no budget."""

    def newest_answer(self) -> tuple[float, timedelta] | None:
        """Return when Amazon's newest answer came, in monotonic seconds, and what to add to the local time.

        None before the first answer.
        """

    def forget_amazon_time(self) -> None:
        """Keep only the newest answer's time, after a refused bound proved the estimate wrong."""

    def search(self, query: SearchQuery, page_token: str | None, budget: Budget) -> OrderPage:
        """Return one page. Raises PageExpired if ``page_token`` is refused."""

    def get(
        self, order_id: str, included_data: tuple[str, ...], budget: Budget
    ) -> AmazonOrder | UnreadableOrder:
        """Return one order by its ID. Raises OrderNotFound."""

    def request_report(self, query: ReportQuery, budget: Budget) -> str:
        """Request the report of all orders of a range, which takes a while to make. Return its ID."""

    def report_state(self, report_id: str, budget: Budget) -> ReportState:
        """Return the progress of a report. Raises RequestRefused (status 404) if Amazon has dropped it."""

    def report_orders(self, document_id: str, budget: Budget) -> OrderReport:
        """Return the orders of a finished report. Raises ReportUnreadable if it is no whole table."""

    def read_payload(self, payload: str) -> AmazonOrder | UnreadableOrder:
        """Read one order's JSON, such as the payload of an unreadable one. Sends nothing, never raises."""

    def participations(self, budget: Budget) -> frozenset[str]:
        """Return the IDs of the marketplaces that the seller is enrolled in."""
