"""Each fault alone, and all at random together, end with exactly the right orders and customers.

Right is what the naive oracle says of all that was served, and what the simulator's world holds of all that
was not (``truth``). The lives themselves are in ``chaos``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from connectors.simulator.faults import KINDS, PARTICIPATIONS, RARE, TOKEN, Faults
from connectors.simulator.world import Seller, World
from tests.acceptance.chaos import Life, a_life, a_world, chaos
from tests.harness import NOON, rules_for

MINUTE = timedelta(minutes=1)
BURST = NOON + 20 * MINUTE
CALM = NOON + 90 * MINUTE
LAST = NOON + 130 * MINUTE


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chaos.db'}"


def a_small_life(
    url: str,
    faults: Faults | None = None,
    *,
    marketplaces: tuple[str, ...] = ("UK", "DE"),
    enrolled: tuple[str, ...] | None = None,
    not_enrolled_status: int = 403,
    late: float = 0.0,
    history: int = 40,
) -> Life:
    """Two marketplaces, a short history, and a burst that is read while the budget is empty."""
    random = Random("a small life")
    world = a_world(
        random,
        5,
        Seller(marketplaces=enrolled or marketplaces),
        history=history,
        live=20,
        bursts={BURST: 210},
        last=LAST,
        late=late,
        poisoned=0.01,
    )
    rules = [rules_for(code, pending="placeholder" if code == "DE" else "hold") for code in marketplaces]
    life = a_life(5, url, rules, world, random, faults=faults, not_enrolled_status=not_enrolled_status)
    life.calm = LAST
    life.at(BURST + 3 * MINUTE, life.empty_budget)
    life.at(BURST + 40 * MINUTE, lambda: None)
    return life


def lived(life: Life) -> Life:
    """Live to the end, where all must be right."""
    try:
        assert life.live() == []
    finally:
        life.shop.close()
    return life


ALIKE = {
    **{
        f"{body}_5xx": tuple(f"{body}_{status}" for status in (500, 502, 503))
        for body in ("html", "empty", "bare_json")
    },
    "rate_absurd": ("rate_nan", "rate_infinite", "rate_negative", "rate_zero", "rate_huge"),
}
"""Kinds that differ in a number only share a life."""

TROUBLES = ALIKE | {
    kind: (kind,) for kind in sorted(KINDS.keys() - RARE) if kind not in chain(*ALIKE.values())
}
FREQUENT = {"throttled_json", "dropped"}
"""Kinds that are tried alone each time, not only with the long tests."""

ABOUT_PAGES = {
    "page_token_refused",
    "page_token_expired",
    "same_token",
    "same_page",
    "repeated_order",
    "stale_copy",
}


@pytest.mark.parametrize(
    "trouble",
    [name if name in FREQUENT else pytest.param(name, marks=pytest.mark.long) for name in TROUBLES],
)
def test_a_trouble_alone_loses_doubles_and_skips_nothing(trouble: str, sqlite_url: str) -> None:
    """Throttled, failing, garbled, dropped, slow, refused, repeating, stale, lying about the rate."""
    kinds = TROUBLES[trouble]
    share = 0.6 if trouble in ABOUT_PAGES else 0.4 if trouble == "rate_absurd" else 0.4 / len(kinds)
    # Only history is walked page by page, so for faults about pages there is more of it.
    history = 900 if trouble in ABOUT_PAGES else 40
    faults = Faults.only(*kinds, probability=share, until=CALM, seed=3)
    life = lived(a_small_life(sqlite_url, faults, history=history))
    assert all(life.line.struck[kind] >= 2 for kind in kinds)


@pytest.mark.long
def test_a_single_403_is_cured_by_a_fresh_access_token(sqlite_url: str) -> None:
    life = lived(a_small_life(sqlite_url, Faults.only("forbidden", calls={3}, operations={"searchOrders"})))
    assert life.line.struck["forbidden"] == 1
    assert [attempt.outcome for attempt in life.shop.attempts if attempt.outcome != "ok"] == ["AccessRefused"]


@pytest.mark.long
def test_a_403_for_25_minutes_stops_nobody_for_good(sqlite_url: str) -> None:
    faults = Faults.only("forbidden", during=(BURST, BURST + 25 * MINUTE))
    assert lived(a_small_life(sqlite_url, faults)).line.struck["forbidden"] >= 4


@pytest.mark.long
def test_an_invalid_grant_stops_the_account_until_its_credential_is_replaced(sqlite_url: str) -> None:
    life = a_small_life(sqlite_url, Faults.only("invalid_grant", calls={2}))
    life.at(CALM, life.authorise_again)
    lived(life)
    assert life.line.struck["invalid_grant"] == 1
    assert asked_for_access(life, BURST, CALM) == 1


@pytest.mark.long
def test_a_withdrawn_authorisation_loses_nothing_once_the_seller_authorises_again(sqlite_url: str) -> None:
    life = a_small_life(sqlite_url)
    life.at(BURST + 4 * MINUTE, life.revoke)
    life.at(CALM, life.authorise_again)
    lived(life)
    assert asked_for_access(life, BURST + 4 * MINUTE, CALM) == 1


def asked_for_access(life: Life, start: datetime, end: datetime) -> int:
    """How often Login with Amazon was asked: once refused, it is not asked with the same credential again."""
    requests = life.shop.simulator.requests
    return sum(1 for asked in requests if asked.operation == TOKEN and start <= asked.at < end)


@pytest.mark.long
@pytest.mark.parametrize("status", [400, 403])
def test_one_marketplace_of_a_group_that_is_not_enrolled_stops_alone(status: int, sqlite_url: str) -> None:
    """Searches alone have to tell, because the list of enrolments cannot be had before it is calm."""
    life = a_small_life(
        sqlite_url,
        Faults.only("html_503", operations={PARTICIPATIONS}, until=CALM),
        marketplaces=("DE", "FR", "UK"),
        enrolled=("DE", "UK"),
        not_enrolled_status=status,
    )
    lived(life)
    assert any(asked.status == status for asked in life.shop.simulator.requests)


@pytest.mark.long
def test_a_burst_that_no_page_holds_is_read_in_parts(sqlite_url: str) -> None:
    assert lived(a_small_life(sqlite_url)).divided() >= 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("late", "facts"),
    [
        (0 * MINUTE, {}),
        (2 * MINUTE, {}),
        (0 * MINUTE, {"channel": "NON_AMAZON", "marketplace_id": None}),
        (0 * MINUTE, {"poison": "quantity_a_word"}),
    ],
    ids=["plain", "shown late", "of another channel", "unreadable"],
)
def test_one_order_that_leaves_the_list_between_two_pages_is_noticed(
    late: timedelta, facts: dict[str, Any], sqlite_url: str
) -> None:
    """The first order of the second page is skipped, so the walk must not count as proven.

    The orders are older than the overlap: nothing else would show the skipped one within a day.
    """
    world = World(Seller())
    for number in range(150):
        world.order(f"A-{number:03d}", created=NOON + 10 * MINUTE + number * timedelta(seconds=1), **facts)
    life = a_life(1, sqlite_url, [rules_for("UK")], world, Random(1))
    served, clock = life.shop.simulator.served, life.shop.clock
    life.run_until(NOON + 8 * MINUTE)
    clock.go_to(NOON + 45 * MINUTE)
    life.empty_budget()
    for _ in range(5):
        until = life.shop.sync()[0].until
        if served[-1].orders:
            break
        clock.go_to(until)
    first_page = {v["orderId"] for v in served[-1].orders if isinstance(v, dict)}
    assert len(first_page) == 100
    changed = clock() + 20 * timedelta(seconds=1) - late
    world.update(min(first_page), changed.replace(microsecond=0), late=late, seller_order_id="SHOP-1")
    life.run_until(NOON + 100 * MINUTE)
    life.look()
    life.shop.close()
    assert life.wrongs == []
    assert len(served) > 2


@pytest.mark.long
def test_orders_that_arrive_late_with_an_old_update_time_are_found(sqlite_url: str) -> None:
    """Some are shown after the daily pass over created times, so that only the second look can find them."""
    life = a_small_life(sqlite_url, late=0.5)
    world = life.shop.simulator.world
    for order in [order for order in world.orders() if BURST <= order.created <= BURST + MINUTE][::4]:
        world.update(
            order.order_id, NOON + 180 * MINUTE, late=timedelta(hours=22, minutes=30), seller_order_id="L"
        )
    lived(life)
    versions = [version for order in world.orders() for version in order.versions]
    late = [v.visible_at - v.last_updated for v in versions if v.last_updated > NOON]
    assert sum(wait > 30 * MINUTE for wait in late) >= 20
    assert sum(wait > timedelta(hours=22) for wait in late) >= 5


@pytest.mark.long
@pytest.mark.parametrize(
    ("seed", "database_url"),
    [(seed, "postgresql" if seed % 5 == 4 else "sqlite") for seed in range(20)],
    indirect=["database_url"],
)
def test_everything_at_once_ends_right(seed: int, database_url: str) -> None:
    assert chaos(seed, database_url) == [], f"again with: python -m tests.acceptance.chaos {seed}"


# --- soak -------------------------------------------------------------------------------------------


@contextmanager
def an_empty_database(seed: int, folder: Path, postgres_url: str) -> Iterator[str]:
    """Every tenth on PostgreSQL; gone afterwards, because a thousand of them fill a disk."""
    if seed % 10:
        file = folder / f"seed-{seed}.db"
        yield f"sqlite:///{file}"
        for rest in folder.glob(f"{file.name}*"):
            rest.unlink()
        return
    name = f"soak_{seed}"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        yield postgres_url.replace("/postgres?", f"/{name}?")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("first", range(0, 1000, 25))
def test_a_thousand_seeds_end_right(first: int, tmp_path: Path, postgres_url: str) -> None:
    """In blocks that run side by side; each goes on after a failure and names every seed that failed."""
    failing: dict[int, list[str]] = {}
    for seed in range(first, first + 25):
        with an_empty_database(seed, tmp_path, postgres_url) as url:
            try:
                wrongs = chaos(seed, url)
            except Exception as error:
                wrongs = [f"{type(error).__name__}: {error}"]
        if wrongs:
            failing[seed] = wrongs[:10]
    assert failing == {}, f"again with: python -m tests.acceptance.chaos SEED, for {sorted(failing)}"
