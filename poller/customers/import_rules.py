"""What each line of an import changes, decided on values; ``poller.customers.imports`` writes the outcome.

A line's customer is found by its external ID, else by a main e-mail. What a line leaves out and what a person
edited by hand stays as it is, so importing a file again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from poller.customers.fields import (
    EMAILS,
    SELLERS,
    Changes,
    amended,
    checked,
    has_it,
    main_email,
    text_of,
    with_emails,
)
from poller.errors import NoCustomer, Refused
from poller.matching.customer_records import shown_name
from store.origins import ADDRESS_PARTS, ADDRESSES, part_names
from store.records import Address, CustomerRecord, MainEmail, normal_email

LineOutcome = Literal["new", "changed", "unchanged", "merged", "refused"]


@dataclass(frozen=True, slots=True)
class Edit:
    """Cells of a line that names its customer by number, empty ones included, by column."""

    customer_id: int
    given: Mapping[str, str] = field(repr=False)
    shared_emails: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the file: changes of one customer, or why it is refused.

    ``number``, ``last``: its first and last line; there are several if a cell has line breaks.
    """

    number: int
    last: int
    business: str = ""
    changes: Changes = field(default_factory=lambda: Changes({}), repr=False)
    refused: str | None = None
    edit: Edit | None = None


@dataclass(frozen=True, slots=True)
class ImportedLine:
    """What became of a line. ``before`` and ``after``: the record, if it is written; ``text``: for people."""

    number: int
    last: int
    kind: LineOutcome
    customer_id: int = 0
    text: str = ""
    before: CustomerRecord | None = None
    after: CustomerRecord | None = None

    @property
    def place(self) -> str:
        """Return where the file has it."""
        return f"line {self.number}" if self.number == self.last else f"lines {self.number} to {self.last}"


class Picture:
    """The customers of one business that some lines may concern; grows with each line.

    New records have negative IDs. ``recognized``: those of the records of which a line names an e-mail that
    was reduced to its hash, with it. ``touched``: by customer, the number of the line about it.
    """

    def __init__(self, business: str, touched: dict[int, int]) -> None:
        self.business = business
        self.records: dict[int, CustomerRecord] = {}
        self.recognized: dict[int, CustomerRecord] = {}
        self.by_external_id: dict[str, int] = {}
        self.by_email: dict[str, int] = {}
        self.touched = touched

    def take(self, line: Line, now: datetime) -> ImportedLine:
        """Decide one line and remember its outcome."""
        if line.refused is not None:
            return ImportedLine(line.number, line.last, "refused", text=line.refused)
        try:
            return self._decide(line, now)
        except Refused as refused:
            return ImportedLine(line.number, line.last, "refused", text=str(refused))

    def _decide(self, line: Line, now: datetime) -> ImportedLine:
        values = {name: value for name, value in line.changes.values.items() if value is not None}
        target = line.edit.customer_id if line.edit is not None else self._target(values)
        if target is None:
            target = -1 - len(self.touched)
            record = CustomerRecord(self.business, None, None, now, customer_id=target)
            return self._remember(line, "new", None, amended(record, Changes(values), "import"))
        if target in self.touched:
            earlier = self.touched[target]
            raise Refused(f"line {earlier} is about the same customer ({_name(target)}): one line for each.")
        before = self.records[target]
        if line.edit is not None and not line.changes.values:
            return self._remember(line, "unchanged", before, before)
        if before.merged_into is not None:
            self.touched[target] = line.number
            return ImportedLine(
                line.number, line.last, "merged", target, f"merged into customer {before.merged_into}"
            )
        if before.status == "forgotten":
            raise Refused(f"customer {target} was forgotten: nothing can be added to it.")
        known = self.recognized.get(target, before)
        if line.edit is None:
            after = imported(known, values)
        else:
            self._check_free(target, values)
            after = amended(known, line.changes, "hand")
        return self._remember(line, "unchanged" if after == before else "changed", before, after)

    def _target(self, values: dict[str, str | Decimal]) -> int | None:
        external_id = values.get("external_id")
        emails = {name: normal_email(str(values[name])) for name in EMAILS if name in values}
        if external_id is None and not emails:
            raise Refused("it has neither an external_id nor an e-mail to know the customer by.")
        holders = {self.by_email[email]: name for name, email in emails.items() if email in self.by_email}
        target = self.by_external_id.get(str(external_id)) if external_id is not None else None
        if target is None and len(holders) == 1:
            (target,) = holders
            if external_id is not None and self.records[target].external_id not in (None, external_id):
                name = holders[target]
                raise Refused(f"{_name(target)} has the e-mail of {name}, and another external_id.")
        if target is None and holders:
            names = " and ".join(_name(i) for i in sorted(holders))
            raise Refused(f"its e-mails are on different customers ({names}): merge them.")
        merged_into = self.records[target].merged_into if target is not None else None
        for holder, name in holders.items():
            if holder not in (target, merged_into):
                raise Refused(has_it(name, holder, target or 0))
        return target

    def _check_free(self, target: int, values: Mapping[str, str | Decimal]) -> None:
        """Raise Refused for an e-mail or an external ID that another record has (R16)."""
        for name in EMAILS:
            holder = self.by_email.get(normal_email(str(values[name])), target) if name in values else target
            if holder != target:
                raise Refused(has_it(name, holder, target))
        holder = self.by_external_id.get(str(values.get("external_id")), target)
        if holder != target:
            raise Refused(f"{_name(holder)} has that external id: every customer needs its own.")

    def _remember(
        self, line: Line, kind: LineOutcome, before: CustomerRecord | None, after: CustomerRecord
    ) -> ImportedLine:
        customer_id = after.customer_id
        self.touched[customer_id] = line.number
        self.records[customer_id] = after
        for main in before.emails if before is not None else ():
            if main.email is not None:
                self.by_email.pop(normal_email(main.email), None)
        for main in after.emails:
            if main.email is not None:
                self.by_email[normal_email(main.email)] = customer_id
        if after.external_id is not None:
            self.by_external_id[after.external_id] = customer_id
        text = _changed_fields(before, after)
        return ImportedLine(line.number, line.last, kind, customer_id, text, before, after)


def _name(customer_id: int) -> str:
    return f"customer {customer_id}" if customer_id > 0 else "a customer of this file"


# --- lines that name their customer by number -------------------------------------------------------


def edit_of(line: Line, edit: Edit, records: Mapping[int, CustomerRecord]) -> Line:
    """Return the line with what it changes of its customer, as an edit by hand does.

    A cell that is as the export shows it changes nothing, whatever it holds, and neither does an empty one,
    but in an address of which the line gives another part.
    """
    record = records.get(edit.customer_id)
    try:
        if record is None:
            raise NoCustomer(edit.customer_id)
        given = with_emails_spread(edit.given, record.emails)
        business = given.pop("business", "")
        if business and business != record.business:
            raise Refused(f"customer {edit.customer_id} belongs to the business {record.business}.")
        groups: list[tuple[str, ...]] = [EMAILS] if edit.given.get("emails") else []
        groups += [parts for kind in ADDRESSES if any(map(given.get, parts := part_names(kind)))]
        removable = {name for group in groups for name in group}
        differing = {
            name: cell
            for name, cell in given.items()
            if cell != _exported(record, name) and (cell or name in removable)
        }
        return replace(line, business=record.business, changes=checked(differing, (), edit.shared_emails))
    except Refused as refused:
        return replace(line, refused=str(refused))


def with_emails_spread(given: Mapping[str, str], mains: Sequence[MainEmail]) -> dict[str, str]:
    """Return the cells with the list in ``emails`` spread over the slots of main e-mails. Raises Refused.

    ``mains``: those that the list was exported of, in slot order. What the list lacks of them is removed.
    """
    spread = {name: cell for name, cell in given.items() if name != "emails"}
    if not given.get("emails"):
        return spread
    try:
        emails = msgspec.json.decode(given["emails"], type=list[str | None])
    except msgspec.DecodeError:
        raise Refused('emails must be a list, for example ["ann@example.com"].') from None
    if len(emails) > len(EMAILS):
        raise Refused(f"a customer has at most {len(EMAILS)} main e-mails.")
    slots = [main.slot for main in mains]
    slots += [slot for slot in (1, 2, 3) if slot not in slots]
    emails += [""] * (len(mains) - len(emails))
    for slot, email in zip(slots, emails, strict=False):
        if email is not None and not spread.get(f"email_{slot}"):
            spread[f"email_{slot}"] = email.strip()
    return spread


def _exported(record: CustomerRecord, name: str) -> str:
    """Return a field as the export shows it, without blanks at its ends."""
    return (shown_name(record) or "").strip() if name == "name" else text_of(record, name)


_SHOWN = ("external_id", "name", "company", "phone", "billing", "delivery", *SELLERS)


def _changed_fields(before: CustomerRecord | None, after: CustomerRecord) -> str:
    """Return the names of the fields that change, for people."""
    if before is None:
        return ""
    names = [name for name in _SHOWN if getattr(before, name) != getattr(after, name)]
    if before.emails != after.emails:
        names.append("e-mails")
    return ", ".join(name.replace("_", " ") for name in names)


def imported(record: CustomerRecord, values: dict[str, str | Decimal]) -> CustomerRecord:
    """Return the record with a line's values, except for what was edited by hand. Raises Refused."""
    taken: dict[str, str | Decimal | None] = {}
    for name in ("name", "company", "phone", *SELLERS):
        if name in values and record.origins.get(name) != "hand":
            taken[name] = values[name]
    if "external_id" in values and record.external_id is None:
        taken["external_id"] = values["external_id"]
    for kind in ADDRESSES:
        replaced = _replaced(record, kind, values)
        if any(replaced.values()):
            taken |= replaced
    changed = amended(record, Changes(taken), "import")
    named = {slot: str(values[name]) for slot, name in enumerate(EMAILS, 1) if name in values}
    return with_emails(changed, _emails_with(changed, named))


def _replaced(
    record: CustomerRecord, kind: str, values: Mapping[str, str | Decimal]
) -> dict[str, str | Decimal | None]:
    """Return what a line makes of an address: parts that it leaves out go, those edited by hand stay."""
    address, own = getattr(record, kind) or Address(), record.origins.get(kind)
    return {
        name: values.get(name)
        for part, name in zip(ADDRESS_PARTS, part_names(kind), strict=True)
        if record.origins.get(name, own) != "hand" and (name in values or getattr(address, part) is not None)
    }


def _emails_with(record: CustomerRecord, named: dict[int, str]) -> Iterable[MainEmail]:
    """Return the record's main e-mails with those that a line names, by slot. Raises Refused.

    An e-mail that is there keeps its slot. Another goes into its own slot, else into a free one, else into
    one whose imported e-mail the line replaces.
    """
    mains = {main.slot: main for main in record.emails}
    at = {normal_email(main.email): main.slot for main in record.emails if main.email is not None}
    staying = {normal_email(email) for email in named.values()}
    to_place: dict[int, str] = {}
    for slot, email in named.items():
        here = at.get(normal_email(email))
        if here is None and not _by_hand(record, slot):
            to_place[slot] = email
        elif here is not None and mains[here].origin != "hand":
            mains[here] = replace(mains[here], email=email)

    def is_open(slot: int) -> bool:
        main = mains.get(slot)
        if main is None:
            return not _by_hand(record, slot)
        is_replaced = slot in named and main.email is not None and normal_email(main.email) not in staying
        return is_replaced and main.origin == "import" and not _by_hand(record, slot)

    for slot in [slot for slot in to_place if is_open(slot)]:
        mains[slot] = main_email(slot, to_place.pop(slot), "import")
    for slot, email in to_place.items():
        slots = sorted((s for s in (1, 2, 3) if is_open(s)), key=lambda s: s in mains)
        if not slots:
            raise Refused(f"customer {record.customer_id} has no slot that is free for email_{slot}.")
        mains[slots[0]] = main_email(slots[0], email, "import")
    return mains.values()


def _by_hand(record: CustomerRecord, slot: int) -> bool:
    """Return True if a person has filled or emptied the slot."""
    return record.origins.get(f"email_{slot}") == "hand"
