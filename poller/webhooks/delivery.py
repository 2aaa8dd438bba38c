"""Telling receivers of changes: one turn of a web hook is claimed, planned, sent and written down.

Sending happens outside any transaction. What was taken is written down afterwards, so a process that dies in
between sends at most one turn again, and loses nothing. The events of a turn are of different records, so
they are sent side by side.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from threading import Lock, Thread

import httpx
import structlog

from poller.webhooks import rules as deciding
from poller.webhooks.rules import TURN, Plan
from store import changes
from store import webhooks as stored
from store.changes import START, Change, Changes, Position, PositionGone
from store.engine import Store, Transaction
from store.ledger import Superseded
from store.webhooks import Hook

log = structlog.get_logger("order_sync")

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
SIDE_BY_SIDE = 8
SENDS_FOR = 25.0
"""Seconds of a turn in which something new may be sent."""

WAITS_FOR = 15.0
"""Seconds after those in which an answer is waited for; with them a turn is shorter than a claim holds."""

IN_VAIN = 4
"""After so many failures on end a turn sends nothing more."""

USER_AGENT = "amazon-order-sync"


def new_client() -> httpx.Client:
    """A client for one receiver. Plain http stays on this machine, so it never goes through a proxy."""
    return httpx.Client(
        timeout=TIMEOUT,
        follow_redirects=False,
        headers={"user-agent": USER_AGENT},
        mounts={"http://": httpx.HTTPTransport()},
        limits=httpx.Limits(max_connections=SIDE_BY_SIDE, max_keepalive_connections=SIDE_BY_SIDE),
    )


class Deliverer:
    """Delivers what is due, for one process. ``now`` dates the signatures.

    Each receiver has connections of its own, so that one whose answers never end takes none from another.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        now: Callable[[], datetime],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._clients: dict[int, httpx.Client] = {}
        self._owner = owner
        self._now = now
        self._stopping = stopping

    def close(self) -> None:
        """Give back all connections."""
        for hook_id in list(self._clients):
            self._disconnect(hook_id)

    def _client(self, hook_id: int) -> httpx.Client:
        client = self._clients.get(hook_id)
        if client is None:
            client = self._clients[hook_id] = new_client()
        return client

    def _disconnect(self, hook_id: int) -> None:
        client = self._clients.pop(hook_id, None)
        if client is not None:
            client.close()

    def deliver_all(self) -> None:
        """Turns until nothing is due any more, or the service stops."""
        while not self._stopping() and self.deliver():
            pass

    def deliver(self) -> int:
        """One turn of each hook that has something due, side by side. Returns how many had a turn."""
        with self._store.read() as tx:
            due = stored.due(tx)
        if not due:
            return 0
        with ThreadPoolExecutor(min(len(due), SIDE_BY_SIDE)) as pool:
            return sum(pool.map(self.turn, due))

    def turn(self, hook_id: int) -> bool:
        """One turn of a hook. False when another process has it, or took it over meanwhile."""
        try:
            with self._store.begin(durable=False) as tx:
                hook = stored.claim(tx, hook_id, self._owner)
            with self._store.read() as tx:
                plan = self._plan(tx, hook)
            sending = _Sending(self._client(hook_id), hook, self._now, self._stopping)
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
        waiting = stored.waiting_first(tx, hook.hook_id, TURN)
        fresh = _fresh(tx, hook)
        blocked = stored.blocked(tx, hook.hook_id, {change.record for change in fresh.events})
        return deciding.plan(hook, waiting, fresh.events, fresh.position, blocked)

    def _conclude(self, tx: Transaction, hook: Hook, plan: Plan, answers: dict[Position, str | None]) -> None:
        result = deciding.outcome(hook, plan, answers, tx.now)
        stored.save(tx, result.hook)
        stored.accept(tx, hook.hook_id, result.done)
        stored.hold(tx, hook.hook_id, result.hold)
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
    """What comes after a hook's position, or all there is when that has been let go of."""
    try:
        return changes.changes_after(tx, hook.position, TURN)
    except PositionGone:
        note = "a receiver that was away for 90 days was not told of the first changes"
        log.warning("events lost", hook=hook.hook_id, position=str(hook.position), note=note)
        return changes.changes_after(tx, START, TURN)


class _Sending:
    """The sending of one turn."""

    def __init__(
        self, http: httpx.Client, hook: Hook, now: Callable[[], datetime], stopping: Callable[[], bool]
    ) -> None:
        self._http = http
        self._hook = hook
        self._now = now
        self._stopping = stopping
        self._until = time.monotonic() + SENDS_FOR
        self._lock = Lock()
        self._in_vain = 0
        self._closed = False
        self.hangs = False
        """Whether an answer was not waited for any longer; it ends with the connection."""
        self._answers: dict[Position, str | None] = {}

    def send(self, events: Sequence[Change]) -> dict[Position, str | None]:
        """Send all events, as far as time and the receiver allow.

        Returns for each event that was sent why it was not taken, or None when it was.
        """
        left = deque(events)

        def work() -> None:
            while left:
                with suppress(IndexError):  # another one has just taken the last
                    self._try(left.popleft())

        # Not of a pool, which the interpreter waits for at its end: an answer may drip for ever.
        threads = [Thread(target=work, daemon=True) for _ in range(min(len(events), SIDE_BY_SIDE))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self._until + WAITS_FOR - time.monotonic()))
        self.hangs = any(thread.is_alive() for thread in threads)
        with self._lock:
            self._closed = True
            return dict(self._answers)

    def _try(self, change: Change) -> None:
        with self._lock:
            if self._over():
                return
            self._answers[change.position] = "no answer within the time"
        error = self._send(change)
        with self._lock:
            if not self._closed:
                self._answers[change.position] = error
                self._in_vain = 0 if error is None else self._in_vain + 1

    def _over(self) -> bool:
        late = time.monotonic() > self._until
        return self._closed or late or self._in_vain >= IN_VAIN or self._stopping()

    def _send(self, change: Change) -> str | None:
        """Send one event. Returns why it was not taken, without a word of the address or the answer."""
        message = deciding.message_of(change)
        headers = message.headers(self._hook.secret, int(self._now().timestamp()))
        try:
            with self._http.stream("POST", self._hook.url, content=message.body, headers=headers) as answer:
                status = answer.status_code
        except Exception as error:  # its text may hold the address; whatever it is, others go on
            return f"no answer ({type(error).__name__})"
        if 200 <= status < 300:
            return None
        return f"status {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
