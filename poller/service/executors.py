"""Where a tick runs: APScheduler's executor, chosen by the setting ``executor``.

With ``threads`` a tick runs in this process. With ``procrastinate`` it becomes a job in the database that a
worker carries out (``poller/service/worker.py``). The schedule is APScheduler's either way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import Empty, SimpleQueue

from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.pool import ThreadPoolExecutor as ThreadsExecutor
from apscheduler.job import Job

SOURCES_AT_ONCE = 10
"""Sources synced at the same time; each spends nearly all of its time waiting for Amazon."""

TICKS_AT_ONCE = 100
"""Most ticks that one transaction queues."""

Defer = Callable[[Collection[str]], None]


def make_executor(kind: str, defer: Defer) -> BaseExecutor:
    """Return the executor for a value of the setting. Raises ValueError for an unknown one.

    ``defer`` queues the ticks of some sources; only ``procrastinate`` uses it.
    """
    if kind == "threads":
        return ThreadsExecutor(SOURCES_AT_ONCE)
    if kind == "procrastinate":
        return QueueExecutor(defer)
    raise ValueError(f"no such executor: {kind}")


class QueueExecutor(BaseExecutor):  # type: ignore[misc]
    """Queues a tick's source instead of calling the tick's function.

    A thread does so, because a database that hangs must not hold up the schedule. Ticks that are due together
    share a transaction: one each took most of the time of a scheduler with thousands of sources.
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
        """Queue all that are due; an earlier call may have left none."""
        jobs: list[Job] = []
        while len(jobs) < TICKS_AT_ONCE:
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
        """Drop ticks that were not queued yet: they are still due, and queued after the next start."""
        self._thread.shutdown(wait=wait, cancel_futures=True)
