"""Reports through the Amazon connector: request, document, table, secrecy."""

from __future__ import annotations

import gzip
import logging
import random
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from connectors.amazon import reports
from connectors.amazon.auth import Credentials
from connectors.amazon.connector import AmazonConnector
from connectors.amazon.documents import MAX_LINE_BYTES
from connectors.amazon.reports import ReportAddress, orders_of
from connectors.base import Attempt, Operation, ReportQuery
from connectors.errors import (
    BudgetEmpty,
    ConnectorError,
    DocumentExpired,
    Garbled,
    ReportUnreadable,
    RequestRefused,
    ServerFault,
    Throttled,
    Unreachable,
)
from connectors.marketplaces import BY_NAME, MARKETPLACES
from connectors.orders import ListedOrder, OrderReport
from connectors.simulator.api import Simulator
from connectors.simulator.faults import Faults
from connectors.simulator.orders import Line
from connectors.simulator.reports import Reports
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World
from tests.simulator_transport import transport

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
UK = "A1F83G8C2ARO7P"
QUERY = ReportQuery(NOON - timedelta(days=30), NOON - timedelta(minutes=5), (UK,))
SECRET = "X-Amz-Signature"
STORED = "https://s3.test/report-documents/x"


class Purse:
    """A budget of N tokens for each operation."""

    def __init__(self, tokens: int = 100) -> None:
        self.tokens = tokens
        self.taken: list[Operation] = []

    def take(self, operation: Operation, *, again: bool = False) -> None:
        if self.taken.count(operation) == self.tokens:
            raise BudgetEmpty("empty", NOON + timedelta(minutes=1))
        self.taken.append(operation)

    def observe_rate(self, operation: Operation, rate: float) -> None:
        """Ignore the rate."""

    def drain(self, operation: Operation) -> datetime:
        return NOON + timedelta(minutes=1)


class Scene:
    """The connector in front of the simulator, or of a storage with given answers."""

    def __init__(
        self,
        faults: Faults | None = None,
        storage: Callable[[httpx.Request], httpx.Response] | None = None,
        **reports: Any,
    ) -> None:
        self.time = NOON
        self.world = World(Seller(marketplaces=("UK", "DE")))
        self.simulator = Simulator(
            self.world, now=lambda: self.time, faults=faults, reports=Reports(self.world, **reports)
        )
        self.requests: list[httpx.Request] = []
        simulated = transport(self.simulator)

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            if storage is not None and request.url.path.startswith("/report-documents/"):
                return storage(request)
            return simulated.handle_request(request)

        self.purse = Purse()
        self.waits: list[float] = []
        self.attempts: list[Attempt] = []
        self.connector = AmazonConnector(
            "acme",
            Credentials(CLIENT_ID, (CLIENT_SECRET,), "Atzr|simulated-refresh-token"),
            endpoint="https://sp.test",
            token_url="https://login.test/auth/o2/token",
            http=httpx.Client(transport=httpx.MockTransport(handle)),
            now=lambda: self.time,
            sleep=self.waits.append,
            rng=random.Random(7),
            observer=self.attempts.append,
        )

    def document_id(self) -> str:
        report_id = self.connector.request_report(QUERY, self.purse)
        self.time += timedelta(minutes=5)
        state = self.connector.report_state(report_id, self.purse)
        assert state.done
        assert state.document_id is not None
        return state.document_id

    def read(self) -> OrderReport:
        return self.connector.report_orders(self.document_id(), self.purse)

    def outcomes(self, operation: str) -> list[str]:
        return [attempt.outcome for attempt in self.attempts if attempt.operation == operation]


def filled(scene: Scene, count: int = 3) -> Scene:
    for number in range(count):
        scene.world.order(
            f"A-{number}",
            created=NOON - timedelta(days=number + 1),
            lines=(Line("1", title="Café №"), Line("2")),
        )
    return scene


def table(*rows: Iterable[str], header: str | None = None) -> list[bytes]:
    names = header or "amazon-order-id\tpurchase-date\tlast-updated-date\torder-status\tsales-channel"
    return [names.encode(), *("\t".join(row).encode() for row in rows)]


ROW = ("A-1", "2026-05-01T10:00:00+00:00", "2026-05-02T10:00:00+00:00", "Shipped", "Amazon.co.uk")


# --- asking ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("charset", ["utf-8", "cp1252", "shift_jis", "cp932"])
def test_a_report_is_requested_awaited_and_read_in_any_compression_and_encoding(
    compressed: bool, charset: str
) -> None:
    scene = filled(Scene(compressed=compressed, charset=charset))
    report_id = scene.connector.request_report(QUERY, scene.purse)
    early = scene.connector.report_state(report_id, scene.purse)
    assert (early.status, early.done, early.failed) == ("IN_QUEUE", False, False)
    scene.time += timedelta(minutes=5)
    state = scene.connector.report_state(report_id, scene.purse)
    assert (state.status, state.done) == ("DONE", True)
    report = scene.connector.report_orders(state.document_id or "", scene.purse)
    assert (report.unreadable, report.first_unreadable) == (0, None)
    assert sorted(report.orders, key=lambda one: one.order_id) == [
        ListedOrder(
            order_id=f"A-{number}",
            created_at=NOON - timedelta(days=number + 1),
            last_updated_at=NOON - timedelta(days=number + 1),
            marketplace_id=BY_NAME["UK"].id,
        )
        for number in range(3)
    ]
    assert scene.purse.taken == ["createReport", "getReport", "getReport", "getReportDocument"]
    assert scene.outcomes("reportDocument") == ["ok"], "the download is reported to the observer, and is free"


def test_the_download_carries_neither_an_access_token_nor_accepts_compression() -> None:
    scene = filled(Scene())
    scene.read()
    download = scene.requests[-1]
    assert SECRET in str(download.url)
    assert "x-amz-access-token" not in download.headers
    assert download.headers["accept-encoding"] == "identity"
    assert download.headers["user-agent"].startswith("amazon-order-sync/")


@pytest.mark.parametrize("kind", ["report_cancelled", "report_fatal"])
def test_a_report_that_comes_to_nothing_says_so(kind: str) -> None:
    scene = filled(Scene(Faults.only(kind)))
    report_id = scene.connector.request_report(QUERY, scene.purse)
    scene.time += timedelta(minutes=5)
    state = scene.connector.report_state(report_id, scene.purse)
    assert (state.failed, state.done, state.document_id) == (True, False, None)


def test_unknown_reports_and_documents_are_refused_and_a_bad_id_is_never_sent() -> None:
    scene = Scene()
    with pytest.raises(RequestRefused) as refused:
        scene.connector.report_state("unknown", scene.purse)
    assert refused.value.status == 404
    with pytest.raises(RequestRefused):
        scene.connector.report_orders("unknown", scene.purse)
    sent = len(scene.requests)
    for bad in ("", "..", " "):
        with pytest.raises(RequestRefused):
            scene.connector.report_state(bad, scene.purse)
        with pytest.raises(RequestRefused):
            scene.connector.report_orders(bad, scene.purse)
    assert len(scene.requests) == sent
    with pytest.raises(ValueError, match="names its marketplaces"):
        scene.connector.request_report(ReportQuery(NOON, NOON, ()), scene.purse)


def test_the_usage_plans_and_our_own_budget_are_kept() -> None:
    scene = Scene()
    scene.purse.tokens = 0
    with pytest.raises(BudgetEmpty):
        scene.connector.request_report(QUERY, scene.purse)
    assert [r for r in scene.requests if r.url.path.startswith("/reports")] == [], "nothing was sent"
    scene.purse.tokens = 100
    for _ in range(15):
        scene.connector.request_report(QUERY, scene.purse)
    with pytest.raises(Throttled):
        scene.connector.request_report(QUERY, scene.purse)


@pytest.mark.parametrize("kind", ["html_503", "empty_500", "html_200", "truncated_json", "dropped", "hang"])
def test_a_spoilt_answer_is_repeated_in_each_operation(kind: str) -> None:
    operations = ("createReport", "getReport", "getReportDocument")
    scene = filled(Scene(Faults.only(kind, calls=[1], operations=operations)))
    assert len(scene.read().orders) == 3
    for operation in operations:
        assert scene.outcomes(operation)[0] != "ok"
        assert scene.outcomes(operation)[-1] == "ok"


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"reportId": 7}',
        '{"reportId": "."}',
        '{"reportId": "1", "errors": [{"code": "x"}]}',
    ],
)
def test_a_success_without_what_was_promised_is_none(body: str) -> None:
    scene = Scene()
    scene.connector._http = httpx.Client(  # the token comes from the same place
        transport=httpx.MockTransport(
            lambda request: (
                httpx.Response(200, json={"access_token": "a", "expires_in": 3600})
                if request.url.host == "login.test"
                else httpx.Response(202, text=body)
            )
        )
    )
    with pytest.raises(Garbled):
        scene.connector.request_report(QUERY, scene.purse)


# --- the document ----------------------------------------------------------------------------


def answer(status: int, body: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


def stored(given: Exception | Callable[[], httpx.Response]) -> Scene:
    def storage(request: httpx.Request) -> httpx.Response:
        if isinstance(given, Exception):
            raise given
        return given()

    return filled(Scene(storage=storage, compressed=False))


def test_an_expired_address_is_requested_once_more() -> None:
    scene = filled(Scene(Faults.only("report_address_expired", calls=[1])))
    assert len(scene.read().orders) == 3
    assert scene.purse.taken.count("getReportDocument") == 2
    lasting = filled(Scene(Faults.only("report_address_expired")))
    with pytest.raises(DocumentExpired):
        lasting.read()
    assert lasting.purse.taken.count("getReportDocument") == 2


@pytest.mark.parametrize("kind", ["dropped", "dropped_halfway", "hang", "html_503"])
def test_a_download_that_breaks_off_is_repeated_at_the_same_address(kind: str) -> None:
    scene = filled(Scene(Faults.only(kind, calls=[1], operations=["download"])))
    assert len(scene.read().orders) == 3
    assert scene.purse.taken.count("getReportDocument") == 1
    assert len(scene.waits) == 1
    assert scene.outcomes("reportDocument")[-1] == "ok"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda: answer(500, b"<Error/>"), ServerFault),
        (lambda: answer(404, b"<Error/>"), DocumentExpired),
        (lambda: httpx.Response(302, headers={"location": "https://elsewhere.test/"}), Garbled),
        (lambda: answer(200, b"\x1f\x8b" + b"\x00" * 9), ReportUnreadable),
        (lambda: answer(200, b""), ReportUnreadable),
        (lambda: answer(200, b"<Error>no</Error>"), ReportUnreadable),
        (httpx.ConnectError("https://secret.test/?X-Amz-Signature=abc"), Unreachable),
    ],
)
def test_nothing_but_a_whole_table_passes_for_one(given: Any, expected: type[ConnectorError]) -> None:
    with pytest.raises(expected):
        stored(given).read()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("announced", ["", "GZIP", "BROTLI"])
def test_a_documents_bytes_say_if_it_is_compressed(compressed: bool, announced: str) -> None:
    """Amazon announces GZIP for plain documents, and nothing for packed ones.

    selling-partner-api-docs issues 664 and 3254, selling-partner-api-models issues 2618 and 2648.
    """
    assert len(filled(Scene(compressed=compressed, compression=announced)).read().orders) == 3


@pytest.mark.parametrize("kind", ["report_truncated", "report_malformed"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_document_that_lacks_something_is_unreadable(kind: str, compressed: bool) -> None:
    with pytest.raises(ReportUnreadable):
        filled(Scene(Faults.only(kind), compressed=compressed)).read()


@pytest.mark.parametrize("url", ["http://s3.test/x", "ftp://s3.test/x", "file:///etc/passwd", "", "https"])
def test_a_document_comes_over_https_or_from_this_machine(url: str) -> None:
    scene = Scene()
    with pytest.raises(Garbled):
        scene.connector._read_document(ReportAddress(url))
    assert scene.requests == []


@pytest.mark.long
def test_a_large_document_is_read_in_pieces_and_a_bomb_is_not_swallowed() -> None:
    rows = [(f"A-{number % 5000}", *ROW[1:]) for number in range(60_000)]
    body = b"\n".join(table(*rows))
    packed = gzip.compress(body[: len(body) // 2]) + gzip.compress(body[len(body) // 2 :])
    scene = Scene(storage=lambda _: answer(200, packed))
    assert len(scene.connector._read_document(ReportAddress(STORED)).orders) == 5000
    headers = {"content-encoding": "gzip"}
    scene = Scene(storage=lambda _: answer(200, packed, **headers))
    assert len(scene.connector._read_document(ReportAddress(STORED)).orders) == 5000
    bomb = gzip.compress(b"x" * (MAX_LINE_BYTES * 8))
    scene = Scene(storage=lambda _: answer(200, bomb))
    with pytest.raises(ReportUnreadable, match="longer than"):
        scene.connector._read_document(ReportAddress(STORED))


def test_neither_logs_nor_errors_nor_representations_show_an_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    for kind in ("dropped", "html_503", "report_address_expired", "hang"):
        scene = filled(Scene(Faults.only(kind, operations=["download"])))
        with pytest.raises(ConnectorError) as raised:
            scene.read()
        said += traceback.format_exception(raised.value)
    said += [repr(ReportAddress("https://s3.test/?X-Amz-Signature=1")), caplog.text]
    assert SECRET not in "".join(said)
    assert "report-documents" not in "".join(said)


# --- the table -------------------------------------------------------------------------------


def test_rows_of_an_order_are_one_order_in_its_newest_version() -> None:
    newer = (ROW[0], ROW[1], "2026-05-03T12:00:00+02:00", "Cancelled", ROW[4])
    (one,) = orders_of(table(ROW, newer, ROW)).orders
    assert one == ListedOrder(
        "A-1",
        datetime(2026, 5, 1, 10, tzinfo=UTC),
        datetime(2026, 5, 3, 10, tzinfo=UTC),
        BY_NAME["UK"].id,
    )


def test_columns_are_found_by_name_and_what_else_there_is_does_not_matter() -> None:
    header = "url\tsales-channel\torder-status\tlast-updated-date\tpurchase-date\tamazon-order-id\tship-city"
    lines = [*table(header=header), "\t".join(("", *reversed(ROW), 'München "')).encode("latin-1")]
    assert [one.order_id for one in orders_of(lines).orders] == ["A-1"]
    marked = [b"\xef\xbb\xbf" + lines[0], *lines[1:], b""]
    assert [one.order_id for one in orders_of(marked).orders] == ["A-1"]
    assert orders_of(table()) == OrderReport(())


@pytest.mark.parametrize(
    ("channel", "marketplace_id"),
    [
        *((place.domain.capitalize(), place.id) for place in MARKETPLACES),
        ("AMAZON.CO.UK ", BY_NAME["UK"].id),
        ("Non-Amazon", "NON_AMAZON"),
        ("Non-Amazon US", "NON_AMAZON"),
        ("", None),
        ("amazon.example", None),
        ("Amazon.verkäufe", None),
    ],
)
def test_a_sales_channel_says_where_an_order_was_placed(channel: str, marketplace_id: str | None) -> None:
    (one,) = orders_of(table((*ROW[:4], channel))).orders
    assert one.marketplace_id == marketplace_id


def test_rows_that_come_twice_or_are_blank_change_nothing() -> None:
    """selling-partner-api-docs issue 1831, selling-partner-api-models issues 442 and 544."""
    assert orders_of([*table(ROW, ROW), b"", b"\t\t\t\t", *table(ROW)[1:]]) == orders_of(table(ROW))


def test_a_report_of_too_many_orders_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_ORDERS", 2)
    rows = [(f"A-{number}", *ROW[1:]) for number in range(3)]
    assert len(orders_of(table(*rows[:2], *rows[:2])).orders) == 2
    with pytest.raises(ReportUnreadable, match="the report has more than 2 orders"):
        orders_of(table(*rows))


def test_a_tab_in_a_text_behind_what_is_read_spoils_nothing() -> None:
    """Reports have tabs and quotation marks in product names (selling-partner-api-docs issue 3460)."""
    header = "amazon-order-id\tpurchase-date\tlast-updated-date\torder-status\tsales-channel\tproduct-name"
    lines = table((*ROW, "Mug,", '"large"'), (*ROW, "Cup"), header=header)
    assert orders_of(lines).orders == orders_of(table(ROW)).orders
    assert orders_of(lines).unreadable == 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "not exactly one column amazon-order-id"),
        ([b"<html>"], "not exactly one column"),
        (table(header="amazon-order-id\tamazon-order-id\tpurchase-date"), "not exactly one column"),
        (table(ROW, ROW[:4]), "line 3 .* 4 columns instead of 5"),
        (["amazon-order-id".encode("utf-16")], "not exactly one column"),
    ],
)
def test_what_is_no_table_or_ends_within_a_row_is_refused_as_a_whole(lines: list[bytes], said: str) -> None:
    with pytest.raises(ReportUnreadable, match=said):
        orders_of(lines)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW[:4], "line 2 of the report has 4 columns instead of 5"),
        (("", *ROW[1:]), "line 2 of the report has no amazon-order-id"),
        (("A" * 101, *ROW[1:]), "line 2 of the report has a malformed amazon-order-id"),
        (("Ä-1", *ROW[1:]), "line 2 of the report has a malformed amazon-order-id"),
        (("../x", *ROW[1:]), "line 2 of the report has a malformed amazon-order-id"),
        (
            (ROW[0], "yesterday", *ROW[2:]),
            "line 2 of the report has a purchase-date that is not a time with an offset",
        ),
        (
            (ROW[0], "0001-01-01T00:00:00+10:00", *ROW[2:]),
            "line 2 of the report has a purchase-date that is not a time with an offset",
        ),
        (
            (ROW[0], ROW[1], "2026-05-02T10:00:00", *ROW[3:]),
            "line 2 of the report has a last-updated-date that is not a time with an offset",
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_counted_and_named(row: tuple[str, ...], said: str) -> None:
    other = ("A-2", *ROW[1:])
    report = orders_of(table(row, row, other))
    assert [one.order_id for one in report.orders] == ["A-2"]
    assert (report.unreadable, report.first_unreadable) == (2, said)
