"""A process that syncs may be killed at any time: the next process finishes the work, and all is right.

The clock stands still within a life, and goes on by more than a claim lasts between two.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from connectors.simulator.world import World
from store.tables import orders
from tests.acceptance.stage import Copies, Stage, copies_of, staged
from tests.acceptance.victim import AFTER_COMMIT, AT_COMMIT, COUNT, Victims, victims
from tests.databases import long_on
from tests.harness import NOON, SimulatedClock


@pytest.fixture(scope="module")
def helper() -> Iterator[Victims]:
    with victims() as started:
        yield started


@pytest.fixture
def copies(database_url: str) -> Iterator[Copies]:
    with copies_of(database_url) as made:
        yield made


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_process_killed_at_a_random_time_costs_at_most_one_page(copies: Copies, helper: Victims) -> None:
    kills = 200 if copies.on_sqlite else 40
    # So old that not even a telephone number is withheld any more while it is read.
    start, end = NOON - timedelta(days=32), NOON - timedelta(days=12)
    world = World.generate(seed=11, marketplaces=("UK", "DE"), orders=800, start=start, end=end)
    rng = random.Random(4)
    # Parts of a whole life: some die young, some old. Connecting to a server takes a life longer.
    patiences = itertools.cycle((0.1, 0.3, 0.6) if copies.on_sqlite else (0.3, 0.6, 0.9))
    done, cut = 0, Counter[str]()
    with staged(helper, world, start) as stage:
        undisturbed = stage(copies.new(), clock=SimulatedClock())
        length = undisturbed.complete().seconds
        assert undisturbed.wrongs() == []
        assert undisturbed.repeated() == 0
        needed = len(undisturbed.answered("created"))
        assert needed > 10
        while done < kills:
            disturbed, killed, ended = stage(copies.new(), clock=SimulatedClock()), 0, False
            while not ended and done + killed < kills:
                answered, stored = len(disturbed.answered()), disturbed.stored_pages()
                patience = length * next(patiences)
                (ending,) = disturbed.live(disturbed.life(killed_after=rng.uniform(0, patience)))
                ended = not ending.killed
                if ending.killed:
                    killed += 1
                    answered = len(disturbed.answered()) - answered
                    stored = disturbed.stored_pages() - stored
                    assert 0 <= answered - stored <= 1
                    cut["before a page"] += not answered
                    cut["within a page"] += answered > stored
                    cut["after a page"] += stored > 0
            done += killed
            disturbed.complete()
            assert disturbed.repeated() <= killed
            assert len(disturbed.answered("created")) <= needed + killed
            assert disturbed.wrongs() == []
    assert len(cut) == 3
    assert min(cut.values()) > 0, f"too few moments: {cut}"


def kill_at_boundaries(stage: Stage, boundaries: int, *, more: bool, every: int) -> None:
    """One life ends at the first boundary of a page's transaction, the next at a later one, and so on.

    Nothing of the page is to be seen before its COMMIT, and all of it after.
    """
    before = None
    # Each life is two minutes later, and may have other things to do after the page than the one before.
    chosen = [*range(1, boundaries - 4, every), AT_COMMIT, AFTER_COMMIT]
    for boundary in chosen:
        (ending,) = stage.live(stage.life(more=more, boundary=boundary))
        assert ending.killed
        before = before or stage.stored()
        assert (stage.stored() == before) == (boundary != AFTER_COMMIT), f"{boundary} of {boundaries}"
    assert stage.repeated() == len(chosen) - 1
    stage.complete()
    assert stage.repeated() == len(chosen) - 1
    assert stage.wrongs() == []


@pytest.mark.long
@long_on("postgresql")
@pytest.mark.parametrize(
    "more", [True, pytest.param(False, marks=pytest.mark.long)], ids=["with more to come", "the last one"]
)
def test_a_page_of_new_orders_is_stored_whole_or_not_at_all(
    copies: Copies, helper: Victims, more: bool
) -> None:
    start, end = NOON - timedelta(days=21), NOON - timedelta(days=12)
    world = World.generate(seed=12, marketplaces=("UK",), orders=150, start=start, end=end)
    with staged(helper, world, start) as stage:
        counted = stage(copies.new(), clock=SimulatedClock())
        (undisturbed,) = counted.live(counted.life(more=more, boundary=COUNT))
        assert undisturbed.boundaries > 15
        killed = stage(copies.new(), clock=SimulatedClock())
        every = 1 if copies.on_sqlite else 3
        kill_at_boundaries(killed, undisturbed.boundaries, more=more, every=every)


def promoted(stage: Stage) -> int:
    return len(stage.query(sa.select(orders.c.order_id).where(orders.c.match_basis == "promoted")))


@pytest.mark.long
def test_a_page_of_updates_and_promotions_is_stored_whole_or_not_at_all(
    copies: Copies, helper: Victims
) -> None:
    start, later = NOON - timedelta(hours=4), NOON + timedelta(hours=2)
    world = World.generate(
        seed=13, marketplaces=("UK",), orders=90, start=start, end=later, late=0.0, withheld=0.4
    )
    with staged(helper, world, start) as stage:
        changing = stage(copies.new(), clock=(clock := SimulatedClock()))
        changing.complete()
        changed = later + timedelta(minutes=3)
        clock.go_to(changed)
        counted = stage(copies.of(changing.database_url), clock=SimulatedClock(changed))
        (undisturbed,) = counted.live(counted.life(boundary=COUNT))
        assert undisturbed.boundaries > 20
        before = promoted(changing)
        every = 1 if copies.on_sqlite else 5
        kill_at_boundaries(changing, undisturbed.boundaries, more=False, every=every)
        assert promoted(changing) >= before + 2
