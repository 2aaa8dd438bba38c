"""Customers in the console: created, edited, compared, merged from the list of duplicates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from poller.customers.fields import BUYERS, FIELDS
from poller.customers.likeness import WORDS
from store import queries
from tests.acceptance.web_world import ALL, ORDERS, Served, form, logged, said, served
from tests.acceptance.web_world import BUYERS as PIECES

NEW = "/console/customers/new"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("customers")) as place:
        yield place


@pytest.fixture(scope="module")
def ann(place: Served) -> httpx.Client:
    return place.browser("ann", *ALL)


def made(place: Served, *options: str) -> int:
    return int(place.shop("customers", "create", "--business", "acme", *options).out)


def inputs(text: str) -> dict[str, str]:
    """Return what the form of a customer holds."""
    found = {name: value for name, value in re.findall(r'<input id="(\w+)" name="\1" value="([^"]*)"', text)}
    labels = re.search(r'<textarea id="labels"[^>]*>\n(.*?)</textarea>', text, re.DOTALL)
    assert labels is not None
    return {name: unescape(value) for name, value in {**found, "labels": labels[1]}.items() if name != "q"}


def hidden(text: str, name: str) -> str:
    (value,) = re.findall(rf'name="{name}" value="([^"]*)"', text)
    return unescape(value)


def problems(text: str) -> dict[str, str]:
    """Return what stands beside the fields, in words alone."""
    found = re.findall(r'<p class="problem" id="(\w+)-problem">(.*?)</p>', text)
    return {name: unescape(re.sub(r"<[^>]+>", "", sentence)).strip() for name, sentence in found}


def edited(client: httpx.Client, customer_id: int, **changes: str) -> httpx.Response:
    """Open the form, change fields of it as a person does, and send it."""
    path = f"/console/customers/{customer_id}/edit"
    text = client.get(path).text
    return client.post(path, data=form(client, **inputs(text), etag=hidden(text, "etag")) | changes)


def journal(place: Served, customer_id: int) -> list[tuple[str, str, dict[str, object]]]:
    with place.store.read() as tx:
        return [
            (e.who, e.action, dict(e.details.get("after", {}))) for e in queries.journal_of(tx, customer_id)
        ]


# --- create -----------------------------------------------------------------------------------------


def test_a_customer_is_created_once_however_often_the_form_is_sent(place: Served, ann: httpx.Client) -> None:
    text = ann.get(NEW).text
    assert set(inputs(text)) == {*FIELDS, "labels"}
    data = form(ann, name="Nora New", email_1="nora@example.com", labels="tier=gold\nfrom=fair")
    data["once"] = hidden(text, "once")
    first, again = ann.post(NEW, data=data), ann.post(NEW, data=data)
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    shown = ann.get(first.headers["location"]).text
    assert "Customer created." in shown
    assert "<h1>Nora New " in shown
    customer_id = int(re.findall(r"/customers/(\d+)", first.headers["location"])[0])
    with place.store.read() as tx:
        customer = queries.get_customer(tx, customer_id)
    assert customer is not None
    assert (customer.labels, customer.emails[0].email) == (
        {"tier": "gold", "from": "fair"},
        "nora@example.com",
    )
    assert [(who, action) for who, action, _ in journal(place, customer_id)] == [("user:ann", "create")]


REFUSED = {
    "name": ("a\tb", "Name has a control character (U+0009): remove it."),
    "company": ("x" * 501, "Company is too long: 500 characters are allowed."),
    "email_1": ("no-address", "Email_1 is not an e-mail address."),
    "email_2": ("no-reply-amazon-iba-buyer@amazon.de", "Email_2 is an address that many buyers share: it "),
    "phone": ("\x1b", "Phone has a control character (U+001B): remove it."),
    "external_id": ("x" * 129, "External_id is too long: 128 characters are allowed."),
    "discount_percent": ("101", "Discount_percent must be a number from 0 to 100, for example 2.5."),
    "currency": (
        "POUNDS",
        "Currency must be a currency's code of three letters (ISO 4217), for example GBP.",
    ),
    "delivery_country": ("Leeds", "Delivery_country must be a country's code of two letters (ISO 3166)"),
    "billing_country": ("QQ", "Billing_country must be a country's code of two letters (ISO 3166)"),
    "labels": ("gold", "A label is written key=value; key= takes it off."),
}


def test_each_refused_value_is_explained_beside_its_field_and_all_of_them_stay(
    place: Served, ann: httpx.Client
) -> None:
    """A customer that is created, and one that is edited."""
    typed = {name: value for name, (value, _) in REFUSED.items()} | {"price_list": "Trade", "tax_code": "T1"}
    customer_id = made(place, "--name", "Unchanged")
    for answer in (ann.post(NEW, data=form(ann, **typed)), edited(ann, customer_id, **typed)):
        assert answer.status_code == 422
        found = problems(answer.text)
        assert found.keys() == REFUSED.keys()
        for name, (_, sentence) in REFUSED.items():
            assert found[name].startswith(sentence), name
        kept = inputs(answer.text)
        assert {name: kept[name] for name in typed} == typed
        assert f"{len(REFUSED)} fields have a problem" in answer.text
    assert [action for _, action, _ in journal(place, customer_id)] == ["create"]


def test_an_empty_form_and_an_e_mail_twice_are_refused(ann: httpx.Client) -> None:
    assert "A customer needs at least one field" in ann.post(NEW, data=form(ann, name=" ")).text
    answer = ann.post(NEW, data=form(ann, email_1="a@example.com", email_3="A@example.com"))
    assert problems(answer.text) == {
        "email_3": "the same e-mail is given for two slots: one is enough.".capitalize()
    }


def test_what_another_customer_has_leads_to_that_customer(place: Served, ann: httpx.Client) -> None:
    holder = made(place, "--name", "Holder", "--email-1", "held@example.com", "--external-id", "E1")
    mine = made(place, "--name", "Mine")
    answer = edited(ann, mine, email_2="Held@example.com")
    assert answer.status_code == 422
    assert problems(answer.text)["email_2"].startswith(
        f"Customer {holder} has the e-mail of email_2: merge them"
    )
    assert f'href="/console/customers/{holder}/merge?other={mine}"' in answer.text
    answer = ann.post(NEW, data=form(ann, external_id="E1"))
    assert problems(answer.text)["external_id"].startswith(f"Customer {holder} has that external id")
    assert f'href="/console/customers/{holder}"' in answer.text


# --- edit -------------------------------------------------------------------------------------------


def test_an_edit_changes_what_differs_and_nothing_else(place: Served, ann: httpx.Client) -> None:
    customer_id = made(
        place, "--name", "Ed It", "--phone", "1", "--label", "tier=gold", "--label", "from=fair"
    )
    answer = edited(
        ann, customer_id, phone="", price_list="Trade", delivery_country="uk", labels="tier=silver"
    )
    assert answer.headers["location"] == f"/console/customers/{customer_id}?done=edited&lost=0"
    who, action, after = journal(place, customer_id)[-1]
    assert (who, action) == ("user:ann", "edit")
    assert after == {
        "phone": None,
        "price_list": "Trade",
        "delivery": {"country": "GB"},
        "labels": {"tier": "silver"},
    }
    with place.store.read() as tx:
        record = queries.get_customer(tx, customer_id)
    assert record is not None
    assert record.name == "Ed It"
    assert "company" not in record.origins, "what was left alone may still be filled"
    shown = ann.get(answer.headers["location"]).text
    assert "Changes saved." in shown
    assert "→ Trade" in shown


def test_an_edit_that_changes_nothing_is_refused_as_on_the_command_line(
    place: Served, ann: httpx.Client
) -> None:
    customer_id = made(place, "--name", "Same")
    answer = edited(ann, customer_id)
    assert answer.status_code == 422
    assert "Nothing to change: name at least one field." in answer.text
    assert [action for _, action, _ in journal(place, customer_id)] == ["create"]


def test_an_edit_of_what_has_changed_shows_both_and_overwrites_only_when_it_is_sent_again(
    place: Served, ann: httpx.Client
) -> None:
    customer_id = made(place, "--name", "Twice", "--price-list", "Retail")
    path = f"/console/customers/{customer_id}/edit"
    opened = ann.get(path).text
    place.shop("customers", "edit", str(customer_id), "--price-list", "Trade", "--label", "tier=gold")
    data = form(ann, **inputs(opened), etag=hidden(opened, "etag")) | {"name": "Mine"}
    answer = ann.post(path, data=data)
    assert answer.status_code == 412
    assert "has changed since you opened this form" in answer.text
    assert inputs(answer.text)["name"] == "Mine"
    assert re.findall(r"Stored now: ([^<]*)</p>", answer.text) == ["Twice", "Trade", "tier=gold"]
    assert [action for _, action, _ in journal(place, customer_id)] == ["create", "edit"]
    blind = ann.post(path, data=data | {"etag": "*"})
    assert blind.status_code == 412
    again = ann.post(path, data=data | {"etag": hidden(answer.text, "etag")})
    assert again.status_code == 303
    assert journal(place, customer_id)[-1][2] == {"name": "Mine", "price_list": "Retail", "labels": None}


def test_a_refused_edit_keeps_the_version_that_was_opened(place: Served, ann: httpx.Client) -> None:
    customer_id = made(place, "--name", "Slow")
    path = f"/console/customers/{customer_id}/edit"
    opened = ann.get(path).text
    place.shop("customers", "edit", str(customer_id), "--phone", "2")
    data = form(ann, **inputs(opened), etag=hidden(opened, "etag"))
    refused = ann.post(path, data=data | {"currency": "x"})
    assert refused.status_code == 412, "it has changed, which comes first"
    still = edited(ann, customer_id, currency="x")
    assert still.status_code == 422
    place.shop("customers", "edit", str(customer_id), "--phone", "3")
    data = form(ann, **inputs(still.text), etag=hidden(still.text, "etag")) | {"currency": "GBP"}
    assert ann.post(path, data=data).status_code == 412


def test_a_tombstone_and_an_unknown_customer_have_no_form(place: Served, ann: httpx.Client) -> None:
    kept, other = made(place, "--name", "Kept"), made(place, "--name", "Gone")
    place.shop("customers", "merge", str(kept), str(other))
    answer = ann.get(f"/console/customers/{other}/edit")
    assert answer.status_code == 422
    assert f"was merged into customer {kept}" in answer.text
    assert ann.get("/console/customers/4711/edit").status_code == 404
    answer = ann.post("/console/customers/4711/edit", data=form(ann, name="x", etag="x"))
    assert answer.status_code == 404


def test_a_form_of_another_page_or_without_the_scope_changes_nothing(
    place: Served, ann: httpx.Client
) -> None:
    customer_id = made(place, "--name", "Safe")
    reader = place.browser("reader", "read", "buyer-data")
    path = f"/console/customers/{customer_id}/edit"
    for target in (NEW, path):
        assert ann.post(target, data={"name": "x", "csrf_token": "0" * 40}).status_code == 403
        assert reader.get(target).status_code == 403
        assert reader.post(target, data=form(reader, name="x")).status_code == 403
    assert "Edit</a>" not in reader.get(f"/console/customers/{customer_id}").text
    assert [action for _, action, _ in journal(place, customer_id)] == ["create"]


# --- who may not see buyers -------------------------------------------------------------------------


def test_who_may_not_see_buyers_edits_the_terms_alone(place: Served) -> None:
    bob = place.browser("bob", "read", "write")
    with place.store.read() as tx:
        customer_id = queries.find_orders(tx, ORDERS[0])[0].customer_id or 0
    with logged() as events:
        text = bob.get(f"/console/customers/{customer_id}/edit").text
        assert set(inputs(text)) == {*FIELDS, "labels"} - {*BUYERS}
        assert not [piece for piece in PIECES if piece in text]
        answer = edited(bob, customer_id, price_list="Trade", currency="POUNDS")
        assert answer.status_code == 422
        assert not [piece for piece in PIECES if piece in answer.text]
        assert edited(bob, customer_id, price_list="Trade").status_code == 303
        for name in BUYERS:
            for target in (NEW, f"/console/customers/{customer_id}/edit"):
                answer = bob.post(target, data=form(bob, **{name: "x", "etag": "x"}))
                assert answer.status_code == 403, name
        answer = bob.post(f"/console/customers/{customer_id}/edit", data=form(bob, drop="email_1"))
        assert answer.status_code == 403
    assert said(events) == []
    assert journal(place, customer_id)[-1][2] == {"price_list": "Trade"}


def test_the_form_discloses_whose_it_is(place: Served, ann: httpx.Client) -> None:
    with place.store.read() as tx:
        customer_id = queries.find_orders(tx, ORDERS[1])[0].customer_id or 0
    with logged() as events:
        ann.get(f"/console/customers/{customer_id}/edit")
    assert said(events) == [{"who": "user:ann", "what": "customers", "ids": [customer_id]}]


# --- the customer's page ----------------------------------------------------------------------------


def test_first_last_and_creating_order_and_the_total_are_told_apart(place: Served, ann: httpx.Client) -> None:
    with place.store.read() as tx:
        orders = sorted(
            (queries.find_orders(tx, order_id)[0] for order_id in (ORDERS[0], ORDERS[4])),
            key=lambda order: order.created_at,
        )
    assert orders[0].customer_id == orders[1].customer_id
    text = ann.get(f"/console/customers/{orders[0].customer_id}").text
    figures = re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", text, re.DOTALL)
    facts = {
        name.strip(): re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", value)).strip() for name, value in figures
    }
    assert facts["Orders"] == "2"
    assert facts["First order"].endswith(orders[0].order_id)
    assert facts["Last order"].endswith(orders[1].order_id)
    assert orders[0].total is not None
    assert orders[1].total is not None
    assert facts["Total spent"] == f"{orders[0].total.amount + orders[1].total.amount:,} GBP"
    assert facts["Created from"].startswith("order 111-")


def test_the_list_is_filtered_by_status_and_business(place: Served, ann: httpx.Client) -> None:
    kept, other = made(place, "--name", "Stays"), made(place, "--name", "Goes")
    place.shop("customers", "merge", str(kept), str(other))

    def listed(**chosen: str) -> set[int]:
        text = ann.get("/console/customers", params=chosen).text
        return set(map(int, re.findall(r'class="row" href="/console/customers/(\d+)"', text)))

    assert {kept, other} <= listed(business="acme")
    assert other in listed(status="merged")
    assert kept not in listed(status="merged")
    assert listed(business="other") == set()


# --- duplicates and merging -------------------------------------------------------------------------


def test_duplicates_show_both_sides_and_are_merged_from_the_list(place: Served, ann: httpx.Client) -> None:
    one = made(place, "--name", "Dora Double", "--phone", "+44 113 4960001", "--email-1", "dora@example.com")
    two = made(place, "--company", "Dora Ltd", "--phone", "0044 113 4960001", "--price-list", "Trade")
    ann.post("/console/duplicates", data=form(ann))
    text = ""
    while "found by the search" not in text:
        text = ann.get("/console/duplicates").text
    (row,) = [
        r
        for r in re.findall(r"<tr>.*?</tr>", text, re.DOTALL)
        if f"/customers/{two}/" not in r and f"other={two}&" in r
    ]
    for piece in (
        "Dora Double",
        "dora@example.com",
        f"{one} · 0 orders",
        "Dora Ltd",
        "no e-mail",
        WORDS["phone"],
        "0.70",
    ):
        assert piece in row, piece
    with logged() as events:
        preview = ann.get(f"/console/customers/{one}/merge", params={"other": two, "from": "duplicates"}).text
    assert said(events) == [{"who": "user:ann", "what": "customers", "ids": [one, two]}]
    assert f"Customer {one} gains company Dora Ltd; price list Trade." in preview
    data = form(ann, other=str(two), etag=hidden(preview, "etag"), **{"from": "duplicates"})
    answer = ann.post(f"/console/customers/{one}/merge", data=data)
    assert answer.headers["location"] == f"/console/duplicates?kept={one}&merged={two}&moved=0"
    after = ann.get(answer.headers["location"]).text
    assert f"Merged customer {two} into" in after
    assert "1 merged since." in after
    assert f"other={two}&" not in after
    shown = ann.get(f"/console/customers/{one}").text
    assert f'action="/console/customers/{two}/unmerge"' in shown, "the journal undoes the last merge"


def test_duplicates_hide_buyers_from_those_who_may_not_see_them(place: Served, ann: httpx.Client) -> None:
    bob = place.browser("bob-too", "read")
    ann.post("/console/duplicates", data=form(ann))
    with logged() as events:
        text = ""
        while "found by the search" not in text:
            text = bob.get("/console/duplicates").text
        assert '<table class="cards likely">' in text
        assert not [piece for piece in PIECES if piece in text]
    assert said(events) == []
    with logged() as events:
        first = ann.get("/console/duplicates")
        assert said(events) != []
    with logged() as events:
        again = ann.get(
            "/console/duplicates", headers={"X-Live": "1", "If-None-Match": first.headers["etag"]}
        )
        assert again.status_code == 304
    assert said(events) == [], "an open page discloses nothing again"


def test_a_masked_preview_shows_effects_and_no_buyer(place: Served) -> None:
    bob = place.browser("bob-three", "read")
    with place.store.read() as tx:
        kept, other = sorted(
            queries.find_orders(tx, order_id)[0].customer_id or 0 for order_id in ORDERS[1:3]
        )
    text = bob.get(f"/console/customers/{kept}/merge", params={"other": other}).text
    assert not [piece for piece in PIECES if piece in text]
    assert f"Customer {kept} gains e-mails ***." in text
    assert '<tr class="gained">' in text
