"""Orders and their lines: reading those of a page, writing them part by part, and finding some.

A page's orders are read in one query and written in a few bulk statements. Sealed values of parts that are
not written stay as they are and are not opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import sqlalchemy as sa

from store import codec
from store.amounts import line_currency, order_currency
from store.engine import Row, Transaction
from store.order_rows import LINES, ORDERS
from store.records import LineRecord, OrderRecord
from store.tables import OPEN, ORDER_KEYS, RARE_BASIS, order_lines, orders
from store.types import among, among_these


class OrderSave(Protocol):
    """How to write one order: ``poller.matching.match.OrderWrite``."""

    @property
    def record(self) -> OrderRecord:
        """The merged view of stored and incoming copies."""

    @property
    def is_new(self) -> bool: ...
    @property
    def core(self) -> bool:
        """Write the parts that every copy brings."""

    @property
    def groups(self) -> frozenset[str]:
        """Groups of data to write; all others keep what is stored."""

    @property
    def billing(self) -> bool: ...


def place(order_key: int, column: str) -> str:
    """Return where a sealed value of an order is bound to."""
    return f"orders:{order_key}:{column}"


def line_place(order_key: int, order_item_id: str, column: str) -> str:
    """Return where a sealed value of a line is bound to."""
    return f"order_lines:{order_key}:{order_item_id}:{column}"


def record_of(tx: Transaction, row: Row, lines: tuple[LineRecord, ...] = ()) -> OrderRecord:
    """Return the record of a row, opened."""
    return OrderRecord(
        **ORDERS.fields(row, tx.sealer, partial(place, row["order_key"])),
        as_of=codec.load_as_of(row["as_of"], row["last_updated_at"]),
        lines=lines,
        customer_id=row["customer_id"],
        first_seen_at=row["first_seen_at"],
        changed_at=row["changed_at"],
    )


_BY_ID = (
    sa.select(orders)
    .where(orders.c.account == sa.bindparam("account"), among_these(orders.c.order_id))
    .order_by(orders.c.order_key)
)


def load_rows(tx: Transaction, account: str, order_ids: Collection[str]) -> dict[str, Row]:
    """Return stored rows by order ID, locked in key order. Opens nothing."""
    if not order_ids:
        return {}
    rows = tx.conn.execute(tx.lock(_BY_ID), {"account": account, "these": sorted(order_ids)})
    return {row["order_id"]: dict(row) for row in rows.mappings()}


def update_times(tx: Transaction, account: str, order_ids: Collection[str]) -> dict[str, datetime]:
    """Return Amazon's update time of stored orders, by order ID."""
    if not order_ids:
        return {}
    c = orders.c
    query = sa.select(c.order_id, c.last_updated_at).where(
        c.account == account, among(c.order_id, sorted(order_ids))
    )
    return {row.order_id: row.last_updated_at for row in tx.rows(query)}


def load_lines(tx: Transaction, keys: Collection[int]) -> dict[int, tuple[LineRecord, ...]]:
    """Return the lines of orders by order key, in position order."""
    lines_of: dict[int, list[LineRecord]] = {}
    for row in _line_rows(tx, keys):
        lines_of.setdefault(row["order_key"], []).append(_line_record(tx, row))
    return {key: tuple(lines) for key, lines in lines_of.items()}


def _line_rows(tx: Transaction, keys: Collection[int]) -> Iterable[Row]:
    query = (
        sa.select(order_lines)
        .where(among(order_lines.c.order_key, sorted(keys)))
        .order_by(order_lines.c.order_key, order_lines.c.position)
    )
    return tx.conn.execute(query).mappings()


def _line_record(tx: Transaction, row: Row) -> LineRecord:
    place_of = partial(line_place, row["order_key"], row["order_item_id"])
    return LineRecord(**LINES.fields(row, tx.sealer, place_of))


def _encoded(tx: Transaction, record: OrderRecord, key: int, ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the columns of an order, not sealed yet."""
    customer_id = record.customer_id
    currency = order_currency(record)
    row = ORDERS.encoded(record, currency)
    row["order_key"] = key
    row["as_of"] = codec.dump_as_of(record.as_of, record.last_updated_at)
    row["currency"] = currency
    row["customer_id"] = None if customer_id is None else ids.get(customer_id, customer_id)
    return row


def _encoded_line(key: int, position: int, line: LineRecord) -> dict[str, Any]:
    """Return the columns of a line, not sealed yet."""
    currency = line_currency(line)
    row = LINES.encoded(line, currency)
    row["order_key"], row["position"], row["currency"] = key, position, currency
    return row


def save(
    tx: Transaction,
    writes: Sequence[OrderSave],
    stored: Mapping[str, Row],
    customer_ids: Mapping[int, int] | None = None,
    walk: int | None = None,
) -> int:
    """Write the orders of a page. Returns how many were new or changed; an equal copy writes nothing.

    ``stored``: their rows, from ``load_rows``. ``customer_ids``: IDs of new customers by temporary reference.
    ``walk`` marks the orders as seen by a window's walk. Raises a conflict (``engine.is_conflict``) if
    another process was first.
    """
    fresh = [w for w in writes if w.is_new]
    rows, lines = [], []
    ids = customer_ids or {}
    for key, write in zip(tx.take_keys(ORDER_KEYS, len(fresh)), fresh, strict=True):
        row = _encoded(tx, write.record, key, ids)
        row |= {
            "walk": walk,
            "refetch_tried_at": None,
            "refetched_at": None,
            "first_seen_at": tx.now,
            "changed_at": tx.now,
            "change_no": tx.change_no,
        }
        rows.append(ORDERS.seal(row, tx.sealer, partial(place, key)))
        lines += [
            LINES.seal(_encoded_line(key, i, line), tx.sealer, partial(line_place, key, line.order_item_id))
            for i, line in enumerate(write.record.lines)
        ]
    tx.insert(orders, rows)
    tx.insert(order_lines, lines)
    changed = _update(tx, [w for w in writes if not w.is_new], stored, ids, walk)
    return len(fresh) + changed


def _update(
    tx: Transaction,
    writes: Sequence[OrderSave],
    stored: Mapping[str, Row],
    ids: Mapping[int, int],
    walk: int | None,
) -> int:
    if not writes:
        return 0
    keys = [stored[w.record.order_id]["order_key"] for w in writes]
    old_lines: dict[int, dict[str, Row]] = {key: {} for key in keys}
    for row in _line_rows(tx, keys):
        old_lines[row["order_key"]][row["order_item_id"]] = dict(row)
    updates, new_lines, replaced = [], [], []
    for key, write in zip(keys, writes, strict=True):
        old = stored[write.record.order_id]
        row = _merged_row(tx, write, old, key, ids)
        lines = _merged_lines(tx, write, old_lines[key], key)
        touched = row != old
        if touched:
            row["changed_at"], row["change_no"] = tx.now, tx.change_no
        if walk is not None:
            row["walk"] = walk
        if lines != list(old_lines[key].values()):
            replaced.append(key)
            new_lines += lines
            row["changed_at"], row["change_no"] = tx.now, tx.change_no
        if row != old:
            updates.append(row)
        if row["shown"] and not old["shown"]:
            tx.revealed.add(key)
    tx.update(orders, updates, order_key=None)
    if replaced:
        tx.conn.execute(sa.delete(order_lines).where(among(order_lines.c.order_key, replaced)))
    tx.insert(order_lines, new_lines)
    return sum(1 for u in updates if u["change_no"] == tx.change_no) if updates else 0


def _merged_row(
    tx: Transaction, write: OrderSave, old: Row, key: int, ids: Mapping[int, int]
) -> dict[str, Any]:
    encoded = _encoded(tx, write.record, key, ids)
    columns = ORDERS.columns(_parts(write))
    columns.update(name for name in ORDERS.columns({"lasting"}) if write.core or encoded[name])
    if write.record.erased_at is not None:
        columns.update(ORDERS.sealed)
    row = dict(old)
    ORDERS.merge(row, encoded, columns, tx.sealer, partial(place, key))
    row["customer_id"] = encoded["customer_id"]
    row["as_of"] = codec.dump_as_of(write.record.as_of, row["last_updated_at"])
    if "proceeds" in write.groups or row["currency"] is None:
        row["currency"] = encoded["currency"]
        if row["currency"] != old["currency"]:
            row |= {name: encoded[name] for name in ORDERS.amounts}
    return row


def _parts(write: OrderSave) -> set[str]:
    """Return the parts of an order to write (``store.introspection.In``)."""
    parts = {"decision", *write.groups}
    if write.core:
        parts.add("core")
    if write.billing:
        parts.add("billing")
    return parts


def _merged_lines(tx: Transaction, write: OrderSave, old: Mapping[str, Row], key: int) -> list[Row]:
    """Return the order's lines: its own if the copy is the newest and has any, else the stored ones."""
    fresh = {line.order_item_id: _encoded_line(key, i, line) for i, line in enumerate(write.record.lines)}
    unread = write.record.unread
    columns, lasting = LINES.columns(_parts(write)) - unread, LINES.columns({"lasting"}) - unread
    if write.core:
        columns |= {"position"}
    erased: dict[str, None] = {}
    if write.record.erased_at is not None:
        erased = dict.fromkeys(LINES.sealed)
    merged: list[Row] = []
    for item_id in fresh if (write.core and fresh) or not old else old:
        encoded, before = fresh.get(item_id), old.get(item_id)
        place_of = partial(line_place, key, item_id)
        if before is None and encoded is not None:
            merged.append({**LINES.seal(encoded, tx.sealer, place_of), **erased})
            continue
        row = dict(before or {})
        if before is not None and encoded is not None:
            brings, had = (any(line[name] is not None for name in lasting) for line in (encoded, before))
            decides = lasting if brings and (write.core or not had) else ()
            LINES.merge(row, encoded, (*columns, *decides), tx.sealer, place_of)
            currencies = {before["currency"], encoded["currency"]} - {None}
            # The newest copy may carry no amounts at all; those that stay keep their currency.
            is_new = "proceeds" in write.groups
            first, second = (encoded, before) if is_new else (before, encoded)
            row["currency"] = first["currency"] or second["currency"]
            if len(currencies) > 1:  # a row has one currency: what comes from the other copy has another
                row |= {name: None for name in LINES.amounts if (name in columns) != is_new}
        merged.append({**row, **erased})
    return merged


def _may_be_listed(marketplace_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Match orders that Amazon may list under these marketplaces.

    An order of another channel is listed under a marketplace that its own data does not name.
    """
    return sa.or_(orders.c.marketplace_id.in_(marketplace_ids), orders.c.marketplace.is_(None))


def nth_updated(
    tx: Transaction,
    account: str,
    marketplace_ids: Sequence[str],
    after: datetime,
    before: datetime,
    number: int,
) -> datetime | None:
    """Return the update time of stored order ``number`` of a range, oldest first; None if it holds fewer."""
    time = orders.c.last_updated_at
    query = (
        sa.select(time)
        .where(orders.c.account == account, time > after, time <= before, _may_be_listed(marketplace_ids))
        .order_by(time)
        .limit(1)
        .offset(number - 1)
    )
    return tx.conn.execute(query).scalar_one_or_none()


def count_of_walk(tx: Transaction, account: str, walk: int, since: datetime) -> int:
    """Return how many orders updated at or after ``since`` bear a walk's mark, and no later walk's."""
    c = orders.c
    query = sa.select(sa.func.count()).where(c.account == account, c.last_updated_at >= since, c.walk == walk)
    count: int = tx.conn.execute(query).scalar_one()
    return count


def _waiting(marketplaces: str, why: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Select orders of some marketplaces that have no customer for this reason."""
    c = orders.c
    return sa.select(c.order_id).where(
        c.account == sa.bindparam("of_account"),
        c.customer_id.is_(None),
        c.marketplace_id.in_(sa.bindparam(marketplaces, expanding=True)),
        why,
    )


_OF_UNKNOWN_MARKETPLACES = _waiting("known", orders.c.marketplace.is_(None))
_HELD = _waiting("holding_none", sa.and_(sa.text(RARE_BASIS), orders.c.match_basis == "held"))
IS_ANY_WAITING = sa.or_(_OF_UNKNOWN_MARKETPLACES.exists(), _HELD.exists())
"""True if ``waiting`` has an order; parameters ``of_account``, ``known`` and ``holding_none``."""


def waiting(
    tx: Transaction, account: str, known: Sequence[str], holding_none: Sequence[str], limit: int
) -> list[str]:
    """Return ids of orders without a customer whose reason is gone: up to ``limit`` per reason, oldest first.

    ``known``: marketplaces that are configured, where orders of unknown ones may belong by now (R26).
    ``holding_none``: those where an order without an e-mail is no longer held (R21).
    """
    values = {"of_account": account, "known": known, "holding_none": holding_none}
    oldest = (orders.c.created_at, orders.c.order_id)
    return [
        order_id
        for reason in (_OF_UNKNOWN_MARKETPLACES, _HELD)
        for order_id in tx.conn.execute(reason.order_by(*oldest).limit(limit), values).scalars()
    ]


def stale(
    tx: Transaction,
    account: str,
    marketplace_ids: Sequence[str],
    limit: int,
    *,
    pending: Collection[str],
    under_way: Collection[str],
) -> list[tuple[str, str]]:
    """Return orders pending for over seven days, or unshipped past their ship-by date, not refetched today.

    ``pending`` and ``under_way`` are Amazon's statuses; an order without a status is pending, too. Pairs of
    (order id, marketplace id), the one tried longest ago first.
    """
    c = orders.c
    waiting_long = sa.and_(
        sa.or_(c.status.in_(sorted(pending)), c.status.is_(None)), c.created_at < tx.now - timedelta(days=7)
    )
    late = sa.and_(c.status.in_(sorted(under_way)), c.ship_by < tx.now)
    rested = sa.or_(c.refetch_tried_at.is_(None), c.refetch_tried_at < tx.now - timedelta(days=1))
    query = (
        sa.select(c.order_id, c.marketplace_id)
        .where(
            sa.text(OPEN),
            c.account == account,
            c.marketplace_id.in_(marketplace_ids),
            sa.or_(waiting_long, late),
            rested,
        )
        .order_by(c.refetch_tried_at.nulls_first(), c.last_updated_at)
        .limit(limit)
    )
    return [(row.order_id, row.marketplace_id) for row in tx.rows(query)]


def mark_refetch_tried(tx: Transaction, account: str, order_id: str) -> None:
    """Note that an order is being requested by its id, whatever comes of it."""
    _mark(tx, account, order_id, "refetch_tried_at")


def mark_refetched(tx: Transaction, account: str, order_id: str) -> None:
    """Note that the newest copy that Amazon gives of an order by its id is stored."""
    _mark(tx, account, order_id, "refetched_at")


def _mark(tx: Transaction, account: str, order_id: str, column: str) -> None:
    which = sa.and_(orders.c.account == account, orders.c.order_id == order_id)
    tx.conn.execute(sa.update(orders).where(which).values({column: tx.now}))
