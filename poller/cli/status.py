"""``order-sync status``: the state of the service, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table
from poller.cli.session import opened
from poller.matching.explanations import BASIS
from poller.monitoring.gather import gather
from poller.monitoring.health import of_other_shops, without_file
from poller.monitoring.status import (
    BackfillStatus,
    BudgetStatus,
    MarketplaceStatus,
    PaceStatus,
    SourceStatus,
    Status,
    VerificationStatus,
    WindowsStatus,
    as_object,
)
from poller.text import counted, lasting, plain, when
from store.progress import Interval
from store.quarantine import Counts
from store.runs import Run

KINDS = {"live": "new and changed orders", "sweep": "second look", "backfill": "history"}
OUTCOMES = {
    "complete": "all covered",
    "deferred": "stopped for now",
    "failed": "failed",
    "superseded": "left to another process",
    None: "running, or its process died",
}


def status(
    as_json: AsJson = False,
) -> None:
    """Show how fresh the data is, what is missing, what comes next, and what needs attention."""
    with opened(wired=True) as service:
        state = gather(service.store, service.setup)
    if as_json:
        put_json(as_object(state))
        return
    _put_headline(state)
    for source in state.sources:
        put()
        _put_source(source, state.at)
    if state.not_polled:
        put()
        put(f"Not polled, because not enabled: {', '.join(state.not_polled)}.")
    put()
    _put_totals(state)


def _put_headline(state: Status) -> None:
    """Print that all is well, or what needs attention, the worst first."""
    if state.attention:
        put("Needs attention:")
        for sentence in state.attention:
            put(f"  - {plain(sentence)}")
        return
    bounds = [source.covered_until for source in state.sources]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds) or not known:
        put("Nothing needs attention. The first read is not complete yet.")
        return
    behind = lasting(state.at - min(known))
    if any(marketplace.history_gaps for source in state.sources for marketplace in source.marketplaces):
        put(f"All is well: what is new is complete up to {behind} ago; history is still being read.")
    else:
        put(f"All is well: everything is complete up to {behind} ago.")


def _put_source(source: SourceStatus, now: datetime) -> None:
    if source.covered_until is None:
        put(f"{source.source}: the first read is not complete yet")
    else:
        behind = lasting(now - source.covered_until)
        put(f"{source.source}: complete up to {behind} ago ({when(source.covered_until)} UTC)")
    last = "never" if source.last_run is None else _run(source.last_run, now)
    succeeded = "never" if source.succeeded_at is None else f"{lasting(now - source.succeeded_at)} ago"
    put_table(
        ("", ""),
        [
            ("last run", last),
            ("last page stored", succeeded),
            ("next run", f"{_at(source.next_at, now)}: {source.next_why}"),
            *(() if source.pace is None else (("live looks", _pace(source.pace)),)),
            *(("request budget", _budget(budget, now)) for budget in source.budgets),
            *(("being read", _windows(windows)) for windows in source.windows),
            *(("history", _backfill(backfill)) for backfill in source.backfills),
        ],
        indent=2,
    )
    put()
    put_table(
        (
            "marketplace",
            "complete up to (UTC)",
            ">behind",
            "gaps since live polling began",
            "history",
            "verified",
        ),
        [_marketplace(m, now) for m in source.marketplaces],
        indent=2,
    )


def _pace(pace: PaceStatus) -> str:
    every = f"every {lasting(timedelta(seconds=pace.look_every_seconds))}"
    changes = f"{pace.changes_per_day:,} changes a day at the present rate"
    carried = f"this plan carries about {round(pace.carried_per_day, -3):,}"
    if pace.changes_per_day > pace.carried_per_day:
        carried += ": live reading falls behind until it is quieter"
    return f"{every}; {changes}, {carried}"


def _at(time: datetime, now: datetime) -> str:
    return "now" if time <= now else f"{time:%H:%M:%S} UTC, in {lasting(time - now)}"


def _run(run: Run, now: datetime) -> str:
    words = f"{lasting(now - run.started_at)} ago: {OUTCOMES[run.outcome]}"
    if run.message and run.outcome == "complete":
        words += f" except {run.message}"
    if run.message and run.outcome in ("failed", "deferred"):
        words += f" ({run.message})"
    numbers = (counted(run.pages, "page"), counted(run.orders, "order"), counted(run.requests, "request"))
    return f"{words}; {', '.join(numbers)}"


def _windows(windows: WindowsStatus) -> str:
    failed = f", {windows.set_aside} of them failed" if windows.set_aside else ""
    read = f"{counted(windows.pages, 'page')} with {counted(windows.orders, 'order')}"
    bounds = f"{counted(windows.windows, 'window')}{failed}, from {when(windows.oldest)} UTC"
    return f"{KINDS[windows.kind]}: {bounds}; {read} so far"


def _backfill(backfill: BackfillStatus) -> str:
    span = f"{backfill.lower:%Y-%m-%d} to {backfill.upper:%Y-%m-%d}"
    cost = f"{counted(backfill.orders, 'order')} in {counted(backfill.requests, 'request')}"
    way = "newest first" if backfill.by == "search" else "from both ends"
    ready = "" if backfill.eta is None else f", ready at about {when(backfill.eta)} UTC"
    waits = "" if backfill.waits is None else f", {backfill.waits}"
    done = f"{backfill.done:.0%} done, {way}{waits}"
    return f"{backfill.marketplace} {span}: {done}; {cost} ({backfill.state}{ready})"


_OPERATIONS = {"searchOrders": "searches", "getOrder": "single orders"}


def _budget(budget: BudgetStatus, now: datetime) -> str:
    every = timedelta(seconds=1 / budget.rate)
    refill = f"one more every {lasting(every)}" if budget.rate <= 1 else f"{budget.rate:.0f} more a second"
    wait = "" if budget.next_request_at <= now else f"; the next one {_at(budget.next_request_at, now)}"
    tokens = f"{int(budget.tokens)} of {int(budget.burst)}"
    return f"{_OPERATIONS[budget.operation]}: {tokens} left, {refill}{wait}"


def _marketplace(marketplace: MarketplaceStatus, now: datetime) -> tuple[object, ...]:
    until = marketplace.covered_until
    missing = [f"{_span(Interval(g.lower, g.upper))} ({_GAPS[g.state]})" for g in marketplace.gaps]
    if marketplace.enrolled is False:
        missing.append("not polled: the seller is not enrolled")
    if marketplace.live_from is None:
        history = ""
    elif marketplace.history_from is None:
        history = "none configured"
    elif gaps := marketplace.history_gaps:
        history = f"missing: {_days(gaps) if len(gaps) < 4 else counted(len(gaps), 'range')}"
    else:
        history = f"complete from {marketplace.history_from:%Y-%m-%d}"
    return (
        marketplace.marketplace,
        when(until, otherwise="not yet"),
        "" if until is None else lasting(now - until),
        ", ".join(missing) or "none",
        history,
        "; ".join(_verified(verification, now) for verification in _unsettled(marketplace)),
    )


def _unsettled(marketplace: MarketplaceStatus) -> list[VerificationStatus]:
    """Return the newest verification, and earlier ones whose findings no later one has settled."""
    newest, unsettled = marketplace.verification, marketplace.unsettled_verifications
    if newest is None or any(verification.id == newest.id for verification in unsettled):
        return list(unsettled)
    return [newest, *unsettled]


def _verified(verification: VerificationStatus, now: datetime) -> str:
    span = f"{verification.lower:%Y-%m-%d} to {verification.upper:%Y-%m-%d}"
    missing = [f"{verification.still_missing} missing"] if verification.still_missing else []
    if verification.finished_at is None:
        return f"{span}: {', '.join([*missing, 'in progress'])}"
    ago = f"{lasting(now - verification.finished_at)} ago"
    if verification.not_compared:
        return f"{span}: {', '.join([*missing, 'failed', ago])}"
    if missing:
        return f"{span}: {', '.join([*missing, ago])}"
    fetched = verification.missing + verification.older
    return f"{span}: {f'{fetched} fetched' if fetched else 'nothing missing'}, {ago}"


_GAPS = {
    "reading": "being read",
    "proving": "read, being confirmed",
    "set_aside": "failed, will be retried",
    "waiting": "waiting",
}


def _span(interval: Interval) -> str:
    return f"{when(interval.lower)} to {when(interval.upper)}"


def _days(intervals: Sequence[Interval]) -> str:
    return ", ".join(f"{i.lower:%Y-%m-%d} to {i.upper:%Y-%m-%d}" for i in intervals)


def _quarantine(kept: Counts) -> str:
    waiting = f"; {kept.waiting} need{'s' if kept.waiting == 1 else ''} a person" if kept.waiting else ""
    return f"could not be read, the oldest since {when(kept.oldest)} UTC{waiting}"


def _put_totals(state: Status) -> None:
    totals = state.totals
    put("In the database:")
    put_table(
        ("", ">", ""),
        [
            ("orders", totals.orders, ""),
            ("customers", totals.customers, f"{totals.unidentified} unidentified (orders without e-mail)"),
            *(
                row
                for row in (
                    ("pending orders", totals.pending, "not counted as orders yet"),
                    ("held orders", totals.held, "waiting for their customer"),
                    (
                        "suggested for merging",
                        totals.suggested,
                        "edited customers whose order moved to another",
                    ),
                    (
                        "without a file",
                        sum(group.orders for group in without_file(totals)),
                        "no customer until their marketplace has a file",
                    ),
                    (
                        "other shops",
                        sum(group.orders for group in of_other_shops(totals)),
                        "not Amazon's marketplaces, or none named: no customer",
                    ),
                    ("quarantine", totals.quarantined, _quarantine(state.quarantine)),
                )
                if row[1]
            ),
        ],
        indent=2,
    )
    if totals.by_basis:
        put("How orders got their customers:")
        none = "cancelled early, or of a marketplace that is not configured"
        rows = [
            (BASIS.get(basis, basis), orders, none if basis == "none" else basis)
            for basis, orders in totals.by_basis.items()
        ]
        put_table(("", ">", ""), rows, indent=2)
