"""Which e-mails identify a buyer, and which one may be written to (R14-R17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from store.records import Basis, CustomerRecord, OrderRecord, normal_email

BASIS_OF_SLOT: Mapping[int, Basis] = {1: "email_1", 2: "email_2", 3: "email_3"}
"""The match basis of an order whose e-mail stands in a slot of its customer."""


SHARED_LOCAL_PARTS = frozenset({"no-reply-amazon-iba-buyer"})
"""Local parts of addresses that Amazon gives to many buyers at once (R17)."""


INVOICED_BY_AMAZON = "INVOICE_BY_AMAZON"


NON_AMAZON = "NON_AMAZON"


RELAY_DOMAIN = "marketplace.amazon."


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


def contact_email(customer: CustomerRecord) -> str | None:
    """The first main e-mail that a person entered or imported and that is no relay address (R14)."""
    for main in sorted(customer.emails, key=lambda m: m.slot):
        if main.email is not None and main.origin != "amazon" and not is_relay(main.email):
            return main.email
    return None
