"""Buyer data in answers: shown and recorded as disclosed to callers who may see it, masked for all others.

A disclosure is in the audit log before it is answered: who saw whose data, never the data. If it cannot be
recorded, it is not answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from poller import audit
from poller.audit import CUSTOMER_KEYS, LINE_KEYS, ORDER_KEYS
from poller.export import customer_object, journal_object, order_object
from poller.web.access import Caller
from poller.web.problems import LacksScope
from store.audit_records import Actor, AuditEntry, Door, Records
from store.engine import Store
from store.journal import BUYER_FIELDS
from store.queries import JournalEntry as StoredEntry
from store.records import CustomerRecord, OrderRecord

MASK = "***"
"""Replaces a text that is present but hidden; what is absent stays null."""


@dataclass(frozen=True, slots=True)
class Viewer(Caller):
    """The caller whom an answer is for, from where, and the database that records what is disclosed."""

    client: str
    door: Door
    store: Store = field(repr=False)

    @property
    def actor(self) -> Actor:
        return Actor(self.who, self.client, self.door)


def require_buyer_data(caller: Caller, purpose: str) -> None:
    """Raise Problem if the caller may not see buyer data: what serves this ``purpose`` reveals some."""
    if not caller.sees_buyers:
        raise LacksScope(caller.who, "buyer-data", purpose)


def masked(value: Any) -> Any:
    """Return a value with every text masked. An address keeps its country, which is not sealed either."""
    if isinstance(value, dict):
        return {key: item if key == "country" else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return None if value is None else MASK


def _with_mask(item: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {**item, **{key: masked(item[key]) for key in keys if key in item}}


def disclosed(viewer: Viewer, *shown: Records | None) -> None:
    """Record that the caller sees the buyer data of these records; None is of none."""
    entries = [AuditEntry(viewer.actor, "disclosed", records=each) for each in shown if each is not None]
    audit.record(viewer.store, *entries)


def orders_for(viewer: Viewer, records: Iterable[OrderRecord]) -> list[dict[str, Any]]:
    """Return orders (``poller.export.order_object``) as this caller may see them."""
    orders = [order_object(record) for record in records]
    if not viewer.sees_buyers:
        return [
            {
                **_with_mask(order, ORDER_KEYS),
                "lines": [_with_mask(line, LINE_KEYS) for line in order["lines"]],
            }
            for order in orders
        ]
    disclosed(viewer, audit.buyers_of_orders(orders))
    return orders


def customers_for(viewer: Viewer, records: Iterable[CustomerRecord]) -> list[dict[str, Any]]:
    """Return customers (``poller.export.customer_object``) as this caller may see them."""
    customers = [customer_object(record) for record in records]
    if not viewer.sees_buyers:
        return [_with_mask(customer, CUSTOMER_KEYS) for customer in customers]
    disclosed(viewer, audit.buyers_of_customers(customers))
    return customers


def journal_for(viewer: Viewer, stored: Iterable[StoredEntry]) -> list[dict[str, Any]]:
    """Return a customer's journal (``poller.export.journal_object``) as this caller may see it."""
    entries = [journal_object(entry) for entry in stored]
    if not viewer.sees_buyers:
        return [
            {**entry, **{when: _with_mask(entry[when], BUYER_FIELDS) for when in ("before", "after")}}
            for entry in entries
        ]
    disclosed(viewer, audit.buyers_of_journal(entries))
    return entries
