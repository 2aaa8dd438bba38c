"""Sentences and times on pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from poller.web.console.rendering import FILTERS

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <b> & `x <y>`", "a &lt;b&gt; &amp; <code>x &lt;y&gt;</code>"),
        (
            "since 2026-06-15 10:00 UTC.",
            'since <time datetime="2026-06-15T10:00Z">2026-06-15 10:00 UTC</time>.',
        ),
        (
            "until 2026-06-15T10:00:30Z",
            'until <time datetime="2026-06-15T10:00Z">2026-06-15T10:00:30Z</time>',
        ),
        ("run `x --from 2026-06-15T10:00:00Z`", "run <code>x --from 2026-06-15T10:00:00Z</code>"),
        ("on 2026-06-15, 10:00", "on 2026-06-15, 10:00"),
    ],
)
def test_a_sentence_marks_commands_and_times(text: str, shown: str) -> None:
    assert FILTERS["sentence"](text) == shown


def test_times_are_elements_that_the_script_shows_in_the_readers_zone() -> None:
    element = '<time datetime="2026-06-15T12:00:00Z">2026-06-15 12:00</time>'
    there = NOON.astimezone(timezone(timedelta(hours=5)))
    assert FILTERS["time"](NOON) == FILTERS["time"](there) == FILTERS["time"](NOON.isoformat()) == element
    assert FILTERS["time"](None) == "\u2013"
    before, later = NOON - timedelta(minutes=3), NOON + timedelta(minutes=2)
    assert (
        FILTERS["ago"](before, NOON) == '<time class="ago" datetime="2026-06-15T11:57:00Z">3 min ago</time>'
    )
    assert FILTERS["ago"](None, NOON) == "never"
    assert (
        FILTERS["until"](later, NOON) == '<time class="until" datetime="2026-06-15T12:02:00Z">in 2 min</time>'
    )
    assert FILTERS["until"](before, NOON) == '<time class="until" datetime="2026-06-15T11:57:00Z">now</time>'
