"""Small encodings between records and rows: what goes in comes out, and absent stays absent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from store import codec
from store.records import Address, Amount, Buyer, PackageRecord, TaxNumber
from store.sealing import Sealer

T0 = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_only_the_members_that_are_there_are_sealed_of_an_address_or_a_buyer() -> None:
    address = Address(name="Ann", city="Leeds", kind="RESIDENTIAL")
    assert msgspec.to_builtins(address) == {"name": "Ann", "city": "Leeds", "kind": "RESIDENTIAL"}
    sealer = Sealer([bytes(32)])
    assert sealer.open_as(Address, sealer.seal_json(address, "p"), "p") == address
    assert msgspec.to_builtins(Address()) == {}
    assert msgspec.to_builtins(Buyer(email="ann@example.com")) == {"email": "ann@example.com"}


def test_a_member_that_a_later_version_sealed_is_ignored_by_this_one() -> None:
    sealer = Sealer([bytes(32)])
    sealed = sealer.seal_json({"name": "Ann", "door_code": "1234"}, "p")
    assert sealer.open_as(Address, sealed, "p") == Address(name="Ann")


@pytest.mark.parametrize("value", [Address(name="Ann"), Buyer(email="ann@example.com")])
def test_no_repr_shows_buyer_data(value: object) -> None:
    assert "ann" not in (repr(value) + pretty_repr(value)).lower()


@pytest.mark.parametrize("words", [(), ("R2",), ("R2", "R3", "R44")])
def test_words_come_back(words: tuple[str, ...]) -> None:
    assert codec.load_words(codec.dump_words(words)) == words


def test_a_column_without_words_has_none() -> None:
    assert codec.load_words(None) == codec.load_words("") == ()


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8")), max_size=4).map(tuple))
def test_a_list_of_any_texts_comes_back(items: tuple[str, ...]) -> None:
    assert codec.load_list(codec.dump_list(items)) == items


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_a_map_comes_back(items: dict[str, str]) -> None:
    assert codec.load_map(codec.dump_map(items)) == items


def test_an_empty_list_or_map_is_no_text_at_all() -> None:
    assert codec.dump_list(()) is None
    assert codec.dump_map({}) is None
    assert codec.load_list(None) == ()
    assert codec.load_map(None) == {}


def test_a_group_as_old_as_its_row_needs_no_time() -> None:
    older = T0 - timedelta(days=1)
    as_of = {"buyer": T0, "tax": older, "proceeds": T0}
    written = codec.dump_as_of(as_of, T0)
    assert written == f"buyer,proceeds,tax={older.isoformat()}"
    assert codec.load_as_of(written, T0) == as_of
    assert codec.load_as_of(codec.dump_as_of({}, T0), T0) == {}


def test_a_group_keeps_its_time_when_the_row_grows_younger() -> None:
    later = T0 + timedelta(microseconds=1)
    assert codec.load_as_of(codec.dump_as_of({"buyer": T0}, later), later) == {"buyer": T0}


def test_an_amount_is_absent_when_its_number_is() -> None:
    assert codec.amount(None, "GBP") is None
    assert codec.amount(Decimal("0.00"), "GBP") == Amount(Decimal("0.00"), "GBP")


def test_packages_come_back_with_their_times() -> None:
    packages = (
        PackageRecord("1", "DELIVERED", "DELIVERED", "Carrier", "Ground", "TRK", T0),
        PackageRecord("2"),
    )
    assert codec.load_packages(codec.dump_packages(packages)) == packages
    assert codec.dump_packages(()) is None
    assert codec.load_packages(None) == ()


def test_tax_numbers_come_back() -> None:
    numbers = (TaxNumber("BUYER", "VAT", "GB1", "Ann Ltd"), TaxNumber(None, None, None, None))
    sealer = Sealer([bytes(32)])
    assert sealer.open_as(tuple[TaxNumber, ...], sealer.seal_json(numbers, "p"), "p") == numbers


@pytest.mark.parametrize(("value", "text"), [({"a": "é"}, '{"a":"é"}'), ([1, None], "[1,null]")])
def test_json_is_compact_and_readable(value: Any, text: str) -> None:
    assert codec.dump(value) == text
