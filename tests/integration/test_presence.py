"""What processes say of themselves: who is gone, who lacks a key, whose clock is wrong."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from poller.bootstrap import Service
from poller.monitoring.gather import gather
from poller.monitoring.status import Item
from poller.privacy.key_rotation import Rotation, about_keys, without_first_key
from poller.service.presence import Presence
from store import processes
from store.engine import Store, create_engine
from store.processes import ALIVE_FOR, REMEMBERED_FOR, Kind
from store.sealing import Sealer
from tests.integration.service_world import opened_service
from tests.integration.store_world import KEY, clock_of
from tests.integration.test_rotation import fill

NEW = bytes([9]) * 32


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with opened_service(database_url, tmp_path) as opened:
        yield opened


@contextmanager
def another(service: Service, *keys: bytes) -> Iterator[Service]:
    """A process of its own on the same database, with these keys and the same clock."""
    given = ",".join(base64.b64encode(key).decode() for key in keys or (KEY,))
    with Service({**service.environ, "ORDER_SYNC_ENCRYPTION_KEY": given}) as other:
        engine = create_engine(service.environ["ORDER_SYNC_DATABASE_URL"])
        other._store = Store(engine, Sealer(keys or (KEY,)), clock=clock_of(service.store))
        other.wire()
        yield other


def show(service: Service, kind: Kind = "service") -> Presence:
    presence = Presence(service, kind)
    presence.show()
    return presence


def said(reader: Service) -> list[Item]:
    health = gather(reader.store, reader.setup).health
    return [item for item in health if item.why in ("process", "keys", "clock")]


def test_a_process_that_is_not_seen_any_more_is_not_well(service: Service) -> None:
    clock = clock_of(service.store)
    with another(service) as reader:
        show(service)
        clock.sleep(ALIVE_FOR.total_seconds() - 1)
        assert said(reader) == said(service) == []
        clock.sleep(1)
        (gone,) = said(reader)
        assert (gone.urgency, gone.subject) == ("unready", "service")
        assert f"the service {service.owner.rpartition(':')[0]} has not been seen since" in gone.sentence
        (mute,) = said(service)
        assert "has not been able to write to the database since" in mute.sentence
        show(service)
        assert said(reader) == said(service) == []


def test_another_process_of_its_kind_takes_the_place_of_one_that_is_gone(service: Service) -> None:
    with another(service) as second, another(service) as worker, another(service) as reader:
        show(service)
        clock_of(service.store).sleep(ALIVE_FOR.total_seconds())
        show(worker, "worker")
        assert [item.subject for item in said(reader)] == ["service"]
        show(second)
        assert said(reader) == []


def test_a_process_that_ended_or_is_gone_for_a_day_is_forgotten(service: Service) -> None:
    with another(service) as second, another(service) as reader:
        show(service)
        with service.store.begin() as tx:
            processes.remove(tx, service.owner)
        clock_of(service.store).sleep(ALIVE_FOR.total_seconds())
        assert said(reader) == []
        show(service)
        clock_of(service.store).sleep(REMEMBERED_FOR.total_seconds())
        assert said(reader) == []
        show(second)
        with second.store.read() as tx:
            assert [process.owner for process in processes.load(tx)] == [second.owner]


def test_a_process_without_a_key_that_another_seals_with_is_not_well(service: Service) -> None:
    with another(service, NEW, KEY) as rotating, another(service, KEY, NEW) as ready:
        for each in (service, ready):
            show(each)
        assert said(ready) == []
        assert without_first_key(rotating.store) == [service.owner.rpartition(":")[0]]
        show(rotating)
        (item,) = said(ready)
        assert (item.why, item.urgency, item.subject) == ("keys", "unready", service.owner)
        assert "give all processes the same keys in ORDER_SYNC_ENCRYPTION_KEY" in item.sentence


def test_a_key_may_go_when_no_process_seals_with_it(service: Service) -> None:
    fill(service.store)
    with another(service, NEW, KEY) as rotating, another(service, KEY, NEW) as still:
        show(still)
        assert without_first_key(rotating.store) == []
        assert Rotation(rotating.store).run() == 0
        (sentence,) = about_keys(rotating.store)
        assert f"the process {still.owner.rpartition(':')[0]} still seals with key 2" in sentence
        clock_of(service.store).sleep(ALIVE_FOR.total_seconds())
        (sentence,) = about_keys(rotating.store)
        assert "nothing needs key 2" in sentence


def test_a_process_that_a_rotation_has_locked_out_does_not_go_on(service: Service) -> None:
    fill(service.store)
    presence = show(service)
    assert presence.unusable is None
    with another(service, NEW, KEY) as rotating:
        assert Rotation(rotating.store).run() == 0
    clock_of(service.store).sleep(60)
    presence.show()
    assert "add that key to ORDER_SYNC_ENCRYPTION_KEY" in str(presence.unusable)
    with service.store.read() as tx:
        (process,) = processes.load(tx)
        assert process.seen_at == tx.now - timedelta(seconds=60)


@pytest.mark.parametrize(("hours", "word"), [(-5, "behind"), (5, "ahead of")])
def test_a_clock_that_differs_from_amazons_is_not_well(service: Service, hours: float, word: str) -> None:
    def show_with(ahead: timedelta) -> None:
        amazon = SimpleNamespace(newest_answer=lambda: (1.0, -ahead))
        account = replace(service.accounts["acme"], connector=amazon)
        service.setup = replace(service.setup, accounts={"acme": account})
        show(service)

    show_with(timedelta(minutes=hours / 5 * 1.9))
    assert said(service) == []
    show_with(timedelta(hours=hours))
    (item,) = said(service)
    assert (item.why, item.urgency, item.subject) == ("clock", "unready", service.owner)
    assert f"5 h {word} Amazon's: set it right" in item.sentence
