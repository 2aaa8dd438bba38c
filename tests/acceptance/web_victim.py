"""A process that carries out one change over HTTP and is killed at a boundary of its transaction.

``python -m tests.acceptance.web_victim`` forks one child for each boundary and, after each death, one more
that gets the same request and lives; it prints their results as JSON. It has no threads
when it forks and has opened nothing. The service is that of the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import sqlalchemy as sa

from poller.bootstrap import Service, utc_now
from poller.web.app import make_app
from store.engine import Store
from store.tables import customers, idempotency_keys

EVERY = 5
"""One boundary in this many is tried, except for the last ones."""

TOKEN = "x" * 40
"""The service's own token, ORDER_SYNC_API_TOKEN."""

NEVER = 0
"""A boundary that is never reached."""


def in_a_child(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns in a child process; None if that was killed."""
    inner, outer = os.pipe()
    child = os.fork()
    if not child:
        os.write(outer, json.dumps(work()).encode())
        os._exit(0)
    os.close(outer)
    with os.fdopen(inner, "rb") as pipe:
        result = pipe.read()
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else json.loads(result)


def asked(number: int, boundary: int) -> dict[str, Any]:
    """Create customer ``number`` once; killed at this boundary: before a statement, at COMMIT, after it.

    Return how many customers and keys the database held of it before, and holds now.
    """
    reached = 0

    def reach(*_: Any) -> None:
        nonlocal reached
        reached += 1
        if reached == boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(service, utc_now), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(
                "/customers",
                json={"external_id": f"number-{number}", "name": "Quentin"},
                headers={"Idempotency-Key": f"key-{number}", "Authorization": f"Bearer {TOKEN}"},
            )

    with Service(os.environ) as service:
        store = service.open_store(create=False)
        service.wire()
        before = held(store, number)
        for event in ("before_cursor_execute", "commit", "checkin"):
            sa.event.listen(store.engine, event, reach)
        answer = asyncio.run(ask())
        for event in ("before_cursor_execute", "commit", "checkin"):
            sa.event.remove(store.engine, event, reach)
        return {
            "before": before,
            "after": held(store, number),
            "reached": reached,
            "status": answer.status_code,
            "replayed": answer.headers.get("Idempotent-Replayed") == "true",
        }


def held(store: Store, number: int) -> tuple[int, int]:
    """Count the customers and keys of this number."""
    with store.read() as tx:
        made = sa.select(sa.func.count()).where(customers.c.external_id == f"number-{number}")
        kept = sa.select(sa.func.count()).where(idempotency_keys.c.key == f"key-{number}")
        return tx.conn.execute(made).scalar_one(), tx.conn.execute(kept).scalar_one()


def main() -> None:
    """Die at some boundaries, at COMMIT's among them, and get the same request after each death."""
    last = in_a_child(partial(asked, 0, NEVER))["reached"]
    lives = []
    for boundary in (*range(1, last - 3, EVERY), *range(last - 3, last + 1)):
        assert in_a_child(partial(asked, boundary, boundary)) is None
        lives.append(in_a_child(partial(asked, boundary, NEVER)))
    print(json.dumps(lives))


if __name__ == "__main__":
    main()
