"""Amazon's own Python SDK reads the simulator, so its answers are what Amazon's model promises."""

from __future__ import annotations

import gzip
import json
import logging
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import responses

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.messages import Request
from connectors.simulator.serve import serve
from connectors.simulator.visibility import DATASETS
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, World

START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
EVERYTHING = sorted(DATASETS)
ORDERS = 320


@pytest.fixture(scope="module")
def spapi() -> Any:
    """Import the SDK without its logging set-up and its warnings."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spapi
        from spapi.api.orders_v2026_01_01 import get_order_api, search_orders_api

        assert search_orders_api.SearchOrdersApi is not get_order_api.GetOrderApi
    root.handlers[:], root.level = handlers, level
    return spapi


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    world = World.generate(
        seed=11, marketplaces=("UK", "DE", "JP", "BR", "IN"), orders=ORDERS, start=START, end=END
    )
    plans = {"searchOrders": UsagePlan(100, 1000), "getOrder": UsagePlan(100, 1000)}
    return Simulator(world, now=lambda: END + timedelta(days=1), plans=plans)


def connect(spapi: Any, url: str) -> Any:
    config = spapi.SPAPIConfig(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, refresh_token="Atzr|simulated-refresh-token"
    )
    return spapi.SPAPIClient(config, oauth_endpoint=f"{url}/auth/o2/token", endpoint=url).api_client


def time_of(value: Any) -> datetime:
    """Read the SDK's time, a datetime if dateutil is installed, else Amazon's text."""
    return datetime.fromisoformat(str(value))


@pytest.mark.long
def test_the_sdk_reads_every_page_and_every_order(spapi: Any, simulator: Simulator) -> None:
    from spapi.api.orders_v2026_01_01.search_orders_api import SearchOrdersApi

    with serve(simulator) as (_, url):
        client = connect(spapi, url)
        api = SearchOrdersApi(client)
        found: list[Any] = []
        token: dict[str, str] = {}
        while True:
            page = api.search_orders(
                created_after=START - timedelta(days=1),
                included_data=EVERYTHING,
                max_results_per_page=90,
                **token,
            )
            found.extend(page.orders)
            if page.pagination is None:
                break
            token = {"pagination_token": page.pagination.next_token}
        client.rest_client.pool_manager.clear()
    assert time_of(page.created_before) == END + timedelta(days=1) - timedelta(minutes=2)
    truth = {one.order_id: one.versions[-1] for one in simulator.world.orders()}
    assert len(found) == ORDERS
    assert {one.order_id for one in found} == truth.keys()
    for one in found:
        version = truth[one.order_id]
        facts = version.facts
        precision = timedelta(milliseconds=1) if facts.milliseconds else timedelta(seconds=1)
        assert timedelta(0) <= version.last_updated - time_of(one.last_updated_time) < precision
        assert one.fulfillment.fulfillment_status == facts.status
        assert [item.order_item_id for item in one.order_items] == [line.item_id for line in facts.lines]
        assert [item.quantity_ordered for item in one.order_items] == [line.quantity for line in facts.lines]
        visible = facts.shippable and facts.fulfilled_by == "MERCHANT" and not facts.withheld
        assert (one.buyer and one.buyer.buyer_email) == (facts.email if visible else None)
        if one.proceeds is not None:
            assert float(one.proceeds.grand_total.amount) == pytest.approx(float(facts.total))


@pytest.mark.long
def test_the_sdk_reads_orders_by_id(spapi: Any, simulator: Simulator) -> None:
    from spapi.api.orders_v2026_01_01.get_order_api import GetOrderApi

    with serve(simulator) as (_, url):
        client = connect(spapi, url)
        api = GetOrderApi(client)
        for one in simulator.world.orders()[:60]:
            found = api.get_order(one.order_id, included_data=EVERYTHING).order
            assert (found.order_id, found.sales_channel.channel_name) == (
                one.order_id,
                one.versions[-1].facts.channel,
            )
        with pytest.raises(spapi.ApiException) as missing:
            api.get_order("000-0000000-0000000")
        client.rest_client.pool_manager.clear()
    assert missing.value.status == 404
    assert json.loads(missing.value.body)["errors"][0]["code"] == "NotFound"


def test_the_sdk_requests_a_report_and_reads_its_document(spapi: Any) -> None:
    from spapi.api.reports_v2021_06_30.reports_api import ReportsApi
    from spapi.models.reports_v2021_06_30 import CreateReportSpecification

    world = World.generate(
        seed=5, marketplaces=("UK",), orders=60, start=START, end=START + timedelta(days=9)
    )
    time = END
    with serve(Simulator(world, now=lambda: time)) as (_, url):
        client = connect(spapi, url)
        api = ReportsApi(client)
        wanted = CreateReportSpecification(
            report_type="GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL",
            marketplace_ids=["A1F83G8C2ARO7P"],
            data_start_time=START.isoformat(),
            data_end_time=(START + timedelta(days=30)).isoformat(),
        )
        report_id = api.create_report(wanted).report_id
        assert api.get_report(report_id).processing_status == "IN_QUEUE"
        time += timedelta(minutes=10)
        report = api.get_report(report_id)
        assert (report.processing_status, time_of(report.created_time)) == ("DONE", END)
        document = api.get_report_document(report.report_document_id)
        body = httpx.get(document.url).content
        client.rest_client.pool_manager.clear()
    assert document.compression_algorithm == "GZIP"
    header, *rows = gzip.decompress(body).decode("cp1252").splitlines()
    place = header.split("\t").index("amazon-order-id")
    assert {row.split("\t")[place] for row in rows} == {one.order_id for one in world.orders()}


def test_the_sdks_token_request_is_understood(spapi: Any, simulator: Simulator) -> None:
    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        given = simulator.handle(Request("POST", "/auth/o2/token", "", dict(request.headers), body))
        return given.status, {}, given.body

    with responses.RequestsMock() as lwa:
        lwa.add_callback(responses.POST, "https://api.amazon.com/auth/o2/token", answer)
        cache = spapi.client.AccessTokenCache(CLIENT_ID, CLIENT_SECRET, "Atzr|simulated-refresh-token")
        token = cache.get_lwa_access_token()
        assert token == cache.get_lwa_access_token()
        assert len(lwa.calls) == 1
    headers = {"x-amz-access-token": token}
    assert (
        simulator.handle(Request("GET", "/sellers/v1/marketplaceParticipations", "", headers)).status == 200
    )
