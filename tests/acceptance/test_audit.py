"""Whatever shows buyer data, through whichever door, leaves an entry in the audit log before it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Mount

from poller.cli.commands import COMMANDS, load_command
from poller.web.app import make_api
from store import audit, queries
from store.audit import Filter
from store.audit_records import ACTIONS, AuditEntry
from store.engine import Transaction
from tests.acceptance.command_line import ROOT
from tests.acceptance.test_web_access import _walk
from tests.acceptance.web_world import (
    ALL,
    BAD,
    BUYERS,
    ORDERS,
    Served,
    entered,
    form,
    logged,
    problem,
    served,
)

PIECES = (*BUYERS, "fulfillmentServiceLevel")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as place:
        yield place


def entries(place: Served, **wanted: Any) -> list[AuditEntry]:
    """The entries of the log, oldest first."""
    with place.store.read() as tx:
        return audit.after(tx, 0, 100_000, Filter(**wanted))


def customers_of(place: Served) -> list[int]:
    def ids(tx: Transaction) -> list[int]:
        return sorted(record.customer_id for record in queries.list_customers(tx, limit=100))

    with place.store.read() as tx:
        return ids(tx)


def test_every_action_is_entered_somewhere() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "poller").rglob("*.py"))
    assert [action for action in ACTIONS if f'"{action}"' not in sources] == []


# --- the command line -----------------------------------------------------------------------------------

SHOWING = {
    ("customers", "list"): [],
    ("customers", "show"): ["{a}"],
    ("customers", "duplicates"): [],
    ("customers", "merge"): ["{a}", "{b}", "--yes"],
    ("customers", "unmerge"): ["{b}", "--yes"],
    ("customers", "import"): ["{csv}", "--yes"],
    ("export", "customers"): [],
    ("export", "orders"): [],
    ("orders", "list"): [],
    ("orders", "show"): [ORDERS[0]],
    ("privacy", "show"): ["{a}"],
    ("quarantine", "show"): [BAD],
}
"""Commands that show buyer data, with their arguments; run in this order."""

READING = {
    ("audit", "export"): [],
    ("audit", "list"): [],
    ("backfill", "list"): [],
    ("config", "check"): [],
    ("db", "check"): [],
    ("orders", "explain"): [ORDERS[0]],
    ("policy", "report"): [],
    ("quarantine", "list"): [],
    ("status",): [],
    ("tokens", "list"): [],
    ("users", "list"): [],
    ("users", "sessions"): [],
    ("webhooks", "list"): [],
}
"""Commands that read what is stored and show no buyer data."""

CHANGING = """
access review; accounts confirm; accounts rename; alerts test; backfill cancel; backfill pause; backfill plan;
backfill resume; backfill show; backfill start; customers create; customers edit; db copy; db upgrade; demo;
health; init; keys new; keys rotate; orders fetch; privacy forget; privacy purge; quarantine retry; run;
simulator; sync; tokens add; tokens remove; users add; users end-sessions; users link; users passwd;
users remove; users reset-totp; users unlock; verify; webhooks add; webhooks dead;
webhooks remove; webhooks replay; worker
"""
"""Commands that change something, or run, and answer with ids and counts."""


def commands() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name in COMMANDS:
        command = load_command(name)
        if not isinstance(command, typer.Typer):
            found.add((name,))
            continue
        for each in command.registered_commands:
            assert each.callback is not None
            found.add((name, each.name or each.callback.__name__.replace("_", "-")))
    return found


def test_every_command_is_known_to_show_buyer_data_or_not() -> None:
    changing = {tuple(words.split()) for words in CHANGING.replace("\n", " ").split(";")}
    assert commands() - {*SHOWING, *READING, *changing} == set()


@pytest.mark.long
def test_every_command_that_shows_buyer_data_is_in_the_log_with_whose_it_was(place: Served) -> None:
    a, b = customers_of(place)[:2]
    csv = place.shop.folder / "customers.csv"
    csv.write_text("external_id,name,email_1\nx-1,Quentin Imported,quentin-x@example.com\n")
    values = {"a": a, "b": b, "csv": csv}
    quiet = {("customers", "unmerge"), ("customers", "import"), ("customers", "duplicates")}
    for command, arguments in SHOWING.items():
        before = len(entries(place))
        result = place.shop(*command, *(argument.format(**values) for argument in arguments))
        shown = [piece for piece in PIECES if piece in result.out]
        assert bool(shown) or command in quiet, command
        new = entries(place)[before:]
        assert new or command == ("customers", "duplicates"), command
        assert all(entry.actor.door == "cli" and entry.actor.who.startswith("cli:") for entry in new), command
        assert not re.search("|".join(PIECES), str(new)), command
    order = [entry.action for entry in entries(place, order=ORDERS[0])]
    assert order[:3] == ["exported", "disclosed", "disclosed"]
    exported = entries(place, action="exported")
    assert [entry.records.count for entry in exported if entry.records] == [
        len(place.shop("export", what).out.splitlines()) for what in ("customers", "orders")
    ]


@pytest.mark.long
def test_a_command_that_shows_no_buyer_data_leaves_no_entry(place: Served) -> None:
    for command, arguments in READING.items():
        if command not in commands():
            continue
        result = place.shop(*command, *arguments, status=None)
        assert not [piece for piece in PIECES if piece in result.out + result.err], command
    assert entries(place) == []


@pytest.mark.long
def test_the_log_is_listed_filtered_and_exported_from_a_position(place: Served) -> None:
    place.shop("orders", "show", ORDERS[0])
    first = place.shop("audit", "export")
    place.shop("orders", "show", ORDERS[1])
    second = place.shop("audit", "export", "--since", first.messages[-1])
    (one,), (two,) = ([json.loads(line) for line in each.lines] for each in (first, second))
    assert (one["ids"], two["ids"]) == ([ORDERS[0]], [ORDERS[1]])
    assert place.shop("audit", "list", "--json").json() == [two, one]
    assert place.shop("audit", "list", "--json", "--order", ORDERS[0]).json() == [one]
    assert place.shop("audit", "list", "--json", "--who", "cli:*", "--limit", "1").json() == [two]
    assert ORDERS[1] in place.shop("audit", "list", "--action", "disclosed").out
    assert place.shop("audit", "list", "--to", "2020-01-01").messages == ["no entry matches"]
    for wrong in (("--action", "seen"), ("--from", "soon")):
        assert place.shop("audit", "list", *wrong, status=2).messages[-1].startswith("error: ")
    assert "after a restore" in place.shop("audit", "export", "--since", "99", status=2).err


@pytest.mark.long
def test_what_administration_does_is_in_the_log(place: Served) -> None:
    (a,) = customers_of(place)[:1]
    place.shop("webhooks", "add", "https://hooks.example.com/secret-part")
    place.shop("webhooks", "replay", "1", "--dead")
    place.shop("webhooks", "remove", "1")
    place.shop("privacy", "purge")
    place.shop("keys", "rotate")
    place.shop("privacy", "forget", str(a), "--yes")
    place.shop("privacy", "forget", "--account", "acme", "--yes")
    done = entries(place)
    assert [entry.action for entry in done] == [
        *("webhook_added", "webhook_replayed", "webhook_removed", "purged", "keys_rotated"),
        *("customer_forgotten", "account_forgotten"),
    ]
    assert "secret-part" not in str(done)
    assert [entry.action for entry in entries(place, customer=a)] == ["customer_forgotten"]


@pytest.mark.long
def test_what_is_done_with_users_and_tokens_is_in_the_log(place: Served) -> None:
    place.shop("tokens", "add", "erp", "--scope", "read")
    place.shop("tokens", "remove", "erp")
    place.shop("users", "add", "ann", "--without-password", "--scope", "write")
    place.shop("users", "add", "ann", "--without-password", status=2)
    for command in ("link", "unlock", "reset-totp", "end-sessions", "remove"):
        place.shop("users", command, "ann")
    place.shop("users", "remove", "ann", status=2)
    place.shop("access", "review", "--no-record")
    place.shop("access", "review")
    found = [(entry.action, entry.detail) for entry in entries(place)]
    assert found == [
        ("token_added", "erp: read"),
        ("token_removed", "erp"),
        ("user_added", "ann: read write"),
        ("link_made", "ann"),
        ("user_unlocked", "ann"),
        ("second_factor_changed", "ann: removed"),
        ("user_removed", "ann"),
        ("access_reviewed", found[-1][1]),
    ]


def test_signing_in_and_out_is_in_the_log(place: Served) -> None:
    link = place.shop("users", "link", "walker", status=2)
    assert "no user" in link.err
    place.shop("users", "add", "ann", "--without-password")
    url = place.shop("users", "link", "ann").out.strip()
    browser = place.client()
    with logged() as events:
        target = f"/console/enter?{url.partition('?')[2]}"
        assert entered(browser, target).status_code == 303
        assert entered(place.client(), target).status_code == 403
        page = browser.get("/console/").text
        (token,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', page))
        assert browser.post("/console/sign-out", data={"csrf_token": token}).status_code == 303
        assert browser.get("/console/").headers["location"].startswith("/console/sign-in")
    found = [(entry.actor.who, entry.action, entry.detail) for entry in entries(place)[2:]]
    assert found == [
        ("user:ann", "signed_in", "link"),
        ("anonymous", "sign_in_refused", "link"),
        ("user:ann", "signed_out", None),
    ]
    assert [event["event"] for event in events] == [action for _, action, _ in found]


def test_nothing_is_shown_if_it_cannot_be_recorded(place: Served) -> None:
    client = place.client(*ALL)
    place.store.commit(lambda tx: tx.conn.exec_driver_sql("DROP TABLE audit_subjects"))
    for path in (f"/orders/{ORDERS[0]}", "/customers"):
        answer = client.get(path)
        assert answer.status_code >= 500, path
        assert not [piece for piece in PIECES if piece in answer.text], path
    result = place.shop("orders", "show", ORDERS[0], status=1)
    assert not [piece for piece in PIECES if piece in result.out]


# --- HTTP -----------------------------------------------------------------------------------------------

BODIES: dict[str, dict[str, Any]] = {
    "/customers/search": {"email": "quentin-b@marketplace.amazon.co.uk"},
    "/customers/{customer_id}/merge/preview": {"other_id": "{b}"},
}
"""Requests by POST that read; all other POSTs change something and answer with ids and states."""

FORMS: dict[str, dict[str, str]] = {
    "/console/search": {"q": "quentin-b@marketplace.amazon.co.uk"},
    "/console/search/suggestions": {"q": "0000001"},
    "/console/customers/{customer_id}/merge/preview": {"other": "{b}"},
    "/console/customers/{customer_id}/edit": {"email_1": "no address"},
    "/console/quarantine/{account}/{order_id}/retry": {},
}


def test_every_route_that_shows_buyer_data_is_in_the_log_and_no_other(place: Served) -> None:
    client, browser = place.client(*ALL), place.browser("walker", *ALL)
    a, b = customers_of(place)[:2]
    shown_by: set[str] = set()
    for path, methods in _walk(make_api(place.service).routes):
        is_page = path.startswith("/console/")
        quarantined = "/quarantine/" in path
        values = {
            "customer_id": a,
            "order_id": BAD if quarantined else ORDERS[0],
            "account": "acme",
            "source": "acme:EU",
            "backfill_id": 1,
            "verification_id": 1,
            "path": "console.css",
        }
        before = len(entries(place))
        url = re.sub(r":\w+\}", "}", path).format(**values)
        if path.endswith("/merge") and is_page:
            url += f"?other={b}"
        if "GET" in methods:
            answer = (browser if is_page else client).get(url)
        elif path in BODIES:
            body = {key: b if value == "{b}" else value for key, value in BODIES[path].items()}
            answer = client.post(url, json=body)
        elif path in FORMS:
            fields = {key: value.format(b=b) for key, value in FORMS[path].items()}
            answer = browser.post(url, data=form(browser, **fields))
        else:
            continue
        new = entries(place)[before:]
        shown = [piece for piece in PIECES if piece in answer.text]
        is_disclosed = [entry for entry in new if entry.action == "disclosed"]
        assert bool(shown) == bool(is_disclosed), (path, shown, new)
        assert all(e.actor.door == ("console" if is_page else "http") for e in new), path
        assert all(e.actor.client == "127.0.0.1" for e in new), path
        if shown:
            shown_by.add(path)
    assert shown_by == {
        "/orders",
        "/orders/{order_id}",
        "/customers",
        "/customers/{customer_id}",
        "/customers/search",
        "/customers/{customer_id}/merge/preview",
        "/quarantine/{account}/{order_id}",
        "/console/orders",
        "/console/orders/{account}/{order_id}",
        "/console/customers",
        "/console/customers/{customer_id}",
        "/console/customers/{customer_id}/edit",
        "/console/customers/{customer_id}/merge",
        "/console/customers/{customer_id}/merge/preview",
        "/console/orders.csv",
        "/console/quarantine/{account}/{order_id}",
        "/console/quarantine/{account}/{order_id}/retry",
        "/console/search",
        "/console/search/suggestions",
    }


def test_every_change_answers_without_buyer_data(place: Served) -> None:
    """A route that changes something and is not in the walk above answers a model without buyers' fields."""
    hidden = {"name", "emails", "email_1", "buyer_name", "buyer_email", "payload", "phone", "delivery"}
    for route in _api_routes(make_api(place.service).routes):
        if route.path in BODIES or "GET" in (route.methods or ()):
            continue
        fields = set(getattr(route.response_model, "model_fields", {}))
        assert not fields & hidden, route.path


def _api_routes(routes: Any) -> Iterator[APIRoute]:
    for context in iter_route_contexts(routes):
        if isinstance(context.original_route, APIRoute) and not isinstance(context.original_route, Mount):
            yield context.original_route


def test_the_log_is_read_over_http_by_those_with_all_scopes(place: Served) -> None:
    client = place.client(*ALL)
    with logged() as events:
        client.get(f"/orders/{ORDERS[0]}")
        client.get(f"/orders/{ORDERS[1]}")
    who = "token:read-write-buyer-data"
    lines = [event for event in events if event["event"] == "disclosed"]
    assert [(line["who"], line["client"], line["ids"]) for line in lines] == [
        (who, "127.0.0.1", [order_id]) for order_id in ORDERS[:2]
    ]
    newest = client.get("/audit", params={"limit": 1}).json()
    assert [item["ids"] for item in newest["items"]] == [[ORDERS[1]]]
    older = client.get("/audit", params={"limit": 1, "cursor": newest["next"]}).json()
    assert [item["ids"] for item in older["items"]] == [[ORDERS[0]]]
    wanted = {"who": who, "action": "disclosed", "order_id": ORDERS[0], "since": "2026-01-01"}
    assert client.get("/audit", params=wanted).json()["items"] == older["items"]
    assert client.get("/audit", params={"until": "2020-01-01"}).json()["items"] == []
    for scopes in (("read",), ("read", "write"), ("read", "buyer-data")):
        problem(place.client(*scopes).get("/audit"), 403, "scope")
    shown = place.browser("auditor", *ALL).get("/console/audit", params={"order": ORDERS[0]})
    assert ORDERS[0] in shown.text
    assert ORDERS[1] not in shown.text
    bob = place.browser("bob", "read")
    assert bob.get("/console/audit").status_code == 403
    assert "/console/audit" not in bob.get("/console/").text


# --- refused attempts -------------------------------------------------------------------------------


def test_refused_requests_are_in_the_log_with_who_and_from_where(place: Served) -> None:
    reader, wrong, nobody = place.client("read"), place.client(Authorization="Bearer wrong"), place.client()
    browser = place.browser("clicker", "read", "write")
    with logged() as events:
        problem(wrong.get("/orders"), 401, "token")
        problem(nobody.get("/orders"), 401, "token")
        problem(reader.post("/customers", json={}), 403, "scope")
        problem(reader.post("/customers/search", json={"email": "a@example.com"}), 403, "scope")
        assert browser.post("/console/duplicates", data={"csrf_token": "x"}).status_code == 403
        other = {"Origin": "https://evil.example"}
        problem(place.client(**other).post("/customers", json={}), 403, "origin")
    found = [(e.actor.who, e.actor.door, e.action, e.outcome, e.detail) for e in entries(place)]
    assert found == [
        ("anonymous", "http", "token_refused", "refused", None),
        ("anonymous", "http", "token_missing", "refused", None),
        ("token:read", "http", "scope_refused", "refused", "write"),
        ("token:read", "http", "scope_refused", "refused", "buyer-data"),
        ("user:clicker", "console", "form_refused", "refused", None),
        ("anonymous", "http", "form_refused", "refused", None),
    ]
    assert {e.actor.client for e in entries(place)} == {"127.0.0.1"}
    assert [event["event"] for event in events] == [action for _, _, action, _, _ in found]


def test_a_flood_of_wrong_tokens_leaves_a_few_entries_and_lines(place: Served) -> None:
    wrong = place.client(Authorization="Bearer wrong")
    with logged() as events:
        answers = [wrong.get("/orders").status_code for _ in range(60)]
    assert {401, 429} == set(answers)
    found = entries(place)
    assert {entry.action for entry in found} == {"token_refused", "locked"}
    assert len(found) <= 8  # a minute may end meanwhile
    assert len(events) <= 40
