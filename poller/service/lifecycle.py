"""Heartbeats, waiting for the database at startup, releasing claims at shutdown."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from poller.bootstrap import utc_now
from poller.errors import Unusable
from poller.service.tick import DATABASE_RETRY
from store.diagnosis import is_lasting, sentence_of
from store.engine import Unavailable, reason_of

log = structlog.get_logger("order_sync")

RELOAD_SECONDS = 5
RELOAD_SHARE = 1 / 300
RELOAD_SECONDS_MOST = 15
"""The configuration is checked every five seconds; with thousands of accounts, whose files take a while to
check, that takes no more than this share of the time, but happens every 15 seconds."""

HEARTBEAT_SECONDS = 10
HEARTBEAT_MISSED_SECONDS = 60

STOP_WITHIN = 6.0
"""Seconds that running pages may take to finish when the process stops."""

RELEASE_WITHIN = 2.0
"""Seconds that releasing the claims of unfinished pages may take after that."""


def heartbeat_file() -> Path:
    """Return the file that a running service writes and ``order-sync health`` reads."""
    return Path(tempfile.gettempdir()) / f"order-sync-{os.getuid()}.heartbeat"


def beat() -> None:
    """Write the heartbeat."""
    heartbeat_file().write_text(utc_now().isoformat())


def again_in(took: float, share: float, *, least: float = 0.0, most: float) -> float:
    """Return the seconds to wait after work that took ``took``, so that it takes this share of the time."""
    return min(max(least, took / share), most)


def reload_in(took: float) -> float:
    """Return the seconds until the configuration's files are checked again."""
    return again_in(took, RELOAD_SHARE, least=RELOAD_SECONDS, most=RELOAD_SECONDS_MOST)


def is_alive() -> bool:
    """Return True if a service of this user wrote its heartbeat within the last minute."""
    try:
        written_at = datetime.fromisoformat(heartbeat_file().read_text())
    except (OSError, ValueError):
        return False
    return utc_now() - written_at < timedelta(seconds=HEARTBEAT_MISSED_SECONDS)


def open_when_up(stop: threading.Event, open_it: Callable[[], None]) -> bool:
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
            beat()
            stop.wait(DATABASE_RETRY.total_seconds())
    return False


def shut_down(unfinished: list[str], release: Callable[[], None]) -> None:
    """Release what was not finished, and remove the heartbeat."""
    if unfinished:
        # In a thread: a database that hangs must not hold up the shutdown.
        releasing = threading.Thread(target=release, daemon=True)
        releasing.start()
        releasing.join(RELEASE_WITHIN)
    heartbeat_file().unlink(missing_ok=True)
    log.info("stopped", unfinished=unfinished)
