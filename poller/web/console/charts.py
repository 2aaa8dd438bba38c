"""Bar charts as inline SVG, without a library. Pure.

Two kinds are all that the console draws, in a hundred lines; a charting library would bring a script many
times the size of the console's own, and need styles in the page, which its policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

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


@dataclass(frozen=True, slots=True)
class Stack:
    """Values of one day, by the name of the series."""

    day: date
    values: Mapping[str, float]


COLOURS = 6
"""Number of series that have a colour of their own; the last one is for all others."""

WIDE, TALL = 360, 130


def series_of(stacks: Sequence[Stack]) -> list[str]:
    """Return the names of the series, the largest first."""
    sums: dict[str, float] = {}
    for stack in stacks:
        for name, value in stack.values.items():
            sums[name] = sums.get(name, 0) + value
    return sorted(sums, key=lambda name: (-sums[name], name))


def colour(series: Sequence[str], name: str) -> str:
    """Return the CSS class of a series' colour."""
    return f"s{min(series.index(name), COLOURS - 1) + 1}"


def stacked_chart(stacks: Sequence[Stack], series: Sequence[str], summary: str) -> Markup:
    """Return a chart with a bar for each day, stacked by series. ``summary`` describes it in words."""
    top = _scale_top(max((sum(stack.values.values()) for stack in stacks), default=0))
    width, scale = (WIDE - LEFT) / max(1, len(stacks)), (TALL - TOP) / top
    parts = [
        f'<svg class="chart stacked" viewBox="0 0 {WIDE} {TALL + 22}" role="img" '
        f'aria-label="{escape(summary)}">',
    ]
    for share in (1, 0.5):
        y = TALL - share * (TALL - TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 5:g}" text-anchor="end">{_short(share * top)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDE}" y1="{TALL}" y2="{TALL}"/>')
    for i, stack in enumerate(stacks):
        x, height = LEFT + i * width, 0.0
        names = [name for name in series if stack.values.get(name)]
        lines = [f"{stack.day:%a %d %b}", *(f"{name}: {_number(stack.values[name])}" for name in names)]
        parts.append(f"<g><title>{escape(chr(10).join(lines))}</title>")
        parts.append(f'<rect class="hit" x="{x:.2f}" width="{width:.2f}" y="{TOP}" height="{TALL - TOP}"/>')
        for name in names:
            of_it = stack.values[name] * scale
            height += of_it
            parts.append(_rectangle(colour(series, name), x, width, TALL - height, of_it))
        parts.append("</g>")
        if (len(stacks) - 1 - i) % 7 == 0:
            at, anchor = (x + width / 2, "middle") if i < len(stacks) - 1 else (WIDE, "end")
            parts.append(
                f'<text x="{at:.2f}" y="{TALL + 16}" text-anchor="{anchor}">{stack.day:%d %b}</text>'
            )
    return Markup("".join([*parts, "</svg>"]))


def _short(value: float) -> str:
    """Return ``950``, ``1.5k``, ``20k``, ``3M``."""
    for unit, factor in (("M", 1_000_000), ("k", 1_000)):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


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
    return next(step * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * factor >= highest)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
