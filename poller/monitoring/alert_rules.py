"""Decide what is wrong, and which of it people are notified of now. Pure.

An alert is sent once, again after ``repeat`` while it lasts, and once more when it is over. What comes back
within ``OVER_AFTER`` was not over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from poller.monitoring.readiness import Limits, readiness
from poller.monitoring.status import Status
from poller.text import counted, when
from store.alerts import Standing
from store.change_records import Backlog, Hook

REPEATED_AFTER = timedelta(days=1)
OVER_AFTER = timedelta(minutes=10)
SENT_WITHIN = timedelta(minutes=2)
"""How long a process may take to send a notice before another one sends it."""

QUARANTINE_GROWTH = 5
QUARANTINE_GROWTH_WITHIN = timedelta(days=1)
"""That many orders that came into quarantine within that time are worth an alert."""

HOOK_FAILING_FOR = timedelta(hours=1)

CredentialKind = Literal["secret", "authorisation"]
CREDENTIAL_KINDS: tuple[CredentialKind, ...] = get_args(CredentialKind)

VALID_FOR: Mapping[CredentialKind, timedelta] = {
    "secret": timedelta(days=180),
    "authorisation": timedelta(days=365),
}
"""How long Amazon accepts a client secret, and the authorisation of a public application."""

EXPIRY_WARNED_BEFORE = timedelta(days=30)
EXPIRY_REPEATED_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential of an account; ``since``: when it was first seen in use, so it may be older."""

    account: str
    kind: CredentialKind
    since: datetime


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that the status already says in words; ``subject`` names the place."""

    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that alerts depend on.

    ``verifications``: marketplaces whose verification failed, is late or found orders missing. ``buyers``:
    sources whose share of orders with an e-mail, or with a buyer's name, has dropped.
    """

    status: Status
    quarantined_lately: int = 0
    credentials: tuple[Credential, ...] = ()
    hooks: tuple[tuple[Hook, Backlog], ...] = ()
    verifications: tuple[Concern, ...] = ()
    buyers: tuple[Concern, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong; ``name`` identifies it as long as it lasts."""

    name: str
    sentence: str
    repeat: timedelta = REPEATED_AFTER


def alerts_of(facts: Facts, limits: Limits) -> list[Alert]:
    """Return what is wrong now."""
    status = facts.status
    alerts = [
        Alert(f"{_NAMES.get(reason.why, reason.why)}:{reason.subject}", reason.sentence)
        for reason in readiness(status, limits).reasons
        if not (reason.why == "success" and _is_new(status, reason.subject))
    ]
    alerts += _expiring(facts.credentials, status.at)
    if facts.quarantined_lately >= QUARANTINE_GROWTH:
        orders = f"{facts.quarantined_lately} orders came into quarantine within a day"
        see = "`order-sync quarantine list` says why; an upgrade may help"
        alerts.append(Alert("quarantine", f"{orders}: {see}."))
    alerts += _of_hooks(facts.hooks, status.at)
    alerts += [Alert(f"unproven:{concern.subject}", concern.sentence) for concern in facts.verifications]
    alerts += [Alert(f"unshown:{concern.subject}", concern.sentence) for concern in facts.buyers]
    return alerts


_NAMES = {"success": "stalled", "authorisation": "refused"}


def _is_new(status: Status, source: str) -> bool:
    """Return True if a source has neither succeeded nor failed yet: it was only just set up."""
    return any(
        s.source == source and s.succeeded_at is None and s.failing_since is None for s in status.sources
    )


def _expiring(credentials: Iterable[Credential], now: datetime) -> Iterator[Alert]:
    for credential in credentials:
        expires_at = credential.since + VALID_FOR[credential.kind]
        if expires_at - now > EXPIRY_WARNED_BEFORE:
            continue
        in_use = f"in use since {credential.since:%Y-%m-%d} or longer"
        latest = f"by {expires_at:%Y-%m-%d} at the latest"
        if credential.kind == "secret":
            what = f"the client secret is {in_use}"
            do = f"Amazon lets it expire 180 days after it was made, {latest}: make a new one"
        else:
            what = f"the authorisation is {in_use}"
            do = (
                f"a seller must renew that of a public application every 365 days, {latest}; "
                "that of a private one only when its roles change"
            )
        name = f"expires:{credential.account}:{credential.kind}"
        yield Alert(name, f"{credential.account}: {what}: {do}.", EXPIRY_REPEATED_AFTER)


def _of_hooks(hooks: Iterable[tuple[Hook, Backlog]], now: datetime) -> Iterator[Alert]:
    for hook, backlog in hooks:
        name = f"webhook {hook.hook_id}"
        if hook.failing_since is not None and now - hook.failing_since > HOOK_FAILING_FOR:
            since = f"has accepted nothing since {when(hook.failing_since)} UTC"
            yield Alert(f"receiver:{hook.hook_id}", f"{name} {since} ({hook.last_error}).")
        if backlog.dead:
            events = f"{counted(backlog.dead, 'event was', 'events were')} given up"
            see = f"`order-sync webhooks dead {hook.hook_id}` lists them"
            yield Alert(f"dead:{hook.hook_id}", f"{name}: {events}: {see}.")


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
        due = fresh.told_at is None or now - fresh.told_at >= alert.repeat
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
