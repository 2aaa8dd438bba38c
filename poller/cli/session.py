"""What surrounds a command: the person at the terminal, configuration, database, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from poller.cli.failures import BAD_INPUT, Failure

if TYPE_CHECKING:
    from poller.bootstrap import Service


def operator() -> str:
    """Who is at work, for the journal: the operating system's user, whatever the environment says."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user id without a name, as in many containers
        return f"user {os.getuid()}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal before many records are changed; elsewhere go on. Raises Failure for a no.

    ``yes``: it was answered already.
    """
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was changed.")


@contextmanager
def opened(*, create: bool = False, wired: bool = False) -> Iterator[Service]:
    """The configured service with its database open.

    ``create``: make and upgrade an SQLite database. ``wired``: with accounts, connectors and sources.
    Raises Failure for what a person has to put right first.
    """
    from poller.bootstrap import Service

    with Service(os.environ) as service:
        log_quietly(service)
        open_store(service, create=create, syncing=create and wired)
        if wired:
            service.wire()
        yield service


def log_quietly(service: Service) -> None:
    """Libraries' warnings through our formatter; a command speaks for itself."""
    from config.logging import configure_logging

    settings = service.config.settings
    level = settings.log_level if settings.log_level in ("debug", "error") else "warning"
    configure_logging(settings.log_format, level)


def require_configuration(service: Service, *, syncing: bool = True) -> None:
    """Raises Failure when the configuration stops everything, or has no key.

    ``syncing``: also when there is nothing to sync. What is stored can be looked at without.
    """
    kinds = ("everything", "syncing") if syncing else ("everything",)
    stopping = [p.message for p in service.config.problems if p.stops in kinds]
    if stopping:
        raise Failure(*stopping, status=BAD_INPUT)
    if service.config.settings.encryption_key is None:
        raise Failure(NO_KEY, status=BAD_INPUT)


NO_KEY = (
    "ORDER_SYNC_ENCRYPTION_KEY is not set (nor ORDER_SYNC_ENCRYPTION_KEY_FILE): for a database that exists, "
    "set the key that it was made with; for a new one, make a key with `order-sync keys new`, keep it safe "
    "(without it buyer data cannot be read again), and set it."
)


def open_store(service: Service, *, create: bool, syncing: bool = True) -> None:
    """Open the service's database. Raises Failure, and what a database that is away raises."""
    from poller.bootstrap import Unusable

    require_configuration(service, syncing=syncing)
    check_place(service.config.settings.database_url.get_secret_value(), create=create)
    try:
        service.open_store(create=create)
    except Unusable as unusable:
        raise Failure(*unusable.sentences) from None
    _ = service.store.lookup  # a wrong key shows here


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for other databases."""
    from store.diagnosis import place_of

    return place_of(url).file


def check_place(url: str, *, create: bool) -> None:
    """Raises Failure when an SQLite file is none, is not there, or cannot be made where it belongs."""
    file = sqlite_file(url)
    if file is not None and file.is_dir():
        raise Failure(
            f"{file} is a folder: ORDER_SYNC_DATABASE_URL must name a file in it.", status=BAD_INPUT
        )
    if file is None or file.exists():
        return
    if not create:
        raise Failure(f"there is no database at {file} yet: `order-sync sync` and `order-sync run` make it.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        fault = "cannot be written to" if file.parent.exists() else "does not exist"
        raise Failure(
            f"the database cannot be made: the folder {file.parent} {fault} (ORDER_SYNC_DATABASE_URL).",
            status=BAD_INPUT,
        )


@contextmanager
def stopped_by_signals(service: Service) -> Iterator[list[int]]:
    """SIGTERM and SIGINT ask the service to stop. Yields the signals that came; the second one insists."""
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        service.stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
