"""Where each part of a customer's addresses came from (R60).

``CustomerRecord.origins`` may name parts of an address, as ``billing_city``: the origin of a part is its own,
else that of its address. The country of an address is never erased, so it makes no address mixed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from store.records import Address, CustomerRecord, Origin

ADDRESSES = ("billing", "delivery")
ADDRESS_PARTS = tuple(name for name in Address.__struct_fields__ if name != "kind")

OURS = frozenset({"hand", "import"})
"""Origins of data that is not Amazon's."""


def part_names(kind: str) -> tuple[str, ...]:
    """Return the names that parts of an address have in ``origins``."""
    return tuple(f"{kind}_{part}" for part in ADDRESS_PARTS)


def of_field(record: CustomerRecord, name: str) -> dict[str, Origin]:
    """Return those of a record's origins that are about a field, for an address its parts' too.

    A field with any of them is not empty but emptied on purpose.
    """
    names = (name, *part_names(name)) if name in ADDRESSES else (name,)
    return {about: record.origins[about] for about in names if about in record.origins}


def of_parts(record: CustomerRecord, kind: str) -> dict[str, Origin]:
    """Return the origin of each part of an address that has a value or was emptied on purpose."""
    address = getattr(record, kind) or Address()
    own = record.origins.get(kind, "amazon")
    return {
        part: record.origins.get(name, own)
        for part, name in zip(ADDRESS_PARTS, part_names(kind), strict=True)
        if getattr(address, part) is not None or name in record.origins
    }


def as_a_whole(record: CustomerRecord, kind: str) -> Origin | None:
    """Return the origin of an address: Amazon's if any part but the country is."""
    return whole(of_parts(record, kind), record.origins.get(kind))


def with_parts(origins: Mapping[str, Origin], kind: str, parts: Mapping[str, Origin]) -> dict[str, Origin]:
    """Return a record's origins after those of an address' parts have become ``parts``."""
    own = whole(parts, origins.get(kind)) or "amazon"
    about = (kind, *part_names(kind))
    named = {f"{kind}_{part}": o for part, o in parts.items() if o != own and _decides(part, o)}
    return {name: o for name, o in origins.items() if name not in about} | {kind: own} | named


def whole(parts: Mapping[str, Origin], before: Origin | None) -> Origin | None:
    """Return the origin of an address whose parts have these; ``before`` if they do not decide it."""
    origins = {origin for part, origin in parts.items() if _decides(part, origin)}
    if "amazon" in origins:
        return "amazon"
    return before if not origins or before in origins else max(origins)


def _decides(part: str, origin: Origin) -> bool:
    return (part, origin) != ("country", "amazon")
