"""The console without a browser: signing in, cookies, forms, masking."""

from __future__ import annotations

import csv
import html
import io
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from poller.export import customer_object, order_object
from poller.web.console import forms, rendering, sessions
from poller.web.console import orders as pages_of_orders
from poller.web.passwords import hashed
from poller.web.server import listen
from store import queries, tables, users
from store.records import OrderRecord
from tests.acceptance.command_line import STARTED
from tests.acceptance.web_world import BAD, BUYERS, ORDERS, Served, form, logged, said, served

PASSWORD = "correct horse battery"
LIVE = {"X-Live": "1"}
SESSIONS = tables.console_sessions.c


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web")) as place:
        yield place


def user(place: Served, name: str, *scopes: str) -> None:
    kept = hashed(PASSWORD)
    assert place.store.commit(lambda tx: users.add(tx, name, kept, scopes))


def sign_in(client: httpx.Client, name: str, password: str, **fields: str) -> httpx.Response:
    """Sign in as a browser does: load the page, then send its form."""
    (token,) = re.findall(r'name="csrf_token" value="(\w+)"', client.get(sessions.SIGN_IN).text)
    data = {"csrf_token": token, "name": name, "password": password, **fields}
    return client.post(sessions.SIGN_IN, data=data)


# --- signing in -------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_user_signs_in_and_is_never_redirected_to_another_site(place: Served) -> None:
    user(place, "ann", "read", "write", "buyer-data")
    for wanted, target in (
        ("", sessions.HOME),
        ("/console/orders?status=SHIPPED", "/console/orders?status=SHIPPED"),
        ("//evil.example", sessions.HOME),
        ("https://evil.example/console/", sessions.HOME),
        ("/console/\\evil", sessions.HOME),
    ):
        client = place.client()
        answer = sign_in(client, "Ann", PASSWORD, next=wanted)
        assert (answer.status_code, answer.headers["location"]) == (303, target)
        assert client.get("/console/").status_code == 200
        cookie = answer.headers.get_list("set-cookie")[0].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "path=/console" in cookie


def test_cookies_need_https_except_on_this_machine(place: Served) -> None:
    client = place.client()
    assert "secure" not in client.get(sessions.SIGN_IN).headers["set-cookie"].lower()
    away = place.client(Host="orders.example")
    cookie = away.get(sessions.SIGN_IN).headers["set-cookie"]
    assert cookie.startswith("__Host-order_sync_form=")
    assert "; secure" in cookie.lower()
    assert "; Path=/;" in cookie
    assert "domain" not in cookie.lower()


def test_signing_out_or_removing_the_user_ends_a_session_at_once(place: Served) -> None:
    ann = place.browser("out", "read")
    assert ann.get("/console/").status_code == 200
    kept = dict(ann.cookies)
    assert ann.post("/console/sign-out", data=form(ann)).headers["location"] == sessions.SIGN_IN
    assert place.client(Cookie=f"{forms.SESSION}={kept[forms.SESSION]}").get("/console/").status_code == 303
    bob = place.browser("gone", "read")
    assert bob.get("/console/").status_code == 200
    place.shop("users", "remove", "gone")
    assert bob.get("/console/").status_code == 303
    assert bob.get("/console/", headers=LIVE).status_code == 401


# --- orders -----------------------------------------------------------------------------------------


def listed(client: httpx.Client, **parameters: str) -> list[str]:
    """The orders of the list, in its order."""
    answer = client.get("/console/orders", params=parameters)
    assert answer.status_code == 200, answer.text
    return re.findall(r'<a class="row" href="/console/orders/acme/([\w-]+)">', answer.text)


def test_orders_are_filtered_and_sorted(place: Served) -> None:
    ann = place.browser("lists", "read")
    assert listed(ann) == list(ORDERS)
    assert listed(ann, marketplace="DE") == [ORDERS[3]]
    assert listed(ann, basis="email_1") in ([ORDERS[0]], [ORDERS[4]]), "of one buyer, one order is the second"
    assert listed(ann, fulfilment="AMAZON", status="pending", account="acme") == []
    day = f"{STARTED - timedelta(days=1, hours=1):%Y-%m-%d}"
    assert set(listed(ann, **{"from": day})) == set(ORDERS)
    assert listed(ann, to="2020-01-31") == []
    assert set(listed(ann, to="9999-12-31")) == set(ORDERS), "no day comes after that one"
    assert set(listed(ann, sort="total")) == set(ORDERS)
    assert listed(ann, sort="created") == list(reversed(ORDERS))
    page = ann.get("/console/orders", params={"sort": "-total", "marketplace": "UK"}).text
    assert 'aria-sort="descending"' in page
    assert "sort=total" in page, "pressed again, it turns round"


@pytest.mark.parametrize(
    "parameters", [{"sort": "buyer"}, {"from": "31.1.2026"}, {"to": "x"}, {"cursor": "x"}, {"page": "0"}]
)
def test_a_filter_that_is_none_is_refused(place: Served, parameters: dict[str, str]) -> None:
    ann = place.browser(f"refused-{'-'.join(parameters)}-{len(parameters)}", "read")
    assert ann.get("/console/orders", params=parameters).status_code == 422


def test_the_list_goes_on_page_by_page(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_of_orders, "PAGE_SIZE", 2)
    ann = place.browser("pages", "read")
    for sort in ("", "total"):
        found: list[str] = []
        target = f"/console/orders?sort={sort}"
        for _ in range(3):
            text = ann.get(target).text
            found += re.findall(r'<a class="row" href="/console/orders/acme/([\w-]+)">', text)
            more = re.findall(r'<a rel="next" href="([^"]+)">', text)
            target = html.unescape(more[0]) if more else ""
        assert target == ""
        assert sorted(found) == sorted(ORDERS)


def test_what_is_shown_is_downloaded_as_csv(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_of_orders, "CSV_PART", 2)
    ann, bob = place.browser("csv", "read", "buyer-data"), place.browser("csv-masked", "read")
    with logged() as events:
        answer = ann.get("/console/orders.csv", params={"marketplace": "UK"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="orders.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["order_id"] for row in rows] == [each for each in ORDERS if each != ORDERS[3]]
    assert rows[0]["buyer_name"] == "Quentin a"
    assert sorted(i for event in said(events) for i in event["ids"]) == sorted(r["order_id"] for r in rows)
    masked = bob.get("/console/orders.csv", params={"sort": "total"}).text
    assert not [piece for piece in BUYERS if piece in masked]
    assert masked.count("***") == len(ORDERS)


def test_an_open_list_reads_no_buyer_while_nothing_changes(place: Served) -> None:
    ann = place.browser("watcher", "read", "buyer-data")
    etag = ann.get("/console/orders").headers["etag"]
    again = {**LIVE, "If-None-Match": etag}
    with logged() as events:
        assert ann.get("/console/orders", headers=again).status_code == 304
    assert said(events) == []
    with place.store.begin() as tx:
        tx.conn.execute(sa.update(tables.orders).values(change_no=tx.change_no))
    with logged() as events:
        assert ann.get("/console/orders", headers=again).status_code == 200
    assert len(said(events)) == 1


# --- searching --------------------------------------------------------------------------------------


def test_a_search_finds_parts_and_opens_a_whole_order_id(place: Served) -> None:
    ann = place.browser("seeker", "read", "buyer-data")

    def search(q: str) -> httpx.Response:
        return ann.post("/console/search", data=form(ann, q=q))

    assert search(ORDERS[1]).headers["location"] == f"/console/orders/acme/{ORDERS[1]}"
    assert ORDERS[1] in search("0000002").text
    with place.store.read() as tx:
        (order,) = queries.find_orders(tx, ORDERS[2])
    assert ORDERS[2] in search((order.lines[0].sku or "")[1:].lower()).text
    assert f"/console/customers/{order.customer_id}" in search(str(order.customer_id)).text


def test_what_is_typed_is_suggested_to_those_who_may_see_it(place: Served) -> None:
    ann, bob = place.browser("typist", "read", "buyer-data"), place.browser("typist-masked", "read")
    with logged() as events:
        shown = ann.post("/console/search/suggestions", data=form(ann, q="0000003")).text
    assert ORDERS[2] in shown
    assert "Quentin c" in shown
    assert said(events) == [{"who": "user:typist", "what": "orders", "ids": [ORDERS[2]]}]
    masked = bob.post("/console/search/suggestions", data=form(bob, q="0000003")).text
    assert ORDERS[2] in masked
    assert not [piece for piece in BUYERS if piece in masked]
    for q in ("", "zz", "%", "\u00e9", "9" * 254):
        answer = ann.post("/console/search/suggestions", data=form(ann, q=q))
        assert answer.status_code == 200
        assert "<a" not in answer.text
    assert ann.post("/console/search/suggestions", data=form(ann, q="9" * 255)).status_code == 422


# --- open pages -------------------------------------------------------------------------------------


def test_an_open_page_receives_itself_again_only_when_it_changed(place: Served) -> None:
    ann, bob = place.browser("open", "read", "buyer-data"), place.browser("open-too", "read")
    first = ann.get("/console/backfills")
    again = {**LIVE, "If-None-Match": first.headers["etag"]}
    answer = ann.get("/console/backfills", headers=again)
    assert answer.status_code == 304
    assert answer.headers["etag"] == first.headers["etag"]
    assert answer.content == b""
    assert bob.get("/console/backfills", headers=again).status_code == 200, "another user sees another page"
    assert ann.get("/console/duplicates", headers=again).status_code == 200, "another page"


def test_an_open_page_keeps_no_session_alive(place: Served) -> None:
    ann = place.browser("idle", "read")

    def seen() -> Any:
        with place.store.read() as tx:
            return tx.conn.execute(sa.select(SESSIONS.seen_at).where(SESSIONS.name == "idle")).scalar_one()

    with place.store.begin() as tx:
        earlier = tx.now - timedelta(minutes=30)
        tx.conn.execute(
            sa.update(tables.console_sessions).where(SESSIONS.name == "idle").values(seen_at=earlier)
        )
    assert ann.get("/console/", headers=LIVE).status_code == 200
    assert seen() == earlier
    assert ann.get("/console/").status_code == 200
    assert seen() > earlier


# --- forms ------------------------------------------------------------------------------------------


def test_a_form_that_is_not_ours_changes_nothing(place: Served) -> None:
    ann = place.browser("forms", "read", "write", "buyer-data")
    other = place.browser("others", "read", "write", "buyer-data")
    for data in ({}, {"csrf_token": "0" * 40}, {"csrf_token": "\u00e9"}, form(other)):
        for path in ("/console/sign-out", "/console/duplicates", "/console/customers/1/merge"):
            answer = ann.post(path, data={"q": "x", **data})
            assert answer.status_code == 403
            assert "this form has expired" in answer.text.lower()
    answer = ann.post("/console/search", json=form(ann))
    assert answer.status_code == 415
    answer = place.client().post(sessions.SIGN_IN, data={"name": "ann", "password": PASSWORD})
    assert answer.status_code == 403
    assert "no cookie" in answer.text


def test_a_merge_is_refused_after_another_change(place: Served) -> None:
    ann = place.browser("merging", "read", "write", "buyer-data")
    with place.store.read() as tx:
        kept, other = sorted(
            queries.find_orders(tx, order_id)[0].customer_id or 0 for order_id in ORDERS[1:3]
        )
    shown = ann.get(f"/console/customers/{kept}/merge", params={"other": other}).text
    (etag,) = re.findall(r'name="etag" value="([^"]+)"', shown)
    place.shop("customers", "edit", str(other), "--price-list", "Trade")
    data = form(ann, other=str(other), etag=etag.replace("&#34;", '"'))
    blind = ann.post(f"/console/customers/{kept}/merge", data=data | {"etag": "*"})
    assert blind.status_code == 412, "a merge is of what was shown"
    answer = ann.post(f"/console/customers/{kept}/merge", data=data)
    assert answer.status_code == 412
    assert "has changed since you read it" in answer.text
    with place.store.read() as tx:
        assert set(queries.statuses(tx, [kept, other]).values()) == {"active"}


def test_an_address_that_undoing_a_merge_leaves_with_no_customer_is_said(place: Served) -> None:
    ann = place.browser("undoing", "read", "write", "buyer-data")
    create = ("customers", "create", "--business", "acme")
    kept = place.shop(*create, "--name", "Kept Invented").out.strip()
    other = place.shop(*create, "--name", "Other Invented", "--email-1", "other@example.com").out.strip()
    place.shop("customers", "merge", kept, other)
    place.shop("customers", "edit", kept, "--email-1", "")
    answer = ann.post(f"/console/customers/{other}/unmerge", data=form(ann), follow_redirects=True)
    assert "1 address of the merge is with no customer" in answer.text


def test_invalid_input_is_explained_on_a_page_in_one_sentence(place: Served) -> None:
    ann = place.browser("wrong", "read", "write", "buyer-data")
    for path, status in (
        ("/console/orders/acme/none", 404),
        ("/console/customers/999999", 404),
        ("/console/customers/x", 422),
        (f"/console/merge?kept={'9' * 5000}&other=2", 422),
        ("/console/customers/1/merge?other=1", 200),
        ("/console/merge?kept=1&other=x", 422),
        ("/console/orders?cursor=x", 422),
        ("/console/backfills/99", 404),
        ("/console/quarantine/acme/none", 404),
        ("/console/nowhere", 404),
        ("/console/backfills/1/pause", 405),
        ("/console/orders?status=%00", 400),
    ):
        answer = ann.get(path)
        assert answer.status_code == status, path
        assert 'role="alert"' in answer.text, path
        assert ("This page can&#39;t be opened directly." in answer.text) == (status == 405)
        assert "Traceback" not in answer.text
    data = form(ann, place="UK acme", by="auto", **{"from": "2026-02-01", "to": "2026-01-01"})
    answer = ann.post("/console/backfills/plan", data=data)
    assert answer.status_code == 422
    assert "from 2026-02-01 is not before to 2026-01-01" in answer.text


# --- buyer data -------------------------------------------------------------------------------------


def pages(place: Served) -> list[str]:
    """Every page that shows records, with real IDs."""
    with place.store.read() as tx:
        kept, other = (c.customer_id for c in queries.list_customers(tx, limit=2))
    return [
        "/console/",
        "/console/orders",
        *(f"/console/orders/acme/{order_id}" for order_id in ORDERS),
        "/console/customers",
        f"/console/customers/{kept}",
        f"/console/customers/{kept}/merge?other={other}",
        "/console/duplicates",
        "/console/backfills",
        "/console/backfills/1",
        "/console/quarantine",
        f"/console/quarantine/acme/{BAD}",
        "/console/runs",
        "/console/verifications",
    ]


def test_buyers_are_masked_without_the_scope(place: Served) -> None:
    bob = place.browser("masked", "read")
    with logged() as events:
        for path in pages(place):
            answer = bob.get(path)
            assert answer.status_code == 200, path
            assert not [piece for piece in BUYERS if piece in answer.text], path
            assert answer.headers["content-security-policy"] == rendering.POLICY, path
            assert answer.headers["cache-control"] == "no-store"
        for q in ("Quentin", "quentin-a@marketplace.amazon.co.uk"):
            text = bob.post("/console/search", data=form(bob, q=q)).text
            assert "No matches" in text
        assert "***" in bob.post("/console/search", data=form(bob, q=ORDERS[0][4:])).text
    assert said(events) == []


def test_a_page_that_is_not_there_names_nothing_of_the_api(place: Served) -> None:
    text = place.browser("lost", "read").get("/console/nowhere").text
    assert "There is nothing at this address." in text


def test_the_address_of_a_search_is_an_empty_search(place: Served) -> None:
    ann = place.browser("reloading", "read", "buyer-data")
    for path in ("/console/search", "/console/search?q=Quentin"):
        answer = ann.get(path)
        assert answer.status_code == 200
        assert "<h1>Search</h1>" in answer.text
        assert "Quentin" not in answer.text


def test_a_search_of_many_words_is_refused_in_words(place: Served) -> None:
    """Each word is a join, of which SQLite allows 64."""
    ann = place.browser("wordy", "read", "buyer-data")
    answer = ann.post("/console/search", data=form(ann, q=" ".join(f"w{number}" for number in range(65))))
    assert answer.status_code == 200
    assert "at most 8 different words" in answer.text
    assert "No matches" not in answer.text


def test_each_disclosure_is_logged_with_who_and_whose(place: Served) -> None:
    ann = place.browser("seeing", "read", "buyer-data")
    with logged() as events:
        assert "Quentin a" in ann.get(f"/console/orders/acme/{ORDERS[0]}").text
        assert "quantityOrdered" in ann.get(f"/console/quarantine/acme/{BAD}").text
        ann.get(f"/console/orders/acme/{ORDERS[1]}")
        text = ann.post("/console/search", data=form(ann, q="quentin C")).text
        ann.get("/console/")
        ann.get("/console/runs")
    with place.store.read() as tx:
        customer_id = queries.find_orders(tx, ORDERS[2])[0].customer_id
    assert f"/console/customers/{customer_id}" in text
    assert said(events) == [
        {"who": "user:seeing", "what": "orders", "ids": [ORDERS[0]]},
        {"who": "user:seeing", "what": "quarantine", "ids": [BAD]},
        {"who": "user:seeing", "what": "orders", "ids": [ORDERS[1]]},
        {"who": "user:seeing", "what": "customers", "ids": [customer_id]},
    ]
    assert not [piece for piece in BUYERS if piece in str(events)]


def all_fields(text: str) -> dict[str, str]:
    """Return the rows of the section "All fields" that hold a single value."""
    (section,) = re.findall(r"<summary>All fields</summary>(.*)</details>", text, re.DOTALL)
    return dict(re.findall(r"<dt><code>(\w+)</code></dt><dd>\s*([^<]*?)\s*</dd>", section))


@pytest.mark.parametrize("scopes", [("read",), ("read", "buyer-data")])
def test_all_fields_of_the_export_are_shown_as_far_as_the_user_may_see_them(
    place: Served, monkeypatch: pytest.MonkeyPatch, scopes: tuple[str, ...]
) -> None:
    def with_a_new_field(order: OrderRecord) -> dict[str, Any]:
        return {**order_object(order), "brand_new": {"inner": ["7 <b>"]}}

    monkeypatch.setattr("poller.web.masking.order_object", with_a_new_field)
    user = place.browser(f"fields-{len(scopes)}", *scopes)
    with place.store.read() as tx:
        (order,) = queries.find_orders(tx, ORDERS[0])
        customer = queries.get_customer(tx, order.customer_id or 0)
    assert customer is not None
    page = user.get(f"/console/orders/acme/{ORDERS[0]}").text
    for key in (*order_object(order), "brand_new"):
        assert f"<dt><code>{key}</code></dt>" in page, key
    shown = all_fields(page)
    assert "7 &lt;b&gt;" in page
    assert shown["order_id"] == ORDERS[0]
    assert shown["quantity"] == "1"
    assert shown["cancel_requested"] == "false"
    for key, value in (("buyer_name", "Quentin a"), ("line1", "7 Secret Street")):
        assert shown[key] == (value if "buyer-data" in scopes else "***")
    page = user.get(f"/console/customers/{order.customer_id}").text
    for key in customer_object(customer):
        assert f"<dt><code>{key}</code></dt>" in page, key
    assert all_fields(page)["amazon_name"] == ("Quentin a" if "buyer-data" in scopes else "***")


def test_an_order_page_shows_other_amounts_and_dates_beyond_reason(place: Served) -> None:
    user = place.browser("amounts", "read")
    page = user.get(f"/console/orders/acme/{ORDERS[4]}").text
    assert '<th scope="row">Cod fee</th><td class="number">3.00 ' in page
    assert '<th scope="row">Tax, in another currency</th><td class="number">2.00 EUR</td>' in page
    assert '<th scope="row">Delivery tip</th><td class="number">5.00 ' in page
    assert '<time datetime="9999-12-31T23:59:59Z">9999-12-31 23:59</time>' in page
    assert "Not explained" not in page
    shown = place.client("read").get(f"/orders/{ORDERS[4]}").json()
    assert (shown["unexplained"], shown["lines"][0]["currency"]) == ("0.00", "GBP")


def test_answers_are_sent_at_once() -> None:
    """Otherwise every small answer is delayed by 40 ms."""
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
