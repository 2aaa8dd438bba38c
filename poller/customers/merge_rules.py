"""Merging two customers and undoing it, decided on values; ``poller.customers.merges`` writes the outcome.

A merge changes the kept record alone; the other keeps its data and becomes a tombstone (R53). So undoing
needs no copy of anyone's data: it compares the two records and gives back what is still there. What was
erased since stays erased (R54). The ``Facts`` of a merge hold the rest: slots, names of fields, and keyed
hashes of e-mails.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from poller.customers.fields import main_email, without_mains
from poller.errors import Refused
from poller.matching.customer_records import is_given
from poller.matching.emails import is_address, is_shared_email
from store.origins import of_field
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
"""Fields that the kept record takes from the other if it has none (R52)."""

Side = Literal["kept", "other"]


@dataclass(frozen=True, slots=True)
class Moved:
    """A main e-mail by its hash: where it was before the merge, and the kept record's slot it got, if any."""

    side: Side
    slot: int
    hash: str
    origin: Origin
    into: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a merge changed, without buyer data.

    ``filled``, ``labels``: what the kept record took from the other. ``countries``: of an address filled, the
    country that was there before. ``aliases``: hashes of e-mails that became aliases of the kept record;
    ``unaliased``: of aliases of it that became main e-mails.
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
    """A planned merge: the kept record as it will be, and what becomes of the e-mails.

    ``sources``: by slot of the kept record, whose the main e-mail was and its slot there. ``stopping``: main
    e-mails of either that will stop matching (R51). ``new_aliases``: what becomes an alias of the kept
    record; ``unaliased``: aliases of it that become main e-mails.
    """

    kept: CustomerRecord
    filled: tuple[str, ...]
    labels: Mapping[str, str]
    sources: Mapping[int, tuple[Side, int]]
    stopping: tuple[MainEmail, ...]
    new_aliases: tuple[str, ...]
    unaliased: tuple[str, ...]


def check_pair(kept: CustomerRecord, other: CustomerRecord) -> None:
    """Raise Refused if the two records cannot be merged."""
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
    """Raise Refused for a tombstone and for a forgotten record."""
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
    """Plan merging ``other`` into ``kept`` (R50-R52). Raises Refused.

    ``shared_emails``: the settings' addresses that identify no buyer; none stays a main e-mail (R17), nor
    does a text of earlier versions that has not the form of an address (R15). ``keep_emails``: the main
    e-mails to keep, instead of the kept record's and then the other's.
    """
    check_pair(kept, other)
    both: list[tuple[Side, MainEmail]] = [
        *(("kept", main) for main in _in_order(kept.emails)),
        *(("other", main) for main in _in_order(other.emails)),
    ]
    usable = [
        (side, main)
        for side, main in both
        if main.email is None or (is_address(main.email) and not is_shared_email(main.email, shared_emails))
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
        if is_given(getattr(other, name)) and not is_given(getattr(kept, name)) and not of_field(kept, name)
    }
    labels = {key: value for key, value in other.labels.items() if key not in kept.labels}
    origins = dict(kept.origins)
    for name in filled:
        origins |= of_field(other, name)
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
    both: Sequence[tuple[Side, MainEmail]],
    usable: Sequence[tuple[Side, MainEmail]],
    keep_emails: Collection[str],
) -> list[tuple[Side, MainEmail]]:
    """Return the main e-mails that a person chose. Raises Refused for others, and for too many."""
    normal = {normal_email(email): email for email in keep_emails}
    if "" in normal:
        raise Refused("an address to keep is empty: name a main e-mail of either customer (--keep-email).")
    chosen = [(side, m) for side, m in both if m.email is not None and normal_email(m.email) in normal]
    shared = [m.email for side, m in chosen if m.email is not None and (side, m) not in usable]
    if shared:
        raise Refused("an address that many buyers share is not kept (R17):", *shared)
    missing = normal.keys() - {normal_email(m.email) for _, m in chosen if m.email is not None}
    if missing:
        raise Refused(
            "an address to keep is a main e-mail of neither customer:", *(normal[e] for e in sorted(missing))
        )
    if len(chosen) > len(SLOTS):
        raise Refused(f"a customer has at most {len(SLOTS)} main e-mails: keep {len(SLOTS)} of them.")
    return chosen


def _without(emails: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct e-mails that are not ``there`` already."""
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
    """Return what undoing a merge will need; ``hashes``: those of both records' main e-mails, by slot."""
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

    ``returned`` and ``stayed``: by slot of the other and of the kept record, the kept record's slot that a
    main e-mail comes from; None if it had become an alias. ``given``: the hash of each main e-mail that the
    other has back, and its slot. ``entered``: e-mails of the other that stay on the kept record, because a
    person or an import has entered them there since.
    """

    kept: CustomerRecord
    other: CustomerRecord
    returned: Mapping[int, int | None]
    stayed: Mapping[int, int | None]
    given: Mapping[str, int]
    entered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Now:
    """Where the e-mails of a merge are when it is undone.

    ``slots``: of the kept record's main e-mails, by hash. ``aliases``: its aliases, by hash. ``left``: hashes
    that stay on third records.
    """

    slots: Mapping[str, int]
    aliases: Mapping[str, str]
    left: frozenset[str]

    def demoted(self, moved: Moved) -> str | None:
        """Return an e-mail that the merge made an alias, if it is still one and may be a main one again."""
        is_free = moved.into is None and moved.hash not in self.left and moved.hash not in self.slots
        return self.aliases.get(moved.hash) if is_free else None


class _Mains(NamedTuple):
    """Main e-mails by slot, and the kept record's slot that each comes from, None for an alias."""

    emails: dict[int, MainEmail]
    sources: dict[int, int | None]


def undo(
    kept: CustomerRecord,
    other: CustomerRecord,
    facts: Facts,
    hashes: Mapping[int, str],
    digest: Callable[[str], str],
    elsewhere: Mapping[str, tuple[int, str]],
    leave: Collection[str] = (),
) -> Undoing:
    """Undo a merge, as far as what it changed is unchanged since (R54). Raises Refused.

    ``hashes``: those of the kept record's main e-mails, by slot. ``elsewhere``: hashes of the merge's e-mails
    that third records have now: whose they are, and how they are written. ``leave``: those that may stay
    there.
    """
    now = _Now(
        slots={hash_: slot for slot, hash_ in hashes.items()},
        aliases={digest(email): email for email in kept.aliases},
        left=_left(facts, elsewhere, {digest(email): email for email in leave}),
    )
    entered = _entered(kept, facts, now)
    returned = _returned(kept, facts, now, entered)
    stayed = _stayed(kept, facts, now, returned)
    given = {m.hash: m.slot for m in facts.emails if m.side == "other" and m.slot in returned.emails}
    own = {m.hash for m in facts.emails if m.side == "kept"}
    held = {hashes[slot] for slot in stayed.sources.values() if slot is not None}
    record, external_id = _fields_undone(kept, other, facts)
    others_aliases = [
        now.aliases[m.hash]
        for m in facts.emails
        if m.side == "other" and m.hash in now.left and m.hash in now.aliases
    ]
    return Undoing(
        replace(
            record,
            emails=tuple(stayed.emails[slot] for slot in sorted(stayed.emails)),
            aliases=_kept_aliases(
                facts, now, stayed, {hash_: returned.emails[slot] for hash_, slot in given.items()}
            ),
            status=facts.kept_status if held <= own else "active",
        ),
        replace(
            other,
            status=facts.other_status,
            merged_into=None,
            external_id=external_id,
            emails=tuple(returned.emails[slot] for slot in sorted(returned.emails)),
            aliases=(*other.aliases, *_without(others_aliases, other.aliases)),
            idle_since=kept.idle_since,
        ),
        returned.sources,
        stayed.sources,
        given,
        tuple(entered.values()),
    )


def _entered(kept: CustomerRecord, facts: Facts, now: _Now) -> dict[str, str]:
    """Return, by hash, e-mails of the other that were entered on the kept record since."""
    mains = {main.slot: main for main in kept.emails}
    entered: dict[str, str] = {}
    for moved in facts.emails:
        if moved.side == "other" and moved.hash in now.slots:
            main = mains[now.slots[moved.hash]]
            if main.email is not None and _entered_since(kept, main, moved):
                entered[moved.hash] = main.email
    return entered


def _returned(kept: CustomerRecord, facts: Facts, now: _Now, entered: Collection[str]) -> _Mains:
    """Return the main e-mails that the other has back, in the slots that they had."""
    mains = {main.slot: main for main in kept.emails}
    returned = _Mains({}, {})
    for moved in facts.emails:
        if moved.side == "kept" or moved.hash in entered:
            continue
        slot, demoted = now.slots.get(moved.hash), now.demoted(moved)
        if slot is not None:
            returned.emails[moved.slot] = replace(mains[slot], slot=moved.slot)
        elif demoted is not None:
            returned.emails[moved.slot] = main_email(moved.slot, demoted, moved.origin)
        else:
            continue
        returned.sources[moved.slot] = slot
    return returned


def _stayed(kept: CustomerRecord, facts: Facts, now: _Now, returned: _Mains) -> _Mains:
    """Return the main e-mails of the kept record: those left, and its own that the merge made aliases.

    One whose slot is taken stays what the merge made of it.
    """
    gone = set(returned.sources.values())
    emails = {main.slot: main for main in kept.emails if main.slot not in gone}
    stayed = _Mains(emails, {slot: slot for slot in emails})
    for moved in facts.emails:
        demoted = now.demoted(moved) if moved.side == "kept" else None
        if demoted is not None and moved.slot not in stayed.emails:
            stayed.emails[moved.slot] = main_email(moved.slot, demoted, moved.origin)
            stayed.sources[moved.slot] = None
    return stayed


def _kept_aliases(facts: Facts, now: _Now, stayed: _Mains, given: Mapping[str, MainEmail]) -> tuple[str, ...]:
    """Return the kept record's aliases: those that the merge made go, those that it made main ones return.

    ``given``: the main e-mails that the other has back, by hash.
    """
    own = [moved for moved in facts.emails if moved.side == "kept"]
    demoted = {moved.hash for moved in own if moved.into is None}
    restored = {moved.hash for moved in own if stayed.sources.get(moved.slot, moved.slot) is None}
    gone = set(facts.aliases) - (demoted - restored)
    back = [main.email for hash_ in facts.unaliased if (main := given.get(hash_)) is not None]
    return (
        *(email for hash_, email in now.aliases.items() if hash_ not in gone),
        *(email for email in back if email is not None),
    )


def _entered_since(kept: CustomerRecord, main: MainEmail, moved: Moved) -> bool:
    """Return True if a person or an import has put an e-mail of the other where it is since the merge."""
    if main.origin == "amazon":  # a relay address is, even if typed; then its slot has an origin
        return main.slot != moved.into and f"email_{main.slot}" in kept.origins
    return (main.origin, main.slot) != (moved.origin, moved.into)


def _left(facts: Facts, elsewhere: Mapping[str, tuple[int, str]], leave: Mapping[str, str]) -> frozenset[str]:
    """Return the hashes that stay on third records. Raises Refused for one that may not."""
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
    """Return the kept record without what the merge filled in, and the other's external ID."""
    changes: dict[str, Any] = {}
    origins = dict(kept.origins)
    for name in facts.filled:
        given = facts.external_id if name == "external_id" else getattr(other, name)
        same_origin = of_field(kept, name) == of_field(other, name)
        if is_given(given) and getattr(kept, name) == given and same_origin:
            country = facts.countries.get(name)
            changes[name] = Address(country=country) if country else None
            origins = {about: o for about, o in origins.items() if about not in of_field(kept, name)}
    labels = {key: value for key, value in kept.labels.items() if facts.labels.get(key) != value}
    external_id = other.external_id
    if "external_id" in changes:
        external_id = facts.external_id
    return replace(kept, **changes, labels=labels, origins=origins), external_id
