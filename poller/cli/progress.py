"""Progress of long commands: on a terminal what is done and left, the rate, the end; elsewhere plain lines.

It is written to standard error and leaves nothing behind on a terminal, however the command ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from poller.cli.output import say
from poller.text import iso_rounded_up, lasting

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn
    from rich.table import Column

BAR_WIDTH = 20
RATE_AFTER_SECONDS = 1.0
"""Before that a rate says nothing."""


def on_terminal() -> bool:
    """Return True if standard error is a terminal on which lines can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def described(done: int, total: int, seconds: float) -> str:
    """Return what is done and left after so long, the rate, and how long the rest will take."""
    parts = [f"{done:,} of {total:,}"]
    left = total - done
    if left > 0:
        parts.append(f"{left:,} left")
    if done > 0 and seconds >= RATE_AFTER_SECONDS:
        rate = done / seconds
        parts.append(f"{rate:,.0f} a second" if rate >= 1 else f"{rate * 60:,.1f} a minute")
        if left > 0:
            parts.append(f"about {lasting(timedelta(seconds=left / rate))} to go")
    return ", ".join(parts)


@contextmanager
def progress(text: str, total: int, every: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how much is done. The rate and the end go on by the clock.

    Without a terminal, a line is printed for each ``every``, by default for each tenth of the total.
    """
    if not on_terminal():
        reported = 0

        def report(done: int) -> None:
            nonlocal reported
            step = every or max(1, total // 10)
            if done // step > reported // step:
                say(f"{text}: {done:,} of {total:,}")
            reported = done

        yield report
        return
    from rich.progress import BarColumn, ProgressColumn, Task
    from rich.text import Text

    class Standing(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(described(int(task.completed), int(task.total or 0), task.elapsed or 0.0))

    with _drawn(_words(), BarColumn(BAR_WIDTH), Standing(table_column=_folded())) as shown:
        task = shown.add_task(text, total=total)
        yield lambda done: shown.update(task, completed=done, total=max(total, done))


@contextmanager
def bar(text: str) -> Iterator[Callable[[str, float], None]]:
    """Draw a bar on a terminal. Yields a function that takes what is said beside it, and the share done."""
    from rich.progress import BarColumn

    with _drawn(BarColumn(BAR_WIDTH), _words()) as shown:
        task = shown.add_task(text, total=1.0)
        yield lambda words, share: shown.update(task, description=words, completed=share)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show on a terminal that something goes on, and for how long already; nothing elsewhere."""
    if not on_terminal():
        yield
        return
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    with _drawn(SpinnerColumn(), _words(), TimeElapsedColumn()) as shown:
        shown.add_task(text, total=None)
        yield


def wait_until(until: datetime, pause: Callable[[float], bool], why: str = "") -> None:
    """Wait; a terminal shows how long still, and why. ``pause`` takes seconds and returns True to end it."""
    from poller.bootstrap import utc_now

    span = (until - utc_now()).total_seconds()
    text = f"waiting until {iso_rounded_up(until)}"
    if not on_terminal():
        say(text)
        pause(max(0.0, span))
        return
    with bar(text) as draw:
        while (left := (until - utc_now()).total_seconds()) > 0:
            words = f"{text}, {lasting(timedelta(seconds=left))} left{f': {why}' if why else ''}"
            draw(words, 1 - left / span)
            if pause(min(1.0, left)):
                return


def _drawn(*columns: ProgressColumn) -> Progress:
    """Return a display of these columns. Data on standard output is not drawn into it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, markup=False, highlight=False)
    return Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())


def _words() -> ProgressColumn:
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False, table_column=_folded())


def _folded() -> Column:
    """Return a column that goes on in the next line, so that nothing is cut."""
    from rich.table import Column

    return Column(overflow="fold")
