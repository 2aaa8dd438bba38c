"""``order-sync db copy`` as a person runs it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from connectors.simulator.world import Seller, World
from tests.acceptance.command_line import STARTED, open_shop

ORDER = "111-0000000-0000001"


@pytest.mark.long
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_moves_to_postgresql_with_its_positions(tmp_path: Path, database_url: str) -> None:
    world = World(Seller("acme", ("UK",)))
    world.order(ORDER, created=STARTED - timedelta(days=1))
    with open_shop(tmp_path / "shop", world) as shop:
        shop("sync")
        before = shop("export", "orders")
        printed = shop("db", "copy", "--to", database_url).messages
        assert any(line.startswith("copying and comparing: ") for line in printed)
        assert any(line.startswith("orders: 1 row, checksum ") for line in printed)
        assert printed[-1].endswith("set ORDER_SYNC_DATABASE_URL to it; positions of exports stay valid")

        again = shop("db", "copy", "--to", database_url, status=1).messages
        assert again[-1].startswith("error: the database to copy to is not empty (it has ")

        shop.environ["ORDER_SYNC_DATABASE_URL"] = database_url
        assert shop("db", "check").out.count("wrong") == 0
        after = shop("export", "orders")
        assert after.out == before.out
        copied = shop("audit", "list", "--json").json()
        actions = [entry["action"] for entry in copied]
        assert actions == ["exported", "database_copied", "exported"], "the refused copy came later"
        assert " at " in copied[1]["detail"], "the name of the database, without user and password"
        position = before.messages[-1]
        assert int(after.messages[-1]) >= int(position)
        assert shop("export", "orders", "--since", position).out == ""
        shop("customers", "create", "--business", "acme", "--name", "Ann")
        assert len(shop("export", "customers", "--since", position).lines) == 1
        printed = shop("db", "copy", "--to", database_url, status=2).messages
        assert printed == ["error: ORDER_SYNC_DATABASE_URL must name the SQLite database to copy."]


def test_only_postgresql_is_copied_to(tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", World(Seller("acme", ("UK",)))) as shop:
        (printed,) = shop("db", "copy", "--to", "sqlite:///other.db", status=2).messages
        assert printed == "error: --to must be a URL that starts with postgresql+psycopg://."
        (printed,) = shop("db", "copy", "--to", "postgresql+psycopg://db/x", status=1).messages
        assert printed.startswith("error: there is no database at ")
