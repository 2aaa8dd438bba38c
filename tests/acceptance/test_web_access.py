"""Every route checks access, and buyer data needs its scope."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount

from poller.bootstrap import Service, utc_now
from poller.privacy.key_rotation import Rotation
from poller.web import access, middleware
from poller.web.access import PUBLIC
from poller.web.app import make_api, make_app
from poller.web.console import sessions
from poller.web.requests import RequestInfo
from store import queries, tables
from store.engine import Store, Tombstone, create_engine
from store.sealing import Sealer
from tests.acceptance.web_world import ALL, BAD, BUYERS, ORDERS, Served, form, logged, problem, said, served


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for all tests here: they change only tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "MAX_FAILURES", 10_000)  # these tests send many wrong tokens
        with served(tmp_path_factory.mktemp("web"), ORDER_SYNC_API_TOKEN="x" * 40) as place:
            yield place


def routes(place: Served) -> list[tuple[str, str]]:
    """Every route, with sample parameters; those missing from the description, too."""
    return [
        (method, re.sub(r"\{[\w:]+\}", "1", path))
        for path, methods in _walk(make_api(place.service).routes)
        for method in sorted(methods)
    ]


def _walk(routes: Sequence[BaseRoute], before: str = "") -> Iterator[tuple[str, Collection[str]]]:
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, Mount):
            yield from _walk(route.original_route.routes, before + route.original_route.path)
        else:
            assert route.path is not None, route
            assert route.methods, route
            yield before + route.path, route.methods


@pytest.mark.long
def test_the_walk_knows_all_routes(place: Served) -> None:
    described = make_api(place.service).openapi()["paths"]
    operations = sum(len(methods) for methods in described.values())
    walked = [route for route in routes(place) if route[0] != "HEAD" and route[1] != "/openapi.json"]
    pages = [path for _, path in walked if sessions.is_page(path)]
    assert len(walked) - len(pages) == operations > 25
    assert len(pages) > 30
    assert "/console/orders/1/1" in pages


def test_head_answers_wherever_get_does_without_a_body(place: Served) -> None:
    token, browser = place.client(*ALL), place.browser("head", *ALL)
    steady = ("content-type", "content-security-policy", "cache-control", "location", "x-frame-options")
    for method, path in routes(place):
        if method != "GET" or path in access.USED_UP_BY_GET:
            continue
        client = browser if sessions.is_page(path) else token
        head, get = client.head(path), client.get(path)
        assert head.status_code == get.status_code != 405, path
        assert head.content == b"", path
        for name in steady:
            assert head.headers.get(name) == get.headers.get(name), (path, name)
    for path in ("/", "/healthz", "/readyz"):
        head = place.client().head(path)
        assert (head.status_code, head.content) == (place.client().get(path).status_code, b"")


def test_head_uses_up_no_link(place: Served) -> None:
    for path in access.USED_UP_BY_GET:
        assert place.client().head(path).status_code == 405


@pytest.mark.long
def test_every_route_is_closed_without_a_token_and_with_a_wrong_one(place: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp4"}):
        client = place.client(**headers)
        for method, path in routes(place):
            answer = client.request(method, path)
            if sessions.is_page(path):
                assert_a_page_is_closed(method, path, answer)
            else:
                assert answer.status_code in ((200, 503) if path in PUBLIC else (401,)), (method, path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "server" not in answer.headers


def assert_a_page_is_closed(method: str, path: str, answer: httpx.Response) -> None:
    """A page redirects to sign-in, but only if a person opens it."""
    if path in access.USED_UP_BY_GET:
        assert answer.status_code == (404 if method == "GET" else 405), path
    elif path.startswith("/console/sign-in/oidc"):
        assert answer.status_code == (404 if method in ("GET", "HEAD") else 405), "no provider is set"
    elif access.OPEN_PAGES.fullmatch(path):
        assert answer.status_code == (200 if method in ("GET", "HEAD") else 415)
    elif method in ("GET", "HEAD"):
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].startswith(sessions.SIGN_IN)
        assert answer.content == b""
    else:
        assert answer.status_code == 401, (method, path)


@pytest.mark.long
def test_every_route_is_closed_without_its_scope(place: Served) -> None:
    tokens = {name: place.client(name) for name in ALL}
    browsers = {name: place.browser(f"only-{name}", name) for name in ALL}
    for method, path in routes(place):
        asked = RequestInfo(method, path, "", ())
        scope = access.required_scope(asked)
        if scope is None:
            continue
        page = sessions.is_page(path)
        for other in ("write" if scope == "read" else "read", "buyer-data"):
            client = (browsers if page else tokens)[other]
            answer = client.request(method, path, json={})
            if page:
                assert method == "HEAD" or f"lacks the scope {scope}" in answer.text, (method, path)
            elif method != "HEAD":
                problem(answer, 403, "scope")
            assert answer.status_code == 403, (method, path)


@pytest.mark.long
def test_every_route_is_closed_to_an_expired_token(place: Served) -> None:
    client = place.client(Authorization=f"Bearer {place.token('over', *ALL)}")
    with place.store.begin() as tx:
        over = sa.update(tables.api_tokens).where(tables.api_tokens.c.name == "over")
        tx.conn.execute(over.values(expires_at=tx.now))
    for method, path in routes(place):
        if not sessions.is_page(path) and path not in PUBLIC:
            answer = client.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert method == "HEAD" or "this token expired on" in answer.text


@pytest.mark.long
def test_every_page_but_its_own_is_closed_while_one_time_codes_are_missing(tmp_path: Path) -> None:
    own = {sessions.STEPS["totp"], "/console/sign-out"}
    with served(tmp_path, ORDER_SYNC_REQUIRE_TOTP="on") as strict:
        browser = strict.browser("ann", *ALL)
        for method, path in routes(strict):
            if not sessions.is_page(path) or access.OPEN_PAGES.fullmatch(path) or path in own:
                continue
            answer = browser.request(method, path)
            led = method in ("GET", "HEAD")
            assert answer.status_code == (303 if led else 403), (method, path)
            assert not led or answer.headers["location"] in own, (method, path)


def test_an_unknown_address_reveals_nothing_to_strangers(place: Served) -> None:
    problem(place.client().get("/nowhere"), 401, "token")
    problem(place.client("read", "write").get("/nowhere"), 404, "no-route")


def test_health_is_public_and_reveals_nothing(place: Served) -> None:
    assert place.client().get("/healthz").json() == {"status": "ok"}


def test_a_removed_token_is_refused_at_once(place: Served) -> None:
    made = place.shop("tokens", "add", "short-lived", "--scope", "read").out.strip()
    client = place.client(Authorization=f"Bearer {made}")
    assert client.get("/orders").status_code == 200
    place.shop("tokens", "remove", "short-lived")
    problem(client.get("/orders"), 401, "token")


# --- buyer data -------------------------------------------------------------------------------------


def reading(place: Served) -> list[str]:
    """Every address that shows records, with real IDs."""
    with place.store.read() as tx:
        customer_id = queries.list_customers(tx, limit=1)[0].customer_id
    return [
        "/orders",
        *(f"/orders/{order_id}" for order_id in ORDERS),
        f"/orders/{ORDERS[0]}/explanation",
        "/customers",
        f"/customers/{customer_id}",
        f"/customers/{customer_id}/journal",
        "/customers/duplicates",
        "/quarantine",
        f"/quarantine/acme/{BAD}",
        "/status",
        "/sources",
        "/sources/acme:EU",
        "/runs",
        "/backfills",
        "/verifications",
        "/openapi.json",
    ]


@pytest.mark.long
def test_buyers_are_masked_without_the_scope(place: Served) -> None:
    client = place.client("read", "write")
    with logged() as events:
        for path in reading(place):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert not [piece for piece in BUYERS if piece in answer.text], path
        customer_id = client.get("/customers").json()["items"][0]["customer_id"]
        other_id = client.get("/customers").json()["items"][1]["customer_id"]
        preview = client.post(f"/customers/{customer_id}/merge/preview", json={"other_id": other_id})
        assert preview.json()["emails"] == ["***", "***"]
        problem(client.post("/customers/search", json={"email": "a@example.com"}), 403, "scope")
    assert said(events) == []
    order = client.get(f"/orders/{ORDERS[0]}").json()
    assert (order["buyer_name"], order["purchase_order_number"]) == ("***", None)
    assert (order["delivery"]["line1"], order["delivery"]["country"]) == ("***", "GB")


HIDDEN = ("email_1", "name", "company", "phone")


def test_whose_an_address_is_cannot_be_learned_without_the_scope(place: Served) -> None:
    asking = [place.client("write"), place.client("write", "read")]
    kept, other = [item["customer_id"] for item in asking[1].get("/customers").json()["items"][:2]]
    known, unknown = "quentin-a@marketplace.amazon.co.uk", "no.customer@example.com"
    merge = f"/customers/{kept}/merge"
    tries: list[tuple[str, str, Any]] = [
        *(("POST", "/customers", {field: "{}"}) for field in HIDDEN),
        *(("PATCH", f"/customers/{kept}", {field: "{}"}) for field in HIDDEN),
        ("POST", "/customers", {"delivery": {"country": "GB", "line1": "{}"}}),
        ("PATCH", f"/customers/{kept}", {"billing": {"postal_code": "{}"}}),
        ("POST", "/customers", {"price_list": "Trade", "email_3": "{}"}),
        *(("POST", path, {"other_id": other, "keep_emails": ["{}"]}) for path in (merge, f"{merge}/preview")),
        ("POST", f"/customers/{kept}/unmerge", {"leave": ["{}"]}),
    ]
    for method, path, body in tries:
        for client in asking:
            answers = [
                client.request(
                    method,
                    path,
                    content=json.dumps(body).replace("{}", email),
                    headers={"Content-Type": "application/json", "If-Match": "*"},
                )
                for email in (known, unknown)
            ]
            if answers[0].json()["detail"].endswith("lacks the scope read."):
                continue  # a preview reads
            assert "lacks the scope buyer-data, which" in problem(answers[0], 403, "scope"), (method, path)
            assert answers[0].content == answers[1].content, (method, path)
    browser = place.browser("guessing", "read", "write")
    shown = browser.get(f"/console{merge}", params={"other": other}).text
    assert not [piece for piece in BUYERS if piece in shown]
    page = f"/console/customers/{kept}"
    for path, fields in (
        (f"{page}/merge/preview", {"other": str(other), "keep": "{}"}),
        (f"{page}/merge", {"other": str(other), "etag": "*", "chosen": "1", "keep": "{}"}),
        (f"{page}/unmerge", {"leave": "{}"}),
        ("/console/search", {"q": "{}"}),
    ):
        pages = [
            browser.post(path, data=form(browser, **{n: v.format(email) for n, v in fields.items()}))
            for email in (known, unknown)
        ]
        assert [p.text.replace(known, unknown) for p in pages] == [pages[1].text] * 2, path
        assert path.endswith("/search") or pages[0].status_code == 403, path


def test_what_no_buyer_gave_is_set_without_the_scope(place: Served) -> None:
    client = place.client("write", "read", Accept="application/json")
    path = f"/customers/{client.get('/customers').json()['items'][0]['customer_id']}"
    seen = client.get(path).headers["ETag"]
    edited = client.patch(path, json={"tax_code": "T1"}, headers={"If-Match": seen})
    assert edited.json()["changed"] == ["tax_code"]


def test_each_disclosure_is_logged_with_who_and_whose_and_without_the_data(place: Served) -> None:
    client = place.client("read", "buyer-data")
    with logged() as events:
        assert client.get(f"/orders/{ORDERS[0]}").json()["buyer_name"] == "Quentin a"
        newest = client.get("/customers", params={"limit": 1}).json()["items"][0]
        assert newest["name"].startswith("Quentin")
        assert "quantity" in client.get(f"/quarantine/acme/{BAD}").json()["payload"]
        matches = client.post(
            "/customers/search", json={"email": "quentin-b@marketplace.amazon.co.uk"}
        ).json()
        client.get("/runs")
        client.get("/quarantine")
    who = "token:read-buyer-data"
    assert said(events) == [
        {"who": who, "what": "orders", "ids": [ORDERS[0]]},
        {"who": who, "what": "customers", "ids": [newest["customer_id"]]},
        {"who": who, "what": "quarantine", "ids": [BAD]},
        {"who": who, "what": "customers", "ids": [matches["items"][0]["customer_id"]]},
    ]
    assert not [piece for piece in BUYERS if piece in json.dumps(events)]


# --- what anybody may send --------------------------------------------------------------------------


def test_a_large_body_is_refused_however_it_is_sent(place: Served) -> None:
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    problem(client.post("/customers", content=b" " * (middleware.LARGEST_BODY + 1)), 413, "too-large")

    def parts() -> Iterator[bytes]:
        for _ in range(middleware.LARGEST_BODY // 1000 + 1):
            yield b" " * 1000

    # The connection may be closed while the rest is still on its way.
    with suppress(httpx.TransportError):
        problem(client.post("/customers", content=parts()), 413, "too-large")


def test_a_slow_body_is_refused(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "SLOWEST_BODY", 0.05)
    host, port = place.url.removeprefix("http://").split(":")
    head = f"POST /customers HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {'x' * 40}\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 9\r\n\r\n{{".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_all_answers_have_security_headers(place: Served) -> None:
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    for answer in (
        client.get("/orders"),
        client.get("/nowhere"),
        client.put("/orders"),
        place.client().get("/"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_invalid_requests_name_the_place_and_never_quote_values(place: Served) -> None:
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    assert problem(client.put("/orders"), 405, "method")
    for sent in (b"Quentin", b'{"email_1": ["Quentin"]}', b'{"Quentin": 1}'):
        answer = client.post("/customers", content=sent, headers={"content-type": "application/json"})
        problem(answer, 422, "invalid")
        assert "input" not in answer.text
    assert answer.json()["errors"] == [{"where": "body.Quentin", "what": "is unknown"}]
    for sent in (b"[" * 100_000, b'{"name": ' + b"9" * 10_000 + b"}", b'{"name": "\xff"}'):
        answer = client.post("/customers", content=sent, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"
    problem(client.get("/orders", params={"limit": 0}), 422, "invalid")
    for cursor in ("x", "WyJhIl0", "bm9uc2Vuc2U", "\u00e9", "WyJhY21lIiwgIm5vbmUiXQ"):
        problem(client.get("/orders", params={"cursor": cursor}), 422, "cursor")
    problem(client.get("/orders/%00"), 400, "nul")
    problem(client.get("/orders?status=%00"), 400, "nul")


def test_an_unexpected_error_shows_no_traceback_and_logs_no_text(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Quentin's e-mail")

    monkeypatch.setattr("poller.web.quarantine.quarantine.entries", broken)
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    with logged() as events:
        said = problem(client.get("/quarantine"), 500, "fault")
    (event,) = events
    assert (
        said
        == f"unexpected error: the log has more about request {event['request']}; report it with that line."
    )
    assert (event["event"], event["error"]) == ("request broke", "RuntimeError")
    assert "Quentin" not in json.dumps(events)


def test_a_process_without_the_key_of_the_database_is_not_ready_and_changes_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as place:
        client = place.client(*ALL)
        (customer,) = client.get("/customers", params={"limit": 1}).json()["items"]
        old = base64.b64decode(place.shop.environ["ORDER_SYNC_ENCRYPTION_KEY"])
        url = place.shop.environ["ORDER_SYNC_DATABASE_URL"]
        rotating = Store(create_engine(url), Sealer([bytes(32), old]))
        assert Rotation(rotating).run() == 0
        rotating.close()
        requests = (
            client.post("/customers", json={"name": "Ann"}),
            client.get(f"/customers/{customer['customer_id']}"),
        )
        for answer in requests:
            assert "add that key to ORDER_SYNC_ENCRYPTION_KEY" in problem(answer, 503, "key")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert [reason["why"] for reason in ready.json()["reasons"]] == ["keys"]


def test_a_connection_without_http_is_refused(place: Served) -> None:
    host, port = place.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        assert b" 400 " in connection.recv(1000)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sa.exc.OperationalError("SELECT", {}, Exception("Connection refused")), "database"),
        (sa.exc.TimeoutError("all connections are in use"), "database"),
        (sa.exc.IntegrityError("INSERT", {}, Exception("Quentin")), "busy"),
        (Tombstone(), "busy"),
    ],
)
def test_a_database_problem_is_named(
    place: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("poller.web.quarantine.quarantine.entries", broken)
    client = place.client(Authorization=f"Bearer {'x' * 40}")
    answer = client.get("/quarantine")
    problem(answer, 503, kind)
    assert answer.headers["Retry-After"]
    if kind == "database":
        monkeypatch.setattr("poller.web.middleware.tokens.load", broken)
        problem(client.get("/quarantine"), 503, "database")
        assert client.get("/healthz").status_code == 200


def test_requests_before_the_database_is_open_are_deferred() -> None:
    with Service({}) as service:
        answer = ask_from(service, "127.0.0.1", "/orders")
        problem(answer, 503, "starting")
        assert answer.headers["Retry-After"] == "5"
        assert ask_from(service, "127.0.0.1", "/healthz").status_code == 200


def ask_from(service: Service, client: str, path: str, **headers: str) -> httpx.Response:
    """Send a request to the same application from another machine."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(service, utc_now), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
            return await asking.get(path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.long
def test_without_any_credentials_this_machine_sees_health_and_the_sign_in_page_alone(tmp_path: Path) -> None:
    with served(tmp_path) as place:
        client = place.client()
        for method, path in routes(place):
            if sessions.is_page(path):
                assert_a_page_is_closed(method, path, client.request(method, path))
            elif path not in PUBLIC:
                assert client.request(method, path).status_code == 401, (method, path)
