"""Search customers by words of their names and numbers, orders by parts of ids, SKUs and tracking numbers.

Nothing here changes anything. Every search ends in a bounded time, with what it has found so far.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
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


def orders_with_sku(tx: Transaction, sku: str, limit: int, *, part: bool = False) -> list[OrderRecord]:
    """Return shown orders with this SKU, the one that was stored last first, found in ``MAX_SECONDS``.

    ``part``: with an SKU that contains this text, in any case.
    """
    ends_at = time.monotonic() + MAX_SECONDS
    line, o = tables.order_lines.c, tables.orders.c
    newest = tx.conn.execute(sa.select(sa.func.max(o.order_key))).scalar_one_or_none() or 0
    block = sa.literal_column(f"(order_lines.order_key / {SKU_BLOCK})", sa.Integer)
    fits = line.sku.icontains(sku, autoescape=True) if part else line.sku == sku
    order_keys: list[int] = []
    for blocks in _newest_first(newest // SKU_BLOCK, _LINE_BLOCKS_AT_ONCE):
        keys = (
            sa.select(line.order_key)
            .distinct()
            .join(tables.orders, o.order_key == line.order_key)
            .where(block.in_(blocks), line.sku.is_not(None), fits, o.shown)
            .order_by(line.order_key.desc())
            .limit(limit - len(order_keys))
        )
        order_keys += tx.conn.execute(keys).scalars()
        if len(order_keys) >= limit or time.monotonic() > ends_at:
            break
    query = sa.select(tables.orders).where(among(o.order_key, order_keys)).order_by(o.order_key.desc())
    return opened_orders(tx, query)


IDS_AT_ONCE = 50_000
"""Order ids that one query searches."""


def order_ids_with(
    tx: Transaction, part: str, limit: int, seconds: float = MAX_SECONDS
) -> list[tuple[str, str]]:
    """Return account and id of orders whose id contains a text, found in this time.

    Reads the index of ids from its beginning, so that a few of very many matches are not the newest.
    """
    ends_at = time.monotonic() + seconds
    o = tables.orders.c
    found: list[tuple[str, str]] = []
    for account in distinct(tx, o.account):
        last = ""
        while True:
            ids = sa.select(o.order_id).where(o.account == account, o.order_id > last)
            ids = ids.order_by(o.order_id).limit(IDS_AT_ONCE)
            some = ids.subquery()
            match = sa.select(some.c.order_id).where(some.c.order_id.contains(part, autoescape=True))
            match = match.limit(limit - len(found))
            found += [(account, order_id) for order_id in tx.conn.execute(match).scalars()]
            if len(found) >= limit or time.monotonic() > ends_at:
                return found
            end = ids.with_only_columns(o.order_id).offset(IDS_AT_ONCE - 1).limit(1)
            end_of_part: str | None = tx.conn.execute(end).scalar_one_or_none()
            if end_of_part is None:
                break
            last = end_of_part
    return found


def orders_named(tx: Transaction, named: Sequence[tuple[str, str]]) -> list[OrderRecord]:
    """Return the orders with these accounts and ids, the newest first."""
    o = tables.orders.c
    ids = [order_id for _, order_id in named]
    query = sa.select(tables.orders).where(o.account.in_({account for account, _ in named}))
    query = query.where(among(o.order_id, ids)).order_by(o.created_at.desc(), o.order_key.desc())
    return opened_orders(tx, query) if named else []


KEYS_AT_ONCE = 20_000
"""Orders whose packages one query searches."""


def orders_tracked(tx: Transaction, number: str, limit: int) -> list[OrderRecord]:
    """Return orders with a package of this tracking number, the one that was stored last first."""
    ends_at = time.monotonic() + MAX_SECONDS
    o = tables.orders.c
    upper = tx.conn.execute(sa.select(sa.func.max(o.order_key))).scalar_one_or_none() or 0
    keys: list[int] = []
    while upper > 0:
        lower = max(0, upper - KEYS_AT_ONCE)
        query = sa.select(o.order_key).where(
            o.order_key > lower, o.order_key <= upper, o.packages.contains(f'"{number}"', autoescape=True)
        )
        query = query.order_by(o.order_key.desc()).limit(limit - len(keys))
        keys += tx.conn.execute(query).scalars()
        if len(keys) >= limit or time.monotonic() > ends_at:
            break
        upper = lower
    found = sa.select(tables.orders).where(among(o.order_key, keys)).order_by(o.order_key.desc())
    return opened_orders(tx, found) if keys else []


def customers_numbered(tx: Transaction, text: str) -> list[CustomerRecord]:
    """Return the customers with this number, or with this id of yours in any business."""
    c = tables.customers.c
    is_number = re.fullmatch("[1-9][0-9]{0,17}", text) is not None
    ids = [
        customer_id
        for business in _businesses(tx)
        for customer_id in tx.conn.execute(
            sa.select(c.customer_id).where(c.business == business, c.external_id == text)
        ).scalars()
    ]
    wanted = sorted({*ids, *([int(text)] if is_number else [])})
    rows = tx.conn.execute(sa.select(tables.customers).where(among(c.customer_id, wanted))).mappings().all()
    return list(customers.records_of(tx, rows).values())
