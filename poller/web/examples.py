"""Examples of exported objects, for the description of the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from poller.export import customer_object, journal_object, order_object
from poller.monitoring.status import as_object
from store.queries import JournalEntry
from store.records import Address, Amount, Buyer, CustomerRecord, LineRecord, MainEmail, OrderRecord
from store.runs import Run

_PLACED_AT = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
_STORED_AT = datetime(2026, 6, 1, 9, 40, tzinfo=UTC)
_HOME = Address("Ann Example", line1="1 High Street", city="Leeds", postal_code="LS1 1AA", country="GB")
_RELAY_EMAIL = "x1y2z3@marketplace.amazon.co.uk"


def _gbp(amount: str) -> Amount:
    return Amount(Decimal(amount), "GBP")


_ORDER = OrderRecord(
    account="acme",
    order_id="203-1234567-1234567",
    channel="AMAZON",
    created_at=_PLACED_AT,
    last_updated_at=datetime(2026, 6, 1, 9, 35, tzinfo=UTC),
    as_of={},
    marketplace_id="A1F83G8C2ARO7P",
    marketplace="UK",
    status="UNSHIPPED",
    seller_status="New web order",
    fulfilled_by="MERCHANT",
    service_level="STANDARD",
    ship_by=datetime(2026, 6, 3, 22, 59, 59, tzinfo=UTC),
    deliver_by=datetime(2026, 6, 6, 22, 59, 59, tzinfo=UTC),
    buyer=Buyer("Ann Example", _RELAY_EMAIL),
    delivery=_HOME,
    total=_gbp("24.99"),
    lines=(
        LineRecord(
            "60696125413094",
            1,
            "KETTLE-2",
            "B000000001",
            "Kettle",
            _gbp("24.99"),
            0,
            item_total=_gbp("24.99"),
            tax=_gbp("4.17"),
        ),
    ),
    price_list="Amazon UK retail",
    tax_code="T20",
    labels={"channel": "Amazon UK"},
    customer_id=1041,
    match_basis="created",
    changed_at=_STORED_AT,
)
_CUSTOMER = CustomerRecord(
    business="acme",
    account="acme",
    marketplace="UK",
    created_at=_STORED_AT,
    customer_id=1041,
    name="Ann Example",
    amazon_name="Ann Example",
    emails=(MainEmail(1, _RELAY_EMAIL, "amazon"),),
    billing=_HOME,
    delivery=_HOME,
    price_list="Amazon UK retail",
    currency="GBP",
    tax_code="T20",
    discount_percent=Decimal(0),
    created_from_order="203-1234567-1234567",
    changed_at=_STORED_AT,
)
_ENTRY = JournalEntry(
    entry=1,
    at=datetime(2026, 6, 2, 8, tzinfo=UTC),
    who="token:erp",
    action="edit",
    customer_id=1041,
    other_id=None,
    order_id=None,
    details={"before": {"price_list": "Amazon UK retail"}, "after": {"price_list": "Trade"}},
)

_QUARANTINED: dict[str, Any] = {
    "order_id": "203-1234567-1234567",
    "account": "acme",
    "marketplace": "UK",
    "reason": "orderItems: is missing",
    "attempts": 2,
    "next_attempt_at": "2026-06-01T10:40:00Z",
    "first_seen_at": "2026-06-01T09:40:00Z",
}
_RUN = Run(
    812, "acme:EU", _STORED_AT, _STORED_AT + timedelta(seconds=2), "complete", 1, 7, 1, None, 7, 5, 6, 0
)

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "Order": order_object(_ORDER),
    "Customer": customer_object(_CUSTOMER),
    "JournalEntry": journal_object(_ENTRY),
    "Quarantined": _QUARANTINED,
    "QuarantinedWhole": {
        **_QUARANTINED,
        "next_attempt_at": None,
        "payload": '{"orderId": "203-1234567-1234567"}',
    },
    "Backfill": {
        "id": 3,
        "marketplace": "UK",
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-06-30T00:00:00Z",
        "by": "auto",
        "state": "running",
        "windows_done": 4,
        "windows_total": 30,
        "orders": 1200,
        "requests": 64,
        "eta": "2026-06-30T14:00:00Z",
        "waits_for": None,
    },
    "Run": as_object(_RUN),
}
"""By the name of the exported type."""
