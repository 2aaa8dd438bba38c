"""``order-sync backfill``: history of a given stretch, planned, started and watched."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from poller.actions import backfills
from poller.actions.backfill_progress import ACTIVE, Standing, standing_of
from poller.actions.backfills import PER, Plan, Wanted, backfill_object, planned, wanted
from poller.actions.places import Place, place_of
from poller.backfill import estimates, history
from poller.backfill.estimates import Cost
from poller.bootstrap import Service, spare_the_collector, utc_now
from poller.cli.failures import BAD_INPUT, FAULT, INTERRUPTED, Failure
from poller.cli.options import AsJson, From, Marketplace, OfAccount, To
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened, stopped_by_signals
from poller.monitoring.attention import REFUSED
from poller.text import counted, lasting, when
from store import backfill_reports as stored
from store import ledger, runs
from store.engine import Transaction
from store.progress import Interval

app = typer.Typer()

By = Annotated[
    str, typer.Option("--by", metavar="WAY", help="search, report (both request budgets), or auto.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Carry it out here, until it is done.")]
Id = Annotated[int, typer.Argument(metavar="ID", help="Its number, as `backfill list` shows it.")]

LINE_EVERY = 10.0
LONGEST_PAUSE = timedelta(minutes=1)
"""The present state is looked at no later than this: somebody may have paused it."""


@app.callback()
def backfill() -> None:
    """History of a given stretch: plan it, start it, watch, pause, resume or cancel it."""


# --- plan -------------------------------------------------------------------------------------------


@app.command()
def plan(marketplace: Marketplace, from_: From, to: To, by: By = "auto", account: OfAccount = None) -> None:
    """What a stretch of history costs, before anything is asked for; changes nothing."""
    with opened(create=True, wired=True) as service:
        asked = wanted(service, marketplace, from_, to, by, account)
        with service.store.read() as tx:
            found = planned(tx, service, asked)
            others = _overlapping(tx, asked)
        _put_plan(asked, found, others)


def _overlapping(tx: Transaction, wanted: Wanted) -> list[str]:
    """A sentence for each backfill of the marketplace that is not over and fetches some of this, too."""
    return [
        f"backfill {other.backfill_id} ({_stretch(Interval(other.lower, other.upper))}) is {other.state} and "
        f"overlaps: {lasting(common)} would be fetched by both"
        for other, common in backfills.overlapping(tx, wanted)
    ]


def _put_plan(wanted: Wanted, plan: Plan, others: list[str]) -> None:
    stretch, span = wanted.stretch, wanted.stretch.upper - wanted.stretch.lower
    put(f"{wanted.place.polled.code} of account {wanted.place.name}: {_stretch(stretch)}, by {wanted.way}")
    for note in (*wanted.notes, *others):
        put(f"  {note}")
    if plan.again > timedelta():
        put(f"  {lasting(plan.again)} of it have been read already, and would be read again")
    put()
    if plan.expected is None:
        put(
            f"Orders: unknown, because too little of this marketplace is stored to tell. Each {PER:,} orders:"
        )
    else:
        put(f"Orders: about {plan.expected:,}, judged by those that are stored.")
    put_table(
        ("by", ">windows", ">requests", ">searches", ">by id", ">of reports", "time"),
        [("search", *_cells(plan.search)), ("report", *_cells(plan.report))],
    )
    put()
    put(_advice(plan.search, plan.report, span))
    budgets = plan.budgets
    tokens = f"{budgets.search.tokens:.0f} of {budgets.search.burst:.0f} searches are there now"
    put(
        f"The time is that of the budget ({tokens}, then {_pace(budgets.search.rate)}; orders by id: "
        f"{_pace(budgets.get.rate)}), after live polling each {budgets.poll_seconds:.0f} s, "
        "which comes first."
    )
    put()
    put("What Amazon will not give:")
    put("  orders older than two years (Japan, Australia, Singapore: before 2016)")
    put("  the buyer's e-mail of orders that Amazon fulfils, and of cancelled ones")
    put("  telephone numbers once an order should have been delivered")
    put("  buyer data that you may not keep any more: it is erased 30 days after delivery")


def _cells(cost: Cost) -> tuple[object, ...]:
    took = "never: live polling needs all of it" if cost.time is None else f"about {lasting(cost.time)}"
    if cost.time == timedelta():
        took = "at once"
    return (cost.windows, f"{cost.requests:,}", f"{cost.searches:,}", f"{cost.gets:,}", cost.reports, took)


def _pace(rate: float) -> str:
    """A rate in requests a second, in words."""
    return f"{rate:.0f} a second" if rate > 1 else f"one each {1 / rate:.4g} s"


def _advice(search: Cost, report: Cost, span: timedelta) -> str:
    """Which way is faster, and why."""
    if span <= history.SETTLED_AFTER:
        return "Only searching comes into question: what is younger than a day is not looked up in reports."
    if estimates.is_faster(report, search):
        return (
            "Faster by report: while searching comes down from the newest order, orders are fetched by "
            "id from the oldest, out of another request budget; Amazon's report of all orders tells the ids."
        )
    return "Faster by search: it is through before Amazon has made a report."


def _stretch(stretch: Interval) -> str:
    return f"{_bound(stretch.lower)} to {_bound(stretch.upper)} UTC"


def _bound(moment: datetime) -> str:
    at_midnight = moment.hour == moment.minute == moment.second == 0
    return f"{moment:%Y-%m-%d}" if at_midnight else f"{moment:%Y-%m-%d %H:%M}"


# --- start ------------------------------------------------------------------------------------------


@app.command()
def start(
    marketplace: Marketplace,
    from_: From,
    to: To,
    by: By = "auto",
    account: OfAccount = None,
    wait: Wait = False,
) -> None:
    """Record a backfill and print its number; a running service, or `sync`, carries it out."""
    with opened(create=True, wired=True) as service:
        asked = wanted(service, marketplace, from_, to, by, account)
        for note in asked.notes:
            say(note)
        with service.store.begin() as tx:
            overlapping = _overlapping(tx, asked)
            number = backfills.start(tx, asked)
        for sentence in overlapping:
            say(sentence)
        put(str(number))
        sys.stdout.flush()
        if wait:
            _carry_out(service, asked.place, number)
        else:
            say(f"backfill {number} is recorded; a running service or `order-sync sync` carries it out")


@app.command()
def resume(backfill_id: Id, wait: Wait = False) -> None:
    """Go on with a paused backfill; with --wait, carry out one that is paused or going on, here."""
    with opened(create=True, wired=True) as service:
        with service.store.read() as tx:
            place = place_of(service, backfills.find(tx, backfill_id))
        if place is None:
            raise Failure(f"the marketplace of backfill {backfill_id} is not polled.", status=BAD_INPUT)
        service.store.commit(lambda tx: backfills.resume(tx, backfill_id, running_too=wait))
        if wait:
            _carry_out(service, place, backfill_id)
        else:
            say(f"backfill {backfill_id} goes on; a running service or `order-sync sync` carries it out")


@app.command()
def pause(backfill_id: Id) -> None:
    """Ask for nothing more of a backfill until it is resumed."""
    with opened() as service:
        service.store.commit(lambda tx: backfills.pause(tx, backfill_id))
        say(f"backfill {backfill_id} is paused; `order-sync backfill resume {backfill_id}` goes on")


@app.command()
def cancel(backfill_id: Id) -> None:
    """Give a backfill up for good; what it fetched stays."""
    with opened() as service:
        service.store.commit(lambda tx: backfills.cancel(tx, backfill_id))
        say(f"backfill {backfill_id} is cancelled; what it fetched stays")


# --- list and show ----------------------------------------------------------------------------------


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All backfills, those that start dates asked for too, oldest first."""
    with opened(wired=True) as service, service.store.read() as tx:
        standings = [standing_of(tx, service, found) for found in ledger.load_backfills(tx)]
    if as_json:
        put_json([backfill_object(standing) for standing in standings])
        return
    if not standings:
        say("there is no backfill")
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
            )
            for s in standings
        ],
    )


@app.command()
def show(backfill_id: Id, as_json: AsJson = False) -> None:
    """One backfill: how far it has got, and its reports."""
    with opened(wired=True) as service, service.store.read() as tx:
        found = backfills.find(tx, backfill_id)
        standing = standing_of(tx, service, found)
        parts = stored.load_parts(tx, backfill_id)
        ids = stored.count_ids(tx, backfill_id)
    if as_json:
        put_json(backfill_object(standing))
        return
    facts = [
        ("backfill", backfill_id),
        ("account", found.account),
        ("marketplace", standing.marketplace),
        ("stretch", _stretch(Interval(found.lower, found.upper))),
        ("asked for by", "the marketplace's start date" if found.reason == "start_date" else "a person"),
        ("by", found.way),
        ("state", found.state),
        ("done", f"{standing.share:.0%}"),
        ("waits", standing.waits),
        ("searched down to", f"{_bound(found.position)} UTC"),
        ("windows", f"{found.windows_done} of about {standing.windows_total}"),
        ("orders", found.orders),
        ("requests", found.requests),
        ("ids to look at", ids or None),
        ("ready", when(standing.eta) and f"about {when(standing.eta)} UTC"),
        ("ended", when(found.finished_at) and f"{when(found.finished_at)} UTC"),
    ]
    put_table(("", ""), [(name, value) for name, value in facts if value not in (None, "")])
    if parts:
        put()
        put_table(
            ("report from", "to", "state", ">orders", ">not known to Amazon", "because"),
            [
                (_bound(p.lower), _bound(p.upper), p.state, p.orders, p.lost or None, p.last_error)
                for p in parts
            ],
        )


# --- carrying out -----------------------------------------------------------------------------------


def _carry_out(service: Service, place: Place, backfill_id: int) -> None:
    """Run the backfill's source until the backfill is over, whoever else is at work on it."""
    spare_the_collector()
    told = ""
    with stopped_by_signals(service) as signals, _display(backfill_id) as display:
        while not service.stop.is_set():
            report = service.syncer(place.source.key).run()
            with service.store.read() as tx:
                found = ledger.lock_backfill(tx, backfill_id)
                standing = None if found is None else standing_of(tx, service, found)
                refused = runs.standing_refusal(tx, place.name, place.source.credential, place.source.secret)
            if standing is None or standing.backfill.state not in ACTIVE:
                break
            display(standing)
            if refused is not None:
                raise Failure(f"{refused.reason}: {REFUSED[refused.kind]}.")
            if report.outcome == "failed" and report.message and report.message != told:
                told = report.message
                say(f"{told}; tried again until it works")
            _pause(service, min(report.until, utc_now() + LONGEST_PAUSE))
        if standing is not None:
            display(standing, last=True)
    if signals:
        say(f"stopped; `order-sync backfill resume {backfill_id} --wait` goes on, or a running service does")
        raise typer.Exit(INTERRUPTED if signals[0] == signal.SIGINT else 128 + signals[0])
    state = "gone" if standing is None else standing.backfill.state
    if state != "done":
        say(f"backfill {backfill_id} was {state} meanwhile")
        raise typer.Exit(FAULT)
    say(f"backfill {backfill_id} is done")


def _pause(service: Service, until: datetime) -> None:
    service.stop.wait(max(0.05, (until - utc_now()).total_seconds()))


_Display = Callable[..., None]


@contextmanager
def _display(backfill_id: int) -> Iterator[_Display]:
    """Shows progress: a bar on a terminal, elsewhere a line now and then when there is something new."""
    began, at_first, said, told = time.monotonic(), -1, 0.0, ""

    def text(standing: Standing) -> str:
        nonlocal at_first
        found = standing.backfill
        if at_first < 0:
            at_first = found.orders
        hours = (time.monotonic() - began) / 3600
        pace = f", {(found.orders - at_first) / hours:,.0f} an hour" if hours > 1 / 60 else ""
        left = f", about {lasting(standing.eta - utc_now())} left" if standing.eta is not None else ""
        done = f"{counted(found.orders, 'order')} in {counted(found.requests, 'request')}"
        waits = "" if standing.waits is None else f", {standing.waits}"
        return f"{done}{pace}, {standing.share:.0%} done{waits}{left}"

    if not sys.stderr.isatty():

        def line(standing: Standing, *, last: bool = False) -> None:
            nonlocal said, told
            if last or not said or time.monotonic() - said >= LINE_EVERY:
                said = time.monotonic()
                told, before = text(standing), told
                if told != before:
                    say(f"backfill {backfill_id}: {told}")

        yield line
        return
    console = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True) as bar:
        task = bar.add_task(f"backfill {backfill_id}", total=1.0)

        def draw(standing: Standing, *, last: bool = False) -> None:
            bar.update(task, description=text(standing), completed=1.0 if last else standing.share)

        yield draw
