"""Rows for correcting which data of customers counts as Amazon's (``poller.privacy.attribution``).

Only origins are written, so nothing changes for readers of changes, except orders that lose an address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import codec, erasure, journal
from store.customers import journal_place
from store.engine import Transaction
from store.orders import place
from store.origins import OURS
from store.records import Address, CustomerRecord
from store.tables import customer_emails, customers, meta, orders
from store.tables import journal as entries
from store.types import among

_DONE = "origins_by_part"


class Entry(NamedTuple):
    """An entry of the journal with its details; ``customer_id``: the kept record of a merge."""

    entry: int
    action: str
    customer_id: int
    other_id: int | None
    details: Mapping[str, Any]


class Copy(NamedTuple):
    """The billing address of an order, copied from a record as entered by a person or imported."""

    order_key: int
    customer_id: int
    address: Address


def is_done(tx: Transaction) -> bool:
    """Return True if all records of this database were corrected."""
    return tx.conn.execute(sa.select(meta.c.name).where(meta.c.name == _DONE)).first() is not None


def note_done(tx: Transaction) -> None:
    tx.insert_missing(meta, [{"name": _DONE, "value": b""}])


def entered(tx: Transaction, after: int, limit: int) -> list[int]:
    """Return the next records with anything that counts as entered by a person or imported."""
    c, e = customers.c, customer_emails.c
    query = sa.select(c.customer_id).where(
        c.customer_id > after,
        sa.or_(
            *(c.origins.contains(f':"{origin}"') for origin in sorted(OURS)),
            sa.exists().where(e.customer_id == c.customer_id, e.origin != "amazon"),
        ),
    )
    return list(tx.conn.execute(query.order_by(c.customer_id).limit(limit)).scalars())


def history(tx: Transaction, customer_ids: Collection[int]) -> list[Entry]:
    """Return the entries about these customers, oldest first, with those of what was merged into them."""
    c = entries.c
    known: set[int] = set()
    ids = set(customer_ids)
    rows: dict[int, Any] = {}
    while ids:
        known |= ids
        about = sa.or_(among(c.customer_id, sorted(ids)), among(c.other_id, sorted(ids)))
        rows |= {row.entry: row for row in tx.rows(sa.select(entries).where(about))}
        ids = {row.other_id for row in rows.values() if row.action == "merge"} - known
    return [
        Entry(row.entry, row.action, row.customer_id, row.other_id, journal.opened(tx, row))
        for _, row in sorted(rows.items())
    ]


def copies(tx: Transaction, customer_ids: Collection[int]) -> list[Copy]:
    """Return the copies of billing addresses on the orders of these customers, locked."""
    c = orders.c
    query = sa.select(c.order_key, c.customer_id, c.billing).where(
        among(c.customer_id, sorted(customer_ids)), c.billing_origin.in_(sorted(OURS)), c.billing.is_not(None)
    )
    return [
        Copy(
            row.order_key,
            row.customer_id,
            tx.sealer.open_as(Address, row.billing, place(row.order_key, "billing")),
        )
        for row in tx.rows(tx.lock(query.order_by(c.order_key)))
    ]


def give_to_amazon(tx: Transaction, order_keys: Sequence[int]) -> None:
    """Let these orders' billing addresses be Amazon's; of orders erased before, they are erased."""
    c = orders.c
    if order_keys:
        these = among(c.order_key, order_keys)
        tx.conn.execute(sa.update(orders).where(these).values(billing_origin="amazon"))
        erasure.erase_orders(tx, erasure.refs_of(tx, sa.and_(these, c.erased_at.is_not(None))))


def save_origins(tx: Transaction, record: CustomerRecord) -> None:
    """Store the origins of a record's fields and main e-mails, and nothing else."""
    key = record.customer_id
    tx.update(customers, [{"origins": codec.dump(dict(record.origins))}], customer_id=key)
    for main in record.emails:
        tx.update(customer_emails, [{"origin": main.origin}], customer_id=key, slot=main.slot)


def save_details(tx: Transaction, corrected: Iterable[Entry]) -> None:
    """Seal the corrected details of entries."""
    rows = [
        {"entry": e.entry, "details": tx.sealer.seal_json(e.details, journal_place(e.entry))}
        for e in corrected
    ]
    tx.update(entries, rows, entry=None)
