"""What was sold: orders and their totals by day, marketplace and currency, and those of a customer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import orders

A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sales:
    """Orders placed on one day (UTC) in one marketplace, and the sum of the totals that are known."""

    day: date
    marketplace: str | None
    currency: str | None
    orders: int
    total: Decimal


def by_day(tx: Transaction, last: date, days: int) -> list[Sales]:
    """Return the sales of some days, the last one included; cancelled orders are left out.

    Takes time by the number of orders of these days. SQLite adds up floats, which are exact to 15 digits.
    """
    c = orders.c
    amount = sa.func.coalesce(sa.func.sum(sa.cast(c.total, sa.Numeric)), 0)
    sold = sa.select(c.marketplace, c.currency, sa.func.count().label("orders"), amount.label("total"))
    sold = sold.where(c.shown, sa.func.coalesce(c.status, "") != "CANCELLED")
    sold = sold.group_by(c.marketplace, c.currency).order_by(c.marketplace, c.currency)
    found = []
    for back in range(days - 1, -1, -1):
        day = last - back * A_DAY
        lower = datetime.combine(day, time(), UTC)
        for row in tx.rows(sold.where(c.created_at >= lower, c.created_at < lower + A_DAY)):
            total = Decimal(str(row.total)).quantize(Decimal("0.01"))
            found.append(Sales(day, row.marketplace, row.currency, row.orders, total))
    return found


# --- one customer -----------------------------------------------------------------------------------

MOST_ADDED_UP = 1_000
"""Orders of a customer that are added up: some customers stand for every order without a buyer."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An order by its ids and time."""

    account: str
    order_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Purchases:
    """The orders of a customer. ``orders`` and ``totals`` are those of the newest, if there are ``more``.

    ``totals``: by currency, of the totals that are known, without cancelled orders.
    """

    orders: int
    more: bool
    totals: Mapping[str, Decimal]
    first: Placed | None
    last: Placed | None


def of_customer(tx: Transaction, customer_id: int, most: int = MOST_ADDED_UP) -> Purchases:
    """Return what a customer has bought, without pending orders."""
    c = orders.c
    its = sa.and_(c.customer_id == customer_id, c.shown)
    newest_first = (c.created_at.desc(), c.order_key.desc())
    amounts = sa.select(c.status, c.total, c.currency).where(its).order_by(*newest_first).limit(most + 1)
    newest = tx.rows(amounts)
    totals: dict[str, Decimal] = {}
    for row in newest[:most]:
        if row.total is not None and row.currency and row.status != "CANCELLED":
            totals[row.currency] = totals.get(row.currency, Decimal(0)) + row.total
    named = sa.select(c.account, c.order_id, c.created_at).where(its).limit(1)
    first, last = (
        next((Placed(**row._mapping) for row in tx.rows(named.order_by(*order))), None)
        for order in ((c.created_at, c.order_key), newest_first)
    )
    return Purchases(min(len(newest), most), len(newest) > most, dict(sorted(totals.items())), first, last)
