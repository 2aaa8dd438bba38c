"""The proof at the end of the demo: the database against the simulated Amazon's own books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connectors.simulator.api import Served, Simulator
from connectors.simulator.orders import amazon_time
from poller.matching.emails import INVOICED_BY_AMAZON, is_shared_email
from store import quarantine, queries
from store.engine import Store, Transaction
from store.records import normal_email


@dataclass(frozen=True, slots=True)
class Truth:
    """What the simulated Amazon knows. ``orders``: id -> the newest update that had to be read.

    ``spoilt`` are the orders that nobody can read; ``buyers`` the relay addresses that were shown with
    the readable ones, in their normal form; ``too_young`` are those that may not be asked for yet.
    """

    orders: Mapping[str, datetime]
    spoilt: frozenset[str]
    buyers: frozenset[str]
    too_young: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """What the database holds: every order as (id, its last update), quarantined ids, customers' e-mails."""

    orders: Sequence[tuple[str, datetime]]
    quarantined: Sequence[str]
    emails: Sequence[str]


def truth_of(amazon: Simulator, upto: datetime) -> Truth:
    """What must be stored once everything up to ``upto`` has been read."""
    orders: dict[str, datetime] = {}
    spoilt: set[str] = set()
    too_young: set[str] = set()
    for one in amazon.world.orders():
        versions = [version for version in one.versions if version.last_updated <= upto]
        if one.created > upto or not versions:
            too_young.add(one.order_id)
        elif versions[-1].facts.poison is not None:
            spoilt.add(one.order_id)
        else:
            newest = versions[-1]
            told = amazon_time(newest.last_updated, milliseconds=newest.facts.milliseconds)
            orders[one.order_id] = datetime.fromisoformat(told)
    buyers = frozenset(_shown_buyers(amazon.served, spoilt))
    return Truth(orders, frozenset(spoilt), buyers, frozenset(too_young))


def _shown_buyers(served: Iterable[Served], spoilt: Collection[str]) -> Iterator[str]:
    for answer in served:
        for payload in answer.orders:
            if not isinstance(payload, dict) or payload.get("orderId") in spoilt:
                continue
            email = payload.get("buyer", {}).get("buyerEmail")
            invoiced = INVOICED_BY_AMAZON in payload["programs"]
            if email and not invoiced and not is_shared_email(email, frozenset()):
                yield normal_email(email)


def found_in(store: Store, known: Collection[str]) -> Found:
    """Read the whole database. Which of the ``known`` e-mails an erased one was, its hash tells (R61)."""
    emails = []
    with store.read() as tx:
        orders = queries.order_versions(tx)
        for customer in queries.changed_customers(tx, 0, tx.readable_change_no()):
            emails += [normal_email(main.email) for main in customer.emails if main.email is not None]
        emails += _erased(tx, known)
        quarantined = [entry.order_id for entry in quarantine.entries(tx)]
    return Found(orders, quarantined, emails)


def _erased(tx: Transaction, known: Collection[str]) -> Iterator[str]:
    erased = queries.erased_emails(tx)
    by_hash = {
        tx.lookup.email(business, email): email for business in {b for b, _ in erased} for email in known
    }
    for _, email_hash in erased:
        yield by_hash.get(email_hash, "an e-mail that was erased")


def wrongs(truth: Truth, found: Found) -> list[str]:
    """What is missing, doubled, out of date or made up; empty when all is right."""
    stored = dict(found.orders)
    times = Counter([order_id for order_id, _ in found.orders] + list(found.quarantined))
    people = Counter(found.emails)
    said: list[tuple[str, Iterable[str]]] = [
        ("is missing", (truth.orders.keys() | truth.spoilt) - times.keys()),
        ("is stored twice", (name for name, many in times.items() if many > 1)),
        ("does not exist", times.keys() - truth.orders.keys() - truth.spoilt - truth.too_young),
        ("is stored in an old version", (n for n, at in truth.orders.items() if stored.get(n, at) < at)),
        ("should be an order and is in quarantine", truth.orders.keys() & set(found.quarantined)),
        ("should be in quarantine and is an order", truth.spoilt & stored.keys()),
    ]
    problems = [f"order {name} {what}" for what, names in said for name in sorted(names)]
    if lacking := len(truth.buyers - people.keys()):
        problems.append(f"{lacking} buyers have no customer record")
    if doubled := sum(1 for many in people.values() if many > 1):
        problems.append(f"{doubled} buyers have several customer records")
    if strange := len(people.keys() - truth.buyers):
        problems.append(f"{strange} customers have an e-mail that Amazon never gave")
    return problems
