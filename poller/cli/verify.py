"""``order-sync verify``: is anything missing? Amazon's own list against the database."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Annotated

import typer

from connectors.amazon.marketplaces import BY_ID
from connectors.errors import Deferred
from poller.bootstrap import Service, utc_now
from poller.choosing import chosen_place, stretch_of
from poller.cli.running import wait_until
from poller.cli.shell import (
    DEFERRED,
    INTERRUPTED,
    MISSING,
    Failure,
    counted,
    opened,
    put,
    put_json,
    put_table,
    say,
    stopped_by_signals,
    when,
)
from poller.moments import iso
from poller.proving import KINDS, chosen_way, nothing_read, verification_object
from poller.verifying import LOOK_EVERY, Verifier
from store.ledger import Superseded
from store.proof import Finding, Verification

OUTCOMES = {
    "stored": "fetched and stored",
    "quarantined": "fetched, could not be understood, is in quarantine",
    "unreadable": "fetched, and not even its id could be understood",
    "not_found": "Amazon does not give it by its id",
}


def verify(
    marketplace: Annotated[str, typer.Option(metavar="CODE", help="Of which marketplace, for example UK.")],
    since: Annotated[
        str, typer.Option("--from", metavar="DATE", help="Orders placed from this day or time (UTC) on.")
    ],
    until: Annotated[str, typer.Option("--to", metavar="DATE", help="Up to this day or time, exclusive.")],
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Needed when several accounts sell there.")
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="WAY", help="report: Amazon's report of all orders; search: its search.")
    ] = "report",
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch what is missing or older by its id.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the report and the request budget, and finish.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Is anything missing? Compares the orders that Amazon lists for a period with the database.

    Exit status: 0 complete, 3 something is missing (with --repair: still missing), 75 when the report is
    still being made or the request budget is used up; then the same command goes on from there.
    """
    lower, upper = stretch_of(since, until)
    way = chosen_way(by)
    with opened(wired=True) as service, stopped_by_signals(service) as signals:
        place = chosen_place(service, marketplace, account)
        name = f"{place.name}:{place.polled.code}"
        verifier = service.syncer(place.source.key).verifier()
        job = verifier.asked(place.polled.marketplace_id, lower, upper, way, repair=repair)
        if job is None:
            raise Failure(nothing_read(place.name, place.polled.code))
        job = _carried_out(service, verifier, job, wait, signals)
    if job.state == "failed":
        other = "; try `--by search`" if job.by == "report" else ""
        raise Failure(f"{name}: {job.message}: nothing is proven{other}.")
    if as_json:
        put_json(verification_object(job))
    else:
        _put(job)
    if job.left:
        raise typer.Exit(MISSING)


def _carried_out(
    service: Service, verifier: Verifier, job: Verification, wait: bool, signals: Sequence[int]
) -> Verification:
    """Go on until it is over. Raises Exit when that has to wait, and nobody wants to."""
    while True:
        try:
            return verifier.carry_on(job)
        except Deferred as error:
            until, why = error.until, str(error)
        except Superseded:
            until, why = utc_now() + LOOK_EVERY, "another process is at work on it"
        if signals:
            say("stopped; the same command goes on from there")
            raise typer.Exit(INTERRUPTED if signals[0] == signal.SIGINT else 128 + signals[0])
        if not wait:
            say(f"{why}; the same command goes on from there")
            say(f"deferred until {iso(until)}")
            raise typer.Exit(DEFERRED)
        say(why)
        wait_until(until, service.stop.wait)
        job = verifier.latest(job)


def _put(job: Verification) -> None:
    ways = {"report": "Amazon's report", "search": "Amazon's search"}
    name = f"{job.account}:{BY_ID[job.marketplace_id].code}"
    put(f"{name}: orders placed from {when(job.lower)} to {when(job.upper)} UTC, by {ways[job.by]}")
    put(f"  {_verdict(job)}")
    if job.upper < job.asked_upper:
        put(f"  later ones have not been read yet: {when(job.upper)} UTC is how far reading has got")
    if job.before_start:
        put(f"  {counted(job.before_start, 'order')} from before the start date, not wanted")
    if job.findings:
        put_table(
            ("order", "what", "placed (UTC)", "Amazon's update", "and then"),
            _rows(job.findings),
            indent=2,
        )


def _verdict(job: Verification) -> str:
    found = {kind: sum(f.kind == kind for f in job.findings) for kind in KINDS}
    listed = f"{counted(job.listed, 'order')} listed"
    lacking = found["missing"] + found["older"]
    if not lacking:
        return f"complete: {listed}, none of them is missing"
    parts = [f"{found[kind]} {KINDS[kind]}" for kind in ("missing", "older") if found[kind]]
    left = len(job.left)
    if left == lacking:
        return f"NOT complete: {listed}, {', '.join(parts)}"
    if left:
        fetched = f"{lacking - left} of them fetched, {left} still missing"
        return f"NOT complete: {listed}, {', '.join(parts)}; {fetched}"
    return f"complete now: {listed}, {', '.join(parts)}, and fetched"


def _rows(findings: Sequence[Finding]) -> list[tuple[object, ...]]:
    return [
        (
            f.order_id,
            KINDS[f.kind],
            when(f.created_at),
            when(f.last_updated_at),
            OUTCOMES.get(f.outcome or ""),
        )
        for f in findings
    ]
