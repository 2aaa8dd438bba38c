"""Verifications over HTTP: start, list, show. The running service carries them out."""

from __future__ import annotations

from fastapi import APIRouter, Response

from poller.actions.arguments import FIELDS, chosen_place, parsed_range
from poller.actions.verifications import requested, require_listed, verification_object
from poller.bootstrap import Service
from poller.errors import Unknown
from poller.export import Verification
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
    page, more = verifications_page(service, cursor, limit)
    return Page[Verification].model_validate({"items": list(map(_object, page)), "next": more})


def verifications_page(
    service: Service, cursor: str | None, limit: int
) -> tuple[list[verification_records.Verification], str | None]:
    """Return a page of verifications and the next cursor."""
    before = before_of(cursor)
    with service.store.read() as tx:
        jobs = verifications.listed(tx, limit=limit + 1, before=before)
    return page_of(jobs, limit, lambda job: (job.verification_id,))


def find_verification(service: Service, verification_id: int) -> verification_records.Verification:
    """Return a verification. Raises Unknown."""
    with service.store.read() as tx:
        job = verifications.find(tx, verification_id)
    if job is None:
        raise Unknown("there is no such verification: GET /verifications lists them.")
    return job


@router.get("/verifications/{verification_id}")
def show_verification(service: ServiceDep, verification_id: Id) -> Verification:
    """Show one verification with its progress and findings."""
    return _object(find_verification(service, verification_id))


@router.post("/verifications", status_code=202, response_model=VerificationBegun)
def start_verification(service: ServiceDep, change: ChangeDep, body: VerificationRequest) -> Response:
    """Compare the orders that Amazon lists for a period with the database; `repair` fetches missing ones."""
    lower, upper = parsed_range(body.lower, body.upper, FIELDS)
    place = chosen_place(service.accounts, body.marketplace, body.account, FIELDS)
    require_listed(place, body.by, FIELDS)

    def work(tx: Transaction) -> Answer:
        job = requested(tx, place, (lower, upper), body.by, repair=body.repair)
        answer = {"id": job.verification_id, "state": job.state}
        return Answer(202, answer, {"Location": f"/verifications/{job.verification_id}"})

    return change.in_transaction(work)
