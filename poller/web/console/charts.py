"""Bar charts as inline SVG, without a library. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from store.runs import Run

SHOWN = timedelta(hours=24)
BAR = timedelta(minutes=30)
WIDTH, HEIGHT, TOP, LEFT = 480, 96, 6, 44


@dataclass(frozen=True, slots=True)
class Bar:
    """One half hour: ``value`` is drawn first, ``further`` on top of it."""

    lower: datetime
    value: float
    further: float = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """Activity of a source in the last day, by half hours and in total."""

    orders: tuple[Bar, ...]
    requests: tuple[Bar, ...]
    waits: tuple[Bar, ...]
    """Longest time without a complete run, in minutes."""
    runs: int
    failed: int

    @property
    def total_orders(self) -> int:
        return round(sum(bar.value for bar in self.orders))

    @property
    def total_requests(self) -> int:
        return round(sum(bar.value + bar.further for bar in self.requests))

    @property
    def total_retries(self) -> int:
        return round(sum(bar.further for bar in self.requests))

    @property
    def longest_wait(self) -> float:
        return max((bar.value for bar in self.waits), default=0)


def activity(runs: Sequence[Run], now: datetime) -> Activity:
    """Sum the runs of the last day (oldest first) by half hours that end at ``now``."""
    begin = now - SHOWN
    count = round(SHOWN / BAR)
    lowers = [begin + i * BAR for i in range(count)]
    orders, requests, retries = [0.0] * count, [0.0] * count, [0.0] * count
    for run in runs:
        i = min(count - 1, max(0, int((run.started_at - begin) / BAR)))
        orders[i] += run.orders
        requests[i] += run.requests - run.retries
        retries[i] += run.retries
    return Activity(
        tuple(map(Bar, lowers, orders)),
        tuple(map(Bar, lowers, requests, retries)),
        tuple(map(Bar, lowers, _waits(runs, lowers, now))),
        len(runs),
        sum(run.outcome == "failed" for run in runs),
    )


def _waits(runs: Sequence[Run], lowers: Sequence[datetime], now: datetime) -> list[float]:
    """Return the largest age of the newest complete run in each half hour, in minutes; 0 before the first."""
    ends = sorted(
        run.finished_at for run in runs if run.outcome == "complete" and run.finished_at is not None
    )
    waits = []
    for lower in lowers:
        upper = min(lower + BAR, now)
        inside = [end for end in ends if lower < end <= upper]
        before = [end for end in ends if end <= lower]
        newest = before[-1] if before else (inside.pop(0) if inside else None)
        longest = timedelta()
        for end in [*inside, upper]:
            if newest is not None:
                longest = max(longest, end - newest)
                newest = end
        waits.append(longest / timedelta(minutes=1))
    return waits


def bar_chart(bars: Sequence[Bar], kind: str, summary: str, unit: str, further: str = "") -> Markup:
    """Return a chart as SVG. ``summary`` describes it in words; ``kind`` is the CSS class of its colour."""
    top = _scale_top(max((bar.value + bar.further for bar in bars), default=0))
    width = (WIDTH - LEFT) / max(1, len(bars))
    parts = [
        f'<svg class="chart {kind}" viewBox="0 0 {WIDTH} {HEIGHT + 22}" role="img" '
        f'aria-label="{escape(summary)}">',
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{TOP}" y2="{TOP}"/>',
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>',
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{_number(top)}</text>',
        f'<text x="{LEFT - 6}" y="{HEIGHT}" text-anchor="end">0</text>',
        f'<text x="{LEFT}" y="{HEIGHT + 16}">24 h ago</text>',
        f'<text x="{(WIDTH + LEFT) / 2:g}" y="{HEIGHT + 16}" text-anchor="middle">12 h ago</text>',
        f'<text x="{WIDTH}" y="{HEIGHT + 16}" text-anchor="end">now</text>',
    ]
    for i, bar in enumerate(bars):
        if not bar.value and not bar.further:
            continue
        x, scale = LEFT + i * width, (HEIGHT - TOP) / top
        label = f"{bar.lower:%H:%M} UTC: {_number(bar.value)} {unit}"
        label += f", {_number(bar.further)} {further}" if further else ""
        height, on_top = max(1.0, bar.value * scale) if bar.value else 0.0, bar.further * scale
        parts.append(f"<g><title>{escape(label)}</title>")
        parts.append(_rectangle("bar", x, width, HEIGHT - height, height))
        if on_top:
            on_top = max(1.5, on_top)
            parts.append(_rectangle("further", x, width, HEIGHT - height - on_top, on_top))
        parts.append("</g>")
    return Markup("".join([*parts, "</svg>"]))


def _rectangle(kind: str, x: float, width: float, y: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x + 0.75:.2f}" width="{max(1.0, width - 1.5):.2f}" '
        f'y="{y:.2f}" height="{height:.2f}"/>'
    )


def _scale_top(highest: float) -> float:
    """Return a round number that is not below the highest bar."""
    if highest <= 1:
        return 1
    step: float = 10.0 ** math.floor(math.log10(highest))
    return next(step * factor for factor in (1, 2, 5, 10) if step * factor >= highest)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
