"""What commands share before their own work: operator, confirmation, configuration, database, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from poller.cli.failures import BAD_INPUT, Failure

if TYPE_CHECKING:
    from config.load import Config
    from config.settings import Settings
    from poller.bootstrap import Service
    from store.audit_records import Action, Actor, AuditEntry, Records
    from store.engine import Store, Transaction


T = TypeVar("T")


def operator() -> str:
    """Return the operating system's user for the journal; environment variables do not change it."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user id without a name, as in many containers
        return f"user {os.getuid()}"


def actor() -> Actor:
    """Return who runs this command and from where, for the audit log: this machine and its terminal."""
    import platform

    from store.audit_records import Actor

    try:
        terminal = f" {os.ttyname(sys.stdin.fileno())}"
    except (OSError, ValueError, AttributeError):  # no terminal, or standard input is closed
        terminal = ""
    return Actor(f"cli:{operator()}", f"{platform.node()}{terminal}", "cli")


def disclosed(service: Service, *shown: Records | None) -> None:
    """Record that this command shows the buyer data of these records; call it before. None is of none."""
    from store.audit_records import AuditEntry

    me = actor()
    entries = [AuditEntry(me, "disclosed", records=each) for each in shown if each is not None]
    if entries:
        audited(service.store, *entries)


def audited(store: Store, *entries: AuditEntry) -> None:
    """Add entries to the audit log, before what they witness."""
    from store import audit

    store.commit(lambda tx: audit.insert(tx, *entries))


def enter(
    tx: Transaction, action: Action, *, detail: str | None = None, records: Records | None = None
) -> None:
    """Add an entry to the audit log in the transaction of what it witnesses."""
    from store import audit
    from store.audit_records import AuditEntry

    audit.insert(tx, AuditEntry(actor(), action, records=records, detail=detail))


def entered(tx: Transaction, done: T, action: Action, detail: str) -> T:
    """Return what a change returned, after entering it into the audit log unless it was none."""
    if done:
        enter(tx, action, detail=detail)
    return done


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation on a terminal, unless ``yes``; elsewhere continue. Raises Failure if refused."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("cancelled: nothing was changed.")


def problems_of(config: Config, setting: str) -> list[str]:
    """Return the problems with one setting."""
    return [p.message for p in config.problems if p.message.upper().startswith(setting)]


@contextmanager
def opened(*, create: bool = False, wired: bool = False) -> Iterator[Service]:
    """Yield the configured service with its database open.

    ``create``: create or upgrade an SQLite database. ``wired``: with accounts, connectors and sources.
    Raises Failure if the configuration or the database cannot be used.
    """
    from poller.bootstrap import Service

    with Service(os.environ) as service:
        log_quietly(service)
        open_store(service, create=create, syncing=create and wired)
        if wired:
            service.wire()
        yield service


def log_quietly(service: Service) -> None:
    """Log warnings only: a command prints its own messages."""
    from config.logging import configure_logging

    settings = service.config.settings
    level = settings.log_level if settings.log_level in ("debug", "error") else "warning"
    configure_logging(settings.log_format, level)


FILES_AT_LEAST = 64
"""Files and connections that a service with one source needs, with room for callers of its HTTP API."""


def require_files() -> None:
    """Let this process open as many files as it may. Raises Failure if those are too few for a service."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < FILES_AT_LEAST:
        raise Failure(
            f"this process may open {hard} files, and needs {FILES_AT_LEAST} or more: raise its limit "
            "(`ulimit -n`, LimitNOFILE= of systemd, --ulimit nofile of Docker)."
        )


def require_configuration(service: Service, *, syncing: bool = True) -> None:
    """Raise Failure if the configuration stops everything, or has no key.

    ``syncing``: also if no source can be synced; commands that only read need none.
    """
    kinds = ("everything", "syncing") if syncing else ("everything",)
    stopping = [p.message for p in service.config.problems if p.stops in kinds]
    if stopping:
        raise Failure(*stopping, status=BAD_INPUT)
    if service.config.settings.encryption_key is None:
        raise Failure(NO_KEY, status=BAD_INPUT)


NO_KEY = (
    "ORDER_SYNC_ENCRYPTION_KEY is not set (nor ORDER_SYNC_ENCRYPTION_KEY_FILE): for an existing database, "
    "set the key it was created with; for a new one, make a key with `order-sync keys new`, keep it safe "
    "(without it buyer data cannot be read), and set it."
)


def open_store(service: Service, *, create: bool, syncing: bool = True) -> None:
    """Open the service's database. Raises Failure, or DBAPIError if the database cannot be reached."""
    from poller.errors import Unusable

    require_configuration(service, syncing=syncing)
    check_place(service.config.settings.database_url.get_secret_value(), create=create)
    if create:
        make_folders(service.config.settings)
    try:
        service.open_store(create=create)
    except Unusable as unusable:
        raise Failure(*unusable.sentences) from None


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None for other databases."""
    from store.engine import file_of

    return file_of(url)


def check_place(url: str, *, create: bool) -> None:
    """Raise Failure if an SQLite file is a folder, is missing, or cannot be created in its folder."""
    file = sqlite_file(url)
    if file is not None and file.is_dir():
        raise Failure(f"{file} is a folder: ORDER_SYNC_DATABASE_URL must name a file.", status=BAD_INPUT)
    if file is None or file.exists():
        return
    if not create:
        raise Failure(
            f"there is no database at {file} yet: `order-sync sync` or `order-sync run` creates it."
        )
    if fault := _fault_of_folder(file.parent):
        raise Failure(f"cannot create the database: {fault} (ORDER_SYNC_DATABASE_URL).", status=BAD_INPUT)


def _fault_of_folder(folder: Path) -> str | None:
    """Return why no file can be created in a folder, which may itself be missing; None if one can."""
    needed = folder if folder.exists() else folder.parent
    if not needed.exists():
        return f"the folder {needed} does not exist; create it, or name another place"
    if not os.access(needed, os.W_OK | os.X_OK):
        return f"the folder {needed} is not writable by {operator()}"
    return None


def make_folders(settings: Settings) -> None:
    """Create the folders of the SQLite file and of ORDER_SYNC_RUNTIME_DIR, which only this user enters.

    Only the last folder of a path is created: a mistake in the front of it, or a disk that is not mounted, is
    a Failure.
    """
    file = sqlite_file(settings.database_url.get_secret_value())
    for folder, setting in (
        (None if file is None else file.parent, "ORDER_SYNC_DATABASE_URL"),
        (settings.runtime_dir, "ORDER_SYNC_RUNTIME_DIR"),
    ):
        if folder is None or folder.exists():
            continue
        if fault := _fault_of_folder(folder):
            raise Failure(f"cannot create the folder {folder}: {fault} ({setting}).", status=BAD_INPUT)
        folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def stopped_by_signals(service: Service) -> Iterator[list[int]]:
    """Let SIGTERM and SIGINT stop the service. Yields the signals received; a second one interrupts."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        service.stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
