"""What another process stores between two questions of one page, where the database lets it (PostgreSQL)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing

import pytest

from store import orders
from store.engine import Row, Store, Transaction
from tests.integration.store_world import apply, open_store, order
from tests.unit.matching_world import an_order


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[Store, Store]]:
    """Two processes' stores on one database."""
    with closing(open_store(database_url)) as one, closing(open_store(database_url)) as other:
        yield one, other


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_original_stored_while_its_copy_is_applied_is_a_conflict(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page brings an order that is new, and a later copy of one that replaces it; then another process
    stores the first before the page looks for originals. The page is decided again, and both stand.
    """
    one, other = pair
    apply(one, an_order("o2", None, replaces="o1"))
    load = orders.load_rows

    def overtaken(tx: Transaction, account: str, order_ids: Collection[str]) -> dict[str, Row]:
        found = load(tx, account, order_ids)
        monkeypatch.setattr(orders, "load_rows", load)
        apply(other, an_order("o1", "ann@example.com"))
        return found

    page = [an_order("o1", "ann@example.com"), an_order("o2", None, replaces="o1", updated=1)]
    monkeypatch.setattr(orders, "load_rows", overtaken)
    apply(one, *page)
    assert order(one, "o2").customer_id == order(one, "o1").customer_id
