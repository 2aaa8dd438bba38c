"""The HTTP server: a thread that serves the application until the service stops."""

from __future__ import annotations

import errno
import socket
import threading
import time

import structlog
import uvicorn
from anyio import to_thread

from poller.bootstrap import Service, utc_now
from poller.web.app import make_app
from poller.web.connections import IDLE_SECONDS, HttpConnection, RunningLimit
from poller.web.middleware import GuardMiddleware
from poller.web.requests import url_of

log = structlog.get_logger("order_sync")

THREADS = 6
"""Requests served at once; they share the database connections with the sources."""

STOP_SECONDS = 4
"""Time for running requests to finish when the service stops."""


class CannotListen(Exception):
    """The address cannot be listened on; the message is a sentence."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises CannotListen."""
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = addresses[0]
        # asyncio sends small answers without delay only if the socket names the protocol TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "another program is listening there",
            errno.EACCES: "this user may not listen there",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
        }
        reason = reasons.get(error.errno or 0, "there is no such address")
        raise CannotListen(
            f"cannot listen on {name}: {reason}; set ORDER_SYNC_LISTEN to another address, or to off."
        ) from None
    return listener


TICKS_A_SECOND = 10
"""How often uvicorn looks after its server."""


class _Server(uvicorn.Server):
    """A uvicorn server that stops with the service."""

    def __init__(self, config: uvicorn.Config, app: GuardMiddleware, stop: threading.Event) -> None:
        super().__init__(config)
        self._app = app
        self._stop = stop
        self.ends_by: float | None = None
        """When it must have ended, by ``time.monotonic()``; None while it serves."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        await super().serve(sockets)

    async def on_tick(self, counter: int) -> bool:
        if not self._stop.is_set():
            if counter % TICKS_A_SECOND == 0:
                await self._app.flush()
            return await super().on_tick(counter)
        self.ends_by = time.monotonic() + STOP_SECONDS + 1
        return True


class WebServer:
    """Serves the application on a listening socket, in a thread."""

    def __init__(self, service: Service, listening: socket.socket) -> None:
        self._app = make_app(service, utc_now)
        config = uvicorn.Config(
            RunningLimit(self._app),
            loop="asyncio",
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            # Access depends on the address of a connection: no header may change it.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _Server(config, self._app, service.stop)
        self._socket = listening
        self._service = service
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """The URL at which people reach it."""
        return url_of(self._service.config.settings.public_url, *self._socket.getsockname()[:2])

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception as error:
            log.error("HTTP interface broke", error=type(error).__name__)
        self._app.close()
        if not self._service.stop.is_set():
            log.error("HTTP interface ended", note="orders are still kept up to date")

    def join(self) -> bool:
        """Wait until it has ended; ``service.stop`` must be set.

        Return False if a request is still running: only the end of the process ends its thread.
        """
        ends_by = self._server.ends_by
        self._thread.join(STOP_SECONDS + 1 if ends_by is None else max(0.0, ends_by - time.monotonic()))
        return not self._thread.is_alive()
