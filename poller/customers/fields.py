"""A customer's fields as a person types them: names, checks, and what they change on a record.

The command line, the API and the columns of an import use the same names. Values are texts; an empty one
removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from poller.customers.countries import COUNTRIES, country_code
from poller.customers.currencies import CURRENCIES
from poller.errors import Refused
from poller.matching.emails import is_address, is_relay, is_shared_email
from poller.text import control_character
from store.origins import ADDRESS_PARTS, ADDRESSES, of_parts, part_names, with_parts
from store.records import Address, CustomerRecord, MainEmail, Origin, normal_email

EMAILS = ("email_1", "email_2", "email_3")
PERSONAL = ("name", "company", *EMAILS, "phone", *part_names("billing"), *part_names("delivery"))
"""Fields that identify a person; a marketplace's shared or placeholder record has none of them."""

BUYERS = tuple(name for name in PERSONAL if not name.endswith("_country"))
"""Fields that only those may set who may see them: an answer would say whose they are."""

SELLERS = ("price_list", "currency", "tax_code", "discount_percent")
FIELDS = ("external_id", *PERSONAL, *SELLERS)

MAX_LENGTH_OF_ID = 128
MAX_LENGTH_OF_EMAIL = 254
MAX_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Changes:
    """Checked values by field and labels by key; None removes one."""

    values: Mapping[str, str | Decimal | None]
    labels: Mapping[str, str | None] = field(default_factory=dict)


class FieldRefused(Refused):
    """The value of one field is refused; ``holder`` is the customer who has it already."""

    def __init__(self, field: str, sentence: str, holder: int) -> None:
        super().__init__(sentence)
        self.field = field
        self.holder = holder


def checked(
    given: Mapping[str, str], labels: Iterable[str] = (), shared_emails: frozenset[str] = frozenset()
) -> Changes:
    """Check values as they were typed. Raises Refused, which names the field and never the value."""
    changes, wrong = examined(given, labels, shared_emails)
    for sentence in wrong.values():
        raise Refused(sentence)
    return changes


def examined(
    given: Mapping[str, str], labels: Iterable[str] = (), shared_emails: frozenset[str] = frozenset()
) -> tuple[Changes, dict[str, str]]:
    """Check values as they were typed. Return those that are good, and by field what is wrong with others."""
    values: dict[str, str | Decimal | None] = {}
    good_labels: dict[str, str | None] = {}
    wrong: dict[str, str] = {}
    for name, text in given.items():
        stripped = text.strip()
        try:
            values[name] = _value(name, stripped, shared_emails) if stripped else None
        except Refused as refused:
            wrong[name] = str(refused)
    seen: set[str] = set()
    for name in (name for name in EMAILS if values.get(name)):
        if (email := normal_email(str(values[name]))) in seen:
            wrong[name] = "the same e-mail is given for two slots: one is enough."
        seen.add(email)
    for text in labels:
        try:
            good_labels |= [_label(text)]
        except Refused as refused:
            wrong["labels"] = str(refused)
    return Changes(values, good_labels), wrong


def text_of(record: CustomerRecord, name: str) -> str:
    """Return a field as a person would type it; an erased e-mail is empty."""
    kind, _, part = name.partition("_")
    if name == "discount_percent":
        value = None if record.discount_percent is None else format(record.discount_percent, "f")
    elif name in EMAILS:
        value = next((main.email for main in record.emails if main.slot == int(part)), None)
    elif kind in ADDRESSES:
        value = getattr(getattr(record, kind) or Address(), part)
    else:
        value = getattr(record, name)
    return (value or "").strip()


def _value(name: str, text: str, shared_emails: frozenset[str]) -> str | Decimal:
    limit = MAX_LENGTH
    if name in EMAILS or name == "external_id":
        limit = MAX_LENGTH_OF_EMAIL if name in EMAILS else MAX_LENGTH_OF_ID
    if len(text) > limit:
        raise Refused(f"{name} is too long: {limit} characters are allowed.")
    if (wrong := control_character(text)) is not None:
        raise Refused(f"{name} has {wrong}: remove it.")
    if name in EMAILS:
        return _email(name, text, shared_emails)
    if name == "discount_percent":
        return _percent(name, text)
    if name == "currency" and text.upper() not in CURRENCIES:
        raise Refused(f"{name} must be a currency's code of three letters (ISO 4217), for example GBP.")
    if name == "currency":
        return text.upper()
    if name.endswith("_country"):
        code = country_code(text)
        if code not in COUNTRIES:
            raise Refused(f"{name} must be a country's code of two letters (ISO 3166), for example GB.")
        return code
    return text


def _email(name: str, text: str, shared_emails: frozenset[str]) -> str:
    if not is_address(text):
        raise Refused(f"{name} is not an e-mail address.")
    if is_shared_email(text, shared_emails):
        raise Refused(f"{name} is an address that many buyers share: it identifies none of them (R17).")
    return text


def _percent(name: str, text: str) -> Decimal:
    try:
        percent = Decimal(text)
    except InvalidOperation:
        percent = Decimal("NaN")
    if not (percent.is_finite() and 0 <= percent <= 100):
        raise Refused(f"{name} must be a number from 0 to 100, for example 2.5.")
    return percent


def _label(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if (wrong := control_character(text)) is not None:
        raise Refused(f"a label has {wrong}: remove it.")
    if not (equals and key.strip()) or len(text) > MAX_LENGTH:
        raise Refused("a label is written key=value; key= takes it off.")
    return key.strip(), value.strip() or None


# --- changing a record ----------------------------------------------------------------------------------


def amended(record: CustomerRecord, changes: Changes, origin: Origin) -> CustomerRecord:
    """Return the record with these changes.

    Each field, and each part of an address, whose value changes is of ``origin`` from then on (R60), and so
    is one emptied on purpose, even if it was empty (R8). Raises Refused for a marketplace's own record.
    """
    values = changes.values
    if record.special is not None and any(name in PERSONAL for name in values):
        raise Refused(
            f"customer {record.customer_id} is a marketplace's record for orders without a buyer "
            f"({record.special}): it has no name, e-mail, phone or address."
        )
    named = [name for name in ("name", "company", "phone", *SELLERS) if name in values]
    changed: dict[str, Any] = {name: values[name] for name in ("external_id", *named) if name in values}
    origins = dict(record.origins)
    for name in named:
        if values[name] is None or values[name] != getattr(record, name):
            origins[name] = origin
    for kind in ADDRESSES:
        if parts := _changed_parts(getattr(record, kind), kind, values):
            changed[kind] = address_with(getattr(record, kind), parts)
            attributed = of_parts(record, kind) | dict.fromkeys(parts, origin)
            origins = with_parts(origins, kind, attributed)
    emails = record.emails
    for slot, name in enumerate(EMAILS, 1):
        if name in values:
            known = _find(record.emails, values[name])
            if known is None or known.slot != slot:
                origins[name] = origin
            emails = _with_email(emails, slot, values[name], origin if known is None else known.origin)
    labels = dict(record.labels)
    for key, value in changes.labels.items():
        labels.pop(key, None)
        if value is not None:
            labels[key] = value
    if labels != record.labels:
        origins["labels"] = origin
    return with_emails(replace(record, **changed, labels=labels, origins=origins), emails)


def with_emails(record: CustomerRecord, emails: Iterable[MainEmail]) -> CustomerRecord:
    """Return the record with these main e-mails, which are aliases no more."""
    mains = tuple(sorted(emails, key=lambda main: main.slot))
    # An e-mail identifies a person; removing it does not make the person unidentified again.
    status = "active" if mains and record.special is None else record.status
    return replace(record, emails=mains, aliases=without_mains(record.aliases, mains), status=status)


def without_mains(aliases: Iterable[str], mains: Iterable[MainEmail]) -> tuple[str, ...]:
    """Return the aliases that are not main e-mails."""
    normal = {normal_email(main.email) for main in mains if main.email is not None}
    return tuple(email for email in aliases if normal_email(email) not in normal)


def recognized(
    record: CustomerRecord, holders: Mapping[str, tuple[int, int]], origin: Origin
) -> CustomerRecord:
    """Return the record with e-mails restored that a person names and retention reduced to a hash (R61).

    ``holders``: by normal form of an e-mail named, the customer and slot that has it.
    """
    named = {slot: email for email, (holder, slot) in holders.items() if holder == record.customer_id}
    emails = tuple(
        main_email(main.slot, named[main.slot], origin) if main.email is None and main.slot in named else main
        for main in record.emails
    )
    return record if emails == record.emails else replace(record, emails=emails)


def _changed_parts(address: Address | None, kind: str, values: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the parts of an address that get another value, or are emptied."""
    before = address or Address()
    named = {part: values[f"{kind}_{part}"] for part in ADDRESS_PARTS if f"{kind}_{part}" in values}
    return {part: value for part, value in named.items() if value is None or value != getattr(before, part)}


def address_with(address: Address | None, parts: Mapping[str, str | None]) -> Address | None:
    """Return the address with these parts, None if it is empty. What a person writes is no pick-up point."""
    changed = msgspec.structs.replace(address or Address(), **parts, kind=None)
    return None if changed == Address() else changed


def _with_email(
    emails: tuple[MainEmail, ...], slot: int, email: Any, origin: Origin
) -> tuple[MainEmail, ...]:
    """Put an e-mail into the slot, or empty it; an e-mail that is in another slot moves."""
    known = _find(emails, email)
    kept = tuple(main for main in emails if main.slot != slot and main != known)
    return kept if email is None else (*kept, main_email(slot, email, origin))


def _find(emails: Iterable[MainEmail], email: Any) -> MainEmail | None:
    same = (m for m in emails if m.email and email and normal_email(m.email) == normal_email(email))
    return next(same, None)


def main_email(slot: int, email: str, origin: Origin) -> MainEmail:
    """Return a main e-mail; a relay address is Amazon's, even if a person typed it (R60)."""
    return MainEmail(slot, email, "amazon" if is_relay(email) else origin)


def has_it(name: str, holder: int, customer_id: int = 0) -> str:
    """Return the message about an e-mail that another record has, with the remedy."""
    if not customer_id:
        command = f"`order-sync customers edit {holder}`"
        return f"customer {holder} has the e-mail of {name}: {command} changes that one."
    command = f"`order-sync customers merge {holder} {customer_id}`"
    return f"customer {holder} has the e-mail of {name}: merge them ({command})."
