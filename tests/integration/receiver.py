"""A receiver of webhooks on a real socket that fails, hangs and goes away when a test wants it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from poller.webhooks.rules import signature

HANG = 0
"""Instead of a status: no answer while the receiver lives."""


@dataclass
class Request:
    """What arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def about(self) -> str:
        data = self.event["data"]
        return str(data.get("order_id") or f"customer {data['customer_id']}")

    def is_signed_with(self, secret: str) -> bool:
        timestamp = int(self.headers["webhook-timestamp"])
        return self.headers["webhook-signature"] == signature(
            secret, self.headers["webhook-id"], timestamp, self.body
        )


@dataclass
class Receiver:
    """``answer`` decides the status of each request; ``taken`` holds what it accepted (2xx)."""

    url: str
    answer: Callable[[Request], int] = lambda request: 204
    seen: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def versions(self, about: str) -> list[int]:
        """Return the accepted versions of a record, in order, without immediate repetition."""
        found: list[int] = []
        for request in self.taken:
            version = request.event["data"]["version"]
            if request.about == about and found[-1:] != [version]:
                found.append(version)
        return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on this machine; it ends with the block, and so do all hanging answers."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = Request({name.lower(): value for name, value in self.headers.items()}, body)
            with lock:
                receiver.seen.append(request)
                status = receiver.answer(request)
                if 200 <= status < 300:
                    receiver.taken.append(request)
            if status == HANG:
                receiver.released.wait()
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{receiver.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
