"""Send alerts through apprise: gather the facts, decide, send, and record what was sent.

Notices are claimed in the database first, so that one of several processes sends each. If a process dies
while sending, the next one sends the notice again: better twice than never. A database that refuses is
reported without it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from poller.ingest.accounts import Setup
from poller.monitoring.alert_rules import Alert, Notice, alerts_of, decide
from poller.monitoring.gather import credentials_used, gather
from poller.monitoring.status import Item
from store import alerts
from store.diagnosis import sentence_of
from store.engine import DatabaseError, Store, is_conflict, reason_of
from store.queries import UNCOUNTED

log = structlog.get_logger("order_sync")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message at one address, which is named without anything secret."""

    address: str
    accepted: bool
    problem: str | None = None


Send = Callable[[str, str, bool], Sequence[Delivery]]
"""Sends a title and a text, and whether it is good news, to every address."""


def shown_address(url: str, number: int) -> str:
    """Return what may be shown of an address: its place in the list and its scheme."""
    return f"number {number} ({url.partition('://')[0]})"


def through_apprise(urls: Sequence[str]) -> Send:
    """Return a sender. Apprise's own messages are not repeated: they may quote the secrets of an address."""

    def send(title: str, text: str, good: bool) -> list[Delivery]:
        import apprise  # takes a quarter of a second

        kind = apprise.NotifyType.SUCCESS if good else apprise.NotifyType.WARNING
        deliveries = []
        for number, url in enumerate(urls, 1):
            name = shown_address(url, number)
            with _overheard() as words:
                address = apprise.Apprise.instantiate(url)
                if not isinstance(address, apprise.NotifyBase):
                    deliveries.append(Delivery(name, False, NOT_UNDERSTOOD))
                    continue
                try:
                    accepted = bool(address.notify(body=text, title=title, notify_type=kind))
                except Exception as error:  # the other addresses still get the message
                    deliveries.append(Delivery(name, False, type(error).__name__))
                    continue
            deliveries.append(Delivery(name, accepted, None if accepted else why_refused(words)))
        return deliveries

    return send


NOT_UNDERSTOOD = (
    "apprise does not understand it: https://github.com/caronc/apprise/wiki shows how to write it"
)


@contextmanager
def _overheard() -> Iterator[Sequence[str]]:
    """Yield what apprise logs meanwhile, and keep it from every log."""
    logger = logging.getLogger("apprise")
    words: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        words.append(record.getMessage())
        return False

    logger.setLevel(logging.DEBUG)
    logger.addFilter(keep)
    try:
        yield words
    finally:
        logger.removeFilter(keep)
        logger.setLevel(logging.CRITICAL + 1)


_STATUSES = {
    401: "user, password or token are refused",
    403: "user, password or token are refused",
    404: "nothing is at this address",
    429: "too many messages",
}

_REASONS = (
    (r"name or service not known|name resolution|getaddrinfo|no address associated", "its host is unknown"),
    (r"connection refused", "the connection is refused: check host and port"),
    (r"certificate|ssl", "its TLS certificate is not trusted"),
    (r"timed? ?out", "no answer in time"),
    (r"authentication|\(535", "its server refuses user or password"),
    (r"connection|socket|unreachable", "it cannot be reached from here"),
)
"""Patterns of what apprise logs, and what is said of it."""


def why_refused(words: Iterable[str]) -> str:
    """Return why an address did not accept a message, in words of ours: apprise's may quote secrets."""
    logged = " ".join(words)
    status = re.search(r"error=(\d{3})\b", logged)
    if status is not None:
        reason = _STATUSES.get(int(status[1]))
        return f"it answered {status[1]}{f': {reason}' if reason else ''}"
    for pattern, reason in _REASONS:
        if re.search(pattern, logged, re.IGNORECASE):
            return reason
    return (
        "it was not accepted: check it in ORDER_SYNC_ALERT_URLS, for example with the program `apprise -vv`"
    )


FAULT_SENT_AFTER = 300.0
FAULT_REPEATED_AFTER = 3600.0
"""Seconds for which a database has refused before that is sent, and between two messages about it."""


@dataclass
class _Fault:
    """A database that refuses; times are those of a clock that only goes forward."""

    since: float
    silent_until: float = 0.0
    sentence: str = ""


class Alerting:
    """Checks what is wrong and notifies people. ``send`` stands in for apprise."""

    def __init__(self, store: Store, setup: Callable[[], Setup], send: Send | None = None) -> None:
        self._store = store
        self._setup = setup
        self._send = send
        self._fault: _Fault | None = None

    def check(self) -> None:
        """Gather the facts and send what is new; on a conflict another process is doing so.

        What keeps an alert from being claimed in the database is itself one: it is kept in memory, and every
        process that meets it sends it.
        """
        try:
            setup = self._setup()
            self._note_credentials(setup)
            self.notify(gather(self._store, setup, lambda _: UNCOUNTED).health)
        except DatabaseError as error:
            if is_conflict(error):
                return
            self._note_fault(error)
            raise
        self._note_end()

    def _note_fault(self, error: DatabaseError) -> None:
        now = time.monotonic()
        self._fault = self._fault or _Fault(now)
        if now - self._fault.since < FAULT_SENT_AFTER or now < self._fault.silent_until:
            return
        reason = sentence_of(error) or f"the database cannot be used ({reason_of(error)})."
        self._fault.sentence = f"{reason} Nothing is stored meanwhile."
        self._fault.silent_until = now + FAULT_REPEATED_AFTER
        log.warning("alert", alert="database", state="new", problem=self._fault.sentence)
        self._deliver("amazon-order-sync: needs attention", self._fault.sentence, is_good=False)

    def _note_end(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None and fault.sentence:
            log.info("alert", alert="database", state="over", problem=fault.sentence)
            self._deliver("amazon-order-sync: over", f"No longer so: {fault.sentence}", is_good=True)

    def _note_credentials(self, setup: Setup) -> None:
        """Record credentials that are new, because they expire."""
        used = credentials_used(self._store.lookup, setup)
        with self._store.read() as tx:
            is_known = alerts.in_use_since(tx, used).keys() == used.keys()
        if not is_known:
            with self._store.begin() as tx:
                alerts.note_use(tx, used)

    def notify(self, health: Iterable[Item]) -> None:
        """Send what of this is new."""
        for notice in self._claimed(alerts_of(health)):
            if self._sent(notice):
                with self._store.begin() as tx:
                    if notice.kind == "over":
                        alerts.forget(tx, [notice.standing.alert])
                    else:
                        alerts.note_notified(tx, notice.standing.alert)

    def _claimed(self, wrong: Sequence[Alert]) -> Sequence[Notice]:
        """Claim the notices that are due; none if another process was first."""
        try:
            with self._store.begin() as tx:
                standing = alerts.load(tx)
                decision = decide(wrong, standing, tx.now)
                alerts.save(tx, decision.save, standing)
                alerts.forget(tx, decision.forget)
        except Exception as error:
            if not is_conflict(error):
                raise
            return ()
        return decision.notices

    def _sent(self, notice: Notice) -> bool:
        """Log and send a notice. Return True if any address accepted it, or if there are none."""
        write = log.info if notice.kind == "over" else log.warning
        write("alert", alert=notice.standing.alert, state=notice.kind, problem=notice.standing.sentence)
        return self._deliver(notice.title, notice.text, is_good=notice.kind == "over")

    def _deliver(self, title: str, text: str, *, is_good: bool) -> bool:
        """Send a message. Return True if any address accepted it, or if there are none."""
        urls = self._setup().settings.alert_urls
        send = self._send or (through_apprise([url.get_secret_value() for url in urls]) if urls else None)
        if send is None:
            return True
        deliveries = send(title, text, is_good)
        for delivery in deliveries:
            if not delivery.accepted:
                log.warning("alert was not delivered", address=delivery.address, problem=delivery.problem)
        return any(delivery.accepted for delivery in deliveries)
