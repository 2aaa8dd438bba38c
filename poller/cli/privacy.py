"""``order-sync privacy``: erase buyer data that is due, show all of a person, forget a person or account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from poller.actions.quarantine import quarantine_object
from poller.bootstrap import Service
from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import DryRun, Yes
from poller.cli.output import put_json, say
from poller.cli.progress import progress
from poller.cli.session import confirm, disclosed, enter, opened, operator, stopped_by_signals
from poller.customers import duplicates
from poller.errors import NoCustomer
from poller.export import customer_object, journal_object, order_object
from poller.matching.retention import term
from poller.privacy.forget import AccountForgetting, Forgotten, Person, find_person, forget_customer
from poller.privacy.purge import Purge, Purged
from poller.text import counted, time_text
from store import erasure, queries
from store.audit_records import Records, about
from store.engine import Transaction
from store.queries import JournalEntry
from store.records import CustomerRecord, OrderRecord
from store.sealing import SealError

app = typer.Typer()


@app.callback()
def group() -> None:
    """Erase buyer data: what is due, or one person's; show all data of a person."""


# --- purge ------------------------------------------------------------------------------------------


@app.command()
def purge(dry_run: DryRun = False) -> None:
    """Erase the buyer data whose retention period is over.

    A running service does this several times a day. Safe to run beside it, and to repeat.
    """
    with opened(wired=True) as service, stopped_by_signals(service) as signals:
        purge = Purge(
            service.store, service.setup.retention, operator(), service.stop.is_set, service.stop.wait
        )
        purge.connectors = [account.connector for account in service.accounts.values()]
        if dry_run:
            _say_due(service, purge)
            return
        total = purge.due()
        service.store.commit(lambda tx: enter(tx, "purged"))
        with progress("erasing buyer data of orders", total) as advanced:
            purge.advanced = advanced
            done = purge.run()
    if done.put_off is not None:
        raise Failure(f"{done.put_off}.")
    _say_done(service, done)
    if signals:
        raise typer.Exit(128 + signals[0])


def _say_due(service: Service, purge: Purge) -> None:
    retention = service.setup.retention
    if retention.days is None:
        say("ORDER_SYNC_RETENTION_DAYS is off: buyer data of orders is never erased")
    else:
        days = counted(retention.days, "day")
        say(f"{counted(purge.due(), 'order')} past the retention period of {days}")
    if retention.order_months is not None:
        with service.store.read() as tx:
            kept = retention.orders_since(tx.now)
            old = 0 if kept is None else erasure.count_old(tx, kept)
        months = counted(retention.order_months, "month")
        say(f"{counted(old, 'order')} placed more than {months} ago, without buyer data: due for deletion")
    if retention.hash_months is None:
        say("ORDER_SYNC_HASH_RETENTION_MONTHS is off: e-mail hashes are never erased")
        return
    with service.store.read() as tx:
        since = retention.unknown_since(tx.now)
        assert since is not None
        idle = erasure.count_idle(tx, since)
    months = counted(retention.hash_months, "month")
    say(f"{counted(idle, 'customer')} inactive for {months}, whose e-mail hash is due for deletion")


def _say_done(service: Service, done: Purged) -> None:
    if service.setup.retention.days is None:
        say("ORDER_SYNC_RETENTION_DAYS is off: buyer data of orders is never erased")
    parts = (
        counted(done.orders, "order"),
        counted(done.records, "customer record"),
        counted(done.payloads, "payload") + " in quarantine",
        counted(done.hashes, "e-mail hash", "e-mail hashes"),
    )
    if service.setup.retention.order_months is not None:
        say(f"deleted: {counted(done.deleted, 'order')} without buyer data")
    say(f"erased: {', '.join(parts)}")
    if not done.finished:
        say("stopped before the end: run it again")
    _say_clean(done.clean)


def _say_clean(clean: bool) -> None:
    if not clean:
        say("another process was reading, so the database's log was not emptied: the next purge does it")


# --- show -------------------------------------------------------------------------------------------


@app.command()
def show(customer_id: Annotated[int, typer.Argument(metavar="CUSTOMER_ID")]) -> None:
    """Print all stored data of a person as JSON: customer records, orders, journal, quarantine."""
    with opened() as service, service.store.read() as tx:
        person = find_person(tx, customer_id, service.read_payload)
        if person is None:
            raise NoCustomer(customer_id)
        everything = _all_of(tx, person)
        disclosed(service, _subjects(person, everything))
        put_json(everything)
        _say_alike(_alike(tx, person), "show")


def _subjects(person: Person, everything: dict[str, Any]) -> Records:
    """Return the records that ``show`` prints."""
    ids = [each["order_id"] for kind in ("orders", "quarantine") for each in everything[kind]]
    customers = tuple(record.customer_id for record in person.records)
    return about("person", tuple(sorted(set(ids))), customers)


def _alike(tx: Transaction, person: Person) -> Sequence[int]:
    """Return others who look like the same person; none if a record that is damaged prevents it."""
    try:
        return duplicates.like(tx, person.records[0])
    except SealError:
        say("a damaged record keeps others from being compared (`order-sync db check` names it)")
        return ()


def _say_alike(others: Sequence[int], action: str) -> None:
    """Name other records that look like the same person: what is done to one is not done to them."""
    if others:
        commands = ", ".join(f"`order-sync privacy {action} {other}`" for other in others)
        look = "looks" if len(others) == 1 else "look"
        say(f"{counted(len(others), 'other customer')} {look} like the same person: {commands}")


def _all_of(tx: Transaction, person: Person) -> dict[str, Any]:
    orders = [order for ids in person.ids for order in queries.orders_of_customer(tx, ids)]
    return {
        "customers": [_record_object(record) for record in person.records],
        "orders": [_order_object(order) for order in orders],
        "journal": [journal_object(entry) for entry in _journal_of(tx, person)],
        "quarantine": [quarantine_object(e) | {"payload": e.payload or None} for e in person.quarantined],
    }


def _journal_of(tx: Transaction, person: Person) -> list[JournalEntry]:
    """Return the journal of all records of the person, oldest first."""
    entries = {entry.entry: entry for key in person.ids for entry in queries.journal_of(tx, key)}
    return [entries[number] for number in sorted(entries)]


def _record_object(record: CustomerRecord) -> dict[str, Any]:
    mains = sorted(record.emails, key=lambda main: main.slot)
    return customer_object(record) | {
        "origins": dict(record.origins),
        "main_emails": [{"slot": m.slot, "email": m.email, "origin": m.origin} for m in mains],
    }


def _order_object(order: OrderRecord) -> dict[str, Any]:
    due = term(order)
    further = {
        "buyer_company": order.buyer.company if order.buyer else None,
        "delivery_instructions": order.delivery_instructions,
        "cancel_reason": order.cancel_reason,
        "tax_registrations": [
            {"entity": n.entity, "type": n.kind, "number": n.number, "legal_name": n.legal_name}
            for n in order.tax_numbers
        ],
        "customization_urls": [line.customization_url for line in order.lines if line.customization_url],
        "delivery_kind": order.delivery.kind if order.delivery else None,
        "billing_origin": order.billing_origin,
        "term": {"at": time_text(due.at), "because": due.stage},
        "erased_at": time_text(order.erased_at),
    }
    return order_object(order) | further


# --- forget -----------------------------------------------------------------------------------------


@app.command()
def forget(
    customer_id: Annotated[
        int | None, typer.Argument(metavar="CUSTOMER_ID", help="The customer to forget.")
    ] = None,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="All buyers of this account instead."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Erase a person, or all buyers of an account, at once and for good.

    Fields entered by hand are erased, too. Orders stay, without their buyer; they never get buyer data again,
    and the record no longer matches. Asks for confirmation on a terminal.
    """
    if (customer_id is None) == (account is None):
        raise Failure("give a customer's id, or an account with --account (not both).", status=BAD_INPUT)
    with opened() as service:
        if account is not None:
            _forget_account(service, account, yes)
        elif customer_id is not None:
            _forget_customer(service, customer_id, yes)


def _forget_customer(service: Service, customer_id: int, yes: bool) -> None:
    with service.store.read() as tx:
        person = find_person(tx, customer_id, service.read_payload)
        if person is None:
            raise NoCustomer(customer_id)
        refs = erasure.orders_of(tx, person.ids)
        alike = _alike(tx, person)
    main = person.records[0]
    if main.special is not None:
        raise Failure(
            f"customer {main.customer_id} is the shared or placeholder record of a marketplace: it holds no "
            "person's data.",
            status=BAD_INPUT,
        )
    if main.customer_id != customer_id:
        say(f"customer {customer_id} was merged into customer {main.customer_id}: both are forgotten")
    orders = counted(len(refs), "order")
    _say_alike(alike, "forget")
    confirm(f"Erase customer {main.customer_id} and the buyer data of {orders} for good?", yes=yes)

    def forget_person(tx: Transaction) -> Forgotten | None:
        forgotten = forget_customer(tx, main.customer_id, operator(), service.read_payload)
        enter(tx, "customer_forgotten", records=about("customers", customers=(main.customer_id,)))
        return forgotten

    done = service.store.commit(forget_person)
    clean = service.store.leave_no_trace(erasure.TABLES)
    _say_forgotten(done or Forgotten())
    _say_clean(clean)


def _forget_account(service: Service, account: str, yes: bool) -> None:
    with service.store.read() as tx:
        known = erasure.known_accounts(tx)
        if account not in known:
            names = ", ".join(known) or "none"
            raise Failure(f"the database has no account {account}; accounts: {names}.", status=BAD_INPUT)
        total = erasure.count_to_forget(tx, account)
    confirm(f"Erase all buyers of account {account} ({counted(total, 'order')}) for good?", yes=yes)
    service.store.commit(lambda tx: enter(tx, "account_forgotten", detail=account))
    forgetting = AccountForgetting(service.store, account, operator(), service.read_payload)
    with progress("forgetting buyers of orders", total) as advanced:
        forgetting.advanced = advanced
        done = forgetting.run()
    _say_forgotten(done)
    _say_clean(done.clean)
    if account in service.config.settings.accounts:
        say(f"account {account} is still configured: its new orders will be read; remove its settings")


def _say_forgotten(done: Forgotten) -> None:
    parts = (
        counted(done.records, "customer record"),
        counted(done.orders, "order"),
        counted(done.payloads, "payload") + " in quarantine",
    )
    say(f"forgotten: {', '.join(parts)}")
