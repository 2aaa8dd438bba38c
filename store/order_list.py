"""The list of orders that people filter and sort, with a bound on the work of each page.

No filter and no order of rows has an index of its own: each would slow down the storing of every page. The
list reads orders from the newest to the oldest, a part at a time, until a page is full or the time is over;
then it says how far it has come. In any other order it sorts the newest orders that match.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import sqlalchemy as sa

from store import tables
from store.engine import Transaction
from store.queries import matched_by, opened_orders
from store.records import OrderRecord
from store.types import among

PART = 20_000
"""Orders that are read at once."""

MAX_SECONDS = 0.1
"""A page begins no further part after this time."""

MAX_SORTED = 5_000
"""Orders that a page sorts at most: the newest that match."""

Column = Literal["created", "customer", "basis", "status", "ship_by", "total", "marketplace"]
COLUMNS: tuple[Column, ...] = get_args(Column)

_o = tables.orders.c
_SORTED_BY: dict[Column, sa.ColumnElement[Any]] = {
    "created": _o.created_at,
    "customer": _o.customer_id,
    "basis": _o.match_basis,
    "status": _o.status,
    "ship_by": _o.ship_by,
    "total": _o.total,
    "marketplace": _o.marketplace,
}


class Position(NamedTuple):
    """Where a page ends: the time and key of its last order."""

    created_at: datetime
    order_key: int


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders are listed; None and False do not restrict.

    ``pending``: those that Amazon has not made ready; they are in no other list. ``created_to`` is excluded.
    """

    account: str | None = None
    status: str | None = None
    pending: bool = False
    marketplace: str | None = None
    fulfilled_by: str | None = None
    match_basis: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions, but for the times."""
        wanted = (
            (_o.account, self.account),
            (_o.status, self.status),
            (_o.marketplace, self.marketplace),
            (_o.fulfilled_by, self.fulfilled_by),
        )
        shown = _o.shown if not self.pending else sa.not_(_o.shown)
        matched = () if self.match_basis is None else (matched_by(self.match_basis),)
        return [shown, *matched, *(column == value for column, value in wanted if value is not None)]


@dataclass(frozen=True, slots=True)
class OrdersPage:
    """A page of the list.

    ``after``: where the next page begins; None at the end. ``searched_to``: the page ended there because
    the time was over, so that older orders may match. ``left_out``: sorting left out older orders.
    ``has_more``: there is a further page in the order of a column.
    """

    orders: Sequence[OrderRecord]
    after: Position | None = None
    searched_to: datetime | None = None
    left_out: bool = False
    has_more: bool = False


def newest(tx: Transaction, wanted: OrderFilter, limit: int, before: Position | None = None) -> OrdersPage:
    """Return the newest orders that match, from ``before`` on."""
    found, searched_to = _walk(tx, wanted, limit + 1, _o.created_at, before)
    page = _opened(tx, found[:limit])
    if len(found) > limit:
        return OrdersPage(page, after=found[limit - 1].position)
    if searched_to is None:
        return OrdersPage(page)
    return OrdersPage(page, after=searched_to, searched_to=searched_to.created_at)


def sorted_by(
    tx: Transaction, wanted: OrderFilter, column: Column, limit: int, offset: int, *, descending: bool
) -> OrdersPage:
    """Return orders that match in the order of a column; those without a value come last."""
    found, searched_to = _walk(tx, wanted, MAX_SORTED + 1, _SORTED_BY[column])
    left_out = searched_to is not None or len(found) > MAX_SORTED
    found = found[:MAX_SORTED]
    found = [  # sorting keeps the newest first among equals
        *sorted((each for each in found if each.value is not None), key=_value, reverse=descending),
        *(each for each in found if each.value is None),
    ]
    return OrdersPage(
        _opened(tx, found[offset : offset + limit]), left_out=left_out, has_more=len(found) > offset + limit
    )


class _Found(NamedTuple):
    position: Position
    value: Any


def _value(found: _Found) -> Any:
    return found.value


def _walk(
    tx: Transaction,
    wanted: OrderFilter,
    limit: int,
    value: sa.ColumnElement[Any],
    before: Position | None = None,
) -> tuple[list[_Found], Position | None]:
    """Return the newest orders that match, and where the search goes on if the time was over."""
    ends_at = time.monotonic() + MAX_SECONDS
    found: list[_Found] = []
    while True:
        floor = _floor(tx, wanted, before)
        query = sa.select(_o.created_at, _o.order_key, value.label("value"))
        query = query.where(*wanted.conditions(), *_between(wanted, before))
        if floor is not None:
            at, key = floor
            query = query.where(_o.created_at >= at, sa.or_(_o.created_at > at, _o.order_key > key))
        query = query.order_by(_o.created_at.desc(), _o.order_key.desc()).limit(limit - len(found))
        found += [_Found(Position(row.created_at, row.order_key), row.value) for row in tx.rows(query)]
        if floor is None or len(found) >= limit:
            return found, None
        before = Position(floor.created_at, floor.order_key + 1)  # the floor itself comes next
        if time.monotonic() > ends_at:
            return found, before


def _floor(tx: Transaction, wanted: OrderFilter, before: Position | None) -> Position | None:
    """Return the order after the next part; None if that is the last one. On SQLite reads an index alone."""
    query = sa.select(_o.created_at, _o.order_key).where(*_between(wanted, before))
    query = query.order_by(_o.created_at.desc(), _o.order_key.desc()).limit(1).offset(PART)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else Position(row.created_at, row.order_key)


def _between(wanted: OrderFilter, before: Position | None) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.created_from is not None:
        found.append(_o.created_at >= wanted.created_from)
    if wanted.created_to is not None:
        found.append(_o.created_at < wanted.created_to)
    if before is not None:
        at, key = before
        found += [_o.created_at <= at, sa.or_(_o.created_at < at, _o.order_key < key)]
    return found


def _opened(tx: Transaction, found: Sequence[_Found]) -> list[OrderRecord]:
    """Return these orders, in this order."""
    keys = [each.position.order_key for each in found]
    query = sa.select(tables.orders).where(among(_o.order_key, keys)).order_by(_o.order_key)
    places = {key: place for place, key in enumerate(keys)}
    opened = dict(zip(sorted(keys), opened_orders(tx, query), strict=True)) if keys else {}
    return [opened[key] for key in places]
