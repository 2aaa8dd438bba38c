"""``order-sync sync``: sync everything that is due, once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from config.problems import Problem, each_once
from poller.bootstrap import Service, spare_the_collector, utc_now
from poller.cli.failures import BAD_INPUT, DEFERRED, FAULT, Failure, sentences_of, show_traceback
from poller.cli.output import say
from poller.cli.progress import busy, wait_until
from poller.cli.session import opened, stopped_by_signals
from poller.monitoring.health import REFUSAL_REMEDIES, remedy
from poller.sync.run import RunReport
from poller.text import counted, iso_rounded_up
from store.engine import Unavailable
from store.runs import RunOutcome

DUE_AT_ONCE = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


def sync(
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="KEY", help="Only this source, for example acme:EU or acme:UK."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the request budget and continue until all is covered.")
    ] = False,
) -> None:
    """Sync everything that is due, once: new and changed orders, second looks, history.

    Exit status: 0 if all is covered, 75 if deferred by the request budget (the last line on standard error
    says until when), 1 if an account failed (the others are synced all the same).
    """
    with opened(create=True, wired=True) as service, stopped_by_signals(service) as signals:
        for problem in each_once(service.problems):
            say(f"{problem.severity}: {problem.message}")
        keys = _source_keys(service, source)
        spare_the_collector()
        failed, deferred = _carry_out(service, keys, wait)
        if signals:
            say("stopped; everything read so far is stored")
            raise typer.Exit(128 + signals[0])
        if failed or (source is None and _leaves_out_something(service.problems)):
            raise typer.Exit(FAULT)
        if deferred is not None:
            say(f"deferred until {iso_rounded_up(deferred)}")
            raise typer.Exit(DEFERRED)


def _source_keys(service: Service, source: str | None) -> list[str]:
    known = sorted(service.sources)
    if source is None:
        if not known:
            raise Failure("no source can be polled: `order-sync config check` says why.", status=BAD_INPUT)
        return known
    written = {key.lower(): key for key in known}.get(source.lower())
    if written is None:
        sources = f"known sources: {', '.join(known)}" if known else "none can be polled"
        raise Failure(f"there is no source {source}; {sources}.", status=BAD_INPUT)
    return [written]


def _leaves_out_something(problems: Sequence[Problem]) -> bool:
    """Return True if a problem keeps an account or a marketplace from being synced."""
    return any(problem.stops != "nothing" for problem in problems)


def _carry_out(service: Service, keys: Sequence[str], wait: bool) -> tuple[bool, datetime | None]:
    """Run the sources in turn. Returns (True if any failed, the earliest time that one is deferred until)."""
    due = dict.fromkeys(keys, DUE_AT_ONCE)
    deferred: list[datetime] = []
    reasons: dict[str, str] = {}
    failed = False
    while due and not service.stop.is_set():
        key = min(due, key=due.__getitem__)
        if due[key] > utc_now():
            wait_until(due[key], service.stop.wait, reasons.get(key, ""))
            continue
        del due[key]
        report = _one_run(service, key)
        if report is None or report.outcome == "failed":
            failed = True
        elif report.outcome != "complete" and wait:
            due[key], reasons[key] = report.until, f"{key}: {report.message}"
        elif report.outcome != "complete":
            deferred.append(report.until)
    return failed, min(deferred, default=None)


def _one_run(service: Service, key: str) -> RunReport | None:
    """Run a source and print one line about it; None if an unexpected error ended it: the others go on."""
    try:
        with busy(f"{key}: reading from Amazon"):
            report = service.syncer(key).run()
    except Unavailable:
        raise
    except Exception as error:
        show_traceback(error)
        say(f"{key}: failed: {sentences_of(error)[1]}")
        return None
    say(f"{key}: {summary_of(report)}")
    return report


_OUTCOMES: dict[RunOutcome, str] = {
    "complete": "all covered",
    "deferred": "deferred",
    "failed": "failed",
    "superseded": "left to another process that is syncing it",
}


def summary_of(report: RunReport) -> str:
    """Return how a run ended, in words: outcome, reason, what to do, and what was done."""
    words = _OUTCOMES[report.outcome]
    if report.outcome == "deferred":
        words += f" until {iso_rounded_up(report.until)}: {report.message}"
    elif report.outcome == "complete" and report.message:
        words += f" except {report.message}"
    elif report.outcome == "failed":
        kind = None if report.failure is None else report.failure.kind
        advice = remedy(kind) if report.refused is None else REFUSAL_REMEDIES[report.refused]
        words += f": {report.message}; {advice}"
        if report.refused is not None and not report.requests:  # refused a token: nothing to count
            return words
    numbers = (
        counted(report.pages, "page"),
        counted(report.orders, "order"),
        counted(report.requests, "request"),
    )
    return f"{words} ({', '.join(numbers)})"
