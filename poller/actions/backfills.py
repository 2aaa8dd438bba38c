"""History of a given stretch as a person asks for it: understood, planned, begun, paused, cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from poller.actions.backfill_progress import ACTIVE, Standing, budgets_of, expected_in, latest_end
from poller.actions.places import OPTIONS, Place, Words, chosen_place, stretch_of
from poller.backfill import estimates
from poller.backfill.estimates import Budgets
from poller.errors import Refused, Unknown
from poller.ingest.accounts import Account
from poller.text import iso_rounded_up
from store import backfill_reports as stored
from store import ledger
from store.engine import Transaction
from store.progress import Backfill, BackfillState, Interval, Way


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stretch of history that a person asked for; ``notes`` say where it had to be shortened."""

    place: Place
    stretch: Interval
    way: Way
    notes: tuple[str, ...]


def wanted(
    accounts: Mapping[str, Account],
    marketplace: str,
    first: str,
    end: str,
    by: str,
    account: str | None,
    now: datetime,
    words: Words = OPTIONS,
) -> Wanted:
    """Understand what somebody asks for. Raises Refused with one sentence about what is wrong."""
    if by not in get_args(Way):
        raise Refused(f"{words.by} {by} is no way to fetch history: there are search, report and auto.")
    way: Way = "search" if by == "search" else "report" if by == "report" else "auto"
    lower, upper = stretch_of(first, end, words)
    place = chosen_place(accounts, marketplace, account, words)
    notes = []
    latest, oldest = latest_end(now), estimates.earliest(place.polled.code, now)
    if lower >= latest:
        raise Refused(f"{words.lower} {first} is in the future: there are no orders yet.")
    if upper <= oldest:
        raise Refused(
            f"{words.upper} {end} is too early: Amazon shows orders of {place.polled.code} "
            f"since {oldest:%Y-%m-%d}."
        )
    if upper > latest:
        notes.append("until now, because the end lies ahead")
        upper = latest
    if lower < oldest:
        notes.append(f"from {oldest:%Y-%m-%d} on: older orders Amazon does not show any more")
        lower = oldest
    return Wanted(place, Interval(lower, upper), way, tuple(notes))


# --- plan -------------------------------------------------------------------------------------------

PER = 1_000
"""Orders that costs are told for when nobody can tell how many there are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stretch costs. ``expected`` orders, None when nobody can tell; ``again``: read already."""

    expected: int | None
    budgets: Budgets
    again: timedelta
    search: estimates.Cost
    report: estimates.Cost


def planned(tx: Transaction, wanted: Wanted, busy: float) -> Plan:
    """What a stretch of history costs, before anything is asked for."""
    place, stretch = wanted.place, wanted.stretch
    expected = expected_in(tx, place.name, place.polled.marketplace_id, stretch)
    budgets = budgets_of(tx, place, busy)
    read = ledger.read_coverage(tx, place.name, place.polled.marketplace_id, "created")
    number, span = PER if expected is None else expected, stretch.upper - stretch.lower
    return Plan(
        expected,
        budgets,
        sum((_common(i, stretch) for i in read), timedelta()),
        estimates.by_search(number, span, budgets),
        estimates.by_report(number, span, budgets),
    )


def overlapping(tx: Transaction, wanted: Wanted) -> list[tuple[Backfill, timedelta]]:
    """Each backfill of the marketplace that is not over and fetches some of this, too; and how much."""
    place = wanted.place
    return [
        (other, common)
        for other in ledger.load_backfills(tx, place.name)
        if other.marketplace_id == place.polled.marketplace_id
        and other.state in ("paused", *ACTIVE)
        and (common := _common(Interval(other.lower, other.upper), wanted.stretch)) > timedelta()
    ]


def _common(one: Interval, other: Interval) -> timedelta:
    return max(timedelta(), min(one.upper, other.upper) - max(one.lower, other.lower))


# --- start and direct -------------------------------------------------------------------------------


def start(tx: Transaction, wanted: Wanted) -> int:
    """Record a backfill; returns its number. Raises Refused for one that is going on already."""
    place, stretch = wanted.place, wanted.stretch
    for other in ledger.wanted_backfills(tx, place.name):
        same = (other.marketplace_id, other.lower) == (place.polled.marketplace_id, stretch.lower)
        if same and abs(other.upper - stretch.upper) < timedelta(days=1):
            raise Refused(
                f"backfill {other.backfill_id} fetches this already: `order-sync backfill show "
                f"{other.backfill_id}`."
            )
    return ledger.open_backfill(
        tx,
        place.name,
        place.polled.marketplace_id,
        "manual",
        stretch.lower,
        stretch.upper,
        wanted.way,
        "planned",
    )


def find(tx: Transaction, backfill_id: int) -> Backfill:
    """One backfill, locked. Raises Unknown."""
    found = ledger.lock_backfill(tx, backfill_id) if 0 < backfill_id < 2**63 else None
    if found is None:
        raise Unknown(f"there is no backfill {backfill_id}: `order-sync backfill list` shows them.")
    return found


def pause(tx: Transaction, backfill_id: int) -> Backfill:
    """Ask for nothing more of a backfill until it is resumed. Raises Refused."""
    return _direct(tx, backfill_id, "paused", ACTIVE, "paused")


def resume(tx: Transaction, backfill_id: int, *, running_too: bool = False) -> Backfill:
    """Go on with a paused backfill, or ``running_too`` with one that is going on. Raises Refused."""
    return _direct(tx, backfill_id, "running", ("paused", *ACTIVE) if running_too else ("paused",), "resumed")


def cancel(tx: Transaction, backfill_id: int) -> Backfill:
    """Give a backfill up for good; what it fetched stays. Raises Refused."""
    return _direct(tx, backfill_id, "cancelled", ("paused", *ACTIVE), "cancelled")


def _direct(
    tx: Transaction, backfill_id: int, state: BackfillState, may: tuple[str, ...], word: str
) -> Backfill:
    find(tx, backfill_id)
    of: tuple[BackfillState, ...] = tuple(s for s in get_args(BackfillState) if s in may)
    changed = ledger.direct_backfill(tx, backfill_id, state, of)
    if changed and state == "cancelled":
        stored.forget(tx, backfill_id, parts=True)
    now = find(tx, backfill_id)
    if not changed:
        cannot = f"it cannot be {word}"
        if now.state == state or (state == "running" and now.state in ACTIVE):
            cannot = f"nothing has to be {word}"
        if now.state == "paused":
            cannot += f"; `order-sync backfill resume {backfill_id}` goes on"
        raise Refused(f"backfill {backfill_id} is {now.state} already: {cannot}.")
    return now


# --- show -------------------------------------------------------------------------------------------


def backfill_object(standing: Standing) -> dict[str, Any]:
    """One backfill with its fixed keys."""
    found = standing.backfill
    return {
        "id": found.backfill_id,
        "marketplace": standing.marketplace,
        "from": iso_rounded_up(found.lower),
        "to": iso_rounded_up(found.upper),
        "by": found.way,
        "state": found.state,
        "windows_done": found.windows_done,
        "windows_total": standing.windows_total,
        "orders": found.orders,
        "requests": found.requests,
        "eta": None if standing.eta is None else iso_rounded_up(standing.eta),
    }
