"""Problems that people who sync Amazon orders have reported, each as a story on a simulated clock.

M: amzn/selling-partner-api-models, D: amzn/selling-partner-api-docs; numbers are those of issues. Every story
ends with each order stored as Amazon shows it, without a person's help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.faults import CREATE_REPORT, PARTICIPATIONS, SEARCH, TOKEN, Faults
from connectors.simulator.messages import Answer, Request, to_json
from connectors.simulator.orders import order
from connectors.simulator.reports import Reports
from connectors.simulator.world import Seller, World
from tests.acceptance.truth import incomplete, overclaimed
from tests.harness import NOON, Shop, SimulatedClock, rules_for

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Open = Callable[..., Shop]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Open]:
    opened: list[Shop] = []

    def opener(
        codes: Sequence[str], *, reports: Reports | None = None, plans: Any = None, **more: Any
    ) -> Shop:
        clock = SimulatedClock()
        world = World(Seller(marketplaces=tuple(codes)))
        simulator = Simulator(world, now=clock, plans=plans or {})
        shop = Shop(
            f"sqlite:///{tmp_path / 'field.db'}", simulator, clock, [rules_for(c) for c in codes], **more
        )
        opened.append(shop)
        return shop

    yield opener
    for shop in opened:
        shop.close()


def sell(shop: Shop, *codes: str, hours: int, begin: datetime = NOON) -> None:
    """An order of each marketplace every hour, shipped two hours later."""
    for number, code in enumerate(codes):
        for hour in range(hours):
            at = begin + hour * HOUR + number * timedelta(minutes=7)
            made = order(f"{code}-{hour:04}", created=at, marketplace=code)
            shop.simulator.world.add(made.then(at + 2 * HOUR, status="SHIPPED"))


def answered(shop: Shop, operation: str, since: datetime = NOON) -> list[int | None]:
    return [r.status for r in shop.simulator.requests if r.operation == operation and r.at >= since]


def disturb(shop: Shop, disturbs: Callable[[Request], Answer | None]) -> None:
    """Let something answer in Amazon's place; None lets Amazon answer."""
    handle = shop.simulator.handle
    shop.simulator.handle = lambda r: disturbs(r) or handle(r)  # type: ignore[method-assign,assignment]


def answer(shop: Shop, status: int, body: bytes, kind: str = "application/json") -> Answer:
    date = format_datetime(shop.clock(), usegmt=True)
    return Answer(status, {"Date": date, "content-type": kind}, body)


def is_right(shop: Shop, start: datetime = NOON) -> bool:
    """Everything is stored, nothing is claimed that was not read, and customers are right."""
    assert incomplete(shop, start, start) == []
    assert overclaimed(shop) == []
    assert shop.wrongs() == []
    return True


def is_search(request: Request) -> bool:
    return request.path.endswith("/orders")


@pytest.mark.long
def test_half_a_day_of_400_in_one_region(open_shop: Open) -> None:
    """M 5365: the Far East answers 400 to FULFILLMENT for half a day, and then does not."""
    shop = open_shop(["UK", "DE", "FR"])
    sell(shop, "UK", "DE", "FR", hours=20)
    until = NOON + 14 * HOUR
    refusal = to_json({"errors": [{"code": "InvalidInput", "message": "includedData has an unknown value."}]})
    refused: list[datetime] = []

    def disturbs(request: Request) -> Answer | None:
        if not is_search(request) or not NOON + 2 * HOUR <= shop.clock() < until:
            return None
        refused.append(shop.clock())
        return answer(shop, 400, refusal)

    disturb(shop, disturbs)
    shop.run_until(until)
    assert 0 < len(refused) < 12 * 20, "it is not hammered"
    shop.run_until(until + HOUR)
    shop.run_until(NOON + 26 * HOUR)
    assert is_right(shop)
    assert 429 not in answered(shop, SEARCH)


@pytest.mark.long
def test_a_single_seller_is_forbidden_for_hours(open_shop: Open) -> None:
    """M 5319: searchOrders is 403 for some sellers, whatever is included, and recovers by itself."""
    codes = ["UK", "DE", "FR", "IT", "ES", "NL"]
    shop = open_shop(codes)
    sell(shop, *codes, hours=8)
    trouble = (NOON + HOUR, NOON + 5 * HOUR)
    shop.simulator.faults = Faults.only("forbidden", during=trouble, operations=[SEARCH])
    reports = shop.run_until(trouble[1])
    failed = [report for report in reports if report.outcome == "failed"]
    assert failed
    assert len(answered(shop, SEARCH, trouble[0])) < 4 * 30, "twice an attempt, with growing pauses"
    shop.run_until(NOON + 12 * HOUR)
    assert is_right(shop)


@pytest.mark.long
def test_participations_are_forbidden_for_good(open_shop: Open) -> None:
    """M 1179: participations answer 403 while orders are fine."""
    shop = open_shop(["ES", "IT", "NL"])
    sell(shop, "ES", "IT", "NL", hours=6)
    shop.simulator.faults = Faults.only("forbidden", operations=[PARTICIPATIONS])
    shop.run_until(NOON + 10 * HOUR)
    assert is_right(shop)


@pytest.mark.long
def test_500_for_a_day(open_shop: Open) -> None:
    """M 5230: every call answers 500 InternalFailure for days while the health page is green."""
    shop = open_shop(["SE"])
    sell(shop, "SE", hours=30)
    trouble = (NOON + 2 * HOUR, NOON + 26 * HOUR)
    shop.simulator.faults = Faults.only("bare_json_500", during=trouble, operations=[SEARCH])
    shop.run_until(trouble[1])
    assert len(answered(shop, SEARCH, trouble[0])) < 484, "it stays within a day's plan"
    shop.run_until(NOON + 36 * HOUR)
    assert is_right(shop)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["html", "nothing", "throttled"])
def test_login_with_amazon_answers_with_something_else(kind: str, open_shop: Open) -> None:
    """M 201: Login with Amazon answers HTML, an empty body, or 429."""
    shop = open_shop(["UK"])
    sell(shop, "UK", hours=6)
    answers = {
        "html": (200, b"<html>Service is unavailable</html>", "text/html"),
        "nothing": (200, b"", "application/json"),
        "throttled": (429, b'{"error": "too_many_requests"}', "application/json"),
    }
    trouble = (NOON + HOUR, NOON + 4 * HOUR)

    def disturbs(request: Request) -> Answer | None:
        is_login = request.path.endswith("/auth/o2/token")
        return answer(shop, *answers[kind]) if is_login and trouble[0] <= shop.clock() < trouble[1] else None

    disturb(shop, disturbs)
    shop.run_until(NOON + 9 * HOUR)
    assert is_right(shop)
    assert "refused" not in {r.refused for r in shop.sync()}
    assert answered(shop, TOKEN), "the login was requested again"


@pytest.mark.long
def test_every_page_token_is_refused_for_hours(open_shop: Open) -> None:
    """M 1269, 2576, 5144: 130 orders are updated in one second, and no page token is accepted."""
    shop = open_shop(["UK"])
    sell(shop, "UK", hours=3)
    at = NOON + HOUR + timedelta(minutes=1)
    shop.simulator.world.add(*(order(f"BULK-{n:04}", created=at, status="SHIPPED") for n in range(130)))
    trouble = (NOON + HOUR, NOON + 6 * HOUR)
    shop.simulator.faults = Faults.only("page_token_refused", during=trouble, operations=[SEARCH])
    shop.run_until(trouble[1])
    assert 429 not in answered(shop, SEARCH)
    shop.run_until(NOON + 16 * HOUR)
    assert is_right(shop)


@pytest.mark.long
def test_an_access_token_dies_in_the_middle_of_a_walk(open_shop: Open) -> None:
    """D 2872: 403 after an hour, in mid-walk."""
    shop = open_shop(["UK"])
    at = NOON + timedelta(minutes=30)
    shop.simulator.world.add(*(order(f"BULK-{n:04}", created=at, status="SHIPPED") for n in range(250)))
    shop.simulator.faults = Faults.only("access_token_lost", operations=[SEARCH], calls=range(3, 60, 2))
    shop.run_until(NOON + 8 * HOUR)
    assert is_right(shop)


@pytest.mark.long
def test_a_slower_plan_than_the_published_one_and_no_word_of_it(open_shop: Open) -> None:
    """D 86, 225, 592: no rate header, and Amazon grants fewer requests than its documentation says."""
    shop = open_shop(["UK"], plans={SEARCH: UsagePlan(0.003, 5)})
    sell(shop, "UK", hours=20)
    shop.simulator.faults = Faults.only("rate_absent")
    shop.run_until(NOON + 24 * HOUR)
    assert is_right(shop)
    statuses = answered(shop, SEARCH)
    assert statuses.count(429) < len(statuses) / 2, "a 429 empties the budget, so that most requests succeed"


@pytest.mark.long
def test_reports_are_throttled_for_hours_and_orders_come_by_search(open_shop: Open) -> None:
    """D 843, 2408: createReport answers 429 for hours."""
    shop = open_shop(["UK"], start_date=(NOON - 20 * DAY).date(), history_by="auto")
    history = [order(f"OLD-{n:04}", created=NOON - 20 * DAY + n * HOUR, status="SHIPPED") for n in range(400)]
    shop.simulator.world.add(*history)
    shop.simulator.faults = Faults.only("throttled_json", operations=[CREATE_REPORT])
    shop.run_until(NOON + 10 * HOUR)
    assert is_right(shop, NOON - 20 * DAY)


@pytest.mark.long
def test_a_report_is_stuck_in_the_queue_and_orders_come_by_search(open_shop: Open) -> None:
    """D 2935: IN_QUEUE for many hours."""
    shop = open_shop(["UK"], start_date=(NOON - 20 * DAY).date(), history_by="auto")
    shop.simulator._reports = Reports(shop.simulator.world, in_queue=9 * DAY)
    history = [order(f"OLD-{n:04}", created=NOON - 20 * DAY + n * HOUR, status="SHIPPED") for n in range(400)]
    shop.simulator.world.add(*history)
    shop.run_until(NOON + 10 * HOUR)
    assert is_right(shop, NOON - 20 * DAY)
