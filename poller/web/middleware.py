"""What every request passes, whatever its route: access, the size of its body, headers, and no traceback.

It stands outside of the routes, so that none can be forgotten.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from fastapi import Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.concurrency import run_in_threadpool

from poller.bootstrap import Service
from poller.web.access import READY, Asked, Caller, Gate, needed
from poller.web.console import sessions
from poller.web.problems import Problem
from store import tokens, users

log = structlog.get_logger("order_sync")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 1_000_000
SLOWEST_BODY = 20.0
"""Seconds that a body may take to arrive."""

UNREACHED = (DBAPIError, NoConnection)
"""How a database fails; the second one: all connections are in use."""

HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"vary": b"Authorization",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class Door:
    """The outermost layer of the application."""

    def __init__(self, app: App, service: Service, gate: Gate) -> None:
        self._app = app
        self._service = service
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = False
        scope.setdefault("state", {})

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = with_headers(message.get("headers", ()))
            await send(message)

        try:
            await self._serve(scope, receive, guarded)
        except Problem as problem:
            if not begun:
                await _answer(sessions.problem_response(scope, problem), scope, receive, guarded)
        except Exception as error:
            broken = fault(scope, error)
            if not begun:
                await _answer(sessions.problem_response(scope, broken), scope, receive, guarded)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if b"\0" in scope.get("raw_path", b"") or "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise Problem(400, "nul", "an address must not hold a NUL.")
        asked = _asked(scope)
        state = scope["state"]
        if needed(asked) is not None:
            state["caller"] = await run_in_threadpool(self._admit, asked)
        elif asked.path == READY:
            with suppress(Problem):  # served all the same
                state["caller"] = await run_in_threadpool(self._admit, asked)
        state["body"] = body = await _body(asked, receive)
        await self._app(scope, _replayed(body, receive), send)

    def _admit(self, asked: Asked) -> Caller:
        if not self._service.is_open:
            raise starting()
        try:
            with self._service.store.read() as tx:
                stored, has_users = tokens.load(tx), users.anybody(tx)
            if sessions.is_page(asked.path):
                return sessions.admit(self._service.store, asked, self._gate.is_closed(stored, has_users))
        except UNREACHED:
            raise away() from None
        return self._gate.admit(asked, stored, has_users=has_users)


def starting() -> Problem:
    """Nothing can be asked before the database is there."""
    return Problem(503, "starting", "the service waits for its database.", headers={"Retry-After": "5"})


def away() -> Problem:
    """The database does not answer."""
    return Problem(503, "database", "the database is away or cannot be used.", headers={"Retry-After": "5"})


def fault(scope: Scope, error: Exception) -> Problem:
    """An error of ours. It is logged, once: where it happened, and not its text, which may quote a buyer."""
    if scope["state"].get("broke") is not error:
        scope["state"]["broke"] = error
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        log.error("request broke", error=type(error).__name__, where=where, method=scope["method"])
    return Problem(500, "fault", "something unexpected happened; the log tells where.")


def with_headers(given: Any) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with ours; what a route says itself stays."""
    headers = [(bytes(name).lower(), bytes(value)) for name, value in given]
    there = {name for name, _ in headers}
    return headers + [item for item in HEADERS.items() if item[0] not in there]


def _asked(scope: Scope) -> Asked:
    client = scope.get("client") or ("", 0)
    headers = [(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in scope["headers"]]
    return Asked(scope["method"], scope["path"], str(client[0]), headers)


async def _body(asked: Asked, receive: Receive) -> bytes:
    """The whole body. Raises Problem when it is too large or too slow."""
    length = next(iter(asked.all("content-length")), "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > LARGEST_BODY:
        raise _too_large()
    found = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return bytes(found)
                found += message.get("body", b"")
                if len(found) > LARGEST_BODY:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(found)
    except TimeoutError:
        raise Problem(
            408, "slow", "the body took too long to arrive.", headers={"Connection": "close"}
        ) from None


def _too_large() -> Problem:
    return Problem(
        413,
        "too-large",
        f"a body may have {LARGEST_BODY:,} bytes at most.",
        headers={"Connection": "close"},
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    await response(scope, receive, send)
