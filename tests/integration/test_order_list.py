"""The list of orders with filters and orders of rows, and its bound on the work of a page."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from connectors.orders import Money
from store import order_list
from store.engine import Store
from store.order_list import Column, OrderFilter, Position
from tests.integration.store_world import apply
from tests.unit.matching_world import DE, T0, a_pending_order, an_order, gbp

HOUR = timedelta(hours=1)


@pytest.fixture
def filled(store: Store) -> Store:
    """Nine orders: o0 is the newest; o4 and o5 were placed at the same time."""
    placed = [0, 1, 2, 3, 4, 4, 6, 7, 8]
    apply(
        store,
        *(
            an_order(
                f"o{number}",
                f"{number % 3}@example.com",
                created_at=T0 - hours * HOUR,
                total=gbp(f"{number}.50") if number != 3 else None,
                status="SHIPPED" if number % 2 else "UNSHIPPED",
                fulfilled_by="AMAZON" if number > 6 else "MERCHANT",
                marketplace_id=DE if number == 8 else an_order().marketplace_id,
            )
            for number, hours in enumerate(placed)
        ),
        a_pending_order("p", created_at=T0),
    )
    return store


def walked(store: Store, wanted: OrderFilter, limit: int) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    position: Position | None = None
    while True:
        with store.read() as tx:
            page = order_list.newest(tx, wanted, limit, position)
        assert len(page.orders) <= limit
        found += [order.order_id for order in page.orders]
        if page.after is None:
            return found
        position = page.after


ALL = ["o0", "o1", "o2", "o3", "o5", "o4", "o6", "o7", "o8"]


@pytest.mark.parametrize("limit", [1, 2, 4, 8, 9, 10])
@pytest.mark.parametrize("part", [1, 2, 3, 100])
@pytest.mark.parametrize("seconds", [-1.0, 60.0])
def test_pages_have_every_order_once_however_little_is_read_at_once(
    filled: Store, limit: int, part: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_list, "PART", part)
    monkeypatch.setattr(order_list, "MAX_SECONDS", seconds)
    assert walked(filled, OrderFilter(), limit) == ALL
    assert walked(filled, OrderFilter(status="SHIPPED"), limit) == ["o1", "o3", "o5", "o7"]
    assert walked(filled, OrderFilter(status="NONE"), limit) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (OrderFilter(pending=True), ["p"]),
        (OrderFilter(marketplace="DE"), ["o8"]),
        (OrderFilter(account="acme"), ALL),
        (OrderFilter(account="other"), []),
        (OrderFilter(fulfilled_by="AMAZON"), ["o7", "o8"]),
        (OrderFilter(match_basis="created"), ["o6", "o7", "o8"]),
        (OrderFilter(created_from=T0 - 2 * HOUR), ["o0", "o1", "o2"]),
        (OrderFilter(created_to=T0 - 6 * HOUR), ["o7", "o8"]),
        (OrderFilter(created_from=T0 - 4 * HOUR, created_to=T0 - 2 * HOUR), ["o3", "o5", "o4"]),
        (OrderFilter(status="UNSHIPPED", fulfilled_by="AMAZON"), ["o8"]),
    ],
)
def test_filters(filled: Store, wanted: OrderFilter, found: list[str]) -> None:
    assert sorted(walked(filled, wanted, 50)) == sorted(found)


def ordered(store: Store, column: Column, *, descending: bool, limit: int = 50, offset: int = 0) -> list[str]:
    with store.read() as tx:
        page = order_list.sorted_by(tx, OrderFilter(), column, limit, offset, descending=descending)
    return [order.order_id for order in page.orders]


def test_orders_are_sorted_by_a_column_and_unknown_values_come_last(filled: Store) -> None:
    by_total = ["o0", "o1", "o2", "o4", "o5", "o6", "o7", "o8"]
    assert ordered(filled, "total", descending=False) == [*by_total, "o3"]
    assert ordered(filled, "total", descending=True) == [*reversed(by_total), "o3"]
    assert ordered(filled, "status", descending=False) == [
        "o1",
        "o3",
        "o5",
        "o7",
        "o0",
        "o2",
        "o4",
        "o6",
        "o8",
    ]
    assert ordered(filled, "marketplace", descending=False)[0] == "o8"
    assert ordered(filled, "created", descending=False) == [
        "o8",
        "o7",
        "o6",
        "o5",
        "o4",
        "o3",
        "o2",
        "o1",
        "o0",
    ]
    assert ordered(filled, "total", descending=False, limit=3, offset=3) == ["o4", "o5", "o6"]


def test_amounts_are_sorted_as_numbers(store: Store) -> None:
    for number, amount in enumerate(("9", "10", "100", "-1", "9.5")):
        apply(store, an_order(f"o{number}", f"{number}@example.com", total=Money(Decimal(amount), "GBP")))
    assert ordered(store, "total", descending=False) == ["o3", "o0", "o4", "o1", "o2"]


def test_sorting_takes_the_newest_and_says_so(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_list, "MAX_SORTED", 3)
    with filled.read() as tx:
        page = order_list.sorted_by(tx, OrderFilter(), "total", 2, 0, descending=True)
        assert [order.order_id for order in page.orders] == ["o2", "o1"]
        assert (page.left_out, page.has_more) == (True, True)
        page = order_list.sorted_by(tx, OrderFilter(), "total", 2, 2, descending=True)
        assert [order.order_id for order in page.orders] == ["o0"]
        assert (page.left_out, page.has_more) == (True, False)
    monkeypatch.setattr(order_list, "MAX_SORTED", 9)
    with filled.read() as tx:
        assert not order_list.sorted_by(tx, OrderFilter(), "total", 2, 0, descending=True).left_out


def test_an_order_that_comes_meanwhile_moves_no_page(filled: Store) -> None:
    with filled.read() as tx:
        first = order_list.newest(tx, OrderFilter(), 4)
    apply(filled, an_order("new", "new@example.com", created_at=T0 + HOUR))
    with filled.read() as tx:
        second = order_list.newest(tx, OrderFilter(), 4, first.after)
    assert [order.order_id for order in (*first.orders, *second.orders)] == ALL[:8]
