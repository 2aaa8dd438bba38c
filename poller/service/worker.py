"""A worker: carries out ticks that schedulers have queued, any number of them at once.

procrastinate gives each job to one worker. A tick runs in a thread, as in a service without workers; what
it says about the next one goes to the database, for the schedulers. The loop of procrastinate ends when
the database goes away: then a new one begins, under a new number, as soon as it is back.

Workers give a sign of life every ten seconds. What one leaves behind that has given none for half a
minute, because it was killed or its machine is gone, is taken back by any other.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import procrastinate
import psycopg
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from psycopg_pool import AsyncConnectionPool

from poller.bootstrap import Service
from poller.service.lifecycle import (
    HEARTBEAT_SECONDS,
    STOP_WITHIN,
    beat,
    give_back,
    open_when_up,
    reload_in,
)
from poller.service.queue import QUEUE, TASK, require
from poller.service.tick import DATABASE_RETRY, tick
from store import ledger, ticks
from store.engine import Store, Unavailable, connect_arguments, reason_of
from store.job_queue import SCHEMA

log = structlog.get_logger("order_sync")

LOOK_EVERY = 1.0
"""Seconds between looks into the queue. Being told of every job would wake all workers for each of them."""

SIGN_OF_LIFE = 10.0
STALLED = 30.0
TAKE_BACK_EVERY = 10.0
"""So that the work of a killed worker is taken back within a minute. Seconds."""

ELSEWHERE = timedelta(seconds=5)
"""Another worker may know a source that this one does not, or this one will, having read its files again."""


class Worker:
    """Carries out ticks until ``service.stop`` is set."""

    def __init__(self, service: Service, concurrency: int) -> None:
        self._service = service
        self._concurrency = concurrency
        self._running: set[str] = set()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="tick")
        self._reload_asked = False

    def ask_reload(self) -> None:
        """Read the configuration again soon, changed or not (SIGHUP). Safe in a signal handler."""
        self._reload_asked = True

    def run(self) -> None:
        """Work until told to stop. Raises Unusable when the configuration or the queue cannot work."""
        if open_when_up(self._service.stop, self._open):
            asyncio.run(self._work())
        self._shut_down()

    def _open(self) -> None:
        require(self._service.open_store(create=False))
        self._service.wire()
        self._log_problems()

    def _log_problems(self) -> None:
        for problem in self._service.problems:
            log.warning("configuration", problem=problem.message, stops=problem.stops)

    # --- the queue ----------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Carry out jobs, and what goes on beside: signs of life, the configuration, taking back."""
        beside = [
            asyncio.create_task(self._repeat(self._beat, lambda _: HEARTBEAT_SECONDS)),
            asyncio.create_task(self._repeat(self._reload, reload_in)),
        ]
        carrying = asyncio.create_task(self._carry_out())
        while not self._service.stop.is_set():
            await asyncio.sleep(0.2)
        log.info("stopping", running=sorted(self._running))
        for task in (carrying, *beside):
            task.cancel()
        await asyncio.wait({carrying, *beside}, timeout=STOP_WITHIN + 0.5)
        if not carrying.done():
            self._shut_down()

    async def _carry_out(self) -> None:
        """One incarnation of a worker after the other, each until the database goes away."""
        while True:
            # Tasks are bound to the app that they were declared on, so each incarnation has its own.
            app = self._app()
            try:
                await self._incarnation(app)
            except (ConnectorException, psycopg.Error) as error:
                log.warning("database is away", error=type(error).__name__)
            except Exception as error:
                # A fault of ours must not leave a worker behind that lives and does nothing.
                log.exception("worker broke", error=type(error).__name__)
            await asyncio.sleep(DATABASE_RETRY.total_seconds())

    def _app(self) -> procrastinate.App:
        connector = procrastinate.PsycopgConnector(
            # Each of its statements stands alone, so none needs BEGIN and COMMIT around it.
            kwargs=connect_arguments(self._service.store.engine)
            | _own_schema(self._service.store)
            | {"autocommit": True},
            pool_factory=_unasked,
            min_size=1,
            max_size=3,
        )
        app = procrastinate.App(connector=connector)

        @app.task(name=TASK, queue=QUEUE)
        async def carry_out(source: str) -> None:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._tick, source)

        return app

    async def _incarnation(self, app: procrastinate.App) -> None:
        async with app.open_async():
            taking_back = asyncio.create_task(
                self._repeat(lambda: self._take_back(app), lambda _: TAKE_BACK_EVERY)
            )
            try:
                await app.run_worker_async(
                    queues=[QUEUE],
                    concurrency=self._concurrency,
                    fetch_job_polling_interval=LOOK_EVERY,
                    listen_notify=False,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    update_heartbeat_interval=SIGN_OF_LIFE,
                    stalled_worker_timeout=STALLED,
                    shutdown_graceful_timeout=STOP_WITHIN,
                )
            finally:
                taking_back.cancel()

    async def _take_back(self, app: procrastinate.App) -> None:
        """Make due again what workers hold that give no sign of life any more.

        The tick first, then the job: a crash between the two repeats this, and loses nothing.
        """
        manager = app.job_manager
        for job in await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED):
            source = str(job.task_kwargs["source"])
            await asyncio.to_thread(self._finish, source, timedelta(0))
            try:
                await manager.finish_job(job, Status.ABORTED, delete_job=True)
            except ConnectorException:
                continue  # another worker was first, or the database is away
            log.warning("taken back from a worker that gives no sign of life", source=source)

    # --- a tick -------------------------------------------------------------------------------------

    def _tick(self, key: str) -> None:
        """In a thread: run a source, and say when it is due again, however long the database is away."""
        self._running.add(key)
        pause = ELSEWHERE
        if key in self._service.sources:
            pause = tick(self._service.syncer, key)
        else:
            log.info("not configured here", source=key)
        until = time.monotonic() + pause.total_seconds()
        while not self._finished(key, timedelta(seconds=max(0.0, until - time.monotonic()))):
            if self._service.stop.wait(DATABASE_RETRY.total_seconds()):
                return  # given back when the process ends, or taken back after that
        self._running.discard(key)

    def _finished(self, key: str, pause: timedelta) -> bool:
        try:
            self._finish(key, pause)
        except Unavailable as error:
            log.warning("database is away", source=key, error=reason_of(error))
            return False
        except Exception as error:
            # Until this is said the source is not due again: so it is tried again, whatever went wrong.
            log.exception("worker broke", source=key, error=type(error).__name__)
            return False
        return True

    def _finish(self, key: str, pause: timedelta) -> None:
        store = self._service.store
        with store.alone() as conn:
            ticks.finish(conn, key, store.server_time + pause)

    # --- beside -------------------------------------------------------------------------------------

    async def _repeat(self, work: Callable[[], Awaitable[None]], rest: Callable[[float], float]) -> None:
        """``rest``: how many seconds until the next time, when this time took so many."""
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
        beat()

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
            log.info("configuration read again", sources=len(self._service.sources))

    # --- the end ------------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        """Give back what was not finished; what still waits for Amazon cannot be ended otherwise."""
        left = sorted(self._running)
        give_back(left, lambda: self._release(left))
        if left:
            os._exit(0)

    def _release(self, left: Sequence[str]) -> None:
        store = self._service.store
        try:
            with store.begin() as tx:
                ledger.release_all(tx, self._service.owner)
                for key in left:
                    ticks.finish(tx.conn, key, store.server_time)
        except Unavailable as error:
            log.warning("database is away", error=reason_of(error), note="others take back what is left")


def _unasked(**arguments: Any) -> AsyncConnectionPool:
    """A pool that does not ask a connection whether it lives before each use: that doubled the trips.

    From one that does not, the worker begins anew.
    """
    return AsyncConnectionPool(**(arguments | {"check": None}))


def _own_schema(store: Store) -> dict[str, str]:
    given = connect_arguments(store.engine)["options"]
    return {"options": f"{given} -c search_path={SCHEMA}"}
