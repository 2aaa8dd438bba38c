"""Access over HTTP, decided from a request alone: tokens, scopes, origins, cookies, locking."""

from __future__ import annotations

from datetime import timedelta

import pytest

from config import values
from poller.errors import Refused
from poller.web.access import (
    LOCK_TIME,
    MAX_ADDRESSES,
    MAX_FAILURES,
    Authenticator,
    required_scope,
)
from poller.web.problems import Problem
from poller.web.requests import (
    Front,
    RequestInfo,
    client_of,
    cookie,
    cookie_values,
    is_of_other_page,
    is_secure,
)
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


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "192.168.1.5", "", "unix"])
def test_without_a_token_no_one_is_served_wherever_they_are(
    without_tokens: Authenticator, authenticator: Authenticator, client: str
) -> None:
    for asking in (without_tokens, authenticator):
        problem = refused(asking, asked(client=client))
        assert (problem.status, problem.headers["WWW-Authenticate"]) == (401, "Bearer")


# --- what a request says about itself ---------------------------------------------------------------

PUBLIC = Front("https://orders.example")


@pytest.mark.parametrize(
    ("host", "front", "secure"),
    [
        ("127.0.0.1:8000", Front(), False),
        ("localhost", Front(), False),
        ("[::1]:8000", Front(), False),
        ("orders.example", Front(), True),
        ("127.0.0.1.evil.example", Front(), True),
        ("", Front(), True),
        ("127.0.0.1:8000", PUBLIC, True),
        ("orders.example", Front("http://localhost:8000"), False),
    ],
)
def test_only_a_browser_on_this_machine_needs_no_tls(host: str, front: Front, secure: bool) -> None:
    assert is_secure(asked(("host", host)), front) is secure


@pytest.mark.parametrize(
    ("headers", "front", "other"),
    [
        ([HOST], Front(), False),
        ([HOST, ("origin", "http://127.0.0.1:8000")], Front(), False),
        ([HOST, ("origin", "http://127.0.0.1:8000"), ("sec-fetch-site", "same-origin")], Front(), False),
        ([HOST, ("sec-fetch-site", "none")], Front(), False),
        ([HOST, ("origin", "http://127.0.0.1:9999")], Front(), True),
        ([HOST, ("origin", "http://127.0.0.1")], Front(), True),
        ([HOST, ("origin", "http://localhost:8000")], Front(), True),
        ([HOST, ("origin", "null")], Front(), True),
        ([HOST, ("origin", "https://evil.example")], Front(), True),
        ([HOST, ("sec-fetch-site", "same-site")], Front(), True),
        ([HOST, ("sec-fetch-site", "cross-site")], Front(), True),
        ([HOST, ("origin", "http://127.0.0.1:8000"), ("sec-fetch-site", "same-site")], Front(), True),
        ([HOST, ("origin", "https://orders.example")], Front(), True),
        ([HOST, ("origin", "https://orders.example")], PUBLIC, False),
        ([HOST, ("origin", "https://orders.example:444")], PUBLIC, True),
        ([HOST, ("origin", "http://orders.example")], PUBLIC, True),
        ([HOST, ("origin", "http://127.0.0.1:8000")], PUBLIC, False),
        ([("origin", "http://")], Front(), True),
        ([HOST, HOST, ("origin", "http://127.0.0.1:8000")], Front(), True),
    ],
)
def test_a_change_comes_from_a_page_of_ours(
    headers: list[tuple[str, str]], front: Front, other: bool
) -> None:
    assert is_of_other_page(RequestInfo("POST", "/console/x", "127.0.0.1", headers), front) is other


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", ["10.9.9.9"], "192.0.2.7"),  # it is no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["1.2.3.4, 192.0.2.7"], "192.0.2.7"),  # 1.2.3.4 is what the client claims
        ("10.0.0.1", ["1.2.3.4", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["1.2.3.4, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["192.0.2.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["2001:DB8::1"], "2001:db8::1"),
        ("", ["192.0.2.7"], ""),
    ],
)
def test_the_client_is_whom_our_proxies_name(peer: str, forwarded: list[str], client: str) -> None:
    proxies = values.networks("10.0.0.0/24")
    assert client_of(peer, [("x-forwarded-for", text) for text in forwarded], proxies) == client


VALUE = "v" * 43


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([f"ours={VALUE}"], VALUE),
        ([f' theirs={{"a":1}}; ours={VALUE} ; a[b]=1; caf\u00e9=1; "unclosed'], VALUE),
        ([f"ours={VALUE}; ours={VALUE}x"], None),
        ([f"ours={VALUE}", f"ours={VALUE}"], None),
        ([f'ours={VALUE}; ours={{"'], None),
        (['ours={"'], None),
        ([f'ours="{VALUE}"'], None),
        (["ours=short"], None),
        ([f"Ours={VALUE}; xours={VALUE}"], None),
        ([], None),
    ],
)
def test_one_cookie_of_ours_is_read_whatever_other_pages_have_set(
    headers: list[str], value: str | None
) -> None:
    request = asked(*(("cookie", text) for text in headers), HOST)
    assert cookie(request, "ours") == value
    assert (len(cookie_values(request, "ours")) > 1) is (
        "; ours=" in "; ".join(headers)[3:] and value is None
    )


# --- tokens -----------------------------------------------------------------------------------------


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
