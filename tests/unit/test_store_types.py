"""What values become on SQLite: text that sorts as time does, and plain decimals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator

from store.types import Exact, UtcTime

ZONES = st.sampled_from([UTC, timezone(timedelta(0)), timezone(timedelta(hours=5, minutes=45))])


def stored(kind: TypeDecorator[Any], value: object) -> object:
    dialect = sqlite.dialect()
    convert: Any = kind.dialect_impl(dialect).bind_processor(dialect)
    return convert(value)


@given(st.datetimes(timezones=ZONES).filter(lambda time: time.year > 1))
def test_a_time_is_text_in_utc_with_microseconds(time: datetime) -> None:
    assert stored(UtcTime(), time) == time.astimezone(UTC).isoformat(timespec="microseconds")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        stored(UtcTime(), datetime(2026, 5, 1))  # noqa: DTZ001


@given(
    st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from([Decimal("1E+3"), Decimal("1E-9")])
)
def test_an_amount_is_written_without_an_exponent(amount: Decimal) -> None:
    assert stored(Exact(), amount) == format(amount, "f")


def test_what_is_absent_stays_absent() -> None:
    assert stored(UtcTime(), None) is None
    assert stored(Exact(), None) is None
