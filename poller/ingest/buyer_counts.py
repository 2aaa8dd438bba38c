"""How many orders showed their buyer, by source and day, without reading a fortnight of runs every minute.

A source that is polled every three minutes makes seven thousand runs in a fortnight. What they brought is
added up once for each process, by the numbers of the runs; later only the runs of the last hours are read,
which may still bring something.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from poller.matching.buyer_visibility import LOOKED_BACK, Seen
from store import runs
from store.engine import Transaction

SETTLED = timedelta(hours=6)
"""A run that began so long ago brings nothing any more."""

ADDED_UP_EVERY = timedelta(hours=1)
AT_ONCE = 1_000_000
"""Runs that are added up by one statement: it must end well within the time that a statement has."""

Days = dict[str, dict[date, Seen]]
"""Counts by source and day; days without an order that may show its buyer are left out."""


@dataclass
class Showing:
    """What one process knows of a database's runs. Safe to use from several threads."""

    _days: Days = field(default_factory=dict)
    _upto: int = 0
    """The last run that is added up."""
    _at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, tx: Transaction) -> Days:
        """The counts of all sources, as far back as is looked."""
        since = datetime.combine(tx.now.date() - LOOKED_BACK - timedelta(days=1), time(), UTC)
        with self._lock:
            if self._at is None or abs(tx.now - self._at) >= ADDED_UP_EVERY:
                self._add_up(tx, since)
            found = _from(self._days, since)
            _add(found, runs.buyers_by_day(tx, since, self._upto, None))
        return found

    def _add_up(self, tx: Transaction, since: datetime) -> None:
        newest = runs.newest_begun(tx, tx.now - SETTLED)
        days, lower = _from(self._days, since), self._upto
        if self._at is None or newest < lower or tx.now < self._at:
            # The first time; or the database was put back to an older state, or the clock.
            days, lower = {}, 0
        upper = newest
        while upper > lower and runs.has_begun(tx, since, upper):
            _add(days, runs.buyers_by_day(tx, since, max(lower, upper - AT_ONCE), upper))
            upper -= AT_ONCE
        # Taken over together: whatever broke before is added up anew.
        self._days, self._upto, self._at = days, newest, tx.now


def _from(days: Days, since: datetime) -> Days:
    """A copy of what is not older."""
    first = since.date()
    kept = {
        source: {day: seen for day, seen in mine.items() if day >= first} for source, mine in days.items()
    }
    return {source: mine for source, mine in kept.items() if mine}


def _add(days: Days, more: Mapping[str, Mapping[date, tuple[int, int, int]]]) -> None:
    for source, counted in more.items():
        mine = days.setdefault(source, {})
        for day, counts in counted.items():
            mine[day] = Seen(*(a + b for a, b in zip(mine.get(day, Seen()), counts, strict=True)))
