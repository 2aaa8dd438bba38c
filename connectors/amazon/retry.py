"""When a failed request is repeated, and after how long: the one policy for every request to Amazon.

- ``Retriable`` errors: up to four attempts, with growing waits and jitter. The waits bridge a hiccup of
  seconds; for longer ones the ledger keeps the page token and comes back. No process sleeps for a token
  of the budget.
- ``AccessRefused`` (status 401 or 403) and ``SecretExpired``: once per request, at once, with a fresh access
  token, and without counting as an attempt. An access token may end early, and Amazon has refused thousands
  of sellers for half an hour with a 403, so a refusal proves nothing about the authorisation (only
  ``invalid_grant`` of Login with Amazon does). The second one is raised, and the ledger decides when to come
  back.
- Everything else is raised at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

from tenacity import AttemptManager, RetryCallState, Retrying

from connectors.base import Sleep
from connectors.errors import AccessRefused, ConnectorError, Retriable, SecretExpired

MAX_ATTEMPTS = 4

_MIN_WAIT = 1.0
_MAX_WAIT = 20.0
_GROWTH = 3

T = TypeVar("T")


def waiting_time(attempt: int, rng: random.Random) -> float:
    """Return the seconds to wait after failed attempt number ``attempt``: 1-3, then 1-9, then 1-20."""
    return rng.uniform(_MIN_WAIT, min(_MAX_WAIT, _MIN_WAIT * _GROWTH**attempt))


class Retries:
    """The attempts at one request.

    Use as ``for attempt in retries: with attempt: return retries.succeeded(…)``. An error that allows another
    attempt ends the block; after its wait the loop goes on. Others are raised.
    """

    def __init__(self, sleep: Sleep, rng: random.Random) -> None:
        self._sleep = sleep
        self._rng = rng
        self._failures = 0
        self._access_was_refused = False
        self._wait = 0.0
        self.failure: ConnectorError | None = None
        """What the last attempt ended in."""
        self.observe: Callable[[str, bool], None] = lambda outcome, repeated: None
        """Called with "ok" or the error's class name, and True if another attempt follows."""

    def __iter__(self) -> Iterator[AttemptManager]:
        policy = Retrying(
            retry=self._is_repeated, wait=lambda state: self._wait, sleep=self._pause, reraise=True
        )
        return iter(policy)

    def _pause(self, seconds: float) -> None:
        if seconds:
            self._sleep(seconds)

    def succeeded(self, answer: T) -> T:
        """Return the answer of the attempt that needs no other."""
        self.observe("ok", False)
        return answer

    def _is_repeated(self, state: RetryCallState) -> bool:
        """Decide whether another attempt follows a failed one, and after which wait."""
        error = state.outcome.exception() if state.outcome is not None else None
        if not isinstance(error, ConnectorError):
            return False
        self.failure = error
        wait = self._wait_after(error)
        self.observe(type(error).__name__, wait is not None)
        self._wait = wait or 0.0
        return wait is not None

    def _wait_after(self, error: ConnectorError) -> float | None:
        """Return the seconds until the next attempt, None if there is none."""
        if isinstance(error, AccessRefused | SecretExpired) and not self._access_was_refused:
            self._access_was_refused = True
            return 0.0
        if not isinstance(error, Retriable):
            return None
        self._failures += 1
        return waiting_time(self._failures, self._rng) if self._failures < MAX_ATTEMPTS else None
