"""All sources are read at once: with the same result as one by one, and with no more statements for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.amazon.usage_plans import PLANS
from poller.bootstrap import Service
from poller.ingest.budget import stored_bucket
from poller.matching.buyer_visibility import Seen
from poller.monitoring.gather import _newest, gather
from poller.monitoring.snapshot import SHOWN_BUDGETS, buyers_shown, known_of
from poller.sync.decide import LONGEST_OVERLAP
from store import ledger, runs, tables, verifications
from store.budgets import BudgetKey, take
from store.engine import Store, Transaction
from store.progress import Interval, MarketplaceProgress, SourceProgress, Window
from store.queries import UNCOUNTED
from store.verification_records import Finding, FindingKind, Verification, VerificationState, unsettled
from tests.harness import NOON
from tests.integration.service_world import MARKETPLACE, opened_service
from tests.integration.store_world import clock_of, fresh_store

UK = "A1F83G8C2ARO7P"


@contextmanager
def many_accounts(database_url: str, folder: Path, many: int) -> Iterator[Service]:
    """Add accounts beside ``acme``, each with a marketplace that was polled for some days."""
    with opened_service(database_url, folder) as service:
        (folder / "accounts").mkdir()
        for number in range(many):
            name = f"shop{number:02}"
            keys = {"lwa_client_id": "client", "lwa_client_secret": "secret", "refresh_token": name}
            text = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
            (folder / f"accounts/{name}.toml").write_text(text)
            marketplace = MARKETPLACE.format(code="UK").replace('"acme"', f'"{name}"')
            (folder / f"marketplaces/{name}.toml").write_text(marketplace)
        service.reload(only_if_changed=False)
        assert service.problems == ()
        assert len(service.sources) == many + 1
        with service.store.begin() as tx:
            for key, (_, source) in service.sources.items():
                if source.account != "acme":
                    lived(tx, key, source.account, source.application)
        yield service


def lived(tx: Transaction, key: str, account: str, application: str) -> None:
    """Store what a source leaves behind that was polled for some days."""
    start = tx.now - timedelta(days=5)
    ledger.save_source(tx, SourceProgress(key, account, polled_at=tx.now), new=True)
    reached = MarketplaceProgress(
        account, UK, key, start, tx.now - timedelta(minutes=2), start, tx.now, enrolled=True
    )
    ledger.save_marketplace(tx, reached, new=True)
    for look in ("first", "second"):
        ledger.cover(tx, account, [UK], look, Interval(start, tx.now - timedelta(minutes=20)))
    ledger.cover(tx, account, [UK], "created", Interval(start - timedelta(days=9), start))
    for state in ("done", "set_aside"):
        stretch = (tx.now - timedelta(minutes=20) - LONGEST_OVERLAP, tx.now - timedelta(minutes=2))
        window = Window(key, account, "live", "updated", (UK,), (), *stretch, state=state)
        ledger.open_windows(tx, [window])
    for operation in SHOWN_BUDGETS:
        plan = PLANS[operation]
        take(tx, BudgetKey(application, account, operation), plan.rate, plan.burst)
    for _ in range(2):
        run = runs.start(tx, key)
        runs.add_page(tx, key, run, 10, (9, 8, 7))
        runs.finish(tx, run, "complete", 1, None)
    if account.endswith("1"):
        runs.refuse(tx, "account", account, "before", "invalid_grant")


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Collect the statements that a database receives."""
    asked: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: Any) -> None:
        asked.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(store.engine, "before_cursor_execute", note)


@pytest.mark.long
def test_more_sources_cost_no_more_statements(database_url: str, tmp_path: Path) -> None:
    counted: dict[int, list[int]] = {}
    for many in (3, 30):
        folder = tmp_path / str(many)
        folder.mkdir()
        with many_accounts(database_url, folder, many) as service:
            for _ in range(2):  # at first more is asked: what was used and shown so far
                with statements(service.store) as asked:
                    gather(service.store, service.setup, lambda _: UNCOUNTED)
                counted.setdefault(many, []).append(len(asked))
            tables.metadata.drop_all(service.store.engine)
    assert counted[3] == counted[30]
    assert counted[30][1] <= 20


def test_sqlite_reads_no_history_from_end_to_end(tmp_path: Path) -> None:
    plans: dict[str, list[str]] = {}

    def explain(conn: sa.Connection, _cursor: object, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            driver: Any = conn.connection.driver_connection
            steps = driver.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            plans[statement] = [step[3] for step in steps]

    with many_accounts(f"sqlite:///{tmp_path}/shop.db", tmp_path, 3) as service:
        gather(service.store, service.setup, lambda _: UNCOUNTED)
        sa.event.listen(service.store.engine, "before_cursor_execute", explain)
        gather(service.store, service.setup, lambda _: UNCOUNTED)
    for table in ("runs", "windows"):
        steps = [step for statement, plan in plans.items() if f" {table}" in statement for step in plan]
        assert any(step.startswith(f"SEARCH {table} ") for step in steps)
        assert not any(step.startswith(f"SCAN {table}") for step in steps)


@pytest.mark.long
def test_all_at_once_is_what_each_says_by_itself(database_url: str, tmp_path: Path) -> None:
    with many_accounts(database_url, tmp_path, 12) as service, service.store.read() as tx:
        known = known_of(tx, service.setup)
        for key, (_, source) in service.sources.items():
            account = source.account
            assert known.sources.get(key) == ledger.load_source(tx, key)
            assert known.marketplaces.get(account, {}) == ledger.load_marketplaces(tx, account)
            assert tuple(known.pending.get(key, ())) == ledger.pending_windows(tx, account, key)
            for look in ("first", "created"):
                covered = known.coverage.get((account, UK, look), [])
                assert covered == ledger.read_coverage(tx, account, UK, look)
            for operation in (*SHOWN_BUDGETS, "createReport"):
                mine = (source.application, account, operation)
                assert known.bucket(tx, source, operation) == stored_bucket(tx, *mine, PLANS)
            credentials = (source.credential, source.secret)
            assert known.refusal(source) == runs.standing_refusal(tx, account, *credentials)
            assert known.runs.get(key) == runs.latest(tx, key)
        assert [key for key in service.sources if key not in known.runs] == ["acme:EU"]
        assert all(run.orders == 10 for run in known.runs.values())


# --- runs -------------------------------------------------------------------------------------------


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with fresh_store(database_url) as opened:
        yield opened


def test_a_run_from_a_time_to_come_is_not_the_newest(store: Store) -> None:
    with store.begin() as tx:
        right = runs.start(tx, "a:EU")
    clock_of(store).sleep(timedelta(days=365).total_seconds())
    with store.begin() as tx:
        ahead = [runs.start(tx, "a:EU"), runs.start(tx, "b:EU")]
    clock_of(store).sleep(-timedelta(days=365).total_seconds())
    with store.read() as tx:
        found = runs.latest_of_each(tx, ["a:EU", "b:EU", "c:EU"])
    assert {source: run.run for source, run in found.items()} == {"a:EU": right, "b:EU": ahead[1]}


def stored_in_vain(source: str, run: int, shown: tuple[int, int, int], tx: Transaction) -> None:
    runs.add_page(tx, source, run, 10, shown)
    raise KeyboardInterrupt


@pytest.mark.long
def test_what_was_shown_is_counted_once_whatever_crashes_or_is_condensed(store: Store) -> None:
    dice = Random(5)
    clock = clock_of(store)
    sources = ("a:EU", "b:EU", "c:EU")
    expected: dict[str, Counter[tuple[date, int]]] = {source: Counter() for source in sources}
    reads = crashes = 0
    for _ in range(260):
        clock.sleep(dice.choice((60, 1800, 7200, 20_000)))
        source = dice.choice(sources)
        with store.begin() as tx:
            number = runs.start(tx, source)
        for _ in range(dice.randint(0, 4)):
            identifiable = dice.choice((0, 0, 4, 9))
            shown = (identifiable, dice.randint(0, identifiable), dice.randint(0, identifiable))
            day = clock().date()
            if dice.random() < 0.3:
                crashes += 1
                with pytest.raises(KeyboardInterrupt):
                    store.commit(partial(stored_in_vain, source, number, shown))
            with store.begin() as tx:
                runs.add_page(tx, source, number, 10, shown)
            expected[source].update({(day, place): seen for place, seen in enumerate(shown)})
        with store.begin() as tx:
            if dice.random() < 0.5:  # else its process died
                runs.finish(tx, number, "complete", 1, None)
            runs.condense(tx, dice.choice(sources))
        if dice.random() < 0.5:
            reads += 1
            with store.read() as tx:
                found = buyers_shown(tx, sources)
                first = tx.now.date() - timedelta(days=15)
            assert found == {
                source: days
                for source, counts in expected.items()
                if (
                    days := {
                        day: Seen(seen, counts[day, 1], counts[day, 2])
                        for (day, place), seen in counts.items()
                        if place == 0 and seen and day >= first
                    }
                )
            }
    assert reads > 100
    assert crashes > 100
    assert clock() > NOON + timedelta(days=18)


def test_a_clock_that_was_wrong_for_a_while_changes_no_other_day(store: Store) -> None:
    def add_page() -> None:
        with store.begin() as tx:
            runs.add_page(tx, "a:EU", runs.start(tx, "a:EU"), 9, (9, 9, 9))

    add_page()
    clock_of(store).sleep(timedelta(days=365).total_seconds())
    add_page()
    with store.read() as tx:
        assert buyers_shown(tx, ["a:EU"]) == {"a:EU": {tx.now.date(): Seen(9, 9, 9)}}
    clock_of(store).sleep(-timedelta(days=365).total_seconds())
    add_page()
    with store.read() as tx:
        assert buyers_shown(tx, ["a:EU"]) == {"a:EU": {NOON.date(): Seen(18, 18, 18)}}
        assert buyers_shown(tx, ["b:EU"]) == {}


# --- proofs -----------------------------------------------------------------------------------------


KINDS: tuple[tuple[FindingKind, ...], ...] = ((), (), ("missing",), ("older", "unknown"), ("quarantined",))
STATES: tuple[VerificationState, ...] = ("done", "done", "failed", "reading", "repairing")


def some_verifications(tx: Transaction, dice: Random) -> None:
    """Store verifications of a few marketplaces, of all kinds and results."""
    for account, place in (("acme", "A"), ("acme", "B"), ("beta", "A"), ("beta", "B"), ("gone", "A")):
        for _ in range(dice.randint(0, 5)):
            lower = NOON - timedelta(days=dice.randint(10, 60))
            upper = lower + timedelta(days=dice.randint(1, 30))
            by, reason = dice.choice(("report", "search")), dice.choice(("asked", "requested", "scheduled"))
            reached = lower + (upper - lower) * dice.choice((0.3, 1.0, 1.0))
            proof = Verification(account, place, lower, upper, upper, by, reason, True, reached)  # type: ignore[arg-type]
            kinds = dice.choice(KINDS)
            findings = tuple(
                Finding(
                    f"o{dice.randint(1, 4)}", kind, None, None, dice.choice((None, "stored", "not_found"))
                )
                for kind in kinds
            )
            begun = replace(verifications.begin(tx, proof), state=dice.choice(STATES), findings=findings)
            verifications.save(tx, begun)


@pytest.mark.parametrize("seed", range(6))
def test_verifications_that_are_left_out_change_nothing(store: Store, seed: int) -> None:
    with store.begin() as tx:
        some_verifications(tx, Random(seed))
    with store.read() as tx:
        telling = verifications.for_status(tx, ["acme", "beta"])
        read = 0
        for account in ("acme", "beta"):
            every = verifications.of_account(tx, account)
            for place in ("A", "B"):
                mine = [proof for proof in every if proof.marketplace_id == place]
                few = telling.get((account, place), [])
                assert set(few) <= set(mine)
                assert unsettled(few) == unsettled(mine)
                assert _newest(few) == _newest(mine)
                newest = [
                    next((p for p in proofs if p.reason == "scheduled"), None) for proofs in (few, mine)
                ]
                assert newest[0] == newest[1]
                unfinished = [[p for p in proofs if not p.is_over] for proofs in (few, mine)]
                assert unfinished[0] == unfinished[1]
                read += len(few)
        assert ("gone", "A") not in telling
        assert read > 0


def test_of_verifications_that_are_well_and_done_the_newest_is_read(store: Store) -> None:
    with store.begin() as tx:
        for account in ("acme", "beta"):
            for ago in range(12, 0, -1):
                upper = tx.now - timedelta(weeks=ago)
                lower = upper - timedelta(days=30)
                proof = Verification(account, UK, lower, upper, upper, "report", "scheduled", True, upper)
                verifications.save(tx, replace(verifications.begin(tx, proof), state="done"))
        telling = verifications.for_status(tx, ["acme", "beta"])
        assert {place: len(proofs) for place, proofs in telling.items()} == {("acme", UK): 1, ("beta", UK): 1}
