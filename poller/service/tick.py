"""One tick of a source: run it, say what it did, and how long it may rest. Whoever calls it never fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from poller.bootstrap import utc_now
from poller.sync.run import RunReport, SourceSync
from store.engine import Unavailable, reason_of

log = structlog.get_logger("order_sync")

DATABASE_RETRY = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=3)
"""A source is looked at no later than this, whatever its last run said: something may have been entered."""


def tick(
    syncer: Callable[[str], SourceSync], key: str, on_report: Callable[[RunReport], None] | None = None
) -> timedelta:
    """Carry out all that is due for a source. Returns how long it may rest then."""
    try:
        report = syncer(key).run()
        if on_report is not None:
            on_report(report)
        _tell(report)
        return min(max(report.until - utc_now(), timedelta(seconds=0.2)), LONGEST_PAUSE)
    except Unavailable as error:
        log.warning("database is away", source=key, error=reason_of(error))
        return DATABASE_RETRY
    except Exception as error:
        # A fault of ours must not end the source for good; its window is claimed again later.
        log.exception("run broke", source=key, error=type(error).__name__)
        return timedelta(minutes=1)


def _tell(report: RunReport) -> None:
    say = log.warning if report.outcome == "failed" else log.info
    if report.outcome == "complete" and not report.orders:
        say = log.debug  # of thousands of shops nearly all runs are so
    say(
        "run",
        source=report.source,
        outcome=report.outcome,
        pages=report.pages,
        orders=report.orders,
        requests=report.requests,
        until=report.until.isoformat(timespec="seconds"),
        message=report.message,
    )
