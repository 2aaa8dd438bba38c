"""Pages about backfills: plan one, start it, watch it, direct it."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import APIRouter, Request, Response

from poller.actions import backfills
from poller.actions.backfill_progress import Standing, standing_of
from poller.actions.backfills import Plan, Wanted
from poller.actions.places import FIELDS, places
from poller.bootstrap import Service
from poller.errors import Refused
from poller.web.console.forms import Fields, fields_of
from poller.web.console.rendering import onwards, page
from poller.web.dependencies import Here, Id
from store import ledger
from store.engine import Transaction
from store.progress import Way

router = APIRouter()


def _standing(tx: Transaction, service: Service, backfill_id: int) -> Standing:
    return standing_of(tx, service, backfills.find(tx, backfill_id))


def _all(service: Service) -> list[Standing]:
    with service.store.read() as tx:
        return [standing_of(tx, service, b) for b in reversed(ledger.load_backfills(tx))]


@router.get("/backfills")
def list_backfills(request: Request, service: Here) -> Response:
    """All backfills, the newest first, and the form for a new one."""
    return _listed(request, service, {})


@router.get("/backfills/live")
def refresh_backfills(request: Request, service: Here) -> Response:
    """The part of the page that changes by itself."""
    return page(request, "_backfills.html", standings=_all(service))


def _listed(
    request: Request,
    service: Service,
    given: dict[str, str],
    refused: str | None = None,
    plan: Plan | None = None,
    asked: Wanted | None = None,
) -> Response:
    choices = sorted((place.polled.code, place.name) for place in places(service))
    values: dict[str, Any] = {"place": "", "from": "", "to": "", "by": "auto", **given}
    return page(
        request,
        "backfills.html",
        200 if refused is None else 422,
        standings=_all(service),
        choices=choices,
        ways=get_args(Way),
        given=values,
        refused=refused,
        plan=plan,
        asked=asked,
    )


def _understood(service: Service, fields: Fields) -> tuple[dict[str, str], Wanted]:
    given = {name: fields.one(name) for name in ("place", "from", "to", "by")}
    marketplace, _, account = given["place"].partition(" ")
    wanted = backfills.wanted(
        service, marketplace, given["from"], given["to"], given["by"], account or None, FIELDS
    )
    return given, wanted


@router.post("/backfills/plan")
def plan_backfill(request: Request, service: Here) -> Response:
    """What a stretch of history costs, before anything is asked for."""
    fields = fields_of(request)
    try:
        given, asked = _understood(service, fields)
    except Refused as error:
        given = {name: fields.one(name) for name in ("place", "from", "to", "by")}
        return _listed(request, service, given, refused=str(error))
    with service.store.read() as tx:
        plan = backfills.planned(tx, service, asked)
    return _listed(request, service, given, plan=plan, asked=asked)


@router.post("/backfills")
def start_backfill(request: Request, service: Here) -> Response:
    """Record a backfill; the running service carries it out."""
    _, asked = _understood(service, fields_of(request))
    number = service.store.commit(lambda tx: backfills.start(tx, asked))
    return onwards(f"/backfills/{number}")


@router.get("/backfills/{backfill_id}")
def show_backfill(request: Request, service: Here, backfill_id: Id) -> Response:
    """How far a backfill has got, and when it will be ready."""
    with service.store.read() as tx:
        return page(request, "backfill.html", standing=_standing(tx, service, backfill_id))


@router.get("/backfills/{backfill_id}/live")
def refresh_backfill(request: Request, service: Here, backfill_id: Id) -> Response:
    """The part of the page that changes by itself."""
    with service.store.read() as tx:
        return page(request, "_backfill.html", standing=_standing(tx, service, backfill_id))


@router.post("/backfills/{backfill_id}/pause")
def pause_backfill(service: Here, backfill_id: Id) -> Response:
    """Ask for nothing more until it is resumed."""
    service.store.commit(lambda tx: backfills.pause(tx, backfill_id))
    return onwards(f"/backfills/{backfill_id}")


@router.post("/backfills/{backfill_id}/resume")
def resume_backfill(service: Here, backfill_id: Id) -> Response:
    """Go on with a paused backfill."""
    service.store.commit(lambda tx: backfills.resume(tx, backfill_id))
    return onwards(f"/backfills/{backfill_id}")


@router.post("/backfills/{backfill_id}/cancel")
def cancel_backfill(service: Here, backfill_id: Id) -> Response:
    """Give a backfill up for good; what it fetched stays."""
    service.store.commit(lambda tx: backfills.cancel(tx, backfill_id))
    return onwards(f"/backfills/{backfill_id}")
