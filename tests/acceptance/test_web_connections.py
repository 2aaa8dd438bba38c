"""Slow, idle and malformed connections, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from poller.web import connections
from poller.web.connections import MAX_CONNECTIONS, MAX_WAITING
from tests.acceptance.web_world import Served, served

HALF = b"GET /orders HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
TOKEN = f"Authorization: Bearer {'x' * 40}\r\n".encode()
HEADERS = (b"cache-control: no-store", b"x-content-type-options: nosniff", b"default-src 'none'")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web"), ORDER_SYNC_API_TOKEN="x" * 40) as place:
        yield place


def connect(place: Served) -> socket.socket:
    host, port = place.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


@contextmanager
def held(place: Served, many: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent this, and are kept."""
    with ExitStack() as stack:
        found = [stack.enter_context(connect(place)) for _ in range(many)]
        for connection in found:
            try:
                connection.sendall(sent)
            except OSError:  # closed already to make room
                continue
        yield found


def rest_of(connection: socket.socket) -> bytes:
    """Everything that arrives until the server closes the connection."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="idle"),
        pytest.param(HALF, id="half a head"),
        pytest.param(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{", id="half a body"),
    ],
)
def test_requests_are_answered_while_hundreds_of_slow_connections_are_held(
    place: Served, sent: bytes
) -> None:
    with held(place, MAX_CONNECTIONS + 5, sent):
        client = place.client(Authorization=f"Bearer {'x' * 40}")
        for _ in range(3):
            assert client.get("/healthz").status_code == 200
            assert client.get("/orders").status_code == 200


def test_an_address_that_holds_too_many_connections_loses_its_oldest(place: Served) -> None:
    with held(place, MAX_WAITING + 1, HALF) as found:
        assert rest_of(found[0]) == b""
        found[-1].sendall(b"x\r\n" + TOKEN + b"Connection: close\r\n\r\n")
        assert rest_of(found[-1]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", HALF], ids=["idle", "half a head"])
def test_a_head_must_arrive_in_time(place: Served, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    with held(place, 1, sent) as (connection,):
        assert rest_of(connection) == b""


def test_a_body_that_is_not_read_must_arrive_in_time(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.2)
    head = b"POST /orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"
    with held(place, 1, head) as (connection,):
        assert rest_of(connection).startswith(b"HTTP/1.1 401 ")


def test_an_answer_that_is_not_taken_is_given_up(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.05)
    wanted = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n" + TOKEN + b"\r\n"

    def send_for_ever(connection: socket.socket) -> None:
        while True:  # until the server reads no further, and then closes
            connection.sendall(wanted)

    with held(place, 1, b"") as (connection,), pytest.raises(OSError, match=r"reset|Broken pipe"):
        send_for_ever(connection)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(
            b"POST /customers/search HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            b"2\r\n{}\r\n0\r\n\r\n",
            id="both lengths",
        ),
        pytest.param(
            b"POST /customers/search HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
            b"2\r\n{}\r\n0\r\n\r\n",
            id="chunks in HTTP/1.0",
        ),
        pytest.param(
            b"POST /customers/search HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n",
            b"{}",
            id="two lengths",
        ),
        pytest.param(b"GET /heal thz HTTP/1.1\r\n", b"", id="a blank in the address"),
    ],
)
def test_a_request_that_two_readers_may_understand_differently_is_refused(
    place: Served, head: bytes, body: bytes
) -> None:
    smuggled = b"GET /orders HTTP/1.1\r\nHost: 127.0.0.1\r\n" + TOKEN + b"\r\n"
    with held(place, 1, head + b"Host: 127.0.0.1\r\n" + TOKEN + b"\r\n" + body + smuggled) as (connection,):
        received = rest_of(connection)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"urn:order-sync:http" in received
    assert all(header in received for header in HEADERS)


def test_too_many_requests_in_work_are_refused_but_for_health(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_RUNNING", 0)
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    answer = client.get("/orders")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.json()["type"] == "urn:order-sync:busy"
    assert client.get("/healthz").status_code == 200


def test_a_body_that_is_cut_short_is_not_carried_out(place: Served) -> None:
    """It may be JSON, or a form, as far as it goes: of another customer's number the first digits."""
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    body = b'{"name": "Cut Short"}'
    head = b"POST /customers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" + TOKEN
    with connect(place) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # the application waits for the body
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        assert rest_of(connection) == b""
    assert client.post("/customers", json={"name": "Whole"}).status_code == 201
    names = [customer["name"] for customer in client.get("/customers").json()["items"]]
    assert "Whole" in names
    assert "Cut Short" not in names
