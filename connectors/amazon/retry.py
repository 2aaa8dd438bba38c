"""When a request is repeated: only for Retriable errors, four attempts, growing waits with jitter.

The waits bridge a hiccup of seconds. What lasts longer is the business of the ledger, which keeps
the page token and comes back: nobody sleeps for a token of the budget.
"""

from __future__ import annotations

import random

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from connectors.base import Sleep
from connectors.errors import Retriable

ATTEMPTS = 4
_SHORTEST = 1.0
_LONGEST = 20.0
_GROWTH = 3


def waiting_time(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after the failure of attempt number ``attempt`` (from 1): 1-3, 1-9, then 1-20."""
    return rng.uniform(_SHORTEST, min(_LONGEST, _SHORTEST * _GROWTH**attempt))


def retrying(sleep: Sleep, rng: random.Random) -> Retrying:
    """A fresh policy for one request. The last error is raised as it is, without a wrapper."""

    def wait(state: RetryCallState) -> float:
        return waiting_time(state.attempt_number, rng)

    return Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait,
        retry=retry_if_exception_type(Retriable),
        sleep=sleep,
        reraise=True,
    )
