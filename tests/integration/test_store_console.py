"""Finding customers by name and orders by SKU, as the console does."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from connectors.orders import AmazonPackage
from store import queries, search, tables
from store.engine import Store
from store.tables import ORDER_KEYS, SKU_BLOCK
from tests.integration.store_world import add_customer, apply
from tests.unit.matching_world import an_order

# --- finding ----------------------------------------------------------------------------------------


def test_customers_are_found_by_all_words_of_a_name_in_every_business(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_customer(store, "ann@example.com", name="Ann Example")
    second = add_customer(store, name="Ann Sample", company="Example Ltd")
    third = add_customer(store, "bob@example.com", name="Bob Exámple", business="other")
    monkeypatch.setattr(search, "_WORD_BLOCKS_AT_ONCE", 1)

    def found(name: str, limit: int = 10) -> list[int | None]:
        with store.read() as tx:
            return [record.customer_id for record in search.customers_named(tx, name, limit)]

    assert found("ann") == [second, first]
    assert found("EXAMPLE bob") == [third]
    assert found("example", 2) == [third, second]
    assert found("ann nobody") == []
    assert found("…") == []
    assert found(" ".join(["ann"] * 100)) == [second, first]
    assert found(" ".join(f"word{number}" for number in range(search.MAX_WORDS))) == []
    with pytest.raises(search.TooManyWords):
        found(" ".join(f"word{number}" for number in range(search.MAX_WORDS + 1)))


def test_a_search_ends_with_what_it_has_found_in_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_customer(store, "ann@example.com", name="Ann Example")
    apply(store, an_order("o1", "1@example.com"))
    monkeypatch.setattr(search, "MAX_SECONDS", -1.0)
    with store.read() as tx:
        assert search.customers_named(tx, "ann", 10) == []
        sku = queries.find_orders(tx, "o1")[0].lines[0].sku
        assert sku is not None
        assert len(search.orders_with_sku(tx, sku, 10)) == 1  # always searches the newest


def test_orders_are_found_by_sku_once_and_the_last_stored_first(store: Store) -> None:
    apply(store, an_order("o1", "1@example.com"))
    apply(store, an_order("o2", "2@example.com"), an_order("o3", "3@example.com"))
    with store.read() as tx:
        sku = queries.find_orders(tx, "o1")[0].lines[0].sku
        assert sku is not None
        assert [o.order_id for o in search.orders_with_sku(tx, sku, 10)] == ["o3", "o2", "o1"]
        assert [o.order_id for o in search.orders_with_sku(tx, sku, 2)] == ["o3", "o2"]
        assert search.orders_with_sku(tx, "no such", 10) == []


@pytest.mark.long
def test_orders_are_found_by_sku_in_blocks_that_lie_far_apart(store: Store) -> None:
    for number in range(3):
        apply(store, an_order(f"o{number}", f"{number}@example.com"))
        with store.begin() as tx:  # as many keys are given out as if that many orders had come in between
            tx.take_keys(ORDER_KEYS, 150 * SKU_BLOCK)
    with store.read() as tx:
        sku = queries.find_orders(tx, "o1")[0].lines[0].sku
        assert sku is not None
        for limit in (1, 2, 3, 10):
            found = [o.order_id for o in search.orders_with_sku(tx, sku, limit)]
            assert found == ["o2", "o1", "o0"][:limit]


def test_orders_are_found_by_a_part_of_their_id(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        apply(store, an_order(f"20{number}-0000000-000000{number % 3}", f"{number}@example.com"))
    for at_once in (1, 2, 3, 50_000):
        monkeypatch.setattr(search, "IDS_AT_ONCE", at_once)

        def found(part: str, limit: int = 10) -> list[str]:
            with store.read() as tx:
                return [order_id for _, order_id in search.order_ids_with(tx, part, limit)]

        assert found("0000001") == ["201-0000000-0000001", "204-0000000-0000001"]
        assert found("206-") == ["206-0000000-0000000"]
        assert found("-000000", 3) == [f"20{number}-0000000-000000{number}" for number in range(3)]
        assert found("%") == found("_") == []
    with store.read() as tx:
        newest_first = search.orders_named(tx, search.order_ids_with(tx, "0000001", 10))
        assert [order.order_id for order in newest_first] == ["204-0000000-0000001", "201-0000000-0000001"]
        assert search.orders_named(tx, []) == []


def test_orders_are_found_by_a_part_of_an_sku_in_any_case(store: Store) -> None:
    apply(store, an_order("o1", "1@example.com"), an_order("o2", "2@example.com"))
    with store.read() as tx:
        sku = queries.find_orders(tx, "o1")[0].lines[0].sku or ""
        assert [o.order_id for o in search.orders_with_sku(tx, sku[1:].swapcase(), 10, part=True)] == [
            "o2",
            "o1",
        ]
        assert search.orders_with_sku(tx, sku[1:], 10) == []
        assert search.orders_with_sku(tx, "%", 10, part=True) == []


def test_orders_are_found_by_tracking_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "KEYS_AT_ONCE", 1)
    package = AmazonPackage(reference="1", tracking_number="TRACK12345")
    apply(store, an_order("o1", "1@example.com", packages=(package,)), an_order("o2", "2@example.com"))
    with store.read() as tx:
        assert [order.order_id for order in search.orders_tracked(tx, "TRACK12345", 10)] == ["o1"]
        assert search.orders_tracked(tx, "TRACK1234", 10) == []


def test_customers_are_found_by_number_and_by_an_id_of_ones_own(store: Store) -> None:
    first, second = (
        add_customer(store, "a@example.com"),
        add_customer(store, "b@example.com", business="other"),
    )
    with store.begin() as tx:
        for customer_id, own in ((first, "C-77"), (second, "C-77")):
            c = tables.customers.c
            tx.conn.execute(
                sa.update(tables.customers).where(c.customer_id == customer_id).values(external_id=own)
            )

    def found(text: str) -> list[int]:
        with store.read() as tx:
            return sorted(record.customer_id or 0 for record in search.customers_numbered(tx, text))

    assert [first] == found(str(first))
    assert found("C-77") == sorted([first, second])
    assert found("9" * 5000) == found("nothing") == found("\u0661") == []
