"""Small encodings between records and rows, shared by orders, customers and exports.

Sealed groups are JSON objects without their absent members. Lists of plain words are comma-joined.
``as_of`` omits the time of a group that equals the row's own, as nearly all do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import structs

from store.records import Amount, OtherAmounts, PackageRecord


def dump(value: Any) -> str:
    """Return compact JSON."""
    return msgspec.json.encode(value).decode()


def dump_words(words: Iterable[str]) -> str:
    """Join words without commas, such as programs or rule numbers."""
    return ",".join(words)


def load_words(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def dump_list(items: tuple[str, ...]) -> str | None:
    """Encode any strings; None if there are none."""
    return dump(list(items)) if items else None


def load_list(text: str | None) -> tuple[str, ...]:
    return tuple(msgspec.json.decode(text)) if text else ()


def dump_map(items: Mapping[str, str]) -> str | None:
    return dump(dict(items)) if items else None


def load_map(text: str | None) -> dict[str, Any]:
    return dict(msgspec.json.decode(text)) if text else {}


@lru_cache(maxsize=256)
def _groups(names: tuple[str, ...]) -> str:
    return dump_words(sorted(names))


def dump_as_of(as_of: Mapping[str, datetime], row_time: datetime) -> str:
    if all(time is row_time for time in as_of.values()):
        return _groups(tuple(as_of))
    return ",".join(
        group if time == row_time else f"{group}={time.isoformat()}" for group, time in sorted(as_of.items())
    )


def load_as_of(text: str, row_time: datetime) -> dict[str, datetime]:
    as_of = {}
    for part in load_words(text):
        group, _, time = part.partition("=")
        as_of[group] = datetime.fromisoformat(time) if time else row_time
    return as_of


def amount(value: Decimal | None, currency: str | None) -> Amount | None:
    return None if value is None else Amount(value, currency or "")


def dump_amounts(amounts: OtherAmounts) -> str | None:
    """Encode as ``[[type, amount, currency], …]``; None if there are none."""
    return dump([[kind, format(a.amount, "f"), a.currency] for kind, a in amounts]) if amounts else None


def load_amounts(text: str | None) -> OtherAmounts:
    items = msgspec.json.decode(text) if text else ()
    return tuple((kind, Amount(Decimal(number), currency)) for kind, number, currency in items)


def dump_packages(packages: tuple[PackageRecord, ...]) -> str | None:
    if not packages:
        return None
    return dump(
        [
            {**structs.asdict(p), "shipped_at": p.shipped_at.isoformat() if p.shipped_at else None}
            for p in packages
        ]
    )


def load_packages(text: str | None) -> tuple[PackageRecord, ...]:
    if not text:
        return ()
    packages = []
    for item in msgspec.json.decode(text):
        shipped = item.pop("shipped_at")
        shipped_at = datetime.fromisoformat(shipped) if shipped else None
        packages.append(PackageRecord(**item, shipped_at=shipped_at))
    return tuple(packages)
