"""Amazon's report of all orders lists the seller's whole region, whichever marketplace it is requested for.

selling-partner-api-docs issues 1404, 1961 and 2953, selling-partner-api-models issue 534. Orders of other
shops stand in no other list (selling-partner-api-sdk issue 764).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.errors import AccessRefused, Deferred
from connectors.marketplaces import BY_NAME, NON_AMAZON
from connectors.simulator.api import Simulator
from connectors.simulator.faults import CREATE_REPORT, GET, GET_DOCUMENT, SEARCH, Faults
from connectors.simulator.messages import Answer, Request
from connectors.simulator.orders import order
from connectors.simulator.reports import Reports
from connectors.simulator.world import Seller, World
from poller.matching.marketplace_rules import MarketplaceRules
from poller.sync.decide import Pace
from poller.verification.run import Verifier
from store import ledger, tables, verifications
from store.verification_records import Verification
from tests.databases import long_on
from tests.harness import NOON, OTHER_SHOP, Shop, SimulatedClock, rules_for

pytestmark = long_on("postgresql")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = NOON - 40 * DAY
UK, DE = BY_NAME["UK"].id, BY_NAME["DE"].id
OTHERS = rules_for("NON_AMAZON", currency="GBP")


def world() -> World:
    """Forty days of a seller who sells in the UK and in Germany, and whose own shop Amazon ships for."""
    made = World(Seller(marketplaces=("UK", "DE")))
    made.add(
        *(order(f"UK-{n}", created=START + (4 * n + 1) * DAY, status="SHIPPED") for n in range(9)),
        *(
            order(f"DE-{n}", created=START + (2 * n + 1) * DAY, marketplace="DE", status="SHIPPED")
            for n in range(18)
        ),
        *(
            order(
                f"S02-{n}",
                created=START + (9 * n + 2) * DAY,
                status="SHIPPED",
                fulfilled_by="AMAZON",
                unlisted=True,
                **OTHER_SHOP,
            )
            for n in range(4)
        ),
    )
    return made


@pytest.fixture
def shop(database_url: str) -> Any:
    shops = []

    def opened(rules: Sequence[MarketplaceRules] = (rules_for("UK"),), **more: Any) -> Shop:
        clock = SimulatedClock()
        made = world()
        reports = Reports(made, in_queue=timedelta(seconds=5), in_progress=timedelta(seconds=25))
        simulator = Simulator(made, now=clock, reports=reports)
        options = {"start_date": START.date(), "pace": Pace(6 * 3600, 6 * 3600), **more}
        shops.append(Shop(database_url, simulator, clock, list(rules), **options))
        return shops[-1]

    yield opened
    for each in shops:
        each.close()


def read(shop: Shop) -> None:
    """Read the forty days, and what is new seven hours later."""
    while (report := shop.sync()[0]).outcome != "complete":
        shop.clock.go_to(report.until)
    shop.clock.sleep(7 * 3600)
    shop.sync()


def verifier_of(shop: Shop) -> Verifier:
    (source,) = shop.sources()
    return shop.syncer(source).verifier()


def verify(shop: Shop, marketplace_id: str = UK, *, repair: bool = False) -> Verification:
    """The same command again and again, until it does not have to wait."""
    while True:
        verifier = verifier_of(shop)
        job = verifier.begin(marketplace_id, START, NOON, "report", repair=repair)
        assert job is not None
        try:
            return verifier.carry_out(job)
        except Deferred as error:
            shop.clock.go_to(error.until)


def carried_out(shop: Shop) -> list[Verification]:
    """Carry out what the service does by itself. Return all verifications, newest first."""
    for _ in range(20):
        verifier_of(shop).carry_out_scheduled()
        shop.clock.sleep(120)
    with shop.store.read() as tx:
        return verifications.of_account(tx, "acme")


def stored(shop: Shop) -> set[str]:
    with shop.store.read() as tx:
        return set(tx.conn.execute(sa.select(tables.orders.c.order_id)).scalars())


def asked(shop: Shop, operation: str) -> int:
    return sum(request.operation == operation for request in shop.simulator.requests)


def lose(shop: Shop, order_id: str) -> None:
    o, lines = tables.orders, tables.order_lines
    with shop.store.begin() as tx:
        key = sa.select(o.c.order_key).where(o.c.order_id == order_id).scalar_subquery()
        tx.conn.execute(sa.delete(lines).where(lines.c.order_key == key))
        tx.conn.execute(sa.delete(o).where(o.c.order_id == order_id))


UK_ORDERS = {f"UK-{n}" for n in range(9)}


def test_orders_of_another_marketplace_are_neither_missing_nor_fetched(shop: Any) -> None:
    uk = shop()
    read(uk)
    gets = asked(uk, GET)
    job = verify(uk, repair=True)
    assert (job.state, job.listed, job.findings, job.non_amazon) == ("done", 9, (), 4)
    lose(uk, "UK-3")
    job = verify(uk, repair=True)
    assert [(f.order_id, f.outcome) for f in job.findings] == [("UK-3", "stored")]
    assert asked(uk, GET) == gets + 1
    assert stored(uk) == UK_ORDERS


def test_the_weekly_verification_stores_nothing_that_is_not_configured(shop: Any) -> None:
    uk = shop()
    read(uk)
    uk.clock.sleep((8 * DAY).total_seconds())
    uk.sync()
    (job,) = carried_out(uk)
    assert (job.reason, job.state, job.listed, job.lacking) == ("scheduled", "done", 6, ())
    assert stored(uk) == UK_ORDERS


def test_a_backfill_by_report_fetches_its_own_marketplace_alone(shop: Any) -> None:
    uk = shop(start_date=None)
    uk.sync()
    with uk.store.begin() as tx:
        upper = ledger.load_marketplaces(tx, "acme")[UK].live_from
        number = ledger.open_backfill(tx, "acme", UK, "manual", START, upper, "report", "planned")
    gets = asked(uk, GET)
    for _ in range(60):
        uk.clock.sleep(60)
        uk.sync()
    with uk.store.read() as tx:
        backfill = ledger.lock_backfill(tx, number)
    assert backfill is not None
    assert (backfill.state, backfill.orders) == ("done", 9)
    assert asked(uk, GET) - gets <= 9
    assert stored(uk) == UK_ORDERS


def test_a_row_without_a_known_channel_is_not_lost(shop: Any) -> None:
    """It may be of any marketplace of Amazon's: only the order itself says where it was placed."""
    uk = shop()
    read(uk)
    uk.simulator.world.order(
        "UK-x",
        created=START + DAY,
        status="SHIPPED",
        unlisted=True,
        marketplace_name="Amazon.example",
    )
    job = verify(uk, repair=True)
    assert [(f.order_id, f.outcome) for f in job.findings] == [("UK-x", "stored")]


def test_one_unreadable_row_is_named_and_the_rest_is_compared(shop: Any) -> None:
    uk = shop()
    read(uk)
    lose(uk, "UK-3")
    uk.simulator.world.order("Ü-1", created=START + 3 * DAY, status="SHIPPED", unlisted=True)
    job = verify(uk, repair=True)
    assert (job.state, job.unreadable) == ("done", 1)
    assert "of the report has a malformed amazon-order-id" in (job.message or "")
    assert [(f.order_id, f.outcome) for f in job.findings] == [("UK-3", "stored")]
    assert asked(uk, CREATE_REPORT) == 3, "of the spoilt part another one, which may be whole"


# --- without the role for reports -------------------------------------------------------------------


def test_without_the_role_for_reports_the_weekly_verification_searches(shop: Any) -> None:
    """selling-partner-api-docs issues 375 and 1692: createReport is forbidden, orders may be read."""
    uk = shop()
    read(uk)
    uk.simulator.faults = Faults.only("forbidden", operations=[CREATE_REPORT])
    lose(uk, "UK-5")
    uk.clock.sleep((8 * DAY).total_seconds())
    uk.sync()
    searches = asked(uk, SEARCH)
    (job,) = carried_out(uk)
    assert (job.by, job.state, job.listed, job.lacking) == ("search", "done", 6, ())
    assert [f.order_id for f in job.findings] == ["UK-5"]
    assert asked(uk, SEARCH) == searches + 1
    with pytest.raises(AccessRefused, match=r"status 403.*: give the application the role .* `--by search`"):
        verify(uk)


# --- orders of other shops --------------------------------------------------------------------------


def test_orders_of_other_shops_come_by_the_report_where_a_file_wants_them(shop: Any) -> None:
    both = shop((rules_for("UK"), OTHERS))
    both.sync()
    assert not {o for o in stored(both) if o.startswith("S02")}
    read(both)
    older, newest = carried_out(both)
    assert {(j.marketplace_id, j.reason, j.state) for j in (older, newest)} == {
        (NON_AMAZON.id, "scheduled", "done")
    }
    assert newest.upper - newest.lower == 30 * DAY
    assert (older.lower, older.upper) == (START.replace(hour=0), newest.lower)
    assert {f.order_id: f.outcome for f in (*older.findings, *newest.findings)} == {
        f"S02-{n}": "stored" for n in range(4)
    }
    exported, customers = both.exported()
    found = {o["order_id"]: o for o in exported if o["order_id"].startswith("S02")}
    assert {(o["marketplace"], o["marketplace_id"], o["match_basis"]) for o in found.values()} == {
        ("NON_AMAZON", "AZMDEXL2RVFNN", "unidentified")
    }
    assert {o["price_list"] for o in found.values()} == {"Amazon NON_AMAZON retail"}
    assert all(o["customer_id"] in {c["customer_id"] for c in customers} for o in found.values())


@pytest.mark.long
def test_what_other_shops_sell_and_change_is_read_every_day_and_the_rest_every_four_weeks(shop: Any) -> None:
    both = shop((rules_for("UK"), OTHERS))
    read(both)
    carried_out(both)
    new = both.clock() - HOUR
    both.simulator.world.order("S02-new", created=new, status="UNSHIPPED", unlisted=True, **OTHER_SHOP)
    both.simulator.world.update("S02-3", new, status="CANCELLED")
    assert len(carried_out(both)) == 2, "not before a day is over"
    both.clock.sleep(DAY.total_seconds())
    newest = carried_out(both)[0]
    assert {(f.order_id, f.kind, f.outcome) for f in newest.findings} == {
        ("S02-new", "missing", "stored"),
        ("S02-3", "older", "stored"),
    }
    assert newest.upper - newest.lower == 30 * DAY
    for _ in range(28):
        both.clock.sleep(DAY.total_seconds())
        both.sync()
        carried_out(both)
    jobs = [j for j in carried_out(both) if j.marketplace_id == NON_AMAZON.id]
    assert sum(j.lower == START.replace(hour=0) for j in jobs) == 2
    assert all(j.state == "done" for j in jobs)


def test_what_other_shops_sold_before_the_start_date_is_not_wanted(shop: Any) -> None:
    late = shop((rules_for("UK"), OTHERS), start_date=(START + 15 * DAY).date())
    read(late)
    carried_out(late)
    assert {o for o in stored(late) if o.startswith("S02")} == {"S02-2", "S02-3"}
    job = verify(late, NON_AMAZON.id)
    assert (job.listed, job.before_start, job.lacking) == (4, 2, ())


def test_an_order_of_another_shop_waits_for_its_file(shop: Any) -> None:
    """R24, R26: fetched by hand before there was a file, it gets its customer when there is one."""
    uk = shop()
    read(uk)
    verifier_of(uk).fetch("S02-1", ("FULFILLMENT",))
    (one,) = [o for o in uk.exported()[0] if o["order_id"] == "S02-1"]
    assert (one["marketplace"], one["customer_id"]) == (None, None)
    uk.rules = [rules_for("UK"), OTHERS]
    uk.clock.sleep(7 * 3600)
    uk.sync()
    (one,) = [o for o in uk.exported()[0] if o["order_id"] == "S02-1"]
    assert one["marketplace"] == "NON_AMAZON"
    assert one["customer_id"] is not None


def test_a_report_that_is_spoilt_is_requested_again_for_other_shops_too(shop: Any) -> None:
    both = shop((rules_for("UK"), OTHERS))
    read(both)
    both.simulator.faults = Faults.only("report_malformed", operations=[GET_DOCUMENT], calls=[1])
    assert {job.state for job in carried_out(both)} == {"done"}
    assert {o for o in stored(both) if o.startswith("S02")} == {f"S02-{n}" for n in range(4)}


def test_an_empty_report_is_no_proof_for_other_shops_either(shop: Any) -> None:
    both = shop((rules_for("UK"), OTHERS))
    both.simulator.faults = Faults.only("report_empty", operations=[GET_DOCUMENT], calls=[1, 2])
    read(both)
    assert {job.state for job in carried_out(both)} == {"done"}
    assert {o for o in stored(both) if o.startswith("S02")} == {f"S02-{n}" for n in range(4)}


def test_a_range_that_always_fails_holds_up_no_newer_orders_of_other_shops(shop: Any) -> None:
    both = shop((rules_for("UK"), OTHERS))
    handle = both.simulator.handle

    def refuses_old_reports(request: Request) -> Answer:
        if request.method == "POST" and f"{START:%Y-%m-%d}".encode() in request.body:
            return Answer(400, {}, b'{"errors": [{"code": "InvalidInput"}]}')
        answer: Answer = handle(request)
        return answer

    both.simulator.handle = refuses_old_reports
    read(both)
    carried_out(both)
    assert {o for o in stored(both) if o.startswith("S02")} == {"S02-1", "S02-2", "S02-3"}
    new = both.clock() + HOUR
    both.simulator.world.order("S02-new", created=new, status="UNSHIPPED", unlisted=True, **OTHER_SHOP)
    both.clock.sleep((DAY + 2 * HOUR).total_seconds())
    carried_out(both)
    assert "S02-new" in stored(both)


def test_an_order_that_amazon_lists_and_does_not_return_is_requested_once(shop: Any) -> None:
    both = shop((rules_for("UK"), OTHERS))
    handle = both.simulator.handle

    def hides(request: Request) -> Answer:
        if request.path.endswith("/S02-3"):
            return Answer(404, {}, b'{"errors": [{"code": "NotFound"}]}')
        answer: Answer = handle(request)
        return answer

    both.simulator.handle = hides
    read(both)
    for _ in range(4):
        carried_out(both)
        both.clock.sleep(DAY.total_seconds())
    newest = next(j for j in carried_out(both) if j.upper - j.lower == 30 * DAY)
    assert [(f.order_id, f.outcome) for f in newest.lacking] == [("S02-3", "not_found")]
    asked_for = [r for r in both.attempts if r.operation == GET]
    assert len(asked_for) <= 4 + 3, "three others, and this one not every day"
