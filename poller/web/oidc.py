"""Signing in at a provider of OpenID Connect: authorisation code with PKCE, state and nonce.

All three are derived from a secret that only the browser keeps, so nothing is stored between leaving and
coming back. Needs the extra ``oidc``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from config.values import service_url

SCOPE = "openid profile email"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a key pair: none that the client's own secret could make."""

TIMEOUT = 10.0
LEEWAY_SECONDS = 60
METADATA_KEPT_SECONDS = 3600.0
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class OidcFailed(Exception):
    """The provider did not name a user. The message is a sentence without secrets."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The provider, and this program as its client. ``user_claim``: the claim that names the user."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    user_claim: str
    redirect_url: str


class OidcProvider:
    """A provider; its metadata is kept for an hour. Thread-safe."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] | None = None

    def address(self, secret: str, target: str) -> str:
        """Return the provider's address to send a browser to. Raises OidcFailed.

        ``secret``: what the browser keeps. ``target``: the page to show after signing in.
        """
        url: str = prepare_grant_uri(
            self._known()["authorization_endpoint"],
            client_id=self._settings.client_id,
            response_type="code",
            redirect_uri=self._settings.redirect_url,
            scope=SCOPE,
            state=state_of(secret, target),
            nonce=_derived("nonce", secret),
            code_challenge=create_s256_code_challenge(_derived("verifier", secret)),
            code_challenge_method="S256",
        )
        return url

    def user_of(self, secret: str, code: str) -> str:
        """Return the name of the user whom the provider's code stands for. Raises OidcFailed."""
        known = self._known()
        try:
            token = self._exchange(known, code, _derived("verifier", secret))
            keys: Any = self._get(known["jwks_uri"])
            decoded = jwt.decode(
                str(token["id_token"]), jwk.KeySet.import_key_set(keys), algorithms=list(ALGORITHMS)
            )
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": known["issuer"]},
                aud={"essential": True, "value": self._settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": _derived("nonce", secret)},
            ).validate(decoded.claims)
        except (JoseError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise OidcFailed(
                f"the provider's answer is not valid ({type(error).__name__}): sign in again."
            ) from None
        return self._name(decoded.claims)

    def _name(self, claims: dict[str, Any]) -> str:
        wanted = self._settings
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != wanted.client_id:
            raise OidcFailed("the provider's answer is meant for another application.")
        name = claims.get(wanted.user_claim)
        if not isinstance(name, str) or not name:
            raise OidcFailed(f"the provider sent no claim {wanted.user_claim}: ORDER_SYNC_OIDC_USER_CLAIM.")
        if not name.isascii():  # lower() turns some other letters into ASCII ones
            raise OidcFailed("the provider named a user with letters that no name has here.")
        if wanted.user_claim == "email" and claims.get("email_verified") is not True:
            raise OidcFailed("the provider has not verified this e-mail address.")
        return name.lower()

    def _exchange(self, known: dict[str, Any], code: str, verifier: str) -> dict[str, Any]:
        wanted = self._settings
        methods = known.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        request = prepare_token_request(
            "authorization_code", redirect_uri=wanted.redirect_url, code=code, code_verifier=verifier
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        url, headers, body = ClientAuth(wanted.client_id, wanted.client_secret, method).prepare(
            "POST", known["token_endpoint"], headers, request
        )
        return _object_of(httpx.post(url, headers=headers, content=body, timeout=TIMEOUT))

    def _known(self) -> dict[str, Any]:
        """Return the provider's metadata. Raises OidcFailed."""
        with self._lock:
            kept = self._metadata
            if kept is not None and self._clock() - kept[0] < METADATA_KEPT_SECONDS:
                return kept[1]
            try:
                metadata = self._get(f"{self._settings.issuer}/.well-known/openid-configuration")
                if str(metadata["issuer"]).rstrip("/") != self._settings.issuer:
                    raise OidcFailed("the provider calls itself otherwise than ORDER_SYNC_OIDC_ISSUER.")
                for name in ENDPOINTS:
                    service_url(metadata[name].partition("?")[0])
            except (httpx.HTTPError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise OidcFailed(
                    f"the provider cannot be reached or used ({type(error).__name__})."
                ) from None
            self._metadata = self._clock(), metadata
            return metadata

    def _get(self, url: str) -> dict[str, Any]:
        return _object_of(httpx.get(url, timeout=TIMEOUT))


def _object_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of a successful answer; redirects are not followed."""
    if not answer.is_success:
        raise ValueError(f"status {answer.status_code}")
    body = answer.json()
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return body


def state_of(secret: str, target: str) -> str:
    """Return the state: the page to show afterwards, with a proof that this browser left for it."""
    encoded = base64.urlsafe_b64encode(target.encode()).decode()
    return f"{_derived('state', f'{secret} {target}')}.{encoded}"


def target_of(secret: str, state: str) -> str:
    """Return the page to show afterwards. Raises OidcFailed if this browser did not leave with this state."""
    try:
        target = base64.urlsafe_b64decode(state.partition(".")[2].encode()).decode()
    except ValueError:
        target = ""
    if not hmac.compare_digest(state_of(secret, target).encode(), state.encode()):
        raise OidcFailed("this sign-in was not begun in this browser: begin again.")
    return target


def _derived(kind: str, secret: str) -> str:
    return hashlib.sha256(f"oidc {kind}\0{secret}".encode()).hexdigest()
