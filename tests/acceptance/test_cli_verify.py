"""``order-sync verify`` as a person runs it: its output, its exit status, and how it continues."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from connectors.base import UsagePlan
from connectors.simulator.faults import CREATE_REPORT, GET, GET_DOCUMENT, GET_REPORT, SEARCH, Faults
from connectors.simulator.orders import order
from connectors.simulator.reports import Reports
from connectors.simulator.world import Seller, World
from store import tables
from store.engine import create_engine
from tests.acceptance.command_line import GENEROUS, STARTED, Shop, account_variables, open_shop
from tests.harness import OTHER_SHOP

DAY = timedelta(days=1)
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
FROM, TO = str((STARTED - 9 * DAY).date()), str((STARTED - DAY).date())
PERIOD = ("--from", FROM, "--to", TO)
VERIFY = ("verify", "--marketplace", "UK", *PERIOD)
LISTED = [f"111-0000000-{n:07}" for n in range(12)]
UNLISTED = ["222-0000000-0000001", "222-0000000-0000002"]
AT_ONCE = timedelta(0)


def small_world() -> World:
    world = World(Seller("acme", ("UK", "DE")))
    world.add(
        *(order(name, created=STARTED - 8 * DAY + n * DAY / 2) for n, name in enumerate(LISTED)),
        *(order(name, created=STARTED - (4 + n) * DAY, unlisted=True) for n, name in enumerate(UNLISTED)),
    )
    return world


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop that has been synced, and an Amazon that makes reports at once."""
    world = small_world()
    reports = Reports(world, in_queue=AT_ONCE, in_progress=AT_ONCE)
    with open_shop(tmp_path / "shop", world, reports=reports) as shop:
        shop("sync")
        yield shop


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Shop]:
    """The same with an Amazon that takes its time."""
    with open_shop(tmp_path / "slow", small_world()) as shop:
        shop("sync")
        yield shop


def asked(shop: Shop, operation: str) -> int:
    return sum(request.operation == operation for request in shop.simulator.requests)


def delete(shop: Shop, *names: str) -> None:
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    with engine.begin() as connection:
        for table in (tables.order_lines, tables.orders):
            keys = sa.select(tables.orders.c.order_key).where(tables.orders.c.order_id.in_(names))
            connection.execute(sa.delete(table).where(table.c.order_key.in_(keys)))
    engine.dispose()


# --- how it ends ------------------------------------------------------------------------------------


@pytest.mark.long
def test_it_names_what_is_missing_brings_it_and_then_all_is_complete(shop: Shop) -> None:
    result = shop(*VERIFY, status=3)
    assert re.fullmatch(
        rf"acme:UK: orders placed from {FROM} 00:00 to .* UTC, by Amazon's report", result.lines[0]
    )
    assert result.lines[1] == "  NOT complete: 14 orders listed, 2 missing"
    assert re.findall(r"222-\d{7}-\d{7}", result.out) == [UNLISTED[1], UNLISTED[0]], "the oldest first"
    assert not re.search(r"111-", result.out)
    assert f"acme:UK: Amazon lists 2 orders, placed from {FROM}" in shop("status").lines[1]
    assert re.search(r"UK .* 2 missing, \d+ s ago", shop("status").out)

    repaired = shop(*VERIFY, "--repair")
    assert "complete now: 14 orders listed, 2 missing, and fetched" in repaired.lines[1]
    assert repaired.out.count("fetched and stored") == 2
    assert shop("orders", "show", UNLISTED[0], "--json").json()["order_id"] == UNLISTED[0]
    again = shop(*VERIFY)
    assert again.lines[1] == "  complete: 14 orders listed, none of them is missing"
    lines = shop("status").lines
    assert lines[0].startswith("All is well")
    assert any("nothing missing, " in line for line in lines)


@pytest.mark.long
def test_a_narrower_one_that_comes_out_well_hides_nothing(shop: Shop) -> None:
    shop(*VERIFY, status=3)
    shop("verify", "--marketplace", "UK", "--from", str((STARTED - 2 * DAY).date()), "--to", TO)
    printed = shop("status")
    first = printed.lines[1]
    assert first.startswith(
        f"  - acme:UK: Amazon lists 2 orders, placed from {FROM} to {TO}, that are missing from the database"
    )
    command = re.findall("`order-sync (.*?)`", first)[0]
    assert command == f"verify --marketplace UK --account acme --from {FROM} --to {TO} --repair"
    assert re.search(r"UK .* nothing missing, \d+ s ago; .* 2 missing, \d+ s ago", printed.out)
    (marketplace,) = shop("status", "--json").json()["sources"][0]["marketplaces"]
    assert marketplace["verification"]["id"] == 2
    assert [(v["id"], v["still_missing"]) for v in marketplace["unsettled_verifications"]] == [(1, 2)]
    shop(*command.split())
    assert shop("status").lines[0].startswith("All is well")


@pytest.mark.long
def test_what_goes_to_quarantine_when_it_is_fetched_is_missing_still(shop: Shop) -> None:
    spoilt, other = UNLISTED
    shop.world.order(spoilt, created=STARTED - 4 * DAY, unlisted=True, poison="quantity_a_word")
    result = shop(*VERIFY, "--repair", status=3)
    assert "2 missing; 1 of them fetched, 1 still missing" in result.lines[1]
    assert "1 order in quarantine: `order-sync quarantine list` says why" in result.out
    assert re.search(f"{spoilt} .* in quarantine: what Amazon sent could not be read", result.out)
    assert re.search(f"{other} .* fetched and stored", result.out)
    first = shop("status").lines[1]
    see = "`order-sync quarantine list` says why they could not be read."
    assert first.endswith(f"that is missing from the database, 1 of them in quarantine: {see}")
    assert "in quarantine" in shop(*VERIFY).out, "it is known of by now, and no more missing than the others"


@pytest.mark.long
def test_what_a_verification_has_found_before_it_fails_is_reported_and_kept(shop: Shop) -> None:
    wide = ("verify", "--marketplace", "UK", "--from", str((STARTED - 33 * DAY).date()), "--to", TO)
    early = "333-0000000-0000001"
    shop.world.order(early, created=STARTED - 8 * DAY, unlisted=True)
    calls = range(2, 6)
    shop.simulator.faults = Faults.only("report_fatal", operations=[CREATE_REPORT], calls=calls)
    result = shop(*wide, status=1)
    assert re.search(r"NOT complete: \d+ orders? listed, \d missing", result.lines[1])
    assert early in result.out
    assert re.fullmatch(r"  compared so far: only up to \d{4}-\d\d-\d\d 00:00 UTC", result.lines[2])
    assert re.search(r"nothing after \d{4}-\d\d-\d\d 00:00 UTC was compared", result.messages[-1])
    attention = "\n".join(shop("status").lines[1:3])
    assert "acme:UK: verification failed: " in attention
    assert "Amazon lists" in attention

    again = shop(*wide, "--repair")
    assert re.match(r"continuing the verification of .*: compared up to .* missing so far", again.messages[0])
    assert re.search(f"{early} .* fetched and stored", again.out)
    assert asked(shop, CREATE_REPORT) == 6, "what had been compared was not compared anew"
    assert shop("status").lines[0].startswith("All is well")


@pytest.mark.long
def test_an_error_in_the_last_range_leaves_what_was_found_reported(shop: Shop) -> None:
    wide = ("verify", "--marketplace", "UK", "--from", str((STARTED - 33 * DAY).date()), "--to", TO)
    early = "333-0000000-0000001"
    shop.world.order(early, created=STARTED - 8 * DAY, unlisted=True)
    shop.simulator.faults = Faults.only("forbidden", operations=[CREATE_REPORT], calls=range(2, 9))
    result = shop(*wide, "--json", status=1)
    assert early in [one["order_id"] for one in result.json()["orders"]]
    assert result.json()["state"] == "reading"
    assert "createReport: status 403" in result.err


@pytest.mark.long
def test_without_repair_nothing_is_repaired_whatever_was_begun(shop: Shop) -> None:
    shop.simulator.faults = Faults.only("forbidden", operations=[GET])
    shop(*VERIFY, "--repair", status=1)
    shop.simulator.faults = Faults()
    gets = asked(shop, GET)
    result = shop(*VERIFY, status=3)
    assert re.match(
        "continuing the verification of .*; without --repair, nothing is fetched", result.messages[0]
    )
    assert asked(shop, GET) == gets
    assert result.lines[1] == "  NOT complete: 14 orders listed, 2 missing"


@pytest.mark.long
def test_a_period_whose_end_has_not_been_read_is_not_called_complete(shop: Shop) -> None:
    shop(*VERIFY, "--repair")
    tomorrow = ("verify", "--marketplace", "UK", "--from", FROM, "--to", str((STARTED + DAY).date()))
    result = shop(*tomorrow, status=75)
    assert "complete: 14 orders listed" in result.lines[1]
    assert re.fullmatch("  orders placed after .* UTC have not been read yet", result.lines[2])
    assert re.search("orders placed after .* UTC have not been read yet: not compared", result.messages[0])
    until = datetime.fromisoformat(result.messages[-1].removeprefix("deferred until "))
    assert until > STARTED.replace(hour=0, minute=0, second=0) + DAY
    delete(shop, LISTED[2])
    found = shop(*tomorrow, "--json", status=3).json()
    assert found["to"] < found["asked_to"]


@pytest.mark.long
@pytest.mark.parametrize("by", ["report", "search"])
def test_rows_that_were_deleted_are_named_and_brought(shop: Shop, by: str) -> None:
    gone = [LISTED[2], LISTED[9]]
    shop(*VERIFY, "--repair")
    delete(shop, *gone)
    found = shop(*VERIFY, "--by", by, "--json", status=3).json()
    assert [(o["order_id"], o["what"], o["outcome"]) for o in found["orders"] if o["what"] == "missing"] == [
        (name, "missing", None) for name in gone
    ]
    assert shop(*VERIFY, "--by", by, "--repair", "--json").json()["still_missing"] == 0
    assert shop(*VERIFY, "--by", by, "--json").json()["missing"] == 0


@pytest.mark.long
def test_the_result_as_json_has_its_fixed_keys(shop: Shop) -> None:
    found = shop(*VERIFY, "--json", status=3).json()
    assert list(found) == [
        "id",
        "account",
        "marketplace",
        "from",
        "to",
        "asked_to",
        "compared_to",
        "by",
        "state",
        "listed",
        "before_start",
        "non_amazon",
        "unreadable",
        "missing",
        "older",
        "quarantined",
        "unknown",
        "still_missing",
        "orders",
        "started_at",
        "finished_at",
    ]
    assert (found["account"], found["marketplace"], found["by"]) == ("acme", "UK", "report")
    assert (found["state"], found["listed"], found["missing"], found["still_missing"]) == ("done", 14, 2, 2)
    assert found["from"] == f"{FROM}T00:00:00Z"
    assert found["to"] == found["asked_to"] == found["compared_to"] == f"{TO}T00:00:00Z"
    assert list(found["orders"][0]) == ["order_id", "what", "created_at", "last_updated_at", "outcome"]
    (marketplace,) = shop("status", "--json").json()["sources"][0]["marketplaces"]
    assert marketplace["verification"]["id"] == found["id"]
    assert marketplace["verification"]["still_missing"] == 2


@pytest.mark.long
def test_while_the_report_is_being_made_it_is_deferred_and_goes_on_later(slow: Shop) -> None:
    result = slow(*VERIFY, status=75)
    assert result.out == ""
    assert result.messages[0] == "Amazon is still making the report; run the same command again to continue"
    assert re.fullmatch(f"deferred until {TIME}", result.messages[-1])
    until = datetime.fromisoformat(result.messages[-1].removeprefix("deferred until "))
    assert timedelta(0) < until - datetime.now(UTC) < timedelta(seconds=62)
    slow(*VERIFY, status=75)
    assert asked(slow, CREATE_REPORT) == 1, "the second call asks after the first one's report"
    assert asked(slow, GET_REPORT) == 2
    assert re.search(r"UK .*: in progress", slow("status").out)
    slow("verify", "--marketplace", "UK", "--from", FROM, "--to", str((STARTED - 2 * DAY).date()), status=75)
    assert asked(slow, CREATE_REPORT) == 2, "another period is another proof"


@pytest.mark.long
def test_killed_while_it_waits_it_goes_on_without_another_report(slow: Shop) -> None:
    with slow.start(*VERIFY, "--wait", "--json") as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("waiting until"):
            pass
        process.kill()
    assert asked(slow, CREATE_REPORT) == 1
    slow.simulator._skew = timedelta(minutes=9)  # by Amazon's clock the report is ready
    assert slow(*VERIFY, "--json", status=3).json()["missing"] == 2
    assert asked(slow, CREATE_REPORT) == 1


@pytest.mark.long
def test_a_signal_ends_it_and_nothing_is_lost(slow: Shop) -> None:
    with slow.start(*VERIFY, "--wait") as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("waiting until"):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read() == "stopped; run the same command again to continue\n"
        assert process.wait(10) == 128 + signal.SIGTERM


@pytest.mark.long
def test_wait_waits_for_the_request_budget(tmp_path: Path) -> None:
    world = small_world()
    with open_shop(tmp_path / "shop", world) as shop:
        shop("sync")
        shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.25, 2)}
        engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
        with engine.begin() as connection:
            connection.execute(
                sa.update(tables.budgets).values(tokens=1.2, rate=0.25, counted_at=datetime.now(UTC))
            )
        engine.dispose()
        assert "budget for searchOrders" in shop(*VERIFY, "--by", "search", status=75).messages[0]
        result = shop(*VERIFY, "--by", "search", "--wait")
        assert result.lines[1] == "  complete: 12 orders listed, none of them is missing"


# --- bad input, and what goes wrong -----------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--marketplace", "XX", *PERIOD), "XX is not an Amazon marketplace; there are AE, "),
        (("--marketplace", "FR", *PERIOD), "FR is not polled; polled: acme:UK."),
        (
            ("--marketplace", "UK", "--from", "yesterday", "--to", TO),
            "--from yesterday is not a date or time",
        ),
        (
            ("--marketplace", "UK", "--from", FROM, "--to", "31.12.2026"),
            "--to 31.12.2026 is not a date or time",
        ),
        (("--marketplace", "UK", "--from", TO, "--to", FROM), f"is not before --to {FROM}"),
        (("--marketplace", "UK", "--from", FROM, "--to", FROM), f"is not before --to {FROM}"),
        (("--marketplace", "UK", *PERIOD, "--by", "guess"), "--by guess is unknown: it is report or search"),
        (
            ("--marketplace", "UK", *PERIOD, "--account", "beta"),
            "there is no usable account beta; accounts: acme",
        ),
        (("--marketplace", "UK", "--from", FROM), "--to"),
        (PERIOD, "--marketplace"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(shop: Shop, arguments: tuple[str, ...], words: str) -> None:
    result = shop("verify", *arguments, status=2)
    assert result.out == ""
    assert len(result.messages) == 1
    assert words in result.err
    assert asked(shop, CREATE_REPORT) == 0


def test_of_two_accounts_one_must_be_named(shop: Shop) -> None:
    url = shop.environ["ORDER_SYNC_ACCOUNTS__ACME__ENDPOINT"]
    shop.environ |= account_variables(url, Seller("beta", refresh_token="Atzr|other"), "beta")
    shop.configure("UK", "beta", account="beta")
    result = shop(*VERIFY, status=2)
    assert result.messages == ["error: accounts acme and beta both sell in UK: add --account."]
    shop(*VERIFY, "--account", "acme", status=3)


def test_what_has_not_been_read_cannot_be_verified(shop: Shop) -> None:
    later = [str((STARTED + n * DAY).date()) for n in (2, 3)]
    result = shop("verify", "--marketplace", "UK", "--from", later[0], "--to", later[1], status=1)
    assert result.messages[0].startswith("error: acme:UK: nothing of that period has been read yet")


@pytest.mark.long
def test_an_empty_report_is_not_believed(shop: Shop) -> None:
    shop.simulator.faults = Faults.only("report_empty", operations=[GET_DOCUMENT])
    result = shop(*VERIFY, status=1)
    (sentence,) = result.messages
    assert sentence == (
        "error: acme:UK: verification failed: the report is empty, though the search lists orders; "
        "nothing was compared; try `--by search`."
    )
    assert "acme:UK: verification failed: " in shop("status").lines[1]
    assert re.search(r"UK .* failed, \d+ s ago", shop("status").out)
    assert shop(*VERIFY, "--by", "search").lines[1].startswith("  complete: 12 orders listed")


@pytest.mark.long
def test_a_period_without_orders_is_proven_with_one_search(shop: Shop) -> None:
    searches = asked(shop, SEARCH)
    hours = [(STARTED - timedelta(hours=ago)).isoformat() for ago in (3, 1)]
    result = shop("verify", "--marketplace", "UK", "--from", hours[0], "--to", hours[1])
    assert "complete: 0 orders listed" in result.lines[1]
    assert asked(shop, SEARCH) == searches + 1


def test_amazon_saying_no_is_one_sentence(shop: Shop) -> None:
    shop.simulator.faults = Faults.only("forbidden", operations=[CREATE_REPORT])
    result = shop(*VERIFY, status=1)
    assert len(result.messages) == 1
    assert "createReport: status 403" in result.err
    shop.simulator.faults = Faults()
    assert shop(*VERIFY, "--json", status=3).json()["id"] == 1, "the same proof goes on"


# --- orders of other shops ----------------------------------------------------------------------------


@pytest.mark.long
def test_orders_of_other_shops_are_named_and_with_a_file_they_are_kept(shop: Shop) -> None:
    for n in range(3):
        shop.world.order(
            f"S02-000000{n}-0000000", created=STARTED - (5 - n) * DAY, unlisted=True, **OTHER_SHOP
        )
    shop(*VERIFY, "--repair")
    printed = shop(*VERIFY)
    assert "complete: 14 orders listed" in printed.lines[1]
    assert printed.lines[2] == (
        "  3 orders of other shops, which Amazon ships: a file with marketplace = NON_AMAZON takes them"
    )
    assert shop(*VERIFY, "--json").json()["non_amazon"] == 3
    assert "S02" not in shop("orders", "list").out

    shop.configure("NON_AMAZON", price_list_currency='"GBP"')
    assert shop("config", "check").status == 0
    shop("sync")
    assert shop("orders", "list", "--marketplace", "NON_AMAZON").out.count("S02-") == 3
    kept = shop("orders", "show", "S02-0000001-0000000", "--json").json()
    assert (kept["marketplace"], kept["match_basis"]) == ("NON_AMAZON", "unidentified")
    status = shop("status")
    assert status.lines[0].startswith("All is well")
    assert re.search(
        r"NON_AMAZON +\d{4}-\d\d-\d\d .*3 missing, all fetched|NON_AMAZON .* fetched", status.out
    )
    others = ("verify", "--marketplace", "NON_AMAZON", *PERIOD)
    assert "complete: 3 orders listed, none of them is missing" in shop(*others).lines[1]
    refused = shop(*others, "--by", "search", status=2).messages[-1]
    assert refused.endswith("no search of Amazon's lists NON_AMAZON orders: leave out --by search.")
    refused = shop("backfill", "plan", "--marketplace", "NON_AMAZON", *PERIOD, status=2).messages[-1]
    assert "NON_AMAZON orders come by Amazon's report alone, from their start date on" in refused


@pytest.mark.long
def test_rows_that_cannot_be_read_prove_nothing(shop: Shop) -> None:
    shop(*VERIFY, "--repair")
    shop.world.order("Ü-1", created=STARTED - 3 * DAY, unlisted=True)
    result = shop(*VERIFY, status=1)
    assert result.lines[1] == "  NOT verified: 14 orders listed, none of them is missing"
    why = (
        "1 row of Amazon's report could not be read, so nothing is proven: "
        r"line \d+ of the report has a malformed amazon-order-id"
    )
    assert re.fullmatch(f"  {why}", result.lines[2])
    assert re.search(f"acme:UK: {why}; try `--by search`", result.messages[-1])
    assert "verification failed: line" in shop("status").lines[1]
    delete(shop, *UNLISTED)  # no search lists them
    shop(*VERIFY, "--by", "search")
    assert shop("status").lines[0].startswith("All is well")


@pytest.mark.long
def test_without_the_role_for_reports_the_role_is_named(shop: Shop) -> None:
    shop.simulator.faults = Faults.only("forbidden", operations=[CREATE_REPORT])
    result = shop(*VERIFY, status=1)
    assert re.search(
        "createReport: status 403.*: give the application the role Inventory and Order Tracking, "
        "or compare with Amazon's search, `--by search`",
        result.messages[-1],
    )
