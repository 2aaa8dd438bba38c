"""Finding customers by name and orders by SKU, as the console does."""

from __future__ import annotations

import pytest

from store import queries, search
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
