"""Users and sessions of the console in the database; finding by name and by SKU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from threading import Thread

import pytest

from poller.web.users import LOCK_TIME, MAX_FAILURES, MAX_IDLE, MAX_SESSION, is_over
from store import queries, search, users
from store.engine import Store, create_engine
from store.sealing import Sealer
from store.tables import ORDER_KEYS, SKU_BLOCK
from tests.harness import KEY, NOON, SimulatedClock
from tests.integration.store_world import add_customer, apply
from tests.unit.matching_world import an_order

HASH = "$argon2id$…"


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture
def with_ann(store: Store, database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    """A store with a clock of its own and one user."""
    again = Store(create_engine(database_url), Sealer([KEY]), clock)
    assert again.commit(lambda tx: users.add(tx, "ann", HASH, ("read",)))
    assert not again.commit(lambda tx: users.add(tx, "ann", HASH, ("read", "write")))
    yield again
    again.close()


def attempt(store: Store, name: str = "ann") -> users.ConsoleUser | None:
    return store.commit(lambda tx: users.take_attempt(tx, name, MAX_FAILURES, LOCK_TIME))


def test_ten_failures_lock_a_user_for_a_quarter_of_an_hour(with_ann: Store, clock: SimulatedClock) -> None:
    assert all(attempt(with_ann) for _ in range(MAX_FAILURES))
    assert attempt(with_ann) is None
    clock.go_to(NOON + LOCK_TIME - timedelta(seconds=1))
    assert attempt(with_ann) is None
    clock.go_to(NOON + LOCK_TIME)
    assert all(attempt(with_ann) for _ in range(MAX_FAILURES - 1)), "it is counted from the start"
    found = attempt(with_ann)
    assert found is not None
    assert with_ann.commit(lambda tx: users.begin(tx, found, b"1" * 32, MAX_SESSION))
    assert attempt(with_ann) is not None, "a success forgets all failures"
    assert attempt(with_ann, "nobody") is None


def test_simultaneous_attempts_are_no_more_than_one_after_the_other(with_ann: Store) -> None:
    found: list[object] = []
    threads = [Thread(target=lambda: found.append(attempt(with_ann))) for _ in range(MAX_FAILURES + 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in found if one is not None]) == MAX_FAILURES


def test_a_session_ends_with_its_user_and_is_cleared_away(with_ann: Store, clock: SimulatedClock) -> None:
    user = attempt(with_ann)
    assert user is not None
    assert with_ann.commit(lambda tx: users.begin(tx, user, b"1" * 32, MAX_SESSION))
    clock.go_to(NOON + MAX_SESSION)
    assert with_ann.commit(lambda tx: users.begin(tx, user, b"2" * 32, MAX_SESSION))
    with with_ann.read() as tx:
        assert users.find_session(tx, b"1" * 32) is None
        session = users.find_session(tx, b"2" * 32)
    assert session == users.Session("ann", ("read",), NOON + MAX_SESSION, NOON + MAX_SESSION)
    other = replace(user, password="another")
    assert not with_ann.commit(lambda tx: users.begin(tx, other, b"3" * 32, MAX_SESSION))
    assert with_ann.commit(lambda tx: users.remove(tx, "ann"))
    with with_ann.read() as tx:
        assert users.find_session(tx, b"2" * 32) is None
        assert not users.is_any(tx)


@pytest.mark.parametrize(
    ("age", "idle", "over"),
    [
        (timedelta(), timedelta(), False),
        (MAX_IDLE, MAX_IDLE, True),
        (MAX_SESSION - timedelta(seconds=1), timedelta(), False),
        (MAX_SESSION, timedelta(), True),
    ],
)
def test_a_session_is_over(age: timedelta, idle: timedelta, over: bool) -> None:
    assert is_over(NOON - age, NOON - idle, NOON) is over


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
