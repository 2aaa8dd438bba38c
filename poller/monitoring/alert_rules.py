"""Decide which of the things that are not well people are notified of now. Pure.

An alert is sent once, again after ``repeat`` while it lasts, and once more when it is over. What comes back
within ``OVER_AFTER`` was not over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from poller.monitoring.status import Item
from poller.text import when
from store.alerts import Standing

REPEATED_AFTER = timedelta(days=1)
OVER_AFTER = timedelta(minutes=10)
SENT_WITHIN = timedelta(minutes=2)
"""How long a process may take to send a notice before another one sends it."""

EXPIRY_REPEATED_AFTER = timedelta(days=7)

PROCESS_SENT_AFTER = timedelta(minutes=2)
"""What could not write for a while says within seconds that it is back: one check may be too early."""

NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong; ``name`` identifies it as long as it lasts.

    It is sent once it has lasted for ``after``, and again after ``repeat``.
    """

    name: str
    sentence: str
    repeat: timedelta = REPEATED_AFTER
    after: timedelta = timedelta(0)


def alerts_of(health: Iterable[Item]) -> list[Alert]:
    """Return what people are notified of: all that is urgent, but not that a source has only just begun.

    Items with one word and one subject, as two mistakes in a file, are one alert.
    """
    by_name: dict[str, Alert] = {}
    for item in health:
        if item.urgency == "note" or item.why == "start":
            continue
        name = f"{item.why}:{item.subject}"[:NAME_LENGTH]
        if name in by_name:
            known = by_name[name]
            by_name[name] = replace(known, sentence=f"{known.sentence} {item.sentence}")
            continue
        repeat = EXPIRY_REPEATED_AFTER if item.why == "expiry" else REPEATED_AFTER
        after = PROCESS_SENT_AFTER if item.why == "process" else timedelta(0)
        by_name[name] = Alert(name, item.sentence, repeat, after)
    return list(by_name.values())


# --- who is notified, and when ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to send about an alert."""

    kind: Literal["new", "still", "over"]
    standing: Standing

    @property
    def title(self) -> str:
        words = {"new": "needs attention", "still": "still needs attention", "over": "over"}
        return f"amazon-order-sync: {words[self.kind]}"

    @property
    def text(self) -> str:
        if self.kind == "new":
            return self.standing.sentence
        since = f"since {when(self.standing.since)} UTC"
        if self.kind == "still":
            return f"{self.standing.sentence} ({since})"
        return f"No longer so ({since}): {self.standing.sentence}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to send, what to remember, and what to forget because it was never sent."""

    notices: tuple[Notice, ...]
    save: tuple[Standing, ...]
    forget: tuple[str, ...]


def decide(alerts: Sequence[Alert], standing: Mapping[str, Standing], now: datetime) -> Decision:
    """Compare what is wrong with what was sent. Save first: that claims the notices for this process."""
    notices: list[Notice] = []
    save: list[Standing] = []
    forget: list[str] = []
    for alert in alerts:
        known = standing.get(alert.name)
        fresh = known or Standing(alert.name, alert.sentence, now)
        fresh = replace(fresh, sentence=alert.sentence, over_at=None)
        last, pause = (fresh.since, alert.after) if fresh.told_at is None else (fresh.told_at, alert.repeat)
        due = now - last >= pause
        if due and not _is_being_sent(fresh, now):
            fresh = replace(fresh, telling_until=now + SENT_WITHIN)
            notices.append(Notice("still" if fresh.told_at else "new", fresh))
        if fresh != known:
            save.append(fresh)
    for name in sorted(standing.keys() - {alert.name for alert in alerts}):
        known = standing[name]
        if known.over_at is None:
            save.append(replace(known, over_at=now))
        elif now - known.over_at >= OVER_AFTER and not _is_being_sent(known, now):
            if known.told_at is None:
                forget.append(name)
                continue
            claimed = replace(known, telling_until=now + SENT_WITHIN)
            save.append(claimed)
            notices.append(Notice("over", claimed))
    return Decision(tuple(notices), tuple(save), tuple(forget))


def _is_being_sent(standing: Standing, now: datetime) -> bool:
    return standing.telling_until is not None and standing.telling_until > now
