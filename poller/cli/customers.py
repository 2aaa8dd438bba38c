"""``order-sync customers``: list and show. The commands that change customers are in customers_*.py."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from poller.audit import buyers_of_customers, buyers_of_journal
from poller.cli import customers_duplicates, customers_edit, customers_import
from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.options import AsJson, CustomerId, Limit
from poller.cli.orders import address_line
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import disclosed, opened
from poller.errors import NoCustomer
from poller.export import customer_object, journal_object
from poller.matching.customer_records import shown_name
from poller.matching.emails import contact_email
from poller.matching.explanations import BASIS
from poller.text import when
from store import queries, sales
from store.engine import Transaction
from store.queries import JournalEntry
from store.records import CustomerRecord, CustomerStatus, OrderRecord
from store.sales import Placed, Purchases

ORDERS_SHOWN = 100

app = typer.Typer()


@app.callback()
def group() -> None:
    """List, show, create, edit, merge and import customers; find duplicates."""


app.command()(customers_edit.create)
app.command()(customers_edit.edit)
app.command()(customers_edit.merge)
app.command()(customers_edit.unmerge)
app.command()(customers_duplicates.duplicates)
app.command("import")(customers_import.import_customers)


@app.command("list")
def list_customers(
    status: Annotated[str | None, typer.Option(help="active, unidentified, merged or forgotten.")] = None,
    email: Annotated[str | None, typer.Option(help="Only customers with this main e-mail.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest customers."""
    known = get_args(CustomerStatus)
    if status is not None and status not in known:
        raise Failure(f"{status} is not a status: use one of {', '.join(known)}.", status=BAD_INPUT)
    with opened() as service, service.store.read() as tx:
        records = queries.list_customers(tx, limit=limit + 1, status=status, email=email)
        records.sort(key=lambda c: -c.customer_id)
        more, records = len(records) > limit, records[:limit]
        objects = [customer_object(record) for record in records]
        disclosed(service, buyers_of_customers(objects))
    if as_json:
        put_json(objects)
    elif records:
        put_table(
            (">id", "name", "company", "status", "e-mail", "marketplace", "price list", "since (UTC)"),
            [
                (
                    c.customer_id,
                    shown_name(c),
                    c.company,
                    c.status if c.merged_into is None else f"merged into {c.merged_into}",
                    next((e.email for e in c.emails if e.email), None),
                    c.marketplace,
                    c.price_list,
                    when(c.created_at),
                )
                for c in records
            ],
        )
    else:
        say("no customer matches")
    if more:
        say(f"only the newest {limit} are shown; see --limit, or `order-sync export customers` for all")


@app.command()
def show(
    customer_id: CustomerId,
    as_json: AsJson = False,
) -> None:
    """Show one customer with orders and journal; a merged one leads to the customer it was merged into."""
    with opened() as service, service.store.read() as tx:
        customer = _followed(tx, customer_id)
        orders = queries.list_orders(tx, limit=ORDERS_SHOWN + 1, customer_id=customer.customer_id)
        bought = sales.of_customer(tx, customer.customer_id)
        journal = queries.journal_of(tx, customer.customer_id)
        shown, entries = customer_object(customer), [journal_object(e) for e in journal]
        disclosed(service, buyers_of_customers([shown]), buyers_of_journal(entries))
    if as_json:
        put_json(shown | {"orders": [order.order_id for order in orders], "journal": entries})
        return
    _put_customer(customer, bought)
    _put_orders(orders)
    if journal:
        put()
        put_table(
            ("journal (UTC)", "who", "what", ">other customer", "order"),
            [(when(e.at), e.who, e.action, _others(e, customer), e.order_id) for e in journal],
        )
        _put_changes(journal)


def _others(entry: JournalEntry, customer: CustomerRecord) -> int | None:
    """Return the other customer of a journal entry."""
    return entry.other_id if entry.customer_id == customer.customer_id else entry.customer_id


def _put_changes(journal: list[JournalEntry]) -> None:
    rows = [
        (when(e.at), name.replace("_", " "), _text(e.details["before"].get(name)), _text(after))
        for e in journal
        for name, after in e.details.get("after", {}).items()
    ]
    if rows:
        put()
        put_table(("changed (UTC)", "field", "before", "after"), rows)


def _text(value: Any) -> str:
    """Return a journalled value as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return "(none)" if value is None else str(value)


def _followed(tx: Transaction, customer_id: int) -> CustomerRecord:
    """Return the customer, following tombstones to the last one (R53)."""
    customer = queries.get_customer(tx, customer_id)
    while customer is not None and customer.merged_into is not None:
        say(f"customer {customer.customer_id} was merged into customer {customer.merged_into}")
        customer = queries.get_customer(tx, customer.merged_into)
    if customer is None:
        raise NoCustomer(customer_id)
    return customer


def _placed(order: Placed | None) -> str | None:
    return None if order is None else f"{order.order_id}, {when(order.created_at)} UTC"


def _spent(bought: Purchases) -> str | None:
    amounts = ", ".join(f"{total:,} {currency}" for currency, total in bought.totals.items())
    return f"{amounts} (the newest {bought.orders:,} orders)" if amounts and bought.more else amounts


def _put_customer(customer: CustomerRecord, bought: Purchases) -> None:
    emails = [
        f"{e.email or 'erased, still matches'} ({e.origin})"
        for e in sorted(customer.emails, key=lambda e: e.slot)
    ]
    discount = customer.discount_percent
    facts = [
        ("customer", customer.customer_id),
        ("business", customer.business),
        ("status", customer.status),
        ("name", shown_name(customer)),
        ("company", customer.company),
        ("e-mails", ", ".join(emails)),
        ("older e-mails", ", ".join(customer.aliases)),
        ("contact e-mail", contact_email(customer) or "none but Amazon's relay address"),
        ("phone", customer.phone),
        ("billing", address_line(customer.billing)),
        ("delivery", address_line(customer.delivery)),
        ("price list", customer.price_list),
        ("currency", customer.currency),
        ("tax code", customer.tax_code),
        ("discount", f"{discount:f} %" if discount else None),
        ("labels", ", ".join(f"{key} = {value}" for key, value in sorted(customer.labels.items()))),
        ("came from", " ".join(part for part in (customer.account, customer.marketplace) if part)),
        ("created from", customer.created_from_order),
        ("first order", _placed(bought.first)),
        ("last order", _placed(bought.last)),
        ("total spent", _spent(bought)),
        ("external id", customer.external_id),
        ("since", f"{when(customer.created_at)} UTC"),
    ]
    put_table(("", ""), [(name, value) for name, value in facts if value])


def _put_orders(orders: list[OrderRecord]) -> None:
    if not orders:
        return
    put()
    put_table(
        ("orders placed (UTC)", "order", "marketplace", "status", "match basis"),
        [
            (when(o.created_at), o.order_id, o.marketplace, o.status, BASIS.get(o.match_basis or "none"))
            for o in orders[:ORDERS_SHOWN]
        ],
    )
    if len(orders) > ORDERS_SHOWN:
        say(f"only the newest {ORDERS_SHOWN} orders are shown; see `order-sync orders list --customer`")
