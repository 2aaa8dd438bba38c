"""What the amounts of an order say together: their currency, and what of the total they leave unexplained."""

from __future__ import annotations

from collections.abc import Iterator

from store.records import Amount, LineRecord, OrderRecord

DISCOUNT = "DISCOUNT"
"""Amazon's type of an amount that lowers the price."""


def order_currency(order: OrderRecord) -> str | None:
    """Return the currency of the grand total, else of the first priced line."""
    if order.total is not None:
        return order.total.currency
    return next((c for line in order.lines if (c := line_currency(line))), None)


def line_currency(line: LineRecord) -> str | None:
    """Return the currency of a line's amounts; its unit price, or its withheld tax, may be in another one."""
    amount = line.item_total or line.tax or line.shipping or line.discount or line.gift_wrap
    if amount is None and line.other_amounts:
        amount = line.other_amounts[0][1]
    amount = amount or line.unit_price or line.withheld_tax
    return None if amount is None else amount.currency


def unexplained(order: OrderRecord) -> Amount | None:
    """Return the grand total less all amounts that are known, in its currency; None without a total.

    An amount in another currency explains nothing: no rate is known.
    """
    total = order.total
    if total is None:
        return None
    rest = total.amount
    for kind, amount in _amounts(order):
        if amount is not None and amount.currency == total.currency:
            rest += amount.amount if kind == DISCOUNT else -amount.amount
    return Amount(rest, total.currency)


def _amounts(order: OrderRecord) -> Iterator[tuple[str, Amount | None]]:
    yield from order.own_amounts
    for line in order.lines:
        for amount in (line.item_total, line.tax, line.shipping, line.gift_wrap):
            yield "", amount
        yield DISCOUNT, line.discount
        yield from line.other_amounts
