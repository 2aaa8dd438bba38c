"""The report of all orders by order date: how to request it and read its table.

The table is tab-separated, one row per order line, unsorted, without line IDs. We read only that an order
exists, where and in which version (ID, sales channel, times), not products, amounts or addresses. The
encoding, which Amazon chooses by country, does not matter: the columns read are ASCII, and tab and line feed
are the same byte in all of Amazon's encodings. Whichever marketplaces a report is requested for, it lists
the orders of the seller's whole region (selling-partner-api-docs issues 1404, 1961 and 2953,
selling-partner-api-models issue 534): only the sales channel shows where an order belongs.

Source of names: Amazon's Reports API model 2021-06-30, and its guide to order tracking reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.amazon.values import is_order_id
from connectors.amazon.wire import amazon_text, promised
from connectors.base import ReportQuery, ReportState
from connectors.errors import Garbled, ReportUnreadable
from connectors.marketplaces import MARKETPLACES, NON_AMAZON
from connectors.orders import ListedOrder, OrderReport

REPORT_TYPE = "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL"

_COLUMNS = (b"amazon-order-id", b"purchase-date", b"last-updated-date", b"sales-channel")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_ID_LENGTH = 100
MAX_ORDERS = 2_000_000
"""Of one report, which keeps them all in memory: some 700 MB."""

_BY_DOMAIN = {place.domain: place.id for place in MARKETPLACES}


# --- requesting ----------------------------------------------------------------------------------


@dataclass(slots=True)
class ReportAddress:
    """A document's address, valid for five minutes. Its ``repr`` hides it."""

    url: str
    character_code: str | None = None

    def __repr__(self) -> str:
        return "ReportAddress(…)"


def report_specification(query: ReportQuery) -> dict[str, Any]:
    """Return the body of createReport.

    Raises ValueError without marketplaces: the library would silently use a default one.
    """
    if not query.marketplace_ids:
        raise ValueError("a report names its marketplaces")
    return {
        "reportType": REPORT_TYPE,
        "dataStartTime": amazon_text(query.after),
        "dataEndTime": amazon_text(query.before),
        "marketplaceIds": list(query.marketplace_ids),
    }


def created_report(content: bytes) -> str:
    """Read the body of createReport: the report's ID. Raises Garbled."""
    report_id: str = promised(content, "reportId", str)["reportId"]
    if not report_id.strip(" ."):
        raise Garbled("the report has no ID")
    return report_id


def report_state(content: bytes) -> ReportState:
    """Read the body of getReport. Raises Garbled."""
    body = promised(content, "processingStatus", str)
    document_id = body.get("reportDocumentId")
    if document_id is not None and not (isinstance(document_id, str) and document_id.strip(" .")):
        raise Garbled("the document ID is not a text")
    return ReportState(body["processingStatus"], document_id)


def report_address(content: bytes) -> ReportAddress:
    """Read the body of getReportDocument. Raises Garbled."""
    return ReportAddress(promised(content, "url", str)["url"])


# --- reading ---------------------------------------------------------------------------------


def orders_of(lines: Iterable[bytes]) -> OrderReport:
    """Return the orders of a report's lines, each once in its newest version.

    Rows that cannot be read are counted. Raises ReportUnreadable if a column is missing, if there are more
    than ``MAX_ORDERS``, or if the last row is cut: the document was longer.
    """
    remaining = iter(lines)
    header = next(remaining, b"").removeprefix(_BYTE_ORDER_MARK).split(b"\t")
    places = [_place(header, column) for column in _COLUMNS]
    newest: dict[str, ListedOrder] = {}
    marketplaces: dict[bytes, str | None] = {}
    unread, first_problem, problem = 0, None, ""
    is_cut = False
    for number, line in enumerate(remaining, start=2):
        if not line.strip():  # rows of tabs alone come, too (selling-partner-api-docs issue 1831)
            continue
        cells = line.split(b"\t")
        is_cut = len(cells) < len(header)
        try:
            row = _row(cells, places, marketplaces, len(header))
        except _Wrong as wrong:
            unread += 1
            problem = f"line {number} of the report {wrong}"
            first_problem = first_problem or problem  # only these two: each row could be one
            continue
        before = newest.get(row.order_id)
        if before is None or before.last_updated_at < row.last_updated_at:
            newest[row.order_id] = row
            if len(newest) > MAX_ORDERS:
                raise ReportUnreadable(f"the report has more than {MAX_ORDERS:,} orders")
    if is_cut:
        raise ReportUnreadable(problem)
    return OrderReport(tuple(newest.values()), unread, first_problem)


class _Wrong(Exception):
    """What is wrong with a row, as the end of a sentence."""


def _row(
    cells: list[bytes], places: list[int], marketplaces: dict[bytes, str | None], width: int
) -> ListedOrder:
    """Read a row. More cells than columns are a tab in a text: what is read stands before all texts."""
    if len(cells) < width:
        raise _Wrong(f"has {len(cells)} columns instead of {width}")
    order_id, created, updated, channel = (cells[place] for place in places)
    if channel not in marketplaces:
        marketplaces[channel] = _marketplace_of(channel)
    return ListedOrder(
        order_id=_id(order_id),
        created_at=_time(created, "purchase-date"),
        last_updated_at=_time(updated, "last-updated-date"),
        marketplace_id=marketplaces[channel],
    )


def _place(header: list[bytes], column: bytes) -> int:
    if header.count(column) != 1:
        raise ReportUnreadable(f"the report has not exactly one column {column.decode()}")
    return header.index(column)


def _marketplace_of(channel: bytes) -> str | None:
    """Return the marketplace of a sales channel: Amazon's shops by their domain (``Amazon.co.uk``)."""
    word = channel.decode("ascii", "replace").strip().casefold()
    if word.startswith("non-amazon"):
        return NON_AMAZON.id
    return _BY_DOMAIN.get(word)


def _id(cell: bytes) -> str:
    if len(cell) > _MAX_ID_LENGTH or not cell.isascii():
        raise _Wrong("has a malformed amazon-order-id")
    order_id = cell.decode("ascii").strip()
    if not order_id:
        raise _Wrong("has no amazon-order-id")
    if not is_order_id(order_id):
        raise _Wrong("has a malformed amazon-order-id")
    return order_id


def _time(cell: bytes, column: str) -> datetime:
    try:
        time = datetime.fromisoformat(cell.decode("ascii"))
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _Wrong(f"has a {column} that is not a time with an offset")
