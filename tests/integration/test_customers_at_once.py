"""Merge, unmerge, edit, import, purge, forget and two syncs at once, at random, on both real databases."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path

import pytest

from store.tables import metadata
from tests.databases import long_on
from tests.integration.at_once import ACTORS, in_processes, in_threads, live, wrongs
from tests.integration.retention_world import day
from tests.integration.store_world import open_store


def lived(pool: Executor, url: str, folder: Path, seed: int, turns: int) -> tuple[list[str], Counter[str]]:
    """What is wrong after a life on an empty database, and what was done in it."""
    with closing(open_store(url, now=day(40))) as store:
        metadata.drop_all(store.engine)
        metadata.create_all(store.engine)
        _ = store.lookup
        with pool:
            life = live(pool, url, folder, seed, turns)
        return wrongs(store, life.forgotten), life.done


def idle(done: Counter[str]) -> list[str]:
    """Who never came through: such lives prove nothing."""
    return [n for n in (*ACTORS, "erased order", "erased record", "forgotten order") if not done[n]]


@pytest.mark.long
@long_on("sqlite")
def test_r1_r16_r53_r54_r55_r60_r63_whatever_happens_at_once(database_url: str, tmp_path: Path) -> None:
    """Every order has one living customer, no e-mail is on two, nothing forgotten comes back."""
    total = Counter[str]()
    for seed in (1, 2):
        found, done = lived(in_threads(), database_url, tmp_path, seed, turns=20)
        assert found == [], f"seed {seed}"
        total.update(done)
    assert idle(total) == [], total


@pytest.mark.long
@long_on("sqlite")
def test_r1_r16_r53_r54_r55_r60_r63_whatever_happens_in_processes(database_url: str, tmp_path: Path) -> None:
    found, done = lived(in_processes(), database_url, tmp_path, 3, turns=20)
    assert found == []
    assert not {*idle(done)} - {"unmerge", "erased record"}, done


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("first", range(100, 500, 20))
def test_r1_r16_r53_r54_r55_r60_r63_also_for_many_seeds(
    database_url: str, tmp_path: Path, first: int
) -> None:
    """In blocks that run side by side, every fifth seed in processes; names every seed that failed."""
    failing: dict[int, list[str]] = {}
    total = Counter[str]()
    for seed in range(first, first + 20):
        pool = in_threads() if seed % 5 else in_processes()
        found, done = lived(pool, database_url, tmp_path, seed, turns=20 + seed % 60)
        total.update(done)
        if found:
            failing[seed] = found
    assert failing == {}
    assert idle(total) == [], total
