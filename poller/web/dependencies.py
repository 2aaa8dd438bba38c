"""FastAPI dependencies of the routes: the service, the caller, paging, and idempotent changes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import StringConstraints

from poller.bootstrap import Service
from poller.web.access import PUBLIC, Caller
from poller.web.masking import Viewer
from poller.web.problems import Problem
from poller.web.requests import RequestInfo
from store import idempotency
from store.audit_records import Door
from store.engine import Store, Transaction

T = TypeVar("T")

_amazon_slots = threading.BoundedSemaphore(2)
"""Amazon may answer slowly: the remaining threads serve requests that only need the database."""


@contextmanager
def asking_amazon() -> Iterator[None]:
    """Hold a slot for a request to Amazon. Raises Problem if all are taken."""
    if not _amazon_slots.acquire(blocking=False):
        raise Problem(
            503, "busy", "other requests are waiting for Amazon: try again.", headers={"Retry-After": "10"}
        )
    try:
        yield
    finally:
        _amazon_slots.release()


LARGEST_ID = 2**63 - 1

Word = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=500, description="The most items to return.")]
Cursor = Annotated[
    str | None, Query(max_length=300, description="`next` of the previous page; the list continues there.")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes retries safe for a day: a request with the same key is carried out once.",
    ),
]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def door_of(path: str) -> Door:
    """Return the door that a path belongs to."""
    return "console" if path == "/console" or path.startswith("/console/") else "http"


def viewer_of(request: Request) -> Viewer:
    """Return the caller of a request, with what recording a disclosure to them needs."""
    caller: Caller = request.state.caller
    info: RequestInfo = request.state.info
    return Viewer(caller.who, caller.scopes, info.client, door_of(info.path), _service(request).store)


ServiceDep = Annotated[Service, Depends(_service)]
CallerDep = Annotated[Viewer, Depends(viewer_of)]


# --- query parameters -------------------------------------------------------------------------------

PROBED = PUBLIC | {"/metrics"}
"""Probes and scrapers may add parameters of their own."""


async def only_known_parameters(request: Request) -> None:
    """Raise Problem if the route lacks a query parameter: a mistyped filter must not match everything."""
    if not request.query_params or request.url.path in PROBED:
        return
    route: APIRoute = request.scope["route"]
    known = sorted(_parameters(route.dependant))
    unknown = [_printable(name) for name in request.query_params if name not in known]
    if unknown:
        allowed = f"this address takes {', '.join(known)}" if known else "this address takes none"
        noun = "parameter" if len(unknown) == 1 else "parameters"
        errors = [{"where": f"query.{name}", "what": "is unknown"} for name in unknown]
        raise Problem(422, "invalid", f"unknown query {noun} {', '.join(unknown)}; {allowed}.", errors=errors)


def utc(time: datetime | None) -> datetime | None:
    """Return a time that was sent, in UTC, which is also meant without a zone. Raises Problem."""
    if time is None:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise Problem(422, "invalid", "this time is out of range: years are 1 to 9999, in UTC.") from None


def _parameters(dependant: Dependant) -> set[str]:
    """Return the query parameters of a route and of its dependencies."""
    names = {parameter.alias for parameter in dependant.query_params}
    return names.union(*map(_parameters, dependant.dependencies))


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)[:80]


# --- pages ------------------------------------------------------------------------------------------


def cursor_of(*position: object) -> str:
    """Encode a position as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def before_of(cursor: str | None) -> int | None:
    """Return the ID that a page of a list by ID ends before. Raises Problem."""
    return None if cursor is None else position_of(cursor, int)[0]


def page_of(
    records: list[T], limit: int, position: Callable[[T], tuple[object, ...]]
) -> tuple[list[T], str | None]:
    """Return a page of the records and the next cursor; a further record shows that there is one."""
    return records[:limit], cursor_of(*position(records[limit - 1])) if len(records) > limit else None


def position_of(cursor: str, *kinds: type) -> list[Any]:
    """Decode a cursor whose parts have these types. Raises Problem."""
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise bad_cursor() from None
    if not isinstance(position, list) or [type(part) for part in position] != list(kinds):
        raise bad_cursor()
    if any(isinstance(part, int) and not 0 <= part <= LARGEST_ID for part in position):
        raise bad_cursor()
    if any(isinstance(part, str) and not part.isprintable() for part in position):
        raise bad_cursor()
    return position


def bad_cursor() -> Problem:
    return Problem(422, "cursor", "invalid cursor: send `next` of the previous page.")


# --- changes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a change. It may be kept for a day, so it holds IDs and states, never buyer data."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def response(self, *, replayed: bool = False) -> Response:
        """Return the answer as a response."""
        headers = {**self.headers, **({"Idempotent-Replayed": "true"} if replayed else {})}
        return JSONResponse(self.body, self.status, headers)


@dataclass(frozen=True, slots=True)
class Change:
    """Carries out a change; with an Idempotency-Key only once, however often the request is sent."""

    store: Store
    who: str
    key: str | None
    request: bytes = field(repr=False)
    """All parts that two equal requests have in common."""

    def in_transaction(self, work: Callable[[Transaction], Answer]) -> Response:
        """Carry out a change that is one transaction, and keep the key in it."""
        answer, replayed = self.store.commit(lambda tx: self._once(tx, work))
        return answer.response(replayed=replayed)

    def _once(self, tx: Transaction, work: Callable[[Transaction], Answer]) -> tuple[Answer, bool]:
        known = self._known(tx)
        if known is not None:
            return known, True
        if self.key is not None:
            idempotency.take(tx, self.who, self.key, self._fingerprint)
        answer = work(tx)
        if self.key is not None:
            idempotency.answer(tx, self.who, self.key, json.dumps(asdict(answer)))
        return answer, False

    def outside_transaction(self, work: Callable[[], Answer]) -> Response:
        """Carry out a change that asks Amazon and may safely run twice, then keep the key."""
        with self.store.read() as tx:
            known = self._known(tx)
        if known is not None:
            return known.response(replayed=True)
        with asking_amazon():
            answer = work()
        return self.in_transaction(lambda _: answer)

    def _known(self, tx: Transaction) -> Answer | None:
        kept = None if self.key is None else idempotency.find(tx, self.who, self.key)
        if kept is None:
            return None
        if kept.fingerprint != self._fingerprint:
            raise Problem(
                422, "key-reused", "this Idempotency-Key was used for another request: use a new key."
            )
        return Answer(**json.loads(kept.answer))

    @property
    def _fingerprint(self) -> str:
        return self.store.lookup.fingerprint(self.request.decode("latin-1"))


def _change(request: Request, service: ServiceDep, caller: CallerDep, key: IdempotencyKey = None) -> Change:
    parts = (
        request.method,
        request.url.path,
        request.headers.get("if-match", ""),
        request.headers.get("content-type", ""),
    )
    identity = "\0".join(parts).encode() + b"\0" + request.state.body
    return Change(service.store, caller.who, key, identity)


ChangeDep = Annotated[Change, Depends(_change)]
