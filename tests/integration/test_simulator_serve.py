"""The simulator behind a socket answers as through httpx's transport, faults included."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from connectors.simulator.api import Simulator
from connectors.simulator.faults import Faults
from connectors.simulator.orders import order
from connectors.simulator.serve import SimulatorServer, serve
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, World
from tests.simulator_transport import transport

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FORM = {
    "grant_type": "refresh_token",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "refresh_token": "Atzr|simulated-refresh-token",
}
QUERY = {"createdAfter": "2026-05-01T00:00:00Z", "includedData": "BUYER,FULFILLMENT"}


def simulator(faults: Faults | None = None) -> Simulator:
    world = World()
    world.add(*(order(f"A-{n}", created=NOON - timedelta(hours=n + 1)) for n in range(5)))
    return Simulator(world, now=lambda: NOON, faults=faults)


@contextmanager
def served(faults: Faults | None = None) -> Iterator[tuple[httpx.Client, SimulatorServer]]:
    with serve(simulator(faults)) as (server, url), httpx.Client(base_url=url, timeout=5) as client:
        yield client, server


def login(client: httpx.Client) -> dict[str, str]:
    return {"x-amz-access-token": client.post("/auth/o2/token", data=FORM).json()["access_token"]}


def test_a_socket_and_the_transport_answer_alike() -> None:
    with served() as (client, server):
        headers = login(client)
        over_socket = client.get("/orders/2026-01-01/orders", params=QUERY, headers=headers)
        missing = client.get("/orders/2026-01-01/orders/A%2F9", headers=headers)
        assert len(server.connections) == 1, "the connection is kept"
    with httpx.Client(base_url="https://simulator.invalid", transport=transport(simulator())) as client:
        direct = client.get("/orders/2026-01-01/orders", params=QUERY, headers=login(client))
    assert (over_socket.status_code, missing.status_code) == (200, 404)
    assert over_socket.content == direct.content
    assert dict(over_socket.headers) == dict(direct.headers)


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("dropped", httpx.RemoteProtocolError),
        ("dropped_halfway", httpx.RemoteProtocolError),
        ("hang", httpx.ReadTimeout),
    ],
)
def test_a_broken_connection_is_truly_broken(kind: str, raised: type[Exception]) -> None:
    with served(Faults.only(kind, calls=[1], operations=["searchOrders"])) as (client, _):
        headers = login(client)
        with pytest.raises(raised):
            client.get("/orders/2026-01-01/orders", params=QUERY, headers=headers, timeout=0.2)
        assert client.get("/orders/2026-01-01/orders", params=QUERY, headers=headers).status_code == 200


def test_the_server_ends_promptly_with_an_idle_and_a_hanging_client() -> None:
    threads = threading.active_count()
    asked = threading.Event()

    def now() -> datetime:
        if rude.requests:
            asked.set()
        return NOON

    rude = Simulator(World(), now=now, faults=Faults.only("hang", operations=["searchOrders"]))
    raised: list[Exception] = []
    with serve(rude) as (server, url), httpx.Client(base_url=url, timeout=60) as idle:
        headers = login(idle)

        def hang() -> None:
            try:
                httpx.get(f"{url}/orders/2026-01-01/orders", params=QUERY, headers=headers, timeout=60)
            except httpx.TransportError as error:
                raised.append(error)

        hanging = threading.Thread(target=hang, daemon=True)
        hanging.start()
        assert asked.wait(10)
        server.stop()
        hanging.join(5)
        assert not hanging.is_alive(), "sooner than the client's own patience"
    assert len(raised) == 1
    assert threading.active_count() == threads


@pytest.mark.long
def test_it_settles_once_every_client_that_left_is_answered() -> None:
    with served() as (client, server):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.server_port)) as leaving:
                leaving.sendall(b"GET /orders/2026-01-01/orders HTTP/1.1\r\nHost: x\r\n\r\n")
        server.settle()
        assert len(server.simulator.requests) == 20
        login(client)
        with pytest.raises(TimeoutError, match="still connected"):
            server.settle(seconds=0)
