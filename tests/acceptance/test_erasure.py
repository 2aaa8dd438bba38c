"""What is erased is in no file and never comes back; keys are rotated in spite of kill -9."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from config import values
from connectors.amazon.parse import order_of_json
from connectors.orders import AmazonOrder
from connectors.simulator.api import Simulator
from connectors.simulator.orders import Address
from connectors.simulator.world import Seller, World
from poller.cli.failures import Failure
from poller.cli.session import confirm
from poller.ingest.apply import apply_orders
from poller.matching.retention import Retention
from poller.privacy.purge import Purge, Purged
from poller.sync.decide import Pace
from store import customers, queries, revisions, rotation, tables
from store.engine import Store, create_engine
from store.records import CustomerRecord, MainEmail
from store.sealing import Sealer, SealError, new_key
from tests.acceptance.command_line import STARTED, Shop, open_shop
from tests.databases import long_on
from tests.harness import NOON, SimulatedClock, rules_for
from tests.harness import Shop as SimulatedShop
from tests.integration.store_world import apply, count_buyers
from tests.unit.matching_world import an_order

MONTH = Retention(30, 18)
LONG_AFTER = NOON + timedelta(days=140)
"""By then every order is past its term, even an unfinished one."""


# --- nothing is left, nothing comes back ----------------------------------------------------------


def sealed(store: Store) -> dict[str, set[bytes]]:
    """Return every sealed value by table, without page tokens."""
    found: dict[str, set[bytes]] = {}
    with store.read() as tx:
        for name, columns in tables.SEALED.items():
            if name == "windows":
                continue
            c = tables.metadata.tables[name].c
            values = [v for n in columns for v in tx.conn.execute(sa.select(c[n])).scalars() if v is not None]
            found[name] = set(values)
    return found


def files_of(url: str) -> dict[str, bytes]:
    """Return the bytes of an SQLite database and of everything beside it."""
    path = Path(sa.make_url(url).database or "")
    return {file.name: file.read_bytes() for file in path.parent.glob(f"{path.name}*")}


def remains(values: set[bytes], content: bytes) -> set[bytes]:
    """Return which sealed values show in some bytes: their heads, or (of a hundred) their tails."""
    prefix = next(iter(values))[:5]
    heads = {piece[:12] for piece in content.split(prefix)}
    tails = sorted(values)[:: max(1, len(values) // 100)]
    return {v for v in values if v[5:17] in heads} | {v for v in tails if v[-16:] in content}


def served_orders(shop: SimulatedShop) -> list[AmazonOrder]:
    """Return the newest copy of each order that Amazon ever served."""
    newest: dict[str, AmazonOrder] = {}
    for served in shop.simulator.served:
        for payload in served.orders:
            order = order_of_json(json.dumps(payload))
            if isinstance(order, AmazonOrder):
                newest[order.order_id] = order
    return list(newest.values())


@pytest.mark.long
@long_on("postgresql")
def test_r60_r61_r63_what_was_erased_is_in_no_file_and_nothing_brings_it_back(database_url: str) -> None:
    start, end = NOON - timedelta(days=3), NOON + timedelta(days=4)
    world = World.generate(
        seed=21, marketplaces=("UK",), orders=60, start=start, end=end, poisoned=0.05, returning=0.3
    )
    clock = SimulatedClock()
    shop = SimulatedShop(
        database_url,
        Simulator(world, now=clock),
        clock,
        [rules_for("UK")],
        (start - timedelta(days=1)).date(),
        retention=MONTH,
    )
    with closing(shop):
        shop.pace = Pace(6 * 3600, 6 * 3600)
        shop.run_until(end + timedelta(days=1))
        hand = CustomerRecord(
            "acme", None, None, NOON, name="By Hand", emails=(MainEmail(1, "by@hand.example", "hand"),)
        )
        with shop.store.begin() as tx:
            (by_hand,) = customers.create(tx, [replace(hand, origins={"name": "hand"})])
            stored = queries.changed_orders(tx, 0, tx.readable_change_no())
            regular = next(o for o in stored if o.match_basis == "created" and o.buyer and o.buyer.email)
            kept = queries.get_customer(tx, by_hand)
            whom = tx.conn.execute(
                sa.select(tables.customers.c.person).where(tables.customers.c.customer_id == by_hand)
            ).scalar_one()
        before = sealed(shop.store)
        assert len(before["orders"]) > 120
        assert before["quarantine"]
        values = set().union(*before.values())
        on_disk = files_of(database_url) if database_url.startswith("sqlite") else {}
        if on_disk:
            assert len(remains(values, b"".join(on_disk.values()))) > len(values) * 0.9, "the search finds"

        clock.go_to(LONG_AFTER)
        done = Purge(shop.store, MONTH).run()
        assert done.clean
        assert done.orders > 50

        def nothing_is_back() -> None:
            now = sealed(shop.store)
            left = set().union(*now.values()) & values
            assert whom in left
            assert len(left) == 2, "what was entered by hand"
            assert (now["orders"], now["order_lines"]) == (set(), set())
            assert len(now["customers"]) == 1
            with shop.store.read() as tx:
                assert queries.get_customer(tx, by_hand) == kept
            for name, content in files_of(database_url).items() if on_disk else ():
                assert remains(values - left, content) == set(), name

        nothing_is_back()

        # Sweeps and live windows over all of it, a backfill again, each order by its id, copies as they came.
        shop.sync()
        shop.start_date = (start - timedelta(days=30)).date()
        shop.run_until(LONG_AFTER + timedelta(days=2))
        again = served_orders(shop)
        assert sum(order.buyer is not None for order in again) > 20
        (source,) = shop.sources()
        for order in again[:15]:
            clock.sleep(3)
            shop.syncer(source).single.fetch(
                order.order_id, source.marketplaces[rules_for("UK").marketplace_id].included_data
            )
        for order in again:
            shop.store.commit(lambda tx, order=order: apply_orders(tx, shop.account_rules(), [order]))  # type: ignore[misc]
        Purge(shop.store, MONTH).run()
        nothing_is_back()

        # The buyer returns.
        assert regular.buyer is not None
        world.order(
            "999-0000000-0000001",
            created=clock(),
            email=regular.buyer.email,
            name="Returned",
        )
        shop.run_until(clock() + timedelta(hours=13))
        with shop.store.read() as tx:
            (returned,) = queries.find_orders(tx, "999-0000000-0000001")
            record = queries.get_customer(tx, regular.customer_id or 0)
        assert (returned.customer_id, returned.match_basis) == (regular.customer_id, "retained_hash")
        assert record is not None
        assert record.name == "Returned"


# --- the commands ---------------------------------------------------------------------------------

DELIVERED, RECENT = "111-0000000-0000001", "111-0000000-0000002"
LATE: dict[str, Any] = {"ORDER_SYNC_RETENTION_DAYS": "off"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World()
    long_ago = STARTED - timedelta(days=60)
    world.order(
        DELIVERED, created=long_ago, email="ann@marketplace.amazon.co.uk", name="Ann Buyer", status="SHIPPED"
    )
    world.order(
        RECENT, created=STARTED - timedelta(days=2), email="bea@marketplace.amazon.co.uk", name="Bea Buyer"
    )
    with open_shop(tmp_path / "shop", world) as opened:
        opened.configure("UK", days=70)
        opened("sync", "--wait", **LATE)
        yield opened


def shown(shop: Shop, order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = shop("orders", "show", order_id, "--json").json()
    return found


@pytest.mark.long
def test_r60_privacy_purge_says_what_is_due_and_erases_it(shop: Shop) -> None:
    assert "R60: Buyer data is kept until" in shop("orders", "explain", DELIVERED).out
    assert "is off" in shop("privacy", "purge", **LATE).err
    assert shown(shop, DELIVERED)["buyer_name"] == "Ann Buyer"
    assert shop("privacy", "purge", "--dry-run").messages[0] == "1 order past the retention period of 30 days"
    assert shown(shop, DELIVERED)["buyer_name"] == "Ann Buyer"
    late = shop("status").out
    assert "buyer data of 1 order should have been erased" in late
    assert shop("status", "--json").json()["retention"]["due"] == 1
    done = shop("privacy", "purge")
    assert done.out == ""
    assert "erasing buyer data of orders: 1 of 1" in done.err
    assert "erased: 1 order, 1 customer record, 0 payloads in quarantine, 0 e-mail hashes" in done.err
    assert (shown(shop, DELIVERED)["buyer_name"], shown(shop, RECENT)["buyer_name"]) == (None, "Bea Buyer")
    assert "R60: Buyer data was erased on" in shop("orders", "explain", DELIVERED).out
    assert "never stored again" in shop("orders", "show", DELIVERED).out
    assert "should have been erased" not in shop("status").out
    assert "erased: 0 orders" in shop("privacy", "purge").err
    shop("orders", "fetch", DELIVERED, "--account", "acme")
    assert shown(shop, DELIVERED)["buyer_name"] is None
    customer_id = str(shown(shop, DELIVERED)["customer_id"])
    edited = shop("customers", "edit", customer_id, "--email-1", "new@example.com").messages
    assert edited[1:] == ["1 erased e-mail dropped: a returning buyer with it becomes a new customer"]


def test_r60_of_an_address_only_the_part_that_a_person_typed_and_the_country_are_kept(tmp_path: Path) -> None:
    """``customers edit 1 --billing-country GB``, as it was, kept Amazon's whole address for ever."""
    home = Address(
        name="Ann Buyer",
        line1="1 High Street",
        city="Leds",
        postal_code="LS1 1AA",
        country="GB",
        phone="0113",
    )
    long_ago = STARTED - timedelta(days=60)
    world = World()
    for name, order_id in (("ann", "1"), ("bea", "2"), ("cem", "3")):
        world.order(
            f"111-0000000-000000{order_id}",
            created=long_ago,
            email=f"{name}@marketplace.amazon.co.uk",
            name=name,
            status="SHIPPED",
            delivery=home,
        )
    with open_shop(tmp_path / "shop", world) as shop:
        shop.configure("UK", days=70)
        shop("sync", "--wait", **LATE)
        ann, bea, cem = (str(shown(shop, f"111-0000000-000000{i}")["customer_id"]) for i in (1, 2, 3))
        shop("customers", "edit", ann, "--billing-country", "GB", "--name", "ann", "--delivery-city", "Leeds")
        file = tmp_path / "customers.csv"
        file.write_text(
            "external_id,email_1,billing_name,billing_line1,billing_city,billing_postal_code,billing_country\n"
            "C-1,bea@marketplace.amazon.co.uk,,,,,\n"
            "C-2,cem@marketplace.amazon.co.uk,Ann Buyer,1 High Street,Leeds,LS1 1AA,GB\n"
        )
        shop("customers", "import", str(file))
        shop("privacy", "purge")
        gone = {"country": "GB"}
        for customer_id, billing, delivery in (
            (ann, gone, {"city": "Leeds", "country": "GB"}),
            (bea, gone, gone),
            (cem, {"city": "Leeds", "country": "GB"}, gone),
        ):
            record = shop("customers", "show", customer_id, "--json").json()
            kept = [{k: v for k, v in record[kind].items() if v} for kind in ("billing", "delivery")]
            assert kept == [billing, delivery]
            assert (record["name"], record["emails"]) == (None, [None])


@pytest.mark.long
def test_erasing_that_is_less_than_two_days_late_is_not_reported(shop: Shop) -> None:
    term = datetime.fromisoformat(shop("status", "--json").json()["retention"]["oldest_term"])
    days = (datetime.now(UTC) - term).days
    reported = [
        "should have been erased" in shop("status", ORDER_SYNC_RETENTION_DAYS=str(days - late)).out
        for late in (1, 2)
    ]
    assert reported == [False, True]


@pytest.mark.long
def test_r63_a_history_past_its_term_is_stored_without_buyers(shop: Shop) -> None:
    fresh: dict[str, Any] = {"ORDER_SYNC_DATABASE_URL": f"sqlite:///{shop.folder / 'fresh.db'}"}
    shop("sync", "--wait", **fresh)
    order = shop("orders", "show", DELIVERED, "--json", **fresh).json()
    assert (order["buyer_name"], order["buyer_email"], order["match_basis"]) == (None, None, "created")
    person = shop("customers", "show", str(order["customer_id"]), "--json", **fresh).json()
    assert (person["name"], person["emails"], person["status"]) == (None, [None], "active")


@pytest.mark.long
def test_r62_privacy_show_prints_all_and_forget_leaves_nothing(shop: Shop) -> None:
    key = shown(shop, RECENT)["customer_id"]
    everything = shop("privacy", "show", str(key)).json()
    assert set(everything) == {"customers", "orders", "journal", "quarantine"}
    assert everything["customers"][0]["name"] == "Bea Buyer"
    assert everything["customers"][0]["main_emails"][0]["origin"] == "amazon"
    assert [o["order_id"] for o in everything["orders"]] == [RECENT]
    assert everything["orders"][0]["term"]["because"] == "open"
    done = shop("privacy", "forget", str(key))
    assert "forgotten: 1 customer record, 1 order, 0 payloads in quarantine" in done.err
    gone = shop("privacy", "show", str(key)).json()
    assert gone["customers"][0]["status"] == "forgotten"
    assert "Bea" not in json.dumps(gone)
    assert [entry["action"] for entry in gone["journal"]] == ["forget"]
    assert "R63: Forgotten on" in shop("orders", "explain", RECENT).out
    shop("orders", "fetch", RECENT, "--account", "acme")
    assert shown(shop, RECENT)["buyer_name"] is None


@pytest.mark.long
def test_r62_others_who_look_like_the_same_person_are_named(shop: Shop) -> None:
    place = ("--delivery-postal-code", "LS1 1AA", "--delivery-country", "GB")
    for postal_code in (place, place, ("--delivery-postal-code", "M1 1AA", "--delivery-country", "GB")):
        shop("customers", "create", "--business", "acme", "--name", "Twin Invented", *postal_code)
    first, second, third = (c["customer_id"] for c in shop("customers", "list", "--json").json()[:3][::-1])
    sentence = f"1 other customer looks like the same person: `order-sync privacy {{}} {second}`"
    assert sentence.format("show") in shop("privacy", "show", str(first)).messages
    assert not any("same person" in m for m in shop("privacy", "show", str(third)).messages)
    assert sentence.format("forget") in shop("privacy", "forget", str(first), "--yes").messages
    assert not any("same person" in m for m in shop("privacy", "forget", str(second), "--yes").messages)


def test_r62_privacy_forget_account_erases_the_seller(shop: Shop) -> None:
    done = shop("privacy", "forget", "--account", "acme", "--yes")
    assert "forgotten: 2 customer records, 2 orders" in done.err
    assert "account acme is still configured" in done.err
    assert {shown(shop, order_id)["buyer_name"] for order_id in (DELIVERED, RECENT)} == {None}


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("forget",), 2, "give a customer's id, or an account"),
        (("forget", "1", "--account", "acme"), 2, "give a customer's id, or an account"),
        (("forget", "999"), 2, "there is no customer 999"),
        (("forget", "--account", "nobody"), 2, "the database has no account nobody; accounts: acme"),
        (("show", "999"), 2, "there is no customer 999"),
        (("show", "ann"), 2, "CUSTOMER_ID"),
    ],
)
def test_r62_what_cannot_be_done_is_refused_in_a_sentence(
    shop: Shop, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    assert sentence in shop("privacy", *arguments, status=status).err


@pytest.mark.long
def test_r60_of_an_erased_payload_the_reason_is_left(tmp_path: Path) -> None:
    world = World()
    world.order(DELIVERED, created=STARTED - timedelta(days=150), poison="quantity_a_word")
    with open_shop(tmp_path / "shop", world) as shop:
        shop.configure("UK", days=160)
        shop("sync", "--wait", **LATE)
        assert "quantityOrdered" in shop("quarantine", "show", DELIVERED).out
        assert "1 payload in quarantine" in shop("privacy", "purge").err
        refused = shop("quarantine", "show", DELIVERED, status=1).err
        assert "has been erased (orderItems[0].quantityOrdered is not a whole number)" in refused
        stays = shop("quarantine", "retry", DELIVERED, status=1).out
        assert "stays: what Amazon sent has been erased" in stays
        shop("quarantine", "retry", DELIVERED, "--refetch", status=1)
        assert "has been erased" in shop("quarantine", "show", DELIVERED, status=1).err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "goes_on"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False)]
)
def test_a_terminal_is_asked_before_anybody_is_forgotten(
    typed: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", asked)
    with nullcontext() if goes_on else pytest.raises(Failure, match="nothing was changed"):
        confirm("Erase it?", yes=False)
    assert asked.getvalue() == "Erase it? [y/N] "
    confirm("Erase it?", yes=True)
    assert asked.getvalue() == "Erase it? [y/N] "


@pytest.mark.long
@pytest.mark.parametrize("days", [60, -60])
def test_r60_nothing_is_erased_while_the_clocks_differ(days: int, tmp_path: Path) -> None:
    """A wrong clock at one start once erased orders of an hour ago, and R63 refused them for ever."""
    clock = SimulatedClock(NOON)
    world = World(Seller(marketplaces=("UK",)))
    for n in range(5):
        world.order(f"{n}", created=NOON + timedelta(minutes=n), marketplace="UK", status="SHIPPED")
    simulator = Simulator(world, now=clock)
    shop = SimulatedShop(
        f"sqlite:///{tmp_path / 'x.db'}", simulator, clock, [rules_for("UK")], retention=MONTH
    )
    with closing(shop):
        shop.run_until(NOON + timedelta(hours=1))

        def purged() -> Purged:
            return Purge(shop.store, MONTH, connectors=[shop.connector]).run()

        right = clock.time
        clock.time = right + timedelta(days=days)
        simulator._skew = -timedelta(days=days)  # the host's clock jumps, Amazon's does not
        done = purged()
        which = "ahead of" if days > 0 else "behind"
        assert done.put_off == (
            f"the database's clock is 60 days {which} Amazon's: nothing is erased before they agree"
        )
        assert (done.orders, done.finished) == (0, False)
        clock.time, simulator._skew = right, timedelta(minutes=1)
        assert purged().put_off is None
        shop.go_through(httpx.MockTransport(lambda _: httpx.Response(503)))
        assert purged().put_off == "Amazon does not say what time it is: nothing is erased before it does"
        refused = {"error": "invalid_grant"}
        headers = {"Date": format_datetime(clock.time, usegmt=True)}
        shop.go_through(httpx.MockTransport(lambda _: httpx.Response(400, json=refused, headers=headers)))
        clock.time += timedelta(days=200)
        assert purged().put_off is not None
        headers["Date"] = format_datetime(clock.time, usegmt=True)
        assert purged().orders == 5, "a refusal says what time it is, too"


@pytest.mark.long
def test_a_service_erases_by_itself(shop: Shop) -> None:
    with shop.start("run") as process:
        try:
            assert process.stderr is not None
            entries = (json.loads(line) for line in process.stderr)
            event = next(entry for entry in entries if entry["event"] == "erased buyer data")
            assert (event["orders"], event["records"]) == (1, 1)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()
    assert shown(shop, DELIVERED)["buyer_name"] is None


# --- the monitor of identity ----------------------------------------------------------------------


@pytest.mark.long
def test_a_withdrawn_e_mail_is_reported_by_status_and_by_the_log(shop: Shop) -> None:
    store = Store(
        create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"]),
        keys_of(shop.environ["ORDER_SYNC_ENCRYPTION_KEY"]),
    )
    with store.begin() as tx:
        for days in range(1, 15):
            count_buyers(tx, "acme:EU", (STARTED - timedelta(days=days)).date(), 20, 19, 20)
    assert "orders that may show their buyer" not in shop("status").out
    with store.begin() as tx:
        count_buyers(tx, "acme:EU", STARTED.date(), 20, 1, 20)
    store.close()
    sentence = f"acme:EU: on {STARTED:%Y-%m-%d} only "
    (line,) = [line for line in shop("status").lines if sentence in line]
    assert "came with an e-mail, after 95% in the 14 days before" in line
    (source,) = shop("status", "--json").json()["sources"]
    assert source["identity"][0]["day"] == f"{STARTED:%Y-%m-%d}"
    assert (source["identity"][1]["email_share"], source["identity"][1]["name_share"]) == (0.95, 1.0)
    assert [drop["field"] for drop in source["identity_drops"]] == ["email"]
    with shop.start("run") as process:
        try:
            assert process.stderr is not None
            entries = (json.loads(line) for line in process.stderr)
            warned = next(entry for entry in entries if entry["event"] == "buyers are not shown")
            assert warned["problem"].startswith(sentence)
            assert warned["level"] == "warning"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_keys_are_rotated_by_command_and_the_old_one_may_go(shop: Shop) -> None:
    old, new = shop.environ["ORDER_SYNC_ENCRYPTION_KEY"], new_key()
    assert "0 values resealed; 0 values of old keys left" in shop("keys", "rotate").err
    assert "values need key 2" in shop("config", "check", ORDER_SYNC_ENCRYPTION_KEY=f"{new},{old}").out
    assert shop("status", status=2, ORDER_SYNC_ENCRYPTION_KEY=new).err.startswith(
        "error: this database was sealed with another"
    )
    done = shop("keys", "rotate", ORDER_SYNC_ENCRYPTION_KEY=f"{new},{old}")
    assert "0 values of old keys left" in done.err
    assert "nothing needs key 2" in done.err
    assert "nothing needs key 2" in shop("config", "check", ORDER_SYNC_ENCRYPTION_KEY=f"{new},{old}").out
    alone = shop("orders", "show", RECENT, "--json", ORDER_SYNC_ENCRYPTION_KEY=new).json()
    assert alone["buyer_name"] == "Bea Buyer"


def keys_of(*keys: str) -> Sealer:
    return Sealer(values.keys(",".join(keys)))


@pytest.mark.long
@long_on("postgresql")
def test_a_rotation_that_is_killed_goes_on_with_the_next_call(tmp_path: Path, database_url: str) -> None:
    old, new = new_key(), new_key()
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    first = Store(engine, keys_of(old), clock=SimulatedClock())
    emails = [f"buyer{i}@marketplace.amazon.co.uk" for i in range(1200)]
    for start in range(0, 1200, 200):
        apply(first, *[an_order(f"o{i}", emails[i]) for i in range(start, start + 200)])
    both = Store(create_engine(database_url), keys_of(new, old), clock=SimulatedClock())
    later = Store(create_engine(database_url), keys_of(old, new), clock=SimulatedClock())

    def left() -> int:
        with both.read() as tx:
            return rotation.count_old(tx).total()

    def all_is_read(store: Store) -> int:
        with store.read() as tx:
            found = list(queries.changed_orders(tx, 0, tx.readable_change_no()))
        assert all(o.buyer is not None for o in found)
        return len(found)

    world = World()
    with open_shop(tmp_path / "shop", world) as shop, closing(first), closing(both), closing(later):
        keys = f"{new},{old}"
        environ: dict[str, Any] = {
            "ORDER_SYNC_DATABASE_URL": database_url,
            "ORDER_SYNC_ENCRYPTION_KEY": keys,
        }
        whole = left()
        for kills, tenths in enumerate((1, 3), start=1):
            with shop.start("keys", "rotate", **environ) as process:
                assert process.stderr is not None
                for _ in range(tenths):
                    assert "sealing values with the first key" in process.stderr.readline()
                process.kill()
                process.communicate()
            assert process.returncode == -signal.SIGKILL
            assert 0 < left() < whole
            whole = left()
            assert all_is_read(both) == all_is_read(later) == 1200 + kills - 1
            apply(both, an_order(f"next{kills}", emails[-kills], updated=5))
        done = shop("keys", "rotate", **environ)
        assert "0 values of old keys left" in done.err
    alone = Store(create_engine(database_url), keys_of(new), clock=SimulatedClock())
    with closing(alone):
        assert all_is_read(alone) == 1202
        apply(alone, an_order("last", emails[7], updated=6))
        with alone.read() as tx:
            (matched,) = queries.find_orders(tx, "last")
            people = tx.conn.execute(sa.select(sa.func.count()).select_from(tables.customers)).scalar_one()
            with pytest.raises(SealError):
                keys_of(old).open(
                    tx.conn.execute(sa.select(tables.orders.c.buyer).limit(1)).scalar_one(), "orders:1:buyer"
                )
        assert (matched.match_basis, people) == ("email_1", 1200)
