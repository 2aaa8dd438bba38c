"""One copy of an order in Amazon's words, translated into a record that has no customer yet.

Everything that depends only on this copy and on the seller's rules for its marketplace is settled here, so
that matching never sees data that the seller did not ask for. A group of data that the copy lacks, or that
the marketplace does not want, leaves its fields empty and is missing in ``as_of``: a partial address without
name or street counts as withheld, not as an address (R25).

A field that has the same name in both vocabularies is carried over if its group is there; groups of buyer
data and packages have the same members, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, get_origin

from msgspec.structs import astuple

from connectors.orders import GROUPS, AmazonLine, AmazonOrder, Money
from poller.matching.marketplace_rules import ALWAYS, DATASETS, MarketplaceRules, seller_status
from poller.matching.statuses import is_pending, is_ready, stage
from store.amounts import DISCOUNT
from store.introspection import fields_of
from store.records import (
    Address,
    Amount,
    Buyer,
    LineRecord,
    OrderRecord,
    OtherAmounts,
    PackageRecord,
    TaxNumber,
)

WITHHELD = "withheld"
"""A group of its own (R42): withheld tax is a subtotal of the proceeds that the tax data marks so."""

WITHHELD_TAKES = frozenset({"proceeds", "tax"})
"""What a copy must carry to bring it; one that lacks either erases nothing (R25)."""


_IN_EVERY_COPY = frozenset({"key", "core", "lasting"})


def _other_amounts(theirs: Iterable[tuple[str, Money]]) -> OtherAmounts:
    return tuple([(kind, _amount(money, kind == DISCOUNT)) for kind, money in theirs])


def _amount(money: Money, is_discount: bool = False) -> Amount:
    """Return an amount. Amazon's sign of a discount is not documented; ours is positive, lowers the price."""
    return Amount(abs(money.amount) if is_discount else money.amount, money.currency)


CONVERTERS: Mapping[Any, Callable[[Any], Any]] = {
    Amount: _amount,
    OtherAmounts: _other_amounts,
    Buyer: lambda buyer: Buyer(*astuple(buyer)),
    Address: lambda address: Address(*astuple(address)),
    tuple[PackageRecord, ...]: lambda packages: tuple([PackageRecord(*astuple(p)) for p in packages]),
}
"""How a value of ours is made of Amazon's; values of all other types are the same."""

_ORDER_FIELDS = tuple(
    field for field in fields_of(OrderRecord) if field.name in {theirs.name for theirs in fields(AmazonOrder)}
)


def translate(order: AmazonOrder, account: str, rules: MarketplaceRules | None) -> OrderRecord:
    """Return one copy of Amazon's as a record without a customer.

    ``rules`` are those of the order's marketplace; None if it is missing or not configured (R26).
    """
    status = order.status if "fulfillment" in order.present else None
    is_held = rules is not None and rules.pending == "hold"
    datasets = None if rules is None else rules.included_data
    groups = _groups(order.present, datasets, is_held or not is_pending(status))
    values = _carried(order, groups)
    if "tax" in groups:
        values["tax_numbers"] = tuple([TaxNumber(*astuple(each)) for each in order.tax_registrations])
    if "cancellation" in groups:
        values |= _cancellation(order)
    lines = _lines(order.lines, groups)
    reached = stage(status, values.get("packages", ()))
    seen_at = order.last_updated_at
    return OrderRecord(
        **values,
        account=account,
        as_of=dict.fromkeys(groups, seen_at),
        marketplace=None if rules is None else rules.code,
        seller_status=seller_status(order.programs, values.get("fulfilled_by"), rules),
        withheld_tax=_withheld(lines, values.get("total")) if WITHHELD in groups else None,
        lines=lines,
        price_list=None if rules is None else rules.price_list,
        tax_code=None if rules is None else rules.tax_code,
        labels={} if rules is None else rules.labels,
        delivered_at=seen_at if reached == "delivered" else None,
        shipped_at=seen_at if reached == "shipped" else None,
        cancelled_at=seen_at if reached == "cancelled" else None,
        ready=is_ready(status),
        shown=not is_pending(status) or (rules is not None and rules.pending == "placeholder"),
        unread=order.unread,
    )


@lru_cache(maxsize=256)
def _groups(present: frozenset[str], datasets: frozenset[str] | None, priced: bool) -> frozenset[str]:
    """Return the groups of data that are kept of a copy.

    ``datasets``: those that the marketplace wants, None if it is unknown. ``priced``: False for a pending
    order that is not held, whose prices are dropped: a placeholder's are shown without prices (R31), and the
    rules of an unknown marketplace may turn out to be either.
    """
    groups = present & GROUPS
    if datasets is not None:
        groups &= {g for g in groups if DATASETS[g] in datasets | {DATASETS["fulfillment"], ALWAYS}}
    if not priced:
        groups -= {"proceeds", "price"}
    return groups | {WITHHELD} if groups >= WITHHELD_TAKES else groups


class _Copied(NamedTuple):
    """The fields that a copy with certain groups brings; the ``converted`` ones need ``CONVERTERS``."""

    names: tuple[str, ...]
    values_of: Callable[[AmazonOrder], Iterable[Any]]
    converted: tuple[tuple[str, Callable[[Any], Any]], ...]


@lru_cache(maxsize=256)
def _copied(groups: frozenset[str]) -> _Copied:
    brought = [f for f in _ORDER_FIELDS if f.declared.part in groups | _IN_EVERY_COPY]
    names = tuple(f.name for f in brought)
    converted = tuple((f.name, CONVERTERS[f.kind]) for f in brought if f.kind in CONVERTERS)
    return _Copied(names, attrgetter(*names), converted)


def _carried(order: AmazonOrder, groups: frozenset[str]) -> dict[str, Any]:
    names, values_of, converted = _copied(groups)
    values = dict(zip(names, values_of(order), strict=True))
    for name, convert in converted:
        if values[name] is not None:
            values[name] = convert(values[name])
    return values


def _cancellation(order: AmazonOrder) -> dict[str, Any]:
    """Return what the lines say about cancelling, for the whole order."""
    lines = order.lines
    return {
        "cancel_requested": any([line.cancel_requested for line in lines]),
        "cancelled_by": _first([line.cancelled_by for line in lines]),
        "cancel_reason": _first([line.cancel_reason for line in lines])
        or _first([line.cancel_request_reason for line in lines]),
    }


_LINE_FIELDS = fields_of(LineRecord)
_LINE_VALUES = attrgetter(*(field.name for field in _LINE_FIELDS))
_LINE_AMOUNTS = tuple(i for i, field in enumerate(_LINE_FIELDS) if field.kind is Amount)
_DISCOUNT, _OTHERS = (
    next(i for i, field in enumerate(_LINE_FIELDS) if field.name == name)
    for name in ("discount", "other_amounts")
)


@lru_cache(maxsize=256)
def _absent(groups: frozenset[str]) -> tuple[tuple[int, Any], ...]:
    """Return the places of the fields that a line without these groups lacks, with their defaults."""
    return tuple(
        (i, () if get_origin(field.kind) is tuple else None)
        for i, field in enumerate(_LINE_FIELDS)
        if field.declared.part not in groups | _IN_EVERY_COPY
    )


def _lines(lines: Iterable[AmazonLine], groups: frozenset[str]) -> tuple[LineRecord, ...]:
    """Translate the lines by position: naming their fields would double the cost."""
    absent = _absent(groups)
    records = []
    for line in lines:
        values = list(_LINE_VALUES(line))
        for i, default in absent:
            values[i] = default
        for i in _LINE_AMOUNTS:
            money = values[i]
            if money is not None:
                values[i] = _amount(money, i == _DISCOUNT)
        if values[_OTHERS]:
            values[_OTHERS] = _other_amounts(values[_OTHERS])
        records.append(LineRecord(*values))
    return tuple(records)


def _withheld(lines: Iterable[LineRecord], total: Amount | None) -> Amount | None:
    """Return the tax withheld of all lines, in the currency of the total; None without one.

    Amounts in different currencies have no sum and stay on the lines.
    """
    present = [line.withheld_tax for line in lines if line.withheld_tax is not None]
    currencies = {amount.currency for amount in (*present, total) if amount is not None}
    if not present or len(currencies) > 1:
        return None
    return Amount(sum((a.amount for a in present), Decimal(0)), present[0].currency)


def _first(values: Iterable[str | None]) -> str | None:
    return next((v for v in values if v), None)
