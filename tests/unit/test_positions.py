"""Which change positions belong to a database, whatever restores lie behind it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from store.engine.positions import first_after, was_issued

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("number", "newest", "last_before_next", "expected"),
    [
        (0, 0, None, True),  # an empty database, and a reader who begins
        (0, 7, None, True),
        (7, 7, None, True),
        (8, 7, None, False),  # ahead of the database
        (5, 900, 5, True),  # up to where the history ended
        (6, 900, 5, False),  # of one that went on and was undone
        (0, 900, 0, True),
    ],
)
def test_a_position_was_issued_here_or_by_a_history_that_was_undone(
    number: int, newest: int, last_before_next: int | None, expected: bool
) -> None:
    assert was_issued(number, newest, last_before_next) is expected


def test_a_history_begins_at_the_clock_or_a_random_leap_after_the_last() -> None:
    by_clock = 1_781_524_800_000_000
    assert first_after(0, NOON) == first_after(by_clock - 1, NOON) == by_clock
    leaps = {first_after(by_clock, NOON) - by_clock for _ in range(20)}
    assert len(leaps) > 1
    assert min(leaps) >= 1_000_000_000


@dataclass
class _Database:
    """Names of changes by position, and histories: the first position of each, and the last before it."""

    changes: dict[int, str] = field(default_factory=dict)
    histories: list[tuple[int, int]] = field(default_factory=list)
    newest: int = 0

    def copy(self) -> _Database:
        return _Database(dict(self.changes), list(self.histories), self.newest)

    def change(self, name: str, now: datetime, *, opens: bool) -> None:
        if opens or not self.histories:
            first = first_after(self.newest, now)
            self.histories.append((first, self.newest))
            self.newest = first - 1
        self.newest += 1
        self.changes[self.newest] = name

    def accepts(self, position: int) -> bool:
        following = min((h for h in self.histories if h[0] > position), default=None)
        return was_issued(position, self.newest, None if following is None else following[1])


@pytest.mark.parametrize("backwards", [False, True], ids=["clock right", "clock goes backwards"])
@pytest.mark.parametrize("seed", range(40))
def test_a_reader_is_refused_exactly_if_it_received_what_a_restore_has_undone(
    seed: int, backwards: bool
) -> None:
    """At random: changes, restarts, backups, restores of any of them, and readers who come back late."""
    rng = random.Random(seed)
    now, database, restarted = NOON, _Database(), True
    backups: list[_Database] = []
    readers: list[tuple[int, dict[int, str]]] = []
    outcomes = set()
    for step in range(300):
        now += rng.choice((1, 1_000, 10**6, 10**9)) * MICROSECOND
        if backwards and rng.random() < 0.1:
            now -= timedelta(hours=rng.randrange(20))
        action = rng.choices(
            ("change", "restart", "back up", "restore", "read", "return"), (8, 2, 2, 1, 4, 4)
        )[0]
        if action == "change":
            database.change(f"change {step}", now, opens=restarted)
            restarted = False
        elif action == "restart":
            restarted = True
        elif action == "back up":
            backups.append(database.copy())
        elif action == "restore" and backups:
            database, restarted = rng.choice(backups).copy(), True
        elif action == "read":
            readers.append((database.newest, dict(database.changes)))
        elif action == "return" and readers:
            position, received = rng.choice(readers)
            stored = {number: name for number, name in database.changes.items() if number <= position}
            assert database.accepts(position) is (stored == received)
            outcomes.add(stored == received)
    assert outcomes == {True, False}
