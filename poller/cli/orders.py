"""``order-sync orders``: list, show, explain, and fetch one again."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from connectors.errors import Deferred
from connectors.marketplaces import BY_NAME
from poller.actions.orders import NotStored, account_of, checked_id, fetched, headline, reasons_for, retained
from poller.bootstrap import Service
from poller.cli.failures import BAD_INPUT, DEFERRED, Failure
from poller.cli.options import AsJson, Limit, OfAccount, OrderId
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.export import order_object
from poller.matching.explanations import BASIS
from poller.text import iso_rounded_up, plain, when
from store import accounts, quarantine, queries
from store.engine import Transaction
from store.orders import order_currency
from store.quarantine import Quarantined
from store.records import Address, Amount, Basis, OrderRecord

app = typer.Typer()


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
    limit: Limit = 50,
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
        nothing = None if found else _nothing_like_that(tx, status, customer)
    more, found = len(found) > limit, found[:limit]
    if nothing is not None:
        say(nothing)
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
    if more:
        say(f"these are the newest {limit}; --limit shows more, `order-sync export orders` all")


def _nothing_like_that(tx: Transaction, status: str | None, customer: int | None) -> str:
    """That no order was found; and what there is, where a filter can match none."""
    if customer is not None and queries.get_customer(tx, customer) is None:
        return f"no order is like that: there is no customer {customer}"
    if status is not None:
        there = queries.order_statuses(tx)
        if status.upper() not in there:
            return f"no order is like that: there are orders of status {', '.join(there) or 'none'}"
    return "no order is like that"


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
            raise _unknown(tx, service, order_id, account)
        kept_until = retained(tx, service, found[0])
    if len(found) > 1:
        names = " and ".join(sorted(order.account for order in found))
        raise Failure(f"accounts {names} both have order {order_id}: add --account.", status=BAD_INPUT)
    (order,) = found
    if as_json:
        put_json(order_object(order, order_currency(order)))
    else:
        _put_order(order, kept_until)


def _put_order(order: OrderRecord, kept_until: str) -> None:
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
        ("buyer data", kept_until),
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
            raise _unknown(tx, service, order_id, account)
        for order in found:
            put(plain(headline(order)))
            for sentence in reasons_for(tx, order):
                put(f"  {plain(sentence)}")
            put(f"  {retained(tx, service, order)}")
        for entry in kept:
            newer = "A copy of it" if found else f"Order {order_id} ({entry.account})"
            put(plain(f"{newer} is in quarantine since {when(entry.first_seen_at)} UTC: {entry.reason}."))
            put("  `order-sync quarantine retry` applies it again, with --refetch Amazon is asked for it.")


def _quarantined(tx: Transaction, order_id: str, account: str | None) -> list[Quarantined]:
    return [e for e in quarantine.entries(tx, [order_id]) if account in (None, e.account)]


def _unknown(tx: Transaction, service: Service, order_id: str, account: str | None) -> Failure:
    """Why there is no such order: the account, the id, the quarantine, or that it never came."""
    known = sorted(accounts.businesses_of(tx).keys() | service.config.settings.accounts.keys())
    if account is not None and account not in known:
        return Failure(
            f"there is no account {account}; there is {', '.join(known) or 'none'}.", status=BAD_INPUT
        )
    of = "" if account is None else f" of account {account}"
    if _quarantined(tx, order_id, account):
        sentence = f"order {order_id}{of} is in quarantine: `order-sync quarantine show {order_id}`."
        return Failure(sentence, status=BAD_INPUT)
    order_id = checked_id(order_id)
    name = account or (known[0] if len(known) == 1 else "NAME")
    ask = f"`order-sync orders fetch {order_id} --account {name}` asks Amazon for it"
    return Failure(f"order {order_id}{of} is not in the database; {ask}.", status=BAD_INPUT)


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
    order_id = checked_id(order_id)
    with opened(create=True, wired=True) as service:
        try:
            put(fetched(service, account_of(service, account), order_id))
        except NotStored as fault:
            raise Failure(str(fault)) from None
        except Deferred as deferred:
            say(f"{order_id}: {deferred}")
            say(f"deferred until {iso_rounded_up(deferred.until)}")
            raise typer.Exit(DEFERRED) from None
