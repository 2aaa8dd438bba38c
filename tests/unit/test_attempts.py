"""Waits between failed attempts to sign in, by name and network."""

from __future__ import annotations

from datetime import timedelta

import pytest

from poller.web.attempts import MAX_FAILURES, NETWORK, PAIR, attempt, network_of, wait
from store.sign_in_failures import Count, Counts
from tests.harness import NOON

NONE = Count(0, NOON)
SECOND = timedelta(seconds=1)


def test_a_wait_doubles_with_each_failure_and_ten_lock_for_a_quarter_of_an_hour() -> None:
    waits = [wait(PAIR, failures) / SECOND for failures in range(12)]
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 900, 900]
    assert MAX_FAILURES == 10


def test_a_network_waits_after_more_failures_and_for_a_minute_at_most() -> None:
    waits = [wait(NETWORK, failures) / SECOND for failures in (20, 21, 22, 26, 27, 1000)]
    assert waits == [0, 1, 2, 32, 60, 60]


def test_an_attempt_is_counted_or_says_when_the_next_one_is_allowed() -> None:
    assert attempt(Counts(NONE, NONE), NOON) == Counts(Count(1, NOON), Count(1, NOON))
    locked = Counts(Count(10, NOON), Count(10, NOON))
    assert attempt(locked, NOON) == NOON + PAIR.longest
    later = NOON + PAIR.longest
    assert attempt(locked, later) == Counts(Count(11, later), Count(1, later))


def test_one_failure_after_another_is_forgotten() -> None:
    later = NOON + timedelta(hours=4)
    assert attempt(Counts(Count(6, NOON), NONE), later) == Counts(Count(3, later), Count(1, later))


def test_a_sprayed_network_gets_one_attempt_a_minute_in_the_long_run() -> None:
    now, counts, made = NOON, Counts(NONE, NONE), 0
    while now < NOON + timedelta(hours=2):
        decided = attempt(Counts(NONE, counts.network), now)  # another name each time
        if isinstance(decided, Counts):
            counts, made = decided, made + 1
        else:
            now = decided
    assert made < 20 + 2 * 60 + 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_the_addresses_of_one_person_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network
