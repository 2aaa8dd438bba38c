"""Events of the change feed and the webhooks that receive them, as plain values. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

EventKind = Literal[
    "order.created",
    "order.changed",
    "order.erased",
    "customer.created",
    "customer.changed",
    "customer.merged",
    "customer.forgotten",
]
"""What happened to a record. ``merged``: it is a tombstone that points to another one."""

State = Literal["waiting", "dead"]

_AFTER_ALL = 9
_NUMBER = re.compile(r"(\d{1,18})(?:\.([12])\.(\d{1,18}))?", re.ASCII)


class BadPosition(ValueError):
    """A text that is no position, or a position from which a reader cannot continue."""


class PositionGone(BadPosition):
    """Events after that position were deleted: the reader must export everything again."""


class Position(NamedTuple):
    """A place between events: after the named one, or after all of ``change_no``."""

    change_no: int
    what: int = _AFTER_ALL
    key: int = 0

    def __str__(self) -> str:
        if self.what == _AFTER_ALL:
            return str(self.change_no)
        return f"{self.change_no}.{self.what}.{self.key}"

    @property
    def whole(self) -> int:
        """Return the change position up to which nothing is missing before this place."""
        return self.change_no if self.what == _AFTER_ALL else self.change_no - 1


START = Position(0)


def read_position(text: str) -> Position:
    """Return the position that a text names. Raises BadPosition."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise BadPosition(
            "a position is a number such as 4711 or 4711.2.99, as the last answer or `order-sync export` "
            "gave it"
        )
    number, what, key = match.groups()
    return Position(int(number)) if what is None else Position(int(number), int(what), int(key))


@dataclass(frozen=True, slots=True)
class Change:
    """One event. ``version`` grows with every change of the record; ids are as they are now."""

    position: Position
    kind: EventKind
    at: datetime
    account: str | None = None
    order_id: str | None = None
    marketplace: str | None = None
    business: str | None = None
    customer_id: int | None = None
    merged_into: int | None = None

    @property
    def version(self) -> int:
        return self.position.change_no

    @property
    def record(self) -> tuple[int, int]:
        """Return the record's kind and key; events of one record are ordered."""
        return self.position.what, self.position.key


@dataclass(frozen=True, slots=True)
class Changes:
    """Some events, oldest first, and the position from which to continue. ``more``: more are readable."""

    events: tuple[Change, ...]
    position: Position
    more: bool


@dataclass(frozen=True, slots=True)
class Hook:
    """A receiver. ``position``: the last event that was handled: accepted, or stored as ``Held``."""

    hook_id: int
    url: str = field(repr=False)
    secret: str = field(repr=False)
    position: Position
    version: int
    created_at: datetime
    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    last_error: str | None = None
    succeeded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """An event that was not accepted, or waits behind another of its record. ``failed_at``: since when."""

    position: Position
    state: State
    attempts: int
    failed_at: datetime
    next_at: datetime
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a hook has not accepted: events waiting and given up, and the time of the oldest."""

    waiting: int
    dead: int
    oldest: datetime | None
