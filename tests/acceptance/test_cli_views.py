"""What people and programs read: orders, customers, exports, quarantine, status."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from config import values
from connectors.simulator.orders import Line, Package
from connectors.simulator.world import Seller, World
from poller.export import KEYS
from store import customers
from store.engine import Store, create_engine
from store.sealing import Sealer
from tests.acceptance.command_line import STARTED, Shop, open_shop, order_sync

PLAIN = "111-0000000-0000001"
AGAIN = "111-0000000-0000002"
WITHOUT_EMAIL = "111-0000000-0000003"
PENDING = "111-0000000-0000004"
CANCELLED = "111-0000000-0000005"
POISONED = "111-0000000-0000006"
NOWHERE = "111-0000000-0000007"
HELD = "111-0000000-0000008"
HOSTILE = "111-0000000-0000009"
CANCELLED_ELSEWHERE = "111-0000000-0000010"
OTHER_SHOP = "111-0000000-0000011"
WITHOUT_FILE = "111-0000000-0000012"
ODD = "111-0000000-0000013"
UNKNOWN = "999-9999999-9999999"
EMAIL = "somebody@marketplace.amazon.co.uk"
OPENED, ESCAPE = "An invented thing", "\x1b[31mred"


def _odd(body: dict[str, Any]) -> dict[str, Any]:
    """A total that is a pound more than its amounts, and a package without a reference."""
    del body["packages"][0]["packageReferenceId"]
    body["proceeds"]["grandTotal"]["amount"] = "19.00"
    return body


def stocked_world() -> World:
    """Some hundred invented orders, and one of every kind that a command speaks about."""
    world = World.generate(
        seed=4,
        marketplaces=("UK", "DE"),
        orders=150,
        start=STARTED - timedelta(days=9),
        end=STARTED - timedelta(hours=1),
        seller=Seller("acme", ("UK", "DE")),
    )
    day = STARTED - timedelta(days=2)
    world.order(PLAIN, created=day, email=EMAIL)
    world.order(AGAIN, created=day + timedelta(hours=1), email=EMAIL, status="SHIPPED")
    world.order(WITHOUT_EMAIL, created=day, email=None, fulfilled_by="AMAZON")
    world.order(PENDING, created=day, status="PENDING", email=None)
    world.order(CANCELLED, created=day, status="CANCELLED", email=None)
    world.order(POISONED, created=day, poison="quantity_a_word")
    world.order(NOWHERE, created=day, marketplace_id=None)
    elsewhere: dict[str, Any] = {"created": day, "marketplace_id": "AZMDEXL2RVFNN"}
    world.order(CANCELLED_ELSEWHERE, **elsewhere, status="CANCELLED", email=None)
    world.order(OTHER_SHOP, **elsewhere)
    line = Line(f"{ODD}-1", tax=Decimal(2), tax_currency="EUR", fees=(("COD_FEE", Decimal(3)),))
    never = datetime.max.replace(tzinfo=UTC)
    parcel = Package("1", tracking_number="TRK-ODD", shipped_at=day)
    odd: dict[str, Any] = {"status": "SHIPPED", "packages": (parcel,), "deliver_by": never}
    world.order(ODD, created=day, lines=(line,), tip=Decimal(5), amend=_odd, **odd)
    world.order(WITHOUT_FILE, created=day, marketplace_id="APJ6JRA9NG5V4")
    world.order(HELD, created=day, marketplace="DE", email=None, fulfilled_by="AMAZON")
    world.order(HOSTILE, created=day, email="hostile@marketplace.amazon.co.uk", name=ESCAPE)
    return world


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop whose orders have been synced once; these tests only read."""
    with open_shop(tmp_path_factory.mktemp("shop"), stocked_world()) as shop:
        shop.configure("DE", without_email='"hold"')
        shop("sync")
        yield shop


# --- orders -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_orders_list_is_a_table_of_the_newest(shop: Shop) -> None:
    result = shop("orders", "list", "--limit", "5")
    assert len(result.lines) == 6
    heading = "placed (UTC) order marketplace status total buyer customer match basis"
    assert " ".join(result.lines[0].split()) == heading
    placed = [line[:16] for line in result.lines[1:]]
    assert placed == sorted(placed, reverse=True)
    assert result.messages == [
        "only the newest 5 are shown; see --limit, or `order-sync export orders` for all"
    ]


def test_orders_list_as_json_has_the_exported_keys(shop: Shop) -> None:
    found = shop("orders", "list", "--limit", "3", "--json").json()
    assert len(found) == 3
    assert all(tuple(order) == KEYS["orders"] for order in found)


@pytest.mark.parametrize(
    ("option", "value", "key", "expected"),
    [
        ("--status", "shipped", "status", "SHIPPED"),
        ("--marketplace", "DE", "marketplace", "DE"),
        ("--marketplace", "GB", "marketplace", "UK"),
        ("--basis", "unidentified", "match_basis", "unidentified"),
        ("--customer", "1", "customer_id", 1),
    ],
)
def test_orders_list_filters(shop: Shop, option: str, value: str, key: str, expected: object) -> None:
    found = shop("orders", "list", option, value, "--json", "--limit", "1000").json()
    assert found
    assert {order[key] for order in found} == {expected}


def test_orders_list_says_when_nothing_is_like_that(shop: Shop) -> None:
    result = shop("orders", "list", "--status", "shipped", "--basis", "held", "--marketplace", "UK")
    assert (result.out, result.err) == ("", "no order matches\n")


def test_orders_list_says_what_there_is_when_a_filter_can_match_nothing(shop: Shop) -> None:
    there = sorted({o["status"] for o in shop("orders", "list", "--limit", "1000", "--json").json()})
    assert len(there) > 2
    printed = [f"no order matches: the statuses of stored orders are {', '.join(there)}"]
    mistyped = shop("orders", "list", "--status", "shiped")
    assert (mistyped.out, mistyped.messages) == ("", printed)
    as_json = shop("orders", "list", "--status", "shiped", "--json")
    assert (as_json.json(), as_json.messages) == ([], printed)
    refusal = shop("orders", "list", "--customer", "987654").messages
    assert refusal == ["no order matches: there is no customer 987654"]


def test_orders_show_is_readable(shop: Shop) -> None:
    text = shop("orders", "show", PLAIN).out
    for words in (PLAIN, "UNSHIPPED", "Testa Invented", EMAIL, "1 Invented Street", "10.00 GBP", OPENED):
        assert words in text
    assert "None" not in text


def test_amounts_labels_and_dates_of_an_odd_order_are_shown_as_they_are(shop: Shop) -> None:
    found = shop("orders", "show", ODD, "--json").json()
    (line,) = found["lines"]
    assert (line["currency"], line["tax"]) == ("GBP", None)
    assert line["other_amounts"] == {"COD_FEE": "3.00", "TAX EUR": "2.00"}
    assert (found["total"], found["other_amounts"]) == ("19.00", {"DELIVERY_TIP": "5.00"})
    assert found["unexplained"] == "1.00"
    assert (found["packages"][0]["reference"], found["packages"][0]["tracking_number"]) == (None, "TRK-ODD")
    text = shop("orders", "show", ODD).out
    for words in ("COD_FEE 3.00, TAX EUR 2.00", "DELIVERY_TIP 5.00", "1.00 GBP", "TRK-ODD", "9999-12-31"):
        assert words in text
    assert "kept until 9999-12-31" in shop("orders", "explain", ODD).out
    assert "unexplained" not in shop("orders", "show", PLAIN).out
    reader = csv.DictReader(io.StringIO(shop("export", "orders", "--format", "csv").out))
    (cells,) = (each for each in reader if each["order_id"] == ODD)
    assert cells["lines.other_amounts"] == '{"COD_FEE": "3.00", "TAX EUR": "2.00"}'
    assert (cells["other_amounts"], cells["unexplained"]) == ('{"DELIVERY_TIP": "5.00"}', "1.00")


def test_orders_show_as_json_has_the_exported_keys(shop: Shop) -> None:
    found = shop("orders", "show", AGAIN, "--json").json()
    assert tuple(found) == KEYS["orders"]
    assert (found["order_id"], found["match_basis"], found["buyer_email"]) == (AGAIN, "email_1", EMAIL)


def test_an_order_cannot_steer_the_terminal(shop: Shop) -> None:
    assert "\x1b" not in shop("orders", "show", HOSTILE).out + shop("orders", "list", "--limit", "1000").out


@pytest.mark.parametrize(
    ("order_id", "headline", "rules"),
    [
        (PLAIN, "new customer", ["R2", "R3", "R4", "R5"]),
        (AGAIN, "known by e-mail", ["R6", "R10", "R44"]),
        (WITHOUT_EMAIL, "no e-mail, own record", ["R21", "R44"]),
        (PENDING, "it is not shown as an order yet", ["R30"]),
        (CANCELLED, "has no customer", ["R33"]),
        (CANCELLED_ELSEWHERE, "it was cancelled before it was ready", ["R33"]),
        (NOWHERE, "it names no marketplace", ["R26"]),
        (OTHER_SHOP, "its shop is not one of Amazon's marketplaces", ["R26"]),
        (WITHOUT_FILE, "its marketplace has no file", ["R26"]),
        (HELD, "is held: it waits for a customer", ["R21"]),
    ],
)
def test_orders_explain_answers_with_the_rules(
    shop: Shop, order_id: str, headline: str, rules: list[str]
) -> None:
    first, *reasons = shop("orders", "explain", order_id).lines
    assert first.startswith(f"Order {order_id} (acme")
    assert headline in first
    assert [reason.split(":")[0].strip() for reason in reasons] == [*rules, "R60"]


def test_orders_explain_knows_the_quarantine(shop: Shop) -> None:
    text = shop("orders", "explain", POISONED).out
    assert f"Order {POISONED} (acme) has been in quarantine" in text
    assert "quantity" in text


@pytest.mark.parametrize("command", ["show", "explain"])
def test_an_unknown_order_is_said_to_be_unknown(shop: Shop, command: str) -> None:
    result = shop("orders", command, UNKNOWN, status=2)
    fetch = f"`order-sync orders fetch {UNKNOWN} --account acme` fetches it"
    assert result.messages == [f"error: order {UNKNOWN} is not in the database; {fetch}."]


@pytest.mark.parametrize("command", ["show", "explain"])
def test_what_is_no_order_id_and_no_account_is_said_to_be_none(shop: Shop, command: str) -> None:
    strange = shop("orders", command, "123", status=2)
    assert strange.messages == ["error: 123 is not an order id: those look like 123-1234567-1234567."]
    for order_id in (PLAIN, UNKNOWN, "123"):
        result = shop("orders", command, "--account", "acm", order_id, status=2)
        assert result.messages == ["error: there is no account acm; accounts: acme."]
    assert f"order {UNKNOWN} of account acme is not" in (
        shop("orders", command, "--account", "acme", UNKNOWN, status=2).err
    )


def test_orders_show_points_to_the_quarantine(shop: Shop) -> None:
    assert "order-sync quarantine show" in shop("orders", "show", POISONED, status=2).err


# --- customers --------------------------------------------------------------------------------------


def test_customers_list_finds_by_email_in_any_letters(shop: Shop) -> None:
    (found,) = shop("customers", "list", "--email", f" {EMAIL.upper()}", "--json").json()
    assert tuple(found) == KEYS["customers"]
    assert found["emails"] == [EMAIL]


def test_customers_list_is_a_table(shop: Shop) -> None:
    result = shop("customers", "list", "--status", "active", "--limit", "2")
    assert result.lines[0].split()[:2] == ["id", "name"]
    assert len(result.lines) == 3
    assert "--limit" in result.err
    assert shop("customers", "list", "--status", "forgotten").messages == ["no customer matches"]


def test_customers_show_has_record_and_orders(shop: Shop) -> None:
    (found,) = shop("customers", "list", "--email", EMAIL, "--json").json()
    number = str(found["customer_id"])
    text = shop("customers", "show", number).out
    for name in ("created from", "first order", "last order", "total spent"):
        assert f"\n{name} " in text, name
    for words in ("Testa Invented", EMAIL, PLAIN, AGAIN, "Amazon UK retail", "contact e-mail"):
        assert words in text
    shown = shop("customers", "show", number, "--json").json()
    assert tuple(shown)[: len(KEYS["customers"])] == KEYS["customers"]
    assert shown["orders"] == [AGAIN, PLAIN]
    assert shown["journal"] == []


def test_an_unknown_customer_is_said_to_be_unknown(shop: Shop) -> None:
    (refusal,) = shop("customers", "show", "987654", status=2).messages
    assert refusal == "error: there is no customer 987654: `order-sync customers list` finds those there are."


# --- export -----------------------------------------------------------------------------------------


def test_export_is_json_lines_and_ends_with_the_position(shop: Shop) -> None:
    result = shop("export", "orders", "--format", "jsonl")
    orders = [json.loads(line) for line in result.lines]
    assert len(orders) == shop("status", "--json").json()["totals"]["orders"]
    assert {tuple(order) for order in orders} == {KEYS["orders"]}
    assert PENDING not in {order["order_id"] for order in orders}
    assert result.messages[-1].isdigit()


def test_export_goes_on_from_a_position(shop: Shop) -> None:
    position = shop("export", "customers").messages[-1]
    again = shop("export", "customers", "--since", position)
    assert (again.out, again.messages[-1]) == ("", position)
    later = shop("export", "orders", "--since", str(int(position) - 1))
    assert 0 < len(later.lines) < len(shop("export", "orders").lines)


def test_export_as_csv_has_a_row_for_each_line_item(shop: Shop) -> None:
    orders = [json.loads(line) for line in shop("export", "orders").lines]
    rows = list(csv.DictReader(io.StringIO(shop("export", "orders", "--format", "csv").out)))
    assert len(rows) == sum(max(1, len(order["lines"])) for order in orders)
    assert {"order_id", "delivery.postal_code", "lines.sku"} <= rows[0].keys()


def test_an_empty_csv_has_its_heading(shop: Shop) -> None:
    position = shop("export", "orders").messages[-1]
    for what in ("orders", "customers"):
        whole = shop("export", what, "--format", "csv").lines[0]
        assert shop("export", what, "--format", "csv", "--since", position).lines == [whole]


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "999999999"])
def test_export_refuses_what_is_no_position(shop: Shop, position: str) -> None:
    result = shop("export", "orders", "--since", position, status=2)
    assert len(result.messages) == 1
    assert result.out == ""


def test_export_refuses_an_unknown_format(shop: Shop) -> None:
    assert "jsonl" in shop("export", "orders", "--format", "xml", status=2).err


@pytest.mark.long
def test_export_into_a_pipe_that_closes_ends_quietly(shop: Shop) -> None:
    with shop.start("export", "orders") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"order_id"')
        process.stdout.close()
        assert process.stderr.read() == ""


# --- quarantine -------------------------------------------------------------------------------------


def test_quarantine_list_has_its_fixed_keys(shop: Shop) -> None:
    (entry,) = shop("quarantine", "list", "--json").json()
    assert list(entry) == [
        "order_id",
        "account",
        "marketplace",
        "reason",
        "attempts",
        "next_attempt_at",
        "first_seen_at",
    ]
    assert (entry["order_id"], entry["account"], entry["marketplace"]) == (POISONED, "acme", "UK")
    assert entry["first_seen_at"].endswith("Z")
    assert POISONED in shop("quarantine", "list").out


def test_quarantine_show_puts_the_payload_on_standard_output(shop: Shop) -> None:
    result = shop("quarantine", "show", POISONED)
    assert result.json()["orderId"] == POISONED
    assert "quantity" in result.err
    missing = shop("quarantine", "show", PLAIN, status=2)
    assert missing.messages == [
        f"error: order {PLAIN} is not in quarantine: `order-sync quarantine list` lists those that are."
    ]


# --- status -----------------------------------------------------------------------------------------


def test_status_begins_with_what_needs_attention(shop: Shop) -> None:
    lines = shop("status").lines
    totals = shop("status", "--json").json()["totals"]
    assert lines[0] == "Needs attention:"
    assert lines[1].startswith("  - 1 order in quarantine, refetched automatically, next after ")
    assert lines[2].startswith(f"  - {totals['held']} orders held: without e-mail")
    assert totals["without_marketplace"] > 0
    assert lines[3] == (
        "  - 1 order of IT, which has no file for account acme: no customer until it has one."
    )
    assert lines[4] == "", "shops that Amazon only ships for cannot have a file: nothing is to be done"
    others = sum(one["orders"] for one in totals["unconfigured"]) - 1
    assert others >= 2
    assert any(re.fullmatch(rf"  other shops +{others}  not Amazon's marketplaces.*", line) for line in lines)
    assert any(re.fullmatch(r"  without a file +1  no customer until.*", line) for line in lines)


def test_status_shows_freshness_in_words(shop: Shop) -> None:
    text = shop("status").out
    for words in ("acme:EU: complete up to", "all covered", "searches:", "complete from", "new customer"):
        assert words in text
    assert "None" not in text
    assert "+00:00" not in text


def test_status_as_json_has_everything(shop: Shop) -> None:
    found = shop("status", "--json").json()
    keys = "at attention health sources not_polled totals quarantine retention"
    assert list(found) == keys.split()
    assert found["quarantine"]["orders"] == 1
    assert found["quarantine"]["waiting"] == 0
    assert found["quarantine"]["next_attempt_at"] > found["quarantine"]["oldest"]
    (source,) = found["sources"]
    assert source["source"] == "acme:EU"
    assert source["last_run"]["outcome"] == "complete"
    assert 0 < source["behind_seconds"] < 600
    assert [m["marketplace"] for m in source["marketplaces"]] == ["DE", "UK"]
    for marketplace in source["marketplaces"]:
        assert marketplace["gaps"] == marketplace["history_gaps"] == []
        assert marketplace["enrolled"] is True
    assert [b["operation"] for b in source["budgets"]] == ["searchOrders", "getOrder"]
    totals = found["totals"]
    held = shop("orders", "list", "--basis", "held", "--limit", "1000", "--json").json()
    assert (totals["quarantined"], totals["held"]) == (1, len(held))
    assert totals["orders"] == sum(totals["by_basis"].values())


# --- tombstones: changes the database ---------------------------------------------------------------


def test_a_merged_customer_sends_on(shop: Shop) -> None:
    kept, left = (c["customer_id"] for c in shop("customers", "list", "--json", "--limit", "2").json())
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    store = Store(engine, Sealer(values.keys(shop.environ["ORDER_SYNC_ENCRYPTION_KEY"])))
    with store.begin() as tx:
        customers.bury(tx, left, kept)
        customers.write_journal(tx, "tests", "merge", kept, other_id=left)
    store.close()
    result = shop("customers", "show", str(left), "--json")
    assert result.messages == [f"customer {left} was merged into customer {kept}"]
    assert result.json()["customer_id"] == kept
    assert result.json()["journal"][0]["action"] == "merge"
    assert "merge" in shop("customers", "show", str(left)).out
    assert f"merged into {kept}" in shop("customers", "list", "--status", "merged").out


# --- without a database -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("orders", "list"), ("export", "orders"), ("status",)])
def test_reading_does_not_make_a_database(shop: Shop, command: tuple[str, ...]) -> None:
    file = shop.folder / "nothing.db"
    result = shop(*command, status=1, ORDER_SYNC_DATABASE_URL=f"sqlite:///{file}")
    assert result.messages == [
        f"error: there is no database at {file} yet: `order-sync sync` or `order-sync run` creates it."
    ]
    assert not file.exists()


def test_a_database_that_is_away_is_one_sentence(shop: Shop) -> None:
    url = "postgresql+psycopg://somebody:hidden@127.0.0.1:1/nowhere"
    result = shop("orders", "list", status=1, ORDER_SYNC_DATABASE_URL=url)
    assert result.messages == [
        "error: the database nowhere at 127.0.0.1:1 cannot be used (Connection refused): no server "
        "listens there, check that it runs, and the host and port in ORDER_SYNC_DATABASE_URL."
    ]


def test_another_key_is_refused(shop: Shop) -> None:
    other = order_sync("keys", "new").out.strip()
    result = shop("orders", "list", status=2, ORDER_SYNC_ENCRYPTION_KEY=other)
    assert len(result.messages) == 1
    assert "ORDER_SYNC_ENCRYPTION_KEY" in result.err
    assert other not in result.err


def test_without_a_key_nothing_is_read(shop: Shop) -> None:
    result = shop("orders", "list", status=2, ORDER_SYNC_ENCRYPTION_KEY="")
    assert "`order-sync keys new`" in result.err
