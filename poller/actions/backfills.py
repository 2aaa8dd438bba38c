"""Backfills on request: parse, plan, start, pause, resume and cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from config.settings import Settings
from poller import export
from poller.actions.arguments import OPTIONS, Place, Words, chosen_place, parsed_range
from poller.actions.backfill_progress import (
    ACTIVE,
    Standing,
    budgets_of,
    expected_in,
    read_ranges,
    waits_for,
)
from poller.backfill import estimates
from poller.backfill.estimates import Budgets, Expected
from poller.errors import Refused, Unknown
from poller.ingest.accounts import Account
from poller.sync.decide import BACKFILL_FIRST_SPAN, signpost
from poller.text import iso_rounded_up, lasting, when
from store import backfill_reports, ledger
from store.engine import Transaction
from store.progress import Backfill, BackfillState, Interval, Way, gaps


@dataclass(frozen=True, slots=True)
class Request:
    """A requested backfill; ``notes`` say where its range was shortened.

    ``again``: read also what has been read already. ``words``: how its arguments are called.
    """

    place: Place
    interval: Interval
    way: Way
    notes: tuple[str, ...]
    again: bool = False
    words: Words = OPTIONS


def parsed(
    accounts: Mapping[str, Account],
    marketplace: str,
    first: str,
    end: str,
    by: str,
    account: str | None,
    now: datetime,
    words: Words = OPTIONS,
    *,
    again: bool = False,
) -> Request:
    """Parse a request. Raises Refused with one sentence about what is wrong."""
    if by not in get_args(Way):
        raise Refused(f"{words.by} {by} is unknown: it is search, report or auto.")
    way: Way = "search" if by == "search" else "report" if by == "report" else "auto"
    lower, upper = parsed_range(first, end, words)
    place = chosen_place(accounts, marketplace, account, words)
    if place.polled.marketplace_id in place.source.reported:
        raise Refused(
            f"{place.polled.code} orders come by Amazon's report alone, from their start date on; "
            "`order-sync verify --repair` fetches what is missing."
        )
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
    kept = place.source.rules.retention.orders_since(now)
    if kept is not None and upper <= kept:
        raise Refused(
            f"{words.upper} {end} is too early: orders are kept since {kept:%Y-%m-%d} "
            "(ORDER_SYNC_ORDER_RETENTION_MONTHS)."
        )
    if kept is not None and lower < kept and kept > oldest:
        notes.append(
            f"from {kept:%Y-%m-%d} on: older orders are not kept (ORDER_SYNC_ORDER_RETENTION_MONTHS)"
        )
        lower = kept
    if lower < oldest:
        notes.append(f"from {oldest:%Y-%m-%d} on: Amazon no longer shows older orders")
        lower = oldest
    return Request(place, Interval(lower, upper), way, tuple(notes), again, words)


# --- plan -------------------------------------------------------------------------------------------

ASSUMED_ORDERS = 1_000
"""How many orders a cost is given for if their number cannot be estimated."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a backfill. ``expected``: orders of the range; ``read``: how much of it was read already.

    ``todo``: what it would read, None if all has been read. ``waits``: what it would wait for, in words.
    """

    expected: Expected
    read: timedelta
    todo: Interval | None
    budgets: Budgets
    search: estimates.Cost
    report: estimates.Cost
    waits: str | None


def planned(tx: Transaction, request: Request, settings: Settings) -> Plan:
    """Estimate a backfill without requesting anything."""
    place, interval = request.place, request.interval
    marketplace_id, code = place.polled.marketplace_id, place.polled.code
    budgets = budgets_of(tx, place, settings)
    read = read_ranges(tx, place.name, marketplace_id)
    todo = _todo(read, request)
    orders: int | None = 0
    span = timedelta()
    if todo is not None:
        orders = expected_in(tx, place.name, marketplace_id, todo).total
        span = todo.upper - todo.lower
    number = ASSUMED_ORDERS if orders is None else orders
    return Plan(
        expected_in(tx, place.name, marketplace_id, interval),
        sum((_common(i, interval) for i in read), timedelta()),
        todo,
        budgets,
        estimates.by_search(number, span, budgets, BACKFILL_FIRST_SPAN),
        estimates.by_report(number, span, budgets, BACKFILL_FIRST_SPAN) if todo else estimates.NOTHING,
        waits_for(tx, place.name, marketplace_id, code),
    )


def _todo(read: Sequence[Interval], request: Request) -> Interval | None:
    """Return the range from the first to the last part that has not been read; None if there is none."""
    if request.again:
        return request.interval
    missing = gaps(read, request.interval.lower, request.interval.upper)
    return Interval(missing[0].lower, missing[-1].upper) if missing else None


def orders_of(plan: Plan) -> str:
    """Say how many orders a planned range holds, and how sure that is."""
    expected = plan.expected
    counted = f"{expected.counted:,} counted in the {lasting(plan.read)} that have been read"
    if expected.certainty == "exact":
        return f"{expected.counted:,}, counted: all of the range has been read."
    if expected.judged is None:
        known = f"{counted}; of the rest nothing is known" if plan.read else "unknown"
        return (
            f"{known}: too little of this marketplace is stored to estimate. Per {ASSUMED_ORDERS:,} orders:"
        )
    judged = f"about {expected.judged:,}{' in the rest' if plan.read else ''}, judged by the "
    judged += f"{lasting(expected.sample)} nearest to it that have been read"
    if expected.certainty == "guess":
        judged += " (a guess, because that is short: it may be several times as many, or as few)"
    return f"{counted}, {judged}." if plan.read else f"{judged}."


def live_pace(plan: Plan) -> str:
    """Say what live reading will be beside a backfill."""
    budgets = plan.budgets
    alone, busy = lasting(timedelta(seconds=budgets.alone)), lasting(timedelta(seconds=budgets.poll_seconds))
    if plan.search.time == timedelta() or alone == busy:
        return f"Meanwhile changes are looked for every {alone}, as without a backfill."
    return (
        f"Meanwhile, once the searches at hand are used up, changes are looked for every {busy} instead of "
        f"every {alone}."
    )


def orders_left(standing: Standing) -> str | None:
    """Say how many orders an unfinished backfill has left, and how sure that is: its end rests on it."""
    if standing.left is None:
        return "unknown, too little around has been read"
    sure = {"exact": "counted", "guess": "a guess: the end moves with what is found"}
    return f"about {standing.left:,} ({sure.get(standing.sure, 'judged by what was read around')})"


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


@dataclass(frozen=True, slots=True)
class Started:
    """A recorded backfill; ``notes``: what is left out of its range, and what it waits for."""

    backfill_id: int
    notes: tuple[str, ...]


def start(tx: Transaction, request: Request) -> Started:
    """Record a backfill. Raises Refused if its range is read already, or by one that is unfinished."""
    place, interval = request.place, request.interval
    marketplace_id, code = place.polled.marketplace_id, place.polled.code
    for other in ledger.wanted_backfills(tx, place.name):
        same = (other.marketplace_id, other.lower) == (marketplace_id, interval.lower)
        if same and abs(other.upper - interval.upper) < timedelta(days=1):
            raise Refused(
                f"backfill {other.backfill_id} already fetches this: `order-sync backfill show "
                f"{other.backfill_id}`."
            )
    todo = _todo(read_ranges(tx, place.name, marketplace_id), request)
    if todo is None:
        raise Refused(f"all of this has been read already; {request.words.again} reads it again.")
    notes = list(request.notes)
    if todo != interval:
        notes.append(
            f"only {when(todo.lower)} to {when(todo.upper)} UTC: the rest has been read already; "
            f"{request.words.again} reads it again"
        )
    number = ledger.open_backfill(
        tx, place.name, marketplace_id, "manual", todo.lower, todo.upper, request.way, "planned"
    )
    if waits := waits_for(tx, place.name, marketplace_id, code):
        notes.append(f"backfill {number} waits: {waits}")
    return Started(number, tuple(notes))


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
        "waits_for": standing.waits,
    }
