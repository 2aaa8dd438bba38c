"""When an order that could not be read is refetched."""

from __future__ import annotations

from datetime import timedelta

from poller.ingest.refetch import REFETCHES, next_refetch
from tests.harness import NOON


def test_the_wait_doubles_from_an_hour() -> None:
    waits = [next_refetch(NOON, refetches) for refetches in range(REFETCHES)]
    assert waits == [NOON + timedelta(hours=hours) for hours in (1, 2, 4, 8, 16, 32, 64)]


def test_after_the_last_one_a_person_is_asked() -> None:
    assert next_refetch(NOON, REFETCHES) is None
    assert next_refetch(NOON, REFETCHES + 1) is None
