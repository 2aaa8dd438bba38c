"""Ticks as jobs of procrastinate: what schedulers and workers agree on.

A scheduler marks a tick as queued and queues the job in one transaction, so that each tick is queued
once however many schedulers there are, and none is lost with a scheduler. procrastinate's queueing lock,
one per source, holds even if the marks were wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import procrastinate
from procrastinate.exceptions import AlreadyEnqueued

from poller.errors import Unusable
from poller.ingest.accounts import Setup
from poller.ingest.sources import Source
from store import job_queue, ticks
from store.engine import Store, Transaction

QUEUE = "ticks"
TASK = "tick"

AHEAD = timedelta(seconds=1)
"""A scheduler takes ticks from the database so long before they are due."""

APART = timedelta(seconds=0.1)
"""Sources that are all due at once, at a first start, follow each other so closely at most."""

PLAN_EVERY = 60.0
"""Seconds. Another scheduler, whose configuration is older, may have forgotten one of our sources."""

# It only makes jobs, on connections that it is handed, so it never opens one itself.
_app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


def require(store: Store) -> None:
    """Raises Unusable when the database has no queue that this program can use."""
    problems = job_queue.problems(store.engine)
    if problems:
        raise Unusable(*(f"{problem}." for problem in problems))


def spread(sources: Collection[str], now: datetime, interval: timedelta) -> dict[str, datetime]:
    """When each of these sources is due for the first time: one after the other, within an interval."""
    apart = min(APART, interval / max(1, len(sources)))
    return {source: now + apart * number for number, source in enumerate(sorted(sources))}


class SharedSchedule:
    """The schedule in the database, as one scheduler sees it. Used by one thread, but for ``defer``."""

    def __init__(self, store: Store, setup: Callable[[], Setup]) -> None:
        self._store = store
        self._setup = setup
        self._planned: Mapping[str, Source] = {}
        self._plan_at = 0.0

    def require(self) -> None:
        """Raises Unusable when there is no queue."""
        require(self._store)

    def plan_soon(self) -> None:
        """The configuration has changed."""
        self._plan_at = 0.0

    def due(self, clock: float) -> list[tuple[str, datetime]]:
        """Which of our sources are to be queued within the next moment, and when.

        ``clock`` is a number of seconds that grows: now and then, the sources are entered again.
        """
        if clock >= self._plan_at:
            self._plan_at = clock + PLAN_EVERY
            try:
                self._plan()
            except BaseException:
                self._plan_at = 0.0
                raise
        with self._store.read() as tx:
            found = ticks.due_until(tx, tx.now + AHEAD)
        return [(key, due_at) for key, due_at in found if key in self._planned]

    def _plan(self) -> None:
        """Enter what is new; what was configured otherwise before is due at once."""
        setup = self._setup()
        wanted = {key: source for key, (_, source) in setup.sources.items()}
        changed = {key for key, source in wanted.items() if self._planned.get(key, source) != source}
        interval = timedelta(seconds=setup.settings.poll_seconds)
        with self._store.begin() as tx:
            ticks.forget(tx)
            ticks.enter(tx, spread(wanted.keys() - ticks.known(tx), tx.now, interval))
            ticks.hasten(tx, changed)
        self._planned = wanted

    def defer(self, keys: Collection[str]) -> None:
        """Queue the ticks of those sources that are due, unless somebody has."""
        try:
            with self._store.begin() as tx:
                _queue(tx, ticks.mark_queued(tx, keys))
        except AlreadyEnqueued:
            # One waits already, whatever its mark said, so it will run; the others may not.
            if len(keys) > 1:
                for key in keys:
                    self.defer([key])
                return
            with self._store.begin() as tx:
                ticks.mark_queued(tx, keys)


def _queue(tx: Transaction, keys: Collection[str]) -> None:
    """Raises AlreadyEnqueued, and has queued nothing, when the tick of one waits already."""
    if not keys:
        return
    jobs = [
        _app.configure_task(TASK, queue=QUEUE, queueing_lock=f"tick {key}").make_new_job(source=key)
        for key in keys
    ]
    _app.job_manager.batch_defer_jobs(jobs, connection=job_queue.driver_of(tx))
