"""Apply payloads in quarantine again: after an upgrade automatically, else by hand."""

from __future__ import annotations

from dataclasses import replace

from connectors.base import PayloadReader
from connectors.orders import UnreadableOrder
from poller.ingest.apply import apply_or_undo, not_stored
from poller.ingest.refetch import next_refetch
from poller.ingest.sources import AccountRules
from poller.version import program_version
from store import quarantine
from store.engine import Transaction, Unavailable
from store.quarantine import Quarantined

UNREADABLE = {
    quarantine.ERASED: quarantine.HAS_BEEN_ERASED,
    quarantine.DAMAGED: quarantine.IS_DAMAGED,
}


def apply_stored(
    tx: Transaction, rules: AccountRules, entry: Quarantined, read_payload: PayloadReader
) -> str | None:
    """Read a payload again and store the order. Return why it stays in quarantine; None if it does not."""
    if entry.payload in UNREADABLE:
        quarantine.read_again(tx, entry, program_version())
        return UNREADABLE[entry.payload]
    order = read_payload(entry.payload)
    if isinstance(order, UnreadableOrder):
        quarantine.put(tx, replace(entry, reason=order.reason, read_by=program_version()))
        return order.reason
    try:
        apply_or_undo(tx, rules, [order])
    except Unavailable:
        raise
    except Exception as error:
        reason = not_stored(error)
        quarantine.put(tx, replace(entry, reason=reason, read_by=program_version()))
        return reason
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
