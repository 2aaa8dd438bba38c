"""The program through a real pgbouncer: in transaction mode each transaction gets any server process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from connectors.simulator.world import Seller, World
from store.engine import Store, Transaction, create_engine
from store.sealing import Sealer
from tests.acceptance.command_line import STARTED, open_shop
from tests.acceptance.test_cli_service import FAST, stops, until
from tests.acceptance.test_postgresql_settings import HARMLESS, administrator
from tests.harness import KEY

pytestmark = pytest.mark.long

FIRST, SECOND, THIRD = (f"111-0000000-000000{number}" for number in (1, 2, 3))

_CONFIGURATION = """
[databases]
* = host={host}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
"""


@contextmanager
def pgbouncer(folder: Path, database_url: str, mode: str, size: int = 20) -> Iterator[str]:
    """Run Debian's pgbouncer before a server. Yield the URL of the database behind it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "no pgbouncer: install Debian's package pgbouncer"
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = sa.make_url(database_url)
    file = folder / "pgbouncer.ini"
    socket_folder = str(url.query["host"])
    # auth_type any lets everyone in as the user that [databases] names.
    host = f"{socket_folder} user={url.username}"
    file.write_text(_CONFIGURATION.format(host=host, port=port, mode=mode, size=size))
    # Root may not run it, and only its owner may enter the folder of the server's socket.
    user = [f"--user={Path(socket_folder).owner()}"] if os.getuid() == 0 else []
    with subprocess.Popen([program, *user, file]) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"postgresql+psycopg://{url.username}@127.0.0.1:{port}/{url.database}"
        finally:
            process.terminate()


@pytest.fixture(params=["transaction", "session"])
def pooled_url(request: pytest.FixtureRequest, tmp_path: Path, empty_database_url: str) -> Iterator[str]:
    """URL through a pgbouncer of an empty database whose user has other settings than ours."""
    name = sa.make_url(empty_database_url).database
    with administrator(empty_database_url) as connection:
        for setting, value in HARMLESS.items():
            if setting != "statement_timeout":  # nothing sets it for a statement that is alone
                connection.execute(f"ALTER DATABASE {name} SET {setting} = {value}")
    with pgbouncer(tmp_path, empty_database_url, request.param) as url:
        yield url


def plain(url: str) -> psycopg.Connection:
    """Return a connection on which only a test sets anything."""
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True, prepare_threshold=None)


on_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)


@on_postgresql
def test_schedulers_and_workers_work_through_it(tmp_path: Path, pooled_url: str) -> None:
    world = World(Seller("acme", ("UK", "DE", "FR")))
    for order_id, code in ((FIRST, "UK"), (SECOND, "DE"), (THIRD, "FR")):
        world.order(order_id, created=STARTED - timedelta(days=1), marketplace=code, name="日本 \\x 😀")
    with open_shop(tmp_path / "shop", world) as shop:
        shop.environ |= {
            "ORDER_SYNC_DATABASE_URL": pooled_url,
            "ORDER_SYNC_EXECUTOR": "procrastinate",
            **FAST,
        }
        shop("db", "upgrade")
        shop("sync")
        shop.configure("DE")
        shop("sync")
        shop.configure("FR")
        processes = [shop.start(command) for command in ("run", "worker", "worker")]
        try:
            with psycopg.connect(
                pooled_url.replace("+psycopg", ""), autocommit=True, prepare_threshold=None
            ) as c:
                until(lambda: c.execute("SELECT count(*) FROM orders").fetchone() == (3,))
            for process in processes:
                stops(process, signal.SIGTERM)
        finally:
            for process in processes:
                process.kill()
                _, log = process.communicate()
                assert "broke" not in log
                assert "away" not in log
        assert not [line for line in shop("db", "check").lines if not line.startswith("ok ")]
        orders = [json.loads(line) for line in shop("export", "orders", "--format", "jsonl").lines]
        assert [order["order_id"] for order in orders] == [FIRST, SECOND, THIRD]
        assert {order["buyer_name"] for order in orders} == {"日本 \\x 😀"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_transaction_brings_its_settings_in_the_same_trip_and_leaves_none_behind(
    tmp_path: Path, database_url: str
) -> None:
    odd = {"extra_float_digits": "-15", "standard_conforming_strings": "off"}
    names = ("statement_timeout", "lock_timeout", *odd)
    with administrator(database_url) as connection:
        for name, value in odd.items():
            database = sa.make_url(database_url).database
            connection.execute(f"ALTER DATABASE {database} SET {name} = {value}")
    statements: dict[str, list[str]] = {}
    with pgbouncer(tmp_path, database_url, "transaction", size=2) as pooled_url, plain(pooled_url) as other:
        for url in (database_url, pooled_url):
            statements[url] = []
            with closing(Store(create_engine(url), Sealer([KEY]))) as store:
                _ = store.lookup
                sa.event.listen(store.engine, "before_cursor_execute", noting(statements[url]))
                with store.begin() as first, store.begin() as second:  # on two server processes
                    assert values(first, names) == values(second, names) == ["1min", "1min", "1", "on"]
                for _ in range(6):  # more often than a statement is sent before the driver prepares it
                    with store.read() as tx:
                        assert values(tx, names) == ["1min", "1min", "1", "on"]
        for _ in range(2):
            assert [other.execute(f"SHOW {name}").fetchone() for name in names] == [
                ("0",),
                ("0",),
                ("-15",),
                ("off",),
            ]
    assert len(statements[database_url]) == len(statements[pooled_url]) == 8 * (1 + len(names))


def noting(statements: list[str]) -> Callable[..., None]:
    """Return a listener that notes every statement that is sent."""
    return lambda conn, cursor, statement, *more: statements.append(statement)


def values(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Return the settings in force."""
    return [tx.conn.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
