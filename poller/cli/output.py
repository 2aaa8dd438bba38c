"""What commands print: lines and tables.

Every command imports this module, so it imports nothing heavy at the top.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from poller.text import for_terminal, json_text, plain


def say(text: str) -> None:
    """Print a message on standard error."""
    print(text, file=sys.stderr, flush=True)


def put(text: str = "") -> None:
    """Print a line of data on standard output."""
    print(text)


def put_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    put(json_text(value, indent=2))


def put_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
    """Print aligned columns on standard output; a heading that begins with ``>`` is right-aligned.

    Empty columns are left out. On a terminal, columns of several words are folded to fit; nothing is cut.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, markup=False, highlight=False)
    shown = for_terminal if console.is_terminal else plain
    cells = [["" if value is None else shown(value) for value in row] for row in rows]
    used = [i for i in range(len(headings)) if any(row[i] for row in cells)]
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
    for line in captured.get().split("\n")[:-1]:  # not at other line separators, which are part of a text
        put(line.rstrip())


_BETWEEN = 2
_NARROWEST = 14


def _widths(columns: Sequence[Sequence[str]], room: int | None) -> list[int]:
    """Return the width of each column: its longest text, or less if folding makes all fit ``room``."""
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
    """Return the parts of a text that stay on one line: its words, or all of it if no longer than a time."""
    return [text] if len(text) <= len("2026-01-31 12:00") else text.split()
