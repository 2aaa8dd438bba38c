"""The life of one window: how it is divided, fails, is refused and is read. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from connectors.base import WALK_LIMIT
from poller.matching.statuses import STATUSES
from store.progress import Failure, Window

FULFILLERS = ("AMAZON", "MERCHANT")
"""Words of ``fulfilledBy`` (Amazon's Orders API model 2026-01-01)."""

LISTED_FOR = timedelta(days=730)
"""Amazon lists orders of the last two years (facts §1.1)."""
NEAR_THE_END = timedelta(days=1)
"""A walk lasts no longer than this: what is younger cannot leave Amazon's list under it."""

INSTANT = timedelta(seconds=1)
"""The narrowest interval of updated time: bounds are whole seconds, and Amazon includes both."""

ATTEMPTS = 5
"""Failures in a row after which a window is set aside as a visible gap."""

LONGEST_PAUSE = timedelta(hours=6)
"""The longest wait before a window that was set aside is tried again."""

LONGEST_PAUSE_LIVE = timedelta(hours=1)
ATTEMPTS_LIVE = 12
"""A live window waits at most an hour for its next twelve attempts: it may hold up its marketplace, and
after an outage nothing else would notice that Amazon is back."""

LONGEST_BACKOFF = timedelta(minutes=15)
"""The longest wait of a source after failures in a row."""

EMPTY_PAGES = 3
"""Empty pages that are followed by their token before the walk counts as stuck."""


def backoff(failures: int, *, first: float = 30.0, longest: timedelta = LONGEST_BACKOFF) -> timedelta:
    """Return the wait after this many failures in a row: doubling, bounded."""
    return timedelta(seconds=min(longest.total_seconds(), first * 2.0 ** min(failures - 1, 30)))


def is_instant(window: Window) -> bool:
    """Return True if the window is too narrow to be split by time: no whole second lies within it."""
    return _middle(window) is None


def _middle(window: Window) -> datetime | None:
    """Return the whole second within a window that halves it best; None if there is none."""
    middle = (window.lower + (window.upper - window.lower) / 2).replace(microsecond=0)
    if middle <= window.lower:
        middle += INSTANT
    return middle if middle < window.upper else None


def oldest_listed(amazon_now: datetime) -> datetime:
    """Return the created time from which on Amazon lists orders."""
    return amazon_now - LISTED_FOR


def follows_tokens(window: Window, amazon_now: datetime) -> bool:
    """Return True if the window is walked page by page, False if it is split until a page holds it.

    A list by updated time shifts under a walk. One by created time does not, because an order never changes
    its creation time, but for its old end, where orders leave Amazon's list. Within one second there is no
    other way.
    """
    is_settled = window.axis == "created" and window.lower > oldest_listed(amazon_now) + NEAR_THE_END
    return is_settled or is_instant(window)


def is_expired(window: Window, amazon_now: datetime) -> bool:
    """Return True if the window's page token is too old to be used: it lives 24 hours (Amazon's model)."""
    started = window.walk_started_at
    return window.page_token is not None and started is not None and amazon_now - started >= WALK_LIMIT


def _quantile(window: Window, times: Sequence[datetime], share: float) -> datetime | None:
    """Return the whole second below which this share of some times lies, if it is within the window."""
    if not times:
        return None
    at = sorted(times)[int(len(times) * share)].replace(microsecond=0)
    if at <= window.lower:
        at += INSTANT
    return at if window.lower < at < window.upper else None


# --- other windows in its place ---------------------------------------------------------------------


def afresh(window: Window) -> Window:
    """Return the same interval as a new window, to be read from its first page."""
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
        repeats=None,
    )


def cancelled(window: Window) -> Window:
    """Return the window as others have replaced it."""
    return replace(window, state="cancelled", page_token=None, owner=None, claimed_until=None)


def parts_of_time(
    window: Window, times: Sequence[datetime] = (), *, share: float = 0.5
) -> tuple[Window, ...]:
    """Return two windows that together are this one; itself afresh if it is too narrow.

    They meet where this share of ``times``, and so of the orders, lies before; or else in the middle.
    """
    fresh, middle = afresh(window), _quantile(window, times, share) or _middle(window)
    if middle is None:
        return (fresh,)
    return replace(fresh, upper=middle), replace(fresh, lower=middle)


def halves_of_marketplaces(window: Window) -> tuple[Window, ...]:
    """Return two windows with half the marketplaces each."""
    ids = window.marketplace_ids
    middle = len(ids) // 2
    fresh = afresh(window)
    return replace(fresh, marketplace_ids=ids[:middle]), replace(fresh, marketplace_ids=ids[middle:])


def halves_of_orders(window: Window) -> tuple[Window, ...]:
    """Return two windows of the same second, each for a part of its orders; none when there is no part.

    By marketplace, then by who fulfils, then by status, as far as Amazon filters.
    """
    if len(window.marketplace_ids) > 1:
        return halves_of_marketplaces(window)
    fresh = afresh(window)
    if not window.fulfilled_by:
        return tuple(replace(fresh, fulfilled_by=(word,)) for word in FULFILLERS)
    statuses = window.statuses or tuple(sorted(STATUSES))
    if len(statuses) == 1:
        return ()
    middle = len(statuses) // 2
    return replace(fresh, statuses=statuses[:middle]), replace(fresh, statuses=statuses[middle:])


def parted(window: Window, leaving: Collection[str]) -> tuple[Window, ...]:
    """Return the window for the marketplaces that stay, and one for those that leave, to wait by itself."""
    staying = tuple(m for m in window.marketplace_ids if m not in leaving)
    going = tuple(m for m in window.marketplace_ids if m in leaving)
    return tuple(replace(afresh(window), marketplace_ids=ids) for ids in (staying, going) if ids)


# --- what went wrong --------------------------------------------------------------------------------


def failed(window: Window, why: Failure, now: datetime) -> Window:
    """Return the window after one more failed attempt; the fifth sets it aside as a gap."""
    attempts = window.attempts + 1
    if attempts >= ATTEMPTS:
        is_new = window.kind == "live" and attempts < ATTEMPTS + ATTEMPTS_LIVE
        longest = LONGEST_PAUSE_LIVE if is_new else LONGEST_PAUSE
        pause = backoff(attempts - ATTEMPTS + 1, first=900, longest=longest)
        changed = replace(window, state="set_aside", retry_at=now + pause)
    else:
        changed = replace(window, retry_at=now + backoff(attempts))
    return replace(changed, attempts=attempts, last_error=why, owner=None, claimed_until=None)


def refused(window: Window, why: Failure, now: datetime) -> tuple[Window, tuple[Window, ...]]:
    """Return the window after Amazon refused it (400, 403), and the windows that replace it.

    A group is narrowed down by halves; a single marketplace counts a failure. Refused access is believed
    at the second time only: Amazon has answered 403 to all callers for 25 minutes (facts §6, 14).
    """
    is_believed = why.status not in (401, 403) or window.attempts >= 1
    if len(window.marketplace_ids) > 1 and is_believed:
        parts = tuple(
            replace(w, attempts=0, retry_at=None, last_error=why) for w in halves_of_marketplaces(window)
        )
        return replace(cancelled(window), last_error=why), parts
    return failed(window, why, now), ()


def restarted(window: Window, why: Failure, now: datetime) -> tuple[Window, tuple[Window, ...]]:
    """Return the window after its walk could not go on, and the parts to read in its place.

    A walk ends early when its token is refused, repeated or too old, or a page brings nothing new. A second
    that cannot be split by time is split by its orders; when that is impossible, too, it is a visible gap
    that is tried again from its first page.
    """
    attempts = window.attempts + 1
    parts = halves_of_orders(window) if is_instant(window) else parts_of_time(window)
    if attempts >= ATTEMPTS or not parts:
        first_page = replace(window, page_token=None, walk_started_at=None, pages=0, orders=0)
        tries = max(window.attempts, ATTEMPTS - 1) if not parts else window.attempts
        return failed(replace(first_page, attempts=tries), why, now), ()
    return replace(cancelled(window), last_error=why), tuple(
        replace(w, attempts=attempts, last_error=why) for w in parts
    )
