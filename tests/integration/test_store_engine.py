"""The promises of the engine, on both databases: one at a time, all or nothing, exact, and in order."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.orders import Money
from store import accounts, budgets, customers, queries, tables
from store.budgets import BudgetKey
from store.engine import Store, Tombstone, Transaction, create_engine, is_conflict
from store.records import Amount, CustomerRecord
from store.sealing import Sealer, SealError, key_id
from tests.integration.store_world import (
    KEY,
    NOON,
    add_customer,
    apply,
    count,
    fresh_store,
    open_store,
    order,
)
from tests.unit.matching_world import an_order, line

SEARCH = BudgetKey("app", "acme", "searchOrders")


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Store]:
    """A store in a schema of its own in PostgreSQL, for what SQLite cannot have."""
    admin = create_engine(postgres_url)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("DROP DATABASE IF EXISTS engine_alone WITH (FORCE)")
        conn.exec_driver_sql("CREATE DATABASE engine_alone TEMPLATE template0")
    with fresh_store(postgres_url.replace("/postgres?", "/engine_alone?")) as opened:
        yield opened
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("DROP DATABASE engine_alone WITH (FORCE)")
    admin.dispose()


def together(many: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` in many threads that start at once."""
    start = Barrier(many)

    def run(number: int) -> Any:
        start.wait(30)
        return work(number)

    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(run, range(many)))


def take_tokens(url: str, attempts: int) -> int:
    """What one process does: ask for tokens of a budget of 20."""
    store = open_store(url)
    try:
        return sum(_take(store) for _ in range(attempts))
    finally:
        store.close()


def _take(store: Store) -> bool:
    with store.begin() as tx:
        return budgets.take(tx, SEARCH, rate=0.0056, burst=20)[1] is None


# --- one at a time --------------------------------------------------------------------------------


def test_eight_threads_get_exactly_the_twenty_tokens_of_a_budget(store: Store) -> None:
    taken = together(8, lambda _: sum(_take(store) for _ in range(6)))
    assert sum(taken) == 20
    with store.read() as tx:
        assert budgets.taken(tx) == {SEARCH: 20}


@pytest.mark.long
def test_four_processes_get_exactly_the_twenty_tokens_of_a_budget(store: Store, database_url: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        taken = list(pool.map(take_tokens, [database_url] * 4, [12] * 4))
    assert sum(taken) == 20


def test_a_reader_is_not_held_up_by_a_writer_and_does_not_see_what_is_not_committed(store: Store) -> None:
    add_customer(store, "ann@example.com")
    with store.begin() as writing:
        writing.conn.execute(sa.update(tables.customers).values(price_list="new"))
        with store.read() as reading:
            (seen,) = queries.list_customers(reading, limit=10)
    assert seen.price_list is None


def test_a_reader_sees_one_snapshot_however_long_it_reads(store: Store) -> None:
    apply(store, an_order("o1"))
    with store.read() as reading:
        before = queries.list_orders(reading, limit=10)
        apply(store, an_order("o2", "bea@example.com"))
        assert queries.list_orders(reading, limit=10) == before
        assert len(queries.list_customers(reading, limit=10)) == 1
    with store.read() as reading:
        assert len(queries.list_orders(reading, limit=10)) == 2


def test_nothing_of_a_transaction_that_fails_remains(store: Store) -> None:
    apply(store, an_order("o1"))
    before = {table.name: count(store, table) for table in tables.metadata.sorted_tables}

    def fail_half_way() -> None:
        with store.begin() as tx:
            tx.take_keys(tables.ORDER_KEYS, 3)
            (lost,) = customers.create(tx, [CustomerRecord("acme", None, None, NOON)])
            customers.bury(tx, 1, lost)
            raise LookupError

    with pytest.raises(LookupError):
        fail_half_way()
    assert {table.name: count(store, table) for table in tables.metadata.sorted_tables} == before
    with store.read() as tx:
        (left,) = queries.list_customers(tx, limit=10)
    assert left.status == "active"


# --- exact and checked ----------------------------------------------------------------------------


def test_a_row_that_refers_to_nothing_is_refused(store: Store) -> None:
    orphan = sa.insert(tables.customer_words).values(block=0, word=1, customer_id=4711)
    with pytest.raises(sa.exc.IntegrityError), store.begin() as tx:
        tx.conn.execute(orphan)


def test_a_tombstone_that_points_nowhere_is_refused(store: Store) -> None:
    add_customer(store)
    buried = sa.update(tables.customers).values(status="merged")
    with pytest.raises(sa.exc.IntegrityError), store.begin() as tx:
        tx.conn.execute(buried)


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="a time without a zone"), store.begin() as tx:
        customers.create(tx, [CustomerRecord("acme", None, None, naive)])


def test_times_come_back_as_utc_to_the_microsecond_whatever_zone_they_came_in(store: Store) -> None:
    fine = datetime(2026, 3, 29, 3, 30, 0, 123456, timezone(timedelta(hours=2)))
    with store.begin() as tx:
        customers.create(tx, [CustomerRecord("acme", None, None, fine)])
    with store.read() as tx:
        (found,) = queries.list_customers(tx, limit=10)
    assert found.created_at == fine
    assert found.created_at.tzinfo is UTC
    assert found.created_at.microsecond == 123456


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["0.10", "0.1", "1000", "1E+3", "-0.05", "123456789012345.0123456789", "99999999999999999999.99"]
)
def test_money_is_exact_both_ways(store: Store, text: str) -> None:
    amount = Decimal(text)
    with store.begin() as tx:
        customers.create(tx, [CustomerRecord("acme", None, None, NOON, discount_percent=amount)])
    with store.read() as tx:
        (found,) = queries.list_customers(tx, limit=10)
    assert isinstance(found.discount_percent, Decimal)
    assert found.discount_percent == amount
    assert format(found.discount_percent, "f") == format(amount, "f")


def test_a_currency_without_cents_keeps_its_whole_amounts(store: Store) -> None:
    yen = Money(Decimal(1980), "JPY")
    apply(store, an_order(total=yen, lines=(line(unit_price=yen, item_total=None, tax=None),)))
    found = order(store)
    assert found.total == found.lines[0].unit_price == Amount(Decimal(1980), "JPY")
    assert found.total is not None
    assert str(found.total.amount) == "1980"


# --- keys and positions ---------------------------------------------------------------------------


def test_keys_given_out_at_the_same_time_are_unique_and_grow(store: Store) -> None:
    def take(_: int) -> list[list[int]]:
        given = []
        for _ in range(5):
            with store.begin() as tx:
                given.append(tx.take_keys(tables.ORDER_KEYS, 7))
        return given

    by_thread = together(4, take)
    for batches in by_thread:
        flat = [key for batch in batches for key in batch]
        assert flat == sorted(flat)
    everything = [key for batches in by_thread for batch in batches for key in batch]
    assert len(everything) == len(set(everything)) == 4 * 5 * 7
    with store.begin() as tx:
        assert tx.take_keys(tables.ORDER_KEYS, 0) == []
        assert min(tx.take_keys(tables.ORDER_KEYS, 2)) > max(everything)


def test_a_transaction_has_one_position_and_a_later_one_a_greater(store: Store) -> None:
    with store.begin() as tx:
        first = tx.change_no
        assert tx.change_no == first
    with store.begin() as tx:
        assert tx.change_no > first
    with store.read() as tx:
        assert tx.readable_change_no() >= first + 1


def _person(name: str) -> CustomerRecord:
    return CustomerRecord("acme", None, None, NOON, external_id=name)


def _seen(store: Store, since: int) -> tuple[list[str], int]:
    with store.read() as tx:
        upto = tx.readable_change_no()
        return [str(c.external_id) for c in queries.changed_customers(tx, since, upto)], upto


def test_a_reader_waits_for_a_transaction_that_began_earlier_and_commits_later(postgres: Store) -> None:
    with postgres.begin() as early:
        customers.create(early, [_person("early")])
        with postgres.begin() as late:
            customers.create(late, [_person("late")])
        seen, position = _seen(postgres, 0)
        assert seen == []
    seen, position = _seen(postgres, position)
    assert seen == ["early", "late"]
    assert _seen(postgres, position)[0] == []


def test_a_reader_who_continues_from_a_position_misses_nothing_and_sees_nothing_twice(store: Store) -> None:
    writers, each = 3, 12
    running = [True]

    def write(number: int) -> None:
        for i in range(each):
            with store.begin() as tx:
                customers.create(tx, [_person(f"{number}-{i}-a")])
                customers.create(tx, [_person(f"{number}-{i}-b")])

    def write_all() -> None:
        try:
            together(writers, write)
        finally:
            running[0] = False

    seen: list[str] = []
    position = 0
    thread = Thread(target=write_all)
    thread.start()
    last_look = False
    while not last_look:
        last_look = not running[0]
        news, position = _seen(store, position)
        seen += news
    thread.join(30)
    assert len(seen) == len(set(seen)) == writers * each * 2
    for number in range(writers):
        mine = [name for name in seen if name.startswith(f"{number}-")]
        assert mine == [f"{number}-{i}-{part}" for i in range(each) for part in "ab"]


def test_a_row_that_changes_again_is_seen_again_as_it_is_now(store: Store) -> None:
    customer_id = add_customer(store, external_id="x")
    seen, position = _seen(store, 0)
    assert seen == ["x"]
    with store.begin() as tx:
        record = customers.load(tx, [customer_id])[customer_id]
        customers.change(tx, replace(record, external_id="y"))
    seen, position = _seen(store, position)
    assert seen == ["y"]
    assert _seen(store, position)[0] == []


# --- the lookup key and conflicts -----------------------------------------------------------------


def test_many_first_opens_at_once_make_one_lookup_key(store: Store, database_url: str) -> None:
    def first_open(_: int) -> bytes:
        opened = open_store(database_url)
        try:
            return opened.lookup.email("acme", "ann@example.com")
        finally:
            opened.close()

    assert len(set(together(6, first_open))) == 1
    assert count(store, tables.meta) == 1


def test_many_first_starts_at_once_settle_one_business(store: Store) -> None:
    def settle(_: int) -> list[str]:
        settled = []
        for n in range(20):
            with store.begin() as tx:
                settled.append(accounts.settle_businesses(tx, {f"acme{n}": "acme"})[f"acme{n}"])
        return settled

    assert together(3, settle) == [["acme"] * 20] * 3
    assert count(store, tables.businesses) == 20


def test_the_lookup_key_survives_a_rotation_of_the_encryption_key(store: Store, database_url: str) -> None:
    before = store.lookup.email("acme", "ann@example.com")
    rotated = Store(create_engine(database_url), Sealer([bytes(32), KEY]))
    assert rotated.lookup.email("acme", "ann@example.com") == before
    rotated.close()


def test_a_wrong_encryption_key_is_reported_in_one_clear_sentence(store: Store, database_url: str) -> None:
    add_customer(store)
    stranger = open_store(database_url, key=bytes(32))
    with pytest.raises(SealError) as refused, stranger.begin():
        pass
    assert str(refused.value) == (
        "this database was sealed with another encryption key: set ORDER_SYNC_ENCRYPTION_KEY to the key "
        f"whose id is {key_id(KEY).hex()} (configured: {key_id(bytes(32)).hex()}), which it was last used "
        "with"
    )
    stranger.close()


def test_a_doubled_e_mail_is_a_conflict(store: Store) -> None:
    add_customer(store, "ann@example.com")
    with pytest.raises(sa.exc.IntegrityError) as raised:
        add_customer(store, " ANN@example.com ")
    assert is_conflict(raised.value)
    assert "example.com" not in str(raised.value)


def test_a_deadlock_is_a_conflict(postgres: Store) -> None:
    ids = [add_customer(postgres), add_customer(postgres)]
    both_hold_one = Barrier(2)

    def cross(number: int) -> BaseException | None:
        first, second = ids if number == 0 else reversed(ids)
        try:
            with postgres.begin() as tx:
                tx.conn.exec_driver_sql("SET LOCAL deadlock_timeout = '20ms'")
                customers.load(tx, [first])
                both_hold_one.wait(30)
                customers.load(tx, [second])
        except sa.exc.DBAPIError as error:
            return error
        return None

    (error,) = [e for e in together(2, cross) if e is not None]
    assert is_conflict(error)


def test_two_simultaneous_writers_are_a_conflict(postgres: Store) -> None:
    add_customer(postgres)
    change = sa.update(tables.customers).values(price_list="mine")
    with postgres.read() as reading:
        queries.list_customers(reading, limit=1)
        with postgres.begin() as tx:
            tx.conn.execute(change)
        with pytest.raises(sa.exc.DBAPIError) as raised:
            reading.conn.execute(change)
    assert is_conflict(raised.value)


# --- the clock and the file -----------------------------------------------------------------------


def test_without_a_clock_a_transaction_has_one_time_of_the_database(store: Store, database_url: str) -> None:
    real = Store(create_engine(database_url), Sealer([KEY]))
    with real.begin() as tx:
        first = tx.now
        assert first.tzinfo is UTC
        assert tx.now == first
    with real.read() as later:
        assert later.now >= first
    real.close()


def _pragma(tx: Transaction, name: str) -> Any:
    return tx.conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_sqlite_keeps_commits_through_a_power_cut_and_overwrites_what_is_erased(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with fresh_store(f"sqlite:///{path}") as store:
        with store.read() as tx:
            assert _pragma(tx, "journal_mode") == "wal"
            assert _pragma(tx, "foreign_keys") == 1
        for durable, synchronous in ((True, 2), (False, 1), (True, 2)):  # 2 is FULL, 1 is NORMAL
            with store.begin(durable=durable) as tx:
                assert _pragma(tx, "synchronous") == synchronous
        customer_id = add_customer(store, price_list="Erase this very text")
        _checkpoint(store)
        assert b"Erase this very text" in path.read_bytes()
        with store.begin() as tx:
            mine = tables.customers.c.customer_id == customer_id
            tx.conn.execute(sa.delete(tables.customers).where(mine))
        _checkpoint(store)
        assert b"Erase this very text" not in path.read_bytes()


def _checkpoint(store: Store) -> None:
    connection = store.engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def test_a_tombstone_is_a_conflict_and_a_mistake_of_ours_is_none(store: Store) -> None:
    assert is_conflict(Tombstone())
    with pytest.raises(sa.exc.DBAPIError) as mistake, store.begin() as tx:
        tx.conn.exec_driver_sql("SELECT nothing FROM nowhere")
    assert not is_conflict(mistake.value)
    assert not is_conflict(ValueError("something else"))


def test_a_second_connection_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.connect() as first:
        first.exec_driver_sql("CREATE TABLE t (x)")
        first.commit()
        engine.connect().close()
        other = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM t'); c.close()"
        )
        subprocess.run([sys.executable, "-c", other, str(tmp_path / "shop.db")], check=True)
        assert (tmp_path / "shop.db-wal").exists(), "the other process took itself for the last one"
    engine.dispose()
