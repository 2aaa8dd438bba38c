"""``order-sync status``: how the service stands, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table
from poller.cli.session import opened
from poller.matching.explanations import BASIS
from poller.monitoring.attention import of_other_shops, without_file
from poller.monitoring.gather import gather
from poller.monitoring.status import (
    BackfillStatus,
    BudgetStatus,
    MarketplaceStatus,
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
    None: "going on, or its process died",
}


def status(
    as_json: AsJson = False,
) -> None:
    """How fresh the data is, what is missing, what comes next, and what needs attention."""
    with opened(wired=True) as service:
        found = gather(service)
    if as_json:
        put_json(as_object(found))
        return
    _put_headline(found)
    for source in found.sources:
        put()
        _put_source(source, found.at)
    if found.not_polled:
        put()
        put(f"Not polled, because they are not enabled: {', '.join(found.not_polled)}.")
    put()
    _put_totals(found)


def _put_headline(found: Status) -> None:
    """The one thing to know: that all is well, or what is not, the worst first."""
    if found.attention:
        put("Needs attention:")
        for sentence in found.attention:
            put(f"  - {plain(sentence)}")
        return
    bounds = [source.covered_until for source in found.sources]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds) or not known:
        put("Nothing needs attention. Not everything has been read for the first time yet.")
        return
    behind = lasting(found.at - min(known))
    if any(marketplace.history_gaps for source in found.sources for marketplace in source.marketplaces):
        put(f"All is well: what is new and changed is here up to {behind} ago; history is still being read.")
    else:
        put(f"All is well: everything is here up to {behind} ago.")


def _put_source(source: SourceStatus, now: datetime) -> None:
    if source.covered_until is None:
        put(f"{source.source}: not everything has been read for the first time yet")
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
            ("next run due", f"{_at(source.next_at, now)}: {source.next_why}"),
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
            "missing since live reading began",
            "history",
            "verified",
        ),
        [_marketplace(m, now) for m in source.marketplaces],
        indent=2,
    )


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
    stretches = counted(windows.windows, "stretch", "stretches")
    aside = f", {windows.set_aside} of them failed" if windows.set_aside else ""
    so_far = f"{counted(windows.pages, 'page')} with {counted(windows.orders, 'order')}"
    return f"{KINDS[windows.kind]}: {stretches}{aside}, from {when(windows.oldest)} on; so far {so_far}"


def _backfill(backfill: BackfillStatus) -> str:
    span = f"{backfill.lower:%Y-%m-%d} to {backfill.upper:%Y-%m-%d}"
    cost = f"{counted(backfill.orders, 'order')} in {counted(backfill.requests, 'request')}"
    way = "newest first" if backfill.by == "search" else "from both ends"
    ready = "" if backfill.eta is None else f", ready about {when(backfill.eta)} UTC"
    waits = "" if backfill.waits is None else f", {backfill.waits}"
    done = f"{backfill.done:.0%} done, {way}{waits}"
    return f"{backfill.marketplace} {span}: {done}; {cost} ({backfill.state}{ready})"


_OPERATIONS = {"searchOrders": "searches", "getOrder": "single orders"}


def _budget(budget: BudgetStatus, now: datetime) -> str:
    every = timedelta(seconds=1 / budget.rate)
    refill = f"one more every {lasting(every)}" if budget.rate <= 1 else f"{budget.rate:.0f} more a second"
    possible = "" if budget.next_request_at <= now else f"; the next one {_at(budget.next_request_at, now)}"
    left = f"{int(budget.tokens)} of {int(budget.burst)}"
    return f"{_OPERATIONS[budget.operation]}: {left} left, {refill}{possible}"


def _marketplace(marketplace: MarketplaceStatus, now: datetime) -> tuple[object, ...]:
    until = marketplace.covered_until
    missing = [f"{_span(Interval(g.lower, g.upper))} ({_GAPS[g.state]})" for g in marketplace.gaps]
    if marketplace.enrolled is False:
        missing.append("not enrolled, so not asked for")
    if marketplace.live_from is None:
        history = ""
    elif marketplace.history_from is None:
        history = "none wanted"
    elif marketplace.history_gaps:
        many = counted(len(marketplace.history_gaps), "stretch", "stretches")
        history = (
            f"missing: {_days(marketplace.history_gaps)}"
            if len(marketplace.history_gaps) < 4
            else f"missing: {many}"
        )
    else:
        history = f"complete from {marketplace.history_from:%Y-%m-%d}"
    return (
        marketplace.marketplace,
        when(until, otherwise="nothing yet"),
        "" if until is None else lasting(now - until),
        ", ".join(missing) or "nothing",
        history,
        "; ".join(_verified(proof, now) for proof in _told(marketplace)),
    )


def _told(marketplace: MarketplaceStatus) -> list[VerificationStatus]:
    """The newest verification, and those before it that no later one has made good."""
    newest, unsettled = marketplace.verification, marketplace.unsettled_verifications
    if newest is None or any(proof.id == newest.id for proof in unsettled):
        return list(unsettled)
    return [newest, *unsettled]


def _verified(proof: VerificationStatus, now: datetime) -> str:
    span = f"{proof.lower:%Y-%m-%d} to {proof.upper:%Y-%m-%d}"
    missing = [f"{proof.still_missing} missing"] if proof.still_missing else []
    if proof.finished_at is None:
        return f"{span}: {', '.join([*missing, 'going on'])}"
    ago = f"{lasting(now - proof.finished_at)} ago"
    if proof.not_compared:
        return f"{span}: {', '.join([*missing, 'could not be', ago])}"
    if missing:
        return f"{span}: {', '.join([*missing, ago])}"
    fetched = proof.missing + proof.older
    return f"{span}: {f'{fetched} fetched' if fetched else 'nothing missing'}, {ago}"


_GAPS = {
    "reading": "being read",
    "proving": "read, being made sure of",
    "set_aside": "failed, tried again later",
    "waiting": "waiting",
}


def _span(interval: Interval) -> str:
    return f"{when(interval.lower)} to {when(interval.upper)}"


def _days(intervals: Sequence[Interval]) -> str:
    return ", ".join(f"{i.lower:%Y-%m-%d} to {i.upper:%Y-%m-%d}" for i in intervals)


def _quarantine(kept: Counts) -> str:
    waiting = f"; {kept.waiting} of them wait for a person" if kept.waiting else ""
    return f"could not be understood, since {when(kept.oldest)}{waiting}"


def _put_totals(found: Status) -> None:
    totals = found.totals
    put("In the database:")
    put_table(
        ("", ">", ""),
        [
            ("orders", totals.orders, ""),
            (
                "customers",
                totals.customers,
                f"{totals.unidentified} of them unidentified (orders without e-mail)",
            ),
            *(
                row
                for row in (
                    ("pending orders", totals.pending, "remembered, not orders yet"),
                    ("held orders", totals.held, "wait for their customer"),
                    (
                        "suggested for merging",
                        totals.suggested,
                        "an edited record whose order went to another",
                    ),
                    (
                        "without a file",
                        sum(one.orders for one in without_file(totals)),
                        "no customer until their marketplace has one",
                    ),
                    (
                        "other shops",
                        sum(one.orders for one in of_other_shops(totals)),
                        "not Amazon's marketplaces, or none is named; no customer",
                    ),
                    ("quarantine", totals.quarantined, _quarantine(found.quarantine)),
                )
                if row[1]
            ),
        ],
        indent=2,
    )
    if totals.by_basis:
        put("How orders got their customers:")
        rows = [
            (
                BASIS.get(basis, basis),
                many,
                "cancelled early, or of a shop that is not configured" if basis == "none" else basis,
            )
            for basis, many in totals.by_basis.items()
        ]
        put_table(("", ">", ""), rows, indent=2)
