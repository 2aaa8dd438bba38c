"""Verification on a simulated clock: what it finds, what it repairs, and that it goes on after a stop."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.base import UsagePlan
from connectors.errors import AccessRefused, Deferred
from connectors.marketplaces import BY_NAME
from connectors.simulator.api import Simulator
from connectors.simulator.faults import CREATE_REPORT, GET, GET_DOCUMENT, GET_REPORT, SEARCH, Faults
from connectors.simulator.orders import order
from connectors.simulator.world import Seller, World
from poller.sync.decide import Pace
from poller.verification.run import RANGE_ATTEMPTS, Verifier
from store import ledger, tables, verifications
from store.ledger import Superseded
from store.progress import Interval, Look
from store.verification_records import By, Verification
from tests.databases import Contents, long_on
from tests.harness import NOON, Shop, SimulatedClock, rules_for
from tests.integration.test_store_engine import together

pytestmark = long_on("postgresql")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UK = BY_NAME["UK"].id
START = NOON - 40 * DAY
LISTED = [f"UK-{n:02}" for n in range(20)]
UNLISTED = ["HIDDEN-1", "HIDDEN-2", "HIDDEN-3"]


def world() -> World:
    """Forty days: an order every second day in UK, some in DE, and three that no search ever lists."""
    made = World(Seller(marketplaces=("UK", "DE")))
    made.add(
        *(order(name, created=START + n * 2 * DAY + HOUR, status="SHIPPED") for n, name in enumerate(LISTED)),
        *(
            order(f"DE-{n}", created=START + n * 9 * DAY, marketplace="DE", status="SHIPPED")
            for n in range(4)
        ),
    )
    return made


def hide(shop: ReadShop, *names: str) -> None:
    for n, name in enumerate(names):
        shop.simulator.world.order(name, created=START + (5 + 8 * n) * DAY, status="SHIPPED", unlisted=True)


class ReadShop(Shop):
    """A shop whose forty days of history have been read. ``read_with``: the requests of that."""

    read_with = 0


@pytest.fixture(scope="module")
def read_once() -> dict[bool, tuple[Contents, Simulator, SimulatedClock]]:
    """What a shop is made of that has been read, by whether that was on SQLite."""
    return {}


@pytest.fixture
def shop(
    database_url: str, read_once: dict[bool, tuple[Contents, Simulator, SimulatedClock]]
) -> Iterator[ReadShop]:
    on_sqlite = database_url.startswith("sqlite")
    if on_sqlite in read_once:
        contents, simulator, clock = read_once[on_sqlite]
        contents.write_to(database_url)
    else:
        clock = SimulatedClock()
        simulator = Simulator(world(), now=clock)
        read(shop_of(database_url, simulator, clock))
        read_once[on_sqlite] = Contents(database_url), simulator, clock
    simulator, clock = copy.deepcopy((simulator, clock), {id(simulator._lock): Lock()})
    shop = shop_of(database_url, simulator, clock)
    shop.read_with = len(simulator.requests)
    yield shop
    shop.close()


def shop_of(database_url: str, simulator: Simulator, clock: SimulatedClock) -> ReadShop:
    rules = [rules_for("UK"), rules_for("DE")]
    return ReadShop(database_url, simulator, clock, rules, START.date(), pace=Pace(6 * 3600, 6 * 3600))


def read(shop: ReadShop) -> None:
    """Read the forty days, and what is new seven hours later."""
    while (report := shop.sync()[0]).outcome != "complete":
        shop.clock.go_to(report.until)
    shop.clock.sleep(7 * 3600)
    shop.sync()
    shop.close()


# --- helpers ----------------------------------------------------------------------------------------


def verifier_of(shop: ReadShop) -> Verifier:
    """As a new process has it."""
    (source,) = shop.sources()
    return shop.syncer(source).verifier()


def begun(
    shop: ReadShop,
    by: By = "report",
    *,
    repair: bool = False,
    lower: datetime = START,
    upper: datetime = NOON,
) -> Verification:
    job = verifier_of(shop).begin(UK, lower, upper, by, repair=repair)
    assert job is not None
    return job


def verify(shop: ReadShop, by: By = "report", **more: Any) -> Verification:
    """The same command again and again, until it does not have to wait."""
    while True:
        try:
            return verifier_of(shop).carry_out(begun(shop, by, **more))
        except Deferred as error:
            shop.clock.go_to(error.until)


def found(job: Verification, kind: str) -> list[str]:
    return [finding.order_id for finding in job.findings if finding.kind == kind]


def asked(shop: ReadShop, operation: str) -> int:
    return sum(request.operation == operation for request in shop.simulator.requests[shop.read_with :])


def strike(shop: ReadShop, operation: str, call: int, kind: str) -> None:
    """The ``call``-th request of an operation, from now on, goes wrong."""
    made = sum(request.operation == operation for request in shop.simulator.requests)
    shop.simulator.faults = Faults.only(kind, operations=[operation], calls=[made + call])


def fetched(shop: ReadShop) -> list[str]:
    """Ids that were requested one by one."""
    orders: list[Any] = [
        o for served in shop.simulator.served if served.operation == GET for o in served.orders
    ]
    return sorted(one["orderId"] for one in orders)


def stored(shop: ReadShop) -> set[str]:
    with shop.store.read() as tx:
        return set(tx.conn.execute(sa.select(tables.orders.c.order_id)).scalars())


def delete(shop: ReadShop, *names: str) -> None:
    """Rows are deleted behind the program's back."""
    o, lines = tables.orders.c, tables.order_lines
    with shop.store.begin() as tx:
        keys = tx.conn.execute(sa.select(o.order_key).where(o.order_id.in_(names))).scalars().all()
        tx.conn.execute(sa.delete(lines).where(lines.c.order_key.in_(keys)))
        tx.conn.execute(sa.delete(tables.orders).where(o.order_key.in_(keys)))


# --- what is found and repaired ---------------------------------------------------------------------


@pytest.mark.long
def test_all_there_is_complete(shop: ReadShop) -> None:
    ways: tuple[By, ...] = ("report", "search")
    for by in ways:
        job = verify(shop, by)
        assert (job.state, job.listed, job.findings) == ("done", len(LISTED), ())
    assert asked(shop, GET) == 0


@pytest.mark.long
def test_orders_that_no_list_ever_names_are_found_and_brought(shop: ReadShop) -> None:
    hide(shop, *UNLISTED)
    shop.clock.sleep(DAY.total_seconds())
    shop.sync()
    assert not stored(shop) & set(UNLISTED), "polling cannot see them"

    assert found(verify(shop), "missing") == UNLISTED
    assert not stored(shop) & set(UNLISTED), "nothing was asked to be repaired"
    repaired = verify(shop, repair=True)
    assert found(repaired, "missing") == UNLISTED
    assert repaired.lacking == ()
    assert fetched(shop) == UNLISTED
    assert stored(shop) >= set(UNLISTED)
    assert verify(shop).findings == ()


@pytest.mark.long
@pytest.mark.parametrize("by", ["report", "search"])
def test_rows_that_were_deleted_are_found_and_brought(shop: ReadShop, by: By) -> None:
    gone = [LISTED[3], LISTED[11], LISTED[19]]
    delete(shop, *gone)
    assert found(verify(shop, by), "missing") == gone
    assert verify(shop, by, repair=True).lacking == ()
    assert fetched(shop) == gone
    assert verify(shop, by).findings == ()
    assert stored(shop) >= set(LISTED)


@pytest.mark.parametrize("by", ["report", "search"])
def test_a_copy_that_is_older_than_amazons_is_found_and_renewed(shop: ReadShop, by: By) -> None:
    name = LISTED[7]
    with shop.store.begin() as tx:
        mine = tables.orders.c.order_id == name
        tx.conn.execute(
            sa.update(tables.orders).where(mine).values(status="UNSHIPPED", last_updated_at=START - DAY)
        )
    assert found(verify(shop, by), "older") == [name]
    assert verify(shop, by, repair=True).lacking == ()
    assert fetched(shop) == [name]
    assert {o["status"] for o in shop.exported()[0] if o["order_id"] == name} == {"SHIPPED"}
    assert verify(shop, by).findings == ()


def test_what_is_wanted_nowhere_and_what_waits_is_not_missing(shop: ReadShop) -> None:
    made = shop.simulator.world
    now = shop.clock()
    made.order("OLD", created=START - 2 * DAY, unlisted=True)
    made.order("PENDING", created=now, status="PENDING", email=None)
    made.order("POISON", created=now, poison="quantity_a_word")
    made.order("OTHER", created=now, channel="NON_AMAZON", marketplace_id=None)
    shop.clock.sleep(8 * 3600)
    shop.sync()
    job = verify(shop, lower=START - 5 * DAY, upper=now + HOUR)
    assert (job.listed, job.non_amazon) == (len(LISTED) + 3, 1)
    assert job.lacking == ()
    assert job.before_start == 1
    assert [(f.order_id, f.kind) for f in job.findings] == [("POISON", "quarantined")]


def test_what_amazon_lists_no_more_is_said_and_is_not_missing(shop: ReadShop) -> None:
    shop.simulator.world.order(LISTED[5], created=START + 10 * DAY + HOUR, late=99 * DAY)
    job = verify(shop)
    assert (found(job, "unknown"), job.lacking) == ([LISTED[5]], ())


def test_what_amazon_does_not_give_by_its_id_stays_missing(shop: ReadShop) -> None:
    hide(shop, UNLISTED[0])
    with pytest.raises(Deferred):
        verifier_of(shop).carry_out(begun(shop, repair=True))
    shop.clock.sleep(600)
    verifier = verifier_of(shop)
    honest = verifier.fetch

    def gone(order_id: str, included: tuple[str, ...]) -> Any:
        shop.simulator.world.order(order_id, created=START, late=99 * DAY)
        return honest(order_id, included)

    verifier = replace(verifier, fetch=gone)
    with pytest.raises(Deferred):
        verifier.carry_out(begun(shop, repair=True))
    shop.clock.sleep(600)
    (left,) = verifier.carry_out(begun(shop, repair=True)).lacking
    assert (left.order_id, left.outcome) == (UNLISTED[0], "not_found")


def test_a_failure_while_repairing_is_gone_on_from(shop: ReadShop) -> None:
    delete(shop, LISTED[3])
    shop.simulator.faults = Faults.only("forbidden", operations=[GET])
    with pytest.raises(AccessRefused):
        verify(shop, repair=True)
    shop.simulator.faults = Faults()
    assert verify(shop, repair=True).lacking == (), "what was to be repaired is repaired by the next call"
    assert asked(shop, CREATE_REPORT) == 2
    assert stored(shop) >= set(LISTED)


def test_without_repair_nothing_is_repaired_though_it_was_begun_with_it(shop: ReadShop) -> None:
    delete(shop, LISTED[3])
    shop.simulator.faults = Faults.only("forbidden", operations=[GET])
    with pytest.raises(AccessRefused):
        verify(shop, repair=True)
    shop.simulator.faults = Faults()
    gets = asked(shop, GET)
    job = verify(shop)
    assert (job.state, found(job, "missing"), len(job.lacking)) == ("done", [LISTED[3]], 1)
    assert asked(shop, GET) == gets
    assert LISTED[3] not in stored(shop)


@pytest.mark.long
def test_a_failure_in_the_last_range_does_not_keep_findings_from_being_repaired(shop: ReadShop) -> None:
    delete(shop, LISTED[3], LISTED[19])
    made = sum(request.operation == CREATE_REPORT for request in shop.simulator.requests)
    calls = range(made + 2, made + 2 + RANGE_ATTEMPTS)
    shop.simulator.faults = Faults.only("report_fatal", operations=[CREATE_REPORT], calls=calls)
    failed = verify(shop, repair=True)
    assert (failed.state, failed.position) == ("failed", START + 30 * DAY)
    assert [(f.order_id, f.outcome) for f in failed.findings] == [(LISTED[3], "stored")]

    again = verify(shop, repair=True)
    assert again.verification_id == failed.verification_id, "it goes on"
    assert (again.state, found(again, "missing"), again.lacking) == ("done", [LISTED[3], LISTED[19]], ())
    assert asked(shop, CREATE_REPORT) == 1 + RANGE_ATTEMPTS + 1, "the first stretch was not compared anew"
    assert stored(shop) >= set(LISTED)


@pytest.mark.long
def test_what_a_failed_verification_has_found_is_repaired_by_the_next_call(shop: ReadShop) -> None:
    delete(shop, LISTED[3])
    made = sum(request.operation == CREATE_REPORT for request in shop.simulator.requests)
    calls = range(made + 2, made + 2 + RANGE_ATTEMPTS)
    shop.simulator.faults = Faults.only("report_fatal", operations=[CREATE_REPORT], calls=calls)
    failed = verify(shop)
    assert (failed.state, len(failed.lacking)) == ("failed", 1)
    assert verify(shop, repair=True).lacking == ()
    assert stored(shop) >= set(LISTED)


def test_one_that_failed_long_ago_is_not_gone_on_with(shop: ReadShop) -> None:
    shop.simulator.faults = Faults.only("report_fatal", operations=[CREATE_REPORT])
    failed = verify(shop)
    shop.simulator.faults = Faults()
    shop.clock.sleep((2 * DAY).total_seconds())
    assert verify(shop).verification_id > failed.verification_id


# --- reports are not believed blindly ---------------------------------------------------------------


def test_no_report_is_requested_for_more_than_thirty_days(shop: ReadShop) -> None:
    verify(shop, lower=START - 50 * DAY)
    assert asked(shop, CREATE_REPORT) == 3
    assert asked(shop, GET_DOCUMENT) == 2, "the oldest thirty days were cancelled: nothing to report"
    assert asked(shop, SEARCH) == 1, "which one search has confirmed"


def test_an_empty_report_is_a_claim_that_a_search_refutes(shop: ReadShop) -> None:
    strike(shop, GET_DOCUMENT, 1, "report_empty")
    job = verify(shop)
    assert (job.state, job.listed) == ("done", len(LISTED))
    assert asked(shop, CREATE_REPORT) == 3, "two parts, and one of them again"
    assert asked(shop, SEARCH) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "operation", "why"),
    [
        ("report_empty", GET_DOCUMENT, "the report is empty, though the search lists orders"),
        ("report_fatal", CREATE_REPORT, "Amazon could not make the report (FATAL)"),
        ("report_cancelled", CREATE_REPORT, "the report is empty, though the search lists orders"),
        ("report_malformed", GET_DOCUMENT, "columns"),
    ],
)
def test_a_report_that_is_none_verifies_nothing(shop: ReadShop, fault: str, operation: str, why: str) -> None:
    shop.simulator.faults = Faults.only(fault, operations=[operation])
    job = verify(shop)
    assert job.state == "failed"
    assert why in (job.message or "")
    assert asked(shop, CREATE_REPORT) == RANGE_ATTEMPTS
    shop.simulator.faults = Faults()
    assert verify(shop).state == "done", "asked for again it begins anew"


def test_a_report_that_amazon_has_forgotten_is_requested_again(shop: ReadShop) -> None:
    with pytest.raises(Deferred):
        verifier_of(shop).carry_out(begun(shop))
    shop.clock.sleep((31 * DAY).total_seconds())
    assert verify(shop).state == "done"
    assert asked(shop, CREATE_REPORT) == 3


# --- it goes on -------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process dies."""


def dies_at(shop: ReadShop, call: int) -> Verifier:
    """A process that dies when it is about to ask Amazon for the ``call``-th time."""
    verifier = verifier_of(shop)
    connector, calls = verifier.connector, iter(range(1, 10_000))

    class Dying:
        def __getattr__(self, name: str) -> Any:
            if name in ("request_report", "report_state", "report_orders", "search") and next(calls) == call:
                raise Killed
            return getattr(connector, name)

    def fetch(order_id: str, included: tuple[str, ...]) -> Any:
        if next(calls) == call:
            raise Killed
        return verifier_of(shop).fetch(order_id, included)

    return replace(verifier, connector=Dying(), fetch=fetch)


@pytest.mark.parametrize("by", ["report", "search"])
def test_killed_at_every_step_it_asks_for_nothing_twice(shop: ReadShop, by: By) -> None:
    delete(shop, LISTED[3], LISTED[11])
    lives = 0
    while True:
        lives += 1
        try:
            job = dies_at(shop, lives % 3 + 1).carry_out(begun(shop, by, repair=True))
            break
        except Killed:
            continue
        except Deferred as error:
            shop.clock.go_to(error.until)
    assert (job.state, job.lacking, job.listed) == ("done", (), len(LISTED))
    assert lives > 3
    assert stored(shop) >= set(LISTED)
    assert asked(shop, CREATE_REPORT) == (2 if by == "report" else 0)
    assert set(fetched(shop)) == {LISTED[3], LISTED[11]}


def test_a_search_goes_on_at_the_page_where_the_budget_ended(shop: ReadShop) -> None:
    made = shop.simulator.world
    made.add(*(order(f"MANY-{n:03}", created=START + DAY + n * timedelta(minutes=1)) for n in range(450)))
    shop.simulator.served.clear()
    with shop.store.begin() as tx:
        tx.conn.execute(sa.update(tables.budgets).values(tokens=2.5, counted_at=tx.now))
    before = shop.clock()
    job = verify(shop, "search")
    assert shop.clock() - before > 10 * timedelta(minutes=1), "page after page, as the budget allows"
    assert len(found(job, "missing")) == 450
    pages = [tuple(sorted(s.query.items())) for s in shop.simulator.served if s.operation == SEARCH]
    assert len(pages) == len(set(pages)), "no page was asked for twice"


@pytest.mark.long
def test_what_a_search_writes_for_a_page_does_not_grow_with_the_pages_before_it(shop: ReadShop) -> None:
    shop.simulator.world.add(
        *(order(f"MANY-{n:04}", created=START + DAY + n * timedelta(minutes=1)) for n in range(1000))
    )
    written: Counter[int] = Counter()

    @sa.event.listens_for(shop.store.engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        if "verification" in statement and not statement.startswith("SELECT"):
            written[asked(shop, SEARCH)] += len(repr(values))

    job = verify(shop, "search")
    sa.event.remove(shop.store.engine, "before_cursor_execute", count)
    assert len(found(job, "missing")) == 1000
    pages = [written[number] for number in range(1, 11)]
    assert 0 < max(pages) < 1.2 * min(pages)
    with shop.store.read() as tx:
        rows = sa.select(sa.func.count()).select_from(tables.verification_orders)
        assert tx.conn.execute(rows).scalar_one() == 0


def test_a_page_token_that_is_refused_starts_the_range_again_in_halves(shop: ReadShop) -> None:
    made = shop.simulator.world
    made.add(*(order(f"MANY-{n:03}", created=START + DAY + n * timedelta(hours=1)) for n in range(150)))
    strike(shop, SEARCH, 2, "page_token_refused")
    job = verify(shop, "search")
    assert (job.state, len(found(job, "missing"))) == ("done", 150)
    assert job.span_seconds == (15 * DAY).total_seconds()


def test_the_last_search_is_left_to_live_polling(shop: ReadShop) -> None:
    with shop.store.begin() as tx:
        tx.conn.execute(sa.update(tables.budgets).values(tokens=1.9, counted_at=tx.now))
    with pytest.raises(Deferred):
        verifier_of(shop).carry_out(begun(shop, "search"))
    assert asked(shop, SEARCH) == 0


def test_of_two_processes_one_goes_on(shop: ReadShop) -> None:
    job = begun(shop, "search")
    assert verifier_of(shop).carry_out(job).state == "done"
    with pytest.raises(Superseded):
        verifier_of(shop).carry_out(job)


def test_of_identical_requests_at_once_one_begins_it(shop: ReadShop) -> None:
    for upper in (NOON - timedelta(days=days) for days in range(5)):

        def ask(_: int, upper: datetime = upper) -> int:
            return begun(shop, upper=upper).verification_id

        assert len(set(together(4, ask))) == 1


def test_before_anything_was_read_there_is_nothing_to_verify(shop: ReadShop) -> None:
    assert (
        verifier_of(shop).begin(UK, shop.clock() + DAY, shop.clock() + 2 * DAY, "report", repair=False)
        is None
    )


def test_only_what_has_been_read_is_compared(shop: ReadShop) -> None:
    job = begun(shop, upper=NOON + 99 * DAY)
    assert NOON < job.upper < shop.clock()


def test_what_was_read_beyond_a_gap_does_not_count(shop: ReadShop) -> None:
    end = covered(shop, UK, "first")[-1].upper
    cut(shop, UK, "first", end - 3 * HOUR, end - 2 * HOUR)
    assert begun(shop, upper=NOON + 99 * DAY).upper == end - 3 * HOUR


# --- the service's own schedule ---------------------------------------------------------------------


def covered(shop: ReadShop, marketplace_id: str, look: Look) -> list[Interval]:
    with shop.store.read() as tx:
        return ledger.read_coverage(tx, "acme", marketplace_id, look)


def cut(shop: ReadShop, marketplace_id: str, look: Look, lower: datetime, upper: datetime) -> None:
    """Remove coverage of this interval."""
    c = tables.coverage.c
    mine = sa.and_(c.account == "acme", c.marketplace_id == marketplace_id, c.look == look)
    (before,) = [one for one in covered(shop, marketplace_id, look) if one.lower < lower < one.upper]
    with shop.store.begin() as tx:
        tx.conn.execute(sa.delete(tables.coverage).where(mine, c.lower == before.lower))
        for seen in (Interval(before.lower, lower), Interval(upper, before.upper)):
            ledger.cover(tx, "acme", [marketplace_id], look, seen)


def verifications_of(shop: ReadShop) -> list[Verification]:
    with shop.store.read() as tx:
        return verifications.of_account(tx, "acme")


def run_for(shop: ReadShop, span: timedelta) -> None:
    """As the service does, which looks at least every three minutes; here a look every six hours will do."""
    end = shop.clock() + span
    while shop.clock() < end:
        shop.clock.sleep(6 * 3600)
        shop.sync()


@pytest.mark.long
def test_every_week_the_service_verifies_each_marketplace_and_repairs_it(shop: ReadShop) -> None:
    hide(shop, *UNLISTED)
    run_for(shop, 4.5 * DAY)
    before = asked(shop, SEARCH)
    run_for(shop, 2 * DAY)
    assert verifications_of(shop) == [], "not in the first week"
    searches = asked(shop, SEARCH)
    run_for(shop, 2 * DAY)
    assert {(p.marketplace_id, p.state, p.by, p.reason) for p in verifications_of(shop)} == {
        (UK, "done", "report", "scheduled"),
        (BY_NAME["DE"].id, "done", "report", "scheduled"),
    }
    assert asked(shop, CREATE_REPORT) == 2
    (uk,) = [p for p in verifications_of(shop) if p.marketplace_id == UK]
    within = [name for n, name in enumerate(UNLISTED) if START + (5 + 8 * n) * DAY >= uk.lower]
    assert within
    assert found(uk, "missing") == within
    assert uk.upper - uk.lower == 30 * DAY
    assert stored(shop) >= set(within)
    assert asked(shop, SEARCH) - searches <= searches - before + 2, "searches are left to polling"
    run_for(shop, 4 * DAY)
    assert len(verifications_of(shop)) == 2, "and not again before a week has passed"


@pytest.mark.long
def test_a_gap_of_history_does_not_silence_the_weekly_verification(shop: ReadShop) -> None:
    run_for(shop, 6 * DAY)
    cut(shop, UK, "created", NOON - 15 * DAY, NOON - 13 * DAY)
    run_for(shop, 3 * DAY)
    found = sorted((p.lower, p.upper) for p in verifications_of(shop) if p.marketplace_id == UK)
    assert [(p.state, p.reason) for p in verifications_of(shop)] == [("done", "scheduled")] * 3
    ((lower, gap), (after, upper)) = found
    assert (gap, after) == (NOON - 15 * DAY, NOON - 13 * DAY)
    assert lower == upper - 30 * DAY
    assert upper > shop.clock() - 5 * DAY


@pytest.mark.long
def test_a_failing_marketplace_does_not_hold_up_the_verification_of_another(shop: ReadShop) -> None:
    run_for(shop, 6.5 * DAY)
    shop.simulator.faults = Faults.only("html_503", operations=[GET_REPORT])
    run_for(shop, 2 * DAY)
    assert {(p.marketplace_id, p.state) for p in verifications_of(shop)} == {
        (UK, "reading"),
        (BY_NAME["DE"].id, "reading"),
    }


def test_what_is_not_settled_is_kept_and_what_has_settled_a_part_of_it(shop: ReadShop) -> None:
    delete(shop, LISTED[3], LISTED[11])
    ids = [verify(shop).verification_id]
    ids.append(verify(shop, lower=START + 20 * DAY, repair=True).verification_id)
    long_after(shop)
    assert [p.verification_id for p in verifications_of(shop)] == ids[::-1], "one of the two is missing still"
    ids.append(verify(shop, repair=True).verification_id)
    long_after(shop)
    assert [p.verification_id for p in verifications_of(shop)] == ids[2:]


def long_after(shop: ReadShop) -> None:
    shop.clock.sleep((100 * DAY).total_seconds())
    with shop.store.begin() as tx:
        verifications.forget_old(tx, "acme")


@pytest.mark.long
def test_single_orders_are_left_to_others_by_the_schedule(shop: ReadShop) -> None:
    hide(shop, *UNLISTED)
    run_for(shop, 6.5 * DAY)
    shop.simulator.plans = {GET: UsagePlan(0.5, 5)}
    with shop.store.begin() as tx:
        tx.conn.execute(
            sa.update(tables.budgets)
            .where(tables.budgets.c.operation == "getOrder")
            .values(tokens=0.0, rate=1e-6, counted_at=tx.now)
        )
    run_for(shop, 2 * DAY)
    assert {p.state for p in verifications_of(shop) if p.marketplace_id == UK} <= {"repairing", "done"}


@pytest.mark.long
def test_failing_reports_do_not_disturb_polling(shop: ReadShop) -> None:
    shop.simulator.faults = Faults.only("html_503", operations=[CREATE_REPORT, GET_REPORT])
    run_for(shop, 8 * DAY)
    assert {report.outcome for report in shop.sync()} <= {"complete", "deferred"}
    (first, *_) = verifications_of(shop)
    assert first.state == "reading"
    assert "status 503" in (first.message or "")
    shop.simulator.faults = Faults()
    run_for(shop, DAY)
    assert {p.state for p in verifications_of(shop)} == {"done"}
