"""The simulator behind a real socket: for the demo, and for clients that bring their own HTTP."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread

from connectors.simulator.api import Simulator
from connectors.simulator.messages import Request

PATIENCE_LOOKS, LOOK_SECONDS = 1200, 0.1
"""An unanswered client is looked at this often before it is sent away: two minutes in all."""


class SimulatorServer(ThreadingHTTPServer):
    """Knows its open connections, so that it can end without waiting for idle clients."""

    daemon_threads = False

    def __init__(self, simulator: Simulator, port: int) -> None:
        self.simulator = simulator
        self.stopping = Event()
        self.connections: set[socket.socket] = set()
        self.guard = Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is nothing to report."""

    def stop(self) -> None:
        """End now: no new connections, open ones are cut. May be called again."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.shutdown()
        with self.guard:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes; Nagle's algorithm would hold the second one back.
    disable_nagle_algorithm = True
    server: SimulatorServer

    def setup(self) -> None:
        super().setup()
        with self.server.guard:
            self.server.connections.add(self.connection)
            # Accepted just before the end, this one may have been missed when the others were cut.
            if self.server.stopping.is_set():
                self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        with self.server.guard:
            self.server.connections.discard(self.connection)
        super().finish()

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
        for _ in range(PATIENCE_LOOKS):
            if select.select([self.connection], [], [], LOOK_SECONDS)[0]:
                return

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: request lines carry page tokens."""


@contextmanager
def serve(simulator: Simulator, port: int = 0) -> Iterator[tuple[SimulatorServer, str]]:
    """Serve ``simulator`` on loopback in a thread; yields the server and its base URL.

    Port 0 takes a free one. On leaving, the socket is closed and no thread is left.
    """
    server = SimulatorServer(simulator, port)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulator")
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.stop()
        thread.join()
