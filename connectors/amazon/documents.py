"""Fetching a report's document from its presigned address, line by line.

The address is a secret of five minutes: it goes into no message, and no httpx exception that carries it
leaves this file. The document may be of any size, so it is never whole in memory: what is held is a chunk,
a line, and whatever the reader of the lines keeps.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import httpx

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
LONGEST_LINE = 1 << 20
LONGEST_DOWNLOAD = 600.0
"""Seconds for a whole document, which may be long; like other answers it must not drip for ever."""

_CHUNK = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def document_lines(http: httpx.Client, url: str, compression: str | None, user_agent: str) -> Iterator[bytes]:
    """The document's lines, without their ends. The whole of it, or an error.

    Raises Unreachable (also when it breaks off), ServerFault, Garbled, DocumentExpired, ReportUnreadable.
    """
    _check_address(url)
    if compression not in (None, "GZIP"):
        raise ReportUnreadable(f"{OPERATION}: compressed in a way that is not known")
    failure: ConnectorError
    try:
        # Amazon says itself how the document is compressed; nobody on the way is to add to it.
        headers = {"user-agent": user_agent, "accept-encoding": "identity"}
        with http.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=False) as answer:
            _check_status(answer)
            packed = compression or answer.headers.get("content-encoding") == "gzip"
            chunks: Iterable[bytes] = _in_time(answer.iter_raw())
            yield from _lines(_inflated(chunks) if packed else chunks)
            return
    except (httpx.RequestError, httpx.InvalidURL, httpx.StreamError) as error:
        failure = Unreachable(f"{OPERATION}: no answer ({type(error).__name__})")
    raise failure


def _in_time(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same, unless they take too long: as they come, since one of a given size may never be full.

    Raises Unreachable.
    """
    deadline = time.monotonic() + LONGEST_DOWNLOAD
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise Unreachable(f"{OPERATION}: the document took longer than {LONGEST_DOWNLOAD:g} seconds")
        yield chunk


def _check_address(url: str) -> None:
    """Reports hold a seller's business: they come through TLS, or from this very machine."""
    try:
        address = urlsplit(url)
        safe = address.scheme == "https" or (address.scheme == "http" and address.hostname in _LOOPBACK)
    except ValueError:
        safe = False
    if not safe:
        raise Garbled(f"{OPERATION}: its address is not one of https")


def _check_status(answer: httpx.Response) -> None:
    """The storage behind the address tells its errors in XML, which would pass for a document."""
    status = answer.status_code
    if status >= 500 or status in (408, 429):
        raise ServerFault(message_of(answer, OPERATION), status)
    if status >= 400:
        raise DocumentExpired(message_of(answer, OPERATION), status)
    if status != 200:
        raise Garbled(message_of(answer, OPERATION, "neither a document nor an error"), status)


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Undo GZIP in pieces of bounded size. Raises ReportUnreadable when it is none or breaks off."""
    inflater = zlib.decompressobj(_GZIP)
    begun = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if inflater.eof:  # several members one after the other are one document
                    inflater, begun = zlib.decompressobj(_GZIP), False
                begun = True
                yield inflater.decompress(rest, _CHUNK * 4)
                rest = inflater.unconsumed_tail or inflater.unused_data
        if begun and not inflater.eof:
            yield inflater.flush()
    except zlib.error:
        begun = True
        inflater = zlib.decompressobj(_GZIP)
    if not begun or not inflater.eof:
        raise ReportUnreadable(f"{OPERATION}: its compression is broken")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut at line feeds, a carriage return before one belonging to it. Raises ReportUnreadable."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > LONGEST_LINE:
            raise ReportUnreadable(f"{OPERATION}: a line is longer than {LONGEST_LINE} bytes")
    if rest:
        yield rest.removesuffix(b"\r")
