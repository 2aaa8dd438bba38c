"""Access tokens from Login with Amazon (LWA): one provider per account, in place of the library's.

The library keeps ten tokens for a fixed time in a cache that threads can break, and never drops one
that Amazon refuses. Ours asks once however many threads wait, believes ``expires_in``, is told
about a 403, and accepts two client secrets: Amazon keeps the old one alive for a while after a
rotation, so a secret is only wrong when every one of them is.

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
"""A token is not used in its last minute, so that it cannot expire on the way."""

_PAUSE = timedelta(seconds=60)
"""After a 429 of LWA, which publishes no limits."""

_LONGEST_LIFETIME = 24 * 3600
"""Seconds. Amazon grants an hour; an absurd number is treated like none."""

_OPERATION = "accessToken"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What one seller's authorisation consists of. At least one secret, the current one first."""

    lwa_client_id: str
    lwa_client_secrets: tuple[str, ...]
    refresh_token: str

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class AccessTokens:
    """The access token of one account, fetched when needed. Safe to share between threads."""

    def __init__(
        self,
        credentials: Credentials,
        token_url: str,
        http: httpx.Client,
        now: Clock,
        heard: Callable[[httpx.Response], None],
    ) -> None:
        if not credentials.lwa_client_secrets:
            raise ValueError("an account needs at least one LWA client secret")
        self._credentials = credentials
        self._secrets = credentials.lwa_client_secrets  # the one that worked last comes first
        self._token_url = token_url
        self._http = http
        self._now = now
        self._heard = heard
        self._lock = threading.Lock()
        self._token: str | None = None
        self._usable_until: datetime | None = None

    def get(self) -> str:
        """A token that is good for at least a minute, unless Amazon grants less.

        Raises AuthorisationRevoked, ApplicationRefused, RequestRefused, Throttled, or a Retriable.
        """
        with self._lock:
            if self._token is None or not self.has_one():
                self._token, self._usable_until = self._fetch()
            return self._token

    def has_one(self) -> bool:
        """Whether ``get`` need not ask; waits for nobody who does."""
        usable_until = self._usable_until
        return self._token is not None and usable_until is not None and self._now() < usable_until

    def drop(self, token: str) -> None:
        """Amazon refused ``token``: fetch another next time, unless that has happened already."""
        with self._lock:
            if self._token == token:
                self._token = None

    def _fetch(self) -> tuple[str, datetime]:
        refused: ApplicationRefused | None = None
        for secret in self._secrets:
            asked_at = self._now()
            answer = self._ask(secret)
            try:
                token, lifetime = granted(answer, asked_at)
            except ApplicationRefused as error:
                refused = error
                continue
            self._secrets = (secret, *(other for other in self._secrets if other != secret))
            return token, asked_at + lifetime - _MARGIN
        assert refused is not None  # there is at least one secret
        raise refused

    def _ask(self, secret: str) -> httpx.Response:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._credentials.refresh_token,
            "client_id": self._credentials.lwa_client_id,
            "client_secret": secret,
        }
        answer = send(self._http, _OPERATION, "POST", self._token_url, data=form)
        self._heard(answer)
        return answer


def granted(answer: httpx.Response, asked_at: datetime) -> tuple[str, timedelta]:
    """(access token, lifetime) of a good answer; raises what any other answer stands for.

    A lifetime that is missing or no number counts as zero: the token serves once and is not kept.
    """
    body = json_object(answer.content) or {}
    if not answer.is_success:
        raise _refusal(answer, error_code(body.get("error")), asked_at)
    token, lifetime = body.get("access_token"), body.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise Garbled(message_of(answer, _OPERATION, "no usable access token"), answer.status_code)
    if not isinstance(lifetime, int) or not 0 < lifetime <= _LONGEST_LIFETIME:
        lifetime = 0
    return token, timedelta(seconds=lifetime)


def _refusal(answer: httpx.Response, code: str | None, asked_at: datetime) -> ConnectorError:
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
        return Throttled(message, asked_at + _PAUSE, status, code)
    if status < 400 or json_object(answer.content) is None:
        return Garbled(message, status, code)
    return RequestRefused(message, status, code)
