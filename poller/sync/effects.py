"""What a decision changes, as values. ``record.apply`` writes them; unit tests apply them to a dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.progress import Interval, Look, MarketplaceProgress, SourceProgress, Window


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """Enter a new window into the ledger."""

    window: Window


@dataclass(frozen=True, slots=True)
class SaveWindow:
    """Write a changed window, if its version is still the one that was read."""

    window: Window


@dataclass(frozen=True, slots=True)
class Cover:
    """Add an interval to what has been seen of some marketplaces of the account."""

    marketplace_ids: tuple[str, ...]
    look: Look
    seen: Interval


@dataclass(frozen=True, slots=True)
class SaveMarketplace:
    """Write how far a marketplace has been read."""

    progress: MarketplaceProgress


@dataclass(frozen=True, slots=True)
class SaveSource:
    """Write what the source did last."""

    progress: SourceProgress


@dataclass(frozen=True, slots=True)
class AdvanceBackfill:
    """A backfill's next window is entered: history is planned down to ``position``."""

    backfill_id: int
    position: datetime


@dataclass(frozen=True, slots=True)
class CountPage:
    """One more page was read for a backfill and held this many orders."""

    backfill_id: int
    orders: int


@dataclass(frozen=True, slots=True)
class CloseBackfillWindow:
    """A window of a backfill is read: measure the next one's width, end the backfill if it was the last."""

    window: Window


Effect = (
    OpenWindow
    | SaveWindow
    | Cover
    | SaveMarketplace
    | SaveSource
    | AdvanceBackfill
    | CountPage
    | CloseBackfillWindow
)
