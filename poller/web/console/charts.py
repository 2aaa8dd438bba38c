"""Bar charts as SVG, drawn here: no library, nothing from another host. Pure."""

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
    """One stretch of time: ``value`` of the main kind, and ``further`` of what is drawn on top of it."""

    lower: datetime
    value: float
    further: float = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """What a source did in the last day: in half hours, and in all."""

    orders: tuple[Bar, ...]
    requests: tuple[Bar, ...]
    waits: tuple[Bar, ...]
    """Minutes that were longest without a run that covered everything."""
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
    """Runs of the last day, oldest first, by half hours that end now."""
    begin = now - SHOWN
    many = round(SHOWN / BAR)
    lowers = [begin + i * BAR for i in range(many)]
    orders, requests, retries = [0.0] * many, [0.0] * many, [0.0] * many
    for run in runs:
        i = min(many - 1, max(0, int((run.started_at - begin) / BAR)))
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
    """For each half hour, how old the newest complete run became; nothing before the first one."""
    ends = sorted(
        run.finished_at for run in runs if run.outcome == "complete" and run.finished_at is not None
    )
    found = []
    for lower in lowers:
        upper = min(lower + BAR, now)
        moments = [end for end in ends if lower < end <= upper]
        before = [end for end in ends if end <= lower]
        newest = before[-1] if before else (moments.pop(0) if moments else None)
        longest = timedelta()
        for moment in [*moments, upper]:
            if newest is not None:
                longest = max(longest, moment - newest)
                newest = moment
        found.append(longest / timedelta(minutes=1))
    return found


def drawn(bars: Sequence[Bar], kind: str, summary: str, unit: str, further: str = "") -> Markup:
    """A chart; ``summary`` says in words what it shows. ``kind`` is the class that colours it."""
    top = _top(max((bar.value + bar.further for bar in bars), default=0))
    wide = (WIDTH - LEFT) / max(1, len(bars))
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
        x, scale = LEFT + i * wide, (HEIGHT - TOP) / top
        said = f"{bar.lower:%H:%M} UTC: {_number(bar.value)} {unit}"
        said += f", {_number(bar.further)} {further}" if further else ""
        high, more = max(1.0, bar.value * scale) if bar.value else 0.0, bar.further * scale
        parts.append(f"<g><title>{escape(said)}</title>")
        parts.append(_rectangle("bar", x, wide, HEIGHT - high, high))
        if more:
            parts.append(_rectangle("further", x, wide, HEIGHT - high - max(1.5, more), max(1.5, more)))
        parts.append("</g>")
    return Markup("".join([*parts, "</svg>"]))


def _rectangle(kind: str, x: float, wide: float, y: float, high: float) -> str:
    return (
        f'<rect class="{kind}" x="{x + 0.75:.2f}" width="{max(1.0, wide - 1.5):.2f}" '
        f'y="{y:.2f}" height="{high:.2f}"/>'
    )


def _top(most: float) -> float:
    """A round number that is not below the highest bar."""
    if most <= 1:
        return 1
    step: float = 10.0 ** math.floor(math.log10(most))
    return next(step * factor for factor in (1, 2, 5, 10) if step * factor >= most)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
