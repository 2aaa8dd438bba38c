"""Search customers by the words of their names, and orders by SKU. Nothing here changes anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from store import customers, tables
from store.accounts import businesses_of
from store.engine import Transaction
from store.queries import distinct, opened_orders
from store.records import CustomerRecord, OrderRecord
from store.tables import SKU_BLOCK, WORD_BLOCK
from store.types import among

_WORD_BLOCKS_AT_ONCE = 32
"""Blocks of words that one query searches."""

_LINE_BLOCKS_AT_ONCE = 256
"""Blocks of lines that one query searches; they are smaller."""

MAX_WORDS = 8
"""Different words of a search; each costs a look-up for each block."""

MAX_SECONDS = 5.0
"""Time after which no further blocks are searched."""


class TooManyWords(Exception):
    """A search has more than ``MAX_WORDS`` different words."""


def customers_named(tx: Transaction, name: str, limit: int) -> list[CustomerRecord]:
    """Return the newest customers, of all businesses, that have all these words in their names.

    After ``MAX_SECONDS`` those found so far. Raises TooManyWords.
    """
    if len(tx.lookup.words("", name)) > MAX_WORDS:
        raise TooManyWords
    ends_at = time.monotonic() + MAX_SECONDS
    c = tables.customers.c
    newest = tx.conn.execute(sa.select(sa.func.max(c.customer_id))).scalar_one_or_none()
    if newest is None:
        return []
    hashes = [tx.lookup.words(business, name) for business in _businesses(tx)]
    matches: list[int] = []
    for blocks in _newest_first(newest // WORD_BLOCK, _WORD_BLOCKS_AT_ONCE):
        for words in filter(None, hashes):
            if time.monotonic() > ends_at:
                break
            matches += [row.customer_id for row in tx.rows(_with_words(blocks, sorted(words), limit))]
        if len(matches) >= limit or time.monotonic() > ends_at:
            break
    ids = sorted(matches, reverse=True)[:limit]
    rows = tx.conn.execute(sa.select(tables.customers).where(among(c.customer_id, ids))).mappings().all()
    records = customers.records_of(tx, rows)
    return [records[customer_id] for customer_id in ids if customer_id in records]


def _newest_first(last: int, at_once: int) -> Iterator[list[int]]:
    """Yield all block numbers up to the last one, ``at_once`` together."""
    for upper in range(last, -1, -at_once):
        yield list(range(max(0, upper - at_once + 1), upper + 1))


def _businesses(tx: Transaction) -> list[str]:
    recorded = businesses_of(tx).values()
    return sorted({*recorded, *distinct(tx, tables.customer_emails.c.business)})


def _with_words(blocks: list[int], words: list[int], limit: int) -> sa.Select[Any]:
    """Return the query for customers in these blocks with all words: one look-up for each block and word."""
    first, *further = (tables.customer_words.alias(f"w{i}") for i in range(len(words)))
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
    """Return shown orders with this SKU, the one that was stored last first, found in ``MAX_SECONDS``."""
    ends_at = time.monotonic() + MAX_SECONDS
    line, o = tables.order_lines.c, tables.orders.c
    newest = tx.conn.execute(sa.select(sa.func.max(o.order_key))).scalar_one_or_none() or 0
    block = sa.literal_column(f"(order_lines.order_key / {SKU_BLOCK})", sa.Integer)
    order_keys: list[int] = []
    for blocks in _newest_first(newest // SKU_BLOCK, _LINE_BLOCKS_AT_ONCE):
        keys = (
            sa.select(line.order_key)
            .distinct()
            .join(tables.orders, o.order_key == line.order_key)
            .where(block.in_(blocks), line.sku == sku, o.shown)
            .order_by(line.order_key.desc())
            .limit(limit - len(order_keys))
        )
        order_keys += tx.conn.execute(keys).scalars()
        if len(order_keys) >= limit or time.monotonic() > ends_at:
            break
    query = sa.select(tables.orders).where(among(o.order_key, order_keys)).order_by(o.order_key.desc())
    return opened_orders(tx, query)
