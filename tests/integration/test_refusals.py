"""What strangers may write into the audit log is bounded, and counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from config.logging import configure_logging
from poller.web.refusals import LINES_A_MINUTE, MOST_A_MINUTE, Refusals
from store import audit
from store.audit import Filter
from store.audit_records import Action, Actor, AuditEntry
from store.engine import Store
from tests.databases import long_on
from tests.harness import NOON, SimulatedClock

DOCS = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture
def refusals(clock: SimulatedClock) -> Refusals:
    return Refusals(clock)


def refused(client: str, who: str = "anonymous", action: Action = "token_refused") -> AuditEntry:
    return AuditEntry(Actor(who, client, "http"), action, "refused")


def stored(store: Store) -> list[tuple[str, str, int]]:
    with store.read() as tx:
        entries = audit.after(tx, 0, 10_000, Filter())
    return [(entry.actor.who, entry.actor.client, entry.times) for entry in entries]


@long_on("postgresql")
def test_the_first_of_a_minute_is_an_entry_and_the_others_are_one_more(
    store: Store, refusals: Refusals, clock: SimulatedClock
) -> None:
    for _ in range(50):
        refusals.note(store, refused("192.0.2.1"))
    refusals.note(store, refused("192.0.2.1", "user:ann", "sign_in_refused"))
    assert stored(store) == [("anonymous", "192.0.2.1", 1), ("user:ann", "192.0.2.1", 1)]
    assert not refusals.is_due
    clock.sleep(60)
    assert refusals.is_due
    refusals.flush(store)
    assert stored(store)[2:] == [("anonymous", "192.0.2.1", 49)]
    assert not refusals.is_due
    for _ in range(3):
        refusals.note(store, refused("192.0.2.1"))
    assert stored(store)[3:] == [("anonymous", "192.0.2.1", 1)]
    refusals.close(store)
    assert stored(store)[4:] == [("anonymous", "192.0.2.1", 2)], "what was counted is stored at the end"
    refusals.close(store)
    assert len(stored(store)) == 5


@long_on("postgresql")
def test_however_many_addresses_there_are_a_minute_has_few_entries(
    store: Store, refusals: Refusals, clock: SimulatedClock
) -> None:
    for number in range(1000):
        refusals.note(store, refused(f"198.51.{number // 250}.{number % 250}"))
        refusals.note(store, refused(f"2001:db8::{number:x}", f"user:name-{number}"))
    assert len(stored(store)) == MOST_A_MINUTE + 1
    clock.sleep(60)
    refusals.flush(store)
    assert sum(times for _, _, times in stored(store)) == 2000
    assert len(stored(store)) <= 2 * MOST_A_MINUTE + 1


@long_on("postgresql")
def test_each_name_that_is_typed_takes_the_same_time_and_unknown_ones_are_not_stored(
    store: Store, refusals: Refusals
) -> None:
    for name in ("ann", "ann", "my-password", "my-password"):
        who = "user:ann" if name == "ann" else "anonymous"
        refusals.note(store, refused("2001:db8:1:2::9", who, "sign_in_refused"), name)
    refusals.note(store, refused("2001:db8:1:2:3::8", "anonymous", "sign_in_refused"), "other")
    assert stored(store) == [(who, "2001:db8:1:2::/64", 1) for who in ("user:ann", "anonymous", "anonymous")]


@long_on("postgresql")
def test_a_line_is_read_by_the_filter_of_the_page(
    store: Store, refusals: Refusals, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json", "error")
    for _ in range(LINES_A_MINUTE + 5):
        refusals.note(store, refused("203.0.113.7"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == LINES_A_MINUTE
    (pattern,) = re.findall(r"^failregex = (.+)$", DOCS.read_text(), flags=re.M)
    match = re.search(pattern.replace("<HOST>", r"(?P<host>\S+?)"), lines[0])
    assert match is not None
    assert match["host"] == "203.0.113.7"
    (example,) = re.findall(r"^\{.*\}$", DOCS.read_text(), flags=re.M)
    assert list(json.loads(lines[0])) == [k for k in json.loads(example) if k not in ("what", "ids", "count")]
