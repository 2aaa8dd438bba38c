"""``order-sync verify``: compare Amazon's list of orders with the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from connectors.errors import ConnectorError, Deferred
from connectors.marketplaces import CODES
from poller.actions.arguments import chosen_place, parsed_range
from poller.actions.verifications import (
    KINDS,
    OUTCOMES,
    chosen_way,
    notes,
    nothing_read,
    require_listed,
    unread_rows,
    verdict,
    verification_object,
)
from poller.bootstrap import Service, utc_now
from poller.cli.failures import DEFERRED, MISSING, Failure
from poller.cli.options import AsJson, From, Marketplace, OfAccount, To
from poller.cli.output import put, put_json, put_table, say
from poller.cli.progress import busy, on_terminal, wait_until
from poller.cli.session import opened, stopped_by_signals
from poller.sync import decide, seller
from poller.text import iso_rounded_up, when
from poller.verification.lists import REPORT_CHECKED_EVERY
from poller.verification.run import Verifier
from store.ledger import Superseded
from store.verification_records import Finding, Verification

MISSING_SHOWN = 20
"""Missing orders that are named before the verification is over."""


def verify(
    marketplace: Marketplace,
    from_: From,
    to: To,
    account: OfAccount = None,
    by: Annotated[
        str, typer.Option(metavar="WAY", help="report (Amazon's report of all orders) or search.")
    ] = "report",
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch orders that are missing or outdated.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the report and the request budget until done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that no order is missing: compare the orders that Amazon lists for a period with the database.

    Exit status: 0 if complete; 3 if orders are missing (with --repair: still missing, or in quarantine);
    75 if the report is still being made, the request budget is used up, or the end of the period has not
    been read yet: run the same command again to continue; 1 if nothing of the period has been read yet,
    or the verification failed.
    """
    lower, upper = parsed_range(from_, to)
    way = chosen_way(by)
    with opened(wired=True) as service, stopped_by_signals(service) as signals:
        place = chosen_place(service.accounts, marketplace, account)
        name = f"{place.name}:{place.polled.code}"
        require_listed(place, way)
        seller.require(service.store, place.source)
        verifier = service.syncer(place.source.key).verifier()
        job = verifier.begin(place.polled.marketplace_id, lower, upper, way, repair=repair)
        if job is None:
            raise Failure(nothing_read(place.name, place.polled.code))
        if job.version:
            say(_continuation(job))
        try:
            job = _carried_out(service, verifier, job, wait, signals)
        except ConnectorError:
            _print(verifier.latest(job), as_json)
            raise
        pace = timedelta(seconds=service.config.settings.poll_seconds)
    _print(job, as_json)
    if job.state == "failed":
        compared = "" if job.position <= job.lower else f" after {when(job.position)} UTC"
        advice = "; try `--by search`" if job.by == "report" else ""
        raise Failure(f"{name}: verification failed: {job.message}; nothing{compared} was compared{advice}.")
    if job.lacking:
        raise typer.Exit(MISSING)
    if job.unreadable:
        raise Failure(f"{name}: {unread_rows(job.unreadable, job.message)}; try `--by search`.")
    if job.upper < job.asked_upper:
        say(f"{name}: orders placed after {when(job.upper)} UTC have not been read yet: not compared")
        readable = max(job.asked_upper, utc_now()) + decide.SIGNPOST_MARGIN + pace
        say(f"deferred until {iso_rounded_up(readable)}")
        raise typer.Exit(DEFERRED)


def _continuation(job: Verification) -> str:
    """Return which verification is continued, and how."""
    done = f"compared up to {when(job.position)} UTC" if job.position > job.lower else "nothing compared yet"
    missing = f", {len(job.lacking)} missing so far" if job.lacking else ""
    repair = "missing orders are fetched" if job.repair else "without --repair, nothing is fetched"
    return f"continuing the verification of {when(job.created_at)} UTC: {done}{missing}; {repair}"


def _print(job: Verification, as_json: bool) -> None:
    """Print the result; of an unfinished or failed verification, its findings if it has any."""
    if as_json and (job.is_over or job.findings):
        put_json(verification_object(job))
    elif job.state == "done" or job.findings or (job.is_over and job.position > job.lower):
        _put(job)


def _carried_out(
    service: Service, verifier: Verifier, job: Verification, wait: bool, signals: Sequence[int]
) -> Verification:
    """Continue until it is over. Raises Exit if it must wait and ``wait`` is False."""
    while True:
        try:
            job = verifier.latest(job)
            with busy(_comparing(job)):
                return verifier.carry_out(job)
        except Deferred as error:
            until, why = error.until, str(error)
        except Superseded:
            until, why = utc_now() + REPORT_CHECKED_EVERY, "another process works on it"
        if signals:
            say("stopped; run the same command again to continue")
            raise typer.Exit(128 + signals[0])
        if not wait:
            say(f"{why}; run the same command again to continue")
            if missing := verifier.latest(job).lacking:
                say(f"missing so far: {_named(missing)}")
            say(f"deferred until {iso_rounded_up(until)}")
            raise typer.Exit(DEFERRED)
        if not on_terminal():
            say(why)
        wait_until(until, service.stop.wait, why)


def _comparing(job: Verification) -> str:
    """Return what is going on with a verification."""
    found = f", {len(job.lacking)} missing so far" if job.lacking else ""
    done = f" from {when(job.position)} UTC on" if job.position > job.lower else ""
    return f"comparing Amazon's list with the database{done}{found}"


def _named(missing: Sequence[Finding]) -> str:
    ids = ", ".join(finding.order_id for finding in missing[:MISSING_SHOWN])
    more = len(missing) - MISSING_SHOWN
    return f"{ids} and {more} more" if more > 0 else ids


def _put(job: Verification) -> None:
    ways = {"report": "Amazon's report", "search": "Amazon's search"}
    name = f"{job.account}:{CODES[job.marketplace_id]}"
    put(f"{name}: orders placed from {when(job.lower)} to {when(job.upper)} UTC, by {ways[job.by]}")
    put(f"  {verdict(job)}")
    for note in notes(job):
        put(f"  {note}")
    if job.findings:
        put_table(
            ("order", "finding", "placed (UTC)", "updated (UTC)", "result"),
            _rows(job.findings),
            indent=2,
        )


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
