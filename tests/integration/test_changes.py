"""The outbox and the feed that is read from it, on both databases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from threading import Thread

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from store import changes, customers, queries, revisions, tables, webhooks
from store.change_records import START, BadPosition, Change, Changes, Position, PositionGone, read_position
from store.changes import changes_after
from store.engine import Store, Transaction, condense, create_engine, is_ours, positions
from tests.integration.store_world import (
    NOON,
    add_customer,
    apply,
    clock_of,
    count,
    customer_of,
    fresh_store,
    open_store,
    order,
    row,
)
from tests.integration.test_store_engine import together
from tests.unit.matching_world import a_pending_order, an_order


def read(store: Store, after: Position = START, limit: int = 100) -> Changes:
    with store.read() as tx:
        return changes_after(tx, after, limit)


def events_of(store: Store, after: Position = START) -> tuple[list[tuple[str, str | int | None]], Position]:
    """Kinds and ids of what is new, and the position after it."""
    found = read(store, after)
    return [(c.kind, c.order_id or c.customer_id) for c in found.events], found.position


def test_a_page_lists_its_customers_before_its_orders(store: Store) -> None:
    apply(store, an_order("o1", "a@example.com"), an_order("o2", "b@example.com"))
    people = [customer_of(store, o).customer_id for o in ("o1", "o2")]
    found = read(store)
    assert [(c.kind, c.order_id or c.customer_id) for c in found.events] == [
        ("customer.created", people[0]),
        ("customer.created", people[1]),
        ("order.created", "o1"),
        ("order.created", "o2"),
    ]
    event = found.events[2]
    assert (event.account, event.marketplace, event.customer_id) == ("acme", "UK", people[0])
    assert event.version == row(store, tables.orders, order_id="o1")["change_no"]
    assert found.events[0].business == "acme"
    assert not found.more
    assert read(store, found.position).events == ()


def test_a_newer_copy_is_a_change_and_the_same_copy_is_none(store: Store) -> None:
    apply(store, an_order("o1", "a@example.com"))
    _, position = events_of(store)
    apply(store, an_order("o1", "a@example.com"))
    assert events_of(store, position)[0] == []
    apply(store, an_order("o1", "a@example.com", updated=10, status="SHIPPED"))
    news, position = events_of(store, position)
    assert news == [("order.changed", "o1")]
    assert events_of(store, position)[0] == []


def test_every_change_is_an_event_of_its_own_in_order(store: Store) -> None:
    apply(store, an_order("o1", "a@example.com"))
    for minutes, status in ((10, "PARTIALLY_SHIPPED"), (20, "SHIPPED"), (30, "CANCELLED")):
        apply(store, an_order("o1", "a@example.com", updated=minutes, status=status))
    mine = [c for c in read(store).events if c.order_id == "o1"]
    assert [c.kind for c in mine] == ["order.created", *["order.changed"] * 3]
    assert [c.version for c in mine] == sorted({c.version for c in mine})


def test_r30_a_held_back_order_counts_as_created_when_it_is_ready(store: Store) -> None:
    apply(store, a_pending_order("o1"))
    news, position = events_of(store)
    assert news == []
    apply(store, an_order("o1", "a@example.com", updated=10))
    customer_id = customer_of(store).customer_id
    assert events_of(store, position)[0] == [("customer.created", customer_id), ("order.created", "o1")]


def test_r22_a_tombstone_names_the_record_that_it_leads_to(store: Store) -> None:
    apply(store, an_order("o1", None))
    left = customer_of(store).customer_id
    _, position = events_of(store)
    apply(store, an_order("o1", "a@example.com", updated=10))
    kept = customer_of(store).customer_id
    found = read(store, position).events
    assert {(c.kind, c.order_id or c.customer_id, c.merged_into) for c in found} == {
        ("customer.merged", left, kept),
        ("customer.created", kept, None),
        ("order.changed", "o1", None),
    }


def test_a_record_that_was_forgotten_is_reported_as_such(store: Store) -> None:
    customer_id = add_customer(store, "a@example.com", name="Ann")
    _, position = events_of(store)
    with store.begin() as tx:
        record = customers.load(tx, [customer_id])[customer_id]
        customers.change(tx, replace(record, status="forgotten", emails=(), name=None))
    assert events_of(store, position)[0] == [("customer.forgotten", customer_id)]


def test_what_is_rolled_back_is_not_reported(store: Store) -> None:
    class Broken(Exception):
        pass

    def break_off() -> None:
        with store.begin() as tx:
            customers.create(tx, [replace(customer_of(store), customer_id=0, emails=())])
            raise Broken

    apply(store, an_order("o1", "a@example.com"))
    before = count(store, tables.outbox)
    with pytest.raises(Broken):
        break_off()
    assert count(store, tables.outbox) == before


def test_any_code_that_gives_a_record_the_transactions_position_reports_it(store: Store) -> None:
    """Merging, erasing and importing do not know of the outbox."""
    apply(store, an_order("o1", "a@example.com"), an_order("o2", "a@example.com"))
    _, position = events_of(store)
    with store.begin() as tx:
        changed = sa.update(tables.orders).values(labels="{}", changed_at=tx.now, change_no=tx.change_no)
        tx.conn.execute(changed)
    assert events_of(store, position)[0] == [("order.changed", "o1"), ("order.changed", "o2")]


def test_pages_of_any_size_give_the_same_events_also_within_one_transaction(store: Store) -> None:
    apply(store, *(an_order(f"o{i}", f"{i}@example.com") for i in range(5)))
    apply(store, an_order("o9", "9@example.com"))
    whole = read(store).events
    assert len(whole) == 12
    for limit in (1, 2, 3, 5, 12, 13):
        seen: list[Change] = []
        position = START
        more = True
        while more:
            page = read(store, position, limit)
            seen += page.events
            position, more = read_position(str(page.position)), page.more
        assert tuple(seen) == whole


def test_an_event_whose_record_was_erased_is_left_out(store: Store) -> None:
    apply(store, *(an_order(f"o{i}", None) for i in range(3)))
    key = row(store, tables.orders, order_id="o1")["order_key"]
    with store.begin() as tx:
        tx.conn.execute(sa.delete(tables.order_lines).where(tables.order_lines.c.order_key == key))
        tx.conn.execute(sa.delete(tables.orders).where(tables.orders.c.order_key == key))
    orders = [c.order_id for c in read(store).events if c.order_id]
    assert orders == ["o0", "o2"]
    seen, position, more = [], START, True
    while more:
        page = read(store, position, 1)
        seen += [c.order_id for c in page.events if c.order_id]
        position, more = page.position, page.more
    assert seen == orders


def test_the_outbox_holds_nothing_of_a_buyer(store: Store) -> None:
    apply(store, an_order("o1", "ann@example.com"))
    with store.read() as tx:
        rows = tx.conn.execute(sa.select(tables.outbox)).mappings().all()
    assert {type(value).__name__ for r in rows for value in r.values()} <= {
        "int",
        "str",
        "datetime",
        "NoneType",
    }
    assert {r["kind"] for r in rows} == {"created"}


def test_a_position_is_that_of_an_export(store: Store) -> None:
    apply(store, an_order("o1", "a@example.com"))
    with store.read() as tx:
        exported = tx.readable_change_no()
    apply(store, an_order("o2", "a@example.com"))
    assert events_of(store, read_position(str(exported)))[0] == [("order.created", "o2")]


@pytest.mark.parametrize("text", ["", "-1", "1.3.2", "1.2", "x", "1.2.3.4", "٣", "1" * 30])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(BadPosition):
        read_position(text)


def test_a_position_that_has_not_been_reached_is_refused(store: Store) -> None:
    """A reader who was further than an older backup must not wait for events that were sent already."""
    apply(store, an_order("o1", "a@example.com"))
    _, position = events_of(store)
    with pytest.raises(BadPosition, match="of another database"):
        read(store, Position(position.change_no + 1_000))
    with pytest.raises(BadPosition, match="of another database"), store.begin() as tx:
        webhooks.add(tx, "https://example.com", "whsec_AA==", Position(position.change_no + 1_000))


# --- side by side -----------------------------------------------------------------------------------


def test_a_reader_waits_for_a_change_that_began_earlier_and_commits_later(postgres_store: Store) -> None:
    store = postgres_store
    ids = [add_customer(store, external_id=name) for name in "abc"]
    _, position = events_of(store)
    with store.begin() as early:
        customers.bury(early, ids[0], ids[1])
        with store.begin() as late:
            record = customers.load(late, [ids[2]])[ids[2]]
            customers.change(late, replace(record, name="Ann"))
        assert events_of(store, position)[0] == []
    assert events_of(store, position)[0] == [("customer.merged", ids[0]), ("customer.changed", ids[2])]


def test_changes_of_a_record_come_in_the_order_in_which_they_were_made(postgres_store: Store) -> None:
    """A transaction that has its number already changes a record that a later one has changed meanwhile."""
    store = postgres_store
    shared, own = (add_customer(store, external_id=name) for name in "ab")
    _, position = events_of(store)
    numbers: list[int] = []

    def rename(tx: Transaction, key: int, name: str) -> None:
        record = customers.load(tx, [key])[key]
        customers.change(tx, replace(record, name=name), record)

    def early(tx: Transaction) -> None:
        numbers.append(tx.change_no)
        rename(tx, own, "early")
        if len(numbers) == 1:
            with store.begin() as late:
                numbers.append(late.change_no)
                rename(late, shared, "late")
        rename(tx, shared, "early, after late")

    store.commit(early)
    assert numbers == sorted(numbers)
    assert len(numbers) == 3  # it was repeated
    seen = read(store, position).events
    assert [(c.customer_id, c.version) for c in seen] == [
        (shared, numbers[1]),
        (shared, numbers[2]),
        (own, numbers[2]),
    ]
    assert row(store, tables.customers, customer_id=shared)["change_no"] == numbers[2]


def test_positions_of_a_restored_dump_that_are_ahead_block_no_writer(postgres_store: Store) -> None:
    store = postgres_store
    apply(store, an_order("o1", "a@example.com"))
    with store.begin() as tx:
        tx.conn.execute(sa.update(tables.outbox).values(change_no=tables.outbox.c.change_no + 1_000_000))
    apply(store, an_order("o1", "a@example.com", updated=10, status="SHIPPED"))
    assert order(store, "o1").status == "SHIPPED"


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[Store]:
    """A store in PostgreSQL alone: SQLite has one writer at a time."""
    admin = create_engine(postgres_url)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("CREATE DATABASE changes_alone TEMPLATE template0")
    with fresh_store(postgres_url.replace("/postgres?", "/changes_alone?")) as opened:
        yield opened
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("DROP DATABASE changes_alone WITH (FORCE)")
    admin.dispose()


def test_a_reader_under_concurrent_writers_misses_nothing_and_sees_each_record_in_order(
    store: Store,
) -> None:
    """Writers add records, and change ones that all of them share; the reader takes small pages."""
    shared = [add_customer(store, external_id=f"shared-{i}") for i in range(4)]
    writers, each = 4, 10
    running = [True]

    def write(number: int) -> None:
        for i in range(each):

            def change_one(tx: Transaction, i: int = i) -> None:
                key = shared[(number + i) % len(shared)]
                record = customers.load(tx, [key])[key]
                done = int(record.name or 0) + 1
                customers.change(tx, replace(record, name=str(done)), record)
                fresh = replace(record, customer_id=0, external_id=f"{number}-{i}", name=None)
                customers.create(tx, [fresh])

            store.commit(change_one)

    def write_all() -> None:
        try:
            together(writers, write)
        finally:
            running[0] = False

    seen: list[Change] = []
    position = START
    thread = Thread(target=write_all)
    thread.start()
    last_look = False
    while not last_look:
        last_look = not running[0]
        more = True
        while more:
            page = read(store, position, 3)
            seen += page.events
            assert page.position >= position
            position, more = page.position, page.more
    thread.join(30)
    positions = [change.position for change in seen]
    assert positions == sorted(set(positions))
    created = [c.customer_id for c in seen if c.kind == "customer.created"]
    assert len(created) == len(set(created)) == len(shared) + writers * each
    changed: dict[int | None, int] = defaultdict(int)
    for change in seen:
        if change.kind == "customer.changed":
            changed[change.customer_id] += 1
    with store.read() as tx:
        records = customers.load(tx, shared)
    assert dict(changed) == {key: int(record.name or 0) for key, record in records.items()}
    assert sum(changed.values()) == writers * each


# --- keeping ----------------------------------------------------------------------------------------


def trim(store: Store) -> int:
    removed = 0
    while True:
        with store.begin() as tx:
            many = changes.trim(tx)
        removed += many
        if many == 0:
            return removed


def test_events_are_kept_for_thirty_days(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_TRIMMED_AT_ONCE", 3)
    for i in range(5):
        apply(store, an_order(f"o{i}", f"{i}@example.com"))
    clock_of(store).sleep(timedelta(days=20).total_seconds())
    apply(store, an_order("new", "new@example.com"))
    assert trim(store) == 0
    clock_of(store).sleep(timedelta(days=10, hours=1).total_seconds())
    assert trim(store) == 10
    assert [c.order_id for c in read(store).events if c.order_id] == ["new"]
    assert order(store, "o1").order_id == "o1"


def test_a_reader_who_was_away_for_too_long_gets_an_error(store: Store) -> None:
    apply(store, an_order("o1", "a@example.com"))
    left = read(store, limit=1).position
    _, behind = events_of(store)
    apply(store, an_order("o2", "a@example.com"))
    clock_of(store).sleep(timedelta(days=31).total_seconds())
    apply(store, an_order("o3", "a@example.com"))
    _, caught_up = events_of(store)
    assert trim(store) == 3
    assert trim(store) == 0
    for position in (left, behind):
        with pytest.raises(PositionGone, match="from position"):
            read(store, position)
    assert [c.order_id for c in read(store).events if c.order_id] == ["o3"]
    assert read(store, caught_up).events == ()
    trimmed = Position(row(store, tables.outbox, kind="trimmed")["change_no"])
    assert [c.order_id for c in read(store, trimmed).events] == ["o3"]


def test_what_was_changed_before_there_was_an_outbox_has_to_be_read(database_url: str) -> None:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    with closing(open_store(database_url)) as store:
        apply(store, an_order("o1", "a@example.com"))
        apply(store, an_order("o0", "a@example.com"))
        before = row(store, tables.orders, order_id="o0")["change_no"]
        with engine.begin() as connection:
            command.downgrade(revisions._config(connection), "0005")
        revisions.upgrade(engine)
        with pytest.raises(PositionGone):
            read(store, Position(before - 1))
        assert events_of(store, Position(before))[0] == events_of(store)[0] == []
        apply(store, an_order("o2", "a@example.com"))
        assert events_of(store, Position(before))[0] == [("order.created", "o2")]
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_positions_of_the_version_before_stay_valid_on_postgresql(database_url: str) -> None:
    """Until the server starts again, processes of that version go on writing theirs."""
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    with closing(open_store(database_url)) as store:
        apply(store, an_order("o1", "a@example.com"))
        with engine.begin() as connection:
            command.downgrade(revisions._config(connection), "0016")
            xid = connection.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint").scalar_one()
            for table in (tables.customers, tables.orders, tables.outbox):
                connection.execute(sa.update(table).values(change_no=xid))
            connection.exec_driver_sql("INSERT INTO counters VALUES ('counted_from', 0)")
        with engine.begin() as connection:
            ahead = Position(
                connection.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint").scalar_one()
            )
    revisions.upgrade(engine)
    assert ahead.change_no > xid
    with closing(open_store(database_url)) as store:
        assert events_of(store, ahead)[0] == []
        apply(store, an_order("o2", "a@example.com"))
        news, position = events_of(store, ahead)
        assert news == [("order.created", "o2")]
        assert position.change_no < ahead.change_no + 1000
    with engine.begin() as connection:
        connection.execute(sa.update(tables.histories).values(server="before a start"))
    with closing(open_store(database_url)) as store:
        apply(store, an_order("o3", "a@example.com"))
        assert events_of(store, ahead)[0] == [("order.created", "o2"), ("order.created", "o3")]
        assert events_of(store, position)[0] == [("order.created", "o3")]
        with pytest.raises(BadPosition, match="of another database"):
            read(store, Position(position.change_no + 1))
    engine.dispose()


def test_many_processes_write_one_history_on_each_server(database_url: str) -> None:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    stores = [open_store(database_url) for _ in range(4)]
    together(4, lambda number: add_customer(stores[number], external_id=f"{number}"))
    for store in stores:
        add_customer(store)
    with engine.connect() as connection:
        histories = connection.execute(sa.select(tables.histories)).all()
    is_postgresql = engine.dialect.name == "postgresql"
    assert len(histories) == (1 if is_postgresql else 4)
    seen = [(c.position, c.customer_id) for c in read(stores[0]).events]
    assert len(seen) == 8
    assert seen == sorted(seen)
    for position, _ in seen:
        read(stores[0], position)
    for store in stores:
        store.close()
    engine.dispose()


def test_histories_are_remembered_for_400_days(database_url: str) -> None:
    """Those before are merged: who stopped in one of them must start again, who came later need not."""
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    days = [NOON + timedelta(days=day) for day in (0, 1, 2, 450, 451)]
    issued = []
    for day in days:
        with engine.begin() as connection:
            connection.execute(sa.update(tables.histories).values(server="before a start"))
        with engine.begin() as connection:
            issued.append(positions.take(connection, day, None)[0])
            event = {"change_no": issued[-1], "what": 1, "key": 1, "kind": "created", "at": day}
            connection.execute(sa.insert(tables.outbox).values(event))
    for _ in range(2):
        with engine.begin() as connection:
            condense(connection, days[-1])
            assert [is_ours(connection, number) for number in issued] == [False, False, True, True, True]
            assert is_ours(connection, START.change_no)
            assert len(connection.execute(sa.select(tables.histories)).all()) == 3
    engine.dispose()


def test_what_a_web_hook_has_not_dealt_with_is_kept_for_ninety(store: Store) -> None:
    with store.begin() as tx:
        hook = webhooks.add(tx, "https://example.com", "whsec_AA==")
    apply(store, an_order("o1", None))
    clock_of(store).sleep(timedelta(days=60).total_seconds())
    assert trim(store) == 0
    clock_of(store).sleep(timedelta(days=31).total_seconds())
    assert trim(store) == 2
    with store.begin() as tx:
        assert webhooks.remove(tx, hook.hook_id)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_transaction_in_another_database_of_the_server_holds_up_no_reader(
    store: Store, postgres_url: str
) -> None:
    """Transaction ids, from which positions are counted, are the server's; one in our database does count."""
    apply(store, an_order("o1"))
    with store.read() as tx:
        before = tx.readable_change_no()

    def readable() -> list[str]:
        with store.read() as tx:
            return [o.order_id for o in queries.changed_orders(tx, before, tx.readable_change_no())]

    ours = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as elsewhere:
        elsewhere.execute("CREATE TEMPORARY TABLE x (a int)")
        apply(store, an_order("o2", "bea@example.com"))
        assert readable() == ["o2"]
        with store.read() as tx:
            position = tx.readable_change_no()
            tx.conn.exec_driver_sql("GRANT SELECT ON histories TO pg_signal_backend")
            # One that may not see others' queries.
            tx.conn.exec_driver_sql("SET LOCAL ROLE pg_signal_backend")
            assert tx.readable_change_no() == position > before
            tx.conn.exec_driver_sql("RESET ROLE")
            tx.conn.exec_driver_sql("REVOKE SELECT ON histories FROM pg_signal_backend")
        with psycopg.connect(ours) as here:
            here.execute("CREATE TEMPORARY TABLE x (a int)")
            apply(store, an_order("o3", "cid@example.com"))
            assert readable() == ["o2"]
        assert readable() == ["o2", "o3"]
