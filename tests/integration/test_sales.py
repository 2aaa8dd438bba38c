"""What was sold, by day, marketplace and currency."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from connectors.orders import Money
from store import queries, sales
from store.engine import Store
from tests.integration.store_world import apply
from tests.unit.matching_world import DE, T0, a_pending_order, an_order, gbp

DAY = timedelta(days=1)


def test_sales_are_summed_by_day_marketplace_and_currency(store: Store) -> None:
    midnight = T0.replace(hour=0, minute=0, second=0, microsecond=0)
    apply(
        store,
        an_order("o1", total=gbp("12.10"), created_at=midnight),
        an_order("o2", total=gbp("0.20"), created_at=midnight + DAY - timedelta(microseconds=1)),
        an_order("o3", total=Money(Decimal("7.00"), "EUR"), created_at=midnight, marketplace_id=DE),
        an_order("o4", total=gbp("5.00"), created_at=midnight - timedelta(microseconds=1)),
        an_order("o5", total=None, created_at=midnight),
        an_order("o6", total=gbp("99.00"), created_at=midnight, status="CANCELLED"),
        an_order("o7", total=gbp("98.00"), created_at=midnight + DAY),
        a_pending_order("o8", created_at=midnight),
    )
    with store.read() as tx:
        found = sales.by_day(tx, midnight.date(), 2)
    today, before = midnight.date(), (midnight - DAY).date()
    assert [(s.day, s.marketplace, s.currency, s.orders, s.total) for s in found] == [
        (before, "UK", "GBP", 1, Decimal("5.00")),
        (today, "DE", "EUR", 1, Decimal("7.00")),
        (today, "UK", "GBP", 3, Decimal("12.30")),
    ]


def test_what_a_customer_has_bought_is_told_by_first_last_and_totals(store: Store) -> None:
    email = "ann@marketplace.amazon.co.uk"
    apply(
        store,
        an_order("o2", email, total=gbp("12.10"), created_at=T0),
        an_order("o1", email, total=gbp("0.20"), created_at=T0 - DAY),
        an_order("o3", email, total=Money(Decimal("7.00"), "EUR"), created_at=T0 + DAY, marketplace_id=DE),
        an_order("o4", email, total=gbp("50.00"), created_at=T0 + DAY),
        an_order("o5", email, total=None, created_at=T0),
        an_order("x", "bob@example.com", total=gbp("1.00"), created_at=T0),
    )
    apply(store, an_order("o4", email, updated=9, created_at=T0 + DAY, status="CANCELLED"))
    with store.read() as tx:
        customer_id = queries.find_orders(tx, "o1")[0].customer_id or 0
        bought = sales.of_customer(tx, customer_id)
        newest = sales.of_customer(tx, customer_id, most=2)
        stranger = sales.of_customer(tx, 4711)
    assert (bought.orders, bought.more) == (5, False)
    assert bought.totals == {"EUR": Decimal("7.00"), "GBP": Decimal("12.30")}
    assert bought.first is not None
    assert bought.last is not None
    assert (bought.first.order_id, bought.last.order_id) == ("o1", "o4")
    assert (newest.orders, newest.more, newest.totals) == (2, True, {"EUR": Decimal("7.00")})
    assert (stranger.orders, stranger.first, stranger.last, stranger.totals) == (0, None, None, {})
