"""Whose customers an account's buyers are: chosen once, frozen as soon as there are customers."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from store.engine import Transaction
from store.tables import businesses, customers


def settle_business(tx: Transaction, account: str, business: str) -> str:
    """Record the business of an account and return the one in force.

    That is the recorded one once customers exist: moving them would match people across businesses.
    """
    mine = businesses.c.account == account
    recorded = tx.conn.execute(tx.lock(sa.select(businesses.c.business).where(mine))).scalar_one_or_none()
    if recorded is None:
        fresh = {"account": account, "business": business}
        if not tx.on_postgresql:
            tx.conn.execute(sa.insert(businesses).values(fresh))
            return business
        # Processes that start together for the first time all come here.
        tx.conn.execute(postgresql.insert(businesses).values(fresh).on_conflict_do_nothing())
        recorded = tx.conn.execute(sa.select(businesses.c.business).where(mine)).scalar_one()
    if recorded == business:
        return business
    has_customers = sa.select(sa.literal(1)).where(customers.c.account == account).limit(1)
    if tx.conn.execute(has_customers).first() is not None:
        return str(recorded)
    tx.conn.execute(sa.update(businesses).where(mine).values(business=business))
    return business


def known_businesses(tx: Transaction) -> dict[str, str]:
    """The business of every account that was ever wired."""
    query = sa.select(businesses.c.account, businesses.c.business)
    return {row.account: row.business for row in tx.rows(query)}
