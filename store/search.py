"""Finding customers by the words of their names, and orders by SKU. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from store import customers as customer_rows
from store.accounts import businesses_of
from store.engine import Transaction
from store.queries import distinct, opened_orders
from store.records import CustomerRecord, OrderRecord
from store.tables import (
    SKU_BLOCK,
    WORD_BLOCK,
    customer_emails,
    customer_words,
    customers,
    order_lines,
    orders,
)
from store.types import among

_AT_ONCE = 32
"""Blocks of words that are looked at together."""

_LINES_AT_ONCE = 256
"""The same for blocks of lines, which are smaller."""


def customers_named(tx: Transaction, name: str, limit: int) -> list[CustomerRecord]:
    """The newest customers who have all these words in their names, in every business."""
    c = customers.c
    newest = tx.conn.execute(sa.select(sa.func.max(c.customer_id))).scalar_one_or_none()
    if newest is None:
        return []
    hashes = [tx.lookup.words(business, name) for business in _businesses(tx)]
    found: list[int] = []
    for blocks in _newest_first(newest // WORD_BLOCK, _AT_ONCE):
        for words in filter(None, hashes):
            found += [row.customer_id for row in tx.rows(_with_words(blocks, sorted(words), limit))]
        if len(found) >= limit:
            break
    wanted = sorted(found, reverse=True)[:limit]
    rows = tx.conn.execute(sa.select(customers).where(among(c.customer_id, wanted))).mappings().all()
    records = customer_rows.records_of(tx, rows)
    return [records[customer_id] for customer_id in wanted if customer_id in records]


def _newest_first(last: int, at_once: int) -> Iterator[list[int]]:
    """All blocks up to the last one, so many together."""
    for upper in range(last, -1, -at_once):
        yield list(range(max(0, upper - at_once + 1), upper + 1))


def _businesses(tx: Transaction) -> list[str]:
    recorded = businesses_of(tx).values()
    return sorted({*recorded, *distinct(tx, customer_emails.c.business)})


def _with_words(blocks: list[int], words: list[int], limit: int) -> sa.Select[Any]:
    """Ids of customers in these blocks who have all the words: one look-up for each block and word."""
    first, *further = (customer_words.alias(f"w{i}") for i in range(len(words)))
    query = sa.select(first.c.customer_id).where(first.c.block.in_(blocks), first.c.word == words[0])
    for other, word in zip(further, words[1:], strict=True):
        same = sa.and_(
            other.c.block == first.c.block,
            other.c.word == word,
            other.c.customer_id == first.c.customer_id,
        )
        query = query.join(other, same)
    return query.order_by(first.c.block.desc(), first.c.customer_id.desc()).limit(limit)


def orders_with_sku(tx: Transaction, sku: str, limit: int) -> list[OrderRecord]:
    """Shown orders that hold an article, the one that was stored last first."""
    line, o = order_lines.c, orders.c
    newest = tx.conn.execute(sa.select(sa.func.max(o.order_key))).scalar_one_or_none() or 0
    block = sa.literal_column(f"(order_lines.order_key / {SKU_BLOCK})", sa.Integer)
    wanted: list[int] = []
    for blocks in _newest_first(newest // SKU_BLOCK, _LINES_AT_ONCE):
        keys = (
            sa.select(line.order_key)
            .distinct()
            .join(orders, o.order_key == line.order_key)
            .where(block.in_(blocks), line.sku == sku, o.shown)
            .order_by(line.order_key.desc())
            .limit(limit - len(wanted))
        )
        wanted += tx.conn.execute(keys).scalars()
        if len(wanted) >= limit:
            break
    query = sa.select(orders).where(among(o.order_key, wanted)).order_by(o.order_key.desc())
    return opened_orders(tx, query)
