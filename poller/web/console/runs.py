"""Runs: what every source did, one attempt after the other."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from poller.web import dependencies
from poller.web.console.rendering import page
from poller.web.dependencies import Cursor, Here
from store import runs

router = APIRouter()

MANY = 100


@router.get("/runs")
def list_runs(
    request: Request,
    service: Here,
    source: Annotated[str, Query(max_length=80)] = "",
    cursor: Cursor = None,
) -> Response:
    """Runs of the last thirty days, the newest first."""
    before = None if cursor is None else dependencies.position_of(cursor, int)[0]
    with service.store.read() as tx:
        found = runs.listed(tx, limit=MANY + 1, source=source or None, before=before)
    return page(
        request,
        "runs.html",
        runs=found[:MANY],
        more=dependencies.cursor_of(found[MANY - 1].run) if len(found) > MANY else None,
        chosen={"source": source},
        sources=sorted(service.sources),
        first=cursor is None,
    )
