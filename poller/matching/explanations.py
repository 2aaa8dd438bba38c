"""The customer rules in words, and the small questions about identity that they answer.

An e-mail is the only thing that ever identifies a buyer. Which e-mails may, which may be written to, and
the sentence behind every rule number stand together here, so that ``orders explain`` cannot drift away
from what the matching does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from store.records import Address, Basis, CustomerRecord, OrderRecord, normal_email

SHARED_LOCAL_PARTS = frozenset({"no-reply-amazon-iba-buyer"})
"""Local parts of addresses that Amazon gives to many buyers at once (R17)."""

INVOICED_BY_AMAZON = "INVOICE_BY_AMAZON"
NON_AMAZON = "NON_AMAZON"
STORE_PICK_UP = "IN_STORE_PICK_UP"
PICKUP_POINT = "PICKUP_POINT"
RELAY_DOMAIN = "marketplace.amazon."

TEXTS: Mapping[str, str] = {
    "R2": "No main e-mail of the business equalled the order's, so {customer} was created from the order.",
    "R3": "It holds what Amazon gave: buyer name, e-mail, delivery address, telephone; nothing was made up.",
    "R4": "It has the price list, tax code, currency and discount of the marketplace it was bought on.",
    "R5": "Amazon gives no billing address: the first delivery address became both; a pick-up gives none.",
    "R6": "A main e-mail of {customer} equals the order's, so that record was used as it is.",
    "R8": "Empty fields of the record were filled from the order; nothing that it had was changed.",
    "R10": "The order's billing address was copied from the record, not from the delivery address.",
    "R12": "The e-mail stands in another slot than the first; all three match alike.",
    "R17": "The order was invoiced by Amazon or has an address of many buyers: it counts as without e-mail.",
    "R21": "Without an e-mail the order follows the marketplace's setting: {without_email}.",
    "R22": "What identifies the buyer arrived after the order: it was promoted to {customer}.",
    "R23": "The order replaces {replaces} and went to that order's customer.",
    "R24": "The order came from another channel than Amazon and has no Amazon buyer.",
    "R26": "The order's marketplace is missing or not configured; if it can be, it is matched once it is.",
    "R30": "The order is pending: it is remembered, and becomes an order when Amazon makes it ready.",
    "R31": "The order was pending and stood on the marketplace's placeholder, without prices.",
    "R33": "The order was cancelled before it was ever seen ready, so it has no customer.",
    "R44": "Price list and tax code of the order are those that its customer had at that moment.",
    "R50": "Customer {left} was merged into customer {joined}, and its orders moved there.",
    "R53": "The record was merged: {customer} points to customer {merged_into}.",
    "R54": "That merge was undone: the order, which had come since, went with the e-mail that it carries.",
    "R61": "Only a keyed hash of the e-mail had been kept; it recognised the returning customer.",
}
"""One sentence for every rule that can explain an order's customer."""

_WITHOUT_EMAIL: Mapping[str | None, str] = {
    "unidentified": "a record of its own, of status unidentified",
    "shared": "the marketplace's shared record",
    "held": "it is stored and its customer waits",
}

BASIS_OF_SLOT: Mapping[int, Basis] = {1: "email_1", 2: "email_2", 3: "email_3"}
"""The match basis of an order whose e-mail stands in a slot of its customer."""

_RULES_OF_BASIS: Mapping[str | None, tuple[str, ...]] = {
    "created": ("R2", "R3", "R4", "R5"),
    "email_1": ("R6",),
    "email_2": ("R6", "R12"),
    "email_3": ("R6", "R12"),
    "retained_hash": ("R61",),
    "unidentified": ("R21",),
    "shared": ("R21",),
    "held": ("R21",),
    "promoted": ("R22",),
    "replacement": ("R23",),
    "placeholder": ("R31",),
}


def special_key(kind: Literal["shared", "placeholder"], account: str, marketplace_id: str) -> str:
    """Names a marketplace's one shared (R21) or placeholder (R31) record."""
    return f"{kind}:{account}:{marketplace_id}"


def is_shared_email(email: str, shared_emails: frozenset[str]) -> bool:
    """True for an address that identifies nobody and cannot be a main e-mail (R17).

    ``shared_emails`` are the settings' further addresses, in their normal form.
    """
    normal = normal_email(email)
    return normal in shared_emails or normal.partition("@")[0] in SHARED_LOCAL_PARTS


def is_relay(email: str) -> bool:
    """True for an anonymised address of Amazon's, which is not for writing to (R14)."""
    return normal_email(email).rpartition("@")[2].startswith(RELAY_DOMAIN)


def speaks_for_nobody(order: OrderRecord, shared_emails: frozenset[str]) -> bool:
    """True when the buyer named on the order is not the person who bought (R17)."""
    if INVOICED_BY_AMAZON in order.programs:
        return True
    email = order.buyer.email if order.buyer is not None else None
    return email is not None and is_shared_email(email, shared_emails)


def usable_email(order: OrderRecord, shared_emails: frozenset[str]) -> str | None:
    """The normal form (R15) of the e-mail that may identify the order's buyer, if any (R17, R24)."""
    if order.buyer is None or order.buyer.email is None or order.channel == NON_AMAZON:
        return None
    if speaks_for_nobody(order, shared_emails):
        return None
    return normal_email(order.buyer.email) or None


def relevant_emails(orders: Iterable[OrderRecord], shared_emails: frozenset[str]) -> frozenset[str]:
    """Normal forms of all e-mails that deciding these orders may ask for.

    Give it the page's copies and the stored orders that they meet: a decision is made on the merged
    order. An e-mail that one copy's program or channel rules out is included, since the merged order may
    have another.
    """
    found = (
        normal_email(o.buyer.email)
        for o in orders
        if o.buyer is not None and o.buyer.email and not is_shared_email(o.buyer.email, shared_emails)
    )
    return frozenset(email for email in found if email)


def is_pick_up(order: OrderRecord) -> bool:
    """True when the delivery address is a locker's or a store's, not a person's (R5, R18)."""
    return STORE_PICK_UP in order.programs or (
        order.delivery is not None and order.delivery.kind == PICKUP_POINT
    )


def shown_name(customer: CustomerRecord) -> str | None:
    """The name to show: the buyer's, else the recipient's, which is never stored as the buyer's (R18)."""
    if customer.name or customer.amazon_name:
        return customer.name or customer.amazon_name
    if customer.delivery is None or customer.delivery.kind == PICKUP_POINT:
        return None
    return customer.delivery.name


def contact_email(customer: CustomerRecord) -> str | None:
    """The first main e-mail that a person entered or imported and that is no relay address (R14)."""
    for main in sorted(customer.emails, key=lambda m: m.slot):
        if main.email is not None and main.origin != "amazon" and not is_relay(main.email):
            return main.email
    return None


def explain(
    order: OrderRecord, customer: CustomerRecord | None, merges: Sequence[tuple[int, int]] = ()
) -> tuple[str, ...]:
    """Why this order has this customer, or none: one sentence for each rule, beginning with its number.

    ``customer`` is the record that the order refers to, if any; ``merges`` those that moved it there, as
    pairs of (left, joined), oldest first. Names no buyer data.
    """
    matched = merges[0][0] if merges else None if customer is None else customer.customer_id
    words = {
        "customer": "the customer" if matched is None else f"customer {matched}",
        "merged_into": "?" if customer is None else customer.merged_into,
        "replaces": order.replaces,
        "without_email": _WITHOUT_EMAIL.get(order.match_basis, "a record that names nobody, or waiting"),
    }
    numbers = order.match_rules or _RULES_OF_BASIS.get(order.match_basis, ())
    if customer is not None and customer.status == "merged":
        numbers = (*numbers, "R53")
    return (
        *(f"{number}: {TEXTS[number].format(**words)}" for number in numbers),
        *(f"R50: {TEXTS['R50'].format(left=left, joined=joined)}" for left, joined in merges),
    )


def is_given(value: object) -> bool:
    """False for an empty field; a country alone is what retention leaves of an address (R60)."""
    if isinstance(value, Address):
        return value != Address(country=value.country, kind=value.kind)
    return value is not None and value != ""
