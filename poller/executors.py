"""Where a tick runs: APScheduler's executor, by the setting ``executor``."""

from __future__ import annotations

from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.pool import ThreadPoolExecutor

THREADS = 10
"""Sources synced at the same time; each spends nearly all of its time waiting for Amazon."""


def make_executor(kind: str) -> BaseExecutor:
    """The executor for a value of the setting. Raises ValueError for an unknown one."""
    if kind == "threads":
        return ThreadPoolExecutor(THREADS)
    raise ValueError(f"no such executor: {kind}")
