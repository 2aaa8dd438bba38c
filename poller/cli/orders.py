"""``order-sync orders``: list, show, explain, and fetch one again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, get_args

import typer

from connectors.amazon.marketplaces import BY_NAME
from connectors.errors import Deferred, OrderNotFound
from connectors.orders import UnreadableOrder
from poller.bootstrap import Account, Service
from poller.cli.shell import (
    BAD_INPUT,
    DEFERRED,
    Failure,
    iso,
    opened,
    plain,
    put,
    put_json,
    put_table,
    say,
    when,
)
from poller.cli.words import BASIS
from poller.exporting import order_object
from poller.matching import explain as reasons_of
from poller.retention import explain as explain_term
from store import erasing, quarantine, queries
from store.engine import Store, Transaction
from store.orders import order_currency
from store.quarantine import Quarantined
from store.records import Address, Amount, Basis, OrderRecord

app = typer.Typer()

OrderId = Annotated[str, typer.Argument(metavar="ORDER_ID", help="Amazon's order id, 3-7-7 digits.")]
OfAccount = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Only this account's order.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON with the exported keys.")]


@app.callback()
def orders() -> None:
    """List, show and explain orders; fetch one again."""


# --- list and show ----------------------------------------------------------------------------------


@app.command("list")
def list_orders(
    status: Annotated[
        str | None, typer.Option(help="Amazon's word, for example UNSHIPPED, SHIPPED, CANCELLED.")
    ] = None,
    marketplace: Annotated[str | None, typer.Option(help="A country code, for example UK.")] = None,
    customer: Annotated[int | None, typer.Option(metavar="ID", help="Only this customer's.")] = None,
    basis: Annotated[
        str | None, typer.Option(help="Why it has its customer, for example created, held.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest orders, by the time they were placed."""
    known = get_args(Basis)
    if basis is not None and basis not in known:
        raise Failure(f"{basis} is no match basis; there are {', '.join(known)}.", status=BAD_INPUT)
    with opened() as service, service.store.read() as tx:
        found = queries.list_orders(
            tx,
            limit=limit + 1,
            status=None if status is None else status.upper(),
            marketplace=None if marketplace is None else _code(marketplace),
            customer_id=customer,
            match_basis=basis,
        )
    more, found = len(found) > limit, found[:limit]
    if as_json:
        put_json([order_object(order, order_currency(order)) for order in found])
    elif found:
        put_table(
            (
                "placed (UTC)",
                "order",
                "shop",
                "status",
                "your status",
                ">total",
                "buyer",
                ">customer",
                "because",
            ),
            [_row(order) for order in found],
        )
    else:
        say("no order is like that")
    if more:
        say(f"these are the newest {limit}; --limit shows more, `order-sync export orders` all")


def _code(name: str) -> str:
    place = BY_NAME.get(name.upper())
    if place is None:
        codes = sorted({place.code for place in BY_NAME.values()})
        raise Failure(
            f"{name} is no marketplace of Amazon's; there are {', '.join(codes)}.", status=BAD_INPUT
        )
    return place.code


def _row(order: OrderRecord) -> tuple[object, ...]:
    return (
        when(order.created_at),
        order.order_id,
        order.marketplace or "?",
        order.status,
        order.seller_status,
        _money(order.total),
        order.buyer.name if order.buyer else None,
        order.customer_id,
        BASIS.get(order.match_basis or "none"),
    )


def _money(amount: Amount | None) -> str | None:
    return None if amount is None else f"{amount.amount:,f} {amount.currency}"


@app.command()
def show(order_id: OrderId, account: OfAccount = None, as_json: AsJson = False) -> None:
    """One order with its lines."""
    with opened() as service, service.store.read() as tx:
        found = queries.find_orders(tx, order_id, account)
        if not found:
            raise Failure(_unknown(tx, order_id, account))
        retained = _retained(tx, service, found[0])
    if len(found) > 1:
        names = " and ".join(sorted(order.account for order in found))
        raise Failure(f"accounts {names} both have order {order_id}: add --account.", status=BAD_INPUT)
    (order,) = found
    if as_json:
        put_json(order_object(order, order_currency(order)))
    else:
        _put_order(order, retained)


def _put_order(order: OrderRecord, retained: str) -> None:
    buyer = order.buyer
    basis = BASIS.get(order.match_basis or "none")
    facts = [
        ("order", order.order_id),
        ("account", order.account),
        ("marketplace", order.marketplace or f"not configured ({order.marketplace_id or 'missing'})"),
        ("status", order.status if order.shown else f"{order.status}: remembered, not an order yet"),
        ("your status", order.seller_status),
        ("placed", _utc(when(order.created_at))),
        ("last updated", _utc(when(order.last_updated_at))),
        ("fulfilled by", order.fulfilled_by),
        ("service", order.service_level),
        ("programs", ", ".join(order.programs)),
        ("ship by", _utc(when(order.ship_by))),
        ("deliver by", _utc(when(order.deliver_by))),
        ("replaces", order.replaces),
        ("buyer", buyer.name if buyer else None),
        ("company", buyer.company if buyer else None),
        ("e-mail", buyer.email if buyer else None),
        ("purchase order", buyer.purchase_order_number if buyer else None),
        ("delivery", address_line(order.delivery)),
        ("billing", address_line(order.billing)),
        ("total", _money(order.total)),
        ("tax withheld", _money(order.withheld_tax)),
        ("price list", order.price_list),
        ("tax code", order.tax_code),
        ("labels", ", ".join(f"{key} = {value}" for key, value in sorted(order.labels.items()))),
        (
            "customer",
            f"{order.customer_id} ({basis})" if order.customer_id is not None else f"none ({basis})",
        ),
        ("cancelled by", order.cancelled_by),
        ("cancellation", "asked for by the buyer" if order.cancel_requested else None),
        ("buyer data", retained),
    ]
    put_table(("", ""), [(name, value) for name, value in facts if value])
    if order.lines:
        put()
        put_table(
            (
                ">quantity",
                ">shipped",
                "sku",
                "title",
                ">unit price",
                ">amount",
                ">tax",
                ">shipping",
                ">discount",
            ),
            [
                (
                    line.quantity,
                    line.quantity_shipped,
                    line.sku,
                    line.title,
                    _money(line.unit_price),
                    _money(line.item_total),
                    _money(line.tax),
                    _money(line.shipping),
                    _money(line.discount),
                )
                for line in order.lines
            ],
        )
    if order.packages:
        put()
        put_table(
            ("package", "status", "carrier", "tracking number", "shipped (UTC)"),
            [
                (p.reference, p.status, p.carrier, p.tracking_number, when(p.shipped_at))
                for p in order.packages
            ],
        )


def _utc(text: str) -> str:
    return f"{text} UTC" if text else ""


def address_line(address: Address | None) -> str:
    """An address on one line, what is absent left out."""
    if address is None:
        return ""
    parts = (
        address.name,
        address.company,
        address.line1,
        address.line2,
        address.line3,
        address.postal_code,
        address.city,
        address.county,
        address.state,
        address.country,
        address.phone,
    )
    return ", ".join(part for part in parts if part)


# --- explain ----------------------------------------------------------------------------------------


@app.command()
def explain(order_id: OrderId, account: OfAccount = None) -> None:
    """Why this order has this customer, or none; with the numbers of the customer rules."""
    with opened() as service, service.store.read() as tx:
        found = queries.find_orders(tx, order_id, account)
        kept = _quarantined(tx, order_id, account)
        if not found and not kept:
            raise Failure(_unknown(tx, order_id, account))
        for order in found:
            customer = None if order.customer_id is None else queries.get_customer(tx, order.customer_id)
            put(plain(_headline(order)))
            for sentence in reasons_of(order, customer, queries.merges_of(tx, order)):
                put(f"  {plain(sentence)}")
            put(f"  {_retained(tx, service, order)}")
        for entry in kept:
            newer = "A copy of it" if found else f"Order {order_id} ({entry.account})"
            put(plain(f"{newer} is in quarantine since {when(entry.first_seen_at)} UTC: {entry.reason}."))
            put("  `order-sync quarantine retry` applies it again, with --refetch Amazon is asked for it.")


def _retained(tx: Transaction, service: Service, order: OrderRecord) -> str:
    """When the order's buyer data will be or was erased, and why."""
    forgotten_at = erasing.forgotten_at(tx, order.account, order.order_id)
    return explain_term(order, service.retention, forgotten_at)


def _headline(order: OrderRecord) -> str:
    """What became of an order, in one sentence."""
    place = order.marketplace or order.marketplace_id or "no marketplace"
    name = f"Order {order.order_id} ({order.account}, {place}, {order.status or 'status unknown'})"
    if order.customer_id is not None:
        return f"{name} belongs to customer {order.customer_id}: {BASIS.get(order.match_basis or 'none')}."
    if order.match_basis == "held":
        return f"{name} is held: it waits for its customer."
    if order.marketplace is None:
        return f"{name} has no customer: its marketplace has no file."
    if not order.shown:
        return f"{name} is pending: it is remembered, and not an order yet."
    return f"{name} has no customer."


def _quarantined(tx: Transaction, order_id: str, account: str | None) -> list[Quarantined]:
    return [e for e in quarantine.entries(tx, [order_id]) if account in (None, e.account)]


def _unknown(tx: Transaction, order_id: str, account: str | None) -> str:
    of = "" if account is None else f" of account {account}"
    if _quarantined(tx, order_id, account):
        return f"order {order_id}{of} is in quarantine: `order-sync quarantine show {order_id}`."
    return f"order {order_id}{of} is not in the database; `order-sync orders fetch` asks Amazon for it."


# --- fetch ------------------------------------------------------------------------------------------


@app.command()
def fetch(
    order_id: OrderId,
    account: Annotated[str, typer.Option(metavar="NAME", help="The account that the order belongs to.")],
) -> None:
    """Ask Amazon for one order again and store it.

    Exit status: 0 stored or unchanged, 1 Amazon does not know it or it went to quarantine, 2 this is no order
    id, 75 deferred.
    """
    order_id = order_id.strip()
    if not _ORDER_ID.fullmatch(order_id):
        wanted = "Amazon's are like 123-1234567-1234567"
        raise Failure(plain(f"{order_id or 'nothing'} is no order id: {wanted}."), status=BAD_INPUT)
    with opened(create=True, wired=True) as service:
        try:
            put(fetched(service, account_of(service, account), order_id))
        except Deferred as deferred:
            say(f"{order_id}: {deferred}")
            say(f"deferred until {iso(deferred.until)}")
            raise typer.Exit(DEFERRED) from None


_ORDER_ID = re.compile(r"[A-Z0-9]{3}-[0-9]{7}-[0-9]{7}")
"""Three digits in front; orders of other channels, which Amazon only ships, have a letter there (S01)."""


class NotUnderstood(Failure):
    """Amazon gave an order that could not be understood: it is in quarantine."""

    def __init__(self, order_id: str, found: UnreadableOrder) -> None:
        self.reason = found.reason
        show = "list`" if found.order_id is None else f"show {order_id}`"
        super().__init__(
            f"{order_id}: not stored: what Amazon sent could not be understood and is in quarantine "
            f"({found.reason}): see it with `order-sync quarantine {show}; Amazon is asked again by itself, "
            "and a newer version of this program reads it again."
        )


def account_of(service: Service, name: str) -> Account:
    """An account that may run. Raises Failure, naming those that there are."""
    account = service.accounts.get(name)
    if account is None:
        known = ", ".join(sorted(service.accounts)) or "none"
        raise Failure(f"there is no account {name} that can be used; there is {known}.", status=BAD_INPUT)
    if not account.sources:
        raise Failure(f"account {name} has no marketplace that is enabled.", status=BAD_INPUT)
    return account


def fetched(service: Service, account: Account, order_id: str) -> str:
    """Fetch one order and store it; says what happened.

    Raises Failure when there is nothing to store, and the connector's errors.
    """
    name = account.settings.name
    before = _version(service.store, name, order_id)
    wanted = _datasets(account, before)
    syncer = service.syncer(account.sources[0].key)
    try:
        unreadable = syncer.fetch_order(order_id, wanted)
    except OrderNotFound:
        raise Failure(f"Amazon knows no order {order_id} of account {name}.") from None
    if unreadable is not None:
        raise NotUnderstood(order_id, unreadable)
    after = _version(service.store, name, order_id)
    if before is None:
        return f"{order_id}: new, stored"
    if after is not None and after.changed_at != before.changed_at:
        return f"{order_id}: changed, stored"
    return f"{order_id}: unchanged"


def _version(store: Store, account: str, order_id: str) -> OrderRecord | None:
    with store.read() as tx:
        return next(iter(queries.find_orders(tx, order_id, account)), None)


def _datasets(account: Account, stored: OrderRecord | None) -> tuple[str, ...]:
    """What the order's marketplace wants; of an unknown one, what any of the account's wants."""
    settings = account.marketplaces.get(stored.marketplace_id or "") if stored is not None else None
    if settings is not None:
        return tuple(settings.included_data)
    wanted: Iterator[str] = (word for m in account.marketplaces.values() for word in m.included_data)
    return tuple(sorted(set(wanted)))
