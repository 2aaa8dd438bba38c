"""The ledger in the database: windows, coverage, and the progress of sources and marketplaces.

Every change to a window compares its version: a process that read an older one loses (``Superseded``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from store import codec, tables
from store.engine import Transaction
from store.progress import (
    CLAIM,
    LONGEST_CLAIM,
    Backfill,
    BackfillState,
    Failure,
    Interval,
    Look,
    MarketplaceProgress,
    SourceProgress,
    Way,
    Window,
    is_ahead,
    joined,
)
from store.tables import UNFINISHED, windows
from store.types import among

KEPT = timedelta(days=3)
"""How long a finished window stays for people who look into a problem."""


class Superseded(Exception):
    """Another worker holds or advanced this window: drop what was fetched for it."""


def token_place(window_id: int) -> str:
    """Return the place to which a window's page token is bound."""
    return f"windows:{window_id}:page_token"


_WINDOW_FIELDS = tuple(f.name for f in fields(Window))
_WORDS = ("marketplace_ids", "included_data", "fulfilled_by", "statuses")


def _window(tx: Transaction, row: sa.Row[Any]) -> Window:
    columns = row._asdict()
    values = {name: columns[name] for name in _WINDOW_FIELDS}
    values |= {name: codec.load_words(values[name]) for name in _WORDS}
    window = Window(**{**values, "page_token": None, "last_error": _failure(row)})
    if row.page_token is None:
        return window
    token = tx.sealer.try_open(row.page_token, token_place(row.window_id))
    if token is None:  # a walk without its token starts again; it must not stop the account
        return replace(window, walk_started_at=None, pages=0, orders=0)
    return replace(window, page_token=token.decode())


def _failure(row: sa.Row[Any]) -> Failure | None:
    if row.last_error is None:
        return None
    return Failure(row.last_error, row.last_error_kind, row.last_error_status, row.last_error_code)


def _failure_values(failure: Failure | None) -> dict[str, Any]:
    """Return a failure's columns, all of them None without one."""
    return {
        "last_error": None if failure is None else failure.message,
        "last_error_kind": None if failure is None else failure.kind,
        "last_error_status": None if failure is None else failure.status,
        "last_error_code": None if failure is None else failure.code,
    }


def _values(tx: Transaction, window: Window) -> dict[str, Any]:
    values = {f.name: getattr(window, f.name) for f in fields(window) if f.name != "window_id"}
    values |= _failure_values(window.last_error)
    values |= {name: codec.dump_words(values[name]) for name in _WORDS}
    if window.page_token is not None:
        values["page_token"] = tx.sealer.seal(window.page_token.encode(), token_place(window.window_id))
    return values


_PENDING = (
    sa.select(windows)
    .where(windows.c.account == sa.bindparam("of_account"), sa.text(UNFINISHED))
    .order_by(windows.c.window_id)
)
_SOURCE = sa.select(tables.sources).where(tables.sources.c.source == sa.bindparam("source"))
_MARKETPLACES = sa.select(tables.marketplaces).where(tables.marketplaces.c.account == sa.bindparam("account"))
# Built once: each page runs them several times, and building them took as long as running them.


def pending_windows(tx: Transaction, account: str, source: str) -> tuple[Window, ...]:
    """Return the unfinished windows of an account's source, oldest first."""
    rows = tx.rows(_PENDING, {"of_account": account})
    return tuple(_window(tx, row) for row in rows if row.source == source)


def all_pending(tx: Transaction, sources: Iterable[str]) -> dict[str, list[Window]]:
    """Return the unfinished windows of some sources by source, oldest first."""
    c = windows.c
    query = sa.select(windows).where(among(c.source, list(sources)), sa.text(UNFINISHED))
    pending: dict[str, list[Window]] = {}
    for row in tx.rows(query.order_by(c.window_id)):
        pending.setdefault(row.source, []).append(_window(tx, row))
    return pending


_OPEN = sa.insert(windows).returning(windows.c.window_id)


def open_windows(tx: Transaction, new: Iterable[Window]) -> list[Window]:
    """Enter new windows into the ledger. Return them with their numbers."""
    opened = []
    for window in new:
        window = replace(window, page_token=None)
        values = _values(tx, window) | {"created_at": tx.now}
        window_id: int = tx.conn.execute(_OPEN, values).scalar_one()
        opened.append(replace(window, window_id=window_id))
    return opened


def save_window(tx: Transaction, window: Window) -> Window:
    """Store a changed window. Raises Superseded if its version is not the one that was read."""
    values = _values(tx, replace(window, version=window.version + 1))
    values["finished_at"] = tx.now if window.state in ("done", "cancelled") else None
    if tx.update(windows, [values], window_id=window.window_id, version=window.version) != 1:
        raise Superseded
    return replace(window, version=window.version + 1)


def windows_with_token(tx: Transaction, account: str) -> list[Window]:
    """Return the windows of an account, finished or not, that hold a page token; locked."""
    c = windows.c
    query = sa.select(windows).where(c.account == account, c.page_token.is_not(None)).order_by(c.window_id)
    return [_window(tx, row) for row in tx.rows(tx.lock(query))]


def claim(tx: Transaction, window: Window, owner: str) -> Window:
    """Claim a window for two minutes. Raises Superseded if another owner holds it."""
    held = is_ahead(window.claimed_until, tx.now, LONGEST_CLAIM)
    if held and window.owner not in (None, owner):
        raise Superseded
    return save_window(tx, replace(window, owner=owner, claimed_until=tx.now + CLAIM))


UNRENEWED = timedelta(seconds=10)
"""A claim younger than this need not be renewed: it outlives any answer and the waiting for it."""


def renew(tx: Transaction, window: Window) -> None:
    """Renew the claim on a window for two minutes. Raises Superseded if its owner lost it."""
    if window.claimed_until is not None and window.claimed_until - tx.now > CLAIM - UNRENEWED:
        return
    values = {"claimed_until": tx.now + CLAIM}
    as_read = {"window_id": window.window_id, "version": window.version, "owner": window.owner or ""}
    if tx.update(windows, [values], **as_read) != 1:
        raise Superseded


def release(window: Window) -> Window:
    """Return the window without an owner."""
    return replace(window, owner=None, claimed_until=None)


def read_coverage(tx: Transaction, account: str, marketplace_id: str, look: Look) -> list[Interval]:
    """Return the coverage of a marketplace, sorted and joined."""
    c = tables.coverage.c
    which = (c.account == account, c.marketplace_id == marketplace_id, c.look == look)
    return _coverage(tx, *which).get((account, marketplace_id, look), [])


def all_coverage(tx: Transaction, *looks: Look) -> dict[tuple[str, str, Look], list[Interval]]:
    """Return the coverage of all marketplaces by account, marketplace and look."""
    return _coverage(tx, tables.coverage.c.look.in_(looks))


def _coverage(tx: Transaction, *which: sa.ColumnElement[bool]) -> dict[tuple[str, str, Look], list[Interval]]:
    covered: dict[tuple[str, str, Look], list[Interval]] = {}
    for row in tx.rows(sa.select(tables.coverage).where(*which)):
        place = (row.account, row.marketplace_id, row.look)
        covered.setdefault(place, []).append(Interval(row.lower, row.upper))
    return {place: joined(intervals) for place, intervals in covered.items()}


_OF_MARKETPLACE = sa.and_(
    *(tables.coverage.c[name] == sa.bindparam(f"of_{name}") for name in ("account", "marketplace_id", "look"))
)
_TOUCHING = sa.select(tables.coverage.c.lower, tables.coverage.c.upper).where(
    _OF_MARKETPLACE,
    tables.coverage.c.lower <= sa.bindparam("seen_upper"),
    tables.coverage.c.upper >= sa.bindparam("seen_lower"),
)


def cover(
    tx: Transaction, account: str, marketplace_ids: Collection[str], look: Look, seen: Interval
) -> None:
    """Add an interval to the coverage of some marketplaces."""
    for marketplace_id in sorted(marketplace_ids):
        key = {"account": account, "marketplace_id": marketplace_id, "look": look}
        named = {f"of_{name}": value for name, value in key.items()}
        # Only rows read here are replaced: what another worker adds stays, and is joined when read.
        rows = tx.rows(tx.lock(_TOUCHING), {**named, "seen_lower": seen.lower, "seen_upper": seen.upper})
        whole = joined([seen, *(Interval(row.lower, row.upper) for row in rows)])[0]
        if [row.lower for row in rows] == [whole.lower]:
            # The usual case: coverage grows at its end.
            tx.update(tables.coverage, [{"upper": whole.upper}], **key, lower=whole.lower)
            continue
        if rows:
            old = sa.delete(tables.coverage).where(
                _OF_MARKETPLACE, tables.coverage.c.lower.in_([row.lower for row in rows])
            )
            tx.conn.execute(old, named)
        tx.insert(tables.coverage, [{**key, "lower": whole.lower, "upper": whole.upper}])


def load_source(tx: Transaction, source: str) -> SourceProgress | None:
    """Return the progress of a source, locked; None before its first run."""
    row = tx.conn.execute(tx.lock(_SOURCE), {"source": source}).one_or_none()
    return None if row is None else _source(row)


def all_sources(tx: Transaction) -> dict[str, SourceProgress]:
    """Return the progress of every source."""
    return {row.source: _source(row) for row in tx.rows(sa.select(tables.sources))}


def _source(row: sa.Row[Any]) -> SourceProgress:
    values = row._asdict()
    values["turns"] = json.loads(values["turns"])
    values["last_error"] = _failure(row)
    for fact in ("kind", "status", "code"):
        del values[f"last_error_{fact}"]
    return SourceProgress(**values)


def save_source(tx: Transaction, progress: SourceProgress, *, new: bool = False) -> None:
    """Store the progress of a source."""
    values = {f.name: getattr(progress, f.name) for f in fields(progress)}
    values["turns"] = codec.dump(dict(progress.turns))
    values |= _failure_values(progress.last_error)
    if new:
        tx.insert(tables.sources, [values])
    else:
        tx.update(tables.sources, [values], source=None)


def load_marketplaces(tx: Transaction, account: str) -> dict[str, MarketplaceProgress]:
    """Return the progress of an account's marketplaces by marketplace id."""
    rows = tx.rows(_MARKETPLACES, {"account": account})
    return {row.marketplace_id: MarketplaceProgress(**row._mapping) for row in rows}


def all_marketplaces(tx: Transaction) -> dict[str, dict[str, MarketplaceProgress]]:
    """Return the progress of all marketplaces by account and marketplace id."""
    progress: dict[str, dict[str, MarketplaceProgress]] = {}
    for row in tx.rows(sa.select(tables.marketplaces)):
        progress.setdefault(row.account, {})[row.marketplace_id] = MarketplaceProgress(**row._asdict())
    return progress


_LOCKING = (
    sa.select(tables.marketplaces.c.marketplace_id)
    .where(tables.marketplaces.c.account == sa.bindparam("account"))
    .order_by(tables.marketplaces.c.marketplace_id)
    .limit(1)
)


def lock_account(tx: Transaction, account: str) -> None:
    """Lock an account until the end of the transaction. Before its first run there is nothing to lock.

    One row stands for the account: waiting for several could deadlock with a run that waits for one of them.
    """
    tx.rows(tx.lock(_LOCKING), {"account": account})


def save_marketplace(tx: Transaction, progress: MarketplaceProgress, *, new: bool = False) -> None:
    """Store the progress of a marketplace."""
    values = {f.name: getattr(progress, f.name) for f in fields(progress)}
    if new:
        tx.insert(tables.marketplaces, [values])
    else:
        tx.update(tables.marketplaces, [values], account=None, marketplace_id=None)


def adopt_windows(
    tx: Transaction, account: str, source: str, source_of: Mapping[str, str]
) -> tuple[Window, ...]:
    """Move unfinished windows to the source that polls their marketplaces now, if their own polls none.

    Returns the unfinished windows of ``source``, oldest first.
    """
    adopted = []
    for row in tx.rows(_PENDING, {"of_account": account}):
        homes = [source_of[m] for m in codec.load_words(row.marketplace_ids) if m in source_of]
        home = homes[0] if homes and row.source not in homes else row.source
        if home != row.source:
            tx.update(windows, [{"source": home}], window_id=row.window_id)
        if home == source:
            adopted.append(replace(_window(tx, row), source=home))
    return tuple(adopted)


def forget_finished(tx: Transaction, source: str) -> None:
    """Delete a source's windows that were done or cancelled three days ago; coverage keeps their result.

    The newest window always stays, because SQLite would give its number to the next one.
    """
    c = windows.c
    tx.conn.execute(
        sa.delete(windows).where(
            c.source == source,
            c.state.in_(("done", "cancelled")),
            c.finished_at < tx.now - KEPT,
            c.window_id < sa.select(sa.func.max(c.window_id)).scalar_subquery(),
        )
    )


def _backfill(row: sa.Row[Any]) -> Backfill:
    return Backfill(**row._mapping)


_RUNNABLE = (
    sa.select(tables.backfills)
    .where(
        tables.backfills.c.account == sa.bindparam("account"),
        tables.backfills.c.state.in_(("planned", "running")),
    )
    .order_by(tables.backfills.c.backfill_id)
)


def wanted_backfills(tx: Transaction, account: str) -> tuple[Backfill, ...]:
    """Return the planned and running backfills of an account, oldest first."""
    return tuple(_backfill(row) for row in tx.rows(_RUNNABLE, {"account": account}))


def load_backfills(tx: Transaction, account: str | None = None) -> tuple[Backfill, ...]:
    """Return all backfills of one account, or of all accounts, oldest first."""
    c = tables.backfills.c
    query = sa.select(tables.backfills).order_by(c.backfill_id)
    if account is not None:
        query = query.where(c.account == account)
    return tuple(_backfill(row) for row in tx.rows(query))


def unfinished_backfills(tx: Transaction) -> tuple[Backfill, ...]:
    """Return the backfills of all accounts that are neither done nor cancelled, oldest first."""
    c = tables.backfills.c
    query = sa.select(tables.backfills).where(c.state.not_in(("done", "cancelled"))).order_by(c.backfill_id)
    return tuple(_backfill(row) for row in tx.rows(query))


def open_backfill(
    tx: Transaction,
    account: str,
    marketplace_id: str,
    reason: str,
    lower: datetime,
    upper: datetime,
    way: Way = "search",
    state: BackfillState = "running",
) -> int:
    """Store a new backfill. Return its id."""
    new_id: int = tx.conn.execute(
        sa.insert(tables.backfills)
        .values(
            account=account,
            marketplace_id=marketplace_id,
            reason=reason,
            lower=lower,
            upper=upper,
            position=upper,
            state=state,
            orders=0,
            requests=0,
            created_at=tx.now,
            way=way,
        )
        .returning(tables.backfills.c.backfill_id)
    ).scalar_one()
    return new_id


def save_backfill(tx: Transaction, backfill: Backfill) -> None:
    """Store the progress of a backfill."""
    c = tables.backfills.c
    tx.conn.execute(
        sa.update(tables.backfills)
        .where(c.backfill_id == backfill.backfill_id)
        .values(
            position=backfill.position,
            state=backfill.state,
            orders=backfill.orders,
            requests=backfill.requests,
            span_seconds=backfill.span_seconds,
            finished_at=backfill.finished_at,
            windows_done=backfill.windows_done,
        )
    )


def lock_backfill(tx: Transaction, backfill_id: int) -> Backfill | None:
    """Return a backfill, locked; None if there is none with this id."""
    query = sa.select(tables.backfills).where(tables.backfills.c.backfill_id == backfill_id)
    row = tx.conn.execute(tx.lock(query)).one_or_none()
    return None if row is None else _backfill(row)


def advance_backfill(tx: Transaction, backfill_id: int, position: datetime) -> None:
    """Store that the next window was entered. Raises Superseded if the backfill was paused or cancelled."""
    c = tables.backfills.c
    advanced = tx.conn.execute(
        sa.update(tables.backfills)
        .where(c.backfill_id == backfill_id, c.state.in_(("planned", "running")))
        .values(position=position, state="running")
    )
    if advanced.rowcount != 1:
        raise Superseded


def count_backfill(tx: Transaction, backfill_id: int, fetched: int) -> None:
    """Count one more request of a backfill, and the orders that it fetched."""
    c = tables.backfills.c
    tx.conn.execute(
        sa.update(tables.backfills)
        .where(c.backfill_id == backfill_id)
        .values(orders=c.orders + fetched, requests=c.requests + 1)
    )


def _pending_of(backfill_id: int) -> sa.ColumnElement[bool]:
    """Return the condition for a backfill's unfinished windows; its account leads to their index."""
    b = tables.backfills.c
    account = sa.select(b.account).where(b.backfill_id == backfill_id).scalar_subquery()
    c = windows.c
    return sa.and_(c.account == account, sa.text(UNFINISHED), c.backfill_id == backfill_id)


def has_pending(tx: Transaction, backfill_id: int) -> bool:
    """Return True if a backfill has unfinished windows."""
    query = sa.select(windows.c.window_id).where(_pending_of(backfill_id))
    return tx.conn.execute(query.limit(1)).first() is not None


def direct_backfill(
    tx: Transaction, backfill_id: int, state: BackfillState, of: Collection[BackfillState]
) -> bool:
    """Pause, resume or cancel a backfill if its state is one of ``of``. Return False if it is not.

    Pages and ids whose fetch is under way are still stored; cancelled windows are not requested again.
    """
    c = tables.backfills.c
    changed = tx.conn.execute(
        sa.update(tables.backfills)
        .where(c.backfill_id == backfill_id, c.state.in_(of))
        .values(state=state, finished_at=tx.now if state == "cancelled" else None)
    )
    if changed.rowcount == 1 and state == "cancelled":
        w = windows.c
        tx.conn.execute(
            sa.update(windows)
            .where(_pending_of(backfill_id))
            .values(state="cancelled", page_token=None, finished_at=tx.now, version=w.version + 1, owner=None)
        )
    return changed.rowcount == 1


def pending_of(tx: Transaction, backfill_id: int) -> list[Interval]:
    """Return the intervals of a backfill's unfinished windows."""
    c = windows.c
    query = sa.select(c.lower, c.upper).where(_pending_of(backfill_id))
    return [Interval(row.lower, row.upper) for row in tx.rows(query)]


def walked_orders(tx: Transaction, backfill_id: int) -> int:
    """Return how many orders the unfinished walks of a backfill have read."""
    walked = sa.select(sa.func.coalesce(sa.func.sum(tables.windows.c.orders), 0))
    return int(tx.conn.execute(walked.where(_pending_of(backfill_id))).scalar_one())


def release_all(tx: Transaction, owner: str) -> None:
    """Release all claims of a process; what it still does with those windows is superseded."""
    b = tables.backfills.c
    tx.conn.execute(
        sa.update(tables.backfills).where(b.owner == owner).values(owner=None, claimed_until=None)
    )
    c = windows.c
    tx.conn.execute(
        sa.update(windows)
        .where(c.owner == owner)
        .values(owner=None, claimed_until=None, version=c.version + 1)
    )
