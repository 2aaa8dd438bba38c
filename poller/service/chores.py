"""Periodic work beside the sources, in the same scheduler: webhooks, alerts, the outbox, retention, identity.

Chores have their own threads, so a receiver that hangs blocks no source. Several processes may run the same
chore at once: the database decides who does what must happen once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.base import BaseScheduler

from poller import audit
from poller.bootstrap import Service, utc_now
from poller.matching import buyer_visibility
from poller.monitoring.alerts import Alerting
from poller.monitoring.snapshot import buyers_shown
from poller.privacy.key_rotation import about_keys
from poller.privacy.purge import Purge
from poller.service.lifecycle import again_in
from poller.sync.windows import backoff
from poller.webhooks.delivery import Deliverer
from store import changes
from store.audit_records import SERVICE, AuditEntry
from store.diagnosis import is_refusing
from store.engine import DatabaseError, Unavailable, reason_of

log = structlog.get_logger("order_sync")

EXECUTOR = "chores"
"""Name of the scheduler's executor for chores."""

DELIVER_SECONDS = 2
ALERT_SECONDS = 60
ALERT_SHARE = 1 / 100
"""The share of time that checking for alerts may take: with thousands of sources a check is slow."""

ALERT_SECONDS_MOST = 300
ALERT_GRACE = timedelta(minutes=3)
"""How long sources may take after a start to succeed before alerts are sent."""

BROKEN_SECONDS = 60.0
BROKEN_AT_MOST = timedelta(hours=1)
"""How long a chore rests after it broke: doubled each time in a row, up to an hour."""

TRIM_SECONDS = 3600
IDENTITY_SECONDS = 3600
PURGE_SECONDS = 6 * 3600
"""Terms are counted in days: a few times a day is enough."""


def in_words(counts: Mapping[str, int]) -> str:
    """Return ``3 orders, 1 records``: what is above 0."""
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def alerts_in(took: float) -> float:
    """Return the seconds to wait after a check that took this many."""
    return again_in(took, ALERT_SHARE, most=ALERT_SECONDS_MOST)


class Chores:
    """The chores of one service. ``running`` collects the names of those that are at work."""

    def __init__(self, service: Service, running: set[str]) -> None:
        self._service = service
        self._running = running
        self._deliverer: Deliverer | None = None
        self._alerts_at = 0.0
        self._warned: set[tuple[str, date, str]] = set()

    def start(self, scheduler: BaseScheduler) -> None:
        """Add the chores to a scheduler. The store must be open and the service wired."""
        service = self._service
        private_hosts = service.config.settings.private_webhook_hosts
        deliverer = Deliverer(service.store, service.owner, utc_now, service.stop.is_set, private_hosts)
        alerting = Alerting(service.store, lambda: service.setup)

        def check() -> None:
            now = time.monotonic()
            if now >= self._alerts_at:
                alerting.check()
                self._alerts_at = now + alerts_in(time.monotonic() - now)

        self._deliverer = deliverer
        scheduler.add_executor(ThreadPoolExecutor(5), EXECUTOR)
        self._every(scheduler, DELIVER_SECONDS, "webhooks", deliverer.deliver_all)
        self._every(scheduler, ALERT_SECONDS, "alerts", check, ALERT_GRACE)
        self._every(scheduler, TRIM_SECONDS, "outbox", self._trim)
        self._every(scheduler, PURGE_SECONDS, "retention", self._purge)
        self._every(scheduler, PURGE_SECONDS, "audit", self._prune_audit)
        self._every(scheduler, IDENTITY_SECONDS, "identity", self._check_identity)

    def stop(self) -> None:
        """Close connections."""
        if self._deliverer is not None:
            self._deliverer.close()

    def _every(
        self,
        scheduler: BaseScheduler,
        seconds: int,
        name: str,
        work: Callable[[], object],
        after: timedelta = timedelta(),
    ) -> None:
        """Add a chore that is repeated; after it broke it rests, longer each time."""
        breaks, rests_until = 0, 0.0

        def chore() -> None:
            nonlocal breaks, rests_until
            if self._service.stop.is_set() or time.monotonic() < rests_until:
                return
            self._running.add(name)
            try:
                work()
                breaks = 0
            except Unavailable as error:
                log.warning("database is away", chore=name, error=reason_of(error))
            except Exception as error:
                if isinstance(error, DatabaseError) and is_refusing(error):
                    log.warning("database takes no writes", chore=name, error=reason_of(error))
                    return
                breaks += 1
                rest = backoff(breaks, first=BROKEN_SECONDS, longest=BROKEN_AT_MOST).total_seconds()
                rests_until = time.monotonic() + rest
                # Its traceback once: what is broken for good must not fill a disk.
                log.error(
                    "chore broke",
                    chore=name,
                    error=type(error).__name__,
                    again_in=rest,
                    exc_info=breaks == 1,
                )
            finally:
                self._running.discard(name)

        first = utc_now() + after
        scheduler.add_job(chore, "interval", seconds=seconds, next_run_time=first, id=name, executor=EXECUTOR)

    def _trim(self) -> None:
        while not self._service.stop.is_set():
            if self._service.store.commit(changes.trim) == 0:
                return

    def _prune_audit(self) -> None:
        """Delete entries of the audit log that are older than twelve months."""
        while not self._service.stop.is_set():
            if self._service.store.commit(audit.prune) == 0:
                return

    def _purge(self) -> None:
        """Erase buyer data that is due. The next start does what a stop leaves undone."""
        store, stop = self._service.store, self._service.stop
        connectors = [account.connector for account in self._service.accounts.values()]
        purge = Purge(
            store, self._service.setup.retention, stopping=stop.is_set, rest=stop.wait, connectors=connectors
        )
        done = purge.run()
        if done.put_off is not None:
            log.warning("erasing is put off", problem=done.put_off)
        if any(done.counts().values()):
            audit.record(store, AuditEntry(SERVICE, "purged", detail=in_words(done.counts())))
            log.info("erased buyer data", **done.counts())
        if not done.clean:
            log.info("erased", note="a reader held the log; the next purge empties it")
        for sentence in about_keys(store):
            log.info("encryption keys", note=sentence)

    def _check_identity(self) -> None:
        """Warn once of each day and field whose share of shown buyers fell by more than half."""
        with self._service.store.read() as tx:
            today = tx.now.date()
            newest = {
                (key, drop.day, drop.field): drop
                for key, shown in buyers_shown(tx, self._service.sources).items()
                for drop in buyer_visibility.drops(shown, today)
            }
        for name in newest.keys() - self._warned:
            log.warning("buyers are not shown", problem=buyer_visibility.sentence(name[0], newest[name]))
        self._warned |= newest.keys()
