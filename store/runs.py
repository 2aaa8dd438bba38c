"""Runs: one attempt at a source each; and what Login with Amazon has refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple, cast

import sqlalchemy as sa

from store.bucket import CLOCK_WAS_SET
from store.engine import Transaction
from store.tables import refusals, run_days, runs

RunOutcome = Literal["complete", "deferred", "failed", "superseded"]
KEPT = timedelta(days=30)
"""Runs older than this are kept as daily totals only."""

QUIET_KEPT = timedelta(days=2)
"""The same for those that went well and brought nothing: of thousands of sources they are nearly all."""


TOTALS = ("runs", "failed", "pages", "orders", "requests")
BUYERS = ("identifiable", "with_email", "with_name")


@dataclass(frozen=True, slots=True)
class Run:
    """One run as stored; without ``outcome`` while it is going on, or when its process died."""

    run: int
    source: str
    started_at: datetime
    finished_at: datetime | None
    outcome: RunOutcome | None
    pages: int
    orders: int
    requests: int
    message: str | None
    identifiable: int = 0
    """Orders that live reading brought and that may show their buyer; then those that did."""
    with_email: int = 0
    with_name: int = 0
    retries: int = 0
    """Requests that had to be made again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``kind`` is ``account`` or ``application``; ``fingerprint`` of the credentials that were refused."""

    kind: str
    name: str
    fingerprint: str
    reason: str
    since: datetime


_START = sa.insert(runs).returning(runs.c.run)


def start(tx: Transaction, source: str) -> int:
    """Begin a run. Returns its number."""
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
    wanted, d = tx.these(sources), run_days.c
    query = (
        sa.select(d.source, d.day, *(d[name] for name in BUYERS))
        .join_from(wanted, run_days, d.source == wanted.c.value)
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
        zeros = dict.fromkeys((*TOTALS, *BUYERS), 0)
        tx.conn.execute(sa.insert(run_days).values(source=source, day=day, **{**zeros, **more}))


def add_order(tx: Transaction, run: int) -> None:
    """One more order that this run fetched by its id is stored."""
    tx.conn.execute(sa.update(runs).where(runs.c.run == run).values(orders=runs.c.orders + 1))


def finish(
    tx: Transaction, run: int, outcome: RunOutcome, requests: int, message: str | None, retries: int = 0
) -> None:
    """End a run; ``retries``: how many of its requests were made again."""
    values = {
        "finished_at": tx.now,
        "outcome": outcome,
        "requests": requests,
        "message": message,
        "retries": retries,
    }
    tx.update(runs, [values], run=run)


def latest(tx: Transaction, source: str) -> Run | None:
    """The newest run of a source."""
    return latest_of_each(tx, [source]).get(source)


def latest_of_each(tx: Transaction, sources: Iterable[str]) -> dict[str, Run]:
    """The newest run of each of some sources that has any: one look into the index for each.

    Runs from times that are still to come, of a clock that was wrong then, count as the oldest.
    """
    wanted = set(sources)
    found = _latest(tx, wanted, tx.now + CLOCK_WAS_SET)
    rest = wanted - found.keys()
    return found | (_latest(tx, rest, _EVER) if rest else {})


_EVER = datetime.max.replace(tzinfo=UTC)


def _latest(tx: Transaction, sources: Collection[str], until: datetime) -> dict[str, Run]:
    wanted, its = tx.these(sources), runs.alias()
    newest = (
        sa.select(its.c.run)
        .where(its.c.source == wanted.c.value, its.c.started_at <= until)
        .order_by(its.c.started_at.desc(), its.c.run.desc())
        .limit(1)
    )
    query = sa.select(runs).join_from(wanted, runs, runs.c.run == newest.scalar_subquery())
    return {row.source: Run(**row._asdict()) for row in tx.rows(query)}


def listed(tx: Transaction, *, limit: int, source: str | None = None, before: int | None = None) -> list[Run]:
    """The newest runs, of one source or of all; ``before``: those with smaller numbers."""
    c = runs.c
    query = sa.select(runs).order_by(c.run.desc()).limit(limit)
    if source is not None:
        query = query.where(c.source == source)
    if before is not None:
        query = query.where(c.run < before)
    return [Run(**row._mapping) for row in tx.rows(query)]


def since(tx: Transaction, source: str, moment: datetime) -> list[Run]:
    """The runs of a source that began at a moment or later, oldest first."""
    c = runs.c
    query = sa.select(runs).where(c.source == source, c.started_at >= moment).order_by(c.started_at, c.run)
    return [Run(**row._mapping) for row in tx.rows(query)]


def condense(tx: Transaction, source: str) -> None:
    """Turn a source's old runs into daily totals."""
    days: dict[date, Counter[str]] = {}
    c = runs.c
    quiet = sa.and_(c.outcome == "complete", c.orders == 0, c.started_at < tx.now - QUIET_KEPT)
    old = sa.and_(c.source == source, sa.or_(c.started_at < tx.now - KEPT, quiet))
    # Deleted as they are read, so that no other process counts the same ones.
    for row in tx.rows(sa.delete(runs).where(old).returning(runs)):
        counted = (1, int(row.outcome == "failed"), row.pages, row.orders, row.requests)
        total = days.setdefault(row.started_at.date(), Counter())
        total.update(dict(zip(TOTALS, counted, strict=True)))
    for day, total in days.items():
        add_to_day(tx, source, day, total)


class RunTotals(NamedTuple):
    """What the runs of a source add up to."""

    runs: int
    failed: int
    pages: int
    orders: int
    requests: int


def totals_by_source(tx: Transaction) -> dict[str, RunTotals]:
    """Sum up the runs of each source: those that were condensed to days, and those since."""
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
    """Remember that these credentials were refused."""
    mine = sa.and_(refusals.c.kind == kind, refusals.c.name == name)
    known = tx.conn.execute(sa.select(refusals.c.fingerprint).where(mine)).scalar_one_or_none()
    if known == fingerprint:
        return
    tx.conn.execute(sa.delete(refusals).where(mine))
    tx.conn.execute(
        sa.insert(refusals).values(kind=kind, name=name, fingerprint=fingerprint, reason=reason, since=tx.now)
    )


_IN_FORCE = sa.select(refusals).where(
    sa.or_(
        *(
            sa.and_(refusals.c.kind == kind, refusals.c.name == sa.bindparam(kind))
            for kind in ("account", "application")
        )
    )
)


def in_force(tx: Transaction, account: str, secret: str) -> dict[str, Refusal]:
    """The refusals of an account and of its application, by kind, about whatever credentials."""
    found = tx.rows(_IN_FORCE, {"account": account, "application": secret})
    return {row.kind: Refusal(**row._mapping) for row in found}


def all_in_force(tx: Transaction) -> dict[tuple[str, str], Refusal]:
    """The refusals of all accounts and applications, by kind and name, about whatever credentials."""
    return {(row.kind, row.name): Refusal(**row._mapping) for row in tx.rows(sa.select(refusals))}


def standing_refusal(tx: Transaction, account: str, credential: str, secret: str) -> Refusal | None:
    """The refusal of these very credentials; one about credentials that were replaced since is over."""
    return standing(in_force(tx, account, secret), credential)


def admit(tx: Transaction, account: str, credential: str, secret: str) -> Refusal | None:
    """The refusal of these very credentials. Without one they may be tried: what is over is forgiven."""
    found = in_force(tx, account, secret)
    refused = standing(found, credential)
    if refused is None and "account" in found:
        forgive(tx, "account", account)
    return refused


def standing(found: Mapping[str, Refusal], credential: str) -> Refusal | None:
    """Which of an account's refusals, by kind, is about these very credentials."""
    if "application" in found:
        return found["application"]
    of_account = found.get("account")
    return of_account if of_account is not None and of_account.fingerprint == credential else None


def forgive(tx: Transaction, kind: str, name: str) -> None:
    """The credentials work, or have changed."""
    tx.conn.execute(sa.delete(refusals).where(refusals.c.kind == kind, refusals.c.name == name))
