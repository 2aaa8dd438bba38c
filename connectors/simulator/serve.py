"""The simulator behind a real socket: for the demo, and for clients that bring their own HTTP."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any

from connectors.simulator.api import Simulator
from connectors.simulator.messages import Request

MAX_HANG_CHECKS, CHECK_SECONDS = 1200, 0.1
"""How often to check if an unanswered client has left before its connection is closed: two minutes in all."""


class SimulatorServer(ThreadingHTTPServer):
    """A server that knows its open connections, so that it can stop without waiting for idle clients."""

    daemon_threads = False

    def __init__(self, simulator: Simulator, port: int) -> None:
        self.simulator = simulator
        self.stopping = Event()
        self.connections: set[Any] = set()
        self.closed = Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Record the connection before its thread starts, so that none is missed."""
        with self.closed:
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        super().shutdown_request(request)
        with self.closed:
            self.connections.discard(request)
            self.closed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that disconnects early."""

    def stop(self) -> None:
        """Stop at once: accept no connections and cut the open ones. Idempotent."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.shutdown()
        with self.closed:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until every request of the clients that have left is answered and recorded.

        A killed client may leave a request that no thread has read yet. Raises TimeoutError if a client is
        still connected after ``seconds``.
        """
        # Connections are accepted in order: once this one is, all earlier ones are.
        with socket.create_connection(("127.0.0.1", self.server_port), timeout=10) as last:
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        with self.closed:
            if not self.closed.wait_for(lambda: not self.connections, timeout=seconds):
                raise TimeoutError("a client of the simulator is still connected")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; Nagle's algorithm would delay the second.
    disable_nagle_algorithm = True
    server: SimulatorServer

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        answer = self.server.simulator.handle(
            Request(self.command, path, query, dict(self.headers.items()), body)
        )
        if answer.disturbance == "hang":
            self._wait_until_left()
        if answer.disturbance is not None:
            self.close_connection = True
        if answer.disturbance == "hang" or (answer.disturbance == "drop" and not answer.body):
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def _wait_until_left(self) -> None:
        for _ in range(MAX_HANG_CHECKS):
            if select.select([self.connection], [], [], CHECK_SECONDS)[0]:
                return

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: request lines carry page tokens."""


@contextmanager
def serve(simulator: Simulator, port: int = 0) -> Iterator[tuple[SimulatorServer, str]]:
    """Serve ``simulator`` on loopback in a thread; yield the server and its base URL.

    Port 0 takes a free one. On exit the socket is closed and no thread is left.
    """
    server = SimulatorServer(simulator, port)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulator")
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.stop()
        thread.join()
