"""Access tokens from Login with Amazon (LWA): one provider per account, in place of the library's.

The library caches ten tokens for a fixed time, is not thread-safe, and never drops a token that Amazon
refuses. Ours fetches once however many threads wait, honours ``expires_in``, drops a token after a 403,
and accepts two client secrets: Amazon keeps the old one valid for a while after a rotation, so an
application is refused only if every secret is.

Source: Login with Amazon, OAuth 2.0 refresh token grant; RFC 6749, sections 5 and 6.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from connectors.amazon.wire import error_code, json_object, message_of, send
from connectors.base import Clock
from connectors.errors import (
    ApplicationRefused,
    AuthorisationRevoked,
    ConnectorError,
    Garbled,
    RequestRefused,
    ServerFault,
    Throttled,
    Unreachable,
)

TOKEN_URL = "https://api.amazon.com/auth/o2/token"

_MARGIN = timedelta(seconds=60)
"""A token is not used in its last minute, so that it cannot expire in transit."""

_PAUSE = timedelta(seconds=60)
"""Wait after a 429 of LWA, which publishes no limits."""

_MAX_LIFETIME = 24 * 3600
"""Seconds. Amazon grants an hour; a longer lifetime is treated as missing."""

_OPERATION = "accessToken"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """One seller's authorisation: at least one client secret, the current one first."""

    lwa_client_id: str
    lwa_client_secrets: tuple[str, ...]
    refresh_token: str

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class AccessTokens:
    """The access token of one account, fetched when needed. Thread-safe."""

    def __init__(
        self,
        credentials: Credentials,
        token_url: str,
        http: httpx.Client,
        now: Clock,
        on_answer: Callable[[httpx.Response], None],
    ) -> None:
        if not credentials.lwa_client_secrets:
            raise ValueError("an account needs at least one LWA client secret")
        self._credentials = credentials
        self._secrets = credentials.lwa_client_secrets  # the one that last worked comes first
        self._token_url = token_url
        self._http = http
        self._now = now
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._token: str | None = None
        self._usable_until: datetime | None = None

    def get(self) -> str:
        """Return a token that is valid for at least a minute, unless Amazon grants less.

        Raises AuthorisationRevoked, ApplicationRefused, RequestRefused, Throttled, or a Retriable.
        """
        with self._lock:
            if self._token is None or not self.has_one():
                self._token, self._usable_until = self._fetch()
            return self._token

    def renew(self) -> None:
        """Fetch another token, whatever the present one is worth. Raises as ``get`` does."""
        with self._lock:
            self._token, self._usable_until = self._fetch()

    def has_one(self) -> bool:
        """Return True if ``get`` needs no request. Does not wait for a thread that fetches one."""
        usable_until = self._usable_until
        return self._token is not None and usable_until is not None and self._now() < usable_until

    def drop(self, token: str) -> None:
        """Fetch another token next time, because Amazon refused ``token``, unless it was replaced already."""
        with self._lock:
            if self._token == token:
                self._token = None

    def pass_over(self, token: str) -> None:
        """Drop a token whose client secret has expired, and try the other secrets before that one."""
        with self._lock:
            if self._token == token:
                self._token = None
                self._secrets = (*self._secrets[1:], self._secrets[0])

    def _fetch(self) -> tuple[str, datetime]:
        refused: ApplicationRefused | None = None
        for secret in self._secrets:
            sent_at = self._now()
            answer = self._post(secret)
            try:
                token, lifetime = granted(answer, sent_at)
            except ApplicationRefused as error:
                refused = error
                continue
            self._secrets = (secret, *(other for other in self._secrets if other != secret))
            return token, sent_at + lifetime - _MARGIN
        assert refused is not None  # there is at least one secret
        raise refused

    def _post(self, secret: str) -> httpx.Response:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._credentials.refresh_token,
            "client_id": self._credentials.lwa_client_id,
            "client_secret": secret,
        }
        answer = send(self._http, _OPERATION, "POST", self._token_url, data=form)
        self._on_answer(answer)
        return answer


def granted(answer: httpx.Response, sent_at: datetime) -> tuple[str, timedelta]:
    """Return (access token, lifetime) of a successful answer; raise the error of any other.

    A missing or malformed lifetime counts as zero: the token is used once and not kept.
    """
    body = json_object(answer.content) or {}
    if not answer.is_success:
        raise _refusal(answer, error_code(body.get("error")), sent_at)
    token, lifetime = body.get("access_token"), body.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise Garbled(message_of(answer, _OPERATION, "no usable access token"), answer.status_code)
    if not isinstance(lifetime, int) or not 0 < lifetime <= _MAX_LIFETIME:
        lifetime = 0
    return token, timedelta(seconds=lifetime)


def _refusal(answer: httpx.Response, code: str | None, sent_at: datetime) -> ConnectorError:
    status = answer.status_code
    message = message_of(answer, _OPERATION, code)
    if status >= 500 or code in ("server_error", "temporarily_unavailable"):
        return ServerFault(message, status, code)
    if code == "invalid_grant":
        return AuthorisationRevoked(message, status, code)
    if code in ("invalid_client", "unauthorized_client"):
        return ApplicationRefused(message, status, code)
    if status == 408:
        return Unreachable(message, status, code)
    if status == 429:
        return Throttled(message, sent_at + _PAUSE, status, code)
    if status < 400 or json_object(answer.content) is None:
        return Garbled(message, status, code)
    return RequestRefused(message, status, code)
