"""Exported objects as JSON Lines and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TextIO, get_args, get_type_hints

from typing_extensions import is_typeddict

from poller.export import EXPORTED
from poller.text import defused, for_terminal, json_text


def write_jsonl(objects: Iterable[dict[str, Any]], out: TextIO) -> int:
    """Write one JSON object a line. Returns how many."""
    written = 0
    for item in objects:
        out.write(json_text(item) + "\n")
        written += 1
    return written


_ROW_EACH = "lines"
"""The list of an order of which CSV has a row for each element."""


@cache
def _members(kind: Any) -> Mapping[str, Any]:
    """Return the keys of an exported type: for a nested object its type, for any other value None."""
    nested: dict[str, Any] = {}
    for key, hint in get_type_hints(kind).items():
        kinds = get_args(hint) if key == _ROW_EACH or type(None) in get_args(hint) else (hint,)
        nested[key] = next((each for each in kinds if is_typeddict(each)), None)
    return nested


def _cells(item: Mapping[str, Any] | None, kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, nested in _members(kind).items():
        name, value = f"{prefix}{key}", None if item is None else item[key]
        if nested is not None:
            yield from _cells(value, nested, f"{name}.")
        elif isinstance(value, dict | list):
            yield name, json.dumps(value, ensure_ascii=False) if value else None
        else:
            yield name, value


def write_csv(what: str, objects: Iterable[dict[str, Any]], out: TextIO) -> int:
    """Write the same keys as columns, nested ones joined with a dot; orders with one row a line item.

    Returns the number of objects. Spreadsheets run a cell that begins like a formula, so such a text gets an
    apostrophe; numbers and phones can do no harm. One more goes before a text that begins as if it had one.
    A file has every character, a terminal only what it can show.
    """
    shown = _for_terminal if out.isatty() else _as_it_is
    kind = EXPORTED[what]
    heading = [name for name, _ in _cells(None, kind)]
    # Lines end as RFC 4180 has it; with any other ending the module would leave a lone \r unquoted.
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(heading)
    written = 0
    for item in objects:
        rows = (
            [item | {_ROW_EACH: each} for each in item[_ROW_EACH] or [None]] if _ROW_EACH in item else [item]
        )
        writer.writerows([shown(_cell(value)) for _, value in _cells(row, kind)] for row in rows)
        written += 1
    return written


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return json.dumps(value)
    return defused(value) if isinstance(value, str) else value


def _as_it_is(cell: Any) -> Any:
    return cell


def _for_terminal(cell: Any) -> Any:
    return for_terminal(cell) if isinstance(cell, str) else cell
