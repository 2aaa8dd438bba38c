"""One bad thing harms only itself: an order, a stored value, an exception, a range, a crowded second.

Each of these once stopped a page, an account or a source for good.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog

from connectors.amazon.parse import order_of
from connectors.base import UsagePlan
from connectors.orders import UnreadableOrder
from connectors.simulator.api import Simulator
from connectors.simulator.faults import SEARCH
from connectors.simulator.orders import order as an_order
from connectors.simulator.world import HISTORY, Seller, World
from poller.ingest.apply import apply_orders
from poller.matching import match
from poller.matching.order_copies import Merged
from poller.matching.retention import Retention, explain
from poller.monitoring.health import Limits
from store import ledger, quarantine, tables
from store.progress import Interval, Look, Window, complete_until, gaps
from store.quarantine import Quarantined
from store.records import OrderRecord
from tests.acceptance.truth import overclaimed
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.integration.store_world import account_rules, apply, fresh_store, order
from tests.simulator_transport import transport

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=s) for s in (1, 60, 3600, 86400))
BAD = "030-0000000-0000000"
UK = "A1F83G8C2ARO7P"

Open = Callable[..., Shop]


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """Keep the log from printing every value of every frame of a traceback."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Open]:
    """Opens shops on one SQLite database, or on a ``url``, and closes them in the end."""
    opened: list[Shop] = []

    def opener(*codes: str, url: str | None = None, world: World | None = None, **more: object) -> Shop:
        clock = SimulatedClock(NOON)
        seller = Seller(marketplaces=codes)
        simulator = Simulator(world or World(seller), now=clock)
        rules = more.pop("rules", None) or [rules_for(code) for code in codes]
        url = url or f"sqlite:///{tmp_path / 'bad.db'}"
        opened.append(Shop(url, simulator, clock, rules, seller=seller, **more))  # type: ignore[arg-type]
        return opened[-1]

    yield opener
    for shop in opened:
        shop.close()


def sell(shop: Shop, number: int, begin: datetime, every: timedelta, *codes: str) -> None:
    for n in range(number):
        shop.simulator.world.order(
            f"{n:03d}-0000000-0000000",
            created=begin + n * every,
            marketplace=(codes or ("UK",))[n % max(1, len(codes))],
            status="UNSHIPPED",
        )


def stored(shop: Shop) -> set[str]:
    with shop.store.read() as tx:
        return {row.order_id for row in tx.rows(sa.select(tables.orders.c.order_id))}


def entries(shop: Shop) -> list[Quarantined]:
    with shop.store.read() as tx:
        return quarantine.entries(tx)


def unfinished(shop: Shop) -> tuple[Window, ...]:
    with shop.store.read() as tx:
        return ledger.pending_windows(tx, "acme", "acme:EU")


def not_seen(shop: Shop, marketplace_id: str = UK, look: Look = "first") -> list[Interval]:
    """What has not been seen of a marketplace between the beginning and its position."""
    with shop.store.read() as tx:
        known = ledger.load_marketplaces(tx, "acme")[marketplace_id]
        return gaps(ledger.read_coverage(tx, "acme", marketplace_id, look), known.live_from, known.position)


def searches(shop: Shop) -> int:
    return sum(request.operation == SEARCH for request in shop.simulator.requests)


# --- one order --------------------------------------------------------------------------------------


@pytest.mark.long
def test_an_order_that_cannot_be_stored_goes_to_quarantine_alone_and_leaves_it_again(
    database_url: str, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop("UK", url=database_url)
    shop.run_until(NOON + 10 * MINUTE)
    sell(shop, 60, NOON + 12 * MINUTE, SECOND)
    decide = match._Page.decide

    def break_at(page: match._Page, merged: Merged) -> object:
        if merged.record.order_id == BAD:
            raise OverflowError("date value out of range, of a secret value")
        return decide(page, merged)

    monkeypatch.setattr(match._Page, "decide", break_at)
    before = searches(shop)
    reports = shop.run_until(NOON + 3 * HOUR)
    assert {report.outcome for report in reports} == {"complete"}
    assert len(stored(shop)) == 59
    (entry,) = entries(shop)
    assert (entry.order_id, entry.reason) == (BAD, "could not be stored: OverflowError")
    assert json.loads(entry.payload)["orderId"] == BAD
    assert not unfinished(shop)
    assert not_seen(shop) == []
    assert searches(shop) - before <= 3 * 20

    monkeypatch.undo()
    shop.run_until(NOON + 30 * HOUR)
    assert entries(shop) == []
    assert len(stored(shop)) == 60
    assert shop.wrongs() == []


def a_time_of_2107(content: bytes) -> bytes:
    body = json.loads(content)
    for one in body.get("orders", [body.get("order", {})]):
        if one.get("orderId") == BAD:
            one["lastUpdatedTime"] = "2107-02-03T04:05:06Z"
    return json.dumps(body).encode()


def a_byte_that_is_not_utf_8(content: bytes) -> bytes:
    before, order_id, after = content.partition(f'"{BAD}"'.encode())
    return before + order_id + after.replace(b'"AMAZON"', b'"AMAZ\xd6N"', 1)


@pytest.mark.long
@pytest.mark.parametrize("spoil", [a_time_of_2107, a_byte_that_is_not_utf_8], ids=lambda f: f.__name__)
def test_an_order_with_one_unreadable_value_goes_to_quarantine_alone_and_leaves_it_again(
    open_shop: Open, spoil: Callable[[bytes], bytes]
) -> None:
    shop = open_shop("UK")
    shop.run_until(NOON + 10 * MINUTE)
    sell(shop, 60, NOON + 12 * MINUTE, SECOND)
    inner = transport(shop.simulator)

    def answer(request: httpx.Request) -> httpx.Response:
        answered = inner.handle_request(request)
        if "/orders/2026-01-01/orders" not in request.url.path or answered.status_code != 200:
            return answered
        headers = [(name, value) for name, value in answered.headers.items() if name != "content-length"]
        return httpx.Response(200, headers=headers, content=spoil(answered.read()))

    shop.go_through(httpx.MockTransport(answer))
    reports = shop.run_until(NOON + 3 * HOUR)
    assert {report.outcome for report in reports} == {"complete"}
    assert len(stored(shop)) == 59
    assert [entry.order_id for entry in entries(shop)] == [BAD]
    assert not_seen(shop) == []
    shop.go_through(inner)
    shop.run_until(NOON + 30 * HOUR)
    assert entries(shop) == []
    assert shop.wrongs() == []


@pytest.mark.long
@pytest.mark.parametrize("what", ["cannot be stored", "is damaged"])
def test_one_payload_in_quarantine_does_not_stop_a_new_version(
    what: str, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop("UK")
    shop.run_until(NOON + 20 * MINUTE)
    sell(shop, 60, NOON + 30 * MINUTE, 10 * MINUTE)
    channel = {"channelName": "AMAZON", "marketplaceId": UK}
    payload = {"orderId": "Q-1", "createdTime": "2026-06-15T12:00:00Z", "salesChannel": channel}
    payload |= {"lastUpdatedTime": "2026-06-15T12:00:00Z", "orderItems": []}
    old = UnreadableOrder("Q-1", UK, "an older version could not read it", json.dumps(payload))
    with shop.store.begin() as tx:
        apply_orders(tx, shop.account_rules(), [], [old])
        tx.conn.execute(sa.update(tables.quarantine).values(read_by="0.0.1"))
        if what == "is damaged":
            damaged = b"\x01damaged-payload-xxxxxxxxxxxxxxxxx"
            tx.conn.execute(sa.update(tables.quarantine).values(payload=damaged))
    decide = match._Page.decide

    def break_at(page: match._Page, merged: Merged) -> object:
        if merged.record.last_updated_at == NOON:
            raise OverflowError("date value out of range")
        return decide(page, merged)

    monkeypatch.setattr(match._Page, "decide", break_at)
    reports = shop.run_until(NOON + 12 * HOUR)
    assert {report.outcome for report in reports} <= {"complete", "deferred"}
    assert len(stored(shop)) == 60
    if what == "cannot be stored":
        (entry,) = entries(shop)
        assert entry.reason == "could not be stored: OverflowError"


@pytest.mark.long
def test_a_damaged_value_of_a_stored_order_stops_no_other_order(open_shop: Open) -> None:
    shop = open_shop("UK")
    sell(shop, 6, NOON + 5 * MINUTE, MINUTE)
    shop.run_until(NOON + 20 * MINUTE)
    assert len(stored(shop)) == 6
    c = tables.orders.c
    with shop.store.begin() as tx:
        sealed = tx.conn.execute(sa.select(c.delivery).where(c.order_id.like("003-%"))).scalar_one()
        flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
        tx.conn.execute(sa.update(tables.orders).where(c.order_id.like("003-%")).values(delivery=flipped))
    for n in range(6):
        shop.simulator.world.update(
            f"{n:03d}-0000000-0000000", NOON + 30 * MINUTE + n * SECOND, status="SHIPPED"
        )
        shop.simulator.world.order(f"new-{n}", created=NOON + 31 * MINUTE, marketplace="UK")
    reports = shop.run_until(NOON + 3 * HOUR)
    assert {report.outcome for report in reports} == {"complete"}
    assert {f"new-{n}" for n in range(6)} <= stored(shop)
    with shop.store.read() as tx:
        rows = tx.rows(sa.select(c.order_id, c.status))
    assert sum(row.status == "SHIPPED" for row in rows) == 6
    assert entries(shop) == []
    assert not_seen(shop) == []


def test_a_promise_for_the_end_of_time_is_explained(tmp_path: Path) -> None:
    """Amazon has no "never": the last day there is stands for it."""
    retention = Retention(30, 18)
    fulfillment = {
        "fulfillmentStatus": "SHIPPED",
        "fulfilledBy": "MERCHANT",
        "deliverByWindow": {"latestDateTime": "9999-12-31T23:59:59Z"},
    }
    payload = {
        "orderId": "o1",
        "createdTime": "2026-06-15T12:00:00Z",
        "lastUpdatedTime": "2026-06-15T12:00:00Z",
        "salesChannel": {"channelName": "AMAZON", "marketplaceId": UK},
        "fulfillment": fulfillment,
        "orderItems": [{"orderItemId": "1", "quantityOrdered": 1, "product": {}}],
    }
    with fresh_store(f"sqlite:///{tmp_path / 'bad.db'}") as store:
        read = order_of(payload)
        assert not isinstance(read, UnreadableOrder)
        apply(store, read, rules=replace(account_rules(), retention=retention))
        record: OrderRecord = order(store, "o1")
    assert "is kept until 9999-12-31 (30 days after" in explain(record, retention)


def test_a_waiting_order_that_cannot_be_matched_stops_neither_the_others_nor_the_searches(
    open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders without an e-mail were held, and are not any more; one of them breaks."""
    shop = open_shop("UK", rules=[rules_for("UK", without_email="hold")])
    for n in range(5):
        shop.simulator.world.order(
            f"W{n:02d}-0000000-0000000", created=NOON + 12 * MINUTE, status="UNSHIPPED", email=None
        )
    shop.run_until(NOON + 30 * MINUTE)
    decide = match._Page.decide

    def break_at(page: match._Page, merged: Merged) -> object:
        if merged.record.order_id == "W00-0000000-0000000":
            raise KeyError("of a secret value")
        return decide(page, merged)

    monkeypatch.setattr(match._Page, "decide", break_at)
    shop.rules = [rules_for("UK", without_email="per_order")]
    sell(shop, 60, NOON + 30 * MINUTE, MINUTE)
    before = searches(shop)
    reports = shop.run_until(NOON + 2 * HOUR)
    assert {report.outcome for report in reports} == {"complete"}
    assert searches(shop) - before >= 20
    query = sa.select(tables.orders.c.order_id).where(tables.orders.c.customer_id.is_(None))
    with shop.store.read() as tx:
        assert [row.order_id for row in tx.rows(query)] == ["W00-0000000-0000000"]
    monkeypatch.undo()
    shop.run_until(NOON + 3 * HOUR)
    with shop.store.read() as tx:
        assert [row.order_id for row in tx.rows(query)] == []


@pytest.mark.long
def test_an_order_that_amazon_always_refuses_holds_up_no_other_refetch(open_shop: Open) -> None:
    shop = open_shop("UK")
    for n in range(3):
        shop.simulator.world.order(
            f"{n:03d}-0000000-0000000", created=NOON + 12 * MINUTE, poison="items_missing"
        )
    shop.run_until(NOON + 30 * MINUTE)
    assert len(entries(shop)) == 3
    inner = transport(shop.simulator)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/000-0000000-0000000"):
            return httpx.Response(500)
        return inner.handle_request(request)

    shop.go_through(httpx.MockTransport(answer))
    shop.run_until(NOON + 30 * HOUR)
    refetches = {entry.order_id: entry.refetches for entry in entries(shop)}
    assert refetches.pop("000-0000000-0000000") == 0, "no answer does not count"
    assert min(refetches.values()) >= 2


# --- one exception ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("error", [RuntimeError, OSError], ids=lambda e: e.__name__)
def test_a_search_that_raises_anything_leaves_a_small_gap_that_closes(
    error: type[Exception], open_shop: Open
) -> None:
    """The range around one bad minute cannot be read for a day; everything else is."""
    shop = open_shop("UK", "DE")
    shop.run_until(NOON + 20 * MINUTE)
    sell(shop, 40, NOON + 21 * MINUTE, 10 * MINUTE, "UK", "DE")
    bad, over = NOON + 40 * MINUTE, NOON + 7 * HOUR
    inner = transport(shop.simulator)

    def answer(request: httpx.Request) -> httpx.Response:
        parameters = request.url.params
        if shop.clock() < over and "lastUpdatedAfter" in parameters:
            lower, upper = (
                datetime.fromisoformat(parameters[f"lastUpdated{b}"]) for b in ("After", "Before")
            )
            if lower <= bad <= upper:
                raise error("unexpected, of a secret value")
        return inner.handle_request(request)

    shop.go_through(httpx.MockTransport(answer))
    before = searches(shop)
    shop.run_until(NOON + 6 * HOUR)
    assert len(stored(shop)) >= 30
    (gap,) = not_seen(shop)
    assert gap.lower <= bad <= gap.upper
    assert gap.upper - gap.lower <= 2 * MINUTE
    assert all("secret" not in str(w.last_error) for w in unfinished(shop))
    assert searches(shop) - before < 6 * 20 + 20
    assert overclaimed(shop) == []

    shop.run_until(NOON + 14 * HOUR)
    assert not unfinished(shop)
    assert not_seen(shop) == []
    assert len(stored(shop)) == 40


@pytest.mark.long
def test_whatever_another_request_raises_does_not_stop_the_searches(open_shop: Open) -> None:
    """Lists of enrolments, orders by their id: a fault in them is their own."""
    shop = open_shop("UK")
    inner = transport(shop.simulator)

    def answer(request: httpx.Request) -> httpx.Response:
        if "lastUpdatedAfter" in request.url.params or "token" in request.url.path:
            return inner.handle_request(request)
        raise RuntimeError("unexpected")

    shop.go_through(httpx.MockTransport(answer))
    sell(shop, 10, NOON + 5 * MINUTE, 10 * MINUTE)
    shop.simulator.world.order("late", created=NOON + MINUTE, status="PENDING", marketplace="UK")
    shop.run_until(NOON + 2 * HOUR)
    assert len(stored(shop)) == 11


# --- one page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spread", "most"), [(HOUR, 4), (10 * MINUTE, 8)], ids=["evenly", "at its end"])
def test_one_pass_over_150_changes_ends_complete_after_few_searches(
    spread: timedelta, most: int, open_shop: Open
) -> None:
    shop = open_shop("UK")
    shop.run_until(NOON + 10 * MINUTE)
    sell(shop, 150, NOON + 70 * MINUTE - spread, (spread / 150).seconds * SECOND)
    shop.clock.go_to(NOON + 73 * MINUTE)
    before = searches(shop)
    (report,) = shop.sync()
    assert report.outcome == "complete"
    assert len(stored(shop)) == 150
    assert searches(shop) - before <= most


@pytest.mark.long
def test_orders_that_slide_out_of_amazons_two_years_while_they_are_read_are_a_gap(open_shop: Open) -> None:
    """The list shrinks at its old end while history is walked: who stands at a page's edge is not skipped."""
    shop = open_shop("UK", world=World(Seller(marketplaces=("UK",)), list_order="time"))
    oldest = NOON - HISTORY
    for n in range(400):
        created = oldest - 30 * MINUTE + n * 30 * SECOND
        shop.simulator.world.order(f"{n:03d}", created=created, marketplace="UK", status="SHIPPED")
    shop.start_date = oldest.date()
    shop.sync()
    with shop.store.begin() as tx:
        tx.conn.execute(sa.update(tables.budgets).values(tokens=0.0))
    shop.run_until(NOON + 6 * HOUR)
    pages = [s.at for s in shop.simulator.served if "createdAfter" in s.query and s.orders]
    shown = [one for one in shop.simulator.world.orders() if one.created > max(pages) - HISTORY]
    assert len(pages) >= 4
    assert {one.order_id for one in shown} <= stored(shop)
    with shop.store.read() as tx:
        (known,) = ledger.load_marketplaces(tx, "acme").values()
        seen = ledger.read_coverage(tx, "acme", UK, "created")
    assert known.history_from is not None
    missing = gaps(seen, known.history_from, known.live_from)
    lost = [one for one in shop.simulator.world.orders() if one.order_id not in stored(shop)]
    assert all(any(gap.lower <= one.created <= gap.upper for gap in missing) for one in lost)
    assert all(gap.upper <= NOON + 6 * HOUR - HISTORY for gap in missing)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_busy_shop_is_ready_and_covered_for_good_throughout(open_shop: Open) -> None:
    """4,000 orders a day, each changed three times: of 8 hours every look fits, or is split at once."""
    lean = rules_for("UK", included_data=frozenset({"FULFILLMENT"}))
    shop = open_shop("UK", rules=[lean])
    random = Random(4_000)
    at, end, number = NOON - HOUR, NOON + 5 * HOUR, 0
    while at < end:
        at += timedelta(seconds=random.expovariate(4_000 / 86_400))
        created = at.replace(microsecond=0)
        ready = created + random.randrange(120, 1800) * SECOND
        shipped = ready + random.randrange(1800, 12 * 3600) * SECOND
        one = an_order(f"{number:06d}", created=created, marketplace="UK", status="PENDING")
        shop.simulator.world.add(one.then(ready, status="UNSHIPPED").then(shipped, status="SHIPPED"))
        number += 1
    worst = timedelta(0)
    while shop.clock() < end:
        shop.run_until(shop.clock() + 10 * MINUTE)
        with shop.store.read() as tx:
            (known,) = ledger.load_marketplaces(tx, "acme").values()
            seen = ledger.read_coverage(tx, "acme", UK, "first")
        assert all(
            shop.clock() - gap.lower < Limits().gap for gap in gaps(seen, known.live_from, known.position)
        )
        worst = max(worst, shop.clock() - (complete_until(seen, known.live_from) or known.live_from))
        assert overclaimed(shop) == []
    assert worst <= 20 * MINUTE
    assert all(request.status != 429 for request in shop.simulator.requests)


# --- one second -------------------------------------------------------------------------------------


def crowd(shop: Shop, number: int, at: datetime, **facts: Any) -> None:
    """Orders of three days ago that were all updated at one time."""
    for n in range(number):
        one = an_order(f"A-{n:05d}", created=NOON - 3 * DAY, marketplace="UK", status="PENDING")
        shop.simulator.world.add(one.then(at, **facts))


def sell_every_hour(shop: Shop, begin: datetime, end: datetime) -> None:
    for n in range(int((end - begin) / HOUR)):
        shop.simulator.world.order(f"B-{n:05d}", created=begin + n * HOUR, marketplace="UK", status="SHIPPED")


def slow(open_shop: Open, share: float) -> Shop:
    """A shop whose plan allows this share of the usual searches; small orders are quick."""
    shop = open_shop("UK", rules=[rules_for("UK", included_data=frozenset({"FULFILLMENT"}))])
    shop.simulator.plans = {SEARCH: UsagePlan(0.0056 * share, 20)}
    return shop


def behind(shop: Shop) -> timedelta:
    with shop.store.read() as tx:
        (known,) = ledger.load_marketplaces(tx, "acme").values()
    return shop.clock() - known.position


@pytest.mark.long
@pytest.mark.timeout(600)
def test_6000_orders_of_one_second_are_all_stored_at_a_tenth_of_the_pace(open_shop: Open) -> None:
    """No token lives long enough for all of them; by fulfilment and status, each part is read to its end."""
    shop = slow(open_shop, 0.1)
    shop.sync()
    random, at = Random(6_000), NOON + 2 * HOUR
    for n in range(6_000):
        one = an_order(f"A-{n:05d}", created=NOON - 3 * DAY, marketplace="UK", status="PENDING")
        status = random.choice(("PENDING", "UNSHIPPED", "SHIPPED", "CANCELLED"))
        fulfilled_by = random.choice(("AMAZON", "MERCHANT"))
        shop.simulator.world.add(one.then(at, status=status, fulfilled_by=fulfilled_by))
    sell_every_hour(shop, NOON + 3 * HOUR, NOON + 32 * DAY)
    shop.run_until(NOON + 16 * HOUR)
    while shop.clock() < NOON + 30 * DAY and not_seen(shop):
        shop.run_until(shop.clock() + 12 * HOUR)
        assert behind(shop) < 3 * HOUR
    assert not_seen(shop) == []
    assert sum(order_id.startswith("A-") for order_id in stored(shop)) == 6_000


@pytest.mark.timeout(600)
@pytest.mark.long
def test_a_second_that_does_not_fit_into_a_tokens_life_is_a_gap_that_closes_when_orders_move_on(
    open_shop: Open,
) -> None:
    """700 orders of one status and one fulfiller, at a page in three hours: six pages in a token's life.

    Every second request is a look.
    """
    shop = slow(open_shop, 0.03)
    shop.sync()
    at = NOON + 2 * HOUR
    crowd(shop, 700, at, status="SHIPPED", fulfilled_by="MERCHANT")
    sell_every_hour(shop, NOON + 3 * HOUR, NOON + 80 * DAY)
    shop.run_until(NOON + 40 * DAY)
    (gap,) = not_seen(shop)
    assert gap.lower <= at <= gap.upper
    assert gap.upper - gap.lower <= 2 * SECOND
    assert behind(shop) < 24 * HOUR
    at_work = [w for w in unfinished(shop) if w.kind == "live" and w.fulfilled_by == ("MERCHANT",)]
    assert any(w.attempts >= 5 and "SHIPPED" in w.statuses for w in at_work)
    walks = [s.at for s in shop.simulator.served if s.query.get("fulfillmentStatuses") == ("SHIPPED",)]
    assert walks

    for n in range(0, 700, 2):
        shop.simulator.world.update(f"A-{n:05d}", shop.clock() + n * MINUTE, seller_order_id="ON")
    while shop.clock() < NOON + 78 * DAY and not_seen(shop):
        shop.run_until(shop.clock() + DAY)
    assert not_seen(shop) == []
    assert sum(order_id.startswith("A-") for order_id in stored(shop)) == 700
