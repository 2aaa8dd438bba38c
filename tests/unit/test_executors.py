"""The executor that queues ticks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from apscheduler.executors.base import BaseExecutor

from poller.service.executors import make_executor


def begun(defer: Callable[[Collection[str]], None]) -> BaseExecutor:
    executor = make_executor("procrastinate", defer)
    executor.start(SimpleNamespace(_create_lock=threading.RLock), "sources")
    return executor


def submit(executor: BaseExecutor, source: str) -> None:
    job: Any = SimpleNamespace(id=source, args=(source,), max_instances=1)
    executor.submit_job(job, [datetime.now(UTC)])


def test_what_is_due_while_others_are_handed_over_is_handed_over_together() -> None:
    handed: list[list[str]] = []
    busy, go = threading.Semaphore(0), threading.Event()

    def defer(sources: Collection[str]) -> None:
        handed.append(list(sources))
        busy.release()
        assert go.wait(30)

    executor = begun(defer)
    submit(executor, "a")
    assert busy.acquire(timeout=30)
    for source in "bcd":
        submit(executor, source)
    go.set()
    assert busy.acquire(timeout=30)
    executor.shutdown()
    assert handed == [["a"], ["b", "c", "d"]]


def test_a_tick_that_could_not_be_handed_over_is_reported_and_may_come_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = threading.Semaphore(0)

    def defer(_: Collection[str]) -> None:
        tried.release()
        raise RuntimeError("the queue is gone")

    executor = begun(defer)
    for _ in range(2):
        submit(executor, "a")
        assert tried.acquire(timeout=30)
        while executor._instances:
            pass
    executor.shutdown()
    assert [record.message for record in caplog.records] == ["Error running job a"] * 2
