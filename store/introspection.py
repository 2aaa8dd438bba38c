"""What the records of ``store.records`` declare about their fields with ``In``, read from their types.

Columns (``store.tables``), rows (``store.order_rows``), what a copy of an order may overwrite
(``poller.matching.order_copies``) and what erasure clears follow from it.
"""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class In(NamedTuple):
    """Declares that a field has a column.

    ``part`` says which copy of an order decides about it (R25): ``core``, the newest; ``lasting``, the newest
    that brings any of it; a group of data (``connectors.orders.GROUPS``, or ``withheld``), the newest with
    that group. ``decision`` is set by matching each time, ``billing`` seldom; ``key`` never changes.
    ``length``: the most characters. ``sealed``: buyer data. ``joined``: words, kept as one text with commas.
    """

    part: str
    length: int | None = None
    sealed: bool = False
    joined: bool = False


class Field(NamedTuple):
    """A field that has a column; ``kind`` is its type without None."""

    name: str
    kind: Any
    optional: bool
    declared: In


@cache
def fields_of(record: type) -> tuple[Field, ...]:
    """Return the fields of a record that are declared with ``In``."""
    hints = get_type_hints(record, include_extras=True)
    return tuple(
        Field(name, *_kind(hint.__origin__), declared)
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
        for declared in hint.__metadata__
        if isinstance(declared, In)
    )


def _kind(hint: Any) -> tuple[Any, bool]:
    """Return a type without None, and True if None was in it; a Literal is the type of its words."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    (kind,) = (member for member in members if member is not NoneType)
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    return kind, NoneType in members


@cache
def parts_of(record: type) -> dict[str, tuple[str, ...]]:
    """Return the names of a record's fields by part."""
    parts: dict[str, tuple[str, ...]] = {}
    for field in fields_of(record):
        parts[field.declared.part] = (*parts.get(field.declared.part, ()), field.name)
    return parts


@cache
def sealed_fields(record: type) -> tuple[str, ...]:
    """Return the names of a record's fields that hold buyer data."""
    return tuple(field.name for field in fields_of(record) if field.declared.sealed)
