"""Customer records: find them by e-mail hash, open, create and change them.

Decisions on customers are made in one transaction, on rows that ``load`` read (locked in id order on
PostgreSQL). Locks cannot prevent that two processes create the same buyer at once; the unique index over
e-mail hashes does (R16).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from store import codec
from store.engine import Row, Transaction
from store.records import (
    Address,
    CustomerRecord,
    MainEmail,
    normal_email,
    says_something,
)
from store.tables import (
    CUSTOMER_IDS,
    UNIDENTIFIED,
    WORD_BLOCK,
    customer_emails,
    customer_words,
    customers,
    journal,
    orders,
)
from store.types import among, among_these

_PERSON = ("name", "company", "amazon_name", "phone")
"""Fields that are sealed together, and below those that are columns as they are."""

_PLAIN = (
    *("business", "account", "marketplace", "created_at", "customer_id", "status", "merged_into"),
    *("external_id", "price_list", "currency", "tax_code", "discount_percent", "special"),
    *("created_from_order", "idle_since"),
)


def place(customer_id: int, column: str) -> str:
    """Return the place to which a sealed value of a customer is bound."""
    return f"customers:{customer_id}:{column}"


def email_place(customer_id: int, slot: int) -> str:
    return f"customer_emails:{customer_id}:{slot}"


_BY_HASH = (
    sa.select(customer_emails)
    .where(customer_emails.c.business == sa.bindparam("business"), among_these(customer_emails.c.email_hash))
    .order_by(customer_emails.c.folded)
)


def find_emails(tx: Transaction, business: str, emails: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return which customers have these main e-mails: ``normal_email -> (customer_id, slot)``."""
    normal = set(map(normal_email, emails))
    wanted = {tx.lookup.email(business, email): email for email in normal}
    formerly = {tx.lookup.folded_email(business, e): e for e in normal if e.casefold() != e}
    found: dict[str, tuple[int, int]] = {}
    for row in (
        tx.rows(_BY_HASH, {"business": business, "these": sorted({**wanted, **formerly})}) if normal else ()
    ):
        email = wanted.get(row.email_hash)
        if row.folded:
            email = _found_folded(tx, row, email or formerly.get(row.email_hash))
        if email is not None and email in normal:
            found.setdefault(email, (row.customer_id, row.slot))
    return found


def _found_folded(tx: Transaction, row: sa.Row[Any], asked: str | None) -> str | None:
    """Return which e-mail a row is about whose hash may have been made when ß counted as ss.

    If retention has left nothing but the hash, that is taken for the e-mail in question. Otherwise the e-mail
    itself decides, and gets a hash of its own, which frees the one that it had.
    """
    if row.email is None:
        return asked
    sealed = tx.sealer.try_open(row.email, email_place(row.customer_id, row.slot))
    if sealed is None:
        return asked
    own = normal_email(sealed.decode())
    digest = tx.lookup.email(row.business, own)
    if digest != row.email_hash and not tx.only_reads and not find_hashes(tx, row.business, [digest]):
        where = {"customer_id": row.customer_id, "slot": row.slot}
        tx.update(customer_emails, [{"email_hash": digest, "folded": False}], **where)
        renamed = sa.func.replace(journal.c.facts, row.email_hash.hex(), digest.hex())
        tx.conn.execute(
            sa.update(journal)
            .where(journal.c.customer_id == row.customer_id, journal.c.facts.is_not(None))
            .values(facts=renamed)
        )
    return own


def find_special(tx: Transaction, business: str, specials: Collection[str]) -> dict[str, int]:
    """Return the shared and placeholder records of marketplaces by their special key."""
    if not specials:
        return {}
    c = customers.c
    query = sa.select(c.special, c.customer_id).where(
        c.business == business, among(c.special, sorted(specials))
    )
    return {row.special: row.customer_id for row in tx.rows(query)}


def find_unidentified(tx: Transaction, account: str, order_ids: Collection[str]) -> dict[str, int]:
    """Return the unidentified records of an account that these orders have made, by order id (R21)."""
    if not order_ids:
        return {}
    c = customers.c
    query = sa.select(c.created_from_order, c.customer_id).where(
        among(c.created_from_order, sorted(order_ids)), c.account == account, sa.text(UNIDENTIFIED)
    )
    return {row.created_from_order: row.customer_id for row in tx.rows(query)}


def order_counts(tx: Transaction, customer_ids: Collection[int]) -> dict[int, int]:
    """Return how many orders each of these customers has."""
    c = orders.c
    query = (
        sa.select(c.customer_id, sa.func.count().label("number"))
        .where(among(c.customer_id, sorted(customer_ids)))
        .group_by(c.customer_id)
    )
    counts = dict.fromkeys(customer_ids, 0)
    counts.update((row.customer_id, row.number) for row in tx.rows(query))
    return counts


_BY_CUSTOMER_ID = (
    sa.select(customers).where(among_these(customers.c.customer_id)).order_by(customers.c.customer_id)
)
_EMAILS = (
    sa.select(customer_emails)
    .where(among_these(customer_emails.c.customer_id))
    .order_by(customer_emails.c.customer_id, customer_emails.c.slot)
)


def load(tx: Transaction, customer_ids: Collection[int]) -> dict[int, CustomerRecord]:
    """Open these customers, locked in id order."""
    if not customer_ids:
        return {}
    result = tx.conn.execute(tx.lock(_BY_CUSTOMER_ID), {"these": sorted(customer_ids)})
    return records_of(tx, result.mappings().all())


def records_of(tx: Transaction, rows: Sequence[Row]) -> dict[int, CustomerRecord]:
    """Open rows of ``customers`` with their e-mails."""
    emails: dict[int, list[MainEmail]] = {}
    for row in tx.rows(_EMAILS, {"these": [row["customer_id"] for row in rows]}):
        where = email_place(row.customer_id, row.slot)
        plain = None if row.email is None else tx.sealer.open(row.email, where).decode()
        emails.setdefault(row.customer_id, []).append(MainEmail(row.slot, plain, row.origin))
    return {row["customer_id"]: _record(tx, row, tuple(emails.get(row["customer_id"], ()))) for row in rows}


def _record(tx: Transaction, row: Row, emails: tuple[MainEmail, ...]) -> CustomerRecord:
    key = row["customer_id"]

    def opened(column: str) -> Any:
        sealed = row[column]
        return None if sealed is None else tx.sealer.open_json(sealed, place(key, column))

    person = opened("person") or {}
    values: dict[str, Any] = {name: row[name] for name in (*_PLAIN, "changed_at")}
    values |= {name: person.get(name) for name in _PERSON}
    return CustomerRecord(
        **values,
        emails=emails,
        aliases=tuple(opened("aliases") or ()),
        billing=_address(opened("billing"), row["billing_country"]),
        delivery=_address(opened("delivery"), row["delivery_country"]),
        labels=codec.load_map(row["labels"]),
        origins=codec.load_map(row["origins"]),
    )


def _address(members: Mapping[str, str] | None, country: str | None) -> Address | None:
    if members is not None:
        return msgspec.convert(members, Address)
    return Address(country=country) if country else None


def _values(tx: Transaction, record: CustomerRecord, key: int) -> dict[str, Any]:
    person = {name: value for name in _PERSON if (value := getattr(record, name)) is not None}
    billing, delivery = record.billing, record.delivery
    seal_json = tx.sealer.seal_json
    return {
        **{name: getattr(record, name) for name in _PLAIN},
        "customer_id": key,
        "person": seal_json(person, place(key, "person")) if person else None,
        "aliases": seal_json(list(record.aliases), place(key, "aliases")) if record.aliases else None,
        "billing": seal_json(billing, place(key, "billing")) if says_something(billing) else None,
        "billing_country": billing.country if billing else None,
        "delivery": seal_json(delivery, place(key, "delivery")) if says_something(delivery) else None,
        "delivery_country": delivery.country if delivery else None,
        "labels": codec.dump_map(record.labels),
        "origins": codec.dump(dict(record.origins)),
        "suggested_into": None,
        "changed_at": tx.now,
        "change_no": tx.change_no,
    }


def _email_values(tx: Transaction, key: int, business: str, email: MainEmail) -> dict[str, Any]:
    if email.email is None:
        raise ValueError("an erased e-mail cannot be written")
    return {
        "customer_id": key,
        "slot": email.slot,
        "business": business,
        "email_hash": tx.lookup.email(business, email.email),
        "email": None
        if email.unwritten
        else tx.sealer.seal(email.email.encode(), email_place(key, email.slot)),
        "origin": email.origin,
        "folded": False,
    }


def _word_values(tx: Transaction, record: CustomerRecord, key: int) -> list[dict[str, Any]]:
    if record.status == "merged":  # a search by name must not lead to a tombstone
        return []
    words: set[int] = set()
    texts = {record.name, record.company, record.delivery.name if record.delivery else None}
    for text in texts:
        if text:
            words |= tx.lookup.words(record.business, text)
    return [{"block": key // WORD_BLOCK, "word": word, "customer_id": key} for word in sorted(words)]


class Person(msgspec.Struct, omit_defaults=True, gc=False):
    """The parts of a customer's sealed ``person`` that can be like another's. Its ``repr`` shows nothing."""

    name: str | None = None
    company: str | None = None
    amazon_name: str | None = None
    phone: str | None = None

    def __repr__(self) -> str:
        return "Person(…)"


@dataclass(slots=True, repr=False)
class Likeness:
    """The parts of a customer that can be like another's; the address is of delivery, else of billing."""

    customer_id: int
    business: str
    person: Person
    address: Address | None
    aliases: Sequence[str]


_NO_PERSON = Person()


def likenesses(tx: Transaction, chunk: int) -> Iterator[list[Likeness]]:
    """Yield all active customers that stand for a person, in chunks by ascending id."""
    c = customers.c
    columns = (c.customer_id, c.business, c.person, c.delivery, c.billing, c.aliases)
    persons = sa.and_(c.status.in_(("active", "unidentified")), c.special.is_(None))
    after = 0
    while True:
        query = sa.select(*columns).where(c.customer_id > after, persons).order_by(c.customer_id).limit(chunk)
        rows = tx.rows(query)
        if not rows:
            return
        yield [_likeness(tx, row) for row in rows]
        after = rows[-1].customer_id


def _likeness(tx: Transaction, row: sa.Row[Any]) -> Likeness:
    key, opened = row.customer_id, tx.sealer.open_as
    person = _NO_PERSON if row.person is None else opened(Person, row.person, place(key, "person"))
    address = None
    if row.delivery is not None:
        address = opened(Address, row.delivery, place(key, "delivery"))
    elif row.billing is not None:
        address = opened(Address, row.billing, place(key, "billing"))
    aliases = () if row.aliases is None else tx.sealer.open_json(row.aliases, place(key, "aliases"))
    return Likeness(key, row.business, person, address, aliases)


def likeness_of(record: CustomerRecord) -> Likeness:
    """Return the parts of an opened record that can be like another's."""
    person = Person(record.name, record.company, record.amazon_name, record.phone)
    address = record.delivery or record.billing
    return Likeness(record.customer_id, record.business, person, address, record.aliases)


def with_older_email(tx: Transaction, business: str, email: str) -> list[int]:
    """Return the customers of a business that have had an e-mail before, which does not match any more."""
    c = customers.c
    query = sa.select(c.customer_id, c.aliases).where(
        c.business == business, c.aliases.is_not(None), c.status.in_(("active", "unidentified"))
    )
    found = []
    for row in tx.rows(query.order_by(c.customer_id)):
        aliases = tx.sealer.try_open(row.aliases, place(row.customer_id, "aliases"))
        if aliases is not None and any(normal_email(e) == email for e in msgspec.json.decode(aliases)):
            found.append(row.customer_id)
    return found


def create(tx: Transaction, records: Sequence[CustomerRecord]) -> list[int]:
    """Store new customers. Return their ids in the same order.

    Raises a conflict (``engine.is_conflict``) if an e-mail is taken.
    """
    ids = tx.take_keys(CUSTOMER_IDS, len(records))
    if not ids:
        return ids
    tx.insert(customers, [_values(tx, r, key) for key, r in zip(ids, records, strict=True)])
    emails, words = [], []
    for key, record in zip(ids, records, strict=True):
        emails += [_email_values(tx, key, record.business, email) for email in record.emails]
        words += _word_values(tx, record, key)
    tx.insert(customer_emails, emails)
    tx.insert(customer_words, words)
    return ids


def change(tx: Transaction, record: CustomerRecord, before: CustomerRecord | None = None) -> None:
    """Store a changed customer with its e-mails and searchable words.

    ``before`` is the record as this transaction read it, if it did: equal e-mails and words are not written
    again. The hash of an erased e-mail (R61) stays in its slot. Raises a conflict (``engine.is_conflict``)
    if an e-mail is taken.
    """
    key = record.customer_id
    values = _values(tx, record, key)
    for kept in ("created_at", "suggested_into"):
        del values[kept]
    tx.update(customers, [values], customer_id=None)
    if before is None or before.emails != record.emails:
        _replace_emails(tx, record)
    words = _word_values(tx, record, key)
    if before is None or _word_values(tx, before, key) != words:
        tx.conn.execute(sa.delete(customer_words).where(customer_words.c.customer_id == key))
        tx.insert(customer_words, words)


def email_hashes(tx: Transaction, customer_id: int) -> dict[int, bytes]:
    """Return the keyed hash of each main e-mail by slot, erased ones (R61) included."""
    c = customer_emails.c
    query = sa.select(c.slot, c.email_hash).where(c.customer_id == customer_id)
    return {row.slot: row.email_hash for row in tx.rows(query)}


def find_hashes(tx: Transaction, business: str, hashes: Collection[bytes]) -> dict[bytes, int]:
    """Return the customer of each hash that is one of a main e-mail."""
    rows = tx.rows(_BY_HASH, {"business": business, "these": sorted(hashes)}) if hashes else ()
    return {row.email_hash: row.customer_id for row in rows}


def find_external_ids(tx: Transaction, business: str, external_ids: Collection[str]) -> dict[str, int]:
    """Return the customer, maybe a tombstone, of each external id."""
    if not external_ids:
        return {}
    c = customers.c
    query = sa.select(c.external_id, c.customer_id).where(
        c.business == business, among(c.external_id, sorted(external_ids))
    )
    return {row.external_id: row.customer_id for row in tx.rows(query)}


def place_emails(tx: Transaction, record: CustomerRecord, erased: Mapping[int, bytes]) -> None:
    """Replace the main e-mails; ``erased``: by slot the hash of each erased one.

    Raises a conflict (``engine.is_conflict``) if an e-mail is taken.
    """
    key = record.customer_id
    tx.conn.execute(sa.delete(customer_emails).where(customer_emails.c.customer_id == key))
    tx.insert(
        customer_emails,
        [
            _email_values(tx, key, record.business, main)
            if main.email is not None
            else {
                "customer_id": key,
                "slot": main.slot,
                "business": record.business,
                "email_hash": erased[main.slot],
                "email": None,
                "origin": main.origin,
                "folded": True,
            }
            for main in record.emails
        ],
    )


def _replace_emails(tx: Transaction, record: CustomerRecord) -> None:
    key = record.customer_id
    erased = [email.slot for email in record.emails if email.email is None]
    c = customer_emails.c
    tx.conn.execute(sa.delete(customer_emails).where(c.customer_id == key, c.slot.not_in(erased)))
    if erased:
        still = sa.and_(c.customer_id == key, c.email.is_not(None))
        tx.conn.execute(sa.update(customer_emails).where(still).values(email=None))
    emails = [_email_values(tx, key, record.business, e) for e in record.emails if e.email is not None]
    tx.insert(customer_emails, emails)


def bury(tx: Transaction, customer_id: int, into: int) -> None:
    """Make a record without orders a tombstone that points to another one."""
    tx.conn.execute(
        sa.update(customers)
        .where(customers.c.customer_id == customer_id)
        .values(status="merged", merged_into=into, idle_since=None, changed_at=tx.now, change_no=tx.change_no)
    )
    tx.conn.execute(sa.delete(customer_emails).where(customer_emails.c.customer_id == customer_id))
    tx.conn.execute(sa.delete(customer_words).where(customer_words.c.customer_id == customer_id))


def suggest(tx: Transaction, customer_id: int, into: int) -> None:
    """Suggest to a person that these two may be one customer (R22)."""
    tx.conn.execute(
        sa.update(customers).where(customers.c.customer_id == customer_id).values(suggested_into=into)
    )


def write_journal(
    tx: Transaction,
    who: str,
    action: str,
    customer_id: int,
    *,
    other_id: int | None = None,
    order_id: str | None = None,
    details: Mapping[str, Any] | None = None,
    facts: object = None,
) -> int:
    """Add what was done to a customer. Return the entry's number.

    ``details`` (before, after) are sealed. ``facts`` are not: they hold no buyer data.
    """
    values = {
        "at": tx.now,
        "who": who,
        "action": action,
        "customer_id": customer_id,
        "other_id": other_id,
        "order_id": order_id,
        "facts": None if facts is None else codec.dump(facts),
    }
    entry: int = tx.conn.execute(sa.insert(journal).values(values).returning(journal.c.entry)).scalar_one()
    if details:
        sealed = tx.sealer.seal_json(dict(details), journal_place(entry))
        tx.conn.execute(sa.update(journal).where(journal.c.entry == entry).values(details=sealed))
    return entry


def journal_place(entry: int) -> str:
    """Return the place to which the sealed details of a journal entry are bound."""
    return f"journal:{entry}:details"
