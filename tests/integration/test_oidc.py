"""Signing in at a provider of OpenID Connect, a real one in a process of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from poller.web.oidc import OidcFailed, OidcProvider, OidcSettings, state_of, target_of

SECRET = "s" * 32
CALLBACK = "http://127.0.0.1:8000/console/sign-in/oidc/callback"
PEOPLE = (
    {"sub": "1", "preferred_username": "Ann", "email": "ann@example.com", "email_verified": True},
    {"sub": "2", "email": "bob@example.com", "email_verified": False},
)


@contextmanager
def provider_running() -> Iterator[str]:
    """Run a provider that knows two people. Yield its issuer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    claims = [part for person in PEOPLE for part in ("--user-claims", json.dumps(person))]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    process = subprocess.Popen([*command, *claims], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        issuer = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=9)) as client:
            assert client.get(f"{issuer}/.well-known/openid-configuration").status_code == 200
        yield issuer
    finally:
        process.terminate()
        process.wait(20)


def consent(address: str, person: str) -> dict[str, str]:
    """Let a person agree at the provider. Return what the browser brings back."""
    answer = httpx.post(address, data={"sub": person})
    assert answer.status_code == 302, answer.text
    back = answer.headers["location"]
    assert back.startswith(CALLBACK)
    return {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider_running() as issuer:
        yield issuer


@pytest.fixture
def settings(issuer: str) -> OidcSettings:
    return OidcSettings(issuer, "order-sync", "client-secret", "preferred_username", CALLBACK)


def test_the_provider_names_the_user(settings: OidcSettings) -> None:
    provider = OidcProvider(settings)
    address = provider.address(SECRET, "/console/orders")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == CALLBACK
    assert SECRET not in address
    back = consent(address, "1")
    assert target_of(SECRET, back["state"]) == "/console/orders"
    assert provider.user_of(SECRET, back["code"]) == "ann"
    with pytest.raises(OidcFailed, match="not valid"):
        provider.user_of(SECRET, back["code"])  # a code is good for once


def test_a_code_of_another_browser_is_refused(settings: OidcSettings) -> None:
    provider = OidcProvider(settings)
    back = consent(provider.address(SECRET, ""), "1")
    with pytest.raises(OidcFailed, match="not valid"):
        provider.user_of("t" * 32, back["code"])
    with pytest.raises(OidcFailed, match="not begun in this browser"):
        target_of("t" * 32, back["state"])


@pytest.mark.parametrize("state", ["", ".", "x", state_of(SECRET, "/a").replace(".", ".x"), "é.é"])
def test_a_state_that_was_changed_is_refused(state: str) -> None:
    with pytest.raises(OidcFailed, match="not begun"):
        target_of(SECRET, state)


def test_a_token_for_another_client_or_nonce_is_refused(settings: OidcSettings) -> None:
    provider, other = OidcProvider(settings), OidcProvider(replace(settings, client_id="another"))
    back = consent(other.address(SECRET, ""), "1")
    with pytest.raises(OidcFailed, match="not valid"):
        provider.user_of(SECRET, back["code"])
    address = provider.address(SECRET, "").replace("nonce=", "nonce=0")
    with pytest.raises(OidcFailed, match="not valid"):
        provider.user_of(SECRET, consent(address, "1")["code"])


def test_an_address_names_a_user_only_if_it_is_verified(settings: OidcSettings) -> None:
    provider = OidcProvider(replace(settings, user_claim="email"))
    assert provider.user_of(SECRET, consent(provider.address(SECRET, ""), "1")["code"]) == "ann@example.com"
    with pytest.raises(OidcFailed, match="not verified"):
        provider.user_of(SECRET, consent(provider.address(SECRET, ""), "2")["code"])
    named = OidcProvider(settings)
    with pytest.raises(OidcFailed, match="no claim preferred_username"):
        named.user_of(SECRET, consent(named.address(SECRET, ""), "2")["code"])


def test_a_provider_that_is_away_or_another_one_is_one_sentence(settings: OidcSettings) -> None:
    away = OidcProvider(replace(settings, issuer="http://127.0.0.1:1"))
    with pytest.raises(OidcFailed, match="cannot be reached"):
        away.address(SECRET, "")
    other = OidcProvider(replace(settings, issuer=settings.issuer.replace("127.0.0.1", "localhost")))
    assert other.address(SECRET, "").startswith("http://localhost")
    with pytest.raises(OidcFailed, match="cannot be reached or used"):
        OidcProvider(replace(settings, issuer=f"{settings.issuer}/nothing")).address(SECRET, "")


@pytest.mark.parametrize("name", ["\u212aate", "j\u00f6rg"])
def test_a_name_with_other_letters_names_no_user(settings: OidcSettings, name: str) -> None:
    """The Kelvin sign in lower case is a k."""
    provider = OidcProvider(settings)
    with pytest.raises(OidcFailed, match="letters"):
        provider._name({"aud": settings.client_id, settings.user_claim: name})
    assert provider._name({"aud": settings.client_id, settings.user_claim: "Kate"}) == "kate"
