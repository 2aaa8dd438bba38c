"""What a process says of itself in the database, every minute: that it is alive, its keys, its clock.

``poller.monitoring.health`` and ``order-sync keys rotate`` read it.
"""

from __future__ import annotations

from poller.bootstrap import Service, utc_now
from poller.errors import Unusable
from poller.version import program_version
from store import processes
from store.processes import Kind

PRESENCE_SECONDS = 60


class Presence:
    """One process. ``unusable``: why it must not go on; the thread that watches signals ends it then."""

    def __init__(self, service: Service, kind: Kind) -> None:
        self._service = service
        self._kind = kind
        self.unusable: Unusable | None = None

    def show(self) -> None:
        """Say that this process is alive, and find out if it lacks the key of the database."""
        service, ahead = self._service, self._clock_ahead()
        with service.store.begin(durable=False) as tx:
            if processes.is_locked_out(tx):
                self.unusable = Unusable(
                    "the database was resealed with an encryption key that this process lacks, so it stops: "
                    "add that key to ORDER_SYNC_ENCRYPTION_KEY and start it again."
                )
                return
            processes.save(tx, service.owner, self._kind, program_version(), ahead)

    def _clock_ahead(self) -> float | None:
        """Return the seconds by which this host's clock is ahead of Amazon's, by the newest answer of any."""
        for account in self._service.accounts.values():
            if account.connector.knows_time():
                return (utc_now() - account.connector.amazon_now()).total_seconds()
        return None
