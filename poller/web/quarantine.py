"""The quarantine over HTTP: list, show, retry."""

from __future__ import annotations

from fastapi import APIRouter, Response

from poller.actions.quarantine import quarantine_object, tried_again
from poller.errors import Unknown
from poller.web import schemas
from poller.web.dependencies import Answer, Changing, Here, Who, Word
from poller.web.masking import MASK, disclosed
from store import quarantine as stored
from store.engine import Transaction
from store.quarantine import Quarantined

router = APIRouter(tags=["quarantine"])


@router.get("/quarantine")
def list_quarantine(service: Here) -> list[schemas.Quarantined]:
    """Orders that could not be understood, oldest first."""
    with service.store.read() as tx:
        found = stored.entries(tx)
    return [schemas.Quarantined.model_validate(quarantine_object(entry)) for entry in found]


def one(tx: Transaction, account: str, order_id: str) -> Quarantined:
    for entry in stored.entries(tx, [order_id]):
        if entry.account == account:
            return entry
    raise Unknown("this order is not in quarantine.")


@router.get("/quarantine/{account}/{order_id}")
def show_quarantined(service: Here, caller: Who, account: Word, order_id: Word) -> schemas.QuarantinedWhole:
    """Why an order is in quarantine, and what Amazon sent."""
    with service.store.read() as tx:
        entry = one(tx, account, order_id)
    payload = entry.payload or None
    if payload is not None and caller.sees_buyers:
        disclosed(caller, "quarantine", [entry.order_id])
    elif payload is not None:
        payload = MASK
    return schemas.QuarantinedWhole.model_validate(quarantine_object(entry) | {"payload": payload})


@router.post("/quarantine/{account}/{order_id}/retry", response_model=schemas.Retried)
def retry_quarantined(
    service: Here, once: Changing, account: Word, order_id: Word, wanted: schemas.RetryWanted
) -> Response:
    """Try again, after an upgrade or a repair."""

    def work() -> Answer:
        with service.store.read() as tx:
            entry = one(tx, account, order_id)
        problem = tried_again(service, entry, wanted.refetch)
        body = {"order_id": order_id, "account": account, "stored": problem is None, "message": problem}
        return Answer(200, body)

    return once.beside(work)
