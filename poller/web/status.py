"""How the service stands over HTTP: health, status, sources, runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from poller.errors import Unknown
from poller.monitoring.gather import gather
from poller.monitoring.status import SourceStatus, Status, as_object
from poller.web import schemas
from poller.web.dependencies import Cursor, Here, Limit, Word, cursor_of, position_of
from store import runs

router = APIRouter(tags=["status"])


@router.get("/healthz")
async def health() -> schemas.Health:
    """Whether the process answers; needs no token and tells nothing else."""
    return schemas.Health(status="ok")


@router.get("/status", response_model=Status)
def show_status(service: Here) -> Response:
    """Freshness, coverage, gaps, budget, last and next run of every source: `order-sync status --json`."""
    return JSONResponse(as_object(gather(service)))


@router.get("/sources", response_model=list[SourceStatus])
def list_sources(service: Here) -> Response:
    """Every source with the coverage and the gaps of its marketplaces."""
    return JSONResponse(as_object(gather(service).sources))


@router.get("/sources/{source}", response_model=SourceStatus)
def show_source(service: Here, source: Word) -> Response:
    """One source, for example acme:EU."""
    for found in gather(service).sources:
        if found.source == source:
            return JSONResponse(as_object(found))
    raise Unknown("there is no such source.")


@router.get("/runs")
def list_runs(
    service: Here,
    source: Annotated[Word | None, Query(description="Only this source's, for example acme:EU.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> schemas.Page[schemas.Run]:
    """Runs of the last thirty days, the newest first."""
    before = None if cursor is None else position_of(cursor, int)[0]
    with service.store.read() as tx:
        found = runs.listed(tx, limit=limit + 1, source=source, before=before)
    more = cursor_of(found[limit - 1].run) if len(found) > limit else None
    items = [as_object(run) for run in found[:limit]]
    return schemas.Page[schemas.Run].model_validate({"items": items, "next": more})
