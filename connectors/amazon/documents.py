"""Fetching a report's document from its presigned address, line by line.

The address is a secret for five minutes: no message contains it, and no httpx exception that carries it
leaves this file. The document may be of any size, so it is never whole in memory: only a chunk, a line, and
what the reader of the lines keeps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from urllib.parse import urlsplit

import httpx

from connectors.amazon.compression import BrokenCompression, inflated
from connectors.amazon.wire import TIMEOUT, message_of
from connectors.errors import (
    ConnectorError,
    DocumentExpired,
    Garbled,
    ReportUnreadable,
    ServerFault,
    Unreachable,
)

OPERATION = "reportDocument"
MAX_LINE_BYTES = 1 << 20
MAX_DOWNLOAD_SECONDS = 600.0
"""For a whole document, which may be long but must not trickle for ever."""

MAX_DOCUMENT_BYTES = 4 << 30
"""Of a whole document, decompressed: some ten million rows."""

_GZIP_MAGIC = b"\x1f\x8b"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def document_lines(http: httpx.Client, url: str, user_agent: str) -> Iterator[bytes]:
    """Yield the document's lines without line ends: all of them, or an error.

    Its first bytes say if it is compressed: Amazon announces GZIP for plain documents, and nothing for packed
    ones (selling-partner-api-docs issue 664, selling-partner-api-models issues 2618 and 2648).
    Raises Unreachable (also if it breaks off), ServerFault, Garbled, DocumentExpired, ReportUnreadable.
    """
    _check_address(url)
    failure: ConnectorError
    try:
        # Of compression the document has at most its own; a proxy must not add another.
        headers = {"user-agent": user_agent, "accept-encoding": "identity"}
        with http.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=False) as answer:
            _check_status(answer)
            chunks = _in_time(answer.iter_raw())
            start = _beginning(chunks)
            whole = chain((start,), chunks)
            yield from _lines(_bounded(_inflated(whole) if start.startswith(_GZIP_MAGIC) else whole))
            return
    except (httpx.RequestError, httpx.InvalidURL, httpx.StreamError) as error:
        failure = Unreachable(f"{OPERATION}: no answer ({type(error).__name__})")
    raise failure


def _beginning(chunks: Iterator[bytes]) -> bytes:
    """Return the first chunks, until they have enough bytes to show compression."""
    start = b""
    while len(start) < len(_GZIP_MAGIC) and (chunk := next(chunks, None)) is not None:
        start += chunk
    return start


def _in_time(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``chunks`` as they come, as one of a fixed size might never fill. Raises Unreachable if late."""
    deadline = time.monotonic() + MAX_DOWNLOAD_SECONDS
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise Unreachable(f"{OPERATION}: the document took longer than {MAX_DOWNLOAD_SECONDS:g} seconds")
        yield chunk


def _check_address(url: str) -> None:
    """Refuse an address that is neither TLS nor this machine: reports are a seller's business data."""
    try:
        address = urlsplit(url)
        safe = address.scheme == "https" or (address.scheme == "http" and address.hostname in _LOOPBACK)
    except ValueError:
        safe = False
    if not safe:
        raise Garbled(f"{OPERATION}: the address is not https")


def _check_status(answer: httpx.Response) -> None:
    """Raise on every status but 200: the storage's errors are XML, which could pass for a document."""
    status = answer.status_code
    if status >= 500 or status in (408, 429):
        raise ServerFault(message_of(answer, OPERATION), status)
    if status >= 400:
        raise DocumentExpired(message_of(answer, OPERATION), status)
    if status != 200:
        raise Garbled(message_of(answer, OPERATION, "neither a document nor an error"), status)


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress GZIP. Raises ReportUnreadable if it is malformed or truncated."""
    try:
        yield from inflated(chunks)
        return
    except BrokenCompression:
        pass
    raise ReportUnreadable(f"{OPERATION}: the compression is broken")


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``chunks``. Raises ReportUnreadable if they are too many bytes."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_DOCUMENT_BYTES:
            raise ReportUnreadable(f"{OPERATION}: the document is larger than {MAX_DOCUMENT_BYTES:,} bytes")
        yield chunk


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split at line feeds, with or without a carriage return before. Raises ReportUnreadable."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > MAX_LINE_BYTES:
            raise ReportUnreadable(f"{OPERATION}: a line is longer than {MAX_LINE_BYTES} bytes")
    if rest:
        yield rest.removesuffix(b"\r")
