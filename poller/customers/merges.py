"""Merging two customers and undoing it: one transaction each, on locked rows (R50-R55).

Orders are locked before customers, as when storing a page, so that the two do not deadlock. A page that
looked up an e-mail before the merge and locks its record after it finds a tombstone and is matched again
(``poller.ingest.apply``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from poller.customers import merge_rules
from poller.customers.merge_rules import Facts, Side, Undoing
from poller.errors import NoCustomer, Refused
from poller.matching.emails import BASIS_OF_SLOT, usable_email
from store import customers, merges, queries
from store.engine import Tombstone, Transaction
from store.journal import difference
from store.merges import Arrived
from store.records import CustomerRecord, MainEmail


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge, done or previewed.

    ``before``: the kept record as it was. ``filled``: fields that it takes from the other. ``stopping``: main
    e-mails that stop matching. ``moved``: the number of the other's orders.
    """

    kept: CustomerRecord
    before: CustomerRecord
    other: CustomerRecord
    filled: tuple[str, ...]
    labels: tuple[str, ...]
    stopping: tuple[MainEmail, ...]
    moved: int


@dataclass(frozen=True, slots=True)
class Unmerged:
    """What undoing a merge did.

    ``moved``: the number of orders that went back; ``arrived``: of them, those that arrived since the merge.
    ``stayed``: orders that arrived since and stayed on the kept record. ``entered``: e-mails of the other
    that stayed there because they were entered there since. ``lost``: those that are on no record now,
    because they were taken off the kept one since; None for one of which only the hash is left.
    """

    kept: CustomerRecord
    other: CustomerRecord
    moved: int
    arrived: int
    stayed: int
    entered: tuple[str, ...]
    lost: tuple[str | None, ...]


def preview(
    tx: Transaction,
    kept_id: int,
    other_id: int,
    shared_emails: frozenset[str],
    keep_emails: Collection[str] | None = None,
) -> Merged:
    """Return what merging would do. Raises Refused."""
    kept, other = _pair(tx, kept_id, other_id)
    planned = merge_rules.merge(kept, other, shared_emails, keep_emails)
    return _merged(planned, kept, other, merges.count_orders(tx, other_id))


def merge(
    tx: Transaction,
    kept_id: int,
    other_id: int,
    who: str,
    shared_emails: frozenset[str],
    keep_emails: Collection[str] | None = None,
) -> Merged:
    """Merge one customer into another (R50). Raises Refused, and conflicts (``store.engine.is_conflict``).

    ``shared_emails``: the settings' addresses that identify no buyer (R17).
    """
    merges.lock_orders(tx, other_id)
    kept, other = _pair(tx, kept_id, other_id)
    planned = merge_rules.merge(kept, other, shared_emails, keep_emails)
    hashes = {
        "kept": customers.email_hashes(tx, kept_id),
        "other": customers.email_hashes(tx, other_id),
    }

    def digest(email: str) -> str:
        return tx.lookup.email(kept.business, email).hex()

    named: dict[Side, dict[int, str]] = {
        "kept": {slot: value.hex() for slot, value in hashes["kept"].items()},
        "other": {slot: value.hex() for slot, value in hashes["other"].items()},
    }
    facts = merge_rules.facts_of(planned, kept, other, named, digest)
    entry = customers.write_journal(
        tx,
        who,
        "merge",
        kept_id,
        other_id=other_id,
        details=difference(kept, planned.kept),
        facts=facts,
    )
    moved = merges.move_orders(tx, entry, other_id, kept_id)
    customers.bury(tx, other_id, kept_id)
    if facts.external_id is not None:
        merges.free_external_id(tx, other_id)
    _write(tx, planned.kept, kept)
    erased = {slot: hashes[side][at] for slot, (side, at) in planned.sources.items()}
    customers.place_emails(tx, planned.kept, erased)
    return _merged(planned, kept, other, moved)


def _write(tx: Transaction, record: CustomerRecord, before: CustomerRecord) -> None:
    """Write a record without its e-mails."""
    customers.change(tx, record, replace(before, emails=record.emails))


def _merged(planned: merge_rules.Merge, kept: CustomerRecord, other: CustomerRecord, moved: int) -> Merged:
    return Merged(
        planned.kept, kept, other, planned.filled, tuple(sorted(planned.labels)), planned.stopping, moved
    )


def _pair(tx: Transaction, kept_id: int, other_id: int) -> tuple[CustomerRecord, CustomerRecord]:
    records = customers.load(tx, {kept_id, other_id})
    return _of(records, kept_id), _of(records, other_id)


def _of(records: dict[int, CustomerRecord], customer_id: int) -> CustomerRecord:
    record = records.get(customer_id)
    if record is None:
        raise NoCustomer(customer_id)
    return record


# --- undoing ----------------------------------------------------------------------------------------


def unmerge(
    tx: Transaction, other_id: int, who: str, shared_emails: frozenset[str], leave: Collection[str] = ()
) -> Unmerged:
    """Undo the merge of a customer into another (R54). Raises Refused, and conflicts.

    ``leave``: addresses that stay on the third records that have them now. ``shared_emails``: the settings'
    addresses that identify no buyer (R17).
    """
    kept_id = merges.merged_into(tx, other_id)
    if kept_id is None:
        _of(customers.load(tx, {other_id}), other_id)
        raise Refused(f"customer {other_id} is not merged into another one.")
    merges.lock_orders(tx, kept_id)
    kept, other = _pair(tx, kept_id, other_id)
    if other.merged_into != kept_id:
        raise Tombstone
    entry, facts = _merge_to_undo(tx, kept, other)
    hashes = customers.email_hashes(tx, kept_id)

    def digest(email: str) -> str:
        return tx.lookup.email(kept.business, email).hex()

    elsewhere = _elsewhere(tx, kept, facts, digest)
    undoing = merge_rules.undo(
        kept,
        other,
        facts,
        {slot: value.hex() for slot, value in hashes.items()},
        digest,
        elsewhere,
        leave,
    )
    there = {value.hex() for value in hashes.values()} | {digest(email) for email in kept.aliases}
    gone = {m.hash for m in facts.emails if m.side == "other"} - there - elsewhere.keys()
    arrived = merges.arrived_since(tx, entry, kept_id)
    moved = merges.give_back(tx, entry, kept_id, other_id)
    going = _give_arrived(tx, arrived, undoing, digest, shared_emails)
    merges.forget_merge(tx, entry)

    _write(tx, undoing.kept, kept)
    customers.place_emails(tx, undoing.kept, _erased(hashes, undoing.stayed))
    # A hash is kept until some months after the last order, so its time must be known (R61).
    idle = undoing.other.idle_since or tx.now if any(m.email is None for m in undoing.other.emails) else None
    customers.change(tx, replace(undoing.other, emails=(), idle_since=idle))
    customers.place_emails(tx, undoing.other, _erased(hashes, undoing.returned))
    details = difference(kept, undoing.kept)
    customers.write_journal(tx, who, "unmerge", kept_id, other_id=other_id, details=details)
    return Unmerged(
        undoing.kept,
        undoing.other,
        moved + going,
        going,
        len(arrived) - going,
        undoing.entered,
        _written(tx, kept_id, entry, gone, digest),
    )


def _written(
    tx: Transaction, kept_id: int, entry: int, hashes: Collection[str], digest: Callable[[str], str]
) -> tuple[str | None, ...]:
    """Return e-mails that a customer has lost since an entry of its journal, as they are written there."""
    if not hashes:
        return ()
    written = {digest(email): email for email in queries.emails_before(tx, kept_id, entry)}
    return tuple(written.get(hash_) for hash_ in sorted(hashes))


def _erased(hashes: Mapping[int, bytes], sources: Mapping[int, int | None]) -> dict[int, bytes]:
    return {slot: hashes[source] for slot, source in sources.items() if source is not None}


def _merge_to_undo(tx: Transaction, kept: CustomerRecord, other: CustomerRecord) -> tuple[int, Facts]:
    """Return the merge's journal entry and facts. Raises Refused if it cannot be undone, or not yet."""
    if kept.merged_into is not None:
        raise Refused(
            f"customer {kept.customer_id} was merged into customer {kept.merged_into} since: undo that first "
            f"(`order-sync customers unmerge {kept.customer_id}`)."
        )
    if kept.status == "forgotten":
        raise Refused(f"customer {kept.customer_id} was forgotten: nothing can be taken out of it again.")
    merge_entry = merges.facts_of(tx, kept.customer_id, other.customer_id, Facts)
    if merge_entry is None:
        raise Refused(
            f"customer {other.customer_id} was not merged by hand: its order was promoted to customer "
            f"{kept.customer_id} when its e-mail came (R22), which cannot be undone."
        )
    entry, facts = merge_entry
    if facts is None:
        raise Refused(
            f"the merge of customer {other.customer_id} cannot be undone any more: what it takes was erased."
        )
    later = merges.merged_later(tx, kept.customer_id, entry)
    if later is not None:
        raise Refused(
            f"customer {later} was merged into customer {kept.customer_id} later: undo that first "
            f"(`order-sync customers unmerge {later}`)."
        )
    return entry, facts


def _elsewhere(
    tx: Transaction, kept: CustomerRecord, facts: Facts, digest: Callable[[str], str]
) -> dict[str, tuple[int, str]]:
    """Return e-mails of the merge that third records have now, by hash: whose, and how they are written."""
    hashes = [bytes.fromhex(moved.hash) for moved in facts.emails]
    holders = customers.find_hashes(tx, kept.business, hashes)
    third = {i for i in holders.values() if i != kept.customer_id}
    # Not locked: they are only named, and the database enforces R16 whatever happens meanwhile.
    records = [queries.get_customer(tx, customer_id) for customer_id in sorted(third)]
    written = {
        digest(main.email): main.email
        for record in records
        for main in (record.emails if record is not None else ())
        if main.email is not None
    }
    return {
        hash_.hex(): (holder, written.get(hash_.hex(), f"an erased e-mail of customer {holder}"))
        for hash_, holder in holders.items()
        if holder in third
    }


def _give_arrived(
    tx: Transaction,
    arrived: Sequence[Arrived],
    undoing: Undoing,
    digest: Callable[[str], str],
    shared_emails: frozenset[str],
) -> int:
    """Move orders that arrived since to the other, if they have an e-mail of it. Returns how many."""
    moving: list[Arrived] = []
    for each in arrived:
        email = usable_email(each.order, shared_emails)
        slot = None if email is None else undoing.given.get(digest(email))
        if slot is None:
            continue
        basis, rules = each.order.match_basis, [r for r in each.order.match_rules if r not in ("R12", "R54")]
        if basis in BASIS_OF_SLOT.values():
            basis = BASIS_OF_SLOT[slot]
            if slot != 1 and "R6" in rules:
                rules.insert(rules.index("R6") + 1, "R12")
        changed = structs.replace(each.order, match_basis=basis, match_rules=(*rules, "R54"))
        moving.append(replace(each, order=changed))
    merges.give_arrived(tx, moving, undoing.other.customer_id)
    merges.point_to(
        tx, [each.order.order_id for each in moving], undoing.kept.customer_id, undoing.other.customer_id
    )
    return len(moving)
