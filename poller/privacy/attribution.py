"""Correct, once in each database, what counts as entered by a person or imported though Amazon gave it (R60).

Older versions let one part of an address that a person typed, even with the value that it had, make all of
it entered data, which is never erased. The journal has the values before and after each edit, so it shows
which were typed. What it does not show, such as an edit whose value before was erased meanwhile, stays as it
is. Safe to repeat and to be stopped at any time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from poller.matching.emails import is_relay
from store import attribution, customers
from store.attribution import Entry
from store.engine import Store, Transaction
from store.origins import ADDRESS_PARTS, ADDRESSES, OURS, as_a_whole, of_parts, whole, with_parts
from store.records import Address, CustomerRecord, Origin
from store.sealing import SealError

log = structlog.get_logger("order_sync")

CORRECTED_AT_ONCE = 25
"""Records that one transaction corrects, within some hundredths of a second."""

FIELDS = ("name", "company", "phone")
ENTERED_BY: Mapping[str, Origin] = {"create": "hand", "edit": "hand", "import": "import"}

Texts = dict[str, str | None]
"""Values by name of a field or of an address' part, as ``billing_city``."""


def correct(store: Store, stopping: Callable[[], bool], rest: Callable[[], object]) -> None:
    """Correct all records, their orders and the journal, unless this database was corrected before."""
    after = 0
    while True:
        with store.read() as tx:
            if attribution.is_done(tx):
                return
            ids = attribution.entered(tx, after, CORRECTED_AT_ONCE)
        if not ids:
            return store.commit(attribution.note_done)
        if stopping():
            return
        store.commit(partial(_correct_some, ids=ids))
        after = ids[-1]
        rest()


def _correct_some(tx: Transaction, ids: Sequence[int]) -> None:
    try:
        _correct(tx, ids)
    except SealError as error:
        if len(ids) == 1:
            log.warning("a damaged record is not corrected", customer=ids[0], problem=str(error))
            return
        for customer_id in ids:
            _correct_some(tx, [customer_id])


def _correct(tx: Transaction, ids: Sequence[int]) -> None:
    entries = attribution.history(tx, ids)
    concerned = {*ids, *(e.customer_id for e in entries)}
    copies = attribution.copies(tx, concerned)  # orders are locked before customers
    records = customers.load(tx, concerned)
    past = replay(entries, records)
    for customer_id in ids:
        record = records[customer_id]
        corrected = past.corrected(record)
        past.note(customer_id, _flat("billing", record.billing), as_a_whole(corrected, "billing"))
        if corrected != record:
            attribution.save_origins(tx, corrected)
    attribution.save_details(tx, past.entries)
    attribution.give_to_amazon(
        tx, [c.order_key for c in copies if past.is_amazons(c.customer_id, _flat("billing", c.address))]
    )


# --- deciding -----------------------------------------------------------------------------------------


@dataclass
class Past:
    """What the journal shows.

    ``known``: records of whose every value the journal has the beginning, unless Amazon gave it. ``last``: by
    record and name, the last value and its origin. ``addresses``: billing addresses that a record had, and
    the origin of each as a whole. ``entries``: those that quote a value with another origin, corrected.
    """

    known: Collection[int]
    last: dict[int, dict[str, tuple[str | None, Origin]]] = field(default_factory=lambda: defaultdict(dict))
    addresses: dict[int, list[tuple[Texts, Origin | None]]] = field(default_factory=lambda: defaultdict(list))
    entries: list[Entry] = field(default_factory=list)

    def origin(self, customer_id: int, name: str, value: str | None, recorded: Origin) -> Origin:
        """Return the origin of a value that a record has, by default the recorded one."""
        if name in (last := self.last[customer_id]):
            return last[name][1] if last[name][0] == value else recorded
        return "amazon" if customer_id in self.known else recorded

    def note(self, customer_id: int, address: Texts, origin: Origin | None) -> None:
        """Note a billing address that a record had."""
        self.addresses[customer_id].append((address, origin))

    def is_amazons(self, customer_id: int, address: Texts) -> bool:
        """Return True if the address was one of the record's, and never all entered."""
        origins = {origin for known, origin in self.addresses[customer_id] if known == address}
        return origins == {"amazon"}

    def corrected(self, record: CustomerRecord) -> CustomerRecord:
        """Return the record with the origins that the journal shows; a relay address is Amazon's."""
        key, origins = record.customer_id, dict(record.origins)
        for name in FIELDS:
            if origins.get(name) in OURS and (value := getattr(record, name)) is not None:
                origins[name] = self.origin(key, name, value, origins[name])
        for kind in ADDRESSES:
            texts = _flat(kind, getattr(record, kind))
            if origins.get(kind) in OURS and any(texts.values()):
                parts = of_parts(record, kind)
                for part in ADDRESS_PARTS:
                    name = f"{kind}_{part}"
                    if texts[name] is not None:
                        parts[part] = self.origin(key, name, texts[name], parts[part])
                    elif (last := self.last[key].get(name, ("", "amazon")))[0] is None and last[1] in OURS:
                        parts[part] = last[1]
                origins = with_parts(origins, kind, parts)
        emails = tuple(
            replace(m, origin="amazon") if m.email is not None and is_relay(m.email) else m
            for m in record.emails
        )
        return replace(record, origins=origins, emails=emails)


def replay(entries: Iterable[Entry], records: Mapping[int, CustomerRecord]) -> Past:
    """Follow the entries, oldest first: a value that an edit or an import changed is entered, no other is."""
    first: dict[int, str] = {}
    for entry in entries:
        first.setdefault(entry.customer_id, entry.action)
    past = Past(
        {i for i, action in first.items() if action in ("create", "import") or records[i].created_from_order}
    )
    for entry in entries:
        recorded = entry.details.get("origins", {})
        origins = {
            name: _follow(past, entry, name) if name in (*FIELDS, *ADDRESSES) else pair
            for name, pair in recorded.items()
        }
        if origins != recorded:
            past.entries.append(entry._replace(details={**entry.details, "origins": origins}))
        if entry.other_id is not None:
            past.addresses[entry.customer_id] += past.addresses[entry.other_id]
    return past


def _follow(past: Past, entry: Entry, field_name: str) -> list[Origin | None]:
    """Note what became of a field in an entry. Return the origins of its values before and after."""
    key, recorded = entry.customer_id, entry.details["origins"][field_name]
    before, after = (_flat(field_name, entry.details[at].get(field_name)) for at in ("before", "after"))
    lent = past.last[entry.other_id] if entry.action == "merge" and entry.other_id is not None else {}
    was = {
        name: past.origin(key, name, value, recorded[0])
        for name, value in before.items()
        if value is not None
    }
    now: dict[str, Origin] = {}
    for name, value in after.items():
        if name in lent and lent[name][0] == value:
            now[name] = lent[name][1]
        elif value != before[name]:
            now[name] = ENTERED_BY.get(entry.action, recorded[1])
        elif value is not None:
            now[name] = was[name]
    past.last[key] |= {name: (after[name], origin) for name, origin in now.items()}
    origins = [
        _whole(field_name, {name: o for name, o in each.items() if texts[name] is not None}, labelled)
        for texts, each, labelled in ((before, was, recorded[0]), (after, now, recorded[1]))
    ]
    if field_name == "billing":
        past.note(key, before, origins[0])
        past.note(key, after, origins[1])
    return origins


def _whole(field_name: str, origins: Mapping[str, Origin], recorded: Origin) -> Origin | None:
    if field_name in FIELDS:
        return origins.get(field_name, recorded)
    return whole({name.removeprefix(f"{field_name}_"): o for name, o in origins.items()}, recorded)


def _flat(field_name: str, value: Any) -> Texts:
    if field_name in FIELDS:
        return {field_name: value}
    if isinstance(value, Address):
        return {f"{field_name}_{part}": getattr(value, part) for part in ADDRESS_PARTS}
    return {f"{field_name}_{part}": (value or {}).get(part) for part in ADDRESS_PARTS}
