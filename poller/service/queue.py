"""Ticks as jobs of procrastinate: what schedulers and workers agree on.

A scheduler marks a tick as queued and queues the job in one transaction, so each tick is queued once however
many schedulers there are, and none is lost if a scheduler dies. procrastinate's queueing lock, one per
source, holds even if the marks are wrong.
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

TAKEN_AHEAD = timedelta(seconds=1)
"""How long before they are due a scheduler takes ticks from the database."""

SPREAD_APART = timedelta(seconds=0.1)
"""Distance between sources that would all be due at once, at a first start."""

PLAN_EVERY_SECONDS = 60.0
"""A scheduler with an older configuration may have removed one of our sources."""

# It only makes jobs, on connections that it is given: it never opens one.
_app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


def require(store: Store) -> None:
    """Raise Unusable if the database has no queue that this program can use."""
    problems = job_queue.problems(store.engine)
    if problems:
        raise Unusable(*(f"{problem}." for problem in problems))


def spread(sources: Collection[str], now: datetime, interval: timedelta) -> dict[str, datetime]:
    """Return when each source is first due: one after the other, within an interval."""
    apart = min(SPREAD_APART, interval / max(1, len(sources)))
    return {source: now + apart * number for number, source in enumerate(sorted(sources))}


class SharedSchedule:
    """The schedule in the database, as one scheduler sees it. Only ``defer`` is safe in any thread."""

    def __init__(self, store: Store, setup: Callable[[], Setup]) -> None:
        self._store = store
        self._setup = setup
        self._planned: Mapping[str, Source] = {}
        self._plan_at = 0.0

    def require(self) -> None:
        """Raise Unusable if there is no queue."""
        require(self._store)

    def plan_soon(self) -> None:
        """Enter the sources at the next call of ``due``: the configuration has changed."""
        self._plan_at = 0.0

    def due(self, clock: float) -> list[tuple[str, datetime]]:
        """Return which of our sources are due within a second, and when.

        ``clock``: seconds of a clock that only goes forward; once a minute the sources are entered again.
        """
        if clock >= self._plan_at:
            self._plan_at = clock + PLAN_EVERY_SECONDS
            try:
                self._plan()
            except BaseException:
                self._plan_at = 0.0
                raise
        with self._store.read() as tx:
            due = ticks.due_until(tx, tx.now + TAKEN_AHEAD)
        return [(key, due_at) for key, due_at in due if key in self._planned]

    def _plan(self) -> None:
        """Enter new sources; one whose configuration changed is due at once."""
        setup = self._setup()
        sources = {key: source for key, (_, source) in setup.sources.items()}
        changed = {key for key, source in sources.items() if self._planned.get(key, source) != source}
        interval = timedelta(seconds=setup.settings.poll_seconds)
        with self._store.begin() as tx:
            ticks.forget(tx)
            ticks.enter(tx, spread(sources.keys() - ticks.known(tx), tx.now, interval))
            ticks.hasten(tx, changed)
        self._planned = sources

    def defer(self, keys: Collection[str]) -> None:
        """Queue the ticks of sources that are due, unless another scheduler did."""
        try:
            with self._store.begin() as tx:
                _queue(tx, ticks.mark_queued(tx, keys))
        except AlreadyEnqueued:
            # One is queued already, whatever its mark says; the others may not be.
            if len(keys) > 1:
                for key in keys:
                    self.defer([key])
                return
            with self._store.begin() as tx:
                ticks.mark_queued(tx, keys)


def _queue(tx: Transaction, keys: Collection[str]) -> None:
    """Queue these ticks. Raises AlreadyEnqueued, having queued none, if one is queued already."""
    if not keys:
        return
    jobs = [
        _app.configure_task(TASK, queue=QUEUE, queueing_lock=f"tick {key}").make_new_job(source=key)
        for key in keys
    ]
    _app.job_manager.batch_defer_jobs(jobs, connection=job_queue.driver_of(tx))
