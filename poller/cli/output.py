"""What all commands share: how they speak, how they fail, how they reach the database.

Imports nothing heavy at the top, because every command imports it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poller.bootstrap import Service

BAD_INPUT = 2
FAULT = 1
MISSING = 3
"""Something that Amazon has is not in the database."""
DEFERRED = 75
INTERRUPTED = 130
"""What shells report for a process that Ctrl-C ended."""


class Failure(Exception):
    """Ends the command: these sentences on standard error, this exit status."""

    def __init__(self, *sentences: str, status: int = FAULT) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences
        self.status = status


# --- speaking ---------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line to the person, on standard error."""
    print(text, file=sys.stderr, flush=True)


def put(text: str = "") -> None:
    """One line of what was asked for, on standard output."""
    print(text)


def put_json(value: Any) -> None:
    """A value as indented JSON on standard output."""
    put(json.dumps(value, ensure_ascii=False, indent=2))


def plain(text: object) -> str:
    """Text from elsewhere, safe to show: an order must not be able to steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def put_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
    """Aligned columns on standard output; a heading that begins with ``>`` is set to the right.

    A column without any value is left out. On a terminal, columns of several words are folded to fit;
    nothing is ever cut off.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    cells = [["" if value is None else plain(value) for value in row] for row in rows]
    used = [i for i in range(len(headings)) if any(row[i] for row in cells)]
    console = Console(file=sys.stdout, markup=False, highlight=False)
    texts = [[headings[i].removeprefix(">"), *(row[i] for row in cells)] for i in used]
    room = console.width - indent if console.is_terminal else None
    widths = _widths(texts, room)
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, _BETWEEN, 0, 0),
        header_style="bold",
        show_header=any(h.strip(">") for h in headings),
    )
    for i, width in zip(used, widths, strict=True):
        right = headings[i].startswith(">")
        table.add_column(headings[i].removeprefix(">"), justify="right" if right else "left", width=width)
    for row in cells:
        table.add_row(*(Text(row[i]) for i in used))
    console.width = indent + sum(widths) + _BETWEEN * len(widths)
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        put(line.rstrip())


_BETWEEN = 2
_NARROWEST = 14


def _widths(columns: Sequence[Sequence[str]], room: int | None) -> list[int]:
    """How wide each column is: as its texts are, unless folding words makes all of them fit the room."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, texts)) for texts in columns]
    least = [max(cell_len(part) for text in texts for part in _unbroken(text)) for texts in columns]
    least = [min(width, max(_NARROWEST, part)) for width, part in zip(widths, least, strict=True)]
    over = sum(widths) + _BETWEEN * (len(widths) - 1) - room if room is not None else 0
    if over <= 0 or over > sum(widths) - sum(least):
        return widths
    for _ in range(over):
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    return widths


def _unbroken(text: str) -> list[str]:
    """What of a text has to stay on one line: words, and whole what is no longer than a time."""
    return [text] if len(text) <= len("2026-01-31 12:00") else text.split()


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 page``, ``2 pages``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def when(time: datetime | None, *, otherwise: str = "") -> str:
    """``2026-01-31 12:00`` (UTC), for people."""
    return otherwise if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def lasting(span: timedelta) -> str:
    """``40 s``, ``3 min``, ``2 h 5 min``, ``3 days 4 h``."""
    seconds = max(0, round(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours == 0:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{counted(days, 'day')} {hours} h" if hours else counted(days, "day")


# --- asking and doing ---------------------------------------------------------------------------------


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
def progress(text: str, total: int, every: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yields what is told how much is done: a bar on a terminal, elsewhere a line for each ``every``.

    Unless it is said otherwise, that is a tenth of the total.
    """
    if not sys.stderr.isatty():
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            step = every or max(1, total // 10)
            if done // step > told // step:
                say(f"{text}: {done:,} of {total:,}")
            told = done

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.update(task, completed=done, total=max(total, done))


# --- failing ----------------------------------------------------------------------------------------


def sentences_of(error: Exception) -> tuple[int, str]:
    """(exit status, sentence) for an error. Only texts that we wrote ourselves are repeated."""
    from sqlalchemy.exc import DBAPIError

    from connectors.errors import ConnectorError
    from poller.bootstrap import Unusable
    from poller.errors import Refused
    from store import diagnosis
    from store.schema import NewerDatabase
    from store.sealing import SealError, UnknownKey

    name = type(error).__name__
    if isinstance(error, DBAPIError) and (sentence := diagnosis.sentence_of(error)) is not None:
        return FAULT, sentence
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        remedy = "install amazon-order-sync with its extra `postgres`"
        return BAD_INPUT, f"PostgreSQL needs a driver that is not installed: {remedy}."
    if isinstance(error, ModuleNotFoundError) and error.name == "procrastinate":
        remedy = "install amazon-order-sync with its extra `distributed`"
        return BAD_INPUT, f"ORDER_SYNC_EXECUTOR=procrastinate needs what is not installed: {remedy}."
    if isinstance(error, UnknownKey):
        return BAD_INPUT, f"{error}."
    if isinstance(error, Refused):
        return BAD_INPUT, plain(f"{error} {', '.join(error.named)}".strip())
    if isinstance(error, ConnectorError | Unusable | NewerDatabase | SealError):
        return FAULT, f"{str(error).removesuffix('.')}."
    return FAULT, f"something unexpected happened ({name}); ORDER_SYNC_LOG_LEVEL=debug shows where."


def show_traceback(error: BaseException) -> None:
    """Where an error happened, when debugging: frames and class only, since texts may quote data."""
    if os.environ.get("ORDER_SYNC_LOG_LEVEL", "").strip().lower() != "debug":
        return
    for line in traceback.format_tb(error.__traceback__):
        say(line.rstrip())
    say(type(error).__name__)


def drop_output() -> None:
    """Standard output leads nowhere any more: let the interpreter not stumble over it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# --- the service ------------------------------------------------------------------------------------


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
