"""Records of orders and lines as rows and back, as the fields of the records are declared.

This runs for every order stored or read: values without a codec are moved in bulk, and nothing is sealed or
opened without need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

import msgspec

from store import codec
from store.engine import Row
from store.order_fields import Field, fields_of, parts_of
from store.records import Address, Amount, LineRecord, OrderRecord, PackageRecord, says_something
from store.sealing import Sealer

R = TypeVar("R", OrderRecord, LineRecord)

Place = Callable[[str], str]
"""Where the sealed value of a column is bound to, for one row."""

_CODECS: Mapping[Any, tuple[Callable[[Any], str | None], Callable[[Any], Any]]] = {
    tuple[str, ...]: (codec.dump_list, codec.load_list),
    Mapping[str, str]: (codec.dump_map, codec.load_map),
    tuple[PackageRecord, ...]: (codec.dump_packages, codec.load_packages),
}
_WORDS = (codec.dump_words, codec.load_words)


class Rows(Generic[R]):
    """Turns records of one type into rows and back."""

    def __init__(self, record: type[R]) -> None:
        fields = fields_of(record)
        self.sealed = tuple(f.name for f in fields if f.declared.sealed)
        self.amounts = tuple(f.name for f in fields if f.kind is Amount)
        self._addresses = tuple(f.name for f in fields if f.kind is Address)
        self._encoders = {f.name: _encoder(f) for f in fields if f.declared.sealed}
        self._decoders = {f.name: _decoder(f) for f in fields if f.declared.sealed}
        codecs = {
            f.name: _WORDS if f.declared.joined else _CODECS[f.kind]
            for f in fields
            if not f.declared.sealed and (f.declared.joined or f.kind in _CODECS)
        }
        self._dumps = tuple((name, dump) for name, (dump, _) in codecs.items())
        self._loads = tuple((name, load) for name, (_, load) in codecs.items())
        self._plain = tuple(
            f.name for f in fields if f.name not in codecs and not f.declared.sealed and f.kind is not Amount
        )
        self._plain_of_record = attrgetter(*self._plain)
        self._plain_of_row = itemgetter(*self._plain)
        self._columns = {part: self._with_countries(names) for part, names in parts_of(record).items()}

    def _with_countries(self, names: Iterable[str]) -> tuple[str, ...]:
        return (*names, *(f"{name}_country" for name in names if name in self._addresses))

    def columns(self, parts: Iterable[str]) -> set[str]:
        """Return the columns that these parts of an order are kept in."""
        return {column for part in parts for column in self._columns.get(part, ())}

    def encoded(self, record: R) -> dict[str, Any]:
        """Return the record's columns, not sealed yet: a sealed column holds what is to be sealed."""
        row = dict(zip(self._plain, self._plain_of_record(record), strict=True))
        for name in self.amounts:
            amount = getattr(record, name)
            row[name] = None if amount is None else amount.amount
        for name, dump in self._dumps:
            row[name] = dump(getattr(record, name))
        for name, encode in self._encoders.items():
            value = getattr(record, name)
            row[name] = encode(value) if value else None
        for name in self._addresses:
            address = getattr(record, name)
            row[f"{name}_country"] = None if address is None else address.country
        return row

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
            if name not in self._encoders:
                if new != old:
                    row[name] = new
            elif new is None or old is None or sealer.open(old, place(name)) != new:
                row[name] = None if new is None else sealer.seal(new, place(name))

    def fields(self, row: Row, sealer: Sealer, place: Place) -> dict[str, Any]:
        """Return the values of a record's declared fields; one left out is at its default."""
        values = dict(zip(self._plain, self._plain_of_row(row), strict=True))
        for name in self.amounts:
            if row[name] is not None:
                values[name] = Amount(row[name], row["currency"] or "")
        for name, load in self._loads:
            values[name] = load(row[name])
        for name in self._addresses:
            if row[f"{name}_country"]:
                values[name] = Address(country=row[f"{name}_country"])
        for name, decode in self._decoders.items():
            if row[name] is not None:
                values[name] = decode(sealer.open(row[name], place(name)))
        return values


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
