"""Applying orders that were fetched: read what is known, match, save. One transaction's worth of work.

Everything that brings orders into the database goes through ``apply_orders``: a page of a window, one
order fetched by id, orders whose marketplace became known, an order out of quarantine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from connectors.orders import AmazonOrder, UnreadableOrder
from poller import matching
from poller.refetching import next_refetch
from poller.sources import AccountRules
from poller.version import program_version
from store import customers, orders, quarantine
from store.engine import Row, Tombstone, Transaction
from store.records import OrderRecord


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying did. ``seen_by_walk``: orders that this window's walk had brought before."""

    changed: int
    created: int
    seen_by_walk: int


def apply_orders(
    tx: Transaction,
    rules: AccountRules,
    fetched: Sequence[AmazonOrder],
    unreadable: Sequence[UnreadableOrder] = (),
    *,
    walk: int | None = None,
) -> Applied:
    """Store what Amazon told, each order with its customer; what cannot be read goes to quarantine.

    Raises a conflict (``store.engine.is_conflict``) when another process stored the same first: roll
    back and call again with the same orders.
    """
    translated = [
        matching.translate(order, rules.account, rules.by_marketplace.get(order.marketplace_id or ""))
        for order in fetched
    ]
    applied = apply_records(tx, rules, translated, walk=walk)
    read: dict[str, datetime] = {}
    for order in fetched:
        read[order.order_id] = max(order.last_updated_at, read.get(order.order_id, order.last_updated_at))
    # In this order: of what a page holds in both ways, the newer copy decides.
    quarantine.release(tx, rules.account, read)
    for unread in _not_outdated(tx, rules, unreadable):
        quarantine.put(tx, _in_quarantine(tx, rules, unread))
    return applied


def apply_single(
    tx: Transaction, rules: AccountRules, fetched: AmazonOrder | UnreadableOrder
) -> UnreadableOrder | None:
    """Store an order that was fetched by its id. Returns it when it could not be understood."""
    if isinstance(fetched, UnreadableOrder):
        apply_orders(tx, rules, [], [fetched])
        return fetched
    apply_orders(tx, rules, [fetched])
    return None


def _not_outdated(
    tx: Transaction, rules: AccountRules, unreadable: Sequence[UnreadableOrder]
) -> list[UnreadableOrder]:
    """Those of which we do not have a copy at least as new that could be read."""
    timed = [o.order_id for o in unreadable if o.order_id is not None and o.last_updated_at is not None]
    stored = orders.update_times(tx, rules.account, timed)
    return [
        order
        for order in unreadable
        if order.last_updated_at is None
        or order.order_id not in stored
        or stored[order.order_id] < order.last_updated_at
    ]


def _in_quarantine(tx: Transaction, rules: AccountRules, order: UnreadableOrder) -> quarantine.Quarantined:
    return quarantine.Quarantined(
        rules.account,
        quarantine.name_of(order.order_id, order.payload),
        order.marketplace_id,
        order.reason,
        order.payload,
        next_attempt_at=None if order.order_id is None else next_refetch(tx.now, 0),
        last_updated_at=order.last_updated_at,
        read_by=program_version(),
    )


def apply_records(
    tx: Transaction, rules: AccountRules, incoming: Sequence[OrderRecord], *, walk: int | None = None
) -> Applied:
    """The same for orders in our own words: fresh copies, or stored ones to be decided again."""
    if not incoming:
        return Applied(0, 0, 0)
    known, rows = _known(tx, rules, incoming)
    matched = matching.match(
        incoming,
        known,
        rules.by_marketplace,
        account=rules.account,
        business=rules.business,
        shared_emails=rules.shared_emails,
        now=tx.now,
    )
    ids = dict(
        zip((c.customer_id for c in matched.created), customers.create(tx, matched.created), strict=True)
    )
    for record in matched.updated:
        customers.change(tx, record, known.customers[record.customer_id])
    changed = orders.save(tx, matched.writes, rows, customer_ids=ids, walk=walk)
    for buried, into in matched.tombstones:
        target = ids.get(into, into)
        customers.bury(tx, buried, target)
        customers.write_journal(tx, "sync", "promote", buried, other_id=target)
    for kept, other in matched.suggested:
        customers.suggest(tx, kept, ids.get(other, other))
    seen = 0
    if walk is not None:
        distinct = {order.order_id for order in incoming}
        seen = sum(1 for order_id in distinct if order_id in rows and rows[order_id]["walk"] == walk)
    return Applied(changed, len(matched.created), seen)


def _known(
    tx: Transaction, rules: AccountRules, incoming: Sequence[OrderRecord]
) -> tuple[matching.Known, Mapping[str, Row]]:
    wanted = {order.order_id for order in incoming}
    wanted.update(order.replaces for order in incoming if order.replaces)
    rows = orders.load_rows(tx, rules.account, wanted)
    stored = {order_id: orders.record_of(tx, row) for order_id, row in rows.items()}
    further = {o.replaces for o in stored.values() if o.replaces and o.replaces not in rows}
    if further:
        originals = orders.load_rows(tx, rules.account, further)
        stored |= {order_id: orders.record_of(tx, row) for order_id, row in originals.items()}
    emails = matching.relevant_emails([*incoming, *stored.values()], rules.shared_emails)
    by_email = customers.find_emails(tx, rules.business, emails)
    special = customers.find_special(tx, rules.business, rules.specials)
    ids = {customer_id for customer_id, _ in by_email.values()} | set(special.values())
    ids.update(order.customer_id for order in stored.values() if order.customer_id is not None)
    records = customers.load(tx, ids)
    # Between the search for an e-mail and the lock on its record a merge may have committed (R55).
    if any(records[customer_id].status == "merged" for customer_id, _ in by_email.values()):
        raise Tombstone
    unidentified = [c.customer_id for c in records.values() if c.status == "unidentified"]
    known = matching.Known(
        orders=stored,
        customers=records,
        by_email=by_email,
        special=special,
        order_counts=customers.order_counts(tx, unidentified) if unidentified else {},
    )
    return known, rows


def decide_again(tx: Transaction, rules: AccountRules, order_ids: Collection[str]) -> Applied:
    """Match stored orders anew that have no customer yet (their marketplace became known: R26)."""
    rows = orders.load_rows(tx, rules.account, order_ids)
    lines = orders.load_lines(tx, [row["order_key"] for row in rows.values()])
    records = []
    for row in rows.values():
        record = orders.record_of(tx, row, lines.get(row["order_key"], ()))
        mine = rules.by_marketplace.get(record.marketplace_id or "")
        records.append(replace(record, marketplace=mine.code if mine else record.marketplace))
    return apply_records(tx, rules, records)
