"""The ledger in the database: windows, coverage, what sources and marketplaces have reached.

Every change to a window compares its version: whoever read an older one loses cleanly (``Superseded``).
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
    Backfill,
    BackfillState,
    Failure,
    Interval,
    Look,
    MarketplaceProgress,
    SourceProgress,
    Way,
    Window,
    joined,
)
from store.tables import UNFINISHED, windows
from store.types import among

CLAIM = timedelta(minutes=2)
"""How long a claim on a window holds without being renewed."""

KEPT = timedelta(days=3)
"""How long a finished window stays, to see how something came about."""


class Superseded(Exception):
    """Another worker has this window, or has advanced it; what was fetched for it is to be dropped."""


def token_place(window_id: int) -> str:
    """Where a page token is bound to."""
    return f"windows:{window_id}:page_token"


def _window(tx: Transaction, row: sa.Row[Any]) -> Window:
    token = row.page_token
    return Window(
        source=row.source,
        account=row.account,
        kind=row.kind,
        axis=row.axis,
        marketplace_ids=codec.load_words(row.marketplace_ids),
        included_data=codec.load_words(row.included_data),
        lower=row.lower,
        upper=row.upper,
        window_id=row.window_id,
        state=row.state,
        page_token=None if token is None else tx.sealer.open(token, token_place(row.window_id)).decode(),
        walk_started_at=row.walk_started_at,
        walk_ended_at=row.walk_ended_at,
        pages=row.pages,
        orders=row.orders,
        attempts=row.attempts,
        retry_at=row.retry_at,
        last_error=_failure(row),
        owner=row.owner,
        claimed_until=row.claimed_until,
        version=row.version,
        backfill_id=row.backfill_id,
    )


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
    values["marketplace_ids"] = codec.dump_words(window.marketplace_ids)
    values["included_data"] = codec.dump_words(window.included_data)
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
# Made once: with every page they are asked several times, and building them took as long as running them.


def pending_windows(tx: Transaction, account: str, source: str) -> tuple[Window, ...]:
    """Windows of an account's source that are not finished, oldest first."""
    rows = tx.rows(_PENDING, {"of_account": account})
    return tuple(_window(tx, row) for row in rows if row.source == source)


def all_pending(tx: Transaction, sources: Iterable[str]) -> dict[str, list[Window]]:
    """The same by source, for each of some sources that has any."""
    c = windows.c
    query = sa.select(windows).where(among(c.source, list(sources)), sa.text(UNFINISHED))
    found: dict[str, list[Window]] = {}
    for row in tx.rows(query.order_by(c.window_id)):
        found.setdefault(row.source, []).append(_window(tx, row))
    return found


_OPEN = sa.insert(windows).returning(windows.c.window_id)


def open_windows(tx: Transaction, new: Iterable[Window]) -> list[Window]:
    """Enter new windows into the ledger; returns them with their numbers."""
    opened = []
    for window in new:
        window = replace(window, page_token=None)
        values = _values(tx, window) | {"created_at": tx.now}
        window_id: int = tx.conn.execute(_OPEN, values).scalar_one()
        opened.append(replace(window, window_id=window_id))
    return opened


def save_window(tx: Transaction, window: Window) -> Window:
    """Write a changed window if its version is still the one that was read. Raises Superseded."""
    values = _values(tx, replace(window, version=window.version + 1))
    values["finished_at"] = tx.now if window.state in ("done", "cancelled") else None
    if tx.update(windows, [values], window_id=window.window_id, version=window.version) != 1:
        raise Superseded
    return replace(window, version=window.version + 1)


def windows_with_token(tx: Transaction, account: str) -> list[Window]:
    """Windows of an account, finished or not, that hold a page token."""
    c = windows.c
    query = sa.select(windows).where(c.account == account, c.page_token.is_not(None)).order_by(c.window_id)
    return [_window(tx, row) for row in tx.rows(tx.lock(query))]


def claim(tx: Transaction, window: Window, owner: str) -> Window:
    """Take a window for two minutes. Raises Superseded when somebody else holds it."""
    held = window.claimed_until is not None and window.claimed_until > tx.now
    if held and window.owner not in (None, owner):
        raise Superseded
    return save_window(tx, replace(window, owner=owner, claimed_until=tx.now + CLAIM))


FRESH = timedelta(seconds=10)
"""A claim that is no older need not be renewed: it outlives any answer, with what is waited for it."""


def renew(tx: Transaction, window: Window) -> None:
    """Hold a claimed window for another two minutes. Raises Superseded when it is not ours any more."""
    if window.claimed_until is not None and window.claimed_until - tx.now > CLAIM - FRESH:
        return
    held = {"claimed_until": tx.now + CLAIM}
    mine = {"window_id": window.window_id, "version": window.version, "owner": window.owner or ""}
    if tx.update(windows, [held], **mine) != 1:
        raise Superseded


def release(window: Window) -> Window:
    """The same window, held by nobody."""
    return replace(window, owner=None, claimed_until=None)


def read_coverage(tx: Transaction, account: str, marketplace_id: str, look: Look) -> list[Interval]:
    """What has been seen of a marketplace, sorted and joined."""
    c = tables.coverage.c
    mine = (c.account == account, c.marketplace_id == marketplace_id, c.look == look)
    return _coverage(tx, *mine).get((account, marketplace_id, look), [])


def all_coverage(tx: Transaction, *looks: Look) -> dict[tuple[str, str, Look], list[Interval]]:
    """The same of every marketplace of which something has been seen, by account, marketplace and look."""
    return _coverage(tx, tables.coverage.c.look.in_(looks))


def _coverage(tx: Transaction, *which: sa.ColumnElement[bool]) -> dict[tuple[str, str, Look], list[Interval]]:
    found: dict[tuple[str, str, Look], list[Interval]] = {}
    for row in tx.rows(sa.select(tables.coverage).where(*which)):
        place = (row.account, row.marketplace_id, row.look)
        found.setdefault(place, []).append(Interval(row.lower, row.upper))
    return {place: joined(stretches) for place, stretches in found.items()}


_MINE = sa.and_(
    *(tables.coverage.c[name] == sa.bindparam(f"of_{name}") for name in ("account", "marketplace_id", "look"))
)
_TOUCHING = sa.select(tables.coverage.c.lower, tables.coverage.c.upper).where(
    _MINE,
    tables.coverage.c.lower <= sa.bindparam("seen_upper"),
    tables.coverage.c.upper >= sa.bindparam("seen_lower"),
)


def cover(
    tx: Transaction, account: str, marketplace_ids: Collection[str], look: Look, seen: Interval
) -> None:
    """Add a stretch to what has been seen of some marketplaces."""
    for marketplace_id in sorted(marketplace_ids):
        mine = {"account": account, "marketplace_id": marketplace_id, "look": look}
        named = {f"of_{name}": value for name, value in mine.items()}
        # Only what was read is replaced: what another worker adds meanwhile stays, and is joined when read.
        rows = tx.rows(tx.lock(_TOUCHING), {**named, "seen_lower": seen.lower, "seen_upper": seen.upper})
        whole = joined([seen, *(Interval(row.lower, row.upper) for row in rows)])[0]
        if [row.lower for row in rows] == [whole.lower]:
            # Nearly always: what was seen grows at its end.
            tx.update(tables.coverage, [{"upper": whole.upper}], **mine, lower=whole.lower)
            continue
        if rows:
            old = sa.delete(tables.coverage).where(
                _MINE, tables.coverage.c.lower.in_([row.lower for row in rows])
            )
            tx.conn.execute(old, named)
        tx.insert(tables.coverage, [{**mine, "lower": whole.lower, "upper": whole.upper}])


def load_source(tx: Transaction, source: str) -> SourceProgress | None:
    """What a source did last, locked; None before its first run."""
    row = tx.conn.execute(tx.lock(_SOURCE), {"source": source}).one_or_none()
    return None if row is None else _source(row)


def all_sources(tx: Transaction) -> dict[str, SourceProgress]:
    """What every source did last."""
    return {row.source: _source(row) for row in tx.rows(sa.select(tables.sources))}


def _source(row: sa.Row[Any]) -> SourceProgress:
    values = row._asdict()
    values["turns"] = json.loads(values["turns"])
    values["last_error"] = _failure(row)
    for fact in ("kind", "status", "code"):
        del values[f"last_error_{fact}"]
    return SourceProgress(**values)


def save_source(tx: Transaction, progress: SourceProgress, *, new: bool = False) -> None:
    """Write what a source has reached."""
    values = {f.name: getattr(progress, f.name) for f in fields(progress)}
    values["turns"] = codec.dump(dict(progress.turns))
    values |= _failure_values(progress.last_error)
    if new:
        tx.insert(tables.sources, [values])
    else:
        tx.update(tables.sources, [values], source=None)


def load_marketplaces(tx: Transaction, account: str) -> dict[str, MarketplaceProgress]:
    """What has been reached of every marketplace of an account."""
    rows = tx.rows(_MARKETPLACES, {"account": account})
    return {row.marketplace_id: MarketplaceProgress(**row._mapping) for row in rows}


def all_marketplaces(tx: Transaction) -> dict[str, dict[str, MarketplaceProgress]]:
    """The same of all accounts."""
    found: dict[str, dict[str, MarketplaceProgress]] = {}
    for row in tx.rows(sa.select(tables.marketplaces)):
        found.setdefault(row.account, {})[row.marketplace_id] = MarketplaceProgress(**row._asdict())
    return found


_LOCKING = (
    sa.select(tables.marketplaces.c.marketplace_id)
    .where(tables.marketplaces.c.account == sa.bindparam("account"))
    .order_by(tables.marketplaces.c.marketplace_id)
    .limit(1)
)


def lock_account(tx: Transaction, account: str) -> None:
    """Let nobody else do the same for an account until the end. Before its first run nothing can be locked.

    One row stands for all of it: who waits for several could wait for a run that waits for one of them.
    """
    tx.rows(tx.lock(_LOCKING), {"account": account})


def save_marketplace(tx: Transaction, progress: MarketplaceProgress, *, new: bool = False) -> None:
    """Write what has been reached of a marketplace."""
    values = {f.name: getattr(progress, f.name) for f in fields(progress)}
    if new:
        tx.insert(tables.marketplaces, [values])
    else:
        tx.update(tables.marketplaces, [values], account=None, marketplace_id=None)


def adopt_windows(
    tx: Transaction, account: str, source: str, source_of: Mapping[str, str]
) -> tuple[Window, ...]:
    """Give unfinished windows to the source of their marketplace, when none of it is in theirs any more.

    Returns those of ``source``, oldest first.
    """
    own = []
    for row in tx.rows(_PENDING, {"of_account": account}):
        homes = [source_of[m] for m in codec.load_words(row.marketplace_ids) if m in source_of]
        home = homes[0] if homes and row.source not in homes else row.source
        if home != row.source:
            tx.update(windows, [{"source": home}], window_id=row.window_id)
        if home == source:
            own.append(replace(_window(tx, row), source=home))
    return tuple(own)


def forget_finished(tx: Transaction, source: str) -> None:
    """Delete a source's windows that were done or cancelled three days ago: coverage has what they showed.

    The newest window stays whatever it is, so that SQLite never gives its number to another.
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


_WANTED = (
    sa.select(tables.backfills)
    .where(
        tables.backfills.c.account == sa.bindparam("account"),
        tables.backfills.c.state.in_(("planned", "running")),
    )
    .order_by(tables.backfills.c.backfill_id)
)


def wanted_backfills(tx: Transaction, account: str) -> tuple[Backfill, ...]:
    """The backfills of an account that are to be carried out, oldest first."""
    return tuple(_backfill(row) for row in tx.rows(_WANTED, {"account": account}))


def load_backfills(tx: Transaction, account: str | None = None) -> tuple[Backfill, ...]:
    """All backfills, of one account or of all, oldest first."""
    c = tables.backfills.c
    query = sa.select(tables.backfills).order_by(c.backfill_id)
    if account is not None:
        query = query.where(c.account == account)
    return tuple(_backfill(row) for row in tx.rows(query))


def unfinished_backfills(tx: Transaction) -> tuple[Backfill, ...]:
    """The backfills of all accounts that are neither done nor cancelled, oldest first."""
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
    """Record a backfill to be carried out. Returns its id."""
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
    """Write how far a backfill has got."""
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
    """One backfill, locked."""
    mine = tables.backfills.c.backfill_id == backfill_id
    row = tx.conn.execute(tx.lock(sa.select(tables.backfills).where(mine))).one_or_none()
    return None if row is None else _backfill(row)


def advance_backfill(tx: Transaction, backfill_id: int, position: datetime) -> None:
    """The next window is entered. Raises Superseded when it was paused or cancelled meanwhile."""
    c = tables.backfills.c
    advanced = tx.conn.execute(
        sa.update(tables.backfills)
        .where(c.backfill_id == backfill_id, c.state.in_(("planned", "running")))
        .values(position=position, state="running")
    )
    if advanced.rowcount != 1:
        raise Superseded


def count_backfill(tx: Transaction, backfill_id: int, fetched: int) -> None:
    """One more request was made for a backfill, and brought some orders."""
    c = tables.backfills.c
    tx.conn.execute(
        sa.update(tables.backfills)
        .where(c.backfill_id == backfill_id)
        .values(orders=c.orders + fetched, requests=c.requests + 1)
    )


def _pending_of(backfill_id: int) -> sa.ColumnElement[bool]:
    """Which windows of a backfill are still to be read; its account leads to them."""
    b = tables.backfills.c
    account = sa.select(b.account).where(b.backfill_id == backfill_id).scalar_subquery()
    c = windows.c
    return sa.and_(c.account == account, sa.text(UNFINISHED), c.backfill_id == backfill_id)


def has_pending(tx: Transaction, backfill_id: int) -> bool:
    """Whether some of a backfill's windows are still to be read."""
    query = sa.select(windows.c.window_id).where(_pending_of(backfill_id))
    return tx.conn.execute(query.limit(1)).first() is not None


def direct_backfill(
    tx: Transaction, backfill_id: int, state: BackfillState, of: Collection[BackfillState]
) -> bool:
    """Pause, resume or cancel a backfill that is in one of the states ``of``. False when it is in another.

    The pages and ids that are being fetched meanwhile are stored; what is cancelled is not asked for again.
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
    """The stretches of a backfill's windows that are still to be read."""
    c = windows.c
    query = sa.select(c.lower, c.upper).where(_pending_of(backfill_id))
    return [Interval(row.lower, row.upper) for row in tx.rows(query)]


def release_all(tx: Transaction, owner: str) -> None:
    """Give back every window that a process holds; whatever it still does with them is superseded."""
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
