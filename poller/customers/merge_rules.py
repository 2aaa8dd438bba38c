"""What merging two customers makes of them, and what undoing it leaves: decided here, written elsewhere.

A merge changes the kept record alone; the other keeps what it has, and becomes a tombstone (R53). So undoing
needs no copy of anybody's data: it gives back what is still there, by comparing the two records, and what
has been erased meanwhile stays erased (R54). The ``Facts`` of a merge hold the rest: slots, names of
fields, and the keyed hashes that stand for e-mails.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from poller.customers.fields import without_mains
from poller.errors import Refused
from poller.matching.customer_records import is_given
from poller.matching.emails import is_shared_email
from store.records import Address, CustomerRecord, CustomerStatus, MainEmail, Origin, normal_email

SLOTS = (1, 2, 3)
FILLED = (
    "name",
    "company",
    "amazon_name",
    "phone",
    "billing",
    "delivery",
    "price_list",
    "currency",
    "tax_code",
    "discount_percent",
    "external_id",
)
"""Fields that the kept record takes from the other where it has none (R52)."""

Side = Literal["kept", "other"]


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a main e-mail stood, by its hash, and the kept record's slot that it has now, if any."""

    side: Side
    slot: int
    hash: str
    origin: Origin
    into: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a merge changed, without anything that a buyer gave.

    ``countries``: the country that was all that the kept record's address said. ``labels``: those that the
    other gave. ``aliases``: hashes of the e-mails that became aliases of the kept record; ``unaliased``: of
    those that were and became main ones.
    """

    kept_status: CustomerStatus
    other_status: CustomerStatus
    emails: tuple[Moved, ...]
    filled: tuple[str, ...]
    external_id: str | None
    countries: Mapping[str, str]
    labels: Mapping[str, str]
    aliases: tuple[str, ...]
    unaliased: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge that is going to be: the kept record as it will be, and what becomes of the e-mails.

    ``sources``: for each main e-mail of the kept record, by slot, whose it was and where it stood.
    ``stopping``: main e-mails of either that will not match any more (R51). ``new_aliases`` and
    ``unaliased``: what becomes an alias of the kept record, and what was one and becomes a main e-mail.
    """

    kept: CustomerRecord
    filled: tuple[str, ...]
    labels: Mapping[str, str]
    sources: Mapping[int, tuple[Side, int]]
    stopping: tuple[MainEmail, ...]
    new_aliases: tuple[str, ...]
    unaliased: tuple[str, ...]


def check_pair(kept: CustomerRecord, other: CustomerRecord) -> None:
    """Raises Refused for two records that cannot be merged."""
    if kept.customer_id == other.customer_id:
        raise Refused(f"customer {kept.customer_id} cannot be merged into itself: name two customers.")
    for record in (kept, other):
        check_living(record)
        if record.special is not None:
            raise Refused(
                f"customer {record.customer_id} is a marketplace's record for orders without a buyer "
                f"({record.special}): it cannot be merged."
            )
    if kept.business != other.business:
        raise Refused(
            f"customer {kept.customer_id} belongs to the business {kept.business}, customer "
            f"{other.customer_id} to {other.business}: customers are never merged across businesses."
        )


def check_living(record: CustomerRecord) -> None:
    """Raises Refused for a tombstone and for a forgotten record."""
    if record.merged_into is not None:
        raise Refused(
            f"customer {record.customer_id} was merged into customer {record.merged_into}: name that one."
        )
    if record.status == "forgotten":
        raise Refused(f"customer {record.customer_id} was forgotten: nothing can be added to it.")


def merge(
    kept: CustomerRecord,
    other: CustomerRecord,
    shared_emails: frozenset[str],
    keep_emails: Collection[str] | None = None,
) -> Merge:
    """What merging ``other`` into ``kept`` makes of the kept record (R50-R52).

    ``shared_emails``: the settings' addresses that many buyers share; none is kept as a main e-mail
    (R17). ``keep_emails``: the main e-mails that it shall have, instead of its own and then the other's.
    Raises Refused.
    """
    check_pair(kept, other)
    both: list[tuple[Side, MainEmail]] = [
        *(("kept", main) for main in _in_order(kept.emails)),
        *(("other", main) for main in _in_order(other.emails)),
    ]
    usable = [
        (side, main)
        for side, main in both
        if main.email is None or not is_shared_email(main.email, shared_emails)
    ]
    chosen = usable[: len(SLOTS)] if keep_emails is None else _chosen(both, usable, keep_emails)
    sources: dict[int, tuple[Side, int]] = {m.slot: (side, m.slot) for side, m in chosen if side == "kept"}
    mains = {m.slot: m for side, m in chosen if side == "kept"}
    for side, main in chosen:
        if side == "other":
            slot = next(slot for slot in SLOTS if slot not in mains)
            mains[slot], sources[slot] = replace(main, slot=slot), (side, main.slot)
    stopping = tuple(main for side, main in both if (side, main) not in chosen)
    before = without_mains(kept.aliases, mains.values())
    older = [*(m.email for m in stopping if m.email is not None), *other.aliases]
    new_aliases = _without(without_mains(older, mains.values()), before)

    filled = {
        name: getattr(other, name)
        for name in FILLED
        if is_given(getattr(other, name)) and not is_given(getattr(kept, name)) and name not in kept.origins
    }
    labels = {key: value for key, value in other.labels.items() if key not in kept.labels}
    origins = dict(kept.origins)
    origins.update((name, other.origins[name]) for name in filled if name in other.origins)
    record = replace(
        kept,
        **filled,
        status="active" if "active" in (kept.status, other.status) or mains else "unidentified",
        emails=tuple(mains[slot] for slot in sorted(mains)),
        aliases=(*before, *new_aliases),
        labels={**kept.labels, **labels},
        origins=origins,
        idle_since=kept.idle_since or other.idle_since,
    )
    unaliased = tuple(email for email in kept.aliases if email not in before)
    return Merge(record, tuple(filled), labels, sources, stopping, new_aliases, unaliased)


def _in_order(emails: Sequence[MainEmail]) -> list[MainEmail]:
    return sorted(emails, key=lambda main: main.slot)


def _chosen(
    both: Sequence[tuple[Side, MainEmail]], usable: Sequence[tuple[Side, MainEmail]], wanted: Collection[str]
) -> list[tuple[Side, MainEmail]]:
    normal = {normal_email(email): email for email in wanted}
    if "" in normal:
        raise Refused("an address to keep is empty: name a main e-mail of either customer (--keep-email).")
    found = [(s, m) for s, m in both if m.email is not None and normal_email(m.email) in normal]
    shared = [m.email for s, m in found if m.email is not None and (s, m) not in usable]
    if shared:
        raise Refused("an address that many buyers share is not kept (R17):", *shared)
    missing = normal.keys() - {normal_email(m.email) for _, m in found if m.email is not None}
    if missing:
        raise Refused(
            "an address to keep is a main e-mail of neither customer:", *(normal[e] for e in sorted(missing))
        )
    if len(found) > len(SLOTS):
        raise Refused(f"a customer has at most {len(SLOTS)} main e-mails: keep {len(SLOTS)} of them.")
    return found


def _without(emails: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    seen = {normal_email(email) for email in there}
    added = []
    for email in emails:
        if normal_email(email) not in seen:
            seen.add(normal_email(email))
            added.append(email)
    return tuple(added)


def facts_of(
    planned: Merge,
    kept: CustomerRecord,
    other: CustomerRecord,
    hashes: Mapping[Side, Mapping[int, str]],
    digest: Callable[[str], str],
) -> Facts:
    """What must be remembered of a merge; ``hashes`` are those of both records' e-mails, by slot."""
    into = {source: slot for slot, source in planned.sources.items()}
    sides: tuple[tuple[Side, CustomerRecord], ...] = (("kept", kept), ("other", other))
    return Facts(
        kept_status=kept.status,
        other_status=other.status,
        emails=tuple(
            Moved(side, main.slot, hashes[side][main.slot], main.origin, into.get((side, main.slot)))
            for side, record in sides
            for main in _in_order(record.emails)
        ),
        filled=planned.filled,
        external_id=other.external_id if "external_id" in planned.filled else None,
        countries={
            name: address.country
            for name in ("billing", "delivery")
            if name in planned.filled and (address := getattr(kept, name)) is not None and address.country
        },
        labels=planned.labels,
        aliases=tuple(digest(email) for email in planned.new_aliases),
        unaliased=tuple(digest(email) for email in planned.unaliased),
    )


# --- undoing ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undoing:
    """Both records as undoing a merge leaves them.

    ``returned`` and ``stayed``: for each main e-mail of the other and of the kept record, by its slot, the
    slot of the kept record that it comes from; one that had become an alias comes from none. ``given``: the
    hash of each main e-mail that the other has back, and its slot. ``entered``: e-mails of the other that
    stay on the kept record, because a person has entered them there since.
    """

    kept: CustomerRecord
    other: CustomerRecord
    returned: Mapping[int, int | None]
    stayed: Mapping[int, int | None]
    given: Mapping[str, int]
    entered: tuple[str, ...]


def undo(
    kept: CustomerRecord,
    other: CustomerRecord,
    facts: Facts,
    hashes: Mapping[int, str],
    digest: Callable[[str], str],
    elsewhere: Mapping[str, tuple[int, str]],
    leave: Collection[str] = (),
) -> Undoing:
    """Undo a merge, as far as nothing has changed since what it changed (R54).

    ``hashes``: those of the kept record's main e-mails, by slot. ``elsewhere``: hashes of the merge's e-mails
    that third records have now: whose they are, and how they are written; ``leave`` names those that may stay
    there. Raises Refused.
    """
    aliases = {digest(email): email for email in kept.aliases}
    left = _left(facts, elsewhere, {digest(email): email for email in leave})
    now_at = {hash_: slot for slot, hash_ in hashes.items()}
    mains = {main.slot: main for main in kept.emails}
    back: dict[int, MainEmail] = {}
    returned: dict[int, int | None] = {}
    given: dict[str, int] = {}
    entered: list[str] = []
    for moved in facts.emails:
        if moved.side == "kept":
            continue
        text = aliases.get(moved.hash)
        if moved.hash in now_at:
            slot = now_at[moved.hash]
            written = mains[slot].email
            if written is not None and _entered_since(mains[slot], moved):
                entered.append(written)
                continue
            back[moved.slot], returned[moved.slot] = replace(mains.pop(slot), slot=moved.slot), slot
        elif moved.hash not in left and moved.into is None and text is not None:
            back[moved.slot], returned[moved.slot] = MainEmail(moved.slot, text, moved.origin), None
        else:
            continue
        given[moved.hash] = moved.slot
    stayed: dict[int, int | None] = {slot: slot for slot in mains}
    for moved in facts.emails:
        text = aliases.get(moved.hash)
        free = moved.side == "kept" and moved.into is None and moved.slot not in mains
        if free and text is not None and moved.hash not in left and moved.hash not in now_at:
            mains[moved.slot], stayed[moved.slot] = MainEmail(moved.slot, text, moved.origin), None
    others_aliases = tuple(
        aliases[m.hash] for m in facts.emails if m.side == "other" and m.hash in left and m.hash in aliases
    )
    # An e-mail of its own that finds its slot taken stays what the merge made of it.
    demoted = {m.hash for m in facts.emails if m.side == "kept" and m.into is None}
    restored = {m.hash for m in facts.emails if m.side == "kept" and stayed.get(m.slot, m.slot) is None}
    gone = set(facts.aliases) - (demoted - restored)
    own = {m.hash for m in facts.emails if m.side == "kept"}
    held = {hashes[slot] for slot in stayed.values() if slot is not None}
    record, external_id = _fields_undone(kept, other, facts)
    older = [text for hash_, text in aliases.items() if hash_ not in gone]
    older += [
        email
        for hash_ in facts.unaliased
        if hash_ in given and (email := back[given[hash_]].email) is not None
    ]
    record = replace(
        record,
        emails=tuple(mains[slot] for slot in sorted(mains)),
        aliases=tuple(older),
        status=facts.kept_status if held <= own else "active",
    )
    revived = replace(
        other,
        status=facts.other_status,
        merged_into=None,
        external_id=external_id,
        emails=tuple(back[slot] for slot in sorted(back)),
        aliases=(*other.aliases, *_without(others_aliases, other.aliases)),
        idle_since=kept.idle_since,
    )
    return Undoing(record, revived, returned, stayed, given, tuple(entered))


def _entered_since(main: MainEmail, moved: Moved) -> bool:
    """Whether a person or an import has put an e-mail of the other where it is since the merge."""
    return main.origin != "amazon" and (main.origin, main.slot) != (moved.origin, moved.into)


def _left(facts: Facts, elsewhere: Mapping[str, tuple[int, str]], leave: Mapping[str, str]) -> frozenset[str]:
    """The hashes that stay on third records. Raises Refused for one that was not allowed to."""
    strange = [email for hash_, email in leave.items() if hash_ not in elsewhere]
    if strange:
        raise Refused("an address to leave is on no third customer:", *strange)
    taken = [elsewhere[m.hash] for m in facts.emails if m.hash in elsewhere and m.hash not in leave]
    if taken:
        holders = " and ".join(str(i) for i in sorted({holder for holder, _ in taken}))
        raise Refused(
            f"addresses of this merge are on customer {holders} now; merge, or leave them there (--leave):",
            *(email for _, email in taken),
        )
    return frozenset(leave)


def _fields_undone(
    kept: CustomerRecord, other: CustomerRecord, facts: Facts
) -> tuple[CustomerRecord, str | None]:
    """The kept record without the fields and labels that the merge gave it, and the other's external id."""
    changes: dict[str, Any] = {}
    origins = dict(kept.origins)
    for name in facts.filled:
        given = facts.external_id if name == "external_id" else getattr(other, name)
        same_origin = kept.origins.get(name) == other.origins.get(name)
        if is_given(given) and getattr(kept, name) == given and same_origin:
            country = facts.countries.get(name)
            changes[name] = Address(country=country) if country else None
            origins.pop(name, None)
    labels = {key: value for key, value in kept.labels.items() if facts.labels.get(key) != value}
    external_id = other.external_id
    if "external_id" in changes:
        external_id = facts.external_id
    return replace(kept, **changes, labels=labels, origins=origins), external_id
