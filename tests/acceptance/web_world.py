"""A shop whose service is served over HTTP, in this process, on a real socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from connectors.simulator.orders import Line
from connectors.simulator.world import Seller, World
from poller.bootstrap import Service
from poller.web.console import forms, sessions
from poller.web.server import WebServer, listen
from poller.web.tokens import digest
from poller.web.users import MAX_SESSION
from store import sessions as store_sessions
from store import tokens, users
from store.engine import Store, Transaction
from store.sessions import NewSession
from tests.acceptance.command_line import STARTED, Shop, open_shop

ORDERS = tuple(f"111-0000000-000000{number}" for number in range(1, 6))
BAD = "111-0000000-0000009"
BUYERS = ("Quentin", "quentin", "Secret Street", "960777")
"""Pieces of what the buyers gave."""

ALL = ("read", "write", "buyer-data")


@dataclass
class Served:
    """The service with its address; ``shop`` is where it is configured."""

    shop: Shop
    service: Service
    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.service.store

    def token(self, name: str, *scopes: str) -> str:
        """A token with these scopes, made as the command line makes it."""
        text = f"{name}-{'x' * 40}"
        self.store.commit(lambda tx: tokens.add(tx, name, scopes, digest(text), valid_for=None))
        return text

    def browser(self, name: str, *scopes: str, **headers: str) -> httpx.Client:
        """Asks as a browser in which a user with these scopes is signed in, and fills in its forms."""
        cookies = signed_in(self.store, name, *scopes)
        client = httpx.Client(base_url=self.url, headers=headers, cookies=cookies, timeout=60)
        self.clients.append(client)
        return client

    def client(self, *scopes: str, **headers: str) -> httpx.Client:
        """Asks with a token that has these scopes; with none, without a token."""
        if scopes:
            name = "-".join(scopes)
            headers["Authorization"] = f"Bearer {self.token(name, *scopes)}"
        client = httpx.Client(base_url=self.url, headers=headers, timeout=60)
        self.clients.append(client)
        return client


def signed_in(store: Store, name: str, *scopes: str) -> dict[str, str]:
    """Sign in a new user with these scopes. Return the browser's cookies."""
    session = f"{name}-{'x' * 40}"

    def begin(tx: Transaction) -> None:
        users.add(tx, name, "no hash", scopes)
        (user,) = [user for user in users.load(tx) if user.name == name]
        new = NewSession(digest(session), "password", "127.0.0.1", "127.0.0.1", "Firefox")
        assert store_sessions.begin(tx, user, new, MAX_SESSION)

    store.commit(begin)
    return {forms.SESSION: session}


def five_orders() -> World:
    """A shop with five orders of four buyers and one unreadable order."""
    world = World(Seller("acme", ("UK", "DE")))
    fee = Line("odd-1", tax=Decimal(2), tax_currency="EUR", fees=(("COD_FEE", Decimal(3)),))
    never = datetime.max.replace(tzinfo=UTC)
    odd: dict[str, Any] = {"lines": (fee,), "tip": Decimal(5), "deliver_by": never}
    for number, order_id in enumerate(ORDERS):
        created = STARTED - timedelta(days=1, minutes=number)
        which = "abcda"[number]
        world.order(
            order_id,
            created=created,
            marketplace="DE" if number == 3 else "UK",
            name=f"Quentin {which}",
            email=f"quentin-{which}@marketplace.amazon.co.uk",
            recipient=f"Quentin {which}",
            street="7 Secret Street",
            phone="+44 1632 960777",
            **(odd if number == 4 else {}),
        )
    world.order(BAD, created=STARTED - timedelta(hours=20), poison="quantity_a_word")
    return world


@contextmanager
def served(folder: Path, database_url: str | None = None, **environ: str) -> Iterator[Served]:
    """A shop with five orders, read and served."""
    with open_shop(folder / "shop", five_orders(), marketplaces=("UK", "DE")) as shop:
        if database_url is not None:
            shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
            shop("db", "upgrade")
        shop("sync")
        with serving(shop, **environ) as place:
            yield place


@contextmanager
def serving(shop: Shop, **environ: str) -> Iterator[Served]:
    """The service of a shop whose database is there."""
    with Service(shop.environ | environ) as service:
        service.open_store(create=True)
        service.wire()
        listening = listen("127.0.0.1", 0)
        server = WebServer(service, listening)
        place = Served(shop, service, f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.start()
        try:
            yield place
        finally:
            for client in place.clients:
                client.close()
            service.stop.set()
            server.join()


def form(client: httpx.Client, **fields: str) -> dict[str, str]:
    """Return the fields of a console form in this browser."""
    (token,) = set(re.findall(r'name="csrf_token" value="(\w+)"', client.get(sessions.SIGN_IN).text))
    return {"csrf_token": token, **fields}


def entered(client: httpx.Client, link: str) -> httpx.Response:
    """Open a link that signs in, and press its button."""
    shown = client.get("/console/enter", params=urlsplit(link).query)
    assert shown.status_code == 200
    fields = dict(re.findall(r'name="(csrf_token|key)" value="([^"]*)"', shown.text))
    return client.post("/console/enter", data=fields)


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged meanwhile, as events."""
    with structlog.testing.capture_logs() as events:
        yield events  # type: ignore[misc]


def said(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the disclosures among the events."""
    return [
        {key: event[key] for key in ("who", "what", "ids")}
        for event in events
        if event["event"] == "disclosed"
    ]


def problem(answer: httpx.Response, status: int, kind: str) -> str:
    """Assert that the answer is this problem; return its sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = json.loads(answer.text)
    assert body["type"] == f"urn:order-sync:{kind}", body
    assert body["status"] == status
    return str(body["detail"])
