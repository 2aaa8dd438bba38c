"""What every long-running process does: it gives signs of life, waits for its database, and gives back."""

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
RELOAD_SECONDS_MANY = 15
"""Looking at the files of thousands of accounts takes a while: no more of the time than this share, but
every quarter of a minute."""

HEARTBEAT_SECONDS = 10
HEARTBEAT_MISSED = 60

STOP_WITHIN = 6.0
"""Seconds that running pages get to finish when the process is told to stop."""

RELEASE_WITHIN = 2.0
"""Seconds that giving back the claims of unfinished pages may take then."""


def heartbeat_file() -> Path:
    """Written by a running service; how ``order-sync health`` knows it without asking anybody."""
    return Path(tempfile.gettempdir()) / f"order-sync-{os.getuid()}.heartbeat"


def beat() -> None:
    """Give a sign of life."""
    heartbeat_file().write_text(utc_now().isoformat())


def again_in(took: float, share: float, *, least: float = 0.0, most: float) -> float:
    """Seconds until something is done again that took so many, and may take this share of the time."""
    return min(max(least, took / share), most)


def reload_in(took: float) -> float:
    """Seconds until the configuration's files are looked at again, when looking took so many."""
    return again_in(took, RELOAD_SHARE, least=RELOAD_SECONDS, most=RELOAD_SECONDS_MANY)


def is_alive() -> bool:
    """Whether a service of this user has given a sign of life within the last minute."""
    try:
        beaten = datetime.fromisoformat(heartbeat_file().read_text())
    except (OSError, ValueError):
        return False
    return utc_now() - beaten < timedelta(seconds=HEARTBEAT_MISSED)


def open_when_up(stop: threading.Event, open_it: Callable[[], None]) -> bool:
    """Open the store, waiting for a database that is not up yet. False when told to stop first.

    Raises Unusable for one that waiting does not help.
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


def give_back(left: list[str], release: Callable[[], None]) -> None:
    """The end: give back what was not finished, and the sign of life."""
    if left:
        # In a thread of its own: a database that hangs must not hold up the end.
        releasing = threading.Thread(target=release, daemon=True)
        releasing.start()
        releasing.join(RELEASE_WITHIN)
    heartbeat_file().unlink(missing_ok=True)
    log.info("stopped", unfinished=left)
