"""``order-sync status``, what a person opens first: calm if all is well, else the problem first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from config import values
from connectors.base import UsagePlan
from connectors.simulator.faults import SEARCH, Faults
from connectors.simulator.world import Seller, World
from poller.ingest.refetch import REFETCHES
from store import quarantine, tables, verifications
from store.engine import Store, create_engine
from store.sealing import Sealer
from store.verification_records import Verification
from tests.acceptance.command_line import GENEROUS, STARTED, Shop, open_shop

YESTERDAY = STARTED - timedelta(days=1)
GOOD = "111-0000000-0000001"
BAD = "111-0000000-0000002"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with one good order, which has been synced."""
    world = World(Seller("acme", ("UK", "DE")))
    world.order(GOOD, created=YESTERDAY)
    with open_shop(tmp_path / "shop", world) as shop:
        shop("sync")
        yield shop


def opened(shop: Shop) -> Store:
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    return Store(engine, Sealer(values.keys(shop.environ["ORDER_SYNC_ENCRYPTION_KEY"])))


@pytest.mark.long
def test_when_all_is_well_it_says_so_first_and_nothing_is_alarming(shop: Shop) -> None:
    lines = shop("status").lines
    assert re.fullmatch(r"All is well: everything is complete up to \d+ (min|s) ago\.", lines[0])
    assert lines[1] == ""
    assert not any("quarantine" in line or "Needs attention" in line for line in lines)
    assert shop("status", "--json").json()["attention"] == []


@pytest.mark.long
def test_while_history_is_being_read_that_is_said(tmp_path: Path) -> None:
    world = World(Seller("acme", ("UK",)))
    world.order(GOOD, created=YESTERDAY)
    with open_shop(tmp_path / "shop", world, plans={**GENEROUS, SEARCH: UsagePlan(0.01, 2)}) as shop:
        shop("sync", status=75)
        assert shop("status").lines[0].endswith(" ago; history is still being read.")


@pytest.mark.long
def test_before_the_first_page_nothing_is_claimed(tmp_path: Path) -> None:
    world = World(Seller("acme", ("UK",)))
    with open_shop(tmp_path / "shop", world) as shop:
        shop.simulator.faults = Faults.only("forbidden", operations=[SEARCH])
        shop("sync", status=1)
        lines = shop("status").lines
        assert lines[0] == "Needs attention:"
        assert re.match(
            r"  - acme:EU: failing since .* \(.*status 403.*\): Amazon refuses access: ", lines[1]
        )
        source = shop("status", "--json").json()["sources"][0]
        assert source["covered_until"] is None
        assert "status 403" in source["last_error"]
        assert (source["last_error_kind"], source["last_error_status"]) == ("access_refused", 403)
        assert "acme:EU: the first read is not complete yet" in lines
        store = opened(shop)
        with store.begin() as tx:  # as an older version stored it
            tx.conn.execute(sa.update(tables.sources).values(last_error_kind=None, last_error_status=None))
        store.close()
        assert shop("status").lines[1].endswith("): the next run retries it.")
    with open_shop(tmp_path / "other", World(Seller("acme", ("UK",)))) as shop:
        shop("db", "upgrade")
        assert shop("status").lines[0] == "Nothing needs attention. The first read is not complete yet."


@pytest.mark.long
def test_a_service_that_is_not_running_is_noticed(shop: Shop) -> None:
    store = opened(shop)
    with store.begin() as tx:
        for at in (tables.runs.c.started_at, tables.runs.c.finished_at, tables.sources.c.polled_at):
            tx.conn.execute(sa.update(at.table).values({at.name: tx.now - timedelta(days=3)}))
    store.close()
    lines = shop("status").lines
    assert lines[0] == "Needs attention:"
    assert re.search(r"No request to Amazon since .* \(3 days\)\. Is the service running\?", lines[1])
    shop("sync")
    assert shop("status").lines[0].startswith("All is well")


@pytest.mark.long
def test_a_refused_authorisation_shows_its_age_and_the_remedy(shop: Shop) -> None:
    shop.world.revoke("Atzr|simulated-refresh-token")
    store = opened(shop)
    with store.begin() as tx:
        tx.conn.execute(sa.update(tables.sources).values(polled_at=tx.now - timedelta(hours=1)))
    shop("sync", status=1)
    with store.begin() as tx:
        tx.conn.execute(sa.update(tables.refusals).values(since=tx.now - timedelta(hours=5, minutes=1)))
    store.close()
    first = shop("status").lines[1]
    assert re.search(r"refuses the account since .* \(5 h\): authorise the application again", first)


@pytest.mark.long
def test_quarantine_is_counted_and_says_when_it_needs_a_person(shop: Shop) -> None:
    shop.world.order(BAD, created=YESTERDAY, poison="quantity_a_word")
    shop("orders", "fetch", BAD, "--account", "acme", status=1)
    found = shop("status", "--json").json()
    assert (found["quarantine"]["orders"], found["quarantine"]["waiting"]) == (1, 0)
    assert "refetched automatically, next after " in shop("status").lines[1]
    (entry,) = shop("quarantine", "list", "--json").json()
    assert entry["next_attempt_at"] is not None

    store = opened(shop)
    with store.begin() as tx:
        (kept,) = quarantine.entries(tx)
        assert quarantine.schedule(tx, kept, None, refetches=REFETCHES)
    store.close()
    lines = shop("status").lines
    assert lines[1].startswith("  - 1 order in quarantine, refetching has not helped: ")
    assert any(re.search(r"quarantine +1  .*; 1 needs a person", line) for line in lines)
    assert shop("status", "--json").json()["quarantine"]["waiting"] == 1
    assert shop("quarantine", "list", "--json").json()[0]["next_attempt_at"] is None
    assert "needs a person" in shop("quarantine", "list").out
    assert "needs a person" in shop("quarantine", "show", BAD).err


@pytest.mark.long
def test_what_has_no_id_was_never_requested_and_is_not_said_to_have_been(shop: Shop) -> None:
    shop.world.order(BAD, created=YESTERDAY, poison="order_id_missing")
    shop("orders", "fetch", BAD, "--account", "acme", status=1)
    lines = shop("status").lines
    assert lines[1].startswith(
        "  - 1 order could not be read and has no usable id, so it can't be requested again: "
    )
    assert "has not helped" not in "".join(lines)
    quarantined = shop("status", "--json").json()["quarantine"]
    assert (quarantined["waiting"], quarantined["without_id"]) == (1, 1)
    (entry,) = shop("quarantine", "list", "--json").json()
    assert "never: its id is not known" in shop("quarantine", "list").out
    assert "so it can't be requested again" in shop("quarantine", "show", entry["order_id"]).err


@pytest.mark.long
def test_orders_of_a_marketplace_that_has_no_file_need_attention(shop: Shop) -> None:
    shop.configure("DE")
    shop.world.order(BAD, created=YESTERDAY, marketplace="DE")
    shop("sync")
    file = shop.folder / "marketplaces" / "de.toml"
    file.unlink()
    store = opened(shop)
    with store.begin() as tx:
        never = {"marketplace": None, "customer_id": None, "match_basis": None, "match_rules": "R26"}
        tx.conn.execute(sa.update(tables.orders).where(tables.orders.c.order_id == BAD).values(never))
    store.close()
    lines = shop("status").lines
    assert lines[1] == "  - 1 order of DE, which has no file for account acme: no customer until it has one."

    shop.configure("DE", pending='"never"')
    lines = shop("status").lines
    assert lines[1].startswith("  - marketplaces/de.toml: pending is ")
    assert lines[2] == (
        "  - 1 order of DE, whose file for account acme cannot be used: no customer until it can."
    )

    shop.configure("DE")
    assert "of DE, " not in shop("status").out, "the next pass gives it its customer"
    file.unlink()
    others = {name: text for name, text in shop.environ.items() if "ACME" not in name}
    shop.configure("UK", account="beta")
    renamed = {name.replace("ACME", "BETA"): text for name, text in shop.environ.items() if "ACME" in name}
    shop.environ = {**others, **renamed}
    assert "which has no file" not in shop("status").out, "an account that was taken out needs no file"


@pytest.mark.long
def test_orders_of_shops_that_are_not_amazons_ask_nothing_of_anybody(shop: Shop) -> None:
    shop.world.order(BAD, created=YESTERDAY, marketplace_id="AZMDEXL2RVFNN")
    shop("orders", "fetch", BAD, "--account", "acme")
    lines = shop("status").lines
    assert lines[0].startswith("All is well")
    assert any(re.fullmatch(r"  other shops +1  not Amazon's marketplaces.*", line) for line in lines)


@pytest.mark.long
def test_a_weekly_verification_that_cannot_be_made_says_why(shop: Shop) -> None:
    store = opened(shop)
    m = tables.marketplaces.c
    with store.begin() as tx:
        long_ago = tx.now - timedelta(days=8)
        tx.conn.execute(sa.update(tables.marketplaces).values(live_from=long_ago))
    assert "verification is late" not in shop("status").out, "it is due since yesterday"
    with store.begin() as tx:
        values = {m.live_from: long_ago - timedelta(days=2), m.alone_since: tx.now, m.trouble: "status 500"}
        tx.conn.execute(sa.update(tables.marketplaces).values(values))
    late = "acme:UK: the weekly verification is late:"
    assert f"{late} the marketplace is failing." in shop("status").out

    with store.begin() as tx:
        tx.conn.execute(sa.update(tables.marketplaces).values(alone_since=None))
        marketplace_id = tx.conn.execute(sa.select(m.marketplace_id)).scalar_one()
        job = Verification(
            "acme", marketplace_id, long_ago, tx.now, tx.now, "report", "scheduled", True, long_ago
        )
        verifications.save(tx, replace(verifications.begin(tx, job), message="createReport: status 403"))
    assert "verification is late" not in shop("status").out, "it has just begun"
    with store.begin() as tx:
        began = tx.now - timedelta(days=2, hours=1)
        tx.conn.execute(sa.update(tables.verifications).values(created_at=began))
    store.close()
    assert f"{late} createReport: status 403." in shop("status").out
    (found,) = shop("status", "--json").json()["sources"][0]["marketplaces"]
    assert found["verification_waits"] == "createReport: status 403"
