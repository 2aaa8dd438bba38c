"""Many copies of an order, one order (R25): each group of data from its newest copy.

Copies arrive late, twice and out of order, and any of them may lack what another had. Merging group by
group, each with the update time that it is of, makes the outcome independent of the order of arrival, as
far as update times tell copies apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from store.order_fields import parts_of
from store.records import LineRecord, OrderRecord

_ORDER, _LINE = parts_of(OrderRecord), parts_of(LineRecord)
_CORE = (*_ORDER["core"], "marketplace")
"""What every copy brings. Absent in a newer copy it is not erased: it never changes on Amazon."""


class Merged(msgspec.Struct, frozen=True, gc=False):
    """One order, all its copies merged with what is stored, and what of it is to be written.

    ``record`` carries the decision of ``stored``, which is None for an order that is not stored yet.
    """

    record: OrderRecord
    stored: OrderRecord | None
    core: bool
    groups: frozenset[str]


def merge_copies(copies: Iterable[OrderRecord], stored: Mapping[str, OrderRecord]) -> list[Merged]:
    """Every distinct order once, its copies merged from the oldest to the newest."""
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
            core, groups = core or before.core, groups | before.groups
        merged[copy.order_id] = Merged(record, known, core, groups)
    return list(merged.values())


def _merge(base: OrderRecord, copy: OrderRecord) -> tuple[OrderRecord, bool, frozenset[str]]:
    """``base`` with what ``copy`` may write, whether that includes the core, and which groups (R25)."""
    as_of = dict(base.as_of)
    core = copy.last_updated_at >= base.last_updated_at
    groups = frozenset(g for g, time in copy.as_of.items() if g not in as_of or time >= as_of[g])
    as_of.update((group, copy.as_of[group]) for group in groups)
    names = [name for group in groups for name in _ORDER.get(group, ())]
    changes: dict[str, Any] = {name: getattr(copy, name) for name in names}
    if core:
        changes |= {name: value for name in _CORE if (value := getattr(copy, name)) is not None}
    if _decides(copy, base, _ORDER["lasting"], core):
        changes |= {name: getattr(copy, name) for name in _ORDER["lasting"]}
    merged = replace(
        base,
        as_of=as_of,
        delivered_at=_older(base.delivered_at, copy.delivered_at),
        shipped_at=_older(base.shipped_at, copy.shipped_at),
        cancelled_at=_older(base.cancelled_at, copy.cancelled_at),
        lines=_merge_lines(base.lines, copy.lines, core, groups),
        ready=base.ready or copy.ready,
        **changes,
    )
    return merged, core, groups


def _older(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one is not None and other is not None else one or other


def _merge_lines(
    base: tuple[LineRecord, ...], copy: tuple[LineRecord, ...], core: bool, groups: frozenset[str]
) -> tuple[LineRecord, ...]:
    """Lines by item id. The newest copy says which lines there are: it lists all of them, or none at all."""
    if not base or not copy:
        return copy or base
    older = {line.order_item_id: line for line in base}
    newer = {line.order_item_id: line for line in copy}
    names = [name for group in groups for name in _LINE.get(group, ())]
    merged = []
    for item_id, line in (newer if core else older).items():
        old, new = older.get(item_id), newer.get(item_id)
        if old is None or new is None:
            merged.append(line)
            continue
        changes: dict[str, Any] = {name: getattr(new, name) for name in names}
        if core:
            changes |= {name: getattr(new, name) for name in _LINE["core"]}
        if _decides(new, old, _LINE["lasting"], core):
            changes |= {name: getattr(new, name) for name in _LINE["lasting"]}
        merged.append(replace(old, **changes))
    return tuple(merged)


def _decides(new: Any, old: Any, names: tuple[str, ...], core: bool) -> bool:
    """Return True if ``new`` brings any of these lasting fields, as the newer copy or as the first."""
    brings, had = (any(getattr(copy, name) for name in names) for copy in (new, old))
    return brings and (core or not had)
