"""Which customer an order belongs to: one page of orders against what the store knows, and nothing else.

Pure, so that the decision can run inside the transaction that writes it, be repeated after a conflict, and be
read and tested without a database. It takes two steps. First the copies of each order are merged into one
(``poller.matching.order_copies``), so that the order of arrival does not change what is stored. Then every
order is decided once, oldest first (R20), against a picture of the customers that grows with each decision,
so that two first orders of one buyer end on one record. ``poller.matching.explanations`` words the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from poller.matching.customer_records import (
    fillable,
    has_only_hash,
    is_edited_by_hand,
    record_of_buyer,
    special_key,
    special_record,
    with_email,
)
from poller.matching.emails import (
    BASIS_OF_SLOT,
    NON_AMAZON,
    is_relay,
    names_no_buyer,
    usable_email,
)
from poller.matching.marketplace_rules import MarketplaceRules, seller_status
from poller.matching.order_copies import Merged, merge_copies
from poller.matching.retention import KEEP_ALL, Retention, term, without_buyer_data
from poller.matching.statuses import CANCELLED, is_pending
from store.origins import OURS, as_a_whole
from store.records import Basis, CustomerRecord, OrderRecord, country_only, normal_email

_PROMOTED_FROM = frozenset({"held", "unidentified", "shared"})
_UNDECIDED = _PROMOTED_FROM | {None, "placeholder"}


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows about a page, read and locked in the transaction that will write the outcome.

    ``orders``: stored orders of the page and the originals that replacements name, by order ID; their
    ``lines`` may be empty. ``by_email``: the business's main e-mails among the ``relevant_emails`` of the
    page's copies and of ``orders``, as ``normal_email -> (customer_id, slot)``. ``special``: customer ID by
    ``special_key``. ``unidentified``: the records that new orders of the page made before they were lost from
    the store, by order ID. ``customers``: every customer that these four name, tombstones followed.
    ``order_counts``: the number of stored orders of each unidentified customer among them.
    """

    orders: Mapping[str, OrderRecord]
    customers: Mapping[int, CustomerRecord]
    by_email: Mapping[str, tuple[int, int]]
    special: Mapping[str, int]
    order_counts: Mapping[int, int]
    unidentified: Mapping[str, int] = field(default_factory=dict)


class OrderWrite(msgspec.Struct, frozen=True, gc=False):
    """One order to write; the record merges stored and incoming copies.

    ``core`` and ``groups`` say which parts of it to write (``store.introspection.In``), ``billing`` that its
    billing address was copied from the customer (R10). What matching decides is always written.
    """

    record: OrderRecord
    is_new: bool
    core: bool
    groups: frozenset[str]
    billing: bool


@dataclass(frozen=True, slots=True)
class Matched:
    """The outcome of one page: one write for each distinct order, and what happens to customers.

    ``created``: new customers; their negative IDs are temporary references, also in the other fields.
    ``updated``: existing customers with filled fields (R8) or an e-mail restored from its hash (R61).
    ``tombstones``: (unidentified customer left without orders, customer that it points to).
    ``suggested``: (hand-edited record that an order was promoted away from, the other) (R22).
    ``promoted``: (order ID, customer that it left, if any, customer that it has now) (R22).
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

    ``orders``: translated copies in any sequence, several of an order if need be; a stored record (with its
    lines) passed as a copy of itself is decided again if it was undecided (R26). ``rules``: the configured
    marketplaces by marketplace ID. ``shared_emails``: the settings' addresses that identify no buyer (R17).
    ``now`` dates new records and says, with ``retention``, which orders are past their term: their buyer data
    serves to match and is not kept (R63).
    """
    over = retention.over_since(now)
    page = _Page(known, rules, account, business, frozenset(map(normal_email, shared_emails)), now, over)
    merged = merge_copies(orders, known.orders)
    for each in sorted(merged, key=lambda m: (m.record.created_at, m.record.order_id)):
        page.decide(each)
    return page.outcome()


class _Decision(msgspec.Struct, frozen=True, gc=False):
    """A customer with the basis and rules for it.

    ``fresh``: decided now; an earlier decision keeps price list and billing address (R10, R44).
    """

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
        self._unidentified = known.unidentified
        self._created: list[int] = []
        self._updated: dict[int, None] = {}
        self._left_for: dict[int, int] = {}
        self._promoted: list[tuple[str, int | None, int]] = []
        self._moves: Counter[int] = Counter()
        self._writes: list[OrderWrite] = []

    def decide(self, merged: Merged) -> None:
        """Decide one merged order and note what to write.

        ``erased_at`` marks an order whose buyer data serves to match and is not kept (R63).
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
        before = None if stored is None else stored.billing
        copied = customer is not None and (decision.fresh or (before is None and "billing" in filled))
        record = order if order.erased_at is None else without_buyer_data(order)
        record.customer_id = decision.customer_id
        record.match_basis = decision.basis
        record.match_rules = (*decision.rules, "R8") if filled and decision.fresh else decision.rules
        record.shown = order.ready or decision.basis == "placeholder" or not is_pending(order.status)
        _set_sellers_words(record, decision, customer, rules)
        record.billing = before
        if copied and customer is not None:
            record.billing = customer.billing
            record.billing_origin = as_a_whole(customer, "billing")
        if order.erased_at is not None and record.billing_origin not in OURS:
            record.billing = country_only(record.billing)
        self._orders[order.order_id] = record
        self._writes.append(OrderWrite(record, stored is None, merged.core, merged.groups, copied))

    def outcome(self) -> Matched:
        """Return everything decided so far."""
        return Matched(
            writes=tuple(self._writes),
            created=tuple(self._customers[i] for i in self._created),
            updated=tuple(self._customers[i] for i in self._updated),
            tombstones=tuple(
                (left, target) for left, target in self._left_for.items() if self._is_abandoned(left)
            ),
            suggested=tuple(
                (left, target)
                for left, target in self._left_for.items()
                if is_edited_by_hand(self._customers[left])
            ),
            promoted=tuple(self._promoted),
        )

    # --- R19-R33: the order's customer ---

    def _decision(
        self, order: OrderRecord, stored: OrderRecord | None, rules: MarketplaceRules | None
    ) -> _Decision:
        standing = _Decision(None, None, ())
        if stored is not None and (stored.customer_id is not None or stored.match_basis is not None):
            standing = _Decision(stored.customer_id, stored.match_basis, stored.match_rules, fresh=False)
            if self._is_settled(stored):
                self._note_older_email(order, stored)
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
            resolved = self._by_email_or_new(email, order, rules)
        else:
            original = self._customer_of_original(order)
            if original is None:
                return self._without_email(order, standing, rules, before)
            if original == standing.customer_id:
                return standing
            resolved = _Decision(original, "replacement", ("R23", "R10", "R44"))
        basis = resolved.basis
        if standing.basis in _PROMOTED_FROM:
            basis = "promoted"
            if resolved.customer_id is not None:
                self._promoted.append((order.order_id, standing.customer_id, resolved.customer_id))
        return _Decision(resolved.customer_id, basis, before + resolved.rules)

    def _is_settled(self, stored: OrderRecord) -> bool:
        """Return True if the decision is final (R19); one for a record that names no buyer is not (R22, R31).

        It is final, too, once a person has merged the order's unidentified record into an identified one, but
        not because its own record was edited, however it looks now.
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

    def _note_older_email(self, order: OrderRecord, stored: OrderRecord) -> None:
        """Give a record the e-mail that came after a person had merged the order's own record into it.

        Had it come before, the merge would have brought it (R50). It is an older e-mail, which matches
        nothing: a person sees the likeness, and decides.
        """
        email = usable_email(order, self._shared_emails)
        customer = None if stored.customer_id is None else self._customers.get(stored.customer_id)
        if stored.match_basis not in _PROMOTED_FROM or email is None or order.erased_at is not None:
            return
        if (
            customer is None
            or customer.status != "active"
            or order.buyer is None
            or order.buyer.email is None
        ):
            return
        if not is_relay(email):  # retention takes relay addresses alone out of the older e-mails
            return
        known = {
            normal_email(e) for e in (*customer.aliases, *(m.email for m in customer.emails)) if e is not None
        }
        if email not in known and self._by_email.get(email, (0, 0))[0] != customer.customer_id:
            self._change(customer, aliases=(*customer.aliases, order.buyer.email))

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
            written = order.buyer.email if order.buyer else None
            customer_id = self._add(record_of_buyer(order, written, rules, self._shared_emails))
            self._by_email[email] = (customer_id, 1)
            return _Decision(customer_id, "created", ("R2", "R3", "R4", "R5"))
        customer_id, slot = self._by_email[email]
        customer = self._customers[customer_id]
        if has_only_hash(customer, slot):
            if order.buyer is not None and order.erased_at is None:
                self._change(customer, emails=with_email(customer, slot, order.buyer.email), idle_since=None)
            return _Decision(customer_id, "retained_hash", ("R61", "R6", "R10", "R44"))
        numbers = ("R6", "R10", "R44") if slot == 1 else ("R6", "R12", "R10", "R44")
        return _Decision(customer_id, BASIS_OF_SLOT[slot], numbers)

    def _customer_of_original(self, order: OrderRecord) -> int | None:
        """Return the customer of the order that this one replaces, once it has one of its own (R23)."""
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
        elif names_no_buyer(order, self._shared_emails):
            numbers = ("R17", "R21")
        if standing.basis == "placeholder":
            numbers = before + numbers
        if rules.without_email == "hold":
            return _Decision(None, "held", numbers)
        if rules.without_email == "shared":
            return _Decision(self._special_customer("shared", rules), "shared", (*numbers, "R44"))
        own = self._unidentified.get(order.order_id)
        if own is None or self._customers[own].status != "unidentified":
            own = self._add(record_of_buyer(order, None, rules, self._shared_emails))
        return _Decision(own, "unidentified", (*numbers, "R44"))

    # --- R2-R8, R21, R31, R61: what happens to customer records ---

    def _add(self, fields: Mapping[str, Any]) -> int:
        customer_id = -1 - len(self._created)
        self._customers[customer_id] = CustomerRecord(
            business=self._business,
            account=self._account,
            created_at=self._now,
            customer_id=customer_id,
            **fields,
        )
        self._created.append(customer_id)
        return customer_id

    def _special_customer(self, kind: Literal["shared", "placeholder"], rules: MarketplaceRules) -> int:
        key = special_key(kind, self._account, rules.marketplace_id)
        if key not in self._special:
            self._special[key] = self._add(special_record(key, rules))
        return self._special[key]

    def _fill(
        self, customer_id: int, order: OrderRecord, groups: frozenset[str], fresh: bool
    ) -> frozenset[str]:
        """Fill the record's wholly empty fields from the order (R8). Returns their names."""
        customer = self._customers.get(customer_id)
        if customer is None or (customer_id < 0 and customer.created_from_order == order.order_id):
            return frozenset()
        filled = fillable(customer, order, groups, fresh, self._shared_emails)
        if filled:
            origins = {**customer.origins, **dict.fromkeys(filled, "amazon")}
            self._change(customer, **filled, origins=origins)
        return frozenset(filled)

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
                self._left_for[left] = joined
        if joined is not None:
            self._moves[joined] += 1

    def _is_abandoned(self, customer_id: int) -> bool:
        customer = self._customers[customer_id]
        return (
            customer.status == "unidentified"
            and not is_edited_by_hand(customer)
            and customer_id in self._counts
            and self._counts[customer_id] + self._moves[customer_id] <= 0
        )


def _set_sellers_words(
    record: OrderRecord, decision: _Decision, customer: CustomerRecord | None, rules: MarketplaceRules | None
) -> None:
    """Set the seller's own words: status and labels (R40), price list and tax code (R44)."""
    if rules is not None:
        record.marketplace = rules.code
        record.seller_status = seller_status(record.programs, record.fulfilled_by, rules)
        record.labels = rules.labels
    if customer is not None and decision.fresh:
        record.price_list, record.tax_code = customer.price_list, customer.tax_code
    elif decision.customer_id is None and rules is not None:
        record.price_list, record.tax_code = rules.price_list, rules.tax_code
