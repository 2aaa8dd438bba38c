"""Waiting for the database at startup, noticing what changes under a service, releasing claims at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from poller.errors import Unusable
from poller.service.heartbeat import Heartbeat
from poller.service.tick import DATABASE_RETRY
from store.diagnosis import is_lasting, sentence_of
from store.engine import Unavailable, reason_of

log = structlog.get_logger("order_sync")

RELOAD_SECONDS = 5
RELOAD_SHARE = 1 / 300
RELOAD_SECONDS_MOST = 15
"""The configuration is checked every five seconds; with thousands of accounts, whose files take a while to
check, that takes no more than this share of the time, but happens every 15 seconds."""

CLOCK_STEP_SECONDS = 2.0
"""A host's clock that moved by this much more or less than time passed was set."""

STOP_WITHIN = 6.0
"""Seconds that running pages may take to finish when the process stops."""

RELEASE_WITHIN = 2.0
"""Seconds that releasing what this process holds may take after that."""


class ClockWatch:
    """Notices that the host's clock was set, by a clock that only goes forward."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def step(self) -> float:
        """Return by how many seconds the clock was set since the last call; 0.0 if it was not."""
        ahead = time.time() - time.monotonic()
        step, self._ahead = ahead - self._ahead, ahead
        return step if abs(step) >= CLOCK_STEP_SECONDS else 0.0


class FileWatch:
    """Notices that a database's file was removed or replaced under the service."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._before = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        try:
            now = self._file.stat()
        except FileNotFoundError:
            return None
        return now.st_dev, now.st_ino

    def check(self) -> None:
        """Raise Unusable if another file, or none, is in its place."""
        now = self._identity()
        if now != self._before:
            what = "removed" if now is None else "replaced"
            raise Unusable(
                f"the database {self._file} was {what} while the service ran, so the service stops: what it "
                "would store is lost. Stop it before you move or restore its database, and start it after."
            )


def again_in(took: float, share: float, *, least: float = 0.0, most: float) -> float:
    """Return the seconds to wait after work that took ``took``, so that it takes this share of the time."""
    return min(max(least, took / share), most)


def reload_in(took: float) -> float:
    """Return the seconds until the configuration's files are checked again."""
    return again_in(took, RELOAD_SHARE, least=RELOAD_SECONDS, most=RELOAD_SECONDS_MOST)


def open_when_up(stop: threading.Event, heartbeat: Heartbeat, open_it: Callable[[], None]) -> bool:
    """Open the store, waiting until the database is up. Return False if ``stop`` is set first.

    Raises Unusable if waiting does not help.
    """
    while not stop.is_set():
        try:
            open_it()
            return True
        except Unavailable as error:
            if is_lasting(error):
                raise Unusable(str(sentence_of(error))) from None
            log.warning("database is away", error=reason_of(error), retry_in=DATABASE_RETRY.seconds)
            heartbeat.beat()
            stop.wait(DATABASE_RETRY.total_seconds())
    return False


def shut_down(unfinished: list[str], heartbeat: Heartbeat, release: Callable[[], None]) -> None:
    """Release what was not finished, and remove the heartbeat."""
    # In a thread: a database that hangs must not hold up the shutdown.
    releasing = threading.Thread(target=release, daemon=True)
    releasing.start()
    releasing.join(RELEASE_WITHIN)
    heartbeat.remove()
    log.info("stopped", unfinished=unfinished)
