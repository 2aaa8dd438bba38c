"""The business of each account: whose customers its buyers are. Frozen once the account has customers."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import businesses, customers


def businesses_of(tx: Transaction) -> dict[str, str]:
    """Return the recorded business of every account that was ever configured."""
    return {row.account: row.business for row in tx.rows(sa.select(businesses))}


def settle_businesses(tx: Transaction, configured: Mapping[str, str]) -> dict[str, str]:
    """Record the businesses of accounts (thousands at a first start). Return those in force."""
    recorded = businesses_of(tx)
    fresh = [{"account": a, "business": b} for a, b in sorted(configured.items()) if a not in recorded]
    if fresh:
        tx.insert_missing(businesses, fresh)  # processes that start together insert the same
        recorded = businesses_of(tx)
    return {account: _settled(tx, account, configured[account], recorded[account]) for account in configured}


def _settled(tx: Transaction, account: str, business: str, recorded: str) -> str:
    """Return the business in force: the recorded one if customers exist.

    Moving customers would match people across businesses.
    """
    if recorded == business:
        return business
    of_account = businesses.c.account == account
    tx.lock_all(sa.select(businesses.c.business).where(of_account))
    has_customers = sa.select(sa.literal(1)).where(customers.c.account == account).limit(1)
    if tx.conn.execute(has_customers).first() is not None:
        return recorded
    tx.conn.execute(sa.update(businesses).where(of_account).values(business=business))
    return business
