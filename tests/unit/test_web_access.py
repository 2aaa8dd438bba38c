"""Access over HTTP, decided from a request alone: tokens, scopes, this machine, locking."""

from __future__ import annotations

from datetime import timedelta

import pytest

from poller.errors import Refused
from poller.web.access import (
    LOCK_TIME,
    MAX_ADDRESSES,
    MAX_FAILURES,
    Authenticator,
    RequestInfo,
    required_scope,
)
from poller.web.problems import Problem
from poller.web.tokens import SCOPES, checked_name, checked_scopes, digest, new_token
from store.tokens import StoredToken
from tests.harness import NOON, SimulatedClock

HOST = ("host", "127.0.0.1:8000")
SECRET = "s" * 40
READER = StoredToken("reader", ("read",), digest("r" * 40), NOON)


def asked(
    *headers: tuple[str, str], method: str = "GET", path: str = "/orders", client: str = "127.0.0.1"
) -> RequestInfo:
    return RequestInfo(method, path, client, headers or (HOST,))


def bearer(token: str, **more: str) -> RequestInfo:
    return asked(HOST, ("authorization", f"Bearer {token}"), **more)


def refused(authenticator: Authenticator, request: RequestInfo, *stored: StoredToken) -> Problem:
    with pytest.raises(Problem) as caught:
        authenticator.authenticate(request, stored)
    return caught.value


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture
def without_tokens(clock: SimulatedClock) -> Authenticator:
    """No token exists."""
    return Authenticator(None, clock)


@pytest.fixture
def authenticator(clock: SimulatedClock) -> Authenticator:
    """The settings have a token."""
    return Authenticator(SECRET, clock)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.0.0.1"])
def test_without_a_token_this_machine_may_do_everything(
    without_tokens: Authenticator, client: str, host: str
) -> None:
    caller = without_tokens.authenticate(asked(("host", host), client=client, method="DELETE"), ())
    assert (caller.who, caller.scopes) == ("loopback", frozenset(SCOPES))


@pytest.mark.parametrize("client", ["192.168.1.5", "2001:db8::1", "", "unix"])
def test_without_a_token_no_other_machine_is_served(without_tokens: Authenticator, client: str) -> None:
    assert refused(without_tokens, asked(client=client)).status == 403


@pytest.mark.parametrize(
    "header",
    [
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-anything", ""),
        ("via", "1.1 proxy"),
        ("x-real-ip", "127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:9999"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "localhost"),
    ],
)
def test_without_a_token_what_a_proxy_or_a_page_asks_is_refused(
    without_tokens: Authenticator, header: tuple[str, str]
) -> None:
    assert refused(without_tokens, asked(HOST, header)).kind == "not-here"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]:8000"])
def test_without_a_token_a_foreign_host_is_refused(without_tokens: Authenticator, host: str) -> None:
    assert refused(without_tokens, asked(("host", host))).kind == "not-here"
    assert refused(without_tokens, asked(("accept", "*/*"))).kind == "not-here"


def test_a_page_of_its_own_origin_is_this_machine(without_tokens: Authenticator) -> None:
    own = asked(HOST, ("origin", "http://127.0.0.1:8000"), ("sec-fetch-site", "same-origin"))
    assert without_tokens.authenticate(own, ()).who == "loopback"


def test_once_there_is_a_token_this_machine_needs_one_too(
    authenticator: Authenticator, without_tokens: Authenticator
) -> None:
    assert refused(authenticator, asked()).status == 401
    problem = refused(without_tokens, asked(), READER)
    assert (problem.status, problem.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_tokens_are_named_and_have_their_scopes(authenticator: Authenticator) -> None:
    own = authenticator.authenticate(bearer(SECRET, client="192.168.1.5"), [READER])
    assert (own.who, own.scopes, own.sees_buyers) == ("setting:api_token", frozenset(SCOPES), True)
    reader = authenticator.authenticate(bearer("r" * 40), [READER])
    assert (reader.who, reader.scopes, reader.sees_buyers) == ("token:reader", frozenset({"read"}), False)
    assert refused(authenticator, bearer("r" * 40, method="POST"), READER).status == 403


@pytest.mark.parametrize(
    "value", ["", "Bearer", f"Basic {SECRET}", SECRET, f"Bearer {SECRET[:-1]}", f"Bearer {SECRET}s"]
)
def test_anything_but_a_token_is_refused(authenticator: Authenticator, value: str) -> None:
    problem = refused(authenticator, asked(HOST, ("authorization", value)))
    assert problem.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_two_tokens_in_one_request_are_refused(authenticator: Authenticator) -> None:
    both = asked(HOST, ("authorization", f"Bearer {SECRET}"), ("authorization", f"Bearer {SECRET}"))
    assert refused(authenticator, both).status == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/healthz", None),
        ("POST", "/healthz", "write"),
        ("GET", "/orders", "read"),
        ("HEAD", "/nowhere", "read"),
        ("OPTIONS", "/customers", "read"),
        ("PATCH", "/customers/1", "write"),
        ("DELETE", "/orders", "write"),
        ("TRACE", "/orders", "write"),
        ("POST", "/customers/search", "read"),
        ("POST", "/customers/12/merge/preview", "read"),
        ("POST", "/backfills/plan", "read"),
        ("POST", "/customers/12/merge", "write"),
        ("POST", "/orders/plan/fetch", "write"),
        ("POST", "/backfills/plan/pause", "write"),
        ("POST", "/customers/search/", "write"),
        ("GET", "/healthz/", "read"),
        ("GET", "//healthz", "read"),
    ],
)
def test_changes_need_write_whatever_their_route(method: str, path: str, scope: str | None) -> None:
    assert required_scope(asked(method=method, path=path)) == scope


def test_after_ten_wrong_tokens_an_address_must_wait_unless_it_sends_the_right_one(
    authenticator: Authenticator, clock: SimulatedClock
) -> None:
    for _ in range(MAX_FAILURES):
        assert refused(authenticator, bearer("wrong")).status == 401
        clock.sleep(5)
    locked = refused(authenticator, bearer("wrong"))
    assert (locked.status, locked.headers["Retry-After"]) == (429, "55")
    assert refused(authenticator, bearer("wrong", client="192.168.1.5")).status == 401
    assert (
        authenticator.authenticate(bearer(SECRET), ()).who == "setting:api_token"
    )  # all callers may come through one proxy
    assert refused(authenticator, asked()).status == 401  # a request without a token guesses none
    clock.sleep(LOCK_TIME.total_seconds())
    assert refused(authenticator, bearer("wrong")).status == 401


def test_occasional_wrong_tokens_lock_no_address(authenticator: Authenticator, clock: SimulatedClock) -> None:
    for _ in range(3 * MAX_FAILURES):
        assert refused(authenticator, bearer("wrong")).status == 401
        clock.sleep(timedelta(seconds=7).total_seconds())


def test_counting_failures_needs_little_memory(authenticator: Authenticator) -> None:
    for number in range(MAX_ADDRESSES + 10):
        refused(authenticator, bearer("wrong", client=f"host {number}"))
    assert len(authenticator._failures) == MAX_ADDRESSES


def test_tokens_cannot_be_guessed_and_only_their_hash_is_kept() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(len(token) > 40 and token not in digest(token).hex() for token in made)


@pytest.mark.parametrize("name", ["", "Erp", "-x", "a b", "x" * 65, "\u00e9"])
def test_a_name_that_would_confuse_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="a token's name is made of"):
        checked_name(name)


def test_scopes_are_known_words() -> None:
    assert checked_scopes(["buyer-data", "read"]) == ("read", "buyer-data")
    with pytest.raises(Refused, match="there is no scope all: there are read, write, buyer-data"):
        checked_scopes(["all"])
