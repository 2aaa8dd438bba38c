"""Which e-mails identify a buyer, and which one may be written to (R14-R17)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from store.records import Basis, Buyer, CustomerRecord, OrderRecord, normal_email

BASIS_OF_SLOT: Mapping[int, Basis] = {1: "email_1", 2: "email_2", 3: "email_3"}
"""The match basis of an order whose e-mail stands in a slot of its customer."""

SHARED_LOCAL_PARTS = frozenset({"no-reply-amazon-iba-buyer"})
"""Local parts of addresses that Amazon gives to many buyers at once (R17)."""

INVOICED_BY_AMAZON = "INVOICE_BY_AMAZON"
NON_AMAZON = "NON_AMAZON"
RELAY_DOMAIN = "marketplace.amazon."


_ADDRESS = re.compile(
    r"""(?:"(?:[^"\\]|\\.)+" | [^\s"(),:;<>@\[\\\]]+)  # quoted, or without what needs quotes
        @ (?:[-\w\u0080-\U0010ffff]+\.)+ [-\w\u0080-\U0010ffff]+""",
    re.VERBOSE,
)
_JOINERS = "\u200c\u200d"
"""Invisible, and yet part of words, and so of domains, in Persian and Indian languages."""


def is_address(text: str) -> bool:
    """Return True if a text has the form of an e-mail address (R15).

    Deliberately no more than that: relay addresses, plus tags, dots anywhere before the ``@`` and domains in
    any language are addresses. ``N/A``, ``a@b@c``, ``mailto:ann@example.com`` and ``ann@example..com`` are
    none.
    """
    bare = text.strip()
    return _ADDRESS.fullmatch(bare) is not None and all(c.isprintable() or c in _JOINERS for c in bare)


def is_shared_email(email: str, shared_emails: frozenset[str]) -> bool:
    """Return True for an address that identifies no buyer and cannot be a main e-mail (R17).

    ``shared_emails`` are the settings' further addresses, in their normal form.
    """
    normal = normal_email(email)
    return normal in shared_emails or normal.partition("@")[0] in SHARED_LOCAL_PARTS


def is_relay(email: str) -> bool:
    """Return True for an anonymised address of Amazon's, which is not for writing to (R14)."""
    return normal_email(email).rpartition("@")[2].startswith(RELAY_DOMAIN)


def names_no_buyer(order: OrderRecord, shared_emails: frozenset[str]) -> bool:
    """Return True if the buyer named on the order is not the person who bought (R17)."""
    if INVOICED_BY_AMAZON in order.programs:
        return True
    email = order.buyer.email if order.buyer is not None else None
    return email is not None and is_shared_email(email, shared_emails)


def real_buyer(order: OrderRecord, shared_emails: frozenset[str]) -> Buyer | None:
    """Return the order's buyer unless it is not the person who bought (R17)."""
    return None if names_no_buyer(order, shared_emails) else order.buyer


def usable_email(order: OrderRecord, shared_emails: frozenset[str]) -> str | None:
    """Return the normal form (R15) of the e-mail that may identify the order's buyer, if any.

    None for what is no address (R15), is shared by many (R17), or is of another channel (R24).
    """
    if order.buyer is None or order.buyer.email is None or order.channel == NON_AMAZON:
        return None
    if names_no_buyer(order, shared_emails) or not is_address(order.buyer.email):
        return None
    return normal_email(order.buyer.email)


def relevant_emails(orders: Iterable[OrderRecord], shared_emails: frozenset[str]) -> frozenset[str]:
    """Return the normal forms of all e-mails that matching these orders may look up.

    ``orders`` are the page's copies and the stored orders they meet, since the merged order is matched. An
    e-mail that one copy's program or channel rules out is included: the merged order may have another.
    """
    return frozenset(
        normal_email(order.buyer.email)
        for order in orders
        if order.buyer is not None
        and order.buyer.email is not None
        and is_address(order.buyer.email)
        and not is_shared_email(order.buyer.email, shared_emails)
    )


def contact_email(customer: CustomerRecord) -> str | None:
    """Return the first main e-mail that a person entered or imported and that is no relay address (R14)."""
    for main in sorted(customer.emails, key=lambda m: m.slot):
        if main.email is None or main.origin == "amazon" or is_relay(main.email):
            continue
        if is_address(main.email):
            return main.email
    return None
