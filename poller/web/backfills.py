"""Backfills over HTTP: plan, start, list, show, pause, resume, cancel. The service carries them out."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from poller import directing
from poller.backfilling import standing_of
from poller.bootstrap import Service
from poller.choosing import FIELDS
from poller.directing import Wanted, backfill_object
from poller.history_plan import Cost
from poller.moments import iso
from poller.web import shapes
from poller.web.here import Answer, Changing, Here, Id
from store import ledger
from store.engine import Transaction
from store.progress import Backfill

router = APIRouter(tags=["backfills"])


def _understood(service: Service, wanted: shapes.BackfillWanted) -> Wanted:
    return directing.wanted(
        service, wanted.marketplace, wanted.lower, wanted.upper, wanted.by, wanted.account, FIELDS
    )


@router.post("/backfills/plan")
def plan_backfill(service: Here, wanted: shapes.BackfillWanted) -> shapes.BackfillPlan:
    """What a stretch of history costs, before anything is asked for; changes nothing."""
    asked = _understood(service, wanted)
    with service.store.read() as tx:
        plan = directing.planned(tx, service, asked)
        notes = _notes(tx, asked)
    return shapes.BackfillPlan.model_validate(
        {
            "account": asked.place.name,
            "marketplace": asked.place.polled.code,
            "from": iso(asked.stretch.lower),
            "to": iso(asked.stretch.upper),
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
        *(f"backfill {o.backfill_id} is {o.state} and overlaps" for o, _ in directing.overlapping(tx, asked)),
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


@router.post("/backfills", status_code=201, response_model=shapes.BackfillChanged)
def start_backfill(service: Here, once: Changing, wanted: shapes.BackfillWanted) -> Response:
    """Record a backfill; the running service carries it out."""
    asked = _understood(service, wanted)

    def work(tx: Transaction) -> Answer:
        notes = _notes(tx, asked)
        number = directing.start(tx, asked)
        body = {"id": number, "state": "planned", "notes": notes}
        return Answer(201, body, {"Location": f"/backfills/{number}"})

    return once.within(work)


@router.get("/backfills")
def list_backfills(service: Here) -> list[shapes.Backfill]:
    """All backfills, those that start dates asked for too, oldest first."""
    with service.store.read() as tx:
        found = [backfill_object(standing_of(tx, service, b)) for b in ledger.load_backfills(tx)]
    return [shapes.Backfill.model_validate(item) for item in found]


@router.get("/backfills/{backfill_id}")
def show_backfill(service: Here, backfill_id: Id) -> shapes.Backfill:
    """One backfill: how far it has got, and when it will be ready."""
    with service.store.read() as tx:
        found = backfill_object(standing_of(tx, service, directing.find(tx, backfill_id)))
    return shapes.Backfill.model_validate(found)


def _directed(once: Changing, direct: Callable[[Transaction], Backfill]) -> Response:
    def work(tx: Transaction) -> Answer:
        now = direct(tx)
        return Answer(200, {"id": now.backfill_id, "state": now.state, "notes": []})

    return once.within(work)


@router.post("/backfills/{backfill_id}/pause", response_model=shapes.BackfillChanged)
def pause_backfill(once: Changing, backfill_id: Id) -> Response:
    """Ask for nothing more of a backfill until it is resumed."""
    return _directed(once, lambda tx: directing.pause(tx, backfill_id))


@router.post("/backfills/{backfill_id}/resume", response_model=shapes.BackfillChanged)
def resume_backfill(once: Changing, backfill_id: Id) -> Response:
    """Go on with a paused backfill."""
    return _directed(once, lambda tx: directing.resume(tx, backfill_id))


@router.post("/backfills/{backfill_id}/cancel", response_model=shapes.BackfillChanged)
def cancel_backfill(once: Changing, backfill_id: Id) -> Response:
    """Give a backfill up for good; what it fetched stays."""
    return _directed(once, lambda tx: directing.cancel(tx, backfill_id))
