"""Exchanges over a real socket, where time passes between the bytes of an answer."""

from __future__ import annotations

import gzip
import socket
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import pytest

from connectors.amazon import documents, wire
from connectors.errors import Garbled, ReportUnreadable, Unreachable


@contextmanager
def answering(parts: Sequence[bytes], left: threading.Event, every: float = 0.0) -> Iterator[str]:
    """Serve one request with these parts, one per ``every`` seconds, until ``left``."""

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            try:
                for part in parts:
                    connection.sendall(part)
                    if every and left.wait(every):
                        return
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            left.set()
            thread.join()


def test_an_answer_that_trickles_for_ever_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte arrives within the read time-out, so only the limit for the whole answer ends it."""
    monkeypatch.setattr(wire, "MAX_ANSWER_SECONDS", 0.2)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    parts = [head, *[b"x"] * 100_000]
    with (
        answering(parts, threading.Event(), every=0.01) as url,
        httpx.Client() as http,
        pytest.raises(Unreachable, match=r"searchOrders: the answer took longer than 0\.2 seconds"),
    ):
        wire.send(http, "searchOrders", "GET", url)


def test_a_compressed_answer_in_chunks_arrives_whole() -> None:
    body = b'{"orders": []}' * 1000
    packed = gzip.compress(body)
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
        b"x-amzn-ratelimit-limit: 0.5\r\n\r\n"
    )
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (packed[:40], packed[40:])]
    with answering([head, *chunks, b"0\r\n\r\n"], threading.Event()) as url, httpx.Client() as http:
        answer = wire.send(http, "searchOrders", "GET", url)
    assert (answer.status_code, answer.content, wire.rate_of(answer)) == (200, body, 0.5)


def bomb(size: int) -> bytes:
    """Zeros of this size, compressed a thousandfold."""
    return gzip.compress(bytes(size))


@pytest.mark.parametrize("parts", [1, 50], ids=["in one piece", "in pieces"])
def test_an_answer_that_inflates_without_end_is_given_up(parts: int) -> None:
    packed = bomb(300 << 20)
    size = len(packed) // parts + 1
    pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with answering([head, *pieces], threading.Event()) as url, httpx.Client() as http:
        tracemalloc.start()
        try:
            with pytest.raises(Garbled, match=r"^searchOrders: the answer is larger than 32 MB$"):
                wire.send(http, "searchOrders", "GET", url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * wire.MAX_ANSWER_BYTES


def test_an_answer_that_is_large_without_compression_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_ANSWER_BYTES", 1 << 20)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    with (
        answering([head, *[bytes(1 << 16)] * 32], threading.Event()) as url,
        httpx.Client() as http,
        pytest.raises(Garbled, match="larger than 1 MB"),
    ):
        wire.send(http, "searchOrders", "GET", url)


def test_an_answer_with_broken_compression_is_none() -> None:
    packed = gzip.compress(b'{"orders": []}' * 1000)[:-9]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with (
        answering([head, packed], threading.Event()) as url,
        httpx.Client() as http,
        pytest.raises(Garbled, match="searchOrders: the answer could not be decoded"),
    ):
        wire.send(http, "searchOrders", "GET", url)


def test_a_document_that_inflates_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 1 << 20)
    packed = gzip.compress(b"a line\n" * (1 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with (
        answering([head, packed], threading.Event()) as url,
        httpx.Client() as http,
        pytest.raises(ReportUnreadable, match="the document is larger than 1,048,576 bytes"),
    ):
        sum(1 for _ in documents.document_lines(http, url, "tests"))


def test_a_document_that_trickles_for_ever_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOWNLOAD_SECONDS", 0.2)
    parts = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", *[b"x"] * 100_000]
    with (
        answering(parts, threading.Event(), every=0.01) as url,
        httpx.Client() as http,
        pytest.raises(Unreachable, match=r"reportDocument: the document took longer than 0\.2 seconds"),
    ):
        list(documents.document_lines(http, url, "tests"))
