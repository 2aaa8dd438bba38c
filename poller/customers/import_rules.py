"""What one line of an import makes of the customers that are there: decided here, written elsewhere.

A line is known by its external id, else by a main e-mail. What it does not say it does not change; what a
person has edited by hand stays as it is. So importing a file again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from poller.customers.fields import ADDRESS_PARTS, EMAILS, SELLERS, Changes, amended, has_it
from poller.customers.refused import Refused
from store.records import CustomerRecord, MainEmail, normal_email

Kind = Literal["new", "changed", "unchanged", "merged", "refused"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: what it says of one customer, or why it says nothing."""

    number: int
    business: str = ""
    changes: Changes = field(default_factory=lambda: Changes({}), repr=False)
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line. ``before`` and ``after`` are the record's, where it is to be written."""

    number: int
    kind: Kind
    customer_id: int = 0
    text: str = ""
    before: CustomerRecord | None = None
    after: CustomerRecord | None = None


class Picture:
    """The customers of one business, as far as some lines can speak of them; grows with every line.

    New records have negative ids. ``touched``: for each customer the line that was about it.
    """

    def __init__(self, business: str, touched: dict[int, int]) -> None:
        self.business = business
        self.records: dict[int, CustomerRecord] = {}
        self.by_external_id: dict[str, int] = {}
        self.by_email: dict[str, int] = {}
        self.touched = touched

    def take(self, line: Line, now: datetime) -> Outcome:
        """Decide one line, and remember what it makes."""
        if line.refused is not None:
            return Outcome(line.number, "refused", text=line.refused)
        try:
            return self._decide(line, now)
        except Refused as refused:
            return Outcome(line.number, "refused", text=str(refused))

    def _decide(self, line: Line, now: datetime) -> Outcome:
        values = {name: value for name, value in line.changes.values.items() if value is not None}
        target = self._target(values)
        if target is None:
            target = -1 - len(self.touched)
            record = CustomerRecord(self.business, None, None, now, customer_id=target)
            return self._remember(line, "new", None, amended(record, Changes(values), "import"))
        if target in self.touched:
            earlier = self.touched[target]
            raise Refused(f"line {earlier} is about the same customer ({_name(target)}): one line for each.")
        before = self.records[target]
        if before.merged_into is not None:
            self.touched[target] = line.number
            return Outcome(line.number, "merged", target, f"merged into customer {before.merged_into}")
        if before.status == "forgotten":
            raise Refused(f"customer {target} was forgotten: nothing can be added to it.")
        after = imported(before, values)
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

    def _remember(
        self, line: Line, kind: Kind, before: CustomerRecord | None, after: CustomerRecord
    ) -> Outcome:
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
        return Outcome(line.number, kind, customer_id, _told(before, after), before, after)


def _name(customer_id: int) -> str:
    return f"customer {customer_id}" if customer_id > 0 else "a customer of this file"


_TOLD = ("external_id", "name", "company", "phone", "billing", "delivery", *SELLERS)


def _told(before: CustomerRecord | None, after: CustomerRecord) -> str:
    """The names of the fields that change."""
    if before is None:
        return ""
    names = [name for name in _TOLD if getattr(before, name) != getattr(after, name)]
    if before.emails != after.emails:
        names.append("e-mails")
    if not names and before != after:
        return "now known as imported"
    return ", ".join(name.replace("_", " ") for name in names)


def imported(record: CustomerRecord, values: dict[str, str | Decimal]) -> CustomerRecord:
    """The record with what a line says, but for what was edited by hand. Raises Refused."""
    taken: dict[str, str | Decimal | None] = {}
    for name in ("name", "company", "phone", *SELLERS):
        if name in values and record.origins.get(name) != "hand":
            taken[name] = values[name]
    if "external_id" in values and record.external_id is None:
        taken["external_id"] = values["external_id"]
    for kind in ("billing", "delivery"):
        parts = {f"{kind}_{part}": values.get(f"{kind}_{part}") for part in ADDRESS_PARTS}
        if any(parts.values()) and record.origins.get(kind) != "hand":
            taken |= parts  # an address is taken whole: what the line leaves out is not part of it
    changed = amended(record, Changes(taken), "import")
    for slot, name in enumerate(EMAILS, 1):
        if name in values:
            changed = _with_imported(changed, slot, str(values[name]))
    return changed


def _with_imported(record: CustomerRecord, slot: int, email: str) -> CustomerRecord:
    """Put a line's e-mail into its slot, else into a free one; never over one that did not come so."""
    mains = {main.slot: main for main in record.emails}
    here = [m for m in record.emails if m.email and normal_email(m.email) == normal_email(email)]
    by_hand = record.origins.get(f"email_{slot}") == "hand"
    if (here and here[0].origin == "hand") or (not here and by_hand):
        return record
    if here:
        slot = here[0].slot
    elif slot in mains and mains[slot].origin != "import":
        free = [s for s in (1, 2, 3) if s not in mains and record.origins.get(f"email_{s}") != "hand"]
        if not free:
            raise Refused(f"customer {record.customer_id} has no slot that is free for email_{slot}.")
        slot = free[0]
    mains[slot] = MainEmail(slot, email, "import")
    status = "active" if record.special is None else record.status
    return replace(record, emails=tuple(mains[s] for s in sorted(mains)), status=status)
