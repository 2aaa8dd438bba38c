"""The decisions of days and months, on a list that changes: busy shops, outages, marketplaces that fail."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from poller.sync.decide import Pace
from tests.unit.core_world import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    AmazonList,
    Behind,
    Change,
    Miniature,
    busy_shop,
    worst_of,
)
from tests.unit.sync_values import backfill

OLD = backfill(lower=NOON - 91 * DAY, upper=NOON - DAY, position=NOON - DAY)


def go(shop: Miniature, end: datetime) -> Miniature:
    for _ in shop.run_until(end):
        pass
    return shop


def quiet(*ids: str) -> Miniature:
    return Miniature.of(AmazonList([]), *ids)


def live_pauses(shop: Miniature, since: datetime) -> list[float]:
    times = [t for t, w in shop.fetched if w.kind == "live" and t >= since]
    return [(b - a).total_seconds() for a, b in pairwise(times)]


# --- busy shops -------------------------------------------------------------------------------------


CALM = Behind(timedelta(minutes=8), timedelta(minutes=20), timedelta(hours=26))
PEAK = Behind(timedelta(minutes=15), timedelta(minutes=30), timedelta(hours=36))


@pytest.mark.parametrize(
    ("per_day", "nights", "limit"),
    [(4_000, True, CALM), (8_000, True, PEAK)],
)
def test_a_busy_shop_is_followed_within_what_the_plan_carries(
    per_day: int, nights: bool, limit: Behind
) -> None:
    days = 2.0
    changes = busy_shop(per_day, days, nights=nights, seed=per_day)
    shop = Miniature.of(AmazonList(changes, per_day), "A")
    worst = worst_of(shop, NOON + days * DAY)
    assert worst.live <= limit.live
    assert worst.covered <= limit.covered
    assert worst.second_look <= limit.second_look
    go(shop, NOON + (days + 2) * DAY)
    assert list(shop.faults()) == []


@pytest.mark.long
def test_a_shop_beyond_its_plan_loses_nothing_and_catches_up_when_it_is_quiet() -> None:
    changes = busy_shop(16_000, 1, nights=False, seed=16)
    shop = go(Miniature.of(AmazonList(changes, 16), "A"), NOON + DAY)
    go(shop, NOON + 7 * DAY)
    assert list(shop.faults()) == []


def test_150_changes_take_at_most_four_searches() -> None:
    changes = [Change(NOON.timestamp() + n, n, NOON.timestamp() + n) for n in range(150)]
    shop = Miniature.of(AmazonList(changes), "A", now=NOON)
    shop.now = NOON + HOUR
    go(shop, NOON + HOUR + MINUTE)
    assert len(shop.fetched) <= 4
    assert len(shop.stored) == 150
    assert shop.windows == {}


def test_an_idle_look_is_one_request() -> None:
    shop = go(quiet("A", "B"), NOON + DAY)
    assert len(shop.fetched) == len(live_pauses(shop, NOON)) + 1
    assert all(w.marketplace_ids == ("A", "B") for _, w in shop.fetched)


# --- pace and shares --------------------------------------------------------------------------------


@pytest.mark.long
def test_a_quiet_shop_is_polled_every_three_minutes_also_beside_its_second_looks() -> None:
    shop = go(quiet("A", "B"), NOON + 5 * DAY)
    pauses = live_pauses(shop, NOON + 2 * HOUR)
    assert sum(pauses) / len(pauses) < 190
    assert max(pauses) < 370
    assert list(shop.faults()) == []


def test_beside_a_backfill_a_shop_is_polled_at_least_every_ten_minutes() -> None:
    shop = quiet("A", "B")
    shop.backfills = {1: replace(OLD, lower=NOON - 9_000 * DAY)}
    go(shop, NOON + 2 * DAY)
    assert max(live_pauses(shop, NOON + 2 * HOUR)) <= 780
    assert len(shop.fetched) > 0.95 * (20 + 2 * 86400 * 0.0056)


def test_a_month_that_was_missed_does_not_slow_others_below_ten_minutes() -> None:
    shop = quiet("A", "B")
    shop.marketplaces = {**shop.marketplaces, "B": replace(shop.marketplaces["B"], position=NOON - 30 * DAY)}
    go(shop, NOON + 12 * HOUR)
    fresh = [t for t, w in shop.fetched if "A" in w.marketplace_ids and w.kind == "live"]
    assert max(b - a for a, b in pairwise(fresh)) <= timedelta(minutes=13)
    assert shop.marketplaces["B"].position > NOON


# --- months of trouble ------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happened_in_the_end_everything_has_been_seen(seed: int) -> None:
    chance = random.Random(seed)
    shop = Miniature.of(AmazonList(busy_shop(400, 8, nights=True, seed=seed), seed), "A", "B", "C")
    shop.chance, shop.pace, shop.backfills = chance, Pace(900, 1800), {1: OLD}
    for _ in range(8):
        shop.trouble = chance.choice([0, 0.1, 0.5, 0.9])
        shop.is_down = chance.random() < 0.2
        shop.refusing = frozenset(m for m in shop.marketplaces if chance.random() < 0.15)
        shop.enabled = frozenset(m for m in shop.marketplaces if chance.random() < 0.8) or frozenset({"A"})
        shop.marketplaces = {
            m: replace(p, enrolled=chance.choice([None, True, True, False]))
            for m, p in shop.marketplaces.items()
        }
        go(shop, shop.now + timedelta(hours=chance.choice([1, 9, 30, 90])))
    shop.trouble, shop.is_down, shop.refusing, shop.enabled = 0.0, False, frozenset(), None
    shop.marketplaces = {m: replace(p, enrolled=True) for m, p in shop.marketplaces.items()}
    go(shop, shop.now + 9 * DAY)
    assert list(shop.faults()) == []


@pytest.mark.long
def test_an_outage_of_a_week_is_noticed_to_be_over_within_an_hour() -> None:
    shop = go(quiet("A", "B", "C"), NOON + HOUR)
    shop.is_down = True
    go(shop, NOON + 7 * DAY)
    shop.is_down = False
    go(shop, NOON + 7 * DAY + 65 * MINUTE)
    assert any(w.kind == "live" for t, w in shop.fetched if t > NOON + 7 * DAY)
    go(shop, NOON + 10 * DAY)
    assert list(shop.faults()) == []


@pytest.mark.long
def test_a_marketplace_that_is_refused_for_weeks_costs_the_others_little_and_fills_no_ledger() -> None:
    shop = quiet("A", "B", "C")
    shop.pace = Pace(900, 900)
    go(shop, NOON + HOUR)
    shop.refusing = frozenset({"B"})
    go(shop, NOON + 20 * DAY)
    assert len(shop.windows) < 60
    later = [w for t, w in shop.fetched if t > NOON + 2 * DAY]
    assert sum("B" in w.marketplace_ids for w in later) < 100 * 20
    assert shop.marketplaces["A"].position > NOON + 20 * DAY - HOUR
    shop.refusing = frozenset()
    go(shop, NOON + 30 * DAY)
    assert list(shop.faults()) == []
