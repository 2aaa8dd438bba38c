"""Request budgets: Amazon's token buckets, kept in the database that all processes share.

The arithmetic is in ``store/token_bucket.py``; this file reads and writes buckets under lock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import budgets
from store.token_bucket import Bucket, spend


@dataclass(frozen=True, slots=True)
class BudgetKey:
    """What Amazon counts by: application, selling partner (in a region) and operation."""

    application: str
    account: str
    operation: str


_BY_KEY = sa.select(budgets).where(
    *(budgets.c[name] == sa.bindparam(name) for name in ("application", "account", "operation"))
)

_TAKE = (
    sa.update(budgets)
    .where(
        *(budgets.c[name] == sa.bindparam(f"its_{name}") for name in ("application", "account", "operation"))
    )
    .values(tokens=sa.bindparam("left"), counted_at=sa.bindparam("at"), taken=budgets.c.taken + 1)
)


def _names(key: BudgetKey) -> dict[str, str]:
    return {"application": key.application, "account": key.account, "operation": key.operation}


def read(tx: Transaction, key: BudgetKey, rate: float, burst: float) -> Bucket:
    """Return the bucket as of now without taking a token; if none is stored, a full one of this plan."""
    row = tx.conn.execute(_BY_KEY, _names(key)).one_or_none()
    return full(rate, burst, tx.now) if row is None else _bucket(row).at(tx.now)


def full(rate: float, burst: float, now: datetime) -> Bucket:
    """Return the bucket before the first request."""
    return Bucket(rate, burst, burst, now)


def all_of(tx: Transaction, operations: Collection[str]) -> dict[BudgetKey, Bucket]:
    """Return all stored buckets of some operations as of now."""
    query = sa.select(budgets).where(budgets.c.operation.in_(operations))
    return {
        BudgetKey(row.application, row.account, row.operation): _bucket(row).at(tx.now)
        for row in tx.rows(query)
    }


def _bucket(row: sa.Row[Any]) -> Bucket:
    return Bucket(row.rate, row.burst, row.tokens, row.counted_at)


def _locked(tx: Transaction, key: BudgetKey, rate: float, burst: float) -> Bucket:
    query = tx.lock(_BY_KEY)
    row = tx.conn.execute(query, _names(key)).one_or_none()
    if row is None:
        fresh = {
            **_names(key),
            "rate": rate,
            "burst": burst,
            "tokens": burst,
            "counted_at": tx.now,
            "taken": 0,
        }
        tx.insert_missing(budgets, [fresh])
        row = tx.conn.execute(query, _names(key)).one()
    return _bucket(row)


def take(
    tx: Transaction, key: BudgetKey, rate: float, burst: float, reserve: float = 0.0
) -> tuple[Bucket, datetime | None]:
    """Take a token under lock if ``reserve`` is left. Return the bucket; when to retry, if it has too few."""
    bucket, ready = spend(_locked(tx, key, rate, burst), tx.now, reserve)
    if ready is None:
        values = {"left": bucket.tokens, "at": bucket.counted_at}
        tx.conn.execute(_TAKE, {f"its_{name}": value for name, value in _names(key).items()} | values)
    return bucket, ready


def set_rate(tx: Transaction, key: BudgetKey, rate: float, burst: float, observed: float) -> None:
    """Store the rate that Amazon named: refill at the old one up to now, count at the new one from now on.

    A rate below a hundredth of the plan is raised to that: with less, no request would follow to correct it.
    """
    observed = max(observed, rate / 100)
    bucket = _locked(tx, key, rate, burst)
    if bucket.rate != observed:
        bucket = bucket.at(tx.now)
        values = {"rate": observed, "tokens": bucket.tokens, "counted_at": bucket.counted_at}
        tx.update(budgets, [values], **_names(key))


def drain(tx: Transaction, key: BudgetKey, rate: float, burst: float) -> datetime:
    """Empty the bucket after a 429. Return when it holds the next token."""
    bucket = replace(_locked(tx, key, rate, burst).at(tx.now), tokens=0.0)
    values = {"tokens": bucket.tokens, "counted_at": bucket.counted_at}
    tx.update(budgets, [values], **_names(key))
    return bucket.has_at(1.0)


def taken(tx: Transaction) -> dict[BudgetKey, int]:
    """Return the number of tokens ever taken from each bucket."""
    return {BudgetKey(r.application, r.account, r.operation): r.taken for r in tx.rows(sa.select(budgets))}
