"""One HTTP exchange with Amazon: send a request, judge the answer.

SP-API and Login with Amazon share it. An answer is a success only if its status is 2xx **and** its body is
the JSON object that the operation promises, because the client library takes an HTML error page for an
empty page of orders.

No error contains a URL, a header, a body or the text of an httpx exception, because these carry tokens and
buyer data. For the same reason our errors are raised outside ``except`` blocks: their context would
otherwise hold an httpx exception, and with it the request.
"""

from __future__ import annotations

import json
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx

from connectors.amazon.compression import BrokenCompression, inflated
from connectors.base import Operation
from connectors.errors import (
    AccessRefused,
    BoundRefused,
    ConnectorError,
    Garbled,
    OrderNotFound,
    PageExpired,
    RequestRefused,
    SecretExpired,
    ServerFault,
    Unforeseen,
    Unreachable,
)

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Passed with every request, so that it holds for any injected client."""

MAX_ANSWER_SECONDS = 90.0
"""For a whole answer: the read time-out restarts with every byte, so an answer could trickle for ever."""

MAX_ANSWER_BYTES = 32 << 20
"""Of a whole answer, decompressed. A page of 100 orders has about half a megabyte."""

_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are no longer true once a body has been received and decoded."""

MAX_RATE = 50.0
"""Requests per second. No operation of SP-API comes near, so a higher header is wrong."""

BOUND_AGE = timedelta(minutes=2)
"""Minimum age of an upper bound. Source: Amazon's Orders API model 2026-01-01."""

_DATE_GRAIN = timedelta(seconds=1)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A request, as far as its answer is judged by it. Holds nothing secret."""

    operation: Operation
    read: Callable[[bytes], Any]
    """Reads the body of a success. Raises Garbled, saying why, if it is not what was promised."""
    page_token_sent: bool = False
    before: datetime | None = None
    """The upper bound in the request."""


def amazon_text(time: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SSZ``, with milliseconds if there are any; finer digits are cut off."""
    utc = time.astimezone(UTC)
    fraction = utc.microsecond // 1000
    return utc.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction:03d}Z" if fraction else "Z")


# --- sending ---------------------------------------------------------------------------------


def send(
    http: httpx.Client,
    operation: str,
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    content: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Send one request and read the whole answer. Never follow a redirect: it would leak tokens.

    Raises Unreachable if there is no answer, Garbled if it is too large or its encoding is broken, else
    Unforeseen.
    """
    failure: ConnectorError
    try:
        with http.stream(
            method,
            url,
            params=params,
            data=data,
            content=content,
            headers={**(headers or {}), "accept-encoding": "gzip"},
            timeout=TIMEOUT,
            follow_redirects=False,
        ) as answer:
            received = _received(answer)
        if received is not None:
            kept = [h for h in answer.headers.multi_items() if h[0] not in _OF_THE_TRANSFER]
            return httpx.Response(answer.status_code, headers=kept, content=received)
        failure = Unreachable(f"{operation}: the answer took longer than {MAX_ANSWER_SECONDS:g} seconds")
    except BrokenCompression:
        failure = Garbled(f"{operation}: the answer could not be decoded")
    except _TooLarge:
        failure = Garbled(f"{operation}: the answer is larger than {MAX_ANSWER_BYTES >> 20} MB")
    except (httpx.RequestError, httpx.InvalidURL) as error:
        failure = Unreachable(f"{operation}: no answer ({_why_none(error)})")
    except Exception as error:
        failure = Unforeseen.of(operation, error)
    raise failure


def _why_none(error: Exception) -> str:
    """Return why there was no answer, as far as it is safe to show."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            is_of_another = "match" in getattr(cause, "verify_message", "")
            return (
                "its certificate is for another host" if is_of_another else "its certificate is not trusted"
            )
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection"
        if isinstance(cause, socket.gaierror):
            return "its host name is unknown"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


class _TooLarge(Exception):
    """An answer has more than ``MAX_ANSWER_BYTES``."""


def _received(answer: httpx.Response) -> bytes | None:
    """Return the decoded body; None if it took too long. Raises BrokenCompression and _TooLarge.

    httpx would inflate a received piece whole, which may need a thousand times its size.
    """
    deadline = time.monotonic() + MAX_ANSWER_SECONDS
    body = bytearray()
    # Another encoding was not requested: such a body is judged as it is.
    is_compressed = answer.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip")
    stream = answer.stream
    assert isinstance(stream, httpx.SyncByteStream)
    for part in inflated(stream) if is_compressed else stream:
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise _TooLarge
        if time.monotonic() > deadline:
            return None
    return bytes(body)


# --- headers ---------------------------------------------------------------------------------


def date_of(answer: httpx.Response) -> datetime | None:
    """Return the ``Date`` header in UTC, whole seconds; None if absent or malformed."""
    try:
        date = parsedate_to_datetime(answer.headers.get("date", ""))
        return date.astimezone(UTC) if date.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def rate_of(answer: httpx.Response) -> float | None:
    """Return the rate header in requests per second; None if absent or implausible.

    Amazon declares it on 200, 400 and 404 only. Source: Amazon's Orders API model 2026-01-01.
    """
    try:
        rate = float(answer.headers.get("x-amzn-ratelimit-limit", ""))
    except ValueError:
        return None
    return rate if math.isfinite(rate) and 0 < rate <= MAX_RATE else None


# --- bodies ----------------------------------------------------------------------------------


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_object(content: bytes) -> Json | None:
    """Return the JSON object in ``content``, fractions as Decimal; None if it is not one.

    A byte that is not UTF-8 becomes half a surrogate pair, so that only the text that it is in is unreadable.
    """
    try:
        try:
            value = _loads(content)
        except UnicodeDecodeError:
            value = _loads(content.decode("utf-8", "surrogateescape"))
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _loads(content: bytes | str) -> Any:
    return json.loads(content, parse_float=Decimal, parse_constant=_reject_constant)


def promised(content: bytes, member: str, kind: type) -> Json:
    """Return the JSON object in ``content``, whose ``member`` must be of ``kind``. Raises Garbled."""
    body = json_object(content)
    if body is None:
        raise Garbled("the body is not a JSON object")
    if body.get("errors"):
        raise Garbled("the body reports errors in spite of its status")
    if not isinstance(body.get(member), kind):
        raise Garbled(f"the body lacks {member!r}")
    return body


def result_of(answer: httpx.Response, question: Question) -> Any:
    """Return a success as ``question`` reads it. Raises the error that ``refusal`` returns, and Garbled."""
    if not answer.is_success:
        raise refusal(answer, question)
    try:
        return question.read(answer.content)
    except Garbled as garbled:
        reason = str(garbled)
    raise Garbled(message_of(answer, question.operation, reason), answer.status_code)


# --- refusals --------------------------------------------------------------------------------

_CODE = re.compile(r"[A-Za-z_]{1,40}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9=-]{1,80}")
_SECRET_EXPIRED = re.compile(r"\bsecret\b.*\bexpired\b", re.IGNORECASE)
_ABOUT_THE_BOUND = re.compile(r"\b(?:two|2)[ -]?min|\b(?:lastUpdated|created)Before\b", re.IGNORECASE)


def refusal(answer: httpx.Response, question: Question) -> ConnectorError:
    """Return the error for an answer without success (the connector handles 429)."""
    status = answer.status_code
    code, text = error_of(json_object(answer.content))
    if status >= 500:
        return ServerFault(message_of(answer, question.operation), status, code)
    if status < 400:
        reason = "neither an answer nor an error"
        return Garbled(message_of(answer, question.operation, reason), status, code)
    if status == 408:
        return Unreachable(message_of(answer, question.operation), status, code)
    message = message_of(answer, question.operation, code)
    if is_secret_expired(answer):
        return SecretExpired(f"{message}: the client secret has expired", status, code)
    if status in (401, 403):
        return AccessRefused(message, status, code)
    if status == 404 and question.operation == "getOrder":
        return OrderNotFound(message, status, code)
    if status == 400:
        return bad_request(message, code, text, question, date_of(answer))
    return RequestRefused(message, status, code)


def is_secret_expired(answer: httpx.Response) -> bool:
    """Return True if Amazon refuses an access token because the secret that it was granted for has expired.

    It says "The LWA secret token you provided has expired" (selling-partner-api-models issue 4489).
    """
    if answer.status_code != 403:  # a page of orders is not parsed for this
        return False
    _, text = error_of(json_object(answer.content))
    return bool(_SECRET_EXPIRED.search(text))


def bad_request(
    message: str, code: str | None, text: str, question: Question, date: datetime | None
) -> ConnectorError:
    """Return the error for a 400. Amazon answers InvalidInput to everything, so the circumstances decide.

    With a page token, the token is wrong: the first page accepted the same bounds. Without one, the bound is
    wrong if the answer's own ``Date`` (whole seconds) makes it younger than two minutes, or if the error's
    text mentions it. Any other request cannot succeed.
    """
    if question.page_token_sent:
        return PageExpired(message, 400, code)
    if question.before is not None:
        too_young = date is not None and question.before > date - BOUND_AGE - _DATE_GRAIN
        if too_young or _ABOUT_THE_BOUND.search(text):
            return BoundRefused(message, 400, code)
    return RequestRefused(message, 400, code)


def error_of(body: Json | None) -> tuple[str | None, str]:
    """Return (code, text) of the first of SP-API's ``errors``; (None, "") if there is none.

    The code is kept only if it is a plain word, because it goes into messages. The text is judged, never
    shown.
    """
    errors = body.get("errors") if body else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return None, ""
    text = " ".join(str(first[key]) for key in ("message", "details") if key in first)
    return error_code(first.get("code")), text


def error_code(value: object) -> str | None:
    """Return ``value`` if it is one short word, which may be shown, else None."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def message_of(answer: httpx.Response, operation: str, detail: str | None = None) -> str:
    """Return what may be shown of an answer: operation, status, ``detail`` and Amazon's request ID."""
    parts = [f"status {answer.status_code}", detail]
    request_id = answer.headers.get("x-amzn-requestid", "")
    if _REQUEST_ID.fullmatch(request_id):
        parts.append(f"request {request_id}")
    return f"{operation}: {', '.join(part for part in parts if part)}"
