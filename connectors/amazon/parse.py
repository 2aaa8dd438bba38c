"""Amazon's JSON of an order, read into our vocabulary. Only here and in ``model`` are Amazon's names known.

Decision: read strictly what we need, ignore the rest. Words that Amazon adds are kept, fields that
Amazon adds are ignored, an empty text is absent. But a needed field of the wrong type is never
guessed at, optional or not: that one order is returned as unreadable, with the field's name and its
payload, and the rest of the page is unharmed.

Every order passes through here, so a page is first decoded in one go by its model, which is what takes
the least time. A page that is anything but perfect is read again, order by order, by the standard
library's decoder and then against the same model: slower, but it can say which order is unreadable and
why. Both ways end in the same ``_order``, so they cannot disagree about what an order means.

Source of all names and types: Amazon's Orders API model, version 2026-01-01.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from connectors.amazon import model
from connectors.amazon.wire import promised
from connectors.errors import Garbled
from connectors.orders import (
    AmazonAddress,
    AmazonBuyer,
    AmazonLine,
    AmazonOrder,
    AmazonPackage,
    Money,
    OrderPage,
    TaxRegistration,
    UnreadableOrder,
)

T = TypeVar("T")
M = TypeVar("M")


# --- answers ---------------------------------------------------------------------------------


def page_of_json(content: bytes) -> OrderPage:
    """The page in a body of searchOrders.

    Raises Garbled when the body is not a JSON object with a list of ``orders``, when it reports errors,
    and when what surrounds the orders is malformed: a page token that cannot be read must never look
    like the end of the walk, nor a bound like a bound.
    """
    return _quick_page(content) or _careful_page(content)


def order_of_json(content: bytes) -> AmazonOrder | UnreadableOrder:
    """The order in a body of getOrder. Raises Garbled when the body is not a JSON object with an ``order``."""
    answer = _decoded(_GET_ORDER, content)
    if answer is not None and not answer.errors:
        try:
            return _order(answer.order)
        except _Malformed:
            pass
    return order_of(promised(content, "order", dict)["order"])


def order_of(value: Any) -> AmazonOrder | UnreadableOrder:
    """One order of Amazon's as the standard library decodes JSON; never raises.

    Numbers with a fraction should be Decimals, so that the payload of an unreadable order is exact.
    """
    try:
        return _order(_checked(value, model.Order, "the order"))
    except _Malformed as malformed:
        return UnreadableOrder(
            order_id=_glimpse(value, "orderId"),
            marketplace_id=_glimpse(value, "salesChannel", "marketplaceId"),
            reason=str(malformed),
            payload=compact_json(value),
        )


def compact_json(value: Any) -> str:
    """JSON in ASCII without blanks. Decimals are written as the numbers they were, so nothing is rounded."""
    if isinstance(value, dict):
        return (
            "{" + ",".join([f"{json.dumps(key)}:{compact_json(item)}" for key, item in value.items()]) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join([compact_json(item) for item in value]) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)
