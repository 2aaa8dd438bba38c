"""What follows from a page that was read, or from a request that failed. Pure: effects come out.

A page on updated time that has no next token is one snapshot of its interval and proves itself: the
interval is covered. A page that has a token, or is full to the last place (facts §6, 8), shows an interval
that holds more than a page; what it brought is stored, and its interval is read again in halves, down to
single seconds. There tokens are followed, and on created time, where lists do not shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.base import PAGE_SIZE
from poller.sync import windows
from poller.sync.decide import (
    LONGEST_OVERLAP,
    ROOM,
    SECOND_LOOK_AFTER,
    View,
    is_known_trouble,
    own_marketplaces,
    span_of_a_page,
)
from poller.sync.effects import (
    CloseBackfillWindow,
    CountPage,
    Cover,
    Effect,
    OpenWindow,
    SaveMarketplace,
    SaveSource,
    SaveWindow,
)
from store.progress import Failure, Interval, MarketplaceProgress, SourceProgress, Window

RATE_REMEMBERED = timedelta(minutes=15)
"""The rate of changes follows what looks showed, with this time constant."""
RATE_RAISED = 1.1
"""A look that was planned to fit and did not raises the rate by this factor."""

SHARE_THAT_FITS = 0.7
"""The share of a look of up to 140 changes that a page holds."""

RESTLESS = Failure("orders of one second changed while they were read", "walk_restless")
FAULTS_OF_CONTENT = frozenset({"unexpected", "page_not_stored", "garbled"})
"""Failures that what was read may cause: all but the range that holds it can be read."""
FINEST = timedelta(minutes=1)
"""The narrowest range that is divided to find what cannot be read."""
SOON = timedelta(seconds=30)
"""The longest wait before the parts of what was divided so are read."""
FAULTS_OF_A_SOURCE = 20
"""Failures in a row that content no longer explains: halving a day reaches a minute after fewer."""


@dataclass(frozen=True, slots=True)
class PageRead:
    """What a page showed, as far as the ledger needs it. ``new``: orders that the walk had not shown before.

    ``times``: when its orders were updated, to split an interval that holds more than a page.
    ``departed``: orders of the walk that this one repeats which it has not shown.
    ``asked_at`` and ``amazon_now`` are Amazon's time before the request and after the answer.
    """

    next_token: str | None
    orders: int
    new: int
    echoed_before: datetime | None
    asked_at: datetime
    amazon_now: datetime
    times: tuple[datetime, ...] = ()
    departed: int = 0


# --- a page was read --------------------------------------------------------------------------------


def after_page(view: View, window: Window, page: PageRead) -> tuple[Effect, ...]:
    """Return what a stored page changes: its window, what is covered, and the source, which is well."""
    source = replace(
        view.source, failures=0, failing_since=None, last_error=None, retry_at=None, succeeded_at=view.now
    )
    source = replace(source, changes_per_second=_rate_after(view, window, page))
    counted = [] if window.backfill_id is None else [CountPage(window.backfill_id, page.orders)]
    return (*_window_after(view, window, page), *counted, SaveSource(source))


def _window_after(view: View, window: Window, page: PageRead) -> tuple[Effect, ...]:
    stuck = _stuck(window, page)
    if stuck is not None:
        changed, parts = windows.restarted(window, Failure(stuck, "walk_stuck"), view.now)
        return (SaveWindow(changed), *(OpenWindow(part) for part in parts))
    is_empty = page.orders == 0
    is_overfull = page.next_token is not None or page.orders >= PAGE_SIZE
    # A full page without a token may lack it; within a second there is no way but the token.
    is_walked = windows.follows_tokens(window, page.amazon_now) and (
        page.next_token is not None or windows.is_instant(window)
    )
    if is_overfull and not (is_walked or is_empty):
        return _divided(view, window, page)
    upper = window.upper if page.echoed_before is None else min(window.upper, page.echoed_before)
    if upper < window.upper:
        return _after_smaller_bound(view, window, page, upper)
    read = replace(
        window,
        pages=window.pages + 1,
        orders=window.orders + page.orders,
        page_token=page.next_token,
        walk_started_at=window.walk_started_at or page.asked_at,
        walk_ended_at=None if page.next_token is not None else page.amazon_now,
        # A second that cannot be split must come to an end, even if it fails only after its first page.
        attempts=0 if window.state == "open" and not windows.is_instant(window) else window.attempts,
        retry_at=None,
        last_error=None,
        state="open" if page.next_token is not None else "done",
    )
    if page.next_token is not None:
        return (SaveWindow(read),)
    is_confirmed = window.repeats is not None and page.departed == 0
    is_one_page = window.orders == 0 and page.orders < PAGE_SIZE
    if window.axis == "updated" and not (is_one_page or is_confirmed):
        return _repeated(view, window)
    return (
        SaveWindow(replace(read, owner=None, claimed_until=None)),
        *_finished(view, read, page.amazon_now),
    )


def _divided(view: View, window: Window, page: PageRead) -> tuple[Effect, ...]:
    """Return how an interval that holds more than a page is read again: in halves.

    A look that a page was expected to hold holds a few too many: it is shortened, and the next look begins
    where it ends. That takes one more request, not two.
    """
    times = page.times if window.axis == "updated" else ()
    own = own_marketplaces(window, view)
    expected = view.source.changes_per_second * (window.upper - window.lower).total_seconds()
    is_last = window.kind == "live" and [m.position for m in own] == [window.upper] * len(
        window.marketplace_ids
    )
    is_shortened = is_last and ROOM / 2 < expected < 2 * ROOM
    share = SHARE_THAT_FITS if is_shortened else 0.5
    first, *rest = windows.parts_of_time(window, times, share=share)
    parts = [first] if is_shortened else [first, *rest]
    fresh = (replace(part, attempts=0, last_error=None) for part in parts)
    moved = (SaveMarketplace(replace(m, position=first.upper)) for m in own if is_shortened)
    return (
        SaveWindow(windows.cancelled(window)),
        *(OpenWindow(part) for part in fresh if not _is_pending(view, part)),
        *moved,
    )


def _is_pending(view: View, window: Window) -> bool:
    """Return True if another look is at this very second: it will cover it."""
    return windows.is_instant(window) and any(
        (w.kind, w.axis, w.marketplace_ids, w.lower, w.upper)
        == (window.kind, window.axis, window.marketplace_ids, window.lower, window.upper)
        for w in view.windows
    )


def _repeated(view: View, window: Window) -> tuple[Effect, ...]:
    """Return how a second that was walked page by page is confirmed: it is walked again.

    An order that is updated meanwhile leaves the list, and another one slips past the walk. When the next
    walk shows all orders of this one, none had left. A crowd that never keeps still is a visible gap.
    """
    again = replace(windows.afresh(window), repeats=window.window_id)
    if window.repeats is not None:
        again = windows.failed(again, RESTLESS, view.now)
    return (SaveWindow(windows.cancelled(window)), OpenWindow(again))


def _finished(view: View, window: Window, amazon_now: datetime) -> tuple[Effect, ...]:
    """Return what a window that was read to its end covers, and whom it frees.

    What has left Amazon's list of two years is not covered: it stays a gap.
    """
    lower = window.lower
    if window.axis == "created":
        lower = max(lower, windows.oldest_listed(amazon_now))
    seen = Interval(lower, window.upper)
    ids = window.marketplace_ids
    effects: list[Effect] = []
    is_seen = not _has_unread_siblings(view, window)
    # What a marketplace that was away catches up on needs no second look.
    is_late = window.kind == "live" and window.upper <= amazon_now - SECOND_LOOK_AFTER
    if is_seen:
        if window.axis == "created" and lower <= window.upper:
            effects.append(Cover(ids, "created", seen))
        elif window.axis == "updated":
            effects.append(Cover(ids, "first", seen))
        if window.axis == "updated" and (window.kind == "sweep" or is_late):
            effects.append(Cover(ids, "second", seen))
    for m in own_marketplaces(window, view) if window.kind == "live" else ():
        changed = replace(m, alone_since=None, trouble=None) if m.alone_since is not None else m
        if is_seen and is_late and window.lower <= m.second_position < window.upper:
            changed = replace(changed, second_position=window.upper)
        if changed != m:
            effects.append(SaveMarketplace(changed))
    if window.backfill_id is not None:
        effects.append(CloseBackfillWindow(window))
    return tuple(effects)


def _has_unread_siblings(view: View, window: Window) -> bool:
    """Return True if windows for other orders of the same second are still to be read."""
    if not window.fulfilled_by:
        return False
    return any(
        (w.kind, w.axis, w.lower, w.upper) == (window.kind, window.axis, window.lower, window.upper)
        and w.window_id != window.window_id
        and set(w.marketplace_ids) & set(window.marketplace_ids)
        for w in view.windows
    )


def _stuck(window: Window, page: PageRead) -> str | None:
    """Return why this page shows that the walk makes no progress; None if it does."""
    if page.next_token is None:
        return None
    if page.next_token == window.page_token:
        return "Amazon gave the same page token twice"
    if page.orders == 0 and window.pages - window.orders // PAGE_SIZE >= windows.EMPTY_PAGES:
        return f"Amazon gave {windows.EMPTY_PAGES + 1} empty pages that are not the last"
    if window.pages > 0 and page.orders > 0 and page.new == 0:
        return "Amazon gave a page without a new order"
    return None


def _after_smaller_bound(view: View, window: Window, page: PageRead, upper: datetime) -> tuple[Effect, ...]:
    """Return what an answer for less than was requested changes: the rest has still to be read.

    A walk of several pages starts again with the smaller bound, because its parameters are frozen.
    """
    upper = max(upper, window.lower)
    less = Failure("Amazon answered for less than was requested", "bound_lowered")
    rests = shortened(view, window, upper, less)
    if page.next_token is not None:
        first = replace(windows.afresh(window), upper=upper)
        return (SaveWindow(windows.cancelled(window)), OpenWindow(first), *rests)
    read = replace(
        window,
        upper=upper,
        pages=window.pages + 1,
        orders=window.orders + page.orders,
        page_token=None,
        state="done",
        walk_started_at=window.walk_started_at or page.asked_at,
        walk_ended_at=page.amazon_now,
        owner=None,
        claimed_until=None,
        retry_at=None,
        last_error=None,
    )
    return (SaveWindow(read), *_finished(view, read, page.amazon_now), *rests)


def shortened(view: View, window: Window, upper: datetime, why: Failure) -> tuple[Effect, ...]:
    """Return how the rest of a window beyond ``upper`` is read: by the next look, or by a window of its own.

    Live reading is pulled back only to where it had been before this window, which is at most the longest
    overlap above its lower bound. A rest of its own counts as a failure, so that it is not read in a loop.
    """
    pulled: list[MarketplaceProgress] = []
    if window.kind == "live" and upper >= window.lower + LONGEST_OVERLAP:
        pulled = [
            replace(m, position=upper) for m in own_marketplaces(window, view) if m.position == window.upper
        ]
    pulled_ids = {m.marketplace_id for m in pulled}
    others = tuple(m for m in window.marketplace_ids if m not in pulled_ids)
    effects: tuple[Effect, ...] = tuple(SaveMarketplace(m) for m in pulled)
    if others:
        rest = replace(windows.afresh(window), marketplace_ids=others, lower=upper)
        effects = (*effects, OpenWindow(windows.failed(rest, why, view.now)))
    return effects


def _rate_after(view: View, window: Window, page: PageRead) -> float:
    """Return the rate of changes as live looks over all marketplaces show it, per second."""
    rate = view.source.changes_per_second
    read = {m for m, p in view.marketplaces.items() if p.enrolled is not False and p.alone_since is None}
    covers_all = read <= set(window.marketplace_ids)
    if window.kind != "live" or windows.is_instant(window) or not covers_all or window.pages > 0:
        return rate
    width = window.upper - window.lower
    seconds = width.total_seconds()
    if page.next_token is not None or page.orders >= PAGE_SIZE:
        was_to_fit = width * 2 > span_of_a_page(view.source)
        return max(rate * RATE_RAISED, page.orders / seconds) if was_to_fit else rate
    share = 1 - math.exp(-width / RATE_REMEMBERED)
    return rate + share * (page.orders / seconds - rate)


# --- a request failed -------------------------------------------------------------------------------


def after_failure(view: View, window: Window | None, why: Failure) -> tuple[Effect, ...]:
    """Return what a failed request changes: a failure of the source, and of its window if there is one."""
    if window is None:
        return (SaveSource(_failing(view, why)),)
    is_of_content = why.kind in FAULTS_OF_CONTENT and view.source.failures < FAULTS_OF_A_SOURCE
    effects = _window_failed(view, window, why, is_of_content=is_of_content)
    if is_known_trouble(window, view.marketplaces):
        return tuple(effects)
    is_divided = is_of_content and any(isinstance(effect, OpenWindow) for effect in effects)
    return (SaveSource(_failing(view, why, longest=SOON if is_divided else None)), *effects)


def _failing(view: View, why: Failure, *, longest: timedelta | None = None) -> SourceProgress:
    failures = view.source.failures + 1
    pause = windows.backoff(failures)
    return replace(
        view.source,
        failures=failures,
        failing_since=view.source.failing_since or view.now,
        last_error=why,
        retry_at=view.now + (pause if longest is None else min(pause, longest)),
    )


def _window_failed(view: View, window: Window, why: Failure, *, is_of_content: bool) -> Sequence[Effect]:
    """A window that fails too often is divided: by marketplace, then down to what cannot be read."""
    changed = windows.failed(window, why, view.now)
    if changed.state != "set_aside":
        parts: tuple[Window, ...] = ()
    elif len(window.marketplace_ids) > 1:
        parts = windows.halves_of_marketplaces(window)
    elif is_of_content and window.upper - window.lower > FINEST:
        parts = windows.parts_of_time(window)
    else:
        parts = ()
    if not parts:
        return [SaveWindow(changed), *_alone(view, changed)]
    # What content causes shows at the first attempt; an outage may be over at the next one.
    attempts = windows.ATTEMPTS - 1 if is_of_content else 0
    halves = [replace(part, attempts=attempts, last_error=why) for part in parts]
    return [SaveWindow(windows.cancelled(window)), *(OpenWindow(half) for half in halves)]


def _alone(view: View, window: Window) -> list[Effect]:
    """A single marketplace whose window was set aside no longer holds the others up."""
    if window.state != "set_aside" or window.kind != "live" or len(window.marketplace_ids) != 1:
        return []
    return [
        SaveMarketplace(replace(m, alone_since=view.now, trouble=str(window.last_error or "")))
        for m in own_marketplaces(window, view)
        if m.alone_since is None
    ]


def after_refusal(view: View, window: Window, why: Failure) -> tuple[Effect, ...]:
    """Return what a refused request (400, 403) changes; refused access is a failure of the source, too."""
    changed, parts = windows.refused(window, why, view.now)
    effects: list[Effect] = [
        SaveWindow(changed),
        *(OpenWindow(part) for part in parts),
        *_alone(view, changed),
    ]
    if why.status in (401, 403) and not is_known_trouble(window, view.marketplaces):
        effects.append(SaveSource(_failing(view, why)))
    return tuple(effects)


def after_expired_token(view: View, window: Window, why: Failure) -> tuple[Effect, ...]:
    """Return what a refused page token changes: the window is read again in parts."""
    changed, parts = windows.restarted(window, why, view.now)
    return (SaveWindow(changed), *(OpenWindow(part) for part in parts))


def after_refused_bound(view: View, window: Window, why: Failure) -> tuple[Effect, ...]:
    """Return what a refused upper bound changes; ``view`` has Amazon's time, estimated again."""
    if not window.lower < view.signpost < window.upper:
        return after_failure(view, window, why)
    lowered = replace(windows.afresh(window), upper=view.signpost)
    rests = shortened(view, window, view.signpost, why)
    return (SaveWindow(windows.cancelled(window)), OpenWindow(lowered), *rests)
