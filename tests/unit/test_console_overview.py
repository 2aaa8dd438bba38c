"""How fresh a source is, and the charts of what was sold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast, get_args

import pytest
from fastapi.routing import APIRoute

from poller.monitoring.status import SourceStatus, Why
from poller.web.console.app import ROUTERS
from poller.web.console.overview import _REMEDIES, freshness, sales_charts
from store.sales import Sales

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
MINUTE = 60.0


@dataclass
class Pace:
    look_every_seconds: float


@dataclass
class Source:
    """What decides how fresh a source is."""

    behind_seconds: float | None = 2 * MINUTE
    refusal: object = None
    failing_since: datetime | None = None
    pace: Pace | None = None


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        (Source(), "good", "up to date"),
        (Source(10 * MINUTE), "good", "up to date"),
        (Source(10 * MINUTE + 1), "warn", "10 min behind"),
        (Source(14 * MINUTE, pace=Pace(180)), "warn", "14 min behind"),
        (
            Source(14 * MINUTE, pace=Pace(900)),
            "busy",
            "polled every 15 min while history uses the request budget",
        ),
        (Source(31 * MINUTE, pace=Pace(900)), "warn", "31 min behind"),
        (Source(None), "busy", "not read yet"),
        (Source(failing_since=NOW - timedelta(hours=3)), "bad", "failing for 3 h"),
        (Source(failing_since=NOW, refusal="application"), "bad", "refused by Amazon"),
    ],
)
def test_only_what_is_fresh_is_green(source: Source, kind: str, text: str) -> None:
    assert freshness(cast(SourceStatus, source), NOW) == (kind, text)


def sold(marketplace: str | None, currency: str | None, orders: int, total: str, days_ago: int = 0) -> Sales:
    return Sales((NOW - timedelta(days=days_ago)).date(), marketplace, currency, orders, Decimal(total))


def test_revenue_has_a_chart_for_each_currency_and_a_marketplace_its_colour_in_all() -> None:
    given: list[Any] = [
        sold("UK", "GBP", 2, "20.50"),
        sold("DE", "EUR", 7, "70"),
        sold("FR", "EUR", 1, "5", 29),
        sold(None, None, 1, "0", 3),
        sold("DE", "EUR", 100, "1", 30),
    ]
    charts = sales_charts(given, NOW)
    assert [(chart.title, chart.total) for chart in charts] == [
        ("Orders a day", "11"),
        ("EUR a day", "75 EUR"),
        ("GBP a day", "20 GBP"),
    ]
    assert [name for name, _ in charts[0].keys] == ["DE", "UK", "FR", "elsewhere"]
    of_all = dict(charts[0].keys)
    for chart in charts[1:]:
        assert {name: of_all[name] for name, _ in chart.keys} == dict(chart.keys)
    assert [name for name, _ in charts[2].keys] == ["UK"]


def test_every_remedy_leads_to_a_page() -> None:
    pages = {
        route.path for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)
    }
    for why, shown in _REMEDIES.items():
        assert shown.page.partition("?")[0] in pages, why
    assert set(_REMEDIES) <= set(get_args(Why))
