"""Accounts: the business whose customers their buyers are, and the seller whose orders they hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from store.engine import Transaction, lift_limit
from store.quarantine import place
from store.tables import (
    SEALED,
    businesses,
    customers,
    forgotten_orders,
    metadata,
    orders,
    quarantine,
    refusals,
    sellers,
)


def businesses_of(tx: Transaction) -> dict[str, str]:
    """Return the recorded business of every account that was ever configured."""
    return {row.account: row.business for row in tx.rows(sa.select(businesses))}


def business_of(tx: Transaction, account: str) -> str | None:
    """Return the recorded business of an account."""
    query = sa.select(businesses.c.business).where(businesses.c.account == account)
    return tx.conn.execute(query).scalar_one_or_none()


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


# --- sellers ----------------------------------------------------------------------------------------

LISTED_FOR = timedelta(days=600)
"""Orders that are younger than this are certainly among those that Amazon still shows its seller."""


def authorisation_of(tx: Transaction, account: str) -> str | None:
    """Return the fingerprint of the authorisation that an account's orders came with; None for a new one."""
    query = sa.select(sellers.c.authorisation).where(sellers.c.account == account)
    return tx.conn.execute(query).scalar_one_or_none()


def holder_of(tx: Transaction, authorisation: str) -> str | None:
    """Return the account whose orders came with this authorisation."""
    query = sa.select(sellers.c.account).where(sellers.c.authorisation == authorisation).limit(1)
    return tx.conn.execute(query).scalar_one_or_none()


def settle_authorisation(tx: Transaction, account: str, authorisation: str) -> None:
    """Record that an authorisation is that of an account's seller."""
    if not tx.update(sellers, [{"authorisation": authorisation}], account=account):
        tx.insert_missing(sellers, [{"account": account, "authorisation": authorisation}])


def newest_orders(tx: Transaction, account: str, limit: int) -> list[str]:
    """Return ids of an account's newest orders that Amazon still shows its seller."""
    c = orders.c
    query = sa.select(c.order_id).where(c.account == account, c.last_updated_at > tx.now - LISTED_FOR)
    return list(tx.conn.execute(query.order_by(c.last_updated_at.desc()).limit(limit)).scalars())


# --- another name -----------------------------------------------------------------------------------


class Carried(NamedTuple):
    """What was carried over to another name."""

    orders: int
    customers: int


def has_orders(tx: Transaction, account: str) -> bool:
    """Return True if orders or customers of an account are stored."""
    return any(
        tx.conn.execute(sa.select(sa.literal(1)).where(table.c.account == account).limit(1)).first()
        is not None
        for table in (orders, customers, quarantine)
    )


def rename(tx: Transaction, old: str, new: str) -> Carried:
    """Give all rows of an account another name; its orders and customers count as changed.

    The new name must have no orders: what little else it has goes.
    """
    lift_limit(tx.conn)
    _reseal_quarantine(tx, old, new)
    counts = {orders.name: 0, customers.name: 0}
    for table in metadata.sorted_tables:
        columns, values = table.c.keys(), dict[str, Any]()
        if "account" in columns:
            is_old, is_new = table.c.account == old, table.c.account == new
            values["account"] = new
        elif "source" in columns:
            is_old, is_new = (table.c.source.startswith(f"{name}:", autoescape=True) for name in (old, new))
        else:
            continue
        if "source" in columns:
            values["source"] = new + sa.func.substr(table.c.source, len(old) + 1)
        if table.name in counts:
            values |= {"change_no": tx.change_no, "changed_at": tx.now}
        elif {"account", "source"} & {*table.primary_key.columns.keys()} and table is not forgotten_orders:
            tx.conn.execute(sa.delete(table).where(is_new))
        carried = tx.conn.execute(sa.update(table).where(is_old).values(values)).rowcount
        if table.name in counts:
            counts[table.name] = carried
    _rename_special(tx, old, new)
    tx.conn.execute(sa.delete(refusals).where(refusals.c.name == old))
    return Carried(**counts)


def _reseal_quarantine(tx: Transaction, old: str, new: str) -> None:
    """Bind the payloads in quarantine to their place under the new name."""
    assert SEALED["quarantine"] == ("payload",)
    for row in tx.rows(sa.select(quarantine).where(quarantine.c.account == old)):
        opened = tx.sealer.try_open(row.payload, place(old, row.order_id))
        if opened is not None:
            payload = tx.sealer.seal(opened, place(new, row.order_id))
            tx.update(quarantine, [{"payload": payload}], account=old, order_id=row.order_id)


def _rename_special(tx: Transaction, old: str, new: str) -> None:
    """Rename the shared and placeholder records of the account's marketplaces."""
    c = customers.c
    query = sa.select(c.customer_id, c.special).where(c.special.contains(f":{old}:", autoescape=True))
    for row in tx.rows(query):
        kind, _, marketplace = row.special.split(":")
        tx.update(customers, [{"special": f"{kind}:{new}:{marketplace}"}], customer_id=row.customer_id)
