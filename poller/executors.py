"""Where a tick runs: APScheduler's executor, by the setting ``executor``.

With ``threads`` a tick runs here. With ``procrastinate`` it becomes a job in the database, which some
worker carries out (``poller/working.py``): the schedule stays APScheduler's either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.pool import ThreadPoolExecutor as ThreadsExecutor
from apscheduler.job import Job

THREADS = 10
"""Sources synced at the same time; each spends nearly all of its time waiting for Amazon."""

DEFERRING = 2
"""Threads that hand ticks to the queue, so that a database that hangs does not hold up the schedule."""


def make_executor(kind: str, defer: Callable[[str], None]) -> BaseExecutor:
    """The executor for a value of the setting. Raises ValueError for an unknown one.

    ``defer`` puts a source's tick into the queue, if that is where ticks go.
    """
    if kind == "threads":
        return ThreadsExecutor(THREADS)
    if kind == "procrastinate":
        return QueueExecutor(defer)
    raise ValueError(f"no such executor: {kind}")


class QueueExecutor(BaseExecutor):  # type: ignore[misc]
    """Hands a tick's source to the queue instead of calling the tick's function."""

    def __init__(self, defer: Callable[[str], None]) -> None:
        super().__init__()
        self._defer = defer
        self._threads = ThreadPoolExecutor(DEFERRING, thread_name_prefix="defer")

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        def done(deferral: Future[None]) -> None:
            if deferral.cancelled():
                return
            error = deferral.exception()
            if error is None:
                self._run_job_success(job.id, [])
            else:
                self._run_job_error(job.id, error, error.__traceback__)

        (source,) = job.args
        self._threads.submit(self._defer, source).add_done_callback(done)

    def shutdown(self, wait: bool = True) -> None:
        """Give up what was not handed over yet: it is still due, and handed over after the next start."""
        self._threads.shutdown(wait=wait, cancel_futures=True)
