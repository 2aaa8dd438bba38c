"""What a source reads next. Pure: a ``View`` goes in, a decision comes out.

* On updated time a look is one page, from where the last one ended to the *signpost*: Amazon's own time
  less two minutes and a margin, never the host's clock, never the newest record seen. It spans what a page
  has room for at the rate of changes seen; what room is left overlaps with the look before.
* Every range is read a second time when it is a day old, because changes may be shown hours late.
* Every settled day is read once by created time.
* History is read by created time, newest first.
* Live looks come first. When second looks are late, live looks make room for them, up to ten minutes apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from connectors.base import PAGE_SIZE
from connectors.errors import PageExpired
from poller.backfill import history
from poller.sync import windows
from poller.sync.effects import (
    AdvanceBackfill,
    Effect,
    OpenWindow,
    SaveMarketplace,
    SaveSource,
    SaveWindow,
)
from store.progress import (
    LONGEST_CLAIM,
    Axis,
    Backfill,
    Failure,
    MarketplaceProgress,
    SourceProgress,
    Window,
    WindowKind,
    is_ahead,
)
from store.token_bucket import CLOCK_WAS_SET, Bucket

SIGNPOST_MARGIN = timedelta(seconds=129)
"""Amazon refuses an upper bound younger than two minutes; ten seconds are for differences between clocks.
One of them is spent already: Date headers have whole seconds, so that Amazon's time is estimated up to a
second too early."""

ROOM = 80
"""Changes that a look is planned to hold. A page takes 100; the rest is for chance, which overfills one look
in fifty, and for orders shown late."""

LONGEST_OVERLAP = timedelta(minutes=10)
SHORTEST_OVERLAP = timedelta(minutes=1)
"""A range is read again until it is at least this much older than the signpost it was first read up to."""

SAME_TIME = timedelta(seconds=5)
"""Two estimates of Amazon's time that differ by less are of one time."""

OVERLAP_SHARE = 0.7
"""An overlap fills a look up to this share of its room only: it must not be what overfills a page."""

LONGEST_LOOK = timedelta(hours=6)
"""The widest look of a shop in which nothing seems to happen."""

JOIN_WITHIN = timedelta(hours=1)
"""Marketplaces at most this far behind the front, or as far as a page reaches, are read together with it."""

SLOWEST_PACE = 600.0
"""Seconds between live looks that nothing but an empty budget exceeds."""

TOO_OLD = Failure("the page token is too old", PageExpired.kind)

LATE = timedelta(hours=2)
"""Second looks that are late by this much double the time between live looks; later ones in proportion."""

SECOND_LOOK_AFTER = timedelta(hours=24)
SECOND_LOOK_SPAN = timedelta(minutes=90)
SECOND_LOOK_ORDERS = 85
"""A second look ends at the update time of this stored order, before its page is full, or after its span."""

MUCH_TOO_LATE = timedelta(hours=12)
"""A second look this late gets every ninth request, whatever waits."""

SETTLED_AFTER = timedelta(hours=24)
SETTLED_SPAN = timedelta(hours=4)

CHANGES_PER_ORDER = 3
"""An order is created, made ready and shipped. Only an estimate for people depends on this."""

BACKFILL_FIRST_SPAN = timedelta(days=1)

CROWD = "crowd"
"""Among a source's turns: 1 if a crowded second waits and the last request was not for it."""

TURN = 8
"""Requests for others after which a waiting kind gets one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between live looks: alone, and beside a backfill that the surplus cannot pay for."""

    alone: float
    busy: float


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision about one source depends on.

    ``now`` is the store's time (paces, retries, claims), ``amazon_now`` Amazon's (bounds). ``marketplaces``
    are those enabled in this source, by id, with the ``included_data`` that each wants; ``windows`` the
    source's unfinished ones; ``bucket`` searchOrders' budget; ``grounds`` what reports say of backfills, by
    their ids.
    """

    source: SourceProgress
    marketplaces: Mapping[str, MarketplaceProgress]
    included_data: Mapping[str, tuple[str, ...]]
    windows: Sequence[Window]
    backfills: Sequence[Backfill]
    now: datetime
    amazon_now: datetime
    bucket: Bucket
    pace: Pace
    owner: str
    grounds: Mapping[int, history.Ground] = field(default_factory=dict)
    second_edge: datetime | None = None
    """Update time of stored order ``SECOND_LOOK_ORDERS`` after the second position, if there is one."""
    second_edge_after: datetime | None = None
    """The second position for which the edge was read."""

    @property
    def signpost(self) -> datetime:
        """The youngest upper bound that may be requested."""
        return signpost(self.amazon_now)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Claim this window and fetch its next page, leaving ``reserve`` tokens for live looks."""

    window: Window
    reserve: float
    turns: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Write these effects; then decide again."""

    effects: tuple[Effect, ...]


Uncovered = Literal["nothing", "failed", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before ``until``. ``short``: only the budget stands in the way of waiting work.

    ``uncovered``: what is not covered although nothing can be read now: a range that failed and is tried
    again later, or one that another process is reading.
    """

    until: datetime
    short: bool
    why: str
    uncovered: Uncovered = "nothing"
    failure: Failure | None = None
    """What ``why`` says, if it is a failure."""


Decision = Fetch | Plan | Wait


def slowest(pace: Pace) -> float:
    """Return the seconds between live looks beside a backfill: never more than ten minutes."""
    return max(pace.alone, min(pace.busy, SLOWEST_PACE))


def signpost(amazon_now: datetime) -> datetime:
    """Return the youngest upper bound that may be requested, in whole seconds.

    Amazon writes times to the second or the millisecond: of a finer bound it echoes less than was sent,
    and neighbouring windows would no longer meet.
    """
    return (amazon_now - SIGNPOST_MARGIN).replace(microsecond=0)


def decide(view: View) -> Decision:
    """Return the next thing to do for a source."""
    retry_at = view.source.retry_at
    if retry_at is not None and is_ahead(retry_at, view.now, windows.LONGEST_BACKOFF):
        failure = view.source.last_error
        return Wait(retry_at, False, str(failure or "waiting after a failure"), failure=failure)
    replaced = _replace_unreadable(view)
    if replaced is not None:
        return replaced
    readable = _by_age([w for w in view.windows if _is_readable(w, view)])
    waiting: dict[WindowKind, Window | Plan] = {}
    sweep = (
        _first(readable, "sweep", "updated")
        or _plan_second_look(view)
        or _first(readable, "sweep", "created")
        or _plan_settled_day(view)
    )
    if sweep is not None:
        waiting["sweep"] = sweep
    backfill = _first(readable, "backfill", "created") or _plan_backfill(view)
    if backfill is not None:
        waiting["backfill"] = backfill
    live_windows = [w for w in readable if w.kind == "live"]
    troubled = [w for w in live_windows if is_known_trouble(w, view.marketplaces)]
    leading = next((w for w in live_windows if _is_leading(w, view) and w not in troubled), None)
    catching_up = next((w for w in live_windows if w is not leading), None) or _plan_behind(view)
    due = next_look_at(view, beside_backfill=backfill is not None or catching_up is not None)
    look = leading or _plan_front(view, due)
    crowd = next((w for w in live_windows if windows.is_instant(w) and w not in troubled), None)
    if crowd is not None and view.source.turns.get(CROWD, 0):
        look = None  # a look is nearly always due: a crowded second takes turns with looks
    live = look or crowd or catching_up
    if live is not None:
        waiting["live"] = live
    next_event = _next_event(view, due)
    if not waiting:
        return _standing_by(view, next_event)
    chosen = _choose(waiting, view)
    reserve = 0.0
    if "live" not in waiting:
        reserve = 1.0 - view.bucket.rate * (due - view.now).total_seconds()
        reserve = max(0.0, min(reserve, 1.0, view.bucket.burst - 1.0))
    ready = view.bucket.has_at(1.0 + reserve)
    if ready > view.now:
        if "live" not in waiting:
            # What is kept back grows as fast as the bucket does: nothing gets free before the look.
            ready = next_event if reserve > 0 and due > view.now else min(ready, next_event)
        return Wait(ready, True, "the request budget is used up")
    step = waiting[chosen]
    if isinstance(step, Plan):
        return step
    turns = _turns(chosen, waiting, view.source.turns)
    if crowd is not None:
        turns[CROWD] = 0 if step is crowd else 1
    return Fetch(step, reserve, turns)


# --- windows that cannot be read as they are --------------------------------------------------------


def _replace_unreadable(view: View) -> Plan | None:
    """Replace a window whose token is too old, or of whose marketplaces only some are polled."""
    for window in view.windows:
        if windows.is_expired(window, view.amazon_now):
            is_instant = windows.is_instant(window)
            parts = windows.halves_of_orders(window) if is_instant else windows.parts_of_time(window)
            if not parts:
                # One second holds more than a token's life allows to read: a gap that is tried again later.
                gap, _ = windows.restarted(window, TOO_OLD, view.now)
                return Plan((SaveWindow(gap),))
            return _replacing(window, (replace(w, attempts=0) for w in parts))
        idle = [m for m in window.marketplace_ids if not _is_polled(m, view)]
        if 0 < len(idle) < len(window.marketplace_ids):
            return _replacing(window, windows.parted(window, idle))
    return None


def _replacing(window: Window, parts: Iterable[Window]) -> Plan:
    return Plan((SaveWindow(windows.cancelled(window)), *(OpenWindow(part) for part in parts)))


# --- which windows and marketplaces can be read -----------------------------------------------------


def _is_polled(marketplace_id: str, view: View) -> bool:
    """Return True if a marketplace is enabled here and the seller not known to be absent from it."""
    return marketplace_id in view.marketplaces and view.marketplaces[marketplace_id].enrolled is not False


def _is_at_work(window: Window, view: View) -> bool:
    return any(_is_polled(m, view) for m in window.marketplace_ids)


def _is_paused(window: Window, view: View) -> bool:
    """Return True if the window belongs to a backfill that is not carried on."""
    return window.backfill_id is not None and all(b.backfill_id != window.backfill_id for b in view.backfills)


def _is_readable(window: Window, view: View) -> bool:
    if window.state not in ("open", "set_aside"):
        return False
    if is_ahead(window.retry_at, view.now, windows.LONGEST_PAUSE):
        return False
    if not _is_at_work(window, view) or _is_paused(window, view) or _waits_for_a_newer(window, view):
        return False
    is_held = window.owner not in (None, view.owner)
    return not (is_held and is_ahead(window.claimed_until, view.now, LONGEST_CLAIM))


def _waits_for_a_newer(window: Window, view: View) -> bool:
    """Return True if a marketplace that fails alone is tried by a newer range; older ones wait for that."""
    own = own_marketplaces(window, view)
    if window.state != "set_aside" or window.kind != "live" or any(m.alone_since is None for m in own):
        return False
    newer = (w for w in view.windows if (w.upper, w.window_id) > (window.upper, window.window_id))
    return any(
        w.kind == "live" and w.state == "set_aside" and own_marketplaces(w, view) == own for w in newer
    )


def _by_age(pending: Sequence[Window]) -> list[Window]:
    """Sort open windows first, those that failed after the others, then as entered; last those set aside.

    A walk that is under way comes before a new one, because its token ages.
    """
    return sorted(pending, key=lambda w: (w.state != "open", w.attempts, w.page_token is None, w.window_id))


def _first(pending: Sequence[Window], kind: WindowKind, axis: Axis) -> Window | None:
    return next((w for w in pending if w.kind == kind and w.axis == axis), None)


def _enrolled(view: View) -> list[MarketplaceProgress]:
    return [m for m_id, m in sorted(view.marketplaces.items()) if _is_polled(m_id, view)]


def _untroubled(view: View) -> list[MarketplaceProgress]:
    """Marketplaces for which more than live looks is worth a request."""
    return [m for m in _enrolled(view) if m.alone_since is None]


def _at_front(window: Window, view: View) -> list[MarketplaceProgress]:
    """Marketplaces whose live looks have reached no further than this window."""
    return [m for m in own_marketplaces(window, view) if window.upper >= m.position]


def own_marketplaces(window: Window, view: View) -> list[MarketplaceProgress]:
    """Return the progress of a window's marketplaces, but for those that the view lacks."""
    return [view.marketplaces[m] for m in window.marketplace_ids if m in view.marketplaces]


def _leads(marketplace: MarketplaceProgress, view: View) -> bool:
    """Return True if a marketplace is at the front or near it, and so read together with the others there."""
    front = max(m.position for m in view.marketplaces.values())
    return marketplace.position >= front - _join_within(view)


def _join_within(view: View) -> timedelta:
    return min(JOIN_WITHIN, span_of_a_page(view.source))


def _is_leading(window: Window, view: View) -> bool:
    """Return True if the window comes before a new look: it is at the front, or a part of a look there.

    A crowded second, whose walk may take hours, takes turns with new looks.
    """
    if windows.is_instant(window):
        return False
    is_part = window.state == "open" and window.attempts == 0
    marketplaces = own_marketplaces(window, view) if is_part else _at_front(window, view)
    return any(_leads(m, view) for m in marketplaces)


def is_known_trouble(window: Window, marketplaces: Mapping[str, MarketplaceProgress]) -> bool:
    """Return True if only marketplaces of this window fail while others of the source do not.

    The others' next look comes before it, and its failure is no news about the source.
    """
    own = [marketplaces[m] for m in window.marketplace_ids if m in marketplaces]
    others = [m for m_id, m in marketplaces.items() if m_id not in window.marketplace_ids]
    is_alone = bool(own) and all(m.alone_since is not None for m in own)
    return is_alone and any(m.alone_since is None and m.enrolled is not False for m in others)


def _blocked(view: View) -> set[str]:
    """Marketplaces that get no new live window: their last one is being read, or fails alone.

    In the second case a further window is tried once the last has failed once more for each that is set
    aside already: a bad range does not stop a marketplace, and a bad marketplace does not fill the ledger.
    """
    live = [w for w in view.windows if w.kind == "live"]
    aside = Counter(m for w in live if w.state == "set_aside" for m in w.marketplace_ids)
    blocked: set[str] = set()
    for window in live:
        for m in _at_front(window, view):
            failing = (
                m.alone_since is not None and window.attempts < windows.ATTEMPTS + aside[m.marketplace_id]
            )
            is_in_the_way = window.state == "open" and not windows.is_instant(window)
            if is_in_the_way or (window.state == "set_aside" and failing):
                blocked.add(m.marketplace_id)
    return blocked


# --- live looks -------------------------------------------------------------------------------------


def span_of_a_page(source: SourceProgress) -> timedelta:
    """Return the interval in which ``ROOM`` changes are expected at the rate seen, in whole seconds."""
    if source.changes_per_second <= 0:
        return LONGEST_LOOK
    seconds = ROOM / source.changes_per_second
    return min(LONGEST_LOOK, max(windows.INSTANT, timedelta(seconds=int(min(seconds, 10**6)))))


def changes_per_day(source: SourceProgress) -> int:
    """Return the changes that a whole day has at the present rate."""
    return round(source.changes_per_second * 86400)


def carried_per_day(bucket: Bucket) -> int:
    """Return the changes a day that the plan's searches carry, if each order changes three times.

    Each change costs a place in a live look; each order, which a day later is listed once, one in a second
    look and one in a settled day.
    """
    an_order = CHANGES_PER_ORDER / ROOM + 1 / SECOND_LOOK_ORDERS + 1 / PAGE_SIZE
    return int(bucket.rate * 86400 * CHANGES_PER_ORDER / an_order)


def busy_pace(pace: Pace, bucket: Bucket) -> float:
    """Return the seconds between live looks beside a backfill that the surplus cannot pay for.

    Of the smallest budget, too, every second request is left for what else is due.
    """
    return max(slowest(pace), 2.0 / bucket.rate)


def pace(view: View, *, beside_backfill: bool = False) -> timedelta:
    """Return the time between live looks, which leaves requests for what else is due.

    Late second looks and settled days stretch it in proportion; a backfill does when the bucket is empty.
    """
    seconds = view.pace.alone * (
        1.0 + max(_second_look_late(view) / LATE, _settled_day_late(view) / (12 * LATE))
    )
    if beside_backfill and view.bucket.tokens < 2.0:
        seconds = max(seconds, busy_pace(view.pace, view.bucket))
    return timedelta(seconds=max(view.pace.alone, min(seconds, max(SLOWEST_PACE, 2.0 / view.bucket.rate))))


def next_look_at(view: View, *, beside_backfill: bool = False) -> datetime:
    """Return when the next live look is due: at its pace, or sooner when its page would be full."""
    polled_at = view.source.polled_at
    if polled_at is None or polled_at - view.now > CLOCK_WAS_SET:
        return view.now
    due = polled_at + pace(view, beside_backfill=beside_backfill)
    leading = [m.position for m in _untroubled(view) if _leads(m, view)]
    if leading:
        full = min(leading) + span_of_a_page(view.source) + SHORTEST_OVERLAP
        due = min(due, max(polled_at, view.now + (full - view.signpost)))
    return due


def _plan_front(view: View, due: datetime) -> Plan | None:
    """Plan the next look for all marketplaces at the front; first for each that failed in a group, alone."""
    blocked = _blocked(view)
    ready = [m for m in _enrolled(view) if m.marketplace_id not in blocked and _leads(m, view)]
    if not ready or view.now < due:
        return None
    group = _together(ready)
    is_poll = all(m in group or m.alone_since is not None for m in ready)
    return _live_look(view, group, span_of_a_page(view.source), is_poll=is_poll)


def _plan_behind(view: View) -> Plan | None:
    """Plan the next look for the marketplaces furthest behind, because they were away for a while."""
    blocked = _blocked(view)
    behind = [
        m
        for m in _enrolled(view)
        if m.marketplace_id not in blocked and not _leads(m, view) and m.position < view.signpost
    ]
    if not behind:
        return None
    start = min(m.position for m in behind)
    group = _together([m for m in behind if m.position < start + _join_within(view)])
    # The rate is that of the others. A look that holds too much is split.
    return _live_look(view, group, LONGEST_LOOK)


def _together(ready: Sequence[MarketplaceProgress]) -> Sequence[MarketplaceProgress]:
    """Those that are read in one request: all, but first by itself one that failed in a group."""
    alone = [m for m in ready if m.alone_since is not None]
    return alone[:1] or ready


def _live_look(
    view: View, group: Sequence[MarketplaceProgress], span: timedelta, *, is_poll: bool = False
) -> Plan | None:
    """Plan a look from the last bound on, ``span`` wide: what a page has room for.

    Up to the signpost it overlaps with the look before. A look that would be full without that ends sooner:
    what it reads is older, and has had the time to be shown that an overlap would give it. Only after a look
    that reached the signpost it overlaps, too.
    """
    start = min(m.position for m in group)
    upper = view.signpost
    if start + span >= upper + SHORTEST_OVERLAP:
        lower = max(start - LONGEST_OVERLAP, min(start - SHORTEST_OVERLAP, upper - span * OVERLAP_SHARE))
    else:
        lower = start - SHORTEST_OVERLAP if _reached_signpost(view, start) else start
        upper = max(start + windows.INSTANT, min(start + span, upper - SHORTEST_OVERLAP))
        upper = max(upper, min(max(m.position for m in group), view.signpost))
    if upper < max(m.position for m in group) or upper <= lower:
        return None
    window = _window(view, "live", "updated", [m.marketplace_id for m in group], lower, upper)
    moved = tuple(SaveMarketplace(replace(m, position=max(m.position, upper))) for m in group)
    effects: tuple[Effect, ...] = (OpenWindow(window), *moved)
    if is_poll:
        # A look that ended sooner counts as one that was taken then.
        short_by = max(timedelta(0), view.signpost - upper - SHORTEST_OVERLAP)
        effects = (*effects, SaveSource(replace(view.source, polled_at=view.now - short_by)))
    return Plan(effects)


def _reached_signpost(view: View, position: datetime) -> bool:
    """Return True if the last look ended at the signpost of its time, and not sooner by an overlap."""
    if view.source.polled_at is None:
        return False
    signpost_then = view.signpost - (view.now - view.source.polled_at)
    return position > signpost_then - SHORTEST_OVERLAP + SAME_TIME


def _window(
    view: View,
    kind: WindowKind,
    axis: Axis,
    ids: Sequence[str],
    lower: datetime,
    upper: datetime,
    backfill_id: int | None = None,
) -> Window:
    included = {dataset for marketplace_id in ids for dataset in view.included_data[marketplace_id]}
    return Window(
        source=view.source.source,
        account=view.source.account,
        kind=kind,
        axis=axis,
        marketplace_ids=tuple(sorted(ids)),
        included_data=tuple(sorted(included)),
        lower=lower,
        upper=upper,
        backfill_id=backfill_id,
    )


# --- second looks and settled days ------------------------------------------------------------------


def _is_sweeping(view: View, axis: Axis) -> bool:
    """Return True while a sweep over this axis is being read, so that no other is planned."""
    return any(
        w.kind == "sweep" and w.axis == axis and w.state == "open" and _is_at_work(w, view)
        for w in view.windows
    )


def second_look_start(view: View) -> datetime | None:
    """Return where the next second look begins; None while no range is old enough."""
    closed = view.amazon_now - SECOND_LOOK_AFTER
    return min(
        (m.second_position for m in _untroubled(view) if m.second_position < min(m.position, closed)),
        default=None,
    )


def _second_look_late(view: View) -> timedelta:
    start = second_look_start(view)
    if start is None:
        return timedelta(0)
    return max(timedelta(0), view.amazon_now - SECOND_LOOK_AFTER - _second_look_end(view, start))


def _second_look_end(view: View, start: datetime) -> datetime:
    """Return where a second look from here on ends: it is as wide as one page has room for."""
    end = start + SECOND_LOOK_SPAN
    if view.second_edge is None:
        return end
    return min(end, max(view.second_edge.replace(microsecond=0), start + windows.INSTANT))


def _plan_second_look(view: View) -> Plan | None:
    """Plan a second look; one whose page can hold no more does not wait for its whole span."""
    start = second_look_start(view)
    if start is None or _is_sweeping(view, "updated"):
        return None
    closed = view.amazon_now - SECOND_LOOK_AFTER
    group = [m for m in _untroubled(view) if m.second_position < start + JOIN_WITHIN]
    upper = _second_look_end(view, start)
    if upper > min(closed, *(m.position for m in group)):
        return None
    window = _window(view, "sweep", "updated", [m.marketplace_id for m in group], start, upper)
    moved = (SaveMarketplace(replace(m, second_position=max(m.second_position, upper))) for m in group)
    return Plan((OpenWindow(window), *moved))


def settled_day(view: View) -> tuple[datetime, datetime] | None:
    """Return the next range of created time that is settled and not read again yet."""
    start = min((m.settled_position for m in _untroubled(view)), default=None)
    if start is None:
        return None
    start = max(start, windows.oldest_listed(view.amazon_now))
    upper = start + SETTLED_SPAN
    return (start, upper) if upper <= view.amazon_now - SETTLED_AFTER else None


def _settled_day_late(view: View) -> timedelta:
    day = settled_day(view)
    return timedelta(0) if day is None else view.amazon_now - SETTLED_AFTER - day[1]


def _plan_settled_day(view: View) -> Plan | None:
    """Plan a walk over the next settled range, for all that have not been read up to its end."""
    day = settled_day(view)
    if day is None or _is_sweeping(view, "created"):
        return None
    start, upper = day
    group = [m for m in _untroubled(view) if m.settled_position < upper]
    window = _window(view, "sweep", "created", [m.marketplace_id for m in group], start, upper)
    moved = (SaveMarketplace(replace(m, settled_position=upper)) for m in group)
    return Plan((OpenWindow(window), *moved))


# --- history ----------------------------------------------------------------------------------------


def _plan_backfill(view: View) -> Plan | None:
    """Plan the next, older window of the backfill that has cost least so far."""
    untroubled = {m.marketplace_id for m in _untroubled(view)}
    busy = {w.backfill_id for w in view.windows if w.state == "open"}
    ready = [
        (b, lower)
        for b in view.backfills
        if b.marketplace_id in untroubled
        and b.backfill_id not in busy
        and b.lower < min(b.position, view.signpost)
        and (lower := _next_lower(b, view)) is not None
    ]
    if not ready:
        return None
    backfill, lower = min(ready, key=lambda candidate: (candidate[0].requests, candidate[0].backfill_id))
    upper = min(backfill.position, view.signpost)
    window = _window(
        view, "backfill", "created", [backfill.marketplace_id], lower, upper, backfill.backfill_id
    )
    return Plan((OpenWindow(window), AdvanceBackfill(backfill.backfill_id, lower)))


def next_width(backfill: Backfill) -> timedelta:
    """Return how wide a backfill's next window is, as the last one was measured."""
    return timedelta(seconds=int(backfill.span_seconds)) if backfill.span_seconds else BACKFILL_FIRST_SPAN


def _next_lower(backfill: Backfill, view: View) -> datetime | None:
    """Return how far down a backfill's next window reaches; None when nothing is left to search."""
    upper = min(backfill.position, view.signpost)
    span = next_width(backfill)
    ground = view.grounds.get(backfill.backfill_id)
    if ground is None:
        return max(backfill.lower, upper - span)
    lowest = history.search_down_to(backfill, ground, upper)
    if lowest is None or lowest >= upper:
        return None
    return lowest if history.is_sized(ground, upper) else max(lowest, upper - span)


# --- whose turn it is -------------------------------------------------------------------------------


def _choose(waiting: Mapping[WindowKind, object], view: View) -> WindowKind:
    """Choose live; after eight requests for others choose a backfill, or a much too late sweep."""
    turns = view.source.turns
    others: list[WindowKind] = [kind for kind in ("sweep", "backfill") if kind in waiting]
    if "live" in waiting:
        starved = [kind for kind in others if turns.get(kind, 0) >= TURN]
        if max(_second_look_late(view), _settled_day_late(view) / 4) < MUCH_TOO_LATE:
            starved = [kind for kind in starved if kind != "sweep"]
        return max(starved, key=lambda kind: turns.get(kind, 0)) if starved else "live"
    return max(others, key=lambda kind: turns.get(kind, 0))


def _turns(
    chosen: WindowKind, waiting: Mapping[WindowKind, object], turns: Mapping[str, int]
) -> dict[str, int]:
    counted = {}
    for kind in ("sweep", "backfill"):
        counted[kind] = turns.get(kind, 0) + 1 if kind in waiting and kind != chosen else 0
    return counted


# --- nothing to do ----------------------------------------------------------------------------------


def _standing_by(view: View, until: datetime) -> Wait:
    """Nothing can be read now; say whether that is because everything is covered."""
    pending = [w for w in view.windows if _is_at_work(w, view) and not _is_paused(w, view)]
    for window in pending:
        if window.state == "set_aside" or (window.state == "open" and window.last_error is not None):
            failure = window.last_error
            return Wait(until, False, str(failure or "a range could not be read"), "failed", failure)
    if pending:
        return Wait(until, False, "another process is reading", "elsewhere")
    return Wait(until, False, "all covered")


def _next_event(view: View, due: datetime) -> datetime:
    """Return when there will be something to do, when there is nothing now."""
    times = [due]
    times += [w.retry_at for w in view.windows if w.retry_at is not None]
    times += [
        w.claimed_until
        for w in view.windows
        if w.claimed_until is not None and w.owner not in (None, view.owner)
    ]
    future = [t for t in times if t > view.now]
    return min(future, default=view.now + timedelta(seconds=view.pace.alone))
