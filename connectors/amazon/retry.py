"""When a failed request is repeated, and after how long: the one policy for every request to Amazon.

- ``Retriable`` errors: up to four attempts, with growing waits and jitter. The waits bridge a hiccup of
  seconds; for longer ones the ledger keeps the page token and comes back. No process sleeps for a token
  of the budget.
- ``AccessRefused`` (status 401 or 403): once per request, at once, with a fresh access token, and without
  counting as an attempt. An access token may end early, and Amazon has refused thousands of sellers for
  half an hour with a 403, so a refusal proves nothing about the authorisation (only ``invalid_grant`` of
  Login with Amazon does). The second one is raised, and the ledger decides when to come back.
- Everything else is raised at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from connectors.base import Sleep
from connectors.errors import AccessRefused, ConnectorError, Retriable

MAX_ATTEMPTS = 4

_MIN_WAIT = 1.0
_MAX_WAIT = 20.0
_GROWTH = 3


def waiting_time(attempt: int, rng: random.Random) -> float:
    """Return the seconds to wait after failed attempt number ``attempt``: 1-3, then 1-9, then 1-20."""
    return rng.uniform(_MIN_WAIT, min(_MAX_WAIT, _MIN_WAIT * _GROWTH**attempt))


class Retries:
    """The attempts at one request. Use as ``while True: with retries.attempt(): return …``."""

    def __init__(self, sleep: Sleep, rng: random.Random) -> None:
        self._sleep = sleep
        self._rng = rng
        self._failures = 0
        self._access_was_refused = False
        self.failure: ConnectorError | None = None
        """What the last attempt ended in."""

    @contextmanager
    def attempt(self, observe: Callable[[str, bool], None] = lambda *_: None) -> Iterator[None]:
        """Make one attempt. An error that allows another ends the block after its wait; others are raised.

        Calls ``observe`` with "ok" or the error's class name, and True if another attempt follows.
        """
        try:
            yield
        except ConnectorError as error:
            self.failure = error
            wait = self._wait_after(error)
            observe(type(error).__name__, wait is not None)
            if wait is None:
                raise
            if wait:
                self._sleep(wait)
        else:
            observe("ok", False)

    def _wait_after(self, error: ConnectorError) -> float | None:
        """Return the seconds until the next attempt, None if there is none."""
        if isinstance(error, AccessRefused) and not self._access_was_refused:
            self._access_was_refused = True
            return 0.0
        if not isinstance(error, Retriable):
            return None
        self._failures += 1
        return waiting_time(self._failures, self._rng) if self._failures < MAX_ATTEMPTS else None
