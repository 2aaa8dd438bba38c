"""Where a tick runs: APScheduler's executor, by the setting ``executor``.

With ``threads`` a tick runs here. With ``procrastinate`` it becomes a job in the database, which some
worker carries out (``poller/service/worker.py``): the schedule stays APScheduler's either way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import Empty, SimpleQueue

from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.pool import ThreadPoolExecutor as ThreadsExecutor
from apscheduler.job import Job

THREADS = 10
"""Sources synced at the same time; each spends nearly all of its time waiting for Amazon."""

TOGETHER = 100
"""Ticks that are handed to the queue at once."""

Defer = Callable[[Collection[str]], None]


def make_executor(kind: str, defer: Defer) -> BaseExecutor:
    """The executor for a value of the setting. Raises ValueError for an unknown one.

    ``defer`` puts the ticks of some sources into the queue, if that is where ticks go.
    """
    if kind == "threads":
        return ThreadsExecutor(THREADS)
    if kind == "procrastinate":
        return QueueExecutor(defer)
    raise ValueError(f"no such executor: {kind}")


class QueueExecutor(BaseExecutor):  # type: ignore[misc]
    """Hands a tick's source to the queue instead of calling the tick's function.

    In a thread, so that a database that hangs does not hold up the schedule; and all that are due together
    at once, since a transaction for each took most of what a scheduler of thousands of sources did.
    """

    def __init__(self, defer: Defer) -> None:
        super().__init__()
        self._defer = defer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="defer")
        self._due: SimpleQueue[Job] = SimpleQueue()

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self._due.put(job)
        self._thread.submit(self._hand_over)

    def _hand_over(self) -> None:
        """All that are due by now; nothing when an earlier call has seen to them."""
        jobs: list[Job] = []
        while len(jobs) < TOGETHER:
            try:
                jobs.append(self._due.get_nowait())
            except Empty:
                break
        if not jobs:
            return
        try:
            self._defer([job.args[0] for job in jobs])
        except BaseException as error:
            for job in jobs:
                self._run_job_error(job.id, error, error.__traceback__)
        else:
            for job in jobs:
                self._run_job_success(job.id, [])

    def shutdown(self, wait: bool = True) -> None:
        """Give up what was not handed over yet: it is still due, and handed over after the next start."""
        self._thread.shutdown(wait=wait, cancel_futures=True)
