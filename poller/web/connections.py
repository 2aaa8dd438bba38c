"""Connections: the time in which a request must arrive, and how many connections there may be.

A connection *waits* until its request has arrived whole. Only waiting connections are closed to make room for
others, the oldest first: a stranger who holds hundreds of them loses his own, and requests in work are kept.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from poller.web.middleware import HEADERS, App, Receive, Scope, Send
from poller.web.problems import MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0
"""Time from the start of a connection, or of its next request, until the head of a request has arrived."""

BODY_SECONDS = 25.0
"""Time until a body has arrived, even one that nothing reads; the application waits for less."""

IDLE_SECONDS = 5
"""Time that a connection stays open after an answer while nothing arrives."""

SEND_SECONDS = 30.0
"""Time until the client takes more of an answer."""

MAX_CONNECTIONS = 200
MAX_WAITING = 50
"""Waiting connections of one address. A proxy, which has many clients, needs few: it sends whole heads."""

MAX_RUNNING = 150
"""Requests in work. They are fewer than the connections, so there is always room for ``HEALTH``."""

HEALTH = "/healthz"

HEAD_STATES = (h11.IDLE, h11.SEND_BODY)


class Waiting(Protocol):
    """What the choice of a connection to close looks at."""

    @property
    def network(self) -> str:
        """The client's address, as `network_of` returns it."""

    @property
    def waits_since(self) -> float | None:
        """When it began to wait; None while a request is in work."""


C = TypeVar("C", bound=Waiting)


def connection_to_close(newest: C, others: Iterable[C]) -> C | None:
    """Return the connection to close for the newest, perhaps the newest itself; None if all have room.

    It is the oldest waiting one of the same address if that has too many, else of the address with the most.
    """
    others = list(others)
    waiting = [c for c in others if c.waits_since is not None]
    own = [c for c in waiting if c.network == newest.network]
    if len(own) >= MAX_WAITING:
        return min(own, key=_age)
    if len(others) < MAX_CONNECTIONS:
        return None
    if not waiting:
        return newest
    counts = Counter(c.network for c in waiting)
    most = max(counts.values())
    return min((c for c in waiting if counts[c.network] == most), key=_age)


def _age(connection: Waiting) -> float:
    return connection.waits_since or 0.0


def network_of(host: str) -> str:
    """Return what counts as one address: of IPv6 the first 64 bits, since one client has all of the rest."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


class _StrictConnection(h11.Connection):
    """Refuses a request whose length two readers may understand differently (RFC 9112, 6.1 and 6.3)."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        return event


class HttpConnection(H11Protocol):
    """A connection of uvicorn's with limits of time and number."""

    network = ""
    waits_since: float | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = _StrictConnection(h11.SERVER, self.conn._max_incomplete_event_size)
        self._awaited: Any = None
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        others = [c for c in self.connections if isinstance(c, HttpConnection)]
        super().connection_made(transport)
        self.network = network_of(self.client[0] if self.client else "")
        self._watch()
        closing = connection_to_close(self, others)
        if closing is not None:
            closing.give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._limit_sending()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._limit_sending()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_sending()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending is not None and not self.transport.is_closing():
            self._sending.cancel()
            self._sending = None

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request with a problem, as the application would."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.give_up()
            return
        answer = Problem(400, "http", "the request is not valid HTTP.").response()
        headers = [*HEADERS.items(), (b"content-type", MEDIA_TYPE.encode()), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._limit_sending()

    def give_up(self) -> None:
        """Close at once, without an answer."""
        self._stop_timers()
        self.connections.discard(self)
        self.transport.abort()

    def _watch(self) -> None:
        """Begin to wait for a head or a body, or end waiting once the request has arrived."""
        state = self.conn.their_state
        awaited = state if state in HEAD_STATES and not self.transport.is_closing() else None
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if awaited is None:
            self.waits_since = None
            return
        self.waits_since = self.loop.time()
        seconds = HEAD_SECONDS if awaited is h11.IDLE else BODY_SECONDS
        self._deadline = self.loop.call_later(seconds, self.give_up)

    def _limit_sending(self) -> None:
        """Close the connection if the client takes nothing of what remains to be sent."""
        if self._sending is None:
            self._sending = self.loop.call_later(SEND_SECONDS, self.give_up)

    def _stop_timers(self) -> None:
        for timer in (self._deadline, self._sending):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()


class RunningLimit:
    """Refuses requests beyond ``MAX_RUNNING``, but for ``HEALTH``."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._running >= MAX_RUNNING and scope.get("path") != HEALTH:
            detail = "too many requests are in work: try again."
            headers = {"Retry-After": "1", "Connection": "close"}
            response = Problem(503, "busy", detail, headers=headers).response()
            response.raw_headers.extend(HEADERS.items())
            await response(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
