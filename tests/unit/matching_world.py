"""A naive store for the tests of matching: it hands out what ``Known`` promises and applies ``Matched``.

Lines are never handed out, and writes are applied by their flags alone, so that a decision that relied on
more than the contract would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import structs

from connectors.orders import GROUPS, AmazonAddress, AmazonBuyer, AmazonLine, AmazonOrder, Money
from poller.matching.emails import relevant_emails
from poller.matching.marketplace_rules import MarketplaceRules
from poller.matching.match import Known, Matched, OrderWrite, match
from poller.matching.translation import translate
from store.introspection import parts_of
from store.records import Basis, CustomerRecord, LineRecord, MainEmail, OrderRecord, Origin, normal_email

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 5, 2, tzinfo=UTC)
UK, DE = "A1F83G8C2ARO7P", "A1PA6795UKMFR9"
HOME = AmazonAddress(
    name="Ann Recipient", line1="1 High Street", city="Leeds", postal_code="LS1", country="GB", phone="0113"
)
OTHER_HOME = AmazonAddress(name="Ann Elsewhere", line1="2 Low Street", city="York", country="GB")
IBA_EMAIL = "no-reply-amazon-iba-buyer@amazon.de"

CORE = (
    *("last_updated_at", "channel", "marketplace_id", "marketplace", "programs", "seller_order_id"),
    "replaces",
)
LINE_CORE = ("sku", "asin", "title", "quantity", "customization_url")
DECISION = (
    *("as_of", "customer_id", "match_basis", "match_rules", "price_list", "tax_code", "labels"),
    *("seller_status", "marketplace", "ready", "shown", "term_at", "erased_at"),
    *("delivered_at", "shipped_at", "cancelled_at"),
)
BUYER = ("buyer", "delivery", "billing", "delivery_instructions", "tax_numbers", "cancel_reason")


def gbp(amount: str) -> Money:
    return Money(Decimal(amount), "GBP")


def after(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def rules_of(marketplace_id: str = UK, **changes: Any) -> MarketplaceRules:
    uk = MarketplaceRules("acme", "acme", UK, "UK", "GBP", "UK retail", tax_code="T20")
    de = MarketplaceRules("acme", "acme", DE, "DE", "EUR", "DE retail", tax_code="T19")
    return replace(uk if marketplace_id == UK else de, **changes)


def line(item: str = "i1", **changes: Any) -> AmazonLine:
    return replace(
        AmazonLine(item, 1, sku="SKU", unit_price=gbp("10.00"), item_total=gbp("10.00"), tax=gbp("2.00")),
        **changes,
    )


def an_order(
    order_id: str = "o1",
    email: str | None = "ann@marketplace.amazon.co.uk",
    *,
    name: str | None = "Ann Buyer",
    company: str | None = None,
    updated: float = 0,
    **changes: Any,
) -> AmazonOrder:
    """A ready order with everything; ``email=None`` and ``name=None`` together withhold the buyer."""
    absent = changes.pop("absent", frozenset())
    buyer = None if email is None and name is None else AmazonBuyer(name=name, email=email, company=company)
    present = GROUPS - frozenset(absent) - (frozenset({"buyer"}) if buyer is None else frozenset())
    base = AmazonOrder(
        order_id=order_id,
        created_at=T0,
        last_updated_at=after(updated),
        channel="AMAZON",
        present=present,
        marketplace_id=UK,
        status="UNSHIPPED",
        fulfilled_by="MERCHANT",
        buyer=buyer,
        delivery=HOME,
        total=gbp("12.00"),
        lines=(line(),),
    )
    return replace(base, **changes)


def a_pending_order(order_id: str = "o1", **changes: Any) -> AmazonOrder:
    absent = frozenset({"delivery", "packages"})
    changes = {"email": None, "name": None, "delivery": None, "absent": absent, "status": "PENDING"} | changes
    return an_order(order_id, **changes)


class World:
    """One account's orders and customers."""

    def __init__(self, *rules: MarketplaceRules, shared: frozenset[str] = frozenset()) -> None:
        self.rules = {r.marketplace_id: r for r in rules or (rules_of(UK), rules_of(DE))}
        self.shared = shared
        self.orders: dict[str, OrderRecord] = {}
        self.customers: dict[int, CustomerRecord] = {}
        self.hashes: dict[str, tuple[int, int]] = {}
        self.tombstones: dict[int, int] = {}
        self.suggested: list[tuple[int, int]] = []

    def sync(self, *orders: AmazonOrder) -> Matched:
        return self.apply([translate(o, "acme", self.rules.get(o.marketplace_id or "")) for o in orders])

    def rematch(self, order_id: str) -> Matched:
        return self.apply([self.orders[order_id]])

    def apply(self, copies: list[OrderRecord]) -> Matched:
        wanted = {c.order_id for c in copies} | {c.replaces for c in copies if c.replaces}
        wanted |= {o.replaces for i in wanted if (o := self.orders.get(i)) is not None and o.replaces}
        stored = {i: structs.replace(self.orders[i], lines=()) for i in wanted if i in self.orders}
        emails = relevant_emails([*copies, *stored.values()], self.shared)
        by_email = {e: place for e, place in self.email_places().items() if e in emails}
        special = {c.special: c.customer_id for c in self.customers.values() if c.special is not None}
        reachable = {o.customer_id for o in stored.values() if o.customer_id is not None}
        reachable |= {i for i, _ in by_email.values()} | set(special.values())
        counts = {
            i: sum(o.customer_id == i for o in self.orders.values())
            for i in reachable
            if self.customers[i].status == "unidentified"
        }
        known = Known(stored, {i: self.customers[i] for i in reachable}, by_email, special, counts)
        matched = match(
            copies, known, self.rules, account="acme", business="acme", shared_emails=self.shared, now=NOW
        )
        self._store(matched)
        return matched

    def email_places(self) -> dict[str, tuple[int, int]]:
        places = dict(self.hashes)
        for c in self.customers.values():
            for main in c.emails:
                if main.email is not None:
                    places[normal_email(main.email)] = (c.customer_id, main.slot)
        return places

    def _store(self, matched: Matched) -> None:
        ids: dict[int, int] = {}
        for created in matched.created:
            assert created.customer_id < 0
            ids[created.customer_id] = 1 + len(self.customers)
            new_id = ids[created.customer_id]
            self.customers[new_id] = replace(created, customer_id=new_id)
        for updated in matched.updated:
            assert updated.customer_id in self.customers
            self.customers[updated.customer_id] = updated
        assert len({w.record.order_id for w in matched.writes}) == len(matched.writes)
        for write in matched.writes:
            customer_id = write.record.customer_id
            record = write.record
            if customer_id is not None:
                record = structs.replace(record, customer_id=ids.get(customer_id, customer_id))
            self._write(structs.replace(write, record=record))
        for left, target in matched.tombstones:
            assert all(o.customer_id != left for o in self.orders.values())
            self.tombstones[left] = ids.get(target, target)
            self.customers[left] = replace(self.customers[left], status="merged", merged_into=target)
        self.suggested += [(left, ids.get(target, target)) for left, target in matched.suggested]

    def _write(self, write: OrderWrite) -> None:
        new, old = write.record, self.orders.get(write.record.order_id)
        assert write.is_new == (old is None)
        if old is None:
            self.orders[new.order_id] = new
            return
        names = {*DECISION, *(f for g in write.groups for f in parts_of(OrderRecord).get(g, ()))}
        names |= set(CORE) if write.core else set()
        names |= {"billing", "billing_origin"} if write.billing else set()
        names |= set(BUYER) if new.erased_at is not None else set()
        written = structs.replace(old, **{name: getattr(new, name) for name in names})
        # The record is the merged view: what the flags leave out must already be what is stored.
        assert structs.replace(written, lines=()) == structs.replace(new, lines=())
        self.orders[new.order_id] = structs.replace(written, lines=self._lines(write, old))

    def _lines(self, write: OrderWrite, old: OrderRecord) -> tuple[Any, ...]:
        before = {i.order_item_id: i for i in old.lines}
        now = {i.order_item_id: i for i in write.record.lines}
        names = [f for g in write.groups for f in parts_of(LineRecord).get(g, ())]
        names += LINE_CORE if write.core else ()
        lines = []
        for item in now if write.core else before:
            if item in now and item in before:
                lines.append(structs.replace(before[item], **{n: getattr(now[item], n) for n in names}))
            else:
                lines.append(now.get(item) or before[item])
        return tuple(lines)

    def customer_of(self, order_id: str = "o1") -> CustomerRecord:
        customer_id = self.orders[order_id].customer_id
        assert customer_id is not None
        return self.customers[customer_id]

    def basis(self, order_id: str = "o1") -> Basis | None:
        return self.orders[order_id].match_basis

    def living(self) -> list[CustomerRecord]:
        return [c for c in self.customers.values() if c.status != "merged"]

    def add_customer(
        self,
        *emails: str,
        origin: Origin = "hand",
        origins: Mapping[str, Origin] | None = None,
        **fields: Any,
    ) -> int:
        customer_id = 1 + len(self.customers)
        self.customers[customer_id] = CustomerRecord(
            business="acme",
            account=None,
            marketplace=None,
            created_at=T0,
            customer_id=customer_id,
            emails=tuple(MainEmail(slot, e, origin) for slot, e in enumerate(emails, 1)),
            origins=origins or {name: origin for name in fields},
            **fields,
        )
        return customer_id

    def edit(self, customer_id: int, **changes: Any) -> None:
        self.customers[customer_id] = replace(self.customers[customer_id], **changes)
