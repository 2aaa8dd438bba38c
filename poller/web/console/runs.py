"""The page of runs: equal neighbours of a source are one row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from poller.web.console.overview import newest
from poller.web.console.rendering import page
from poller.web.dependencies import Cursor, ServiceDep
from poller.web.status import runs_page
from store.runs import Run

router = APIRouter()

PAGE_SIZE = 200

STATES = {"deferred": "waiting", "superseded": "left to another process", None: "running"}
"""What people read in place of an outcome."""

NEXT_SHOWN = 8
"""Sources whose next run is named."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Runs of one source, newest first, that ended alike without an order; or a single run."""

    runs: tuple[Run, ...]

    @property
    def newest(self) -> Run:
        return self.runs[0]

    @property
    def first_at(self) -> datetime:
        return self.runs[-1].started_at

    @property
    def state(self) -> str:
        return STATES.get(self.newest.outcome, str(self.newest.outcome))

    def total(self, name: str) -> int:
        """Return what a number of the runs adds up to."""
        return sum(int(getattr(run, name)) for run in self.runs)


def folded(runs: Iterable[Run]) -> list[Fold]:
    """Fold neighbours of the same source, newest first; runs of other sources in between do not matter."""
    folds: list[list[Run]] = []
    open_folds: dict[str, list[Run]] = {}
    for run in runs:
        before = open_folds.get(run.source)
        if before is not None and _alike(before[-1], run):
            before.append(run)
        else:
            open_folds[run.source] = [run]
            folds.append(open_folds[run.source])
    return [Fold(tuple(fold)) for fold in folds]


def _alike(one: Run, other: Run) -> bool:
    is_quiet = one.orders == other.orders == 0 and one.outcome is not None
    return is_quiet and (one.outcome, one.message) == (other.outcome, other.message)


@router.get("/runs")
def list_runs(
    request: Request,
    service: ServiceDep,
    source: Annotated[str, Query(max_length=80)] = "",
    cursor: Cursor = None,
) -> Response:
    """List runs of the last thirty days, newest first."""
    records, more = runs_page(service, cursor, PAGE_SIZE, source or None)
    coming = [s for s in newest(request, service).status.sources if source in ("", s.source)]
    return page(
        request,
        "runs.html",
        folds=folded(records),
        more=more,
        coming=sorted(coming, key=lambda s: s.next_at)[:NEXT_SHOWN],
        chosen={"source": source},
        sources=sorted(service.sources),
        first=cursor is None,
    )
