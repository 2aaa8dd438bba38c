"""State of the service over HTTP: health, status, sources, runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from poller.bootstrap import Service
from poller.errors import Unknown
from poller.monitoring.gather import gather
from poller.monitoring.status import SourceStatus, Status, as_object
from poller.web.dependencies import Cursor, Limit, ServiceDep, Word, before_of, page_of
from poller.web.schemas.base import Page
from poller.web.schemas.service import Health
from store import runs

router = APIRouter(tags=["status"])


@router.get("/healthz")
async def health() -> Health:
    """Return ok while the process answers; needs no token."""
    return Health(status="ok")


@router.get("/status", response_model=Status)
def show_status(service: ServiceDep) -> Response:
    """Show freshness, coverage, gaps, budget and runs of every source, as `order-sync status --json` does."""
    return JSONResponse(as_object(gather(service.store, service.setup)))


@router.get("/sources", response_model=list[SourceStatus])
def list_sources(service: ServiceDep) -> Response:
    """List every source with the coverage and gaps of its marketplaces."""
    return JSONResponse(as_object(gather(service.store, service.setup).sources))


@router.get("/sources/{source}", response_model=SourceStatus)
def show_source(service: ServiceDep, source: Word) -> Response:
    """Show one source, for example acme:EU."""
    for candidate in gather(service.store, service.setup).sources:
        if candidate.source == source:
            return JSONResponse(as_object(candidate))
    raise Unknown("there is no such source: GET /sources lists them.")


@router.get("/runs", response_model=Page[runs.Run])
def list_runs(
    service: ServiceDep,
    source: Annotated[
        Word | None, Query(description="Only runs of this source, for example acme:EU.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List runs of the last thirty days, newest first."""
    records, more = runs_page(service, cursor, limit, source)
    return JSONResponse({"items": as_object(records), "next": more})


def runs_page(
    service: Service, cursor: str | None, limit: int, source: str | None
) -> tuple[list[runs.Run], str | None]:
    """Return a page of runs and the next cursor."""
    before = before_of(cursor)
    with service.store.read() as tx:
        records = runs.listed(tx, limit=limit + 1, source=source, before=before)
    return page_of(records, limit, lambda run: (run.run,))
