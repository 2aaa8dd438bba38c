"""Merge, unmerge, edit, import and two syncs at once, at random, on both real databases (R16, R54, R55)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.at_once import ACTORS, live, wrongs
from tests.integration.store_world import fresh_store


def lived(url: str, folder: Path, seed: int, turns: int) -> None:
    with fresh_store(url) as store:
        _ = store.lookup
        done = live(url, folder, seed, turns)
        assert wrongs(store) == []
    for name in ACTORS:
        assert done[name], f"{name} never came through: {done}"


@pytest.mark.parametrize("seed", [1, 2])
def test_r54_r55_whatever_happens_at_once_every_order_has_one_living_customer(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    lived(database_url, tmp_path, seed, turns=30)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 130))
def test_r54_r55_also_for_long(database_url: str, tmp_path: Path, seed: int) -> None:
    lived(database_url, tmp_path, seed, turns=150)
