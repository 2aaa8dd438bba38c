"""The check at the end of the demo: the database against the simulated Amazon's own records."""

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
    """What the simulated Amazon knows. ``orders``: id -> the newest update that must be stored.

    ``spoilt``: unreadable orders; ``buyers``: normalised relay e-mails shown with readable orders;
    ``too_young``: orders that cannot be requested yet.
    """

    orders: Mapping[str, datetime]
    spoilt: frozenset[str]
    buyers: frozenset[str]
    too_young: frozenset[str]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds: every order as (id, its last update), quarantined ids, customers' e-mails."""

    orders: Sequence[tuple[str, datetime]]
    quarantined: Sequence[str]
    emails: Sequence[str]


def truth_of(amazon: Simulator, upto: datetime) -> Truth:
    """Return what must be stored once everything up to ``upto`` has been read."""
    orders: dict[str, datetime] = {}
    spoilt: set[str] = set()
    too_young: set[str] = set()
    for order in amazon.world.orders():
        if order.is_of_other_shop:  # no file of the demo wants it
            continue
        versions = [version for version in order.versions if version.last_updated <= upto]
        if order.created > upto or not versions:
            too_young.add(order.order_id)
        elif versions[-1].facts.poison is not None:
            spoilt.add(order.order_id)
        else:
            newest = versions[-1]
            sent = amazon_time(newest.last_updated, milliseconds=newest.facts.milliseconds)
            orders[order.order_id] = datetime.fromisoformat(sent)
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


def stored_in(store: Store, known: Collection[str]) -> Stored:
    """Read the whole database. An erased e-mail is identified among the ``known`` by its hash (R61)."""
    emails = []
    with store.read() as tx:
        orders = queries.order_versions(tx)
        for customer in queries.changed_customers(tx, 0, tx.readable_change_no()):
            emails += [normal_email(main.email) for main in customer.emails if main.email is not None]
        emails += _erased(tx, known)
        quarantined = [entry.order_id for entry in quarantine.entries(tx)]
    return Stored(orders, quarantined, emails)


def _erased(tx: Transaction, known: Collection[str]) -> Iterator[str]:
    erased = queries.erased_emails(tx)
    by_hash = {
        tx.lookup.email(business, email): email for business in {b for b, _ in erased} for email in known
    }
    for _, email_hash in erased:
        yield by_hash.get(email_hash, "an e-mail that was erased")


def differences(truth: Truth, stored: Stored) -> list[str]:
    """Return what is missing, doubled, outdated or invented; empty if all is right."""
    updates = dict(stored.orders)
    copies = Counter([order_id for order_id, _ in stored.orders] + list(stored.quarantined))
    records = Counter(stored.emails)
    faults: list[tuple[str, Iterable[str]]] = [
        ("is missing", (truth.orders.keys() | truth.spoilt) - copies.keys()),
        ("is stored twice", (order_id for order_id, number in copies.items() if number > 1)),
        ("does not exist", copies.keys() - truth.orders.keys() - truth.spoilt - truth.too_young),
        ("is stored in an old version", (i for i, at in truth.orders.items() if updates.get(i, at) < at)),
        ("should be an order and is in quarantine", truth.orders.keys() & set(stored.quarantined)),
        ("should be in quarantine and is an order", truth.spoilt & updates.keys()),
    ]
    problems = [f"order {order_id} {fault}" for fault, ids in faults for order_id in sorted(ids)]
    if missing := len(truth.buyers - records.keys()):
        problems.append(f"{missing} buyers have no customer record")
    if doubled := sum(1 for number in records.values() if number > 1):
        problems.append(f"{doubled} buyers have several customer records")
    if invented := len(records.keys() - truth.buyers):
        problems.append(f"{invented} customers have an e-mail that Amazon never sent")
    return problems
