"""``order-sync tokens``, and the address that ``order-sync run`` listens on."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from connectors.simulator.faults import GET, Faults
from connectors.simulator.world import Seller, World
from store import tables
from store.engine import create_engine
from tests.acceptance.command_line import STARTED, Shop, open_shop
from tests.acceptance.test_cli_service import FIRST, next_event, running, stops, until

TOKEN = "x" * 40
"""The service's own token, ORDER_SYNC_API_TOKEN."""

OWN = "setting:api_token"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK",)))
    world.order(FIRST, created=STARTED - timedelta(days=1), name="Quentin Invented")
    with open_shop(tmp_path / "shop", world) as shop:
        yield shop


@pytest.mark.long
def test_a_token_is_shown_once_and_only_its_hash_is_kept(shop: Shop) -> None:
    made = shop("tokens", "add", "erp", "--scope", "write", "--scope", "read")
    token = made.out.strip()
    assert "token erp may read, write" in made.err
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    with engine.connect() as connection:
        (row,) = connection.execute(sa.select(tables.api_tokens)).all()
    engine.dispose()
    assert token not in repr(row)
    assert len(row.digest) == 32
    (listed,) = shop("tokens", "list", "--json").json()
    assert (listed["name"], listed["scopes"]) == ("erp", ["read", "write"])
    assert token not in shop("tokens", "list").out
    assert shop("tokens", "add", "reader").err.startswith("token reader may read and expires in 90 days;")


@pytest.mark.long
def test_wrong_tokens_commands_are_refused_in_one_sentence(shop: Shop) -> None:
    shop("tokens", "add", "erp")
    assert "token erp exists already" in shop("tokens", "add", "erp", status=2).err
    assert "a token's name is made of" in shop("tokens", "add", "E R P", status=2).err
    assert "there is no scope admin" in shop("tokens", "add", "x", "--scope", "admin", status=2).err
    shop("tokens", "remove", "erp")
    assert "there is no token of that name" in shop("tokens", "remove", "erp", status=2).err
    assert "there are no tokens: make one with `order-sync tokens add NAME`" in shop("tokens", "list").err
    assert shop("tokens", "list", "--json").json() == []


@pytest.mark.long
def test_a_port_that_is_taken_is_one_sentence(shop: Shop) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        (printed,) = shop("run", status=1, ORDER_SYNC_LISTEN=address).messages
    assert printed == (
        f"error: cannot listen on {address}: another program is listening there; "
        "set ORDER_SYNC_LISTEN to another address, or to off."
    )
    with running(shop, ORDER_SYNC_LISTEN="192.0.2.1:80") as process:
        _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (
        1,
        "error: cannot listen on 192.0.2.1:80: this machine does not have that address; "
        "set ORDER_SYNC_LISTEN to another address, or to off.\n",
    )
    assert "ORDER_SYNC_LISTEN must " in shop("run", status=2, ORDER_SYNC_LISTEN="8000").err


@pytest.mark.long
def test_the_running_service_answers_and_ends_in_time_with_a_connection_open(shop: Shop) -> None:
    with running(shop, ORDER_SYNC_API_TOKEN=TOKEN, ORDER_SYNC_LOG_LEVEL="info") as process:
        url = next_event(process, "listening")["url"]
        next_event(process, "run", outcome="complete")
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            assert client.get(f"/orders/{FIRST}").json()["buyer_name"] == "Quentin Invented"
            event = next_event(process, "disclosed")
            assert (event["who"], event["ids"]) == (OWN, [FIRST])
            stops(process, signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                client.get("/healthz")


@pytest.mark.long
def test_the_service_ends_in_time_although_an_answer_waits_for_amazon(shop: Shop) -> None:
    shop("sync")
    shop.simulator.faults = Faults.only("hang", operations=[GET])

    def ask(url: str) -> None:
        with suppress(httpx.TransportError):
            headers = {"Authorization": f"Bearer {TOKEN}"}
            httpx.post(f"{url}/orders/{FIRST}/fetch", json={"account": "acme"}, headers=headers, timeout=60)

    with running(shop, ORDER_SYNC_API_TOKEN=TOKEN, ORDER_SYNC_LOG_LEVEL="debug") as process:
        url = next_event(process, "listening")["url"]
        next_event(process, "run", outcome="complete")
        asking = threading.Thread(target=ask, args=[url])
        asking.start()
        until(lambda: any(request.operation == GET for request in shop.simulator.requests))
        stops(process, signal.SIGTERM)
        asking.join()


@pytest.mark.long
def test_disclosures_are_logged_although_the_log_is_quiet(shop: Shop) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shop("sync")
    environ = {"ORDER_SYNC_LISTEN": address, "ORDER_SYNC_API_TOKEN": TOKEN, "ORDER_SYNC_LOG_LEVEL": "error"}
    with running(shop, **environ) as process:
        transport = httpx.HTTPTransport(retries=8)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://{address}", transport=transport, headers=headers) as client:
            while client.get("/orders").status_code == 503:
                pass
        assert process.stderr is not None
        entry = json.loads(process.stderr.readline())
        assert (entry["event"], entry["who"], entry["ids"]) == ("disclosed", OWN, [FIRST])
        stops(process, signal.SIGTERM)


@pytest.mark.long
def test_a_service_that_listens_nowhere_is_possible(shop: Shop) -> None:
    with running(shop, ORDER_SYNC_LISTEN="off") as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        assert first["event"] == "starting"
        next_event(process, "run", outcome="complete")
        stops(process, signal.SIGTERM)
