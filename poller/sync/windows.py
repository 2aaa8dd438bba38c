"""Which interval is read next, and what becomes of a window that ended, failed or expired.

Pure: it is handed what is known (``View``) and answers with a decision; it reads no clock, no
database and no settings. Everything that is claimed about completeness is decided here:

* Live windows are updated-time intervals from the last bound (less an overlap) to the *signpost*,
  Amazon's own time less 130 s. Never the host's clock, never the newest record seen.
* Coverage is claimed only for what cannot have been missed. A list shifts under a walk of several
  pages when an order leaves it, and whoever stood at the page's edge is skipped. Such a window stays
  *unproven* until live reading has passed the end of its walk and shows whether any order can have
  left meanwhile; if so, it is walked again in halves, down to single pages, which cannot shift.
* What failed five times is set aside as a visible gap and tried again with back-off; later windows go on.
* Every closed stretch is looked at again a day later, because results may arrive hours late.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from connectors.base import PAGE_SIZE, WALK_LIMIT
from poller.backfill import history
from store.bucket import CLOCK_WAS_SET, Bucket
from store.progress import Axis, Backfill, Failure, MarketplaceProgress, SourceProgress, Window, WindowKind

SIGNPOST_MARGIN = timedelta(seconds=129)
"""Amazon refuses an upper bound younger than two minutes; ten seconds are for differences between clocks.
One of them is spent already: Date headers have whole seconds, so that Amazon's time is estimated up to a
second too early. Polled every 180 s, an order is thus never older than 310 s when it is asked for."""

OVERLAP = timedelta(minutes=10)
JOIN_WITHIN = timedelta(hours=1)
"""Marketplaces at most this far behind the front are read together with it."""

LIVE_SPAN = timedelta(hours=6)
"""Widest live window. Amazon's quota allows 484 pages a day, so what six hours can hold at a sustainable
density is read in six hours, well within a page token's life."""

SECOND_LOOK_AFTER = timedelta(hours=24)
SECOND_LOOK_SPAN = timedelta(hours=12)
"""With twelve hours a second look costs two requests a day plus one for the created-time pass: less than
the 3.8 that polling every 180 s leaves of Amazon's 484, so an idle shop never slows its live polling."""
SECOND_LOOK_ORDERS = 90
"""Windows of a second look are no wider than what holds so many stored orders: a single page cannot shift,
and it leaves room for the late ones that the look is for."""

CREATED_PASS_EVERY = timedelta(hours=24)
CREATED_PASS_SPAN = timedelta(days=3)

LONGEST_PAUSE = timedelta(hours=6)
"""How long a window that was set aside waits at most before it is tried again."""

LONGEST_PAUSE_LIVE = timedelta(hours=1)
ATTEMPTS_LIVE = 12
"""A live one waits less for its next dozen attempts: it may hold up its marketplace, and after an outage
nothing else would notice that Amazon is back."""

BACKFILL_FIRST_SPAN = timedelta(days=1)

LONGEST_BACKOFF = timedelta(minutes=15)
"""How long a source waits at most after failures in a row."""

NARROWEST = timedelta(seconds=2)
ATTEMPTS = 5
TURN = 8
"""Live pages served before a waiting sweep or backfill gets one, so that neither starves."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between live polls: alone, and beside waiting work that the surplus cannot pay for."""

    alone: float
    busy: float


def signpost(amazon_now: datetime) -> datetime:
    """The youngest upper bound that may be asked for, in whole seconds.

    Amazon writes times to the second or the millisecond: of a finer bound it echoes less than was sent,
    and neighbouring windows would no longer meet.
    """
    return (amazon_now - SIGNPOST_MARGIN).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision about one source depends on.

    ``now`` is the store's time (paces, retries, claims), ``amazon_now`` Amazon's (bounds).
    ``marketplaces`` are those that are enabled in this source, by id, with ``included_data`` wanted
    by each; ``windows`` are the source's unfinished ones; ``bucket`` is searchOrders' budget; ``grounds``
    what reports say of backfills, by their ids.
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

    @property
    def signpost(self) -> datetime:
        """The youngest upper bound that may be asked for."""
        return signpost(self.amazon_now)


@dataclass(frozen=True, slots=True)
class Read:
    """Claim this window and fetch its next page, leaving ``reserve`` tokens for live polling."""

    window: Window
    reserve: float
    turns: Mapping[str, int]
    prepaid_at: float | None = None
    """When the page's token was taken with the claim, in monotonic seconds; None if it was not."""


@dataclass(frozen=True, slots=True)
class Enter:
    """Enter these new windows, with what their opening changes; then decide again."""

    windows: tuple[Window, ...]
    marketplaces: tuple[MarketplaceProgress, ...] = ()
    backfills: tuple[Backfill, ...] = ()
    polled: bool = False
    created_pass: bool = False


@dataclass(frozen=True, slots=True)
class Replace:
    """Cancel this window and enter these in its place; then decide again."""

    window: Window
    by: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Prove:
    """Live reading has passed the end of this unproven walk: look for orders that left; decide again."""

    window: Window


Left = Literal["nothing", "failed", "elsewhere", "unproven"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before ``until``. ``short``: only the budget stands in the way of waiting work.

    ``left``: what is not covered although nothing can be read now: a stretch that failed and is tried
    again later, one that another process is reading, one that was read and has yet to be proven.
    """

    until: datetime
    short: bool
    why: str
    left: Left = "nothing"
    failure: Failure | None = None
    """What ``why`` says, if it is a failure."""


Decision = Read | Enter | Replace | Prove | Wait


# --- what becomes of a window -----------------------------------------------------------------------


def afresh(window: Window) -> Window:
    """The same interval, to be walked from its first page."""
    return replace(
        window,
        window_id=0,
        state="open",
        page_token=None,
        walk_started_at=None,
        walk_ended_at=None,
        pages=0,
        orders=0,
        owner=None,
        claimed_until=None,
        version=0,
    )


def _is_narrow(window: Window) -> bool:
    return window.upper - window.lower < NARROWEST


def halves_of_time(window: Window) -> tuple[Window, ...]:
    """Two windows that together are this one; itself afresh when it is too narrow to halve."""
    width = window.upper - window.lower
    fresh = afresh(window)
    if _is_narrow(window):
        return (fresh,)
    middle = (window.lower + width / 2).replace(microsecond=0)
    middle = max(middle, window.lower)
    return replace(fresh, upper=middle), replace(fresh, lower=middle)


def halves_of_marketplaces(window: Window) -> tuple[Window, ...]:
    """Two windows with half the marketplaces each."""
    ids = window.marketplace_ids
    middle = len(ids) // 2
    fresh = afresh(window)
    return replace(fresh, marketplace_ids=ids[:middle]), replace(fresh, marketplace_ids=ids[middle:])


def parted(window: Window, leaving: Collection[str]) -> tuple[Window, ...]:
    """The window for those marketplaces that stay, and for those that leave, to wait by itself.

    Nothing is forgotten: the second waits until its marketplaces are read again. A walk that has ended
    stands for each of them; one that has not must begin anew, because its parameters are frozen.
    """
    staying = tuple(m for m in window.marketplace_ids if m not in leaving)
    going = tuple(m for m in window.marketplace_ids if m in leaving)
    part = afresh(window)
    if window.state == "unproven":
        part = replace(window, window_id=0, version=0, owner=None, claimed_until=None)
    return tuple(replace(part, marketplace_ids=ids) for ids in (staying, going) if ids)


def remaining(window: Window, lower: datetime, upper: datetime, now: datetime) -> Window:
    """What Amazon's smaller bound left of a window. Counts as a failure, so as not to be asked in a loop."""
    return failed(
        replace(afresh(window), lower=lower, upper=upper),
        Failure("Amazon answered for less than was asked", "bound_lowered"),
        now,
    )


def backoff(
    failures: int, *, first: float = 30.0, longest: float = LONGEST_BACKOFF.total_seconds()
) -> timedelta:
    """How long to wait after this many failures in a row: doubling, bounded."""
    return timedelta(seconds=min(longest, first * 2.0 ** min(failures - 1, 30)))


def failed(window: Window, why: Failure, now: datetime) -> Window:
    """One more failed attempt; after five the window is set aside as a gap."""
    attempts = window.attempts + 1
    if attempts >= ATTEMPTS:
        new = window.kind == "live" and attempts < ATTEMPTS + ATTEMPTS_LIVE
        longest = LONGEST_PAUSE_LIVE if new else LONGEST_PAUSE
        pause = backoff(attempts - ATTEMPTS + 1, first=900, longest=longest.total_seconds())
        changed = replace(window, state="set_aside", retry_at=now + pause)
    else:
        changed = replace(window, retry_at=now + backoff(attempts))
    return replace(changed, attempts=attempts, last_error=why, owner=None, claimed_until=None)


def refused(window: Window, why: Failure, now: datetime) -> tuple[Window, tuple[Window, ...]]:
    """Amazon refuses this window (400, 403): narrow a group down by halves, count against a single one.

    Refused access is believed at the second time only: Amazon has answered 403 to everybody for 25 minutes.
    Returns the changed window and those that replace it (then it is cancelled).
    """
    believed = why.status not in (401, 403) or window.attempts >= 1
    if len(window.marketplace_ids) > 1 and believed:
        parts = tuple(
            replace(w, attempts=0, retry_at=None, last_error=why) for w in halves_of_marketplaces(window)
        )
        return replace(window, state="cancelled", page_token=None, last_error=why), parts
    return failed(window, why, now), ()


def restarted(window: Window, why: Failure, now: datetime) -> tuple[Window, tuple[Window, ...]]:
    """The walk cannot go on (token refused or repeated, page without anything new): halves, afresh."""
    attempts = window.attempts + 1
    if attempts >= ATTEMPTS:
        aside = failed(replace(window, page_token=None, walk_started_at=None, pages=0, orders=0), why, now)
        return aside, ()
    parts = tuple(replace(w, attempts=attempts, last_error=why) for w in halves_of_time(window))
    return replace(window, state="cancelled", page_token=None, last_error=why), parts


def page_read(
    window: Window,
    *,
    next_token: str | None,
    orders: int,
    echoed_before: datetime | None,
    amazon_now: datetime,
) -> Window:
    """The window after one page was stored: on to the next, done, or read but unproven.

    Coverage ends at the smaller of the bound that was sent and the bound that Amazon echoed.
    """
    upper = window.upper if echoed_before is None else min(window.upper, echoed_before)
    window = replace(
        window,
        pages=window.pages + 1,
        orders=window.orders + orders,
        upper=max(window.lower, upper),
        page_token=next_token,
        walk_started_at=window.walk_started_at or amazon_now,
        # What can be halved no more must come to an end, even if it fails only after its first page.
        attempts=0 if window.state == "open" and not _is_narrow(window) else window.attempts,
        retry_at=None,
        last_error=None,
    )
    if next_token is not None:
        return replace(window, state="open")
    if window.axis == "updated" and window.pages > 1 and not _is_narrow(window):
        return replace(window, state="unproven", walk_ended_at=amazon_now)
    return replace(window, state="done", walk_ended_at=amazon_now)


def next_span(window: Window, rate: float, most_pages: float = float("inf")) -> timedelta:
    """How wide the next backfill window should be, from how dense this one was."""
    width = window.upper - window.lower
    target = min(rate * history.WINDOW_WALK.total_seconds(), most_pages) * PAGE_SIZE
    widest = min(width * 4, history.WINDOW_SPAN)
    if window.orders == 0:
        return max(widest, timedelta(hours=1))
    fitting = min(widest.total_seconds(), width.total_seconds() * target / window.orders)
    return max(timedelta(hours=1), timedelta(seconds=fitting))


# --- what is done next ------------------------------------------------------------------------------


def decide(view: View) -> Decision:
    """The next thing to do for a source."""
    if view.source.retry_at is not None and view.now < view.source.retry_at <= view.now + LONGEST_BACKOFF:
        failure = view.source.last_error
        return Wait(view.source.retry_at, False, str(failure or "waiting after a failure"), failure=failure)
    for window in view.windows:
        if _expired(window, view.amazon_now):
            parts = tuple(replace(w, attempts=0) for w in halves_of_time(window))
            return Replace(window, parts)
        idle = [m for m in window.marketplace_ids if not _is_read(m, view)]
        if 0 < len(idle) < len(window.marketplace_ids):
            return Replace(window, parted(window, idle))
        if _passed(window, view):
            return Prove(window)
    readable = _by_age([w for w in view.windows if _readable(w, view)])
    waiting: dict[WindowKind, Window | Enter] = {}
    sweep = _first(readable, "sweep") or _plan_second_look(view) or _plan_created_pass(view)
    if sweep is not None:
        waiting["sweep"] = sweep
    backfill = _first(readable, "backfill") or _plan_backfill(view)
    if backfill is not None:
        waiting["backfill"] = backfill
    reading = [w for w in readable if w.kind == "live"]
    trouble = [w for w in reading if is_known_trouble(w, view.marketplaces)]
    leading = next((w for w in reading if _is_leading(w, view) and w not in trouble), None)
    others = [w for w in reading if not _is_leading(w, view) or w in trouble]
    catching_up = next(iter(others), None) or _plan_behind(view)
    due = view.now
    if view.source.polled_at is not None:
        due = view.source.polled_at + _pace(view, bool(waiting) or catching_up is not None)
        if view.source.polled_at - view.now > CLOCK_WAS_SET:
            due = view.now
    live = leading or _plan_front(view, due) or catching_up
    if live is not None:
        waiting["live"] = live
    next_event = _next_event(view, due)
    if not waiting:
        return _standing_by(view, next_event)
    chosen = _choose(waiting, view.source.turns)
    reserve = 0.0
    if "live" not in waiting:
        reserve = 1.0 - view.bucket.rate * (due - view.now).total_seconds()
        reserve = max(0.0, min(reserve, 1.0, view.bucket.burst - 1.0))
    ready = view.bucket.has_at(1.0 + reserve)
    if ready > view.now:
        if "live" not in waiting:
            # What is kept back grows as fast as the bucket does: nothing gets free before the poll.
            ready = next_event if reserve > 0 and due > view.now else min(ready, next_event)
        return Wait(ready, True, "the request budget is used up")
    step = waiting[chosen]
    if isinstance(step, Enter):
        return step
    return Read(step, reserve, _turns(chosen, waiting, view.source.turns))


def _standing_by(view: View, until: datetime) -> Wait:
    """Nothing is to be read now; whether that is because everything is covered."""
    left = [w for w in view.windows if _is_at_work(w, view) and not _is_paused(w, view)]
    for window in left:
        if window.state == "set_aside" or (window.state == "open" and window.last_error is not None):
            failure = window.last_error
            return Wait(until, False, str(failure or "a stretch could not be read"), "failed", failure)
    if any(window.state == "open" for window in left):
        return Wait(until, False, "another process is reading", "elsewhere")
    if left:
        return Wait(until, False, "the next look for changes has to prove what was read", "unproven")
    return Wait(until, False, "all covered")


def _is_paused(window: Window, view: View) -> bool:
    """Whether it belongs to a backfill that is not to be carried on."""
    return window.backfill_id is not None and all(b.backfill_id != window.backfill_id for b in view.backfills)


def _expired(window: Window, amazon_now: datetime) -> bool:
    started = window.walk_started_at
    token = window.page_token
    return token is not None and started is not None and amazon_now - started >= WALK_LIMIT


def _passed(window: Window, view: View) -> bool:
    """Whether live reading has got beyond the end of an unproven walk, and is itself proven there.

    What left the list of this walk stands in a later one, which may have lost it in turn.
    """
    if window.state != "unproven" or window.walk_ended_at is None:
        return False
    ended = window.walk_ended_at
    mine = window.marketplace_ids
    if any(not _is_read(m, view) or view.marketplaces[m].position < ended for m in mine):
        return False
    return not any(
        w.kind == "live"
        and w.lower <= ended
        and w.upper > window.upper
        and set(mine) & set(w.marketplace_ids)
        for w in view.windows
    )


def _readable(window: Window, view: View) -> bool:
    if window.state not in ("open", "set_aside"):
        return False
    if window.retry_at is not None and window.retry_at > view.now:
        return False
    if not _is_at_work(window, view):
        return False
    if _is_paused(window, view):
        return False
    held = window.owner not in (None, view.owner) and window.claimed_until is not None
    return not (held and window.claimed_until is not None and window.claimed_until > view.now)


def _by_age(windows: Sequence[Window]) -> list[Window]:
    """Open ones first, what has failed after the others, else as they were entered; then those set aside."""
    return sorted(windows, key=lambda w: (w.state != "open", w.attempts, w.window_id))


def _first(windows: Sequence[Window], kind: WindowKind) -> Window | None:
    return next((w for w in windows if w.kind == kind), None)


def _is_read(marketplace_id: str, view: View) -> bool:
    """Whether a marketplace is enabled here, and the seller not known to be absent from it."""
    return marketplace_id in view.marketplaces and view.marketplaces[marketplace_id].enrolled is not False


def _is_at_work(window: Window, view: View) -> bool:
    return any(_is_read(m, view) for m in window.marketplace_ids)


def _at_front(window: Window, view: View) -> list[MarketplaceProgress]:
    """Marketplaces whose live reading has got no further than this window."""
    mine = (view.marketplaces[m] for m in window.marketplace_ids if m in view.marketplaces)
    return [m for m in mine if window.upper >= m.position]


def _enrolled(view: View) -> list[MarketplaceProgress]:
    return [m for m_id, m in sorted(view.marketplaces.items()) if _is_read(m_id, view)]


def _untroubled(view: View) -> list[MarketplaceProgress]:
    """Marketplaces for which more than live reading is worth a request."""
    return [m for m in _enrolled(view) if m.alone_since is None]


def _leads(marketplace: MarketplaceProgress, view: View) -> bool:
    """Whether a marketplace is at the front or near it, and so read together with the others there."""
    front = max(m.position for m in view.marketplaces.values())
    return marketplace.position >= front - JOIN_WITHIN


def _is_leading(window: Window, view: View) -> bool:
    return any(_leads(m, view) for m in _at_front(window, view))


def is_known_trouble(window: Window, marketplaces: Mapping[str, MarketplaceProgress]) -> bool:
    """Whether a window is about marketplaces alone that give trouble while others of the source do not.

    The others' next poll comes before it, and its failure is no news about the source.
    """
    mine = [marketplaces[m] for m in window.marketplace_ids if m in marketplaces]
    others = [m for m_id, m in marketplaces.items() if m_id not in window.marketplace_ids]
    troubled = bool(mine) and all(m.alone_since is not None for m in mine)
    return troubled and any(m.alone_since is None and m.enrolled is not False for m in others)


def _blocked(view: View) -> set[str]:
    """Marketplaces that get no new live window: their last one is being read, or gives trouble alone.

    In the second case a further window is tried once the last has failed once more for each that is set
    aside already: a bad stretch does not stop a marketplace, and a bad marketplace does not fill the ledger.
    """
    live = [w for w in view.windows if w.kind == "live"]
    aside = Counter(m for w in live if w.state == "set_aside" for m in w.marketplace_ids)
    blocked: set[str] = set()
    for window in live:
        for m in _at_front(window, view):
            troubled = m.alone_since is not None and window.attempts < ATTEMPTS + aside[m.marketplace_id]
            if window.state == "open" or (window.state == "set_aside" and troubled):
                blocked.add(m.marketplace_id)
    return blocked


def _plan_front(view: View, due: datetime) -> Enter | None:
    """The next live window for all marketplaces at the front; first one for each that gave trouble, alone."""
    blocked = _blocked(view)
    ready = [m for m in _enrolled(view) if m.marketplace_id not in blocked and _leads(m, view)]
    if not ready or view.now < due:
        return None
    group = _together(ready)
    upper = min(view.signpost, min(m.position for m in group) + LIVE_SPAN)
    if upper < max(m.position for m in group):
        return None
    polled = upper == view.signpost and all(m in group or m.alone_since is not None for m in ready)
    return _live_window(view, group, upper, polled=polled)


def _plan_behind(view: View) -> Enter | None:
    """The next live window for the marketplaces furthest behind, because they were away for a while."""
    blocked = _blocked(view)
    behind = [
        m
        for m in _enrolled(view)
        if m.marketplace_id not in blocked and not _leads(m, view) and m.position < view.signpost
    ]
    if not behind:
        return None
    start = min(m.position for m in behind)
    group = _together([m for m in behind if m.position < start + JOIN_WITHIN])
    upper = min(min(m.position for m in group) + LIVE_SPAN, view.signpost)
    return _live_window(view, group, upper, polled=False)


def _together(ready: Sequence[MarketplaceProgress]) -> Sequence[MarketplaceProgress]:
    """Those that are asked for in one call: all, but first by itself whichever gave trouble in a group."""
    alone = [m for m in ready if m.alone_since is not None]
    return alone[:1] or ready


def _live_window(
    view: View, group: Sequence[MarketplaceProgress], upper: datetime, *, polled: bool
) -> Enter | None:
    lower = min(m.position for m in group) - OVERLAP
    if upper < lower:
        return None
    window = _window(view, "live", "updated", [m.marketplace_id for m in group], lower, upper)
    moved = tuple(replace(m, position=max(m.position, upper)) for m in group)
    return Enter((window,), moved, polled=polled)


def _window(
    view: View,
    kind: WindowKind,
    axis: Axis,
    ids: Sequence[str],
    lower: datetime,
    upper: datetime,
    backfill_id: int | None = None,
) -> Window:
    wanted: list[str] = []
    for marketplace_id in ids:
        wanted += [d for d in view.included_data[marketplace_id] if d not in wanted]
    return Window(
        source=view.source.source,
        account=view.source.account,
        kind=kind,
        axis=axis,
        marketplace_ids=tuple(sorted(ids)),
        included_data=tuple(sorted(wanted)),
        lower=lower,
        upper=upper,
        backfill_id=backfill_id,
    )


def _plan_second_look(view: View) -> Enter | None:
    if _is_sweeping(view, "updated"):
        return None
    ready = [
        m
        for m in _untroubled(view)
        if m.second_position + SECOND_LOOK_SPAN <= min(m.position, view.amazon_now - SECOND_LOOK_AFTER)
    ]
    if not ready:
        return None
    start = min(m.second_position for m in ready)
    upper = start + SECOND_LOOK_SPAN
    group = [m for m in ready if m.second_position < start + JOIN_WITHIN]
    window = _window(view, "sweep", "updated", [m.marketplace_id for m in group], start, upper)
    return Enter((window,), tuple(replace(m, second_position=upper) for m in group))


def divided(step: Enter, bounds: Sequence[datetime]) -> Enter:
    """A planned second look as several that meet at these times, in whole seconds and rising."""
    (window,) = step.windows
    inner = sorted({bound.replace(microsecond=0) for bound in bounds})
    inner = [bound for bound in inner if window.lower < bound < window.upper]
    edges = [window.lower, *inner, window.upper]
    parts = (replace(window, lower=low, upper=high) for low, high in itertools.pairwise(edges))
    return replace(step, windows=tuple(parts))


def _is_sweeping(view: View, axis: Axis) -> bool:
    return any(
        w.kind == "sweep" and w.axis == axis and w.state == "open" and _is_at_work(w, view)
        for w in view.windows
    )


def _plan_created_pass(view: View) -> Enter | None:
    last = view.source.created_pass_at
    if last is None or abs(view.now - last) < CREATED_PASS_EVERY:
        return None
    if _is_sweeping(view, "created"):
        return None
    aside = {m for w in view.windows if w.kind == "sweep" and w.axis == "created" for m in w.marketplace_ids}
    ids = [m.marketplace_id for m in _untroubled(view) if m.marketplace_id not in aside]
    if not ids:
        return None
    lower = view.signpost - CREATED_PASS_SPAN
    return Enter((_window(view, "sweep", "created", ids, lower, view.signpost),), created_pass=True)


def _plan_backfill(view: View) -> Enter | None:
    """The next, older window of the backfill that has cost least so far."""
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
    backfill, lower = min(ready, key=lambda one: (one[0].requests, one[0].backfill_id))
    upper = min(backfill.position, view.signpost)
    window = _window(
        view, "backfill", "created", [backfill.marketplace_id], lower, upper, backfill.backfill_id
    )
    return Enter((window,), backfills=(replace(backfill, position=lower),))


def _next_lower(backfill: Backfill, view: View) -> datetime | None:
    """How far down a backfill's next window goes; None when nothing is left that has to be searched."""
    upper = min(backfill.position, view.signpost)
    span = timedelta(seconds=int(backfill.span_seconds)) if backfill.span_seconds else BACKFILL_FIRST_SPAN
    ground = view.grounds.get(backfill.backfill_id)
    if ground is None:
        return max(backfill.lower, upper - span)
    lowest = history.search_down_to(backfill, ground, upper)
    if lowest is None or lowest >= upper:
        return None
    return lowest if history.is_sized(ground, upper) else max(lowest, upper - span)


def _pace(view: View, others_waiting: bool) -> timedelta:
    """Slow live polling down only while others wait and the bucket holds no surplus to serve them."""
    scarce = view.bucket.tokens < 2.0
    return timedelta(seconds=view.pace.busy if others_waiting and scarce else view.pace.alone)


def _choose(waiting: Mapping[WindowKind, object], turns: Mapping[str, int]) -> WindowKind:
    """Live first; after eight requests for others a waiting kind has its turn."""
    others: list[WindowKind] = [kind for kind in ("sweep", "backfill") if kind in waiting]
    if "live" in waiting:
        starved = [kind for kind in others if turns.get(kind, 0) >= TURN]
        return max(starved, key=lambda kind: turns.get(kind, 0)) if starved else "live"
    return max(others, key=lambda kind: turns.get(kind, 0))


def _turns(
    chosen: WindowKind, waiting: Mapping[WindowKind, object], turns: Mapping[str, int]
) -> dict[str, int]:
    counted = {}
    for kind in ("sweep", "backfill"):
        counted[kind] = turns.get(kind, 0) + 1 if kind in waiting and kind != chosen else 0
    return counted


def _next_event(view: View, due: datetime) -> datetime:
    """When there will be something to do, when there is nothing now."""
    times = [due]
    times += [w.retry_at for w in view.windows if w.retry_at is not None]
    times += [
        w.claimed_until
        for w in view.windows
        if w.claimed_until is not None and w.owner not in (None, view.owner)
    ]
    future = [t for t in times if t > view.now]
    return min(future, default=view.now + timedelta(seconds=view.pace.alone))
