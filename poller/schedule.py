"""The long-running service: APScheduler ticks each source, and each run says when the next is worth it.

The schedule is not stored: it is made anew from the configuration at every start, while progress is in
the database. A database that is away, or not there yet at start, is waited for.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from poller import identity
from poller.bootstrap import Service, Unusable, utc_now
from poller.executors import make_executor
from poller.purging import Purge
from poller.rotating import about_keys
from poller.status import buyers_shown
from poller.sync import RunReport
from store import ledger
from store.engine import Unavailable, reason_of

log = structlog.get_logger("order_sync")

RELOAD_SECONDS = 5
HEARTBEAT_SECONDS = 10
HEARTBEAT_MISSED = 60
DATABASE_RETRY = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=3)
"""A source is looked at no later than this, whatever its last run said: something may have been entered."""

PURGE_EVERY = timedelta(hours=6)
"""The term of an order is counted in days; a few times a day is often enough."""

RETENTION = "retention"
"""Id of the job that erases what is due; sources have a colon in theirs."""

IDENTITY_EVERY = timedelta(hours=1)
IDENTITY = "identity"
"""Id of the job that looks whether Amazon still shows who buys."""

STOP_WITHIN = 6.0
"""Seconds that running pages get to finish when the service is told to stop."""

RELEASE_WITHIN = 2.0
"""Seconds that giving back the claims of unfinished pages may take then."""


def heartbeat_file() -> Path:
    """Written by a running service; how ``order-sync health`` knows it without asking anybody."""
    return Path(tempfile.gettempdir()) / f"order-sync-{os.getuid()}.heartbeat"


class Schedule:
    """Ticks for every source of a service, until stopped."""

    def __init__(self, service: Service, on_report: Callable[[RunReport], None] | None = None) -> None:
        self._service = service
        self._on_report = on_report
        self._running: set[str] = set()
        self._reload_asked = False
        self._warned: set[tuple[str, date, str]] = set()
        self._scheduler = BackgroundScheduler(
            executors={"default": make_executor(service.config.settings.executor)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )

    def ask_reload(self) -> None:
        """Read the configuration again soon, changed or not (SIGHUP). Safe in a signal handler."""
        self._reload_asked = True

    def run(self) -> None:
        """Serve until ``service.stop`` is set. Raises Unusable when the configuration cannot work."""
        if not self._open():
            return
        self._scheduler.start()
        self._log_problems()
        self._plan()
        for name, job, every in (
            (RETENTION, self._purge, PURGE_EVERY),
            (IDENTITY, self._look_at_identity, IDENTITY_EVERY),
        ):
            seconds = every.total_seconds()
            self._scheduler.add_job(job, "interval", seconds=seconds, next_run_time=utc_now(), id=name)
        beaten = looked = 0.0
        while not self._service.stop.wait(0.5):
            now = time.monotonic()
            if now - beaten >= HEARTBEAT_SECONDS:
                heartbeat_file().write_text(utc_now().isoformat())
                beaten = now
            if self._reload_asked or now - looked >= RELOAD_SECONDS:
                looked = now
                self._reload()
        self._shut_down()

    def _open(self) -> bool:
        """Open the store, waiting for a database that is not up yet. False when told to stop first."""
        while not self._service.stop.is_set():
            try:
                self._service.open_store(create=True)
                self._service.wire()
                return True
            except Unavailable as error:
                log.warning("database is away", error=reason_of(error), retry_in=DATABASE_RETRY.seconds)
                heartbeat_file().write_text(utc_now().isoformat())
                self._service.stop.wait(DATABASE_RETRY.total_seconds())
        return False

    def _log_problems(self) -> None:
        for problem in self._service.problems:
            log.warning("configuration", problem=problem.message, stops=problem.stops)
        if not self._service.sources:
            log.warning("configuration", problem="no source can be polled", stops="everything")

    def _reload(self) -> None:
        asked, self._reload_asked = self._reload_asked, False
        before = self._service.problems
        try:
            changed = self._service.reload(only_if_changed=not asked)
        except Unavailable as error:
            log.warning("database is away", error=reason_of(error))
            self._reload_asked = True
            return
        if self._service.problems != before:
            self._log_problems()
        if changed:
            log.info("configuration read again", sources=sorted(self._service.sources))
            self._plan()

    def _plan(self) -> None:
        """One job per source, due at once; sources that are gone lose theirs."""
        wanted = set(self._service.sources)
        for job in self._scheduler.get_jobs():
            if job.id not in wanted and job.id not in (RETENTION, IDENTITY):
                job.remove()
        for key in sorted(wanted - self._running):
            self._at(key, utc_now())

    def _at(self, key: str, when: datetime) -> None:
        if key in self._service.sources and not self._service.stop.is_set():
            self._scheduler.add_job(
                self._tick, "date", run_date=when, args=[key], id=key, replace_existing=True
            )

    def _tick(self, key: str) -> None:
        if key in self._running or key not in self._service.sources or self._service.stop.is_set():
            return
        self._running.add(key)
        pause = DATABASE_RETRY
        try:
            report = self._service.syncer(key).run()
            pause = min(max(report.until - utc_now(), timedelta(seconds=0.2)), LONGEST_PAUSE)
            self._tell(report)
        except Unavailable as error:
            log.warning("database is away", source=key, error=reason_of(error))
        except Exception as error:
            # A fault of ours must not end the source for good; its window is claimed again later.
            log.exception("run broke", source=key, error=type(error).__name__)
            pause = timedelta(minutes=1)
        finally:
            self._running.discard(key)
            self._at(key, utc_now() + pause)

    def _purge(self) -> None:
        """Erase buyer data that is due. What a stop leaves undone is done after the next start."""
        stop = self._service.stop
        self._running.add(RETENTION)
        try:
            purge = Purge(self._service.store, self._service.retention, stopping=stop.is_set, rest=stop.wait)
            done = purge.run()
            if done.orders or done.records or done.hashes or done.payloads:
                log.info("erased buyer data", **done.counts())
            if not done.clean:
                log.info("erased", note="the log is emptied by the next purge: somebody was reading")
            for sentence in about_keys(self._service.store):
                log.info("encryption keys", note=sentence)
        except Unavailable as error:
            log.warning("database is away", job=RETENTION, error=reason_of(error))
        except Exception as error:
            log.exception("purge broke", error=type(error).__name__)
        finally:
            self._running.discard(RETENTION)

    def _look_at_identity(self) -> None:
        """Warn once of every day and field whose share fell by more than half."""
        try:
            with self._service.store.read() as tx:
                today = tx.now.date()
                found = {
                    (key, drop.day, drop.field): drop
                    for key in self._service.sources
                    for drop in identity.drops(buyers_shown(tx, key), today)
                }
        except Unavailable as error:
            log.warning("database is away", job=IDENTITY, error=reason_of(error))
            return
        for name in found.keys() - self._warned:
            log.warning("buyers are not shown", problem=identity.sentence(name[0], found[name]))
        self._warned |= found.keys()

    def _tell(self, report: RunReport) -> None:
        if self._on_report is not None:
            self._on_report(report)
        say = log.warning if report.outcome == "failed" else log.info
        if report.pages or report.outcome != "complete":
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

    def _shut_down(self) -> None:
        """Let pages finish or roll back; what still waits for Amazon is left, and asked again next time."""
        log.info("stopping", running=sorted(self._running))
        self._scheduler.remove_all_jobs()
        deadline = time.monotonic() + STOP_WITHIN
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        left = sorted(self._running)
        if left:
            # In a thread of its own: a database that hangs must not hold up the end.
            releasing = threading.Thread(target=self._release, daemon=True)
            releasing.start()
            releasing.join(RELEASE_WITHIN)
        heartbeat_file().unlink(missing_ok=True)
        log.info("stopped", unfinished=left)
        self._scheduler.shutdown(wait=False)
        if left:
            os._exit(0)  # threads that wait for an answer cannot be ended otherwise

    def _release(self) -> None:
        try:
            with self._service.store.begin() as tx:
                ledger.release_all(tx, self._service.owner)
        except Unavailable as error:
            note = "claims run out by themselves within two minutes"
            log.warning("database is away", error=reason_of(error), note=note)


def is_alive() -> bool:
    """Whether a service of this user has given a sign of life within the last minute."""
    try:
        beaten = datetime.fromisoformat(heartbeat_file().read_text())
    except (OSError, ValueError):
        return False
    return utc_now() - beaten < timedelta(seconds=HEARTBEAT_MISSED)


__all__ = ["Schedule", "Unusable", "heartbeat_file", "is_alive"]
