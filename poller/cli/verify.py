"""``order-sync verify``: is anything missing? Amazon's own list against the database."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from connectors.errors import ConnectorError, Deferred
from connectors.marketplaces import BY_ID
from poller.actions.places import chosen_place, stretch_of
from poller.actions.verifications import KINDS, chosen_way, nothing_read, verification_object
from poller.bootstrap import Service, utc_now
from poller.cli.failures import DEFERRED, INTERRUPTED, MISSING, Failure
from poller.cli.options import AsJson, From, Marketplace, OfAccount, To
from poller.cli.output import put, put_json, put_table, say, wait_until
from poller.cli.session import opened, stopped_by_signals
from poller.sync import windows
from poller.text import counted, iso_rounded_up, when
from poller.verification.lists import REPORT_CHECKED_EVERY
from poller.verification.run import Verifier
from store.ledger import Superseded
from store.verification import Finding, Verification

OUTCOMES = {
    "stored": "fetched and stored",
    "quarantined": "is in quarantine: what Amazon sent could not be understood",
    "unreadable": "fetched, and not even its id could be understood",
    "not_found": "Amazon does not give it by its id",
}
IN_QUARANTINE = (
    "`order-sync quarantine list` says why; Amazon is asked again by itself, an upgrade reads it again"
)
SHOWN = 20
"""Missing orders that are named while the rest has to wait."""


def verify(
    marketplace: Marketplace,
    from_: From,
    to: To,
    account: OfAccount = None,
    by: Annotated[
        str, typer.Option(metavar="WAY", help="report: Amazon's report of all orders; search: its search.")
    ] = "report",
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch what is missing or older by its id.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the report and the request budget, and finish.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Is anything missing? Compares the orders that Amazon lists for a period with the database.

    Exit status: 0 complete, 3 something is missing (with --repair: still missing, or in quarantine), 75
    when the report is still being made, the request budget is used up, or the end of the period has not
    been read yet; then the same command goes on from there. 1 when nothing of the period has been read
    yet, or it cannot be proven.
    """
    lower, upper = stretch_of(from_, to)
    way = chosen_way(by)
    with opened(wired=True) as service, stopped_by_signals(service) as signals:
        place = chosen_place(service, marketplace, account)
        name = f"{place.name}:{place.polled.code}"
        verifier = service.syncer(place.source.key).verifier()
        job = verifier.begin(place.polled.marketplace_id, lower, upper, way, repair=repair)
        if job is None:
            raise Failure(nothing_read(place.name, place.polled.code))
        if job.version:
            say(_goes_on(job))
        try:
            job = _carried_out(service, verifier, job, wait, signals)
        except ConnectorError:
            _tell(verifier.latest(job), as_json)
            raise
        pace = timedelta(seconds=service.config.settings.poll_seconds)
    _tell(job, as_json)
    if job.state == "failed":
        proven = "nothing" if job.position <= job.lower else f"nothing after {when(job.position)} UTC"
        other = "; try `--by search`" if job.by == "report" else ""
        raise Failure(f"{name}: {job.message}: {proven} is proven{other}.")
    if job.left:
        raise typer.Exit(MISSING)
    if job.upper < job.asked_upper:
        say(
            f"{name}: orders placed after {when(job.upper)} UTC have not been read yet, and were not compared"
        )
        readable = max(job.asked_upper, utc_now()) + windows.SIGNPOST_MARGIN + pace
        say(f"deferred until {iso_rounded_up(readable)}")
        raise typer.Exit(DEFERRED)


def _goes_on(job: Verification) -> str:
    """What is continued, and how."""
    far = f"compared up to {when(job.position)} UTC" if job.position > job.lower else "nothing compared yet"
    missing = f", {len(job.left)} missing so far" if job.left else ""
    how = "what is missing is fetched" if job.repair else "nothing is fetched, without --repair"
    return f"goes on with the verification begun at {when(job.created_at)} UTC: {far}{missing}; {how}"


def _tell(job: Verification, as_json: bool) -> None:
    """The result; of one that is not over or has failed, what it has found, if it has found anything."""
    if as_json and (job.is_over or job.findings):
        put_json(verification_object(job))
    elif job.state == "done" or job.findings or (job.is_over and job.position > job.lower):
        _put(job)


def _carried_out(
    service: Service, verifier: Verifier, job: Verification, wait: bool, signals: Sequence[int]
) -> Verification:
    """Go on until it is over. Raises Exit when that has to wait, and nobody wants to."""
    while True:
        try:
            job = verifier.latest(job)
            return verifier.carry_out(job)
        except Deferred as error:
            until, why = error.until, str(error)
        except Superseded:
            until, why = utc_now() + REPORT_CHECKED_EVERY, "another process is at work on it"
        if signals:
            say("stopped; the same command goes on from there")
            raise typer.Exit(INTERRUPTED if signals[0] == signal.SIGINT else 128 + signals[0])
        if not wait:
            say(f"{why}; the same command goes on from there")
            if left := verifier.latest(job).left:
                say(f"missing so far: {', '.join(finding.order_id for finding in left[:SHOWN])}{_more(left)}")
            say(f"deferred until {iso_rounded_up(until)}")
            raise typer.Exit(DEFERRED)
        say(why)
        wait_until(until, service.stop.wait)


def _more(left: Sequence[Finding]) -> str:
    return f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""


def _put(job: Verification) -> None:
    ways = {"report": "Amazon's report", "search": "Amazon's search"}
    name = f"{job.account}:{BY_ID[job.marketplace_id].code}"
    put(f"{name}: orders placed from {when(job.lower)} to {when(job.upper)} UTC, by {ways[job.by]}")
    put(f"  {_verdict(job)}")
    if job.position < job.upper:
        far = f"only those up to {when(job.position)} UTC" if job.position > job.lower else "none"
        put(f"  {far} could be compared so far")
    if job.upper < job.asked_upper:
        put(f"  later ones have not been read yet: {when(job.upper)} UTC is how far reading has got")
    if job.before_start:
        put(f"  {counted(job.before_start, 'order')} from before the start date, not wanted")
    held_up = sum(f.kind == "quarantined" or f.outcome == "quarantined" for f in job.findings)
    if held_up:
        put(f"  {counted(held_up, 'order')} in quarantine: {IN_QUARANTINE}")
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
        verdict = "complete" if job.state == "done" else "NOT proven"
        return f"{verdict}: {listed}, none of them is missing"
    parts = [f"{found[kind]} {KINDS[kind]}" for kind in ("missing", "older") if found[kind]]
    left = len(job.left)
    if left == lacking:
        return f"NOT complete: {listed}, {', '.join(parts)}"
    if left:
        fetched = f"{lacking - left} of them fetched, {left} still missing"
        return f"NOT complete: {listed}, {', '.join(parts)}; {fetched}"
    verdict = "complete now" if job.state == "done" else "NOT proven"
    return f"{verdict}: {listed}, {', '.join(parts)}, and fetched"


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
