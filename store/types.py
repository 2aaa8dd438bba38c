"""Column types that mean the same on SQLite and PostgreSQL.

SQLite has neither exact numbers nor times with a zone: its ``Numeric`` is a float and its ``DateTime`` drops
the offset. So money is text there, and a time is ISO 8601 text of fixed width, which sorts like the time.
PostgreSQL uses its own NUMERIC and TIMESTAMPTZ.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A whole-number key. On SQLite the type must be INTEGER, so that the key is the row id itself."""


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    return value.astimezone(UTC)


_encoded = msgspec.json.Encoder().encode


@lru_cache(maxsize=64)  # half of all times written are the transaction's own
def _time_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not UTC:
        value = _in_utc(value) or value
    # Same as isoformat(timespec="microseconds"), which takes three times as long because it asks the zone.
    text = _encoded(value)[1:-2].decode()
    return f"{text}+00:00" if value.microsecond else f"{text}.000000+00:00"


def _plain_text(value: Decimal | None) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or "E" not in text else format(value, "f")


class _Time(TypeDecorator[datetime]):
    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return the bare function: the layers of ``process_bind_param`` cost more than it does."""
        return _in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)


class _TimeText(TypeDecorator[datetime]):
    impl = sa.String(32)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        return _time_text

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value).astimezone(UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time with microseconds. Refuses a naive one."""

    impl = _Time().with_variant(_TimeText(), "sqlite")
    cache_ok = True


class _DecimalText(TypeDecorator[Decimal]):
    impl = sa.String(40)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        return _plain_text

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Exact(TypeDecorator[Decimal]):
    """An exact decimal number: text on SQLite, NUMERIC on PostgreSQL. Never a float."""

    impl = sa.Numeric().with_variant(_DecimalText(), "sqlite")
    cache_ok = True


class _JsonList(TypeDecorator[Collection[Any]]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return msgspec.json.encode(value).decode()


def _several(item: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type of several values as one: a JSON list on SQLite, an array on PostgreSQL."""
    return sa.ARRAY(item).with_variant(_JsonList(), "sqlite")


class _Among(FunctionElement[bool]):
    type = sa.Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        return self  # as it is: SQLAlchemy would compare it with 1, and SQLite would use no index


@compiles(_Among, "sqlite")
def _in_json_list(element: _Among, compiler: Any, **how: Any) -> str:
    column, values = (compiler.process(clause, **how) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: Any, **how: Any) -> str:
    column, values = (compiler.process(clause, **how) for clause in element.clauses)
    return f"{column} = ANY ({values})"


def among(column: sa.ColumnElement[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """Return ``column IN (values)`` with a single parameter.

    With one for each value, SQLAlchemy takes longer to bind them than the database takes to find the rows.
    """
    return _among(column, None, list(values))


def among_these(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return ``column IN (:these)`` for a statement that is built once; ``these`` is a list."""
    return _among(column, "these", None)


def _among(
    column: sa.ColumnElement[Any], name: str | None, values: list[Any] | None
) -> sa.ColumnElement[bool]:
    if isinstance(column.type, sa.LargeBinary):  # SQLite cannot take several as one value
        each = sa.bindparam(name, values, column.type, expanding=True, required=values is None)
        return column.in_(each)
    return _Among(column, sa.bindparam(name, values, _several(column.type), required=values is None))
