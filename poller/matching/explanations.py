"""The customer rules in words, by their numbers, and the match bases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from store.records import CustomerRecord, OrderRecord

TEXTS: Mapping[str, str] = {
    "R2": "No main e-mail of the business equals the order's, so {customer} was created from the order.",
    "R3": "It holds what Amazon gave: buyer name, e-mail, delivery address, telephone; nothing is invented.",
    "R4": "It has the price list, tax code, currency and discount of the marketplace it was bought on.",
    "R5": "Amazon gives no billing address: the first delivery address became both; a pick-up gives none.",
    "R6": "A main e-mail of {customer} equals the order's, so that record was used unchanged.",
    "R8": "Empty fields of the record were filled from the order; nothing else of it was changed.",
    "R10": "The order's billing address was copied from the record, not from the delivery address.",
    "R12": "The e-mail is in another slot than the first; all three match alike.",
    "R17": "Amazon invoiced the order, or many buyers share its address: it counts as without an e-mail.",
    "R21": "Without an e-mail the order follows the marketplace's setting: {without_email}.",
    "R22": "The buyer was identified after the order had arrived: it was promoted to {customer}.",
    "R23": "The order replaces {replaces}, so it went to that order's customer.",
    "R24": "The order came through another channel than Amazon and has no Amazon buyer.",
    "R26": "The order's marketplace is missing or not configured; once it is, the order is matched.",
    "R30": "The order is pending: it is remembered and becomes an order when Amazon makes it ready.",
    "R31": "The order was pending and belonged to the marketplace's placeholder, without prices.",
    "R33": "The order was cancelled before it was ever seen ready, so it has no customer.",
    "R44": "The order has the price list and tax code that its customer had when it was matched.",
    "R19": "The order's e-mail came after a person had merged its record: it stays with {customer}.",
    "R50": "Customer {left} was merged into customer {joined}, and its orders moved there.",
    "R51": "{older} had this e-mail before, which matches no more: see `order-sync customers duplicates`.",
    "R53": "The record was merged: {customer} points to customer {merged_into}.",
    "R54": "That merge was undone: the order had arrived since then and followed its e-mail.",
    "R61": "Only a keyed hash of the e-mail was left; it recognised the returning customer.",
}
"""One sentence for each rule that can explain an order's customer."""

_WITHOUT_EMAIL: Mapping[str | None, str] = {
    "unidentified": "a record of its own, of status unidentified",
    "shared": "the marketplace's shared record",
    "held": "it is stored without a customer",
}


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


BASIS = {
    "created": "new customer",
    "email_1": "known by e-mail",
    "email_2": "known by second e-mail",
    "email_3": "known by third e-mail",
    "retained_hash": "known by erased e-mail",
    "unidentified": "no e-mail, own record",
    "shared": "no e-mail, shared record",
    "promoted": "e-mail came later",
    "replacement": "replaces another order",
    "placeholder": "pending, on placeholder",
    "held": "waits for its customer",
    "none": "no customer",
}
"""The exported ``match_basis`` in a few words."""


def explain(
    order: OrderRecord,
    customer: CustomerRecord | None,
    merges: Sequence[tuple[int, int]] = (),
    older: Sequence[int] = (),
) -> tuple[str, ...]:
    """Return why this order has this customer, or none: a sentence for each rule, beginning with its number.

    ``customer``: the order's record, if any. ``merges``: those that moved it there, as pairs of
    (left, joined), oldest first. ``older``: customers that had the order's e-mail before, as their own. The
    sentences hold no buyer data.
    """
    matched = merges[0][0] if merges else None if customer is None else customer.customer_id
    words = {
        "customer": "the customer" if matched is None else f"customer {matched}",
        "merged_into": "?" if customer is None else customer.merged_into,
        "replaces": order.replaces,
        "without_email": _WITHOUT_EMAIL.get(order.match_basis, "a record that names no buyer, or none yet"),
    }
    numbers = order.match_rules or _RULES_OF_BASIS.get(order.match_basis, ())
    if customer is not None and customer.status == "merged":
        numbers = (*numbers, "R53")
    return (
        *(f"{number}: {TEXTS[number].format(**words)}" for number in numbers),
        *(f"R50: {TEXTS['R50'].format(left=left, joined=joined)}" for left, joined in merges),
        *_about_older_email(order, customer, merges, older),
    )


def _about_older_email(
    order: OrderRecord,
    customer: CustomerRecord | None,
    merges: Sequence[tuple[int, int]],
    older: Sequence[int],
) -> Iterator[str]:
    """Yield why an e-mail that a record had before does not decide (R19, R51)."""
    if (
        merges
        and customer is not None
        and customer.customer_id in older
        and order.match_basis == "unidentified"
    ):
        yield f"R19: {TEXTS['R19'].format(customer=f'customer {customer.customer_id}')}"
    for other in older:
        if customer is None or other != customer.customer_id:
            yield f"R51: {TEXTS['R51'].format(older=f'Customer {other}')}"
