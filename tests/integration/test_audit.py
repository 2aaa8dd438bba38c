"""The audit log in the database: filters, positions, and the end of its time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from poller.audit import KEPT_MONTHS, prune
from store import audit
from store.audit import Filter
from store.audit_records import MAX_NAMED, Action, Actor, AuditEntry, Records, about
from store.engine import Store
from tests.databases import long_on
from tests.integration.store_world import NOON, clock_of, open_store
from tests.integration.test_plans import Explained

ANN = Actor("user:ann", "192.0.2.7", "console")
ERP = Actor("token:erp", "192.0.2.8", "http")


def enter(store: Store, actor: Actor, action: Action, records: Records | None = None) -> None:
    store.commit(lambda tx: audit.insert(tx, AuditEntry(actor, action, records=records)))


def found(store: Store, **wanted: object) -> list[str]:
    """Who did what, newest first."""
    with store.read() as tx:
        entries = audit.newest(tx, 100, Filter(**wanted))  # type: ignore[arg-type]
    return [f"{e.actor.who} {e.action}" for e in entries]


@pytest.fixture
def filled(store: Store, database_url: str) -> Iterator[Store]:
    again = open_store(database_url)
    enter(again, ANN, "signed_in")
    enter(again, ANN, "disclosed", about("orders", ("1", "2")))
    clock_of(again).go_to(NOON + timedelta(hours=1))
    enter(again, ERP, "disclosed", about("customers", customers=(7, 8)))
    enter(again, ERP, "exported", Records("orders", count=9, selection={"after": "0"}, all_of=("order",)))
    yield again
    again.close()


def test_entries_are_found_by_who_action_record_and_time(filled: Store) -> None:
    ann, erp = ["user:ann disclosed", "user:ann signed_in"], ["token:erp exported", "token:erp disclosed"]
    assert found(filled) == erp + ann
    assert found(filled, who="user:ann") == ann == found(filled, who="user:*")
    assert found(filled, who="user:an") == []
    assert found(filled, action="disclosed") == [erp[1], ann[0]]
    assert found(filled, customer=8) == [erp[1]]
    # An export may have included any order.
    assert found(filled, order="2") == [erp[0], ann[0]]
    assert found(filled, order="3") == [erp[0]]
    assert found(filled, since=NOON + timedelta(hours=1)) == erp
    assert found(filled, until=NOON + timedelta(hours=1)) == ann
    assert found(filled, who="token:erp", action="disclosed", customer=7) == [erp[1]]


@long_on("postgresql")
def test_an_entry_is_read_as_it_was_added_and_many_records_are_summarised(filled: Store) -> None:
    many = tuple(f"{number:03}" for number in range(MAX_NAMED + 1))
    wanted = [about("person", ("b", "a"), (12, 3)), about("orders", many), None]
    for each in wanted:
        enter(filled, ANN, "disclosed", each)
    with filled.read() as tx:
        summary, person, *_ = [entry.records for entry in audit.newest(tx, 3, Filter())][1:]
    assert person == Records("person", ("a", "b"), (3, 12), 4)
    assert summary == Records(
        "orders", count=MAX_NAMED + 1, selection={"first": "000", "last": "100"}, all_of=("order",)
    )


def test_a_reader_that_continues_misses_nothing_that_is_added_meanwhile(filled: Store) -> None:
    def add() -> None:
        for _ in range(10):
            enter(filled, ERP, "disclosed", about("orders", ("5",)))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < 44:
        with filled.read() as tx:
            seen += [entry.entry for entry in audit.after(tx, seen[-1] if seen else 0, 7, Filter())]
    for thread in threads:
        thread.join()
    with filled.read() as tx:
        everything = [entry.entry for entry in audit.after(tx, 0, 1000, Filter())]
        assert seen == everything
        assert len(everything) == 44
        assert audit.last_number(tx) == everything[-1]


@long_on("postgresql")
def test_entries_are_deleted_after_twelve_months_and_their_numbers_are_not_issued_again(
    filled: Store,
) -> None:
    with filled.read() as tx:
        last = audit.last_number(tx)
    clock_of(filled).go_to(NOON.replace(year=NOON.year + KEPT_MONTHS // 12) + timedelta(minutes=1))
    assert filled.commit(prune) == 2
    assert filled.commit(prune) == 0
    assert found(filled) == ["token:erp exported", "token:erp disclosed"]
    clock_of(filled).go_to(NOON.replace(year=NOON.year + 2))
    assert filled.commit(prune) == 2
    enter(filled, ANN, "signed_in")
    with filled.read() as tx:
        assert audit.last_number(tx) > last


@long_on("postgresql")
def test_what_a_caller_sends_is_cut_to_what_a_column_holds(filled: Store) -> None:
    enter(filled, Actor("user:" + "x" * 500, "y" * 500, "http"), "sign_in_refused")
    with filled.read() as tx:
        (entry,) = audit.newest(tx, 1, Filter())
    assert (len(entry.actor.who), len(entry.actor.client)) == (audit.MAX_TEXT, audit.MAX_TEXT)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_search_reads_the_log_from_end_to_end(filled: Store) -> None:
    seen = Explained(filled.engine)
    for wanted in ({"who": "user:ann"}, {"who": "user:*"}, {"action": "disclosed"}, {"order": "2"}):
        found(filled, **wanted)
    found(filled, customer=8, since=NOON)
    found(filled, since=NOON, until=NOON)
    filled.commit(prune)
    assert {table for table in seen.scanning if table.startswith("audit")} == set()
