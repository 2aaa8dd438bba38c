"""The journal of customers: what changed, in words that can be read and, where they quote a buyer, erased.

An entry has sealed ``details``: for every field that changed its value before and after, and where each of
the two came from (the record's ``origins``). So what Amazon gave can be taken out of an entry while what a
person entered stays (R60), and nothing else in the database has to be searched for copies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from store.customers import journal_place
from store.engine import Transaction
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
"""Fields that quote a buyer; the others are the seller's words."""

_SELLERS = ("price_list", "currency", "tax_code", "discount_percent", "labels", "external_id", "status")


def _values(record: CustomerRecord) -> dict[str, tuple[Any, str]]:
    """Every field's value and origin. Aliases were Amazon's as far as anybody knows."""
    found: dict[str, tuple[Any, str]] = {
        name: (getattr(record, name), record.origins.get(name, "amazon"))
        for name in (*BUYER_FIELDS[:6], *_SELLERS)
    }
    found |= {f"email_{slot}": (None, "amazon") for slot in (1, 2, 3)}
    found |= {f"email_{main.slot}": (main.email, main.origin) for main in record.emails}
    found["aliases"] = (list(record.aliases) or None, "amazon")
    found["labels"] = (dict(record.labels) or None, "hand")
    return found


def difference(before: CustomerRecord | None, after: CustomerRecord) -> dict[str, Any]:
    """The details of a change: what, from what, to what. ``before`` is None for a new record."""
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
    """The details of an entry; empty when there are none."""
    if row.details is None:
        return {}
    found: dict[str, Any] = tx.sealer.open_json(row.details, journal_place(row.entry))
    return found


def erase(tx: Transaction, customer_ids: Collection[int], *, keep_entered: bool, keep_hashes: bool) -> int:
    """Take buyer data out of all entries that speak of these customers; returns how many were changed.

    ``keep_entered``: what a person entered or imported stays (R60); without it nothing that an entry quotes
    does (R62). ``keep_hashes``: whether merges can still be undone, for which the keyed hashes of e-mails
    must remain (R61).
    """
    c = journal.c
    query = sa.select(c.entry, c.details, c.facts).where(_about(tx, customer_ids)).order_by(c.entry)
    changed = 0
    for row in tx.rows(tx.lock(query)):
        values: dict[str, Any] = {}
        before = opened(tx, row)
        left = _without_amazons(before) if keep_entered else {}
        if left != before:
            values["details"] = tx.sealer.seal_json(left, journal_place(row.entry)) if left else None
        if not keep_hashes and row.facts is not None:
            values["facts"] = None
            tx.conn.execute(sa.delete(merged_orders).where(merged_orders.c.entry == row.entry))
        if values:
            tx.conn.execute(sa.update(journal).where(c.entry == row.entry).values(values))
            changed += 1
    return changed


def _about(tx: Transaction, customer_ids: Collection[int]) -> sa.ColumnElement[bool]:
    """Entries of these customers, and those of others that had their data while they were merged.

    A customer that was merged into another and separated again has lent its name and address meanwhile, and
    the other may have passed them on by being merged itself.
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
    """Every merge of these into another: both ids, its entry, and the entry that undid it, if one did."""
    c = journal.c
    query = sa.select(c.entry, c.action, c.customer_id, c.other_id).where(
        among(c.other_id, others), c.action.in_(("merge", "unmerge"))
    )
    standing: dict[tuple[int, int], int] = {}
    found: list[tuple[int, int, int, int | None]] = []
    for row in tx.rows(query.order_by(c.entry)):
        pair = (row.customer_id, row.other_id)
        if row.action == "merge":
            standing[pair] = row.entry
        elif pair in standing:
            found.append((*pair, standing.pop(pair), row.entry))
    return [*found, *((*pair, entry, None) for pair, entry in standing.items())]


def _without_amazons(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details without what Amazon gave. What does not say where it came from is taken for Amazon's."""
    left: dict[str, Any] = {"before": {}, "after": {}, "origins": {}}
    for name, origins in details.get("origins", {}).items():
        values = [details["before"].get(name), details["after"].get(name)]
        if name in BUYER_FIELDS:
            entered = [origin != "amazon" for origin in origins]
            values = [value if stays else None for value, stays in zip(values, entered, strict=True)]
            if not any(entered):
                continue
        left["before"][name], left["after"][name] = values
        left["origins"][name] = list(origins)
    return left if left["origins"] else {}
