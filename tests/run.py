"""Run pytest and leave no process behind, however it ends: ``python -m tests.run [ARGUMENT]…``.

Tests start servers and services. When pytest is interrupted, or dies, it may not come to end them, and the
kernel hands them over to this process, which does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5
"""Seconds that the workers of an interrupted pytest have to end, and then again pytest to report."""

GRACE = 5.0
"""Seconds that what it has left behind has to end."""


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments; return its exit status."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="order-sync-tests-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        environ = {"PYTEST_DEBUG_TEMPROOT": tempfile.gettempdir(), **os.environ, "TMPDIR": folder}
        command = [sys.executable, "-m", "pytest", *arguments]
        # In a group of its own, so that an interrupt reaches it once; and not ignoring that, as a shell lets
        # do what runs in the background.
        pytest = os.posix_spawn(sys.executable, command, environ, setpgroup=0, setsigdef=[signal.SIGINT])
        steps = iter(
            [
                lambda: end([pytest], signal.SIGINT),
                lambda: end(children(pytest), signal.SIGKILL),  # xdist's workers ignore an interrupt
                lambda: end([pytest], signal.SIGKILL),
            ]
        )

        def interrupt(number: int, frame: FrameType | None) -> None:
            signal.alarm(PATIENCE)
            with suppress(StopIteration):
                next(steps)()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, interrupt)
        status = None
        while status is None:
            pid, ended = os.wait()  # of all that the kernel has handed over, too
            status = os.waitstatus_to_exitcode(ended) if pid == pytest else None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        end_the_rest()
    return status if status >= 0 else 128 - status


def end_the_rest() -> None:
    """End all processes that stem from this one."""
    deadline = time.monotonic() + GRACE
    while pids := children(os.getpid()):
        end(pids, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def end(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = path.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
