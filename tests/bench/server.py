"""A real PostgreSQL for measurements, with its own settings for safety, so no faster than in life."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from tests.conftest import _start_server

_numbers = count(1)


class Server:
    """One server and its databases."""

    def __init__(self, url: str) -> None:
        self._url = url

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"bench_{next(_numbers)}"
        with psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self._url.replace("/postgres?", f"/{name}?")


@contextmanager
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="order-sync-pg-"))
    folder.chmod(0o755)
    try:
        started = _start_server(folder)
        try:
            with psycopg.connect(started.get_uri(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET shared_buffers = '256MB'")
                connection.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
            yield Server(started.get_uri(driver="psycopg"))
        finally:
            started.cleanup()
    finally:
        shutil.rmtree(folder)
