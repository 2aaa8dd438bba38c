"""How long requests take while other clients hold connections that send nothing more."""

from __future__ import annotations

import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import structlog

from tests.acceptance.web_world import served

HELD = 250
SECONDS = 15.0
TOKEN = "x" * 40


def main() -> None:
    """Print the times of /healthz and of a list of orders, without and beside slow connections."""
    with (
        tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name,
        served(Path(name), ORDER_SYNC_API_TOKEN=TOKEN) as place,
    ):
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        host, port = place.url.removeprefix("http://").split(":")
        print("requests over HTTP, one after the other, milliseconds")
        _measure("alone", place.url)
        line = [sys.executable, "-m", "tests.bench.slow", host, port]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            try:
                _measure(f"beside {HELD} slow connections", place.url)
            finally:
                holder.terminate()


def _measure(name: str, url: str) -> None:
    # A connection of its own for each request, as a probe has.
    headers = {"Authorization": f"Bearer {TOKEN}", "Connection": "close"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        _measure_with(client, name)


def _measure_with(client: httpx.Client, name: str) -> None:
    for path in ("/healthz", "/orders?limit=1"):
        taken = []
        ends_at = time.monotonic() + SECONDS / 2
        while time.monotonic() < ends_at:
            begun = time.perf_counter()
            answer = client.get(path)
            taken.append((time.perf_counter() - begun) * 1000)
            if answer.status_code != 200:
                raise RuntimeError(f"{path}: status {answer.status_code}")
        p95 = statistics.quantiles(taken, n=20)[-1]
        middle = statistics.median(taken)
        rest = f"(p95 {p95:.1f}, worst {max(taken):.1f}; {len(taken)} times)"
        print(f"{name + ', ' + path:<46} {middle:6.1f}  {rest}")


def hold(host: str, port: int) -> None:
    """Keep connections that have sent half a head, and open others for those that are closed."""
    with selectors.DefaultSelector() as waiting:

        def connect() -> None:
            connection = socket.create_connection((host, port))
            with suppress(OSError):
                connection.sendall(b"GET /orders HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            waiting.register(connection, selectors.EVENT_READ)

        for _ in range(HELD):
            connect()
        print("held", flush=True)
        while True:
            for key, _ in waiting.select(0.05):
                waiting.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
            time.sleep(0.05)
            for _ in range(min(10, HELD - len(waiting.get_map()))):
                connect()


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]))
