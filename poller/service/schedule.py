"""The long-running service: APScheduler ticks each source, and each run says when the next is worth it.

With threads the schedule is not stored: it is made anew from the configuration at every start, while
progress is in the database. With workers, when each source is due is in the database as well, because
workers say it and several schedulers share it. A database that is away, or not there yet at start, is
waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from poller.bootstrap import Service, utc_now
from poller.matching import buyer_visibility
from poller.monitoring.snapshot import buyers_shown
from poller.privacy.key_rotation import about_keys
from poller.privacy.purge import Purge
from poller.service.chores import Chores
from poller.service.executors import make_executor
from poller.service.lifecycle import (
    HEARTBEAT_SECONDS,
    STOP_WITHIN,
    beat,
    give_back,
    open_when_up,
    reload_in,
)
from poller.service.tick import DATABASE_RETRY, tick
from poller.sync.run import RunReport
from store import ledger, webhooks
from store.engine import Unavailable, reason_of

if TYPE_CHECKING:
    from poller.service.queue import SharedSchedule

log = structlog.get_logger("order_sync")

SOURCES = "sources"
"""Name of the executor of sources' ticks; all other jobs run in threads of their own."""

LINING_UP = "lining up"
"""Id of the job that takes due ticks from the database; sources have a colon in theirs."""

PURGE_EVERY = timedelta(hours=6)
"""The term of an order is counted in days; a few times a day is often enough."""

RETENTION = "retention"
"""Id of the job that erases what is due; sources have a colon in theirs."""

IDENTITY_EVERY = timedelta(hours=1)
IDENTITY = "identity"
"""Id of the job that looks whether Amazon still shows who buys."""


class Schedule:
    """Ticks for every source of a service, until stopped."""

    def __init__(self, service: Service, on_report: Callable[[RunReport], None] | None = None) -> None:
        self._service = service
        self._on_report = on_report
        self._running: set[str] = set()
        self._lined_up: set[str] = set()
        self._reload_asked = False
        self._warned: set[tuple[str, date, str]] = set()
        self._scheduler = BackgroundScheduler(
            executors={
                "default": ThreadPoolExecutor(4),
                SOURCES: make_executor(service.config.settings.executor, self._defer),
            },
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._chores = Chores(service, self._running)

    def ask_reload(self) -> None:
        """Read the configuration again soon, changed or not (SIGHUP). Safe in a signal handler."""
        self._reload_asked = True

    def run(self) -> None:
        """Serve until ``service.stop`` is set. Raises Unusable when the configuration cannot work."""
        if not open_when_up(self._service.stop, self._open):
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
        if self._shared is not None:
            self._scheduler.add_job(self._line_up, "interval", seconds=1, id=LINING_UP)
        self._chores.start(self._scheduler)
        beaten = look_at = 0.0
        while not self._service.stop.wait(0.5):
            now = time.monotonic()
            if now - beaten >= HEARTBEAT_SECONDS:
                beat()
                beaten = now
            if self._reload_asked or now >= look_at:
                self._reload()
                look_at = now + reload_in(time.monotonic() - now)
        self._shut_down()

    def _open(self) -> None:
        self._service.open_store(create=True)
        if self._shared is not None:
            self._shared.require()
        self._service.wire()

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
            if job.executor == SOURCES and job.id not in wanted:
                job.remove()
        self._lined_up &= wanted
        if self._shared is not None:
            self._shared.plan_soon()
            return
        for key in sorted(wanted - self._running):
            self._at(key, utc_now())

    def _at(self, key: str, when: datetime) -> None:
        if key in self._service.sources and not self._service.stop.is_set():
            self._scheduler.add_job(
                self._tick, "date", run_date=when, args=[key], id=key, replace_existing=True, executor=SOURCES
            )

    # --- with workers -------------------------------------------------------------------------------

    @cached_property
    def _shared(self) -> SharedSchedule | None:
        """The schedule in the database, when workers carry out the ticks."""
        if self._service.config.settings.executor == "threads":
            return None
        from poller.service.queue import SharedSchedule

        return SharedSchedule(self._service.store, lambda: self._service.setup)

    def _line_up(self) -> None:
        """Take from the database what is due within the next moment."""
        assert self._shared is not None
        self._running.add(LINING_UP)
        try:
            due = self._shared.due(time.monotonic())
            # All at the same moment, so that they are handed over at once.
            moment = max((due_at for _, due_at in due), default=utc_now())
            for key, _ in due:
                if key not in self._lined_up:
                    self._lined_up.add(key)
                    self._at(key, moment)
        except Unavailable as error:
            log.warning("database is away", error=reason_of(error))
        finally:
            self._running.discard(LINING_UP)

    def _defer(self, keys: Collection[str]) -> None:
        """Hand ticks to the queue; those that cannot be handed over are still due."""
        assert self._shared is not None
        self._running.update(keys)
        try:
            self._shared.defer(keys)
        except Unavailable as error:
            log.warning("database is away", sources=len(keys), error=reason_of(error))
        finally:
            self._running.difference_update(keys)
            self._lined_up.difference_update(keys)

    # --- here ---------------------------------------------------------------------------------------

    def _tick(self, key: str) -> None:
        if key in self._running or key not in self._service.sources or self._service.stop.is_set():
            return
        self._running.add(key)
        pause = DATABASE_RETRY
        try:
            pause = tick(self._service.syncer, key, self._on_report)
        finally:
            self._running.discard(key)
            self._at(key, utc_now() + pause)

    def _purge(self) -> None:
        """Erase buyer data that is due. What a stop leaves undone is done after the next start."""
        stop = self._service.stop
        self._running.add(RETENTION)
        try:
            purge = Purge(
                self._service.store, self._service.setup.retention, stopping=stop.is_set, rest=stop.wait
            )
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
                    for key, shown in buyers_shown(tx, self._service.sources).items()
                    for drop in buyer_visibility.drops(shown, today)
                }
        except Unavailable as error:
            log.warning("database is away", job=IDENTITY, error=reason_of(error))
            return
        for name in found.keys() - self._warned:
            log.warning("buyers are not shown", problem=buyer_visibility.sentence(name[0], found[name]))
        self._warned |= found.keys()

    def _shut_down(self) -> None:
        """Let pages finish or roll back; what still waits for Amazon is left, and asked again next time."""
        log.info("stopping", running=sorted(self._running))
        self._scheduler.remove_all_jobs()
        deadline = time.monotonic() + STOP_WITHIN
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        left = sorted(self._running)
        give_back(left, self._release)
        self._scheduler.shutdown(wait=False)
        self._chores.stop()
        if left:
            os._exit(0)  # threads that wait for an answer cannot be ended otherwise

    def _release(self) -> None:
        try:
            with self._service.store.begin() as tx:
                ledger.release_all(tx, self._service.owner)
                webhooks.release_all(tx, self._service.owner)
        except Unavailable as error:
            note = "claims run out by themselves within two minutes"
            log.warning("database is away", error=reason_of(error), note=note)
