"""Several copies of an order merged into one (R25): each group of data from the newest copy that has it.

Copies arrive late, twice and in any sequence, and each may lack what another has. Each group keeps the update
time of the copy that it came from, so the outcome depends on the sequence only for equal update times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from store.introspection import parts_of
from store.records import LineRecord, OrderRecord, PackageRecord

_ORDER, _LINE = parts_of(OrderRecord), parts_of(LineRecord)
_CORE = (*_ORDER["core"], "marketplace")
"""What every copy brings. Absent in a newer copy it is not erased: it never changes on Amazon."""


class Merged(msgspec.Struct, frozen=True, gc=False):
    """One order, its copies merged with the ``stored`` one (None if it is new), and what of it to write.

    ``record`` has the decision of ``stored``.
    """

    record: OrderRecord
    stored: OrderRecord | None
    core: bool
    groups: frozenset[str]


def merge_copies(copies: Iterable[OrderRecord], stored: Mapping[str, OrderRecord]) -> list[Merged]:
    """Return each distinct order once, its copies merged from the oldest to the newest."""
    merged: dict[str, Merged] = {}
    for copy in sorted(copies, key=lambda o: o.last_updated_at):
        before = merged.get(copy.order_id)
        known = before.stored if before is not None else stored.get(copy.order_id)
        base = before.record if before is not None else known
        if base is None:
            merged[copy.order_id] = Merged(copy, None, True, frozenset(copy.as_of))
            continue
        record, core, groups = _merge(base, copy)
        if before is not None:
            record.unread = before.record.unread and before.record.unread - _brought(copy, groups)
            core, groups = core or before.core, groups | before.groups
        merged[copy.order_id] = Merged(record, known, core, groups)
    return list(merged.values())


def _merge(base: OrderRecord, copy: OrderRecord) -> tuple[OrderRecord, bool, frozenset[str]]:
    """Return ``base`` with what ``copy`` may write, True if that includes the core, and its groups (R25)."""
    as_of = dict(base.as_of)
    core = copy.last_updated_at >= base.last_updated_at
    groups = frozenset(g for g, time in copy.as_of.items() if g not in as_of or time >= as_of[g])
    as_of.update((group, copy.as_of[group]) for group in groups)
    names = [name for group in groups for name in _ORDER.get(group, ()) if name not in copy.unread]
    changes: dict[str, Any] = {name: getattr(copy, name) for name in names}
    if "packages" in changes:
        changes["packages"] = tuple(_labelled(package, base.packages) for package in copy.packages)
    if core:
        changes |= {name: value for name in _CORE if (value := getattr(copy, name)) is not None}
    if _decides(copy, base, _ORDER["lasting"], core):
        changes |= {name: getattr(copy, name) for name in _ORDER["lasting"]}
    merged = replace(
        base,
        as_of=as_of,
        delivered_at=_earlier(base.delivered_at, copy.delivered_at),
        shipped_at=_earlier(base.shipped_at, copy.shipped_at),
        cancelled_at=_earlier(base.cancelled_at, copy.cancelled_at),
        lines=_merge_lines(base.lines, copy.lines, core, groups, copy.unread),
        ready=base.ready or copy.ready,
        unread=copy.unread,
        **changes,
    )
    return merged, core, groups


def _brought(copy: OrderRecord, groups: frozenset[str]) -> frozenset[str]:
    """Return the fields, of the order and of its lines, that a copy brings with these groups."""
    names = (name for part in (_ORDER, _LINE) for group in groups for name in part.get(group, ()))
    return frozenset(names) - copy.unread


def _earlier(first: datetime | None, second: datetime | None) -> datetime | None:
    return min(first, second) if first is not None and second is not None else first or second


_LABELS = ("reference", "carrier", "service", "tracking_number", "shipped_at")


def _labelled(package: PackageRecord, stored: Iterable[PackageRecord]) -> PackageRecord:
    """Return a package with the labels that only the stored one has (R25); what it has itself counts.

    It is the same one if its reference is, or without one, its tracking number.
    """
    missing = [name for name in _LABELS if getattr(package, name) is None]
    by = "reference" if package.reference is not None else "tracking_number"
    same = [p for p in stored if getattr(p, by) is not None and getattr(p, by) == getattr(package, by)]
    if not missing or len(same) != 1:
        return package
    return replace(package, **{name: getattr(same[0], name) for name in missing})


def _merge_lines(
    base: tuple[LineRecord, ...],
    copy: tuple[LineRecord, ...],
    core: bool,
    groups: frozenset[str],
    unread: frozenset[str],
) -> tuple[LineRecord, ...]:
    """Merge lines by item ID. The newest copy says which lines there are: it has all or none."""
    if not base or not copy:
        return copy or base
    older = {line.order_item_id: line for line in base}
    newer = {line.order_item_id: line for line in copy}
    names = [name for group in groups for name in _LINE.get(group, ()) if name not in unread]
    lasting = tuple(name for name in _LINE["lasting"] if name not in unread)
    merged = []
    for item_id, line in (newer if core else older).items():
        old, new = older.get(item_id), newer.get(item_id)
        if old is None or new is None:
            merged.append(line)
            continue
        changes: dict[str, Any] = {name: getattr(new, name) for name in names}
        if core:
            changes |= {name: getattr(new, name) for name in _LINE["core"]}
        if _decides(new, old, lasting, core):
            changes |= {name: getattr(new, name) for name in lasting}
        merged.append(replace(old, **changes))
    return tuple(merged)


def _decides(new: Any, old: Any, names: tuple[str, ...], core: bool) -> bool:
    """Return True if ``new`` brings any of these lasting fields, as the newer copy or as the first."""
    brings, had = (any(getattr(copy, name) for name in names) for copy in (new, old))
    return brings and (core or not had)
