"""Requests and answers about backfills; the backfill itself is `poller.export.Backfill`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from poller.backfill.estimates import Certainty
from poller.web.dependencies import Word
from poller.web.schemas.base import PeriodRequest, example
from store.progress import BackfillState, Way


class BackfillRequest(PeriodRequest):
    model_config = example(**{"marketplace": "UK", "from": "2026-01-01", "to": "2026-06-30", "by": "auto"})
    by: Way = "auto"
    account: Word | None = None
    again: bool = Field(default=False, description="Read also what has been read already.")


class Cost(BaseModel):
    """Cost of a backfill. ``seconds`` is null if live polling needs the whole budget."""

    windows: int
    requests: int
    searches: int
    gets: int
    reports: int
    seconds: float | None


class BackfillPlan(BaseModel):
    """Cost estimate of a backfill. Without ``expected`` (orders), costs are those of each 1,000 orders.

    ``counted``: the stored orders of what has been read already, which is not read again. ``poll_seconds``:
    between live looks meanwhile.
    """

    account: str
    marketplace: str
    lower: str = Field(alias="from")
    upper: str = Field(alias="to")
    notes: list[str]
    expected: int | None
    counted: int
    certainty: Certainty
    read_already_seconds: float
    poll_seconds: float
    search: Cost
    report: Cost


class BackfillChanged(BaseModel):
    model_config = example(id=3, state="paused", notes=[])
    id: int
    state: BackfillState
    notes: list[str]
