"""Which customer an order belongs to: one page of orders against what the store knows, and nothing else.

Pure, so that the decision can run inside the transaction that writes it, be run again on a conflict, and
be read and tested without a database. It works in two steps. First the copies of each order are merged
into one (``poller.matching.copies``), so that the order of arrival cannot change what is stored. Then every
order is decided once, oldest first (R20), against a picture of the customers that grows with each decision,
so that two first orders of one buyer end on one record. The rules are numbered;
``poller.matching.explanations`` holds their sentences, ``poller.matching.translation`` the step from
Amazon's words to ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from poller.matching.copies import Merged, merge_copies
from poller.matching.customer_records import is_given, is_pick_up, special_key
from poller.matching.emails import (
    BASIS_OF_SLOT,
    NON_AMAZON,
    speaks_for_nobody,
    usable_email,
)
from poller.matching.marketplaces import MarketplaceRules, seller_status
from poller.matching.retention import KEEP_ALL, OURS, Retention, term, without_buyer_data
from poller.matching.statuses import CANCELLED, is_pending
from store.records import (
    Address,
    Basis,
    CustomerRecord,
    MainEmail,
    OrderRecord,
    Origin,
    country_only,
    normal_email,
)

_PROMOTED_FROM = frozenset({"held", "unidentified", "shared"})
_UNDECIDED = _PROMOTED_FROM | {None, "placeholder"}


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows about this page, read in the same transaction and locked.

    ``orders``: by order id, the stored orders of this page and the originals that replacements name;
    their ``lines`` may be left empty. ``customers``: every customer reachable from ``orders``,
    ``by_email`` and ``special``, tombstones already followed. ``by_email``: the main e-mails of this
    business, ``normal_email -> (customer_id, slot)``, for the ``relevant_emails`` of the page's copies
    and of the stored ``orders``. ``special``: ``special_key`` -> customer id. ``order_counts``: the
    number of stored orders of each unidentified customer in ``customers``.
    """

    orders: Mapping[str, OrderRecord]
    customers: Mapping[int, CustomerRecord]
    by_email: Mapping[str, tuple[int, int]]
    special: Mapping[str, int]
    order_counts: Mapping[int, int]


class OrderWrite(msgspec.Struct, frozen=True, gc=False):
    """One order as it is to be written; the record is the merged view of stored and incoming copies.

    ``core``: times, channel, marketplace, programs, seller_order_id, replaces, which lines there are and
    each line's sku, asin, title, quantity, unit price and customization link are to be written.
    ``groups``: the groups whose fields (``store.order_fields.In``) are to be written; all
    others keep what is stored. ``billing``: the billing address was copied from the customer (R10).
    Customer, basis, rules, price list, tax code, labels, seller status, ready, shown and ``as_of`` are
    always the record's.
    """

    record: OrderRecord
    is_new: bool
    core: bool
    groups: frozenset[str]
    billing: bool


@dataclass(frozen=True, slots=True)
class Matched:
    """The outcome of one page: one write for every distinct order, and what happens to customers.

    ``created`` have negative ids, temporary references that ``writes`` and ``tombstones`` use too.
    ``updated``: existing customers with filled fields (R8) or the restored e-mail of a retained hash
    (R61). ``tombstones``: (unidentified customer left without orders, customer that it points to).
    ``suggested``: (hand-edited record that an order was promoted away from, the other) (R22).
    ``promoted``: (order id, customer that it left, if it had one, customer that it has now) (R22).
    """

    writes: tuple[OrderWrite, ...]
    created: tuple[CustomerRecord, ...]
    updated: tuple[CustomerRecord, ...]
    tombstones: tuple[tuple[int, int], ...]
    suggested: tuple[tuple[int, int], ...]
    promoted: tuple[tuple[str, int | None, int], ...]


def match(
    orders: Sequence[OrderRecord],
    known: Known,
    rules: Mapping[str, MarketplaceRules],
    *,
    account: str,
    business: str,
    shared_emails: frozenset[str],
    now: datetime,
    retention: Retention = KEEP_ALL,
) -> Matched:
    """Decide the customer of every order of one page.

    ``orders`` are translated copies in any order, one order possibly several times; a stored record
    (with its lines) given as the incoming copy of itself is decided anew where it was undecided (R26).
    ``rules`` are the configured marketplaces by marketplace id. ``shared_emails`` are the settings'
    further addresses that identify nobody (R17). ``now`` dates the records that are created, and says with
    ``retention`` which orders are past their term: their buyer data is looked at and not kept (R63).
    """
    over = retention.over_since(now)
    page = _Page(known, rules, account, business, frozenset(map(normal_email, shared_emails)), now, over)
    merged = merge_copies(orders, known.orders)
    for each in sorted(merged, key=lambda m: (m.record.created_at, m.record.order_id)):
        page.decide(each)
    return page.outcome()


class _Decision(msgspec.Struct, frozen=True, gc=False):
    """``fresh``: made now; otherwise it stood before, and price list and billing address stay (R10, R44)."""

    customer_id: int | None
    basis: Basis | None
    rules: tuple[str, ...]
    fresh: bool = True


class _Page:
    """The picture of one page's customers, growing with every decision."""

    def __init__(
        self,
        known: Known,
        rules: Mapping[str, MarketplaceRules],
        account: str,
        business: str,
        shared_emails: frozenset[str],
        now: datetime,
        over: datetime | None,
    ) -> None:
        self._rules = rules
        self._account = account
        self._business = business
        self._shared_emails = shared_emails
        self._now = now
        self._over = over
        self._counts = known.order_counts
        self._orders = dict(known.orders)
        self._customers = dict(known.customers)
        self._by_email = dict(known.by_email)
        self._special = dict(known.special)
        self._created: list[int] = []
        self._updated: dict[int, None] = {}
        self._left: dict[int, int] = {}
        self._promoted: list[tuple[str, int | None, int]] = []
        self._moves: Counter[int] = Counter()
        self._writes: list[OrderWrite] = []

    def decide(self, merged: Merged) -> None:
        """Give one merged order its customer and record what is to be written.

        An order with ``erased_at`` is one whose buyer data may be looked at and not kept (R63).
        """
        order, stored = copy(merged.record), merged.stored
        order.term_at = term(order).at
        if order.erased_at is None and self._over is not None and order.term_at <= self._over:
            order.erased_at = self._now
        rules = self._rules.get(order.marketplace_id) if order.marketplace_id is not None else None
        decision = self._decision(order, stored, rules)
        self._move(None if stored is None else stored.customer_id, decision.customer_id)

        filled: frozenset[str] = frozenset()
        customer = None
        if decision.customer_id is not None:
            filled = self._fill(decision.customer_id, order, merged.groups, decision.fresh)
            customer = self._customers.get(decision.customer_id)
        billing = None if stored is None else stored.billing
        copied = customer is not None and (decision.fresh or (billing is None and "billing" in filled))
        price_list, tax_code = order.price_list, order.tax_code
        if customer is not None and decision.fresh:
            price_list, tax_code = customer.price_list, customer.tax_code
        elif decision.customer_id is None and rules is not None:
            price_list, tax_code = rules.price_list, rules.tax_code
        record = order if order.erased_at is None else without_buyer_data(order)
        if rules is not None:
            record.marketplace = rules.code
            record.seller_status = seller_status(order.programs, order.fulfilled_by, rules)
            record.labels = rules.labels
        record.customer_id = decision.customer_id
        record.match_basis = decision.basis
        record.match_rules = (*decision.rules, "R8") if filled and decision.fresh else decision.rules
        record.billing = billing
        if copied and customer is not None:
            record.billing = customer.billing
            record.billing_origin = customer.origins.get("billing")
        if order.erased_at is not None and record.billing_origin not in OURS:
            record.billing = country_only(record.billing)
        record.price_list = price_list
        record.tax_code = tax_code
        record.shown = order.ready or decision.basis == "placeholder" or not is_pending(order.status)
        self._orders[order.order_id] = record
        self._writes.append(OrderWrite(record, stored is None, merged.core, merged.groups, copied))

    def outcome(self) -> Matched:
        """Everything decided so far."""
        return Matched(
            writes=tuple(self._writes),
            created=tuple(self._customers[i] for i in self._created),
            updated=tuple(self._customers[i] for i in self._updated),
            tombstones=tuple(
                (left, target) for left, target in self._left.items() if self._is_abandoned(left)
            ),
            suggested=tuple(
                (left, target)
                for left, target in self._left.items()
                if _edited_by_hand(self._customers[left])
            ),
            promoted=tuple(self._promoted),
        )

    # --- R19-R33: what the order's customer is ---

    def _decision(
        self, order: OrderRecord, stored: OrderRecord | None, rules: MarketplaceRules | None
    ) -> _Decision:
        standing = _Decision(None, None, ())
        if stored is not None and (stored.customer_id is not None or stored.match_basis is not None):
            standing = _Decision(stored.customer_id, stored.match_basis, stored.match_rules, fresh=False)
            if self._is_settled(stored):
                return standing
        if not order.ready:
            return self._not_ready(order, standing, rules)
        if rules is None:
            return standing if standing.basis is not None else _Decision(None, None, ("R26",))
        if standing.basis in _PROMOTED_FROM:
            before: tuple[str, ...] = ("R22",)
        else:
            before = ("R31",) if standing.basis == "placeholder" else ()

        email = usable_email(order, self._shared_emails)
        if email is not None:
            found = self._by_email_or_new(email, order, rules)
        else:
            original = self._customer_of_original(order)
            if original is None:
                return self._without_email(order, standing, rules, before)
            if original == standing.customer_id:
                return standing
            found = _Decision(original, "replacement", ("R23", "R10", "R44"))
        basis = found.basis
        if standing.basis in _PROMOTED_FROM:
            basis = "promoted"
            if found.customer_id is not None:
                self._promoted.append((order.order_id, standing.customer_id, found.customer_id))
        return _Decision(found.customer_id, basis, before + found.rules)

    def _is_settled(self, stored: OrderRecord) -> bool:
        """Decided once and for all (R19); a record that names nobody settles nothing (R22, R31).

        An order whose unidentified record a person merged into an identified one is settled too; a
        record of its own that was edited is not, however it looks now.
        """
        if stored.match_basis not in _UNDECIDED:
            return True
        if stored.customer_id is None:
            return False
        customer = self._customers.get(stored.customer_id)
        if customer is None or customer.status == "forgotten":
            return True
        return not (
            customer.special is not None
            or customer.status == "unidentified"
            or customer.created_from_order == stored.order_id
        )

    def _not_ready(
        self, order: OrderRecord, standing: _Decision, rules: MarketplaceRules | None
    ) -> _Decision:
        if standing.basis is not None:
            return standing
        if order.status == CANCELLED:
            return _Decision(None, None, ("R33",))
        if rules is None:
            return _Decision(None, None, ("R26",))
        if rules.pending == "hold":
            return _Decision(None, None, ("R30",))
        return _Decision(self._special_customer("placeholder", rules), "placeholder", ("R31", "R44"))

    def _by_email_or_new(self, email: str, order: OrderRecord, rules: MarketplaceRules) -> _Decision:
        if email not in self._by_email:
            customer_id = self._create(order, rules, email=order.buyer.email if order.buyer else None)
            self._by_email[email] = (customer_id, 1)
            return _Decision(customer_id, "created", ("R2", "R3", "R4", "R5"))
        customer_id, slot = self._by_email[email]
        if self._is_hash(customer_id, slot):
            self._restore_email(customer_id, slot, order)
            return _Decision(customer_id, "retained_hash", ("R61", "R6", "R10", "R44"))
        numbers = ("R6", "R10", "R44") if slot == 1 else ("R6", "R12", "R10", "R44")
        return _Decision(customer_id, BASIS_OF_SLOT[slot], numbers)

    def _customer_of_original(self, order: OrderRecord) -> int | None:
        """The customer of the order that this one replaces, once that order really has one (R23)."""
        original = None if order.replaces is None else self._orders.get(order.replaces)
        if original is None or original.customer_id is None:
            return None
        customer = self._customers.get(original.customer_id)
        if customer is None or customer.special is not None or customer.status == "forgotten":
            return None
        return original.customer_id

    def _without_email(
        self, order: OrderRecord, standing: _Decision, rules: MarketplaceRules, before: tuple[str, ...]
    ) -> _Decision:
        if standing.basis in ("unidentified", "shared"):
            return standing
        numbers: tuple[str, ...] = ("R21",)
        if order.channel == NON_AMAZON:
            numbers = ("R24", "R21")
        elif speaks_for_nobody(order, self._shared_emails):
            numbers = ("R17", "R21")
        if standing.basis == "placeholder":
            numbers = before + numbers
        if rules.without_email == "hold":
            return _Decision(None, "held", numbers)
        if rules.without_email == "shared":
            return _Decision(self._special_customer("shared", rules), "shared", (*numbers, "R44"))
        return _Decision(self._create(order, rules, email=None), "unidentified", (*numbers, "R44"))

    # --- R2-R8, R21, R31, R61: what happens to customer records ---

    def _create(self, order: OrderRecord, rules: MarketplaceRules, email: str | None) -> int:
        buyer = None if speaks_for_nobody(order, self._shared_emails) else order.buyer
        delivery = None if is_pick_up(order) else order.delivery
        kept = order.erased_at is None
        if not kept:
            buyer = delivery = None
        name = buyer.name if buyer is not None else None
        return self._add(
            rules,
            status="unidentified" if email is None else "active",
            created_from_order=order.order_id,
            emails=() if email is None else (MainEmail(1, email, "amazon", unwritten=not kept),),
            idle_since=None if kept or email is None else order.created_at,
            name=name,
            company=buyer.company if buyer is not None else None,
            amazon_name=name,
            phone=delivery.phone if delivery is not None else None,
            address=delivery,
        )

    def _special_customer(self, kind: Literal["shared", "placeholder"], rules: MarketplaceRules) -> int:
        """The marketplace's one record for orders that name nobody; it never holds buyer data."""
        key = special_key(kind, self._account, rules.marketplace_id)
        if key not in self._special:
            self._special[key] = self._add(rules, status="unidentified", special=key)
        return self._special[key]

    def _add(
        self,
        rules: MarketplaceRules,
        *,
        status: Literal["active", "unidentified"],
        special: str | None = None,
        created_from_order: str | None = None,
        emails: tuple[MainEmail, ...] = (),
        idle_since: datetime | None = None,
        name: str | None = None,
        company: str | None = None,
        amazon_name: str | None = None,
        phone: str | None = None,
        address: Address | None = None,
    ) -> int:
        customer_id = -1 - len(self._created)
        filled = {
            "name": name,
            "company": company,
            "amazon_name": amazon_name,
            "phone": phone,
            "billing": address,
            "delivery": address,
            "price_list": rules.price_list,
            "currency": rules.currency,
            "tax_code": rules.tax_code,
            "discount_percent": rules.discount_percent,
        }
        origins: dict[str, Origin] = {field: "amazon" for field, value in filled.items() if value is not None}
        self._customers[customer_id] = CustomerRecord(
            business=self._business,
            account=self._account,
            marketplace=rules.code,
            created_at=self._now,
            customer_id=customer_id,
            status=status,
            name=name,
            company=company,
            amazon_name=amazon_name,
            phone=phone,
            emails=emails,
            billing=address,
            delivery=address,
            price_list=rules.price_list,
            currency=rules.currency,
            tax_code=rules.tax_code,
            discount_percent=rules.discount_percent,
            origins=origins,
            special=special,
            created_from_order=created_from_order,
            idle_since=idle_since,
        )
        self._created.append(customer_id)
        return customer_id

    def _fill(
        self, customer_id: int, order: OrderRecord, groups: frozenset[str], fresh: bool
    ) -> frozenset[str]:
        """Fill the record's wholly empty fields from the order (R8); returns the names of those filled.

        A fresh match offers all that the order holds, a later copy only the groups that it brought. A
        field with an origin is not empty but emptied on purpose.
        """
        customer = self._customers.get(customer_id)
        if customer is None or customer.special is not None or customer.status in ("merged", "forgotten"):
            return frozenset()
        if order.erased_at is not None:
            return frozenset()
        if customer_id < 0 and customer.created_from_order == order.order_id:
            return frozenset()
        offered: dict[str, Any] = {}
        buyer = None if speaks_for_nobody(order, self._shared_emails) else order.buyer
        if (fresh or "buyer" in groups) and buyer is not None:
            offered["name"] = offered["amazon_name"] = buyer.name
            offered["company"] = buyer.company
        if (fresh or "delivery" in groups) and order.delivery is not None and not is_pick_up(order):
            offered["phone"] = order.delivery.phone
            offered["billing"] = offered["delivery"] = order.delivery
        filled = {
            name: value
            for name, value in offered.items()
            if value and name not in customer.origins and not is_given(getattr(customer, name))
        }
        if filled:
            self._change(customer, **filled, origins={**customer.origins, **dict.fromkeys(filled, "amazon")})
        return frozenset(filled)

    def _is_hash(self, customer_id: int, slot: int) -> bool:
        """Whether nothing but its hash is kept of the e-mail in this slot (R61)."""
        mains = self._customers[customer_id].emails
        return any(m.slot == slot and (m.email is None or m.unwritten) for m in mains)

    def _restore_email(self, customer_id: int, slot: int, order: OrderRecord) -> None:
        """Put the e-mail back where only its hash is, unless the order itself is past its term (R61, R63)."""
        if order.buyer is None or order.erased_at is not None:
            return
        customer, email = self._customers[customer_id], order.buyer.email
        restored = tuple(
            replace(m, email=email, unwritten=False) if m.slot == slot else m for m in customer.emails
        )
        self._change(customer, emails=restored, idle_since=None)

    def _change(self, customer: CustomerRecord, **changes: Any) -> None:
        self._customers[customer.customer_id] = replace(customer, **changes)
        if customer.customer_id > 0:
            self._updated[customer.customer_id] = None

    # --- R22: records that orders leave ---

    def _move(self, left: int | None, joined: int | None) -> None:
        if left == joined:
            return
        if left is not None:
            self._moves[left] -= 1
            if joined is not None and self._customers[left].special is None:
                self._left[left] = joined
        if joined is not None:
            self._moves[joined] += 1

    def _is_abandoned(self, customer_id: int) -> bool:
        customer = self._customers[customer_id]
        return (
            customer.status == "unidentified"
            and not _edited_by_hand(customer)
            and customer_id in self._counts
            and self._counts[customer_id] + self._moves[customer_id] <= 0
        )


def _edited_by_hand(customer: CustomerRecord) -> bool:
    return "hand" in customer.origins.values() or any(m.origin == "hand" for m in customer.emails)
