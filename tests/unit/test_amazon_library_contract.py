"""What we rely on in python-amazon-sp-api. An upgrade that breaks one of these tests needs a review.

Amazon's own SDK (package ``spapi``) is the second witness: it must send exactly the same requests.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sp_api.api import OrdersV20260101, Reports, Sellers
from sp_api.base import Client, Marketplaces
from sp_api.base._transport_httpx import HttpxTransport
from sp_api.base.credential_provider import FromCodeCredentialProvider
from spapi.api.orders_v2026_01_01.get_order_api import GetOrderApi
from spapi.api.orders_v2026_01_01.search_orders_api import SearchOrdersApi
from spapi.api.reports_v2021_06_30.reports_api import ReportsApi
from spapi.models.reports_v2021_06_30 import CreateReportSpecification

from connectors.amazon.auth import Credentials
from connectors.amazon.client import OrdersClient, ReportsClient, SellersClient
from connectors.amazon.connector import AmazonConnector, search_parameters
from connectors.amazon.parse import page_of_json
from connectors.amazon.wire import Question
from connectors.base import Operation, ReportQuery, SearchQuery
from connectors.errors import ConnectorError, Garbled, RequestRefused, ServerFault, Throttled
from connectors.orders import OrderPage

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SEARCH = Question("searchOrders", page_of_json)
ROOT = Path(__file__).parents[2]


def answering(response: httpx.Response) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(lambda _: response))


@pytest.fixture
def library() -> Iterator[Any]:
    """Make the library's client of the Orders API as its documentation does."""
    client = OrdersV20260101(
        marketplace=Marketplaces.UK,
        credentials={"lwa_app_id": "i", "lwa_client_secret": "s", "refresh_token": "r"},
        credential_providers=(FromCodeCredentialProvider,),
        restricted_data_token="t",
    )
    client._auth._transport.close()
    client.close()
    yield client
    client.close()


def ours(http: httpx.Client, kind: type[Any] = OrdersClient, question: Question = SEARCH) -> Any:
    return kind(
        endpoint="https://sp.test",
        access_token="access",
        question=question,
        http=http,
        now=lambda: NOW,
        on_answer=lambda _: None,
    )


def test_the_library_is_the_version_that_was_read() -> None:
    assert version("python-amazon-sp-api") == "2.1.35"


def test_what_we_call_and_override_has_the_signature_that_we_know() -> None:
    def parameters(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    assert parameters(OrdersV20260101.search_orders) == ["self", "kwargs"]
    assert parameters(OrdersV20260101.get_order) == ["self", "order_id", "kwargs"]
    assert parameters(Sellers.get_marketplace_participation) == ["self", "kwargs"]
    assert parameters(Reports.create_report) == ["self", "kwargs"]
    assert parameters(Reports.get_report) == ["self", "reportId", "kwargs"]
    assert parameters(Reports.get_report_document)[:3] == ["self", "reportDocumentId", "download"]
    assert parameters(Client._check_response) == ["self", "res", "res_no_data", "bulk", "wrap_list"]
    assert isinstance(Client.headers, property)
    assert {"method", "url", "params", "content", "headers"} <= set(parameters(HttpxTransport.request))


def test_our_objects_have_all_that_the_librarys_methods_read(library: Any) -> None:
    read = set(Client._request.__code__.co_names) & set(vars(library))
    assert read == {"_transport", "endpoint", "marketplace_id", "version"}
    for kind in (OrdersClient, SellersClient, ReportsClient):
        client = ours(answering(httpx.Response(200)), kind)
        assert [name for name in read if not hasattr(client, name)] == []


def test_our_headers_and_judgement_come_before_the_librarys() -> None:
    for kind in (OrdersClient, SellersClient, ReportsClient):
        client: type[Any] = kind
        assert client.headers is not Client.headers
        assert client._check_response is not Client._check_response
        assert client.__init__ is not Client.__init__


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (httpx.Response(503, html="<html>busy</html>"), ServerFault),
        (httpx.Response(500, json={}), ServerFault),
        (httpx.Response(502, json={"message": "bad gateway"}), ServerFault),
        (httpx.Response(403, json={"message": "no"}), RequestRefused),
        (httpx.Response(200, content=b""), Garbled),
    ],
)
def test_what_the_library_takes_for_an_empty_page_is_an_error_to_us(
    library: Any, response: httpx.Response, expected: type[ConnectorError]
) -> None:
    library._transport = HttpxTransport(client=answering(response))
    page = library.search_orders(marketplaceIds=["A1F83G8C2ARO7P"])
    assert page.next_token is None
    assert not page.payload.get("orders")
    with pytest.raises(expected):
        ours(answering(response)).search_orders(marketplaceIds="A1F83G8C2ARO7P")


def test_no_pool_and_no_search_for_credentials_comes_with_our_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("the library's own constructor ran")

    for place in (
        "sp_api.base.client.HttpxTransport",
        "sp_api.base.client.CredentialProvider",
        "sp_api.auth.access_token_client.HttpxTransport",
    ):
        monkeypatch.setattr(place, forbidden)
    client = ours(answering(httpx.Response(200, json={"orders": []})))
    assert client.search_orders(marketplaceIds="A1F83G8C2ARO7P") == OrderPage((), (), None, None)


PROBE = """
import httpx, json, os, random, sys
from datetime import UTC, datetime
from connectors.amazon.auth import Credentials
from connectors.amazon.connector import AmazonConnector
from connectors.base import SearchQuery

seen = []

def amazon(request):
    seen.append([str(request.url), dict(request.headers), request.content.decode()])
    return httpx.Response(200, json={"access_token": "a", "expires_in": 3600, "orders": []})

class Budget:
    def take(self, operation, *, again=False): pass
    def observe_rate(self, operation, rate): pass

now = datetime(2026, 11, 1, tzinfo=UTC)
connector = AmazonConnector(
    "acme", Credentials("i", ("s",), "r"), endpoint="https://sp.test", token_url="https://login.test/t",
    http=httpx.Client(transport=httpx.MockTransport(amazon)), now=lambda: now, sleep=print,
    rng=random.Random(1),
)
connector.search(SearchQuery("created", now, now, ("A1F83G8C2ARO7P",), ("BUYER",)), None, Budget())
print(json.dumps([seen, sorted(name for name in os.environ if name.startswith(("SP_API_", "AWS_", "LWA_")))]))
"""


def probe(**variables: str) -> tuple[Any, list[str]]:
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), **variables}
    finished = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    seen, names = json.loads(finished.stdout)
    return seen, names


@pytest.mark.long
def test_the_librarys_environment_variables_change_nothing() -> None:
    variables = {
        "SP_API_DEFAULT_MARKETPLACE": "NOWHERE",
        "AWS_ENV": "production-blue",
        "SP_API_AUTH_CACHE_SIZE": "many",
        "SP_API_AUTH_CACHE_TTL": "long",
        "SP_API_REFRESH_TOKEN": "foreign",
        "SP_API_AWS_SECRET_ID": "foreign",
        "LWA_APP_ID": "foreign",
        "LWA_CLIENT_SECRET": "foreign",
    }
    plain, _ = probe()
    disturbed, names = probe(**variables)
    assert disturbed == plain
    assert names == sorted(variables), "and they are left as they were for others"
    sandbox, _ = probe(AWS_ENV="SANDBOX", SP_API_DEFAULT_MARKETPLACE="JP")
    assert sandbox == plain


# --- Amazon's own SDK as a witness -----------------------------------------------------------


class Recorder:
    """Replaces the SDK's HTTP machinery and records the request instead of sending it."""

    client_side_validation = True

    def select_header_accept(self, accepts: list[str]) -> str:
        return accepts[0]

    def select_header_content_type(self, kinds: list[str]) -> str:
        return kinds[0]

    def call_api(
        self,
        path: str,
        method: str,
        path_params: dict[str, str],
        query: list[tuple[str, Any]],
        *_: Any,
        **more: Any,
    ) -> dict[str, Any]:
        for name, value in path_params.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        joined = {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in query}
        sent = {"method": method, "path": path, "query": joined}
        body = more.get("body")
        if body is None:
            return sent
        given = {name: value for name, value in body.to_dict().items() if value is not None}
        return sent | {"body": {body.attribute_map[name]: value for name, value in given.items()}}


class Purse:
    def take(self, operation: Operation, *, again: bool = False) -> None:
        """Cost nothing."""

    def observe_rate(self, operation: Operation, rate: float) -> None:
        raise AssertionError("no rate was sent")

    def drain(self, operation: Operation) -> datetime:
        return NOW


def sent_by_us(act: Any) -> dict[str, Any]:
    requests: list[httpx.Request] = []

    def amazon(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.test":
            return httpx.Response(200, json={"access_token": "a", "expires_in": 3600})
        requests.append(request)
        return httpx.Response(429)

    connector = AmazonConnector(
        "acme",
        Credentials("i", ("s",), "r"),
        endpoint="https://sp.test",
        token_url="https://login.test/t",
        http=httpx.Client(transport=httpx.MockTransport(amazon)),
        now=lambda: NOW,
        sleep=lambda _: None,
        rng=random.Random(1),
    )
    with pytest.raises(Throttled):
        act(connector)
    (request,) = requests
    assert request.headers.get("content-type") == ("application/json" if request.content else None)
    body = {"body": json.loads(request.content)} if request.content else {}
    return {
        **body,
        "method": request.method,
        "path": request.url.raw_path.decode().partition("?")[0],
        "query": dict(request.url.params.multi_items()),
    }


@pytest.mark.parametrize(("axis", "prefix"), [("updated", "last_updated"), ("created", "created")])
def test_amazons_sdk_sends_the_same_search(axis: Any, prefix: str) -> None:
    after, before = NOW - timedelta(days=1), NOW - timedelta(hours=1, milliseconds=1)
    query = SearchQuery(axis, after, before, ("A1F83G8C2ARO7P", "A1PA6795UKMFR9"), ("BUYER", "TAX"))
    amazons = SearchOrdersApi(Recorder()).search_orders(
        **{f"{prefix}_after": "2026-10-31T12:00:00Z", f"{prefix}_before": "2026-11-01T10:59:59.999Z"},
        marketplace_ids=["A1F83G8C2ARO7P", "A1PA6795UKMFR9"],
        included_data=["BUYER", "TAX"],
        max_results_per_page=100,
        pagination_token="t/o+k=",
    )
    assert sent_by_us(lambda connector: connector.search(query, "t/o+k=", Purse())) == amazons
    assert set(search_parameters(query, "t")) == set(amazons["query"])


def test_amazons_sdk_sends_the_same_fetch_by_id() -> None:
    amazons = GetOrderApi(Recorder()).get_order("026&1+2", included_data=["BUYER", "TAX"])
    assert sent_by_us(lambda connector: connector.get("026&1+2", ("BUYER", "TAX"), Purse())) == amazons


def test_amazons_sdk_requests_the_same_report() -> None:
    after, before = NOW - timedelta(days=30), NOW - timedelta(hours=1, milliseconds=1)
    query = ReportQuery(after, before, ("A1F83G8C2ARO7P", "A1PA6795UKMFR9"))
    specification = CreateReportSpecification(
        report_type="GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL",
        data_start_time="2026-10-02T12:00:00Z",
        data_end_time="2026-11-01T10:59:59.999Z",
        marketplace_ids=["A1F83G8C2ARO7P", "A1PA6795UKMFR9"],
    )
    amazons = ReportsApi(Recorder()).create_report(specification)
    assert sent_by_us(lambda connector: connector.request_report(query, Purse())) == amazons


def test_amazons_sdk_sends_the_same_for_a_report_and_its_document() -> None:
    amazons = ReportsApi(Recorder())
    asked = sent_by_us(lambda connector: connector.report_state("50/0 1", Purse()))
    assert asked == amazons.get_report("50/0 1")
    asked = sent_by_us(lambda connector: connector.report_orders("amzn1.spdoc/1", Purse()))
    assert asked == amazons.get_report_document("amzn1.spdoc/1")
