"""The Amazon connector: turns the poller's calls into budgeted, retried and judged requests.

Steps of a request: access token (LWA, costs no budget) → budget token → request → headers of the answer
(``Date``, rate, 401, 403, 429) → proven body → our vocabulary. The access token comes first so that an
outage of LWA does not use up scarce budget tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx

from connectors.amazon.auth import TOKEN_URL, AccessTokens, Credentials
from connectors.amazon.client import USER_AGENT, OrdersClient, ReportsClient, SellersClient, silence_libraries
from connectors.amazon.clock import AmazonTime
from connectors.amazon.documents import OPERATION as DOCUMENT
from connectors.amazon.documents import document_lines
from connectors.amazon.parse import BELIEVED_FOR, order_of, order_of_json, page_of_json
from connectors.amazon.reports import (
    ReportAddress,
    created_report,
    orders_of,
    report_address,
    report_specification,
    report_state,
)
from connectors.amazon.retry import Retries
from connectors.amazon.values import is_order_id
from connectors.amazon.wire import (
    Json,
    Question,
    amazon_text,
    date_of,
    error_of,
    is_secret_expired,
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
    ConnectorError,
    DocumentExpired,
    Garbled,
    OrderNotFound,
    RequestRefused,
    Throttled,
)
from connectors.orders import AmazonOrder, OrderPage, OrderReport, UnreadableOrder

PARTICIPATIONS: Operation = "getMarketplaceParticipations"

_BOUNDS: dict[Axis, tuple[str, str]] = {
    "updated": ("lastUpdatedAfter", "lastUpdatedBefore"),
    "created": ("createdAfter", "createdBefore"),
}

T = TypeVar("T")
C = TypeVar("C", OrdersClient, SellersClient, ReportsClient)


class AmazonConnector:
    """One selling partner's orders in one region (see ``connectors.base.OrderConnector``).

    Thread-safe. All accounts may share ``http``, which is never closed here and whose time-outs are
    overridden. ``rng`` decides the jitter of the waits.
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
        self._tokens = AccessTokens(credentials, token_url, http, now, self._note_date)

    def has_access(self) -> bool:
        """Return True if there is a valid access token."""
        return self._tokens.has_one()

    # --- Amazon's time ---------------------------------------------------------------------

    def knows_time(self) -> bool:
        """Return True if Amazon's time can be estimated without a request."""
        return self._time.estimate() is not None

    def amazon_now(self) -> datetime:
        """Return Amazon's current time, estimated from its ``Date`` headers, never later than the truth."""
        if not self.knows_time():
            self._access_token()
        estimate = self._time.estimate()
        if estimate is None:
            raise Garbled("accessToken: the answer carries no date")
        return estimate

    def ask_time(self) -> datetime:
        """Return Amazon's time by an answer that arrives now: no step of this clock has gone by since."""
        before = self._time.newest_answer()
        try:
            self._tokens.renew()
        except ConnectorError:
            if self._time.newest_answer() == before:
                raise
        newest = self._time.newest_answer()
        if newest == before or newest is None:
            raise Garbled("accessToken: the answer carries no date")
        return self._now() + newest[1]

    def newest_answer(self) -> tuple[float, timedelta] | None:
        """Return when the newest answer came, in monotonic seconds, and what to add to the local time."""
        return self._time.newest_answer()

    def forget_amazon_time(self) -> None:
        """Keep only the newest answer's time, after Amazon refused a bound."""
        self._time.forget()

    # --- orders --------------------------------------------------------------

    def search(self, query: SearchQuery, page_token: str | None, budget: Budget) -> OrderPage:
        """Return a page of at most 100 orders. Raises PageExpired if ``page_token`` is refused."""
        parameters = search_parameters(query, page_token)
        question = Question(
            "searchOrders",
            lambda content: page_of_json(content, self._believed_until()),
            page_token_sent=page_token is not None,
            before=query.before,
        )

        def request(access_token: str) -> OrderPage:
            client = self._client(OrdersClient, question, access_token, budget)
            page: OrderPage = client.search_orders(**parameters)
            return page

        return self._ask("searchOrders", budget, request)

    def get(
        self, order_id: str, included_data: tuple[str, ...], budget: Budget
    ) -> AmazonOrder | UnreadableOrder:
        """Return one order by its ID. Raises OrderNotFound."""
        if not is_order_id(order_id):  # would lead to another path
            raise OrderNotFound("getOrder: not an order ID", 404)
        parameters = {"includedData": ",".join(included_data)} if included_data else {}
        question = Question(
            "getOrder",
            lambda content: order_of(promised(content, "order", dict)["order"], self._believed_until()),
        )

        def request(access_token: str) -> AmazonOrder | UnreadableOrder:
            client = self._client(OrdersClient, question, access_token, budget)
            order: AmazonOrder | UnreadableOrder = client.get_order(order_id, **parameters)
            if order.order_id not in (order_id, None):
                raise Garbled("getOrder: the answer is about another order")
            return order

        return self._ask("getOrder", budget, request)

    def read_payload(self, payload: str) -> AmazonOrder | UnreadableOrder:
        """Read a stored payload, as ``search`` reads an order."""
        return order_of_json(payload, self._believed_until())

    def _believed_until(self) -> datetime:
        """Return up to when an order may have been updated; by our own clock before Amazon's first answer."""
        return (self._time.estimate() or self._now()) + BELIEVED_FOR

    def participations(self, budget: Budget) -> frozenset[str]:
        """Return the IDs of the marketplaces that the seller is enrolled in."""
        question = Question(PARTICIPATIONS, _enrolled)

        def request(access_token: str) -> frozenset[str]:
            client = self._client(SellersClient, question, access_token, budget)
            enrolled: frozenset[str] = client.get_marketplace_participation()
            return enrolled

        return self._ask(PARTICIPATIONS, budget, request)

    # --- reports ---------------------------------------------------------------------------

    def request_report(self, query: ReportQuery, budget: Budget) -> str:
        """Request the report of all orders of a range; return its ID.

        A repetition after a lost answer leaves an unused report at Amazon.
        """
        specification = report_specification(query)
        question = Question("createReport", created_report)

        def request(access_token: str) -> str:
            client = self._client(ReportsClient, question, access_token, budget)
            report_id: str = client.create_report(**specification)
            return report_id

        return self._ask("createReport", budget, request)

    def report_state(self, report_id: str, budget: Budget) -> ReportState:
        """Return the progress of a report. Raises RequestRefused (status 404) if Amazon has dropped it."""
        question = Question("getReport", report_state)
        _check_id("getReport", report_id)

        def request(access_token: str) -> ReportState:
            client = self._client(ReportsClient, question, access_token, budget)
            # The empty list keeps the library from adding marketplaces, and is not sent.
            state: ReportState = client.get_report(report_id, marketplaceIds=[])
            return state

        return self._ask("getReport", budget, request)

    def report_orders(self, document_id: str, budget: Budget) -> OrderReport:
        """Return the orders of a finished report. Raises ReportUnreadable if it is no whole table."""
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

    def _read_document(self, address: ReportAddress) -> OrderReport:
        """Download and read a document. Needs neither budget nor access token: the address is the secret."""
        retries = Retries(self._sleep, self._rng)
        for attempt in retries:
            retries.observe = self._observing(DOCUMENT)
            with attempt:
                lines = document_lines(self._http, address.url, USER_AGENT)
                return retries.succeeded(orders_of(lines))
        raise AssertionError("an attempt returns or raises")

    # --- one request -----------------------------------------------------------------------

    def _ask(self, operation: Operation, budget: Budget, request: Callable[[str], T]) -> T:
        """Send ``request`` with an access token, and repeat it as ``connectors.amazon.retry`` says.

        If the budget has no token for a repetition, raise the failure of the attempt before: BudgetEmpty
        counts as merely deferred, and a request that always fails would be deferred for ever, unreported.
        """
        retries = Retries(self._sleep, self._rng)
        for attempt in retries:
            access_token = self._access_token()
            try:
                budget.take(operation, again=retries.failure is not None)
            except BudgetEmpty as empty:
                raise retries.failure or empty from None
            retries.observe = self._observing(operation)
            with attempt:
                return retries.succeeded(request(access_token))
        raise AssertionError("an attempt returns or raises")

    def _access_token(self) -> str:
        """Return an access token, fetched with attempts of its own if necessary."""
        for attempt in Retries(self._sleep, self._rng):
            with attempt:
                return self._tokens.get()
        raise AssertionError("an attempt returns or raises")

    def _observing(self, operation: str) -> Callable[[str, bool], None]:
        """Return the callback that reports an attempt that begins now."""
        started = self._now()

        def observe(outcome: str, repeated: bool) -> None:
            if self._observer is not None:
                seconds = (self._now() - started).total_seconds()
                self._observer(Attempt(self._account, operation, outcome, repeated, seconds))

        return observe

    def _client(self, kind: type[C], question: Question, access_token: str, budget: Budget) -> C:
        """Return a client of the library for one request; it keeps state, so it is never shared."""

        def on_answer(answer: httpx.Response) -> None:
            self._note_date(answer)
            rate = rate_of(answer)
            if rate is not None:
                budget.observe_rate(question.operation, rate)
            if is_secret_expired(answer):
                self._tokens.pass_over(access_token)
            # A 403 to the question where the seller is enrolled says only that a role is missing.
            if answer.status_code in (401, 403) and question.operation != PARTICIPATIONS:
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
            on_answer=on_answer,
        )

    def _note_date(self, answer: httpx.Response) -> None:
        self._time.learn(date_of(answer))


def search_parameters(query: SearchQuery, page_token: str | None) -> dict[str, str]:
    """Return the parameters of searchOrders: equal for every page of a query except for the page token.

    Raises ValueError without marketplaces: the library would silently search a default one.
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
    if query.fulfilled_by:
        parameters["fulfilledBy"] = ",".join(query.fulfilled_by)
    if query.statuses:
        parameters["fulfillmentStatuses"] = ",".join(query.statuses)
    if page_token is not None:
        parameters["paginationToken"] = page_token
    return parameters


def _check_id(operation: Operation, value: str) -> None:
    """Raise RequestRefused for an ID of blanks and dots: as part of a path it would lead elsewhere."""
    if not value.strip(" ."):
        raise RequestRefused(f"{operation}: not an ID", 404)


def _enrolled(content: bytes) -> frozenset[str]:
    """Read the marketplaces in which the seller takes part. Source: Amazon's Sellers API model v1."""
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
