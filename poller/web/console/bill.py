"""An order's amounts as a bill that adds up. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from store.amounts import DISCOUNT, order_currency, unexplained
from store.records import Amount, OrderRecord

NAMES = {
    "item": "Items",
    "shipping": "Shipping",
    "gift_wrap": "Gift wrap",
    "discount": "Discount",
    "tax": "Tax",
}
"""The rows that lines bring, in the order of the bill."""


@dataclass(frozen=True, slots=True)
class BillRow:
    """One row: a positive amount is to pay, a negative one lowers the total."""

    name: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Bill:
    """The rows sum up to the total. ``foreign``: amounts in other currencies, which no row can count."""

    rows: tuple[BillRow, ...]
    foreign: tuple[BillRow, ...]
    total: Amount | None
    unexplained: Amount | None
    """What of the total no row explains; None if all is explained, or the total is not known."""


def bill_of(order: OrderRecord) -> Bill:
    """Return the bill of an order. Amounts that are zero have no row, but the items."""
    currency = order_currency(order)
    sums: dict[tuple[str, str], Decimal] = {}
    for name, amount in _amounts(order):
        key = name, amount.currency
        sums[key] = sums.get(key, Decimal()) + amount.amount
    rows = [
        BillRow(name, Amount(total, of)) for (name, of), total in sums.items() if total or name == "Items"
    ]
    rest = unexplained(order)
    return Bill(
        tuple(row for row in rows if row.amount.currency == currency),
        tuple(row for row in rows if row.amount.currency != currency),
        order.total,
        rest if rest is not None and rest.amount else None,
    )


def _amounts(order: OrderRecord) -> Iterator[tuple[str, Amount]]:
    """Yield the amounts by the name of their row, in the order of the bill."""
    for field, name in NAMES.items():
        for line in order.lines:
            amount = line.item_total if field == "item" else getattr(line, field)
            if amount is not None:
                yield name, _negated(amount) if field == "discount" else amount
    for line in order.lines:
        yield from map(_other, line.other_amounts)
    yield from map(_other, order.own_amounts)


def _other(typed: tuple[str, Amount]) -> tuple[str, Amount]:
    kind, amount = typed
    if kind == DISCOUNT:
        return NAMES["discount"], _negated(amount)
    return NAMES.get(kind.lower(), kind.replace("_", " ").capitalize()), amount


def _negated(amount: Amount) -> Amount:
    return Amount(-amount.amount, amount.currency)
