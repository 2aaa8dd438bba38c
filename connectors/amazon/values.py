"""Single values of Amazon's orders: texts and times, and what happens to an order with a malformed one.

``path`` is a field's place in what is being read, for the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime


class Malformed(Exception):
    """The order is unreadable. The text is the reason: a field's path and what it is not, never its value."""


def text_of(value: str | None) -> str | None:
    return value if value and not value.isspace() else None


def required_text(value: str, path: str) -> str:
    if not value or value.isspace():
        raise Malformed(f"{path} is missing")
    return value


def texts_of(values: Iterable[str | None] | None) -> tuple[str, ...]:
    return tuple([value for value in values if value and not value.isspace()]) if values else ()


def first_text(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if text_of(value)), None)


def joined_text(separator: str, *values: str | None) -> str | None:
    return separator.join(texts_of(values)) or None


FIRST_TIME, LAST_TIME = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_BEYOND = re.compile(r"\+?[0-9]{5,}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})").fullmatch


def time_of(value: str | None, path: str) -> datetime | None:
    """Read ISO 8601 with ``Z`` or an offset, with or without fractions of a second; return UTC.

    A time beyond what a database can hold is the first or the last that it can: 9999-12-31 stands for
    "never", and an offset leads beyond it.
    """
    if not value or value.isspace():
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        if _BEYOND(value):
            return LAST_TIME
    else:
        if time.tzinfo is UTC:
            return time
        if time.tzinfo is not None:
            try:
                return time.astimezone(UTC)
            except OverflowError:
                return FIRST_TIME if time.year == 1 else LAST_TIME
    raise Malformed(f"{path} is not a time with an offset")


def required_time(value: str, path: str) -> datetime:
    time = time_of(value, path)
    if time is None:
        raise Malformed(f"{path} is missing")
    return time
