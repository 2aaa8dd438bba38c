"""Alerts, decided: what is wrong, and who has to be told of it now.

Two questions, both pure. ``troubles`` says what is wrong at this moment. ``decide`` compares it with what
people have been told: a trouble is told once, again after ``repeat`` while it lasts, and when it is over.
What comes back within ``CALM`` was not over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from poller.monitoring.readiness import Limits, readiness
from poller.monitoring.status import Status
from store.alerts import Standing
from store.webhooks import Backlog, Hook

REPEAT = timedelta(days=1)
CALM = timedelta(minutes=10)
TELLING = timedelta(minutes=2)
"""How long a process has for telling; then another one tells it."""

QUARANTINE_GROWS = 5
"""So many orders that came into quarantine within a day are worth an alert."""

LATELY = timedelta(days=1)
HOOK_FAILS = timedelta(hours=1)

Kind = Literal["secret", "authorisation"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LIVES: Mapping[Kind, timedelta] = {"secret": timedelta(days=180), "authorisation": timedelta(days=365)}
"""How long Amazon lets a client secret, and the authorisation of a public application, be valid."""

WARNED_BEFORE = timedelta(days=30)
REMIND = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credential:
    """What an account signs in with, and since when it is known to be in use: it may be older."""

    account: str
    kind: Kind
    since: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that another part of the program has found wrong; ``subject`` says with what."""

    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that alerts are decided from.

    ``unproven``: verifications that failed, found orders missing or are late, by marketplace.
    ``unshown``: sources whose share of orders with an e-mail, or a buyer's name, has dropped.
    """

    status: Status
    quarantined_lately: int = 0
    credentials: tuple[Credential, ...] = ()
    hooks: tuple[tuple[Hook, Backlog], ...] = ()
    unproven: tuple[Finding, ...] = ()
    unshown: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong; ``alert`` names it, and stays while it lasts."""

    alert: str
    sentence: str
    repeat: timedelta = REPEAT


def troubles(facts: Facts, limits: Limits) -> list[Trouble]:
    """What is wrong now."""
    now = facts.status.at
    found = [
        Trouble(f"{_NAMES.get(r.why, r.why)}:{r.subject}", r.sentence)
        for r in readiness(facts.status, limits).reasons
        if not (r.why == "success" and _is_new(facts.status, r.subject))
    ]
    found += _expiring(facts.credentials, now)
    if facts.quarantined_lately >= QUARANTINE_GROWS:
        many = f"{facts.quarantined_lately} orders came into quarantine within a day"
        found.append(
            Trouble("quarantine", f"{many}: `order-sync quarantine list` says why; an upgrade may help.")
        )
    found += _of_hooks(facts.hooks, now)
    found += [Trouble(f"unproven:{finding.subject}", finding.sentence) for finding in facts.unproven]
    found += [Trouble(f"unshown:{finding.subject}", finding.sentence) for finding in facts.unshown]
    return found


_NAMES = {"success": "stalled", "authorisation": "refused"}


def _is_new(status: Status, source: str) -> bool:
    """A source that has never succeeded, and has not failed either, has only just been set up."""
    return any(
        s.source == source and s.succeeded_at is None and s.failing_since is None for s in status.sources
    )


def _expiring(credentials: Iterable[Credential], now: datetime) -> Iterator[Trouble]:
    for each in credentials:
        left = each.since + LIVES[each.kind] - now
        if left > WARNED_BEFORE:
            continue
        latest = f"{each.since + LIVES[each.kind]:%Y-%m-%d}"
        if each.kind == "secret":
            what = f"the client secret is in use since {each.since:%Y-%m-%d} or longer"
            do = (
                f"Amazon lets it expire 180 days after it was made, by {latest} at the latest: make a new one"
            )
        else:
            what = f"the authorisation is in use since {each.since:%Y-%m-%d} or longer"
            do = (
                f"a seller authorises a public application again every 365 days, by {latest} at the latest; "
                "a private one needs it only when its roles change"
            )
        yield Trouble(f"expires:{each.account}:{each.kind}", f"{each.account}: {what}: {do}.", REMIND)


def _of_hooks(hooks: Iterable[tuple[Hook, Backlog]], now: datetime) -> Iterator[Trouble]:
    for hook, backlog in hooks:
        if hook.failing_since is not None and now - hook.failing_since > HOOK_FAILS:
            since = f"has taken nothing since {hook.failing_since:%Y-%m-%d %H:%M} UTC"
            yield Trouble(f"receiver:{hook.hook_id}", f"web hook {hook.hook_id} {since} ({hook.last_error}).")
        if backlog.dead:
            many = f"{backlog.dead} events were given up" if backlog.dead > 1 else "an event was given up"
            see = f"`order-sync webhooks dead {hook.hook_id}` lists them"
            yield Trouble(f"dead:{hook.hook_id}", f"web hook {hook.hook_id}: {many}: {see}.")


# --- telling ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be told."""

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
        since = f"since {self.standing.since:%Y-%m-%d %H:%M} UTC"
        if self.kind == "still":
            return f"{self.standing.sentence} ({since})"
        return f"No longer so ({since}): {self.standing.sentence}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell, what to remember, and what to forget without a word."""

    tell: tuple[Notice, ...]
    save: tuple[Standing, ...]
    forget: tuple[str, ...]


def decide(wrong: Sequence[Trouble], standing: Mapping[str, Standing], now: datetime) -> Decision:
    """Compare what is wrong with what people know. What is told has to be claimed by saving it first."""
    tell: list[Notice] = []
    save: list[Standing] = []
    forget: list[str] = []
    for trouble in wrong:
        known = standing.get(trouble.alert)
        fresh = known or Standing(trouble.alert, trouble.sentence, now)
        fresh = replace(fresh, sentence=trouble.sentence, over_at=None)
        due = fresh.told_at is None or now - fresh.told_at >= trouble.repeat
        if due and not _is_being_told(fresh, now):
            fresh = replace(fresh, telling_until=now + TELLING)
            tell.append(Notice("still" if fresh.told_at else "new", fresh))
        if fresh != known:
            save.append(fresh)
    for alert in sorted(standing.keys() - {trouble.alert for trouble in wrong}):
        known = standing[alert]
        if known.over_at is None:
            save.append(replace(known, over_at=now))
        elif now - known.over_at >= CALM and not _is_being_told(known, now):
            if known.told_at is None:
                forget.append(alert)
                continue
            claimed = replace(known, telling_until=now + TELLING)
            save.append(claimed)
            tell.append(Notice("over", claimed))
    return Decision(tuple(tell), tuple(save), tuple(forget))


def _is_being_told(standing: Standing, now: datetime) -> bool:
    return standing.telling_until is not None and standing.telling_until > now
