"""The connector as a whole: what it sends and spends, how it judges every answer, what it hides."""

from __future__ import annotations

import gc
import logging
import random
import re
import socket
import ssl
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from connectors import errors
from connectors.amazon.auth import Credentials
from connectors.amazon.client import USER_AGENT
from connectors.amazon.clock import AmazonTime
from connectors.amazon.connector import AmazonConnector
from connectors.amazon.parse import page_of_json
from connectors.amazon.retry import waiting_time
from connectors.amazon.usage_plans import PLANS
from connectors.amazon.wire import Question, amazon_text, bad_request
from connectors.base import Attempt, Operation, OrderConnector, SearchQuery
from connectors.errors import (
    AccessRefused,
    ApplicationRefused,
    AuthorisationRevoked,
    BoundRefused,
    BudgetEmpty,
    ConnectorError,
    Deferred,
    Garbled,
    OrderNotFound,
    PageExpired,
    RequestRefused,
    SecretExpired,
    ServerFault,
    Throttled,
    Unreachable,
)
from connectors.orders import AmazonOrder, UnreadableOrder

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
QUERY = SearchQuery(
    axis="updated",
    after=START - timedelta(hours=1),
    before=START - timedelta(minutes=10),
    marketplace_ids=("A1F83G8C2ARO7P", "A1PA6795UKMFR9"),
    included_data=("FULFILLMENT", "BUYER"),
)
ORDER: dict[str, Any] = {
    "orderId": "026-1520163-6049104",
    "createdTime": "2026-11-01T10:00:00Z",
    "lastUpdatedTime": "2026-11-01T10:00:00Z",
    "salesChannel": {"channelName": "AMAZON", "marketplaceId": "A1F83G8C2ARO7P"},
    "buyer": {"buyerName": "Ada Byron", "buyerEmail": "q1w2e3@marketplace.amazon.co.uk"},
    "orderItems": [{"orderItemId": "111", "quantityOrdered": 1, "product": {}}],
}
PAGE = {"orders": [ORDER], "pagination": {"nextToken": "next-page-token"}}

Answer = httpx.Response | Exception | Callable[[], httpx.Response]


class Amazon:
    """Answers SP-API requests from a list, repeating the last; grants ``access-1``, ``access-2``, …"""

    def __init__(self, *answers: Answer, login: httpx.Response | None = None) -> None:
        self.now = START
        self.requests: list[httpx.Request] = []
        self.logins = 0
        self.secrets: list[str] = []
        self._answers = list(answers)
        self._login = login

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/o2/token":
            self.logins += 1
            self.secrets += parse_qs(request.content.decode())["client_secret"]
            granted = {"access_token": f"access-{self.logins}", "expires_in": 3600}
            return self._login or httpx.Response(200, json=granted, headers=self.dated())
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer()

    def dated(self, ahead: timedelta = timedelta()) -> dict[str, str]:
        return {"Date": format_datetime(self.now + ahead, usegmt=True)}


class Purse:
    """A budget of N tokens that records its calls."""

    def __init__(self, tokens: int = 100) -> None:
        self.tokens = tokens
        self.taken: list[Operation] = []
        self.again: list[bool] = []
        self.rates: list[tuple[Operation, float]] = []
        self.drained: list[Operation] = []

    def take(self, operation: Operation, *, again: bool = False) -> None:
        if len(self.taken) == self.tokens:
            raise BudgetEmpty("empty", START + timedelta(minutes=3))
        self.taken.append(operation)
        self.again.append(again)

    def observe_rate(self, operation: Operation, rate: float) -> None:
        self.rates.append((operation, rate))

    def drain(self, operation: Operation) -> datetime:
        self.drained.append(operation)
        return START + timedelta(seconds=178)


class Scene:
    def __init__(
        self,
        *answers: Answer,
        login: httpx.Response | None = None,
        tokens: int = 100,
        url: str = "https://sp.test",
        secrets: tuple[str, ...] = ("the-client-secret",),
    ) -> None:
        self.amazon = Amazon(*answers, login=login)
        self.purse = Purse(tokens)
        self.waits: list[float] = []
        self.attempts: list[Attempt] = []
        self.http = httpx.Client(transport=httpx.MockTransport(self.amazon))
        self.connector = AmazonConnector(
            "acme",
            Credentials("the-client-id", secrets, "the-refresh-token"),
            endpoint=url,
            token_url="https://login.test/auth/o2/token",
            http=self.http,
            now=lambda: self.amazon.now,
            sleep=self.waits.append,
            rng=random.Random(7),
            observer=self.attempts.append,
        )

    def search(self, page_token: str | None = None, query: SearchQuery = QUERY) -> Any:
        return self.connector.search(query, page_token, self.purse)

    def outcomes(self) -> list[tuple[str, bool]]:
        return [(attempt.outcome, attempt.retried) for attempt in self.attempts]


def page(status: int = 200, **headers: str) -> Callable[[], httpx.Response]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: httpx.Response(status, json=PAGE, headers=names)


def error(status: int, code: str = "", text: str = "", **headers: str) -> Callable[[], httpx.Response]:
    body = {"errors": [{"code": code, "message": text, "details": ""}]}
    return lambda: httpx.Response(status, json=body, headers=headers)


def busy() -> httpx.Response:
    return httpx.Response(503, html="<html>busy</html>")


# --- what is sent ----------------------------------------------------------------------------


def test_the_connector_is_an_order_connector() -> None:
    connector: OrderConnector = Scene(page()).connector
    assert connector.amazon_now() == START


def test_a_search_requests_all_marketplaces_at_once_and_nothing_else() -> None:
    scene = Scene(page())
    found = scene.search()
    (request,) = scene.amazon.requests
    assert (request.method, request.url.host, request.url.path) == (
        "GET",
        "sp.test",
        "/orders/2026-01-01/orders",
    )
    assert dict(request.url.params.multi_items()) == {
        "lastUpdatedAfter": "2026-11-01T11:00:00Z",
        "lastUpdatedBefore": "2026-11-01T11:50:00Z",
        "marketplaceIds": "A1F83G8C2ARO7P,A1PA6795UKMFR9",
        "includedData": "FULFILLMENT,BUYER",
        "maxResultsPerPage": "100",
    }
    assert [order.order_id for order in found.orders] == ["026-1520163-6049104"]
    assert found.next_token == "next-page-token"


def test_a_page_token_changes_no_other_parameter_and_is_encoded_once() -> None:
    scene = Scene(page())
    scene.search()
    scene.search("a+b/c==&%20")
    first, second = (dict(request.url.params.multi_items()) for request in scene.amazon.requests)
    assert second.pop("paginationToken") == "a+b/c==&%20"
    assert first == second
    assert list(first) == list(second)


def test_the_created_axis_has_bounds_of_its_own() -> None:
    scene = Scene(page())
    scene.search(query=SearchQuery("created", START, START + timedelta(milliseconds=1500), ("M",), ()))
    assert dict(scene.amazon.requests[0].url.params.multi_items()) == {
        "createdAfter": "2026-11-01T12:00:00Z",
        "createdBefore": "2026-11-01T12:00:01.500Z",
        "marketplaceIds": "M",
        "maxResultsPerPage": "100",
    }


def test_a_search_without_marketplaces_is_never_sent() -> None:
    scene = Scene(page())
    with pytest.raises(ValueError, match="marketplaces"):
        scene.search(query=SearchQuery("created", START, START, (), ()))
    assert scene.amazon.requests == []


def test_times_are_written_in_utc_and_cut_to_milliseconds() -> None:
    assert amazon_text(datetime.fromisoformat("2026-11-01T13:00:00.0009+01:00")) == "2026-11-01T12:00:00Z"
    assert amazon_text(datetime.fromisoformat("2026-11-01T12:00:00.0459Z")) == "2026-11-01T12:00:00.045Z"


@pytest.mark.parametrize(
    ("url", "host"), [("http://127.0.0.1:8080/", "127.0.0.1:8080"), ("https://sp.test", "sp.test")]
)
def test_headers_are_ours_and_the_host_is_right_on_any_endpoint(url: str, host: str) -> None:
    scene = Scene(page(), url=url)
    scene.search()
    (request,) = scene.amazon.requests
    assert request.headers["host"] == host
    assert request.url.path == "/orders/2026-01-01/orders"
    assert request.headers["x-amz-access-token"] == "access-1"
    assert request.headers["x-amz-date"] == "20261101T120000Z"
    assert request.headers["user-agent"] == USER_AGENT
    assert USER_AGENT.startswith("amazon-order-sync/")
    assert USER_AGENT.endswith(" (Language=Python)")


def test_time_outs_are_explicit_and_redirects_are_not_followed() -> None:
    scene = Scene(lambda: httpx.Response(307, headers={"location": "https://elsewhere.test/"}))
    with pytest.raises(Garbled):
        scene.search()
    assert {request.url.host for request in scene.amazon.requests} == {"sp.test"}
    assert scene.amazon.requests[0].extensions["timeout"] == {
        "connect": 10.0,
        "read": 60.0,
        "write": 60.0,
        "pool": 60.0,
    }


@pytest.mark.long
def test_no_connection_pool_is_opened_for_a_call() -> None:
    scene = Scene(page())
    scene.search()
    gc.collect()
    before = sum(isinstance(thing, httpx.Client) for thing in gc.get_objects())
    for _ in range(5):
        scene.search()
    assert sum(isinstance(thing, httpx.Client) for thing in gc.get_objects()) == before
    assert not scene.http.is_closed


def test_an_order_is_fetched_by_its_id() -> None:
    scene = Scene(lambda: httpx.Response(200, json={"order": ORDER}))
    order = scene.connector.get("026-1520163-6049104", ("BUYER", "TAX"), scene.purse)
    assert isinstance(order, AmazonOrder)
    (request,) = scene.amazon.requests
    assert request.url.path == "/orders/2026-01-01/orders/026-1520163-6049104"
    assert dict(request.url.params.multi_items()) == {"includedData": "BUYER,TAX"}
    assert scene.purse.taken == ["getOrder"]


def test_an_unreadable_order_fetched_by_id_is_returned_as_such() -> None:
    scene = Scene(lambda: httpx.Response(200, json={"order": ORDER | {"createdTime": 1}}))
    order = scene.connector.get("026-1520163-6049104", (), scene.purse)
    assert isinstance(order, UnreadableOrder)
    assert order.order_id == "026-1520163-6049104"


def test_an_answer_about_another_order_is_garbled() -> None:
    scene = Scene(lambda: httpx.Response(200, json={"order": ORDER}))
    with pytest.raises(Garbled):
        scene.connector.get("026-0000000-0000000", (), scene.purse)


@pytest.mark.parametrize("order_id", ["", ".", "..", " "])
def test_what_cannot_be_an_order_id_is_not_requested(order_id: str) -> None:
    scene = Scene(page())
    with pytest.raises(OrderNotFound):
        scene.connector.get(order_id, (), scene.purse)
    assert scene.amazon.requests == []


@pytest.mark.parametrize("order_id", ["../x", "x?y=1", "x#z", "a%2f", ".."])
def test_an_order_id_cannot_leave_its_place_in_the_path(order_id: str) -> None:
    scene = Scene(error(404))
    with pytest.raises(OrderNotFound):
        scene.connector.get(order_id, (), scene.purse)
    assert scene.amazon.requests == []


def test_an_unusual_order_id_stays_one_step_of_the_path() -> None:
    scene = Scene(error(404))
    with pytest.raises(OrderNotFound):
        scene.connector.get("S01;x=1&y", (), scene.purse)
    assert scene.amazon.requests[0].url.raw_path == b"/orders/2026-01-01/orders/S01%3Bx%3D1%26y"


def test_participations_are_the_marketplaces_the_seller_takes_part_in() -> None:
    entries = [
        {"marketplace": {"id": "A"}, "participation": {"isParticipating": True}},
        {"marketplace": {"id": "B"}, "participation": {"isParticipating": False}},
    ]
    scene = Scene(lambda: httpx.Response(200, json={"payload": entries}))
    assert scene.connector.participations(scene.purse) == {"A"}
    (request,) = scene.amazon.requests
    assert request.url.path == "/sellers/v1/marketplaceParticipations"
    assert request.url.query == b""
    assert scene.purse.taken == ["getMarketplaceParticipations"]


@pytest.mark.parametrize(
    "body", [{}, {"payload": {}}, {"payload": ["x"]}, {"payload": [{"marketplace": {}}]}]
)
def test_participations_of_another_shape_are_garbled(body: dict[str, Any]) -> None:
    scene = Scene(lambda: httpx.Response(200, json=body))
    with pytest.raises(Garbled):
        scene.connector.participations(scene.purse)


# --- what counts as success ------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"<html></html>",
        b'{"orders": {}}',
        b'{"orders": null}',
        b'{"payload": {"orders": []}}',
        b'{"orders": [NaN]}',
        b'{"orders": [Infinity]}',
        b'{"orders": [1e99999999999999999999]}',
        b'{"orders": [' + b"9" * 5000 + b"]}",
        b'{"orders": ' + b"[" * 100_000,
        b'{"orders": []',
        b"\xff\xfe\xfd",
        b'{"orders": [], "errors": [{"code": "InternalFailure"}]}',
        b'{"orders": [], "pagination": "x"}',
    ],
)
def test_a_success_without_the_promised_body_is_garbled_and_never_an_empty_page(content: bytes) -> None:
    scene = Scene(lambda: httpx.Response(200, content=content))
    with pytest.raises(Garbled):
        scene.search()
    assert len(scene.amazon.requests) == 4


@pytest.mark.parametrize("status", [204, 302, 304])
def test_a_status_that_is_neither_answer_nor_error_is_garbled(status: int) -> None:
    scene = Scene(lambda: httpx.Response(status))
    with pytest.raises(Garbled):
        scene.search()


def test_a_body_in_a_broken_transfer_encoding_is_garbled() -> None:
    scene = Scene(
        lambda: httpx.Response(200, stream=httpx.ByteStream(b"xx"), headers={"content-encoding": "gzip"})
    )
    with pytest.raises(Garbled):
        scene.search()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(400, "InvalidInput"), RequestRefused),
        (lambda: httpx.Response(400, html="<html>bad</html>"), RequestRefused),
        (error(404), RequestRefused),
        (error(413), RequestRefused),
        (error(415), RequestRefused),
        (error(401), AccessRefused),
        (error(403, "Unauthorized"), AccessRefused),
        (lambda: httpx.Response(403, json={"message": "no"}), AccessRefused),
        (error(408), Unreachable),
        (error(429, "QuotaExceeded"), Throttled),
        (lambda: httpx.Response(429), Throttled),
        (error(500, "InternalFailure"), ServerFault),
        (lambda: httpx.Response(502, json={"message": "bad gateway"}), ServerFault),
        (busy, ServerFault),
        (httpx.ConnectTimeout("no"), Unreachable),
        (httpx.ReadError("no"), Unreachable),
    ],
)
def test_every_failure_has_its_error(answer: Answer, expected: type[ConnectorError]) -> None:
    with pytest.raises(ConnectorError) as caught:
        Scene(answer).search()
    assert type(caught.value) is expected
    assert str(caught.value).startswith("searchOrders: ")


def test_a_refused_request_keeps_amazons_word_and_request_id() -> None:
    scene = Scene(error(400, "InvalidInput", **{"x-amzn-RequestId": "2f4b-77"}))
    with pytest.raises(RequestRefused) as caught:
        scene.search()
    assert (caught.value.status, caught.value.code) == (400, "InvalidInput")
    assert str(caught.value) == "searchOrders: status 400, InvalidInput, request 2f4b-77"


@pytest.mark.parametrize(
    ("answer", "kind", "status", "code"),
    [
        (error(400, "InvalidInput"), "request_refused", 400, "InvalidInput"),
        (error(403, "Unauthorized"), "access_refused", 403, "Unauthorized"),
        (error(408, "Timeout"), "unreachable", 408, "Timeout"),
        (error(429, "QuotaExceeded"), "throttled", 429, "QuotaExceeded"),
        (lambda: httpx.Response(429), "throttled", 429, None),
        (error(500, "InternalFailure"), "server_fault", 500, "InternalFailure"),
        (lambda: httpx.Response(503, text="<html>"), "server_fault", 503, None),
        (lambda: httpx.Response(200, json={}), "garbled", 200, None),
        (httpx.ReadError("no"), "unreachable", None, None),
    ],
)
def test_every_error_carries_its_kind_status_and_code(
    answer: Answer, kind: str, status: int | None, code: str | None
) -> None:
    with pytest.raises(ConnectorError) as caught:
        Scene(answer).search()
    assert (caught.value.kind, caught.value.status, caught.value.code) == (kind, status, code)


def test_the_drawn_tree_names_the_kind_of_every_leaf() -> None:
    drawn = dict(re.findall(r"─ (\w+) +(\w+): ", str(errors.__doc__)))
    leaves = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, ConnectorError) and "kind" in vars(each)
    ]
    assert {each.__name__: each.kind for each in leaves if each not in (ConnectorError, Deferred)} == drawn
    assert len({each.kind for each in leaves}) == len(leaves)


# --- what a 400 means ------------------------------------------------------------------------


def test_a_400_with_a_page_token_is_an_expired_page() -> None:
    with pytest.raises(PageExpired):
        Scene(error(400, "InvalidInput")).search("old-token")


@pytest.mark.parametrize(
    ("age", "expected"),
    [(timedelta(seconds=120), BoundRefused), (timedelta(seconds=121), RequestRefused)],
)
def test_a_400_is_about_the_bound_when_amazons_own_clock_says_so(
    age: timedelta, expected: type[ConnectorError]
) -> None:
    question = Question("searchOrders", page_of_json, before=START)
    assert type(bad_request("m", "c", "Invalid Input", question, START + age)) is expected


@pytest.mark.parametrize(
    "text",
    ["must be two minutes before", "at least 2 minutes", "Invalid lastUpdatedBefore", "createdBefore?"],
)
def test_a_400_is_about_the_bound_when_its_text_says_so(text: str) -> None:
    with pytest.raises(BoundRefused):
        Scene(error(400, "InvalidInput", text)).search()


def test_a_400_that_speaks_of_other_things_is_a_refused_request() -> None:
    question = Question("searchOrders", page_of_json, before=START)
    assert type(bad_request("m", "c", "Invalid marketplaceIds", question, None)) is RequestRefused
    without_bound = Question("getOrder", page_of_json)
    assert type(bad_request("m", "c", "createdBefore", without_bound, START)) is RequestRefused


def test_an_order_that_does_not_exist_is_not_found() -> None:
    scene = Scene(error(404, "NotFound"))
    with pytest.raises(OrderNotFound):
        scene.connector.get("026-1", (), scene.purse)


# --- repeating and spending ------------------------------------------------------------------


def test_a_hiccup_is_repeated_and_every_attempt_takes_a_token() -> None:
    scene = Scene(busy, httpx.ReadTimeout("slow"), page())
    assert len(scene.search().orders) == 1
    assert scene.purse.taken == ["searchOrders"] * 3
    assert scene.purse.again == [False, True, True]
    assert scene.outcomes() == [("ServerFault", True), ("Unreachable", True), ("ok", False)]
    assert {(attempt.account, attempt.operation) for attempt in scene.attempts} == {("acme", "searchOrders")}
    assert scene.amazon.logins == 1


def test_four_failures_are_the_end() -> None:
    scene = Scene(busy)
    with pytest.raises(ServerFault):
        scene.search()
    assert scene.purse.taken == ["searchOrders"] * 4
    assert scene.outcomes() == [("ServerFault", True)] * 3 + [("ServerFault", False)]
    assert len(scene.waits) == 3


def test_waits_grow_with_jitter_between_one_and_twenty_seconds() -> None:
    rng = random.Random(1)
    for attempt, longest in ((1, 3), (2, 9), (3, 20), (9, 20)):
        waits = [waiting_time(attempt, rng) for _ in range(300)]
        assert 1 <= min(waits) < 1.5
        assert longest - 1 < max(waits) <= longest


def test_the_same_source_of_chance_gives_the_same_waits() -> None:
    first, second = Scene(busy), Scene(busy)
    for scene in (first, second):
        with pytest.raises(ServerFault):
            scene.search()
    assert first.waits == second.waits


def test_an_empty_budget_ends_it_at_once_and_sends_nothing() -> None:
    scene = Scene(page(), tokens=0)
    with pytest.raises(BudgetEmpty):
        scene.search()
    assert scene.amazon.requests == []
    assert scene.attempts == []


def test_what_the_budget_does_not_allow_to_repeat_has_failed_as_it_did() -> None:
    """Otherwise a request that always fails would be deferred for ever and never count as failing."""
    scene = Scene(busy, tokens=2)
    with pytest.raises(ServerFault):
        scene.search()
    assert len(scene.amazon.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_that_the_budget_does_not_allow_to_repeat_stays_refused(status: int) -> None:
    scene = Scene(error(status), tokens=1)
    with pytest.raises(AccessRefused):
        scene.search()
    assert len(scene.amazon.requests) == 1


def test_a_429_empties_the_budget_and_is_not_repeated() -> None:
    scene = Scene(error(429, "QuotaExceeded"))
    with pytest.raises(Throttled) as caught:
        scene.search()
    assert caught.value.until == START + timedelta(seconds=178)
    assert scene.purse.drained == ["searchOrders"]
    assert len(scene.amazon.requests) == 1
    assert scene.outcomes() == [("Throttled", False)]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_access_token_is_replaced_once_and_at_once(status: int) -> None:
    scene = Scene(error(status), page())
    scene.search()
    assert [request.headers["x-amz-access-token"] for request in scene.amazon.requests] == [
        "access-1",
        "access-2",
    ]
    assert scene.purse.taken == ["searchOrders"] * 2
    assert scene.waits == []
    assert scene.outcomes() == [("AccessRefused", True), ("ok", False)]


def test_a_second_403_is_final_also_when_a_hiccup_stood_between() -> None:
    scene = Scene(error(403), busy, error(403), page())
    with pytest.raises(AccessRefused):
        scene.search()
    assert scene.outcomes() == [("AccessRefused", True), ("ServerFault", True), ("AccessRefused", False)]
    assert scene.amazon.logins == 2


EXPIRED = error(403, "Unauthorized", "The LWA secret token you provided has expired")


def test_after_an_expired_secret_the_next_one_is_tried_at_once() -> None:
    scene = Scene(EXPIRED, page(), secrets=("old", "new"))
    scene.search()
    assert scene.amazon.secrets == ["old", "new"]
    assert scene.waits == []
    assert scene.outcomes() == [("SecretExpired", True), ("ok", False)]


def test_secrets_that_have_all_expired_are_no_matter_of_roles() -> None:
    scene = Scene(EXPIRED, secrets=("old", "older"))
    with pytest.raises(SecretExpired, match="403, Unauthorized: the client secret has expired") as caught:
        scene.search()
    assert (caught.value.kind, caught.value.status) == ("secret_expired", 403)
    assert scene.amazon.secrets == ["old", "older"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed"),
            "not trusted",
        ),
        (ssl.SSLError(1, "wrong version number"), "no TLS connection"),
        (socket.gaierror(-2, "Name or service not known"), "its host name is unknown"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (OSError("Atzr|secret"), "ConnectError"),
    ],
)
def test_why_there_is_no_answer_is_said(fault: Exception, reason: str) -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("no connection") from fault

    with pytest.raises(Unreachable) as caught:
        Scene(refuse).search()
    assert reason in str(caught.value)
    assert "Atzr" not in str(caught.value)


def test_after_a_final_403_the_next_call_fetches_a_fresh_token() -> None:
    scene = Scene(error(403), error(403), page())
    with pytest.raises(AccessRefused):
        scene.search()
    scene.search()
    assert scene.amazon.requests[-1].headers["x-amz-access-token"] == "access-3"


def test_a_login_that_fails_costs_no_token_of_the_budget() -> None:
    scene = Scene(page(), login=httpx.Response(503, html="<html>busy</html>"))
    with pytest.raises(ServerFault):
        scene.search()
    assert scene.amazon.logins == 4
    assert scene.purse.taken == []


@pytest.mark.parametrize(
    ("code", "expected"), [("invalid_grant", AuthorisationRevoked), ("invalid_client", ApplicationRefused)]
)
def test_a_refused_login_is_not_repeated(code: str, expected: type[ConnectorError]) -> None:
    scene = Scene(page(), login=httpx.Response(400, json={"error": code}))
    with pytest.raises(expected):
        scene.search()
    assert scene.amazon.logins == 1


@pytest.mark.parametrize("status", [200, 400, 404, 429])
def test_the_rate_header_is_observed_on_any_answer(status: int) -> None:
    scene = Scene(page(status, x_amzn_RateLimit_Limit="0.0111"))
    try:
        scene.search()
    except ConnectorError:
        assert status != 200
    assert scene.purse.rates == [("searchOrders", 0.0111)]


@pytest.mark.parametrize("rate", ["", "fast", "nan", "inf", "-inf", "0", "-1", "50.1"])
def test_a_rate_header_that_cannot_be_true_is_not_observed(rate: str) -> None:
    scene = Scene(page(x_amzn_RateLimit_Limit=rate))
    scene.search()
    assert scene.purse.rates == []


def test_the_usage_plans_are_amazons_defaults() -> None:
    assert {name: (plan.rate, plan.burst) for name, plan in PLANS.items()} == {
        "searchOrders": (0.0056, 20),
        "getOrder": (0.5, 30),
        "getMarketplaceParticipations": (0.016, 15),
        "createReport": (0.0167, 15),
        "getReport": (2.0, 15),
        "getReportDocument": (0.0167, 15),
    }


# --- Amazon's time ---------------------------------------------------------------------------


def test_before_the_first_answer_amazons_time_comes_from_the_login() -> None:
    scene = Scene(page())
    assert scene.connector.amazon_now() == START
    scene.amazon.now += timedelta(minutes=5)
    assert scene.connector.amazon_now() == START + timedelta(minutes=5)
    assert (scene.amazon.logins, scene.amazon.requests) == (1, [])


def test_amazons_time_is_the_largest_recent_offset_until_it_is_forgotten() -> None:
    scene = Scene(page())
    ahead = [timedelta(seconds=seconds) for seconds in (7, 9, 8)]
    dates = [scene.amazon.dated(by) for by in ahead]
    scene.amazon._answers = [httpx.Response(200, json=PAGE, headers=date) for date in dates]
    for _ in ahead:
        scene.search()
    assert scene.connector.amazon_now() == START + timedelta(seconds=9)
    scene.connector.forget_amazon_time()
    assert scene.connector.amazon_now() == START + timedelta(seconds=8)


def test_only_the_last_twenty_answers_count() -> None:
    time = AmazonTime(lambda: START)
    assert time.estimate() is None
    time.forget()
    time.learn(START + timedelta(seconds=99))
    for _ in range(19):
        time.learn(START + timedelta(seconds=1))
    assert time.estimate() == START + timedelta(seconds=99)
    time.learn(START - timedelta(seconds=5))
    assert time.estimate() == START + timedelta(seconds=1)


@pytest.mark.parametrize(
    "date", ["", "soon", "Sun, 01 Nov 2026 12:00:00 -0000", "Sun, 99 Nov 2026 12:00:00 GMT"]
)
def test_without_a_date_of_amazons_its_time_stays_unknown(date: str) -> None:
    granted = {"access_token": "x", "expires_in": 3600}
    scene = Scene(page(), login=httpx.Response(200, json=granted, headers={"Date": date}))
    with pytest.raises(Garbled):
        scene.connector.amazon_now()


def test_fetching_amazons_time_survives_a_hiccup_of_the_login() -> None:
    scene = Scene(page(), login=httpx.Response(502))
    with pytest.raises(ServerFault):
        scene.connector.amazon_now()
    assert scene.amazon.logins == 4


# --- what is never shown ---------------------------------------------------------------------

PAGE_TOKEN = "this-page-token"
SECRETS = [
    "the-client-id",
    "the-client-secret",
    "the-refresh-token",
    "access-1",
    "access-2",
    PAGE_TOKEN,
    "next-page-token",
    "paginationToken",
    "sp.test",
    "login.test",
    "Byron",
    "q1w2e3",
]


def leaked(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_no_log_record_holds_a_secret_or_a_url_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(error(403), busy, page())
    known = logging.root.manager.loggerDict.items()
    names = ["", *(name for name, logger in known if isinstance(logger, logging.Logger))]
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        scene.search(PAGE_TOKEN)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    lines = [f"{record.name} {record.getMessage()} {record.args!r}" for record in caplog.records]
    assert leaked("\n".join(lines)) == []


def test_every_logger_of_the_libraries_below_us_is_silent_under_warning() -> None:
    Scene(page()).search()
    talkative = [
        name
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] in ("httpx", "httpcore", "sp_api")
        and isinstance(logger, logging.Logger)
        and logger.filter(logging.LogRecord(name, logging.INFO, "", 0, "", None, None))
    ]
    assert talkative == []


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "the-refresh-token access-1", "Byron q1w2e3 this-page-token"),
        error(403, "Ada Byron", "access-1"),
        lambda: httpx.Response(500, text=" ".join(SECRETS), headers={"x-amzn-requestid": "q1w2e3@x"}),
        lambda: httpx.Response(200, text=" ".join(SECRETS)),
        lambda: httpx.Response(200, json={"orders": [], "pagination": {"nextToken": SECRETS}}),
        httpx.ConnectError(" ".join(SECRETS)),
        httpx.LocalProtocolError("Illegal header value access-1"),
    ],
)
def test_no_error_shows_a_secret_or_a_url(answer: Answer) -> None:
    scene = Scene(answer)
    with pytest.raises(ConnectorError) as caught:
        scene.search(PAGE_TOKEN)
    chain: BaseException | None = caught.value
    assert leaked("".join(traceback.format_exception(chain))) == []
    while chain is not None:
        assert isinstance(chain, ConnectorError)
        assert leaked(f"{chain} {chain!r} {vars(chain)}") == []
        chain = chain.__context__


def test_no_object_shows_a_secret() -> None:
    scene = Scene(page())
    found = scene.search()
    shown = f"{scene.connector!r} {found!r} {found} {scene.attempts}"
    for thing in (scene.connector, *vars(scene.connector).values()):
        shown += f"{thing!r} {thing}"
    assert leaked(shown.replace("https://sp.test", "")) == []


def test_a_missing_role_for_participations_costs_no_access_token() -> None:
    scene = Scene(error(403), error(403))
    with pytest.raises(AccessRefused):
        scene.connector.participations(scene.purse)
    assert scene.amazon.logins == 1
