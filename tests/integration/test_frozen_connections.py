"""A proxy that forwards nothing more on the connections that exist, while new ones work at once."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from poller.service.worker import _Pool
from store.engine import Unavailable, connect_arguments, connections, create_engine, lift_limit


class Proxy:
    """Forwards to a PostgreSQL server's socket; ``freeze`` silences what is open."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._frozen: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._frozen.update(self._open)

    def close(self) -> None:
        self._server.close()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if one not in self._frozen:
                    other.sendall(data)
            other.close()


@contextmanager
def a_proxy(postgres_url: str) -> Iterator[tuple[Proxy, str]]:
    url = sa.make_url(postgres_url)
    folder = url.query["host"]
    proxy = Proxy(f"{folder}/.s.PGSQL.{url.port or 5432}")
    through = url.set(host="127.0.0.1", port=proxy.port, query={})
    try:
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        proxy.close()


def test_a_frozen_connection_is_given_up_and_all_that_were_open_are_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.5)
    with a_proxy(postgres_url) as (proxy, url):
        engine = create_engine(url)
        with engine.connect() as first, engine.connect() as second:
            assert [c.exec_driver_sql("SELECT 1").scalar_one() for c in (first, second)] == [1, 1]
        proxy.freeze()
        with pytest.raises(Unavailable, match="no answer came in time"), engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        engine.dispose()


def test_work_that_may_last_is_waited_for(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.5)
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        lift_limit(connection)
        assert connection.exec_driver_sql("SELECT 7 FROM pg_sleep(1)").scalar_one() == 7
    with pytest.raises(Unavailable, match="no answer came in time"), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 7 FROM pg_sleep(1)")
    engine.dispose()


@pytest.mark.timeout(60)
def test_a_worker_gives_up_a_frozen_connection_of_its_queue(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.5)

    async def ask(pool: Any) -> int:
        async with pool.connection() as connection:
            answer = await (await connection.execute("SELECT 1")).fetchone()
            return int(answer[0])

    async def go_on(proxy: Proxy, url: str) -> None:
        engine = create_engine(url)
        pool = _Pool(kwargs=connect_arguments(engine), min_size=1, max_size=1, open=False)
        async with pool:
            assert await ask(pool) == 1
            proxy.freeze()
            with pytest.raises(psycopg.OperationalError, match="no answer came in time"):
                await ask(pool)
            assert await ask(pool) == 1
        engine.dispose()

    with a_proxy(postgres_url) as (proxy, url):
        asyncio.run(go_on(proxy, url))
