"""A worker: carries out ticks that schedulers queued, several at a time.

procrastinate gives each job to one worker. A tick runs in a thread, as in a service without workers; when the
next one is due goes to the database, for the schedulers. procrastinate's loop ends when the database goes
away; a new one, with a new number, begins as soon as it is back.

Workers write a heartbeat every ten seconds. If one misses it for half a minute, because it was killed or its
machine is gone, any other worker takes its jobs back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import procrastinate
import psycopg
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from psycopg_pool import AsyncConnectionPool

from poller.bootstrap import Service
from poller.service.heartbeat import HEARTBEAT_SECONDS, Heartbeat, heartbeat_file
from poller.service.lifecycle import STOP_WITHIN, open_when_up, reload_in, shut_down
from poller.service.presence import Presence
from poller.service.queue import QUEUE, TASK, require
from poller.service.tick import DATABASE_RETRY, tick
from store import ledger, processes, ticks
from store.engine import (
    OPENING,
    PER_TRANSACTION,
    SESSION,
    DatabaseError,
    Unavailable,
    connect_arguments,
    connections,
    is_pooled,
    reason_of,
)
from store.job_queue import SCHEMA

log = structlog.get_logger("order_sync")

FETCH_EVERY_SECONDS = 1.0
"""Pause between reads of the queue. A notification of each job would wake all workers each time."""

WORKER_HEARTBEAT_SECONDS = 10.0
STALLED_AFTER_SECONDS = 30.0
TAKE_BACK_EVERY_SECONDS = 10.0
"""Together these take back the work of a killed worker within a minute."""

UNKNOWN_SOURCE_PAUSE = timedelta(seconds=5)
"""Then another worker may know the source, or this one, if it reloads its files."""


class Worker:
    """Carries out ticks until ``service.stop`` is set."""

    def __init__(self, service: Service, concurrency: int) -> None:
        self._service = service
        self._concurrency = concurrency
        self._running: set[str] = set()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="tick")
        self._heartbeat = Heartbeat(heartbeat_file(service.config.settings))
        self._presence = Presence(service, "worker")
        self._reload_asked = False

    def ask_reload(self) -> None:
        """Reload the configuration soon, changed or not (SIGHUP). Safe in a signal handler."""
        self._reload_asked = True

    def run(self) -> None:
        """Work until stopped. Raises Unusable if the configuration or the queue cannot work."""
        if open_when_up(self._service.stop, self._heartbeat, self._open):
            asyncio.run(self._work())
        self._shut_down()
        if self._presence.unusable is not None:
            raise self._presence.unusable

    def _open(self) -> None:
        require(self._service.open_store(create=False))
        self._presence.begin()
        self._service.wire()
        self._log_problems()

    def _log_problems(self) -> None:
        for problem in self._service.problems:
            log.warning("configuration", problem=problem.message, stops=problem.stops)

    # --- the queue ----------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Carry out jobs, beside heartbeats and reloading the configuration."""
        beside = [
            asyncio.create_task(self._repeat(self._beat, lambda _: HEARTBEAT_SECONDS)),
            asyncio.create_task(self._repeat(self._reload, reload_in)),
        ]
        carrying = asyncio.create_task(self._carry_out())
        while not self._service.stop.is_set() and self._presence.unusable is None:
            await asyncio.sleep(0.2)
        self._service.stop.set()
        log.info("stopping", running=sorted(self._running))
        for task in (carrying, *beside):
            task.cancel()
        await asyncio.wait({carrying, *beside}, timeout=STOP_WITHIN + 0.5)
        if not carrying.done():
            self._shut_down()

    async def _carry_out(self) -> None:
        """Run one procrastinate worker after the other, each until the database goes away."""
        while True:
            # Tasks are bound to the app that declared them, so each worker has its own.
            app = self._app()
            try:
                await self._run_worker(app)
            except (ConnectorException, psycopg.Error) as error:
                log.warning("database is away", error=type(error).__name__)
            except Exception as error:
                # A bug must not leave a worker that lives and does nothing.
                log.exception("worker broke", error=type(error).__name__)
            await asyncio.sleep(DATABASE_RETRY.total_seconds())

    def _app(self) -> procrastinate.App:
        connector = procrastinate.PsycopgConnector(
            kwargs=connect_arguments(self._service.store.engine),
            pool_factory=_Pool,
            min_size=1,
            max_size=3,
        )
        app = procrastinate.App(connector=connector)

        @app.task(name=TASK, queue=QUEUE)
        async def carry_out(source: str) -> None:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._tick, source)

        return app

    async def _run_worker(self, app: procrastinate.App) -> None:
        async with app.open_async():
            taking_back = asyncio.create_task(
                self._repeat(lambda: self._take_back(app), lambda _: TAKE_BACK_EVERY_SECONDS)
            )
            try:
                await app.run_worker_async(
                    queues=[QUEUE],
                    concurrency=self._concurrency,
                    fetch_job_polling_interval=FETCH_EVERY_SECONDS,
                    listen_notify=False,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    update_heartbeat_interval=WORKER_HEARTBEAT_SECONDS,
                    stalled_worker_timeout=STALLED_AFTER_SECONDS,
                    shutdown_graceful_timeout=STOP_WITHIN,
                )
            finally:
                taking_back.cancel()

    async def _take_back(self, app: procrastinate.App) -> None:
        """Make due again what workers without a heartbeat hold.

        The tick first, then the job: a crash in between repeats this and loses nothing.
        """
        manager = app.job_manager
        for job in await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_AFTER_SECONDS):
            source = str(job.task_kwargs["source"])
            await asyncio.to_thread(self._finish, source, timedelta(0))
            try:
                await manager.finish_job(job, Status.ABORTED, delete_job=True)
            except ConnectorException:
                continue  # another worker was first, or the database is away
            log.warning("taken back from a worker without a heartbeat", source=source)

    # --- a tick -------------------------------------------------------------------------------------

    def _tick(self, key: str) -> None:
        """Run a source and record when it is due again, however long the database is away (in a thread)."""
        self._running.add(key)
        pause = UNKNOWN_SOURCE_PAUSE
        if key in self._service.sources:
            pause = tick(self._service.syncer, key)
        else:
            log.info("not configured here", source=key)
        until = time.monotonic() + pause.total_seconds()
        while not self._finished(key, timedelta(seconds=max(0.0, until - time.monotonic()))):
            if self._service.stop.wait(DATABASE_RETRY.total_seconds()):
                return  # released when the process ends, or taken back after that
        self._running.discard(key)

    def _finished(self, key: str, pause: timedelta) -> bool:
        try:
            self._finish(key, pause)
        except Unavailable as error:
            log.warning("database is away", source=key, error=reason_of(error))
            return False
        except Exception as error:
            # Until this is recorded the source is not due again: retry whatever went wrong.
            log.exception("worker broke", source=key, error=type(error).__name__)
            return False
        return True

    def _finish(self, key: str, pause: timedelta) -> None:
        store = self._service.store
        with store.alone() as conn:
            ticks.finish(conn, key, store.server_time + pause)

    # --- beside -------------------------------------------------------------------------------------

    async def _repeat(self, work: Callable[[], Awaitable[None]], rest: Callable[[float], float]) -> None:
        """Repeat work for ever; ``rest`` maps the seconds that it took to the pause."""
        while True:
            began = time.monotonic()
            try:
                await work()
            except (ConnectorException, psycopg.Error, *Unavailable) as error:
                log.warning("database is away", error=type(error).__name__)
            except Exception as error:
                log.exception("worker broke", error=type(error).__name__)
            await asyncio.sleep(rest(time.monotonic() - began))

    async def _beat(self) -> None:
        self._heartbeat.beat()

    async def _reload(self) -> None:
        asked, self._reload_asked = self._reload_asked, False
        before = self._service.problems
        try:
            changed = await asyncio.to_thread(self._service.reload, only_if_changed=not asked)
        except BaseException:
            self._reload_asked = True
            raise
        if self._service.problems != before:
            self._log_problems()
        if changed:
            log.info("configuration reloaded", sources=len(self._service.sources))

    # --- the end ------------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        """Release what was not finished, and exit."""
        unfinished = sorted(self._running)
        shut_down(unfinished, self._heartbeat, lambda: self._release(unfinished))
        if unfinished:
            if (unusable := self._presence.unusable) is not None:
                log.error("the worker stops", problem=" ".join(unusable.sentences))
            os._exit(0 if unusable is None else 1)  # nothing else ends threads that wait for an answer

    def _release(self, unfinished: Sequence[str]) -> None:
        if not self._service.is_open:
            return
        store = self._service.store
        try:
            with store.begin() as tx:
                ledger.release_all(tx, self._service.owner)
                processes.remove(tx, self._service.owner)
                for key in unfinished:
                    ticks.finish(tx.conn, key, store.server_time)
        except DatabaseError as error:
            log.warning(
                "database is away", error=reason_of(error), note="other workers take back what is left"
            )


class _Connection(psycopg.AsyncConnection):
    """A connection on which no wait for an answer lasts for ever; it is closed after one that did."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return await super().wait(gen, interval, timeout or connections.ANSWER_SECONDS)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # an answer that comes later must not be taken for the next one's
            raise psycopg.OperationalError(connections.NO_ANSWER) from None


class _Pool(AsyncConnectionPool):
    """Connections on which the queue's tables need no schema name, and each statement stands alone.

    They are not checked before each use, which doubled the round trips: if one is dead, the worker starts
    over. Through a pooler each statement is a transaction, because what is set does not last longer.
    """

    def __init__(self, **arguments: Any) -> None:
        ours = {"check": None, "configure": _configure, "connection_class": _Connection}
        super().__init__(**(arguments | ours))

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[psycopg.AsyncConnection]:
        async with super().connection(timeout) as connection:
            if not connection.autocommit:
                await connection.execute(f"SELECT {_SEARCH_PATH.format('true')}, {PER_TRANSACTION}")
            yield connection


_SEARCH_PATH = f"set_config('search_path', '{SCHEMA}', {{}})"


async def _configure(connection: psycopg.AsyncConnection) -> None:
    await connection.set_autocommit(True)
    answer = await (await connection.execute(OPENING)).fetchone()
    if answer is None or is_pooled(connection, answer[0]):
        connection.prepare_threshold = None
        await connection.set_autocommit(False)
    else:
        await connection.execute(f"{SESSION}, {_SEARCH_PATH.format('false')}")
