"""Backfills over HTTP: plan, start, list, show, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Response

from poller.actions import backfills
from poller.actions.arguments import FIELDS
from poller.actions.backfill_progress import standing_of
from poller.actions.backfills import backfill_object
from poller.backfill.estimates import Cost
from poller.bootstrap import utc_now
from poller.export import Backfill
from poller.ingest.accounts import Account
from poller.text import iso_rounded_up
from poller.web.dependencies import Answer, ChangeDep, Id, ServiceDep
from poller.web.schemas.backfills import BackfillChanged, BackfillPlan, BackfillRequest
from store import ledger, progress
from store.engine import Transaction

router = APIRouter(tags=["backfills"])


def _parsed(accounts: Mapping[str, Account], body: BackfillRequest) -> backfills.Request:
    bounds = (body.lower, body.upper)
    return backfills.parsed(
        accounts, body.marketplace, *bounds, body.by, body.account, utc_now(), FIELDS, again=body.again
    )


@router.post("/backfills/plan")
def plan_backfill(service: ServiceDep, body: BackfillRequest) -> BackfillPlan:
    """Estimate the requests and time of a backfill, without requesting anything from Amazon."""
    wanted = _parsed(service.accounts, body)
    with service.store.read() as tx:
        plan = backfills.planned(tx, wanted, service.setup.settings)
        notes = [*wanted.notes, *_overlaps(tx, wanted), *([plan.waits] if plan.waits else ())]
    return BackfillPlan.model_validate(
        {
            "account": wanted.place.name,
            "marketplace": wanted.place.polled.code,
            "from": iso_rounded_up(wanted.interval.lower),
            "to": iso_rounded_up(wanted.interval.upper),
            "notes": notes,
            "expected": plan.expected.total,
            "counted": plan.expected.counted,
            "certainty": plan.expected.certainty,
            "read_already_seconds": plan.read.total_seconds(),
            "poll_seconds": plan.budgets.poll_seconds,
            "search": _cost(plan.search),
            "report": _cost(plan.report),
        }
    )


def _overlaps(tx: Transaction, wanted: backfills.Request) -> list[str]:
    """Return a note on each overlapping backfill."""
    return [
        f"backfill {other.backfill_id} is {other.state} and overlaps"
        for other, _ in backfills.overlapping(tx, wanted)
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


@router.post("/backfills", status_code=201, response_model=BackfillChanged)
def start_backfill(service: ServiceDep, change: ChangeDep, body: BackfillRequest) -> Response:
    """Create a backfill; the running service carries it out."""
    wanted = _parsed(service.accounts, body)

    def work(tx: Transaction) -> Answer:
        overlaps = _overlaps(tx, wanted)
        started = backfills.start(tx, wanted)
        answer = {"id": started.backfill_id, "state": "planned", "notes": [*started.notes, *overlaps]}
        return Answer(201, answer, {"Location": f"/backfills/{started.backfill_id}"})

    return change.in_transaction(work)


@router.get("/backfills")
def list_backfills(service: ServiceDep) -> list[Backfill]:
    """List all backfills, oldest first; those created for a start date, too."""
    with service.store.read() as tx:
        return [backfill_object(standing_of(tx, service.setup, b)) for b in ledger.load_backfills(tx)]


@router.get("/backfills/{backfill_id}")
def show_backfill(service: ServiceDep, backfill_id: Id) -> Backfill:
    """Show one backfill with its progress and expected end."""
    with service.store.read() as tx:
        return backfill_object(standing_of(tx, service.setup, backfills.find(tx, backfill_id)))


def _directed(change: ChangeDep, direct: Callable[[Transaction], progress.Backfill]) -> Response:
    def work(tx: Transaction) -> Answer:
        backfill = direct(tx)
        return Answer(200, {"id": backfill.backfill_id, "state": backfill.state, "notes": []})

    return change.in_transaction(work)


@router.post("/backfills/{backfill_id}/pause", response_model=BackfillChanged)
def pause_backfill(change: ChangeDep, backfill_id: Id) -> Response:
    """Pause a backfill until it is resumed."""
    return _directed(change, lambda tx: backfills.pause(tx, backfill_id))


@router.post("/backfills/{backfill_id}/resume", response_model=BackfillChanged)
def resume_backfill(change: ChangeDep, backfill_id: Id) -> Response:
    """Resume a paused backfill."""
    return _directed(change, lambda tx: backfills.resume(tx, backfill_id))


@router.post("/backfills/{backfill_id}/cancel", response_model=BackfillChanged)
def cancel_backfill(change: ChangeDep, backfill_id: Id) -> Response:
    """Cancel a backfill for good; the orders it fetched stay."""
    return _directed(change, lambda tx: backfills.cancel(tx, backfill_id))
