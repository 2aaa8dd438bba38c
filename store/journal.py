"""The journal of customers: who changed what, with values that can be erased if they quote a buyer.

An entry has sealed ``details``: for every changed field the value before and after, and the origin of each
(the record's ``origins``). So Amazon's values can be erased from an entry while a person's stay (R60), and no
other table has to be searched for copies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from store.customers import journal_place
from store.engine import Transaction
from store.origins import ADDRESSES, as_a_whole
from store.records import CustomerRecord
from store.tables import journal, merged_orders
from store.types import among

BUYER_FIELDS = (
    "name",
    "company",
    "amazon_name",
    "phone",
    "billing",
    "delivery",
    "email_1",
    "email_2",
    "email_3",
    "aliases",
)
"""Fields that quote a buyer; all others are the seller's."""

_SELLERS = ("price_list", "currency", "tax_code", "discount_percent", "labels", "external_id", "status")


def _values(record: CustomerRecord) -> dict[str, tuple[Any, str]]:
    """Return each field's value and origin. Aliases count as Amazon's."""
    values: dict[str, tuple[Any, str]] = {
        name: (getattr(record, name), record.origins.get(name, "amazon"))
        for name in (*BUYER_FIELDS[:4], *_SELLERS)
    }
    values |= {kind: (getattr(record, kind), as_a_whole(record, kind) or "amazon") for kind in ADDRESSES}
    values |= {f"email_{slot}": (None, "amazon") for slot in (1, 2, 3)}
    values |= {f"email_{main.slot}": (main.email, main.origin) for main in record.emails}
    values["aliases"] = (list(record.aliases) or None, "amazon")
    values["labels"] = (dict(record.labels) or None, "hand")
    return values


def difference(before: CustomerRecord | None, after: CustomerRecord) -> dict[str, Any]:
    """Return the details of a change; empty if nothing changed. ``before`` is None for a new record."""
    old = {} if before is None else _values(before)
    details: dict[str, Any] = {"before": {}, "after": {}, "origins": {}}
    for name, (value, origin) in _values(after).items():
        was, was_from = old.get(name, (None, origin))
        if value == was:
            continue
        details["before"][name], details["after"][name] = was, value
        details["origins"][name] = [was_from, origin]
    return details if details["origins"] else {}


def opened(tx: Transaction, row: sa.Row[Any]) -> dict[str, Any]:
    """Return the details of an entry; empty if it has none."""
    if row.details is None:
        return {}
    details: dict[str, Any] = tx.sealer.open_json(row.details, journal_place(row.entry))
    return details


def erase(tx: Transaction, customer_ids: Collection[int], *, keep_entered: bool, keep_hashes: bool) -> int:
    """Erase buyer data from all entries about these customers. Return how many entries changed.

    ``keep_entered``: values that a person entered or imported stay (R60); without it no quoted value stays
    (R62). ``keep_hashes``: the keyed hashes of e-mails stay (R61), without which merges cannot be undone.
    """
    c = journal.c
    query = sa.select(c.entry, c.details, c.facts).where(_about(tx, customer_ids)).order_by(c.entry)
    changed = 0
    for row in tx.rows(tx.lock(query)):
        values: dict[str, Any] = {}
        before = opened(tx, row)
        kept = _without_amazons(before) if keep_entered else {}
        if kept != before:
            values["details"] = tx.sealer.seal_json(kept, journal_place(row.entry)) if kept else None
        if not keep_hashes and row.facts is not None:
            values["facts"] = None
            tx.conn.execute(sa.delete(merged_orders).where(merged_orders.c.entry == row.entry))
        if values:
            tx.conn.execute(sa.update(journal).where(c.entry == row.entry).values(values))
            changed += 1
    return changed


def _about(tx: Transaction, customer_ids: Collection[int]) -> sa.ColumnElement[bool]:
    """Return the condition for entries of these customers, and of others that had their data while merged.

    A customer that was merged into another and separated again has lent it name and address for that time,
    and the other may have passed them on in a merge of its own.
    """
    c = journal.c
    spans: list[tuple[int, int, int | None]] = []
    lenders: dict[int, list[tuple[int, int | None]]] = {i: [(0, None)] for i in customer_ids}
    while lenders:
        borrowers: dict[int, list[tuple[int, int | None]]] = {}
        for kept, other, first, last in _merges_of(tx, sorted(lenders)):
            had = any(a <= first and (b is None or first <= b) for a, b in lenders[other])
            if had and kept not in customer_ids:
                borrowers.setdefault(kept, []).append((first, last))
                spans.append((kept, first, last))
        lenders = borrowers
    ids = sorted(customer_ids)
    lent = [
        sa.and_(c.customer_id == kept, c.entry >= first, *(() if last is None else (c.entry <= last,)))
        for kept, first, last in spans
    ]
    return sa.or_(among(c.customer_id, ids), among(c.other_id, ids), *lent)


def _merges_of(tx: Transaction, others: Sequence[int]) -> list[tuple[int, int, int, int | None]]:
    """Return each merge of these into another: both ids, its entry, and the entry that undid it or None."""
    c = journal.c
    query = sa.select(c.entry, c.action, c.customer_id, c.other_id).where(
        among(c.other_id, others), c.action.in_(("merge", "unmerge"))
    )
    standing: dict[tuple[int, int], int] = {}
    undone: list[tuple[int, int, int, int | None]] = []
    for row in tx.rows(query.order_by(c.entry)):
        pair = (row.customer_id, row.other_id)
        if row.action == "merge":
            standing[pair] = row.entry
        elif pair in standing:
            undone.append((*pair, standing.pop(pair), row.entry))
    return [*undone, *((*pair, entry, None) for pair, entry in standing.items())]


def _without_amazons(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return details without Amazon's values; a value without an origin counts as Amazon's."""
    kept: dict[str, Any] = {"before": {}, "after": {}, "origins": {}}
    for name, origins in details.get("origins", {}).items():
        values = [details["before"].get(name), details["after"].get(name)]
        if name in BUYER_FIELDS:
            entered = [origin != "amazon" for origin in origins]
            values = [value if stays else None for value, stays in zip(values, entered, strict=True)]
            if not any(entered):
                continue
        kept["before"][name], kept["after"][name] = values
        kept["origins"][name] = list(origins)
    return kept if kept["origins"] else {}
