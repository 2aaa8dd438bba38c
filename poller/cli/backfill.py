"""``order-sync backfill``: read a range of history; plan, start and watch it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated

import typer

from poller.actions import backfills
from poller.actions.arguments import Place, place_of
from poller.actions.backfill_progress import ACTIVE, Standing, standing_of
from poller.actions.backfills import (
    Plan,
    Request,
    backfill_object,
    live_pace,
    orders_left,
    orders_of,
    parsed,
    planned,
)
from poller.backfill import estimates, history
from poller.backfill.estimates import Cost
from poller.bootstrap import Service, spare_the_collector, utc_now
from poller.cli.failures import BAD_INPUT, FAULT, Failure
from poller.cli.options import AsJson, From, Marketplace, OfAccount, To
from poller.cli.output import put, put_json, put_table, say
from poller.cli.progress import bar, on_terminal
from poller.cli.session import opened, stopped_by_signals
from poller.monitoring.health import REFUSAL_REMEDIES
from poller.text import counted, iso_rounded_up, lasting, when
from store import backfill_reports, ledger, runs
from store.engine import Transaction
from store.progress import Interval

app = typer.Typer()

By = Annotated[
    str, typer.Option("--by", metavar="WAY", help="search, report (uses both request budgets), or auto.")
]
Again = Annotated[bool, typer.Option("--again", help="Read also what has been read already.")]
Wait = Annotated[bool, typer.Option("--wait", help="Run it here, until it is done.")]
Id = Annotated[int, typer.Argument(metavar="ID", help="The backfill's number; see `backfill list`.")]

SECONDS_BETWEEN_LINES = 10.0
LONGEST_PAUSE = timedelta(minutes=1)
"""Between two checks of the backfill's state: it may be paused or cancelled elsewhere."""


@app.callback()
def group() -> None:
    """Read a range of history: plan, start, watch, pause, resume or cancel a backfill."""


# --- plan -------------------------------------------------------------------------------------------


@app.command()
def plan(
    marketplace: Marketplace,
    from_: From,
    to: To,
    by: By = "auto",
    account: OfAccount = None,
    again: Again = False,
) -> None:
    """Estimate a backfill without requesting anything."""
    with opened(create=True, wired=True) as service:
        request = parsed(service.accounts, marketplace, from_, to, by, account, utc_now(), again=again)
        with service.store.read() as tx:
            estimate = planned(tx, request, service.setup.settings)
            overlaps = _overlapping(tx, request)
        _put_plan(request, estimate, overlaps)


def _overlapping(tx: Transaction, request: Request) -> list[str]:
    """Return a sentence for each unfinished backfill of the marketplace that overlaps the range."""
    return [
        f"backfill {other.backfill_id} ({_range(Interval(other.lower, other.upper))}) is {other.state} and "
        f"overlaps: both would fetch {lasting(common)}"
        for other, common in backfills.overlapping(tx, request)
    ]


def _put_plan(request: Request, plan: Plan, overlaps: list[str]) -> None:
    interval = request.interval
    put(f"{request.place.polled.code} of account {request.place.name}: {_range(interval)}, by {request.way}")
    for note in (*request.notes, *overlaps):
        put(f"  {note}")
    if plan.waits is not None:
        put(f"  it would wait: {plan.waits}")
    put()
    put(f"Orders: {orders_of(plan)}")
    if plan.todo is None:
        put("All of this has been read already: `start` refuses it without --again.")
        return
    if plan.todo != interval:
        put(f"To read: {_range(plan.todo)}; the rest has been read already.")
    elif plan.read > timedelta():
        put(f"{lasting(plan.read)} of this have been read already and would be read again.")
    put_table(
        ("by", ">windows", ">requests", ">searches", ">by id", ">for reports", "time"),
        [("search", *_cells(plan.search)), ("report", *_cells(plan.report))],
    )
    put()
    put(_advice(plan.search, plan.report, plan.todo.upper - plan.todo.lower))
    budgets = plan.budgets
    tokens = f"{budgets.search.tokens:.0f} of {budgets.search.burst:.0f} searches are available now"
    put(
        f"The time depends on the request budget ({tokens}, then {_pace(budgets.search.rate)}; orders by "
        f"id: {_pace(budgets.get.rate)})."
    )
    put(live_pace(plan))
    put()
    put("What a backfill cannot bring:")
    put("  orders older than two years (Japan, Australia, Singapore: older than 2016)")
    put("  the buyer's e-mail of orders that Amazon fulfils, and of cancelled orders")
    put("  phone numbers after an order's promised delivery")
    put("  buyer data of orders delivered more than 30 days ago: Amazon's policy forbids keeping it")


def _cells(cost: Cost) -> tuple[object, ...]:
    time = (
        "never: live polling needs the whole budget" if cost.time is None else f"about {lasting(cost.time)}"
    )
    if cost.time == timedelta():
        time = "at once"
    return (cost.windows, f"{cost.requests:,}", f"{cost.searches:,}", f"{cost.gets:,}", cost.reports, time)


def _pace(rate: float) -> str:
    """Return a rate (requests per second) in words."""
    return f"{rate:.0f} a second" if rate > 1 else f"one every {1 / rate:.4g} s"


def _advice(search: Cost, report: Cost, span: timedelta) -> str:
    """Return which way is faster, and why."""
    if span <= history.SETTLED_AFTER:
        return "Only search is possible: reports are not used for the last day."
    if estimates.is_faster(report, search):
        return (
            "Faster by report: search reads from the newest order down while orders are fetched by id from "
            "the oldest up, with a second request budget; Amazon's report of all orders lists the ids."
        )
    return "Faster by search: it finishes before Amazon has made a report."


def _range(interval: Interval) -> str:
    return f"{_bound(interval.lower)} to {_bound(interval.upper)} UTC"


def _bound(time: datetime) -> str:
    is_midnight = time.hour == time.minute == time.second == 0
    return f"{time:%Y-%m-%d}" if is_midnight else when(time)


# --- start ------------------------------------------------------------------------------------------


@app.command()
def start(
    marketplace: Marketplace,
    from_: From,
    to: To,
    by: By = "auto",
    account: OfAccount = None,
    again: Again = False,
    wait: Wait = False,
) -> None:
    """Record a backfill and print its number. A running service or `sync` carries it out."""
    with opened(create=True, wired=True) as service:
        request = parsed(service.accounts, marketplace, from_, to, by, account, utc_now(), again=again)
        with service.store.begin() as tx:
            overlaps = _overlapping(tx, request)
            started = backfills.start(tx, request)
        number = started.backfill_id
        for sentence in (*overlaps, *started.notes):
            say(sentence)
        put(str(number))
        sys.stdout.flush()
        if wait:
            _carry_out(service, request.place, number)
        else:
            say(f"backfill {number} is recorded; a running service or `order-sync sync` carries it out")


@app.command()
def resume(backfill_id: Id, wait: Wait = False) -> None:
    """Resume a paused backfill. With --wait, run it here; it may be running already."""
    with opened(create=True, wired=True) as service:
        with service.store.read() as tx:
            place = place_of(service.accounts, backfills.find(tx, backfill_id))
        if place is None:
            raise Failure(
                f"the marketplace of backfill {backfill_id} is not polled: write its file, or set enabled = "
                "true there.",
                status=BAD_INPUT,
            )
        service.store.commit(lambda tx: backfills.resume(tx, backfill_id, running_too=wait))
        if wait:
            _carry_out(service, place, backfill_id)
        else:
            say(f"backfill {backfill_id} is resumed; a running service or `order-sync sync` carries it out")


@app.command()
def pause(backfill_id: Id) -> None:
    """Pause a backfill until it is resumed."""
    with opened() as service:
        service.store.commit(lambda tx: backfills.pause(tx, backfill_id))
        say(f"backfill {backfill_id} is paused; `order-sync backfill resume {backfill_id}` continues it")


@app.command()
def cancel(backfill_id: Id) -> None:
    """Cancel a backfill for good. Orders that it fetched stay."""
    with opened() as service:
        service.store.commit(lambda tx: backfills.cancel(tx, backfill_id))
        say(f"backfill {backfill_id} is cancelled; orders that it fetched stay")


# --- list and show ----------------------------------------------------------------------------------


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List all backfills, oldest first; those of the marketplaces' start dates, too."""
    with opened(wired=True) as service, service.store.read() as tx:
        standings = [standing_of(tx, service.setup, row) for row in ledger.load_backfills(tx)]
    if as_json:
        put_json([backfill_object(standing) for standing in standings])
        return
    if not standings:
        say("there are no backfills")
        return
    put_table(
        (
            ">id",
            "account",
            "marketplace",
            "from",
            "to",
            "by",
            "state",
            ">done",
            ">orders",
            ">requests",
            "ready",
            "waits for",
        ),
        [
            (
                s.backfill.backfill_id,
                s.backfill.account,
                s.marketplace,
                _bound(s.backfill.lower),
                _bound(s.backfill.upper),
                s.backfill.way,
                s.backfill.state,
                f"{s.share:.0%}",
                s.backfill.orders,
                s.backfill.requests,
                when(s.eta),
                s.waits,
            )
            for s in standings
        ],
    )


@app.command()
def show(backfill_id: Id, as_json: AsJson = False) -> None:
    """Show one backfill: its progress and its reports."""
    with opened(wired=True) as service, service.store.read() as tx:
        stored = backfills.find(tx, backfill_id)
        standing = standing_of(tx, service.setup, stored)
        reports = backfill_reports.load_parts(tx, backfill_id)
        ids = backfill_reports.count_ids(tx, backfill_id)
    if as_json:
        put_json(backfill_object(standing))
        return
    facts = [
        ("backfill", backfill_id),
        ("account", stored.account),
        ("marketplace", standing.marketplace),
        ("range", _range(Interval(stored.lower, stored.upper))),
        ("started by", "the marketplace's start date" if stored.reason == "start_date" else "a person"),
        ("by", stored.way),
        ("state", stored.state),
        ("done", f"{standing.share:.0%}"),
        ("waiting", standing.waits),
        ("searched down to", f"{_bound(stored.position)} UTC"),
        ("windows", f"{stored.windows_done} of about {standing.windows_total}"),
        ("orders", stored.orders),
        ("requests", stored.requests),
        ("ids to fetch", ids or None),
        ("orders left", standing.backfill.state in ACTIVE and orders_left(standing)),
        ("ready", when(standing.eta) and f"about {when(standing.eta)} UTC"),
        ("finished", when(stored.finished_at) and f"{when(stored.finished_at)} UTC"),
    ]
    put_table(("", ""), [(name, value) for name, value in facts if value not in (None, "", False)])
    if reports:
        put()
        put_table(
            ("report from", "to", "state", ">orders", ">not found by id", "error"),
            [
                (_bound(r.lower), _bound(r.upper), r.state, r.orders, r.lost or None, r.last_error)
                for r in reports
            ],
        )


# --- carrying out -----------------------------------------------------------------------------------


def _carry_out(service: Service, place: Place, backfill_id: int) -> None:
    """Run the backfill's source until the backfill is over; other processes may work on it, too."""
    spare_the_collector()
    reported, standing = "", None
    with stopped_by_signals(service) as signals, _display(backfill_id) as display:
        while not service.stop.is_set():
            if standing is not None:
                display(standing)  # it no longer waits
            report = service.syncer(place.source.key).run()
            with service.store.read() as tx:
                stored = ledger.lock_backfill(tx, backfill_id)
                standing = None if stored is None else standing_of(tx, service.setup, stored)
                refused = runs.standing_refusal(tx, place.name, place.source.credential, place.source.secret)
            if standing is None or standing.backfill.state not in ACTIVE:
                break
            pause_until = min(report.until, utc_now() + LONGEST_PAUSE)
            display(standing, until=pause_until)
            if refused is not None:
                raise Failure(f"{refused.reason}: {REFUSAL_REMEDIES[refused.kind]}.")
            if report.outcome == "failed" and report.message and report.message != reported:
                reported = report.message
                say(f"{reported}; it is retried until it works")
            _pause(service, pause_until)
        if standing is not None:
            display(standing, last=True)
    if signals:
        say(f"stopped; a running service continues, or `order-sync backfill resume {backfill_id} --wait`")
        raise typer.Exit(128 + signals[0])
    state = "removed" if standing is None else standing.backfill.state
    if state != "done":
        say(f"backfill {backfill_id} was {state} meanwhile")
        raise typer.Exit(FAULT)
    say(f"backfill {backfill_id} is done")


def _pause(service: Service, until: datetime) -> None:
    service.stop.wait(max(0.05, (until - utc_now()).total_seconds()))


_Display = Callable[..., None]


@contextmanager
def _display(backfill_id: int) -> Iterator[_Display]:
    """Show progress: a bar on a terminal; elsewhere a line every few seconds, if something changed."""
    started, orders_before, said_at, line_before = time.monotonic(), -1, 0.0, ""

    def text(standing: Standing) -> str:
        nonlocal orders_before
        stored = standing.backfill
        if orders_before < 0:
            orders_before = stored.orders
        hours = (time.monotonic() - started) / 3600
        pace = f", {(stored.orders - orders_before) / hours:,.0f} an hour" if hours > 1 / 60 else ""
        remaining = f", about {lasting(standing.eta - utc_now())} left" if standing.eta is not None else ""
        done = f"{counted(stored.orders, 'order')} in {counted(stored.requests, 'request')}"
        waits = "" if standing.waits is None else f", {standing.waits}"
        left = "" if not standing.left else f", about {counted(standing.left, 'order')} left"
        return f"{done}{left}{pace}, {standing.share:.0%} done{waits}{remaining}"

    if not on_terminal():

        def line(standing: Standing, *, last: bool = False, until: datetime | None = None) -> None:
            nonlocal said_at, line_before
            if last or not said_at or time.monotonic() - said_at >= SECONDS_BETWEEN_LINES:
                said_at = time.monotonic()
                if (new := text(standing)) != line_before:
                    say(f"backfill {backfill_id}: {new}")
                line_before = new

        yield line
        return
    with bar(f"backfill {backfill_id}: reading from Amazon") as drawn:

        def draw(standing: Standing, *, last: bool = False, until: datetime | None = None) -> None:
            waits = "" if until is None or until <= utc_now() else f"; waiting until {iso_rounded_up(until)}"
            drawn(f"backfill {backfill_id}: {text(standing)}{waits}", 1.0 if last else standing.share)

        yield draw
