"""Forget a person or an account at once, on request (R62, R63)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from connectors.base import PayloadReader
from connectors.orders import AmazonOrder, UnreadableOrder
from poller.matching.emails import is_address
from poller.matching.retention import forgotten
from poller.privacy.purge import ERASED_AT_ONCE, PAUSE_SECONDS
from poller.sync import windows
from store import customers, erasure, journal, ledger, quarantine
from store.engine import Store, Transaction
from store.records import CustomerRecord, normal_email


class SpecialRecord(Exception):
    """A shared or placeholder record of a marketplace: it holds no one's data and cannot be forgotten."""


@dataclass(frozen=True, slots=True)
class Person:
    """Everything stored about a person: the active record first, then what was merged into it."""

    records: tuple[CustomerRecord, ...]
    quarantined: tuple[quarantine.Quarantined, ...]

    @property
    def ids(self) -> list[int]:
        """The ids of the records."""
        return [record.customer_id for record in self.records]


def find_person(tx: Transaction, customer_id: int, read_payload: PayloadReader) -> Person | None:
    """Return a customer with everything that was merged into it, locked if the transaction may write."""
    records = customers.load(tx, [customer_id])
    while (record := records.get(customer_id)) is not None and record.merged_into is not None:
        customer_id = record.merged_into
        records = customers.load(tx, [customer_id])
    if customer_id not in records:
        return None
    merged = customers.load(tx, erasure.with_tombstones(tx, [customer_id]))
    main = merged.pop(customer_id)
    return Person((main, *merged.values()), tuple(_quarantined_of(tx, main, read_payload)))


def _quarantined_of(
    tx: Transaction, record: CustomerRecord, read_payload: PayloadReader
) -> list[quarantine.Quarantined]:
    """Return what is in quarantine with an e-mail of the person, or as a copy of one of the orders."""
    entries = quarantine.entries(tx)
    if not entries:
        return []
    read = (((e.account, e.order_id), email_of(read_payload(e.payload))) for e in entries)
    emails = {key: email for key, email in read if email is not None and is_address(email)}
    known = customers.find_emails(tx, record.business, emails.values())
    theirs = {(ref.account, ref.order_id) for ref in erasure.orders_of(tx, [record.customer_id])}
    for (account, order_id), email in emails.items():
        holder, _ = known.get(normal_email(email), (None, 0))
        if holder == record.customer_id and erasure.business_of(tx, account)[0] == record.business:
            theirs.add((account, order_id))
    return [entry for entry in entries if (entry.account, entry.order_id) in theirs]


def email_of(order: AmazonOrder | UnreadableOrder) -> str | None:
    """Return the buyer's e-mail of an order from quarantine, if there is one."""
    if isinstance(order, UnreadableOrder):
        return order.buyer_email
    return order.buyer.email if order.buyer is not None else None


@dataclass
class Forgotten:
    """How much was forgotten. ``clean``: the database's files hold no trace of it."""

    records: int = 0
    orders: int = 0
    payloads: int = 0
    clean: bool = True


def forget_customer(
    tx: Transaction, customer_id: int, who: str, read_payload: PayloadReader
) -> Forgotten | None:
    """Erase a person at once, whatever the origin of the data, and remember the orders (R62, R63).

    Return None if there is no such customer. Raises SpecialRecord.
    """
    erasure.hold_off_storing(tx)
    person = find_person(tx, customer_id, read_payload)
    if person is None:
        return None
    if person.records[0].special is not None:
        raise SpecialRecord
    refs = erasure.orders_of(tx, person.ids)
    erasure.erase_orders(tx, refs, whole=True)
    waiting = [(entry.account, entry.order_id) for entry in person.quarantined]
    payloads = quarantine.erase(tx, waiting)
    erasure.remember_forgotten(tx, [*waiting, *((ref.account, ref.order_id) for ref in refs)])
    for record in person.records:
        customers.change(tx, forgotten(record), record)
    journal.erase(tx, person.ids, keep_entered=False, keep_hashes=False)
    if person.records[0].status != "forgotten":
        customers.write_journal(tx, who, "forget", person.records[0].customer_id)
    return Forgotten(len(person.records), len(refs), len(payloads))


@dataclass
class AccountForgetting:
    """Erases a seller: records, orders, quarantine, page tokens. Continues where it was stopped."""

    store: Store
    account: str
    who: str
    read_payload: PayloadReader
    rest: Callable[[float], object] = lambda _: None
    advanced: Callable[[int], None] = lambda _: None
    done: Forgotten = field(default_factory=Forgotten)

    def run(self) -> Forgotten:
        """Erase everything."""
        for step in (self._records, self._orders):
            while self.store.commit(step):
                self.advanced(self.done.orders)
                self.rest(PAUSE_SECONDS)
        self.store.commit(self._rest_of_it)
        self.done.clean = self.store.leave_no_trace(erasure.TABLES)
        return self.done

    def _records(self, tx: Transaction) -> int:
        ids = erasure.customers_to_forget(tx, self.account, ERASED_AT_ONCE // 4)
        for customer_id in ids:
            counts = forget_customer(tx, customer_id, self.who, self.read_payload)
            if counts is not None:
                self.done.records += counts.records
                self.done.orders += counts.orders
                self.done.payloads += counts.payloads
        return len(ids)

    def _orders(self, tx: Transaction) -> int:
        erasure.hold_off_storing(tx)
        refs = erasure.orders_to_forget(tx, self.account, ERASED_AT_ONCE)
        erasure.erase_orders(tx, refs, whole=True)
        erasure.remember_forgotten(tx, [(ref.account, ref.order_id) for ref in refs])
        self.done.orders += len(refs)
        return len(refs)

    def _rest_of_it(self, tx: Transaction) -> None:
        erasure.hold_off_storing(tx)
        waiting = [(e.account, e.order_id) for e in quarantine.entries(tx) if e.account == self.account]
        self.done.payloads += len(quarantine.erase(tx, waiting))
        erasure.remember_forgotten(tx, waiting)
        for window in ledger.windows_with_token(tx, self.account):
            ledger.save_window(tx, ledger.release(replace(window, state="cancelled", page_token=None)))
            ledger.open_windows(tx, [windows.afresh(window)])
