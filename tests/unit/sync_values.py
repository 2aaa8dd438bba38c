"""Windows, marketplaces, backfills and views for tests of the sync core, with defaults to override."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from poller.sync import decide
from poller.sync.decide import Decision, Fetch, Pace, Plan, View
from poller.sync.effects import Effect, OpenWindow, SaveMarketplace, SaveSource
from store.progress import Backfill, Failure, MarketplaceProgress, SourceProgress, Window
from store.token_bucket import Bucket

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=s) for s in (1, 60, 3600, 86400))
CLOCKS_APART = timedelta(seconds=7)
"""Amazon's clock is this much ahead of ours, so that a mix-up shows."""

ALL_SETTLED = NOON + 10_000 * DAY
"""A settled position at which no settled day is due in any test."""

NO_ANSWER = Failure("no answer", "unreachable")

E = TypeVar("E")


def window(**changed: Any) -> Window:
    values: dict[str, Any] = {
        "source": "acme:EU",
        "account": "acme",
        "kind": "live",
        "axis": "updated",
        "marketplace_ids": ("A",),
        "included_data": (),
        "lower": NOON - HOUR,
        "upper": NOON,
        "window_id": 1,
    }
    return Window(**{**values, **changed})


def marketplace(marketplace_id: str, position: datetime = NOON, **changed: Any) -> MarketplaceProgress:
    live_from = changed.pop("live_from", NOON)
    second = changed.pop("second_position", max(live_from, position - DAY))
    settled = changed.pop("settled_position", ALL_SETTLED)
    return MarketplaceProgress(
        "acme", marketplace_id, "acme:EU", live_from, position, second, settled, **changed
    )


def view_of(
    marketplaces: Sequence[MarketplaceProgress],
    pending: Sequence[Window] = (),
    *,
    now: datetime = NOON + HOUR,
    tokens: float = 20.0,
    backfills: Sequence[Backfill] = (),
    amazon_now: datetime | None = None,
    second_edge: datetime | None = None,
    **source: Any,
) -> View:
    return View(
        source=SourceProgress("acme:EU", "acme", **source),
        marketplaces={m.marketplace_id: m for m in marketplaces},
        included_data={m.marketplace_id: ("BUYER",) for m in marketplaces},
        windows=pending,
        backfills=backfills,
        now=now,
        amazon_now=amazon_now or now + CLOCKS_APART,
        bucket=Bucket(0.0056, 20.0, tokens, now),
        pace=Pace(180, 900),
        owner="me",
        second_edge=second_edge,
    )


def backfill(**changed: Any) -> Backfill:
    values: dict[str, Any] = {
        "backfill_id": 1,
        "account": "acme",
        "marketplace_id": "A",
        "reason": "start_date",
        "lower": NOON - 90 * DAY,
        "upper": NOON,
        "position": NOON,
        "state": "running",
    }
    return Backfill(**{**values, **changed})


def planned(decision: Decision) -> Plan:
    assert isinstance(decision, Plan), decision
    return decision


def entered(decision: Decision) -> Window:
    """Return the one window that a plan opens."""
    (only,) = effects_of(planned(decision).effects, OpenWindow)
    return only.window


def fetched(decision: Decision) -> Window:
    assert isinstance(decision, Fetch), decision
    return decision.window


def effects_of(effects: Sequence[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def moved(effects: Sequence[Effect]) -> dict[str, MarketplaceProgress]:
    return {e.progress.marketplace_id: e.progress for e in effects_of(effects, SaveMarketplace)}


def source_after(effects: Sequence[Effect]) -> SourceProgress:
    (only,) = effects_of(effects, SaveSource)
    return only.progress


def live_signpost(view: View) -> datetime:
    return decide.signpost(view.amazon_now)
