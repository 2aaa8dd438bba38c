"""What a process says of itself in the database, every minute: that it is alive, its keys, its clock.

``poller.monitoring.health`` and ``order-sync keys rotate`` read it.
"""

from __future__ import annotations

import threading

import structlog

from poller.bootstrap import Service
from poller.errors import Unusable
from poller.version import program_version
from store import processes
from store.diagnosis import is_refusing
from store.engine import DatabaseError, Unavailable, reason_of
from store.processes import Kind

log = structlog.get_logger("order_sync")

SHOWN_EVERY_SECONDS = 60.0
SHOWN_AGAIN_SECONDS = 5.0
"""After a failure: what could not write for a while must not count as dead for longer than it was."""


class Presence:
    """One process. ``unusable``: why it must not go on; the thread that watches signals ends it then."""

    def __init__(self, service: Service, kind: Kind) -> None:
        self._service = service
        self._kind = kind
        self.unusable: Unusable | None = None

    def begin(self) -> None:
        """Show it, and go on in a thread that holds nothing up. Raises while the database is away."""
        try:
            self.show()
        except DatabaseError as error:
            if not is_refusing(error):
                raise
            log.warning("database takes no writes", error=reason_of(error))
        threading.Thread(target=self._go_on, name="presence", daemon=True).start()

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
            if service.stop.is_set():
                return  # its end may have taken the record away already
            processes.save(tx, service.owner, self._kind, program_version(), ahead)

    def _go_on(self) -> None:
        pause = SHOWN_EVERY_SECONDS
        while not self._service.stop.wait(pause) and self.unusable is None:
            pause = SHOWN_AGAIN_SECONDS
            try:
                self.show()
                pause = SHOWN_EVERY_SECONDS
            except Unavailable:
                pass  # others say so
            except DatabaseError as error:
                if not is_refusing(error):
                    log.exception("presence broke", error=type(error).__name__)
            except Exception as error:
                log.exception("presence broke", error=type(error).__name__)
                pause = SHOWN_EVERY_SECONDS

    def _clock_ahead(self) -> float | None:
        """Return the seconds by which this host's clock is ahead of Amazon's, by the newest answer of any."""
        answers = [account.connector.newest_answer() for account in self._service.accounts.values()]
        known = [answer for answer in answers if answer is not None]
        if not known:
            return None
        _, offset = max(known)
        return -offset.total_seconds()
