"""Column types that mean the same on SQLite and PostgreSQL.

SQLite has neither exact numbers nor times with a zone: its ``Numeric`` is a float and its ``DateTime``
drops the offset. So money is text there and a time is ISO 8601 text of fixed width, which sorts as time
does. PostgreSQL keeps its own NUMERIC and TIMESTAMPTZ.
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
"""A whole-number key; on SQLite it must be called INTEGER to be the row id itself."""


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
    # As isoformat(timespec="microseconds"), which asks the zone first and so takes three times as long.
    text = _encoded(value)[1:-2].decode()
    return f"{text}+00:00" if value.microsecond else f"{text}.000000+00:00"


def _plain_text(value: Decimal | None) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or "E" not in text else format(value, "f")


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time with microseconds. Refuses a naive one."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(32))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return _time_text(value) if dialect.name == "sqlite" else _in_utc(value)

    def bind_processor(self, dialect: Dialect) -> Any:
        """The bare function: an order has seven times, and the decorator's layers cost more than they do."""
        return _time_text if dialect.name == "sqlite" else _in_utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        time: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.astimezone(UTC)


class Exact(TypeDecorator[Decimal]):
    """An exact decimal number: text on SQLite, NUMERIC on PostgreSQL. Never a float."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(40))
        return dialect.type_descriptor(sa.Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return _plain_text(value) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: Dialect) -> Any:
        """The bare function, as for times."""
        return _plain_text if dialect.name == "sqlite" else None

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class _Several(TypeDecorator[Collection[Any]]):
    """Texts or whole numbers as one value: a JSON list on SQLite, an array on PostgreSQL."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())
        return dialect.type_descriptor(sa.ARRAY(self.item))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return msgspec.json.encode(value).decode() if dialect.name == "sqlite" else value


class _Among(FunctionElement[bool]):
    type = sa.Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        return self  # a condition as it is: SQLAlchemy would compare it with 1, and no index would serve


@compiles(_Among, "sqlite")
def _among_on_sqlite(element: _Among, compiler: Any, **how: Any) -> str:
    column, values = (compiler.process(clause, **how) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(_Among, "postgresql")
def _among_on_postgresql(element: _Among, compiler: Any, **how: Any) -> str:
    column, values = (compiler.process(clause, **how) for clause in element.clauses)
    return f"{column} = ANY ({values})"


def among(column: sa.ColumnElement[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """``column IN (values)`` with a single parameter.

    With one for each value SQLAlchemy takes longer to bind them than the database takes to find the rows.
    """
    return _among(column, None, list(values))


def among_these(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """The same for a statement that is built once: its values are a list, the parameter ``these``."""
    return _among(column, "these", None)


def _among(
    column: sa.ColumnElement[Any], name: str | None, values: list[Any] | None
) -> sa.ColumnElement[bool]:
    if isinstance(column.type, sa.LargeBinary):  # SQLite has no way to hand over many as one
        each = sa.bindparam(name, values, column.type, expanding=True, required=values is None)
        return column.in_(each)
    return _Among(column, sa.bindparam(name, values, _Several(column.type), required=values is None))
