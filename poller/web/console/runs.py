"""The page of runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from poller.web.console.rendering import page
from poller.web.dependencies import Cursor, ServiceDep
from poller.web.status import runs_page

router = APIRouter()

PAGE_SIZE = 100


@router.get("/runs")
def list_runs(
    request: Request,
    service: ServiceDep,
    source: Annotated[str, Query(max_length=80)] = "",
    cursor: Cursor = None,
) -> Response:
    """List runs of the last thirty days, newest first."""
    records, more = runs_page(service, cursor, PAGE_SIZE, source or None)
    return page(
        request,
        "runs.html",
        runs=records,
        more=more,
        chosen={"source": source},
        sources=sorted(service.sources),
        first=cursor is None,
    )
