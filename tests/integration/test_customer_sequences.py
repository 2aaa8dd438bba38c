"""Any sequence of orders, edits, imports, merges, unmerges and purges leaves every promise kept.

Each main e-mail is on one record, each order has one living customer, and once every term is over nothing is
left of what Amazon gave. Amazon's texts are marked ``amz``, what people typed or imported ``own``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.orders import AmazonAddress, AmazonOrder, AmazonPackage
from poller.customers import imports
from poller.errors import Refused
from poller.export import customer_object, journal_object, order_object
from poller.ingest.sources import AccountRules
from store import queries
from store.records import CustomerRecord, OrderRecord, normal_email
from tests.databases import long_on
from tests.integration.retention_world import MONTH, Place, a_place, minutes
from tests.integration.store_world import account_rules, apply, edit, merge, unmerge
from tests.unit.matching_world import an_order

PEOPLE = 4
NUMBERS = count(1)
"""Every example has a business of its own in one database."""

WHO = st.none() | st.integers(1, PEOPLE)
WHICH = st.integers(0, 9)
VALUES = st.sampled_from(
    [
        {"name": "Own Name"},
        {"name": ""},
        {"phone": "0113 4960001"},
        {"billing_line1": "1 Own Road"},
        {"delivery_city": "Owntown"},
        {"billing_country": "GB"},
        *(
            {f"email_{slot}": email}
            for slot in (1, 2, 3)
            for email in ("", "own1@example.com", "own2@example.com")
        ),
        *({f"email_{slot}": f"amz{who}@marketplace.amazon.co.uk"} for slot in (2, 3) for who in (1, 2)),
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("order"), WHO),
    st.tuples(st.just("order"), WHO),
    st.tuples(st.just("update"), WHICH, WHO),
    st.tuples(st.just("edit"), WHICH, VALUES),
    st.tuples(st.just("import"), st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.just("merge"), WHICH, WHICH),
    st.tuples(st.just("unmerge"), WHICH),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 25, 40])),
)


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    yield from a_place(database_url)


@dataclass
class Office:
    """One business on a shared database, and what Amazon shows of its orders."""

    place: Place
    folder: Path
    name: str = field(default_factory=lambda: f"acme{next(NUMBERS)}")
    shown: list[AmazonOrder] = field(default_factory=list)

    @property
    def rules(self) -> AccountRules:
        return replace(account_rules(account=self.name, business=self.name), retention=MONTH)

    def customers(self) -> list[CustomerRecord]:
        with self.place.store.read() as tx:
            every = queries.changed_customers(tx, 0, tx.readable_change_no())
            return sorted((c for c in every if c.business == self.name), key=lambda c: c.customer_id)

    def orders(self) -> list[OrderRecord]:
        with self.place.store.read() as tx:
            every = queries.changed_orders(tx, 0, tx.readable_change_no())
            return [o for o in every if o.account == self.name]

    # --- steps --------------------------------------------------------------------------------------

    def order(self, who: int | None) -> None:
        number = len(self.shown)
        at = self.place.clock()
        made = an_order(
            f"{self.name}-{number}",
            None if who is None else f"amz{who}@marketplace.amazon.co.uk",
            name=None if who is None else f"Amz Person {who}",
            created_at=at,
            updated=minutes(at),
            status="SHIPPED",
            delivery=AmazonAddress(
                name=f"Amz Person {who}", line1=f"{number} Amz Street", city="Amzton", country="GB"
            ),
            packages=(AmazonPackage("p1", "DELIVERED", shipped_at=at),),
        )
        self.shown.append(made)
        apply(self.place.store, made, rules=self.rules)

    def update(self, which: int, who: int | None) -> None:
        """A later copy of an order, maybe with its buyer by now."""
        if not self.shown:
            return
        before = self.shown[which % len(self.shown)]
        later = an_order(
            before.order_id,
            None if who is None else f"amz{who}@marketplace.amazon.co.uk",
            name=None if who is None else f"Amz Person {who}",
            created_at=before.created_at,
            updated=minutes(self.place.clock()),
            status="SHIPPED",
            delivery=before.delivery,
            packages=before.packages,
        )
        apply(self.place.store, later, rules=self.rules)

    def edit(self, which: int, values: dict[str, str]) -> None:
        if known := self.customers():
            edit(self.place.store, known[which % len(known)].customer_id, **values)

    def import_(self, external: int, email: int) -> None:
        file = self.folder / "customers.csv"
        file.write_text(
            "external_id,business,name,email_1\n"
            f"E{external},{self.name},Own Import {external},own{email}@example.com\n"
        )
        lines = imports.read_lines(file, {self.name: self.name}, frozenset())
        for _ in imports.import_lines(self.place.store, lines, "tests", dry_run=False, tell=lambda _: None):
            pass

    def merge(self, kept: int, other: int) -> None:
        if known := self.customers():
            merge(
                self.place.store,
                known[kept % len(known)].customer_id,
                known[other % len(known)].customer_id,
            )

    def unmerge(self, which: int) -> None:
        if buried := [c.customer_id for c in self.customers() if c.merged_into is not None]:
            unmerge(self.place.store, buried[which % len(buried)])

    def wait(self, days: int) -> None:
        self.place.clock.time += timedelta(days=days)
        self.place.purge()

    def take(self, step: tuple[Any, ...]) -> None:
        name, *arguments = step
        with suppress(Refused):
            getattr(self, "import_" if name == "import" else name)(*arguments)

    # --- promises -----------------------------------------------------------------------------------

    def check(self) -> None:
        people = self.customers()
        mains = Counter(normal_email(m.email) for c in people for m in c.emails if m.email is not None)
        assert max(mains.values(), default=0) <= 1, "no e-mail is on two records"
        living = {c.customer_id for c in people if c.status in ("active", "unidentified")}
        for order in self.orders():
            assert order.customer_id in living, f"{order.order_id} has one living customer"

    def quoted(self) -> str:
        """Everything that is stored about buyers, as text."""
        people = self.customers()
        with self.place.store.read() as tx:
            entries = [e for c in people for e in queries.journal_of(tx, c.customer_id)]
        everything = [
            *(customer_object(c) for c in people),
            *(order_object(o) for o in self.orders()),
            *(journal_object(e) for e in entries),
        ]
        return json.dumps(everything, default=str).casefold()


def live(place: Place, folder: Path, steps: list[tuple[Any, ...]]) -> None:
    office = Office(place, folder)
    for step in steps:
        office.take(step)
        office.check()
    office.wait(200)
    office.check()
    text = office.quoted()
    left = {text[max(0, i - 60) : i + 40] for i in range(len(text)) if text.startswith("amz", i)}
    assert left == set(), "nothing of Amazon's outlives its term"


@long_on("postgresql")
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=25))
def test_every_promise_is_kept_whatever_happens(place: Place, tmp_path: Path, steps: Any) -> None:
    live(place, tmp_path, steps)


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=60))
def test_every_promise_is_kept_whatever_happens_for_long(place: Place, tmp_path: Path, steps: Any) -> None:
    live(place, tmp_path, steps)
