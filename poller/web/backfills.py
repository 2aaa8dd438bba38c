"""Backfills over HTTP: plan, start, list, show, pause, resume, cancel. The service carries them out."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from poller.actions import backfills
from poller.actions.backfill_progress import standing_of
from poller.actions.backfills import Wanted, backfill_object
from poller.actions.places import FIELDS
from poller.backfill.estimates import Cost
from poller.bootstrap import Service
from poller.text import iso_rounded_up
from poller.web import schemas
from poller.web.dependencies import Answer, Changing, Here, Id
from store import ledger
from store.engine import Transaction
from store.progress import Backfill

router = APIRouter(tags=["backfills"])


def _understood(service: Service, wanted: schemas.BackfillWanted) -> Wanted:
    return backfills.wanted(
        service, wanted.marketplace, wanted.lower, wanted.upper, wanted.by, wanted.account, FIELDS
    )


@router.post("/backfills/plan")
def plan_backfill(service: Here, wanted: schemas.BackfillWanted) -> schemas.BackfillPlan:
    """What a stretch of history costs, before anything is asked for; changes nothing."""
    asked = _understood(service, wanted)
    with service.store.read() as tx:
        plan = backfills.planned(tx, service, asked)
        notes = _notes(tx, asked)
    return schemas.BackfillPlan.model_validate(
        {
            "account": asked.place.name,
            "marketplace": asked.place.polled.code,
            "from": iso_rounded_up(asked.stretch.lower),
            "to": iso_rounded_up(asked.stretch.upper),
            "notes": notes,
            "expected": plan.expected,
            "read_already_seconds": plan.again.total_seconds(),
            "search": _cost(plan.search),
            "report": _cost(plan.report),
        }
    )


def _notes(tx: Transaction, asked: Wanted) -> list[str]:
    """What had to be shortened, and what would be fetched twice."""
    return [
        *asked.notes,
        *(f"backfill {o.backfill_id} is {o.state} and overlaps" for o, _ in backfills.overlapping(tx, asked)),
    ]


def _cost(cost: Cost) -> dict[str, object]:
    return {
        "windows": cost.windows,
        "requests": cost.requests,
        "searches": cost.searches,
        "gets": cost.gets,
        "reports": cost.reports,
        "seconds": None if cost.time is None else cost.time.total_seconds(),
    }


@router.post("/backfills", status_code=201, response_model=schemas.BackfillChanged)
def start_backfill(service: Here, once: Changing, wanted: schemas.BackfillWanted) -> Response:
    """Record a backfill; the running service carries it out."""
    asked = _understood(service, wanted)

    def work(tx: Transaction) -> Answer:
        notes = _notes(tx, asked)
        number = backfills.start(tx, asked)
        body = {"id": number, "state": "planned", "notes": notes}
        return Answer(201, body, {"Location": f"/backfills/{number}"})

    return once.within(work)


@router.get("/backfills")
def list_backfills(service: Here) -> list[schemas.Backfill]:
    """All backfills, those that start dates asked for too, oldest first."""
    with service.store.read() as tx:
        found = [backfill_object(standing_of(tx, service, b)) for b in ledger.load_backfills(tx)]
    return [schemas.Backfill.model_validate(item) for item in found]


@router.get("/backfills/{backfill_id}")
def show_backfill(service: Here, backfill_id: Id) -> schemas.Backfill:
    """One backfill: how far it has got, and when it will be ready."""
    with service.store.read() as tx:
        found = backfill_object(standing_of(tx, service, backfills.find(tx, backfill_id)))
    return schemas.Backfill.model_validate(found)


def _directed(once: Changing, direct: Callable[[Transaction], Backfill]) -> Response:
    def work(tx: Transaction) -> Answer:
        now = direct(tx)
        return Answer(200, {"id": now.backfill_id, "state": now.state, "notes": []})

    return once.within(work)


@router.post("/backfills/{backfill_id}/pause", response_model=schemas.BackfillChanged)
def pause_backfill(once: Changing, backfill_id: Id) -> Response:
    """Ask for nothing more of a backfill until it is resumed."""
    return _directed(once, lambda tx: backfills.pause(tx, backfill_id))


@router.post("/backfills/{backfill_id}/resume", response_model=schemas.BackfillChanged)
def resume_backfill(once: Changing, backfill_id: Id) -> Response:
    """Go on with a paused backfill."""
    return _directed(once, lambda tx: backfills.resume(tx, backfill_id))


@router.post("/backfills/{backfill_id}/cancel", response_model=schemas.BackfillChanged)
def cancel_backfill(once: Changing, backfill_id: Id) -> Response:
    """Give a backfill up for good; what it fetched stays."""
    return _directed(once, lambda tx: backfills.cancel(tx, backfill_id))
