"""Commands that change something or call Amazon: sync, fetch, retry, config check, db, keys; and refusals."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from config import values
from connectors.base import UsagePlan
from connectors.simulator.faults import GET, SEARCH, Faults
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World
from poller.cli.commands import COMMANDS
from store import ledger, quarantine
from store.engine import Store, create_engine
from store.progress import Failure, Window
from store.sealing import Sealer, key_id
from tests.acceptance.command_line import (
    GENEROUS,
    STARTED,
    Shop,
    account_variables,
    marketplace_file,
    open_shop,
    order_sync,
)

YESTERDAY = STARTED - timedelta(hours=20)
"""Within the first day that is read of a history, however long after the others a test runs."""
GOOD = "111-0000000-0000001"
BAD = "111-0000000-0000002"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def small_world(**seller: object) -> World:
    world = World(Seller("acme", **{"marketplaces": ("UK", "DE"), **seller}))  # type: ignore[arg-type]
    world.order(GOOD, created=YESTERDAY)
    world.order(BAD, created=YESTERDAY, poison="quantity_a_word")
    return world


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop", small_world()) as shop:
        yield shop


# --- the whole command line -------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    text = order_sync("--help").out
    assert order_sync().out == text
    for name in COMMANDS:
        assert f" {name} " in text


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_its_own_help(name: str) -> None:
    assert f"order-sync {name}" in order_sync(name, "--help").out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            ("sync",),
            "Exit status: 0 if all is covered, 75 if deferred by the request budget (the last line on "
            "standard error says until when), 1 if an account failed (the others are synced all the same).",
        ),
        (
            ("privacy", "forget"),
            "Fields entered by hand are erased, too. Orders stay, without their buyer; they never get buyer "
            "data again, and the record no longer matches.",
        ),
    ],
)
def test_help_is_broken_by_the_width_of_the_terminal_alone(command: tuple[str, ...], sentence: str) -> None:
    assert sentence in order_sync(*command, "--help", environ={"COLUMNS": "1000"}).out


def test_version_is_one_line() -> None:
    assert re.fullmatch(r"order-sync \S+\n", order_sync("--version").out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("statsu",),
        ("orders",),
        ("orders", "lst"),
        ("orders", "show"),
        ("orders", "list", "--limit", "many"),
        ("orders", "list", "--limit", "0"),
        ("orders", "list", "--basis", "guess"),
        ("orders", "list", "--marketplace", "XX"),
        ("orders", "fetch", GOOD),
        ("customers", "show", "everybody"),
        ("customers", "list", "--status", "gone"),
        ("quarantine", "retry"),
        ("quarantine", "retry", GOOD, "--all"),
        ("sync", "--sauce", "acme:EU"),
        ("status", "now"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(arguments: tuple[str, ...]) -> None:
    result = order_sync(*arguments, status=2)
    assert result.out == ""
    assert len(result.messages) == 1
    assert result.err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("export", "orders", "--format", "xml"), "'--format': 'xml' is not one of 'jsonl', 'csv'."),
        (("orders", "list", "--limit", "many"), "'--limit': it must be a whole number (see"),
        (("orders", "list", "--limit", "0"), "'--limit': it must be at least 1 (see"),
        (("simulator", "--port", "99999"), "'--port': it must be at most 65535 (see"),
        (("customers", "show", "ann"), "'ID': it must be a whole number (see"),
    ],
)
def test_a_wrong_value_is_reported_in_plain_words(arguments: tuple[str, ...], sentence: str) -> None:
    assert f"error: Invalid value for {sentence}" in order_sync(*arguments, status=2).err


@pytest.mark.long
def test_a_surprise_is_one_sentence_without_its_text(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop("sync")

    email = "@".join(("somebody", "example.com"))

    def surprise(*_: object, **__: object) -> None:
        raise ZeroDivisionError(email)

    monkeypatch.setattr("store.queries.list_orders", surprise)
    quiet = shop("orders", "list", status=1)
    assert quiet.messages == [
        "error: unexpected error (ZeroDivisionError); set ORDER_SYNC_LOG_LEVEL=debug to see where."
    ]
    verbose = shop("orders", "list", status=1, ORDER_SYNC_LOG_LEVEL="debug")
    assert "in surprise" in verbose.err
    assert email not in quiet.err + verbose.err


# --- keys -------------------------------------------------------------------------------------------


def test_keys_new_is_a_key_on_standard_output() -> None:
    first, second = order_sync("keys", "new"), order_sync("keys", "new")
    assert f"Its id is {key_id(base64.b64decode(first.out)).hex()}" in first.err
    assert len(base64.b64decode(first.out.strip(), validate=True)) == 32
    assert first.out != second.out
    assert "ORDER_SYNC_ENCRYPTION_KEY" in first.err


# --- sync -------------------------------------------------------------------------------------------


def test_sync_reports_each_source_in_a_line_and_ends_with_zero(shop: Shop) -> None:
    result = shop("sync")
    assert result.out == ""
    (line,) = result.messages
    assert re.fullmatch(r"acme:EU: all covered \(\d pages?, \d orders?, \d requests?\)", line)
    assert shop("sync").messages == ["acme:EU: all covered (0 pages, 0 orders, 0 requests)"]


def test_sync_of_one_source_leaves_the_others(shop: Shop) -> None:
    shop.configure("DE", split="true")
    assert [line.split(" ")[0] for line in shop("sync", "--source", "acme:DE").messages] == ["acme:DE:"]
    assert [line.split(" ")[0] for line in shop("sync").messages] == ["acme:DE:", "acme:EU:"]


def test_an_unknown_source_is_refused_with_those_that_there_are(shop: Shop) -> None:
    result = shop("sync", "--source", "acme:NA", status=2)
    assert result.messages == ["error: there is no source acme:NA; known sources: acme:EU."]


def test_sync_without_tokens_ends_with_75_and_says_until_when(tmp_path: Path) -> None:
    plans = {**GENEROUS, SEARCH: UsagePlan(0.01, 1)}
    with open_shop(tmp_path / "shop", small_world(), plans=plans) as shop:
        result = shop("sync", status=75)
        assert result.messages[0].startswith("acme:EU: deferred until ")
        assert re.fullmatch(f"deferred until {TIME}", result.messages[-1])
        until = datetime.fromisoformat(result.messages[-1].removeprefix("deferred until "))
        assert timedelta(0) < until - datetime.now(UTC) < timedelta(seconds=101)
        shown = shop("status").out
        assert "deferred" not in shown
        assert "the request budget is used up" in shown
        asked = len(shop.simulator.requests)
        shop("sync", status=75)
        searches = [r for r in shop.simulator.requests[asked:] if r.operation == SEARCH]
        assert searches == [], "an empty budget sends nothing"
        assert re.search("first page: not made.* until ", shop("config", "check", "--online").out)


@pytest.mark.long
def test_sync_wait_waits_for_the_budget_until_all_is_covered(tmp_path: Path) -> None:
    plans = {**GENEROUS, SEARCH: UsagePlan(3, 1)}
    with open_shop(tmp_path / "shop", small_world(), plans=plans) as shop:
        result = shop("sync", "--wait")
        assert any(re.fullmatch(f"waiting until {TIME}", line) for line in result.messages)
        assert result.messages[-1].startswith("acme:EU: all covered")
        assert shop("orders", "show", GOOD, "--json").json()["order_id"] == GOOD


def test_a_failing_account_does_not_stop_the_others(shop: Shop) -> None:
    other = Seller("zeta", ("UK",), refresh_token="Atzr|revoked")
    url = shop.environ["ORDER_SYNC_ACCOUNTS__ACME__ENDPOINT"]
    shop.environ |= account_variables(url, other, "aaa")
    shop.configure("UK", "zeta", account="aaa")
    result = shop("sync", status=1)
    assert [line[:8] for line in result.messages] == ["aaa:EU: ", "acme:EU:"]
    assert "authorise the application again" in shop("status").out
    assert "all covered" in result.messages[1]
    assert "Atzr" not in result.err


def test_what_the_configuration_stops_is_not_covered(shop: Shop) -> None:
    (shop.folder / "marketplaces" / "de.toml").write_text("marketplace = 'DE'\n")
    result = shop("sync", status=1)
    assert result.messages[0].startswith("error: marketplaces/de.toml: ")
    assert result.messages[-1].startswith("acme:EU: all covered")
    assert shop("sync", "--source", "acme:EU").messages[-1].startswith("acme:EU: all covered")


def test_sync_says_which_marketplace_it_has_left_out(shop: Shop) -> None:
    shop.configure("FR")
    message = shop("sync", "--wait").messages[-1]
    assert message.startswith("acme:EU: all covered except FR, where the seller is not enrolled (")
    assert "all covered except FR, where the seller is not enrolled;" in shop("status").out


def test_sync_says_what_to_do_about_a_refused_token_each_time(shop: Shop) -> None:
    shop.world.revoke("Atzr|simulated-refresh-token")
    for _ in range(2):
        result = shop("sync", status=1)
        assert re.search("invalid_grant.*; authorise the application again in Seller Central", result.err)


def test_a_refused_secret_is_reported_without_counting_nothing(shop: Shop) -> None:
    shop.environ["ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET"] = "another"
    for _ in range(2):
        (message,) = shop("sync", status=1).messages
        assert message.endswith("are the application's current ones")


@pytest.mark.long
def test_what_is_stored_can_be_shown_without_any_marketplace(shop: Shop) -> None:
    shop("sync")
    (shop.folder / "marketplaces" / "uk.toml").unlink()
    for name in [name for name in shop.environ if "ACCOUNTS__" in name]:
        del shop.environ[name]
    assert "no marketplace is configured" in shop("status").out
    assert shop("orders", "show", GOOD, "--json").json()["order_id"] == GOOD
    assert len(shop("export", "customers").lines) == 1
    assert shop("backfill", "list", "--json").json()[0]["marketplace"] == "UK"
    for command in (
        ("sync",),
        ("backfill", "plan", "--marketplace", "UK", "--from", "2026-01-01", "--to", "2026-02-01"),
    ):
        assert "no marketplace is configured" in shop(*command, status=2).err


def test_sync_without_any_source_is_refused(shop: Shop) -> None:
    shop.configure("UK", enabled="false")
    assert "no source can be polled" in shop("sync", status=2).err
    assert "acme:UK" in shop("status").lines[-1] or "Not polled" in shop("status").out


@pytest.mark.parametrize("command", ["sync", "run"])
def test_nothing_starts_without_key_marketplaces_or_folder(shop: Shop, command: str) -> None:
    assert "`order-sync keys new`" in shop(command, status=2, ORDER_SYNC_ENCRYPTION_KEY="").err
    assert "32" in shop(command, status=2, ORDER_SYNC_ENCRYPTION_KEY="c2hvcnQ=").err
    nowhere = f"sqlite:///{shop.folder / 'no' / 'where' / 'x.db'}"
    assert "does not exist" in shop(command, status=2, ORDER_SYNC_DATABASE_URL=nowhere).err
    empty = str(shop.folder / "empty")
    assert "no marketplace is configured" in shop(command, status=2, ORDER_SYNC_CONFIG_DIR=empty).err


@pytest.mark.long
def test_a_command_that_is_interrupted_says_that_nothing_is_lost(shop: Shop) -> None:
    shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.01, 1)}
    with shop.start("sync", "--wait") as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("waiting until"):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read() == "stopped; everything read so far is stored\n"
        assert process.wait(10) == 128 + signal.SIGTERM


def opened(shop: Shop) -> Store:
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    return Store(engine, Sealer(values.keys(shop.environ["ORDER_SYNC_ENCRYPTION_KEY"])))


@pytest.mark.long
def test_status_shows_a_gap_with_its_reason_and_what_is_done_about_it(shop: Shop) -> None:
    shop("sync")
    store = opened(shop)
    with store.begin() as tx:
        (marketplace,) = ledger.load_marketplaces(tx, "acme").values()
        lower, upper = marketplace.position, marketplace.position + timedelta(hours=1)
        ids, why = (marketplace.marketplace_id,), "searchOrders: status 400"
        failed = Window("acme:EU", "acme", "live", "updated", ids, ("FULFILLMENT",), lower, upper)
        failed = replace(failed, state="set_aside", attempts=5, retry_at=upper, last_error=Failure(why))
        ledger.open_windows(tx, [failed])
        ledger.save_marketplace(tx, replace(marketplace, position=upper))
    store.close()
    (source,) = shop("status", "--json").json()["sources"]
    (gap,) = source["marketplaces"][0]["gaps"]
    assert (gap["state"], gap["reason"]) == ("set_aside", "searchOrders: status 400")
    assert source["windows"][0]["set_aside"] == 1
    lines = shop("status").lines
    assert "could not be read (searchOrders: status 400); next retry at" in lines[1]
    assert any("(failed, will be retried)" in line for line in lines)


def test_status_shows_how_much_of_the_history_is_read(tmp_path: Path) -> None:
    plans = {**GENEROUS, SEARCH: UsagePlan(0.01, 2)}
    with open_shop(tmp_path / "shop", small_world(), plans=plans) as shop:
        shop("sync", status=75)
        (backfill,) = shop("status", "--json").json()["sources"][0]["backfills"]
        assert 0 < backfill["done"] < 0.2
        assert backfill["orders"] == 2, "one of which is unreadable"
        assert re.search(
            r"history +UK .*: \d+% done, from both ends; 2 orders in 1 request", shop("status").out
        )


# --- orders fetch -----------------------------------------------------------------------------------


def test_fetch_says_what_became_of_the_order(shop: Shop) -> None:
    shop.world.order("111-0000000-0000003", created=YESTERDAY)
    assert shop("orders", "fetch", GOOD).lines == [f"{GOOD}: new, stored"]
    assert shop("orders", "fetch", GOOD, "--account", "acme").lines == [f"{GOOD}: unchanged"]
    shop.world.update(GOOD, YESTERDAY + timedelta(hours=1), status="SHIPPED")
    assert shop("orders", "fetch", GOOD, "--account", "acme").lines == [f"{GOOD}: changed, stored"]
    assert shop("orders", "show", GOOD, "--json").json()["status"] == "SHIPPED"


@pytest.mark.long
def test_fetch_refuses_what_it_cannot_do(shop: Shop) -> None:
    unknown = shop("orders", "fetch", "999-9999999-9999999", "--account", "acme", status=1)
    assert unknown.messages == ["error: Amazon knows no order 999-9999999-9999999 of account acme."]
    stranger = shop("orders", "fetch", GOOD, "--account", "acmee", status=2)
    assert stranger.messages == ["error: there is no usable account acmee; accounts: acme."]
    unreadable = shop("orders", "fetch", BAD, "--account", "acme", status=1)
    assert unreadable.out == ""
    (sentence,) = unreadable.messages
    assert sentence.startswith(f"error: {BAD}: not stored: what Amazon sent could not be read and is in q")
    assert f"`order-sync quarantine show {BAD}`" in sentence
    shop.simulator.plans = {**GENEROUS, GET: UsagePlan(0.01, 0)}
    deferred = shop("orders", "fetch", GOOD, "--account", "acme", status=75)
    assert re.fullmatch(f"deferred until {TIME}", deferred.messages[-1])


@pytest.mark.parametrize(
    "word", ["garbage", "../x", "..", " ", "111-0000000-00000011", "111-0000000-000000①"]
)
def test_fetch_asks_amazon_for_nothing_that_is_no_order_id(shop: Shop, word: str) -> None:
    refused = shop("orders", "fetch", word, "--account", "acme", status=2)
    assert len(refused.messages) == 1
    assert "is not an order id: those look like 123-1234567-1234567" in refused.err
    assert shop.simulator.requests == []


def test_fetch_takes_the_ids_of_other_channels(shop: Shop) -> None:
    other = "S01-1234567-1234567"
    shop.world.order(other, created=YESTERDAY, channel="NON_AMAZON", marketplace_id=None)
    assert shop("orders", "fetch", f" {other}", "--account", "acme").lines == [f"{other}: new, stored"]


def test_fetch_needs_an_account_only_if_there_are_several(shop: Shop) -> None:
    (shop.folder / "marketplaces" / "de.toml").write_text(marketplace_file("DE", "other"))
    others = {f"ORDER_SYNC_ACCOUNTS__OTHER__{key}": "x" for key in ("LWA_CLIENT_ID", "LWA_CLIENT_SECRET")}
    others["ORDER_SYNC_ACCOUNTS__OTHER__REFRESH_TOKEN"] = "Atzr|other"
    refused = shop("orders", "fetch", GOOD, status=2, **others)
    assert refused.messages == ["error: there are several accounts: add --account with one of acme, other."]


# --- quarantine retry -------------------------------------------------------------------------------


def readable_payload(shop: Shop) -> None:
    """As after an upgrade: what is in quarantine can be read."""
    store = opened(shop)
    with store.begin() as tx:
        (entry,) = quarantine.entries(tx)
        repaired = re.sub(r'("quantityOrdered":)"\w+"', r"\g<1>1", entry.payload)
        assert repaired != entry.payload
        quarantine.put(tx, quarantine.Quarantined("acme", BAD, None, "old", repaired))
    store.close()


@pytest.mark.long
def test_retry_applies_the_stored_payload_and_releases(shop: Shop) -> None:
    shop("sync")
    stays = shop("quarantine", "retry", BAD, status=1)
    assert stays.out.startswith(f"{BAD}: stays: ")
    assert shop("quarantine", "list", "--json").json()[0]["attempts"] >= 2
    readable_payload(shop)
    asked = len(shop.simulator.requests)
    assert shop("quarantine", "retry", "--all").lines == [f"{BAD}: stored"]
    assert len(shop.simulator.requests) == asked, "Amazon was not asked"
    assert shop("quarantine", "list").messages == ["nothing is in quarantine"]
    assert shop("quarantine", "retry", "--all").messages == ["nothing is in quarantine"]
    assert shop("orders", "show", BAD, "--json").json()["match_basis"] == "created"


def test_retry_refetch_asks_amazon(shop: Shop) -> None:
    shop("sync")
    stays = shop("quarantine", "retry", BAD, "--refetch", status=1)
    assert stays.out.startswith(f"{BAD}: stays: could not be read")
    shop.world.order(BAD, created=YESTERDAY)
    assert shop("quarantine", "retry", BAD, "--refetch").lines == [f"{BAD}: stored"]


@pytest.mark.long
def test_retry_of_what_is_not_there_or_cannot_be_requested(shop: Shop) -> None:
    shop.world.order("111-0000000-0000009", created=YESTERDAY, amend=lambda body: {**body, "orderId": 5})
    shop("sync")
    missing = shop("quarantine", "retry", GOOD, status=1)
    assert missing.messages == [f"{GOOD}: not in quarantine"]
    name = next(
        entry["order_id"]
        for entry in shop("quarantine", "list", "--json").json()
        if entry["order_id"].startswith("unreadable-")
    )
    assert (
        "it has no usable id, so it can't be requested again"
        in shop("quarantine", "retry", name, "--refetch", status=1).out
    )
    assert shop("quarantine", "show", name).json()["orderId"] == 5
    shop.simulator.plans = {**GENEROUS, GET: UsagePlan(0.01, 0)}
    assert re.search(f"stays: .* until {TIME}", shop("quarantine", "retry", BAD, "--refetch", status=1).out)
    shop.configure("UK", account="other")
    shop.environ |= account_variables("http://127.0.0.1:1", Seller(refresh_token="Atzr|x"), "other")
    assert "account acme is not configured" in shop("quarantine", "retry", BAD, status=1).out


# --- a damaged value --------------------------------------------------------------------------------


@pytest.mark.long
def test_a_damaged_value_is_a_finding_of_db_check_and_stops_no_command(shop: Shop) -> None:
    shop("sync")
    assert "ok     every sealed value opens" in shop("db", "check").lines
    (first, *others) = [one["order_id"] for one in shop("orders", "list", "--json").json()]
    with closing(sqlite3.connect(shop.folder / "order-sync.db")) as conn, conn:
        (sealed,) = conn.execute("SELECT delivery FROM orders WHERE order_id = ?", (first,)).fetchone()
        damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
        conn.execute("UPDATE orders SET delivery = ? WHERE order_id = ?", (damaged, first))
    finding = f"orders.delivery of order_id {first}, account acme does not open"
    assert f"wrong  sealed value: {finding}" in shop("db", "check", status=1).lines
    assert {first, *others} == {one["order_id"] for one in shop("orders", "list", "--json").json()}
    assert "Unreadable, because damaged in the database: delivery" in shop("orders", "show", first).out
    exported = [json.loads(line) for line in shop("export", "orders", "--format", "jsonl").lines]
    (spoiled,) = [one for one in exported if one["order_id"] == first]
    assert spoiled["buyer_email"] is not None
    assert spoiled["delivery"]["line1"] is None
    assert spoiled["delivery"]["country"] is not None
    assert len(exported) == len(others) + 1
    shop("keys", "rotate")
    shop("orders", "fetch", first, "--account", "acme")
    assert "ok     every sealed value opens" in shop("db", "check").lines


# --- config check -----------------------------------------------------------------------------------


def test_a_good_configuration_is_said_to_be_fine(shop: Shop) -> None:
    shop.configure("DE")
    assert shop("config", "check").lines == ["configuration is fine: 2 marketplaces, 1 account"]
    assert not (shop.folder / "order-sync.db").exists()


def test_everything_wrong_is_reported_at_once_errors_first(shop: Shop) -> None:
    shop.configure("DE", price_list="5")
    result = shop("config", "check", status=1, ORDER_SYNC_ENCRYPTION_KEY="", ORDER_SYNC_POLL_SECOND="5")
    kinds = [line.split(":")[0] for line in result.lines]
    assert kinds == sorted(kinds)
    for words in ("price_list", "ORDER_SYNC_ENCRYPTION_KEY is not set", "ORDER_SYNC_POLL_SECONDS"):
        assert words in result.out
    assert "configuration is fine" not in result.out


def test_an_account_without_a_marketplace_is_a_warning(shop: Shop) -> None:
    shop.environ |= account_variables("http://127.0.0.1:1", Seller(refresh_token="Atzr|x"), "spare")
    lines = shop("config", "check").lines
    assert lines[0].startswith("warning: account spare has no usable marketplace file")
    assert lines[-1] == "configuration is fine: 1 marketplace, 1 account"


def test_online_proves_token_enrolment_page_and_fields(shop: Shop) -> None:
    result = shop("config", "check", "--online")
    findings = [line.strip() for line in result.lines if line.startswith("  ")]
    assert [f.split()[0] for f in findings] == ["ok"] * 7
    assert "also enrolled in DE" in result.out
    for what in ("buyer name", "buyer e-mail", "delivery address"):
        assert f"{what}: visible in 1 of 1 merchant-fulfilled order" in result.out
    assert "1 of them could not be read" in result.out
    assert "Testa" not in result.out
    assert result.err == ""
    at = shop.environ["ORDER_SYNC_ACCOUNTS__ACME__ENDPOINT"].removeprefix("http://")
    assert f"acme (EU), at {at}, tokens from {at}:" in result.lines
    assert result.lines[0] == "settings and files are fine: 1 marketplace, 1 account"


def test_online_takes_its_tokens_from_the_stored_budget(shop: Shop) -> None:
    shop("db", "upgrade")
    shop.simulator.plans = {**GENEROUS, SEARCH: UsagePlan(0.0056, 20)}
    assert shop("config", "check", "--online").err == ""
    budgets = shop("status", "--json").json()["sources"][0]["budgets"]
    assert 18.9 < budgets[0]["tokens"] < 19.5


def test_online_names_what_the_seller_lacks(tmp_path: Path) -> None:
    world = small_world(marketplaces=("UK",), roles=frozenset())
    with open_shop(tmp_path / "shop", world, marketplaces=("UK", "FR")) as shop:
        result = shop("config", "check", "--online", status=1)
        assert (
            "wrong  enrolment: the seller is not enrolled in FR; enrol, or set enabled = false" in result.out
        )
        assert result.out.count("visible in 0 of 1") == 3
        assert result.out.count("the application seems to lack the role Direct-to-Consumer") == 3


def test_online_reports_a_refused_token_with_its_remedy(shop: Shop) -> None:
    shop.world.revoke("Atzr|simulated-refresh-token")
    result = shop("config", "check", "--online", status=1)
    assert re.search("wrong  token: .*invalid_grant.*; authorise the application again", result.out)
    assert "configuration is fine" not in result.out


@pytest.mark.parametrize("setting", ["TOKEN_URL", "ENDPOINT"])
def test_online_says_where_no_answer_came(shop: Shop, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.amazon.retry.MAX_ATTEMPTS", 1)
    nowhere = {f"ORDER_SYNC_ACCOUNTS__ACME__{setting}": "http://127.0.0.1:1/x"}
    result = shop("config", "check", "--online", status=1, **nowhere)
    (problem,) = (line for line in result.lines if "no answer" in line and "first page" not in line)
    assert re.search(
        r"no answer \(connection refused\) from 127\.0\.0\.1:1; check that .* may connect there", problem
    )
    assert problem.endswith(f"the account's {setting} if it is set")


def test_check_tries_the_key_on_the_file_that_is_there(shop: Shop) -> None:
    shop("sync")
    assert shop("config", "check").lines == ["configuration is fine: 1 marketplace, 1 account"]
    other = order_sync("keys", "new").out.strip()
    (printed,) = shop("config", "check", status=1, ORDER_SYNC_ENCRYPTION_KEY=other).lines
    assert printed.startswith("error: this database was sealed with another encryption key")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "sqlite:///{folder}/no/where/x.db",
            "error: cannot create the database: the folder {folder}/no does not exist; create it, or name",
        ),
        (
            "sqlite:///{folder}",
            "error: {folder} is a folder: ORDER_SYNC_DATABASE_URL must name a file.",
        ),
    ],
)
def test_check_looks_at_the_place_of_the_file(shop: Shop, url: str, sentence: str) -> None:
    given = url.format(folder=shop.folder)
    printed = shop("config", "check", status=1, ORDER_SYNC_DATABASE_URL=given).lines
    assert printed[0].startswith(sentence.format(folder=shop.folder))


def test_the_last_folder_of_the_database_is_made_for_this_user_alone(shop: Shop) -> None:
    folder = shop.folder / "data"
    given = f"sqlite:///{folder / 'order-sync.db'}"
    shop("config", "check", ORDER_SYNC_DATABASE_URL=given)
    assert not folder.exists()
    for command in (("db", "upgrade"), ("sync",)):
        runtime = shop.folder / f"runtime-{command[0]}"
        shop(*command, ORDER_SYNC_DATABASE_URL=given, ORDER_SYNC_RUNTIME_DIR=str(runtime))
        assert [stat.S_IMODE(made.stat().st_mode) for made in (folder, runtime)] == [0o700, 0o700]
        shutil.rmtree(folder)


def test_a_folder_that_lacks_more_than_its_last_part_is_refused_by_name(shop: Shop) -> None:
    runtime = shop.folder / "not" / "mounted"
    refused = shop("sync", status=2, ORDER_SYNC_RUNTIME_DIR=str(runtime)).err
    assert f"cannot create the folder {runtime}: the folder {runtime.parent} does not exist" in refused
    assert "(ORDER_SYNC_RUNTIME_DIR)" in refused
    assert not runtime.parent.exists()


def test_a_problem_of_two_files_is_printed_once(shop: Shop) -> None:
    shop.configure("UK", "uk2")
    said = "marketplaces/uk.toml and marketplaces/uk2.toml are for one marketplace of account acme; keep one"
    assert shop("config", "check", status=1).out.count(said) == 1
    assert shop("sync", status=None).err.count(said) == 1


def test_a_marketplace_is_understood_in_small_letters(shop: Shop) -> None:
    file = shop.folder / "marketplaces" / "uk.toml"
    file.write_text(file.read_text().replace('"UK"', '"uk"'))
    shop("config", "check")
    shop("sync")
    assert shop("sync", "--source", "acme:eu").messages
    span = ("--marketplace", "uk", "--from", "2026-01-01", "--to", "2026-02-01")
    assert shop("backfill", "plan", *span).lines
    assert shop("orders", "list", "--marketplace", "uk").lines


def test_status_does_not_say_that_what_failed_has_not_run(shop: Shop) -> None:
    shop("sync", status=1, ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN="wrong")
    shown = shop("status").out
    assert "failed" in shown
    assert "it has not run yet" not in shown


def test_check_says_that_it_does_not_ask_a_server(shop: Shop) -> None:
    lines = shop("config", "check", ORDER_SYNC_DATABASE_URL="postgresql+psycopg://127.0.0.1/x").lines
    assert (
        lines[0] == "note: the database was not checked; `order-sync db check` does, and tries the key on it"
    )


SECRET = "ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET"


def test_an_expired_client_secret_is_named_where_tokens_are_still_granted(shop: Shop) -> None:
    """selling-partner-api-models 4489: Login with Amazon grants, and the API answers 403."""
    shop.world.expired_secrets.add(CLIENT_SECRET)
    result = shop("config", "check", "--online", status=1)
    assert re.search(
        "wrong  first page: .*the client secret has expired; rotate the client secret", result.out
    )
    shop("sync", status=1)
    (problem,) = shop("status", "--json").json()["attention"]
    assert re.search(r"failing since .*the client secret has expired\): rotate the client secret", problem)
    assert "roles" not in problem


def test_of_two_client_secrets_the_one_that_has_not_expired_is_used(shop: Shop) -> None:
    shop.world.expired_secrets.add(CLIENT_SECRET)
    shop.world.applications[CLIENT_ID].add("a-newer-secret")
    shop.environ[SECRET] = f"{CLIENT_SECRET},a-newer-secret"
    shop("sync")
    assert [s for s in shop("status", "--json").json()["attention"] if "quarantine" not in s] == []


def test_online_reports_a_refused_page(shop: Shop) -> None:
    shop.simulator.faults = Faults.only("forbidden", operations=[SEARCH])
    result = shop("config", "check", "--online", status=1)
    assert re.search("wrong  first page: .*status 403.*roles", result.out)


# --- db ---------------------------------------------------------------------------------------------


def test_db_upgrade_makes_a_database_without_key_or_marketplaces(tmp_path: Path) -> None:
    environ = {"ORDER_SYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}"}
    assert "was created at revision" in order_sync("db", "upgrade", environ=environ).err
    assert "is up to date" in order_sync("db", "upgrade", environ=environ).err


def test_db_refuses_a_url_that_is_none(tmp_path: Path) -> None:
    result = order_sync(
        "db", "upgrade", environ={"ORDER_SYNC_DATABASE_URL": "mysql://u:hidden@h/x"}, status=2
    )
    assert result.messages == [
        "error: ORDER_SYNC_DATABASE_URL must start with sqlite:/// or postgresql+psycopg://"
    ]


@pytest.mark.long
def test_db_check_proves_schema_key_and_file(shop: Shop) -> None:
    assert "there is no database" in shop("db", "check", status=1).err
    shop("sync")
    lines = shop("db", "check").lines
    assert [line.split()[0] for line in lines] == ["ok"] * 5


@pytest.mark.long
def test_db_check_names_what_is_wrong(shop: Shop) -> None:
    shop("sync")
    other = order_sync("keys", "new").out.strip()
    result = shop("db", "check", status=1, ORDER_SYNC_ENCRYPTION_KEY=other)
    assert "wrong  encryption key: this database was sealed with another encryption key" in result.out
    assert "wrong  encryption key: " in shop("db", "check", status=1, ORDER_SYNC_ENCRYPTION_KEY="").out
    file = shop.folder / "order-sync.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("UPDATE orders SET customer_id = 4711 WHERE customer_id IS NOT NULL")
        connection.execute("ALTER TABLE runs ADD COLUMN extra TEXT")
    out = shop("db", "check", status=1).out
    assert "wrong  file: a row of orders refers to a row of customers that is not there" in out
    assert re.search("wrong  schema: column .*extra", out)
    file.write_text("this is no database")
    (printed,) = shop("db", "check", status=1).lines
    assert printed.startswith(f"wrong  the database {file} cannot be used (file is not a database): ")


def test_db_check_asks_before_it_says_that_the_database_answers(shop: Shop) -> None:
    away = "postgresql+psycopg://somebody:hidden@127.0.0.1:1/nowhere"
    (printed,) = shop("db", "check", status=1, ORDER_SYNC_DATABASE_URL=away).lines
    assert printed.startswith(
        "wrong  the database nowhere at 127.0.0.1:1 cannot be used (Connection refused): "
    )


@pytest.mark.long
@pytest.mark.parametrize("command", ["sync", "run"])
def test_a_file_that_may_not_be_written_is_named_with_its_folder(shop: Shop, command: str) -> None:
    shop("sync")
    file = shop.folder / "order-sync.db"
    shop.environ["ORDER_SYNC_DATABASE_URL"] = f"sqlite:///file:{file}?mode=ro&uri=true"
    assert GOOD in shop("orders", "explain", GOOD).out
    # What shows buyer data records that first.
    assert "attempt to write a readonly database" in shop("orders", "show", GOOD, status=1).err
    result = shop(command, status=1)
    assert result.messages[-1].startswith(f"error: the database {file} cannot be used (")
    assert f"needs write access to the file and to its folder {shop.folder}, where" in result.messages[-1]


def test_a_folder_is_no_database(shop: Shop) -> None:
    for command in ("status", "sync", "run"):
        result = shop(command, status=2, ORDER_SYNC_DATABASE_URL=f"sqlite:///{shop.folder}")
        assert result.messages == [
            f"error: {shop.folder} is a folder: ORDER_SYNC_DATABASE_URL must name a file."
        ]


def test_a_newer_database_is_refused(shop: Shop) -> None:
    shop("sync")
    with closing(sqlite3.connect(shop.folder / "order-sync.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in ("sync", "status"):
        result = shop(command, status=1)
        assert len(result.messages) == 1
        assert "9999" in result.err
    open_files = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert not [name for name in open_files if name.startswith(str(shop.folder))]


@pytest.mark.long
def test_postgresql_is_refused_until_it_is_upgraded(shop: Shop, postgres_url: str) -> None:
    name = sql.Identifier("cli_doing")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        shop.environ["ORDER_SYNC_DATABASE_URL"] = postgres_url.replace("/postgres?", "/cli_doing?")
        for command in ("sync", "run"):
            assert "run `order-sync db upgrade`" in shop(command, status=1).err
        assert "wrong  schema: the database is empty" in shop("db", "check", status=1).out
        shop("db", "upgrade")
        shop("sync")
        assert [line.split()[0] for line in shop("db", "check").lines] == ["ok"] * 5
        exported = shop("export", "orders")
        assert len(exported.lines) == 1
        assert shop("export", "orders", "--since", exported.messages[-1]).out == ""
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
