"""Statements that are compiled once and run for many rows: INSERT, UPDATE, COPY and row locks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.types import TypeDecorator

Row = Mapping[Any, Any]
"""A row as it lies in its table, by column name."""


def _converters(dialect: sa.Dialect, types: Sequence[Any]) -> list[tuple[int, Callable[[Any], Any]]]:
    """Return how values of this project's types become the driver's, with their index; others need nothing.

    SQLAlchemy also converts truth values and bytes, which costs time and yields the same values.
    """
    converters = [
        (i, each.dialect_impl(dialect).bind_processor(dialect))
        for i, each in enumerate(types)
        if isinstance(each, TypeDecorator)
    ]
    return [(i, convert) for i, convert in converters if convert is not None]


class _Prepared:
    """An INSERT or UPDATE that SQLAlchemy compiled once: its text, and how values become parameters.

    Building a statement and its parameters again for every row costs more than running it.
    """

    def __init__(
        self, dialect: sa.Dialect, statement: sa.Insert | sa.Update, types: Mapping[str, Any]
    ) -> None:
        columns = list(types) if isinstance(statement, sa.Insert) else None
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.sql = str(compiled)
        self._positional = compiled.positional
        self._names = tuple(compiled.positiontup or ()) if compiled.positional else tuple(types)
        self._pick = itemgetter(*self._names)  # a tuple, as no table has a single column
        self._converters = _converters(dialect, [types[name] for name in self._names])

    def parameters(self, rows: Sequence[Row]) -> list[Any]:
        """Return the values of rows as the driver takes them, converted column by column."""
        columns: list[Iterable[Any]] = list(zip(*map(self._pick, rows), strict=True))
        for i, convert in self._converters:
            columns[i] = map(convert, columns[i])
        values = zip(*columns, strict=True)
        return list(values) if self._positional else [dict(zip(self._names, v, strict=True)) for v in values]


@lru_cache(maxsize=64)
def insertion(dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...]) -> _Prepared:
    return _Prepared(dialect, sa.insert(table), {name: table.c[name].type for name in columns})


@lru_cache(maxsize=64)
def updating(
    dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...], where: tuple[str, ...]
) -> _Prepared:
    matches = sa.and_(
        *(table.c[name] == sa.bindparam(f"where_{name}", type_=table.c[name].type) for name in where)
    )
    values = {name: sa.bindparam(f"set_{name}", type_=table.c[name].type) for name in columns}
    types = {f"set_{name}": table.c[name].type for name in columns} | {
        f"where_{name}": table.c[name].type for name in where
    }
    return _Prepared(dialect, sa.update(table).where(matches).values(values), types)


COPY_MINIMUM = 5
"""From this number of rows on, PostgreSQL takes them by COPY, as one statement."""


@lru_cache(maxsize=64)
def _copying(dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...]) -> tuple[str, list[Any]]:
    """Return the COPY statement of a table, and how its values become the driver's."""
    quote = dialect.identifier_preparer
    names = ", ".join(quote.format_column(table.c[name]) for name in columns)
    converters = _converters(dialect, [table.c[name].type for name in columns])
    return f"COPY {quote.format_table(table)} ({names}) FROM STDIN", converters


def copy(conn: Connection, table: sa.Table, columns: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> None:
    """Insert rows into PostgreSQL by COPY, values in the order of the columns. Raises what an INSERT raises.

    An INSERT for each row takes a third more of the server's time for a page, and a quarter more of ours.
    """
    statement, converters = _copying(conn.dialect, table, columns)
    driver: Any = conn.connection.driver_connection
    dbapi: Any = conn.dialect.loaded_dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copying:
            for row in rows:
                values = list(row)
                for i, convert in converters:
                    values[i] = convert(values[i])
                copying.write_row(values)
    except dbapi.Error as error:
        raised = sa.exc.DBAPIError.instance(
            statement, None, error, dbapi.Error, hide_parameters=True, dialect=conn.dialect
        )
        raise raised from error


@lru_cache(maxsize=64)
def locking(query: sa.Select[Any]) -> sa.Select[Any]:
    """Return the query with row locks; cached for queries that are built once and run with every page."""
    return query.with_for_update()
