"""Readiness probe, Prometheus metrics, and the change feed."""

from __future__ import annotations

import threading
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from poller.ingest.accounts import Setup
from poller.monitoring import readiness
from poller.monitoring.metrics import CONTENT_TYPE, render_metrics
from poller.monitoring.readiness import Readiness
from poller.monitoring.status import Item
from poller.web.access import Caller
from poller.web.dependencies import ServiceDep
from poller.web.problems import Problem
from poller.web.schemas.service import Changes, NotReady, Ready
from poller.webhooks.rules import event_object
from store.change_records import START, BadPosition, PositionGone, read_position
from store.changes import EVENTS_AT_ONCE, changes_after
from store.engine import Store

router = APIRouter(tags=["operation"])

STARTING = Readiness((Item("database", "", "the service is waiting for its database.", "unready"),))

FRESH_SECONDS = 5.0
"""Readiness is not computed more often, because the probe is public."""


class ReadinessCache:
    """The last readiness, kept for a few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: Readiness | None = None
        self._taken_at = 0.0

    def get(self, store: Store, setup: Setup) -> Readiness:
        """Return the readiness of now or of a few seconds ago."""
        with self._lock:
            if self._newest is None or time.monotonic() - self._taken_at > FRESH_SECONDS:
                self._newest, self._taken_at = readiness.check(store, setup), time.monotonic()
            return self._newest


@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "The service is not ready."}},
)
def ready(service: ServiceDep, request: Request) -> Response:
    """Return 200 if the service keeps up, else 503. Callers with the scope read get the reasons."""
    cache: ReadinessCache = request.app.state.readiness
    newest = cache.get(service.store, service.setup) if service.is_open else STARTING
    caller: Caller | None = getattr(request.state, "caller", None)
    reasons = None
    if caller is not None and "read" in caller.scopes:
        reasons = [
            NotReady.model_validate(reason, from_attributes=True).model_dump() for reason in newest.reasons
        ]
    status = "ready" if newest.ready else "not ready"
    return JSONResponse({"status": status, "reasons": reasons}, 200 if newest.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(service: ServiceDep) -> Response:
    """Return all metrics in the Prometheus text format."""
    return Response(
        render_metrics(service.store, service.setup, service.tally.counts()),
        headers={"Content-Type": CONTENT_TYPE},
    )


@router.get("/changes")
def changes(
    service: ServiceDep,
    after: Annotated[
        str,
        Query(max_length=60, description="`position` of the last answer or of an export; 0 to begin."),
    ] = str(START),
    limit: Annotated[int, Query(ge=1, le=EVENTS_AT_ONCE, description="The most events to return.")] = 100,
) -> Changes:
    """List events after a position, oldest first: IDs, kind and version, never buyer data."""
    try:
        with service.store.read() as tx:
            batch = changes_after(tx, read_position(after), limit)
    except PositionGone as error:
        raise Problem(410, "position-gone", f"{error}.") from None
    except BadPosition as error:
        raise Problem(422, "position", f"{error}.") from None
    return Changes.model_validate(
        {
            "events": [event_object(change) for change in batch.events],
            "position": str(batch.position),
            "more": batch.more,
        }
    )
