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

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A whole-number key; on SQLite it must be called INTEGER to be the row id itself."""


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    return value.astimezone(UTC)


@lru_cache(maxsize=64)  # half of all times written are the transaction's own
def _time_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not UTC:
        value = _in_utc(value) or value
    return value.isoformat(timespec="microseconds")


def _plain_text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def among(column: sa.ColumnElement[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """``column IN (values)``, without SQLAlchemy looking at every single value first."""
    return column.in_(sa.bindparam(None, list(values), type_=column.type, expanding=True))


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
