"""The first credentials: one token in a file, and one link that signs in once."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from connectors.simulator.world import Seller, World
from poller.bootstrap import Service
from poller.web import first_access
from store import tables, tokens, users
from tests.acceptance.command_line import STARTED, Shop, open_shop
from tests.acceptance.test_cli_service import FIRST, next_event, running, stops
from tests.acceptance.web_world import Served, entered, logged, served

URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("first")) as place:
        yield place


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> None:
    """Remove what an earlier test made."""
    if "place" in request.fixturenames:
        place: Served = request.getfixturevalue("place")
        with place.store.begin() as tx:
            for table in (tables.console_users, tables.api_tokens):
                tx.conn.execute(sa.delete(table))


def started(service: Service) -> list[dict[str, Any]]:
    with logged() as events:
        first_access.prepare(service, URL)
    return [event for event in events if event["log_level"] == "warning"]


def path_of(event: dict[str, Any]) -> str:
    return str(event["sign_in"]).removeprefix(URL)


def test_the_first_start_makes_a_token_that_only_this_user_can_read(place: Served) -> None:
    (event,) = started(place.service)
    file = Path(str(event["api"]).removeprefix("a token is in "))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert token not in json.dumps(event)
    client = place.client(Authorization=f"Bearer {token}")
    assert client.get("/orders").json()["items"][0]["buyer_name"] == "Quentin a"
    assert client.post("/customers", json={"name": "Zoe Invented"}).status_code == 201
    assert started(place.service) != []  # its link was not used yet
    assert file.read_text().strip() == token, "the token of before is still the one in force"
    assert place.client().get("/orders").status_code == 401


def test_the_link_of_the_first_start_signs_in_once(place: Served) -> None:
    (event,) = started(place.service)
    browser = place.client()
    answer = entered(browser, path_of(event))
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
    assert "Overview" in browser.get("/console/").text
    other = place.client()
    again = entered(other, path_of(event))
    assert again.status_code == 403
    assert "order-sync users link" in again.text
    assert other.get("/console/").status_code == 303
    assert started(place.service) == [], "someone can sign in, so nothing is said"


def test_each_start_makes_another_link_until_one_is_used(place: Served) -> None:
    (first,) = started(place.service)
    (second,) = started(place.service)
    assert entered(place.client(), path_of(first)).status_code == 403
    assert entered(place.client(), path_of(second)).status_code == 303


def test_looking_at_a_link_uses_nothing_up(place: Served) -> None:
    (event,) = started(place.service)
    for _ in range(2):
        shown = place.client().get(path_of(event))
        assert shown.status_code == 200
        assert "set-cookie" not in shown.headers or "order_sync_session" not in shown.headers["set-cookie"]
    assert entered(place.client(), path_of(event)).status_code == 303


def test_no_link_is_logged_for_an_owner_who_has_a_password(place: Served) -> None:
    started(place.service)
    place.store.commit(
        lambda tx: users.set_password(tx, "owner", "hash", before=None, is_chosen=False, remembered=1)
    )
    assert started(place.service) == []
    place.shop("users", "link", "owner")
    assert started(place.service) == []


@pytest.mark.parametrize("command", [("end-sessions",), ("reset-totp",)])
def test_a_link_ends_with_the_sessions(place: Served, command: tuple[str, ...]) -> None:
    (event,) = started(place.service)
    place.shop("users", *command, first_access.OWNER)
    assert entered(place.client(), path_of(event)).status_code == 403


def test_what_the_first_start_makes_is_in_the_log(place: Served) -> None:
    with logged() as events:
        first_access.prepare(place.service, "http://127.0.0.1")
    assert [event["event"] for event in events if event["event"].endswith("_added")] == [
        "user_added",
        "token_added",
    ]


def test_a_link_expires(place: Served) -> None:
    (event,) = started(place.service)
    with place.store.begin() as tx:
        tx.conn.execute(sa.update(tables.sign_in_links).values(expires_at=tx.now))
    assert entered(place.client(), path_of(event)).status_code == 403


def test_a_link_ends_with_its_user(place: Served) -> None:
    (event,) = started(place.service)
    place.shop("users", "remove", first_access.OWNER)
    assert entered(place.client(), path_of(event)).status_code == 403


@pytest.mark.parametrize("key", ["", "x" * 43, "\u00e9"])
def test_a_wrong_link_is_refused(place: Served, key: str) -> None:
    started(place.service)
    assert entered(place.client(), f"/console/enter?key={key}").status_code == 403


def test_a_half_written_file_of_an_earlier_process_is_in_no_ones_way(place: Served) -> None:
    file = first_access.token_file(place.service.config.settings)
    assert file is not None
    file.with_name(f"{file.name}.{os.getpid()}").write_text("half")
    (event,) = started(place.service)
    assert event["api"] == f"a token is in {file}"
    assert sorted(file.parent.glob(f"{file.name}*")) == [file]


def test_nothing_is_made_where_there_are_credentials(place: Served) -> None:
    place.token("erp", "read")
    assert started(place.service) == []
    with place.store.read() as tx:
        assert [token.name for token in tokens.load(tx)] == ["erp"]
        assert not users.is_any(tx)


def test_a_link_can_be_made_for_any_user_by_command(place: Served) -> None:
    place.browser("ann", "read")
    made = place.shop("users", "link", "ann").out.strip()
    assert made.startswith("http://127.0.0.1:")
    browser = place.client()
    assert entered(browser, made).status_code == 303
    assert ">ann<" in browser.get("/console/").text


def test_without_a_place_for_the_token_its_remedy_is_named(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_access, "token_file", lambda _: None)
    (event,) = started(place.service)
    assert event["api"] == "make a token with `order-sync tokens add NAME`"
    with place.store.read() as tx:
        assert tokens.load(tx) == []


def test_a_file_that_cannot_be_written_is_named_and_no_token_made(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_access, "token_file", lambda _: Path("/nowhere/token"))
    failed, event = started(place.service)
    assert (failed["event"], failed["file"]) == ("the first token cannot be written", "/nowhere/token")
    assert "tokens add" in event["api"]
    with place.store.read() as tx:
        assert tokens.load(tx) == []


@pytest.mark.long
def test_the_first_line_of_the_log_tells_how_to_get_in(tmp_path: Path) -> None:
    world = World(Seller("acme", ("UK",)))
    world.order(FIRST, created=STARTED - timedelta(days=1), name="Quentin Invented")
    with open_shop(tmp_path / "shop", world) as shop:
        shop("sync")  # a database of yesterday, which everyone on this machine could read
        link = enter_with(shop)
        with (
            running(shop) as process,
            httpx.Client(base_url=next_event(process, "listening")["url"]) as again,
        ):
            assert entered(again, link).status_code == 403
            stops(process, signal.SIGTERM)


def enter_with(shop: Shop) -> str:
    """Start the service, enter by what its first line says, and stop it. Return the path of the link."""
    with running(shop) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        assert first["event"] == "every request needs credentials"
        url = next_event(process, "listening")["url"]
        assert first["sign_in"].startswith(f"{url}/console/enter?key=")
        path = str(first["sign_in"]).removeprefix(url)
        with httpx.Client(base_url=url) as client:
            assert client.get("/console/").status_code == 303
            assert client.get("/orders").status_code == 401
            assert entered(client, path).headers["location"] == "/console/"
            assert client.get("/console/").status_code == 200
            token = Path(first["api"].removeprefix("a token is in ")).read_text().strip()
            orders = client.get("/orders", headers={"Authorization": f"Bearer {token}"}).json()["items"]
            assert [order["order_id"] for order in orders] == [FIRST]
        stops(process, signal.SIGTERM)
    return path
