"""How often a long-running process checks what grows with its accounts."""

from __future__ import annotations

from poller.service.chores import alerts_in
from poller.service.lifecycle import reload_in


def test_few_files_are_checked_every_five_seconds_and_many_less_often() -> None:
    assert [reload_in(took) for took in (0.0, 0.001, 0.01)] == [5, 5, 5]
    assert 11 < reload_in(0.04) < 13
    assert reload_in(60) == 15, "also when it took so long because the database was away"


def test_looking_for_alerts_takes_a_hundredth_of_the_time_at_most() -> None:
    assert alerts_in(0.0) == 0
    assert 100 < alerts_in(1.3) < 160
    assert alerts_in(60) == 300
