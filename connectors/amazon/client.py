"""The one file that touches python-amazon-sp-api (pinned): its operations and request building, no more.

What it must never decide is whether a call succeeded: a 503 with an HTML page is an empty page of
orders to it. So three of its parts are replaced, all in ``_Guarded``:

- its constructor is not called: it lets SP_API_DEFAULT_MARKETPLACE beat its arguments, searches the
  environment and files for credentials, and opens two connection pools. We set what its methods
  read, give it no credential at all but the access token of this one call, and no pool to close;
- its headers: the Host it derives is wrong for plain http, the user agent is its own;
- its reading of answers: ours (``wire.result_of``) raises on everything that is not a proven success.

An object serves one call: the library keeps state of a request on itself. Making one is cheap.
A contract test fails when an upgrade of the library breaks any of this.
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

# While it is imported the library reads these, and fails on a value that it does not know; AWS_ENV,
# a name that others use as well, would even move every host to the sandbox.
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

Heard = Callable[[httpx.Response], None]
"""Told of every answer, good or bad, before it is judged; may raise."""


class _Transport:
    """Takes the place of the library's private transport: the shared client, and nothing to close."""

    def __init__(self, http: httpx.Client, operation: str, heard: Heard) -> None:
        self._http = http
        self._operation = operation
        self._heard = heard

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
        self._heard(answer)
        return answer

    def close(self) -> None:
        """The shared client belongs to whoever made it."""


class _Guarded:
    """Goes in front of a class of the library: our constructor, headers and judgement for its methods."""

    restricted_data_token = None
    marketplace_id = ""  # never used: the marketplaces are always given
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
        heard: Heard,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._access_token = access_token
        self._question = question
        self._now = now
        self._transport = _Transport(http, question.operation, heard)

    @property
    def headers(self) -> dict[str, str]:
        """Without Host, which httpx writes correctly for any address."""
        return {
            "accept": "application/json",
            "user-agent": USER_AGENT,
            "x-amz-access-token": self._access_token,
            "x-amz-date": self._now().strftime("%Y%m%dT%H%M%SZ"),
        }

    def _check_response(self, res: httpx.Response, *_: Any, **__: Any) -> Any:
        return result_of(res, self._question)


class OrdersClient(_Guarded, OrdersV20260101):  # type: ignore[misc]
    """``search_orders`` and ``get_order`` of one call, answering with what the question reads."""


class SellersClient(_Guarded, Sellers):  # type: ignore[misc]
    """``get_marketplace_participation`` of one call, answering with what the question reads."""


class ReportsClient(_Guarded, Reports):  # type: ignore[misc]
    """``create_report``, ``get_report`` and ``get_report_document`` (the address alone) of one call."""


# --- loggers ---------------------------------------------------------------------------------

_TALKATIVE = (
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

    Levels alone would not do, because a careless ``setLevel`` of somebody else undoes them later;
    hence a filter too. Calling it twice changes nothing.
    """
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
        logger.addFilter(_only_warnings)
