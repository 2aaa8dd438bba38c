"""The API answers what the command line prints, and does what the command line does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from connectors.errors import BudgetEmpty
from connectors.simulator.faults import GET, Faults
from poller.ingest.by_id import SingleOrders
from store import tables
from tests.acceptance.command_line import STARTED
from tests.acceptance.web_world import ALL, BAD, ORDERS, Served, problem, served


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web")) as place:
        yield place


@pytest.fixture(scope="module")
def client(place: Served) -> httpx.Client:
    return place.client(*ALL)


def pages(client: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """A whole list, two at a time."""
    items, cursor = [], None
    while True:
        sent = query | {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = client.get(path, params=sent).json()
        assert len(page["items"]) <= 2
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items


def ids(items: list[dict[str, Any]], key: str = "order_id") -> list[Any]:
    return [item[key] for item in items]


def day(ago: float) -> str:
    return f"{STARTED - timedelta(days=ago):%Y-%m-%d}"


# --- orders -------------------------------------------------------------------------------------------


@pytest.mark.long
def test_orders_are_those_of_the_command_line_page_by_page(place: Served, client: httpx.Client) -> None:
    listed = pages(client, "/orders")
    assert listed == place.shop("orders", "list", "--json").json()
    assert ids(listed) == list(ORDERS)
    shown = client.get(f"/orders/{ORDERS[0]}").json()
    assert shown == place.shop("orders", "show", ORDERS[0], "--json").json() == listed[0]


def test_orders_are_filtered(client: httpx.Client) -> None:
    def ids_of(**query: Any) -> list[str]:
        return ids(pages(client, "/orders", **query))

    assert ids_of(marketplace="de") == [ORDERS[3]]
    assert ids_of(marketplace="GB", status="unshipped", account="acme") == [*ORDERS[:3], ORDERS[4]]
    assert ids_of(account="other") == ids_of(status="SHIPPED") == ids_of(customer_id=999) == []
    first = client.get(f"/orders/{ORDERS[0]}").json()
    assert ids_of(customer_id=first["customer_id"]) == [ORDERS[0], ORDERS[4]]
    assert ids_of(match_basis="email_1") in ([ORDERS[0]], [ORDERS[4]])  # whichever was stored second
    third = client.get(f"/orders/{ORDERS[2]}").json()["created_at"]
    assert ids_of(created_from=third) == list(ORDERS[:3])
    assert ids_of(created_to=third) == list(ORDERS[3:])
    assert "Amazon" in problem(client.get("/orders", params={"marketplace": "Mars"}), 422, "invalid")
    detail = problem(client.get("/orders", params={"created_from": "yesterday"}), 422, "invalid")
    assert detail == "Invalid request: created_from must look like 2026-01-31."


@pytest.mark.parametrize(
    "path",
    [
        "/orders",
        "/customers",
        "/customers/duplicates",
        "/runs",
        "/verifications",
        "/backfills",
        "/quarantine",
        "/sources",
        "/changes",
        f"/orders/{ORDERS[0]}",
    ],
)
def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(
    client: httpx.Client, path: str
) -> None:
    answer = client.get(path, params={"stat": "shiped", "limit": 0})
    detail = problem(answer, 422, "invalid")
    assert detail.startswith(("unknown query parameter stat;", "unknown query parameters stat, limit;"))
    assert answer.json()["errors"][0] == {"where": "query.stat", "what": "is unknown"}
    assert "shiped" not in answer.text
    assert client.get(path).status_code == 200


def test_the_parameters_of_orders_are_named(client: httpx.Client) -> None:
    detail = problem(client.get("/orders", params={"stat": "SHIPPED"}), 422, "invalid")
    assert detail == (
        "unknown query parameter stat; this address takes account, created_from, created_to, cursor, "
        "customer_id, limit, marketplace, match_basis, status."
    )
    twice = client.post("/orders/1/fetch", params={"account": "acme"}, json={"account": "acme"})
    assert problem(twice, 422, "invalid") == "unknown query parameter account; this address takes none."
    for probed in ("/healthz", "/readyz", "/metrics"):
        assert client.get(probed, params={"t": 1}).status_code != 422, probed


@pytest.mark.parametrize(
    ("path", "parameters", "remedy"),
    [
        ("/orders", {"limit": "0"}, "limit must be at least 1"),
        ("/orders", {"limit": "501"}, "limit must be at most 500"),
        ("/orders", {"limit": "many"}, "limit must be a whole number"),
        ("/orders", {"created_from": "01/02/2026"}, "created_from must look like 2026-01-31"),
        (
            "/customers",
            {"status": "gone"},
            "status must be 'active', 'unidentified', 'merged' or 'forgotten'",
        ),
        ("/changes", {"after": "9" * 61}, "after must have at most 60 characters"),
        ("/changes", {"after": "soon"}, "a position is a number such as 4711 or 4711.2.99"),
        ("/customers/4711", {}, "there is no customer 4711: `order-sync customers list` finds"),
        ("/quarantine/acme/1", {}, "this order is not in quarantine: `order-sync quarantine list` lists"),
        ("/sources/acme:JP", {}, "GET /sources lists them"),
        ("/verifications/4711", {}, "GET /verifications lists them"),
        ("/nowhere", {}, "/openapi.json lists those there are"),
    ],
)
def test_what_is_wrong_has_its_remedy(
    client: httpx.Client, path: str, parameters: dict[str, str], remedy: str
) -> None:
    answer = client.get(path, params=parameters)
    assert answer.status_code in (404, 422)
    assert remedy in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"name": 1}', "name must be a text"),
        ('{"labels": []}', "labels must be a JSON object"),
        ('{"emails": 1}', "emails is unknown"),
    ],
)
def test_a_wrong_body_has_its_remedy(client: httpx.Client, body: str, remedy: str) -> None:
    answer = client.post("/customers", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert remedy in answer.json()["detail"]


def test_a_position_of_a_feed_continues_an_export_and_the_other_way_round(
    place: Served, client: httpx.Client
) -> None:
    within = client.get("/changes", params={"limit": 1}).json()["position"]
    assert within.count(".") == 2
    exported = place.shop("export", "orders", "--since", within)
    end = exported.messages[-1]
    assert exported.lines
    assert client.get("/changes", params={"after": end}).json()["events"] == []
    refused = place.shop("export", "orders", "--since", "4711.2", status=2).messages
    assert refused == [
        "error: --since: a position is a number such as 4711 or 4711.2.99, as the last answer or "
        "`order-sync export` gave it."
    ]


def test_a_wrong_method_names_those_there_are(client: httpx.Client) -> None:
    assert (
        problem(client.put("/orders"), 405, "method")
        == "this address does not support this method: it takes GET."
    )


def test_a_missing_order_differs_from_one_in_quarantine(client: httpx.Client) -> None:
    unknown = problem(client.get("/orders/111-0000000-9999999"), 404, "unknown")
    assert unknown == "this order is not in the database: `order-sync orders fetch ID` reads it from Amazon."
    quarantined = problem(client.get(f"/orders/{BAD}"), 404, "unknown")
    assert quarantined == "this order is in quarantine: `order-sync quarantine show ID` says why."
    problem(client.get(f"/orders/{ORDERS[0]}", params={"account": "other"}), 404, "unknown")


def test_an_order_is_explained_as_on_the_command_line(place: Served, client: httpx.Client) -> None:
    detail = client.get(f"/orders/{ORDERS[4]}/explanation").json()
    lines = [detail["headline"], *detail["reasons"], detail["buyer_data"]]
    assert lines == [line.strip() for line in place.shop("orders", "explain", ORDERS[4]).lines]
    assert detail["customer_id"] == client.get(f"/orders/{ORDERS[4]}").json()["customer_id"]


def test_an_order_is_refetched(place: Served, client: httpx.Client) -> None:
    def fetch(order_id: str, account: str = "acme") -> httpx.Response:
        return client.post(f"/orders/{order_id}/fetch", json={"account": account})

    assert fetch(ORDERS[1]).json()["message"] == f"{ORDERS[1]}: unchanged"
    place.shop.world.order("111-0000000-0000008", created=STARTED - timedelta(days=1, hours=1))
    assert fetch("111-0000000-0000008").json()["message"] == "111-0000000-0000008: new, stored"
    assert client.get("/orders/111-0000000-0000008").status_code == 200
    assert problem(fetch("1"), 422, "refused").startswith("1 is not an order id")
    detail = problem(fetch("111-0000000-7777777"), 409, "not-stored")
    assert detail == "Amazon knows no order 111-0000000-7777777 of account acme."
    assert "there is no usable account other" in problem(fetch(ORDERS[1], "other"), 422, "refused")
    place.shop.simulator.faults = Faults.only("forbidden", operations=[GET])
    try:
        problem(fetch(ORDERS[1]), 502, "amazon")
    finally:
        place.shop.simulator.faults = Faults()


def test_an_empty_budget_is_reported_with_its_time(
    place: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(*_: object) -> None:
        raise BudgetEmpty("the request budget is used up", STARTED)

    monkeypatch.setattr(SingleOrders, "fetch", empty)
    answer = client.post(f"/orders/{ORDERS[1]}/fetch", json={"account": "acme"})
    assert problem(answer, 503, "deferred").endswith(f"until {STARTED:%Y-%m-%dT%H:%M:%SZ}.")
    assert answer.headers["Retry-After"] == "60"


# --- customers ----------------------------------------------------------------------------------------


def test_customers_are_those_of_the_command_line_page_by_page(place: Served, client: httpx.Client) -> None:
    listed = pages(client, "/customers")
    assert listed == place.shop("customers", "list", "--json").json()
    numbers = ids(listed, "customer_id")
    assert numbers == sorted(numbers, reverse=True)
    assert pages(client, "/customers", status="merged") == pages(client, "/customers", business="x") == []
    assert ids(pages(client, "/customers", business="acme", status="active"), "customer_id") == numbers
    shown = client.get(f"/customers/{numbers[0]}").json()
    assert shown == listed[0]
    problem(client.get("/customers/999"), 404, "unknown")
    problem(client.get("/customers/999/journal"), 404, "unknown")
    problem(client.get("/customers/0"), 422, "invalid")


def test_a_customer_is_created_found_and_its_changes_are_listed(client: httpx.Client) -> None:
    made = client.post(
        "/customers",
        json={
            "name": "Zoe Invented",
            "email_1": "Zoe@Example.com",
            "delivery": {"line1": "1 High Street", "postal_code": "LS1 1AA", "country": "gb"},
            "labels": {"segment": "B2B"},
            "discount_percent": "2.5",
        },
    )
    number = made.json()["customer_id"]
    assert made.json()["changed"] == sorted(
        [
            *("name", "email_1", "discount_percent", "label segment"),
            *("delivery_line1", "delivery_postal_code", "delivery_country"),
        ]
    )
    (match,) = client.post("/customers/search", json={"email": "zoe@example.com"}).json()["items"]
    assert (match["customer_id"], match["delivery"]["country"], match["contactable"]) == (number, "GB", True)
    (entry,) = client.get(f"/customers/{number}/journal").json()
    assert (entry["who"], entry["action"]) == ("token:read-write-buyer-data", "create")
    assert entry["after"]["name"] == "Zoe Invented"

    # Errors name the field, never the value.
    for sent, detail in (
        ({"email_1": "nonsense"}, "email_1 is not an e-mail address."),
        ({"discount_percent": "101"}, "discount_percent must be a number from 0 to 100, for example 2.5."),
        (
            {"delivery": {"country": "England"}},
            "delivery_country must be a country's code of two letters (ISO 3166)",
        ),
        ({"business": "other", "name": "Z"}, "there is no business other; there is acme."),
        ({"email_1": "zoe@example.com"}, f"email_1: customer {number} has it"),
    ):
        answer = problem(client.post("/customers", json=sent), 422, "refused")
        assert detail.partition(":")[0] in answer
        assert "nonsense" not in answer


def test_possible_duplicates_are_suggested_with_reasons(client: httpx.Client) -> None:
    address = {"line1": "9 Low Street", "postal_code": "YO1 7HH", "country": "GB"}
    made = [
        client.post("/customers", json={"name": "Double Invented", "delivery": address}).json()["customer_id"]
        for _ in range(2)
    ]
    duplicates = client.get("/customers/duplicates", params={"limit": 500}).json()
    pairs = {frozenset((pair["customer_id"], pair["other_id"])): pair for pair in duplicates["items"]}
    assert pairs[frozenset(made)]["reasons"]
    assert duplicates["total"] == len(duplicates["items"])


# --- sources, runs, backfills ---------------------------------------------------------------------------


def test_sources_and_runs_are_listed(place: Served, client: httpx.Client) -> None:
    status, printed = client.get("/status").json(), place.shop("status", "--json").json()
    assert status.keys() == printed.keys()
    (source,) = client.get("/sources").json()
    assert source.keys() == printed["sources"][0].keys()
    assert client.get("/sources/acme:EU").json()["source"] == "acme:EU"
    problem(client.get("/sources/acme:NA"), 404, "unknown")
    runs = pages(client, "/runs")
    assert ids(runs, "run") == sorted(ids(runs, "run"), reverse=True)
    assert {run["source"] for run in runs} == {"acme:EU"}
    assert pages(client, "/runs", source="acme:EU") == runs
    assert pages(client, "/runs", source="none") == []


def test_a_backfill_is_planned_started_and_directed(place: Served, client: httpx.Client) -> None:
    wanted = {"marketplace": "UK", "from": day(60), "to": day(40)}
    before = client.get("/backfills").json()
    plan = client.post("/backfills/plan", json=wanted).json()
    assert (plan["marketplace"], plan["from"]) == ("UK", f"{day(60)}T00:00:00Z")
    assert plan["search"]["requests"] > 0
    assert client.get("/backfills").json() == before

    started = client.post("/backfills", json=wanted)
    number = started.json()["id"]
    assert (started.status_code, started.headers["Location"]) == (201, f"/backfills/{number}")
    assert (started.json()["state"], started.json()["notes"]) == ("planned", [])
    again = problem(client.post("/backfills", json=wanted), 422, "refused")
    assert again.startswith(f"backfill {number} already fetches this")

    def direct(word: str) -> httpx.Response:
        return client.post(f"/backfills/{number}/{word}")

    assert direct("pause").json() == {"id": number, "state": "paused", "notes": []}
    detail = problem(direct("pause"), 422, "refused")
    assert detail.startswith(f"backfill {number} is already paused: it need not be paused")
    overlap = client.post("/backfills/plan", json=wanted | {"to": day(50)}).json()
    assert overlap["notes"] == [f"backfill {number} is paused and overlaps"]
    assert direct("resume").json()["state"] == "running"
    shown = client.get(f"/backfills/{number}").json()
    printed = place.shop("backfill", "show", str(number), "--json").json()
    assert shown | {"eta": None} == printed | {"eta": None}  # time passes between the two
    assert direct("cancel").json()["state"] == "cancelled"
    problem(direct("resume"), 422, "refused")
    assert client.get("/backfills").json() == place.shop("backfill", "list", "--json").json()
    problem(client.post("/backfills/999/pause"), 404, "unknown")
    problem(client.get("/backfills/999"), 404, "unknown")
    for change, detail in (
        ({"marketplace": "FR"}, "FR is not polled; polled: acme:DE, acme:UK."),
        ({"to": day(60)}, f"from {day(60)} is not before to {day(60)}"),
        ({"from": "yesterday"}, "from yesterday is not a date or time"),
        ({"account": "other"}, "there is no usable account other; accounts: acme."),
    ):
        assert detail in problem(client.post("/backfills", json=wanted | change), 422, "refused")
        assert detail in problem(client.post("/backfills/plan", json=wanted | change), 422, "refused")


# --- quarantine, verifications ----------------------------------------------------------------------------


def test_an_order_in_quarantine_is_shown_and_retried(place: Served, client: httpx.Client) -> None:
    listed = client.get("/quarantine").json()
    assert listed == place.shop("quarantine", "list", "--json").json()
    assert ids(listed) == [BAD]
    path = f"/quarantine/acme/{BAD}"
    shown = client.get(path).json()
    assert {key: shown[key] for key in listed[0]} == listed[0]
    assert BAD in shown["payload"]
    problem(client.get(f"/quarantine/other/{BAD}"), 404, "unknown")

    still = client.post(f"{path}/retry", json={}).json()
    assert (still["stored"], still["message"].startswith("stays: ")) == (False, True)
    place.shop.world.update(BAD, STARTED - timedelta(hours=1), poison=None)
    mended = client.post(f"{path}/retry", json={"refetch": True}).json()
    assert (mended["stored"], mended["message"]) == (True, None)
    assert client.get("/quarantine").json() == []
    problem(client.post(f"{path}/retry", json={}), 404, "unknown")
    assert client.get(f"/orders/{BAD}").status_code == 200


def test_a_verification_is_requested_and_carried_out_by_the_service(
    place: Served, client: httpx.Client
) -> None:
    with place.store.begin() as tx:
        key = sa.select(tables.orders.c.order_key).where(tables.orders.c.order_id == ORDERS[1])
        for table in (tables.order_lines, tables.orders):
            tx.conn.execute(sa.delete(table).where(table.c.order_key.in_(key)))
    wanted = {"marketplace": "UK", "from": day(3), "to": day(-1), "by": "search", "repair": True}
    begun = client.post("/verifications", json=wanted)
    assert (begun.status_code, begun.json()["state"]) == (202, "reading")
    path = begun.headers["Location"]
    assert client.post("/verifications", json=wanted).headers["Location"] == path
    for _ in range(20):
        place.service.syncer("acme:EU").verifier().carry_out_scheduled()
        if client.get(path).json()["state"] == "done":
            break
    verification = client.get(path).json()
    assert (verification["state"], verification["missing"], verification["still_missing"]) == ("done", 1, 0)
    found = {finding["order_id"]: finding["outcome"] for finding in verification["orders"]}
    assert found.pop(BAD, None) is None, "still in quarantine, if no other test has released it"
    assert found == {ORDERS[1]: "stored"}
    assert client.get(f"/orders/{ORDERS[1]}").status_code == 200
    assert pages(client, "/verifications")[0] == verification
    problem(client.get("/verifications/999"), 404, "unknown")
    ahead = client.post("/verifications", json=wanted | {"from": day(-2), "to": day(-3)})
    assert "nothing of that period has been read yet" in problem(ahead, 422, "refused")
    garbled = client.post("/verifications", json=wanted | {"from": "yesterday"})
    assert "from yesterday is not a date or time" in problem(garbled, 422, "refused")
