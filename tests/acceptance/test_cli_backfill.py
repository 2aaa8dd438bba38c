"""``order-sync backfill``: planned, run here or by a service, paused, resumed, cancelled."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.base import UsagePlan
from connectors.simulator.faults import (
    CREATE_REPORT,
    GET,
    GET_DOCUMENT,
    GET_REPORT,
    PARTICIPATIONS,
    SEARCH,
)
from connectors.simulator.reports import Reports
from connectors.simulator.world import Seller, World
from store import tables
from store.engine import create_engine
from tests.acceptance.command_line import STARTED, Shop, account_variables, open_shop
from tests.acceptance.test_cli_service import running, until

GENEROUS = {
    SEARCH: UsagePlan(50, 50),
    GET: UsagePlan(50, 50),
    PARTICIPATIONS: UsagePlan(5, 50),
    CREATE_REPORT: UsagePlan(5, 50),
    GET_REPORT: UsagePlan(5, 50),
    GET_DOCUMENT: UsagePlan(5, 50),
}
KEYS = [
    "id",
    "marketplace",
    "from",
    "to",
    "by",
    "state",
    "windows_done",
    "windows_total",
    "orders",
    "requests",
    "eta",
    "waits_for",
]
OLD = STARTED - timedelta(days=60)
"""Before the start date of the shop's marketplace file."""


def day(ago: int) -> str:
    return f"{STARTED - timedelta(days=ago):%Y-%m-%d}"


STRETCH = ("--marketplace", "UK", "--from", day(61), "--to", day(30))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller(marketplaces=("UK", "DE")))
    for number in range(12):
        world.order(f"OLD-{number}", created=OLD + timedelta(days=2 * number))
    world.order("NEW-1", created=STARTED - timedelta(days=2))
    at_once = Reports(world, in_queue=timedelta(0), in_progress=timedelta(0))
    with open_shop(tmp_path, world, plans=GENEROUS, reports=at_once) as opened:
        yield opened


def listed(shop: Shop, number: int) -> dict[str, Any]:
    """One backfill as programs read it."""
    found = shop("backfill", "list", "--json").json()
    assert all(list(one) == KEYS for one in found)
    (mine,) = [one for one in found if one["id"] == number]
    return dict(mine)


def stored(shop: Shop) -> set[str]:
    exported = shop("export", "orders", "--format", "jsonl").lines
    return {json.loads(line)["order_id"] for line in exported}


OLD_ONES = {f"OLD-{number}" for number in range(12)}


@pytest.mark.long
def test_a_plan_names_windows_requests_time_and_what_amazon_will_not_give(shop: Shop) -> None:
    shop("sync", "--wait")
    before = shop("backfill", "list", "--json").json()
    asked = len(shop.simulator.requests)
    printed = shop("backfill", "plan", *STRETCH)
    words = " ".join(printed.out.split())
    for part in (
        "windows",
        "requests",
        "searches",
        "search",
        "report",
        "Faster by",
        "changes are looked for every",
    ):
        assert part in words
    for part in ("older than two years", "e-mail of orders that Amazon fulfils", "more than 30 days ago"):
        assert part in words
    assert shop("backfill", "list", "--json").json() == before, "a plan records nothing"
    assert len(shop.simulator.requests) == asked, "and asks Amazon nothing"


def test_what_lies_out_of_reach_is_reported_and_left_out(shop: Shop) -> None:
    printed = shop("backfill", "plan", "--marketplace", "UK", "--from", "2015-01-01", "--to", day(-3)).out
    assert "Amazon no longer shows older orders" in printed
    assert "until now" in printed


@pytest.mark.long
@pytest.mark.parametrize("by", ["search", "report", "auto"])
def test_started_with_wait_it_is_carried_out_here(shop: Shop, by: str) -> None:
    result = shop("backfill", "start", *STRETCH, "--by", by, "--wait")
    number = int(result.out)
    assert result.messages[-1] == f"backfill {number} is done"
    assert any(line.startswith(f"backfill {number}: 12 orders in ") for line in result.messages)
    assert stored(shop) >= OLD_ONES
    mine = listed(shop, number)
    assert (mine["state"], mine["by"], mine["marketplace"]) == ("done", by, "UK")
    assert (mine["from"], mine["to"]) == (f"{day(61)}T00:00:00Z", f"{day(30)}T00:00:00Z")
    assert mine["windows_done"] == mine["windows_total"] > 0
    assert mine["orders"] >= 12
    assert mine["eta"] is None
    assert str(number) in shop("backfill", "list").out
    assert "100%" in shop("backfill", "show", str(number)).out
    assert shop("backfill", "show", str(number), "--json").json() == mine


@pytest.mark.long
def test_started_alone_it_waits_for_a_process_that_syncs(shop: Shop) -> None:
    number = int(shop("backfill", "start", *STRETCH, "--by", "search").out)
    assert listed(shop, number)["state"] == "planned"
    assert shop("sync", "--wait").status == 0
    assert listed(shop, number)["state"] == "done"
    assert stored(shop) == OLD_ONES | {"NEW-1"}


@pytest.mark.long
def test_several_at_once_and_the_live_position_stays(shop: Shop) -> None:
    shop.configure("DE")
    shop.world.order("DE-1", created=OLD, marketplace="DE")
    shop("sync", "--wait")
    before = shop("status", "--json").json()["sources"][0]["marketplaces"]
    numbers = [int(shop("backfill", "start", *STRETCH, "--by", "search").out)]
    elsewhere = ("--marketplace", "DE", "--from", day(70), "--to", day(20))
    numbers.append(int(shop("backfill", "start", *elsewhere, "--by", "search").out))
    shop("sync", "--wait")
    assert [listed(shop, number)["state"] for number in numbers] == ["done", "done"]
    assert stored(shop) >= OLD_ONES | {"DE-1"}
    after = shop("status", "--json").json()["sources"][0]["marketplaces"]
    for old, new in zip(before, after, strict=True):
        assert new["live_from"] == old["live_from"]
        assert new["history_from"] == old["history_from"]
        assert new["covered_until"] >= old["covered_until"]


@pytest.mark.long
def test_paused_it_requests_nothing_and_resumed_it_is_done(shop: Shop) -> None:
    number = str(int(shop("backfill", "start", *STRETCH, "--by", "search").out))
    shop("backfill", "pause", number)
    shop("sync", "--wait")
    assert listed(shop, int(number))["state"] == "paused"
    assert stored(shop) == {"NEW-1"}
    twice = shop("backfill", "pause", number, status=2).messages
    again = f"it need not be paused; `order-sync backfill resume {number}` continues it"
    assert twice == [f"error: backfill {number} is already paused: {again}."]
    assert shop("backfill", "resume", number, "--wait").messages[-1] == f"backfill {number} is done"
    assert stored(shop) == OLD_ONES | {"NEW-1"}
    for word in ("pause", "resume", "cancel"):
        assert f"backfill {number} is done" in shop("backfill", word, number, status=2).err
    assert shop("backfill", "resume", number, "--wait", status=2).status == 2


@pytest.mark.long
def test_cancelled_it_stays_so(shop: Shop) -> None:
    number = str(int(shop("backfill", "start", *STRETCH, "--by", "search").out))
    shop("backfill", "cancel", number)
    shop("sync", "--wait")
    assert listed(shop, int(number))["state"] == "cancelled"
    assert stored(shop) == {"NEW-1"}
    assert "is cancelled: it cannot be resumed" in shop("backfill", "resume", number, status=2).err
    assert "is already cancelled: it need not" in shop("backfill", "cancel", number, status=2).err


@pytest.mark.long
def test_a_running_service_picks_up_what_the_command_line_started(shop: Shop) -> None:
    shop("sync", "--wait")
    with running(shop) as service:
        number = int(shop("backfill", "start", *STRETCH, "--by", "report").out)
        until(lambda: listed(shop, number)["state"] == "done")
        service.send_signal(signal.SIGTERM)
        assert service.wait(10) == 0
    assert stored(shop) == OLD_ONES | {"NEW-1"}


@pytest.mark.long
def test_the_command_line_goes_on_with_what_the_service_began(shop: Shop) -> None:
    shop("sync", "--wait")
    number = int(shop("backfill", "start", *STRETCH, "--by", "search").out)
    shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.2, 1)}
    with running(shop) as service:
        until(lambda: listed(shop, number)["state"] == "running")
        service.send_signal(signal.SIGTERM)
        assert service.wait(10) == 0
    shop.simulator.plans = GENEROUS
    shop("backfill", "resume", str(number), "--wait")
    assert listed(shop, number)["state"] == "done"
    assert stored(shop) == OLD_ONES | {"NEW-1"}


@pytest.mark.long
def test_stopped_in_the_middle_it_says_how_to_go_on(shop: Shop) -> None:
    shop("sync", "--wait")
    shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.01, 1)}
    shop.world.order("NEW-2", created=STARTED - timedelta(hours=1))
    with shop.start("backfill", "start", *STRETCH, "--by", "search", "--wait") as process:
        assert process.stdout is not None
        number = process.stdout.readline().strip()
        until(lambda: listed(shop, int(number))["state"] == "running")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"or `order-sync backfill resume {number} --wait`" in err


@pytest.mark.long
def test_that_a_report_is_awaited_is_not_blamed_on_the_budget(tmp_path: Path) -> None:
    world = World(Seller(marketplaces=("UK",)))
    world.order("OLD-1", created=OLD)
    with open_shop(tmp_path, world, plans=GENEROUS) as shop:
        shop("sync", "--wait")
        shop("backfill", "start", *STRETCH, "--by", "report")
        shop("sync", status=75)  # asks for the report
        printed = shop("sync", status=75).messages
        assert "up to date; history waits for Amazon's report, or for the budget of getOrder" in printed[0]
        source = shop("status", "--json").json()["sources"][0]
        assert source["next_why"] == "Amazon is making a report"
        until = datetime.fromisoformat(printed[-1].removeprefix("deferred until "))
        due = datetime.fromisoformat(source["next_at"])
        assert timedelta(0) <= until - due <= timedelta(seconds=1), "rounded up to a second"
        words = shop("status").out
        assert re.search(r"last run +.*: stopped for now \(up to date; history waits for Amazon", words)
        assert "budget is used up" not in words + printed[0]
        assert "99% done, from both ends, Amazon is making its reports; " in words, "one for each 30 days"
        number = shop("backfill", "list", "--json").json()[-1]["id"]
        shown = shop("backfill", "show", str(number)).out
        assert re.search(r"waiting +Amazon is making its reports$", shown, re.M)


def test_a_backfill_that_has_not_begun_is_not_said_to_be_done(shop: Shop) -> None:
    shop("sync", "--wait")
    read_already = ("--marketplace", "UK", "--from", day(8), "--to", day(3), "--again")
    number = int(shop("backfill", "start", *read_already, "--by", "report").out)
    assert re.search(r"UK .*: 0% done, .*\(planned", shop("status").out)
    assert shop("status", "--json").json()["sources"][0]["backfills"][0]["done"] == 0
    assert re.search(r"^ *done +0%$", shop("backfill", "show", str(number)).out, re.M)


@pytest.mark.long
def test_a_report_that_takes_longer_than_usual_is_not_promised(tmp_path: Path) -> None:
    world = World(Seller(marketplaces=("UK",)))
    with open_shop(tmp_path, world, plans=GENEROUS) as shop:
        shop("sync", "--wait")
        number = int(shop("backfill", "start", *STRETCH, "--by", "report").out)
        shop("sync", status=75)  # asks for the report
        assert listed(shop, number)["eta"] is not None
        store = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
        with store.begin() as conn:
            asked = STARTED - timedelta(minutes=6)
            conn.execute(sa.update(tables.history_parts).values(asked_at=asked))
        store.dispose()
        assert listed(shop, number)["eta"] is None
        assert "min left" not in shop("backfill", "show", str(number)).out


@pytest.mark.long
def test_a_backfill_that_is_done_shows_when_and_nothing_empty(shop: Shop) -> None:
    number = shop("backfill", "start", *STRETCH, "--by", "search", "--wait").out.strip()
    lines = shop("backfill", "show", number).lines
    assert re.fullmatch(r"finished +20\d\d-\d\d-\d\d \d\d:\d\d UTC", lines[-1].strip())
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.long
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--from": "31.1.2026"}, "--from 31.1.2026 is not a date or time: write it as 2026-01-31"),
        ({"--to": "2026-02-30"}, "--to 2026-02-30 is not a date"),
        ({"--from": day(30), "--to": day(30)}, f"--from {day(30)} is not before --to {day(30)}"),
        ({"--from": day(-5), "--to": day(-9)}, f"--from {day(-5)} is in the future"),
        ({"--from": "2012-01-01", "--to": "2013-01-01"}, "--to 2013-01-01 is too early"),
        ({"--marketplace": "XX"}, "XX is not an Amazon marketplace"),
        ({"--marketplace": "FR"}, "FR is not polled; polled: acme:UK."),
        ({"--by": "magic"}, "--by magic is unknown: it is search, report or auto"),
        ({"--account": "nobody"}, "there is no usable account nobody"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "start"])
def test_bad_input_is_one_sentence(shop: Shop, command: str, changed: dict[str, str], said: str) -> None:
    options = {"--marketplace": "UK", "--from": day(61), "--to": day(30)} | changed
    words = [word for pair in options.items() for word in pair]
    result = shop("backfill", command, *words, status=2)
    assert said in result.err
    assert len(result.messages) == 1
    assert result.out == ""


@pytest.mark.long
def test_further_bad_input(shop: Shop) -> None:
    shop("sync", "--wait")
    assert "there is no backfill 99" in shop("backfill", "show", "99", status=2).err
    for word in ("pause", "resume", "cancel"):
        assert "there is no backfill 99" in shop("backfill", word, "99", status=2).err
        assert "'ID'" in shop("backfill", word, "first", status=2).err
    assert shop("backfill", "start", *STRETCH, "--by", "search").out
    assert "already fetches this" in shop("backfill", "start", *STRETCH, "--by", "search", status=2).err


@pytest.mark.long
def test_another_that_overlaps_is_reported(shop: Shop) -> None:
    shop("sync", "--wait")
    assert "overlaps" not in shop("backfill", "plan", *STRETCH).out, "what is done counts as read already"
    number = int(shop("backfill", "start", *STRETCH, "--by", "search").out)
    others = ("--marketplace", "UK", "--from", day(70), "--to", day(50))
    which = f"backfill {number} ({day(61)} to {day(30)} UTC)"
    sentence = f"{which} is planned and overlaps: both would fetch 11 days"
    assert f"  {sentence}" in shop("backfill", "plan", *others).lines
    assert sentence in shop("backfill", "start", *others, "--by", "search").messages
    elsewhere = ("--marketplace", "UK", "--from", day(90), "--to", day(80))
    assert "overlaps" not in shop("backfill", "start", *elsewhere, "--by", "search").err


def test_without_any_backfill_the_list_says_so(shop: Shop) -> None:
    shop.configure("UK", days=-1)
    shop("sync", "--wait")
    assert shop("backfill", "list").messages == ["there are no backfills"]
    assert shop("backfill", "list", "--json").json() == []


def test_a_marketplace_of_two_accounts_needs_the_account(shop: Shop) -> None:
    other = Seller("other", ("UK",), refresh_token="Atzr|other")
    shop.world.enrol(other)
    url = shop.environ["ORDER_SYNC_ACCOUNTS__ACME__ENDPOINT"]
    shop.environ |= account_variables(url, other, "beta")
    shop.configure("UK", "beta-uk", account="beta")
    assert "accounts acme and beta both sell in UK" in shop("backfill", "plan", *STRETCH, status=2).err
    number = int(shop("backfill", "start", *STRETCH, "--account", "beta", "--by", "search").out)
    row = next(line for line in shop("backfill", "list").lines if line.split()[0] == str(number))
    assert "beta" in row


def test_a_backfill_s_eta_lies_ahead(shop: Shop) -> None:
    shop("sync", "--wait")
    number = int(shop("backfill", "start", *STRETCH, "--by", "search").out)
    eta = listed(shop, number)["eta"]
    assert eta is None or datetime.fromisoformat(eta) >= STARTED


# --- what has been read already -------------------------------------------------------------------------


@pytest.mark.long
def test_where_all_has_been_read_a_plan_counts_and_start_needs_again(shop: Shop) -> None:
    shop("backfill", "start", *STRETCH, "--by", "search", "--wait")
    printed = shop("backfill", "plan", *STRETCH).lines
    assert "Orders: 12, counted: all of the range has been read." in printed
    assert "All of this has been read already: `start` refuses it without --again." in printed
    empty = ("--marketplace", "UK", "--from", day(36), "--to", day(31))
    assert "Orders: 0, counted: all of the range has been read." in shop("backfill", "plan", *empty).lines
    asked = len(shop.simulator.requests)
    refused = shop("backfill", "start", *STRETCH, "--by", "search", status=2).messages
    assert refused == ["error: all of this has been read already; --again reads it again."]
    assert len(shop.simulator.requests) == asked
    again = shop("backfill", "start", *STRETCH, "--by", "search", "--again", "--wait")
    assert listed(shop, int(again.out))["state"] == "done"


@pytest.mark.long
def test_only_what_has_not_been_read_is_read(shop: Shop) -> None:
    shop("backfill", "start", *STRETCH, "--by", "search", "--wait")
    wider = ("--marketplace", "UK", "--from", day(70), "--to", day(40))
    printed = shop("backfill", "plan", *wider).lines
    assert f"To read: {day(70)} to {day(61)} UTC; the rest has been read already." in printed
    (orders,) = [line for line in printed if line.startswith("Orders: ")]
    assert re.match(r"Orders: 10 counted in the 21 days that have been read, about \d+ in the rest", orders)
    started = shop("backfill", "start", *wider, "--by", "search")
    assert started.messages[0] == (
        f"only {day(70)} 00:00 to {day(61)} 00:00 UTC: the rest has been read already; --again reads it again"
    )
    mine = listed(shop, int(started.out))
    assert (mine["from"], mine["to"]) == (f"{day(70)}T00:00:00Z", f"{day(61)}T00:00:00Z")


@pytest.mark.long
def test_a_plan_says_what_live_polling_will_be(tmp_path: Path) -> None:
    world = World(Seller(marketplaces=("UK",)))
    with open_shop(tmp_path, world, plans=GENEROUS) as shop:
        shop("sync", "--wait")
        line = "Meanwhile changes are looked for every 3 min, as without a backfill."
        assert line in shop("backfill", "plan", *STRETCH).lines
        shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.0056, 20)}
        store = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
        with store.begin() as conn:
            searching = tables.budgets.c.operation == SEARCH
            conn.execute(sa.update(tables.budgets).where(searching).values(tokens=1.0, rate=0.0056, burst=20))
        store.dispose()
        assert (
            "Meanwhile, once the searches at hand are used up, changes are looked for every 10 min instead "
            "of every 3 min." in shop("backfill", "plan", *STRETCH).lines
        )


@pytest.mark.long
def test_a_backfill_of_a_marketplace_without_enrolment_says_what_it_waits_for(tmp_path: Path) -> None:
    world = World(Seller(marketplaces=("UK",)))
    with open_shop(tmp_path, world, plans=GENEROUS) as shop:
        shop.configure("DE")
        shop("sync")
        there = ("--marketplace", "DE", "--from", day(61), "--to", day(30))
        waits = "the seller is not enrolled in DE: enrol, or set enabled = false in its file"
        assert f"  it would wait: {waits}" in shop("backfill", "plan", *there).lines
        started = shop("backfill", "start", *there, "--by", "search")
        assert f"backfill {int(started.out)} waits: {waits}" in started.messages
        mine = listed(shop, int(started.out))
        assert (mine["waits_for"], mine["eta"]) == (waits, None)
        assert waits in " ".join(shop("backfill", "show", started.out.strip()).out.split())
        assert listed(shop, int(started.out))["requests"] == 0
        (shop.folder / "marketplaces" / "de.toml").unlink()
        end_it = f"or end it with `order-sync backfill cancel {int(started.out)}`"
        without = f"no usable file for marketplace DE: write or mend it (`order-sync config check`), {end_it}"
        assert listed(shop, int(started.out))["waits_for"] == without
        assert without in " ".join(shop("backfill", "show", started.out.strip()).out.split())
        shop.configure("DE", enabled="false")
        off = f"DE is not enabled: set enabled = true in its file, {end_it}"
        assert listed(shop, int(started.out))["waits_for"] == off
        refused = shop("backfill", "resume", started.out.strip(), status=2).err
        assert "is not polled: write its file, or set enabled = true there" in refused
