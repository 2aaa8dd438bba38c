"""Apply payloads in quarantine again: after an upgrade automatically, else by hand."""

from __future__ import annotations

from dataclasses import replace

from connectors.base import PayloadReader
from connectors.orders import UnreadableOrder
from poller.ingest.apply import apply_orders
from poller.ingest.refetch import next_refetch
from poller.ingest.sources import AccountRules
from poller.version import program_version
from store import quarantine
from store.engine import Transaction
from store.quarantine import Quarantined


def apply_stored(
    tx: Transaction, rules: AccountRules, entry: Quarantined, read_payload: PayloadReader
) -> str | None:
    """Read a payload again and store the order. Return why it stays in quarantine, or None.

    Raises a conflict (``store.engine.is_conflict``): roll back and call again.
    """
    if entry.payload == quarantine.ERASED:
        quarantine.read_again(tx, entry, program_version())
        return quarantine.HAS_BEEN_ERASED
    order = read_payload(entry.payload)
    if isinstance(order, UnreadableOrder):
        quarantine.put(tx, replace(entry, reason=order.reason, read_by=program_version()))
        return order.reason
    apply_orders(tx, rules, [order])
    quarantine.remove(tx, entry)
    return None


def after_upgrade(tx: Transaction, rules: AccountRules, limit: int, read_payload: PayloadReader) -> int:
    """Apply payloads that another version of this program could not read. Return how many there were.

    An order that cannot be read now either is refetched as if it had just come.
    """
    entries = quarantine.of_older_readers(tx, rules.account, program_version(), limit)
    for entry in entries:
        if apply_stored(tx, rules, entry, read_payload) is not None:
            again = next_refetch(tx.now, 0) if quarantine.has_id(entry) else None
            quarantine.schedule(tx, entry, again, refetches=0)
    return len(entries)
