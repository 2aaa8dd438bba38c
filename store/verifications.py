"""Verifications in the database: their range, position and findings, and what they compare.

Every change compares a version: of two processes that continue the same one, one loses (``Superseded``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from store import codec
from store.engine import Transaction
from store.ledger import Superseded
from store.tables import orders, quarantine, verification_orders, verifications
from store.types import among
from store.verification_records import By, Finding, Held, Listed, Reason, Verification, unsettled

KEPT = timedelta(days=90)
"""How long a finished verification stays; unsettled ones and each marketplace's newest stay for ever."""

CONTINUED = timedelta(days=1)
"""How long a failed verification is continued; after that its range is compared again from the start."""

ABANDONED = timedelta(days=30)
"""An unfinished verification that is this old has lost its report at Amazon."""

_IDS_AT_ONCE = 500


def token_place(verification_id: int) -> str:
    """Return the place to which a verification's page token is bound."""
    return f"verifications:{verification_id}:page_token"


def _values(tx: Transaction, verification: Verification) -> dict[str, Any]:
    values = {f.name: getattr(verification, f.name) for f in fields(verification)}
    token = values.pop("page_token")
    sealed = (
        None if token is None else tx.sealer.seal(token.encode(), token_place(verification.verification_id))
    )
    return values | {
        "page_token": sealed,
        "findings": codec.dump(verification.findings),
    }


def _verification(tx: Transaction, row: sa.Row[Any]) -> Verification:
    values = dict(row._mapping)
    token = values.pop("page_token")
    if token is not None:
        values["page_token"] = tx.sealer.open(token, token_place(row.verification_id)).decode()
    values["findings"] = msgspec.json.decode(row.findings, type=tuple[Finding, ...])
    return Verification(**values)


def begin(tx: Transaction, verification: Verification) -> Verification:
    """Store a new verification. Return it with its number."""
    values = _values(tx, replace(verification, created_at=tx.now))
    del values["verification_id"]
    query = sa.insert(verifications).values(values).returning(verifications.c.verification_id)
    new_id: int = tx.conn.execute(query).scalar_one()
    return replace(verification, verification_id=new_id, created_at=tx.now)


def save(tx: Transaction, verification: Verification) -> Verification:
    """Store the progress of a verification. Raises Superseded if another process was first."""
    newer = replace(
        verification,
        version=verification.version + 1,
        finished_at=tx.now if verification.is_over else None,
    )
    c = verifications.c
    as_read = sa.and_(c.verification_id == verification.verification_id, c.version == verification.version)
    if tx.conn.execute(sa.update(verifications).where(as_read).values(_values(tx, newer))).rowcount != 1:
        raise Superseded
    return newer


def load(tx: Transaction, verification_id: int) -> Verification:
    """Return a verification, locked. Raises Superseded if it was deleted."""
    verification = find(tx, verification_id)
    if verification is None:
        raise Superseded
    return verification


_OF_ACCOUNT = (
    sa.select(verifications)
    .where(verifications.c.account == sa.bindparam("of_account"))
    .order_by(verifications.c.verification_id.desc())
)


def of_account(tx: Transaction, account: str) -> list[Verification]:
    """Return all verifications of an account, newest first."""
    return [_verification(tx, row) for row in tx.rows(_OF_ACCOUNT, {"of_account": account})]


def for_status(tx: Transaction, accounts: Iterable[str]) -> dict[tuple[str, str], list[Verification]]:
    """Return the verifications that ``status`` needs, by account and marketplace, newest first.

    These are the newest of each reason and state; of a marketplace where one is not done or has findings all,
    because a later one may have settled it (``verification_records.unsettled``).
    """
    c = verifications.c
    place = (c.account, c.marketplace_id)
    newest = sa.select(sa.func.max(c.verification_id)).group_by(*place, c.reason, c.state)
    is_problem = sa.or_(c.state != "done", c.findings != codec.dump(()), c.unreadable > 0)
    with_problems = sa.select(*place).where(is_problem)
    query = (
        sa.select(verifications)
        .where(
            among(c.account, list(accounts)),
            sa.or_(c.verification_id.in_(newest), sa.tuple_(*place).in_(with_problems)),
        )
        .order_by(c.verification_id.desc())
    )
    by_marketplace: dict[tuple[str, str], list[Verification]] = {}
    for row in tx.rows(query):
        by_marketplace.setdefault((row.account, row.marketplace_id), []).append(_verification(tx, row))
    return by_marketplace


def find(tx: Transaction, verification_id: int) -> Verification | None:
    """Return a verification, locked; None if there is none with this id."""
    query = sa.select(verifications).where(verifications.c.verification_id == verification_id)
    row = tx.conn.execute(tx.lock(query)).one_or_none()
    return None if row is None else _verification(tx, row)


def listed(tx: Transaction, *, limit: int, before: int | None) -> list[Verification]:
    """Return the newest verifications; ``before``: those with smaller numbers."""
    c = verifications.c
    query = sa.select(verifications).order_by(c.verification_id.desc()).limit(limit)
    if before is not None:
        query = query.where(c.verification_id < before)
    return [_verification(tx, row) for row in tx.rows(query)]


def unfinished(
    tx: Transaction,
    account: str,
    marketplace_id: str,
    by: By,
    lower: datetime,
    asked_upper: datetime,
    reason: Reason = "asked",
) -> Verification | None:
    """Return the newest verification of exactly this range if it can be continued, locked.

    It can if it has not ended, or failed less than ``CONTINUED`` ago.
    """
    c = verifications.c
    query = (
        sa.select(verifications)
        .where(
            c.account == account,
            c.marketplace_id == marketplace_id,
            c.by == by,
            c.reason == reason,
            c.lower == lower,
            c.asked_upper == asked_upper,
        )
        .order_by(c.verification_id.desc())
        .limit(1)
    )
    row = tx.conn.execute(tx.lock(query)).one_or_none()
    if row is None or row.state == "done":
        return None
    if row.finished_at is not None and row.finished_at < tx.now - CONTINUED:
        return None
    return _verification(tx, row)


def forget_old(tx: Transaction, account: str) -> None:
    """Delete verifications of an account that are long over or abandoned.

    The newest of a marketplace stays, and so do unsettled ones with all later ones, which may have settled a
    part.
    """
    c = verifications.c
    by_marketplace: dict[str, list[Verification]] = {}
    for verification in of_account(tx, account):
        by_marketplace.setdefault(verification.marketplace_id, []).append(verification)
    old = []
    for newest_first in by_marketplace.values():
        needed = {u.verification.verification_id for u in unsettled(newest_first)}
        oldest = min(needed | {newest_first[0].verification_id})
        for verification in newest_first:
            begun = verification.created_at or tx.now
            if verification.finished_at is not None:
                is_old = verification.finished_at < tx.now - KEPT and verification.verification_id < oldest
            else:
                is_old = begun < tx.now - ABANDONED and verification.verification_id not in needed
            if is_old:
                old.append(verification.verification_id)
    for start in range(0, len(old), _IDS_AT_ONCE):
        some = old[start : start + _IDS_AT_ONCE]
        tx.conn.execute(sa.delete(verification_orders).where(verification_orders.c.verification_id.in_(some)))
        tx.conn.execute(sa.delete(verifications).where(c.verification_id.in_(some)))


# --- the list of a search, while its pages are read ---------------------------------------------------


def walked(tx: Transaction, verification_id: int) -> list[Listed]:
    """Return the orders that the pages read so far have listed."""
    c = verification_orders.c
    query = sa.select(c.order_id, c.created_at, c.last_updated_at).where(c.verification_id == verification_id)
    return [Listed(row.order_id, row.created_at, row.last_updated_at) for row in tx.rows(query)]


def is_any_new(tx: Transaction, verification_id: int, page: Collection[str]) -> bool:
    """Return True if one of a page's orders was on no page before."""
    c = verification_orders.c
    query = sa.select(sa.func.count()).where(c.verification_id == verification_id, c.order_id.in_(page))
    return bool(tx.conn.execute(query).scalar_one() < len(page))


def add_walked(tx: Transaction, verification_id: int, page: Mapping[str, Listed]) -> None:
    """Store the orders of a page, by id; of an order that was on an earlier page the newer entry."""
    c = verification_orders.c
    tx.conn.execute(
        sa.delete(verification_orders).where(
            c.verification_id == verification_id, c.order_id.in_(page.keys())
        )
    )
    rows = [{"verification_id": verification_id, **asdict(order)} for order in page.values()]
    tx.insert(verification_orders, rows)


def clear_walked(tx: Transaction, verification_id: int) -> None:
    """Delete the list: its range is compared, or read again from the beginning."""
    c = verification_orders.c
    tx.conn.execute(sa.delete(verification_orders).where(c.verification_id == verification_id))


# --- what is compared -------------------------------------------------------------------------------

_HELD = (
    orders.c.order_id,
    orders.c.marketplace_id,
    orders.c.created_at,
    orders.c.last_updated_at,
    orders.c.refetched_at,
)


def held(
    tx: Transaction,
    account: str,
    marketplace_ids: Collection[str],
    lower: datetime,
    upper: datetime,
    listed: Collection[str],
) -> dict[str, Held]:
    """Return the stored orders of marketplaces created in ``lower <= t < upper``, and all listed ones."""
    c = orders.c
    query = sa.select(*_HELD).where(
        c.account == account,
        c.marketplace_id.in_(sorted(marketplace_ids)),
        c.created_at >= lower,
        c.created_at < upper,
    )
    stored = {row.order_id: Held(**row._mapping) for row in tx.rows(query)}
    for some in _in_parts(sorted(set(listed) - stored.keys())):
        query = sa.select(*_HELD).where(c.account == account, c.order_id.in_(some))
        stored |= {row.order_id: Held(**row._mapping) for row in tx.rows(query)}
    return stored


def in_quarantine(tx: Transaction, account: str) -> frozenset[str]:
    """Return the ids of an account's orders in quarantine."""
    query = sa.select(quarantine.c.order_id).where(quarantine.c.account == account)
    return frozenset(tx.conn.execute(query).scalars())


def _in_parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IDS_AT_ONCE):
        yield values[start : start + _IDS_AT_ONCE]
