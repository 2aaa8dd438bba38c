"""What was sold, by day, marketplace and currency."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from connectors.orders import Money
from store import sales
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
