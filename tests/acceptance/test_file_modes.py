"""Files that the product makes are its user's alone, and exposed secrets are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from connectors.simulator.world import Seller, World
from tests.acceptance.command_line import STARTED, Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK",)))
    world.order("111-0000000-0000001", created=STARTED)
    before = os.umask(0o022)
    try:
        with open_shop(tmp_path / "shop", world) as shop:
            yield shop
    finally:
        os.umask(before)


def modes(shop: Shop) -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in shop.folder.glob("*.db*")}


def test_a_database_is_made_for_its_user_alone(shop: Shop) -> None:
    shop("sync")
    assert modes(shop)
    assert set(modes(shop).values()) == {"600"}


def test_a_database_that_every_user_may_read_is_made_private_once_and_one_that_a_group_shares_stays(
    shop: Shop,
) -> None:
    shop("sync")
    (file,) = shop.folder.glob("*.db")
    file.chmod(0o644)
    assert "database file made private" in shop("sync").err
    assert modes(shop) == {file.name: "600"}
    file.chmod(0o660)
    assert "made private" not in shop("sync").err
    assert modes(shop) == {file.name: "660"}


def test_config_check_names_a_secret_that_every_user_may_write(shop: Shop) -> None:
    given = shop.environ.pop("ORDER_SYNC_ENCRYPTION_KEY")
    with TemporaryDirectory(prefix="order-sync-test-") as name:
        Path(name).chmod(0o755)
        key = Path(name) / "key"
        key.write_text(given)
        key.chmod(0o666)
        named: dict[str, Any] = {"ORDER_SYNC_ENCRYPTION_KEY_FILE": str(key)}
        said = f"ORDER_SYNC_ENCRYPTION_KEY_FILE: {key} may be written by every user of this machine"
        printed = shop("config", "check", status=1, **named).lines
        assert f"error: {said}: run chmod 600 on it" in printed
        assert said in shop("sync", status=2, **named).err
        key.chmod(0o640)
        shop("config", "check", **named)
