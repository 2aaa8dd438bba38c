"""The overview's charts: their figures and their SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import datetime, timedelta
from typing import Any

import pytest

from poller.web.console.charts import Stack, activity, bar_chart, series_of, stacked_chart
from store.runs import Run, RunOutcome
from tests.harness import NOON

HOUR = timedelta(hours=1)


def run(begun: datetime, outcome: RunOutcome = "complete", **changes: Any) -> Run:
    counts = dict.fromkeys(("identifiable", "with_email", "with_name", "retries"), 0)
    values: dict[str, Any] = {"pages": 1, "orders": 10, "requests": 1, **counts, **changes}
    return Run(1, "acme:EU", begun, begun + timedelta(seconds=30), outcome, message=None, **values)


def test_runs_are_added_up_by_half_hours() -> None:
    found = activity(
        [
            run(NOON - 24 * HOUR),
            run(NOON - 2 * HOUR),
            run(NOON - 2 * HOUR + timedelta(minutes=29), "failed", orders=0, requests=5, retries=4),
            run(NOON - timedelta(minutes=1)),
        ],
        NOON,
    )
    assert len(found.orders) == len(found.requests) == len(found.waits) == 48
    assert {i: bar.value for i, bar in enumerate(found.orders) if bar.value} == {0: 10, 44: 10, 47: 10}
    assert (found.requests[44].value, found.requests[44].further) == (2, 4)
    assert (found.total_orders, found.total_requests, found.total_retries) == (30, 8, 4)
    assert (found.runs, found.failed) == (4, 1)


def test_a_wait_lasts_from_one_complete_run_to_the_next() -> None:
    found = activity([run(NOON - 3 * HOUR), run(NOON - 2 * HOUR, "failed"), run(NOON - HOUR)], NOON)
    waits = {i: bar.value for i, bar in enumerate(found.waits) if bar.value}
    # Nothing is known before the first run; then it grows until the third, and again until now.
    assert waits == {42: 29.5, 43: 59.5, 44: 89.5, 45: 119.5, 46: 120.0, 47: 59.5}
    assert found.longest_wait == 120


def test_a_source_that_never_ran_waits_for_nothing() -> None:
    found = activity([], NOON)
    assert (found.total_orders, found.longest_wait) == (0, 0)
    assert bar_chart(found.orders, "orders", "nothing", "orders").count("<rect") == 0


def test_a_chart_is_an_image_with_a_name_whose_bars_stay_inside() -> None:
    found = activity([run(NOON - HOUR, orders=1234, requests=9, retries=4)], NOON)
    for bars in (found.orders, found.requests, found.waits):
        image = ET.fromstring(bar_chart(bars, "orders", 'a "name" & more', "pieces", "others"))
        assert (image.get("role"), image.get("aria-label")) == ("img", 'a "name" & more')
        rectangles = [element for element in image.iter() if element.tag == "rect"]
        assert rectangles
        for rectangle in rectangles:
            x, y, width, height = (float(rectangle.get(k) or "") for k in ("x", "y", "width", "height"))
            assert x >= 44
            assert x + width <= 480
            assert y >= 0
            assert y + height <= 96.01
        assert not [element for element in image.iter() if element.get("style")]


def test_stacked_bars_add_up_and_stay_inside() -> None:
    days = [NOON.date() - timedelta(days=back) for back in range(29, -1, -1)]
    stacks = [Stack(day, {"UK": 3.0, "DE": float(number)}) for number, day in enumerate(days)]
    series = series_of(stacks)
    assert series == ["DE", "UK"], "the largest first"
    image = ET.fromstring(stacked_chart(stacks, series, "so & so"))
    assert (image.get("role"), image.get("aria-label")) == ("img", "so & so")
    groups = [element for element in image.iter() if element.tag == "g"]
    assert len(groups) == 30
    heights = []
    for group in groups:
        bars = [r for r in group if r.tag == "rect" and r.get("class") != "hit"]
        heights.append(sum(float(bar.get("height") or "") for bar in bars))
        assert all(float(bar.get("y") or "") >= 6 for bar in bars)
    assert heights[-1] / heights[0] == pytest.approx((3 + 29) / 3, rel=0.01)
    assert (groups[-1][0].text or "").splitlines() == ["Mon 15 Jun", "DE: 29", "UK: 3"]


def test_many_series_share_the_last_colour() -> None:
    stacks = [Stack(NOON.date(), {f"M{number}": 9.0 - number for number in range(9)})]
    image = ET.fromstring(stacked_chart(stacks, series_of(stacks), "many"))
    kinds = [element.get("class") for element in image.iter() if element.tag == "rect"]
    assert kinds == ["hit", "s1", "s2", "s3", "s4", "s5", "s6", "s6", "s6", "s6"]


def test_a_chart_without_sales_is_empty() -> None:
    stacks = [Stack(NOON.date(), {})]
    assert series_of(stacks) == []
    assert stacked_chart(stacks, [], "none").count("<rect") == 1
