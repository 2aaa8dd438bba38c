"""What the routes are handed: the service, the caller, and one way to carry out a change once."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import StringConstraints

from poller.bootstrap import Service
from poller.web.access import PUBLIC, Caller
from poller.web.problems import Problem
from store import idempotency
from store.engine import Store, Transaction

_asking = threading.BoundedSemaphore(2)
"""Amazon may take its time: those who only ask the database find a thread."""


@contextmanager
def asking() -> Iterator[None]:
    """While Amazon is asked. Raises Problem when others do so already."""
    if not _asking.acquire(blocking=False):
        raise Problem(503, "busy", "others are asking Amazon.", headers={"Retry-After": "10"})
    try:
        yield
    finally:
        _asking.release()


LARGEST_ID = 2**63 - 1

Word = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many.")]
Cursor = Annotated[
    str | None, Query(max_length=300, description="`next` of the page before; it goes on from there.")
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes it safe to send this again for a day: the same request is carried out once.",
    ),
]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


Here = Annotated[Service, Depends(_service)]
Who = Annotated[Caller, Depends(_caller)]


# --- query parameters -------------------------------------------------------------------------------

PROBED = PUBLIC | {"/metrics"}
"""Probes and scrapers add what they like."""


async def only_known_parameters(request: Request) -> None:
    """A mistyped filter must not find everything. Raises Problem for a parameter that the route has not."""
    if not request.query_params or request.url.path in PROBED:
        return
    route: APIRoute = request.scope["route"]
    known = sorted(_parameters(route.dependant))
    strange = [_shown(name) for name in request.query_params if name not in known]
    if strange:
        there = f"there are {', '.join(known)}" if known else "there is none"
        what = "is no query parameter" if len(strange) == 1 else "are no query parameters"
        errors = [{"where": f"query.{name}", "what": "is unknown"} for name in strange]
        raise Problem(422, "invalid", f"{', '.join(strange)} {what} of this address; {there}.", errors=errors)


def _parameters(dependant: Dependant) -> set[str]:
    """The query parameters of a route, and of what it depends on."""
    found = {parameter.alias for parameter in dependant.query_params}
    return found.union(*map(_parameters, dependant.dependencies))


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)[:80]


# --- pages ------------------------------------------------------------------------------------------


def cursor_of(*position: object) -> str:
    """A position as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def position_of(cursor: str, *kinds: type) -> list[Any]:
    """What ``cursor_of`` was given. Raises Problem."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise bad_cursor() from None
    if not isinstance(found, list) or [type(item) for item in found] != list(kinds):
        raise bad_cursor()
    if any(isinstance(item, int) and not 0 <= item <= LARGEST_ID for item in found):
        raise bad_cursor()
    if any(isinstance(item, str) and not item.isprintable() for item in found):
        raise bad_cursor()
    return found


def bad_cursor() -> Problem:
    return Problem(422, "cursor", "this cursor is none that was given out here.")


# --- changes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a change is answered. It may be kept for a day, so it holds ids and states, never buyer data."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def response(self, *, replayed: bool = False) -> Response:
        """The answer as it is sent."""
        headers = {**self.headers, **({"Idempotent-Replayed": "true"} if replayed else {})}
        return JSONResponse(self.body, self.status, headers)


@dataclass(frozen=True, slots=True)
class Once:
    """Carries out a change; with an Idempotency-Key once, however often it is asked for."""

    store: Store
    who: str
    key: str | None
    asked: bytes = field(repr=False)
    """Everything that must be the same for a request to be the same."""

    def within(self, work: Callable[[Transaction], Answer]) -> Response:
        """A change that is one transaction: the key is kept in that very transaction."""
        answer, replayed = self.store.commit(lambda tx: self._within(tx, work))
        return answer.response(replayed=replayed)

    def _within(self, tx: Transaction, work: Callable[[Transaction], Answer]) -> tuple[Answer, bool]:
        known = self._known(tx)
        if known is not None:
            return known, True
        if self.key is not None:
            idempotency.take(tx, self.who, self.key, self._fingerprint)
        answer = work(tx)
        if self.key is not None:
            idempotency.answer(tx, self.who, self.key, json.dumps(asdict(answer)))
        return answer, False

    def beside(self, work: Callable[[], Answer]) -> Response:
        """A change that asks Amazon first, and does no harm when it is made twice: kept afterwards."""
        with self.store.read() as tx:
            known = self._known(tx)
        if known is not None:
            return known.response(replayed=True)
        with asking():
            answer = work()
        return self.within(lambda _: answer)

    def _known(self, tx: Transaction) -> Answer | None:
        kept = None if self.key is None else idempotency.find(tx, self.who, self.key)
        if kept is None:
            return None
        if kept.fingerprint != self._fingerprint:
            raise Problem(
                422, "key-reused", "this Idempotency-Key was used for another request: take a new one."
            )
        return Answer(**json.loads(kept.answer))

    @property
    def _fingerprint(self) -> str:
        return self.store.lookup.fingerprint(self.asked.decode("latin-1"))


def _once(request: Request, service: Here, caller: Who, key: Key = None) -> Once:
    parts = (
        request.method,
        request.url.path,
        request.headers.get("if-match", ""),
        request.headers.get("content-type", ""),
    )
    asked = "\0".join(parts).encode() + b"\0" + request.state.body
    return Once(service.store, caller.who, key, asked)


Changing = Annotated[Once, Depends(_once)]
