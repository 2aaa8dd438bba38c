"""Orders and customers as other programs read them: JSON objects and CSV rows with fixed keys.

The keys are a promise to programs outside this repository: always present, null when unknown. Money is
a decimal string, a time ISO 8601 in UTC with ``Z``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from poller.matching.customer_records import shown_name
from poller.matching.emails import contact_email
from poller.text import time_text
from store.queries import JournalEntry
from store.records import Address, Amount, CustomerRecord, LineRecord, OrderRecord, PackageRecord

ADDRESS_KEYS = (
    "name",
    "company",
    "line1",
    "line2",
    "line3",
    "city",
    "county",
    "state",
    "postal_code",
    "country",
    "phone",
)


def _money(amount: Amount | None) -> str | None:
    return None if amount is None else format(amount.amount, "f")


def address_object(address: Address | None) -> dict[str, Any] | None:
    """An address with all its keys."""
    return None if address is None else {key: getattr(address, key) for key in ADDRESS_KEYS}


def _line_object(line: LineRecord) -> dict[str, Any]:
    return {
        "order_item_id": line.order_item_id,
        "sku": line.sku,
        "asin": line.asin,
        "title": line.title,
        "quantity": line.quantity,
        "quantity_shipped": line.quantity_shipped,
        "unit_price": _money(line.unit_price),
        "item_total": _money(line.item_total),
        "tax": _money(line.tax),
        "shipping": _money(line.shipping),
        "discount": _money(line.discount),
        "gift_wrap": _money(line.gift_wrap),
        "gift_message": line.gift_message,
        "promotion_ids": list(line.promotion_ids),
    }


def _package_object(package: PackageRecord) -> dict[str, Any]:
    return {
        "reference": package.reference,
        "status": package.status,
        "detailed_status": package.detailed_status,
        "carrier": package.carrier,
        "service": package.service,
        "tracking_number": package.tracking_number,
        "shipped_at": time_text(package.shipped_at),
    }


def journal_object(entry: JournalEntry) -> dict[str, Any]:
    """One entry of a customer's journal, with what it quotes."""
    return {
        "at": time_text(entry.at),
        "who": entry.who,
        "action": entry.action,
        "other_id": entry.other_id,
        "order_id": entry.order_id,
        "customer_id": entry.customer_id,
        "before": entry.details.get("before", {}),
        "after": entry.details.get("after", {}),
    }


def order_object(order: OrderRecord, currency: str | None) -> dict[str, Any]:
    """One order; ``currency`` is that of its amounts."""
    buyer = order.buyer
    return {
        "order_id": order.order_id,
        "account": order.account,
        "marketplace": order.marketplace,
        "marketplace_id": order.marketplace_id,
        "status": order.status,
        "seller_status": order.seller_status,
        "fulfilled_by": order.fulfilled_by,
        "programs": list(order.programs),
        "service_level": order.service_level,
        "created_at": time_text(order.created_at),
        "last_updated_at": time_text(order.last_updated_at),
        "ship_by": time_text(order.ship_by),
        "deliver_by": time_text(order.deliver_by),
        "seller_order_id": order.seller_order_id,
        "replaces": order.replaces,
        "purchase_order_number": buyer.purchase_order_number if buyer else None,
        "buyer_name": buyer.name if buyer else None,
        "buyer_email": buyer.email if buyer else None,
        "currency": currency,
        "total": _money(order.total),
        "customer_id": order.customer_id,
        "match_basis": order.match_basis,
        "delivery": address_object(order.delivery),
        "billing": address_object(order.billing),
        "price_list": order.price_list,
        "tax_code": order.tax_code,
        "labels": dict(order.labels),
        "lines": [_line_object(line) for line in order.lines],
        "packages": [_package_object(package) for package in order.packages],
        "cancel_requested": order.cancel_requested,
        "cancelled_by": order.cancelled_by,
        "withheld_tax": _money(order.withheld_tax),
        "changed_at": time_text(order.changed_at),
    }


def customer_object(customer: CustomerRecord) -> dict[str, Any]:
    """One customer, tombstones too."""
    contact = contact_email(customer)
    discount = customer.discount_percent
    return {
        "customer_id": customer.customer_id,
        "business": customer.business,
        "account": customer.account,
        "marketplace": customer.marketplace,
        "status": customer.status,
        "merged_into": customer.merged_into,
        "external_id": customer.external_id,
        "name": shown_name(customer),
        "company": customer.company,
        "amazon_name": customer.amazon_name,
        "emails": [email.email for email in customer.emails],
        "aliases": list(customer.aliases),
        "phone": customer.phone,
        "billing": address_object(customer.billing),
        "delivery": address_object(customer.delivery),
        "price_list": customer.price_list,
        "currency": customer.currency,
        "tax_code": customer.tax_code,
        "discount_percent": None if discount is None else format(discount, "f"),
        "labels": dict(customer.labels),
        "contactable": contact is not None,
        "contact_email": contact,
        "created_from_order": customer.created_from_order,
        "created_at": time_text(customer.created_at),
        "changed_at": time_text(customer.changed_at),
    }


def write_jsonl(objects: Iterable[dict[str, Any]], out: TextIO) -> int:
    """One JSON object a line. Returns how many."""
    written = 0
    for item in objects:
        out.write(json.dumps(item, ensure_ascii=False) + "\n")
        written += 1
    return written


def _flat(item: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in item.items():
        if isinstance(value, dict) and key != "labels":
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, dict | list):
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False) if value else None
        else:
            yield f"{prefix}{key}", value


_NO_ADDRESS: dict[str, Any] = dict.fromkeys(ADDRESS_KEYS)
_NO_LINE: dict[str, Any] = dict.fromkeys(_line_object(LineRecord("", 0)))


def _order_rows(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for line in item["lines"] or [_NO_LINE]:
        yield item | {"lines": line}


def _customer_rows(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield item


CSV_ROWS: dict[str, Callable[[dict[str, Any]], Iterator[dict[str, Any]]]] = {
    "orders": _order_rows,
    "customers": _customer_rows,
}


def write_csv(what: str, objects: Iterable[dict[str, Any]], keys: Iterable[str], out: TextIO) -> int:
    """The same keys as columns, nested ones joined with a dot; orders one row a line item.

    ``keys`` are the object's own, so that an empty export has its heading too. Returns the number of
    objects. Spreadsheets run a cell that begins like a formula, so such a text gets an apostrophe.
    """
    blank = {key: _NO_ADDRESS if key in ("delivery", "billing") else None for key in keys}
    heading = [name for name, _ in _flat(next(CSV_ROWS[what](blank)))]
    # Lines end as RFC 4180 has it; with any other ending the module would leave a lone \r unquoted.
    writer = csv.DictWriter(out, heading, lineterminator="\r\n")
    writer.writeheader()
    written = 0
    for item in objects:
        whole = item | {key: item[key] or _NO_ADDRESS for key in ("delivery", "billing")}
        for row in CSV_ROWS[what](whole):
            writer.writerow({name: _cell(value) for name, value in _flat(row)})
        written += 1
    return written


_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?").fullmatch


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and not _NUMBER(value):
        return "'" + value
    return value
