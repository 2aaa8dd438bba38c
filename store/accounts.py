"""Whose customers an account's buyers are: chosen once, frozen as soon as there are customers."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import businesses, customers


def businesses_of(tx: Transaction) -> dict[str, str]:
    """The recorded business of every account that was ever wired."""
    return {row.account: row.business for row in tx.rows(sa.select(businesses))}


def settle_businesses(tx: Transaction, wanted: Mapping[str, str]) -> dict[str, str]:
    """Record the businesses of accounts, and return those in force: thousands at once at a first start."""
    recorded = businesses_of(tx)
    fresh = [{"account": a, "business": b} for a, b in sorted(wanted.items()) if a not in recorded]
    if fresh:
        tx.insert_missing(businesses, fresh)  # processes that start together insert the same
        recorded = businesses_of(tx)
    return {account: _settled(tx, account, wanted[account], recorded[account]) for account in wanted}


def _settled(tx: Transaction, account: str, business: str, recorded: str) -> str:
    """The business in force: the recorded one once customers exist.

    Moving them would match people across businesses.
    """
    if recorded == business:
        return business
    mine = businesses.c.account == account
    tx.lock_all(sa.select(businesses.c.business).where(mine))
    has_customers = sa.select(sa.literal(1)).where(customers.c.account == account).limit(1)
    if tx.conn.execute(has_customers).first() is not None:
        return recorded
    tx.conn.execute(sa.update(businesses).where(mine).values(business=business))
    return business
