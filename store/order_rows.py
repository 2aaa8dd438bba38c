"""Records of orders and lines as rows and back, as the fields of the records are declared.

This runs for every order stored or read, so nothing is sealed or opened without need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from store import codec
from store.engine import Row
from store.introspection import Field, fields_of, parts_of
from store.records import (
    Address,
    Amount,
    LineRecord,
    OrderRecord,
    OtherAmounts,
    PackageRecord,
    says_something,
)
from store.sealing import Sealer

R = TypeVar("R", OrderRecord, LineRecord)

Place = Callable[[str], str]
"""Where the sealed value of a column is bound to, for one row."""

_Codec = tuple[Callable[[Any], str | None], Callable[[Any], Any]]
_CODECS: Mapping[Any, _Codec] = {
    tuple[str, ...]: (codec.dump_list, codec.load_list),
    Mapping[str, str]: (codec.dump_map, codec.load_map),
    tuple[PackageRecord, ...]: (codec.dump_packages, codec.load_packages),
    OtherAmounts: (codec.dump_amounts, codec.load_amounts),
}
_WORDS = (codec.dump_words, codec.load_words)


class Rows(Generic[R]):
    """Turns records of one type into rows and back."""

    def __init__(self, record: type[R]) -> None:
        fields = fields_of(record)
        self.sealed = tuple(f.name for f in fields if f.declared.sealed)
        self.amounts = tuple(f.name for f in fields if f.kind is Amount)
        self._countries = tuple((f.name, f"{f.name}_country") for f in fields if f.kind is Address)
        codecs: dict[str, _Codec] = {
            f.name: _WORDS if f.declared.joined else _CODECS[f.kind]
            for f in fields
            if not f.declared.sealed and (f.declared.joined or f.kind in _CODECS)
        }
        self.encoded: Callable[[R, str | None], dict[str, Any]] = _encoding(fields, codecs)
        """Makes the columns of a record, not sealed yet: a sealed column holds what is to be sealed.

        A row has one currency: an amount in another one is left out.
        """
        self._decoded = _decoding(fields, codecs)
        self._decoders = tuple((f.name, _decoder(f)) for f in fields if f.declared.sealed)
        self._columns = {part: self._with_countries(names) for part, names in parts_of(record).items()}

    def _with_countries(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return (*names, *(country for name, country in self._countries if name in names))

    def columns(self, parts: Iterable[str]) -> set[str]:
        """Return the columns that these parts of an order are kept in."""
        return {column for part in parts for column in self._columns.get(part, ())}

    def seal(self, row: dict[str, Any], sealer: Sealer, place: Place) -> dict[str, Any]:
        """Seal the columns of an encoded row, and return it."""
        for name in self.sealed:
            if row[name] is not None:
                row[name] = sealer.seal(row[name], place(name))
        return row

    def merge(
        self, row: dict[str, Any], encoded: Row, columns: Iterable[str], sealer: Sealer, place: Place
    ) -> None:
        """Overwrite columns of a stored row; what is sealed only if it differs once opened."""
        for name in columns:
            new, old = encoded[name], row[name]
            if name not in self.sealed:
                if new != old:
                    row[name] = new
            elif new is None or old is None or sealer.try_open(old, place(name)) != new:
                row[name] = None if new is None else sealer.seal(new, place(name))

    def fields(self, row: Row, sealer: Sealer, place: Place) -> dict[str, Any]:
        """Return the values of a record's declared fields; one left out is at its default.

        A sealed value that does not open spoils nothing else: its field is left out and named ``unreadable``.
        """
        values: dict[str, Any] = self._decoded(row)
        for name, country in self._countries:
            if row[country]:
                values[name] = Address(country=row[country])
        for name, decode in self._decoders:
            if row[name] is None:
                continue
            if (opened := sealer.try_open(row[name], place(name))) is None:
                values["unreadable"] = (*values.get("unreadable", ()), name)
            else:
                values[name] = decode(opened)
        return values


# --- functions written from the declaration -----------------------------------------------------------
# They are compiled once, as those of dataclasses are: looping over the fields takes half as long again.


def _encoding(fields: Iterable[Field], codecs: Mapping[str, _Codec]) -> Callable[[Any, Any], dict[str, Any]]:
    """Return the function that makes the columns of a record, with amounts in one currency."""
    functions: dict[str, Any] = {}
    columns: dict[str, str] = {}
    for field in fields:
        name, value = field.name, f"it.{field.name}"
        columns[name] = value
        if field.kind is Address:
            columns[f"{name}_country"] = f"{value} and {value}.country"
        if field.kind is Amount:
            columns[name] = f"{value}.amount if {value} and {value}.currency == currency else None"
        elif field.declared.sealed:
            functions[f"encode_{name}"] = _encoder(field)
            columns[name] = f"encode_{name}({value}) if {value} else None"
        elif name in codecs:
            functions[f"dump_{name}"] = codecs[name][0]
            columns[name] = f"dump_{name}({value})"
    return _compiled("it, currency", columns, functions)


def _decoding(fields: Iterable[Field], codecs: Mapping[str, _Codec]) -> Callable[[Row], dict[str, Any]]:
    """Return the function that makes the values of a record's fields that are not sealed."""
    functions: dict[str, Any] = {"Amount": Amount}
    values: dict[str, str] = {}
    for field in fields:
        name, column = field.name, f"it[{field.name!r}]"
        if field.kind is Amount:
            values[name] = f'None if {column} is None else Amount({column}, it["currency"] or "")'
        elif name in codecs:
            functions[f"load_{name}"] = codecs[name][1]
            values[name] = f"load_{name}({column})"
        elif not field.declared.sealed:
            values[name] = column
    return _compiled("it", values, functions)


def _compiled(
    arguments: str, items: Mapping[str, str], functions: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    """Return a function that makes a dictionary: by key, the expression for its value."""
    written = ", ".join(f"{key!r}: {expression}" for key, expression in items.items())
    function: Callable[..., dict[str, Any]] = eval(f"lambda {arguments}: {{{written}}}", functions)
    return function


def _encoder(field: Field) -> Callable[[Any], bytes | None]:
    if field.kind is str:
        return str.encode
    if field.kind is Address:
        return lambda address: msgspec.json.encode(address) if says_something(address) else None
    return msgspec.json.encode


def _decoder(field: Field) -> Callable[[bytes], Any]:
    return bytes.decode if field.kind is str else msgspec.json.Decoder(field.kind).decode


ORDERS = Rows(OrderRecord)
LINES = Rows(LineRecord)
