"""Orders and their lines: reading those of a page, writing them back group by group.

A page's orders are read in one query and written in a few bulk statements. Sealed groups that a copy
does not replace are carried over as they are, without being opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from store import codec
from store.engine import Row, Transaction
from store.records import Address, Basis, Buyer, LineRecord, OrderRecord, TaxNumber, says_something
from store.tables import OPEN, ORDER_KEYS, RARE_BASIS, order_lines, orders
from store.types import among, among_these

GROUP_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "fulfillment": ("status", "seller_status", "fulfilled_by", "service_level", "ship_by", "deliver_by"),
    "buyer": ("buyer",),
    "delivery": ("delivery", "delivery_country", "delivery_instructions"),
    "proceeds": ("total", "currency"),
    "price": (),
    "promotion": (),
    "cancellation": ("cancel_requested", "cancelled_by", "cancel_reason"),
    "packages": ("packages",),
    "tax": ("tax_numbers",),
    "withheld": ("withheld_tax",),
}
"""Columns of ``orders`` that a group of data consists of."""

CORE_COLUMNS = (
    "marketplace_id",
    "marketplace",
    "channel",
    "created_at",
    "last_updated_at",
    "seller_order_id",
    "replaces",
)
"""Columns that every copy of an order carries."""

DECISION_COLUMNS = (
    "programs",
    "marketplace",
    "seller_status",
    "as_of",
    "price_list",
    "tax_code",
    "labels",
    "customer_id",
    "match_basis",
    "match_rules",
    "ready",
    "shown",
    "delivered_at",
    "shipped_at",
    "cancelled_at",
    "term_at",
    "erased_at",
)
"""Columns that matching decides anew with every copy."""

BUYER_COLUMNS = ("buyer", "delivery", "delivery_instructions", "billing", "tax_numbers", "cancel_reason")
"""What retention erases of an order (R60)."""

LINE_BUYER_COLUMNS = ("gift_message", "customization_url")

LINE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "fulfillment": ("quantity_shipped", "gift_message"),
    "proceeds": ("item_total", "tax", "shipping", "discount", "gift_wrap"),
    "price": ("unit_price",),
    "promotion": ("promotion_ids",),
    "withheld": ("withheld_tax",),
}
LINE_CORE = ("position", "quantity", "currency")
LINE_PRODUCT = ("sku", "asin", "title", "customization_url")
"""What a line says of its product: a copy that says none of it does not erase it (R25)."""


class OrderSave(Protocol):
    """How to write one order, as ``poller.matching.match.OrderWrite`` says."""

    @property
    def record(self) -> OrderRecord:
        """The merged view of stored and incoming copies."""

    @property
    def is_new(self) -> bool: ...
    @property
    def core(self) -> bool:
        """Whether the columns that every copy carries are to be written."""

    @property
    def groups(self) -> frozenset[str]:
        """Groups whose columns are to be written; all others keep what is stored."""

    @property
    def billing(self) -> bool: ...


def place(order_key: int, column: str) -> str:
    """Where a sealed value of an order is bound to."""
    return f"orders:{order_key}:{column}"


def line_place(order_key: int, order_item_id: str, column: str) -> str:
    return f"order_lines:{order_key}:{order_item_id}:{column}"


def _address(tx: Transaction, row: Row, column: str) -> Address | None:
    sealed = row[column]
    if sealed is None:
        country = row[f"{column}_country"]
        return Address(country=country) if country else None
    return tx.sealer.open_as(Address, sealed, place(row["order_key"], column))


def _text(tx: Transaction, row: Row, column: str) -> str | None:
    sealed = row[column]
    return None if sealed is None else tx.sealer.open(sealed, place(row["order_key"], column)).decode()


def record_of(tx: Transaction, row: Row, lines: tuple[LineRecord, ...] = ()) -> OrderRecord:
    """Open one row."""
    key = row["order_key"]
    buyer = row["buyer"]
    numbers = row["tax_numbers"]
    basis: Basis | None = row["match_basis"]
    return OrderRecord(
        account=row["account"],
        order_id=row["order_id"],
        channel=row["channel"],
        created_at=row["created_at"],
        last_updated_at=row["last_updated_at"],
        as_of=codec.load_as_of(row["as_of"], row["last_updated_at"]),
        marketplace_id=row["marketplace_id"],
        marketplace=row["marketplace"],
        status=row["status"],
        seller_status=row["seller_status"],
        fulfilled_by=row["fulfilled_by"],
        service_level=row["service_level"],
        programs=codec.load_words(row["programs"]),
        ship_by=row["ship_by"],
        deliver_by=row["deliver_by"],
        seller_order_id=row["seller_order_id"],
        replaces=row["replaces"],
        buyer=tx.sealer.open_as(Buyer, buyer, place(key, "buyer")) if buyer else None,
        delivery=_address(tx, row, "delivery"),
        billing=_address(tx, row, "billing"),
        delivery_instructions=_text(tx, row, "delivery_instructions"),
        total=codec.amount(row["total"], row["currency"]),
        withheld_tax=codec.amount(row["withheld_tax"], row["currency"]),
        lines=lines,
        packages=codec.load_packages(row["packages"]),
        tax_numbers=tx.sealer.open_as(tuple[TaxNumber, ...], numbers, place(key, "tax_numbers"))
        if numbers
        else (),
        cancel_requested=row["cancel_requested"],
        cancelled_by=row["cancelled_by"],
        cancel_reason=_text(tx, row, "cancel_reason"),
        price_list=row["price_list"],
        tax_code=row["tax_code"],
        labels=codec.load_map(row["labels"]),
        customer_id=row["customer_id"],
        match_basis=basis,
        match_rules=codec.load_words(row["match_rules"]),
        ready=row["ready"],
        shown=row["shown"],
        billing_origin=row["billing_origin"],
        delivered_at=row["delivered_at"],
        shipped_at=row["shipped_at"],
        cancelled_at=row["cancelled_at"],
        term_at=row["term_at"],
        erased_at=row["erased_at"],
        first_seen_at=row["first_seen_at"],
        changed_at=row["changed_at"],
    )


_BY_ID = (
    sa.select(orders)
    .where(orders.c.account == sa.bindparam("account"), among_these(orders.c.order_id))
    .order_by(orders.c.order_key)
)


def load_rows(tx: Transaction, account: str, order_ids: Collection[str]) -> dict[str, Row]:
    """Stored rows of some orders, locked in key order. Opens nothing."""
    if not order_ids:
        return {}
    found = tx.conn.execute(tx.lock(_BY_ID), {"account": account, "these": sorted(order_ids)})
    return {row["order_id"]: dict(row) for row in found.mappings()}


def update_times(tx: Transaction, account: str, order_ids: Collection[str]) -> dict[str, datetime]:
    """Amazon's time of the stored version of some orders."""
    if not order_ids:
        return {}
    c = orders.c
    query = sa.select(c.order_id, c.last_updated_at).where(
        c.account == account, among(c.order_id, sorted(order_ids))
    )
    return {row.order_id: row.last_updated_at for row in tx.rows(query)}


def load_lines(tx: Transaction, keys: Collection[int]) -> dict[int, tuple[LineRecord, ...]]:
    """Lines of some orders by order key, in position order."""
    found: dict[int, list[LineRecord]] = {}
    for row in _line_rows(tx, keys):
        found.setdefault(row["order_key"], []).append(_line_record(tx, row))
    return {key: tuple(lines) for key, lines in found.items()}


def _line_rows(tx: Transaction, keys: Collection[int]) -> Iterable[Row]:
    query = (
        sa.select(order_lines)
        .where(among(order_lines.c.order_key, sorted(keys)))
        .order_by(order_lines.c.order_key, order_lines.c.position)
    )
    return tx.conn.execute(query).mappings()


def _line_record(tx: Transaction, row: Row) -> LineRecord:
    def opened(column: str) -> str | None:
        sealed = row[column]
        if sealed is None:
            return None
        return tx.sealer.open(sealed, line_place(row["order_key"], row["order_item_id"], column)).decode()

    currency = row["currency"]
    return LineRecord(
        order_item_id=row["order_item_id"],
        quantity=row["quantity"],
        sku=row["sku"],
        asin=row["asin"],
        title=row["title"],
        unit_price=codec.amount(row["unit_price"], currency),
        quantity_shipped=row["quantity_shipped"],
        item_total=codec.amount(row["item_total"], currency),
        tax=codec.amount(row["tax"], currency),
        shipping=codec.amount(row["shipping"], currency),
        discount=codec.amount(row["discount"], currency),
        gift_wrap=codec.amount(row["gift_wrap"], currency),
        withheld_tax=codec.amount(row["withheld_tax"], currency),
        promotion_ids=codec.load_list(row["promotion_ids"]),
        gift_message=opened("gift_message"),
        customization_url=opened("customization_url"),
    )


def _order_values(tx: Transaction, record: OrderRecord, key: int, ids: Mapping[int, int]) -> dict[str, Any]:
    seal = tx.sealer.seal
    seal_json = tx.sealer.seal_json
    delivery, billing, total, withheld = record.delivery, record.billing, record.total, record.withheld_tax
    return {
        "order_key": key,
        "account": record.account,
        "order_id": record.order_id,
        "marketplace_id": record.marketplace_id,
        "marketplace": record.marketplace,
        "channel": record.channel,
        "status": record.status,
        "seller_status": record.seller_status,
        "fulfilled_by": record.fulfilled_by,
        "service_level": record.service_level,
        "programs": codec.dump_words(record.programs),
        "created_at": record.created_at,
        "last_updated_at": record.last_updated_at,
        "as_of": codec.dump_as_of(record.as_of, record.last_updated_at),
        "ship_by": record.ship_by,
        "deliver_by": record.deliver_by,
        "seller_order_id": record.seller_order_id,
        "replaces": record.replaces,
        "buyer": seal_json(record.buyer, place(key, "buyer")) if record.buyer else None,
        "delivery": seal_json(delivery, place(key, "delivery")) if says_something(delivery) else None,
        "delivery_country": delivery.country if delivery else None,
        "delivery_instructions": seal(
            record.delivery_instructions.encode(), place(key, "delivery_instructions")
        )
        if record.delivery_instructions
        else None,
        "billing": seal_json(billing, place(key, "billing")) if says_something(billing) else None,
        "billing_country": billing.country if billing else None,
        "total": total.amount if total else None,
        "currency": order_currency(record),
        "withheld_tax": withheld.amount if withheld else None,
        "packages": codec.dump_packages(record.packages),
        "tax_numbers": seal_json(record.tax_numbers, place(key, "tax_numbers"))
        if record.tax_numbers
        else None,
        "cancel_requested": record.cancel_requested,
        "cancelled_by": record.cancelled_by,
        "cancel_reason": seal(record.cancel_reason.encode(), place(key, "cancel_reason"))
        if record.cancel_reason
        else None,
        "price_list": record.price_list,
        "tax_code": record.tax_code,
        "labels": codec.dump_map(record.labels),
        "customer_id": None
        if record.customer_id is None
        else ids.get(record.customer_id, record.customer_id),
        "match_basis": record.match_basis,
        "match_rules": codec.dump_words(record.match_rules),
        "ready": record.ready,
        "shown": record.shown,
        "walk": None,
        "refetch_tried_at": None,
        "refetched_at": None,
        "billing_origin": record.billing_origin,
        "delivered_at": record.delivered_at,
        "shipped_at": record.shipped_at,
        "cancelled_at": record.cancelled_at,
        "term_at": record.term_at,
        "erased_at": record.erased_at,
        "first_seen_at": tx.now,
        "changed_at": tx.now,
        "change_no": tx.change_no,
    }


def order_currency(record: OrderRecord) -> str | None:
    """The currency of the grand total, else of the first priced line."""
    if record.total is not None:
        return record.total.currency
    return next((c for line in record.lines if (c := _line_currency(line))), None)


def _line_currency(line: LineRecord) -> str | None:
    amounts = (line.unit_price, line.item_total, line.tax, line.shipping, line.discount, line.gift_wrap)
    return next((a.currency for a in amounts if a is not None), None)


def _line_values(tx: Transaction, key: int, position: int, line: LineRecord) -> dict[str, Any]:
    def sealed(text: str | None, column: str) -> bytes | None:
        if text is None:
            return None
        return tx.sealer.seal(text.encode(), line_place(key, line.order_item_id, column))

    return {
        "order_key": key,
        "position": position,
        "order_item_id": line.order_item_id,
        "sku": line.sku,
        "asin": line.asin,
        "title": line.title,
        "quantity": line.quantity,
        "quantity_shipped": line.quantity_shipped,
        "currency": _line_currency(line),
        "unit_price": line.unit_price.amount if line.unit_price else None,
        "item_total": line.item_total.amount if line.item_total else None,
        "tax": line.tax.amount if line.tax else None,
        "shipping": line.shipping.amount if line.shipping else None,
        "discount": line.discount.amount if line.discount else None,
        "gift_wrap": line.gift_wrap.amount if line.gift_wrap else None,
        "withheld_tax": line.withheld_tax.amount if line.withheld_tax else None,
        "promotion_ids": codec.dump_list(line.promotion_ids),
        "gift_message": sealed(line.gift_message, "gift_message"),
        "customization_url": sealed(line.customization_url, "customization_url"),
    }


def save(
    tx: Transaction,
    writes: Sequence[OrderSave],
    stored: Mapping[str, Row],
    customer_ids: Mapping[int, int] | None = None,
    walk: int | None = None,
) -> int:
    """Write the orders of a page; ``stored`` is what ``load_rows`` gave for them.

    ``customer_ids`` turns temporary references to new customers into their ids. ``walk`` marks the
    orders as seen by a window's walk. Returns how many rows were new or changed; a copy that changes
    nothing writes nothing. Raises a conflict (``engine.is_conflict``) when another process was first.
    """
    fresh = [w for w in writes if w.is_new]
    rows, lines = [], []
    ids = customer_ids or {}
    for key, write in zip(tx.take_keys(ORDER_KEYS, len(fresh)), fresh, strict=True):
        row = _order_values(tx, write.record, key, ids)
        row["walk"] = walk
        rows.append(row)
        lines += [_line_values(tx, key, i, line) for i, line in enumerate(write.record.lines)]
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
    names = set(DECISION_COLUMNS)
    if write.core:
        names.update(CORE_COLUMNS)
    for group in write.groups:
        names.update(GROUP_COLUMNS[group])
    if write.billing:
        names.update(("billing", "billing_country", "billing_origin"))
    if write.record.erased_at is not None:
        names.update(BUYER_COLUMNS)
    values = _order_values(tx, write.record, key, ids)
    row = dict(old)
    for name in names:
        value = values[name]
        if not _same(tx, old[name], value, place(key, name)):
            row[name] = value
    row["as_of"] = codec.dump_as_of(write.record.as_of, row["last_updated_at"])
    if row["currency"] is None:
        row["currency"] = values["currency"]
    return row


def _same(tx: Transaction, old: Any, new: Any, where: str) -> bool:
    """Sealing the same value twice gives two values, so what is inside is compared."""
    if isinstance(old, bytes) and isinstance(new, bytes):
        return tx.sealer.open(old, where) == tx.sealer.open(new, where)
    return bool(old == new)


def _merged_lines(tx: Transaction, write: OrderSave, old: Mapping[str, Row], key: int) -> list[Row]:
    """Return the lines of the copy if it is the newest and has any, else the stored ones; each by group."""
    fresh = {line.order_item_id: _line_values(tx, key, i, line) for i, line in enumerate(write.record.lines)}
    names: set[str] = set()
    for group in write.groups:
        names.update(LINE_GROUPS.get(group, ()))
    if write.core:
        names.update(LINE_CORE)
    gone: dict[str, None] = {}
    if write.record.erased_at is not None:
        gone = dict.fromkeys(LINE_BUYER_COLUMNS)
    merged: list[Row] = []
    for item_id in fresh if (write.core and fresh) or not old else old:
        values, before = fresh.get(item_id), old.get(item_id)
        if values is None or before is None:
            merged.append({**(values or before or {}), **gone})
            continue
        row = dict(before)
        has_product = any(values[name] is not None for name in LINE_PRODUCT)
        had_product = any(before[name] is not None for name in LINE_PRODUCT)
        product = LINE_PRODUCT if has_product and (write.core or not had_product) else ()
        for name in (*names, *product):
            value = values[name]
            if not _same(tx, before[name], value, line_place(key, item_id, name)):
                row[name] = value
        # The newest copy may carry no amounts at all; those that stay keep their currency.
        row["currency"] = row["currency"] or values["currency"] or before["currency"]
        row.update(gone)
        merged.append(row)
    return merged


def _may_be_listed(marketplace_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Orders that Amazon may list under these marketplaces.

    An order of another channel is listed under a marketplace that its own data do not name.
    """
    return sa.or_(orders.c.marketplace_id.in_(marketplace_ids), orders.c.marketplace.is_(None))


def departed(
    tx: Transaction,
    account: str,
    marketplace_ids: Sequence[str],
    created_until: datetime,
    updated_after: datetime,
) -> bool:
    """Whether an order created by then was updated after the given time, so may have left a list."""
    c = orders.c
    query = (
        sa.select(sa.literal(1))
        .where(
            c.account == account,
            c.last_updated_at > updated_after,
            c.created_at <= created_until,
            _may_be_listed(marketplace_ids),
        )
        .limit(1)
    )
    return tx.conn.execute(query).first() is not None


def every_nth_update(
    tx: Transaction,
    account: str,
    marketplace_ids: Sequence[str],
    after: datetime,
    before: datetime,
    number: int,
) -> list[datetime]:
    """The update time of every order of a stretch that is number ``number``, twice that, and so on."""
    c = orders.c
    query = (
        sa.select(c.last_updated_at)
        .where(
            c.account == account,
            c.last_updated_at >= after,
            c.last_updated_at <= before,
            _may_be_listed(marketplace_ids),
        )
        .order_by(c.last_updated_at)
    )
    return list(tx.conn.execute(query).scalars())[number - 1 :: number]


def _waiting(marketplaces: str, why: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Orders of some marketplaces that have no customer for this reason."""
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
"""With ``of_account``, and ``known`` and ``holding_none`` as for ``waiting``."""


def waiting(
    tx: Transaction, account: str, known: Sequence[str], holding_none: Sequence[str], limit: int
) -> list[str]:
    """Ids of orders without a customer whose reason is gone; of each reason so many, the oldest first.

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
