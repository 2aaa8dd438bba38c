"""The console without a browser: failed attempts, one-time codes, own sessions and passwords, OpenID."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pyotp
import pytest
import sqlalchemy as sa

from poller.web import attempts
from poller.web import sign_in as entry
from poller.web.console import sessions
from poller.web.console import sign_in as pages
from poller.web.passwords import MAX_AGE, hashed
from poller.web.problems import Problem
from poller.web.sign_in_pool import SignInPool
from poller.web.tokens import digest
from store import sessions as stored_sessions
from store import tables, tokens, users
from store.engine import Transaction
from store.tokens import StoredToken
from tests.acceptance.web_world import Served, logged, problem, served
from tests.integration.test_oidc import consent, provider_running

PASSWORD = "correct horse battery"
ANOTHER = "violet hammer meadow"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web")) as place:
        yield place


@pytest.fixture(autouse=True)
def _no_network_waits(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests fail from one address; each should wait for its own failures alone."""
    monkeypatch.setattr(attempts, "NETWORK", attempts.Limit(10_000, 10_001, timedelta(), timedelta(hours=1)))


def user(place: Served, name: str, *scopes: str) -> None:
    kept = hashed(PASSWORD)
    assert place.store.commit(lambda tx: users.add(tx, name, kept, scopes or ("read",)))


def token_in(text: str) -> str:
    (token,) = set(re.findall(r'name="csrf_token" value="(\w+)"', text))
    return token


def submit(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Load a page of ours for its token, and send a form to a path."""
    token = token_in(client.get(sessions.SIGN_IN).text)
    return client.post(path, data={"csrf_token": token, **fields})


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    return submit(client, sessions.SIGN_IN, name=name, password=password, **fields)


# --- failures ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_known_and_unknown_names_fail_and_wait_alike(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = timedelta(hours=1)  # a wait of a second may be over before the next attempt
    monkeypatch.setattr(attempts, "PAIR", attempts.Limit(free=3, most=4, longest=hours, forgotten=hours))
    user(place, "bob")
    client = place.client()
    with logged() as events:
        known = [sign_in(client, "bob", "wrong") for _ in range(5)]
        unknown = [sign_in(client, "who-is-this", "wrong") for _ in range(5)]
    assert [answer.status_code for answer in known] == [401] * 4 + [429]
    assert [answer.status_code for answer in unknown] == [401] * 4 + [429]
    for one, other in zip(known, unknown, strict=True):
        assert re.sub(r'value="[\w-]*"', "", one.text) == re.sub(r'value="[\w-]*"', "", other.text)
    assert 3500 < int(known[-1].headers["retry-after"]) <= 3600
    refused = [event["who"] for event in events if event["event"] == "sign_in_refused"]
    assert refused == ["user:bob"] * 4 + ["anonymous"] * 4, "what is no name may be a password"
    assert "who-is-this" not in str(events)


@pytest.mark.long
def test_the_next_sign_in_says_what_failed_before(place: Served) -> None:
    user(place, "carla")
    client = place.client()
    sign_in(client, "carla", "wrong")
    answer = sign_in(client, "carla", next="/console/orders")
    assert answer.headers["location"] == "/console/account?next=/console/orders"
    page = client.get(answer.headers["location"]).text
    assert "1 failed attempt to sign in as carla" in page
    assert 'href="/console/orders">Continue' in page
    again = place.client()
    assert sign_in(again, "carla").headers["location"] == sessions.HOME


# --- sign-ins beside the API ------------------------------------------------------------------------


def test_the_api_answers_while_sign_ins_queue_and_more_are_refused(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, go_on = threading.Event(), threading.Event()

    def check(_kept: str | None, _password: str) -> bool:
        checking.set()
        assert go_on.wait(60)
        return False

    monkeypatch.setattr(entry, "password_matches", check)
    monkeypatch.setattr(pages, "PASSWORDS", SignInPool(workers=2, waiting=8))
    token = place.token("beside", "read")
    answers: list[int] = []

    def try_to(number: int) -> None:
        answers.append(sign_in(place.client(), f"dora{number}").status_code)

    threads = [threading.Thread(target=try_to, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    assert checking.wait(60)
    while answers != [503, 503]:  # two are checked, eight wait, two are refused
        assert set(answers) <= {503}
        assert place.client(Authorization=f"Bearer {token}").get("/orders?limit=1").status_code == 200
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [401] * 10 + [503] * 2


def test_a_full_pool_refuses_with_a_time_to_come_back() -> None:
    pool, go_on = SignInPool(workers=1, waiting=0), threading.Event()

    async def both() -> None:
        first = asyncio.create_task(pool.run(lambda: go_on.wait(60)))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await pool.run(lambda: True)
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "5")
        go_on.set()
        assert await first
        assert await pool.run(lambda: "room again") == "room again"

    asyncio.run(both())


# --- one-time codes ---------------------------------------------------------------------------------


def secret_in(text: str) -> str:
    (secret,) = re.findall(r'<code class="long">([A-Z2-7 ]+)</code>', text)
    return str(secret).replace(" ", "")


@pytest.mark.long
def test_a_user_sets_up_one_time_codes_and_signs_in_with_them(place: Served) -> None:
    user(place, "emil")
    client = place.client()
    sign_in(client, "emil")
    other = place.client()
    sign_in(other, "emil")
    page = client.get("/console/account/totp").text
    assert "<svg " in page
    secret = secret_in(page)
    wrong = submit(client, "/console/account/totp", code="000000")
    assert wrong.status_code == 422
    assert secret_in(wrong.text) == secret
    done = submit(client, "/console/account/totp", code=pyotp.TOTP(secret).now())
    codes = re.findall(r"<li><code>([\w-]+)</code></li>", done.text)
    assert len(codes) == 10
    assert client.get("/console/").status_code == 200
    assert other.get("/console/").status_code == 303, "sessions without the second factor have ended"
    late = place.client()
    answer = sign_in(late, "emil", next="/console/orders")
    assert answer.headers["location"] == "/console/sign-in/code?next=/console/orders"
    assert late.get("/console/").headers["location"] == "/console/sign-in/code"
    assert late.get("/console/account").status_code == 303
    assert late.get("/console/", headers={"X-Live": "1"}).status_code == 403
    waiting = late.get("/console/sign-in/code?next=/console/orders").text
    assert "Orders" not in waiting, "no menu before the code"
    assert submit(late, "/console/account/end-others").status_code == 403
    assert submit(late, "/console/sign-in/code", code="000000").status_code == 401
    answer = submit(late, "/console/sign-in/code", code=codes[0], next="/console/orders")
    assert answer.headers["location"] == "/console/account?next=/console/orders", "one attempt failed"
    assert late.get("/console/").status_code == 200
    removed = submit(late, "/console/account/remove-totp", code=codes[1])
    assert removed.headers["location"] == "/console/account?done=removed"
    assert sign_in(place.client(), "emil").headers["location"] == sessions.HOME


@pytest.mark.long
def test_where_one_time_codes_are_required_nothing_else_is_reached_before(tmp_path: Path) -> None:
    with served(tmp_path, ORDER_SYNC_REQUIRE_TOTP="on") as strict:
        ann = strict.browser("ann", "read", "write", "buyer-data")
        for path in ("/console/", "/console/orders", "/console/account", "/console/account/password"):
            assert ann.get(path).headers["location"] == "/console/account/totp"
        assert submit(ann, "/console/search", q="x").status_code == 403
        page = ann.get("/console/account/totp").text
        assert "every user needs one-time codes" in page
        code = pyotp.TOTP(secret_in(page)).now()
        assert submit(ann, "/console/account/totp", code=code).status_code == 200
        assert ann.get("/console/").status_code == 200
        assert "reset-totp" in ann.get("/console/account/totp").text
        assert submit(ann, "/console/account/remove-totp", code="1").headers["location"].endswith("/totp")
        strict.shop("users", "reset-totp", "ann")
        assert ann.get("/console/").headers["location"].startswith(sessions.SIGN_IN)


# --- own sessions and password ----------------------------------------------------------------------


def test_users_see_and_end_their_own_sessions_only(place: Served) -> None:
    gina = place.browser("gina", "read", **{"User-Agent": "<b>x</b>"})
    place.browser("hugo", "read")
    with place.store.read() as tx:
        (of_hugo,) = stored_sessions.load(tx, "hugo")

    def add(tx: Transaction) -> None:
        found = users.find(tx, "gina")
        assert found is not None
        for number in range(2):
            new = stored_sessions.NewSession(
                digest(f"g{number}"), "password", "192.0.2.9", "192.0.2.9", "<b>Evil</b> Browser"
            )
            assert stored_sessions.begin(tx, found, new, timedelta(hours=12))

    place.store.commit(add)
    page = gina.get("/console/account").text
    assert "192.0.2.9" in page
    assert "<b>Evil" not in page
    assert of_hugo.public_id not in page
    assert len(re.findall(r'name="session" value="\w+"', page)) == 2, "this one is left by signing out"
    submit(gina, "/console/account/end-session", session=of_hugo.public_id)
    with place.store.read() as tx:
        assert len(stored_sessions.load(tx, "hugo")) == 1
    (first, _) = re.findall(r'name="session" value="(\w+)"', page)
    answer = submit(gina, "/console/account/end-session", session=first)
    assert "The session has ended." in gina.get(answer.headers["location"]).text
    submit(gina, "/console/account/end-others")
    with place.store.read() as tx:
        assert len(stored_sessions.load(tx, "gina")) == 1
    assert gina.get("/console/").status_code == 200


@pytest.mark.long
def test_a_user_changes_the_password_and_stays_signed_in_here_alone(place: Served) -> None:
    user(place, "ida")
    here, there = place.client(), place.client()
    sign_in(here, "ida")
    sign_in(there, "ida")
    path = "/console/account/password"
    for fields, status, sentence in (
        ({"present": "wrong", "password": ANOTHER, "repeated": ANOTHER}, 401, "present password is wrong"),
        ({"present": PASSWORD, "password": ANOTHER, "repeated": "x"}, 422, "two new passwords differ"),
        (
            {"present": PASSWORD, "password": "passwordpassword", "repeated": "passwordpassword"},
            422,
            "easy to guess",
        ),
        ({"present": PASSWORD, "password": PASSWORD, "repeated": PASSWORD}, 422, "last 10"),
    ):
        answer = submit(here, path, **fields)
        assert (answer.status_code, sentence in answer.text) == (status, True)
    answer = submit(here, path, present=PASSWORD, password=ANOTHER, repeated=ANOTHER)
    assert answer.headers["location"] == "/console/account?done=password"
    assert here.get("/console/").status_code == 200
    assert there.get("/console/").status_code == 303
    soon = submit(
        here, path, present=ANOTHER, password="a third phrase of words", repeated="a third phrase of words"
    )
    assert "a day later" in soon.text


def test_an_old_password_must_be_changed_before_anything_else(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poller.web import passwords

    jana = place.browser("jana", "read")
    monkeypatch.setattr(passwords, "MAX_AGE", timedelta(days=10))
    assert "must be changed within 9 days" in jana.get("/console/account").text
    monkeypatch.setattr(passwords, "MAX_AGE", timedelta())
    assert jana.get("/console/").headers["location"] == "/console/account/password"
    assert f"older than {MAX_AGE.days} days" in jana.get("/console/account/password").text
    assert submit(jana, "/console/account/end-others").status_code == 403
    assert submit(jana, "/console/sign-out").headers["location"] == sessions.SIGN_IN


def test_a_form_of_another_page_changes_nothing_of_an_account(place: Served) -> None:
    kim = place.browser("kim", "read")
    for path in ("end-session", "end-others", "password", "totp", "remove-totp"):
        assert kim.post(f"/console/account/{path}", data={"code": "1"}).status_code == 403
        assert place.client().post(f"/console/account/{path}").status_code == 401


# --- tokens -----------------------------------------------------------------------------------------


def stored_tokens(place: Served, until: Callable[[dict[str, StoredToken]], bool]) -> dict[str, StoredToken]:
    """Return the tokens as soon as they are so: their use is noted after the answer."""
    ends_at = time.monotonic() + 20
    while True:
        with place.store.read() as tx:
            found = {token.name: token for token in tokens.load(tx)}
        if until(found):
            return found
        assert time.monotonic() < ends_at


def test_no_answer_waits_until_the_use_of_its_token_is_noted(tmp_path: Path) -> None:
    with served(tmp_path) as place:
        client = place.client("read")
        with place.store.begin() as tx:  # holds SQLite's only lock for writing
            tx.conn.execute(sa.update(tables.api_tokens).values(used_at=None))
            began = time.monotonic()
            assert client.get("/status").status_code == 200
            assert client.get("/readyz").status_code in (200, 503)
            assert time.monotonic() - began < 30, "the lock is waited for a minute"
        stored_tokens(place, until=lambda found: found["read"].used_at is not None)


def test_an_expired_token_is_refused_with_its_own_sentence_and_uses_are_noted(place: Served) -> None:
    old = f"old-{'x' * 40}"
    place.store.commit(
        lambda tx: tokens.add(tx, "old", ("read",), digest(old), valid_for=timedelta(seconds=-1))
    )
    client = place.client(Authorization=f"Bearer {old}")
    for path in ("/orders", "/metrics", "/nothing"):
        assert "this token expired on" in problem(client.get(path), 401, "token")
    used = place.token("used", "read")
    assert place.client(Authorization=f"Bearer {used}").get("/orders").status_code == 200
    stored = stored_tokens(place, until=lambda found: found["used"].used_at is not None)
    assert stored["used"].used_from == "127.0.0.1"
    assert stored["old"].used_at is None
    assert place.client(Authorization=f"Bearer {used}").get("/orders").status_code == 200
    with place.store.read() as tx:
        assert stored["used"] in tokens.load(tx), "noted once an hour"


# --- OpenID -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_user_signs_in_at_an_openid_provider(tmp_path: Path) -> None:
    public = "http://127.0.0.1:8000"
    with (
        provider_running() as issuer,
        served(
            tmp_path,
            ORDER_SYNC_OIDC_ISSUER=issuer,
            ORDER_SYNC_OIDC_CLIENT_ID="order-sync",
            ORDER_SYNC_OIDC_CLIENT_SECRET="a secret",
            ORDER_SYNC_PUBLIC_URL=public,
            ORDER_SYNC_REQUIRE_TOTP="on",
        ) as place,
    ):
        client = place.client()
        page = client.get("/console/sign-in?next=/console/orders").text
        (link,) = re.findall(r'href="(/console/sign-in/oidc[^"]*)"', page)
        back = consent(client.get(link).headers["location"], "1")
        callback = "/console/sign-in/oidc/callback"
        stranger = place.client()
        stranger.get(sessions.SIGN_IN)
        assert "not begun in this browser" in stranger.get(callback, params=back).text
        assert "there is no such user here" in client.get(callback, params=back).text
        place.shop("users", "add", "ann", "--without-password")
        back = consent(client.get(link).headers["location"], "1")
        answer = client.get(callback, params=back)
        assert answer.headers["location"] == "/console/orders"
        assert client.get("/console/").status_code == 200, "the provider has a second factor of its own"
        with place.store.read() as tx:
            (session,) = stored_sessions.load(tx)
        assert (session.name, session.method) == ("ann", "oidc")
        denied = place.client()
        address = denied.get("/console/sign-in/oidc").headers["location"]
        (state,) = re.findall(r"state=([^&]+)", address)
        answer = denied.get(f"{callback}?error=access_denied&state={state}")
        assert (answer.status_code, "did not sign you in" in answer.text) == (403, True)


def test_without_a_provider_its_pages_are_not_there(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poller.web.oidc", None)  # nor is the extra
    client = place.client()
    assert "oidc" not in client.get(sessions.SIGN_IN).text
    assert client.get("/console/sign-in/oidc").status_code == 404
    assert client.get("/console/sign-in/oidc/callback").status_code == 404
