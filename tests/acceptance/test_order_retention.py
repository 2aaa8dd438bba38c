"""Erased orders are neither missing nor fetched back, whichever command looks for them (R64)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.simulator.world import Seller, World
from poller.matching.retention import months_before
from tests.acceptance.command_line import STARTED, Shop, open_shop

OLD, NEW = "111-0000000-0000001", "111-0000000-0000002"
MONTHS: dict[str, Any] = {"ORDER_SYNC_ORDER_RETENTION_MONTHS": "12"}
RANGE = (
    *("--marketplace", "UK"),
    *("--from", f"{STARTED - timedelta(days=420):%Y-%m-%d}"),
    *("--to", f"{STARTED - timedelta(days=50):%Y-%m-%d}"),
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with an order of fourteen months ago and one of three months ago."""
    world = World(Seller("acme", ("UK",)))
    for order_id, days in ((OLD, 410), (NEW, 90)):
        world.order(order_id, created=STARTED - timedelta(days=days), name="Quentin Invented")
    with open_shop(tmp_path / "shop", world) as shop:
        shop.configure("UK", days=500)
        yield shop


def orders(shop: Shop) -> list[str]:
    return sorted(order["order_id"] for order in shop("orders", "list", "--json").json())


@pytest.mark.long
def test_an_erased_order_is_neither_missing_nor_fetched_back(shop: Shop) -> None:
    shop("sync", "--wait")
    assert orders(shop) == [OLD, NEW]
    assert "months ago" not in shop("privacy", "purge", "--dry-run").err
    shop("privacy", "purge")
    assert "1 order placed more than 12 months ago" in shop("privacy", "purge", "--dry-run", **MONTHS).err
    assert orders(shop) == [OLD, NEW]
    done = shop("privacy", "purge", **MONTHS)
    assert "deleted: 1 order without buyer data" in done.messages
    assert orders(shop) == [NEW]

    fetched = shop("orders", "fetch", OLD, "--account", "acme", status=1, **MONTHS)
    assert "placed more than 12 months ago (ORDER_SYNC_ORDER_RETENTION_MONTHS)" in fetched.err
    verified = shop("verify", *RANGE, "--by", "search", "--repair", "--wait", **MONTHS)
    assert "older than orders are kept: not stored" in verified.out
    again = shop("backfill", "start", *RANGE, "--again", "--wait", **MONTHS)
    assert "older orders are not kept (ORDER_SYNC_ORDER_RETENTION_MONTHS)" in again.err
    shop("sync", "--wait", **MONTHS)
    assert orders(shop) == [NEW]
    assert shop("status", "--json", **MONTHS).json()["attention"] == []

    early = (
        "--marketplace",
        "UK",
        "--from",
        "2024-01-01",
        "--to",
        f"{STARTED - timedelta(days=400):%Y-%m-%d}",
    )
    assert "orders are kept since" in shop("backfill", "plan", *early, status=2, **MONTHS).err


@pytest.mark.long
def test_history_of_a_new_shop_begins_where_orders_are_kept(shop: Shop) -> None:
    shop("sync", "--wait", **MONTHS)
    assert orders(shop) == [NEW]
    (backfill,) = shop("backfill", "list", "--json").json()
    assert backfill["from"][:10] == f"{months_before(STARTED, 12):%Y-%m-%d}"
    # With a longer time later, what it left out is read.
    shop("sync", "--wait")
    assert orders(shop) == [OLD, NEW]
