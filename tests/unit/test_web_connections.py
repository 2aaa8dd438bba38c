"""Which connection is closed to make room for another."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from poller.web.connections import (
    MAX_CONNECTIONS,
    MAX_RUNNING,
    MAX_WAITING,
    connection_to_close,
    network_of,
)


@dataclass(frozen=True)
class One:
    network: str
    waits_since: float | None
    number: int = 0


def several(many: int, network: str, waits: bool = True) -> list[One]:
    return [One(network, float(number) if waits else None, number) for number in range(many)]


NEWEST = One("a", 1000.0)


def test_an_address_keeps_a_bounded_number_of_waiting_connections() -> None:
    assert connection_to_close(NEWEST, several(MAX_WAITING - 1, "a")) is None
    assert connection_to_close(NEWEST, several(MAX_WAITING, "a")) == One("a", 0.0)
    assert connection_to_close(NEWEST, several(MAX_WAITING, "b")) is None


def test_requests_in_work_are_never_closed_for_a_new_connection() -> None:
    working = several(MAX_CONNECTIONS - 1, "a", waits=False)
    assert connection_to_close(NEWEST, working) is None
    assert connection_to_close(NEWEST, [*working, One("b", 5.0)]) == One("b", 5.0)
    assert connection_to_close(NEWEST, [*working, One("b", None)]) is NEWEST


def test_with_all_connections_taken_the_address_with_the_most_gives_one_up() -> None:
    others = [*several(MAX_CONNECTIONS - 50, "x", waits=False), One("b", 0.0), *several(49, "c")]
    assert connection_to_close(NEWEST, others) == One("c", 0.0)


def test_there_are_connections_beyond_the_requests_in_work() -> None:
    assert MAX_RUNNING + MAX_WAITING <= MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_one_client_is_one_address(host: str, network: str) -> None:
    assert network_of(host) == network
