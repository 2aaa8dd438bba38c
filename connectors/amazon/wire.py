"""One HTTP exchange with Amazon: sending a request, and judging the answer.

Used for SP-API and for Login with Amazon alike. The judgement is ours alone: an answer counts as a
success only when its status is 2xx **and** its body is the JSON object that the operation promises,
because the client library takes an HTML error page for an empty page of orders.

Nothing here puts a URL, a header, a body or the text of an httpx exception into an error: they
carry tokens and buyer data. For the same reason our errors are raised outside ``except`` blocks,
so that they do not drag an httpx exception, and with it the request, along as their context.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx

from connectors.base import Operation
from connectors.errors import (
    AccessRefused,
    BoundRefused,
    ConnectorError,
    Garbled,
    OrderNotFound,
    PageExpired,
    RequestRefused,
    ServerFault,
    Unreachable,
)

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Explicit with every request, so that it holds for whatever client was injected."""

LONGEST_ANSWER = 90.0
"""Seconds for a whole answer: the read time-out starts anew with every byte, and one may drip for ever."""

_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are not true any more of a body that has been received and decoded."""

HIGHEST_RATE = 50.0
"""Requests a second; no operation of SP-API comes near, so a higher header is nonsense."""

BOUND_AGE = timedelta(minutes=2)
"""How old an upper bound must be. Source: Amazon's Orders API model 2026-01-01."""

_DATE_GRAIN = timedelta(seconds=1)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What a refused answer has to be judged by. Holds nothing secret."""

    operation: Operation
    read: Callable[[bytes], Any]
    """Reads the body of a success. Raises Garbled, saying why, when it is not what was promised."""
    page_token_sent: bool = False
    before: datetime | None = None
    """The upper bound that was sent."""


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
    """Send one request and read the whole answer. Never follows a redirect (it would take tokens along).

    Raises Unreachable when there is no answer, Garbled when its transfer encoding is broken.
    """
    failure: ConnectorError
    try:
        with http.stream(
            method,
            url,
            params=params,
            data=data,
            content=content,
            headers=headers,
            timeout=TIMEOUT,
            follow_redirects=False,
        ) as answer:
            received = _received(answer)
        if received is not None:
            kept = [h for h in answer.headers.multi_items() if h[0] not in _OF_THE_TRANSFER]
            return httpx.Response(answer.status_code, headers=kept, content=received)
        failure = Unreachable(f"{operation}: the answer took longer than {LONGEST_ANSWER:g} seconds")
    except httpx.DecodingError:
        failure = Garbled(f"{operation}: the answer could not be decoded")
    except (httpx.RequestError, httpx.InvalidURL) as error:
        failure = Unreachable(f"{operation}: no answer ({type(error).__name__})")
    raise failure


def _received(answer: httpx.Response) -> bytes | None:
    """The body, decoded; None when it took too long."""
    deadline = time.monotonic() + LONGEST_ANSWER
    body = bytearray()
    for part in answer.iter_bytes():
        body += part
        if time.monotonic() > deadline:
            return None
    return bytes(body)


# --- headers ---------------------------------------------------------------------------------


def date_of(answer: httpx.Response) -> datetime | None:
    """The ``Date`` header in UTC, whole seconds; None when absent or malformed."""
    try:
        date = parsedate_to_datetime(answer.headers.get("date", ""))
        return date.astimezone(UTC) if date.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def rate_of(answer: httpx.Response) -> float | None:
    """The rate header in requests a second; None when absent or not believable.

    Amazon declares it on 200, 400 and 404 only. Source: Amazon's Orders API model 2026-01-01.
    """
    try:
        rate = float(answer.headers.get("x-amzn-ratelimit-limit", ""))
    except ValueError:
        return None
    return rate if math.isfinite(rate) and 0 < rate <= HIGHEST_RATE else None


# --- bodies ----------------------------------------------------------------------------------


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_object(content: bytes) -> Json | None:
    """The JSON object in ``content``, a number with a fraction as Decimal; None if it is none."""
    try:
        value = json.loads(content, parse_float=Decimal, parse_constant=_reject_constant)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def promised(content: bytes, member: str, kind: type) -> Json:
    """The JSON object in ``content``, proven to have ``member``, a ``dict`` or a ``list``. Raises Garbled."""
    body = json_object(content)
    if body is None:
        raise Garbled("the body is no JSON object")
    if body.get("errors"):
        raise Garbled("the body reports errors in spite of its status")
    if not isinstance(body.get(member), kind):
        raise Garbled(f"the body lacks {member!r}")
    return body


def result_of(answer: httpx.Response, question: Question) -> Any:
    """What a success says, as ``question`` reads it. Raises whatever ``refusal`` returns, and Garbled."""
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
_ABOUT_THE_BOUND = re.compile(r"\b(?:two|2)[ -]?min|\b(?:lastUpdated|created)Before\b", re.IGNORECASE)


def refusal(answer: httpx.Response, question: Question) -> ConnectorError:
    """The error that an answer without success stands for (429 is the budget's, see the connector)."""
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
    if status in (401, 403):
        return AccessRefused(message, status, code)
    if status == 404 and question.operation == "getOrder":
        return OrderNotFound(message, status, code)
    if status == 400:
        return bad_request(message, code, text, question, date_of(answer))
    return RequestRefused(message, status, code)


def bad_request(
    message: str, code: str | None, text: str, question: Question, date: datetime | None
) -> ConnectorError:
    """What a 400 means. Amazon answers InvalidInput to everything, so the circumstances decide.

    With a page token it is the token: the same bounds were accepted on the first page. Without one
    it is the bound, if by the answer's own ``Date`` (whole seconds) it was younger than two minutes,
    or if the error's text speaks about it. All else is a request that cannot succeed.
    """
    if question.page_token_sent:
        return PageExpired(message, 400, code)
    if question.before is not None:
        too_young = date is not None and question.before > date - BOUND_AGE - _DATE_GRAIN
        if too_young or _ABOUT_THE_BOUND.search(text):
            return BoundRefused(message, 400, code)
    return RequestRefused(message, 400, code)


def error_of(body: Json | None) -> tuple[str | None, str]:
    """(code, text) of the first entry of SP-API's ``errors``; (None, "") when there is none.

    The code is kept only if it is a plain word: it goes into messages. The text is for judging, never
    for showing.
    """
    errors = body.get("errors") if body else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return None, ""
    text = " ".join(str(first[key]) for key in ("message", "details") if key in first)
    return error_code(first.get("code")), text


def error_code(value: object) -> str | None:
    """``value`` if it is one short word, which may be shown, else None."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def message_of(answer: httpx.Response, operation: str, detail: str | None = None) -> str:
    """What may be shown of an answer: operation, status, ``detail`` and Amazon's request id."""
    parts = [f"status {answer.status_code}", detail]
    request_id = answer.headers.get("x-amzn-requestid", "")
    if _REQUEST_ID.fullmatch(request_id):
        parts.append(f"request {request_id}")
    return f"{operation}: {', '.join(part for part in parts if part)}"
