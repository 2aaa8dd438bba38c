"""The read side: what commands, exports and status pages find, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.orders import UnreadableOrder
from store import queries
from store.engine import Store
from store.records import OrderRecord
from tests.integration.store_world import (
    UK,
    account_rules,
    add_customer,
    apply,
    customer_of,
    exported,
    rules_of,
)
from tests.unit.matching_world import DE, a_pending_order, after, an_order


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_ROWS_AT_ONCE", 3)


def ids(found: list[OrderRecord]) -> list[str]:
    return [order.order_id for order in found]


def changed(store: Store, since: int) -> tuple[list[str], int]:
    orders, _, upto = exported(store, since)
    return [order["order_id"] for order in orders], upto


@pytest.mark.usefixtures("small_chunks")
def test_changes_are_read_in_chunks_without_a_gap_or_a_double(store: Store) -> None:
    page = [an_order(f"o{i}", f"{i}@example.com") for i in range(7)]
    apply(store, *page)  # one transaction: all of one position
    apply(store, an_order("o7", "7@example.com"))
    apply(store, an_order("o8", "8@example.com"))
    seen, position = changed(store, 0)
    assert seen == [f"o{i}" for i in range(9)]
    assert len(exported(store)[1]) == 9
    assert changed(store, position)[0] == []
    apply(store, an_order("o3", "3@example.com", updated=10, status="SHIPPED"))
    assert changed(store, position)[0] == ["o3"]


def test_a_pending_order_is_remembered_and_not_read(store: Store) -> None:
    apply(store, a_pending_order("o1"), an_order("o2"))
    seen, position = changed(store, 0)
    assert seen == ["o2"]
    with store.read() as tx:
        assert ids(queries.find_orders(tx, "o1")) == ["o1"]
        assert ids(queries.list_orders(tx, limit=10)) == ["o2"]
    apply(store, an_order("o1", updated=10))
    assert changed(store, position)[0] == ["o1"]


def test_an_order_is_found_by_its_id_in_each_account(store: Store) -> None:
    apply(store, an_order("o1"))
    beta = account_rules(rules_of(UK), account="beta", business="beta")
    apply(store, an_order("o1", "bea@example.com"), rules=beta)
    with store.read() as tx:
        assert [o.account for o in queries.find_orders(tx, "o1")] == ["acme", "beta"]
        assert [o.account for o in queries.find_orders(tx, "o1", "beta")] == ["beta"]
        assert queries.find_orders(tx, "o9") == []


def test_orders_are_listed_newest_first_and_narrowed_down(store: Store) -> None:
    apply(
        store,
        an_order("old", created_at=after(-60), status="SHIPPED"),
        an_order("new", created_at=after(60)),
        an_order("german", "bea@example.com", marketplace_id=DE),
    )
    ann = customer_of(store, "old").customer_id
    with store.read() as tx:
        assert ids(queries.list_orders(tx, limit=10)) == ["new", "german", "old"]
        assert ids(queries.list_orders(tx, limit=2)) == ["new", "german"]
        assert ids(queries.list_orders(tx, limit=9, status="SHIPPED")) == ["old"]
        assert ids(queries.list_orders(tx, limit=9, marketplace="DE")) == ["german"]
        assert ids(queries.list_orders(tx, limit=9, customer_id=ann)) == ["new", "old"]
        assert ids(queries.list_orders(tx, limit=9, match_basis="email_1")) == ["new"]
        assert ids(queries.list_orders(tx, limit=9, match_basis="email_1", status="SHIPPED")) == []
        assert len(queries.list_orders(tx, limit=9, status="SHIPPED")[0].lines) == 1


def test_customers_are_listed_newest_first_and_found_by_e_mail_in_every_business(store: Store) -> None:
    first = add_customer(store, "ann@example.com", "second@example.com")
    other = add_customer(store, "ann@example.com", business="beta")
    third = add_customer(store, status="unidentified")
    with store.read() as tx:

        def found(**wanted: Any) -> list[int]:
            return sorted(c.customer_id for c in queries.list_customers(tx, limit=10, **wanted))

        assert [c.customer_id for c in queries.list_customers(tx, limit=2)] == [third, other]
        assert found(email="SECOND@example.com ") == [first]
        assert found(email="ann@example.com") == [first, other]
        assert found(email="nobody@example.com") == []
        assert found(status="unidentified") == [third]
        assert queries.get_customer(tx, 4711) is None


def test_the_status_page_counts_everything_once(store: Store) -> None:
    rules = account_rules(rules_of(UK), rules_of(DE, without_email="hold"))
    nobody: dict[str, Any] = {"email": None, "name": None}
    apply(
        store,
        an_order("o1"),
        an_order("o2"),
        an_order("o3", **nobody),
        an_order("o4", **nobody, marketplace_id=DE),
        an_order("o5", marketplace_id="UNKNOWN"),
        an_order("o9", marketplace_id=None),
        an_order("o10", marketplace_id="UNKNOWN", **nobody, status="CANCELLED"),
        a_pending_order("o11", marketplace_id="UNKNOWN"),
        a_pending_order("o6"),
        an_order("o7", **nobody, status="CANCELLED"),
        rules=rules,
        unreadable=[UnreadableOrder("o8", None, "a reason", "{}")],
    )
    with store.read() as tx:
        totals = queries.totals(tx)
        counts = queries.row_counts(tx)
    assert counts.orders == totals.orders + totals.pending
    assert (counts.quarantined, counts.erased) == (totals.quarantined, 0)
    assert totals == queries.Totals(
        orders=8,
        customers=2,
        unidentified=1,
        pending=2,
        held=1,
        suggested=0,
        unknown_marketplace=4,
        without_marketplace=1,
        quarantined=1,
        by_basis={"created": 1, "email_1": 1, "unidentified": 1, "held": 1, "none": 4},
        unconfigured=(
            queries.Unconfigured("acme", None, 1),
            queries.Unconfigured("acme", "UNKNOWN", 1),
        ),
    )
