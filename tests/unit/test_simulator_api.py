"""The simulator is as strict as Amazon: each rule of the Orders API has a test here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.messages import Answer, Request
from connectors.simulator.orders import POISONS, Line, Package, TaxNumber, order
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ALL = "BUYER,RECIPIENT,PROCEEDS,EXPENSE,PROMOTION,CANCELLATION,FULFILLMENT,PACKAGES,TAX,PAYMENT"
UK, DE = "A1F83G8C2ARO7P", "A1PA6795UKMFR9"
SEARCH_PATH = "/orders/2026-01-01/orders"
FAST = {"searchOrders": UsagePlan(1000, 10_000)}


class Client:
    """A minimal client: an adjustable clock, a token, and the three operations."""

    def __init__(self, world: World | None = None, **options: Any) -> None:
        self.time = NOON
        self.world = world or World()
        self.simulator = Simulator(self.world, now=lambda: self.time, **({"plans": FAST} | options))
        self.token = ""

    def login(self, **form: str) -> Answer:
        seller = next(iter(self.world.sellers.values()))
        body = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": seller.refresh_token,
        } | form
        return self.simulator.handle(Request("POST", "/auth/o2/token", body=urlencode(body).encode()))

    def get(self, path: str, query: dict[str, str] | str = "", **headers: str) -> Answer:
        if not self.token:
            self.token = json.loads(self.login().body)["access_token"]
        raw = query if isinstance(query, str) else urlencode(query)
        return self.simulator.handle(Request("GET", path, raw, {"x-amz-access-token": self.token, **headers}))

    def search(self, **query: str) -> Answer:
        return self.get(SEARCH_PATH, query)

    def page(self, **query: str) -> dict[str, Any]:
        answer = self.search(**({"createdAfter": "2026-05-01T00:00:00Z", "includedData": ALL} | query))
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def one(self, order_id: str, included: str = ALL) -> dict[str, Any]:
        answer = self.get(f"{SEARCH_PATH}/{order_id}", {"includedData": included} if included else "")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)["order"]
        return found


def ids(page: dict[str, Any]) -> list[str]:
    return [one["orderId"] for one in page["orders"]]


def error(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["errors"][0]["code"]


def many(count: int, **facts: Any) -> Iterable[Any]:
    return (
        order(f"A-{number:03d}", created=NOON - timedelta(hours=1, minutes=number), **facts)
        for number in range(count)
    )


@pytest.fixture
def client() -> Client:
    client = Client()
    client.world.add(*many(7))
    return client


# --- Login with Amazon -----------------------------------------------------------------------------


def test_a_refresh_token_is_exchanged_for_an_access_token_of_an_hour(client: Client) -> None:
    granted = json.loads(client.login().body)
    assert (granted["token_type"], granted["expires_in"]) == ("bearer", 3600)
    client.token = granted["access_token"]
    client.time += timedelta(seconds=3599)
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 200
    client.time += timedelta(seconds=1)
    assert error(client.search(createdAfter="2026-05-01T00:00:00Z")) == (403, "Unauthorized")


@pytest.mark.parametrize(
    ("form", "status", "word"),
    [
        ({"client_id": "someone-else"}, 401, "invalid_client"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"refresh_token": "wrong"}, 400, "invalid_grant"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
    ],
)
def test_login_says_what_is_wrong(client: Client, form: dict[str, str], status: int, word: str) -> None:
    answer = client.login(**form)
    assert (answer.status, json.loads(answer.body)["error"]) == (status, word)


def test_two_client_secrets_are_valid_while_one_is_being_rotated(client: Client) -> None:
    client.world.applications[CLIENT_ID].add("new")
    assert {client.login().status, client.login(client_secret="new").status} == {200}
    client.world.applications[CLIENT_ID].discard(CLIENT_SECRET)
    assert (client.login().status, client.login(client_secret="new").status) == (401, 200)


def test_a_revoked_authorisation_ends_both_the_login_and_the_access_tokens(client: Client) -> None:
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 200
    client.world.revoke("Atzr|simulated-refresh-token")
    assert json.loads(client.login().body)["error"] == "invalid_grant"
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 403
    client.world.authorise("seller", "renewed")
    assert client.login(refresh_token="renewed").status == 200


@pytest.mark.parametrize("token", ["nonsense", "Atza|guessed"])
def test_an_unknown_access_token_is_refused_and_costs_no_budget(client: Client, token: str) -> None:
    client.token = token
    answer = client.search(createdAfter="2026-05-01T00:00:00Z")
    assert error(answer) == (403, "Unauthorized")
    assert "x-amzn-RateLimit-Limit" not in answer.headers


def test_a_seller_of_another_region_is_refused_at_the_host(client: Client) -> None:
    path, query = SEARCH_PATH, {"createdAfter": "2026-05-01T00:00:00Z"}
    assert client.get(path, query, Host="sellingpartnerapi-eu.amazon.com").status == 200
    assert client.get(path, query, Host="sellingpartnerapi-na.amazon.com").status == 403


# --- parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"createdAfter": "2026-05-01T00:00:00Z", "lastUpdatedAfter": "2026-05-01T00:00:00Z"},
        {"createdAfter": "2026-05-01T00:00:00Z", "lastUpdatedBefore": "2026-05-02T00:00:00Z"},
        {"lastUpdatedAfter": "2026-05-01T00:00:00Z", "createdBefore": "2026-05-02T00:00:00Z"},
        {"createdAfter": "2026-05-02T00:00:00Z", "createdBefore": "2026-05-01T00:00:00Z"},
        {"createdAfter": "TEST_CASE_400"},
        {"createdAfter": "2026-05-01 00:00:00"},
        {"createdAfter": ""},
        {"createdAfter": "2026-06-01T11:59:00Z"},
        {"createdAfter": "2026-05-01T00:00:00Z", "surprise": "1"},
        {"createdAfter": "2026-05-01T00:00:00Z", "includedData": "BUYER,SECRETS"},
        {"createdAfter": "2026-05-01T00:00:00Z", "fulfillmentStatuses": "Shipped"},
        {"createdAfter": "2026-05-01T00:00:00Z", "fulfilledBy": "ME"},
        {"createdAfter": "2026-05-01T00:00:00Z", "maxResultsPerPage": "0"},
        {"createdAfter": "2026-05-01T00:00:00Z", "maxResultsPerPage": "101"},
        {"createdAfter": "2026-05-01T00:00:00Z", "maxResultsPerPage": "ten"},
        {"createdAfter": "2026-05-01T00:00:00Z", "marketplaceIds": "NOWHERE"},
        {"createdAfter": "2026-05-01T00:00:00Z", "marketplaceIds": ""},
        {"createdAfter": "2026-05-01T00:00:00Z", "marketplaceIds": ",".join([UK] * 51)},
        {"createdAfter": "2026-05-01T00:00:00Z", "paginationToken": "invented"},
    ],
)
def test_a_search_that_amazon_would_not_accept_is_refused(client: Client, query: dict[str, str]) -> None:
    assert error(client.search(**query)) == (400, "InvalidInput")


@pytest.mark.parametrize(("seconds", "status"), [(120, 200), (119, 400)])
def test_an_upper_bound_must_be_two_minutes_older_than_amazons_clock(seconds: int, status: int) -> None:
    client = Client(skew=timedelta(seconds=-40))
    bound = client.simulator.amazon_now() - timedelta(seconds=seconds)
    answer = client.search(lastUpdatedAfter="2026-05-01T00:00:00Z", lastUpdatedBefore=bound.isoformat())
    assert answer.status == status


def test_without_an_upper_bound_amazon_names_the_one_it_applied(client: Client) -> None:
    assert client.page()["createdBefore"] == "2026-06-01T11:58:00Z"
    updated = client.search(lastUpdatedAfter="2026-05-01T00:00:00Z")
    assert json.loads(updated.body)["lastUpdatedBefore"] == "2026-06-01T11:58:00Z"


@pytest.mark.parametrize("axis", ["created", "lastUpdated"])
def test_both_bounds_are_inclusive(client: Client, axis: str) -> None:
    exact = "2026-06-01T10:57:00Z"
    found = json.loads(client.search(**{f"{axis}After": exact, f"{axis}Before": exact}).body)
    assert ids(found) == ["A-003"]


def test_marketplaces_may_be_joined_by_commas_or_repeated() -> None:
    client = Client(World(Seller(marketplaces=("UK", "DE"))))
    client.world.add(*many(2), order("D-1", created=NOON - timedelta(hours=2), marketplace="DE"))
    start = "createdAfter=2026-05-01T00%3A00%3A00Z"
    joined = client.get(SEARCH_PATH, f"{start}&marketplaceIds={UK},{DE}")
    repeated = client.get(SEARCH_PATH, f"{start}&marketplaceIds={UK}&marketplaceIds={DE}")
    assert sorted(ids(json.loads(joined.body))) == ["A-000", "A-001", "D-1"]
    assert joined.body == repeated.body == client.get(SEARCH_PATH, start).body
    assert ids(client.page(marketplaceIds=DE)) == ["D-1"]


def test_a_marketplace_the_seller_is_not_enrolled_in_spoils_the_whole_request() -> None:
    for status, code in ((403, "Unauthorized"), (400, "InvalidInput")):
        client = Client(not_enrolled_status=status)
        both = client.search(createdAfter="2026-05-01T00:00:00Z", marketplaceIds=f"{UK},{DE}")
        assert error(both) == (status, code)


def test_the_status_and_the_fulfiller_can_be_filtered(client: Client) -> None:
    client.world.order("F-1", created=NOON - timedelta(hours=3), status="SHIPPED", fulfilled_by="AMAZON")
    assert ids(client.page(fulfillmentStatuses="SHIPPED,CANCELLED")) == ["F-1"]
    assert ids(client.page(fulfilledBy="AMAZON")) == ["F-1"]


def test_history_ends_after_two_years_but_not_in_japan() -> None:
    client = Client(World(Seller(marketplaces=("JP", "SG"))))
    long_ago = NOON - timedelta(days=731)
    client.world.order("J-1", created=long_ago, marketplace="JP")
    assert ids(client.page(createdAfter="2016-01-01T00:00:00Z")) == ["J-1"]
    client = Client()
    client.world.order("U-1", created=long_ago)
    client.world.order("U-2", created=long_ago + timedelta(days=2))
    assert ids(client.page(createdAfter="2016-01-01T00:00:00Z")) == ["U-2"]
    assert client.get(f"{SEARCH_PATH}/U-1").status == 404


# --- pages -----------------------------------------------------------------------------------------


def walk(client: Client, **query: str) -> list[list[str]]:
    pages = [client.page(**query)]
    while "pagination" in pages[-1]:
        pages.append(client.page(**query, paginationToken=pages[-1]["pagination"]["nextToken"]))
    return [ids(page) for page in pages]


def test_pages_hold_every_order_once_and_the_last_has_no_pagination(client: Client) -> None:
    pages = walk(client, maxResultsPerPage="3")
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(one for page in pages for one in page) == [f"A-{number:03d}" for number in range(7)]
    assert "pagination" not in client.page(maxResultsPerPage="7")


def test_a_page_holds_a_hundred_orders_by_default() -> None:
    client = Client()
    client.world.add(*many(101))
    assert [len(page) for page in walk(client)] == [100, 1]


def test_orders_come_unsorted_but_always_in_the_same_order(client: Client) -> None:
    found = ids(client.page())
    assert found == ids(client.page())
    assert found not in (sorted(found), sorted(found, reverse=True))
    client.world.list_order = "time"
    assert ids(client.page()) == sorted(found, reverse=True)


def test_pages_shift_when_an_order_leaves_the_interval_during_the_walk(client: Client) -> None:
    query = {
        "createdAfter": "",
        "lastUpdatedAfter": "2026-05-01T00:00:00Z",
        "lastUpdatedBefore": "2026-06-01T11:50:00Z",
        "maxResultsPerPage": "3",
    }
    del query["createdAfter"]
    first = json.loads(client.search(**query).body)
    everything = ids(json.loads(client.search(**query | {"maxResultsPerPage": "100"}).body))
    client.world.update(everything[0], NOON, status="SHIPPED")
    token = first["pagination"]["nextToken"]
    second = json.loads(client.search(**query, paginationToken=token).body)
    assert ids(second) == everything[4:7], "the fourth order slipped past the walk"


def test_a_page_token_is_opaque_and_lives_a_day(client: Client) -> None:
    token = client.page(maxResultsPerPage="3")["pagination"]["nextToken"]
    for word in (UK, "A-00", "offset", "2026"):
        assert word not in token
    client.time += timedelta(hours=24)
    client.token = ""
    assert len(client.page(paginationToken=token)["orders"]) == 4, "the page size alone may change"
    client.time += timedelta(seconds=1)
    client.token = ""
    expired = client.search(createdAfter="2026-05-01T00:00:00Z", includedData=ALL, paginationToken=token)
    assert error(expired) == (400, "InvalidInput")


@pytest.mark.parametrize(
    "change",
    [
        {"createdAfter": "2026-05-01T00:00:01Z"},
        {"createdBefore": "2026-05-31T00:00:00Z"},
        {"includedData": "BUYER"},
        {"marketplaceIds": UK},
    ],
)
def test_a_page_token_wants_every_other_parameter_unchanged(client: Client, change: dict[str, str]) -> None:
    first = {"createdAfter": "2026-05-01T00:00:00Z", "includedData": ALL, "maxResultsPerPage": "3"}
    token = client.page(**first)["pagination"]["nextToken"]
    assert error(client.search(**first | change, paginationToken=token)) == (400, "InvalidInput")


def test_a_walk_without_an_upper_bound_keeps_the_one_of_its_first_page(client: Client) -> None:
    first = client.page(maxResultsPerPage="3")
    client.time += timedelta(minutes=30)
    second = client.page(maxResultsPerPage="3", paginationToken=first["pagination"]["nextToken"])
    assert second["createdBefore"] == first["createdBefore"]


# --- usage plans and headers -----------------------------------------------------------------------


def test_the_burst_is_twenty_and_then_a_search_comes_back_every_179_seconds() -> None:
    client = Client(plans={})
    assert [client.search(createdAfter="2026-05-01T00:00:00Z").status for _ in range(21)] == [200] * 20 + [
        429
    ]
    client.time += timedelta(seconds=178)
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 429
    client.time += timedelta(seconds=1)
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 200
    assert client.get("/orders/2026-01-01/orders/none").status == 404, "getOrder has its own bucket"
    assert [one.status for one in client.simulator.requests if one.operation == "searchOrders"].count(
        429
    ) == 2


def test_threads_together_get_no_more_than_the_burst() -> None:
    client = Client(plans={})
    client.login()
    client.search(createdAfter="2026-05-01T00:00:00Z")
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: client.search(createdAfter="2026-05-01T00:00:00Z").status, range(60))
        assert Counter(answers) == {200: 19, 429: 41}


def test_a_throttled_answer_carries_no_number() -> None:
    client = Client(plans={"searchOrders": UsagePlan(0.01, 1)})
    client.search(createdAfter="2026-05-01T00:00:00Z")
    throttled = client.search(createdAfter="2026-05-01T00:00:00Z")
    assert error(throttled) == (429, "QuotaExceeded")
    assert {name.lower() for name in throttled.headers}.isdisjoint({"retry-after", "x-amzn-ratelimit-limit"})
    assert throttled.headers["x-amzn-RequestId"]


def test_sellers_do_not_share_a_bucket() -> None:
    first, second = Seller("one"), Seller("two", refresh_token="Atzr|two")
    client = Client(World(first, second), plans={"searchOrders": UsagePlan(0.01, 1)})
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 200
    client.token = json.loads(client.login(refresh_token="Atzr|two").body)["access_token"]
    assert client.search(createdAfter="2026-05-01T00:00:00Z").status == 200


def test_the_rate_header_comes_with_200_400_and_404_only(client: Client) -> None:
    good, bad = client.search(createdAfter="2026-05-01T00:00:00Z"), client.search()
    missing = client.get(f"{SEARCH_PATH}/none")
    refused = client.search(createdAfter="2026-05-01T00:00:00Z", marketplaceIds=DE)
    assert [a.status for a in (good, bad, missing, refused)] == [200, 400, 404, 403]
    assert good.headers["x-amzn-RateLimit-Limit"] == bad.headers["x-amzn-RateLimit-Limit"] == "1000"
    assert missing.headers["x-amzn-RateLimit-Limit"] == "0.5"
    assert "x-amzn-RateLimit-Limit" not in refused.headers
    assert len({a.headers["x-amzn-RequestId"] for a in (good, bad, missing, refused)}) == 4


def test_the_date_header_is_amazons_clock_in_whole_seconds() -> None:
    client = Client(skew=timedelta(seconds=90))
    client.time += timedelta(milliseconds=900)
    assert client.login().headers["Date"] == "Mon, 01 Jun 2026 12:01:30 GMT"


# --- what is in an order ---------------------------------------------------------------------------

_RICH: dict[str, Any] = {
    "status": "SHIPPED",
    "payment_method": "INVOICE",
    "tax_numbers": (TaxNumber("VAT", "XX1", "Invented Ltd"),),
    "packages": (Package("1"),),
    "fulfilment_order_id": "EASY-1",
    "lines": (
        Line("1", gift_message="Hello", points=3, promotion_ids=("SALE",), facilitator=True,
             cancel_requested="No", customized_url="https://example.invalid/c"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "of_order", "of_item"),
    [
        ("BUYER", {"buyer"}, set()),
        ("RECIPIENT", {"recipient"}, set()),
        ("FULFILLMENT", {"fulfillment"}, {"fulfillment"}),
        ("PROCEEDS", {"proceeds"}, {"proceeds"}),
        ("EXPENSE", set(), {"expense"}),
        ("PROMOTION", set(), {"promotion"}),
        ("CANCELLATION", set(), {"cancellation"}),
        ("PACKAGES", {"packages"}, set()),
        ("TAX", {"tax"}, {"tax"}),
        ("PAYMENT", {"payment"}, set()),
        ("FULFILLMENT_ORDERS", {"fulfillmentOrders"}, set()),
        ("", set(), set()),
    ],
)
def test_a_dataset_is_there_only_if_requested(dataset: str, of_order: set[str], of_item: set[str]) -> None:
    client = Client()
    client.world.order("R-1", created=NOON - timedelta(hours=1), **_RICH)
    found = client.one("R-1", dataset)
    times_and_places = {"createdTime", "lastUpdatedTime", "salesChannel"}
    always = times_and_places | {"orderId", "programs", "associatedOrders", "orderItems"}
    assert found.keys() - always == of_order
    assert found["orderItems"][0].keys() - {"orderItemId", "quantityOrdered", "product"} == of_item
    assert found["orderItems"][0]["product"]["price"]["unitPrice"] == {
        "amount": "10.00",
        "currencyCode": "GBP",
    }


@pytest.mark.parametrize(
    ("status", "fulfilled_by", "email"),
    [
        ("PENDING", "MERCHANT", False),
        ("PENDING_AVAILABILITY", "MERCHANT", False),
        ("UNSHIPPED", "MERCHANT", True),
        ("PARTIALLY_SHIPPED", "MERCHANT", True),
        ("SHIPPED", "MERCHANT", True),
        ("CANCELLED", "MERCHANT", False),
        ("UNFULFILLABLE", "AMAZON", False),
        ("UNSHIPPED", "AMAZON", False),
        ("SHIPPED", "AMAZON", False),
    ],
)
def test_the_buyers_email_is_shown_only_for_the_sellers_own_shippable_orders(
    status: str, fulfilled_by: str, email: bool
) -> None:
    client = Client()
    client.world.order("E-1", created=NOON - timedelta(hours=1), status=status, fulfilled_by=fulfilled_by)
    found = client.one("E-1")
    assert ("buyerEmail" in found.get("buyer", {})) is email
    address = found.get("recipient", {}).get("deliveryAddress", {})
    assert ({"name", "addressLine1", "phone"} <= address.keys()) is email
    assert address.keys().isdisjoint({"name", "addressLine1", "phone"}) is not email


def test_without_the_restricted_role_the_fields_are_absent_in_a_200() -> None:
    client = Client(World(Seller(roles=frozenset())))
    client.world.order("R-1", created=NOON - timedelta(hours=1), **_RICH)
    found = client.one("R-1")
    assert "buyer" not in found
    assert found["recipient"]["deliveryAddress"].keys() == {
        "city",
        "postalCode",
        "countryCode",
        "addressType",
    }
    assert "tax" not in found
    item = found["orderItems"][0]
    assert "customization" not in item["product"]
    assert item["fulfillment"]["packing"]["giftOption"] == {}


def test_the_tax_role_names_the_buyer_of_an_order_that_amazon_fulfils_but_not_in_the_us() -> None:
    for code, named in (("UK", True), ("US", False)):
        client = Client(World(Seller(marketplaces=(code,))))
        client.world.order("F-1", created=NOON - timedelta(hours=1), marketplace=code, fulfilled_by="AMAZON")
        assert ("buyer" in client.one("F-1")) is named


def test_a_phone_number_goes_once_the_promised_delivery_has_passed() -> None:
    client = Client()
    client.world.order("P-1", created=NOON - timedelta(days=1), status="SHIPPED", deliver_by=NOON)
    assert client.one("P-1")["recipient"]["deliveryAddress"]["phone"]
    client.time += timedelta(seconds=1)
    assert "phone" not in client.one("P-1")["recipient"]["deliveryAddress"]


def test_a_withheld_version_shows_no_buyer_and_the_next_one_does() -> None:
    client = Client()
    client.world.order("W-1", created=NOON - timedelta(hours=2), withheld=True)
    assert client.one("W-1").keys().isdisjoint({"buyer", "recipient"})
    client.world.update("W-1", NOON - timedelta(hours=1), withheld=False)
    assert client.one("W-1")["buyer"]["buyerEmail"] == "w1@marketplace.amazon.co.uk"


def test_a_late_version_is_not_shown_before_its_time() -> None:
    client = Client()
    client.world.order("L-1", created=NOON - timedelta(hours=1), late=timedelta(hours=3))
    assert ids(client.page()) == []
    assert client.get(f"{SEARCH_PATH}/L-1").status == 404
    client.time += timedelta(hours=2)
    client.token = ""
    assert ids(client.page()) == ["L-1"]


def test_an_updated_order_leaves_its_old_interval_and_enters_the_new_one(client: Client) -> None:
    client.world.update("A-001", NOON - timedelta(minutes=5), status="SHIPPED")
    old = client.search(lastUpdatedAfter="2026-06-01T10:59:00Z", lastUpdatedBefore="2026-06-01T10:59:00Z")
    new = client.search(lastUpdatedAfter="2026-06-01T11:55:00Z")
    assert (ids(json.loads(old.body)), ids(json.loads(new.body))) == ([], ["A-001"])


def test_money_has_no_decimals_in_yen_and_times_have_milliseconds_if_requested() -> None:
    client = Client(World(Seller(marketplaces=("JP",))))
    created = datetime(2026, 5, 31, 1, 2, 3, 45_000, tzinfo=UTC)
    client.world.order("J-1", created=created, marketplace="JP", amount=1980, quantity=2, milliseconds=True)
    found = client.one("J-1")
    assert found["proceeds"]["grandTotal"] == {"amount": "3960", "currencyCode": "JPY"}
    assert found["createdTime"] == "2026-05-31T01:02:03.045Z"


@pytest.mark.parametrize("poison", sorted(POISONS))
def test_a_poisoned_order_comes_beside_sound_ones_and_leaves_the_answer_json(
    client: Client, poison: str
) -> None:
    client.world.order("X-1", created=NOON - timedelta(hours=1), poison=poison)
    sound = client.world.order("X-2", created=NOON - timedelta(hours=1)).versions[0].payload
    found = client.page()["orders"]
    assert len(found) == 9
    spoilt = client.world.orders()[-2].versions[0].payload
    assert spoilt in found
    assert isinstance(sound, dict)
    assert spoilt != sound | {"orderId": "X-1"}


def test_participations_are_the_enrolled_marketplaces() -> None:
    client = Client(World(Seller(marketplaces=("UK", "DE"))))
    found = json.loads(client.get("/sellers/v1/marketplaceParticipations").body)["payload"]
    assert {entry["marketplace"]["id"] for entry in found} == {UK, DE}
    assert all(entry["participation"]["isParticipating"] for entry in found)


def test_what_was_served_is_recorded_as_it_was_sent(client: Client) -> None:
    page, one = client.page(), client.one("A-003")
    served = client.simulator.served
    assert [entry.operation for entry in served] == ["searchOrders", "getOrder"]
    assert served[0].orders == page["orders"]
    assert served[1].orders == [one]
    assert served[0].query["includedData"] == (ALL,)


def test_an_unknown_path_is_not_found(client: Client) -> None:
    assert client.get("/orders/v0/orders").status == 404


def test_an_order_that_does_not_know_a_fact_says_so() -> None:
    with pytest.raises(TypeError, match="colour"):
        order("A-1", created=NOON, colour="red")
