"""What a person waits for: the console's pages and searches beside many stored orders, over a socket."""

from __future__ import annotations

import base64
import html
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import sqlalchemy as sa
import structlog

from poller.bootstrap import Service
from poller.web.server import WebServer, listen
from store import queries, tables
from tests.acceptance.command_line import marketplace_file
from tests.acceptance.web_world import ALL, signed_in
from tests.bench.pages import MARKETPLACES
from tests.harness import KEY

TIMES = 9
Asking = Callable[[httpx.Client], httpx.Response]


def main(database: Path) -> None:
    """Print how long each page takes that the console and the API show of a database."""
    with tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name:
        folder = Path(name)
        (folder / "marketplaces").mkdir()
        for code in MARKETPLACES:
            (folder / "marketplaces" / f"{code.lower()}.toml").write_text(marketplace_file(code))
        environ = {
            "ORDER_SYNC_CONFIG_DIR": str(folder),
            "ORDER_SYNC_DATABASE_URL": f"sqlite:///{database}",
            "ORDER_SYNC_ENCRYPTION_KEY": base64.b64encode(KEY).decode(),
            "ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_ID": "simulated-client",
            "ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET": "simulated-client-secret",
            "ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN": "simulated-refresh-token",
        }
        # Every page discloses buyers, and says so: not here.
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        with Service(environ) as service:
            service.open_store(create=True)
            service.wire()
            server = WebServer(service, listen("127.0.0.1", 0))
            server.start()
            try:
                cookies = signed_in(service.store, "bench", *ALL)
                with httpx.Client(base_url=server.url, timeout=120, cookies=cookies) as client:
                    _measure(service, client)
            finally:
                service.stop.set()
                server.join()


def _measure(service: Service, client: httpx.Client) -> None:
    with service.store.read() as tx:
        many = tx.conn.execute(sa.select(sa.func.count()).select_from(tables.orders)).scalar_one()
        middle = tx.conn.execute(sa.select(sa.func.max(tables.orders.c.order_key))).scalar_one() // 2
        where = sa.and_(tables.orders.c.order_key >= middle, tables.orders.c.customer_id.is_not(None))
        row = tx.conn.execute(
            sa.select(tables.orders.c.order_id, tables.orders.c.customer_id).where(where).limit(1)
        ).one()
        customer = queries.get_customer(tx, row.customer_id)
        sku = tx.conn.execute(
            sa.select(tables.order_lines.c.sku).where(tables.order_lines.c.order_key == middle).limit(1)
        ).scalar_one()
    assert customer is not None
    begun = time.perf_counter()
    front = client.get("/console/")
    first = (time.perf_counter() - begun) * 1000
    (proof,) = set(re.findall(r'name="csrf_token" value="(\w+)"', front.text))

    def page(path: str) -> Asking:
        return lambda client: client.get(path)

    def search(text: object) -> Asking:
        return lambda client: client.post("/console/search", data={"csrf_token": proof, "q": str(text)})

    def suggest(text: object) -> Asking:
        fields = {"csrf_token": proof, "q": str(text)}
        return lambda client: client.post("/console/search/suggestions", data=fields)

    email = next((main.email for main in customer.emails), None)
    asked: dict[str, Asking] = {
        "overview": page("/console/"),
        "orders": page("/console/orders"),
        "orders, shipped": page("/console/orders?status=SHIPPED"),
        "orders, held (none)": page("/console/orders?basis=held"),
        "orders, DE by Amazon": page("/console/orders?marketplace=DE&fulfilment=AMAZON"),
        "orders by total": page("/console/orders?sort=-total"),
        "orders by status": page("/console/orders?sort=status"),
        "orders, the page after": page(_after(client, "/console/orders")),
        "one order": page(f"/console/orders/acme/{row.order_id}"),
        "customers": page("/console/customers"),
        "customers, unidentified": page("/console/customers?status=unidentified"),
        "customers, the page after": page(_after(client, "/console/customers")),
        "one customer": page(f"/console/customers/{row.customer_id}"),
        "quarantine": page("/console/quarantine"),
        "runs": page("/console/runs"),
        "backfills": page("/console/backfills"),
        "search: order id": search(row.order_id),
        "search: e-mail": search(email),
        "search: name": search(customer.name),
        "search: a word of a name": search(str(customer.name).split()[0]),
        "search: SKU": search(sku),
        "search: a part of an SKU": search(str(sku)[1:]),
        "search: seven digits of an id": search(row.order_id[-7:]),
        "search: nothing like it": search("zz-zz-zz"),
        "suggestions: seven digits of an id": suggest(row.order_id[-7:]),
        "suggestions: digits of no id": suggest("99999-9999"),
        "suggestions: a customer's number": suggest(row.customer_id),
    }
    print(f"\npages over HTTP beside {many:,} orders, SQLite, milliseconds ({TIMES} times each)")
    print(f"{'the very first overview':<34} {first:8.0f}")
    for name, ask in asked.items():
        taken = []
        for _ in range(TIMES):
            begun = time.perf_counter()
            answer = ask(client)
            taken.append((time.perf_counter() - begun) * 1000)
            if answer.status_code >= 400:
                raise RuntimeError(f"{name}: status {answer.status_code}")
        print(f"{name:<34} {statistics.median(taken):8.0f}  (worst {max(taken):.0f})")


def _after(client: httpx.Client, path: str) -> str:
    """The second page of a list."""
    (following,) = re.findall(r'<a rel="next" href="([^"]+)">', client.get(path).text)
    return html.unescape(following)
