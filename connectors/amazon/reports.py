"""The report of all orders by order date: how to request it and read its table.

The table is tab-separated, one row per order line, unsorted, without line IDs. We read only that an order
exists and in which version (IDs, times, words), not products, amounts or addresses. The encoding, which
Amazon chooses by country, does not matter: the columns read are ASCII, and tab and line feed are the same
byte in all of Amazon's encodings. One unreadable row makes the report unreadable: a list with a hole proves
nothing.

Source of names: Amazon's Reports API model 2021-06-30, and its guide to order tracking reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.amazon.wire import amazon_text, promised
from connectors.base import ReportQuery, ReportState
from connectors.errors import Garbled, ReportUnreadable
from connectors.orders import ListedOrder

REPORT_TYPE = "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL"

_COLUMNS = (b"amazon-order-id", b"purchase-date", b"last-updated-date", b"order-status", b"sales-channel")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_WORD_LENGTH = 100


# --- requesting ----------------------------------------------------------------------------------


@dataclass(slots=True)
class ReportAddress:
    """A document's address, valid for five minutes. Its ``repr`` hides it."""

    url: str
    compression: str | None
    character_code: str | None = None
    """Unused: the library writes it."""

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
    body = promised(content, "url", str)
    compression = body.get("compressionAlgorithm")
    if compression is not None and not isinstance(compression, str):
        raise Garbled("the compression is not a word")
    return ReportAddress(body["url"], compression)


# --- reading ---------------------------------------------------------------------------------


def orders_of(lines: Iterable[bytes]) -> tuple[ListedOrder, ...]:
    """Return the orders of a report's lines, each once in its newest version. Raises ReportUnreadable."""
    newest: dict[str, ListedOrder] = {}
    for row in _rows(lines):
        before = newest.get(row.order_id)
        if before is None or before.last_updated_at < row.last_updated_at:
            newest[row.order_id] = row
    return tuple(newest.values())


def _rows(lines: Iterable[bytes]) -> Iterator[ListedOrder]:
    remaining = iter(lines)
    header = next(remaining, b"").removeprefix(_BYTE_ORDER_MARK).split(b"\t")
    places = [_place(header, column) for column in _COLUMNS]
    words: dict[bytes, str] = {}
    for number, line in enumerate(remaining, start=2):
        if not line:
            continue
        cells = line.split(b"\t")
        if len(cells) != len(header):
            raise _unreadable(number, f"has {len(cells)} columns instead of {len(header)}")
        order_id, created, updated, status, channel = (cells[place] for place in places)
        yield ListedOrder(
            order_id=_word(order_id, number, "amazon-order-id"),
            created_at=_time(created, number, "purchase-date"),
            last_updated_at=_time(updated, number, "last-updated-date"),
            status=words.setdefault(status, _word(status, number, "order-status")),
            sales_channel=words.setdefault(channel, _open_word(channel, number, "sales-channel")),
        )


def _place(header: list[bytes], column: bytes) -> int:
    if header.count(column) != 1:
        raise ReportUnreadable(f"the report has not exactly one column {column.decode()}")
    return header.index(column)


def _word(cell: bytes, number: int, column: str) -> str:
    word = _open_word(cell, number, column)
    if not word:
        raise _unreadable(number, f"has no {column}")
    return word


def _open_word(cell: bytes, number: int, column: str) -> str:
    if len(cell) > _MAX_WORD_LENGTH or not cell.isascii():
        raise _unreadable(number, f"has a malformed {column}")
    return cell.decode("ascii").strip()


def _time(cell: bytes, number: int, column: str) -> datetime:
    try:
        time = datetime.fromisoformat(cell.decode("ascii"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise _unreadable(number, f"has a {column} that is not a time with an offset")
    return time.astimezone(UTC)


def _unreadable(number: int, what: str) -> ReportUnreadable:
    return ReportUnreadable(f"line {number} of the report {what}")
