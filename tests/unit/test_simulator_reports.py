"""The simulator's Reports API: as slow, as limited and as awkward as Amazon's."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from connectors.simulator.api import Simulator
from connectors.simulator.faults import Faults
from connectors.simulator.messages import Answer, Request
from connectors.simulator.orders import Line
from connectors.simulator.reports import ALL_ORDERS, COLUMNS, Reports
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
UK, DE, JP = "A1F83G8C2ARO7P", "A1PA6795UKMFR9", "A1VC38T7YXB528"
REPORTS, DOCUMENTS = "/reports/2021-06-30/reports", "/reports/2021-06-30/documents"
FIRST = NOON - timedelta(days=20)


class Client:
    """A minimal client: an adjustable clock, a token, and the operations."""

    def __init__(self, world: World | None = None, faults: Faults | None = None, **reports: Any) -> None:
        self.time = NOON
        self.world = world or World(Seller(marketplaces=("UK", "DE")))
        made = Reports(self.world, **reports)
        self.simulator = Simulator(self.world, now=lambda: self.time, faults=faults, reports=made)
        self.token = ""

    def send(self, method: str, path: str, query: str = "", body: bytes = b"") -> Answer:
        if not self.token:
            seller = next(iter(self.world.sellers.values()))
            form = {
                "grant_type": "refresh_token",
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "refresh_token": seller.refresh_token,
            }
            login = Request("POST", "/auth/o2/token", body=urlencode(form).encode())
            self.token = json.loads(self.simulator.handle(login).body)["access_token"]
        headers = {"x-amz-access-token": self.token, "Host": "127.0.0.1:8090"}
        return self.simulator.handle(Request(method, path, query, headers, body))

    def create(self, **specification: Any) -> Answer:
        wanted = {
            "reportType": ALL_ORDERS,
            "marketplaceIds": [UK],
            "dataStartTime": (NOON - timedelta(days=30)).isoformat(),
            "dataEndTime": NOON.isoformat(),
        } | specification
        return self.send("POST", REPORTS, body=json.dumps(wanted).encode())

    def created(self, **specification: Any) -> str:
        answer = self.create(**specification)
        assert answer.status == 202, answer.body
        report_id: str = json.loads(answer.body)["reportId"]
        return report_id

    def state(self, report_id: str) -> dict[str, Any]:
        answer = self.send("GET", f"{REPORTS}/{report_id}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def address(self, document_id: str) -> dict[str, Any]:
        answer = self.send("GET", f"{DOCUMENTS}/{document_id}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def download(self, url: str) -> Answer:
        parts = urlsplit(url)
        return self.simulator.handle(Request("GET", parts.path, parts.query))

    def raw(self, **specification: Any) -> Answer:
        report_id = self.created(**specification)
        self.time += timedelta(minutes=5)
        state = self.state(report_id)
        assert state["processingStatus"] == "DONE"
        return self.download(self.address(state["reportDocumentId"])["url"])

    def table(self, **specification: Any) -> list[dict[str, str]]:
        answer = self.raw(**specification)
        assert answer.status == 200
        body = gzip.decompress(answer.body) if answer.body[:2] == b"\x1f\x8b" else answer.body
        header, *rows = body.decode("utf-8", "replace").splitlines()
        assert header.split("\t") == list(COLUMNS)
        return [dict(zip(COLUMNS, row.split("\t"), strict=True)) for row in rows]


def test_a_report_is_queued_then_made_then_there_for_five_minutes_at_an_address() -> None:
    client = Client()
    client.world.order("A-1", created=FIRST)
    report_id = client.created()
    assert client.state(report_id)["processingStatus"] == "IN_QUEUE"
    client.time += timedelta(minutes=1)
    assert client.state(report_id)["processingStatus"] == "IN_PROGRESS"
    assert "reportDocumentId" not in client.state(report_id)
    client.time += timedelta(minutes=4)
    state = client.state(report_id)
    assert (state["processingStatus"], state["reportType"]) == ("DONE", ALL_ORDERS)
    url = client.address(state["reportDocumentId"])["url"]
    assert url.startswith("http://127.0.0.1:8090/")
    assert client.download(url).status == 200
    client.time += timedelta(minutes=5, seconds=1)
    expired = client.download(url)
    assert (expired.status, b"expired" in expired.body) == (403, True)
    assert client.download(client.address(state["reportDocumentId"])["url"]).status == 200
    assert client.download(url.replace("Signature=", "Signature=x")).status == 403


def test_one_row_for_each_line_without_an_id_of_the_line_or_of_the_buyer() -> None:
    client = Client()
    client.world.order(
        "A-1",
        created=FIRST,
        updated=FIRST + timedelta(days=1),
        status="SHIPPED",
        name="Secret Buyer",
        street="9 Secret Street",
        lines=(Line("item-1", quantity=2, sku="S-1"), Line("item-2", sku="S-2")),
    )
    rows = client.table()
    assert {(row["amazon-order-id"], row["sku"], row["quantity"]) for row in rows} == {
        ("A-1", "S-1", "2"),
        ("A-1", "S-2", "1"),
    }
    assert rows[0]["purchase-date"] == "2026-05-12T12:00:00+00:00"
    assert rows[0]["last-updated-date"] == "2026-05-13T12:00:00+00:00"
    assert (rows[0]["order-status"], rows[0]["sales-channel"]) == ("Shipped", "Amazon.co.uk")
    table = "\n".join("\t".join(row.values()) for row in rows)
    assert not [word for word in ("Secret", "item-1", "@") if word in table]


def test_the_order_date_decides_what_is_listed_of_all_marketplaces_and_nothing_is_sorted() -> None:
    """selling-partner-api-docs issues 1404, 1961 and 2953, selling-partner-api-models issue 534."""
    client = Client()
    for number in range(20):
        client.world.order(f"A-{number:02d}", created=FIRST + timedelta(hours=number))
    client.world.order("B-1", created=FIRST, marketplace="DE")
    client.world.order("C-1", created=NOON - timedelta(days=31))
    listed = [row["amazon-order-id"] for row in client.table()]
    assert sorted(listed) == [*(f"A-{number:02d}" for number in range(20)), "B-1"]
    assert listed != sorted(listed)
    channels = {row["amazon-order-id"]: row["sales-channel"] for row in client.table(marketplaceIds=[DE])}
    assert len(channels) == 21
    assert (channels["A-00"], channels["B-1"]) == ("Amazon.co.uk", "Amazon.de")


def test_reports_can_be_made_to_list_the_marketplaces_that_were_named() -> None:
    client = Client(whole_region=False)
    client.world.order("A-1", created=FIRST)
    client.world.order("B-1", created=FIRST, marketplace="DE")
    assert [row["amazon-order-id"] for row in client.table(marketplaceIds=[DE])] == ["B-1"]


def test_more_than_thirty_days_give_an_empty_report_and_no_error() -> None:
    client = Client()
    client.world.order("A-1", created=FIRST)
    assert client.table(dataStartTime=(NOON - timedelta(days=30, seconds=1)).isoformat()) == []
    assert len(client.table()) == 1


def test_without_an_order_to_list_a_report_is_cancelled() -> None:
    client = Client()
    report_id = client.created()
    client.time += timedelta(minutes=5)
    assert client.state(report_id)["processingStatus"] == "CANCELLED"


def test_an_unlisted_order_is_in_no_search_but_in_the_report_and_fetched_by_id() -> None:
    client = Client()
    client.world.order("A-1", created=FIRST)
    client.world.order("A-2", created=FIRST, unlisted=True)
    client.world.update("A-2", FIRST + timedelta(days=1), status="SHIPPED")
    found = client.send("GET", "/orders/2026-01-01/orders", "createdAfter=2026-01-01T00:00:00Z")
    assert [one["orderId"] for one in json.loads(found.body)["orders"]] == ["A-1"]
    updated = client.send("GET", "/orders/2026-01-01/orders", "lastUpdatedAfter=2026-01-01T00:00:00Z")
    assert [one["orderId"] for one in json.loads(updated.body)["orders"]] == ["A-1"]
    assert client.send("GET", "/orders/2026-01-01/orders/A-2").status == 200
    assert {row["amazon-order-id"] for row in client.table()} == {"A-1", "A-2"}
    hidden = World.generate(
        seed=1, marketplaces=("UK",), orders=400, start=FIRST, end=NOON, unlisted=0.1
    ).orders()
    assert 20 <= sum(one.unlisted for one in hidden) <= 60


def test_the_report_knows_an_update_before_the_api_shows_it() -> None:
    client = Client()
    made = client.world.order("A-1", created=FIRST)
    client.world.add(made.then(NOON - timedelta(hours=1), late=timedelta(hours=3), status="SHIPPED"))
    (row,) = client.table()
    assert (row["order-status"], row["last-updated-date"]) == ("Shipped", "2026-06-01T11:00:00+00:00")
    shown = json.loads(client.send("GET", "/orders/2026-01-01/orders/A-1").body)["order"]
    assert shown["lastUpdatedTime"] == "2026-05-12T12:00:00Z"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"reportType": "GET_SOMETHING"}, 400),
        ({"marketplaceIds": []}, 400),
        ({"marketplaceIds": ["UK"]}, 400),
        ({"marketplaceIds": [JP]}, 403),
        ({"dataStartTime": "yesterday"}, 400),
        ({"dataStartTime": "2026-05-01T00:00:00"}, 400),
        ({"dataEndTime": (NOON + timedelta(hours=1)).isoformat()}, 400),
        ({"dataEndTime": (NOON - timedelta(days=31)).isoformat()}, 400),
        ({"surprise": 1}, 400),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(changes: dict[str, Any], status: int) -> None:
    assert Client().create(**changes).status == status


def test_each_operation_has_a_usage_plan_of_its_own() -> None:
    client = Client()
    client.world.order("A-1", created=FIRST)
    report_ids = [client.created() for _ in range(15)]
    assert client.create().status == 429
    client.time += timedelta(minutes=5)
    assert client.create().headers["x-amzn-RateLimit-Limit"] == "0.0167"
    states = [client.send("GET", f"{REPORTS}/{report_ids[0]}").status for _ in range(16)]
    assert states == [200] * 15 + [429]
    client.time += timedelta(seconds=1)
    document = client.state(report_ids[0])["reportDocumentId"]
    asked = [client.send("GET", f"{DOCUMENTS}/{document}").status for _ in range(16)]
    assert asked == [200] * 15 + [429]


def test_reports_and_documents_are_the_sellers_own_and_forgotten_after_thirty_days() -> None:
    client = Client()
    client.world.order("A-1", created=FIRST)
    report_id = client.created()
    client.time += timedelta(minutes=5)
    document = client.state(report_id)["reportDocumentId"]
    assert client.send("GET", f"{REPORTS}/unknown").status == 404
    assert client.send("GET", f"{DOCUMENTS}/unknown").status == 404
    client.time += timedelta(days=31)
    client.token = ""
    assert client.send("GET", f"{REPORTS}/{report_id}").status == 404
    assert client.send("GET", f"{DOCUMENTS}/{document}").status == 404


def test_compression_and_encoding_differ_from_report_to_report() -> None:
    client = Client()
    client.world.order("A-1", created=FIRST, lines=(Line("1", title="Teekännchen €"),))
    answers = [client.raw() for _ in range(4)]
    bodies = [gzip.decompress(a.body) if a.body[:2] == b"\x1f\x8b" else a.body for a in answers]
    assert {a.body[:2] == b"\x1f\x8b" for a in answers} == {True, False}
    assert any("Teekännchen €".encode() in body for body in bodies)
    assert any("Teekännchen €".encode("cp1252") in body for body in bodies)
    japan = Client(World(Seller(marketplaces=("JP",))), compressed=False)
    japan.world.order("A-1", created=FIRST, marketplace="JP", lines=(Line("1", title="やかん"),))
    assert "やかん".encode("shift_jis") in japan.raw(marketplaceIds=[JP]).body


@pytest.mark.parametrize(("kind", "status"), [("report_cancelled", "CANCELLED"), ("report_fatal", "FATAL")])
def test_a_report_can_come_to_nothing(kind: str, status: str) -> None:
    client = Client(faults=Faults.only(kind, calls=[1]))
    client.world.order("A-1", created=FIRST)
    report_id = client.created()
    client.time += timedelta(minutes=5)
    assert client.state(report_id)["processingStatus"] == status
    assert len(client.table()) == 1, "the next one is made"


def test_a_document_can_lack_its_end_its_columns_or_its_orders() -> None:
    def body(kind: str | None, compressed: bool) -> bytes:
        faults = Faults.only(kind) if kind else None
        client = Client(faults=faults, compressed=compressed)
        client.world.order("A-1", created=FIRST)
        return client.raw().body

    whole = body(None, compressed=False)
    assert whole.startswith(body("report_truncated", compressed=False))
    assert len(body("report_truncated", compressed=True)) < len(body(None, compressed=True))
    *_, last = body("report_malformed", compressed=False).splitlines()
    assert last.count(b"\t") == len(COLUMNS) - 6
    assert len(body("report_empty", compressed=False).splitlines()) == 1
