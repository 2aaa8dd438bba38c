"""A shop and a ledger in miniature: Amazon's list as sorted times, the ledger as dictionaries.

Decisions and results are the product's own; so is what they change (``effects``). Only the database and the
orders are missing, so that four days of a busy shop take seconds.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from poller.backfill import history
from poller.sync import decide as deciding
from poller.sync import results
from poller.sync.decide import Fetch, Pace, Plan, View, Wait, decide
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
from poller.sync.results import PageRead, after_page
from store.progress import (
    Backfill,
    Failure,
    Interval,
    MarketplaceProgress,
    SourceProgress,
    Window,
    complete_until,
    gaps,
    joined,
)
from store.token_bucket import Bucket, spend

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=s) for s in (1, 60, 3600, 86400))
PAGE = 100


@dataclass(frozen=True)
class Change:
    """One version of an order: when it is shown, and the update time that it carries."""

    shown_at: float
    order: int
    updated: float


class AmazonList:
    """What a search finds: each order once, at the update time of its newest shown version."""

    def __init__(self, changes: Iterable[Change], seed: int = 0) -> None:
        self._coming = sorted(changes, key=lambda c: (c.shown_at, c.order), reverse=True)
        self._listed: list[tuple[float, int]] = []
        self._current: dict[int, float] = {}
        self._created: dict[int, float] = {}
        self.created: list[float] = []
        self.chance = random.Random(seed)

    def go_to(self, now: float) -> None:
        while self._coming and self._coming[-1].shown_at <= now:
            change = self._coming.pop()
            before = self._current.get(change.order)
            if before is not None and before >= change.updated:
                continue
            if before is not None:
                del self._listed[bisect_left(self._listed, (before, change.order))]
            insort(self._listed, (change.updated, change.order))
            self._current[change.order] = change.updated
            if change.order not in self._created:
                self._created[change.order] = change.updated
                insort(self.created, change.updated)

    def created_between(self, lower: float, upper: float) -> int:
        return bisect_right(self.created, upper) - bisect_left(self.created, lower)

    def between(self, lower: float, upper: float) -> list[tuple[float, int]]:
        return self._listed[
            bisect_left(self._listed, (lower, -1)) : bisect_right(self._listed, (upper, 10**9))
        ]

    def current(self) -> dict[int, float]:
        return dict(self._current)


@dataclass
class Miniature:
    """One source's ledger, applied to dictionaries."""

    now: datetime
    marketplaces: dict[str, MarketplaceProgress]
    source: SourceProgress
    shop: AmazonList
    bucket: Bucket
    pace: Pace = field(default_factory=lambda: Pace(180, 900))
    windows: dict[int, Window] = field(default_factory=dict)
    seen: dict[tuple[str, str], list[Interval]] = field(default_factory=dict)
    backfills: dict[int, Backfill] = field(default_factory=dict)
    stored: dict[int, float] = field(default_factory=dict)
    by_time: list[float] = field(default_factory=list)
    fetched: list[tuple[datetime, Window]] = field(default_factory=list)
    number: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    enabled: frozenset[str] | None = None
    is_down: bool = False
    refusing: frozenset[str] = frozenset()
    trouble: float = 0.0
    """The share of requests that fail in one way or another."""

    @classmethod
    def of(cls, shop: AmazonList, *ids: str, now: datetime = NOON) -> Miniature:
        start = deciding.signpost(now)
        known = {m: MarketplaceProgress("acme", m, "acme:EU", start, start, start, start) for m in ids}
        source = SourceProgress("acme:EU", "acme")
        return cls(now, known, source, shop, Bucket(0.0056, 20.0, 20.0, now))

    def view(self) -> View:
        enabled = self.marketplaces if self.enabled is None else self.enabled
        view = View(
            source=self.source,
            marketplaces={m: p for m, p in self.marketplaces.items() if m in enabled},
            included_data={m: () for m in self.marketplaces},
            windows=tuple(self.windows.values()),
            backfills=[
                b for b in self.backfills.values() if b.state == "running" and b.marketplace_id in enabled
            ],
            now=self.now,
            amazon_now=self.now,
            bucket=self.bucket,
            pace=self.pace,
            owner="me",
        )
        start = deciding.second_look_start(view)
        edge = None
        if start is not None:
            first = bisect_right(self.by_time, start.timestamp())
            last = first + deciding.SECOND_LOOK_ORDERS - 1
            if last < len(self.by_time):
                edge = datetime.fromtimestamp(self.by_time[last], UTC)
        return replace(view, second_edge=edge)

    def apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case OpenWindow(window):
                    self.number += 1
                    self.windows[self.number] = replace(window, window_id=self.number)
                case SaveWindow(window):
                    self.windows[window.window_id] = window
                    if window.state in ("done", "cancelled"):
                        del self.windows[window.window_id]
                case Cover(ids, look, seen):
                    for m in ids:
                        self.seen[m, look] = joined([*self.seen.get((m, look), ()), seen])
                case SaveMarketplace(progress):
                    self.marketplaces = {**self.marketplaces, progress.marketplace_id: progress}
                case SaveSource(progress):
                    self.source = progress
                case AdvanceBackfill(backfill_id, position):
                    self.backfills[backfill_id] = replace(self.backfills[backfill_id], position=position)
                case CountPage():
                    pass
                case CloseBackfillWindow(window):
                    assert window.backfill_id is not None
                    before = self.backfills[window.backfill_id]
                    is_unread = any(w.backfill_id == window.backfill_id for w in self.windows.values())
                    after = history.after_window(before, window, self.bucket, self.now, is_unread=is_unread)
                    self.backfills[window.backfill_id] = after

    def step(self) -> Fetch | Wait:
        for _ in range(200):
            decision = decide(self.view())
            if not isinstance(decision, Plan):
                return decision
            self.apply(decision.effects)
        raise AssertionError("deciding went round in circles")

    def fetch(self, step: Fetch) -> None:
        self.bucket, ready = spend(self.bucket, self.now, step.reserve)
        assert ready is None, "a token was promised"
        self.source = replace(self.source, turns=step.turns)
        asked_at = self.now
        self.fetched.append((self.now, step.window))
        self.now += SECOND
        window = step.window
        failed = self._failed(window)
        if failed is not None:
            self.apply(failed)
            return
        self.shop.go_to(self.now.timestamp())
        if window.axis == "created":
            total = self.shop.created_between(window.lower.timestamp(), window.upper.timestamp())
            offset = int(window.page_token or 0)
            shown_now = min(PAGE, total - offset)
            token = str(offset + PAGE) if total > offset + PAGE else None
            page = PageRead(token, shown_now, shown_now, None, asked_at, self.now)
        else:
            listed = self.shop.between(window.lower.timestamp(), window.upper.timestamp())
            shown = listed if len(listed) <= PAGE else self.shop.chance.sample(listed, PAGE)
            for updated, order in shown:
                before = self.stored.get(order)
                if before is None or before < updated:
                    if before is not None:
                        del self.by_time[bisect_left(self.by_time, before)]
                    self.stored[order] = updated
                    insort(self.by_time, updated)
            token = "t" if len(listed) > PAGE else None
            times = tuple(datetime.fromtimestamp(updated, UTC) for updated, _ in shown)
            page = PageRead(token, len(shown), len(shown), None, asked_at, self.now, times)
        self.apply(after_page(self.view(), window, page))

    def _failed(self, window: Window) -> tuple[Effect, ...] | None:
        """Return what follows if Amazon does not answer this request with a page."""
        view = self.view()
        if self.is_down:
            return results.after_failure(view, window, Failure("no answer", "unreachable"))
        if self.refusing & set(window.marketplace_ids):
            status = self.chance.choice([400, 403])
            return results.after_refusal(view, window, Failure("no", "request_refused", status))
        if self.chance.random() >= self.trouble:
            return None
        if window.page_token is not None and self.chance.random() < 0.5:
            return results.after_expired_token(view, window, Failure("expired", "page_expired"))
        kind = self.chance.choice(["unreachable", "server_fault", "garbled", "unexpected"])
        return results.after_failure(view, window, Failure(kind, kind))

    def faults(self) -> Iterator[str]:
        """What is not as promised once all faults are over."""
        for each in self.windows.values():
            is_walk = each.kind == "sweep" and each.axis == "created"
            due_at = each.upper if each.kind == "live" else each.upper + DAY
            if not is_walk and (each.kind == "backfill" or due_at < self.now - 3 * HOUR):
                yield f"window {each} is still to be read"
        for m, progress in self.marketplaces.items():
            reached = max(progress.live_from, progress.position - 3 * HOUR)
            if progress.position < self.now - 3 * HOUR:
                yield f"{m}: live looks have only reached {progress.position}"
            for gap in gaps(self.seen.get((m, "first"), []), progress.live_from, reached):
                yield f"{m}: not seen {gap}"
            if progress.second_position < self.now - 2 * DAY:
                yield f"{m}: second looks have only reached {progress.second_position}"
            settled = max(progress.live_from, min(progress.second_position, self.now - DAY - 3 * HOUR))
            for gap in gaps(self.seen.get((m, "second"), []), progress.live_from, settled):
                yield f"{m}: no second look at {gap}"
            if progress.alone_since is not None:
                yield f"{m}: still read alone"
        for backfill in self.backfills.values():
            if backfill.state != "done":
                yield f"backfill {backfill} is not done"
            seen = self.seen.get((backfill.marketplace_id, "created"), [])
            for gap in gaps(seen, backfill.lower, backfill.upper):
                yield f"{backfill.marketplace_id}: history not seen {gap}"
        current = self.shop.current()
        for order, updated in current.items():
            if NOON.timestamp() < updated < (self.now - 3 * HOUR).timestamp() and order not in self.stored:
                yield f"order {order} of {updated} was never stored"

    def run_until(self, end: datetime) -> Iterator[datetime]:
        """Go on until ``end``; yields after each request and each wait."""
        while self.now < end:
            step = self.step()
            if isinstance(step, Fetch):
                self.fetch(step)
            else:
                assert step.until > self.now, step
                yield self.now
                self.now = min(step.until, end)
            yield self.now

    def behind(self, look: str) -> timedelta:
        """Return how far what is covered for good lies behind the clock."""
        return self.now - min(
            complete_until(self.seen.get((m, look), []), p.live_from) or p.live_from
            for m, p in self.marketplaces.items()
        )


@dataclass(frozen=True)
class Behind:
    """How far a shop falls, or may fall, behind at worst."""

    live: timedelta
    covered: timedelta
    second_look: timedelta


def worst_of(shop: Miniature, end: datetime) -> Behind:
    """Go on until ``end``; returns the worst that was seen after the first half hour."""
    live = covered = second = timedelta(0)
    for now in shop.run_until(end):
        if now < NOON + HOUR / 2:
            continue
        live = max(live, now - min(p.position for p in shop.marketplaces.values()))
        covered = max(covered, shop.behind("first"))
        if now > NOON + DAY:
            second = max(second, now - min(p.second_position for p in shop.marketplaces.values()))
    return Behind(live, covered, second)


def busy_shop(per_day: int, days: float, *, nights: bool, seed: int, start: datetime = NOON) -> list[Change]:
    """Return the changes of a shop whose orders are created, made ready and shipped.

    With ``nights`` the evening's peak is 1.7 times the mean. One in a hundred is shown up to six hours late.
    """
    chance = random.Random(seed)
    begin = start.timestamp() - 12 * 3600
    seconds = days * 86400 + 12 * 3600
    changes: list[Change] = []
    order = 0
    t = begin
    while t < begin + seconds:
        hour = (t % 86400) / 3600
        factor = 1 + 0.7 * math.cos((hour - 20) / 24 * 2 * math.pi) if nights else 1.0
        t += chance.expovariate(per_day / 86400 * factor)
        ready = t + chance.uniform(120, 1800)
        shipped = ready + chance.uniform(1800, 12 * 3600)
        for time in (t, ready, shipped):
            late = chance.uniform(0, 6 * 3600) if chance.random() < 0.01 else 0.0
            changes.append(Change(time + late, order, float(int(time))))
        order += 1
    return changes
