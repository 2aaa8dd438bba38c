"""Times, counts and foreign text as people and programs read them. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any


def time_text(time: datetime | None) -> str | None:
    """Return ``2026-01-31T12:00:00Z``, with a fraction only if there is one."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def iso_rounded_up(time: datetime) -> str:
    """Return ``2026-01-31T12:00:00Z``, rounded up to a second: to return then is not too early."""
    utc = time.astimezone(UTC)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Unicode's categories Cc (control characters) and Cs (halves of characters), which never change."""


def control_character(text: str) -> str | None:
    """Return the first character that no text may hold, in words; None if there is none.

    Every other character may be part of a name: blanks of all kinds, joiners, direction marks.
    """
    found = _CONTROL.search(text)
    if found is None:
        return None
    if found[0] in "\r\n":
        return "a line break"
    if found[0] >= "\ud800":
        return f"half of a character (U+{ord(found[0]):04X})"
    return f"a control character (U+{ord(found[0]):04X})"


def plain(text: object) -> str:
    """Return foreign text without control characters, so that an order cannot control a terminal."""
    return _CONTROL.sub(" ", str(text))


_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters, and marks without a width that reorder or hide what stands beside them.

Joiners are not among them: names and emoji need them.
"""


FORMULA_SIGNS = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""Pattern of how a formula begins; spreadsheets in East Asian settings take the full-width signs, too."""

_LIKE_A_FORMULA = re.compile(rf"'*{FORMULA_SIGNS}").match
_HARMLESS = re.compile(r"[+-]?[0-9(][0-9 ()./-]*(?:(?:ext\.?|x) ?[0-9]+)?").fullmatch
"""Numbers and phones with an extension: arithmetic at worst, without the letters of a function or command."""


def defused(cell: str) -> str:
    """Return the text of a CSV cell, which no spreadsheet takes for a formula."""
    return f"'{cell}" if _LIKE_A_FORMULA(cell) and not _HARMLESS(cell) else cell


def for_terminal(text: object) -> str:
    """Return foreign text without what a terminal would obey, reorder or hide."""
    return _UNSEEN.sub("", plain(text))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON in readable letters, with escapes for what a terminal would obey, reorder or hide."""
    return readable_json(json.dumps(value, ensure_ascii=False, indent=indent))


def readable_json(text: str) -> str:
    """Return JSON that means the same and is safe to show."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in "\r\n\t" else f"\\u{ord(found[0]):04x}", text)


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return ``1 page``, ``2 pages``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def when(time: datetime | None, *, otherwise: str = "") -> str:
    """Return ``2026-01-31 12:00`` (UTC), for people."""
    return otherwise if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def lasting(span: timedelta) -> str:
    """Return ``40 s``, ``3 min``, ``2 h 5 min``, ``3 days 4 h``."""
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


def address_lines(address: Mapping[str, str | None]) -> list[str]:
    """Return the lines of an address as it stands on a letter."""
    town = " ".join(filter(None, (address.get("postal_code"), address.get("city"))))
    parts = (
        *(address.get(key) for key in ("name", "company", "line1", "line2", "line3")),
        town,
        *(address.get(key) for key in ("county", "state", "country", "phone")),
    )
    return [part for part in parts if part]


def indented(text: str, *, ascii_only: bool = True) -> str:
    """Return JSON with a line for each member, every number as it was written.

    Text that is no JSON, or is nested more deeply than this Python can follow, stays as it is.
    """
    try:
        return _indented(json.loads(text, parse_float=Decimal), ascii_only)
    except (ValueError, ArithmeticError, RecursionError):
        return text


def _indented(value: Any, ascii_only: bool, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        names = (json.dumps(name, ensure_ascii=ascii_only) for name in value)
        parts = (_indented(part, ascii_only, inner) for part in value.values())
        lines = [f"{inner}{name}: {part}" for name, part in zip(names, parts, strict=True)]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return (
            "[\n" + ",\n".join(inner + _indented(part, ascii_only, inner) for part in value) + f"\n{indent}]"
        )
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=ascii_only)
