"""Tables fold words to fit a terminal, and never lose a letter."""

from __future__ import annotations

import pytest

from poller.cli.output import _widths

COLUMNS = [
    ["order", "786-1234567-1234567"],
    ["placed (UTC)", "2026-11-25 04:42"],
    ["buyer", "ZoË Placeholder"],
    ["why", "no e-mail, so it has a record of its own"],
]
NATURAL = [19, 16, 15, 40]


def test_without_a_terminal_every_column_is_as_wide_as_its_texts() -> None:
    assert _widths(COLUMNS, None) == NATURAL


def test_where_there_is_room_nothing_is_folded() -> None:
    assert _widths(COLUMNS, sum(NATURAL) + 6) == NATURAL


@pytest.mark.parametrize("room", [70, 80, 95])
def test_columns_of_words_give_way_until_all_fit(room: int) -> None:
    widths = _widths(COLUMNS, room)
    assert sum(widths) + 6 == room
    assert widths[:3] == NATURAL[:3]


def test_where_folding_does_not_help_the_terminal_may_break_the_lines() -> None:
    assert _widths(COLUMNS, 60) == NATURAL
