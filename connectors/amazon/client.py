"""The only file that uses python-amazon-sp-api (pinned), for its operations and request building.

The library must never decide if a call succeeded: it takes a 503 with an HTML page for an empty page of
orders. So ``_Guarded`` replaces three of its parts:

- its constructor is not called, because it lets SP_API_DEFAULT_MARKETPLACE override its arguments, searches
  the environment and files for credentials, and opens two connection pools. We set what its methods read,
  and give it no credential but the access token of this call, and no pool to close;
- its headers, because the Host it derives is wrong for plain http, and the user agent is the library's;
- its reading of answers, by ``wire.result_of``, which raises on everything but a proven success.

An object serves one call, because the library keeps a request's state on itself. Making one is cheap.
A contract test fails if an upgrade of the library breaks any of this.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from connectors.amazon.wire import Question, result_of, send
from connectors.base import Clock
from connectors.errors import ConnectorError, Unforeseen

# The library reads these on import and fails on a value that it does not know. AWS_ENV, which other
# programs use too, would even move every host to the sandbox.
_READ_AT_IMPORT = (
    "SP_API_DEFAULT_MARKETPLACE",
    "AWS_ENV",
    "SP_API_AUTH_CACHE_SIZE",
    "SP_API_AUTH_CACHE_TTL",
)
_set_aside = {name: os.environ.pop(name) for name in _READ_AT_IMPORT if name in os.environ}
try:
    from sp_api.api import OrdersV20260101, Reports, Sellers
finally:
    os.environ.update(_set_aside)


def _own_version() -> str:
    try:
        return version("amazon-order-sync")
    except PackageNotFoundError:  # run from a source tree
        return "unreleased"


USER_AGENT = f"amazon-order-sync/{_own_version()} (Language=Python)"

OnAnswer = Callable[[httpx.Response], None]
"""Called with every answer, good or bad, before it is judged; may raise."""


class _Transport:
    """The shared client in place of the library's private transport."""

    def __init__(self, http: httpx.Client, operation: str, on_answer: OnAnswer) -> None:
        self._http = http
        self._operation = operation
        self._on_answer = on_answer

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str],
        content: str | None,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        if content is not None:
            headers = {**headers, "content-type": "application/json"}
        answer = send(
            self._http, self._operation, method, url, params=params, content=content, headers=headers
        )
        self._on_answer(answer)
        return answer

    def close(self) -> None:
        """Do nothing: the shared client belongs to its creator."""


class _Guarded:
    """Our constructor, headers and reading of answers; a mixin that precedes a class of the library."""

    restricted_data_token = None
    marketplace_id = ""  # never used: every call names its marketplaces
    region = ""
    version = None

    def __init__(
        self,
        *,
        endpoint: str,
        access_token: str,
        question: Question,
        http: httpx.Client,
        now: Clock,
        on_answer: OnAnswer,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._access_token = access_token
        self._question = question
        self._now = now
        self._transport = _Transport(http, question.operation, on_answer)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers without Host, which httpx writes correctly for any address."""
        return {
            "accept": "application/json",
            "user-agent": USER_AGENT,
            "x-amz-access-token": self._access_token,
            "x-amz-date": self._now().strftime("%Y%m%dT%H%M%SZ"),
        }

    def _check_response(self, res: httpx.Response, *_: Any, **__: Any) -> Any:
        try:
            return result_of(res, self._question)
        except ConnectorError:
            raise
        except Exception as error:
            raise Unforeseen.of(self._question.operation, error) from None


class OrdersClient(_Guarded, OrdersV20260101):  # type: ignore[misc]
    """``search_orders`` and ``get_order`` for one call, returning what the question reads."""


class SellersClient(_Guarded, Sellers):  # type: ignore[misc]
    """``get_marketplace_participation`` for one call, returning what the question reads."""


class ReportsClient(_Guarded, Reports):  # type: ignore[misc]
    """``create_report``, ``get_report`` and ``get_report_document`` (only the address) for one call."""


# --- loggers ---------------------------------------------------------------------------------

_LEAKING = (
    "httpx",
    "httpcore",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
    "sp_api",
    "sp_api.auth.access_token_client",
    "sp_api.base.client",
)


def _only_warnings(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def silence_libraries() -> None:
    """Keep the libraries' loggers at WARNING and above: below, they print URLs, headers and bodies.

    A level alone is not enough, because a later ``setLevel`` elsewhere undoes it; hence the filter.
    Idempotent.
    """
    for name in _LEAKING:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
        logger.addFilter(_only_warnings)
