"""What the poller asks of a connector, and what a connector asks of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from connectors.orders import AmazonOrder, ListedOrder, OrderPage, UnreadableOrder

Operation = Literal[
    "searchOrders",
    "getOrder",
    "getMarketplaceParticipations",
    "createReport",
    "getReport",
    "getReportDocument",
]
"""A request with a usage plan of its own.

Amazon's names, because they are stored with budgets and shown by ``status`` and in metrics; listed here
so that the type checker knows every one.
"""

Axis = Literal["updated", "created"]
"""Which of an order's two times a window is an interval of."""

Clock = Callable[[], datetime]
"""Returns the present as aware UTC."""

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
    """One interval of orders; both bounds are inclusive. Frozen for as long as a page token lives.

    ``included_data`` and ``marketplace_ids`` are sent in this very order on every page.
    """

    axis: Axis
    after: datetime
    before: datetime
    marketplace_ids: tuple[str, ...]
    included_data: tuple[str, ...]


PAGE_SIZE = 100
"""Orders that a page of searchOrders holds at most. Source: Amazon's Orders API model 2026-01-01."""

WALK_LIMIT = timedelta(hours=20)
"""When a walk is begun again. A page token lives 24 hours (Amazon's Orders API model 2026-01-01)."""

REPORT_SPAN = timedelta(days=30)
"""A report over a longer range comes back empty, and without an error."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """The orders created in an interval of at most ``REPORT_SPAN``, both bounds inclusive."""

    after: datetime
    before: datetime
    marketplace_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportState:
    """How far a report is. ``document_id`` is there once it is done."""

    status: str
    """IN_QUEUE, IN_PROGRESS; DONE, CANCELLED (also: there was nothing to report), FATAL; or a newer word."""
    document_id: str | None

    @property
    def done(self) -> bool:
        """The document can be read."""
        return self.status == "DONE" and self.document_id is not None

    @property
    def failed(self) -> bool:
        """There will never be a document."""
        return self.status in {"CANCELLED", "FATAL"} or (self.status == "DONE" and self.document_id is None)


class Budget(Protocol):
    """What one call of a connector's method may spend of its account's stored request budget."""

    def take(self, operation: Operation, *, again: bool = False) -> None:
        """Take an HTTP attempt's token; ``again``: it repeats a failed one. Raises BudgetEmpty."""

    def observe_rate(self, operation: Operation, rate: float) -> None:
        """Amazon's rate header said ``rate`` tokens a second; the caller has checked that it is sane."""

    def drain(self, operation: Operation) -> datetime:
        """Amazon answered 429: the bucket is empty. Returns when the next token is there."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP attempt, told to whoever counts them. Holds nothing secret."""

    account: str
    operation: str
    outcome: str
    """``ok``, or the class name of the error it ended in."""
    retried: bool
    """True when another attempt at the same request follows."""
    seconds: float


AttemptObserver = Callable[[Attempt], None]


PayloadReader = Callable[[str], AmazonOrder | UnreadableOrder]
"""Reads the JSON of one order."""


class OrderConnector(Protocol):
    """One selling partner's orders in one region.

    Every method raises the errors of ``connectors.errors`` and nothing else on purpose.
    """

    def knows_time(self) -> bool:
        """Whether something has been heard from Amazon, so that ``amazon_now`` need not ask."""

    def has_access(self) -> bool:
        """Whether an order can be asked for at once, without an access token being fetched before."""

    def amazon_now(self) -> datetime:
        """Amazon's present time, estimated from its ``Date`` headers, never later than the truth.

        Asks for an access token when nothing has been heard from Amazon yet (costs no budget).
        """

    def forget_amazon_time(self) -> None:
        """The estimate proved wrong (a bound was refused): keep only the newest answer's."""

    def search(self, query: SearchQuery, page_token: str | None, budget: Budget) -> OrderPage:
        """One page. Raises PageExpired when ``page_token`` is refused."""

    def get(
        self, order_id: str, included_data: tuple[str, ...], budget: Budget
    ) -> AmazonOrder | UnreadableOrder:
        """One order by its id. Raises OrderNotFound."""

    def request_report(self, query: ReportQuery, budget: Budget) -> str:
        """Ask for the report of all orders of a stretch, which takes a while to make; returns its id."""

    def report_state(self, report_id: str, budget: Budget) -> ReportState:
        """How far a report is. Raises RequestRefused (status 404) when Amazon does not know it any more."""

    def report_orders(self, document_id: str, budget: Budget) -> tuple[ListedOrder, ...]:
        """Every order of a finished report, once: all of them or an error. Raises ReportUnreadable."""

    def read_payload(self, payload: str) -> AmazonOrder | UnreadableOrder:
        """Read one order's JSON, such as the payload of an unreadable one; sends nothing, never raises."""

    def participations(self, budget: Budget) -> frozenset[str]:
        """Ids of the marketplaces that this seller is enrolled in."""
