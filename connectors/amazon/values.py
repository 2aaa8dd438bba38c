"""Single values of Amazon's orders: texts and times, and what happens to an order with a malformed one.

``path`` is a field's place in what is being read, for the reason.
"""

from __future__ import annotations

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


def time_of(value: str | None, path: str) -> datetime | None:
    """Read ISO 8601 with ``Z`` or an offset, with or without fractions of a second; return UTC."""
    if not value or value.isspace():
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is UTC:
            return time
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Malformed(f"{path} is not a time with an offset")


def required_time(value: str, path: str) -> datetime:
    time = time_of(value, path)
    if time is None:
        raise Malformed(f"{path} is missing")
    return time


# Short enough that any sum of breakdowns is exact in the 28 digits of Decimal's default context.
