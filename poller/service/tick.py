"""One tick of a source: run it, log the result, and decide when it is due again. Never raises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from poller.bootstrap import utc_now
from poller.sync.run import RunReport, SourceSync
from store.diagnosis import is_refusing
from store.engine import DatabaseError, Unavailable, reason_of

log = structlog.get_logger("order_sync")

DATABASE_RETRY = timedelta(seconds=5)
REFUSED_RETRY = timedelta(minutes=1)
"""A page that could not be stored is refetched, but not as often as a database that is away is tried."""

LONGEST_PAUSE = timedelta(minutes=3)
"""A source runs again after this at the latest: another process may have entered work for it."""


def tick(
    syncer: Callable[[str], SourceSync], key: str, on_report: Callable[[RunReport], None] | None = None
) -> timedelta:
    """Carry out what is due for a source. Return the pause until its next tick."""
    try:
        report = syncer(key).run()
        if on_report is not None:
            on_report(report)
        _log(report)
        return min(max(report.until - utc_now(), timedelta(seconds=0.2)), LONGEST_PAUSE)
    except DatabaseError as error:
        if is_refusing(error):
            log.warning("database takes no writes", source=key, error=reason_of(error))
            return REFUSED_RETRY
        if not isinstance(error, Unavailable):
            return _broken(key, error)
        log.warning("database is away", source=key, error=reason_of(error))
        return DATABASE_RETRY
    except Exception as error:
        return _broken(key, error)


def _broken(key: str, error: Exception) -> timedelta:
    """Log a bug. It must not stop the source for good; its window is claimed again later."""
    log.exception("run broke", source=key, error=type(error).__name__)
    return timedelta(minutes=1)


def _log(report: RunReport) -> None:
    write = log.warning if report.outcome == "failed" else log.info
    if report.outcome == "complete" and not report.orders:
        write = log.debug  # with thousands of shops nearly all runs end like this
    write(
        "run",
        source=report.source,
        outcome=report.outcome,
        pages=report.pages,
        orders=report.orders,
        requests=report.requests,
        until=report.until.isoformat(timespec="seconds"),
        message=report.message,
    )
