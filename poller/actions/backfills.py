"""Backfills on request: parse, plan, start, pause, resume and cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from poller import export
from poller.actions.arguments import OPTIONS, Place, Words, chosen_place, parsed_range
from poller.actions.backfill_progress import ACTIVE, Standing, budgets_of, expected_in
from poller.backfill import estimates
from poller.backfill.estimates import Budgets
from poller.errors import Refused, Unknown
from poller.ingest.accounts import Account
from poller.sync.decide import signpost
from poller.text import iso_rounded_up
from store import backfill_reports, ledger
from store.engine import Transaction
from store.progress import Backfill, BackfillState, Interval, Way


@dataclass(frozen=True, slots=True)
class Request:
    """A requested backfill; ``notes`` say where its range was shortened."""

    place: Place
    interval: Interval
    way: Way
    notes: tuple[str, ...]


def parsed(
    accounts: Mapping[str, Account],
    marketplace: str,
    first: str,
    end: str,
    by: str,
    account: str | None,
    now: datetime,
    words: Words = OPTIONS,
) -> Request:
    """Parse a request. Raises Refused with one sentence about what is wrong."""
    if by not in get_args(Way):
        raise Refused(f"{words.by} {by} is unknown: it is search, report or auto.")
    way: Way = "search" if by == "search" else "report" if by == "report" else "auto"
    lower, upper = parsed_range(first, end, words)
    place = chosen_place(accounts, marketplace, account, words)
    notes = []
    latest, oldest = signpost(now), estimates.earliest(place.polled.code, now)
    if lower >= latest:
        raise Refused(f"{words.lower} {first} is in the future: there are no orders yet.")
    if upper <= oldest:
        raise Refused(
            f"{words.upper} {end} is too early: Amazon shows orders of {place.polled.code} "
            f"only since {oldest:%Y-%m-%d}."
        )
    if upper > latest:
        notes.append(f"until now, because {words.upper} is in the future")
        upper = latest
    if lower < oldest:
        notes.append(f"from {oldest:%Y-%m-%d} on: Amazon no longer shows older orders")
        lower = oldest
    return Request(place, Interval(lower, upper), way, tuple(notes))


# --- plan -------------------------------------------------------------------------------------------

ASSUMED_ORDERS = 1_000
"""How many orders a cost is given for if their number cannot be estimated."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a backfill. ``expected``: orders, None if unknown; ``again``: what was read already."""

    expected: int | None
    budgets: Budgets
    again: timedelta
    search: estimates.Cost
    report: estimates.Cost


def planned(tx: Transaction, request: Request, busy: float) -> Plan:
    """Estimate a backfill without requesting anything."""
    place, interval = request.place, request.interval
    expected = expected_in(tx, place.name, place.polled.marketplace_id, interval)
    budgets = budgets_of(tx, place, busy)
    read = ledger.read_coverage(tx, place.name, place.polled.marketplace_id, "created")
    number, span = ASSUMED_ORDERS if expected is None else expected, interval.upper - interval.lower
    return Plan(
        expected,
        budgets,
        sum((_common(i, interval) for i in read), timedelta()),
        estimates.by_search(number, span, budgets),
        estimates.by_report(number, span, budgets),
    )


def overlapping(tx: Transaction, request: Request) -> list[tuple[Backfill, timedelta]]:
    """Return unfinished backfills of this marketplace that overlap the range, and by how much."""
    place = request.place
    return [
        (other, common)
        for other in ledger.load_backfills(tx, place.name)
        if other.marketplace_id == place.polled.marketplace_id
        and other.state in ("paused", *ACTIVE)
        and (common := _common(Interval(other.lower, other.upper), request.interval)) > timedelta()
    ]


def _common(first: Interval, second: Interval) -> timedelta:
    return max(timedelta(), min(first.upper, second.upper) - max(first.lower, second.lower))


# --- start and direct -------------------------------------------------------------------------------


def start(tx: Transaction, request: Request) -> int:
    """Record a backfill and return its ID. Raises Refused if one of this range is unfinished."""
    place, interval = request.place, request.interval
    for other in ledger.wanted_backfills(tx, place.name):
        same = (other.marketplace_id, other.lower) == (place.polled.marketplace_id, interval.lower)
        if same and abs(other.upper - interval.upper) < timedelta(days=1):
            raise Refused(
                f"backfill {other.backfill_id} already fetches this: `order-sync backfill show "
                f"{other.backfill_id}`."
            )
    return ledger.open_backfill(
        tx,
        place.name,
        place.polled.marketplace_id,
        "manual",
        interval.lower,
        interval.upper,
        request.way,
        "planned",
    )


def find(tx: Transaction, backfill_id: int) -> Backfill:
    """Return one backfill, locked. Raises Unknown."""
    backfill = ledger.lock_backfill(tx, backfill_id) if 0 < backfill_id < 2**63 else None
    if backfill is None:
        raise Unknown(f"there is no backfill {backfill_id}: `order-sync backfill list` shows all.")
    return backfill


def pause(tx: Transaction, backfill_id: int) -> Backfill:
    """Stop requests for a backfill until it is resumed. Raises Refused."""
    return _direct(tx, backfill_id, "paused", ACTIVE, "paused")


def resume(tx: Transaction, backfill_id: int, *, running_too: bool = False) -> Backfill:
    """Resume a paused backfill; ``running_too`` accepts one that is not paused. Raises Refused."""
    return _direct(tx, backfill_id, "running", ("paused", *ACTIVE) if running_too else ("paused",), "resumed")


def cancel(tx: Transaction, backfill_id: int) -> Backfill:
    """End a backfill for good; what it fetched stays. Raises Refused."""
    return _direct(tx, backfill_id, "cancelled", ("paused", *ACTIVE), "cancelled")


def _direct(
    tx: Transaction, backfill_id: int, state: BackfillState, may: tuple[str, ...], word: str
) -> Backfill:
    find(tx, backfill_id)
    of: tuple[BackfillState, ...] = tuple(s for s in get_args(BackfillState) if s in may)
    changed = ledger.direct_backfill(tx, backfill_id, state, of)
    if changed and state == "cancelled":
        backfill_reports.forget(tx, backfill_id, parts=True)
    now = find(tx, backfill_id)
    if not changed:
        is_so = now.state == state or (state == "running" and now.state in ACTIVE)
        sentence = f"backfill {backfill_id} is {'already ' if is_so else ''}{now.state}"
        sentence += f": it {'need not' if is_so else 'cannot'} be {word}"
        if now.state == "paused":
            sentence += f"; `order-sync backfill resume {backfill_id}` continues it"
        raise Refused(f"{sentence}.")
    return now


# --- show -------------------------------------------------------------------------------------------


def backfill_object(standing: Standing) -> export.Backfill:
    """Return a backfill with its fixed keys."""
    backfill = standing.backfill
    return {
        "id": backfill.backfill_id,
        "marketplace": standing.marketplace,
        "from": iso_rounded_up(backfill.lower),
        "to": iso_rounded_up(backfill.upper),
        "by": backfill.way,
        "state": backfill.state,
        "windows_done": backfill.windows_done,
        "windows_total": standing.windows_total,
        "orders": backfill.orders,
        "requests": backfill.requests,
        "eta": None if standing.eta is None else iso_rounded_up(standing.eta),
    }
