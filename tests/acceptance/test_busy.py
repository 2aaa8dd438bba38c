"""A busy shop on the product is followed as its plan allows; ``make bench`` prints the whole table."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.busy import live

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("per_day", "days"), [(1_000, 1.1), (4_000, 1.1)])
def test_a_busy_shop_is_followed_loses_nothing_and_is_well_throughout(
    per_day: int, days: float, tmp_path: Path
) -> None:
    worst = live(f"sqlite:///{tmp_path / 'busy.db'}", per_day, days, nights=True, seed=1)
    assert worst.live <= 8 * MINUTE
    assert worst.covered <= 20 * MINUTE
    assert worst.second_look <= 26 * HOUR
    assert (worst.refused, worst.alarms, worst.wrongs) == (0, 0, ())
