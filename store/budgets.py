"""The request budget: Amazon's token bucket, kept in the database that every process shares.

The arithmetic is in ``store/bucket.py``; here are the locked read and write around it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.bucket import Bucket, spend
from store.engine import Transaction
from store.tables import budgets


@dataclass(frozen=True, slots=True)
class BudgetKey:
    """Whose bucket: Amazon counts per application, selling partner (in a region) and operation."""

    application: str
    account: str
    operation: str


_FOUND = sa.select(budgets).where(
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
    """The bucket as of now, without taking; a full one of the given plan when there is none yet."""
    row = tx.conn.execute(_FOUND, _names(key)).one_or_none()
    return full(rate, burst, tx.now) if row is None else _bucket(row).at(tx.now)


def full(rate: float, burst: float, now: datetime) -> Bucket:
    """What a bucket is before the first request."""
    return Bucket(rate, burst, burst, now)


def all_of(tx: Transaction, operations: Collection[str]) -> dict[BudgetKey, Bucket]:
    """The buckets of some operations, of all accounts that have one, as of now."""
    query = sa.select(budgets).where(budgets.c.operation.in_(operations))
    return {
        BudgetKey(row.application, row.account, row.operation): _bucket(row).at(tx.now)
        for row in tx.rows(query)
    }


def _bucket(row: sa.Row[Any]) -> Bucket:
    return Bucket(row.rate, row.burst, row.tokens, row.counted_at)


def _locked(tx: Transaction, key: BudgetKey, rate: float, burst: float) -> Bucket:
    query = tx.lock(_FOUND)
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
    """Take a token under lock, leaving ``reserve``. Returns the bucket; when to come, if it had none."""
    bucket, ready = spend(_locked(tx, key, rate, burst), tx.now, reserve)
    if ready is None:
        left = {"left": bucket.tokens, "at": bucket.counted_at}
        tx.conn.execute(_TAKE, {f"its_{name}": value for name, value in _names(key).items()} | left)
    return bucket, ready


def set_rate(tx: Transaction, key: BudgetKey, rate: float, burst: float, observed: float) -> None:
    """Amazon named the rate: refill with the old one up to now, then count with the new one.

    Believed down to a hundredth of the plan: with less no request would ever be made that could correct it.
    """
    observed = max(observed, rate / 100)
    bucket = _locked(tx, key, rate, burst)
    if bucket.rate != observed:
        bucket = bucket.at(tx.now)
        values = {"rate": observed, "tokens": bucket.tokens, "counted_at": bucket.counted_at}
        tx.update(budgets, [values], **_names(key))


def drain(tx: Transaction, key: BudgetKey, rate: float, burst: float) -> datetime:
    """Amazon said 429: nothing is left. Returns when the next token is there."""
    bucket = replace(_locked(tx, key, rate, burst).at(tx.now), tokens=0.0)
    values = {"tokens": bucket.tokens, "counted_at": bucket.counted_at}
    tx.update(budgets, [values], **_names(key))
    return bucket.has_at(1.0)


def taken(tx: Transaction) -> dict[BudgetKey, int]:
    """Tokens taken since ever, per bucket."""
    return {BudgetKey(r.application, r.account, r.operation): r.taken for r in tx.rows(sa.select(budgets))}
