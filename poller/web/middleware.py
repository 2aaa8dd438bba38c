"""Middleware for every request: access, size of the body, security headers, no tracebacks.

It wraps the routes, so none can forget it.
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from poller.bootstrap import Service, utc_now
from poller.monitoring.readiness import is_locked_out
from poller.web.access import READY, USED_UP_BY_GET, Authenticator, Caller, required_scope
from poller.web.console import sessions
from poller.web.dependencies import door_of
from poller.web.problems import Problem, database_away, locked_out, starting
from poller.web.refusals import Refusals, entry_of
from poller.web.requests import SAFE_METHODS, Front, RequestInfo, client_of, is_of_other_page
from poller.web.tokens import NOTED_EVERY
from store import tokens
from store.engine import DatabaseError, NoConnection, Transaction
from store.tokens import StoredToken

log = structlog.get_logger("order_sync")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 1_000_000
SLOWEST_BODY = 20.0
"""Seconds in which a body must arrive."""

METRICS = "/metrics"

OTHER_PAGE = (
    "a page of another site sent this request, so nothing was changed. Behind a proxy, set "
    "ORDER_SYNC_PUBLIC_URL to the address that people open, for example https://orders.example."
)

DATABASE_ERRORS = (DatabaseError, NoConnection)
"""How a database fails; ``NoConnection``: all connections are in use."""

HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"same-origin",  # no-referrer makes browsers send "Origin: null" with our own forms
    b"vary": b"Authorization",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class GuardMiddleware:
    """The outermost layer of the application."""

    def __init__(
        self, app: App, service: Service, authenticator: Authenticator, now: Callable[[], datetime]
    ) -> None:
        self._app = app
        self._now = now
        self._service = service
        self._authenticator = authenticator
        settings = service.config.settings
        self._front = Front(settings.public_url, settings.trusted_proxies)
        self._known: Sequence[StoredToken] | None = None
        self._refusals = Refusals(utc_now)
        self._note_at: dict[str, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = False
        state = scope.setdefault("state", {})
        state["service"], state["front"], state["refusals"] = self._service, self._front, self._refusals
        state["info"] = _request_info(scope, self._front)

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = with_headers(message.get("headers", ()))
            await send(message)

        try:
            await self._serve(scope, receive, guarded)
        except Problem as problem:
            await note_refusal(scope, problem)
            if not started:
                await sessions.problem_response(scope, problem)(scope, receive, guarded)
        except Exception as error:
            unexpected = fault(scope, error)
            if not started:
                await sessions.problem_response(scope, unexpected)(scope, receive, guarded)

    async def flush(self) -> None:
        """Store the refusals that were counted in a minute that is over. Call this about every second."""
        if self._refusals.is_due and self._service.is_open:
            await run_in_threadpool(self._refusals.flush, self._service.store)

    def close(self) -> None:
        """Store the refusals that were counted so far: no further request comes."""
        if self._service.is_open:
            self._refusals.close(self._service.store)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if b"\0" in scope.get("raw_path", b"") or "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise Problem(400, "nul", "the address contains a NUL character.")
        state = scope["state"]
        request: RequestInfo = state["info"]
        if request.method not in SAFE_METHODS and is_of_other_page(request, self._front):
            raise Problem(403, "origin", OTHER_PAGE)
        if required_scope(request) is not None:
            state["caller"] = await run_in_threadpool(self._authenticate, request)
        elif request.path == READY:
            with suppress(Problem):  # served without a caller, too
                state["caller"] = await run_in_threadpool(self._authenticate, request)
        if request.method not in SAFE_METHODS and self._service.is_open:
            await run_in_threadpool(self._require_key)
        state["body"] = body = await _body(request, receive)
        try:
            await self._app(_asked_as_get(scope), _replayed(body, receive), send)
        finally:
            if "caller" in state:
                self._note_use(state["caller"], request)

    def _require_key(self) -> None:
        """Refuse a change that would be sealed with a key which no other process has any more."""
        try:
            if is_locked_out(self._service.store):
                raise locked_out()
        except DATABASE_ERRORS:
            raise database_away() from None

    def _authenticate(self, request: RequestInfo) -> Caller:
        if not self._service.is_open:
            raise starting()
        try:
            if sessions.is_page(request.path):
                require_totp = self._service.config.settings.require_totp
                return sessions.authenticate(self._service.store, request, self._front, require_totp)
            stored = self._tokens(request)
        except DATABASE_ERRORS:
            raise database_away() from None
        return self._authenticator.authenticate(request, stored)

    def _note_use(self, caller: Caller, request: RequestInfo) -> None:
        """Note the use of a token soon, at most once an hour: no answer waits for a write."""
        kind, _, name = caller.who.partition(":")
        now = self._now()
        if kind != "token" or now < self._note_at.get(name, now):
            return
        self._note_at[name] = now + NOTED_EVERY  # also if it fails: the next hour is soon enough

        def note(tx: Transaction) -> None:
            tokens.note_use(tx, name, request.client[:45])

        def work() -> None:
            with suppress(*DATABASE_ERRORS):
                self._service.store.commit(note, durable=False)

        task = asyncio.create_task(run_in_threadpool(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tokens(self, request: RequestInfo) -> Sequence[StoredToken]:
        """Return the stored tokens.

        While the database is away, metrics, which say so, are served to those that were known last: none of
        them can be removed meanwhile.
        """
        try:
            with self._service.store.read() as tx:
                self._known = tokens.load(tx)
        except DATABASE_ERRORS:
            if self._known is None or request.path != METRICS:
                raise
        return self._known


async def note_refusal(scope: Scope, problem: Problem) -> None:
    """Enter a refused request into the audit log."""
    state = scope["state"]
    info: RequestInfo = state["info"]
    entry = entry_of(problem, info, state.get("caller"), door_of(info.path))
    if entry is not None and state["service"].is_open:
        await run_in_threadpool(state["refusals"].note, state["service"].store, entry)


def fault(scope: Scope, error: Exception) -> Problem:
    """Return the problem of an unexpected error. Log once where it happened; its text may quote a buyer."""
    state = scope["state"]
    if state.get("logged_error") is not error:
        state["logged_error"], state["fault"] = error, secrets.token_hex(4)
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        log.error(
            "request broke",
            request=state["fault"],
            error=type(error).__name__,
            where=where,
            method=scope["method"],
        )
    detail = f"unexpected error: the log has more about request {state['fault']}; report it with that line."
    return Problem(500, "fault", detail)


def with_headers(raw_headers: Any) -> list[tuple[bytes, bytes]]:
    """Add our headers to those of an answer, except where the route set its own."""
    headers = [(bytes(name).lower(), bytes(value)) for name, value in raw_headers]
    names = {name for name, _ in headers}
    return headers + [item for item in HEADERS.items() if item[0] not in names]


def _asked_as_get(scope: Scope) -> Scope:
    """Let the route of GET answer HEAD: the server sends no body to a HEAD. A link stays unused."""
    if scope["method"] != "HEAD" or scope["path"] in USED_UP_BY_GET:
        return scope
    return {**scope, "method": "GET"}


def _request_info(scope: Scope, front: Front) -> RequestInfo:
    peer = str((scope.get("client") or ("", 0))[0])
    headers = [(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in scope["headers"]]
    client = client_of(peer, headers, front.proxies)
    return RequestInfo(scope["method"], scope["path"], client, headers)


async def _body(request: RequestInfo, receive: Receive) -> bytes:
    """Return the whole body. Raises Problem if it is too large, too slow or cut short."""
    length = next(iter(request.header_values("content-length")), "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem(400, "cut-short", "the body ended before its length.")
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Problem(
            408, "slow", "the body took too long to arrive.", headers={"Connection": "close"}
        ) from None


def _too_large() -> Problem:
    return Problem(
        413,
        "too-large",
        f"the body exceeds {LARGEST_BODY:,} bytes.",
        headers={"Connection": "close"},
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    is_replayed = False

    async def replay() -> Message:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
