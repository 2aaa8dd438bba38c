"""Verifications over HTTP: start, list, show. The running service carries them out."""

from __future__ import annotations

from fastapi import APIRouter, Response

from poller.actions.arguments import FIELDS, chosen_place, parsed_range
from poller.actions.verifications import nothing_read, require_listed, verification_object
from poller.errors import Refused, Unknown
from poller.export import Verification
from poller.verification import jobs
from poller.web.dependencies import Answer, ChangeDep, Cursor, Id, Limit, ServiceDep, before_of, page_of
from poller.web.schemas.base import Page
from poller.web.schemas.verifications import VerificationBegun, VerificationRequest
from store import verification_records, verifications
from store.engine import Transaction

router = APIRouter(tags=["verifications"])


def _object(job: verification_records.Verification) -> Verification:
    return {**verification_object(job), "message": job.message}


@router.get("/verifications")
def list_verifications(service: ServiceDep, limit: Limit = 50, cursor: Cursor = None) -> Page[Verification]:
    """List verifications, newest first; those of the schedule, too."""
    before = before_of(cursor)
    with service.store.read() as tx:
        jobs = verifications.listed(tx, limit=limit + 1, before=before)
    page, more = page_of(jobs, limit, lambda job: (job.verification_id,))
    return Page[Verification].model_validate({"items": list(map(_object, page)), "next": more})


@router.get("/verifications/{verification_id}")
def show_verification(service: ServiceDep, verification_id: Id) -> Verification:
    """Show one verification with its progress and findings."""
    with service.store.read() as tx:
        job = verifications.find(tx, verification_id)
    if job is None:
        raise Unknown("there is no such verification: GET /verifications lists them.")
    return _object(job)


@router.post("/verifications", status_code=202, response_model=VerificationBegun)
def start_verification(service: ServiceDep, change: ChangeDep, body: VerificationRequest) -> Response:
    """Compare the orders that Amazon lists for a period with the database; `repair` fetches missing ones."""
    lower, upper = parsed_range(body.lower, body.upper, FIELDS)
    place = chosen_place(service.accounts, body.marketplace, body.account, FIELDS)
    require_listed(place, body.by, FIELDS)

    def work(tx: Transaction) -> Answer:
        job = jobs.enter(
            tx,
            place.source,
            place.polled.marketplace_id,
            lower,
            upper,
            body.by,
            repair=body.repair,
            reason="requested",
        )
        if job is None:
            raise Refused(nothing_read(place.name, place.polled.code, FIELDS))
        answer = {"id": job.verification_id, "state": job.state}
        return Answer(202, answer, {"Location": f"/verifications/{job.verification_id}"})

    return change.in_transaction(work)
