"""The monitor of identity: what is counted, and which days are worth a warning."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from connectors.orders import AmazonBuyer
from poller.matching.buyer_visibility import Day, Drop, Seen, days_of, drops, seen, sentence
from tests.unit.matching_world import an_order

TODAY = date(2026, 6, 15)


def history(share: float = 1.0, days: int = 14, orders: int = 20) -> dict[date, Seen]:
    """Days before today, each with this share of e-mails and names."""
    shown = round(orders * share)
    return {TODAY - timedelta(days=i): Seen(orders, shown, shown) for i in range(1, days + 1)}


def test_counted_are_orders_of_the_merchant_that_are_ready() -> None:
    nameless = replace(an_order("o2"), buyer=AmazonBuyer(email="a@marketplace.amazon.de"))
    page = (
        an_order("o1"),
        nameless,
        an_order("o3", None, name=None),
        an_order("o4", fulfilled_by="AMAZON"),
        an_order("o5", status="PENDING"),
        an_order("o6", status="CANCELLED"),
        an_order("o7", channel="NON_AMAZON"),
    )
    assert seen(page) == (3, 2, 1)
    assert seen(()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("today", "fell"),
    [
        (Seen(20, 20, 20), []),
        (Seen(20, 10, 20), []),
        (Seen(20, 9, 20), ["email"]),
        (Seen(20, 20, 0), ["name"]),
        (Seen(20, 0, 0), ["email", "name"]),
        (Seen(5, 0, 5), ["email"]),
        (Seen(4, 0, 0), []),
        (Seen(0, 0, 0), []),
    ],
)
def test_a_day_below_half_of_its_mean_of_fourteen_days_is_found(today: Seen, fell: list[str]) -> None:
    assert [drop.field for drop in drops(history() | {TODAY: today}, TODAY)] == fell


def test_the_mean_is_that_of_the_days_that_came_before() -> None:
    half = history(0.5)
    assert drops(half | {TODAY: Seen(20, 5, 5)}, TODAY) == ()
    (email, _) = drops(half | {TODAY: Seen(20, 4, 4)}, TODAY)
    assert email == Drop(TODAY, "email", 0.2, 0.5, 20)
    too_old = {TODAY - timedelta(days=15): Seen(1000, 1000, 1000)}
    assert drops(too_old | {TODAY: Seen(20, 0, 0)}, TODAY) == ()


def test_yesterday_is_reported_until_today_is_known_and_a_lasting_loss_becomes_the_mean() -> None:
    yesterday = TODAY - timedelta(days=1)
    counts = history() | {yesterday: Seen(20, 0, 20)}
    assert [(d.day, d.field) for d in drops(counts, TODAY)] == [(yesterday, "email")]
    still = counts | {TODAY: Seen(20, 1, 20)}
    assert [(d.day, d.field) for d in drops(still, TODAY)] == [(TODAY, "email")]
    assert drops(history(0.0) | {TODAY: Seen(20, 0, 0)}, TODAY) == ()


def test_shares_by_day_newest_first() -> None:
    counts: dict[date, Any] = {
        TODAY: Seen(4, 1, 2),
        TODAY - timedelta(days=1): Seen(2, 2, 2),
        date.min: Seen(),
    }
    assert days_of(counts) == (Day(TODAY, 4, 0.25, 0.5), Day(TODAY - timedelta(days=1), 2, 1.0, 1.0))


def test_the_sentence_says_what_where_and_what_to_do() -> None:
    assert sentence("acme:EU", Drop(TODAY, "email", 0.05, 0.96, 20)) == (
        "acme:EU: on 2026-06-15 only 5% of 20 orders that may show their buyer came with an e-mail, "
        "after 96% in the 14 days before. Amazon may have withdrawn it: check that the application still "
        "has its roles (`order-sync config check --online`)."
    )
