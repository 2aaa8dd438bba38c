"""Serving the application from a thread of the service, until the service stops."""

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

log = structlog.get_logger("order_sync")

THREADS = 6
"""Requests carried out at once; sources share the connections to the database with them."""

STOP_WITHIN = 4
"""Seconds that answers get to be finished when the service stops."""

MANY = 200
"""Connections at once; more are turned away."""


class CannotListen(Exception):
    """The address cannot be listened on; the message is a sentence."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises CannotListen."""
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # Named, because asyncio sends small answers at once only over a socket that says it is TCP.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(128)
        except OSError:
            made.close()
            raise
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "another program listens there already",
            errno.EACCES: "this user may not listen there",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
        }
        reason = reasons.get(error.errno or 0, "there is no such address")
        raise CannotListen(
            f"cannot listen on {name}: {reason}; set ORDER_SYNC_LISTEN to another address, or to off."
        ) from None
    return made


class _Server(uvicorn.Server):
    """Ends when the service does."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop
        self.ends_by: float | None = None
        """When it has to be over, by ``time.monotonic()``; None while it serves."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        await super().serve(sockets)

    async def on_tick(self, counter: int) -> bool:
        if not self._stop.is_set():
            return await super().on_tick(counter)
        self.ends_by = time.monotonic() + STOP_WITHIN + 1
        return True


class WebServer:
    """Serves a service on a socket that listens."""

    def __init__(self, service: Service, listening: socket.socket) -> None:
        config = uvicorn.Config(
            make_app(service, utc_now),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            # The address of a connection is what access is decided by: no header may change it.
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MANY,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=STOP_WITHIN,
        )
        self._server = _Server(config, service.stop)
        self._socket = listening
        self._service = service
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        log.info("listening", url=self.url)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception as error:
            log.error("HTTP interface broke", error=type(error).__name__)
        if not self._service.stop.is_set():
            log.error("HTTP interface ended", note="orders are still kept up to date")

    def join(self) -> bool:
        """Wait until it has ended; ``service.stop`` must be set.

        False when an answer is still being made: its thread cannot be ended but with the process.
        """
        by = self._server.ends_by
        self._thread.join(STOP_WITHIN + 1 if by is None else max(0.0, by - time.monotonic()))
        return not self._thread.is_alive()
