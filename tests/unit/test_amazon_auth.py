"""Access tokens: requested once, kept as long as granted, refused for the right reason, never shown."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from connectors.amazon.auth import AccessTokens, Credentials
from connectors.errors import (
    ApplicationRefused,
    AuthorisationRevoked,
    ConnectorError,
    Garbled,
    RequestRefused,
    Retriable,
    ServerFault,
    Throttled,
    Unreachable,
)

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
Handler = Callable[[httpx.Request], httpx.Response]


class Scene:
    """A token provider on top of a handler, with an adjustable clock."""

    def __init__(self, handler: Handler, secrets: tuple[str, ...] = ("secret-new",)) -> None:
        self.now = START
        self.forms: list[dict[str, str]] = []
        self.heard: list[int] = []
        self._handler = handler
        self.tokens = AccessTokens(
            Credentials("client-id", secrets, "refresh-token"),
            "https://login.test/auth/o2/token",
            httpx.Client(transport=httpx.MockTransport(self._handle)),
            lambda: self.now,
            lambda answer: self.heard.append(answer.status_code),
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.forms.append({key: value[0] for key, value in parse_qs(request.content.decode()).items()})
        return self._handler(request)


def granting(lifetime: Any = 3600) -> Handler:
    """Grant ``token-1``, ``token-2``, …"""
    count = 0

    def handler(_: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(200, json={"access_token": f"token-{count}", "expires_in": lifetime})

    return handler


def answering(status: int, **body: Any) -> Handler:
    return lambda _: httpx.Response(status, **body)


def test_a_token_is_requested_with_the_refresh_token_and_kept() -> None:
    scene = Scene(granting())
    assert [scene.tokens.get(), scene.tokens.get()] == ["token-1", "token-1"]
    assert scene.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "refresh-token",
            "client_id": "client-id",
            "client_secret": "secret-new",
        }
    ]
    assert scene.heard == [200]


def test_a_token_is_renewed_a_minute_before_it_expires() -> None:
    scene = Scene(granting(lifetime=600))
    scene.tokens.get()
    scene.now = START + timedelta(seconds=539)
    assert scene.tokens.get() == "token-1"
    scene.now = START + timedelta(seconds=540)
    assert scene.tokens.get() == "token-2"


@pytest.mark.parametrize("lifetime", [None, "3600", 0, -5, 30, 10**30])
def test_a_token_of_no_known_lifetime_serves_once(lifetime: Any) -> None:
    scene = Scene(granting(lifetime))
    assert [scene.tokens.get(), scene.tokens.get()] == ["token-1", "token-2"]


def test_a_dropped_token_is_replaced_and_a_later_one_is_not_dropped_in_its_place() -> None:
    scene = Scene(granting())
    first = scene.tokens.get()
    scene.tokens.drop(first)
    assert scene.tokens.get() == "token-2"
    scene.tokens.drop(first)
    assert scene.tokens.get() == "token-2"


def test_many_threads_cause_one_request() -> None:
    together = threading.Barrier(8)
    second_request = threading.Event()
    grant = granting()

    def slowly(request: httpx.Request) -> httpx.Response:
        if len(scene.forms) > 1:
            second_request.set()
        second_request.wait(timeout=0.1)  # enough time for another thread to enter, if it could
        return grant(request)

    scene = Scene(slowly)

    def get(_: int) -> str:
        together.wait()
        return scene.tokens.get()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get, range(8))) == {"token-1"}
    assert len(scene.forms) == 1


def accepting(good: str) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        if parse_qs(request.content.decode())["client_secret"] == [good]:
            return httpx.Response(200, json={"access_token": "token", "expires_in": 3600})
        return httpx.Response(401, json={"error": "invalid_client"})

    return handler


def test_during_a_rotation_the_secret_that_works_is_found_and_remembered() -> None:
    scene = Scene(accepting("secret-old"), ("secret-new", "secret-old"))
    assert scene.tokens.get() == "token"
    scene.tokens.drop("token")
    assert scene.tokens.get() == "token"
    assert [form["client_secret"] for form in scene.forms] == ["secret-new", "secret-old", "secret-old"]


def test_an_application_is_refused_only_after_every_secret() -> None:
    scene = Scene(accepting("another"), ("secret-new", "secret-old"))
    with pytest.raises(ApplicationRefused):
        scene.tokens.get()
    assert len(scene.forms) == 2


def test_other_refusals_do_not_spend_the_second_secret() -> None:
    scene = Scene(answering(400, json={"error": "invalid_grant"}), ("secret-new", "secret-old"))
    with pytest.raises(AuthorisationRevoked) as caught:
        scene.tokens.get()
    assert len(scene.forms) == 1
    assert (caught.value.status, caught.value.code) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (answering(400, json={"error": "invalid_grant"}), AuthorisationRevoked),
        (answering(401, json={"error": "invalid_client"}), ApplicationRefused),
        (answering(400, json={"error": "unauthorized_client"}), ApplicationRefused),
        (answering(400, json={"error": "server_error"}), ServerFault),
        (answering(400, json={"error": "temporarily_unavailable"}), ServerFault),
        (answering(500, json={"error": "invalid_grant"}), ServerFault),
        (answering(503, html="<html>busy</html>"), ServerFault),
        (answering(403, html="<html>no</html>"), Garbled),
        (answering(200, html="<html>welcome</html>"), Garbled),
        (answering(200, json=["x"]), Garbled),
        (answering(200, json={"expires_in": 3600}), Garbled),
        (answering(200, json={"access_token": "bad\ntoken", "expires_in": 3600}), Garbled),
        (answering(200, json={"access_token": "tökén", "expires_in": 3600}), Garbled),
        (answering(302, headers={"location": "https://elsewhere.test"}), Garbled),
        (answering(408), Unreachable),
        (answering(429, json={"error": "slow_down"}), Throttled),
        (answering(400, json={"error": "invalid_request"}), RequestRefused),
        (answering(400, json={"error": "invalid_scope"}), RequestRefused),
    ],
)
def test_every_refusal_has_its_reason(handler: Handler, expected: type[ConnectorError]) -> None:
    with pytest.raises(ConnectorError) as caught:
        Scene(handler).tokens.get()
    assert type(caught.value) is expected


@pytest.mark.parametrize("fault", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_no_answer_can_be_tried_again(fault: type[httpx.TransportError]) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise fault("refresh-token secret-new")

    with pytest.raises(Retriable) as caught:
        Scene(handler).tokens.get()
    assert isinstance(caught.value, Unreachable)
    assert caught.value.__context__ is None


def test_a_throttled_login_says_when_to_come_back() -> None:
    with pytest.raises(Throttled) as caught:
        Scene(answering(429)).tokens.get()
    assert caught.value.until == START + timedelta(seconds=60)


def test_no_error_and_no_object_shows_a_secret() -> None:
    echo = "client-id secret-new refresh-token"
    handlers: list[Handler] = [
        answering(400, json={"error": "invalid_grant", "error_description": echo}),
        answering(400, json={"error": echo}),
        answering(200, json={"access_token": echo + "\n"}),
        answering(500, text=echo, headers={"x-amzn-requestid": echo}),
    ]
    for handler in handlers:
        scene = Scene(handler)
        with pytest.raises(ConnectorError) as caught:
            scene.tokens.get()
        shown = (
            "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(vars(caught.value))
        )
        shown += repr(scene.tokens)
        assert not [word for word in echo.split() if word in shown]
    credentials = Credentials("client-id", ("secret-new",), "refresh-token")
    assert f"{credentials!r} {credentials}" == "Credentials(hidden) Credentials(hidden)"


def test_an_account_without_a_secret_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Scene(granting(), secrets=())


def test_a_body_with_a_byte_order_mark_is_still_json() -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"access_token": "token", "expires_in": 3600}).encode()
    assert Scene(answering(200, content=body)).tokens.get() == "token"
