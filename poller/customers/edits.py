"""Creating and editing a customer by hand: one transaction, journalled with who and when (R57)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from poller.customers.fields import EMAILS, Changes, FieldRefused, amended, has_it, recognized
from poller.customers.merge_rules import check_living
from poller.errors import NoCustomer, Refused
from store import customers, queries
from store.engine import Transaction
from store.journal import difference
from store.records import CustomerRecord, normal_email


def create(tx: Transaction, business: str, changes: Changes, who: str) -> CustomerRecord:
    """Create a record by hand. Raises Refused, and conflicts (``store.engine.is_conflict``)."""
    if not any(changes.values.values()) and not changes.labels:
        raise Refused("a customer needs at least one field, for example a name or an e-mail.")
    empty = CustomerRecord(business, None, None, tx.now)
    entered = {name: value for name, value in changes.values.items() if value is not None}
    record = amended(empty, replace(changes, values=entered), "hand")
    check_free(tx, record)
    (customer_id,) = customers.create(tx, [record])
    created = replace(record, customer_id=customer_id, changed_at=tx.now)
    customers.write_journal(tx, who, "create", customer_id, details=difference(None, created))
    return created


def edit(tx: Transaction, customer_id: int, changes: Changes, who: str) -> CustomerRecord:
    """Change fields of a record. Raises Refused, and conflicts (``store.engine.is_conflict``).

    From then on no sync overwrites them, nor fills one that was emptied (R8).
    """
    if not changes.values and not changes.labels:
        raise Refused("nothing to change: name at least one field.")
    record = customers.load(tx, [customer_id]).get(customer_id)
    if record is None:
        raise NoCustomer(customer_id)
    check_living(record)
    named = [str(changes.values[name]) for name in EMAILS if changes.values.get(name)]
    known = recognized(record, customers.find_emails(tx, record.business, named), "hand")
    changed = amended(known, changes, "hand")
    check_free(tx, changed)
    if changed == record:
        return record
    customers.change(tx, changed, record)
    customers.write_journal(tx, who, "edit", customer_id, details=difference(record, changed))
    return replace(changed, changed_at=tx.now)


def edit_and_count(tx: Transaction, customer_id: int, changes: Changes, who: str) -> int:
    """Edit, and return the number of erased e-mails that stop matching. Raises what ``edit`` does."""
    before, hashes = queries.get_customer(tx, customer_id), customers.email_hashes(tx, customer_id)
    edit(tx, customer_id, changes, who)
    assert before is not None, "an edit of an unknown customer is refused"
    return stops_recognising(before, hashes, customers.email_hashes(tx, customer_id))


def stops_recognising(
    before: CustomerRecord, hashes: Mapping[int, bytes], hashes_after: Mapping[int, bytes]
) -> int:
    """Return how many erased e-mails an edit removed: their buyers will not be recognised again (R61).

    ``hashes``, ``hashes_after``: those of the record's main e-mails, by slot.
    """
    erased = {hashes[main.slot] for main in before.emails if main.email is None}
    return len(erased - set(hashes_after.values()))


def check_free(tx: Transaction, record: CustomerRecord) -> None:
    """Raise Refused for an e-mail or an external ID that another record of the business has (R16)."""
    emails = {normal_email(m.email): m.slot for m in record.emails if m.email is not None}
    for email, (holder, _) in customers.find_emails(tx, record.business, emails).items():
        if holder != record.customer_id:
            name = f"email_{emails[email]}"
            raise FieldRefused(name, has_it(name, holder, record.customer_id), holder)
    ids = () if record.external_id is None else (record.external_id,)
    for holder in customers.find_external_ids(tx, record.business, ids).values():
        if holder != record.customer_id:
            sentence = f"customer {holder} has that external id: every customer needs its own."
            raise FieldRefused("external_id", sentence, holder)


def settle_business(known: Mapping[str, str], name: str | None) -> str:
    """Return the business that a person means. ``known``: business by account. Raises Refused."""
    businesses = sorted(set(known.values()))
    if name is None:
        if len(businesses) == 1:
            return businesses[0]
        there = f"there are {', '.join(businesses)}" if businesses else "none is configured"
        raise Refused(f"say which business the customers belong to: {there}.")
    if name in businesses:
        return name
    if name in known:
        return known[name]
    raise Refused(f"there is no business {name}; there is {', '.join(businesses) or 'none'}.")
