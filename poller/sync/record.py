"""Writes effects into the ledger, in the caller's transaction: the one place where decisions touch rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from poller.backfill import history
from poller.sync.decide import View
from poller.sync.effects import (
    AdvanceBackfill,
    CloseBackfillWindow,
    CountPage,
    Cover,
    Effect,
    OpenWindow,
    SaveMarketplace,
    SaveSource,
    SaveWindow,
)
from store import backfill_reports, ledger
from store.engine import Transaction
from store.progress import Window


def apply(tx: Transaction, view: View, effects: Iterable[Effect]) -> View:
    """Write effects, and return the view as they change it, but for backfills. Raises Superseded."""
    for effect in effects:
        match effect:
            case OpenWindow(window):
                (opened,) = ledger.open_windows(tx, [window])
                view = replace(view, windows=(*view.windows, opened))
            case SaveWindow(window):
                view = replace(view, windows=_with(view.windows, ledger.save_window(tx, window)))
            case Cover(marketplace_ids, look, seen):
                ledger.cover(tx, view.source.account, marketplace_ids, look, seen)
            case SaveMarketplace(progress):
                ledger.save_marketplace(tx, progress)
                view = replace(view, marketplaces={**view.marketplaces, progress.marketplace_id: progress})
            case SaveSource(progress):
                ledger.save_source(tx, progress)
                view = replace(view, source=progress)
            case AdvanceBackfill(backfill_id, position):
                ledger.advance_backfill(tx, backfill_id, position)
            case CountPage(backfill_id, orders):
                ledger.count_backfill(tx, backfill_id, orders)
            case CloseBackfillWindow(window):
                _close_backfill_window(tx, view, window)
    return view


def _with(windows: Sequence[Window], changed: Window) -> tuple[Window, ...]:
    """Return the unfinished windows after one of them changed."""
    others = (w if w.window_id != changed.window_id else changed for w in windows)
    return tuple(w for w in others if w.state in ("open", "set_aside"))


def _close_backfill_window(tx: Transaction, view: View, window: Window) -> None:
    assert window.backfill_id is not None
    backfill = ledger.lock_backfill(tx, window.backfill_id)
    if backfill is None:
        return
    is_unread = ledger.has_pending(tx, window.backfill_id)
    if backfill.way != "search":
        is_unread = is_unread or backfill_reports.has_more(tx, backfill, history.is_awaited)
    ledger.save_backfill(tx, history.after_window(backfill, window, view.bucket, tx.now, is_unread=is_unread))


def touches_backfills(effects: Iterable[Effect]) -> bool:
    """Return True if the view's backfills have to be read again after these effects."""
    return any(isinstance(e, AdvanceBackfill | CountPage | CloseBackfillWindow) for e in effects)
