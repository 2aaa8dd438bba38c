"""The simulator's faults: what each does to an answer, and that the same calls are struck each time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.faults import KINDS, OUTRIGHT, RARE, SUBTLE, Faults
from connectors.simulator.orders import order
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, World
from tests.simulator_transport import transport

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SEARCH = "https://simulator.invalid/orders/2026-01-01/orders"
PLANS = {"searchOrders": UsagePlan(1000, 10_000), "getOrder": UsagePlan(1000, 10_000)}


class Client:
    """A naive client on httpx."""

    def __init__(self, faults: Faults, orders: int = 7) -> None:
        self.time = NOON
        self.world = World()
        self.world.add(
            *(order(f"A-{n:03d}", created=NOON - timedelta(hours=1, minutes=n)) for n in range(orders))
        )
        self.simulator = Simulator(self.world, now=lambda: self.time, plans=PLANS, faults=faults)
        self.http = httpx.Client(transport=transport(self.simulator))
        self.token = ""

    def login(self) -> httpx.Response:
        form = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": "Atzr|simulated-refresh-token",
        }
        return self.http.post("https://simulator.invalid/auth/o2/token", data=form)

    def search(self, **query: str) -> httpx.Response:
        self.token = self.token or self.login().json()["access_token"]
        wanted = {"createdAfter": "2026-05-01T00:00:00Z", "maxResultsPerPage": "3"} | query
        return self.http.get(f"{SEARCH}?{urlencode(wanted)}", headers={"x-amz-access-token": self.token})

    def get(self, order_id: str) -> httpx.Response:
        self.token = self.token or self.login().json()["access_token"]
        return self.http.get(f"{SEARCH}/{order_id}", headers={"x-amz-access-token": self.token})


def ids(page: httpx.Response) -> list[str]:
    return [one["orderId"] for one in page.json()["orders"]]


def following(page: httpx.Response) -> str:
    token: str = page.json()["pagination"]["nextToken"]
    return token


@pytest.mark.parametrize(
    ("kind", "status", "kind_of_body"),
    [
        ("throttled_json", 429, "errors"),
        ("throttled_empty", 429, "empty"),
        *((f"html_{status}", status, "html") for status in (500, 502, 503)),
        *((f"empty_{status}", status, "empty") for status in (500, 502, 503)),
        *((f"bare_json_{status}", status, "json") for status in (500, 502, 503)),
        ("html_200", 200, "html"),
        ("truncated_json", 200, "half"),
        ("forbidden", 403, "errors"),
        ("access_token_lost", 403, "errors"),
    ],
)
def test_a_spoilt_answer_comes_once_and_then_the_true_one(kind: str, status: int, kind_of_body: str) -> None:
    client = Client(Faults.only(kind, calls=[1], operations=["searchOrders"]))
    answer = client.search()
    body = answer.text
    assert answer.status_code == status
    assert {
        "errors": lambda: bool(json.loads(body)["errors"]),
        "empty": lambda: body == "",
        "html": lambda: body.startswith("<html>"),
        "json": lambda: "errors" not in json.loads(body),
        "half": lambda: body.startswith('{"orders":[') and not body.endswith("}"),
    }[kind_of_body]()
    assert client.simulator.served == []
    if kind == "access_token_lost":
        assert client.search().status_code == 403, "until the client asks for another token"
        client.token = ""
    assert client.search().status_code == 200
    assert len(client.simulator.served) == 1


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("dropped", httpx.RemoteProtocolError),
        ("dropped_halfway", httpx.RemoteProtocolError),
        ("hang", httpx.ReadTimeout),
    ],
)
def test_a_broken_connection_is_an_exception_of_httpx(kind: str, raised: type[Exception]) -> None:
    client = Client(Faults.only(kind, calls=[1], operations=["searchOrders"]))
    with pytest.raises(raised):
        client.search()
    assert client.simulator.requests[-1].status is None
    assert client.simulator.served == []
    assert client.search().status_code == 200


def test_forbidden_can_last_for_twenty_five_minutes() -> None:
    client = Client(Faults.only("forbidden", during=(NOON, NOON + timedelta(minutes=25))))
    seen = []
    for _ in range(6):
        seen.append(client.search().status_code)
        client.time += timedelta(minutes=5)
    assert seen == [403, 403, 403, 403, 403, 200]


def test_login_can_refuse_for_a_while_and_can_be_a_page_of_html() -> None:
    faults = Faults.only("invalid_grant", calls=[1]) + Faults.only(
        "html_503", calls=[2], operations=["token"]
    )
    client = Client(faults)
    first, second, third = client.login(), client.login(), client.login()
    assert (first.status_code, first.json()["error"]) == (400, "invalid_grant")
    assert (second.status_code, second.text[:6]) == (503, "<html>")
    assert third.status_code == 200


@pytest.mark.parametrize("kind", ["page_token_refused", "page_token_expired"])
def test_a_page_token_can_be_refused_in_the_middle_of_a_walk(kind: str) -> None:
    client = Client(Faults.only(kind))
    first = client.search()
    assert first.status_code == 200, "a first page has no token to refuse"
    refused = client.search(paginationToken=following(first))
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == "InvalidInput"


def test_a_page_can_name_the_token_just_used_as_the_next_one() -> None:
    client = Client(Faults.only("same_token"))
    token = following(client.search())
    second = client.search(paginationToken=token)
    assert following(second) == token
    assert ids(client.search(paginationToken=token)) == ids(second)


def test_a_new_token_can_lead_to_the_same_page() -> None:
    client = Client(Faults.only("same_page"))
    first = client.search()
    second = client.search(paginationToken=following(first))
    assert ids(second) == ids(first)
    assert following(second) != following(first)


def test_an_order_can_come_on_two_pages_and_none_is_lost() -> None:
    client = Client(Faults.only("repeated_order"))
    first = client.search()
    second = client.search(paginationToken=following(first))
    third = client.search(paginationToken=following(second))
    assert (ids(second)[0], ids(third)[0]) == (ids(first)[-1], ids(second)[-1])
    assert len({*ids(first), *ids(second), *ids(third)}) == 7


def test_a_full_last_page_has_no_token_and_so_has_one_that_lost_it() -> None:
    """Amazon names no token on the last page, however full: only a count distinguishes the two."""
    exact = Client(Faults(), orders=100).search(maxResultsPerPage="100").json()
    assert (len(exact["orders"]), "pagination" in exact) == (100, False)
    client = Client(Faults.only("missing_token"))
    first = client.search()
    assert (len(ids(first)), "pagination" in first.json()) == (3, False)
    assert "pagination" not in client.search(maxResultsPerPage="7").json()


def test_an_empty_page_can_have_a_token_that_leads_to_its_orders() -> None:
    client = Client(Faults.only("empty_page", calls=[1, 3]))
    walk = [client.search()]
    while "pagination" in walk[-1].json():
        walk.append(client.search(paginationToken=following(walk[-1])))
    assert [len(ids(page)) for page in walk] == [0, 3, 0, 3, 1]
    assert len({order_id for page in walk for order_id in ids(page)}) == 7
    nothing = Client(Faults.only("empty_page", calls=[1]), orders=0)
    first = nothing.search()
    assert "pagination" not in nothing.search(paginationToken=following(first)).json()


def test_a_stale_copy_comes_only_after_the_newer_one_was_shown() -> None:
    client = Client(Faults.only("stale_copy"), orders=1)
    assert ids(client.search()) == ["A-000"]
    client.world.update("A-000", NOON - timedelta(minutes=5), status="SHIPPED")
    times = [client.search().json()["orders"][0]["lastUpdatedTime"] for _ in range(2)]
    times.append(client.get("A-000").json()["order"]["lastUpdatedTime"])
    assert times == ["2026-06-01T11:55:00Z", "2026-06-01T11:00:00Z", "2026-06-01T11:00:00Z"]


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("rate_not_a_number", "a few"),
        ("rate_nan", "nan"),
        ("rate_infinite", "inf"),
        ("rate_negative", "-1"),
        ("rate_zero", "0.0"),
        ("rate_huge", "1e9"),
        ("rate_absent", None),
    ],
)
def test_the_rate_header_can_be_nonsense(kind: str, header: str | None) -> None:
    answer = Client(Faults.only(kind)).search()
    assert (answer.status_code, answer.headers.get("x-amzn-RateLimit-Limit")) == (200, header)


def test_spoilt_calls_spend_budget_all_the_same() -> None:
    client = Client(Faults.only("html_500", calls=range(1, 21), operations=["searchOrders"]))
    client.simulator.plans = {"searchOrders": UsagePlan(0.0056, 20)}
    assert [client.search().status_code for _ in range(21)] == [500] * 20 + [429]


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="earthquake"):
        Faults.only("earthquake")


def struck(faults: Faults, at: datetime = NOON) -> list[frozenset[str]]:
    return [faults.strike("searchOrders", number, at) for number in range(1, 3001)]


def test_everything_at_once_is_the_same_for_the_same_seed_and_calm_after_its_end() -> None:
    faults = Faults.everything(7, intensity=0.5, until=NOON)
    before = struck(faults, NOON - timedelta(seconds=1))
    assert before == struck(faults, NOON - timedelta(seconds=1))
    assert before != struck(Faults.everything(8, intensity=0.5, until=NOON), NOON - timedelta(seconds=1))
    assert set(struck(faults)) == {frozenset()}


def test_everything_is_every_kind_but_the_final_ones_and_one_outright_fault_a_call() -> None:
    seen = struck(Faults.everything(1, intensity=0.5))
    kinds = frozenset().union(*seen)
    assert kinds == {kind for kind in KINDS if "searchOrders" in KINDS[kind]} - RARE
    assert all(len(one & OUTRIGHT.keys()) <= 1 for one in seen)
    spoilt = sum(bool(one & OUTRIGHT.keys()) for one in seen) / len(seen)
    assert 0.3 < spoilt < 0.5
    assert any(len(one & SUBTLE.keys()) > 1 for one in seen)


def test_two_simulators_of_one_seed_answer_alike() -> None:
    def story() -> list[Any]:
        client = Client(Faults.everything(3, intensity=0.6))
        answers: list[Any] = []
        for _ in range(60):
            client.time += timedelta(minutes=1)
            try:
                answer = client.search()
            except (httpx.TransportError, KeyError, json.JSONDecodeError) as error:
                answers.append(type(error).__name__)
            else:
                answers.append((answer.status_code, answer.content, sorted(answer.headers.items())))
        return answers

    assert story() == story()
