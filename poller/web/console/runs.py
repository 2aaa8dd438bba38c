"""The page of runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from poller.web.console.rendering import page
from poller.web.dependencies import Cursor, ServiceDep, cursor_of, position_of
from store import runs

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
    before = None if cursor is None else position_of(cursor, int)[0]
    with service.store.read() as tx:
        records = runs.listed(tx, limit=PAGE_SIZE + 1, source=source or None, before=before)
    return page(
        request,
        "runs.html",
        runs=records[:PAGE_SIZE],
        more=cursor_of(records[PAGE_SIZE - 1].run) if len(records) > PAGE_SIZE else None,
        chosen={"source": source},
        sources=sorted(service.sources),
        first=cursor is None,
    )
