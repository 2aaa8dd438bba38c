"""A tiny Amazon for measurements: it grants every token, and answers searches with bodies from files.

It costs next to nothing, so what is measured is the product. Every access token has a walk of its own
through all bodies; without any, every search is answered with an empty page. Run as a process of its
own: prints its port, serves until it is killed.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from connectors.marketplaces import MARKETPLACES

EMPTY = b'{"orders":[]}'
ORDERS = "/orders/2026-01-01/orders"


def bodies(folder: Path) -> list[bytes]:
    """The stored pages, each with a page token of ours that leads to the next."""
    pages = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    found = []
    for number, page in enumerate(pages, start=1):
        kept = {"orders": page["orders"]}
        if number < len(pages):
            kept["pagination"] = {"nextToken": f"page-{number}"}
        found.append(json.dumps(kept).encode())
    return found


class Replaying(BaseHTTPRequestHandler):
    """Answers searches, single orders, participations and the token request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    pages: ClassVar[list[bytes]] = []
    orders: ClassVar[dict[str, bytes]] = {}
    enrolled = json.dumps(
        {
            "payload": [
                {
                    "marketplace": {"id": m.id, "countryCode": m.code, "name": m.code},
                    "participation": {"isParticipating": True, "hasSuspendedListings": False},
                    "storeName": "shop",
                }
                for m in MARKETPLACES
            ]
        }
    ).encode()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        token = {
            "access_token": f"Atza|{form['refresh_token'][0]}",
            "token_type": "bearer",
            "expires_in": 3600,
        }
        self._answer(json.dumps(token).encode())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/sellers/"):
            self._answer(self.enrolled)
            return
        if url.path != ORDERS:
            self._answer(self.orders[url.path.rpartition("/")[2]])
            return
        asked = parse_qs(url.query)
        number = int(asked.get("paginationToken", ["page-0"])[0].removeprefix("page-"))
        # The walk is answered once: a later search by the same account finds nothing new.
        token = self.headers["x-amz-access-token"]
        if number == 0 and token in self.server.walked:  # type: ignore[attr-defined]
            self._answer(EMPTY)
            return
        self.server.walked.add(token)  # type: ignore[attr-defined]
        self._answer(self.pages[number] if self.pages else EMPTY)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if self.path.startswith(ORDERS):
            self.send_header("x-amzn-RateLimit-Limit", "50" if self.pages else "0.0056")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Replaying)
        self.walked: set[str] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of those who are killed in the middle of an answer."""


def main(folder: str) -> None:
    Replaying.pages = bodies(Path(folder)) if folder else []
    for page in Replaying.pages:
        for order in json.loads(page)["orders"]:
            Replaying.orders[order["orderId"]] = json.dumps({"order": order}).encode()
    server = _Server()
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
