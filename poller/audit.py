"""The audit log above the store: what of shown objects is buyer data, and entries with their log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import structlog
from pydantic import with_config
from typing_extensions import TypedDict

from poller.export import SCHEMA, Customer, Line, Order, buyer_keys
from poller.matching.retention import months_before
from poller.text import time_text
from store import audit
from store.audit_records import AuditEntry, Records, about
from store.engine import Store, Transaction
from store.journal import BUYER_FIELDS

KEPT_MONTHS = 12

ORDER_KEYS, LINE_KEYS, CUSTOMER_KEYS = map(buyer_keys, (Order, Line, Customer))
"""Keys of exported objects that hold buyer data."""

logging.getLogger("order_sync.audit").setLevel(logging.INFO)
log = structlog.get_logger("order_sync.audit")


def record(store: Store, *entries: AuditEntry) -> None:
    """Add entries and write a log line for each, at any log level. Call this before what they witness."""
    if entries:
        store.commit(lambda tx: audit.insert(tx, *entries))
    for entry in entries:
        write_line(entry)


def enter(tx: Transaction, *entries: AuditEntry) -> None:
    """Add entries in a transaction; their log lines follow its commit."""
    audit.insert(tx, *entries)
    tx.once_committed += [partial(write_line, entry) for entry in entries]


def write_line(entry: AuditEntry) -> None:
    """Write the log line of an entry."""
    values = {
        key: value
        for key, value in audit_object(entry).items()
        if value not in (None, {}, []) and key not in ("entry", "at", "action")
    }
    log.info(entry.action, **values)


@with_config(SCHEMA)
class Audited(TypedDict):
    """An entry for other programs. ``ids`` is null if there are too many; then ``selection`` says which."""

    entry: int
    at: str | None
    who: str
    client: str | None
    door: str
    action: str
    outcome: str
    what: str | None
    ids: list[str | int] | None
    count: int | None
    selection: dict[str, str]
    detail: str | None
    times: int


def audit_object(entry: AuditEntry) -> Audited:
    """Return an entry with fixed keys; ids of orders are texts, those of customers numbers."""
    records = entry.records
    return {
        "entry": entry.entry,
        "at": time_text(entry.at),
        "who": entry.actor.who,
        "client": entry.actor.client or None,
        "door": entry.actor.door,
        "action": entry.action,
        "outcome": entry.outcome,
        "what": None if records is None else records.what,
        "ids": None if records is None or records.all_of else [*records.orders, *records.customers],
        "count": None if records is None else records.count,
        "selection": {} if records is None else dict(records.selection),
        "detail": entry.detail,
        "times": entry.times,
    }


def shown_records(records: Records | None) -> str:
    """Return the records of an entry for people: the ids, or how many and which."""
    if records is None:
        return ""
    named = [*records.orders, *map(str, records.customers)]
    about = [f"{key} {value}" for key, value in records.selection.items()]
    count = [f"{records.count:,}"] if records.all_of or not named else []
    return " ".join([records.what, *count, ", ".join(named), ", ".join(about)]).strip()


def prune(tx: Transaction) -> int:
    """Delete some of the entries that are older than twelve months. Return how many."""
    return audit.prune(tx, months_before(tx.now, KEPT_MONTHS), PRUNED_AT_ONCE)


PRUNED_AT_ONCE = 1000


# --- what is buyer data ---------------------------------------------------------------------------------


def holds_data(value: Any) -> bool:
    """Return True if a value holds buyer data. The country of an address is none."""
    if isinstance(value, dict):
        return any(holds_data(item) for key, item in value.items() if key != "country")
    if isinstance(value, list):
        return any(map(holds_data, value))
    return value is not None


def buyers_of_orders(orders: Iterable[Mapping[str, Any]]) -> Records | None:
    """Return those of the exported orders that show buyer data; None without any."""
    return _some("orders", orders=tuple(o["order_id"] for o in orders if _order_holds_data(o)))


def _order_holds_data(order: Mapping[str, Any]) -> bool:
    lines = [line[key] for line in order["lines"] for key in LINE_KEYS]
    return holds_data([*(order[key] for key in ORDER_KEYS), *lines])


def buyers_of_customers(customers: Iterable[Mapping[str, Any]]) -> Records | None:
    """Return those of the exported customers that show buyer data; None without any."""
    shown = (c["customer_id"] for c in customers if holds_data([c[key] for key in CUSTOMER_KEYS]))
    return _some("customers", customers=tuple(shown))


def buyers_of_journal(entries: Iterable[Mapping[str, Any]]) -> Records | None:
    """Return the customers whose data exported journal entries quote; None without any."""
    quoted = {
        customer_id
        for entry in entries
        if holds_data([entry[when].get(name) for when in ("before", "after") for name in BUYER_FIELDS])
        for customer_id in (entry["customer_id"], entry["other_id"])
        if customer_id is not None
    }
    return _some("journal", customers=tuple(sorted(quoted)))


def _some(what: str, orders: tuple[str, ...] = (), customers: tuple[int, ...] = ()) -> Records | None:
    return about(what, orders, customers) if orders or customers else None
