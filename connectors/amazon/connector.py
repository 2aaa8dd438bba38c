"""The real connector: what the poller asks, turned into budgeted, repeated, judged requests.

A request goes: access token (LWA, costs no budget) → token of the budget → request → answer heard
(``Date``, rate header, 429) → proven body → our vocabulary. The access token comes first so that an
outage of LWA does not eat the scarce tokens of the budget.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from connectors.amazon.auth import TOKEN_URL, AccessTokens, Credentials
from connectors.amazon.client import USER_AGENT, OrdersClient, ReportsClient, SellersClient, silence_libraries
from connectors.amazon.clock import AmazonTime
from connectors.amazon.documents import OPERATION as DOCUMENT
from connectors.amazon.documents import document_lines
from connectors.amazon.parse import order_of, order_of_json, page_of_json
from connectors.amazon.reports import (
    ReportAddress,
    created_report,
    orders_of,
    report_address,
    report_specification,
    report_state,
)
from connectors.amazon.retry import Retries
from connectors.amazon.wire import (
    Json,
    Question,
    date_of,
    error_of,
    json_object,
    message_of,
    promised,
    rate_of,
)
from connectors.base import (
    PAGE_SIZE,
    Attempt,
    AttemptObserver,
    Axis,
    Budget,
    Clock,
    Operation,
    ReportQuery,
    ReportState,
    SearchQuery,
    Sleep,
)
from connectors.errors import (
    BudgetEmpty,
    DocumentExpired,
    Garbled,
    OrderNotFound,
    RequestRefused,
    Throttled,
)
from connectors.orders import AmazonOrder, ListedOrder, OrderPage, UnreadableOrder

_BOUNDS: dict[Axis, tuple[str, str]] = {
    "updated": ("lastUpdatedAfter", "lastUpdatedBefore"),
    "created": ("createdAfter", "createdBefore"),
}

T = TypeVar("T")
C = TypeVar("C", OrdersClient, SellersClient, ReportsClient)


class AmazonConnector:
    """One selling partner's orders in one region (see ``connectors.base.OrderConnector``).

    Safe to share between threads. ``http`` may be shared by all accounts and is never closed here;
    time-outs are ours, whatever it was made with. ``rng`` decides the jitter of the waits.
    """

    def __init__(
        self,
        account: str,
        credentials: Credentials,
        *,
        endpoint: str,
        http: httpx.Client,
        now: Clock,
        sleep: Sleep,
        rng: random.Random,
        token_url: str = TOKEN_URL,
        observer: AttemptObserver | None = None,
    ) -> None:
        silence_libraries()
        self._account = account
        self._endpoint = endpoint
        self._http = http
        self._now = now
        self._sleep = sleep
        self._rng = rng
        self._observer = observer
        self._time = AmazonTime(now)
        self._tokens = AccessTokens(credentials, token_url, http, now, self._hear)

    def has_access(self) -> bool:
        """Whether there is an access token that is still good."""
        return self._tokens.has_one()

    # --- Amazon's time ---------------------------------------------------------------------

    def knows_time(self) -> bool:
        """Whether Amazon's time can be told without asking."""
        return self._time.estimate() is not None

    def amazon_now(self) -> datetime:
        """Amazon's present time, estimated from its ``Date`` headers, never later than the truth."""
        if not self.knows_time():
            self._access_token()
        estimate = self._time.estimate()
        if estimate is None:
            raise Garbled("accessToken: the answer carries no date")
        return estimate

    def forget_amazon_time(self) -> None:
        """A bound was refused: keep only the newest answer's."""
        self._time.forget()

    # --- orders --------------------------------------------------------------

    def search(self, query: SearchQuery, page_token: str | None, budget: Budget) -> OrderPage:
        """One page of at most 100 orders. Raises PageExpired when ``page_token`` is refused."""
        parameters = search_parameters(query, page_token)
        question = Question(
            "searchOrders", page_of_json, page_token_sent=page_token is not None, before=query.before
        )

        def request(access_token: str) -> OrderPage:
            client = self._client(OrdersClient, question, access_token, budget)
            page: OrderPage = client.search_orders(**parameters)
            return page

        return self._ask("searchOrders", budget, request)

    def get(
        self, order_id: str, included_data: tuple[str, ...], budget: Budget
    ) -> AmazonOrder | UnreadableOrder:
        """One order by its id. Raises OrderNotFound."""
        if not order_id.strip(" ."):  # would be a path to somewhere else
            raise OrderNotFound("getOrder: this is no order id", 404)
        parameters = {"includedData": ",".join(included_data)} if included_data else {}
        question = Question("getOrder", _answered_order)

        def request(access_token: str) -> AmazonOrder | UnreadableOrder:
            client = self._client(OrdersClient, question, access_token, budget)
            order: AmazonOrder | UnreadableOrder = client.get_order(order_id, **parameters)
            if order.order_id not in (order_id, None):
                raise Garbled("getOrder: the answer is about another order")
            return order

        return self._ask("getOrder", budget, request)

    read_payload = staticmethod(order_of_json)

    def participations(self, budget: Budget) -> frozenset[str]:
        """Ids of the marketplaces that this seller is enrolled in."""
        question = Question("getMarketplaceParticipations", _enrolled)

        def request(access_token: str) -> frozenset[str]:
            client = self._client(SellersClient, question, access_token, budget)
            enrolled: frozenset[str] = client.get_marketplace_participation()
            return enrolled

        return self._ask("getMarketplaceParticipations", budget, request)

    # --- reports ---------------------------------------------------------------------------

    def request_report(self, query: ReportQuery, budget: Budget) -> str:
        """Ask for the report of all orders of a stretch; returns the report's id.

        Repeated after an answer that was lost, it leaves a report behind that nobody reads.
        """
        specification = report_specification(query, amazon_text)
        question = Question("createReport", created_report)

        def request(access_token: str) -> str:
            client = self._client(ReportsClient, question, access_token, budget)
            report_id: str = client.create_report(**specification)
            return report_id

        return self._ask("createReport", budget, request)

    def report_state(self, report_id: str, budget: Budget) -> ReportState:
        """How far a report is. Raises RequestRefused (status 404) when Amazon does not know it any more."""
        question = Question("getReport", report_state)
        _check_id("getReport", report_id)

        def request(access_token: str) -> ReportState:
            client = self._client(ReportsClient, question, access_token, budget)
            # The empty list keeps the library from adding marketplaces, and is not sent.
            state: ReportState = client.get_report(report_id, marketplaceIds=[])
            return state

        return self._ask("getReport", budget, request)

    def report_orders(self, document_id: str, budget: Budget) -> tuple[ListedOrder, ...]:
        """Every order of a finished report, once: all of them or an error. Raises ReportUnreadable."""
        try:
            return self._read_document(self._document_address(document_id, budget))
        except DocumentExpired:
            return self._read_document(self._document_address(document_id, budget))

    def _document_address(self, document_id: str, budget: Budget) -> ReportAddress:
        question = Question("getReportDocument", report_address)
        _check_id("getReportDocument", document_id)

        def request(access_token: str) -> ReportAddress:
            client = self._client(ReportsClient, question, access_token, budget)
            address: ReportAddress = client.get_report_document(document_id)
            return address

        return self._ask("getReportDocument", budget, request)

    def _read_document(self, address: ReportAddress) -> tuple[ListedOrder, ...]:
        """Downloading costs no budget, and goes without an access token: the address is the secret."""
        retries = Retries(self._sleep, self._rng)
        while True:
            with retries.attempt(self._observing(DOCUMENT)):
                return orders_of(document_lines(self._http, address.url, address.compression, USER_AGENT))

    # --- one request -----------------------------------------------------------------------

    def _ask(self, operation: Operation, budget: Budget, request: Callable[[str], T]) -> T:
        """Send ``request`` with an access token, and repeat it as ``connectors.amazon.retry`` says.

        If the budget has no token for a repetition, raise the failure of the attempt before: BudgetEmpty
        counts as merely deferred, and a request that always fails would be deferred for ever, unreported.
        """
        retries = Retries(self._sleep, self._rng)
        while True:
            access_token = self._access_token()
            try:
                budget.take(operation, again=retries.failure is not None)
            except BudgetEmpty as empty:
                raise retries.failure or empty from None
            with retries.attempt(self._observing(operation)):
                return request(access_token)

    def _access_token(self) -> str:
        """Return an access token, fetched with attempts of its own if necessary."""
        retries = Retries(self._sleep, self._rng)
        while True:
            with retries.attempt():
                return self._tokens.get()

    def _observing(self, operation: str) -> Callable[[str, bool], None]:
        """Return the callback that reports an attempt that begins now."""
        started = self._now()

        def observe(outcome: str, repeated: bool) -> None:
            if self._observer is not None:
                seconds = (self._now() - started).total_seconds()
                self._observer(Attempt(self._account, operation, outcome, repeated, seconds))

        return observe

    def _client(self, kind: type[C], question: Question, access_token: str, budget: Budget) -> C:
        """A client of the library for one request: it keeps state, so it is never shared."""

        def heard(answer: httpx.Response) -> None:
            self._hear(answer)
            rate = rate_of(answer)
            if rate is not None:
                budget.observe_rate(question.operation, rate)
            if answer.status_code in (401, 403):
                self._tokens.drop(access_token)
            if answer.status_code == 429:
                code, _ = error_of(json_object(answer.content))
                until = budget.drain(question.operation)
                raise Throttled(message_of(answer, question.operation), until, answer.status_code, code)

        return kind(
            endpoint=self._endpoint,
            access_token=access_token,
            question=question,
            http=self._http,
            now=self._now,
            heard=heard,
        )

    def _hear(self, answer: httpx.Response) -> None:
        self._time.hear(date_of(answer))


def search_parameters(query: SearchQuery, page_token: str | None) -> dict[str, str]:
    """The parameters of searchOrders: the same for every page of a query, but for the page token.

    Without marketplaces the library would quietly ask for one of its own choice, hence ValueError.
    """
    if not query.marketplace_ids:
        raise ValueError("a search names its marketplaces")
    after, before = _BOUNDS[query.axis]
    parameters = {
        after: amazon_text(query.after),
        before: amazon_text(query.before),
        "marketplaceIds": ",".join(query.marketplace_ids),
        "maxResultsPerPage": str(PAGE_SIZE),
    }
    if query.included_data:
        parameters["includedData"] = ",".join(query.included_data)
    if page_token is not None:
        parameters["paginationToken"] = page_token
    return parameters


def amazon_text(time: datetime) -> str:
    """``YYYY-MM-DDTHH:MM:SSZ``, with milliseconds only when there are some; what is finer is cut off."""
    utc = time.astimezone(UTC)
    fraction = utc.microsecond // 1000
    return utc.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction:03d}Z" if fraction else "Z")


def _check_id(operation: Operation, value: str) -> None:
    """An id goes into a path: one of dots would be a path to somewhere else."""
    if not value.strip(" ."):
        raise RequestRefused(f"{operation}: this is no id", 404)


def _answered_order(content: bytes) -> AmazonOrder | UnreadableOrder:
    return order_of(promised(content, "order", dict)["order"])


def _enrolled(content: bytes) -> frozenset[str]:
    """Marketplaces in which the seller takes part. Source: Amazon's Sellers API model v1."""
    enrolled = set()
    for entry in promised(content, "payload", list)["payload"]:
        marketplace, participation = _member(entry, "marketplace"), _member(entry, "participation")
        marketplace_id, takes_part = marketplace.get("id"), participation.get("isParticipating")
        if not isinstance(marketplace_id, str) or not isinstance(takes_part, bool):
            raise Garbled("an entry lacks its marketplace or its participation")
        if takes_part:
            enrolled.add(marketplace_id)
    return frozenset(enrolled)


def _member(entry: Any, key: str) -> Json:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}
