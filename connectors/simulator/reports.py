"""The Reports API: the report of all orders by order date, and the storage of its documents.

It is as awkward as Amazon's. A report takes minutes; over more than 30 days it is empty, without an error;
without any order it is cancelled; it lists the orders of all the seller's marketplaces, whichever were named;
its rows are unsorted, one per order line, without line IDs; its encoding depends on the country; its address
is valid for five minutes; and it knows updates that the Orders API does not show yet, and orders that no
search lists.

Sources: Reports API model 2021-06-30, and the SP-API guide to order tracking reports.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from connectors.marketplaces import BY_ID
from connectors.simulator.messages import Query, Refusal, Request, forbidden, invalid, to_json
from connectors.simulator.orders import Facts, Line, Version, amazon_time
from connectors.simulator.world import Seller, World

ALL_ORDERS = "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL"
MAX_SPAN = timedelta(days=30)
ADDRESS_LIFE = timedelta(minutes=5)
RETENTION = timedelta(days=30)
IN_QUEUE, IN_PROGRESS = timedelta(seconds=45), timedelta(minutes=4)
"""How long a report waits, and how long it takes."""

REPORTS_PATH = "/reports/2021-06-30/reports"
DOCUMENTS_PATH = "/reports/2021-06-30/documents"
STORAGE_PATH = "/report-documents"

COLUMNS = (
    "amazon-order-id",
    "merchant-order-id",
    "purchase-date",
    "last-updated-date",
    "order-status",
    "fulfillment-channel",
    "sales-channel",
    "order-channel",
    "ship-service-level",
    "product-name",
    "sku",
    "asin",
    "item-status",
    "quantity",
    "currency",
    "item-price",
    "item-tax",
    "shipping-price",
    "shipping-tax",
    "gift-wrap-price",
    "gift-wrap-tax",
    "item-promotion-discount",
    "ship-promotion-discount",
    "ship-city",
    "ship-state",
    "ship-postal-code",
    "ship-country",
    "promotion-ids",
    "is-business-order",
    "purchase-order-number",
    "price-designation",
)

_STATUSES = {
    "PENDING_AVAILABILITY": "Pending",
    "PENDING": "Pending",
    "UNSHIPPED": "Unshipped",
    "PARTIALLY_SHIPPED": "Shipping",
    "SHIPPED": "Shipped",
    "CANCELLED": "Cancelled",
    "UNFULFILLABLE": "Unfulfillable",
}
_CHARSETS = {"JP": "shift_jis"}
_SPECIFICATION = {"reportType", "dataStartTime", "dataEndTime", "marketplaceIds", "reportOptions"}


@dataclass(frozen=True, slots=True)
class _Report:
    """One requested report. ``fate`` is the fault it ends in, if any."""

    report_id: str
    seller: str
    marketplace_ids: tuple[str, ...]
    after: datetime
    before: datetime
    created: datetime
    in_queue: timedelta
    in_progress: timedelta
    fate: str | None
    number: int

    @property
    def begun(self) -> datetime:
        return self.created + self.in_queue

    @property
    def ended(self) -> datetime:
        return self.begun + self.in_progress

    @property
    def document_id(self) -> str:
        return f"amzn1.spdoc.1.4.eu.{_digest('document', self.report_id)}"


class Reports:
    """The reports of all sellers.

    ``compressed`` None alternates; ``charset`` None depends on the country. ``compression`` is what is
    announced (``GZIP``, or an empty text for nothing), if not what is so. ``whole_region``: a report lists
    the orders of all marketplaces, whichever were named.
    """

    def __init__(
        self,
        world: World,
        *,
        in_queue: timedelta = IN_QUEUE,
        in_progress: timedelta = IN_PROGRESS,
        compressed: bool | None = None,
        charset: str | None = None,
        compression: str | None = None,
        whole_region: bool = True,
    ) -> None:
        self._world = world
        self._times = in_queue, in_progress
        self._compressed, self._charset = compressed, charset
        self._compression, self._whole_region = compression, whole_region
        self._reports: dict[str, _Report] = {}
        self._addresses: dict[str, tuple[str, datetime, frozenset[str]]] = {}

    # --- the three operations ----------------------------------------------------------------------

    def create(self, request: Request, seller: Seller, at: datetime, struck: frozenset[str]) -> bytes:
        """Answer createReport. Raises Refusal (400, 403)."""
        specification = _specification(request.body)
        marketplace_ids = _marketplaces(specification, seller)
        after, before = _time(specification, "dataStartTime", at), _time(specification, "dataEndTime", at)
        if before < after:
            raise invalid("dataEndTime must not be earlier than dataStartTime.")
        number = len(self._reports) + 1
        fate = next((kind for kind in struck if kind in {"report_cancelled", "report_fatal"}), None)
        report = _Report(
            f"{50_000 + number}020000",
            seller.name,
            marketplace_ids,
            after,
            before,
            at,
            *self._times,
            fate,
            number,
        )
        self._reports[report.report_id] = report
        return to_json({"reportId": report.report_id})

    def get(self, report_id: str, seller: Seller, at: datetime) -> bytes:
        """Answer getReport. Raises Refusal (404)."""
        report = self._reports.get(report_id)
        if report is None or report.seller != seller.name or at - report.created > RETENTION:
            raise Refusal(404, "NotFound", "There is no report with this ID.")
        status = self._status(report, at)
        body: dict[str, object] = {
            "reportId": report.report_id,
            "reportType": ALL_ORDERS,
            "marketplaceIds": list(report.marketplace_ids),
            "dataStartTime": _report_time(report.after),
            "dataEndTime": _report_time(report.before),
            "createdTime": _report_time(report.created),
            "processingStatus": status,
        }
        if status != "IN_QUEUE":
            body["processingStartTime"] = _report_time(report.begun)
        if status not in {"IN_QUEUE", "IN_PROGRESS"}:
            body["processingEndTime"] = _report_time(report.ended)
        if status == "DONE":
            body["reportDocumentId"] = report.document_id
        return to_json(body)

    def document(
        self, document_id: str, seller: Seller, request: Request, at: datetime, struck: frozenset[str]
    ) -> bytes:
        """Answer getReportDocument with a new address, valid for five minutes. Raises Refusal (404)."""
        report = next((each for each in self._reports.values() if each.document_id == document_id), None)
        known = report is not None and report.seller == seller.name and at - report.created <= RETENTION
        if report is None or not known or self._status(report, at) != "DONE":
            raise Refusal(404, "NotFound", "There is no document with this ID.")
        signature = _digest("signature", f"{document_id} {len(self._addresses)}")
        self._addresses[signature] = (report.report_id, at, struck)
        host = request.header("host") or "127.0.0.1"
        scheme = "http" if host.partition(":")[0] in {"127.0.0.1", "localhost"} else "https"
        expires = int(ADDRESS_LIFE.total_seconds())
        body: dict[str, object] = {
            "reportDocumentId": document_id,
            "url": f"{scheme}://{host}{STORAGE_PATH}/{document_id}"
            f"?X-Amz-Expires={expires}&X-Amz-Signature={signature}",
        }
        announced = "GZIP" if self._is_compressed(report) else ""
        if self._compression is not None:
            announced = self._compression
        if announced:
            body["compressionAlgorithm"] = announced
        return to_json(body)

    def download(self, query: Query, at: datetime) -> tuple[int, bytes, str]:
        """Return the storage's answer: status, body, content type. The storage only checks the signature."""
        signature = query.get("X-Amz-Signature", ("",))[0]
        report_id, issued, struck = self._addresses.get(signature, ("", at, frozenset()))
        report = self._reports.get(report_id)
        if report is None or at - issued > ADDRESS_LIFE:
            return (
                403,
                b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
                "xml",
            )
        charset = self._charset_of(report)
        text = self._table(report, struck)
        body = text.encode(charset, "replace")
        if "report_truncated" in struck:
            body = body[: len(body) - 40]
        kind = f"text/plain;charset={charset.upper().replace('_', '-')}"
        if not self._is_compressed(report):
            return 200, body, kind
        packed = gzip.compress(body, mtime=0)
        return 200, packed[:-20] if "report_truncated" in struck else packed, "application/gzip"

    # --- within ------------------------------------------------------------------------------------

    def _status(self, report: _Report, at: datetime) -> str:
        if at < report.begun:
            return "IN_QUEUE"
        if at < report.ended:
            return "IN_PROGRESS"
        if report.fate is not None:
            return "FATAL" if report.fate == "report_fatal" else "CANCELLED"
        if report.before - report.after <= MAX_SPAN and not self._listed(report):
            return "CANCELLED"
        return "DONE"

    def _listed(self, report: _Report) -> list[Version]:
        return self._world.reported(
            report.seller,
            at=report.begun,
            after=report.after,
            before=report.before,
            marketplace_ids=None if self._whole_region else frozenset(report.marketplace_ids),
        )

    def _table(self, report: _Report, struck: frozenset[str]) -> str:
        rows: list[tuple[str, ...]] = [COLUMNS]
        if report.before - report.after <= MAX_SPAN and "report_empty" not in struck:
            rows += [row for version in self._listed(report) for row in _rows(version)]
            rows[1:] = sorted(rows[1:], key=lambda row: _digest("row", "".join(row)))
        if "report_malformed" in struck:
            rows[-1] = rows[-1][:-5]
        return "".join("\t".join(row) + "\n" for row in rows)

    def _is_compressed(self, report: _Report) -> bool:
        return report.number % 2 == 1 if self._compressed is None else self._compressed

    def _charset_of(self, report: _Report) -> str:
        if self._charset is not None:
            return self._charset
        code = BY_ID[report.marketplace_ids[0]].code
        return _CHARSETS.get(code, "cp1252" if report.number % 3 else "utf-8")


# --- reading ---------------------------------------------------------------------------------------


def _specification(body: bytes) -> dict[str, Any]:
    try:
        specification = json.loads(body)
    except ValueError:
        raise invalid("The body is not JSON.") from None
    if not isinstance(specification, dict) or not specification.keys() <= _SPECIFICATION:
        raise invalid("The body is not a report specification.")
    if specification.get("reportType") != ALL_ORDERS:
        raise invalid("reportType has an unknown value.")
    return specification


def _marketplaces(specification: dict[str, Any], seller: Seller) -> tuple[str, ...]:
    ids = specification.get("marketplaceIds")
    if not isinstance(ids, list) or not 1 <= len(ids) <= 25 or not all(each in BY_ID for each in ids):
        raise invalid("marketplaceIds must be 1 to 25 marketplace IDs.")
    if not set(ids) <= seller.marketplace_ids:
        raise forbidden("The seller is not enrolled in one of the marketplaces.")
    return tuple(ids)


def _time(specification: dict[str, Any], name: str, now: datetime) -> datetime:
    text = specification.get(name)
    if text is None:
        return now
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise invalid(f"{name} is not an ISO 8601 time.") from None
    if time.tzinfo is None:
        raise invalid(f"{name} has no offset from UTC.")
    if time > now:
        raise invalid(f"{name} must not be later than now.")
    return time.astimezone(UTC)


# --- writing ---------------------------------------------------------------------------------------


def _rows(version: Version) -> Iterable[tuple[str, ...]]:
    facts = version.facts
    for line in facts.lines or (Line("none", quantity=0),):
        yield _row(facts, line, version.last_updated)


def _row(facts: Facts, line: Line, last_updated: datetime) -> tuple[str, ...]:
    pending = _STATUSES.get(facts.status) == "Pending"
    home = facts.delivery
    by_amazon = facts.fulfilled_by == "AMAZON"
    return tuple(
        str(cell or "")
        for cell in (
            facts.order_id,
            facts.seller_order_id or facts.order_id,
            _table_time(facts.created),
            _table_time(last_updated),
            _STATUSES.get(facts.status, facts.status.replace("_", " ").capitalize()),
            "Amazon" if by_amazon else "Merchant",
            (facts.marketplace_name or "Amazon.com") if facts.channel == "AMAZON" else "Non-Amazon",
            "",
            facts.service_level.capitalize(),
            line.title,
            line.sku,
            line.asin,
            "Cancelled" if line.cancelled_by else _STATUSES.get(facts.status, "Unshipped"),
            str(line.quantity),
            facts.currency,
            "" if pending else _amount(line.unit_price * line.quantity),
            "" if pending else _amount(line.tax),
            "" if pending else _amount(line.shipping),
            "",
            "" if pending else _amount(line.gift_wrap),
            "",
            "" if pending else _amount(line.discount),
            "",
            home and home.city,
            home and home.state,
            home and home.postal_code,
            home and home.country,
            ",".join(line.promotion_ids),
            "true" if "AMAZON_BUSINESS" in facts.programs else "false",
            facts.purchase_order_number,
            "",
        )
    )


def _amount(amount: Decimal | None) -> str:
    return "" if amount is None else str(amount)


def _table_time(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "+00:00"


def _report_time(time: datetime) -> str:
    return amazon_time(time)


def _digest(kind: str, text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=18, person=kind.encode()).hexdigest()
