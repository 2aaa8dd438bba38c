"""Pages and single orders from Amazon's JSON; ``model`` says what is read of an order.

Read strictly what we need, ignore the rest. New words of Amazon's are kept, new fields ignored, and an empty
text is absent. A field of the wrong type is never guessed. If the order can be stored truthfully without it
(``model.Spare``), it is left out. If not, the order is returned as unreadable, with the field's name and its
payload, and the rest of the page is unharmed.

There are two ways to read a page. A page without a fault is decoded against its model in one go; any other
page is re-read order by order with the standard library's decoder and checked against the same model, which
finds the unreadable order and the reason. The first takes 35 µs an order, the second 160 µs, where a worker
stores an order in 230 µs altogether. Both end in ``read_order``, so they cannot differ in meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import msgspec

from connectors.amazon import model
from connectors.amazon.model import read_order
from connectors.amazon.values import LAST_TIME, Malformed, is_order_id, text_of, time_of
from connectors.amazon.wire import promised
from connectors.errors import Garbled
from connectors.orders import (
    AmazonOrder,
    OrderPage,
    UnreadableOrder,
)

M = TypeVar("M")

BELIEVED_FOR = timedelta(days=1)
"""How far beyond Amazon's present an order may have been updated. A copy from later would count as newer than
every real one to come."""

MOST_LEFT_OUT = 100
"""How many members of one order are left out at most: each costs another reading."""

_INDEX = re.compile(r"\[[0-9]+\]")
_STEP = re.compile(r"\[[0-9]+\]|\.?[^.\[]+")


# --- pages and orders ------------------------------------------------------------------------


def page_of_json(content: bytes, not_after: datetime = LAST_TIME) -> OrderPage:
    """Read a body of searchOrders. An order that was updated later than ``not_after`` is unreadable.

    Raises Garbled if the body is not what the operation promises (see ``wire.promised``) or if anything
    around the orders is malformed: an unreadable page token must never look like the end of the walk, nor an
    unreadable bound like none.
    """
    page = _faultless_page(content, not_after)
    page = _any_page(content, not_after) if page is None else page
    return replace(page, payload_of=partial(_payload_in, content))


def _payload_in(content: bytes, order_id: str) -> str:
    """Return the JSON of an order of a page; of several copies the last."""
    orders = promised(content, "orders", list)["orders"]
    copies = [order for order in orders if isinstance(order, dict) and order.get("orderId") == order_id]
    return compact_json(copies[-1])


def order_of_json(text: str, not_after: datetime = LAST_TIME) -> AmazonOrder | UnreadableOrder:
    """Read one order from its JSON, such as the payload of an unreadable one. Never raises."""
    try:
        value = json.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):
        return UnreadableOrder(None, None, "the order is not readable JSON", text)
    return order_of(value, not_after)


def order_of(value: Any, not_after: datetime = LAST_TIME) -> AmazonOrder | UnreadableOrder:
    """Read one order decoded by the standard library, fractions as Decimal. Never raises."""
    left, unread, reason = value, set[str](), ""
    for _ in range(MOST_LEFT_OUT):
        try:
            return _read(_checked(left, model.Order, "the order"), not_after, frozenset(unread))
        except Malformed as malformed:
            reason = str(malformed)
        spare = _spare_in(reason)
        if spare is None:
            break
        keys, field = spare
        left = _without(left, keys)
        if field is not None:
            unread.add(field)
    order_id = _glimpse(value, "orderId", max_length=80)
    return UnreadableOrder(
        order_id=order_id if order_id and is_order_id(order_id) else None,
        marketplace_id=_glimpse(value, "salesChannel", "marketplaceId", max_length=32),
        reason=reason,
        payload=compact_json(value),
        last_updated_at=_glimpsed_time(value, "lastUpdatedTime", not_after),
        buyer_email=_glimpse(value, "buyer", "buyerEmail", max_length=320),
    )


def _spare_in(reason: str) -> tuple[list[str | int], str | None] | None:
    """Return the keys that lead to the innermost spare member around what a reason names, and its field."""
    steps = _STEP.findall(reason.partition(" ")[0])
    for end in range(len(steps), 0, -1):
        spare = model.spares().get(_INDEX.sub("[]", "".join(steps[:end])))
        if spare is not None:
            keys = (step.strip(".[]") for step in steps[:end])
            return [int(key) if key.isdecimal() else key for key in keys], spare.field
    return None


def _without(value: Any, keys: Sequence[str | int]) -> Any:
    """Return a copy of a decoded value without the member that the keys lead to."""
    first, *others = keys
    copy = value.copy()
    if others:
        copy[first] = _without(value[first], others)
    else:
        del copy[first]
    return copy


def _read(order: model.Order, not_after: datetime, unread: frozenset[str] = frozenset()) -> AmazonOrder:
    read = read_order(order, unread)
    for path, time in (("createdTime", read.created_at), ("lastUpdatedTime", read.last_updated_at)):
        if time > not_after:
            raise Malformed(f"{path} is in the future")
    return read


def compact_json(value: Any) -> str:
    """Return JSON in ASCII without blanks. Decimals are written exactly, so nothing is rounded.

    Iterative, because Amazon decides how deep a value is nested.
    """
    written: list[str] = []
    waiting = [value]  # the next item last; a tuple holds finished text
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple):
            written.append(item[0])
        elif isinstance(item, dict):
            members = [part for key in item for part in ((",",), (f"{json.dumps(key)}:",), item[key])]
            waiting += [("}",), *reversed(members[1:]), ("{",)]
        elif isinstance(item, list):
            elements = [part for element in item for part in ((",",), element)]
            waiting += [("]",), *reversed(elements[1:]), ("[",)]
        else:
            written.append(str(item) if isinstance(item, Decimal) else json.dumps(item))
    return "".join(written)


_PAGES = msgspec.json.Decoder(model.SearchOrdersAnswer)


def _faultless_page(content: bytes, not_after: datetime) -> OrderPage | None:
    """Return the page if it has no fault, else None, without the reason."""
    try:
        answer = _PAGES.decode(content)
    except (ValueError, RecursionError):
        return None
    # JSON has one spelling for NUL; searching for the backslash alone is many times faster.
    if answer.errors or (b"\\" in content and b"\\u0000" in content):
        return None
    try:
        return _page(answer, [_read(order, not_after) for order in answer.orders], [])
    except Malformed:
        return None


def _any_page(content: bytes, not_after: datetime) -> OrderPage:
    """Return the page, with its unreadable orders apart. Raises Garbled."""
    body = promised(content, "orders", list)
    try:
        answer = _checked(body | {"orders": []}, model.SearchOrdersAnswer, "the body")
        read = [order_of(order, not_after) for order in body["orders"]]
        return _page(
            answer,
            [order for order in read if isinstance(order, AmazonOrder)],
            [order for order in read if isinstance(order, UnreadableOrder)],
        )
    except Malformed as malformed:
        reason = str(malformed)
    raise Garbled(reason)


def _page(
    answer: model.SearchOrdersAnswer, orders: Sequence[AmazonOrder], unreadable: Sequence[UnreadableOrder]
) -> OrderPage:
    return OrderPage(
        orders=tuple(orders),
        unreadable=tuple(unreadable),
        next_token=text_of(answer.pagination.next_token) if answer.pagination is not None else None,
        echoed_before=time_of(answer.last_updated_before, "lastUpdatedBefore")
        or time_of(answer.created_before, "createdBefore"),
    )


# --- what is wrong with an order -------------------------------------------------------------


def _checked(value: Any, kind: type[M], whole: str) -> M:
    """Check ``value`` against the model. Raises Malformed; ``whole`` is what the reason calls ``value``."""
    try:
        checked = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason = _reason(str(error), whole)
    except UnicodeEncodeError:
        reason = f"{whole} has a field with a name that no database can store"
    else:
        # The whole in one call first: looking at each text takes a tenth of the time of storing a page.
        path = None if _is_storable(checked) else _unstorable(checked)
        if path is None:
            return checked
        reason = f"{path} holds a character that no database can store"
    raise Malformed(reason)


_WORDS = {"str": "a text", "int": "a whole number", "object": "an object", "array": "a list"}


def _reason(message: str, whole: str) -> str:
    """Reword the decoder's message. It names types and the path, never a value."""
    problem, _, path = message.rstrip("`").partition(" - at `$")
    path = path.removeprefix(".")
    named = re.findall(r"`(\w+)", problem)
    if problem.startswith("Object missing"):
        return f"{path}.{named[0]} is missing".removeprefix(".")
    if named[1:] == ["null"] and path and not path.endswith("]"):
        return f"{path} is missing"
    longest = re.search(r"of length <= (\d+)", problem)
    if longest is not None:
        return f"{path or whole} is longer than {longest[1]} characters"
    if "=" in problem:
        return f"{path or whole} is negative or too large"
    return f"{path or whole} is not {_WORDS[named[0]]}"


def _is_storable(value: object) -> bool:
    """Return True if certainly no text in it has what no database can store."""
    try:
        return b"\\u0000" not in msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False


def _unstorable(value: Any, path: str = "") -> str | None:
    """Return the path of the first text that no database can store, None if there is none.

    Such a text has a NUL, or half a surrogate pair, which JSON can spell and UTF-8 cannot.
    """
    if isinstance(value, str):
        return path if "\0" in value or not (value.isascii() or _is_encodable(value)) else None
    if isinstance(value, msgspec.Struct):
        for theirs, ours in zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True):
            member = getattr(value, ours)
            member_path = f"{path}.{theirs}" if path else theirs
            unstorable = None if member is None else _unstorable(member, member_path)
            if unstorable is not None:
                return unstorable
    elif isinstance(value, list):
        for i, element in enumerate(value):
            unstorable = _unstorable(element, f"{path}[{i}]")
            if unstorable is not None:
                return unstorable
    return None


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _glimpse(order: Any, *path: str, max_length: int) -> str | None:
    """Return a text of an unreadable order, None if it is missing, unstorable or too long."""
    for key in path:
        order = order.get(key) if isinstance(order, dict) else None
    if not isinstance(order, str) or len(order) > max_length or _unstorable(order) is not None:
        return None
    return text_of(order)


def _glimpsed_time(order: Any, name: str, not_after: datetime) -> datetime | None:
    """Return a time of an unreadable order, None if it is missing, malformed or in the future."""
    try:
        time = time_of(_glimpse(order, name, max_length=40), name)
    except Malformed:
        return None
    return None if time is None or time > not_after else time
