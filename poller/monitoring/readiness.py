"""Whether the service is ready, as ``/readyz`` answers: no item of its health is ``unready``.

(``/healthz`` only asks whether the process is alive: ``poller.service.heartbeat.is_alive``.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from poller.ingest.accounts import Setup
from poller.monitoring.gather import gather
from poller.monitoring.status import Item
from store import processes
from store.engine import Store, Unavailable, reason_of
from store.queries import UNCOUNTED


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer. Its reasons, the worst first, are shown only to callers who may read."""

    reasons: tuple[Item, ...]

    @property
    def ready(self) -> bool:
        return not self.reasons


def readiness(health: Iterable[Item]) -> Readiness:
    """Return what keeps the service from being ready."""
    return Readiness(tuple(item for item in health if item.urgency == "unready"))


def check(store: Store, setup: Setup) -> Readiness:
    """Gather the status and decide; a database that is away makes the service not ready."""
    try:
        if is_locked_out(store):
            return readiness([LOCKED_OUT])
        return readiness(gather(store, setup, lambda _: UNCOUNTED).health)
    except Unavailable as error:
        return readiness([away(reason_of(error))])


LOCKED_OUT = Item(
    "keys",
    "",
    "the database was resealed with an encryption key that this process lacks: add that key to "
    "ORDER_SYNC_ENCRYPTION_KEY and start it again.",
    "unready",
)


def is_locked_out(store: Store) -> bool:
    """Return True if this process lacks the key that the database is sealed with."""
    with store.read() as tx:
        return processes.is_locked_out(tx)


def away(reason: str) -> Item:
    """Return the item of a database that does not answer."""
    return Item("database", "", f"the database is away ({reason}).", "unready")
