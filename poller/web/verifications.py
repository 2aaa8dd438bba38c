"""Proofs of completeness over HTTP: request one, list, show. The running service carries them out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from poller.actions.places import FIELDS, chosen_place, stretch_of
from poller.actions.verifications import nothing_read, verification_object
from poller.errors import Refused, Unknown
from poller.web import schemas
from poller.web.dependencies import Answer, Changing, Cursor, Here, Id, Limit, cursor_of, position_of
from store import verifications as stored
from store.engine import Transaction
from store.verification import Verification

router = APIRouter(tags=["verifications"])


def _object(job: Verification) -> dict[str, Any]:
    return verification_object(job) | {"message": job.message}


@router.get("/verifications")
def list_verifications(
    service: Here, limit: Limit = 50, cursor: Cursor = None
) -> schemas.Page[schemas.Verification]:
    """Proofs that nothing is missing, the newest first: those of the schedule too."""
    before = None if cursor is None else position_of(cursor, int)[0]
    with service.store.read() as tx:
        found = stored.listed(tx, limit=limit + 1, before=before)
    more = cursor_of(found[limit - 1].verification_id) if len(found) > limit else None
    items = [_object(job) for job in found[:limit]]
    return schemas.Page[schemas.Verification].model_validate({"items": items, "next": more})


@router.get("/verifications/{verification_id}")
def show_verification(service: Here, verification_id: Id) -> schemas.Verification:
    """One proof: how far it has got, and what it found."""
    with service.store.read() as tx:
        found = stored.find(tx, verification_id)
    if found is None:
        raise Unknown("there is no such verification.")
    return schemas.Verification.model_validate(_object(found))


@router.post("/verifications", status_code=202, response_model=schemas.VerificationBegun)
def start_verification(service: Here, once: Changing, wanted: schemas.VerificationWanted) -> Response:
    """Compare what Amazon lists for a period with the database; `repair` fetches what is missing."""
    lower, upper = stretch_of(wanted.lower, wanted.upper, FIELDS)
    place = chosen_place(service, wanted.marketplace, wanted.account, FIELDS)
    verifier = service.syncer(place.source.key).verifier()

    def work(tx: Transaction) -> Answer:
        job = verifier.entered(
            tx,
            place.polled.marketplace_id,
            lower,
            upper,
            wanted.by,
            repair=wanted.repair,
            reason="requested",
        )
        if job is None:
            raise Refused(nothing_read(place.name, place.polled.code, FIELDS))
        body = {"id": job.verification_id, "state": job.state}
        return Answer(202, body, {"Location": f"/verifications/{job.verification_id}"})

    return once.within(work)
