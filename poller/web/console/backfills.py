"""Backfill pages: plan, start, watch, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from fastapi import APIRouter, Request, Response

from poller.actions import backfills
from poller.actions.arguments import FIELDS, places
from poller.actions.backfill_progress import Standing, standing_of
from poller.actions.backfills import Plan
from poller.bootstrap import Service, utc_now
from poller.errors import Refused
from poller.ingest.accounts import Account, Setup
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page, redirect_to
from poller.web.dependencies import Id, ServiceDep
from store import ledger
from store.engine import Store
from store.progress import Way

router = APIRouter()


def _standings(store: Store, setup: Setup) -> list[Standing]:
    with store.read() as tx:
        return [standing_of(tx, setup, b) for b in reversed(ledger.load_backfills(tx))]


@router.get("/backfills")
def list_backfills(request: Request, service: ServiceDep) -> Response:
    """Show all backfills, newest first, and the form for a new one."""
    return _list_page(request, service, {})


def _list_page(
    request: Request,
    service: Service,
    values: dict[str, str],
    refused: str | None = None,
    plan: Plan | None = None,
    wanted: backfills.Request | None = None,
) -> Response:
    choices = sorted((place.polled.code, place.name) for place in places(service.accounts))
    return page(
        request,
        "backfills.html",
        200 if refused is None else 422,
        standings=_standings(service.store, service.setup),
        choices=choices,
        ways=get_args(Way),
        values={"place": "", "from": "", "to": "", "by": "auto", "again": "", **values},
        refused=refused,
        plan=plan,
        orders_of=backfills.orders_of,
        live_pace=backfills.live_pace,
        wanted=wanted,
    )


def _values(request: Request) -> dict[str, str]:
    fields = fields_of(request)
    return {name: fields.one(name) for name in ("place", "from", "to", "by", "again")}


def _parsed(accounts: Mapping[str, Account], values: dict[str, str]) -> backfills.Request:
    marketplace, _, account = values["place"].partition(" ")
    return backfills.parsed(
        accounts,
        marketplace,
        values["from"],
        values["to"],
        values["by"],
        account or None,
        utc_now(),
        FIELDS,
        again=bool(values["again"]),
    )


@router.post("/backfills/plan")
def plan_backfill(request: Request, service: ServiceDep) -> Response:
    """Estimate the requests and time of a backfill, without requesting anything from Amazon."""
    values = _values(request)
    try:
        wanted = _parsed(service.accounts, values)
    except Refused as error:
        return _list_page(request, service, values, refused=str(error))
    with service.store.read() as tx:
        plan = backfills.planned(tx, wanted, service.setup.settings)
    return _list_page(request, service, values, plan=plan, wanted=wanted)


@router.post("/backfills")
def start_backfill(request: Request, service: ServiceDep) -> Response:
    """Create a backfill; the running service carries it out."""
    wanted = _parsed(service.accounts, _values(request))
    started = service.store.commit(lambda tx: backfills.start(tx, wanted))
    return redirect_to(f"/backfills/{started.backfill_id}")


@router.get("/backfills/{backfill_id}")
def show_backfill(request: Request, service: ServiceDep, backfill_id: Id) -> Response:
    """Show the progress of a backfill and its expected end."""
    with service.store.read() as tx:
        return page(
            request, "backfill.html", standing=standing_of(tx, service.setup, backfills.find(tx, backfill_id))
        )


@router.post("/backfills/{backfill_id}/pause")
def pause_backfill(service: ServiceDep, backfill_id: Id) -> Response:
    """Pause a backfill until it is resumed."""
    service.store.commit(lambda tx: backfills.pause(tx, backfill_id))
    return redirect_to(f"/backfills/{backfill_id}")


@router.post("/backfills/{backfill_id}/resume")
def resume_backfill(service: ServiceDep, backfill_id: Id) -> Response:
    """Resume a paused backfill."""
    service.store.commit(lambda tx: backfills.resume(tx, backfill_id))
    return redirect_to(f"/backfills/{backfill_id}")


@router.post("/backfills/{backfill_id}/cancel")
def cancel_backfill(service: ServiceDep, backfill_id: Id) -> Response:
    """Cancel a backfill for good; the orders it fetched stay."""
    service.store.commit(lambda tx: backfills.cancel(tx, backfill_id))
    return redirect_to(f"/backfills/{backfill_id}")
