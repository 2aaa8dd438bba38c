"""What was sold: orders and their totals by day, marketplace and currency."""

from __future__ import annotations

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
