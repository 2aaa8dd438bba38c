"""Apply fetched orders within one transaction: read what is known, match, save.

All orders enter the database through ``apply_records``: a page of a window, one order fetched by id, orders
whose marketplace became known, an order out of quarantine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from msgspec import structs

from connectors.orders import AmazonOrder, OrderPage, UnreadableOrder
from poller.ingest.refetch import next_refetch
from poller.ingest.sources import AccountRules
from poller.matching import match
from poller.matching.emails import relevant_emails, usable_email
from poller.matching.retention import as_if_withheld, quarantine_term
from poller.matching.translation import translate
from poller.version import program_version
from store import customers, erasure, orders, quarantine
from store.engine import Row, Tombstone, Transaction, Unavailable, is_conflict
from store.records import CustomerRecord, OrderRecord, normal_email

TRIES_AFTER_CONFLICT = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying did. ``seen_by_walk`` counts orders that an earlier page of the window's walk had."""

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
    """Store fetched orders, each with its customer; those that cannot be read go to quarantine.

    Raises a conflict (``store.engine.is_conflict``) if another process stored the same first: roll back and
    call again with the same orders.
    """
    translated = [
        translate(order, rules.account, rules.by_marketplace.get(order.marketplace_id or ""))
        for order in fetched
    ]
    translated = _kept(tx, rules, translated)
    erasure.hold_off_forgetting(tx)
    forgotten = erasure.which_forgotten(tx, rules.account, [order.order_id for order in fetched])
    if forgotten:
        translated = [as_if_withheld(o) if o.order_id in forgotten else o for o in translated]
    applied = apply_records(tx, rules, translated, walk=walk)
    read: dict[str, datetime] = {}
    for order in fetched:
        read[order.order_id] = max(order.last_updated_at, read.get(order.order_id, order.last_updated_at))
    # In this order: if a page holds an order both ways, the newer copy decides.
    quarantine.release(tx, rules.account, read)
    if unreadable:
        _quarantine(tx, rules, _not_outdated(tx, rules, unreadable))
    return applied


def _kept(tx: Transaction, rules: AccountRules, translated: Sequence[OrderRecord]) -> list[OrderRecord]:
    """Return the orders without those that were erased, or would be at once, whatever their source (R64).

    A stored one is kept up to date until it is erased.
    """
    since = rules.retention.orders_since(tx.now)
    if since is None:
        return list(translated)
    old = [order.order_id for order in translated if order.created_at < since]
    stored = orders.update_times(tx, rules.account, old)
    return [order for order in translated if order.created_at >= since or order.order_id in stored]


def apply_page(
    tx: Transaction, rules: AccountRules, page: OrderPage, *, walk: int | None = None, in_parts: bool = False
) -> Applied:
    """Store a page of orders; with ``in_parts`` what fails is narrowed down and goes to quarantine.

    Raises a conflict (``store.engine.is_conflict``): roll back and call again with the same page.
    """
    if not in_parts:
        return apply_orders(tx, rules, page.orders, page.unreadable, walk=walk)
    done: list[Applied] = []
    in_order = sorted(page.orders, key=lambda o: (o.created_at, o.order_id))  # as a page is matched (R20)
    broken = narrow_down(
        in_order,
        lambda part: done.append(apply_or_undo(tx, rules, part, walk=walk)),
        lambda error: isinstance(error, Unavailable),
    )
    failed = [_quarantined(order, error, page.payload_of(order.order_id)) for order, error in broken]
    apply_orders(tx, rules, [], [*page.unreadable, *failed])
    return Applied(
        sum(applied.changed for applied in done),
        sum(applied.created for applied in done),
        # What failed bears no mark: a walk that shows it again and again makes no progress.
        sum(applied.seen_by_walk for applied in done) + len(failed),
    )


def narrow_down(
    items: Sequence[T], work: Callable[[Sequence[T]], object], is_fatal: Callable[[Exception], bool]
) -> list[tuple[T, Exception]]:
    """Do ``work`` on all items, and where it fails on halves of them. Return those that fail alone, and why.

    ``work`` undoes what it did when it fails. Raises the errors that are fatal.
    """
    try:
        work(items)
    except Exception as error:
        if is_fatal(error):
            raise
        if len(items) <= 1:
            return [(item, error) for item in items]
        middle = len(items) // 2
        halves = (items[:middle], items[middle:])
        return [broken for half in halves for broken in narrow_down(half, work, is_fatal)]
    return []


def apply_or_undo(
    tx: Transaction, rules: AccountRules, fetched: Sequence[AmazonOrder], *, walk: int | None = None
) -> Applied:
    """Store orders in a savepoint: an exception leaves the transaction as it was.

    After a conflict try again, because another process may have been first.
    """
    for _ in range(TRIES_AFTER_CONFLICT - 1):
        try:
            with tx.savepoint():
                return apply_orders(tx, rules, fetched, walk=walk)
        except Unavailable:
            raise
        except Exception as error:
            if not is_conflict(error):
                raise
    with tx.savepoint():
        return apply_orders(tx, rules, fetched, walk=walk)


def not_stored(error: Exception) -> str:
    """Return why an order is in quarantine that was read and could not be stored.

    Of the error only the name is kept: its text may hold what was being stored.
    """
    return f"could not be stored: {type(error).__name__}"


def _quarantined(order: AmazonOrder, error: Exception, payload: str) -> UnreadableOrder:
    return UnreadableOrder(
        order.order_id, order.marketplace_id, not_stored(error), payload, order.last_updated_at
    )


def apply_single(
    tx: Transaction, rules: AccountRules, fetched: AmazonOrder | UnreadableOrder
) -> UnreadableOrder | None:
    """Store an order that was fetched by its id. Return it if it went to quarantine instead."""
    unreadable = fetched if isinstance(fetched, UnreadableOrder) else None
    if isinstance(fetched, AmazonOrder):
        try:
            apply_or_undo(tx, rules, [fetched])
        except Unavailable:
            raise
        except Exception as error:
            # Its payload is not at hand; its id is enough to fetch it again.
            unreadable = _quarantined(fetched, error, json.dumps({"orderId": fetched.order_id}))
    if unreadable is not None:
        apply_orders(tx, rules, [], [unreadable])
    return unreadable


def _not_outdated(
    tx: Transaction, rules: AccountRules, unreadable: Sequence[UnreadableOrder]
) -> list[UnreadableOrder]:
    """Return the orders that have no newer readable copy in the database."""
    timed = [o.order_id for o in unreadable if o.order_id is not None and o.last_updated_at is not None]
    stored = orders.update_times(tx, rules.account, timed)
    return [
        order
        for order in unreadable
        if order.last_updated_at is None
        or order.order_id not in stored
        or stored[order.order_id] <= order.last_updated_at
    ]


def _quarantine(tx: Transaction, rules: AccountRules, unreadable: Sequence[UnreadableOrder]) -> None:
    """Put orders that cannot be read into quarantine, without the payload if its term is over (R63)."""
    over = rules.retention.over_since(tx.now)
    names = [quarantine.name_of(order.order_id, order.payload) for order in unreadable]
    closed = erasure.which_forgotten(tx, rules.account, names) | erasure.which_erased(
        tx, rules.account, names
    )
    since = rules.retention.orders_since(tx.now)
    for name, order in zip(names, unreadable, strict=True):
        if since is not None and order.last_updated_at is not None and order.last_updated_at < since:
            continue  # R64
        term_at = quarantine_term(order.last_updated_at, tx.now)
        kept = name not in closed and (over is None or term_at > over)
        entry = quarantine.Quarantined(
            rules.account,
            name,
            order.marketplace_id,
            order.reason,
            order.payload if kept else quarantine.ERASED,
            next_attempt_at=None if order.order_id is None else next_refetch(tx.now, 0),
            last_updated_at=order.last_updated_at,
            read_by=program_version(),
            term_at=term_at if kept else None,
        )
        quarantine.put(tx, entry)


def apply_records(
    tx: Transaction, rules: AccountRules, incoming: Sequence[OrderRecord], *, walk: int | None = None
) -> Applied:
    """Match and save translated orders: fresh copies, or stored orders to match again."""
    if not incoming:
        return Applied(0, 0, 0)
    known, rows = _known(tx, rules, incoming)
    matched = match.match(
        incoming,
        known,
        rules.by_marketplace,
        account=rules.account,
        business=rules.business,
        shared_emails=rules.shared_emails,
        now=tx.now,
        retention=rules.retention,
    )
    ids = dict(
        zip((c.customer_id for c in matched.created), customers.create(tx, matched.created), strict=True)
    )
    for record in matched.updated:
        customers.change(tx, record, known.customers[record.customer_id])
    changed = orders.save(tx, matched.writes, rows, customer_ids=ids, walk=walk)
    for buried, into in matched.tombstones:
        customers.bury(tx, buried, ids.get(into, into))
    _journal_promotions(tx, matched, ids)
    for kept, other in matched.suggested:
        customers.suggest(tx, kept, ids.get(other, other))
    seen = 0
    if walk is not None:
        distinct = {order.order_id for order in incoming}
        seen = sum(1 for order_id in distinct if order_id in rows and rows[order_id]["walk"] == walk)
    return Applied(changed, len(matched.created), seen)


def _journal_promotions(tx: Transaction, matched: match.Matched, ids: Mapping[int, int]) -> None:
    """Journal promoted orders (R22): on the record they left if that is a tombstone, else on the new."""
    buried = {left for left, _ in matched.tombstones}
    for order_id, left, joined in matched.promoted:
        target = ids.get(joined, joined)
        on, other = (left, target) if left in buried else (target, left)
        if on is not None:
            customers.write_journal(tx, "sync", "promote", on, other_id=other, order_id=order_id)


def _known(
    tx: Transaction, rules: AccountRules, incoming: Sequence[OrderRecord]
) -> tuple[match.Known, Mapping[str, Row]]:
    order_ids = {order.order_id for order in incoming}
    order_ids.update(order.replaces for order in incoming if order.replaces)
    rows = orders.load_rows(tx, rules.account, order_ids)
    stored = {order_id: orders.record_of(tx, row) for order_id, row in rows.items()}
    # Not ``order_ids`` that had no row: if another process stored one meanwhile, that is a conflict.
    further = {o.replaces for o in stored.values() if o.replaces and o.replaces not in order_ids}
    if further:
        originals = orders.load_rows(tx, rules.account, further)
        stored |= {order_id: orders.record_of(tx, row) for order_id, row in originals.items()}
    emails = relevant_emails([*incoming, *stored.values()], rules.shared_emails)
    by_email = customers.find_emails(tx, rules.business, emails)
    special = customers.find_special(tx, rules.business, rules.specials)
    nameless = {
        o.order_id
        for o in incoming
        if o.order_id not in rows and usable_email(o, rules.shared_emails) is None
    }
    unidentified = customers.find_unidentified(tx, rules.account, nameless)
    ids = {customer_id for customer_id, _ in by_email.values()} | {*special.values(), *unidentified.values()}
    ids.update(order.customer_id for order in stored.values() if order.customer_id is not None)
    records = customers.load(tx, ids)
    if tx.sees_later_commits:
        _check_still_there(by_email, records)
    left_alone = [c.customer_id for c in records.values() if c.status == "unidentified"]
    known = match.Known(
        orders=stored,
        customers=records,
        by_email=by_email,
        special=special,
        unidentified=unidentified,
        order_counts=customers.order_counts(tx, left_alone) if left_alone else {},
    )
    return known, rows


def _check_still_there(
    by_email: Mapping[str, tuple[int, int]], records: Mapping[int, CustomerRecord]
) -> None:
    """Raise Tombstone if a record has lost its e-mail between the search for it and the lock (R55).

    A merge made the record a tombstone, forgetting emptied it (R62), or an edit or an unmerge took the e-mail
    off it (R13, R54). Of an erased e-mail only the slot can be compared. SQLite needs no such check: its
    transaction locks the whole file from the beginning.
    """
    for email, (customer_id, slot) in by_email.items():
        for main in records[customer_id].emails:
            if main.slot == slot and (main.email is None or normal_email(main.email) == email):
                break
        else:
            raise Tombstone


def decide_again(tx: Transaction, rules: AccountRules, order_ids: Collection[str]) -> Applied:
    """Match stored orders again that have no customer yet (their marketplace became known: R26)."""
    rows = orders.load_rows(tx, rules.account, order_ids)
    lines = orders.load_lines(tx, [row["order_key"] for row in rows.values()])
    records = []
    for row in rows.values():
        record = orders.record_of(tx, row, lines.get(row["order_key"], ()))
        marketplace = rules.by_marketplace.get(record.marketplace_id or "")
        code = marketplace.code if marketplace else record.marketplace
        records.append(structs.replace(record, marketplace=code))
    return apply_records(tx, rules, records)
