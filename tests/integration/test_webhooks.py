"""Events delivered to a receiver on a real socket: none lost, none before an older one of its record."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from poller.webhooks import delivery, transport
from poller.webhooks.delivery import Deliverer
from poller.webhooks.rules import EVENT_ATTEMPTS, new_secret
from store import changes, tables, webhooks
from store.change_records import START, Hook
from store.changes import changes_after
from store.engine import Store
from store.ledger import Superseded
from tests.harness import SimulatedClock
from tests.integration.receiver import HANG, Receiver, Request, receiving
from tests.integration.store_world import apply, clock_of, count, fresh_store, open_store, row
from tests.integration.test_store_engine import together
from tests.unit.matching_world import an_order

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    """Open a store for what happens on the wire, whatever the database."""
    with fresh_store(f"sqlite:///{tmp_path / 'order-sync.db'}") as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names that lead to these addresses, one after the other at each look-up; then to the last."""
    found: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host not in found:
            return resolve(host, port, *rest, **named)
        address = found[host].pop(0) if len(found[host]) > 1 else found[host][0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


def answer_of(url: str, *private_hosts: str) -> str:
    """What comes of a request to a URL: a status, or why there is none."""
    with transport.new_client(url, private_hosts) as client:
        try:
            return str(client.post(url).status_code)
        except Exception as error:
            return str(error)


def test_a_name_that_leads_into_a_private_network_is_not_connected_to_unless_it_is_permitted(
    receiver: Receiver, names: dict[str, list[str]]
) -> None:
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    names["erp.example"] = ["127.0.0.1"]
    url = f"https://erp.example:{port}/"
    refused = "its name leads into a private network and is not in ORDER_SYNC_PRIVATE_WEBHOOK_HOSTS"
    assert answer_of(url) == refused
    assert answer_of(url, "other.example") == refused
    for permitted in (answer_of(url, "erp.example"), answer_of(f"https://127.0.0.1:{port}/")):
        assert "SSL" in permitted  # it was connected to, and speaks no TLS


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"]
)
def test_no_name_may_lead_to_metadata(address: str, names: dict[str, list[str]]) -> None:
    names["erp.example"] = [address]
    refused = "its name leads to a link-local, multicast, unspecified or metadata address"
    assert answer_of("https://erp.example/", "erp.example") == refused


def test_a_name_is_judged_again_with_every_connection(
    receiver: Receiver, names: dict[str, list[str]]
) -> None:
    names["localhost"] = ["127.0.0.1", "192.0.2.1"]
    url = receiver.url.replace("127.0.0.1", "localhost")
    assert answer_of(url) == "204"
    assert answer_of(url) == "its name does not lead to this machine"
    assert len(receiver.seen) == 1


def test_a_receiver_whose_address_is_refused_is_named_in_the_error(
    sqlite: Store, names: dict[str, list[str]]
) -> None:
    apply(sqlite, an_order("o1", "1@example.com"))
    names["erp.example"] = ["10.0.0.5"]
    with sqlite.begin() as tx:
        hook = webhooks.add(tx, "https://erp.example/?token=s3cr3t", new_secret(), START)
    with deliverer(sqlite) as at_work:
        at_work.deliver_all()
    with sqlite.read() as tx:
        (found,) = webhooks.load(tx, hook.hook_id)
    assert found.last_error is not None
    assert found.last_error.startswith("no answer: its name leads into a private network")


@contextmanager
def deliverer(store: Store, owner: str = "one") -> Iterator[Deliverer]:
    with closing(Deliverer(store, owner, clock_of(store))) as at_work:
        yield at_work


def hook_to(store: Store, receiver: Receiver) -> Hook:
    with store.begin() as tx:
        return webhooks.add(tx, receiver.url, new_secret())


def status(store: Store, hook: Hook) -> Hook:
    with store.read() as tx:
        (found,) = webhooks.load(tx, hook.hook_id)
    return found


def orders(store: Store, many: int, *, updated: int = 0, state: str = "UNSHIPPED") -> None:
    """Store a page of orders of one customer: once it is known, only orders have events."""
    apply(store, *(an_order(f"o{i}", "a@example.com", updated=updated, status=state) for i in range(many)))


def go_on(store: Store, at_work: Deliverer, lasting: timedelta) -> None:
    """Deliver as the service does, on simulated time; time without a due webhook passes faster."""
    end = clock_of(store)() + lasting
    while clock_of(store)() < end:
        clock_of(store).sleep(2 if at_work.deliver() else 20)


def all_events(store: Store) -> list[tuple[str, int]]:
    with store.read() as tx:
        found = changes_after(tx, START, 1000).events
    return [(str(c.order_id or f"customer {c.customer_id}"), c.version) for c in found]


def assert_complete(store: Store, receiver: Receiver) -> None:
    """Check that every event arrived, each record's in order, repetitions left out."""
    wanted: dict[str, list[int]] = {}
    for about, version in all_events(store):
        wanted.setdefault(about, []).append(version)
    assert {about: receiver.versions(about) for about in wanted} == wanted


@pytest.mark.long
def test_events_arrive_signed_and_in_order(store: Store, receiver: Receiver) -> None:
    hook = hook_to(store, receiver)
    orders(store, 3)
    orders(store, 3, updated=10, state="SHIPPED")
    with deliverer(store) as at_work:
        assert [at_work.deliver() for _ in range(3)] == [1, 1, 0]
    assert_complete(store, receiver)
    assert len(receiver.taken) == 7
    assert all(request.is_signed_with(hook.secret) for request in receiver.taken)
    assert {request.headers["content-type"] for request in receiver.taken} == {"application/json"}
    assert len({request.headers["webhook-id"] for request in receiver.taken}) == 7
    stamps = {int(request.headers["webhook-timestamp"]) for request in receiver.taken}
    assert stamps == {int(clock_of(store)().timestamp())}
    assert b"example.com" not in b"".join(request.body for request in receiver.taken)


def test_a_new_webhook_gets_what_changes_from_then_on(store: Store, receiver: Receiver) -> None:
    orders(store, 2)
    hook_to(store, receiver)
    with deliverer(store) as at_work:
        assert at_work.deliver() == 0
        orders(store, 2, updated=10, state="SHIPPED")
        at_work.deliver()
    assert [request.event["type"] for request in receiver.taken] == ["order.changed"] * 2


def test_the_address_and_the_secret_are_sealed(store: Store, receiver: Receiver) -> None:
    hook = hook_to(store, receiver)
    stored = row(store, tables.webhooks)
    assert hook.secret.encode() not in stored["secret"]
    assert receiver.url.encode() not in stored["url"]
    assert status(store, hook).secret == hook.secret
    assert receiver.url not in repr(hook)
    assert hook.secret not in repr(hook)


@pytest.mark.long
def test_a_receiver_that_fails_now_and_then_gets_everything_in_order(
    sqlite: Store, receiver: Receiver
) -> None:
    rng = random.Random(5)
    receiver.answer = lambda request: rng.choice((204, 204, 204, 301, 404, 429, 500, 503))
    hook_to(sqlite, receiver)
    with deliverer(sqlite) as at_work:
        for minutes in range(3):
            orders(sqlite, 4, updated=minutes * 10, state=("UNSHIPPED", "SHIPPED")[minutes % 2])
            go_on(sqlite, at_work, timedelta(seconds=20))
        go_on(sqlite, at_work, timedelta(minutes=30))
    assert_complete(sqlite, receiver)
    assert count(sqlite, tables.webhook_events) == 0
    assert not [request for request in receiver.seen if request.headers.get("host") == "elsewhere"]


@pytest.mark.long
def test_a_receiver_that_is_away_for_an_hour_loses_nothing(store: Store, receiver: Receiver) -> None:
    away = True
    receiver.answer = lambda request: 503 if away else 204
    hook = hook_to(store, receiver)
    with deliverer(store) as at_work:
        for minutes in range(6):
            orders(store, 4, updated=minutes * 10, state=("UNSHIPPED", "SHIPPED")[minutes % 2])
            go_on(store, at_work, timedelta(minutes=10))
        assert receiver.taken == []
        assert len(receiver.seen) < 30  # it is not battered meanwhile
        assert status(store, hook).failing_since is not None
        away = False
        go_on(store, at_work, timedelta(minutes=10))
    assert_complete(store, receiver)
    assert count(store, tables.webhook_events) == 0
    assert status(store, hook).failing_since is None


def test_an_address_without_a_receiver_is_a_failure_like_any_other(sqlite: Store) -> None:
    with receiving() as gone:
        pass
    hook = hook_to(sqlite, gone)
    orders(sqlite, 1)
    with deliverer(sqlite) as at_work:
        at_work.deliver()
    assert status(sqlite, hook).last_error == "no answer (ConnectError)"
    with receiving() as back:
        with sqlite.begin() as tx:
            fresh = tx.sealer.seal(back.url.encode(), webhooks.place(hook.hook_id, "url"))
            tx.conn.execute(sa.update(tables.webhooks).values(url=fresh))
        with deliverer(sqlite) as at_work:
            go_on(sqlite, at_work, timedelta(minutes=1))
        assert_complete(sqlite, back)


def test_a_receiver_that_hangs_blocks_no_other_and_loses_nothing(
    sqlite: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REQUEST_TIMEOUT", httpx.Timeout(0.2))
    hanging = True
    receiver.answer = lambda request: HANG if hanging else 204
    hook = hook_to(sqlite, receiver)
    with receiving() as other:
        hook_to(sqlite, other)
        orders(sqlite, 6)
        with deliverer(sqlite) as at_work:
            at_work.deliver()
            assert len(other.taken) == 7
            assert status(sqlite, hook).last_error == "no answer (ReadTimeout)"
            hanging = False
            go_on(sqlite, at_work, timedelta(minutes=2))
    assert_complete(sqlite, receiver)


def test_an_answer_that_drips_for_ever_is_not_waited_for(
    sqlite: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SENDING_SECONDS", 0.1)
    monkeypatch.setattr(delivery, "ANSWER_SECONDS", 0.1)
    receiver.answer = lambda request: HANG
    hook = hook_to(sqlite, receiver)
    orders(sqlite, 1)
    with deliverer(sqlite) as at_work:
        at_work.deliver()
        assert status(sqlite, hook).last_error == "no answer in time"
        assert at_work._clients == {}, "its connections are closed, so that what hangs there comes to its end"
        receiver.answer = lambda request: 204
        go_on(sqlite, at_work, timedelta(minutes=1))
    assert len(receiver.taken) == 2


def test_redirects_are_not_followed(sqlite: Store, receiver: Receiver) -> None:
    receiver.answer = lambda request: 302
    hook = hook_to(sqlite, receiver)
    orders(sqlite, 1)
    with deliverer(sqlite) as at_work:
        at_work.deliver()
    assert len(receiver.seen) == len({r.headers["webhook-id"] for r in receiver.seen})
    assert status(sqlite, hook).last_error == "status 302, and redirects are not followed"


# --- given up ---------------------------------------------------------------------------------------


def refuses(about: str, receiver: Receiver) -> None:
    receiver.answer = lambda request: 400 if request.about == about else 204


@pytest.mark.long
def test_an_event_that_is_refused_holds_up_its_record_alone_and_is_given_up(
    store: Store, receiver: Receiver
) -> None:
    refuses("o1", receiver)
    hook = hook_to(store, receiver)
    orders(store, 3)
    with deliverer(store) as at_work:
        go_on(store, at_work, timedelta(seconds=10))
        orders(store, 3, updated=10, state="SHIPPED")
        at_work.deliver()
        assert len(receiver.versions("o0")) == len(receiver.versions("o2")) == 2
        assert receiver.versions("o1") == []
        with store.read() as tx:
            assert webhooks.backlog(tx, status(store, hook)).waiting == 2
        at_work.deliver_all()
        assert at_work.deliver() == 0  # what waits behind it is not due either
        for attempt in range(2 * EVENT_ATTEMPTS):
            clock_of(store).sleep(timedelta(hours=4).total_seconds())
            orders(store, 1, updated=20 + attempt, state=("UNSHIPPED", "SHIPPED")[attempt % 2])  # it is alive
            at_work.deliver()
            at_work.deliver()
        with store.read() as tx:
            dead = webhooks.dead(tx, hook.hook_id)
        assert [c.order_id for _, c in dead if c] == ["o1", "o1"]
        assert dead[0][0].last_error == "status 400"
        receiver.answer = lambda request: 204
        with store.begin() as tx:
            assert webhooks.revive(tx, hook.hook_id) == 2
        go_on(store, at_work, timedelta(seconds=10))
    assert_complete(store, receiver)
    assert count(store, tables.webhook_events) == 0


def test_a_replay_repeats_all_after_a_position(store: Store, receiver: Receiver) -> None:
    hook = hook_to(store, receiver)
    orders(store, 2)
    with deliverer(store) as at_work:
        at_work.deliver()
        position = status(store, hook).position
        orders(store, 2, updated=10, state="SHIPPED")
        at_work.deliver()
        receiver.taken.clear()
        with store.begin() as tx:
            assert webhooks.replay(tx, hook.hook_id, position)
            assert not webhooks.replay(tx, hook.hook_id + 1, position)
        at_work.deliver()
        assert [r.event["type"] for r in receiver.taken] == ["order.changed"] * 2
        receiver.taken.clear()
        with store.begin() as tx:
            webhooks.replay(tx, hook.hook_id, START)
        at_work.deliver_all()
    assert_complete(store, receiver)


@pytest.mark.long
def test_a_replay_forgets_what_waited_after_its_position_because_it_is_reread(
    store: Store, receiver: Receiver
) -> None:
    refuses("o1", receiver)
    hook = hook_to(store, receiver)
    orders(store, 2)
    with deliverer(store) as at_work:
        at_work.deliver()
        assert count(store, tables.webhook_events) == 1
        receiver.answer = lambda request: 204
        receiver.taken.clear()
        with store.begin() as tx:
            webhooks.replay(tx, hook.hook_id, START)
        at_work.deliver()
    assert_complete(store, receiver)
    assert count(store, tables.webhook_events) == 0


def test_a_webhook_that_is_removed_during_its_turn_stays_removed(store: Store, receiver: Receiver) -> None:
    hook = hook_to(store, receiver)
    orders(store, 1)

    def remove(_: Request) -> int:
        with store.begin() as tx:
            webhooks.remove(tx, hook.hook_id)
        return 500

    receiver.answer = remove
    with deliverer(store) as at_work:
        assert not at_work.turn(hook.hook_id)
    assert count(store, tables.webhooks) == count(store, tables.webhook_events) == 0


def test_a_receiver_that_was_away_for_longer_than_events_are_kept_goes_on_with_those_there_are(
    store: Store, receiver: Receiver
) -> None:
    hook_to(store, receiver)
    orders(store, 1)
    clock_of(store).sleep(timedelta(days=91).total_seconds())
    orders(store, 1, updated=10, state="SHIPPED")
    assert store.commit(changes.trim) == 2
    with deliverer(store) as at_work:
        at_work.deliver_all()
    assert [request.event["type"] for request in receiver.taken] == ["order.changed"]


# --- several processes ------------------------------------------------------------------------------


def test_one_process_at_a_time_has_a_hook(store: Store, receiver: Receiver) -> None:
    hook = hook_to(store, receiver)
    with store.begin() as tx:
        webhooks.claim(tx, hook.hook_id, "one")
    with pytest.raises(Superseded), store.begin() as tx:
        webhooks.claim(tx, hook.hook_id, "two")
    with store.begin() as tx:
        webhooks.release_all(tx, "one")
    with store.begin() as tx:
        webhooks.claim(tx, hook.hook_id, "two")
    clock_of(store).sleep(webhooks.CLAIM.total_seconds() + 1)
    with store.begin() as tx:
        webhooks.claim(tx, hook.hook_id, "three")


@pytest.mark.long
def test_several_deliverers_double_nothing_and_keep_the_order(
    store: Store, receiver: Receiver, database_url: str
) -> None:
    hook_to(store, receiver)
    rounds = 6

    def work(number: int) -> None:
        mine = open_store(database_url)
        mine._clock = store._clock
        with deliverer(mine, f"process {number}") as at_work:
            while not done.is_set():
                at_work.deliver()
        mine.close()

    done = Event()

    def write(number: int) -> None:
        if number:
            work(number)
            return
        try:
            for minutes in range(rounds):
                orders(store, 8, updated=minutes, state=("UNSHIPPED", "SHIPPED")[minutes % 2])
            with deliverer(store) as at_work:
                while len(receiver.taken) < 8 * rounds + 1:
                    at_work.deliver()
        finally:
            done.set()

    together(3, write)
    assert_complete(store, receiver)
    assert len(receiver.taken) == 8 * rounds + 1


@pytest.mark.long
def test_who_lost_the_claim_writes_nothing(store: Store, receiver: Receiver) -> None:
    """The first process hangs in its turn until another one has done all of the work."""
    hook = hook_to(store, receiver)
    orders(store, 2)
    first = True

    def answer(_: Request) -> int:
        nonlocal first
        if first:
            first = False
            clock_of(store).sleep(webhooks.CLAIM.total_seconds() + 1)
            with store.begin() as tx:
                taken_over.append(webhooks.claim(tx, hook.hook_id, "two"))
        return 204

    taken_over: list[Hook] = []
    receiver.answer = answer
    with deliverer(store) as at_work:
        assert not at_work.turn(hook.hook_id)
    assert status(store, hook).position == taken_over[0].position == hook.position


VICTIM = """
import os, signal, sys
from datetime import UTC, datetime
from poller.webhooks import delivery, transport
from store.engine import Store, create_engine
from store.sealing import Sealer

url, after = sys.argv[1], int(sys.argv[2])
sent = 0
send = delivery._Sending._send

def counted(self, change):
    global sent
    answer = send(self, change)
    sent += 1
    if sent == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

delivery._Sending._send = counted
delivery.SENT_AT_ONCE = 1
store = Store(create_engine(url), Sealer([bytes(range(32))]))
delivery.Deliverer(store, f"victim {after}", lambda: datetime.now(UTC)).deliver()
"""


@pytest.mark.long
def test_a_process_that_is_killed_in_the_middle_of_a_turn_loses_nothing(
    store: Store, receiver: Receiver, database_url: str
) -> None:
    hook_to(store, receiver)
    orders(store, 5)
    orders(store, 5, updated=10, state="SHIPPED")
    store._clock = None
    for after in (4, 6):
        killed = subprocess.run(
            [sys.executable, "-c", VICTIM, database_url, str(after)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        with store.begin() as tx:  # its claim runs out
            tx.conn.execute(sa.update(tables.webhooks).values(claimed_until=tx.now))
    assert len(receiver.taken) == 4 + 6
    store._clock = SimulatedClock()
    clock_of(store).sleep(timedelta(days=900).total_seconds())
    with deliverer(store) as at_work:
        at_work.deliver_all()
    assert_complete(store, receiver)
