"""Behind a real nginx, as people configure it first and as the documentation says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from poller.web.console import sessions
from tests.acceptance.test_web_access import assert_a_page_is_closed, routes
from tests.acceptance.web_world import ALL, ORDERS, Served, form, served
from tests.proxy import free_port, nginx

pytestmark = pytest.mark.long

PUBLIC = {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {
        "ORDER_SYNC_PUBLIC_URL": "https://orders.example",
        "ORDER_SYNC_TRUSTED_PROXIES": "127.0.0.1",
    }
    with served(tmp_path_factory.mktemp("web"), **settings) as place:
        yield place


def address(place: Served) -> str:
    """The address that the service itself listens on."""
    return place.url.removeprefix("http://")


def test_the_default_proxy_pass_opens_nothing(place: Served, tmp_path: Path) -> None:
    port = free_port()
    lines = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{address(place)}; }} }}"
    with (
        nginx(tmp_path, lines),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": "orders.example"}) as stranger,
    ):
        for method, path in routes(place):
            answer = stranger.request(method, path)
            if sessions.is_page(path):
                assert_a_page_is_closed(method, path, answer)
            elif path not in PUBLIC:
                assert answer.status_code == 401, (method, path)
        made = stranger.post("/customers", json={"name": "Made By Stranger"})
        assert made.status_code == 401


def test_the_documented_lines_carry_host_and_client(place: Served, tmp_path: Path) -> None:
    port = free_port()
    lines = f"""server {{ listen 127.0.0.1:{port}; location / {{
        proxy_pass http://{address(place)};
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
    }} }}"""
    browser = place.browser("ann", *ALL)
    cookies = {f"__Host-{name}": value for name, value in browser.cookies.items()}
    headers = {"Host": "orders.example", "Origin": "https://orders.example", "Sec-Fetch-Site": "same-origin"}
    with (
        nginx(tmp_path, lines),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, cookies=cookies) as client,
    ):
        assert "Overview" in client.get("/console/").text
        answer = client.post("/console/search", data=form(client, q=ORDERS[0]))
        assert answer.headers["location"] == f"/console/orders/acme/{ORDERS[0]}"
        elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        refused = client.post("/console/search", data=form(client, q=ORDERS[0]), headers=elsewhere)
        assert refused.status_code == 403
        assert "A page of another site sent this request" in refused.text
