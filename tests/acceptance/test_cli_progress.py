"""Progress of long commands, as a person at a terminal sees it and as a log has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from connectors.base import UsagePlan
from connectors.simulator.faults import SEARCH
from poller.cli.progress import described
from tests.acceptance.command_line import GENEROUS, ROOT, STARTED, Shop, open_shop, order_sync
from tests.acceptance.test_cli_actions import small_world

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
"""What hides and shows the cursor."""


@dataclass
class AtTerminal:
    """A command whose standard error is a terminal of 80 columns, and whose output is a pipe."""

    process: subprocess.Popen[str]
    screen: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def drawn(self) -> str:
        """All that was drawn, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", "".join(self.screen))

    def until(self, words: str) -> None:
        """Wait until these words are drawn; the test's own time limit ends it if they never are."""
        with self.changed:
            while not re.search(words, " ".join(self.drawn.split())):
                assert self.changed.wait(30), self.drawn

    def assert_is_clean(self) -> None:
        """The cursor is visible, and nothing of a bar is left."""
        assert self.drawn.count(HIDDEN) == self.drawn.count(SHOWN) > 0
        assert "━" not in self.drawn.rpartition(SHOWN)[2]


@contextmanager
def at_terminal(shop: Shop, *arguments: str, **environ: str) -> Iterator[AtTerminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("ORDER_SYNC_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "poller.cli", *arguments],
        cwd=shop.folder,
        env={**inherited, **shop.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    terminal = AtTerminal(process)

    def read() -> None:
        while True:
            try:
                piece = os.read(master, 65_536)
            except OSError:  # the other end is closed
                piece = b""
            with terminal.changed:
                terminal.screen.append(piece.decode(errors="replace"))
                terminal.changed.notify_all()
            if not piece:
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(master)


def finished(terminal: AtTerminal) -> tuple[int, str]:
    """Let it end. Return its exit status and its standard output."""
    out, _ = terminal.process.communicate(timeout=60)
    return terminal.process.returncode, out


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop", small_world()) as shop:
        yield shop


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 5000, 0.2), "0 of 5,000, 5,000 left"),
        ((1200, 5000, 4.0), "1,200 of 5,000, 3,800 left, 300 a second, about 13 s to go"),
        ((1200, 5000, 8.0), "1,200 of 5,000, 3,800 left, 150 a second, about 25 s to go"),
        ((3, 10, 60.0), "3 of 10, 7 left, 3.0 a minute, about 2 min to go"),
        ((5000, 5000, 10.0), "5,000 of 5,000, 500 a second"),
        ((0, 0, 3.0), "0 of 0"),
    ],
)
def test_progress_is_what_is_done_and_left_the_rate_and_the_end(
    numbers: tuple[int, int, float], words: str
) -> None:
    assert described(*numbers) == words


def imported(shop: Shop, *options: str) -> Sequence[str]:
    file = shop.folder / "customers.csv"
    file.write_text("email_1\n" + "".join(f"e{number}@example.com\n" for number in range(300)))
    return ("customers", "import", str(file), *options)


def test_a_bar_on_the_terminal_leaves_the_data_on_standard_output(shop: Shop) -> None:
    with at_terminal(shop, *imported(shop, "--dry-run")) as terminal:
        status, out = finished(terminal)
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [f"line {n}" for n in range(2, 302)]
    assert "checking" in terminal.drawn
    assert "line 2" not in terminal.drawn
    terminal.assert_is_clean()
    assert "would be: 300 new" in terminal.drawn.rpartition(SHOWN)[2]


def test_a_terminal_that_cannot_draw_again_gets_plain_lines(shop: Shop) -> None:
    with at_terminal(shop, *imported(shop), TERM="dumb") as terminal:
        assert finished(terminal)[0] == 0
    assert "\x1b" not in "".join(terminal.screen)
    assert "300 new" in terminal.drawn


def test_a_rotation_shows_how_much_is_left(shop: Shop) -> None:
    shop("sync")
    keys = f"{order_sync('keys', 'new').out.strip()},{shop.environ['ORDER_SYNC_ENCRYPTION_KEY']}"
    with at_terminal(shop, "keys", "rotate", ORDER_SYNC_ENCRYPTION_KEY=keys) as terminal:
        assert finished(terminal)[0] == 0
    assert "resealing values with the first key" in terminal.drawn
    assert re.search(r"\d+ of \d+", terminal.drawn)
    terminal.assert_is_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_says_for_what_and_ends_with_a_clean_terminal(shop: Shop, number: int) -> None:
    shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.01, 1)}
    with at_terminal(shop, "sync", "--wait") as terminal:
        terminal.until(r"waiting until \S+Z, \d+ (s|min) left: acme:EU: \w+")
        terminal.process.send_signal(number)
        assert finished(terminal)[0] == 128 + number
    terminal.assert_is_clean()
    assert "stopped; everything read so far is stored" in terminal.drawn.rpartition(SHOWN)[2]


def test_a_backfill_says_what_is_left_and_what_it_waits_for(shop: Shop) -> None:
    shop("sync")
    shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.01, 1)}
    bounds = [(STARTED.date().replace(year=STARTED.year - 1)).isoformat(), STARTED.date().isoformat()]
    start = ("backfill", "start", "--marketplace", "UK", "--from", bounds[0], "--to", bounds[1])
    with at_terminal(shop, *start, "--by", "search", "--wait") as terminal:
        terminal.until(r"backfill 2: .* done.*; waiting until \S+Z")
        terminal.process.send_signal(signal.SIGINT)
        assert finished(terminal)[0] == 130
    terminal.assert_is_clean()
    assert "order-sync backfill resume 2 --wait" in " ".join(terminal.drawn.split())
