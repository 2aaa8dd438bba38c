"""The heartbeat of a process: a file that ``order-sync health`` reads."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from config.settings import Settings
from poller.bootstrap import utc_now
from store.engine import file_of

log = structlog.get_logger("order_sync")

HEARTBEAT_SECONDS = 10
HEARTBEAT_MISSED = timedelta(minutes=1)


def heartbeat_file(settings: Settings) -> Path | None:
    """Return the file: in ORDER_SYNC_RUNTIME_DIR, else beside the SQLite file; None with neither."""
    if settings.runtime_dir is not None:
        return settings.runtime_dir / "order-sync.heartbeat"
    database = file_of(settings.database_url.get_secret_value())
    return None if database is None else database.with_name(f"{database.name}.heartbeat")


class Heartbeat:
    """Writes a heartbeat. A heartbeat that cannot be written is a warning: the service goes on."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._is_failing = False

    def beat(self) -> None:
        """Write the time, in place of what is there: a link is replaced and not followed."""
        if self._file is None:
            return
        fresh = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            with suppress(FileNotFoundError):
                fresh.unlink()
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:
                writing.write(utc_now().isoformat())
            fresh.replace(self._file)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                remedy = (
                    "`order-sync health` reads it: set ORDER_SYNC_RUNTIME_DIR to a folder that is writable"
                )
                log.warning("no heartbeat", file=str(self._file), error=error.strerror, note=remedy)
            self._is_failing = True

    def remove(self) -> None:
        """Remove it, because the process ends."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()


def is_alive(file: Path) -> bool:
    """Return True if a service wrote this heartbeat within the last minute."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW)) as reading:
            written_at = datetime.fromisoformat(reading.read())
    except (OSError, ValueError):
        return False
    return abs(utc_now() - written_at) < HEARTBEAT_MISSED
