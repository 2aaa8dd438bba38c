"""Evidence for Amazon's data protection policy: what this installation does about each item. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from config.problems import Problem
from config.settings import Settings
from config.values import is_loopback
from poller.audit import KEPT_MONTHS
from poller.monitoring.health import Credential
from poller.monitoring.status import RetentionStatus
from poller.text import counted, when
from poller.web.access_review import Review
from poller.web.passwords import MAX_AGE, MIN_PASSWORD, REMEMBERED
from store.access_reviews import AccessReview
from store.audit_records import AuditEntry

REVIEWED_EVERY = timedelta(days=92)
ROTATED_EVERY = timedelta(days=365)

MOST_DAYS = 30
MOST_MONTHS = 18
"""How long the policy lets buyer data, and all other data, be kept."""

Verdict = Literal["met", "not met", "by a person"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the evidence is taken from, beside the settings.

    ``first_entry`` and ``last_entry``: of the audit log. ``erased_at``: when buyer data was erased last.
    ``oldest_order``: when the oldest order was placed. ``sslmode``: of PostgreSQL on another machine, else
    None. ``versions``: by name.
    """

    now: datetime
    settings: Settings
    problems: Sequence[Problem]
    review: Review
    reviewed: AccessReview | None
    first_entry: AuditEntry | None
    last_entry: AuditEntry | None
    credentials: Sequence[Credential]
    retention: RetentionStatus
    erased_at: datetime | None
    oldest_order: datetime | None
    sslmode: str | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is about an item of the policy. ``command`` shows more; None if only a person can."""

    item: str
    state: Verdict
    finding: str
    command: str | None


def evidence(facts: Facts) -> list[Evidence]:
    """Return the evidence of all items, in the order of docs/security.md."""
    return [
        Evidence(item, *find(facts), command and f"order-sync {command}") for item, command, find in ITEMS
    ]


# --- the items ----------------------------------------------------------------------------------------

Finding = tuple[Verdict, str]


def _met(is_met: bool) -> Verdict:
    return "met" if is_met else "not met"


def _network(facts: Facts) -> Finding:
    settings = facts.settings
    if settings.listen is None:
        return "met", "nothing is served over the network"
    host, port = settings.listen
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    served = f"listens on {address}; every request needs credentials"
    if is_loopback(host):
        return "met", served
    return "by a person", f"{served}; show the firewall in front of it"


def _names(facts: Facts) -> Finding:
    names = [one.user.name for one in facts.review.users]
    shared = [name for name in names if name in ("owner", "admin", "root")]
    if facts.settings.api_token is not None:
        shared.append("ORDER_SYNC_API_TOKEN")
    there = f"{counted(len(names), 'user')}, {counted(len(facts.review.tokens), 'token')}"
    if shared:
        return "not met", f"{there}; not of one person or program: {', '.join(shared)}"
    return "met", there


def _scopes(facts: Facts) -> Finding:
    see = [
        *(one.user.name for one in facts.review.users if "buyer-data" in one.user.scopes),
        *(f"token {token.name}" for token in facts.review.tokens if "buyer-data" in token.scopes),
    ]
    return "met", f"buyer data is shown to {', '.join(see) or 'no user and no token'}"


def _reviews(facts: Facts) -> Finding:
    last, findings = facts.reviewed, counted(facts.review.overdue, "finding")
    if last is None:
        return "not met", f"no review took place; {findings} now"
    on = f"last review {last.at:%Y-%m-%d} by {last.who}"
    return _met(facts.now - last.at <= REVIEWED_EVERY), f"{on}; {findings} now"


def _lock_out(_: Facts) -> Finding:
    return "met", "a delay that grows with each failure, by name and by address"


def _passwords(facts: Facts) -> Finding:
    rule = f"{MIN_PASSWORD} characters, no common one, not one of the last {REMEMBERED}"
    old = [
        one.user.name
        for one in facts.review.users
        if one.user.password is not None and facts.now - one.user.password_at >= MAX_AGE
    ]
    if old:
        return "not met", f"{rule}; older than {MAX_AGE.days} days: {', '.join(old)}"
    return "met", f"{rule}; none is older than {MAX_AGE.days} days"


def _second_factor(facts: Facts) -> Finding:
    without = [
        one.user.name for one in facts.review.users if one.user.password is not None and not one.user.has_totp
    ]
    demanded = "demanded" if facts.settings.require_totp else "not demanded (ORDER_SYNC_REQUIRE_TOTP)"
    lacking = f"; without one-time codes: {', '.join(without)}" if without else ""
    return _met(facts.settings.require_totp), f"one-time codes are {demanded}{lacking}"


def _api_keys(facts: Facts) -> Finding:
    old = [_aged(c, facts.now) for c in facts.credentials if _is_old(c, facts.now) and c.kind != "key"]
    endless = [t.name for t in facts.review.tokens if t.stored is None or t.stored.expires_at is None]
    ages = [_aged(c, facts.now) for c in facts.credentials if c.kind != "key"]
    bad = [*old, *(f"token {name} has no expiry" for name in endless)]
    return _met(not bad), "; ".join(bad or ages or ["no account is configured"])


def _tls(facts: Facts) -> Finding:
    plain = [problem.message for problem in facts.problems if "without TLS" in problem.message]
    if plain:
        return "not met", plain[0].removesuffix(".")
    public = facts.settings.public_url
    if facts.sslmode == "disable":
        return "by a person", (
            "PostgreSQL on another machine without TLS (sslmode=disable): show that the way is private"
        )
    host = facts.settings.listen[0] if facts.settings.listen else None
    if host is not None and not is_loopback(host) and not (public or "").startswith("https:"):
        return "by a person", (
            f"HTTP without TLS is served on {host}, and ORDER_SYNC_PUBLIC_URL names no https address: "
            "show which proxy encrypts the way of browsers"
        )
    front = f"browsers by {public}" if public else "HTTP is served to this machine only"
    return "met", f"Amazon, webhooks and PostgreSQL beyond this machine by TLS; {front}"


def _at_rest(_: Facts) -> Finding:
    return "by a person", "buyer data is sealed with AES-256-GCM; show that the disk is encrypted, too"


def _keys(facts: Facts) -> Finding:
    keys = facts.settings.encryption_key or ()
    (age,) = [_aged(c, facts.now) for c in facts.credentials if c.kind == "key"] or ["no key is in use"]
    old = any(_is_old(c, facts.now) for c in facts.credentials if c.kind == "key")
    return _met(not old), f"{age}; {counted(len(keys), 'key')} in the settings"


def _buyer_data(facts: Facts) -> Finding:
    kept, due = facts.retention, facts.retention.due
    last = "nothing was erased yet" if facts.erased_at is None else f"last erased {when(facts.erased_at)} UTC"
    if kept.days is None:
        return "not met", "never erased (ORDER_SYNC_RETENTION_DAYS=off)"
    is_met = kept.days <= MOST_DAYS and due == 0
    return _met(is_met), f"erased after {kept.days} days; {counted(due, 'order')} overdue; {last}"


def _other_data(facts: Facts) -> Finding:
    months = facts.settings.order_retention_months
    oldest = (
        "no order" if facts.oldest_order is None else f"the oldest order is of {facts.oldest_order:%Y-%m-%d}"
    )
    if months is None:
        return "by a person", f"orders are never erased; {oldest}; show the law that asks for it"
    return _met(months <= MOST_MONTHS), f"erased after {months} months; {oldest}"


def _on_request(_: Facts) -> Finding:
    return "met", "a person or a seller is erased at once, for good"


def _logs(facts: Facts) -> Finding:
    if facts.first_entry is None or facts.last_entry is None:
        return "met", f"kept {KEPT_MONTHS} months; no entry yet"
    first, last = facts.first_entry.at, facts.last_entry.at
    return "met", f"kept {KEPT_MONTHS} months; entries from {when(first)} to {when(last)} UTC"


def _origin(_: Facts) -> Finding:
    return "met", "each order has its account and marketplace, each field of a customer its origin"


def _incidents(_: Facts) -> Finding:
    return "by a person", "the plan is docs/incidents.md; show who carries it out, and its last rehearsal"


def _backups(_: Facts) -> Finding:
    return "by a person", "show where backups lie, and the last that was restored as a test"


def _versions(facts: Facts) -> Finding:
    there = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return "by a person", f"{there}; show the last scan"


def _aged(credential: Credential, now: datetime) -> str:
    words = {"secret": "client secret", "authorisation": "authorisation", "key": "encryption key"}
    name = words[credential.kind]
    days = counted((now - credential.since).days, "day")
    return (
        f"{credential.account}: {name} in use for {days}"
        if credential.account
        else f"{name} in use for {days}"
    )


def _is_old(credential: Credential, now: datetime) -> bool:
    return now - credential.since > ROTATED_EVERY


ITEMS: tuple[tuple[str, str | None, Callable[[Facts], Finding]], ...] = (
    ("network: deny what is not authorised", "config check", _network),
    ("access: a name for each person, no shared logins", "access review", _names),
    ("access: least privilege", "users list", _scopes),
    ("access: reviewed every three months, removed within a day", "access review", _reviews),
    ("access: lock-out after ten failures", "audit list --action sign_in_refused", _lock_out),
    (
        "passwords: 12 characters, not common, the last ten not again, at most 365 days",
        "access review",
        _passwords,
    ),
    ("multi-factor authentication", "access review", _second_factor),
    ("API keys: encrypted, rotated every year", "tokens list", _api_keys),
    ("encryption on the way: TLS 1.2 or later", "config check", _tls),
    ("encryption at rest: AES-128 or better", None, _at_rest),
    ("key management", "config check", _keys),
    ("buyer data: at most 30 days after delivery", "privacy purge --dry-run", _buyer_data),
    ("all other data of Amazon's: at most 18 months, unless a law says otherwise", "status", _other_data),
    ("deletion on request", "audit list --action customer_forgotten", _on_request),
    ("logs: who tried and saw what, without personal data, 12 months, reviewed", "audit list", _logs),
    ("attributable to its origin", "customers show", _origin),
    ("incident plan, Amazon within 24 hours", None, _incidents),
    ("backups: apart, restored as a test", "db check", _backups),
    ("vulnerabilities: scan, mend critical ones within 7 days, others within 30", None, _versions),
)


def count_of(found: Iterable[Evidence], state: Verdict) -> int:
    """Return how many items are in a state."""
    return sum(one.state == state for one in found)
