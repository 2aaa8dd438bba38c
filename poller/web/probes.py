"""For machines that watch and programs that follow: readiness, figures for Prometheus, changes."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from poller.bootstrap import Service
from poller.monitoring import readiness
from poller.monitoring.metrics import CONTENT_TYPE, render_metrics
from poller.monitoring.readiness import Readiness, Reason
from poller.web import schemas
from poller.web.access import Caller
from poller.web.dependencies import Here
from poller.web.problems import Problem
from poller.webhooks.rules import event_object
from store.changes import LONGEST, START, BadPosition, PositionGone, changes_after, read_position

router = APIRouter(tags=["operation"])

STARTING = Readiness((Reason("database", "", "the service waits for its database."),))

FRESH_SECONDS = 5.0
"""A look at everything is not taken more often, because anybody may ask for it."""


class Looking:
    """The last look at whether the service is ready."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Readiness | None = None
        self._at = 0.0

    def look(self, service: Service) -> Readiness:
        """What was found now, or a few seconds ago."""
        with self._lock:
            if self._found is None or time.monotonic() - self._at > FRESH_SECONDS:
                self._found, self._at = readiness.look(service), time.monotonic()
            return self._found


@router.get(
    "/readyz",
    response_model=schemas.Ready,
    responses={503: {"model": schemas.Ready, "description": "It may not."}},
)
def ready(service: Here, request: Request) -> Response:
    """Whether the service may be relied upon. Why it may not is told only to those who may read."""
    looking: Looking = request.app.state.looking
    found = looking.look(service) if service.is_open else STARTING
    caller: Caller | None = getattr(request.state, "caller", None)
    reasons = None
    if caller is not None and "read" in caller.scopes:
        reasons = [asdict(reason) for reason in found.reasons]
    status = "ready" if found.ready else "not ready"
    return JSONResponse({"status": status, "reasons": reasons}, 200 if found.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(service: Here) -> Response:
    """All figures, in Prometheus's text format."""
    return Response(render_metrics(service), headers={"Content-Type": CONTENT_TYPE})


@router.get("/changes")
def changes(
    service: Here,
    after: Annotated[
        str,
        Query(max_length=60, description="`position` of the last answer, or of an export; else 0."),
    ] = str(START),
    limit: Annotated[int, Query(ge=1, le=LONGEST, description="At most so many.")] = 100,
) -> schemas.Changes:
    """Events after a position, oldest first: ids, kind and version, never buyer data."""
    try:
        with service.store.read() as tx:
            found = changes_after(tx, read_position(after), limit)
    except PositionGone as error:
        raise Problem(410, "position-gone", f"{error}.") from None
    except BadPosition as error:
        raise Problem(422, "position", f"{error}.") from None
    return schemas.Changes.model_validate(
        {
            "events": [event_object(change) for change in found.events],
            "position": str(found.position),
            "more": found.more,
        }
    )
