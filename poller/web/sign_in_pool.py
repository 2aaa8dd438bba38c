"""The threads that check passwords: few, with a short queue, and behind everything else that runs.

A password takes 64 MB and a tenth of a second of two cores. In the threads of requests, thirty strangers at
the sign-in form would stop the API.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from poller.web.problems import Problem

T = TypeVar("T")

WORKERS = 2
WAITING = 16
"""More sign-ins than these at once are refused: each waits for a second or two."""

_RETRY_SECONDS = 5
_NICE = 15


class SignInPool:
    """Carries out sign-ins, a few at a time. Its threads do not keep a process from ending."""

    def __init__(self, workers: int = WORKERS, waiting: int = WAITING) -> None:
        self._room = threading.BoundedSemaphore(workers + waiting)
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._workers = workers
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Carry out a sign-in and return its result. Raises Problem if too many are waiting."""
        if not self._room.acquire(blocking=False):
            raise Problem(
                503,
                "busy",
                "too many sign-ins at once: try again.",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        self._start()
        future: Future[T] = Future()
        # Released by the work itself: a client that goes away does not make room while it still runs.
        future.add_done_callback(lambda _: self._room.release())
        self._queue.put((future, work))
        return await asyncio.wrap_future(future)

    def _start(self) -> None:
        """Start the threads with the first sign-in."""
        with self._lock:
            for _ in range(self._workers):
                threading.Thread(target=self._serve, name="sign-in", daemon=True).start()
            self._workers = 0

    def _serve(self) -> None:
        _give_way()
        while True:
            future, work = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)


def _give_way() -> None:
    """Let the threads of requests go first, where the system knows threads apart (Linux)."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
