"""The long-running service: APScheduler ticks each source, and each run decides when the next is due.

With threads the schedule is made from the configuration at every start; only progress is in the database.
With workers the database also holds when each source is due, because workers decide it and several
schedulers share it. The service waits for a database that is away.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from config.problems import each_once
from poller.bootstrap import Service, utc_now
from poller.errors import Unusable
from poller.service.chores import Chores
from poller.service.executors import make_executor
from poller.service.heartbeat import HEARTBEAT_SECONDS, Heartbeat, heartbeat_file
from poller.service.lifecycle import (
    STOP_WITHIN,
    ClockWatch,
    FileWatch,
    open_when_up,
    reload_in,
    shut_down,
)
from poller.service.presence import Presence
from poller.service.tick import DATABASE_RETRY, tick
from poller.sync.run import RunReport
from poller.text import counted
from store import ledger, processes, webhooks
from store.engine import DatabaseError, Unavailable, file_of, reason_of

if TYPE_CHECKING:
    from poller.service.queue import SharedSchedule

log = structlog.get_logger("order_sync")

SOURCES = "sources"
"""Name of the executor of sources' ticks; all other jobs run in threads of their own."""

RELOADING = "reloading"
"""Name of the thread that reads the configuration again: it reads the database, too, and that may hang."""

LINING_UP = "lining up"
"""ID of the job that takes due ticks from the database. (IDs of sources contain a colon.)"""


class Schedule:
    """Ticks every source of a service until stopped."""

    def __init__(
        self,
        service: Service,
        on_report: Callable[[RunReport], None] | None = None,
        on_open: Callable[[], None] | None = None,
    ) -> None:
        self._service = service
        self._on_report = on_report
        self._on_open = on_open
        self._running: set[str] = set()
        self._lined_up: set[str] = set()
        self._heartbeat = Heartbeat(heartbeat_file(service.config.settings))
        self._reload_asked = False
        self._reload_at = 0.0
        self._scheduler = BackgroundScheduler(
            executors={
                "default": ThreadPoolExecutor(1),
                SOURCES: make_executor(service.config.settings.executor, self._defer),
            },
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._presence = Presence(service, "service")
        self._chores = Chores(service, self._running)

    def ask_reload(self) -> None:
        """Reload the configuration soon, changed or not (SIGHUP). Safe in a signal handler."""
        self._reload_asked = True

    def run(self) -> None:
        """Serve until ``service.stop`` is set. Raises Unusable if the configuration cannot work.

        This thread watches signals, so nothing that may wait runs in it.
        """
        if not open_when_up(self._service.stop, self._heartbeat, self._open):
            return
        self._scheduler.start()
        self._log_problems()
        self._plan()
        if self._shared is not None:
            self._scheduler.add_job(self._line_up, "interval", seconds=1, id=LINING_UP)
        self._chores.start(self._scheduler)
        try:
            self._watch()
        except Unusable as unusable:
            log.error("the service stops", problem=" ".join(unusable.sentences))
            self._service.stop.set()
            self._shut_down(status=1)
            raise
        self._shut_down(status=0)

    def _watch(self) -> None:
        """Until the service stops, write heartbeats and notice what changes: files, clock, configuration."""
        clock, file = ClockWatch(), FileWatch(file_of(self._service.store.engine.url))
        beaten_at = -math.inf
        while not self._service.stop.wait(0.5):
            if self._presence.unusable is not None:
                raise self._presence.unusable
            now = time.monotonic()
            if now - beaten_at >= HEARTBEAT_SECONDS:
                file.check()
                self._heartbeat.beat()
                beaten_at = now
            step = clock.step()
            if step:
                log.warning("the clock was set", seconds=round(step), note="what is planned is due now")
                self._plan_again()
            if (self._reload_asked or now >= self._reload_at) and RELOADING not in self._running:
                self._running.add(RELOADING)
                threading.Thread(target=self._reload, name=RELOADING, daemon=True).start()

    def _open(self) -> None:
        self._service.open_store(create=True)
        if self._shared is not None:
            self._shared.require()
        self._presence.begin()
        self._service.wire()
        if self._on_open is not None:
            self._on_open()

    def _log_problems(self) -> None:
        for problem in each_once(self._service.problems):
            log.warning("configuration", problem=problem.message, stops=problem.stops)
        if not self._service.sources:
            seen = (
                f"{counted(len(self._service.config.marketplaces), 'usable marketplace file')} and "
                f"{counted(len(self._service.config.settings.accounts), 'account')} were found"
            )
            log.error(
                "nothing can be polled; waiting for the configuration to change",
                found=seen,
                note="`order-sync config check` says what is wrong",
            )

    def _reload(self) -> None:
        began = time.monotonic()
        asked, self._reload_asked = self._reload_asked, False
        try:
            self._take_over_changes(asked)
        except Unavailable as error:
            log.warning("database is away", error=reason_of(error))
            self._reload_asked = True
        except Exception as error:
            log.exception("reloading broke", error=type(error).__name__)
        finally:
            ended = time.monotonic()
            self._reload_at = ended + reload_in(ended - began)
            self._running.discard(RELOADING)

    def _take_over_changes(self, asked: bool) -> None:
        before = self._service.problems
        changed = self._service.reload(only_if_changed=not asked)
        if self._service.problems != before:
            self._log_problems()
        if changed:
            log.info("configuration reloaded", sources=sorted(self._service.sources))
            self._plan()

    def _plan(self) -> None:
        """Give each source a job that is due at once; remove those of sources that are gone."""
        sources = set(self._service.sources)
        for job in self._scheduler.get_jobs():
            if job.executor == SOURCES and job.id not in sources:
                job.remove()
        self._lined_up &= sources
        if self._shared is not None:
            self._shared.plan_soon()
            return
        for key in sorted(sources - self._running):
            self._at(key, utc_now())

    def _plan_again(self) -> None:
        """Let everything be due now: the scheduler's plans are times of a clock that was set."""
        for job in self._scheduler.get_jobs():
            with suppress(JobLookupError):  # it ran meanwhile
                job.modify(next_run_time=utc_now())

    def _at(self, key: str, when: datetime) -> None:
        if key in self._service.sources and not self._service.stop.is_set():
            self._scheduler.add_job(
                self._tick, "date", run_date=when, args=[key], id=key, replace_existing=True, executor=SOURCES
            )

    # --- with workers -------------------------------------------------------------------------------

    @cached_property
    def _shared(self) -> SharedSchedule | None:
        """The schedule in the database, if workers carry out the ticks."""
        if self._service.config.settings.executor == "threads":
            return None
        from poller.service.queue import SharedSchedule

        return SharedSchedule(self._service.store, lambda: self._service.setup)

    def _line_up(self) -> None:
        """Take from the database what is due within a second."""
        assert self._shared is not None
        self._running.add(LINING_UP)
        try:
            due = self._shared.due(time.monotonic())
            # All at the same time, so that one transaction queues them.
            latest = max((due_at for _, due_at in due), default=utc_now())
            for key, _ in due:
                if key not in self._lined_up:
                    self._lined_up.add(key)
                    self._at(key, latest)
        except Unavailable as error:
            log.warning("database is away", error=reason_of(error))
        finally:
            self._running.discard(LINING_UP)

    def _defer(self, keys: Collection[str]) -> None:
        """Queue ticks; if that fails they are still due."""
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

    def _shut_down(self, status: int) -> None:
        """Let pages finish or roll back; requests that still wait are dropped, and repeated next time.

        ``status``: the exit status if threads still wait for an answer, which nothing else ends.
        """
        log.info("stopping", running=sorted(self._running))
        self._scheduler.remove_all_jobs()
        deadline = time.monotonic() + STOP_WITHIN
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        unfinished = sorted(self._running)
        shut_down(unfinished, self._heartbeat, self._release)
        self._scheduler.shutdown(wait=False)
        self._chores.stop()
        if unfinished:
            os._exit(status)

    def _release(self) -> None:
        try:
            with self._service.store.begin() as tx:
                ledger.release_all(tx, self._service.owner)
                webhooks.release_all(tx, self._service.owner)
                processes.remove(tx, self._service.owner)
        except DatabaseError as error:
            note = "claims expire within two minutes"
            log.warning("database is away", error=reason_of(error), note=note)
