"""Ticks in the database: queued once by any number of schedulers, and the queue's schema kept up to date."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from poller.service.queue import PLAN_EVERY_SECONDS, SharedSchedule, spread
from store import job_queue, revisions, ticks
from store.engine import Store, create_engine
from store.sealing import Sealer
from tests.harness import KEY, NOON, SimulatedClock

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

JOBS = f"{job_queue.SCHEMA}.procrastinate_jobs"


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store(database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    job_queue.upgrade(engine)
    opened = Store(engine, Sealer([KEY]), clock=clock)
    yield opened
    opened.close()


def scheduler(store: Store, *keys: str) -> SharedSchedule:
    """Return the schedule of a scheduler with these sources."""
    setup: Any = SimpleNamespace(
        sources={key: (None, f"rules of {key}") for key in keys},
        settings=SimpleNamespace(poll_seconds=180),
    )
    return SharedSchedule(store, lambda: setup)


def reconfigured(schedule: SharedSchedule, sources: dict[str, str]) -> None:
    setup: Any = schedule._setup()
    setup.sources = {key: (None, rules) for key, rules in sources.items()}
    schedule.plan_soon()


def queued(store: Store) -> list[str]:
    """Return the sources of all waiting jobs, in order."""
    with store.engine.connect() as connection:
        query = f"SELECT args->>'source' FROM {JOBS} WHERE status = 'todo' ORDER BY id"
        return list(connection.exec_driver_sql(query).scalars())


def drop_jobs(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL search_path = {job_queue.SCHEMA}")
        connection.exec_driver_sql(f"DELETE FROM {JOBS}")


def run(store: Store, key: str, again_in: timedelta) -> None:
    """Carry out a source's tick, the only one, as a worker does."""
    drop_jobs(store)
    with store.alone() as conn:
        ticks.finish(conn, key, store.server_time + again_in)


def test_a_tick_is_queued_once_by_several_schedulers(store: Store) -> None:
    schedulers = [scheduler(store, "a:EU", "b:EU") for _ in range(3)]
    for each in schedulers:
        assert [key for key, _ in each.due(0)] == ["a:EU", "b:EU"]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda each: each.defer(["a:EU"]), schedulers * 4))
    assert queued(store) == ["a:EU"]
    assert [key for key, _ in schedulers[0].due(0)] == ["b:EU"]


def test_a_source_is_queued_again_when_its_run_has_said_so(store: Store, clock: SimulatedClock) -> None:
    first, second = scheduler(store, "a:EU"), scheduler(store, "a:EU")
    assert first.due(0) == second.due(0) == [("a:EU", NOON)]
    first.defer(["a:EU"])
    run(store, "a:EU", timedelta(minutes=3))
    second.defer(["a:EU"])  # it saw the tick that has run meanwhile
    assert queued(store) == []
    assert first.due(0) == []
    clock.sleep(179)
    assert first.due(0) == [("a:EU", NOON + timedelta(minutes=3))]
    clock.sleep(1)
    second.defer(["a:EU"])
    assert queued(store) == ["a:EU"]


def test_the_queueing_lock_holds_even_when_a_mark_is_lost(store: Store, clock: SimulatedClock) -> None:
    schedule = scheduler(store, "a:EU")
    schedule.due(0)
    schedule.defer(["a:EU"])
    clock.sleep(ticks.LOST.total_seconds() + 1)
    assert [key for key, _ in schedule.due(0)] == ["a:EU"]
    schedule.defer(["a:EU"])
    assert queued(store) == ["a:EU"]
    assert schedule.due(0) == []


@pytest.mark.long
def test_one_that_waits_already_does_not_keep_the_others_from_being_queued(
    store: Store, clock: SimulatedClock
) -> None:
    schedule = scheduler(store, "a:EU", "b:EU", "c:EU")
    schedule.due(0)
    schedule.defer(["b:EU"])
    clock.sleep(ticks.LOST.total_seconds() + 1)
    schedule.defer(["a:EU", "b:EU", "c:EU"])
    assert sorted(queued(store)) == ["a:EU", "b:EU", "c:EU"]
    assert schedule.due(0) == []


@pytest.mark.long
def test_a_tick_whose_job_is_gone_is_queued_again(store: Store, clock: SimulatedClock) -> None:
    schedule = scheduler(store, "a:EU")
    schedule.due(0)
    schedule.defer(["a:EU"])
    drop_jobs(store)
    clock.sleep(ticks.LOST.total_seconds() + 1)
    schedule.defer(["a:EU"])
    assert queued(store) == ["a:EU"]


@pytest.mark.long
def test_sources_come_change_and_go_without_a_restart(store: Store, clock: SimulatedClock) -> None:
    schedule = scheduler(store, "a:EU", "b:EU")
    for key, _ in schedule.due(0):
        schedule.defer([key])
        run(store, key, timedelta(hours=1))
    assert schedule.due(1) == []
    reconfigured(schedule, {"a:EU": "rules of a:EU", "b:EU": "other rules", "c:EU": "rules of c:EU"})
    assert {key for key, _ in schedule.due(2)} == {"b:EU", "c:EU"}
    reconfigured(schedule, {"c:EU": "rules of c:EU"})
    assert [key for key, _ in schedule.due(3)] == ["c:EU"]
    clock.sleep(2 * ticks.FORGOTTEN.total_seconds())
    assert [key for key, _ in schedule.due(3 + PLAN_EVERY_SECONDS)] == ["c:EU"]
    with store.read() as tx:
        assert ticks.known(tx) == {"c:EU"}


def test_thousands_of_sources_that_start_together_are_spread_over_an_interval(database_url: str) -> None:
    many = [f"s{number:04}:EU" for number in range(5000)]
    times = sorted(spread(many, NOON, timedelta(seconds=180)).values())
    assert times[0] == NOON
    assert NOON + timedelta(seconds=179) < times[-1] < NOON + timedelta(seconds=180)
    few = spread(["b", "a"], NOON, timedelta(seconds=180))
    assert few == {"a": NOON, "b": NOON + timedelta(seconds=0.1)}


# --- the schema ----------------------------------------------------------------------------------------


def test_an_upgrade_may_be_repeated_and_leaves_our_tables_alone(store: Store) -> None:
    newest = job_queue.migrations()[-1]
    assert job_queue.upgrade(store.engine) == (newest, newest)
    assert job_queue.problems(store.engine) == []
    assert revisions.differences(store.engine) == []
    assert "procrastinate_jobs" not in sa.inspect(store.engine).get_table_names()


@pytest.mark.long
def test_two_upgrades_at_the_same_time_do_not_disturb_each_other(database_url: str) -> None:
    engine = create_engine(database_url)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(job_queue.upgrade, [engine] * 4))
    newest = job_queue.migrations()[-1]
    assert sorted(done, key=str) == [(newest, newest)] * 3 + [(None, newest)]
    engine.dispose()


def test_an_older_queue_is_brought_up_to_date_and_a_newer_one_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = job_queue.migrations()
    monkeypatch.setattr(job_queue, "migrations", lambda: [*known, "99.00.00_01_pre_more"])
    (problem,) = job_queue.problems(store.engine)
    needs = "procrastinate needs 99.00.00_01_pre_more: run `order-sync db upgrade`"
    assert problem == f"the job queue is at {known[-1]}, {needs}"
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {job_queue.SCHEMA} IS 'procrastinate 99.99'")
    (problem,) = job_queue.problems(store.engine)
    assert problem == "the job queue is at 99.99, which the installed procrastinate does not know"


def test_what_only_old_processes_need_is_taken_away_by_the_next_upgrade(database_url: str) -> None:
    names = ["1_01_pre", "1_50_post", "2_01_pre_a", "2_02_pre_b", "2_50_post_a", "2_51_post_b"]
    assert job_queue.steps(names, "1_01_pre") == names[1:4]
    assert job_queue.steps(names, "2_02_pre_b") == names[4:]
    assert job_queue.steps(names, "2_51_post_b") == []


def test_the_queues_schema_is_what_its_own_migrations_make(database_url: str) -> None:
    """Marking a new queue with the newest migration must be true."""
    engine = create_engine(database_url)

    def made() -> list[tuple[Any, ...]]:
        query = (
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            f"WHERE table_schema = '{job_queue.SCHEMA}' UNION ALL "
            "SELECT 'function', routine_name, '', '' FROM information_schema.routines "
            f"WHERE routine_schema = '{job_queue.SCHEMA}' UNION ALL "
            f"SELECT 'index', indexname, '', '' FROM pg_indexes WHERE schemaname = '{job_queue.SCHEMA}'"
        )
        with engine.connect() as connection:
            return sorted(tuple(row) for row in connection.exec_driver_sql(query))

    job_queue.upgrade(engine)
    by_schema = made()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {job_queue.SCHEMA} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {job_queue.SCHEMA}")
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {job_queue.SCHEMA} IS 'procrastinate 0'")
    assert job_queue.upgrade(engine) == ("0", "03.04.00_01_pre_add_retry_failed_job_procedure")
    assert job_queue.upgrade(engine)[1] == job_queue.migrations()[-1]
    assert made() == by_schema
    engine.dispose()


def test_times_are_the_databases_own_when_nothing_replaces_its_clock(database_url: str) -> None:
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    store = Store(engine, Sealer([KEY]))
    schedule = scheduler(store, "a:EU")
    ((_, due_at),) = schedule.due(0)
    assert abs(datetime.now(UTC) - due_at) < timedelta(minutes=1)
    store.close()
