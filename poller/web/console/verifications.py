"""Verification pages: the list, one with its findings, starting one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from connectors.marketplaces import CODES
from poller.actions.arguments import FIELDS, chosen_place, parsed_range, places
from poller.actions.verifications import (
    KINDS,
    OUTCOMES,
    WAYS,
    chosen_way,
    notes,
    requested,
    require_listed,
    verdict,
)
from poller.bootstrap import Service
from poller.errors import Refused
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page, redirect_to
from poller.web.dependencies import Cursor, Id, ServiceDep
from poller.web.verifications import find_verification, verifications_page
from store.verification_records import Finding, Verification, is_lacking

router = APIRouter()

PAGE_SIZE = 50
FIELDS_OF_FORM = ("place", "from", "to", "by", "repair")
STATES = {"reading": "reading Amazon's list", "repairing": "fetching missing orders"}
REASONS = {"asked": "command", "requested": "API or console", "scheduled": "weekly"}


@router.get("/verifications")
def list_verifications(request: Request, service: ServiceDep, cursor: Cursor = None) -> Response:
    """List verifications, newest first, and the form for another one."""
    return _list_page(request, service, cursor, {})


def _list_page(
    request: Request,
    service: Service,
    cursor: str | None,
    values: dict[str, str],
    refused: str | None = None,
) -> Response:
    jobs, more = verifications_page(service, cursor, PAGE_SIZE)
    return page(
        request,
        "verifications.html",
        200 if refused is None else 422,
        jobs=[_shown(job) for job in jobs],
        more=more,
        first=cursor is None,
        choices=sorted((place.polled.code, place.name) for place in places(service.accounts)),
        ways=WAYS,
        values={**dict.fromkeys(FIELDS_OF_FORM, ""), **values},
        refused=refused,
    )


def _shown(job: Verification) -> dict[str, Any]:
    """Return a verification as a row shows it. A result in *bad* needs a person."""
    is_bad = job.state == "failed" or (job.is_over and bool(job.lacking or job.unreadable))
    return {
        "job": job,
        "place": f"{job.account} {CODES[job.marketplace_id]}",
        "standing": STATES.get(job.state, job.state),
        "is_bad": is_bad,
        "result": verdict(job) if job.is_over or job.findings else "not compared yet",
        "reason": REASONS[job.reason],
    }


@router.post("/verifications")
def start_verification(request: Request, service: ServiceDep) -> Response:
    """Request a verification; the running service carries it out."""
    fields = fields_of(request)
    values = {name: fields.one(name) for name in FIELDS_OF_FORM}
    code, _, account = values["place"].partition(" ")
    try:
        period = parsed_range(values["from"], values["to"], FIELDS)
        way = chosen_way(values["by"], FIELDS)
        place = chosen_place(service.accounts, code, account or None, FIELDS)
        require_listed(place, way, FIELDS)
        job = service.store.commit(
            lambda tx: requested(tx, place, period, way, repair=bool(values["repair"]))
        )
    except Refused as error:
        return _list_page(request, service, None, values, str(error))
    return redirect_to(f"/verifications/{job.verification_id}")


@router.get("/verifications/{verification_id}")
def show_verification(request: Request, service: ServiceDep, verification_id: Id) -> Response:
    """Show one verification with its findings; each leads to the order."""
    job = find_verification(service, verification_id)
    return page(
        request,
        "verification.html",
        **_shown(job),
        notes=notes(job),
        findings=[(finding, KINDS[finding.kind], _page_of(job, finding)) for finding in job.findings],
        outcomes=OUTCOMES,
        lacking={finding.order_id for finding in job.findings if is_lacking(finding)},
    )


def _page_of(job: Verification, finding: Finding) -> str | None:
    """Return the kind of page that an order has; None for one that is not stored."""
    if finding.kind == "quarantined" or finding.outcome == "quarantined":
        return "quarantine"
    if finding.kind != "missing" or finding.outcome == "stored":
        return "orders"
    return None
