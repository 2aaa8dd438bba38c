"""``order-sync orders``: list, show and explain orders; refetch one."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from connectors.errors import Deferred
from connectors.marketplaces import BY_NAME
from poller.actions.orders import NotStored, account_of, checked_id, fetched, headline, reasons_for, retained
from poller.audit import buyers_of_orders
from poller.bootstrap import Service
from poller.cli.failures import BAD_INPUT, DEFERRED, Failure
from poller.cli.options import AsJson, Limit, OfAccount, OrderId
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import disclosed, opened
from poller.export import order_object, other_amounts_object
from poller.matching.explanations import BASIS
from poller.text import iso_rounded_up, plain, when
from store import accounts, quarantine, queries
from store.amounts import line_currency, order_currency, unexplained
from store.engine import Transaction
from store.quarantine import Quarantined
from store.records import Address, Amount, Basis, OrderRecord, OtherAmounts

app = typer.Typer()


@app.callback()
def group() -> None:
    """List, show and explain orders; refetch one."""


# --- list and show ----------------------------------------------------------------------------------


@app.command("list")
def list_orders(
    status: Annotated[
        str | None, typer.Option(help="Amazon's status: UNSHIPPED, SHIPPED, CANCELLED, …")
    ] = None,
    marketplace: Annotated[
        str | None, typer.Option(metavar="CODE", help="Country code, for example UK.")
    ] = None,
    customer: Annotated[int | None, typer.Option(metavar="ID", help="Only orders of this customer.")] = None,
    basis: Annotated[str | None, typer.Option(help="Match basis: created, email_1, held, …")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the orders that were placed last."""
    known = get_args(Basis)
    if basis is not None and basis not in known:
        raise Failure(f"{basis} is not a match basis: use one of {', '.join(known)}.", status=BAD_INPUT)
    with opened() as service, service.store.read() as tx:
        orders = queries.list_orders(
            tx,
            limit=limit + 1,
            status=None if status is None else status.upper(),
            marketplace=None if marketplace is None else _code(marketplace),
            customer_id=customer,
            match_basis=basis,
        )
        no_match = None if orders else _no_match(tx, status, customer)
        more, orders = len(orders) > limit, orders[:limit]
        objects = [order_object(order) for order in orders]
        disclosed(service, buyers_of_orders(objects))
    if no_match is not None:
        say(no_match)
    if as_json:
        put_json(objects)
    elif orders:
        put_table(
            (
                "placed (UTC)",
                "order",
                "marketplace",
                "status",
                "your status",
                ">total",
                "buyer",
                ">customer",
                "match basis",
            ),
            [_row(order) for order in orders],
        )
    if more:
        say(f"only the newest {limit} are shown; see --limit, or `order-sync export orders` for all")


def _no_match(tx: Transaction, status: str | None, customer: int | None) -> str:
    """Return that no order matches, and why if a filter can match none."""
    if customer is not None and queries.get_customer(tx, customer) is None:
        return f"no order matches: there is no customer {customer}"
    if status is not None:
        statuses = queries.order_statuses(tx)
        if status.upper() not in statuses:
            return f"no order matches: the statuses of stored orders are {', '.join(statuses) or 'none'}"
    return "no order matches"


def _code(name: str) -> str:
    place = BY_NAME.get(name.upper())
    if place is None:
        codes = sorted({place.code for place in BY_NAME.values()})
        raise Failure(
            f"{name} is not a marketplace of Amazon: use one of {', '.join(codes)}.", status=BAD_INPUT
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
    """Show one order with its lines."""
    with opened() as service, service.store.read() as tx:
        orders = queries.find_orders(tx, order_id, account)
        if not orders:
            raise _unknown(tx, service, order_id, account)
        if len(orders) > 1:
            names = " and ".join(sorted(order.account for order in orders))
            raise Failure(f"accounts {names} both have order {order_id}: add --account.", status=BAD_INPUT)
        (order,) = orders
        kept_until = retained(tx, service.setup.retention, order)
        shown = order_object(order)
        disclosed(service, buyers_of_orders([shown]))
    if as_json:
        put_json(shown)
    else:
        _put_order(order, kept_until)


def _put_order(order: OrderRecord, kept_until: str) -> None:
    buyer = order.buyer
    basis = BASIS.get(order.match_basis or "none")
    rest = unexplained(order)
    facts = [
        ("order", order.order_id),
        ("account", order.account),
        ("marketplace", order.marketplace or f"not configured ({order.marketplace_id or 'missing'})"),
        ("status", order.status if order.shown else f"{order.status}: not counted as an order yet"),
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
        ("other amounts", _others(order.own_amounts, order_currency(order))),
        ("unexplained", _money(rest) if rest is not None and rest.amount else None),
        ("price list", order.price_list),
        ("tax code", order.tax_code),
        ("labels", ", ".join(f"{key} = {value}" for key, value in sorted(order.labels.items()))),
        (
            "customer",
            f"{order.customer_id} ({basis})" if order.customer_id is not None else f"none ({basis})",
        ),
        ("cancelled by", order.cancelled_by),
        ("cancellation", "requested by the buyer" if order.cancel_requested else None),
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
                ">gift wrap",
                "other amounts",
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
                    _money(line.gift_wrap),
                    _others(line.other_amounts, line_currency(line)),
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


def _others(amounts: OtherAmounts, currency: str | None) -> str:
    return ", ".join(f"{kind} {amount}" for kind, amount in other_amounts_object(amounts, currency).items())


def _utc(text: str) -> str:
    return f"{text} UTC" if text else ""


def address_line(address: Address | None) -> str:
    """Return an address on one line, without its absent parts."""
    if address is None:
        return ""
    names = "name company line1 line2 line3 postal_code city county state country phone"
    parts = (getattr(address, name) for name in names.split())
    return ", ".join(part for part in parts if part)


# --- explain ----------------------------------------------------------------------------------------


@app.command()
def explain(order_id: OrderId, account: OfAccount = None) -> None:
    """Explain why an order has its customer, or none, with the numbers of the customer rules."""
    with opened() as service, service.store.read() as tx:
        orders = queries.find_orders(tx, order_id, account)
        quarantined = _quarantined(tx, order_id, account)
        if not orders and not quarantined:
            raise _unknown(tx, service, order_id, account)
        for order in orders:
            put(plain(headline(order)))
            for sentence in reasons_for(tx, order):
                put(f"  {plain(sentence)}")
            put(f"  {retained(tx, service.setup.retention, order)}")
        for entry in quarantined:
            subject = "A copy of it" if orders else f"Order {order_id} ({entry.account})"
            since = f"has been in quarantine since {when(entry.first_seen_at)} UTC"
            put(plain(f"{subject} {since}: {entry.reason}."))
            put("  `order-sync quarantine retry` rereads it; with --refetch it is fetched from Amazon first.")


def _quarantined(tx: Transaction, order_id: str, account: str | None) -> list[Quarantined]:
    return [e for e in quarantine.entries(tx, [order_id]) if account in (None, e.account)]


def _unknown(tx: Transaction, service: Service, order_id: str, account: str | None) -> Failure:
    """Return why there is no such order: the account, the id, the quarantine, or not stored."""
    known = sorted(accounts.businesses_of(tx).keys() | service.config.settings.accounts.keys())
    if account is not None and account not in known:
        return Failure(
            f"there is no account {account}; accounts: {', '.join(known) or 'none'}.", status=BAD_INPUT
        )
    of = "" if account is None else f" of account {account}"
    if _quarantined(tx, order_id, account):
        sentence = f"order {order_id}{of} is in quarantine: see `order-sync quarantine show {order_id}`."
        return Failure(sentence, status=BAD_INPUT)
    order_id = checked_id(order_id)
    name = account or (known[0] if len(known) == 1 else "NAME")
    fetching = f"`order-sync orders fetch {order_id} --account {name}` fetches it"
    return Failure(f"order {order_id}{of} is not in the database; {fetching}.", status=BAD_INPUT)


# --- fetch ------------------------------------------------------------------------------------------


@app.command()
def fetch(
    order_id: OrderId,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="The order's account; needed if there are several.")
    ] = None,
) -> None:
    """Fetch one order from Amazon and store it.

    Exit status: 0 if stored or unchanged, 1 if Amazon does not know it or it went to quarantine, 2 if this is
    not an order id, 75 if deferred.
    """
    order_id = checked_id(order_id)
    with opened(create=True, wired=True) as service:
        try:
            put(fetched(service.store, account_of(service.accounts, account), order_id))
        except NotStored as fault:
            raise Failure(str(fault)) from None
        except Deferred as deferred:
            say(f"{order_id}: {deferred}")
            say(f"deferred until {iso_rounded_up(deferred.until)}")
            raise typer.Exit(DEFERRED) from None
