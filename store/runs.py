"""Runs, each one attempt at a source; and the credentials that Login with Amazon refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple, cast

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import refusals, run_days, runs
from store.token_bucket import CLOCK_WAS_SET

RunOutcome = Literal["complete", "deferred", "failed", "superseded"]

KEPT = timedelta(days=30)
"""Older runs are kept as daily totals only."""

QUIET_KEPT = timedelta(days=2)
"""The same for successful runs without orders, which nearly all are where there are thousands of sources."""

BUYERS = ("identifiable", "with_email", "with_name")


class RunTotals(NamedTuple):
    """What the runs of a source add up to."""

    runs: int
    failed: int
    pages: int
    orders: int
    requests: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a source. ``outcome`` is null while it runs, or if its process died."""

    run: int
    source: str
    started_at: datetime
    finished_at: datetime | None
    outcome: RunOutcome | None
    pages: int
    orders: int
    requests: int
    message: str | None
    identifiable: int
    """Orders read live that may show their buyer; the next two count those that did."""
    with_email: int
    with_name: int
    retries: int
    """Requests that were retries."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``kind``: what is refused. ``fingerprint`` is that of the refused credentials.

    Login with Amazon refuses an ``account`` or an ``application``; this program an account with the
    credentials of another ``seller``, or of the account from which it was ``renamed``.
    """

    kind: str
    name: str
    fingerprint: str
    reason: str
    since: datetime


_START = sa.insert(runs).returning(runs.c.run)


def start(tx: Transaction, source: str) -> int:
    """Begin a run. Return its number."""
    values = {"source": source, "started_at": tx.now, "pages": 0, "orders": 0, "requests": 0}
    number: int = tx.conn.execute(_START, values).scalar_one()
    return number


_ADD_PAGE = (
    sa.update(runs)
    .where(runs.c.run == sa.bindparam("which"))
    .values(
        pages=runs.c.pages + 1,
        **{
            name: runs.c[name] + sa.bindparam(f"more_{name}", type_=sa.Integer)
            for name in ("orders", *BUYERS)
        },
    )
)


def add_page(
    tx: Transaction, source: str, run: int, orders: int, buyers: tuple[int, int, int] = (0, 0, 0)
) -> None:
    """Count one more stored page, in its run and in its day (UTC).

    ``buyers``: of how many orders the buyer may be shown, and how many came with an e-mail and a name. The
    day is counted in the page's transaction, so a run that is repeated counts nothing twice.
    """
    counts = dict(zip(BUYERS, buyers, strict=True))
    more = {f"more_{name}": number for name, number in ({"orders": orders} | counts).items()}
    tx.conn.execute(_ADD_PAGE, {"which": run, **more})
    if any(buyers):
        add_to_day(tx, source, tx.now.date(), counts)


def buyers_by_day(
    tx: Transaction, sources: Collection[str], first: date, last: date
) -> dict[str, dict[date, tuple[int, int, int]]]:
    """Return per source and day (UTC): orders that may show their buyer, with an e-mail, with a name.

    Omits days without any such order.
    """
    keys, d = tx.these(sources), run_days.c
    query = (
        sa.select(d.source, d.day, *(d[name] for name in BUYERS))
        .join_from(keys, run_days, d.source == keys.c.value)
        .where(d.day.between(first, last), d.identifiable > 0)
    )
    counts: dict[str, dict[date, tuple[int, int, int]]] = {}
    for row in tx.rows(query):
        counts.setdefault(row.source, {})[row.day] = (row.identifiable, row.with_email, row.with_name)
    return counts


def add_to_day(tx: Transaction, source: str, day: date, more: Mapping[str, int]) -> None:
    """Add to the totals of a source's day."""
    d = run_days.c
    values = {name: d[name] + number for name, number in more.items()}
    changed = tx.conn.execute(sa.update(run_days).where(d.source == source, d.day == day).values(values))
    if changed.rowcount == 0:
        zeros = dict.fromkeys((*RunTotals._fields, *BUYERS), 0)
        tx.conn.execute(sa.insert(run_days).values(source=source, day=day, **{**zeros, **more}))


def add_order(tx: Transaction, run: int) -> None:
    """Count one more stored order that this run fetched by its id."""
    tx.conn.execute(sa.update(runs).where(runs.c.run == run).values(orders=runs.c.orders + 1))


def finish(
    tx: Transaction, run: int, outcome: RunOutcome, requests: int, message: str | None, retries: int = 0
) -> None:
    """End a run; ``retries``: how many of its requests were retries."""
    values = {
        "finished_at": tx.now,
        "outcome": outcome,
        "requests": requests,
        "message": message,
        "retries": retries,
    }
    tx.update(runs, [values], run=run)


def latest(tx: Transaction, source: str) -> Run | None:
    """Return the newest run of a source; None before its first."""
    return latest_of_each(tx, [source]).get(source)


def latest_of_each(tx: Transaction, sources: Iterable[str]) -> dict[str, Run]:
    """Return the newest run of each source that has any, by one look into the index for each.

    Runs in the future, begun by a clock that was wrong, count as the oldest.
    """
    keys = set(sources)
    newest = _latest(tx, keys, tx.now + CLOCK_WAS_SET)
    others = keys - newest.keys()
    return newest | (_latest(tx, others, _END_OF_TIME) if others else {})


_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def _latest(tx: Transaction, sources: Collection[str], until: datetime) -> dict[str, Run]:
    keys, its = tx.these(sources), runs.alias()
    newest = (
        sa.select(its.c.run)
        .where(its.c.source == keys.c.value, its.c.started_at <= until)
        .order_by(its.c.started_at.desc(), its.c.run.desc())
        .limit(1)
    )
    query = sa.select(runs).join_from(keys, runs, runs.c.run == newest.scalar_subquery())
    return {row.source: Run(**row._asdict()) for row in tx.rows(query)}


def listed(tx: Transaction, *, limit: int, source: str | None = None, before: int | None = None) -> list[Run]:
    """Return the newest runs of one source or of all; ``before``: those with smaller numbers."""
    c = runs.c
    query = sa.select(runs).order_by(c.run.desc()).limit(limit)
    if source is not None:
        query = query.where(c.source == source)
    if before is not None:
        query = query.where(c.run < before)
    return [Run(**row._mapping) for row in tx.rows(query)]


def since(tx: Transaction, source: str, time: datetime) -> list[Run]:
    """Return the runs of a source that began at a time or later, oldest first."""
    c = runs.c
    query = sa.select(runs).where(c.source == source, c.started_at >= time).order_by(c.started_at, c.run)
    return [Run(**row._mapping) for row in tx.rows(query)]


def condense(tx: Transaction, source: str) -> None:
    """Turn old runs of a source into daily totals."""
    days: dict[date, Counter[str]] = {}
    c = runs.c
    quiet = sa.and_(c.outcome == "complete", c.orders == 0, c.started_at < tx.now - QUIET_KEPT)
    old = sa.and_(c.source == source, sa.or_(c.started_at < tx.now - KEPT, quiet))
    # Deleted as they are read, so that no other process counts the same runs.
    for row in tx.rows(sa.delete(runs).where(old).returning(runs)):
        counted = (1, int(row.outcome == "failed"), row.pages, row.orders, row.requests)
        total = days.setdefault(row.started_at.date(), Counter())
        total.update(RunTotals(*counted)._asdict())
    for day, total in days.items():
        add_to_day(tx, source, day, total)


def totals_by_source(tx: Transaction) -> dict[str, RunTotals]:
    """Sum up the runs of each source: condensed ones and those that still stand alone."""
    c, d = runs.c, run_days.c
    failed = sa.case((c.outcome == "failed", 1), else_=0)
    totals: dict[str, RunTotals] = {}
    for source, counted in (
        (d.source, (d.runs, d.failed, d.pages, d.orders, d.requests)),
        (c.source, (sa.literal(1), failed, c.pages, c.orders, c.requests)),
    ):
        sums: sa.Select[Any] = sa.select(source, *map(sa.func.sum, counted)).group_by(source)
        for row in tx.rows(sums):
            key, *numbers = cast(Sequence[Any], row)
            before = totals.get(key, RunTotals(0, 0, 0, 0, 0))
            totals[key] = RunTotals(*(a + int(b) for a, b in zip(before, numbers, strict=True)))
    return totals


def refuse(tx: Transaction, kind: str, name: str, fingerprint: str, reason: str) -> None:
    """Store that these credentials were refused, unless it is stored already."""
    which = sa.and_(refusals.c.kind == kind, refusals.c.name == name)
    stored = tx.conn.execute(sa.select(refusals.c.fingerprint).where(which)).scalar_one_or_none()
    if stored == fingerprint:
        return
    tx.conn.execute(sa.delete(refusals).where(which))
    tx.conn.execute(
        sa.insert(refusals).values(kind=kind, name=name, fingerprint=fingerprint, reason=reason, since=tx.now)
    )


OF_ACCOUNT = ("account", "seller", "renamed")

_IN_FORCE = sa.select(refusals).where(
    sa.or_(
        sa.and_(refusals.c.kind == "application", refusals.c.name == sa.bindparam("application")),
        sa.and_(refusals.c.kind != "application", refusals.c.name == sa.bindparam("account")),
    )
)


def in_force(tx: Transaction, account: str, secret: str) -> dict[str, Refusal]:
    """Return the refusals of an account and of its application by kind, of any credentials."""
    rows = tx.rows(_IN_FORCE, {"account": account, "application": secret})
    return {row.kind: Refusal(**row._mapping) for row in rows}


def all_in_force(tx: Transaction) -> dict[tuple[str, str], Refusal]:
    """Return the refusals of all accounts and applications by kind and name, of any credentials."""
    return {(row.kind, row.name): Refusal(**row._mapping) for row in tx.rows(sa.select(refusals))}


def standing_refusal(tx: Transaction, account: str, credential: str, secret: str) -> Refusal | None:
    """Return the refusal of exactly these credentials; None if others were refused."""
    return standing(in_force(tx, account, secret), credential)


def admit(tx: Transaction, account: str, credential: str, secret: str) -> Refusal | None:
    """Return the refusal of exactly these credentials. Without one, delete that of replaced credentials."""
    refusals_in_force = in_force(tx, account, secret)
    refused = standing(refusals_in_force, credential)
    if refused is None and refusals_in_force:
        forgive(tx, account)
    return refused


def standing(refusals_by_kind: Mapping[str, Refusal], credential: str) -> Refusal | None:
    """Return which of an account's refusals concerns exactly these credentials; None if none does."""
    if "application" in refusals_by_kind:
        return refusals_by_kind["application"]
    of_account = (refusals_by_kind[kind] for kind in OF_ACCOUNT if kind in refusals_by_kind)
    return next((each for each in of_account if each.fingerprint == credential), None)


def forgive(tx: Transaction, account: str) -> None:
    """Delete an account's refusals, because its credentials work or have changed."""
    c = refusals.c
    tx.conn.execute(sa.delete(refusals).where(c.kind.in_(OF_ACCOUNT), c.name == account))
