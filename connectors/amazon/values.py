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


_NEVER_IN_AN_ID = re.compile(
    r"[\s/\\?#%\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def is_order_id(value: str) -> bool:
    """Return True if a text is safe as one step of a path, on a terminal and in a link.

    Amazon's ids are 3-7-7 digits, but those of other channels are not (``S01-…``): any form is taken.
    """
    return value not in ("", ".", "..") and not _NEVER_IN_AN_ID.search(value)


def order_id_of(value: str, path: str) -> str:
    if not is_order_id(required_text(value, path)):
        raise Malformed(f"{path} has a character that no order id has")
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
