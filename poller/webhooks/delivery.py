"""Deliver changes to receivers: a webhook's turn is claimed, planned, sent and recorded.

Sending happens outside any transaction, and what was accepted is recorded afterwards: a process that dies in
between repeats at most one turn and loses nothing. The events of a turn are of different records, so they are
sent side by side.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from threading import Lock, Thread

import httpx
import structlog

from poller.webhooks import rules
from poller.webhooks.rules import EVENTS_OF_A_TURN, Plan
from poller.webhooks.transport import MAX_CONNECTIONS, AddressRefused, new_client
from store import changes, webhooks
from store.change_records import START, Change, Changes, Hook, Position, PositionGone
from store.engine import Store, Transaction
from store.ledger import Superseded

log = structlog.get_logger("order_sync")

SENT_AT_ONCE = MAX_CONNECTIONS
SENDING_SECONDS = 25.0
"""How long a turn starts new requests."""

ANSWER_SECONDS = 15.0
"""How long it waits for answers after that; together that is shorter than a claim lasts."""

FAILURES_IN_A_ROW = 4
"""A turn ends after this many."""


class Deliverer:
    """Delivers what is due, for one process. ``now`` dates the signatures.

    ``private_hosts``: names of receivers that may lead to a private address.

    Each receiver has its own connections, so one whose answers never end blocks no other.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        now: Callable[[], datetime],
        stopping: Callable[[], bool] = lambda: False,
        private_hosts: Collection[str] = (),
    ) -> None:
        self._store = store
        self._private_hosts = private_hosts
        self._clients: dict[int, httpx.Client] = {}
        self._owner = owner
        self._now = now
        self._stopping = stopping

    def close(self) -> None:
        """Close all connections."""
        for hook_id in list(self._clients):
            self._disconnect(hook_id)

    def _client(self, hook: Hook) -> httpx.Client:
        client = self._clients.get(hook.hook_id)
        if client is None:
            client = self._clients[hook.hook_id] = new_client(hook.url, self._private_hosts)
        return client

    def _disconnect(self, hook_id: int) -> None:
        client = self._clients.pop(hook_id, None)
        if client is not None:
            client.close()

    def deliver_all(self) -> None:
        """Take turns until nothing is due or the service stops."""
        while not self._stopping() and self.deliver():
            pass

    def deliver(self) -> int:
        """Take one turn of each webhook with something due, side by side. Return how many had a turn."""
        with self._store.read() as tx:
            due = webhooks.due(tx)
        if not due:
            return 0
        with ThreadPoolExecutor(min(len(due), SENT_AT_ONCE)) as pool:
            return sum(pool.map(self.turn, due))

    def turn(self, hook_id: int) -> bool:
        """Take one turn of a webhook. Return False if another process has it, or took it over."""
        try:
            with self._store.begin(durable=False) as tx:
                hook = webhooks.claim(tx, hook_id, self._owner)
            with self._store.read() as tx:
                plan = self._plan(tx, hook)
            sending = _Sending(self._client(hook), hook, self._now, self._stopping)
            answers = sending.send(plan.send)
            if sending.hangs:
                self._disconnect(hook_id)
            with self._store.begin() as tx:
                self._conclude(tx, hook, plan, answers)
        except Superseded:
            self._disconnect(hook_id)
            return False
        return True

    def _plan(self, tx: Transaction, hook: Hook) -> Plan:
        waiting = webhooks.waiting_first(tx, hook.hook_id, EVENTS_OF_A_TURN)
        fresh = _fresh(tx, hook)
        blocked = webhooks.blocked(tx, hook.hook_id, {change.record for change in fresh.events})
        return rules.plan(hook, waiting, fresh.events, fresh.position, blocked)

    def _conclude(self, tx: Transaction, hook: Hook, plan: Plan, answers: dict[Position, str | None]) -> None:
        result = rules.conclude(hook, plan, answers, tx.now)
        webhooks.save(tx, result.hook)
        webhooks.accept(tx, hook.hook_id, result.done)
        webhooks.hold(tx, hook.hook_id, result.hold)
        for held in result.hold:
            if held.state == "dead":
                log.warning(
                    "event given up", hook=hook.hook_id, position=str(held.position), error=held.last_error
                )
        if result.hook.failures and not hook.failures:
            log.warning("receiver does not answer", hook=hook.hook_id, error=result.hook.last_error)
        elif hook.failures and not result.hook.failures:
            log.info("receiver answers again", hook=hook.hook_id)


def _fresh(tx: Transaction, hook: Hook) -> Changes:
    """Return what comes after a webhook's position, or everything if that position was dropped."""
    try:
        return changes.changes_for_hook(tx, hook.position, EVENTS_OF_A_TURN)
    except PositionGone:
        note = "a receiver that was away for 90 days missed the first changes"
        log.warning("events lost", hook=hook.hook_id, position=str(hook.position), note=note)
        return changes.changes_for_hook(tx, START, EVENTS_OF_A_TURN)


class _Sending:
    """The requests of one turn."""

    def __init__(
        self, http: httpx.Client, hook: Hook, now: Callable[[], datetime], stopping: Callable[[], bool]
    ) -> None:
        self._http = http
        self._hook = hook
        self._now = now
        self._stopping = stopping
        self._until = time.monotonic() + SENDING_SECONDS
        self._lock = Lock()
        self._failures = 0
        self._closed = False
        self.hangs = False
        """True if an answer took too long; closing the connection ends it."""
        self._answers: dict[Position, str | None] = {}

    def send(self, events: Sequence[Change]) -> dict[Position, str | None]:
        """Send the events, as far as time and the receiver allow.

        Return for each sent event why it was not accepted, or None if it was.
        """
        unsent = deque(events)

        def work() -> None:
            while unsent:
                with suppress(IndexError):  # another thread took the last
                    self._try(unsent.popleft())

        # No pool: the interpreter would wait for it at exit, and an answer may drip for ever.
        threads = [Thread(target=work, daemon=True) for _ in range(min(len(events), SENT_AT_ONCE))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self._until + ANSWER_SECONDS - time.monotonic()))
        self.hangs = any(thread.is_alive() for thread in threads)
        with self._lock:
            self._closed = True
            return dict(self._answers)

    def _try(self, change: Change) -> None:
        with self._lock:
            if self._over():
                return
            self._answers[change.position] = "no answer in time"
        error = self._send(change)
        with self._lock:
            if not self._closed:
                self._answers[change.position] = error
                self._failures = 0 if error is None else self._failures + 1

    def _over(self) -> bool:
        late = time.monotonic() > self._until
        return self._closed or late or self._failures >= FAILURES_IN_A_ROW or self._stopping()

    def _send(self, change: Change) -> str | None:
        """Send one event. Return why it was not accepted, without quoting the address or the answer."""
        message = rules.message_of(change)
        headers = message.headers(self._hook.secret, int(self._now().timestamp()))
        try:
            with self._http.stream("POST", self._hook.url, content=message.body, headers=headers) as answer:
                status = answer.status_code
        except AddressRefused as refused:
            return f"no answer: {refused}"
        except Exception as error:  # its text may quote the address
            return f"no answer ({type(error).__name__})"
        if 200 <= status < 300:
            return None
        return f"status {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
