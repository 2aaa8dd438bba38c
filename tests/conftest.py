"""What every test stands on: a clean environment, no network, and both real databases."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest

from tests.databases import Databases, make_fast, postgres_server

FOREIGN_PREFIXES = ("ORDER_SYNC_", "SP_API_", "AWS_", "LWA_")


def _foreign_variables() -> list[str]:
    return [name for name in os.environ if name.upper().startswith(FOREIGN_PREFIXES)]


# Before any test module is imported, because python-amazon-sp-api reads some of them at import.
for _name in _foreign_variables():
    del os.environ[_name]


# A slow machine is no fault of a property.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import the console's tests, and with them the browser's library, only where they are chosen."""
    left_out = "not console" in config.option.markexpr
    return True if left_out and collection_path == Path(__file__).parent / "console" else None


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


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of one real PostgreSQL server's ``postgres`` database.

    Every xdist worker has its own: a writer of one database holds up the readers of changes in all
    databases of its server.
    """
    with postgres_server() as server:
        make_fast(server)
        yield server.get_uri(driver="psycopg")


@pytest.fixture(scope="session")
def upgraded_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the newest schema, to be copied."""
    file = tmp_path_factory.mktemp("upgraded") / "order-sync.db"
    _upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_databases(postgres_url: str) -> Databases:
    """Databases with the newest schema."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE upgraded TEMPLATE template0")
    _upgrade(postgres_url.replace("/postgres?", "/upgraded?"))
    return Databases(postgres_url, "upgraded")


@pytest.fixture(scope="session")
def empty_postgres_databases(postgres_url: str) -> Databases:
    """Databases without tables."""
    return Databases(postgres_url, "template0")


def _upgrade(url: str) -> None:
    from store import revisions
    from store.engine import create_engine

    engine = create_engine(url)
    revisions.upgrade(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without rows, once for each of the two that the service runs on."""
    if request.param == "sqlite":
        file = tmp_path / "order-sync.db"
        shutil.copy(request.getfixturevalue("upgraded_sqlite"), file)
        yield f"sqlite:///{file}"
        return
    with request.getfixturevalue("postgres_databases").database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The same without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'order-sync.db'}"
        return
    with request.getfixturevalue("empty_postgres_databases").database() as url:
        yield url
