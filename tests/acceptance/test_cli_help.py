"""What ``--help`` of every command shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from poller.cli import command_of
from poller.cli.commands import COMMANDS
from tests.acceptance.command_line import ROOT, order_sync


def commands() -> list[tuple[str, ...]]:
    """Every command and group of commands, as typed."""
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        group = command_of([name]).commands[name]
        found += [(name,), *((name, inner) for inner in getattr(group, "commands", {}))]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_names_no_type_cuts_nothing_and_fits_a_narrow_terminal(words: tuple[str, ...]) -> None:
    shown = order_sync(*words, "--help").out
    assert shown.startswith(f"Usage: {' '.join(('order-sync', *words))}")
    assert not re.search(r"<(bool|str|int|int range|float|path|file)>", shown)
    assert "..." not in shown.replace("[ARGS]...", "").replace("ID]...", "")
    assert max(map(len, shown.splitlines())) <= 80
    assert "  --help" in shown


def test_a_flag_stands_alone_and_an_option_with_its_value() -> None:
    shown = order_sync("backfill", "start", "--help").out
    assert re.search(r"^  --wait +Run it here, until it is done\.$", shown, re.M)
    assert re.search(r"^  --account NAME +Needed only", shown, re.M)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (("ba",), ["backfill"]),
        (("backfill", "pa"), ["pause"]),
        (("backfill", "start", "--mark"), ["--marketplace"]),
        (("init", "--client"), ["--client-id", "--client-secret-file"]),
    ],
    ids=" ".join,
)
def test_a_shell_completes_commands_and_options(
    typed: tuple[str, ...], completed: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "order-sync"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m poller.cli "$@"\n')
    program.chmod(0o755)
    words = " ".join(map(shlex.quote, ("order-sync", *typed)))
    script = f"""
eval "$(order-sync --show-completion)"
COMP_WORDS=({words}) COMP_CWORD={len(typed)}
_order_sync_completion order-sync
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed
