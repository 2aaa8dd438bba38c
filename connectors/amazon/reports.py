"""The report of all orders by order date: asking for it, and reading its table.

It is a table with tabs between, one row for each order line, in no order, without an id of the line.
Read from it is that an order exists, and in which version: ids, times, words. Everything else (products,
amounts, where it was sent to) is left alone, and so is the encoding, which Amazon chooses by country: the
columns that are read are ASCII, and in all encodings that Amazon uses a tab and a line feed are what
they look like. A row that is not understood spoils the report: a list with a hole proves nothing.

Source of names: Amazon's Reports API model 2021-06-30, and its guide to order tracking reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.amazon.wire import promised
from connectors.base import ReportQuery, ReportState
from connectors.errors import Garbled, ReportUnreadable
from connectors.orders import ListedOrder

REPORT_TYPE = "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL"

_COLUMNS = (b"amazon-order-id", b"purchase-date", b"last-updated-date", b"order-status", b"sales-channel")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_WORD = 100


# --- asking ----------------------------------------------------------------------------------


@dataclass(slots=True)
class ReportAddress:
    """Where a report's document lies, for five minutes. Shows itself to nobody."""

    url: str
    compression: str | None
    character_code: str | None = None
    """The library writes to it; the encoding does not concern us."""

    def __repr__(self) -> str:
        return "ReportAddress(…)"


def report_specification(query: ReportQuery, time_text: Any) -> dict[str, Any]:
    """The body of createReport; ``time_text`` writes a time as Amazon reads it.

    Without marketplaces the library would quietly ask for one of its own choice, hence ValueError.
    """
    if not query.marketplace_ids:
        raise ValueError("a report names its marketplaces")
    return {
        "reportType": REPORT_TYPE,
        "dataStartTime": time_text(query.after),
        "dataEndTime": time_text(query.before),
        "marketplaceIds": list(query.marketplace_ids),
    }


def created_report(content: bytes) -> str:
    """A body of createReport: the report's id. Raises Garbled."""
    report_id: str = promised(content, "reportId", str)["reportId"]
    if not report_id.strip(" ."):
        raise Garbled("the report has no id")
    return report_id


def report_state(content: bytes) -> ReportState:
    """A body of getReport. Raises Garbled."""
    body = promised(content, "processingStatus", str)
    document_id = body.get("reportDocumentId")
    if document_id is not None and not (isinstance(document_id, str) and document_id.strip(" .")):
        raise Garbled("the id of the document is none")
    return ReportState(body["processingStatus"], document_id)


def report_address(content: bytes) -> ReportAddress:
    """A body of getReportDocument. Raises Garbled."""
    body = promised(content, "url", str)
    compression = body.get("compressionAlgorithm")
    if compression is not None and not isinstance(compression, str):
        raise Garbled("the compression is no word")
    return ReportAddress(body["url"], compression)


# --- reading ---------------------------------------------------------------------------------


def orders_of(lines: Iterable[bytes]) -> tuple[ListedOrder, ...]:
    """The orders of a report's lines, each once, in its newest version. Raises ReportUnreadable."""
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
        raise ReportUnreadable(f"the report has not one column {column.decode()}")
    return header.index(column)


def _word(cell: bytes, number: int, column: str) -> str:
    word = _open_word(cell, number, column)
    if not word:
        raise _unreadable(number, f"has no {column}")
    return word


def _open_word(cell: bytes, number: int, column: str) -> str:
    if len(cell) > _LONGEST_WORD or not cell.isascii():
        raise _unreadable(number, f"has a {column} that is none")
    return cell.decode("ascii").strip()


def _time(cell: bytes, number: int, column: str) -> datetime:
    try:
        time = datetime.fromisoformat(cell.decode("ascii"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise _unreadable(number, f"has a {column} that is no time with an offset")
    return time.astimezone(UTC)


def _unreadable(number: int, what: str) -> ReportUnreadable:
    return ReportUnreadable(f"line {number} of the report {what}")
